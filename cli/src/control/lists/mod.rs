//! Id lists as files beside a definition: read, told apart from what the control plane has, sent and fetched.
//!
//! ```text
//! DIR/production.json       {"flags": {…}, "metadata": {"lists": "production-ids"}}
//! DIR/production-ids/vip.txt
//! ```

mod change;
mod fetch;
mod local;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

pub(super) use change::{Change, changes};
pub(super) use fetch::fetch;
pub(super) use local::{Local, is_declaration, named_in, names_only, read};

use super::client::Control;
use crate::failure::Failure;

/// The segments of an environment, by key, the archived ones too.
#[derive(Debug)]
pub(super) struct Segments(BTreeMap<String, Value>);

impl Segments {
    pub(super) fn of(control: &Control, environment: &str) -> Result<Self, Failure> {
        let path = path(control, environment, &[])?;
        let mut items = control.items(&path, &[], None)?;
        items.extend(control.items(&path, &[("archived", "true")], None)?);
        let keyed = items.into_iter().filter_map(|item| Some((item["key"].as_str()?.to_owned(), item)));
        Ok(Self(keyed.collect()))
    }

    /// The lists that hosts have.
    pub(super) fn lists(&self) -> impl Iterator<Item = (&str, &Value)> {
        let live = self.0.iter().filter(|(_, item)| item["kind"] == "list" && item["archived"] != true);
        live.map(|(key, item)| (key.as_str(), item))
    }

    /// Whether this is what `{"$ref": key}` means of itself here.
    pub(super) fn has_rule(&self, key: &str, condition: &Value) -> bool {
        self.0
            .get(key)
            .is_some_and(|item| item["kind"] == "rule" && item["archived"] != true && item["condition"] == *condition)
    }

    /// Refuses rules that name a list that neither is here nor comes with `files`.
    pub(super) fn check_named(
        &self,
        definition: &str,
        named: &BTreeSet<String>,
        files: &BTreeMap<String, Local>,
    ) -> Result<(), Failure> {
        let here: BTreeSet<&str> = self.lists().map(|(key, _)| key).collect();
        match named.iter().find(|name| !here.contains(name.as_str()) && !files.contains_key(*name)) {
            None => Ok(()),
            Some(name) => Err(Failure::new(format!("{definition}: a rule names the list {name:?}, which there is none of"))
                .hint("its ids can come as a file that the definition's `metadata` names (`lists`, `list.NAME`), or by `flagsctl segment create`")),
        }
    }
}

/// The path of an environment's segments, and of what is below it.
fn path(control: &Control, environment: &str, below: &[&str]) -> Result<String, Failure> {
    control.in_project(&[&["environments", environment, "segments"], below].concat())
}
