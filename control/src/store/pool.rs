//! Connections that are lent out one at a time.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::StoreError;

/// How long one waits for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Up to so many connections, made when they are needed.
pub(super) struct Pool<C> {
    state: Mutex<State<C>>,
    freed: Condvar,
    most: usize,
}

struct State<C> {
    idle: Vec<C>,
    lent: usize,
}

impl<C> Pool<C> {
    pub(super) fn new(most: usize) -> Self {
        Self { state: Mutex::new(State { idle: Vec::new(), lent: 0 }), freed: Condvar::new(), most }
    }

    /// Does `work` with a connection, which `connect` makes where none is idle. `work` says whether the connection is still good.
    pub(super) fn with<T, E: From<StoreError>>(
        &self,
        connect: impl FnOnce() -> Result<C, StoreError>,
        work: impl FnOnce(&mut C) -> (Result<T, E>, bool),
    ) -> Result<T, E> {
        let idle = self.borrow()?;
        // Gives the place back whatever happens below, a panic included.
        let mut place = Place { pool: self, connection: None };
        let mut connection = match idle {
            Some(connection) => connection,
            None => connect()?,
        };
        let (result, is_good) = work(&mut connection);
        if is_good {
            place.connection = Some(connection);
        }
        result
    }

    /// What is idle, for the caller to close.
    pub(super) fn take_idle(&self) -> Vec<C> {
        std::mem::take(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).idle)
    }

    fn borrow(&self) -> Result<Option<C>, StoreError> {
        let until = Instant::now() + PATIENCE;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.lent < self.most {
                state.lent += 1;
                return Ok(state.idle.pop());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(StoreError::Unavailable(format!("all {} connections are busy", self.most)));
            }
            state = self.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

struct Place<'p, C> {
    pool: &'p Pool<C>,
    connection: Option<C>,
}

impl<C> Drop for Place<'_, C> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.lent -= 1;
        state.idle.extend(self.connection.take());
        drop(state);
        self.pool.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_used_again_unless_they_broke() {
        let pool = Pool::new(1);
        let mut made = 0;
        for (is_good, expected) in [(true, 1), (false, 1), (true, 2), (true, 2)] {
            let connect = || {
                made += 1;
                Ok(made)
            };
            let got: Result<i32, StoreError> = pool.with(connect, |number| (Ok(*number), is_good));
            assert_eq!(got.expect("a connection"), expected);
        }
    }

    #[test]
    fn a_place_is_not_lost_by_an_error_or_a_panic() {
        let pool: Pool<()> = Pool::new(1);
        for _ in 0..3 {
            let failed: Result<(), StoreError> = pool.with(|| Err(StoreError::Taken), |()| (Ok(()), true));
            assert!(failed.is_err());
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let _: Result<(), StoreError> = pool.with(|| Ok(()), |()| panic!("in the work"));
            }));
            assert!(panicked.is_err());
        }
        let worked: Result<(), StoreError> = pool.with(|| Ok(()), |()| (Ok(()), true));
        assert!(worked.is_ok());
    }
}
