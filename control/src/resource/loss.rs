//! What hosts see go: the counterpart of their blast-radius check.

use serde::Deserialize;
use serde_json::{Map, Value};

/// Whether a flag that hosts had is one less to them: gone, disabled, or in another flag set, which is another flag.
///
/// Both are definitions as hosts get them, empty where there is none, and the flag set that those are in which name none.
pub(super) fn is_loss((before, set_before): (&str, Option<&str>), (after, set_after): (&str, Option<&str>)) -> bool {
    let Some(before) = Part::of(before) else { return false };
    let Some(after) = Part::of(after) else { return true };
    (before.is_enabled() && !after.is_enabled()) || before.set(set_before) != after.set(set_after)
}

/// The flag set that metadata names.
pub(super) fn set_of(metadata: &Map<String, Value>) -> Option<&str> {
    metadata.get("flagSetId").and_then(Value::as_str).filter(|id| !id.is_empty())
}

/// What counts of a definition.
#[derive(Deserialize)]
struct Part {
    state: Option<String>,
    metadata: Option<Map<String, Value>>,
}

impl Part {
    fn of(text: &str) -> Option<Self> {
        // What is not empty was compiled, so it is an object.
        (!text.is_empty()).then(|| serde_json::from_str(text).unwrap_or(Self { state: None, metadata: None }))
    }

    fn is_enabled(&self) -> bool {
        self.state.as_deref() == Some("ENABLED")
    }

    fn set<'s>(&'s self, all: Option<&'s str>) -> Option<&'s str> {
        match &self.metadata {
            Some(own) if own.get("flagSetId").is_some_and(|id| !id.is_null()) => set_of(own),
            _ => all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_less_to_hosts_counts() {
        let on = r#"{"state":"ENABLED","variants":{"a":1},"defaultVariant":"a"}"#;
        let off = r#"{"state":"DISABLED","variants":{"a":1},"defaultVariant":"a"}"#;
        let other = r#"{"state":"ENABLED","variants":{"a":2},"defaultVariant":"a"}"#;
        let in_set = r#"{"state":"ENABLED","variants":{"a":1},"defaultVariant":"a","metadata":{"flagSetId":"s"}}"#;
        for (before, after, counts) in [
            (on, "", true),
            (off, "", true),
            (on, off, true),
            (on, in_set, true),
            (in_set, on, true),
            (on, other, false),
            (off, on, false),
            (off, off, false),
            ("", on, false),
            ("", off, false),
        ] {
            assert_eq!(is_loss((before, None), (after, None)), counts, "{before} to {after}");
        }
        let unnamed = r#"{"state":"ENABLED","variants":{"a":1},"defaultVariant":"a","metadata":{"flagSetId":""}}"#;
        for (before, after, counts) in [
            ((on, None), (on, Some("s")), true),
            ((on, Some("s")), (on, Some("t")), true),
            ((on, Some("s")), (in_set, None), false),
            ((in_set, Some("t")), (on, Some("s")), false),
            ((in_set, Some("s")), (in_set, Some("t")), false),
            ((unnamed, Some("s")), (on, None), false),
            ((on, Some("s")), (unnamed, Some("s")), true),
        ] {
            assert_eq!(is_loss(before, after), counts, "{before:?} to {after:?}");
        }
    }
}
