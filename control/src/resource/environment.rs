//! Environments of a project: what hosts follow, each with revisions and a key of its own.

use std::collections::BTreeMap;

use flags_sync::{SecretKey, Stamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::change::{Author, Edit, Edits};
use super::project::Project;
use super::{change, flag, schedule, segment};
use crate::clock::now_ms;
use crate::definition::Configured;
use crate::model::{Config, check_key, check_text};
use crate::problem::Problem;
use crate::store::{News, Row, StoreError, Transaction};

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
    seed: [u8; 32],
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
    /// The first revision that the log still has.
    log_begins: u64,
    created_ms: i64,
    /// Of the flag set: programs get it with each answer, below the flag's own.
    metadata: Map<String, Json>,
}

/// What of an environment can be changed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EnvironmentBody {
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
     environment.name, epoch, revision, environment.created_ms, seed, log_begins, lost, metadata, mark \
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
            log_begins: self.log_begins,
            created_ms: self.created_ms,
            metadata: self.metadata.clone(),
        }
    }

    pub(crate) fn body(&self) -> EnvironmentBody {
        EnvironmentBody { metadata: self.metadata.clone() }
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
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| StoreError::Broken(format!("no random bytes: {error}")))?;
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
        seed,
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
    let sql = "INSERT INTO environment (id, project_id, key, name, epoch, revision, seed, created_ms) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
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
    change::commit(transaction, &environment, author, "environment.create", Edits { flags, segments, metadata })?;
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
    let EnvironmentBody { metadata } = body;
    if metadata == environment.metadata {
        return Ok(environment.clone());
    }
    let edits = Edits { metadata: Some(metadata), ..Edits::default() };
    change::commit(transaction, environment, author, "environment.update", edits)?;
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
    let not_found = || Problem::not_found(format!("the project {:?} has no environment {key:?}", project.key));
    row.map_or_else(|| Err(not_found()), |row| Ok(from(row)?))
}

/// All of the project, in the order in which everybody locks them.
pub(crate) fn lock_all(transaction: &mut dyn Transaction, project: &Project) -> Result<Vec<Environment>, Problem> {
    let locks = transaction.for_update();
    // The project's row too: there may be no environment yet.
    transaction.row(&format!("SELECT id FROM project WHERE id = $1{locks}"), &[project.id.into()])?;
    let sql = format!("SELECT id FROM environment WHERE project_id = $1 ORDER BY id{locks}");
    transaction.rows(&sql, &[project.id.into()])?;
    list(transaction, project)
}

pub(crate) fn list(transaction: &mut dyn Transaction, project: &Project) -> Result<Vec<Environment>, Problem> {
    let sql = format!("{QUERY} WHERE project_id = $1 ORDER BY environment.id");
    transaction.rows(&sql, &[project.id.into()])?.into_iter().map(|row| Ok(from(row)?)).collect()
}

/// Begins a new epoch of every environment, after an older state was restored: hosts take it then, although its revisions are lower.
///
/// `replaced` are the epochs of the state that was there, by seed. An environment that is not among them may have been restored any number of times:
/// its epoch becomes the time in seconds, which is above whatever was counted.
///
/// Returns path, epoch and revision of each.
pub(crate) fn begin_epoch(
    transaction: &mut dyn Transaction,
    replaced: &BTreeMap<Vec<u8>, u64>,
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
        let other = replaced.get(found.seed.as_slice()).copied().unwrap_or(now_s);
        let (path, epoch) = (found.path.clone(), found.epoch.max(other) + 1);
        let revision = enter_epoch(transaction, found, epoch, &author, "environment.restore")?;
        begun.push((path, epoch, revision));
    }
    Ok(begun)
}

/// Begins a new epoch of an environment where the database is behind `served`, which hosts have: beyond the epoch of either.
///
/// Returns its epoch and revision, and nothing where it is not behind any more.
pub(crate) fn go_beyond(
    transaction: &mut dyn Transaction,
    id: i64,
    served: &Stamp,
) -> Result<Option<(u64, u64)>, Problem> {
    let locks = transaction.for_update_of("environment");
    let row = transaction.row(&format!("{QUERY} WHERE environment.id = $1{locks}"), &[id.into()])?;
    let Some(found) = row.map(from).transpose()? else { return Ok(None) };
    let is_same = found.revision == served.revision && (served.mark.is_none() || found.mark == served.mark);
    if (found.epoch, found.revision) > served.position() || found.epoch == served.epoch && is_same {
        return Ok(None);
    }
    let comment = format!("the database had lost what led to revision {}.{}", served.epoch, served.revision);
    let author = Author { actor: "flags-control".to_owned(), comment, deliberate: false };
    let epoch = found.epoch.max(served.epoch) + 1;
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
    change::commit(transaction, &environment, author, action, Edits::default())
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
        seed: row.bytes(8)?.try_into().map_err(|_| StoreError::Broken("a seed is not 32 bytes long".to_owned()))?,
        log_begins: row.count(9)?,
        lost: row.count(10)?,
        metadata: change::members(&row.text(11)?)?,
        mark: row.optional_integer(12)?.and_then(|mark| mark.try_into().ok()),
    })
}
