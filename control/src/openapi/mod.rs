//! The API's description (OpenAPI 3.1): every route that the router has, with what [`operations`] says of it; schemas come from the types that
//! requests are read into and answers written from.

mod operations;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::problem::Document;
use crate::routes;
use operations::{Answer, OPERATIONS, Operation};

/// A type's schema: a reference to where it stands once.
type Of = fn(&mut SchemaGenerator) -> Schema;

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// The schema itself, for a query's members.
fn members<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    T::json_schema(generator)
}

/// The document, as `docs/openapi.json` has it.
pub(crate) fn document() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Document<'static>>();
    let mut paths: Map<String, Value> = Map::new();
    for (path, method) in routes::known() {
        let operation =
            find(&path, method).map_or_else(|| json!({}), |found| described(found, &path, method, &mut generator));
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        methods[method] = operation;
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "flags-control",
            "version": "1",
            "description": "The control plane of libflags; docs/http-api.md explains it.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "flags_ID_SECRET"}},
            "responses": {"Problem": {
                "description": "A refusal; nothing has changed",
                "content": {"application/problem+json": {"schema": problem}},
            }},
        },
    })
}

/// Path, method and the scope that a token needs, of each operation.
#[cfg(test)]
pub(crate) fn scopes() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    OPERATIONS.iter().map(|operation| (operation.path, operation.method, operation.scope))
}

fn find(path: &str, method: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.path == path && operation.method == method)
}

fn described(operation: &Operation, path: &str, method: &str, generator: &mut SchemaGenerator) -> Value {
    let names = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> =
        names.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})).collect();
    // What hosts report changes nothing that anybody else could change.
    let is_write = method != "get" && operation.scope != "sync";
    let asked = operation.query.into_iter().chain(is_write.then_some(members::<routes::request::WriteQuery> as Of));
    for query in asked {
        parameters.extend(of_query(&query(generator).to_value()));
    }
    if is_write {
        for (name, about) in [
            ("If-Match", "The ETag of what was seen: 412 where it has changed since"),
            ("Idempotency-Key", "Sent again within a day, the request is answered as the first time and happens once"),
        ] {
            parameters.push(json!({"name": name, "in": "header", "description": about, "schema": {"type": "string"}}));
        }
    }
    let mut described = json!({
        "summary": operation.about,
        "operationId": operation.id,
        "x-scope": operation.scope,
        "responses": {"default": {"$ref": "#/components/responses/Problem"}},
    });
    described["responses"][operation.status] = answer(operation, generator);
    if !parameters.is_empty() {
        described["parameters"] = json!(parameters);
    }
    if let Some(body) = operation.body {
        described["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": body(generator)}}});
    }
    if operation.scope.is_empty() {
        described["security"] = json!([]);
    }
    described
}

fn of_query(schema: &Value) -> Vec<Value> {
    let required = |name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|it| it == name));
    let members = schema["properties"].as_object().into_iter().flatten();
    let parameter = |(name, schema): (&String, &Value)| {
        let mut schema = schema.clone();
        let about = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        let mut parameter = json!({"name": name, "in": "query", "required": required(name), "schema": schema});
        if let Some(about) = about {
            parameter["description"] = about;
        }
        parameter
    };
    members.map(parameter).collect()
}

fn answer(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let json = |schema: Value| json!({"description": "Done", "content": {"application/json": {"schema": schema}}});
    match operation.answer {
        Answer::One(schema) => json(schema(generator).to_value()),
        Answer::WithSecret(schema, name) => {
            let about = "Not told again, also where the request is sent again";
            let mut schema = schema(generator).to_value();
            schema["properties"][name] = json!({"type": "string", "description": about});
            json(schema)
        }
        Answer::List(schema) => {
            let next = json!({"type": "string", "description": "The cursor of the next part; absent at the end"});
            let items = json!({"type": "array", "items": schema(generator)});
            json(json!({"type": "object", "required": ["items"], "properties": {"items": items, "next": next}}))
        }
        Answer::Members(members) => {
            let schemas: Map<String, Value> =
                members.iter().map(|(name, schema)| ((*name).to_owned(), schema(generator).to_value())).collect();
            let names: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
            json(json!({"type": "object", "required": names, "properties": schemas}))
        }
        Answer::Nothing => json!({"description": "Done"}),
        Answer::Text(kind) => json!({"description": "Done", "content": {kind: {"schema": {"type": "string"}}}}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let routes: BTreeSet<(String, &str)> = routes::known().into_iter().collect();
        let described: BTreeSet<(String, &str)> =
            OPERATIONS.iter().map(|operation| (operation.path.to_owned(), operation.method)).collect();
        let missing: Vec<_> = routes.difference(&described).collect();
        assert!(missing.is_empty(), "src/openapi/operations.rs does not describe {missing:?}");
        let unknown: Vec<_> = described.difference(&routes).collect();
        assert!(unknown.is_empty(), "there is no route {unknown:?}");
        assert_eq!(described.len(), OPERATIONS.len(), "one is described twice");
        let ids: BTreeSet<&str> = OPERATIONS.iter().map(|operation| operation.id).collect();
        assert_eq!(ids.len(), OPERATIONS.len(), "an operationId comes twice");
    }

    #[test]
    fn all_that_is_referred_to_is_there() {
        fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
            match value {
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                Value::Object(members) => {
                    found.extend(members.get("$ref").and_then(Value::as_str));
                    members.values().for_each(|value| references(value, found));
                }
                _ => {}
            }
        }
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 50, "only {} references", found.len());
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("of this document");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}
