//! Where everything is kept: SQLite or PostgreSQL, behind one kind of transaction.
//!
//! Statements are written once, in what both databases understand, with `$1` for the first value. Work on a database blocks, so it is done on
//! threads for that; writes that come at once may share a transaction, and each is taken back alone.

mod group;
mod migrate;
mod pool;
mod postgres;
mod postgres_tls;
mod sqlite;
pub(crate) mod sqlite_file;
mod value;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::histogram;
use tokio::sync::{mpsc, oneshot};

use crate::trace;
use group::{Job, Lanes};
pub(crate) use migrate::Direction;
pub(crate) use value::{Row, Value};

/// One transaction. What it returns an error from is rolled back whole.
pub(crate) trait Transaction {
    /// The rows of a query.
    fn rows(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, StoreError>;

    /// How many rows a statement changed.
    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, StoreError>;

    /// Several statements without values.
    fn batch(&mut self, sql: &str) -> Result<(), StoreError>;

    /// What ends a query whose rows nobody else may change before this transaction ends.
    fn for_update(&self) -> &'static str;

    /// The same for rows that stay, with their keys: others may go on referring to them.
    fn for_update_but_key(&self) -> &'static str {
        self.for_update()
    }

    /// What [`for_update`](Self::for_update) says for a query of several tables, of which only the rows of `table` are locked.
    fn for_update_of(&self, table: &str) -> String {
        let locks = self.for_update();
        if locks.is_empty() { String::new() } else { format!("{locks} OF {table}") }
    }

    /// Tells every replica, once this is committed.
    fn notify(&mut self, news: News) -> Result<(), StoreError>;
}

impl dyn Transaction + '_ {
    /// The only row of a query, if there is one.
    pub(crate) fn row(&mut self, sql: &str, values: &[Value]) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(sql, values)?.pop())
    }

    /// A number that no row has yet.
    pub(crate) fn new_id(&mut self) -> Result<i64, StoreError> {
        let row = self.row("UPDATE number SET next = next + 1 WHERE name = 'id' RETURNING next - 1", &[])?;
        row.ok_or_else(|| StoreError::Broken("the table `number` is empty".to_owned()))?.integer(0)
    }
}

/// How long a write waits until this replica shows it to hosts. What keeps that busy for longer has its own troubles.
const SHOWN: Duration = Duration::from_millis(250);

/// What replicas tell each other.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// An environment with this id has new changes, or is new.
    Environment(i64),
    /// The next change of an environment: its text. Other replicas are told of the environment only.
    Change { environment: i64, revision: u64, text: Arc<str> },
    /// Tokens have changed.
    Tokens,
    /// The connection that brings news was lost: anything may have happened.
    Anything,
}

/// What comes out of [`Store::open`].
#[derive(Debug)]
pub(crate) enum Told {
    News(News),
    /// Somebody wants to know when all that was told before is taken in.
    Mark(oneshot::Sender<()>),
}

/// Where it goes in.
#[derive(Clone)]
struct Tell(mpsc::UnboundedSender<Told>);

impl Tell {
    /// False where nobody listens any more, as in a program that ends after this.
    fn tell(&self, news: News) -> bool {
        self.0.send(Told::News(news)).is_ok()
    }

    /// Tells what a transaction that is committed has to tell.
    fn committed(&self, news: Vec<News>) {
        for news in news {
            if let News::Change { environment, revision, .. } = &news {
                tracing::debug!(environment, revision, "committed");
            }
            self.tell(news);
        }
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    async fn mark(&self) {
        let (mark, reached) = oneshot::channel();
        if self.0.send(Told::Mark(mark)).is_ok() {
            let _ = tokio::time::timeout(SHOWN, reached).await;
        }
    }
}

/// Why the store did not do something.
#[derive(Clone, Debug)]
pub(crate) enum StoreError {
    /// It can't be reached, or is not to be written now; it may be later. Whether a commit that was under way happened is not known.
    Unavailable(String),
    /// There is no room left where it writes. Nothing has changed.
    Full(String),
    /// Another row has this key already.
    Taken,
    /// It holds what it never should, or a statement is wrong.
    Broken(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) => write!(f, "the database is unavailable: {why}"),
            Self::Full(why) => write!(f, "the database has no room left: {why}"),
            Self::Taken => f.write_str("the key is taken"),
            Self::Broken(why) => write!(f, "the database failed: {why}"),
        }
    }
}

impl std::error::Error for StoreError {}

/// Which database, as a text: `sqlite:PATH` or `postgres://…` with everything libpq's URLs have, several hosts included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    Sqlite(PathBuf),
    /// A URL; it may hold a password.
    Postgres(String),
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
            return Ok(Self::Sqlite(path.into()));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.to_owned()));
        }
        Err("a database is `sqlite:PATH` or `postgres://…`".to_owned())
    }
}

/// The database.
#[derive(Clone)]
pub(crate) struct Store(Arc<Inner>);

struct Inner {
    backend: Backend,
    lanes: Lanes,
    tell: Tell,
}

enum Backend {
    Sqlite(sqlite::Sqlite),
    Postgres(postgres::Postgres),
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.backend {
            Backend::Sqlite(_) => "Store(SQLite)",
            Backend::Postgres(_) => "Store(PostgreSQL)",
        })
    }
}

impl Store {
    /// Opens it; a SQLite file is created where there is none. What replicas tell comes out of the receiver.
    ///
    /// # Errors
    /// Where it can't be opened. A PostgreSQL server that does not answer is found out later.
    pub(crate) fn open(location: &Location) -> Result<(Self, mpsc::UnboundedReceiver<Told>), StoreError> {
        let (tell, news) = mpsc::unbounded_channel();
        let tell = Tell(tell);
        let backend = match location {
            Location::Sqlite(path) => Backend::Sqlite(sqlite::Sqlite::open(path, tell.clone())?),
            Location::Postgres(url) => Backend::Postgres(postgres::Postgres::open(url, tell.clone())?),
        };
        Ok((Self(Arc::new(Inner { backend, lanes: Lanes::default(), tell })), news))
    }

    /// Does `work` in a transaction that may write. When this returns, what it changed is shown to hosts of this replica, unless that takes unusually long.
    ///
    /// # Errors
    /// `work`'s; nothing has changed then. And where the store can't do it.
    pub(crate) async fn write<T, E, W>(&self, work: W) -> Result<T, E>
    where
        W: FnOnce(&mut dyn Transaction) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.write_in(None, work).await
    }

    /// The same, where `work` locks nothing but the environment at this path (`project/environment`): what others write there at
    /// the same time may share the transaction. (All that comes to SQLite does: there is one writer anyway.)
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(crate) async fn write_at<T, E, W>(&self, path: &str, work: W) -> Result<T, E>
    where
        W: FnOnce(&mut dyn Transaction) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.write_in(Some(path), work).await
    }

    async fn write_in<T, E, W>(&self, path: Option<&str>, work: W) -> Result<T, E>
    where
        W: FnOnce(&mut dyn Transaction) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (mut job, answer) = group::job(work);
        let store = self.clone();
        let lane = match &self.0.backend {
            Backend::Sqlite(_) => Some(String::new()),
            Backend::Postgres(_) => path.map(str::to_owned),
        };
        match lane {
            Some(lane) => {
                if self.0.lanes.enter(&lane, job) {
                    tokio::task::spawn_blocking(move || store.0.lanes.work(&lane, |jobs| store.transact(jobs)));
                }
            }
            None => {
                tokio::task::spawn_blocking(move || {
                    let committed = store.transact(std::slice::from_mut(&mut job));
                    job.answer(&committed);
                });
            }
        }
        let start = Instant::now();
        let part = trace::part("database write");
        let result = answer.await.unwrap_or_else(|_| Err(panicked().into()));
        drop(part);
        histogram!("flags_control_store_seconds", "kind" => "write").record(start.elapsed());
        if result.is_ok() {
            let _part = trace::part("publish");
            self.0.tell.mark().await;
        }
        result
    }

    fn transact(&self, jobs: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        match &self.0.backend {
            Backend::Sqlite(sqlite) => sqlite.write(jobs),
            Backend::Postgres(postgres) => postgres.write(jobs),
        }
    }

    /// Does `work`, all of which sees one state of the database.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(crate) async fn read<T, E, W>(&self, work: W) -> Result<T, E>
    where
        W: FnOnce(&mut dyn Transaction) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let store = self.clone();
        blocking("read", move || match &store.0.backend {
            Backend::Sqlite(sqlite) => sqlite.read(work),
            Backend::Postgres(postgres) => postgres.read(work),
        })
        .await
    }

    /// The same for what is of no use later than this: a statement that takes longer is given up by a server. One that hangs gives up nothing.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(crate) async fn read_within<T, E, W>(&self, limit: Duration, work: W) -> Result<T, E>
    where
        W: FnOnce(&mut dyn Transaction) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let is_served = matches!(self.0.backend, Backend::Postgres(_));
        let work = move |transaction: &mut dyn Transaction| {
            if is_served {
                transaction.batch(&format!("SET LOCAL statement_timeout = {}", limit.as_millis()))?;
            }
            work(transaction)
        };
        self.read(work).await
    }

    /// Brings the tables up to what this version wants, or takes the last step back.
    ///
    /// Returns the names of the steps that were done.
    ///
    /// # Errors
    /// Where a step fails; what it did is undone. And where the tables are newer than this version knows.
    pub(crate) async fn migrate(&self, direction: Direction) -> Result<Vec<&'static str>, StoreError> {
        self.write(move |transaction| migrate::migrate(transaction, direction)).await
    }

    /// The steps that are missing.
    pub(crate) async fn missing_steps(&self) -> Result<Vec<&'static str>, StoreError> {
        self.read(migrate::missing).await
    }

    /// Writes a copy of an SQLite database to a new file.
    ///
    /// # Errors
    /// Where that fails, and for PostgreSQL, which has tools of its own.
    pub(crate) async fn back_up(&self, to: PathBuf) -> Result<(), StoreError> {
        let store = self.clone();
        blocking("backup", move || match &store.0.backend {
            Backend::Sqlite(sqlite) => sqlite.back_up(&to),
            Backend::Postgres(_) => Err(StoreError::Broken("a PostgreSQL database is backed up by pg_dump".to_owned())),
        })
        .await
    }
}

/// Does what blocks where that may be; `kind` is what it is timed as, the wait for a connection included.
async fn blocking<T, E>(kind: &'static str, work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    let start = Instant::now();
    let _part = trace::part(if kind == "read" { "database read" } else { "database backup" });
    let done = tokio::task::spawn_blocking(work).await;
    histogram!("flags_control_store_seconds", "kind" => kind).record(start.elapsed());
    match done {
        Ok(result) => result,
        Err(_) => Err(panicked().into()),
    }
}

fn panicked() -> StoreError {
    StoreError::Broken("a transaction panicked".to_owned())
}
