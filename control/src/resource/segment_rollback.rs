//! What a rollback does to segments: rules are taken back, lists keep the ids that they have.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value as Json;

use super::change::{self, Edit, EntryFlag};
use super::environment::Environment;
use super::segment::{Segment, SegmentBody, SegmentEdit, SegmentKind, check_edits, live, of_environment};
use crate::clock::now_ms;
use crate::definition::refers_to;
use crate::model::escaped;
use crate::problem::Problem;
use crate::store::{StoreError, Transaction};

/// What takes segments back.
#[derive(Debug)]
pub(super) struct TakenBack {
    pub(super) edits: Vec<SegmentEdit>,
    /// Lists that something refers to, and whose ids were changed since: the same ones again may be in other parts.
    pub(super) other_ids: Vec<String>,
}

/// A rule is what it was at the revision: condition, name, description, archived or not. One that was not there then is archived, but where
/// something still refers to it. A list that was archived since comes back where something refers to it again.
/// `flags` are those that are taken back beside.
pub(super) fn taken_back(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    revision: u64,
    flags: &[Edit],
) -> Result<TakenBack, Problem> {
    let segments = of_environment(transaction, environment.id)?;
    let now: BTreeMap<String, Segment> = segments.into_iter().map(|segment| (segment.key.clone(), segment)).collect();
    let mut after = now.clone();
    let mut content_then = BTreeMap::new();
    for old in change::segments_as_of(transaction, environment.id, revision)? {
        let Some(segment) = after.get_mut(&old.key) else { continue };
        if segment.kind == SegmentKind::Rule {
            become_again(segment, &old)?;
        } else if old.before["archived"] == false {
            content_then.insert(old.key, old.before["content"].clone());
        }
    }
    let mut waiting = flags_refer_to(transaction, environment, flags)?;
    waiting.extend(after.values().filter(|segment| segment.archived_ms.is_none()).flat_map(condition_refers_to));
    let mut named = BTreeSet::new();
    while let Some(key) = waiting.pop() {
        let (Some(was), Some(segment)) = (now.get(&key), after.get_mut(&key)) else { continue };
        if segment.archived_ms.is_some() {
            match (was.archived_ms, segment.kind) {
                (None, _) => *segment = was.clone(),
                (Some(_), SegmentKind::List) => segment.archived_ms = None,
                // What refers to it is refused, and says so.
                (Some(_), SegmentKind::Rule) => continue,
            }
        }
        if named.insert(key) {
            waiting.extend(condition_refers_to(segment));
        }
    }
    let has_others = |(key, content): &(String, Json)| {
        after.get(key).is_some_and(|segment| serde_json::json!(segment.list.content()) != *content)
    };
    let other_ids = content_then.into_iter().filter(|(key, _)| named.contains(key)).filter(has_others);
    let other_ids = other_ids.map(|(key, _)| key).collect();
    Ok(TakenBack { edits: edits(now, after)?, other_ids })
}

/// What the log has of a segment, as far as it is a rule's.
#[derive(Deserialize)]
struct Then {
    name: String,
    description: String,
    archived: bool,
    condition: Option<Json>,
}

fn become_again(segment: &mut Segment, old: &EntryFlag) -> Result<(), StoreError> {
    let is_archived = if old.before.is_null() {
        true
    } else {
        let broken = |error| StoreError::Broken(format!("the log of the segment {:?}: {error}", old.key));
        let Then { name, description, archived, condition } =
            serde_json::from_value(old.before.clone()).map_err(broken)?;
        segment.body = SegmentBody { name, description, condition };
        archived
    };
    segment.archived_ms = is_archived.then(|| segment.archived_ms.unwrap_or_else(now_ms));
    Ok(())
}

/// The keys of segments that flags refer to once `edits` are made. Archived flags do not count.
fn flags_refer_to(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    edits: &[Edit],
) -> Result<Vec<String>, StoreError> {
    let edited: BTreeSet<&str> = edits.iter().map(|edit| edit.after.flag.key.as_str()).collect();
    let mut keys: Vec<String> = edits.iter().flat_map(|edit| edit.after.refers_to()).collect();
    let sql = "SELECT user_key, segment_key FROM segment_use WHERE environment_id = $1 AND user_kind = 'flag' \
               AND user_key IN (SELECT key FROM flag WHERE project_id = $2 AND archived_ms IS NULL)";
    for mut row in transaction.rows(sql, &[environment.id.into(), environment.project_id.into()])? {
        if !edited.contains(row.text(0)?.as_str()) {
            keys.push(row.text(1)?);
        }
    }
    Ok(keys)
}

fn condition_refers_to(segment: &Segment) -> BTreeSet<String> {
    segment.body.condition.as_ref().map(refers_to).unwrap_or_default()
}

/// What is to be written, each condition checked with what it refers to.
fn edits(mut now: BTreeMap<String, Segment>, after: BTreeMap<String, Segment>) -> Result<Vec<SegmentEdit>, Problem> {
    let segments = live(after.values());
    let edits = after.into_iter().map(|(key, after)| SegmentEdit { before: now.remove(&key), after });
    let mut edits: Vec<SegmentEdit> = edits.filter(|edit| edit.before.as_ref() != Some(&edit.after)).collect();
    check_edits(&mut edits, &segments, |key| format!("/segments/{}/condition", escaped(key)))?;
    Ok(edits)
}
