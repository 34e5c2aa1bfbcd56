//! JSON in which an object is an object: what serde derives also takes an array, member by member, so that `[]` would be an object of defaults.

use serde::de::value::{MapDeserializer, SeqDeserializer, StringDeserializer};
use serde::de::{Deserializer, Error as _, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value};

/// A value, to be made something of.
#[derive(Debug)]
pub(crate) struct Strict(pub(crate) Value);

impl<'de> Deserializer<'de> for Strict {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.into_iter().map(Strict));
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            Value::Object(members) => {
                let mut members = MapDeserializer::new(members.into_iter().map(|(name, value)| (name, Strict(value))));
                let value = visitor.visit_map(&mut members)?;
                members.end()?;
                Ok(value)
            }
            scalar => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(_) => Err(Error::invalid_type(Unexpected::Seq, &"an object")),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        // Text as it stands is asked for by a name of serde_json's own.
        if name.starts_with('$') {
            self.0.deserialize_newtype_struct(name, visitor)
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::String(text) => {
                let text: StringDeserializer<Error> = text.into_deserializer();
                text.deserialize_enum(name, variants, visitor)
            }
            value => value.deserialize_enum(name, variants, visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

impl IntoDeserializer<'_, Error> for Strict {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;
    use serde_json::value::RawValue;
    use std::collections::BTreeMap;

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Inner {
        number: Option<f64>,
        kind: Option<Kind>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        One,
    }

    #[derive(Debug, Deserialize)]
    struct Outer {
        inner: Inner,
        #[serde(default)]
        all: Vec<Inner>,
        #[serde(default)]
        by_key: BTreeMap<String, Option<Inner>>,
        #[serde(default)]
        any: Value,
        #[serde(default)]
        raw: Option<Box<RawValue>>,
    }

    fn read(value: Value) -> Result<Outer, String> {
        Outer::deserialize(Strict(value)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_as_an_object_is_read_as_ever() {
        let any = json!({"a": [1, {"b": [null, -2.5, 18_446_744_073_709_551_615_u64]}]});
        let outer = read(json!({
            "inner": {"number": 1}, "all": [{"kind": "one"}, {}], "by_key": {"x": {"number": 2.5}, "y": null}, "any": any, "raw": {"z": [1]},
        }));
        let outer = outer.expect("is good");
        assert_eq!((outer.inner.number, outer.all.len(), outer.any), (Some(1.0), 2, any));
        assert_eq!(
            (outer.all[0].kind.as_ref(), outer.by_key["x"].as_ref().and_then(|it| it.number)),
            (Some(&Kind::One), Some(2.5))
        );
        assert!(outer.by_key["y"].is_none() && outer.raw.is_some_and(|raw| raw.get() == r#"{"z":[1]}"#));
    }

    #[test]
    fn an_array_is_no_object_however_deep() {
        for value in [
            json!([]),
            json!([{}]),
            json!({"inner": []}),
            json!({"inner": [1]}),
            json!({"inner": {}, "all": [[]]}),
            json!({"inner": {}, "by_key": {"x": []}}),
        ] {
            let error = read(value.clone()).expect_err("is refused");
            assert!(error.contains("expected an object"), "{value}: {error}");
        }
        assert!(read(json!({"inner": {"number": "x"}})).is_err_and(|error| error.contains("f64")));
        assert!(read(json!({"inner": {"kind": "two"}})).is_err_and(|error| error.contains("unknown variant")));
        assert!(read(json!({"inner": {"more": 1}})).is_err_and(|error| error.contains("unknown field")));
    }
}
