//! Projects: what a team has flags for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Filter;
use super::change::{self, Author, Edits};
use super::environment;
use crate::clock::now_ms;
use crate::model::{check_key, check_text};
use crate::problem::Problem;
use crate::store::{Row, StoreError, Transaction, Value};

/// A project.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub(crate) id: i64,
    pub(crate) key: String,
    pub(crate) body: ProjectBody,
    pub(crate) archived_ms: Option<i64>,
    pub(crate) created_ms: i64,
    pub(crate) changed_ms: i64,
    /// Counts its changes; its ETag. What happens in it does not count.
    pub(crate) version: i64,
}

/// What people say about a project.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ProjectBody {
    pub(crate) name: String,
    pub(crate) description: String,
}

/// A project as the API shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Project")]
pub(crate) struct ProjectView<'p> {
    key: &'p str,
    name: &'p str,
    description: &'p str,
    /// Nothing in it can be changed; hosts have its flags.
    archived: bool,
    created_ms: i64,
    changed_ms: i64,
    version: i64,
}

/// What a project is made from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewProject {
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) description: String,
}

impl NewProject {
    /// One of which nothing but the key is said.
    pub(crate) fn named(key: &str) -> Self {
        Self { key: key.to_owned(), name: String::new(), description: String::new() }
    }
}

const COLUMNS: &str = "id, key, name, description, archived_ms, created_ms, changed_ms, version";

impl Project {
    pub(crate) fn view(&self) -> ProjectView<'_> {
        ProjectView {
            key: &self.key,
            name: &self.body.name,
            description: &self.body.description,
            archived: self.archived_ms.is_some(),
            created_ms: self.created_ms,
            changed_ms: self.changed_ms,
            version: self.version,
        }
    }

    /// # Errors
    /// 409 where it is archived.
    pub(crate) fn must_be_open(&self) -> Result<(), Problem> {
        must_be_open(&self.key, self.archived_ms)
    }
}

/// # Errors
/// 409 where the project of this key is archived.
pub(super) fn must_be_open(key: &str, archived_ms: Option<i64>) -> Result<(), Problem> {
    archived_ms.map_or(Ok(()), |_| Err(Problem::archived(&format!("project {key:?}"))))
}

pub(crate) fn create(transaction: &mut dyn Transaction, new: &NewProject) -> Result<Project, Problem> {
    check_key(&new.key, "/key")?;
    let body = ProjectBody { name: new.name.clone(), description: new.description.clone() };
    check(&body)?;
    let (id, now, key) = (transaction.new_id()?, now_ms(), new.key.clone());
    let project = Project { id, key, body, archived_ms: None, created_ms: now, changed_ms: now, version: 1 };
    let values = [
        project.id.into(),
        project.key.as_str().into(),
        project.body.name.as_str().into(),
        project.body.description.as_str().into(),
        project.created_ms.into(),
        project.changed_ms.into(),
    ];
    let sql =
        "INSERT INTO project (id, key, name, description, created_ms, changed_ms) VALUES ($1, $2, $3, $4, $5, $6)";
    transaction.execute(sql, &values).map_err(|error| taken(error, &project.key))?;
    Ok(project)
}

fn check(body: &ProjectBody) -> Result<(), Problem> {
    check_text(&body.name, "/name")?;
    check_text(&body.description, "/description")
}

fn taken(error: StoreError, key: &str) -> Problem {
    match error {
        // Archived ones too: hosts follow a project by its key.
        StoreError::Taken => Problem::conflict(format!("there is a project {key:?} already, archived or not")),
        error => error.into(),
    }
}

/// Gives a project, which the caller has locked, another body.
pub(crate) fn update(
    transaction: &mut dyn Transaction,
    project: &Project,
    body: ProjectBody,
) -> Result<Project, Problem> {
    project.must_be_open()?;
    if body == project.body {
        return Ok(project.clone());
    }
    check(&body)?;
    store(transaction, Project { body, ..project.clone() })
}

/// Closes a project, which the caller has locked: nothing in it is changed until it is restored, and hosts go on with what they have.
/// Who did so, and why, is a revision of each of its environments.
pub(crate) fn archive(
    transaction: &mut dyn Transaction,
    project: &Project,
    author: &Author,
) -> Result<Project, Problem> {
    if project.archived_ms.is_some() {
        return Ok(project.clone());
    }
    set_archived(transaction, project, Some(now_ms()), author, "project.archive")
}

/// Opens it again. Environments that were archived themselves stay so.
pub(crate) fn restore(
    transaction: &mut dyn Transaction,
    project: &Project,
    author: &Author,
) -> Result<Project, Problem> {
    if project.archived_ms.is_none() {
        return Ok(project.clone());
    }
    set_archived(transaction, project, None, author, "project.restore")
}

fn set_archived(
    transaction: &mut dyn Transaction,
    project: &Project,
    archived_ms: Option<i64>,
    author: &Author,
    action: &str,
) -> Result<Project, Problem> {
    // Writes that are under way in one of them are waited for; those that wait for this find it done.
    for environment in environment::lock_those_of(transaction, project)? {
        let sql = "UPDATE environment SET project_archived_ms = $2 WHERE id = $1";
        transaction.execute(sql, &[environment.id.into(), archived_ms.into()])?;
        change::commit(transaction, &environment, author, action, Edits::default())?;
    }
    store(transaction, Project { archived_ms, ..project.clone() })
}

/// Stores the next version of a project.
fn store(transaction: &mut dyn Transaction, project: Project) -> Result<Project, Problem> {
    let project = Project { changed_ms: now_ms(), version: project.version + 1, ..project };
    let values = [
        project.id.into(),
        project.body.name.as_str().into(),
        project.body.description.as_str().into(),
        project.archived_ms.into(),
        project.changed_ms.into(),
        project.version.into(),
    ];
    let sql = "UPDATE project SET name = $2, description = $3, archived_ms = $4, changed_ms = $5, version = $6 \
               WHERE id = $1";
    transaction.execute(sql, &values)?;
    Ok(project)
}

pub(crate) fn find(transaction: &mut dyn Transaction, key: &str) -> Result<Project, Problem> {
    find_with(transaction, key, "")
}

/// The same, and nobody else changes it until this transaction ends.
pub(crate) fn lock(transaction: &mut dyn Transaction, key: &str) -> Result<Project, Problem> {
    // A transaction that writes an environment's row twice, as of changes that share a commit, has its project looked at: were that locked for all,
    // by who waits for the environment, it were a dead end.
    let locks = transaction.for_update_but_key();
    find_with(transaction, key, locks)
}

fn find_with(transaction: &mut dyn Transaction, key: &str, locks: &str) -> Result<Project, Problem> {
    let row = transaction.row(&format!("SELECT {COLUMNS} FROM project WHERE key = $1{locks}"), &[key.into()])?;
    row.map_or_else(|| Err(not_found(key)), |row| Ok(from(row)?))
}

/// There is no such project, or none that whoever asks may know of.
pub(crate) fn not_found(key: &str) -> Problem {
    Problem::not_found(format!("there is no project {key:?}"))
}

/// Sorted by key.
pub(crate) fn list(transaction: &mut dyn Transaction, filter: &Filter) -> Result<Vec<Project>, Problem> {
    let archived = if filter.archived { "IS NOT NULL" } else { "IS NULL" };
    let mut values = vec![filter.after.as_str().into(), filter.limit.into()];
    let which = if filter.only.is_some() { " AND id = $3" } else { "" };
    values.extend(filter.only.map(Value::from));
    let sql =
        format!("SELECT {COLUMNS} FROM project WHERE key > $1 AND archived_ms {archived}{which} ORDER BY key LIMIT $2");
    transaction.rows(&sql, &values)?.into_iter().map(|row| Ok(from(row)?)).collect()
}

fn from(mut row: Row) -> Result<Project, StoreError> {
    Ok(Project {
        id: row.integer(0)?,
        key: row.text(1)?,
        body: ProjectBody { name: row.text(2)?, description: row.text(3)? },
        archived_ms: row.optional_integer(4)?,
        created_ms: row.integer(5)?,
        changed_ms: row.integer(6)?,
        version: row.integer(7)?,
    })
}
