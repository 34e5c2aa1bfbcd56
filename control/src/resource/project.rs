//! Projects: what a team has flags for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::now_ms;
use crate::model::{check_key, check_text};
use crate::problem::Problem;
use crate::store::{Row, StoreError, Transaction, Value};

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
    row.map_or_else(|| Err(not_found(key)), |row| Ok(from(row)?))
}

/// There is no such project, or none that whoever asks may know of.
pub(crate) fn not_found(key: &str) -> Problem {
    Problem::not_found(format!("there is no project {key:?}"))
}

/// At most `limit` projects after the key `after`, sorted; of all, or the one `only`.
pub(crate) fn list(
    transaction: &mut dyn Transaction,
    only: Option<i64>,
    after: &str,
    limit: i64,
) -> Result<Vec<Project>, Problem> {
    let mut values = vec![after.into(), limit.into()];
    let which = if only.is_some() { " AND id = $3" } else { "" };
    values.extend(only.map(Value::from));
    let sql = format!("SELECT {COLUMNS} FROM project WHERE key > $1{which} ORDER BY key LIMIT $2");
    transaction.rows(&sql, &values)?.into_iter().map(|row| Ok(from(row)?)).collect()
}

fn from(mut row: Row) -> Result<Project, StoreError> {
    Ok(Project { id: row.integer(0)?, key: row.text(1)?, name: row.text(2)?, created_ms: row.integer(3)? })
}
