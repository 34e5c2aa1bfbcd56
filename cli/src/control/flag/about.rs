//! What a flag is in all environments, as arguments.

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::{failure::Failure, overrides::assignment, value};

/// What a flag is in all environments.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "In all environments")]
#[group(id = "about", multiple = true)]
pub(super) struct About {
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Who answers for it
    #[arg(long, value_name = "TEXT")]
    owner: Option<String>,
    /// A tag; those named replace all there were
    #[arg(long = "tag", value_name = "TEXT")]
    tags: Vec<String>,
    /// What it is there for
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// When it should be gone, or `never`
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = expiry)]
    expires: Option<Expiry>,
    /// A variant and its value: JSON if it can be, else text
    #[arg(long = "variant", value_name = "NAME=VALUE", value_parser = assignment)]
    variants: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Release,
    Experiment,
    Ops,
    Permanent,
}

/// A moment, or none.
#[derive(Clone, Copy, Debug)]
enum Expiry {
    Never,
    AtMs(i64),
}

fn expiry(text: &str) -> Result<Expiry, String> {
    if text == "never" { Ok(Expiry::Never) } else { value::day_ms(text).map(Expiry::AtMs) }
}

impl About {
    /// What is said, as the API has it. Texts stay texts where `kind` (`string`) says so.
    pub(super) fn body(&self, kind: Option<&str>) -> Result<Map<String, Value>, Failure> {
        let mut body = Map::new();
        let mut say = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        };
        say("description", self.description.as_deref().map(Value::from));
        say("owner", self.owner.as_deref().map(Value::from));
        say("tags", (!self.tags.is_empty()).then(|| json!(self.tags)));
        let name = |kind: &Kind| kind.to_possible_value().map(|value| Value::from(value.get_name()));
        say("kind", self.kind.as_ref().and_then(name));
        say("expiresMs", self.expires.map(|at| if let Expiry::AtMs(ms) = at { json!(ms) } else { Value::Null }));
        let variants: Map<String, Value> =
            self.variants.iter().map(|(name, text)| (name.clone(), literal(text, kind == Some("string")))).collect();
        if variants.len() < self.variants.len() {
            return Err(Failure::Usage("a variant is named twice".to_owned()));
        }
        say("variants", (!variants.is_empty()).then_some(Value::Object(variants)));
        Ok(body)
    }
}

/// JSON if it can be and may, else text.
pub(in crate::control) fn literal(text: &str, is_text: bool) -> Value {
    if is_text { text.into() } else { serde_json::from_str(text).unwrap_or_else(|_| text.into()) }
}

/// The type of flags with such a variant.
pub(in crate::control) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "boolean",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        _ => "object",
    }
}
