//! Changes: all that happens to an environment's flags goes through [`commit`], one row of the log each.
//!
//! ```text
//! edits ──► the flags, and those that need them ──► compiled ──► definitions that are others now
//!                                                                 │
//!                     revision + 1, log, what hosts get: one transaction
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flags_sync::{Change, Stamp};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json, json};

use super::environment::Environment;
use super::segment::{self, SegmentEdit};
use super::{flag, loss};
use crate::clock::now_ms;
use crate::definition::{Configured, Known, Segments, check_metadata, definition};
use crate::model::{Config, escaped};
use crate::problem::Problem;
use crate::store::{News, StoreError, Transaction, Value};

/// Who changes something, and why.
#[derive(Clone, Debug)]
pub(crate) struct Author {
    pub(crate) actor: String,
    pub(crate) comment: String,
    /// They say that however many flags this takes away shall go.
    pub(crate) deliberate: bool,
}

/// What happens to a flag in an environment.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    pub(crate) before: Option<Configured>,
    pub(crate) after: Configured,
}

/// What a change does, all of it or nothing.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    pub(crate) flags: Vec<Edit>,
    pub(crate) segments: Vec<SegmentEdit>,
    /// What the environment's name becomes, where it may become something else: hosts are not told.
    pub(crate) name: Option<String>,
    /// What the flag set's metadata becomes, where it may become something else.
    pub(crate) metadata: Option<Map<String, Json>>,
    /// The environment's key is another one than that of the change before.
    pub(crate) is_rotation: bool,
    /// Nobody named the flags: what is wrong with one says of which, also where there is only one.
    pub(crate) names_flags: bool,
}

impl From<Vec<Edit>> for Edits {
    fn from(flags: Vec<Edit>) -> Self {
        Self { flags, ..Self::default() }
    }
}

/// A row of the log.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    pub(crate) revision: u64,
    pub(crate) epoch: u64,
    pub(crate) time_ms: i64,
    pub(crate) actor: String,
    pub(crate) action: String,
    pub(crate) comment: String,
    pub(crate) flags: Vec<EntryFlag>,
    /// The same of segments; of lists it says how many ids, and what names their content.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub(crate) segments: Vec<EntryFlag>,
    /// The same of the flag set's metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<EntryMetadata>,
    /// The same of the environment's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<EntryName>,
}

/// What a change did to the environment's name.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct EntryName {
    pub(crate) before: String,
    pub(crate) after: String,
}

/// What a change did to the flag set's metadata.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct EntryMetadata {
    pub(crate) before: Map<String, Json>,
    pub(crate) after: Map<String, Json>,
}

/// What a change did to one flag.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct EntryFlag {
    pub(crate) key: String,
    pub(crate) before: Json,
    pub(crate) after: Json,
}

/// Makes the edits, and whatever follows from them, the environment's next revision. The caller has locked the environment.
///
/// # Errors
/// Where one of the flags, or one that needs it, can't be compiled, nor the metadata.
pub(crate) fn commit(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    author: &Author,
    action: &str,
    edits: impl Into<Edits>,
) -> Result<u64, Problem> {
    let Edits { flags: edits, segments, name, metadata, is_rotation, names_flags } = edits.into();
    let name = name.filter(|name| *name != environment.name);
    let metadata = metadata.filter(|metadata| *metadata != environment.metadata);
    if let Some(metadata) = &metadata {
        check_metadata(metadata)?;
    }
    let deliberate = author.deliberate;
    let revision = environment.revision + 1;
    let number = integer(revision)?;
    let time_ms = now_ms();
    for edit in &edits {
        store(transaction, environment.id, edit, number)?;
    }
    let told = segment::store(transaction, environment.id, &segments, number)?;
    let mut changed: BTreeSet<String> = edits.iter().map(|edit| edit.after.flag.key.clone()).collect();
    changed.extend(told.flags);
    let sets = (loss::set_of(&environment.metadata), loss::set_of(metadata.as_ref().unwrap_or(&environment.metadata)));
    let names_flags = names_flags || changed.len() > 1;
    let Compiled { flags, removed, lost } = compile(transaction, environment.id, (changed, names_flags), sets)?;
    let evaluators =
        if told.rules_changed { Some(raw_members(segment::all(transaction, environment.id)?.rules)?) } else { None };
    let stamp = Stamp {
        environment: environment.path.clone(),
        epoch: environment.epoch,
        revision,
        time_ms: u64::try_from(time_ms).unwrap_or(0),
        lost: Some(environment.lost + if deliberate { 0 } else { lost }),
        mark: Some(draw_mark()?),
    };
    let (lost, mark) = (integer(stamp.lost.unwrap_or_default())?, integer(stamp.mark.unwrap_or_default())?);
    let (after, after_mark) = (environment.revision, environment.mark);
    let told_metadata = metadata.clone().map(raw_members).transpose()?;
    let change = Change {
        stamp,
        after,
        after_mark,
        deliberate,
        flags,
        removed,
        evaluators,
        lists: told.lists,
        metadata: told_metadata,
    };
    let text: Arc<str> = change.seal(&environment.secret()).into();
    let values = [
        environment.id.into(),
        number.into(),
        integer(environment.epoch)?.into(),
        time_ms.into(),
        author.actor.as_str().into(),
        action.into(),
        author.comment.as_str().into(),
        text.as_ref().into(),
        metadata.as_ref().map(|_| json!(environment.metadata).to_string()).into(),
        metadata.as_ref().map(|after| json!(after).to_string()).into(),
        name.as_ref().map(|_| environment.name.clone()).into(),
        name.clone().into(),
    ];
    let sql = "INSERT INTO change (environment_id, revision, epoch, time_ms, actor, action, comment, text, \
               metadata_before, metadata_after, name_before, name_after) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    transaction.execute(sql, &values)?;
    for Edit { before, after } in &edits {
        let values = [
            environment.id.into(),
            number.into(),
            after.flag.key.as_str().into(),
            before.as_ref().map(|configured| shown(configured).to_string()).into(),
            shown(after).to_string().into(),
        ];
        let sql =
            "INSERT INTO change_flag (environment_id, revision, flag_key, before, after) VALUES ($1, $2, $3, $4, $5)";
        transaction.execute(sql, &values)?;
    }
    segment::log(transaction, environment.id, &segments, number)?;
    let values = [number.into(), lost.into(), mark.into(), environment.id.into()];
    transaction.execute("UPDATE environment SET revision = $1, lost = $2, mark = $3 WHERE id = $4", &values)?;
    if let Some(metadata) = metadata {
        let values = [json!(metadata).to_string().into(), environment.id.into()];
        transaction.execute("UPDATE environment SET metadata = $1 WHERE id = $2", &values)?;
    }
    if let Some(name) = name {
        transaction.execute("UPDATE environment SET name = $1 WHERE id = $2", &[name.into(), environment.id.into()])?;
    }
    let id = environment.id;
    // Another key is read from the database.
    let news = if is_rotation { News::Environment(id) } else { News::Change { environment: id, revision, text } };
    transaction.notify(news)?;
    Ok(revision)
}

/// What tells this state from any other that comes to have its number.
fn draw_mark() -> Result<u64, StoreError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Broken(format!("no random bytes: {error}")))?;
    // Below 2^53: a number to whoever reads JSON.
    Ok(u64::from_le_bytes(bytes) >> 11)
}

/// A flag as the log keeps it: what it is, and what it does here.
fn shown(configured: &Configured) -> Json {
    let Configured { flag, config } = configured;
    json!({"flag": flag.body, "archived": flag.archived_ms.is_some(), "config": config})
}

/// Writes a configuration; its definition comes later.
fn store(transaction: &mut dyn Transaction, environment_id: i64, edit: &Edit, revision: i64) -> Result<(), Problem> {
    let Configured { flag, config } = &edit.after;
    let text = serde_json::to_string(config).map_err(|error| StoreError::Broken(error.to_string()))?;
    let values = [environment_id.into(), flag.id.into(), text.into(), revision.into()];
    let sql = "INSERT INTO flag_config (environment_id, flag_id, config, definition, revision) VALUES ($1, $2, $3, '', $4) \
               ON CONFLICT (environment_id, flag_id) DO UPDATE SET config = excluded.config, revision = excluded.revision";
    transaction.execute(sql, &values)?;
    if edit.before.as_ref().is_some_and(|before| !before.config.prerequisites.is_empty()) {
        let ids = [environment_id.into(), flag.id.into()];
        transaction.execute("DELETE FROM prerequisite WHERE environment_id = $1 AND flag_id = $2", &ids)?;
    }
    let needed: BTreeSet<&str> = config.prerequisites.iter().map(|prerequisite| prerequisite.flag.as_str()).collect();
    for key in needed {
        // One that names no flag is found out by compiling.
        let sql = "INSERT INTO prerequisite (environment_id, flag_id, needs_id) SELECT $1, $2, id FROM flag \
                   WHERE project_id = (SELECT project_id FROM flag WHERE id = $2) AND key = $3";
        transaction.execute(sql, &[environment_id.into(), flag.id.into(), key.into()])?;
    }
    let uses = edit.after.refers_to();
    if uses != edit.before.as_ref().map(Configured::refers_to).unwrap_or_default() {
        segment::note_uses(transaction, environment_id, "flag", &flag.key, &uses)?;
    }
    Ok(())
}

type Definitions = BTreeMap<String, Box<RawValue>>;

/// What edits come to for hosts.
struct Compiled {
    /// Other definitions than before.
    flags: Definitions,
    /// Keys of what is none any more.
    removed: Vec<String>,
    /// How many flags hosts see go.
    lost: u64,
}

/// How many bytes the definitions may have that one change brings of flags which only need what it changes: all of them are in memory at once.
const MOST_BYTES_BESIDE: usize = 64 << 20;

/// Definitions of flags that only need what a change changes, bytes.
#[derive(Debug, Default)]
struct Beside(usize);

impl Beside {
    /// # Errors
    /// Where they are too much with so many more.
    fn add(&mut self, bytes: usize) -> Result<(), Problem> {
        self.0 += bytes;
        if self.0 <= MOST_BYTES_BESIDE {
            return Ok(());
        }
        let detail = format!("the flags that need this come to more than {MOST_BYTES_BESIDE} bytes");
        Err(Problem::invalid("", detail))
    }
}

/// Compiles flags and all that need them. `names_flags`: what is wrong with one says of which. `sets`: the flag set that flags are in before and after it, unless they name another.
fn compile(
    transaction: &mut dyn Transaction,
    environment_id: i64,
    (changed, names_flags): (BTreeSet<String>, bool),
    sets: (Option<&str>, Option<&str>),
) -> Result<Compiled, Problem> {
    let Neighbours { known, to_compile, mut published } = neighbours(transaction, environment_id, &changed)?;
    let segments = if known.values().any(|configured| !configured.refers_to().is_empty()) {
        segment::all(transaction, environment_id)?
    } else {
        Segments::default()
    };
    let (mut flags, mut removed, mut lost) = (Definitions::new(), Vec::new(), 0);
    let mut beside = Beside::default();
    for key in to_compile {
        let Some(configured) = known.get(&key) else { continue };
        let text = if configured.flag.archived_ms.is_some() {
            String::new()
        } else {
            definition(&key, &known, &segments).map_err(|problem| about(problem, &key, (&changed, names_flags)))?
        };
        let before = published.remove(&key).unwrap_or_default();
        if before == text {
            continue;
        }
        if !changed.contains(&key) {
            beside.add(text.len())?;
        }
        lost += u64::from(loss::is_loss((&before, sets.0), (&text, sets.1)));
        let values = [text.as_str().into(), environment_id.into(), configured.flag.id.into()];
        let sql = "UPDATE flag_config SET definition = $1 WHERE environment_id = $2 AND flag_id = $3";
        transaction.execute(sql, &values)?;
        if text.is_empty() {
            removed.push(key);
        } else {
            flags.insert(key, raw(text)?);
        }
    }
    if sets.0 != sets.1 {
        let others = definitions(transaction, environment_id)?.into_iter().filter(|(key, _)| !flags.contains_key(key));
        lost += others.filter(|(_, flag)| loss::is_loss((flag.get(), sets.0), (flag.get(), sets.1))).count() as u64;
    }
    Ok(Compiled { flags, removed, lost })
}

/// A problem of a flag that only needs a changed one is told as the changed one's. Of several changed ones, it says of which.
fn about(problem: Problem, key: &str, (changed, names_flags): (&BTreeSet<String>, bool)) -> Problem {
    if changed.contains(key) {
        return if names_flags { problem.within(&format!("/flags/{}", escaped(key))) } else { problem };
    }
    let this = if names_flags { "one of these" } else { "this one" };
    Problem::conflict(format!(
        "the flag {key:?}, which needs {this}, could not be compiled any more: {}",
        problem.detail()
    ))
}

/// Flags that have to do with each other.
struct Neighbours {
    known: Known,
    to_compile: Vec<String>,
    /// What hosts have of each.
    published: BTreeMap<String, String>,
}

/// The flags of `keys`, those that need them, and what all these need; of which the first two kinds are to be compiled.
fn neighbours(
    transaction: &mut dyn Transaction,
    environment_id: i64,
    keys: &BTreeSet<String>,
) -> Result<Neighbours, Problem> {
    let (mut known, mut published) = (Known::new(), BTreeMap::new());
    let mut to_compile = Vec::new();
    let mut waiting: Vec<String> = keys.iter().cloned().collect();
    let mut seen: BTreeSet<String> = keys.clone();
    // Up: who needs them.
    while let Some(key) = waiting.pop() {
        let sql = "SELECT dependent.key FROM prerequisite JOIN flag AS dependent ON dependent.id = flag_id \
                   WHERE environment_id = $1 AND needs_id = (SELECT id FROM flag WHERE key = $2 AND \
                   project_id = (SELECT project_id FROM environment WHERE id = $1))";
        for mut row in transaction.rows(sql, &[environment_id.into(), key.as_str().into()])? {
            let dependent = row.text(0)?;
            if seen.insert(dependent.clone()) {
                waiting.push(dependent);
            }
        }
        to_compile.push(key);
    }
    // Down: what they need.
    let mut waiting = to_compile.clone();
    while let Some(key) = waiting.pop() {
        if known.contains_key(&key) {
            continue;
        }
        let Some((configured, definition)) = flag::published(transaction, environment_id, &key)? else { continue };
        waiting.extend(configured.config.prerequisites.iter().map(|needed| needed.flag.clone()));
        published.insert(key.clone(), definition);
        known.insert(key, configured);
    }
    Ok(Neighbours { known, to_compile, published })
}

/// Whether a flag could be configured so, with those that it needs as they are.
///
/// # Errors
/// What is wrong with the configuration.
pub(crate) fn check(
    transaction: &mut dyn Transaction,
    environment_id: i64,
    configured: Configured,
) -> Result<(), Problem> {
    let key = configured.flag.key.clone();
    let mut waiting: Vec<String> = configured.config.prerequisites.iter().map(|needed| needed.flag.clone()).collect();
    let mut known = Known::from([(key.clone(), configured)]);
    while let Some(needed) = waiting.pop() {
        if known.contains_key(&needed) {
            continue;
        }
        let Some(found) = flag::configured(transaction, environment_id, &needed)? else { continue };
        waiting.extend(found.config.prerequisites.iter().map(|needed| needed.flag.clone()));
        known.insert(needed, found);
    }
    let segments = segment::all(transaction, environment_id)?;
    definition(&key, &known, &segments).map(drop)
}

/// The configuration of a flag, and the revision that it was last changed by.
pub(crate) fn config(
    transaction: &mut dyn Transaction,
    environment_id: i64,
    flag_id: i64,
) -> Result<Option<(Config, i64)>, StoreError> {
    let sql = "SELECT config, revision FROM flag_config WHERE environment_id = $1 AND flag_id = $2";
    let Some(mut row) = transaction.row(sql, &[environment_id.into(), flag_id.into()])? else { return Ok(None) };
    let config = serde_json::from_str(&row.text(0)?).map_err(|error| StoreError::Broken(error.to_string()))?;
    Ok(Some((config, row.integer(1)?)))
}

/// All definitions of an environment.
pub(crate) fn definitions(transaction: &mut dyn Transaction, environment_id: i64) -> Result<Definitions, StoreError> {
    let sql = "SELECT key, definition FROM flag_config JOIN flag ON flag.id = flag_id \
               WHERE environment_id = $1 AND definition <> ''";
    let mut definitions = Definitions::new();
    for mut row in transaction.rows(sql, &[environment_id.into()])? {
        definitions.insert(row.text(0)?, raw(row.text(1)?)?);
    }
    Ok(definitions)
}

/// Members as hosts get them: the rules that flags of an environment share, or its metadata.
pub(crate) fn raw_members(members: impl IntoIterator<Item = (String, Json)>) -> Result<Definitions, StoreError> {
    members.into_iter().map(|(name, value)| Ok((name, raw(value.to_string())?))).collect()
}

/// The texts of at most `limit` changes after a revision, in order.
pub(crate) fn texts(
    transaction: &mut dyn Transaction,
    environment_id: i64,
    after: u64,
    limit: usize,
) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT text FROM change WHERE environment_id = $1 AND revision > $2 ORDER BY revision LIMIT $3";
    let rows =
        transaction.rows(sql, &[environment_id.into(), integer(after)?.into(), integer(limit as u64)?.into()])?;
    rows.into_iter().map(|mut row| row.text(0)).collect()
}

/// The same, where they go on from a revision of an epoch, and all of them are of the key that signed that; `None` where there is another epoch or
/// key since.
pub(crate) fn texts_on_from(
    transaction: &mut dyn Transaction,
    environment_id: i64,
    (epoch, revision): (u64, u64),
    limit: usize,
) -> Result<Option<Vec<String>>, StoreError> {
    let sql = "SELECT epoch, key_since FROM environment WHERE id = $1";
    let Some(mut row) = transaction.row(sql, &[environment_id.into()])? else { return Ok(Some(Vec::new())) };
    if row.count(0)? != epoch || row.count(1)? > revision {
        return Ok(None);
    }
    texts(transaction, environment_id, revision, limit).map(Some)
}

/// The texts of an epoch's latest changes that the current key has signed, in order: at most so many, and so many bytes.
pub(crate) fn latest_texts(
    transaction: &mut dyn Transaction,
    environment_id: i64,
    epoch: u64,
    (most, most_bytes): (usize, usize),
) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT revision, LENGTH(text) FROM change WHERE environment_id = $1 AND epoch = $2 \
               AND revision >= (SELECT key_since FROM environment WHERE id = $1) ORDER BY revision DESC LIMIT $3";
    let values = [environment_id.into(), integer(epoch)?.into(), integer(most as u64)?.into()];
    let (mut after, mut bytes) = (None, 0);
    // One may be as long as all flags of the environment, so lengths are asked for first.
    for mut row in transaction.rows(sql, &values)? {
        let (revision, length) = (row.count(0)?, row.count(1)?);
        bytes += usize::try_from(length).unwrap_or(usize::MAX);
        if bytes > most_bytes {
            break;
        }
        after = revision.checked_sub(1);
    }
    after.map_or(Ok(Vec::new()), |after| texts(transaction, environment_id, after, most))
}

/// At most `limit` entries of the log before a revision, the newest first; of one flag, where one is named.
pub(crate) fn log(
    transaction: &mut dyn Transaction,
    environment_id: i64,
    flag_key: Option<&str>,
    before: i64,
    limit: i64,
) -> Result<Vec<Entry>, Problem> {
    let mut values: Vec<Value> = vec![before.into(), limit.into()];
    let mut condition = "revision < $2".to_owned();
    if let Some(key) = flag_key {
        values.push(key.into());
        condition.push_str(
            " AND revision IN (SELECT revision FROM change_flag WHERE environment_id = $1 AND flag_key = $4)",
        );
    }
    condition.push_str(" ORDER BY revision DESC LIMIT $3");
    entries(transaction, environment_id, &condition, &values)
}

/// Entries of an environment's log, with what they did to flags. `more` are the values of `condition`, from `$2`.
pub(super) fn entries(
    transaction: &mut dyn Transaction,
    environment_id: i64,
    condition: &str,
    more: &[Value],
) -> Result<Vec<Entry>, Problem> {
    let sql = format!(
        "SELECT revision, epoch, time_ms, actor, action, comment, metadata_before, metadata_after, name_before, name_after \
         FROM change WHERE environment_id = $1 AND {condition}"
    );
    let values: Vec<Value> = std::iter::once(environment_id.into()).chain(more.iter().cloned()).collect();
    let mut entries = Vec::new();
    for mut row in transaction.rows(&sql, &values)? {
        entries.push(Entry {
            revision: row.count(0)?,
            epoch: row.count(1)?,
            time_ms: row.integer(2)?,
            actor: row.text(3)?,
            action: row.text(4)?,
            comment: row.text(5)?,
            flags: Vec::new(),
            segments: Vec::new(),
            metadata: match (row.optional_text(6)?, row.optional_text(7)?) {
                (Some(before), Some(after)) => {
                    Some(EntryMetadata { before: members(&before)?, after: members(&after)? })
                }
                _ => None,
            },
            name: match (row.optional_text(8)?, row.optional_text(9)?) {
                (Some(before), Some(after)) => Some(EntryName { before, after }),
                _ => None,
            },
        });
    }
    for entry in &mut entries {
        let sql = "SELECT flag_key, before, after FROM change_flag WHERE environment_id = $1 AND revision = $2 ORDER BY flag_key";
        for row in transaction.rows(sql, &[environment_id.into(), integer(entry.revision)?.into()])? {
            entry.flags.push(entry_flag(row)?);
        }
        let sql = "SELECT segment_key, before, after FROM change_segment WHERE environment_id = $1 AND revision = $2 ORDER BY segment_key";
        for row in transaction.rows(sql, &[environment_id.into(), integer(entry.revision)?.into()])? {
            entry.segments.push(entry_flag(row)?);
        }
    }
    Ok(entries)
}

/// How flags were after a revision, for those that have changed since: what the first change after it found.
pub(crate) fn as_of(
    transaction: &mut dyn Transaction,
    environment_id: i64,
    revision: u64,
) -> Result<Vec<EntryFlag>, Problem> {
    first_since(transaction, "flag", environment_id, revision)
}

/// The same of segments.
pub(crate) fn segments_as_of(
    transaction: &mut dyn Transaction,
    environment_id: i64,
    revision: u64,
) -> Result<Vec<EntryFlag>, Problem> {
    first_since(transaction, "segment", environment_id, revision)
}

/// `kind`: `flag` or `segment`.
fn first_since(
    transaction: &mut dyn Transaction,
    kind: &str,
    environment_id: i64,
    revision: u64,
) -> Result<Vec<EntryFlag>, Problem> {
    let sql = format!(
        "SELECT first.{kind}_key, before, after FROM \
         (SELECT {kind}_key, MIN(revision) AS low FROM change_{kind} WHERE environment_id = $1 AND revision > $2 GROUP BY {kind}_key) AS touched \
         JOIN change_{kind} AS first ON environment_id = $1 AND revision = low AND first.{kind}_key = touched.{kind}_key \
         ORDER BY first.{kind}_key"
    );
    let rows = transaction.rows(&sql, &[environment_id.into(), integer(revision)?.into()])?;
    rows.into_iter().map(|row| Ok(entry_flag(row)?)).collect()
}

/// The flag set's metadata after a revision, where it has changed since.
pub(crate) fn metadata_as_of(
    transaction: &mut dyn Transaction,
    environment_id: i64,
    revision: u64,
) -> Result<Option<Map<String, Json>>, StoreError> {
    let sql = "SELECT metadata_before FROM change WHERE environment_id = $1 AND revision > $2 \
               AND metadata_before IS NOT NULL ORDER BY revision LIMIT 1";
    let row = transaction.row(sql, &[environment_id.into(), integer(revision)?.into()])?;
    row.map(|mut row| members(&row.text(0)?)).transpose()
}

/// Members out of their text.
pub(super) fn members(text: &str) -> Result<Map<String, Json>, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Broken(error.to_string()))
}

pub(super) fn entry_flag(mut row: crate::store::Row) -> Result<EntryFlag, StoreError> {
    let json = |text: Option<String>| match text {
        Some(text) => serde_json::from_str(&text).map_err(|error| StoreError::Broken(error.to_string())),
        None => Ok(Json::Null),
    };
    let key = row.text(0)?;
    Ok(EntryFlag { key, before: json(row.optional_text(1)?)?, after: json(row.optional_text(2)?)? })
}

fn raw(text: String) -> Result<Box<RawValue>, StoreError> {
    RawValue::from_string(text).map_err(|error| StoreError::Broken(error.to_string()))
}

pub(crate) fn integer(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Broken(format!("{number} is too large")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_change_brings_with_it_is_bounded() {
        let mut beside = Beside::default();
        assert!(beside.add(MOST_BYTES_BESIDE - 1).is_ok() && beside.add(1).is_ok());
        assert_eq!(beside.add(1).expect_err("too much").status().as_u16(), 422);
    }
}
