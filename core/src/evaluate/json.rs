//! Parsed JSON as values and contexts, read in place.

use serde_json::{Map, Value as Json};

use super::value::{List, ListSource, Object, ObjectSource, Value};

impl ListSource for Vec<Json> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn element(&self, index: usize) -> Option<Value<'_>> {
        self.get(index).map(Value::from)
    }
}

/// With [`Object::foreign`] a JSON object is an evaluation context: its member `targetingKey` is the targeting key.
impl ObjectSource for Map<String, Json> {
    fn member(&self, name: &[u8]) -> Option<Value<'_>> {
        self.get(std::str::from_utf8(name).ok()?).map(Value::from)
    }
}

impl<'a> From<&'a Json> for Value<'a> {
    fn from(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(number) => Self::Int(number),
                None => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::from(text.as_str()),
            Json::Array(elements) => Self::List(List::foreign(elements)),
            Json::Object(members) => Self::Object(Object::foreign(members)),
        }
    }
}
