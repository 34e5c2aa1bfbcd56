//! The environment that a path names, for whom it may be read, and for whom it may be changed.

use crate::auth::Access;
use crate::problem::Problem;
use crate::resource::environment::{self, Environment};
use crate::resource::project::{self, Project};
use crate::resource::token::Scope;
use crate::store::Transaction;

/// An environment, and the project that it is of.
///
/// # Errors
/// 404 where there is none that the token may know of, 403 where it may not read there.
pub(super) fn readable(
    transaction: &mut dyn Transaction,
    access: &Access,
    project: &str,
    environment: &str,
) -> Result<(Project, Environment), Problem> {
    let project = project::find(transaction, project)?;
    let environment = environment::find(transaction, &project, environment)?;
    access.may_at(Scope::Read, &environment)?;
    Ok((project, environment))
}

/// The same to be changed: locked until the transaction ends.
///
/// # Errors
/// As [`readable`].
pub(super) fn writable(
    transaction: &mut dyn Transaction,
    access: &Access,
    project: &str,
    environment: &str,
) -> Result<(Project, Environment), Problem> {
    let project = project::find(transaction, project)?;
    let environment = environment::lock(transaction, &project, environment)?;
    access.may_at(Scope::Write, &environment)?;
    Ok((project, environment))
}
