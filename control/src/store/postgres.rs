//! PostgreSQL: any number of replicas of this program on one database.
//!
//! A URL with several hosts and `target_session_attrs=read-write` finds the standby that was promoted: connections that broke are
//! made anew, and those that are only good for reading (a primary that became a standby) are given up.

use std::collections::HashMap;
use std::error::Error as _;
use std::thread;
use std::time::Duration;

use ::postgres::error::SqlState;
use ::postgres::fallible_iterator::FallibleIterator;
use ::postgres::types::private::BytesMut;
use ::postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use ::postgres::{Client, IsolationLevel, Statement};

use super::group::{self, Job};
use super::pool::Pool;
use super::postgres_tls::Way;
use super::{News, Row, StoreError, Tell, Transaction, Value};

/// Connections of one replica.
const CONNECTIONS: usize = 8;

/// The channel of LISTEN and NOTIFY.
const CHANNEL: &str = "flags";

/// What is told there when tokens have changed; of an environment its id, and after a space whose change it was.
const TOKENS: &str = "tokens";

/// How many statements a connection keeps prepared. Nearly all are the same few; those of searches vary.
const STATEMENTS: usize = 256;

/// How long the listener waits before it connects anew.
const RECONNECT: Duration = Duration::from_millis(200);

/// How often the listener looks whether somebody still wants news, and whether its connection lives.
const LISTEN_TURN: Duration = Duration::from_secs(1);

pub(super) struct Postgres {
    way: Way,
    pool: Pool<Connection>,
    /// Other than that of every other run of this program.
    instance: String,
    tell: Tell,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Closing a connection blocks, which a thread of an asynchronous runtime must not.
        let idle = self.pool.take_idle();
        let _ = thread::spawn(move || drop(idle)).join();
    }
}

impl Postgres {
    pub(super) fn open(url: &str, tell: Tell) -> Result<Self, StoreError> {
        let mut way = Way::parse(url)?;
        let config = &mut way.config;
        config.application_name("flags-control");
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(3));
        }
        config.keepalives_idle(Duration::from_secs(5));
        config.tcp_user_timeout(Duration::from_secs(10));
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| StoreError::Broken(format!("no random bytes: {error}")))?;
        let instance = format!("{:016x}", u64::from_le_bytes(random));
        let listener = Listener { way: way.clone(), instance: instance.clone(), tell: tell.clone() };
        let spawned = thread::Builder::new().name("listen".to_owned()).spawn(move || listener.listen());
        spawned.map_err(|error| StoreError::Broken(format!("no thread: {error}")))?;
        Ok(Self { way, pool: Pool::new(CONNECTIONS), instance, tell })
    }

    /// Works jobs in one transaction, and commits what is kept.
    pub(super) fn write(&self, jobs: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        let mut news = Vec::new();
        // Rows that are read to be written are locked (`for_update`), so this level is enough.
        self.run(IsolationLevel::ReadCommitted, false, |active| {
            let (is_alone, mut anything) = (jobs.len() == 1, false);
            for job in jobs {
                let told = active.news.len();
                if !is_alone {
                    active.batch("SAVEPOINT job")?;
                }
                let is_kept = group::is_kept(job.as_mut(), active);
                if let Some(why) = &active.lost {
                    return Err(StoreError::Unavailable(why.clone()));
                }
                if !is_kept {
                    active.news.truncate(told);
                }
                if !is_alone {
                    active.batch(if is_kept { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" })?;
                }
                anything |= is_kept;
            }
            active.tell_others()?;
            news = std::mem::take(&mut active.news);
            Ok(((), anything))
        })?;
        self.tell.committed(news);
        Ok(())
    }

    pub(super) fn read<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        self.run(IsolationLevel::RepeatableRead, true, |active| work(active).map(|value| (value, true)))
    }

    fn connect(&self) -> Result<Connection, ::postgres::Error> {
        let mut client = self.way.connect()?;
        // A commit that waits for a standby must not be cut short: the server would call it done before the standby has it.
        client.batch_execute("SET statement_timeout = 0")?;
        Ok(Connection { client, statements: HashMap::new() })
    }

    /// A transaction, committed where `work` says so.
    fn run<T, E: From<StoreError>>(
        &self,
        isolation: IsolationLevel,
        only_read: bool,
        work: impl FnOnce(&mut Active<'_>) -> Result<(T, bool), E>,
    ) -> Result<T, E> {
        let connect = || self.connect().map_err(error);
        let mut is_lost = false;
        let result = self.pool.with(connect, |connection| {
            let Connection { client, statements } = connection;
            if statements.len() > STATEMENTS {
                statements.clear();
            }
            let begun = client.build_transaction().isolation_level(isolation).read_only(only_read).start();
            let result = begun.map_err(|cause| E::from(error(cause))).and_then(|transaction| {
                let mut active =
                    Active { transaction, statements, news: Vec::new(), instance: &self.instance, lost: None };
                let result = work(&mut active);
                let transaction = active.transaction;
                is_lost = active.lost.is_some();
                match result {
                    Ok((value, true)) => transaction.commit().map(|()| value).map_err(|cause| {
                        let cause = error(cause);
                        is_lost |= matches!(cause, StoreError::Unavailable(_));
                        E::from(cause)
                    }),
                    // Dropping it rolls back.
                    Ok((value, false)) => Ok(value),
                    Err(error) => Err(error),
                }
            });
            let is_good = !client.is_closed() && !is_lost;
            is_lost |= client.is_closed();
            (result, is_good)
        });
        if is_lost {
            // Another server may answer now.
            drop(self.pool.take_idle());
        }
        result
    }
}

/// A connection, and what the server has prepared for it.
struct Connection {
    client: Client,
    statements: HashMap<String, Statement>,
}

struct Active<'c> {
    transaction: ::postgres::Transaction<'c>,
    statements: &'c mut HashMap<String, Statement>,
    news: Vec<News>,
    /// Of this program's run, for others' news not to come back.
    instance: &'c str,
    /// Why the connection is of no more use, by a statement that failed so.
    lost: Option<String>,
}

impl Active<'_> {
    fn note(&mut self, cause: ::postgres::Error) -> StoreError {
        let cause = error(cause);
        if let StoreError::Unavailable(why) = &cause {
            self.lost = Some(why.clone());
        }
        cause
    }

    /// Parsed and planned by the server once a connection.
    fn prepared(&mut self, sql: &str) -> Result<Statement, StoreError> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.transaction.prepare(sql).map_err(|cause| self.note(cause))?;
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Tells the other replicas when this is committed, each thing once.
    fn tell_others(&mut self) -> Result<(), StoreError> {
        let mut payloads: Vec<String> = Vec::new();
        for news in &self.news {
            let payload = match news {
                News::Environment(id) | News::Change { environment: id, .. } => format!("{id} {}", self.instance),
                News::Tokens => TOKENS.to_owned(),
                News::Anything => String::new(),
            };
            if !payloads.contains(&payload) {
                payloads.push(payload);
            }
        }
        for payload in payloads {
            self.rows("SELECT pg_notify($1, $2)", &[CHANNEL.into(), payload.into()])?;
        }
        Ok(())
    }
}

impl Transaction for Active<'_> {
    fn rows(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        let statement = self.prepared(sql)?;
        let rows = self.transaction.query(&statement, &values).map_err(|cause| self.note(cause))?;
        rows.iter().map(row).collect()
    }

    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, StoreError> {
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        let statement = self.prepared(sql)?;
        self.transaction.execute(&statement, &values).map_err(|cause| self.note(cause))
    }

    fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        self.transaction.batch_execute(sql).map_err(|cause| self.note(cause))
    }

    fn for_update(&self) -> &'static str {
        " FOR UPDATE"
    }

    fn for_update_but_key(&self) -> &'static str {
        " FOR NO KEY UPDATE"
    }

    fn notify(&mut self, news: News) -> Result<(), StoreError> {
        self.news.push(news);
        Ok(())
    }
}

fn row(row: &::postgres::Row) -> Result<Row, StoreError> {
    let value = |(at, column): (usize, &::postgres::Column)| {
        let got = match *column.type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(at).map(Value::from),
            Type::INT4 => row.try_get::<_, Option<i32>>(at).map(|v| v.map(i64::from).into()),
            Type::BOOL => row.try_get::<_, Option<bool>>(at).map(|v| v.map(i64::from).into()),
            Type::TEXT | Type::VARCHAR => row.try_get::<_, Option<String>>(at).map(Value::from),
            Type::BYTEA => row.try_get::<_, Option<&[u8]>>(at).map(Value::from),
            // `pg_notify` gives this; nobody reads it.
            _ => Ok(Value::Null),
        };
        got.map_err(error)
    };
    row.columns().iter().enumerate().map(value).collect::<Result<_, _>>().map(Row)
}

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(integer) if *ty == Type::INT4 => i32::try_from(*integer)?.to_sql(ty, out),
            Self::Integer(integer) => integer.to_sql(ty, out),
            Self::Text(text) => text.to_sql(ty, out),
            Self::Bytes(bytes) => bytes.to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::INT8 | Type::INT4 | Type::TEXT | Type::VARCHAR | Type::BYTEA)
    }

    to_sql_checked!();
}

fn error(error: ::postgres::Error) -> StoreError {
    let said = error.as_db_error().map(|said| said.message().to_owned());
    let Some(state) = error.code().cloned() else {
        // No answer of a server: the way to it broke.
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        return StoreError::Unavailable(format!("{error}: {cause}"));
    };
    if state == SqlState::UNIQUE_VIOLATION {
        return StoreError::Taken;
    }
    let said = said.unwrap_or_else(|| error.to_string());
    if state == SqlState::DISK_FULL {
        return StoreError::Full(said);
    }
    // Connection, resources, operator intervention, system error; and what is right to try again.
    let passes = ["08", "53", "57", "58", "40"].iter().any(|class| state.code().starts_with(class));
    let passes = passes || state == SqlState::READ_ONLY_SQL_TRANSACTION || state == SqlState::CANNOT_CONNECT_NOW;
    // A statement that was prepared before somebody changed the tables: another connection knows the new ones.
    let passes = passes || state == SqlState::FEATURE_NOT_SUPPORTED && said.contains("cached plan");
    if passes { StoreError::Unavailable(said) } else { StoreError::Broken(format!("{said} ({})", state.code())) }
}

/// Hands on what replicas tell, until nobody wants it. Whenever the connection was lost, anything may have happened.
struct Listener {
    way: Way,
    instance: String,
    tell: Tell,
}

impl Listener {
    fn listen(&self) {
        while !self.tell.is_closed() {
            if let Ok(mut client) = self.way.connect()
                && client.batch_execute(&format!("LISTEN {CHANNEL}")).is_ok()
            {
                if !self.tell.tell(News::Anything) {
                    return;
                }
                self.hand_on(&mut client);
            }
            thread::sleep(RECONNECT);
        }
    }

    /// Returns when the connection broke, or nobody wants news any more.
    fn hand_on(&self, client: &mut Client) {
        while !self.tell.is_closed() && !client.is_closed() {
            if self.hand_on_for_a_turn(client).is_err() {
                return;
            }
            // A server that is gone without a word is noticed by asking.
            if client.batch_execute("").is_err() {
                return;
            }
        }
    }

    fn hand_on_for_a_turn(&self, client: &mut Client) -> Result<(), ::postgres::Error> {
        let mut notifications = client.notifications();
        let mut turn = notifications.timeout_iter(LISTEN_TURN);
        while let Some(told) = turn.next()? {
            let (what, from) = told.payload().split_once(' ').unwrap_or((told.payload(), ""));
            if from == self.instance {
                // Told here when it was committed.
                continue;
            }
            let news = match what {
                TOKENS => News::Tokens,
                what => what.parse().map_or(News::Anything, News::Environment),
            };
            if !self.tell.tell(news) {
                break;
            }
        }
        Ok(())
    }
}
