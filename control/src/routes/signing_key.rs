//! `/api/v1/projects/PROJECT/environments/ENVIRONMENT/signing-key`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::audit::Audit;
use super::place::locked;
use super::request::{Answer, Write};
use crate::app::App;
use crate::problem::Problem;
use crate::resource::environment::Environment;
use crate::resource::token::Scope;
use crate::resource::{change, signing_key};
use crate::store::Transaction;

type EnvironmentPlace = (String, String);

pub(super) async fn make_next(
    State(app): State<Arc<App>>,
    Path(place): Path<EnvironmentPlace>,
    write: Write,
) -> Result<Answer, Problem> {
    let work =
        |transaction: &mut dyn Transaction, environment, _: &Write| signing_key::make_next(transaction, environment);
    done(app, place, write, "signing-key.make", StatusCode::CREATED, work).await
}

pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Path(place): Path<EnvironmentPlace>,
    write: Write,
) -> Result<Answer, Problem> {
    let work =
        |transaction: &mut dyn Transaction, environment, _: &Write| signing_key::cancel(transaction, environment);
    done(app, place, write, "signing-key.cancel", StatusCode::OK, work).await
}

pub(super) async fn rotate(
    State(app): State<Arc<App>>,
    Path(place): Path<EnvironmentPlace>,
    write: Write,
) -> Result<Answer, Problem> {
    let work = |transaction: &mut dyn Transaction, environment, write: &Write| {
        signing_key::rotate(transaction, environment, &write.author)
    };
    done(app, place, write, "signing-key.rotate", StatusCode::OK, work).await
}

/// Whom hosts believe is for administrators, and told in the program's log, be it a revision or not.
async fn done<W>(
    app: Arc<App>,
    (project, environment): EnvironmentPlace,
    write: Write,
    action: &'static str,
    status: StatusCode,
    work: W,
) -> Result<Answer, Problem>
where
    W: FnOnce(&mut dyn Transaction, Environment, &Write) -> Result<Environment, Problem> + Send + 'static,
{
    let path = format!("{project}/{environment}");
    let audit = Audit::begin(action, &path, &write);
    let answer = write.run_at(&app, &path, move |transaction, write| {
        let (_, environment) = locked(transaction, &write.access, Scope::Admin, &project, &environment)?;
        environment.must_be_open()?;
        write.check_revision(change::integer(environment.revision)?)?;
        let environment = work(transaction, environment, write)?;
        Ok(Answer::new(status, &environment.view())?.with_revision(change::integer(environment.revision)?))
    });
    audit.end(answer.await)
}
