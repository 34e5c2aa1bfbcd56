//! SQLite, in the process: one connection writes, several read (WAL).

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::group::{self, Job};
use super::pool::Pool;
use super::{News, Row, StoreError, Tell, Transaction, Value};

/// Connections that read.
const READERS: usize = 4;

/// How long one waits for another process that writes: `backup` and `migrate` beside a server.
const BUSY: Duration = Duration::from_secs(5);

pub(super) struct Sqlite {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Pool<Connection>,
    tell: Tell,
}

impl Sqlite {
    pub(super) fn open(path: &Path, tell: Tell) -> Result<Self, StoreError> {
        let writer = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        // FULL: a commit that was acknowledged outlives a power failure, too.
        writer
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
            .map_err(error)?;
        Ok(Self { path: path.to_owned(), writer: Mutex::new(writer), readers: Pool::new(READERS), tell })
    }

    /// Works jobs in one transaction, and commits what is kept.
    pub(super) fn write(&self, jobs: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        // A panic in a transaction has rolled it back: the connection is good.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate).map_err(error)?;
        let mut active = Active::new(&transaction);
        let (is_alone, mut anything) = (jobs.len() == 1, false);
        for job in jobs {
            let told = active.news.len();
            if !is_alone {
                active.batch("SAVEPOINT job")?;
            }
            let is_kept = group::is_kept(job.as_mut(), &mut active);
            if transaction.is_autocommit() {
                // A full disk, say, takes back everything, also what went well before.
                let unsaid = || StoreError::Unavailable("SQLite has rolled back the transaction".to_owned());
                return Err(active.trouble.take().unwrap_or_else(unsaid));
            }
            if !is_kept {
                active.news.truncate(told);
            }
            if !is_alone {
                active.batch(if is_kept { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" })?;
            }
            anything |= is_kept;
        }
        let news = active.news;
        if anything {
            transaction.commit().map_err(error)?;
            self.tell.committed(news);
        }
        Ok(())
    }

    pub(super) fn read<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let connect = || connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        self.readers.with(connect, |reader| {
            let transaction = match reader.transaction() {
                Ok(transaction) => transaction,
                Err(cause) => return (Err(error(cause).into()), false),
            };
            let result = work(&mut Active::new(&transaction));
            (result, transaction.finish().is_ok())
        })
    }

    pub(super) fn back_up(&self, to: &Path) -> Result<(), StoreError> {
        if to.exists() {
            return Err(StoreError::Broken(format!("{} exists already", to.display())));
        }
        let from = connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        from.backup("main", to, None).map_err(error)
    }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(error)?;
    connection.busy_timeout(BUSY).map_err(error)?;
    connection.set_prepared_statement_cache_capacity(64);
    // SQLite's own knows the letters of ASCII alone.
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    let lower = |context: &Context<'_>| Ok(context.get::<Option<String>>(0)?.map(|text| text.to_lowercase()));
    connection.create_scalar_function("lower", 1, flags, lower).map_err(error)?;
    Ok(connection)
}

struct Active<'c> {
    connection: &'c Connection,
    news: Vec<News>,
    /// Why the database could not do something, other than for what it was asked.
    trouble: Option<StoreError>,
}

impl<'c> Active<'c> {
    fn new(connection: &'c Connection) -> Self {
        Self { connection, news: Vec::new(), trouble: None }
    }

    fn noted<T>(&mut self, result: rusqlite::Result<T>) -> Result<T, StoreError> {
        result.map_err(|cause| {
            let error = error(cause);
            if matches!(error, StoreError::Full(_) | StoreError::Unavailable(_)) {
                self.trouble = Some(error.clone());
            }
            error
        })
    }
}

impl Transaction for Active<'_> {
    fn rows(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let rows = (|| {
            let mut statement = self.connection.prepare_cached(&numbered(sql))?;
            let columns = statement.column_count();
            let rows = statement.query_map(rusqlite::params_from_iter(values), |row| {
                (0..columns).map(|column| row.get_ref(column).map(value)).collect::<Result<Vec<_>, _>>().map(Row)
            })?;
            rows.collect()
        })();
        self.noted(rows)
    }

    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, StoreError> {
        let prepared = self.connection.prepare_cached(&numbered(sql));
        let rows = prepared.and_then(|mut statement| statement.execute(rusqlite::params_from_iter(values)));
        self.noted(rows).map(|rows| rows as u64)
    }

    fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        let done = self.connection.execute_batch(sql);
        self.noted(done)
    }

    fn for_update(&self) -> &'static str {
        // Whoever writes holds the whole database.
        ""
    }

    fn notify(&mut self, news: News) -> Result<(), StoreError> {
        self.news.push(news);
        Ok(())
    }
}

/// `$1` is a name to SQLite; `?1` is the first value.
fn numbered(sql: &str) -> String {
    sql.replace('$', "?")
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        // No column holds such a number.
        ValueRef::Real(real) => Value::Text(real.to_string()),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(integer) => ValueRef::Integer(*integer),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

pub(super) fn error(error: rusqlite::Error) -> StoreError {
    use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE, SQLITE_IOERR_SHMSIZE};
    if let rusqlite::Error::SqliteFailure(failure, _) = &error {
        if matches!(failure.extended_code, SQLITE_CONSTRAINT_UNIQUE | SQLITE_CONSTRAINT_PRIMARYKEY) {
            return StoreError::Taken;
        }
        if failure.code == ErrorCode::DiskFull {
            return StoreError::Full(error.to_string());
        }
        if failure.extended_code == SQLITE_IOERR_SHMSIZE {
            return StoreError::Full("the file beside it that its connections share (-shm) can't be made".to_owned());
        }
        let passes = [
            ErrorCode::DatabaseBusy,
            ErrorCode::DatabaseLocked,
            ErrorCode::SystemIoFailure,
            ErrorCode::CannotOpen,
            ErrorCode::ReadOnly,
        ];
        if passes.contains(&failure.code) {
            return StoreError::Unavailable(error.to_string());
        }
    }
    StoreError::Broken(error.to_string())
}
