//! Another key for what hosts get.
//!
//! ```text
//! one key ──(make)──► a next one beside it ──(rotate)──► the next one alone: a revision, and the first text it signs
//!    ▲                       │
//!    └──────(cancel)─────────┘     hosts are told both keys in between
//! ```

use super::change::{self, Author, Edits};
use super::environment::{Environment, Seed, fresh_seed};
use crate::problem::Problem;
use crate::store::{StoreError, Transaction};

/// Makes a key to rotate to, for an environment that the caller has locked. Nothing changes for hosts.
///
/// # Errors
/// 409 where there is one already.
pub(crate) fn make_next(transaction: &mut dyn Transaction, environment: Environment) -> Result<Environment, Problem> {
    if environment.next_seed.is_some() {
        return Err(Problem::conflict("there is a next key already: rotate to it, or cancel it"));
    }
    let next = Some(fresh_seed()?);
    set_next(transaction, &environment, next)?;
    Ok(Environment { next_seed: next, ..environment })
}

/// Takes the next key back.
///
/// # Errors
/// 409 where there is none.
pub(crate) fn cancel(transaction: &mut dyn Transaction, environment: Environment) -> Result<Environment, Problem> {
    next_of(&environment)?;
    set_next(transaction, &environment, None)?;
    Ok(Environment { next_seed: None, ..environment })
}

/// Lets the next key sign, from a new revision on that changes nothing else.
///
/// # Errors
/// 409 where there is none.
pub(crate) fn rotate(
    transaction: &mut dyn Transaction,
    environment: Environment,
    author: &Author,
) -> Result<Environment, Problem> {
    let seed = next_of(&environment)?;
    let environment = Environment { seed, next_seed: None, ..environment };
    let edits = Edits { is_rotation: true, ..Edits::default() };
    let revision = change::commit(transaction, &environment, author, "environment.rotate-key", edits)?;
    set_key(transaction, &environment, revision)?;
    Ok(Environment { revision, ..environment })
}

/// Stores the environment's keys, of which the current one signs from a revision on.
pub(super) fn set_key(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    since: u64,
) -> Result<(), StoreError> {
    let values = [environment.seed.as_slice().into(), change::integer(since)?.into(), environment.id.into()];
    transaction.execute("UPDATE environment SET seed = $1, key_since = $2 WHERE id = $3", &values)?;
    set_next(transaction, environment, environment.next_seed)
}

fn next_of(environment: &Environment) -> Result<Seed, Problem> {
    environment.next_seed.ok_or_else(|| Problem::conflict("there is no next key: make one first, and tell hosts of it"))
}

fn set_next(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    next: Option<Seed>,
) -> Result<(), StoreError> {
    let values = [next.as_ref().map(Seed::as_slice).into(), environment.id.into()];
    transaction.execute("UPDATE environment SET next_seed = $1 WHERE id = $2", &values).map(drop)
}
