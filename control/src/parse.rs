//! JSON into what it has to be; where it is not that, the problem names the place.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::model::escaped;
use crate::problem::Problem;
use crate::strict::Strict;

/// A body; an empty one is an object without members.
///
/// # Errors
/// Where it is no such JSON.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let bytes = if body.is_empty() { b"{}".as_slice() } else { body };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut deserializer);
    // That names what stands there twice, and where in the text; the other way of reading knows what is an object.
    let _: T = parsed.map_err(|error| Problem::invalid(pointer(error.path()), error.inner().to_string()))?;
    deserializer.end().map_err(|error| Problem::invalid("", error.to_string()))?;
    let value: Value = serde_json::from_slice(bytes).map_err(|error| Problem::invalid("", error.to_string()))?;
    if !value.is_object() {
        return Err(Problem::invalid("", "an object is wanted"));
    }
    parse_value(value)
}

/// The same of JSON that was read already.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_value<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(Strict(value))
        .map_err(|error| Problem::invalid(pointer(error.path()), error.inner().to_string()))
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let segment = |segment: &Segment| match segment {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => format!("/{}", escaped(key)),
        Segment::Enum { variant } => format!("/{variant}"),
        Segment::Unknown => String::new(),
    };
    path.iter().map(segment).collect()
}
