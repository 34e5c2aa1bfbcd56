//! Whether a token may change what a path names, before the body is read: who may not has nothing read or kept for them.

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequestParts, MatchedPath, RawPathParams};
use axum::http::request::Parts;

use super::place::{known_project, may_change};
use crate::app::App;
use crate::auth::Access;
use crate::problem::Problem;
use crate::resource::token::{self, Scope};
use crate::store::{StoreError, Transaction};

/// What a route's changes are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Everything.
    All,
    /// Tokens of what the token itself is for, or of a part of it.
    Tokens,
    /// All of a project.
    Project,
    /// One environment.
    Environment,
}

/// What a token has to be good for to change something by `route`, a path with its parameters' names.
fn needed(route: &str) -> (Scope, Reach) {
    let route = route.trim_start_matches("/api/v1");
    match route {
        "/projects/{project}"
        | "/projects/{project}/archive"
        | "/projects/{project}/restore"
        | "/projects/{project}/environments" => (Scope::Admin, Reach::Project),
        "/projects/{project}/environments/{environment}/archive"
        | "/projects/{project}/environments/{environment}/restore" => (Scope::Admin, Reach::Environment),
        // Flags may come, and become others in all environments.
        "/projects/{project}/environments/{environment}/import" => (Scope::Write, Reach::Project),
        // Whom hosts believe.
        route if route.starts_with("/projects/{project}/environments/{environment}/signing-key") => {
            (Scope::Admin, Reach::Environment)
        }
        route if route.starts_with("/projects/{project}/environments/{environment}") => {
            (Scope::Write, Reach::Environment)
        }
        route if route.starts_with("/projects/{project}/") => (Scope::Write, Reach::Project),
        "/tokens" | "/tokens/{token}/revoke" | "/tokens/{token}/rotate" => (Scope::Admin, Reach::Tokens),
        // What nothing else is known of is for those alone who may do everything.
        _ => (Scope::Admin, Reach::All),
    }
}

/// Looks whether the token is good for the request's change. The transaction that makes it looks again; this comes before the body.
///
/// # Errors
/// 403, or 404 where the token may not know of the place; those of the store.
pub(super) async fn may_begin(parts: &mut Parts, app: &App, access: &Access) -> Result<(), Problem> {
    let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let (scope, reach) = needed(route);
    if reach == Reach::All {
        return access.may(scope);
    }
    access.has(scope)?;
    if access.project_id().is_none() {
        return Ok(());
    }
    let broken = |error: RawPathParamsRejection| StoreError::Broken(error.to_string());
    let named = RawPathParams::from_request_parts(parts, &()).await.map_err(broken)?;
    let find = |name: &str| named.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned());
    let (project, environment) = (find("project").unwrap_or_default(), find("environment").unwrap_or_default());
    let token = find("token");
    let access = access.clone();
    let look = move |transaction: &mut dyn Transaction| {
        if reach == Reach::Tokens {
            return token.map_or(Ok(()), |id| token::find_in(transaction, access.place(), &id).map(drop));
        }
        let project = known_project(transaction, &access, &project)?;
        match reach {
            Reach::Environment => may_change(transaction, &access, scope, &project, &environment),
            Reach::All | Reach::Tokens | Reach::Project => access.may_in(scope, &project),
        }
    };
    app.store.read(look).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_needs_the_scope_that_it_is_described_with() {
        let mut looked_at = 0;
        for (path, method, scope) in crate::openapi::scopes() {
            if method == "get" || !path.starts_with("/api/v1/") {
                continue;
            }
            let (needed, reach) = needed(path);
            assert_eq!(needed.to_string(), scope, "{method} {path}");
            let is_in_one = matches!(reach, Reach::Project | Reach::Environment);
            assert_eq!(is_in_one, path.contains("{project}"), "{method} {path}");
            assert_eq!(reach == Reach::Tokens, path.starts_with("/api/v1/tokens"), "{method} {path}");
            looked_at += 1;
        }
        assert!(looked_at > 20, "{looked_at} operations");
    }
}
