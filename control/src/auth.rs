//! Who asks, and whether they may.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};

use crate::clock::now_ms;
use crate::problem::Problem;
use crate::resource::environment::Environment;
use crate::resource::project::Project;
use crate::resource::token::{self, Scope, Token};
use crate::store::{Store, StoreError};

/// How long a token is believed without asking the database. Revoking one tells every replica to ask again at once.
const BELIEVED: Duration = Duration::from_secs(10);

/// How many tokens are remembered.
const MOST_REMEMBERED: usize = 10_000;

/// Checks tokens.
#[derive(Debug)]
pub(crate) struct Auth {
    store: Store,
    remembered: Mutex<Remembered>,
    /// Counts how often tokens have changed, or may have.
    changes: AtomicU64,
}

#[derive(Debug, Default)]
struct Remembered {
    tokens: HashMap<String, (Token, Instant)>,
    /// Uses not written down yet: by token, when.
    uses: HashMap<String, i64>,
    /// Counts how often everything was forgotten: what was asked before that is not remembered.
    forgotten: u64,
}

/// A token that was found good for now.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    token: Token,
}

impl Auth {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, remembered: Mutex::default(), changes: AtomicU64::new(0) }
    }

    /// The token in the `Authorization` header.
    ///
    /// # Errors
    /// 401 where there is none that can be used; what exactly is wrong is not told. 503 where that can't be found out.
    pub(crate) async fn authenticate(&self, headers: &HeaderMap) -> Result<Access, Problem> {
        let refused =
            || Problem::unauthorized("a token is needed: Authorization: Bearer flags_…, neither expired nor revoked");
        let text = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (scheme, text) = text.split_once(' ').unwrap_or_default();
        let (id, secret) = token::split(text).filter(|_| scheme.eq_ignore_ascii_case("bearer")).ok_or_else(refused)?;
        let token = self.find(id).await?.ok_or_else(refused)?;
        let now = now_ms();
        if !token.has_secret(secret) || !token.is_alive(now) {
            return Err(refused());
        }
        self.lock().uses.insert(token.id.clone(), now);
        Ok(Access { token })
    }

    /// Whether the token is still good, for who has been connected for long.
    pub(crate) async fn is_still_good(&self, access: &Access) -> bool {
        match self.find(&access.token.id).await {
            Ok(found) => found.is_some_and(|token| token.is_alive(now_ms())),
            // Serving goes on while the database is away.
            Err(_) => access.token.is_alive(now_ms()),
        }
    }

    /// Tokens have changed, or may have; who has been connected for long has to be [told](crate::sync::Hub::ring) then.
    pub(crate) fn forget(&self) {
        let mut remembered = self.lock();
        for (_, asked) in remembered.tokens.values_mut() {
            // Kept for the case that the database can't be asked.
            *asked = asked.checked_sub(BELIEVED).unwrap_or(*asked);
        }
        remembered.forgotten += 1;
        drop(remembered);
        // ORDERING: Release, after what is remembered was made old: who sees the count asks the database.
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// How often tokens have changed, or may have.
    pub(crate) fn changes(&self) -> u64 {
        // ORDERING: Acquire; see `forget`.
        self.changes.load(Ordering::Acquire)
    }

    /// Writes down when tokens were last used.
    ///
    /// # Errors
    /// Where the database can't; they are written the next time then.
    pub(crate) async fn write_uses(&self) -> Result<(), StoreError> {
        let uses: Vec<(String, i64)> = self.lock().uses.drain().collect();
        if uses.is_empty() {
            return Ok(());
        }
        let again = uses.clone();
        let written = self.store.write(move |transaction| token::used(transaction, &uses)).await;
        if written.is_err() {
            let mut remembered = self.lock();
            for (id, at_ms) in again {
                remembered.uses.entry(id).or_insert(at_ms);
            }
        }
        written
    }

    async fn find(&self, id: &str) -> Result<Option<Token>, StoreError> {
        let forgotten = {
            let remembered = self.lock();
            if let Some((token, asked)) = remembered.tokens.get(id)
                && asked.elapsed() < BELIEVED
            {
                return Ok(Some(token.clone()));
            }
            remembered.forgotten
        };
        let asked = id.to_owned();
        match self.store.read(move |transaction| token::find(transaction, &asked)).await {
            Ok(found) => {
                let mut remembered = self.lock();
                if remembered.forgotten == forgotten {
                    if remembered.tokens.len() >= MOST_REMEMBERED {
                        remembered.tokens.clear();
                    }
                    match &found {
                        Some(token) => remembered.tokens.insert(id.to_owned(), (token.clone(), Instant::now())),
                        None => remembered.tokens.remove(id),
                    };
                }
                Ok(found)
            }
            // Hosts are served while the database is away.
            Err(error @ (StoreError::Unavailable(_) | StoreError::Full(_))) => match self.lock().tokens.get(id) {
                Some((token, _)) => Ok(Some(token.clone())),
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Access {
    /// Who it is, as the log names them.
    pub(crate) fn actor(&self) -> String {
        format!("{} ({})", self.token.name, self.token.id)
    }

    pub(crate) fn token_id(&self) -> &str {
        &self.token.id
    }

    /// # Errors
    /// 403 where the token is not good for `scope` everywhere.
    pub(crate) fn may(&self, scope: Scope) -> Result<(), Problem> {
        self.check(scope, None, None)
    }

    /// # Errors
    /// Where the token is not good for `scope` in all of the project: 403, or 404 where it may not even know of the project.
    pub(crate) fn may_in(&self, scope: Scope, project: &Project) -> Result<(), Problem> {
        self.knows(project.id, &project.key)?;
        self.check(scope, Some(project.id), None)
    }

    /// # Errors
    /// Where the token is not good for `scope` in the environment: as [`may_in`](Self::may_in).
    pub(crate) fn may_at(&self, scope: Scope, environment: &Environment) -> Result<(), Problem> {
        self.knows(environment.project_id, &environment.path)?;
        self.check(scope, Some(environment.project_id), Some(environment.id))
    }

    /// # Errors
    /// Where the token may not even read in a part of the project.
    pub(crate) fn may_read_of(&self, project: &Project) -> Result<(), Problem> {
        self.knows(project.id, &project.key)?;
        if self.token.scope >= Scope::Read { Ok(()) } else { Err(self.lacks(Scope::Read)) }
    }

    /// Whether the token is good for following an environment; every scope is.
    pub(crate) fn may_sync(&self, project_id: i64, environment_id: i64) -> bool {
        self.check(Scope::Sync, Some(project_id), Some(environment_id)).is_ok()
    }

    /// Whether the token is for this project, or for all.
    pub(crate) fn is_for(&self, project_id: i64) -> bool {
        self.token.project_id.is_none_or(|id| id == project_id)
    }

    /// Whether the token is for this environment, or for all of its project.
    pub(crate) fn is_for_environment(&self, environment: &Environment) -> bool {
        self.is_for(environment.project_id) && self.token.environment_id.is_none_or(|id| id == environment.id)
    }

    fn knows(&self, project_id: i64, name: &str) -> Result<(), Problem> {
        // The same words as for one that is not there: names of others' projects are not told.
        let (project, _) = name.split_once('/').unwrap_or((name, ""));
        if self.is_for(project_id) {
            Ok(())
        } else {
            Err(Problem::not_found(format!("there is no project {project:?}")))
        }
    }

    fn check(&self, scope: Scope, project_id: Option<i64>, environment_id: Option<i64>) -> Result<(), Problem> {
        if self.token.scope < scope {
            return Err(self.lacks(scope));
        }
        let fits = |own: Option<i64>, asked: Option<i64>| own.is_none() || own == asked;
        if !fits(self.token.project_id, project_id) || !fits(self.token.environment_id, environment_id) {
            return Err(Problem::forbidden("the token is for a part of this only"));
        }
        Ok(())
    }

    fn lacks(&self, scope: Scope) -> Problem {
        Problem::forbidden(format!("the token has the scope {}, and {scope} is needed", self.token.scope))
    }
}
