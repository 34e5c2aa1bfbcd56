//! Import and export: an environment's flags as one file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use super::change::{self, Author, Edit, Edits};
use super::environment::Environment;
use super::project::Project;
use super::segment::{SegmentEdit, SegmentKind};
use super::{flag, segment, segment_file};
use crate::clock::now_ms;
use crate::definition::{Configured, Segments};
use crate::evaluators;
use crate::file::{self, File, FileFlag, place};
use crate::model::Flag;
use crate::problem::Problem;
use crate::store::{StoreError, Transaction};

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Imported {
    /// The environment's, after it.
    pub(crate) revision: u64,
    /// Keys of flags that are new in the project.
    pub(crate) created: Vec<String>,
    /// Of flags that were there, archived ones included, and are something else now.
    pub(crate) changed: Vec<String>,
    /// How many were as the file says.
    pub(crate) unchanged: usize,
    /// Whether the flag set's metadata is something else now.
    pub(crate) metadata: bool,
    /// Keys of id lists that came with the file and are others now, or new.
    pub(crate) lists: Vec<String>,
    /// Of segments that are new, or are something else now, by what the file says of them in `$segments`.
    pub(crate) segments: Vec<String>,
}

/// Makes flags what a file says they are and do in an environment, and the flag set's metadata what it says: one change.
/// Flags that the file does not have are left alone, and so is the metadata where it says nothing of any.
///
/// A flag is of the whole project: the other environments get those that are new, disabled, and what is new of the others, in one change each.
/// `environments` are all of the project, locked, `target` among them.
pub(crate) fn import(
    transaction: &mut dyn Transaction,
    project: &Project,
    environments: &[Environment],
    target: &Environment,
    file: &File,
    author: &Author,
) -> Result<Imported, Problem> {
    let known: BTreeMap<String, Flag> =
        flag::all(transaction, project.id)?.into_iter().map(|flag| (flag.key.clone(), flag)).collect();
    let mut imported = Imported::default();
    // By the environment's id.
    let mut edits: BTreeMap<i64, Vec<Edit>> = BTreeMap::new();
    let (segment_edits, Segments { rules: segments, .. }) = segment_file::edits(transaction, target, file)?;
    for (key, wanted) in &file.flags {
        let mut config = wanted.config.clone();
        // What is a segment here stays one. Of some of its rules the others might mean another, so it is all of them or none.
        if config.evaluators.iter().all(|(name, rule)| segments.get(name) == Some(rule)) {
            config.evaluators.clear();
        }
        let Some(old) = known.get(key) else {
            let flag = new_flag(transaction, project, key, wanted).map_err(|problem| problem.within(&place(key)))?;
            for environment in environments {
                let config = if environment.id == target.id { config.clone() } else { flag.body.first_config() };
                let after = Configured { flag: flag.clone(), config };
                edits.entry(environment.id).or_default().push(Edit { before: None, after });
            }
            imported.created.push(key.clone());
            continue;
        };
        let body = wanted.body(Some(&old.body)).map_err(|problem| problem.within(&place(key)))?;
        let mut new = old.clone();
        if body != old.body || old.archived_ms.is_some() {
            new = Flag { body, archived_ms: None, changed_ms: now_ms(), version: old.version + 1, ..new };
            flag::rewrite(transaction, &new)?;
        }
        let mut is_changed = new.version != old.version;
        for environment in environments {
            let is_target = environment.id == target.id;
            if !is_target && new.version == old.version {
                continue;
            }
            let Some((before, _)) = change::config(transaction, environment.id, old.id)? else { continue };
            let after = if is_target { config.clone() } else { before.clone() };
            if after == before && new.version == old.version {
                continue;
            }
            is_changed = true;
            edits.entry(environment.id).or_default().push(Edit {
                before: Some(Configured { flag: old.clone(), config: before }),
                after: Configured { flag: new.clone(), config: after },
            });
        }
        if is_changed {
            imported.changed.push(key.clone());
        } else {
            imported.unchanged += 1;
        }
    }
    imported.revision = target.revision;
    let metadata = file.metadata.clone().filter(|metadata| *metadata != target.metadata);
    imported.metadata = metadata.is_some();
    for SegmentEdit { before, after } in &segment_edits {
        let is_there = before.as_ref().is_some_and(|old| old.archived_ms.is_none());
        let has_ids = before.as_ref().is_some_and(|old| old.list.content() == after.list.content());
        if after.kind == SegmentKind::List && !(is_there && has_ids) {
            imported.lists.push(after.key.clone());
        }
        let is_called_so = before.as_ref().is_some_and(|old| old.body == after.body);
        if file.segments.contains_key(&after.key) && !(is_there && is_called_so) {
            imported.segments.push(after.key.clone());
        }
    }
    for environment in environments {
        let is_target = environment.id == target.id;
        let flags = edits.remove(&environment.id).unwrap_or_default();
        if flags.is_empty() && !(is_target && (imported.metadata || !segment_edits.is_empty())) {
            continue;
        }
        if is_target {
            let only = if let [only] = flags.as_slice() { Some(place(&only.after.flag.key)) } else { None };
            let segments = segment_edits.clone();
            let edits = Edits { flags, segments, metadata: metadata.clone(), ..Edits::default() };
            imported.revision = change::commit(transaction, environment, author, "environment.import", edits)
                .map_err(|problem| problem.within(&only.unwrap_or_default()))?;
        } else {
            change::commit(transaction, environment, author, "flag.import", flags).map_err(|problem| {
                Problem::conflict(format!("in the environment {:?}: {}", environment.key, problem.detail()))
            })?;
        }
    }
    segment_file::take_parts(transaction, target, &file.lists, &segment_edits)?;
    Ok(imported)
}

fn new_flag(
    transaction: &mut dyn Transaction,
    project: &Project,
    key: &str,
    wanted: &FileFlag,
) -> Result<Flag, Problem> {
    let body = wanted.body(None)?;
    flag::insert(transaction, project, key, body)
}

/// All flags of an environment that hosts have, as the file that [`import`] makes them of again.
pub(crate) fn export(transaction: &mut dyn Transaction, environment: &Environment) -> Result<Json, StoreError> {
    let shared: Map<String, Json> = segment::all(transaction, environment.id)?.rules.into_iter().collect();
    let mut flags = flag::all_configured(transaction, environment.id)?;
    for Configured { config, .. } in &mut flags {
        let mut named = BTreeMap::new();
        for rule in config.targeting.iter().chain(config.evaluators.values()) {
            evaluators::named(rule, &shared, &mut named);
        }
        for (name, rule) in named {
            // What the flag itself calls so counts.
            config.evaluators.entry(name).or_insert_with(|| rule.clone());
        }
    }
    let segments = segment_file::written(transaction, environment.id)?;
    Ok(file::written(&flags, segments, &environment.metadata))
}

/// The same as hosts get it: any flagd gives the same answers with it.
pub(crate) fn export_compiled(
    transaction: &mut dyn Transaction,
    environment: &Environment,
) -> Result<Json, StoreError> {
    let definitions = change::definitions(transaction, environment.id)?;
    let mut flags = Map::new();
    for (key, definition) in definitions {
        let json = serde_json::from_str(definition.get()).map_err(|error| StoreError::Broken(error.to_string()))?;
        flags.insert(key, json);
    }
    let mut file = json!({"flags": flags});
    let rules = segment::all(transaction, environment.id)?.rules;
    if !rules.is_empty() {
        file["$evaluators"] = json!(rules);
    }
    if !environment.metadata.is_empty() {
        file["metadata"] = json!(environment.metadata);
    }
    Ok(file)
}
