//! An operator's value for a flag, as a document of highest precedence: the flag as its source defines it, but enabled,
//! without targeting, and with the operator's value as default variant. Compiling it is then nothing special.

use libflags::definition::flag::Scalar;
use libflags::definition::{Document, Flag, Format, Limits, ListNames, RawFlag};
use serde_json::{Map, Value, json};

/// Metadata that a flag with a local value carries.
pub(crate) const MARK: &str = "flagd.override";

/// Name of the variant of a value that is none of the flag's variants.
const VARIANT: &str = "override";

/// The document that gives `key` the value `value`: the name of a variant, or a value of the flag's type.
///
/// # Errors
///
/// A sentence: no document defines the flag, or the value does not fit it.
pub(crate) fn document<'d>(
    documents: impl DoubleEndedIterator<Item = &'d Document>,
    key: &str,
    value: &Value,
    limits: &Limits,
) -> Result<Document, String> {
    let find = |document: &'d Document| document.flags().find(|flag| flag.key() == key);
    let raw = documents.rev().find_map(find).ok_or_else(|| format!("no source defines a flag `{key}`"))?;
    let flag = overridden(&raw, value)?;
    let text = json!({"flags": {key: flag}}).to_string();
    // The compiler remembers documents by their names, so this one needs its own.
    let document =
        Document::parse(&format!("override of {key}"), text, Format::Json, limits).map_err(|e| e.to_string())?;
    let evaluators = document.evaluators(limits);
    for raw in document.flags() {
        if let Err(problems) = Flag::parse(&raw, &evaluators, &ListNames::default(), limits) {
            let first = problems.iter().find(|problem| problem.is_error()).map(|problem| problem.message.clone());
            return Err(format!("flag `{key}` cannot be overridden: {}", first.unwrap_or_default()));
        }
    }
    drop(evaluators);
    Ok(document)
}

fn overridden(raw: &RawFlag<'_>, value: &Value) -> Result<Value, String> {
    let key = raw.key();
    let written: Value = serde_json::from_str(raw.json()).map_err(|error| format!("flag `{key}`: {error}"))?;
    let Value::Object(mut flag) = written else { return Err(format!("flag `{key}` is no object")) };
    let Some(Value::Object(variants)) = flag.get_mut("variants") else {
        return Err(format!("flag `{key}` has no variants"));
    };
    let variant = match value {
        Value::String(name) if variants.contains_key(name) => name.clone(),
        value => add_variant(key, variants, value)?,
    };
    flag.insert("defaultVariant".to_owned(), Value::String(variant));
    flag.insert("state".to_owned(), Value::String("ENABLED".to_owned()));
    flag.remove("targeting");
    let mut metadata = match flag.remove("metadata") {
        Some(Value::Object(metadata)) => metadata,
        _ => Map::new(),
    };
    // The set's metadata stays behind with its document, so the flag takes it along.
    for (name, scalar) in raw.document().metadata() {
        metadata.entry(name.clone()).or_insert_with(|| to_json(scalar));
    }
    metadata.insert(MARK.to_owned(), Value::Bool(true));
    flag.insert("metadata".to_owned(), Value::Object(metadata));
    Ok(Value::Object(flag))
}

fn add_variant(key: &str, variants: &mut Map<String, Value>, value: &Value) -> Result<String, String> {
    let kind = variants.values().map(kind_of).next().unwrap_or("nothing");
    let literal = match value {
        // As flagsctl passes on what was typed: `true` for a boolean flag may come as text.
        Value::String(text) if kind != "text" => serde_json::from_str(text).unwrap_or_else(|_| value.clone()),
        value => value.clone(),
    };
    if kind_of(&literal) != kind {
        let names: Vec<&str> = variants.keys().map(String::as_str).collect();
        let names = names.join(", ");
        return Err(format!("flag `{key}` takes {kind} or one of its variants ({names}), not {value}"));
    }
    if let Some((name, _)) = variants.iter().find(|(_, variant)| **variant == literal) {
        return Ok(name.clone());
    }
    let mut name = VARIANT.to_owned();
    while variants.contains_key(&name) {
        name.push('_');
    }
    variants.insert(name.clone(), literal);
    Ok(name)
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) | Value::Object(_) => "an object or array",
    }
}

fn to_json(scalar: &Scalar) -> Value {
    match scalar {
        Scalar::Bool(value) => Value::Bool(*value),
        Scalar::Number(value) => json!(value),
        Scalar::Text(value) => Value::String(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libflags::definition::flag::VariantValue;

    const TEXT: &str = r#"{
        "metadata": {"flagSetId": "shop", "owner": "set"},
        "flags": {
            "on": {"state": "DISABLED", "variants": {"yes": true, "no": false}, "defaultVariant": "no",
                   "targeting": {"if": [true, "no"]}, "metadata": {"owner": "flag"}},
            "text": {"state": "ENABLED", "variants": {"a": "A", "override": "O"}, "defaultVariant": "a"},
            "number": {"state": "ENABLED", "variants": {"one": 1}, "defaultVariant": "one"},
            "object": {"state": "ENABLED", "variants": {"o": {"a": 1}}, "defaultVariant": "o"},
            "broken": {"state": "ENABLED", "variants": {"a": 1, "b": "x"}}
        }
    }"#;

    fn default_value(key: &str, value: &Value) -> Result<(String, VariantValue), String> {
        let limits = Limits::default();
        let source = Document::parse("flags.json", TEXT, Format::Json, &limits).expect("a document");
        let document = document([&source].into_iter(), key, value, &limits)?;
        let raw = document.flags().next().expect("a flag");
        let checked =
            Flag::parse(&raw, &document.evaluators(&limits), &ListNames::default(), &limits).expect("is good");
        let flag = checked.flag;
        assert!(flag.enabled && flag.targeting.is_none());
        assert!(flag.metadata.contains(&(MARK.to_owned(), Scalar::Bool(true))));
        assert!(flag.metadata.contains(&("flagSetId".to_owned(), Scalar::Text("shop".to_owned()))));
        let variant = &flag.variants[flag.default_variant.expect("a default")];
        Ok((variant.name.clone(), variant.value.clone()))
    }

    #[test]
    fn a_variant_or_a_value_of_the_flags_type() {
        let is = |key, value, name: &str, expected| {
            assert_eq!(default_value(key, &value), Ok((name.to_owned(), expected)), "{key} {value}");
        };
        is("on", json!("yes"), "yes", VariantValue::Bool(true));
        is("on", json!(true), "yes", VariantValue::Bool(true));
        is("on", json!("true"), "yes", VariantValue::Bool(true));
        is("text", json!("a"), "a", VariantValue::Text("A".to_owned()));
        is("text", json!("new"), "override_", VariantValue::Text("new".to_owned()));
        is("number", json!(2.5), "override", VariantValue::Number(2.5));
        is("number", json!("3"), "override", VariantValue::Number(3.0));
        is("object", json!({"b": [2]}), "override", VariantValue::Json(r#"{"b":[2]}"#.to_owned()));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        let error = |key, value| default_value(key, &value).expect_err("is refused");
        assert!(error("on", json!("maybe")).contains("a boolean or one of its variants (no, yes)"));
        assert!(error("number", json!(null)).contains("a number"));
        assert!(error("absent", json!(1)).contains("no source defines a flag `absent`"));
        assert!(error("broken", json!(2)).contains("cannot be overridden"));
    }

    #[test]
    fn the_flags_own_metadata_wins() {
        let limits = Limits::default();
        let source = Document::parse("flags.json", TEXT, Format::Json, &limits).expect("a document");
        let raw = source.flags().next().expect("a flag");
        let flag = overridden(&raw, &json!("yes")).expect("fits");
        assert_eq!(flag["metadata"]["owner"], "flag");
    }
}
