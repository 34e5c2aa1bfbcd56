//! Segments of an environment: groups of users that several flags speak of, by a rule or by a list of ids.

use std::collections::{BTreeMap, BTreeSet};

use flags_sync::List;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::change::{self, Author, Edits};
use super::environment::Environment;
use super::part::NewList;
use super::{like, part};
use crate::clock::now_ms;
use crate::definition::{Segments, check_condition, refers_to};
use crate::model::{check_key, check_text};
use crate::problem::Problem;
use crate::store::{Row, StoreError, Transaction, Value};

/// What says who is in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SegmentKind {
    /// A condition: rules say `{"$ref": KEY}`.
    Rule,
    /// Ids: rules say `{"in": [{"var": "targetingKey"}, {"var": "$lists.KEY"}]}`.
    List,
}

/// What people say about a segment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SegmentBody {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) description: String,
    /// Of a rule, and only of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) condition: Option<Json>,
}

/// A segment as a file has it, beside its condition in `$evaluators` or its ids in files.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileSegment {
    pub(crate) kind: SegmentKind,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) description: String,
}

/// A segment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Segment {
    pub(crate) id: i64,
    pub(crate) key: String,
    pub(crate) kind: SegmentKind,
    pub(crate) body: SegmentBody,
    pub(crate) list: List,
    pub(crate) archived_ms: Option<i64>,
    pub(crate) created_ms: i64,
    pub(crate) changed_ms: i64,
    /// Of the environment, when it was last changed; its ETag.
    pub(crate) revision: i64,
}

/// A segment as it is shown.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Segment")]
pub(crate) struct SegmentView<'s> {
    key: &'s str,
    kind: SegmentKind,
    name: &'s str,
    description: &'s str,
    archived: bool,
    /// Of a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<&'s Json>,
    /// Of a list: how many it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<u64>,
    /// Of a list: a hash that names its content. Another one may stand for the same ids, where they came in batches.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    created_ms: i64,
    changed_ms: i64,
    /// Of the environment, when it was last changed; its ETag.
    revision: i64,
}

/// What happens to a segment.
#[derive(Clone, Debug)]
pub(crate) struct SegmentEdit {
    pub(crate) before: Option<Segment>,
    pub(crate) after: Segment,
}

/// What a list of segments is narrowed to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Only those whose key comes after this one.
    pub(crate) after: String,
    /// A part of key, name or description, in any case.
    pub(crate) search: String,
    pub(crate) archived: bool,
    pub(crate) limit: i64,
}

impl Segment {
    pub(crate) fn view(&self) -> SegmentView<'_> {
        let is_list = self.kind == SegmentKind::List;
        SegmentView {
            key: &self.key,
            kind: self.kind,
            name: &self.body.name,
            description: &self.body.description,
            archived: self.archived_ms.is_some(),
            condition: self.body.condition.as_ref(),
            ids: is_list.then_some(self.list.ids),
            content: is_list.then(|| self.list.content().to_string()),
            created_ms: self.created_ms,
            changed_ms: self.changed_ms,
            revision: self.revision,
        }
    }

    /// As the log keeps it: of a list its size and what names its content.
    fn shown(&self) -> Json {
        let mut shown = json!({"kind": self.kind, "name": self.body.name, "description": self.body.description,
            "archived": self.archived_ms.is_some()});
        match (&self.body.condition, self.kind) {
            (Some(condition), _) => shown["condition"] = condition.clone(),
            (None, SegmentKind::Rule) => {}
            (None, SegmentKind::List) => {
                shown["ids"] = json!(self.list.ids);
                shown["content"] = json!(self.list.content());
            }
        }
        shown
    }

    /// What its key stands for in rules, where hosts get it.
    fn is_live(&self, kind: SegmentKind) -> bool {
        self.kind == kind && self.archived_ms.is_none()
    }
}

const COLUMNS: &str =
    "id, key, kind, name, description, condition, list, archived_ms, created_ms, changed_ms, revision";

pub(crate) fn create(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    key: &str,
    kind: SegmentKind,
    body: SegmentBody,
    author: &Author,
) -> Result<Segment, Problem> {
    check_key(key, "/key")?;
    let now = now_ms();
    let id = transaction.new_id()?;
    let (list, key) = (List::default(), key.to_owned());
    let segment =
        Segment { id, key, kind, body, list, archived_ms: None, created_ms: now, changed_ms: now, revision: 0 };
    check(transaction, environment.id, &segment)?;
    if find(transaction, environment, &segment.key).is_ok() {
        let detail = format!("there is, or was, a segment {:?}: keys are not used again", segment.key);
        return Err(Problem::conflict(detail));
    }
    commit(transaction, environment, author, "segment.create", None, segment)
}

/// Gives a segment another body.
pub(crate) fn update(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    segment: &Segment,
    body: SegmentBody,
    author: &Author,
) -> Result<Segment, Problem> {
    must_be_live(segment)?;
    let after = Segment { body, ..segment.clone() };
    check(transaction, environment.id, &after)?;
    commit(transaction, environment, author, "segment.update", Some(segment), after)
}

/// Makes a list of other parts, which are stored already: `new` are those that it had not.
pub(crate) fn set_list(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    segment: &Segment,
    new: NewList,
    action: &str,
    author: &Author,
) -> Result<Segment, Problem> {
    must_be_live(segment)?;
    let part_id = new.part_id();
    let list = new.list;
    if list.content() == segment.list.content() {
        return Ok(segment.clone());
    }
    if let Some(part_id) = part_id {
        part::take(transaction, environment.id, segment.id, part_id)?;
    }
    part::retire_others(transaction, segment.id, &list)?;
    let after = Segment { list, ..segment.clone() };
    commit(transaction, environment, author, action, Some(segment), after)
}

/// Takes a segment from all hosts; its key stays taken.
pub(crate) fn archive(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    segment: &Segment,
    author: &Author,
) -> Result<Segment, Problem> {
    if segment.archived_ms.is_some() {
        return Ok(segment.clone());
    }
    // What an archived flag or segment says does not count.
    let sql = "SELECT user_kind, user_key FROM segment_use WHERE environment_id = $1 AND segment_key = $2 \
               AND (user_kind = 'flag' AND user_key IN (SELECT key FROM flag WHERE project_id = $3 AND archived_ms IS NULL) \
               OR user_kind = 'segment' AND user_key IN (SELECT key FROM segment WHERE environment_id = $1 AND archived_ms IS NULL)) \
               ORDER BY 1, 2 LIMIT 1";
    let values = [environment.id.into(), segment.key.as_str().into(), environment.project_id.into()];
    if let Some(mut row) = transaction.row(sql, &values)? {
        return Err(Problem::conflict(format!("the {} {:?} refers to it", row.text(0)?, row.text(1)?)));
    }
    let after = Segment { archived_ms: Some(now_ms()), ..segment.clone() };
    commit(transaction, environment, author, "segment.archive", Some(segment), after)
}

/// Brings an archived segment back, as it was.
pub(crate) fn restore(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    segment: &Segment,
    author: &Author,
) -> Result<Segment, Problem> {
    if segment.archived_ms.is_none() {
        return Ok(segment.clone());
    }
    let after = Segment { archived_ms: None, ..segment.clone() };
    check(transaction, environment.id, &after)?;
    commit(transaction, environment, author, "segment.restore", Some(segment), after)
}

/// The lists of an environment that hosts have, by key.
pub(crate) fn lists(transaction: &mut dyn Transaction, environment_id: i64) -> Result<Vec<Segment>, StoreError> {
    let mut segments = of_environment(transaction, environment_id)?;
    segments.retain(|segment| segment.is_live(SegmentKind::List));
    Ok(segments)
}

fn must_be_live(segment: &Segment) -> Result<(), Problem> {
    match segment.archived_ms {
        None => Ok(()),
        Some(_) => Err(Problem::conflict(format!("the segment {:?} is archived", segment.key))),
    }
}

pub(super) fn check_body(segment: &Segment) -> Result<(), Problem> {
    check_text(&segment.body.name, "/name")?;
    check_text(&segment.body.description, "/description")
}

fn check(transaction: &mut dyn Transaction, environment_id: i64, segment: &Segment) -> Result<(), Problem> {
    check_body(segment)?;
    match (segment.kind, &segment.body.condition) {
        (SegmentKind::List, None) => Ok(()),
        (SegmentKind::List, Some(_)) => Err(Problem::invalid("/condition", "a list has ids, and no condition")),
        (SegmentKind::Rule, None) => Err(Problem::invalid("/condition", "a rule needs a condition")),
        (SegmentKind::Rule, Some(condition)) => {
            let mut segments = all(transaction, environment_id)?;
            segments.rules.insert(segment.key.clone(), condition.clone());
            check_condition(condition, &segments)
        }
    }
}

fn commit(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    author: &Author,
    action: &str,
    before: Option<&Segment>,
    after: Segment,
) -> Result<Segment, Problem> {
    if before == Some(&after) {
        return Ok(after);
    }
    let key = after.key.clone();
    let after = Segment { changed_ms: now_ms(), ..after };
    let segments = vec![SegmentEdit { before: before.cloned(), after }];
    change::commit(transaction, environment, author, action, Edits { segments, ..Edits::default() })?;
    find(transaction, environment, &key)
}

/// Writes edits of segments that become `revision`. What hosts are told of them, and the flags whose rules mean something else now.
pub(super) fn store(
    transaction: &mut dyn Transaction,
    environment_id: i64,
    edits: &[SegmentEdit],
    revision: i64,
) -> Result<Told, Problem> {
    let mut told = Told::default();
    for SegmentEdit { before, after } in edits {
        let mut values = columns(after)?;
        values.extend([revision.into(), environment_id.into()]);
        let sql = "INSERT INTO segment (id, key, kind, name, description, condition, list, archived_ms, created_ms, changed_ms, \
                   revision, environment_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
                   ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description, \
                   condition = excluded.condition, list = excluded.list, archived_ms = excluded.archived_ms, \
                   changed_ms = excluded.changed_ms, revision = excluded.revision";
        transaction.execute(sql, &values)?;
        let condition = |segment: &Segment| segment.is_live(SegmentKind::Rule).then(|| segment.body.condition.clone());
        let list = |segment: &Segment| segment.is_live(SegmentKind::List).then(|| segment.list.clone());
        if before.as_ref().and_then(condition) != condition(after) {
            told.rules_changed = true;
            let uses = after.body.condition.as_ref().map(refers_to).unwrap_or_default();
            note_uses(transaction, environment_id, "segment", &after.key, &uses)?;
            told.flags.extend(users(transaction, environment_id, &after.key)?);
        }
        if before.as_ref().and_then(list) != list(after) {
            told.lists.insert(after.key.clone(), list(after));
        }
    }
    Ok(told)
}

/// What a change of segments comes to.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) rules_changed: bool,
    pub(super) lists: BTreeMap<String, Option<List>>,
    pub(super) flags: BTreeSet<String>,
}

/// Writes what edits did into the log.
pub(super) fn log(
    transaction: &mut dyn Transaction,
    environment_id: i64,
    edits: &[SegmentEdit],
    revision: i64,
) -> Result<(), StoreError> {
    for SegmentEdit { before, after } in edits {
        let values = [
            environment_id.into(),
            revision.into(),
            after.key.as_str().into(),
            before.as_ref().map(|segment| segment.shown().to_string()).into(),
            after.shown().to_string().into(),
        ];
        let sql = "INSERT INTO change_segment (environment_id, revision, segment_key, before, after) \
                   VALUES ($1, $2, $3, $4, $5)";
        transaction.execute(sql, &values)?;
    }
    Ok(())
}

/// Remembers which segments the rules of a flag or segment refer to.
pub(super) fn note_uses(
    transaction: &mut dyn Transaction,
    environment_id: i64,
    user_kind: &str,
    user_key: &str,
    uses: &BTreeSet<String>,
) -> Result<(), StoreError> {
    let values = [environment_id.into(), user_kind.into(), user_key.into()];
    let sql = "DELETE FROM segment_use WHERE environment_id = $1 AND user_kind = $2 AND user_key = $3";
    transaction.execute(sql, &values)?;
    for segment_key in uses {
        let values = [environment_id.into(), user_kind.into(), user_key.into(), segment_key.as_str().into()];
        let sql = "INSERT INTO segment_use (environment_id, user_kind, user_key, segment_key) VALUES ($1, $2, $3, $4)";
        transaction.execute(sql, &values)?;
    }
    Ok(())
}

/// The flags that refer to a segment, also through others.
fn users(transaction: &mut dyn Transaction, environment_id: i64, key: &str) -> Result<BTreeSet<String>, StoreError> {
    let (mut flags, mut seen) = (BTreeSet::new(), BTreeSet::from([key.to_owned()]));
    let mut waiting = vec![key.to_owned()];
    while let Some(key) = waiting.pop() {
        let sql = "SELECT user_kind, user_key FROM segment_use WHERE environment_id = $1 AND segment_key = $2";
        for mut row in transaction.rows(sql, &[environment_id.into(), key.as_str().into()])? {
            let (kind, user) = (row.text(0)?, row.text(1)?);
            if kind == "flag" {
                flags.insert(user);
            } else if seen.insert(user.clone()) {
                waiting.push(user);
            }
        }
    }
    Ok(flags)
}

/// What rules may refer to.
pub(crate) fn all(transaction: &mut dyn Transaction, environment_id: i64) -> Result<Segments, StoreError> {
    Ok(live(&of_environment(transaction, environment_id)?))
}

/// What rules may refer to among these.
pub(super) fn live<'s>(segments: impl IntoIterator<Item = &'s Segment>) -> Segments {
    let mut live = Segments::default();
    for segment in segments.into_iter().filter(|segment| segment.archived_ms.is_none()) {
        match (segment.kind, &segment.body.condition) {
            (SegmentKind::Rule, Some(condition)) => {
                drop(live.rules.insert(segment.key.clone(), condition.clone()));
            }
            (SegmentKind::Rule, None) => {}
            (SegmentKind::List, _) => drop(live.lists.insert(segment.key.clone(), segment.list.clone())),
        }
    }
    live
}

/// Checks each condition that is another with what it may refer to then, and dates the edits. `place` is where the condition of a key stands.
///
/// # Errors
/// What is wrong with one.
pub(super) fn check_edits(
    edits: &mut [SegmentEdit],
    segments: &Segments,
    place: impl Fn(&str) -> String,
) -> Result<(), Problem> {
    for SegmentEdit { after, .. } in edits {
        if let (Some(condition), None) = (&after.body.condition, after.archived_ms) {
            check_condition(condition, segments).map_err(|problem| problem.moved("/condition", &place(&after.key)))?;
        }
        after.changed_ms = now_ms();
    }
    Ok(())
}

/// Copies of all segments of an environment, for another one that has none yet, to be made with [`change::commit`]; then the parts
/// of their lists are shared: [`share_parts`].
pub(super) fn copies(transaction: &mut dyn Transaction, from: &Environment) -> Result<Vec<SegmentEdit>, StoreError> {
    let mut edits = Vec::new();
    for segment in of_environment(transaction, from.id)? {
        edits.push(SegmentEdit { before: None, after: Segment { id: transaction.new_id()?, ..segment } });
    }
    Ok(edits)
}

/// The lists of `to` are made of the same parts as those of the same keys of `from`.
pub(super) fn share_parts(
    transaction: &mut dyn Transaction,
    from: &Environment,
    to: &Environment,
) -> Result<(), Problem> {
    for segment in of_environment(transaction, from.id)? {
        let copy = find(transaction, to, &segment.key)?;
        part::share(transaction, segment.id, (to.id, copy.id))?;
    }
    Ok(())
}

pub(super) fn of_environment(
    transaction: &mut dyn Transaction,
    environment_id: i64,
) -> Result<Vec<Segment>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM segment WHERE environment_id = $1 ORDER BY key");
    transaction.rows(&sql, &[environment_id.into()])?.iter_mut().map(from).collect()
}

pub(crate) fn find(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    key: &str,
) -> Result<Segment, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM segment WHERE environment_id = $1 AND key = $2");
    let row = transaction.row(&sql, &[environment.id.into(), key.into()])?;
    let not_found = || Problem::not_found(format!("the environment {:?} has no segment {key:?}", environment.path));
    row.map_or_else(|| Err(not_found()), |mut row| Ok(from(&mut row)?))
}

pub(crate) fn list(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    filter: &Filter,
) -> Result<Vec<Segment>, Problem> {
    let archived = if filter.archived { "IS NOT NULL" } else { "IS NULL" };
    let mut values: Vec<Value> = vec![environment.id.into(), filter.after.as_str().into(), filter.limit.into()];
    let mut search = String::new();
    for word in filter.search.split_whitespace() {
        values.push(like(&word.to_lowercase()).into());
        let text = "LOWER(key || ' ' || name || ' ' || description)";
        search.push_str(&format!(" AND {text} LIKE ${} ESCAPE '!'", values.len()));
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM segment WHERE environment_id = $1 AND key > $2 AND archived_ms {archived}{search} ORDER BY key LIMIT $3"
    );
    transaction.rows(&sql, &values)?.iter_mut().map(|row| Ok(from(row)?)).collect()
}

fn columns(segment: &Segment) -> Result<Vec<Value>, StoreError> {
    let text = |json: serde_json::Result<String>| json.map_err(|error| StoreError::Broken(error.to_string()));
    let condition = segment.body.condition.as_ref().map(ToString::to_string).unwrap_or_default();
    Ok(vec![
        segment.id.into(),
        segment.key.as_str().into(),
        if segment.kind == SegmentKind::Rule { "rule" } else { "list" }.into(),
        segment.body.name.as_str().into(),
        segment.body.description.as_str().into(),
        condition.into(),
        text(serde_json::to_string(&segment.list))?.into(),
        segment.archived_ms.into(),
        segment.created_ms.into(),
        segment.changed_ms.into(),
    ])
}

fn from(row: &mut Row) -> Result<Segment, StoreError> {
    let broken = |error: serde_json::Error| StoreError::Broken(format!("what is stored is not understood: {error}"));
    Ok(Segment {
        id: row.integer(0)?,
        key: row.text(1)?,
        kind: if row.text(2)? == "rule" { SegmentKind::Rule } else { SegmentKind::List },
        body: SegmentBody {
            name: row.text(3)?,
            description: row.text(4)?,
            condition: match row.text(5)?.as_str() {
                "" => None,
                text => Some(serde_json::from_str(text).map_err(broken)?),
            },
        },
        list: serde_json::from_str(&row.text(6)?).map_err(broken)?,
        archived_ms: row.optional_integer(7)?,
        created_ms: row.integer(8)?,
        changed_ms: row.integer(9)?,
        revision: row.integer(10)?,
    })
}
