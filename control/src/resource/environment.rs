//! Environments of a project: what hosts follow, each with revisions and a key of its own.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use flags_sync::{SecretKey, Stamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::change::{Author, Edit, Edits};
use super::project::{self, Project};
use super::{Filter, change, flag, schedule, segment, signing_key};
use crate::clock::now_ms;
use crate::definition::Configured;
use crate::model::{Config, check_key, check_text};
use crate::problem::Problem;
use crate::store::{News, Row, StoreError, Transaction, Value};

/// An environment.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    pub(crate) id: i64,
    pub(crate) project_id: i64,
    /// `project/environment`.
    pub(crate) path: String,
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) epoch: u64,
    pub(crate) revision: u64,
    /// See [`Stamp::lost`](flags_sync::Stamp::lost).
    pub(crate) lost: u64,
    /// See [`Stamp::mark`](flags_sync::Stamp::mark).
    pub(crate) mark: Option<u64>,
    pub(crate) created_ms: i64,
    /// The first revision that the log still has.
    pub(crate) log_begins: u64,
    /// Of the flag set.
    pub(crate) metadata: Map<String, Json>,
    pub(crate) archived_ms: Option<i64>,
    /// When its project was archived.
    pub(super) project_archived_ms: Option<i64>,
    /// Of the key that signs what hosts get.
    pub(super) seed: Seed,
    /// Of the one that is to be rotated to.
    pub(super) next_seed: Option<Seed>,
    /// The seed that it was made with: it is the same environment in every backup.
    pub(super) origin: Vec<u8>,
}

/// What an Ed25519 key is made from: 32 random bytes.
pub(crate) type Seed = [u8; 32];

/// What is told of an environment whose database a backup replaces.
#[derive(Debug)]
pub(crate) struct Replaced {
    pub(crate) epoch: u64,
    pub(crate) seed: Vec<u8>,
    pub(crate) next_seed: Option<Vec<u8>>,
}

/// Where an environment stands in the database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) id: i64,
    pub(crate) epoch: u64,
    pub(crate) revision: u64,
    pub(crate) mark: Option<u64>,
}

impl Standing {
    /// The state that the database has, against the one that is served.
    pub(crate) fn against(&self, served: &Stamp) -> Ordering {
        let is_other = self.mark.zip(served.mark).is_some_and(|(one, other)| one != other);
        match (self.epoch, self.revision).cmp(&served.position()) {
            // By the same number somebody has made another change.
            Ordering::Equal if is_other => Ordering::Less,
            order => order,
        }
    }
}

/// An environment as the API shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Environment")]
pub(crate) struct EnvironmentView {
    key: String,
    name: String,
    epoch: u64,
    revision: u64,
    /// What hosts check its snapshots with.
    public_key: String,
    /// The same once it is rotated to: hosts are told both until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_public_key: Option<String>,
    /// The first revision that the log still has.
    log_begins: u64,
    created_ms: i64,
    /// Nothing in it can be changed; hosts have its flags. Of an archived project all are so, whatever this says.
    archived: bool,
    /// Of the flag set: programs get it with each answer, below the flag's own.
    metadata: Map<String, Json>,
}

/// What of an environment can be changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EnvironmentBody {
    /// For people.
    pub(crate) name: String,
    /// Of the flag set, texts, numbers and booleans by name: programs get it with each answer, below the flag's own.
    pub(crate) metadata: Map<String, Json>,
}

/// What an environment is made from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewEnvironment {
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) name: String,
    /// The environment of the same project whose configurations it begins with; absent: every flag is disabled.
    #[serde(default)]
    pub(crate) clone_of: Option<String>,
}

const QUERY: &str = "SELECT environment.id, project_id, project.key || '/' || environment.key, environment.key, \
     environment.name, epoch, revision, environment.created_ms, seed, log_begins, lost, metadata, mark, \
     environment.archived_ms, project_archived_ms, next_seed, origin \
     FROM environment JOIN project ON project.id = project_id";

impl Environment {
    pub(crate) fn secret(&self) -> SecretKey {
        SecretKey::from_seed(&self.seed)
    }

    pub(crate) fn view(&self) -> EnvironmentView {
        EnvironmentView {
            key: self.key.clone(),
            name: self.name.clone(),
            epoch: self.epoch,
            revision: self.revision,
            public_key: self.secret().public().to_string(),
            next_public_key: self.next_seed.map(|seed| SecretKey::from_seed(&seed).public().to_string()),
            log_begins: self.log_begins,
            created_ms: self.created_ms,
            archived: self.archived_ms.is_some(),
            metadata: self.metadata.clone(),
        }
    }

    /// # Errors
    /// 409 where its project is archived.
    pub(crate) fn project_must_be_open(&self) -> Result<(), Problem> {
        // No key has a slash in it.
        let project = self.path.split('/').next().unwrap_or_default();
        project::must_be_open(project, self.project_archived_ms)
    }

    pub(crate) fn body(&self) -> EnvironmentBody {
        EnvironmentBody { name: self.name.clone(), metadata: self.metadata.clone() }
    }

    /// # Errors
    /// 409 where it is archived, or its project is.
    pub(crate) fn must_be_open(&self) -> Result<(), Problem> {
        self.project_must_be_open()?;
        self.archived_ms.map_or(Ok(()), |_| Err(Problem::archived(&format!("environment {:?}", self.path))))
    }
}

pub(crate) fn create(
    transaction: &mut dyn Transaction,
    project: &Project,
    new: &NewEnvironment,
    author: &Author,
) -> Result<Environment, Problem> {
    check_key(&new.key, "/key")?;
    check_text(&new.name, "/name")?;
    // Flags are made in all environments: none while one of them comes.
    lock_all(transaction, project)?;
    let model = match &new.clone_of {
        Some(key) => Some(find(transaction, project, key)?),
        None => None,
    };
    let seed = fresh_seed()?;
    let environment = Environment {
        id: transaction.new_id()?,
        project_id: project.id,
        path: format!("{}/{}", project.key, new.key),
        key: new.key.clone(),
        name: new.name.clone(),
        epoch: 1,
        revision: 0,
        lost: 0,
        mark: None,
        created_ms: now_ms(),
        log_begins: 1,
        metadata: Map::new(),
        archived_ms: None,
        project_archived_ms: None,
        seed,
        next_seed: None,
        origin: seed.to_vec(),
    };
    let values = [
        environment.id.into(),
        environment.project_id.into(),
        environment.key.as_str().into(),
        environment.name.as_str().into(),
        1.into(),
        0.into(),
        seed.as_slice().into(),
        environment.created_ms.into(),
    ];
    let sql = "INSERT INTO environment (id, project_id, key, name, epoch, revision, seed, origin, created_ms) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)";
    transaction.execute(sql, &values).map_err(|error| match error {
        StoreError::Taken => Problem::conflict(format!("there is an environment {:?} already", new.key)),
        error => error.into(),
    })?;
    let flags = first_edits(transaction, project, model.as_ref())?;
    let segments = match &model {
        Some(model) => segment::copies(transaction, model)?,
        None => Vec::new(),
    };
    let metadata = model.as_ref().map(|model| model.metadata.clone());
    let edits = Edits { flags, segments, metadata, ..Edits::default() };
    change::commit(transaction, &environment, author, "environment.create", edits)?;
    if let Some(model) = &model {
        segment::share_parts(transaction, model, &environment)?;
    }
    transaction.notify(News::Environment(environment.id))?;
    find(transaction, project, &environment.key)
}

/// Gives an environment, which the caller has locked, another body.
pub(crate) fn update(
    transaction: &mut dyn Transaction,
    project: &Project,
    environment: &Environment,
    body: EnvironmentBody,
    author: &Author,
) -> Result<Environment, Problem> {
    if body == environment.body() {
        return Ok(environment.clone());
    }
    let EnvironmentBody { name, metadata } = body;
    check_text(&name, "/name")?;
    // Another name is a revision too, though hosts learn nothing by it but its number: the log says who gave it, and `If-Match` notices.
    let edits = Edits { name: Some(name), metadata: Some(metadata), ..Edits::default() };
    change::commit(transaction, environment, author, "environment.update", edits)?;
    find(transaction, project, &environment.key)
}

/// Closes an environment, which the caller has locked: nothing in it is changed until it is restored, and hosts go on with what they have. What is
/// changed of flags in all environments reaches it all the same, so that it is whole when it comes back.
pub(crate) fn archive(
    transaction: &mut dyn Transaction,
    project: &Project,
    environment: &Environment,
    author: &Author,
) -> Result<Environment, Problem> {
    if environment.archived_ms.is_some() {
        return Ok(environment.clone());
    }
    set_archived(transaction, project, environment, Some(now_ms()), author, "environment.archive")
}

/// Opens it again.
pub(crate) fn restore(
    transaction: &mut dyn Transaction,
    project: &Project,
    environment: &Environment,
    author: &Author,
) -> Result<Environment, Problem> {
    if environment.archived_ms.is_none() {
        return Ok(environment.clone());
    }
    set_archived(transaction, project, environment, None, author, "environment.restore")
}

fn set_archived(
    transaction: &mut dyn Transaction,
    project: &Project,
    environment: &Environment,
    archived_ms: Option<i64>,
    author: &Author,
    action: &str,
) -> Result<Environment, Problem> {
    let sql = "UPDATE environment SET archived_ms = $2 WHERE id = $1";
    transaction.execute(sql, &[environment.id.into(), archived_ms.into()])?;
    change::commit(transaction, environment, author, action, Edits::default())?;
    find(transaction, project, &environment.key)
}

/// A configuration for each flag.
fn first_edits(
    transaction: &mut dyn Transaction,
    project: &Project,
    model: Option<&Environment>,
) -> Result<Vec<Edit>, Problem> {
    let mut edits = Vec::new();
    for flag in flag::all(transaction, project.id)? {
        let config = match model {
            Some(model) => change::config(transaction, model.id, flag.id)?.map(|(config, _)| config),
            None => None,
        };
        let config: Config = config.unwrap_or_else(|| flag.body.first_config());
        edits.push(Edit { before: None, after: Configured { flag, config } });
    }
    Ok(edits)
}

pub(crate) fn find(transaction: &mut dyn Transaction, project: &Project, key: &str) -> Result<Environment, Problem> {
    find_with(transaction, project, key, "")
}

/// The same, and nobody else changes it until this transaction ends.
pub(crate) fn lock(transaction: &mut dyn Transaction, project: &Project, key: &str) -> Result<Environment, Problem> {
    let locks = transaction.for_update_of("environment");
    find_with(transaction, project, key, &locks)
}

fn find_with(
    transaction: &mut dyn Transaction,
    project: &Project,
    key: &str,
    locks: &str,
) -> Result<Environment, Problem> {
    let sql = format!("{QUERY} WHERE project_id = $1 AND environment.key = $2{locks}");
    let row = transaction.row(&sql, &[project.id.into(), key.into()])?;
    row.map_or_else(|| Err(not_found(project, key)), |row| Ok(from(row)?))
}

/// The project has no such environment, or none that whoever asks may know of.
pub(crate) fn not_found(project: &Project, key: &str) -> Problem {
    Problem::not_found(format!("the project {:?} has no environment {key:?}", project.key))
}

/// All of the project, archived ones too, to change something in each. The project is locked before them.
///
/// # Errors
/// 409 where the project is archived.
pub(crate) fn lock_all(transaction: &mut dyn Transaction, project: &Project) -> Result<Vec<Environment>, Problem> {
    // The project's row: there may be no environment yet, and it may be archived since it was found.
    project::lock(transaction, &project.key)?.must_be_open()?;
    lock_those_of(transaction, project)
}

/// All of a project that the caller has locked, in the order in which everybody locks them.
pub(super) fn lock_those_of(transaction: &mut dyn Transaction, project: &Project) -> Result<Vec<Environment>, Problem> {
    let locks = transaction.for_update();
    let sql = format!("SELECT id FROM environment WHERE project_id = $1 ORDER BY id{locks}");
    transaction.rows(&sql, &[project.id.into()])?;
    let sql = format!("{QUERY} WHERE project_id = $1 ORDER BY environment.id");
    transaction.rows(&sql, &[project.id.into()])?.into_iter().map(|row| Ok(from(row)?)).collect()
}

/// Sorted by key.
pub(crate) fn list(
    transaction: &mut dyn Transaction,
    project: &Project,
    filter: &Filter,
) -> Result<Vec<Environment>, Problem> {
    let archived = if filter.archived { "IS NOT NULL" } else { "IS NULL" };
    let mut values = vec![project.id.into(), filter.after.as_str().into(), filter.limit.into()];
    let which = if filter.only.is_some() { " AND environment.id = $4" } else { "" };
    values.extend(filter.only.map(Value::from));
    let sql = format!(
        "{QUERY} WHERE project_id = $1 AND environment.key > $2 AND environment.archived_ms {archived}{which} \
         ORDER BY environment.key LIMIT $3"
    );
    transaction.rows(&sql, &values)?.into_iter().map(|row| Ok(from(row)?)).collect()
}

/// Begins a new epoch of every environment, after an older state was restored: hosts take it then, although its revisions are lower.
///
/// `replaced` is what was there, by the seed that an environment was made with. One that is not among them may have been restored any number of
/// times: its epoch becomes the time in seconds, which is above whatever was counted. One that is keeps the keys that it had there, which hosts are
/// told now, though the older state may be from before a rotation.
///
/// Returns path, epoch and revision of each.
pub(crate) fn begin_epoch(
    transaction: &mut dyn Transaction,
    replaced: &BTreeMap<Vec<u8>, Replaced>,
) -> Result<Vec<(String, u64, u64)>, Problem> {
    let author = Author { actor: "flags-control restore".to_owned(), comment: String::new(), deliberate: false };
    let now_s = u64::try_from(now_ms() / 1_000).unwrap_or(0);
    // Answers to requests that have not happened any more.
    transaction.execute("DELETE FROM idempotency", &[])?;
    // Who scheduled a change did so for another state; whether it has happened already nobody knows.
    schedule::cancel_all(transaction, now_ms())?;
    let mut begun = Vec::new();
    for id in ids(transaction)? {
        let Some(found) = with_id(transaction, id)? else { continue };
        let before = replaced.get(&found.origin);
        let (path, epoch) = (found.path.clone(), found.epoch.max(before.map_or(now_s, |before| before.epoch)) + 1);
        let found = match before {
            None => found,
            Some(before) => Environment {
                seed: seed_of(before.seed.clone())?,
                next_seed: before.next_seed.clone().map(seed_of).transpose()?,
                ..found
            },
        };
        let revision = enter_epoch(transaction, found, epoch, &author, "backup.restore")?;
        begun.push((path, epoch, revision));
    }
    Ok(begun)
}

/// Begins a new epoch of an environment where the database is behind `served`, which hosts have: beyond the epoch of either, and
/// with the key that they were served with.
///
/// Returns its epoch and revision, and nothing where it is not behind any more.
pub(crate) fn go_beyond(
    transaction: &mut dyn Transaction,
    id: i64,
    served: &Stamp,
    seed: Seed,
) -> Result<Option<(u64, u64)>, Problem> {
    let locks = transaction.for_update_of("environment");
    let row = transaction.row(&format!("{QUERY} WHERE environment.id = $1{locks}"), &[id.into()])?;
    let Some(found) = row.map(from).transpose()? else { return Ok(None) };
    let Environment { epoch, revision, mark, .. } = found;
    if (Standing { id, epoch, revision, mark }).against(served) != Ordering::Less {
        return Ok(None);
    }
    let comment = format!("the database had lost what led to revision {}.{}", served.epoch, served.revision);
    let author = Author { actor: "flags-control".to_owned(), comment, deliberate: false };
    let epoch = found.epoch.max(served.epoch) + 1;
    // A rotation may be among what is lost.
    let next_seed = found.next_seed.filter(|next| *next != seed);
    let found = Environment { seed, next_seed, ..found };
    let revision = enter_epoch(transaction, found, epoch, &author, "environment.epoch")?;
    Ok(Some((epoch, revision)))
}

/// The first revision of an environment's epoch.
fn enter_epoch(
    transaction: &mut dyn Transaction,
    found: Environment,
    epoch: u64,
    author: &Author,
    action: &str,
) -> Result<u64, Problem> {
    let environment = Environment { epoch, ..found };
    let values = [change::integer(epoch)?.into(), environment.id.into()];
    transaction.execute("UPDATE environment SET epoch = $1 WHERE id = $2", &values)?;
    let revision = change::commit(transaction, &environment, author, action, Edits::default())?;
    // Its keys may be others than the database had. Texts of the epoch before are nothing to resume from anyway.
    signing_key::set_key(transaction, &environment, revision)?;
    Ok(revision)
}

/// Where each stands, of all projects.
pub(crate) fn standings(transaction: &mut dyn Transaction) -> Result<Vec<Standing>, StoreError> {
    let rows = transaction.rows("SELECT id, epoch, revision, mark FROM environment", &[])?;
    let standing = |mut row: Row| {
        let (id, epoch, revision) = (row.integer(0)?, row.count(1)?, row.count(2)?);
        Ok(Standing { id, epoch, revision, mark: mark_of(row.optional_integer(3)?) })
    };
    rows.into_iter().map(standing).collect()
}

fn mark_of(stored: Option<i64>) -> Option<u64> {
    stored.and_then(|mark| mark.try_into().ok())
}

/// Of all projects.
pub(crate) fn ids(transaction: &mut dyn Transaction) -> Result<Vec<i64>, StoreError> {
    transaction.rows("SELECT id FROM environment ORDER BY id", &[])?.iter_mut().map(|row| row.integer(0)).collect()
}

pub(crate) fn with_id(transaction: &mut dyn Transaction, id: i64) -> Result<Option<Environment>, StoreError> {
    transaction.row(&format!("{QUERY} WHERE environment.id = $1"), &[id.into()])?.map(from).transpose()
}

fn from(mut row: Row) -> Result<Environment, StoreError> {
    Ok(Environment {
        id: row.integer(0)?,
        project_id: row.integer(1)?,
        path: row.text(2)?,
        key: row.text(3)?,
        name: row.text(4)?,
        epoch: row.count(5)?,
        revision: row.count(6)?,
        created_ms: row.integer(7)?,
        seed: seed_of(row.bytes(8)?)?,
        log_begins: row.count(9)?,
        lost: row.count(10)?,
        metadata: change::members(&row.text(11)?)?,
        mark: mark_of(row.optional_integer(12)?),
        archived_ms: row.optional_integer(13)?,
        project_archived_ms: row.optional_integer(14)?,
        next_seed: row.optional_bytes(15)?.map(seed_of).transpose()?,
        origin: row.bytes(16)?,
    })
}

fn seed_of(bytes: Vec<u8>) -> Result<Seed, StoreError> {
    bytes.try_into().map_err(|_| StoreError::Broken("a seed is not 32 bytes long".to_owned()))
}

pub(super) fn fresh_seed() -> Result<Seed, StoreError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| StoreError::Broken(format!("no random bytes: {error}")))?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_behind_where_hosts_have_what_it_does_not() {
        let served = |mark| Stamp { environment: String::new(), epoch: 2, revision: 7, time_ms: 0, lost: None, mark };
        let standing = |epoch, revision, mark| Standing { id: 1, epoch, revision, mark };
        for (standing, order) in [
            (standing(2, 7, Some(1)), Ordering::Equal),
            (standing(2, 7, None), Ordering::Equal),
            (standing(2, 7, Some(2)), Ordering::Less),
            (standing(2, 6, Some(1)), Ordering::Less),
            (standing(1, 9, Some(1)), Ordering::Less),
            (standing(2, 8, Some(2)), Ordering::Greater),
            (standing(3, 1, Some(2)), Ordering::Greater),
        ] {
            assert_eq!(standing.against(&served(Some(1))), order);
        }
        assert_eq!(standing(2, 7, Some(1)).against(&served(None)), Ordering::Equal);
    }
}
