//! PostgreSQL: any number of replicas of this program on one database.
//!
//! A URL with several hosts and `target_session_attrs=read-write` finds the standby that was promoted: connections that broke are
//! made anew, and those that are only good for reading (a primary that became a standby) are given up.

use std::error::Error as _;
use std::thread;
use std::time::Duration;

use ::postgres::error::SqlState;
use ::postgres::fallible_iterator::FallibleIterator;
use ::postgres::types::private::BytesMut;
use ::postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use ::postgres::{Client, Config, IsolationLevel, NoTls};
use tokio::sync::mpsc;

use super::pool::Pool;
use super::{News, Row, StoreError, Transaction, Value};

/// Connections of one replica.
const CONNECTIONS: usize = 8;

/// The channel of LISTEN and NOTIFY.
const CHANNEL: &str = "flags";

/// How long the listener waits before it connects anew.
const RECONNECT: Duration = Duration::from_millis(200);

/// How often the listener looks whether somebody still wants news, and whether its connection lives.
const LISTEN_TURN: Duration = Duration::from_secs(1);

pub(super) struct Postgres {
    config: Config,
    pool: Pool<Client>,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Closing a connection blocks, which a thread of an asynchronous runtime must not.
        let idle = self.pool.take_idle();
        let _ = thread::spawn(move || drop(idle)).join();
    }
}

impl Postgres {
    pub(super) fn open(url: &str, tell: mpsc::UnboundedSender<News>) -> Result<Self, StoreError> {
        // The error's text would show the URL's password.
        let mut config: Config =
            url.parse().map_err(|_| StoreError::Broken("the URL of the database is not understood".to_owned()))?;
        config.application_name("flags-control");
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(3));
        }
        config.keepalives_idle(Duration::from_secs(5));
        config.tcp_user_timeout(Duration::from_secs(10));
        let listener = config.clone();
        let spawned = thread::Builder::new().name("listen".to_owned()).spawn(move || listen(&listener, &tell));
        spawned.map_err(|error| StoreError::Broken(format!("no thread: {error}")))?;
        Ok(Self { config, pool: Pool::new(CONNECTIONS) })
    }

    pub(super) fn write<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        // Rows that are read to be written are locked (`for_update`), so this level is enough.
        self.run(false, work)
    }

    pub(super) fn read<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        self.run(true, work)
    }

    fn run<T, E: From<StoreError>>(
        &self,
        only_read: bool,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let connect = || self.config.connect(NoTls).map_err(error);
        let mut is_lost = false;
        let result = self.pool.with(connect, |client| {
            let isolation = if only_read { IsolationLevel::RepeatableRead } else { IsolationLevel::ReadCommitted };
            let begun = client.build_transaction().isolation_level(isolation).read_only(only_read).start();
            let result = begun.map_err(|cause| E::from(error(cause))).and_then(|transaction| {
                let mut active = Active { transaction, is_lost: false };
                let result = work(&mut active);
                let transaction = active.transaction;
                is_lost = active.is_lost;
                match result {
                    Ok(value) => transaction.commit().map(|()| value).map_err(|cause| {
                        let cause = error(cause);
                        is_lost |= matches!(cause, StoreError::Unavailable(_));
                        E::from(cause)
                    }),
                    // Dropping it rolls back.
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

struct Active<'c> {
    transaction: ::postgres::Transaction<'c>,
    /// Whether a statement failed in a way that says the connection is of no more use.
    is_lost: bool,
}

impl Active<'_> {
    fn note(&mut self, cause: ::postgres::Error) -> StoreError {
        let cause = error(cause);
        self.is_lost |= matches!(cause, StoreError::Unavailable(_));
        cause
    }
}

impl Transaction for Active<'_> {
    fn rows(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        let rows = self.transaction.query(sql, &values).map_err(|cause| self.note(cause))?;
        rows.iter().map(row).collect()
    }

    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, StoreError> {
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        self.transaction.execute(sql, &values).map_err(|cause| self.note(cause))
    }

    fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        self.transaction.batch_execute(sql).map_err(|cause| self.note(cause))
    }

    fn for_update(&self) -> &'static str {
        " FOR UPDATE"
    }

    fn notify(&mut self, news: News) -> Result<(), StoreError> {
        let payload = match news {
            News::Environment(id) => id.to_string(),
            News::Tokens => "tokens".to_owned(),
            News::Anything => String::new(),
        };
        self.rows("SELECT pg_notify($1, $2)", &[CHANNEL.into(), payload.into()]).map(drop)
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
    // Connection, resources, operator intervention, system error; and what is right to try again.
    let passes = ["08", "53", "57", "58", "40"].iter().any(|class| state.code().starts_with(class));
    let passes = passes || state == SqlState::READ_ONLY_SQL_TRANSACTION || state == SqlState::CANNOT_CONNECT_NOW;
    if passes { StoreError::Unavailable(said) } else { StoreError::Broken(format!("{said} ({})", state.code())) }
}

/// Hands on what replicas tell, until nobody wants it. Whenever the connection was lost, anything may have happened.
fn listen(config: &Config, tell: &mpsc::UnboundedSender<News>) {
    while !tell.is_closed() {
        if let Ok(mut client) = config.connect(NoTls)
            && client.batch_execute(&format!("LISTEN {CHANNEL}")).is_ok()
        {
            if tell.send(News::Anything).is_err() {
                return;
            }
            hand_on(&mut client, tell);
        }
        thread::sleep(RECONNECT);
    }
}

/// Returns when the connection broke, or nobody wants news any more.
fn hand_on(client: &mut Client, tell: &mpsc::UnboundedSender<News>) {
    while !tell.is_closed() && !client.is_closed() {
        if hand_on_for_a_turn(client, tell).is_err() {
            return;
        }
        // A server that is gone without a word is noticed by asking.
        if client.batch_execute("").is_err() {
            return;
        }
    }
}

fn hand_on_for_a_turn(client: &mut Client, tell: &mpsc::UnboundedSender<News>) -> Result<(), ::postgres::Error> {
    let mut notifications = client.notifications();
    let mut turn = notifications.timeout_iter(LISTEN_TURN);
    while let Some(told) = turn.next()? {
        let news = match told.payload() {
            "tokens" => News::Tokens,
            payload => payload.parse().map_or(News::Anything, News::Environment),
        };
        if tell.send(news).is_err() {
            break;
        }
    }
    Ok(())
}
