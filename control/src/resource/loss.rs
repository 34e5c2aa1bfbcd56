//! What hosts see go: the counterpart of their blast-radius check.

use serde::Deserialize;

/// Whether a flag that hosts had is one less to them: gone, disabled, or in another flag set, which is another flag.
///
/// Both are definitions as hosts get them; empty where there is none.
pub(super) fn is_loss(before: &str, after: &str) -> bool {
    let Some(before) = Part::of(before) else { return false };
    let Some(after) = Part::of(after) else { return true };
    (before.is_enabled() && !after.is_enabled()) || before.set() != after.set()
}

/// What counts of a definition.
#[derive(Deserialize)]
struct Part {
    state: Option<String>,
    metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Part {
    fn of(text: &str) -> Option<Self> {
        // What is not empty was compiled, so it is an object.
        (!text.is_empty()).then(|| serde_json::from_str(text).unwrap_or(Self { state: None, metadata: None }))
    }

    fn is_enabled(&self) -> bool {
        self.state.as_deref() == Some("ENABLED")
    }

    fn set(&self) -> Option<&serde_json::Value> {
        self.metadata.as_ref()?.get("flagSetId")
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
            assert_eq!(is_loss(before, after), counts, "{before} to {after}");
        }
    }
}
