//! Segments as a file has them: rules among its `$evaluators`, lists of ids beside it, and what people call either in `$segments`.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::environment::Environment;
use super::part;
use super::part::NewList;
use super::segment::{
    FileSegment, Segment, SegmentBody, SegmentEdit, SegmentKind, check_body, check_edits, live, of_environment,
};
use crate::clock::now_ms;
use crate::definition::Segments;
use crate::file::{File, rule_place, segment_place};
use crate::problem::Problem;
use crate::store::{StoreError, Transaction};

/// What makes an environment's segments what a file says. They come where they are new, and come back where they were archived; those that the file does not
/// have are left alone. Then the parts of lists are to be taken: [`take_parts`]. With them comes what rules may refer to once they are made.
///
/// # Errors
/// Where one is of the other kind, or a condition can't be compiled.
pub(super) fn edits(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    file: &File,
) -> Result<(Vec<SegmentEdit>, Segments), Problem> {
    let known = of_environment(transaction, environment.id)?;
    let find = |key: &str| known.iter().find(|segment| segment.key == *key).cloned();
    let mut edits: BTreeMap<String, SegmentEdit> = BTreeMap::new();
    for (key, NewList { list, .. }) in &file.lists {
        let mut edit = begun(transaction, find(key), key, SegmentKind::List)?;
        // Other parts may stand for the same ids: those that are there stay.
        if edit.after.list.content() != list.content() {
            edit.after.list = list.clone();
        }
        edits.insert(key.clone(), edit);
    }
    for (key, (FileSegment { kind, name, description }, condition)) in &file.segments {
        let begun = match edits.remove(key) {
            Some(edit) => edit,
            None => begun(transaction, find(key), key, *kind)?,
        };
        let (name, description, condition) = (name.clone(), description.clone(), condition.clone());
        let after = Segment { body: SegmentBody { name, description, condition }, ..begun.after };
        check_body(&after).map_err(|problem| problem.within(&segment_place(key)))?;
        edits.insert(key.clone(), SegmentEdit { after, ..begun });
    }
    let mut edits: Vec<SegmentEdit> =
        edits.into_values().filter(|edit| edit.before.as_ref() != Some(&edit.after)).collect();
    let is_edited = |key: &str| edits.iter().any(|edit| edit.after.key == *key);
    let others = known.iter().filter(|segment| !is_edited(&segment.key));
    let segments = live(others.chain(edits.iter().map(|edit| &edit.after)));
    check_edits(&mut edits, &segments, rule_place)?;
    Ok((edits, segments))
}

/// What is there, or a new one, to be made what the file says.
fn begun(
    transaction: &mut dyn Transaction,
    before: Option<Segment>,
    key: &str,
    kind: SegmentKind,
) -> Result<SegmentEdit, Problem> {
    let after = match &before {
        Some(old) if old.kind != kind => {
            let (is, says) = if kind == SegmentKind::List { ("a rule", "a list") } else { ("a list", "a rule") };
            let detail = format!("the segment {key:?} is {is}, and the file has {says} of that name");
            return Err(Problem::conflict(detail));
        }
        Some(old) => Segment { archived_ms: None, ..old.clone() },
        None => {
            let (id, key, now) = (transaction.new_id()?, key.to_owned(), now_ms());
            let (body, list) = Default::default();
            Segment { id, key, kind, body, list, archived_ms: None, created_ms: now, changed_ms: now, revision: 0 }
        }
    };
    Ok(SegmentEdit { before, after })
}

/// Makes the lists among these edits of their parts, once they are there.
pub(super) fn take_parts(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    lists: &BTreeMap<String, NewList>,
    edits: &[SegmentEdit],
) -> Result<(), Problem> {
    for SegmentEdit { before, after } in edits.iter().filter(|edit| edit.after.kind == SegmentKind::List) {
        if before.as_ref().is_some_and(|old| old.list.content() == after.list.content()) {
            continue;
        }
        if let Some(part_id) = lists.get(&after.key).and_then(NewList::part_id) {
            part::take(transaction, environment.id, after.id, part_id)?;
        }
        part::retire_others(transaction, after.id, &after.list)?;
    }
    Ok(())
}

/// The segments that hosts have, as a file has them: what people call them, and the conditions of rules. Of lists without a word there is nothing to say.
pub(super) fn written(
    transaction: &mut dyn Transaction,
    environment_id: i64,
) -> Result<BTreeMap<String, (FileSegment, Option<Json>)>, StoreError> {
    let mut segments = of_environment(transaction, environment_id)?;
    segments.retain(|segment| segment.archived_ms.is_none() && segment.body != SegmentBody::default());
    let written = |Segment { key, kind, body, .. }| {
        let SegmentBody { name, description, condition } = body;
        (key, (FileSegment { kind, name, description }, condition))
    };
    Ok(segments.into_iter().map(written).collect())
}
