//! Scheduled changes: what a flag is to do from a time on.
//!
//! ```text
//! pending ──► done        in the transaction of the change itself: once, whoever fires it and whatever is killed
//!    │ └────► failed      it can't be applied to what is there by then; the flag stays as it is
//!    └──────► cancelled
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::change::{self, Author, Edit, integer};
use super::environment::{self, Environment};
use super::flag;
use super::project::Project;
use crate::definition::Configured;
use crate::model::{self, Config, Flag};
use crate::problem::Problem;
use crate::store::{Row, StoreError, Transaction, Value};

/// How many may be waiting in an environment.
const MOST_PENDING: i64 = 10_000;

/// What has become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Pending,
    Done,
    Failed,
    Cancelled,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A scheduled change.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Schedule {
    /// A number, as a text: it is a name.
    pub(crate) id: String,
    pub(crate) flag: String,
    patch: Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    if_revision: Option<i64>,
    at_ms: i64,
    pub(crate) state: State,
    actor: String,
    comment: String,
    created_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_ms: Option<i64>,
    /// The environment's, that it has led to.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Json>,
    /// Its ETag: 1 while it is to come and 2 once it has ended, for it changes once.
    pub(crate) version: i64,
}

/// What a scheduled change is made from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewSchedule {
    pub(crate) flag: String,
    /// What is to be another in its configuration: a JSON merge patch (RFC 7396).
    pub(crate) patch: Json,
    /// When, milliseconds since 1970; a time that has passed is now.
    pub(crate) at_ms: i64,
    /// Only if nobody has changed the configuration since this revision.
    #[serde(default)]
    pub(crate) if_revision: Option<i64>,
}

/// One whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) id: i64,
    pub(crate) environment_id: i64,
}

const QUERY: &str = "SELECT schedule.id, flag.key, patch, if_revision, at_ms, state, actor, comment, schedule.created_ms, ended_ms, \
                     schedule.revision, problem FROM schedule JOIN flag ON flag.id = flag_id";

/// What could not be applied to what is there now is refused at once. The caller has locked the environment.
pub(crate) fn create(
    transaction: &mut dyn Transaction,
    project: &Project,
    environment: &Environment,
    new: &NewSchedule,
    author: &Author,
    now_ms: i64,
) -> Result<Schedule, Problem> {
    if author.deliberate {
        // It is one flag, and what hosts think of that when it comes nobody knows today.
        return Err(Problem::invalid("", "a scheduled change is never deliberate"));
    }
    let flag =
        flag::find(transaction, project, &new.flag).map_err(|problem| Problem::invalid("/flag", problem.detail()))?;
    let (_, config) = patched(transaction, environment, &flag, &new.patch, new.if_revision)
        .map_err(|problem| problem.within("/patch"))?;
    change::check(transaction, environment.id, Configured { flag: flag.clone(), config })
        .map_err(|problem| problem.within("/patch"))?;
    let sql = "SELECT COUNT(*) FROM schedule WHERE environment_id = $1 AND state = 'pending'";
    let pending = transaction.row(sql, &[environment.id.into()])?.map_or(Ok(0), |mut row| row.integer(0))?;
    if pending >= MOST_PENDING {
        return Err(Problem::conflict(format!("{MOST_PENDING} changes are scheduled already")));
    }
    let id = transaction.new_id()?;
    let values: [Value; 9] = [
        id.into(),
        environment.id.into(),
        flag.id.into(),
        new.patch.to_string().into(),
        new.if_revision.into(),
        new.at_ms.into(),
        author.actor.as_str().into(),
        author.comment.as_str().into(),
        now_ms.into(),
    ];
    let sql = "INSERT INTO schedule (id, environment_id, flag_id, patch, if_revision, at_ms, state, actor, comment, created_ms) \
               VALUES ($1, $2, $3, $4, $5, $6, 'pending', $7, $8, $9)";
    transaction.execute(sql, &values)?;
    find(transaction, environment, &id.to_string())
}

/// The flag's configuration, and what the patch makes of it.
fn patched(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    flag: &Flag,
    patch: &Json,
    if_revision: Option<i64>,
) -> Result<(Config, Config), Problem> {
    if flag.archived_ms.is_some() {
        return Err(Problem::conflict(format!("the flag {:?} is archived", flag.key)));
    }
    let found = change::config(transaction, environment.id, flag.id)?;
    let (old, revision) = found.ok_or_else(|| StoreError::Broken(format!("{} has no configuration", flag.key)))?;
    if if_revision.is_some_and(|wanted| wanted != revision) {
        return Err(Problem::outdated(revision));
    }
    let new = model::patched(&old, patch.clone())?;
    Ok((old, new))
}

/// At most `limit` of an environment after the id `after`; of one state or flag, where one is named.
pub(crate) fn list(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    state: Option<State>,
    flag_key: Option<&str>,
    after: i64,
    limit: i64,
) -> Result<Vec<Schedule>, StoreError> {
    let mut values: Vec<Value> = vec![environment.id.into(), after.into(), limit.into()];
    let mut condition = String::new();
    for (column, value) in [("state", state.map(State::word)), ("flag.key", flag_key)] {
        if let Some(value) = value {
            values.push(value.into());
            condition.push_str(&format!(" AND {column} = ${}", values.len()));
        }
    }
    let sql =
        format!("{QUERY} WHERE environment_id = $1 AND schedule.id > $2{condition} ORDER BY schedule.id LIMIT $3");
    transaction.rows(&sql, &values)?.into_iter().map(from).collect()
}

pub(crate) fn find(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    id: &str,
) -> Result<Schedule, Problem> {
    find_with(transaction, environment, id, "")
}

/// The same, and nobody else ends it before this transaction does: who fires it at this moment is waited for.
pub(crate) fn lock(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    id: &str,
) -> Result<Schedule, Problem> {
    let locks = transaction.for_update_of("schedule");
    find_with(transaction, environment, id, &locks)
}

fn find_with(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    id: &str,
    locks: &str,
) -> Result<Schedule, Problem> {
    let not_found = || Problem::not_found(format!("no change {id:?} is scheduled in {:?}", environment.path));
    let number: i64 = id.parse().map_err(|_| not_found())?;
    let sql = format!("{QUERY} WHERE environment_id = $1 AND schedule.id = $2{locks}");
    let row = transaction.row(&sql, &[environment.id.into(), number.into()])?;
    row.map_or_else(|| Err(not_found()), |row| Ok(from(row)?))
}

/// Cancels what is pending, which the caller has locked. Who cancels what was cancelled before hears the same.
pub(crate) fn cancel(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    found: &Schedule,
    now_ms: i64,
) -> Result<Schedule, Problem> {
    end(transaction, found.number()?, State::Cancelled, None, now_ms)?;
    let now = find(transaction, environment, &found.id)?;
    if now.state != State::Cancelled {
        return Err(Problem::conflict(format!("it is {} already", now.state.word())));
    }
    Ok(now)
}

/// Cancels all that is pending, of all environments.
pub(crate) fn cancel_all(transaction: &mut dyn Transaction, now_ms: i64) -> Result<u64, StoreError> {
    let sql = "UPDATE schedule SET state = 'cancelled', ended_ms = $1 WHERE state = 'pending'";
    transaction.execute(sql, &[now_ms.into()])
}

/// At most `limit` whose time has come, the earliest first.
pub(crate) fn due(transaction: &mut dyn Transaction, now_ms: i64, limit: i64) -> Result<Vec<Due>, StoreError> {
    let sql =
        "SELECT id, environment_id FROM schedule WHERE state = 'pending' AND at_ms <= $1 ORDER BY at_ms, id LIMIT $2";
    let due = |mut row: Row| Ok(Due { id: row.integer(0)?, environment_id: row.integer(1)? });
    transaction.rows(sql, &[now_ms.into(), limit.into()])?.into_iter().map(due).collect()
}

/// When the next one's time comes.
pub(crate) fn next_at_ms(transaction: &mut dyn Transaction) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT MIN(at_ms) FROM schedule WHERE state = 'pending'";
    transaction.row(sql, &[])?.map_or(Ok(None), |mut row| row.optional_integer(0))
}

/// Makes the change, and the schedule done, in one transaction. Returns the revision; `None` where somebody else has done it, or cancelled it.
///
/// # Errors
/// Why it can't be made; it is still pending then.
pub(crate) fn fire(transaction: &mut dyn Transaction, due: Due, now_ms: i64) -> Result<Option<u64>, Problem> {
    // The environment first, as everybody locks it.
    let locks = transaction.for_update();
    transaction.row(&format!("SELECT id FROM environment WHERE id = $1{locks}"), &[due.environment_id.into()])?;
    let sql = format!(
        "SELECT flag_id, patch, if_revision, actor, comment FROM schedule WHERE id = $1 AND state = 'pending'{locks}"
    );
    let Some(mut row) = transaction.row(&sql, &[due.id.into()])? else { return Ok(None) };
    let (flag_id, patch) = (row.integer(0)?, parsed(&row.text(1)?)?);
    let if_revision = row.optional_integer(2)?;
    let author = Author { actor: format!("{}, scheduled", row.text(3)?), comment: row.text(4)?, deliberate: false };
    let environment = environment::with_id(transaction, due.environment_id)?;
    let environment = environment.ok_or_else(|| StoreError::Broken("an environment is not there".to_owned()))?;
    environment.must_be_open()?;
    let flag = flag::with_id(transaction, flag_id)?;
    let (old, new) = patched(transaction, &environment, &flag, &patch, if_revision)?;
    let revision = if new == old {
        environment.revision
    } else {
        let configured = |config| Configured { flag: flag.clone(), config };
        let edits = vec![Edit { before: Some(configured(old)), after: configured(new) }];
        change::commit(transaction, &environment, &author, "schedule.apply", edits)?
    };
    let sql = "UPDATE schedule SET revision = $2 WHERE id = $1";
    transaction.execute(sql, &[due.id.into(), integer(revision)?.into()])?;
    end(transaction, due.id, State::Done, None, now_ms)?;
    Ok(Some(revision))
}

/// Notes that it can't be applied, and why. Returns whether it was pending still.
pub(crate) fn fail(
    transaction: &mut dyn Transaction,
    due: Due,
    problem: &Json,
    now_ms: i64,
) -> Result<bool, StoreError> {
    end(transaction, due.id, State::Failed, Some(problem.to_string()), now_ms)
}

fn end(
    transaction: &mut dyn Transaction,
    id: i64,
    state: State,
    problem: Option<String>,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let sql = "UPDATE schedule SET state = $2, problem = $3, ended_ms = $4 WHERE id = $1 AND state = 'pending'";
    let values = [id.into(), state.word().into(), problem.into(), now_ms.into()];
    Ok(transaction.execute(sql, &values)? > 0)
}

impl Schedule {
    pub(crate) fn number(&self) -> Result<i64, StoreError> {
        self.id.parse().map_err(|_| StoreError::Broken("a schedule's id is no number".to_owned()))
    }
}

fn from(mut row: Row) -> Result<Schedule, StoreError> {
    let state = serde_json::from_value(row.text(5)?.into()).map_err(|error| StoreError::Broken(error.to_string()))?;
    Ok(Schedule {
        id: row.integer(0)?.to_string(),
        flag: row.text(1)?,
        patch: parsed(&row.text(2)?)?,
        if_revision: row.optional_integer(3)?,
        at_ms: row.integer(4)?,
        state,
        version: if state == State::Pending { 1 } else { 2 },
        actor: row.text(6)?,
        comment: row.text(7)?,
        created_ms: row.integer(8)?,
        ended_ms: row.optional_integer(9)?,
        revision: row.optional_integer(10)?,
        problem: row.optional_text(11)?.map(|text| parsed(&text)).transpose()?,
    })
}

fn parsed(text: &str) -> Result<Json, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Broken(format!("a schedule: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::environment::NewEnvironment;
    use crate::resource::project::{self, NewProject};
    use crate::store::{Direction, Store};
    use serde_json::json;

    const NOON: i64 = 1_800_000_000_000;

    fn author() -> Author {
        Author { actor: "somebody".to_owned(), comment: String::new(), deliberate: false }
    }

    fn furnish(transaction: &mut dyn Transaction) -> Result<(Project, Environment), Problem> {
        let project = project::create(transaction, &NewProject::named("shop"))?;
        let new = NewEnvironment { key: "test".to_owned(), name: String::new(), clone_of: None };
        environment::create(transaction, &project, &new, &author())?;
        let body = serde_json::from_value(json!({})).expect("a flag");
        flag::create(transaction, &project, "a", body, std::collections::BTreeMap::new(), &author())?;
        let environment = environment::find(transaction, &project, "test")?;
        Ok((project, environment))
    }

    fn schedule(
        transaction: &mut dyn Transaction,
        (project, environment): &(Project, Environment),
        at_ms: i64,
        patch: Json,
    ) -> Result<Schedule, Problem> {
        let new = NewSchedule { flag: "a".to_owned(), patch, at_ms, if_revision: None };
        create(transaction, project, environment, &new, &author(), NOON)
    }

    #[tokio::test]
    async fn a_clock_that_jumps_fires_early_or_late_and_never_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let location = format!("sqlite:{}", folder.path().join("db").display()).parse().expect("a location");
        let (store, _news) = Store::open(&location).expect("a database");
        store.migrate(Direction::Up).await.expect("tables");
        let work = |transaction: &mut dyn Transaction| -> Result<(), Problem> {
            let place = furnish(transaction)?;
            let first = schedule(transaction, &place, NOON + 60_000, json!({"state": "ENABLED"}))?;
            let second = schedule(transaction, &place, NOON + 30_000, json!({"defaultVariant": "on"}))?;
            assert_eq!(next_at_ms(transaction)?, Some(NOON + 30_000));
            assert!(due(transaction, NOON, 10)?.is_empty());
            // An hour forward: both, in their order.
            let ripe = due(transaction, NOON + 3_600_000, 10)?;
            assert_eq!(ripe.iter().map(|due| due.id.to_string()).collect::<Vec<_>>(), [second.id, first.id]);
            assert_eq!(fire(transaction, ripe[0], NOON + 3_600_000)?, Some(3));
            // A day back: the one that was done is done, the other waits again.
            assert!(due(transaction, NOON - 86_400_000, 10)?.is_empty());
            assert_eq!(next_at_ms(transaction)?, Some(NOON + 60_000));
            assert_eq!(fire(transaction, ripe[0], NOON - 86_400_000)?, None, "not again, whoever asks");
            // And on.
            assert_eq!(due(transaction, NOON + 60_000, 10)?, [ripe[1]]);
            assert_eq!(fire(transaction, ripe[1], NOON + 60_000)?, Some(4));
            assert_eq!(due(transaction, i64::MAX, 10)?, []);
            Ok(())
        };
        store.write(work).await.expect("all of it");
    }
}
