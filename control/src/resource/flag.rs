//! Flags: what they are in a project, and what they do in its environments.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::change::{self, Author, Edit};
use super::environment::{self, Environment};
use super::like;
use super::project::Project;
use crate::clock::now_ms;
use crate::definition::{Configured, Known, Segments, definition};
use crate::model::{Config, Flag, FlagBody, FlagKind, FlagState, FlagType, check_key};
use crate::problem::Problem;
use crate::store::{Row, StoreError, Transaction, Value};

/// A flag as the API shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Flag")]
pub(crate) struct FlagView<'f> {
    key: &'f str,
    #[serde(flatten)]
    body: &'f FlagBody,
    archived: bool,
    created_ms: i64,
    changed_ms: i64,
    version: i64,
}

impl Flag {
    pub(crate) fn view(&self) -> FlagView<'_> {
        FlagView {
            key: &self.key,
            body: &self.body,
            archived: self.archived_ms.is_some(),
            created_ms: self.created_ms,
            changed_ms: self.changed_ms,
            version: self.version,
        }
    }
}

/// What a list of flags is narrowed to, and its order. Empty and absent: whatever.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Only flags after this cursor, as [`Sort::cursor`] makes it.
    pub(crate) after: String,
    /// Words that are in key, description, owner or tags, in any case.
    pub(crate) search: String,
    pub(crate) archived: bool,
    pub(crate) owner: Option<String>,
    pub(crate) tag: Option<String>,
    pub(crate) kind: Option<FlagKind>,
    pub(crate) flag_type: Option<FlagType>,
    /// Only flags that somebody wanted gone by then.
    pub(crate) expires_before_ms: Option<i64>,
    pub(crate) sort: Sort,
    pub(crate) limit: i64,
}

/// The order of a list of flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum Sort {
    #[default]
    #[serde(rename = "key")]
    Key,
    #[serde(rename = "-key")]
    KeyDown,
    #[serde(rename = "created")]
    Created,
    #[serde(rename = "-created")]
    CreatedDown,
    #[serde(rename = "changed")]
    Changed,
    #[serde(rename = "-changed")]
    ChangedDown,
}

impl Sort {
    /// The time that comes before the key in the order, and whether that goes down.
    fn parts(self) -> (Option<&'static str>, bool) {
        match self {
            Self::Key => (None, false),
            Self::KeyDown => (None, true),
            Self::Created => (Some("flag.created_ms"), false),
            Self::CreatedDown => (Some("flag.created_ms"), true),
            Self::Changed => (Some("changed_ms"), false),
            Self::ChangedDown => (Some("changed_ms"), true),
        }
    }

    /// Where a page ends that ends with this flag: `KEY`, or `TIME.KEY`.
    pub(crate) fn cursor(self, flag: &Flag) -> String {
        match self {
            Self::Key | Self::KeyDown => flag.key.clone(),
            Self::Created | Self::CreatedDown => format!("{}.{}", flag.created_ms, flag.key),
            Self::Changed | Self::ChangedDown => format!("{}.{}", flag.changed_ms, flag.key),
        }
    }

    /// The condition for what comes after a cursor, and the order. Puts the condition's values behind `values`.
    fn sql(self, after: &str, values: &mut Vec<Value>) -> Result<(String, String), Problem> {
        let (time, goes_down) = self.parts();
        let (sign, way) = if goes_down { ("<", " DESC") } else { (">", "") };
        let order = time.map_or_else(String::new, |time| format!("{time}{way}, ")) + "flag.key" + way;
        if after.is_empty() {
            return Ok((String::new(), order));
        }
        let condition = match time {
            None => {
                values.push(after.into());
                format!(" AND flag.key {sign} ${}", values.len())
            }
            Some(time) => {
                let parts = after.split_once('.').and_then(|(ms, key)| Some((ms.parse::<i64>().ok()?, key)));
                let (ms, key) = parts.ok_or_else(|| Problem::invalid("", "the cursor is not one of this order"))?;
                values.extend([ms.into(), key.into()]);
                format!(" AND ({time}, flag.key) {sign} (${}, ${})", values.len() - 1, values.len())
            }
        };
        Ok((condition, order))
    }
}

const COLUMNS: &str = "flag.id, flag.key, type, variants, description, owner, tags, kind, expires_ms, archived_ms, flag.created_ms, \
                       changed_ms, version";

/// Makes a flag, disabled in every environment or as `configs` (by environment's key) say.
pub(crate) fn create(
    transaction: &mut dyn Transaction,
    project: &Project,
    key: &str,
    body: FlagBody,
    mut configs: std::collections::BTreeMap<String, Config>,
    author: &Author,
) -> Result<Flag, Problem> {
    check_key(key, "/key")?;
    body.check()?;
    let environments = environment::lock_all(transaction, project)?;
    let flag = insert(transaction, project, key, body)?;
    check_alone(&flag)?;
    for environment in &environments {
        let config = match configs.remove(&environment.key) {
            // Every environment gets every flag; what it does there is said where something may be said.
            Some(config) => environment.must_be_open().map(|()| config)?,
            None => flag.body.first_config(),
        };
        let edits = vec![Edit { before: None, after: Configured { flag: flag.clone(), config } }];
        change::commit(transaction, environment, author, "flag.create", edits)
            .map_err(|problem| problem.within(&format!("/environments/{}", environment.key)))?;
    }
    if let Some(unknown) = configs.keys().next() {
        let detail = format!("the project {:?} has no environment {unknown:?}", project.key);
        return Err(Problem::invalid(format!("/environments/{}", crate::model::escaped(unknown)), detail));
    }
    Ok(flag)
}

/// A new flag; what it does is told in the same transaction.
pub(crate) fn insert(
    transaction: &mut dyn Transaction,
    project: &Project,
    key: &str,
    body: FlagBody,
) -> Result<Flag, Problem> {
    let now = now_ms();
    let id = transaction.new_id()?;
    let flag = Flag { id, key: key.to_owned(), body, archived_ms: None, created_ms: now, changed_ms: now, version: 1 };
    let mut values = columns(&flag)?;
    values.extend([project.id.into(), flag.created_ms.into()]);
    let sql = "INSERT INTO flag (id, key, type, variants, description, owner, tags, kind, expires_ms, archived_ms, changed_ms, version, \
               project_id, created_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
    transaction.execute(sql, &values).map_err(|error| match error {
        // Archived ones too: a key means one flag for ever.
        StoreError::Taken => Problem::conflict(format!("there is, or was, a flag {key:?}: keys are not used again")),
        error => error.into(),
    })?;
    Ok(flag)
}

/// Gives a flag another body.
pub(crate) fn update(
    transaction: &mut dyn Transaction,
    project: &Project,
    flag: &Flag,
    body: FlagBody,
    author: &Author,
) -> Result<Flag, Problem> {
    if body.flag_type != flag.body.flag_type {
        return Err(Problem::invalid("/type", "a flag keeps its type: programs rely on it"));
    }
    body.check()?;
    let new = Flag { body, ..flag.clone() };
    check_alone(&new)?;
    change_everywhere(transaction, project, flag, new, author, "flag.update")
}

/// What hosts would refuse of a flag whatever it does, also where there is no environment yet that it could be compiled for.
///
/// # Errors
/// 422 with the place in the flag's own body.
fn check_alone(flag: &Flag) -> Result<(), Problem> {
    let configured = Configured { flag: flag.clone(), config: flag.body.first_config() };
    definition(&flag.key, &Known::from([(flag.key.clone(), configured)]), &Segments::default()).map(drop)
}

/// Takes a flag from all hosts; its key stays taken.
pub(crate) fn archive(
    transaction: &mut dyn Transaction,
    project: &Project,
    flag: &Flag,
    author: &Author,
) -> Result<Flag, Problem> {
    if flag.archived_ms.is_some() {
        return Ok(flag.clone());
    }
    let sql = "SELECT dependent.key, environment.key FROM prerequisite JOIN flag AS dependent ON dependent.id = flag_id \
               JOIN environment ON environment.id = environment_id \
               WHERE needs_id = $1 AND dependent.archived_ms IS NULL ORDER BY 1, 2";
    if let Some(mut row) = transaction.rows(sql, &[flag.id.into()])?.into_iter().next() {
        let detail = format!("the flag {:?} needs it in the environment {:?}", row.text(0)?, row.text(1)?);
        return Err(Problem::conflict(detail));
    }
    let archived = Flag { archived_ms: Some(now_ms()), ..flag.clone() };
    change_everywhere(transaction, project, flag, archived, author, "flag.archive")
}

/// Brings an archived flag back, configured as it was.
pub(crate) fn restore(
    transaction: &mut dyn Transaction,
    project: &Project,
    flag: &Flag,
    author: &Author,
) -> Result<Flag, Problem> {
    if flag.archived_ms.is_none() {
        return Ok(flag.clone());
    }
    let restored = Flag { archived_ms: None, ..flag.clone() };
    change_everywhere(transaction, project, flag, restored, author, "flag.restore")
}

fn change_everywhere(
    transaction: &mut dyn Transaction,
    project: &Project,
    old: &Flag,
    new: Flag,
    author: &Author,
    action: &str,
) -> Result<Flag, Problem> {
    let new = Flag { changed_ms: now_ms(), version: old.version + 1, ..new };
    let environments = environment::lock_all(transaction, project)?;
    // The caller read the flag before the locks were had.
    let current = find(transaction, project, &old.key)?;
    if current.version != old.version {
        return Err(Problem::outdated(current.version));
    }
    rewrite(transaction, &new)?;
    for environment in &environments {
        let Some((config, _)) = change::config(transaction, environment.id, old.id)? else { continue };
        let before = Some(Configured { flag: old.clone(), config: config.clone() });
        let edits = vec![Edit { before, after: Configured { flag: new.clone(), config } }];
        change::commit(transaction, environment, author, action, edits).map_err(|problem| {
            Problem::conflict(format!("in the environment {:?}: {}", environment.key, problem.detail()))
        })?;
    }
    Ok(new)
}

/// Stores a flag that is there already; what hosts get of it is told in the same transaction.
pub(crate) fn rewrite(transaction: &mut dyn Transaction, flag: &Flag) -> Result<(), StoreError> {
    let sql = "UPDATE flag SET key = $2, type = $3, variants = $4, description = $5, owner = $6, tags = $7, kind = $8, \
               expires_ms = $9, archived_ms = $10, changed_ms = $11, version = $12 WHERE id = $1";
    transaction.execute(sql, &columns(flag)?).map(drop)
}

/// Gives a flag another configuration in an environment, which the caller has locked. Returns the revision.
pub(crate) fn configure(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    flag: &Flag,
    before: Config,
    after: Config,
    author: &Author,
) -> Result<u64, Problem> {
    if flag.archived_ms.is_some() {
        return Err(Problem::conflict(format!("the flag {:?} is archived", flag.key)));
    }
    let configured = |config| Configured { flag: flag.clone(), config };
    let edits = vec![Edit { before: Some(configured(before)), after: configured(after) }];
    change::commit(transaction, environment, author, "flag.configure", edits)
}

pub(crate) fn find(transaction: &mut dyn Transaction, project: &Project, key: &str) -> Result<Flag, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM flag WHERE project_id = $1 AND key = $2");
    let row = transaction.row(&sql, &[project.id.into(), key.into()])?;
    let not_found = || Problem::not_found(format!("the project {:?} has no flag {key:?}", project.key));
    row.map_or_else(|| Err(not_found()), |mut row| Ok(from(&mut row)?))
}

pub(crate) fn with_id(transaction: &mut dyn Transaction, id: i64) -> Result<Flag, StoreError> {
    let row = transaction.row(&format!("SELECT {COLUMNS} FROM flag WHERE id = $1"), &[id.into()])?;
    row.map_or_else(|| Err(StoreError::Broken(format!("there is no flag {id}"))), |mut row| from(&mut row))
}

/// All flags of a project, archived ones too.
pub(crate) fn all(transaction: &mut dyn Transaction, project_id: i64) -> Result<Vec<Flag>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM flag WHERE project_id = $1 ORDER BY key");
    transaction.rows(&sql, &[project_id.into()])?.iter_mut().map(from).collect()
}

pub(crate) fn list(
    transaction: &mut dyn Transaction,
    project: &Project,
    filter: &Filter,
) -> Result<Vec<Flag>, Problem> {
    let archived = if filter.archived { "IS NOT NULL" } else { "IS NULL" };
    let mut values: Vec<Value> = vec![project.id.into(), filter.limit.into()];
    let (mut condition, order) = filter.sort.sql(&filter.after, &mut values)?;
    let mut add = |text: &str, value: Value| {
        values.push(value);
        condition.push_str(&format!(" AND {text}").replace("$$", &format!("${}", values.len())));
    };
    for word in filter.search.split_whitespace() {
        let text = "LOWER(flag.key || ' ' || description || ' ' || owner || ' ' || tags) LIKE $$ ESCAPE '!'";
        add(text, like(&word.to_lowercase()).into());
    }
    if let Some(owner) = &filter.owner {
        add("owner = $$", owner.as_str().into());
    }
    if let Some(tag) = &filter.tag {
        // As it stands in the list of tags, which is JSON.
        add("tags LIKE $$ ESCAPE '!'", like(&json!(tag).to_string()).into());
    }
    if let Some(kind) = filter.kind {
        add("kind = $$", word(json!(kind)).into());
    }
    if let Some(flag_type) = filter.flag_type {
        add("type = $$", word(json!(flag_type)).into());
    }
    if let Some(at_ms) = filter.expires_before_ms {
        add("expires_ms < $$", at_ms.into());
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM flag WHERE project_id = $1 AND archived_ms {archived}{condition} ORDER BY {order} LIMIT $2"
    );
    transaction.rows(&sql, &values)?.iter_mut().map(|row| Ok(from(row)?)).collect()
}

/// At most `limit` flags of an environment after the key `after`, sorted, each with its configuration and the revision of that.
pub(crate) fn configs(
    transaction: &mut dyn Transaction,
    environment_id: i64,
    state: Option<FlagState>,
    archived: bool,
    after: &str,
    limit: i64,
) -> Result<Vec<(Configured, i64)>, StoreError> {
    let archived = if archived { "IS NOT NULL" } else { "IS NULL" };
    let mut values: Vec<Value> = vec![environment_id.into(), after.into(), limit.into()];
    let mut condition = "";
    if let Some(state) = state {
        // As it stands in the configuration, which is JSON without spaces.
        values.push(like(&format!("\"state\":{}", json!(state))).into());
        condition = " AND config LIKE $4 ESCAPE '!'";
    }
    let sql = format!(
        "SELECT {COLUMNS}, config, revision FROM flag_config JOIN flag ON flag.id = flag_id \
         WHERE environment_id = $1 AND flag.key > $2 AND archived_ms {archived}{condition} ORDER BY flag.key LIMIT $3"
    );
    let configured = |mut row: Row| {
        let (flag, config) = (from(&mut row)?, parsed(row.text(13)?)?);
        Ok((Configured { flag, config }, row.integer(14)?))
    };
    transaction.rows(&sql, &values)?.into_iter().map(configured).collect()
}

/// A flag and its configuration.
pub(crate) fn configured(
    transaction: &mut dyn Transaction,
    environment_id: i64,
    key: &str,
) -> Result<Option<Configured>, StoreError> {
    Ok(published(transaction, environment_id, key)?.map(|(configured, _)| configured))
}

/// The same, and what hosts have of it: a definition, empty where they have nothing.
pub(crate) fn published(
    transaction: &mut dyn Transaction,
    environment_id: i64,
    key: &str,
) -> Result<Option<(Configured, String)>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS}, config, definition FROM flag JOIN flag_config ON flag_id = flag.id AND environment_id = $1 \
         WHERE project_id = (SELECT project_id FROM environment WHERE id = $1) AND flag.key = $2"
    );
    let Some(mut row) = transaction.row(&sql, &[environment_id.into(), key.into()])? else { return Ok(None) };
    let flag = from(&mut row)?;
    Ok(Some((Configured { flag, config: parsed(row.text(13)?)? }, row.text(14)?)))
}

/// All flags of an environment that are not archived, each with its configuration, by key.
pub(crate) fn all_configured(
    transaction: &mut dyn Transaction,
    environment_id: i64,
) -> Result<Vec<Configured>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS}, config FROM flag_config JOIN flag ON flag.id = flag_id \
         WHERE environment_id = $1 AND archived_ms IS NULL ORDER BY flag.key"
    );
    let configured = |mut row: Row| Ok(Configured { flag: from(&mut row)?, config: parsed(row.text(13)?)? });
    transaction.rows(&sql, &[environment_id.into()])?.into_iter().map(configured).collect()
}

fn columns(flag: &Flag) -> Result<Vec<Value>, StoreError> {
    let body = &flag.body;
    Ok(vec![
        flag.id.into(),
        flag.key.as_str().into(),
        word(json!(body.flag_type)).into(),
        json!(body.variants).to_string().into(),
        body.description.as_str().into(),
        body.owner.as_str().into(),
        json!(body.tags).to_string().into(),
        word(json!(body.kind)).into(),
        body.expires_ms.into(),
        flag.archived_ms.into(),
        flag.changed_ms.into(),
        flag.version.into(),
    ])
}

fn word(json: Json) -> String {
    json.as_str().unwrap_or_default().to_owned()
}

fn from(row: &mut Row) -> Result<Flag, StoreError> {
    Ok(Flag {
        id: row.integer(0)?,
        key: row.text(1)?,
        body: FlagBody {
            flag_type: parsed(Json::String(row.text(2)?).to_string())?,
            variants: parsed(row.text(3)?)?,
            description: row.text(4)?,
            owner: row.text(5)?,
            tags: parsed(row.text(6)?)?,
            kind: parsed(Json::String(row.text(7)?).to_string())?,
            expires_ms: row.optional_integer(8)?,
        },
        archived_ms: row.optional_integer(9)?,
        created_ms: row.integer(10)?,
        changed_ms: row.integer(11)?,
        version: row.integer(12)?,
    })
}

fn parsed<T: serde::de::DeserializeOwned>(text: String) -> Result<T, StoreError> {
    serde_json::from_str(&text)
        .map_err(|error| StoreError::Broken(format!("what is stored is not understood: {error}")))
}
