//! Projects: what a team has flags for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::now_ms;
use crate::model::{check_key, check_text};
use crate::problem::Problem;
use crate::store::{Row, StoreError, Transaction};

/// A project.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Project {
    #[serde(skip)]
    pub(crate) id: i64,
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) created_ms: i64,
}

/// What a project is made from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewProject {
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) name: String,
}

const COLUMNS: &str = "id, key, name, created_ms";

pub(crate) fn create(transaction: &mut dyn Transaction, new: &NewProject) -> Result<Project, Problem> {
    check_key(&new.key, "/key")?;
    check_text(&new.name, "/name")?;
    let project =
        Project { id: transaction.new_id()?, key: new.key.clone(), name: new.name.clone(), created_ms: now_ms() };
    let values =
        [project.id.into(), project.key.as_str().into(), project.name.as_str().into(), project.created_ms.into()];
    transaction
        .execute("INSERT INTO project (id, key, name, created_ms) VALUES ($1, $2, $3, $4)", &values)
        .map_err(|error| taken(error, &project.key))?;
    Ok(project)
}

fn taken(error: StoreError, key: &str) -> Problem {
    match error {
        StoreError::Taken => Problem::conflict(format!("there is a project {key:?} already")),
        error => error.into(),
    }
}

pub(crate) fn find(transaction: &mut dyn Transaction, key: &str) -> Result<Project, Problem> {
    let row = transaction.row(&format!("SELECT {COLUMNS} FROM project WHERE key = $1"), &[key.into()])?;
    row.map_or_else(|| Err(Problem::not_found(format!("there is no project {key:?}"))), |row| Ok(from(row)?))
}

/// At most `limit` projects after the key `after`, sorted.
pub(crate) fn list(transaction: &mut dyn Transaction, after: &str, limit: i64) -> Result<Vec<Project>, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM project WHERE key > $1 ORDER BY key LIMIT $2");
    let rows = transaction.rows(&sql, &[after.into(), limit.into()])?;
    rows.into_iter().map(|row| Ok(from(row)?)).collect()
}

fn from(mut row: Row) -> Result<Project, StoreError> {
    Ok(Project { id: row.integer(0)?, key: row.text(1)?, name: row.text(2)?, created_ms: row.integer(3)? })
}
