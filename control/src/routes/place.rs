//! The environment that a path names, for whom it may be read, and for whom it may be changed.

use crate::auth::Access;
use crate::problem::Problem;
use crate::resource::environment::{self, Environment};
use crate::resource::project::{self, Project};
use crate::resource::token::Scope;
use crate::store::Transaction;

/// The project of this name.
///
/// # Errors
/// 404 where there is none that the token may know of: nothing else of it is looked at or locked then.
pub(super) fn known_project(transaction: &mut dyn Transaction, access: &Access, key: &str) -> Result<Project, Problem> {
    let project = project::find(transaction, key)?;
    access.knows(&project)?;
    Ok(project)
}

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
    let project = known_project(transaction, access, project)?;
    let environment = environment::find(transaction, &project, environment)?;
    access.may_at(Scope::Read, &environment)?;
    Ok((project, environment))
}

/// A project in which something is changed that is not of one environment: who does so locks [all of them](environment::lock_all), and then
/// it is certain that none is archived meanwhile.
///
/// # Errors
/// As [`known_project`]; 403 where the token is not good for `scope` in all of it, 409 where it is archived.
pub(super) fn writable_project(
    transaction: &mut dyn Transaction,
    access: &Access,
    scope: Scope,
    key: &str,
) -> Result<Project, Problem> {
    let project = known_project(transaction, access, key)?;
    access.may_in(scope, &project)?;
    project.must_be_open()?;
    Ok(project)
}

/// An environment to be changed: locked until the transaction ends, for who may change it and nobody else.
///
/// # Errors
/// As [`readable`]; 409 where it is archived, or its project is.
pub(super) fn writable(
    transaction: &mut dyn Transaction,
    access: &Access,
    project: &str,
    environment: &str,
) -> Result<(Project, Environment), Problem> {
    let (project, environment) = locked(transaction, access, Scope::Write, project, environment)?;
    environment.must_be_open()?;
    Ok((project, environment))
}

/// The same for who has this scope, archived or not.
///
/// # Errors
/// As [`readable`].
pub(super) fn locked(
    transaction: &mut dyn Transaction,
    access: &Access,
    scope: Scope,
    project: &str,
    environment: &str,
) -> Result<(Project, Environment), Problem> {
    let project = known_project(transaction, access, project)?;
    may_change(transaction, access, scope, &project, environment)?;
    let environment = environment::lock(transaction, &project, environment)?;
    Ok((project, environment))
}

/// # Errors
/// 403 where the token is not good for `scope` in the environment; 404 where it is for one alone, and there is none of this name.
pub(super) fn may_change(
    transaction: &mut dyn Transaction,
    access: &Access,
    scope: Scope,
    project: &Project,
    environment: &str,
) -> Result<(), Problem> {
    // Who may change all of the project is not looked up again.
    match access.may_in(scope, project) {
        Ok(()) => Ok(()),
        Err(_) => access.may_at(scope, &environment::find(transaction, project, environment)?),
    }
}
