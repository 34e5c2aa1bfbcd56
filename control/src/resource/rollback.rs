//! Back to what an environment did at a revision: a change like any other.
//!
//! ```text
//! of the environment    configurations, rules that are segments, metadata    taken back
//! of the whole project  variants, whether a flag is archived                 stays, and is said to
//! of people             ids of lists                                         stays, and is said to
//! ```

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value as Json;

use super::change::{self, Author, Edit, Edits, EntryFlag};
use super::environment::Environment;
use super::project::Project;
use super::{flag, log, segment_rollback};
use crate::definition::Configured;
use crate::model::{Config, Flag, FlagState};
use crate::problem::Problem;
use crate::store::{StoreError, Transaction};

/// What a rollback did.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RolledBack {
    /// The new revision, or the current one where there was nothing to take back.
    revision: u64,
    /// What decides answers here and is not as it was then. Empty: all does what it did.
    left: Vec<Left>,
}

/// What a rollback leaves: of a flag, or of a segment.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Left {
    #[serde(skip_serializing_if = "Option::is_none")]
    flag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<String>,
    what: What,
}

#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum What {
    /// The flag has other variants than then; they are those of all environments.
    Variants,
    /// The flag was archived since, in all environments.
    Archived,
    /// The ids of the list were changed since, and may be others: people may have been taken out on purpose.
    Ids,
}

/// Configures flags as they were at a revision, and gives rules that are segments and the flag set's metadata back what they were.
///
/// Flags that hosts did not have then are disabled.
pub(crate) fn roll_back(
    transaction: &mut dyn Transaction,
    project: &Project,
    environment: &Environment,
    revision: u64,
    author: &Author,
) -> Result<RolledBack, Problem> {
    if revision > environment.revision {
        let detail = format!("the environment has had {} revisions", environment.revision);
        return Err(Problem::invalid("/revision", detail));
    }
    log::check_since(environment, revision)?;
    let (mut flags, mut left) = (Vec::new(), Vec::new());
    for old in change::as_of(transaction, environment.id, revision)? {
        let flag = flag::find(transaction, project, &old.key)?;
        let then = then(&old)?;
        left.extend(left_of(&flag, then.as_ref()));
        let Some((current, _)) = change::config(transaction, environment.id, flag.id)? else { continue };
        let config = match then {
            Some(Then { is_archived: false, config, .. }) => config,
            // It was away, so what it does now is kept for whoever enables it again.
            Some(_) => Config { state: FlagState::Disabled, ..current.clone() },
            None => flag.body.first_config(),
        };
        if config == current || flag.archived_ms.is_some() {
            continue;
        }
        let configured = |config| Configured { flag: flag.clone(), config };
        flags.push(Edit { before: Some(configured(current)), after: configured(config) });
    }
    let segments = segment_rollback::taken_back(transaction, environment, revision, &flags)?;
    left.extend(segments.other_ids.into_iter().map(|key| Left { flag: None, segment: Some(key), what: What::Ids }));
    let metadata = change::metadata_as_of(transaction, environment.id, revision)?;
    let metadata = metadata.filter(|metadata| *metadata != environment.metadata);
    if flags.is_empty() && segments.edits.is_empty() && metadata.is_none() {
        return Ok(RolledBack { revision: environment.revision, left });
    }
    let edits = Edits { flags, segments: segments.edits, metadata, names_flags: true, ..Edits::default() };
    // Somebody asked for just this.
    let author = Author { deliberate: true, ..author.clone() };
    let revision = change::commit(transaction, environment, &author, "environment.rollback", edits)?;
    Ok(RolledBack { revision, left })
}

/// What a flag was at a revision.
struct Then {
    variants: Json,
    is_archived: bool,
    config: Config,
}

/// `None`: there was no such flag.
fn then(old: &EntryFlag) -> Result<Option<Then>, StoreError> {
    let Some(config) = old.before.get("config") else { return Ok(None) };
    let config = serde_json::from_value(config.clone())
        .map_err(|error| StoreError::Broken(format!("the log of {:?}: {error}", old.key)))?;
    let variants = old.before["flag"]["variants"].clone();
    Ok(Some(Then { variants, is_archived: old.before["archived"] == true, config }))
}

/// What a flag of the project does otherwise than then, whatever its configuration here. Who asked for one that was disabled got their own default, and still does.
fn left_of(flag: &Flag, then: Option<&Then>) -> Vec<Left> {
    let Some(then) = then.filter(|then| !then.is_archived && then.config.state == FlagState::Enabled) else {
        return Vec::new();
    };
    let now = &flag.body.variants;
    let is_other = |(name, value): (&String, &Json)| now.get(name) != Some(value);
    let had = then.variants.as_object();
    // Only a rule could name one that was not there, and the first that is false is what is served without the prerequisites.
    let may_name_new = then.config.targeting.is_some() || !then.config.prerequisites.is_empty();
    let has_new = now.keys().any(|name| had.is_none_or(|had| !had.contains_key(name)));
    let variants = had.into_iter().flatten().any(is_other) || may_name_new && has_new;
    let whats = [(variants, What::Variants), (flag.archived_ms.is_some(), What::Archived)];
    let left = |what| Left { flag: Some(flag.key.clone()), segment: None, what };
    whats.into_iter().filter(|(is_so, _)| *is_so).map(|(_, what)| left(what)).collect()
}
