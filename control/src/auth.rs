//! Who asks, and whether they may.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::clock::now_ms;
use crate::problem::Problem;
use crate::resource::environment::Environment;
use crate::resource::project::{self, Project};
use crate::resource::token::{self, Place, Scope, Token};
use crate::store::{Store, StoreError, Transaction};

/// How long a token is believed without asking the database. Revoking one tells every replica to ask again at once.
const BELIEVED: Duration = Duration::from_secs(10);

/// How long one that the database did not tell of in time is believed before it is asked again.
const BELIEVED_UNASKED: Duration = Duration::from_secs(2);

/// How long somebody waits for what the database says of a token that is remembered.
const PATIENCE_IF_REMEMBERED: Duration = Duration::from_millis(500);

/// The same of one that is not, and for how long the database is asked.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many tokens are asked for at once. A database that hangs keeps a thread and a connection for each, and others need these too.
const ASKED_AT_ONCE: usize = 4;

/// How many tokens are remembered.
const MOST_REMEMBERED: usize = 10_000;

/// Checks tokens.
#[derive(Debug)]
pub(crate) struct Auth {
    store: Store,
    remembered: Arc<Mutex<Remembered>>,
    /// Places for those who ask the database.
    asking: Arc<Semaphore>,
    /// Counts how often tokens have changed, or may have.
    changes: AtomicU64,
}

#[derive(Debug, Default)]
struct Remembered {
    tokens: HashMap<String, Known>,
    /// Tokens that the database is being asked for, each once, whoever waits for it.
    questions: HashMap<String, watch::Receiver<Option<Answer>>>,
    /// Uses not written down yet: by token, when.
    uses: HashMap<String, i64>,
    /// Counts how often everything was forgotten: what was asked before that is not remembered.
    forgotten: u64,
}

#[derive(Debug)]
struct Known {
    token: Token,
    /// Believed without asking until then.
    until: Instant,
    is_sure: bool,
}

/// What the database said of a token.
#[derive(Clone, Debug)]
struct Answer {
    found: Result<Option<Token>, StoreError>,
    /// `Remembered::forgotten` when it was asked.
    forgotten: u64,
}

/// A token as far as it is known.
struct Found {
    token: Token,
    /// Whether the database said so after all that was told of changes.
    is_sure: bool,
}

/// A token that was found good for now.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    token: Token,
}

impl Auth {
    pub(crate) fn new(store: Store) -> Self {
        let asking = Arc::new(Semaphore::new(ASKED_AT_ONCE));
        Self { store, remembered: Arc::default(), asking, changes: AtomicU64::new(0) }
    }

    /// The token in the `Authorization` header.
    ///
    /// # Errors
    /// 401 where there is none that can be used; what exactly is wrong is not told. 503 where that can't be found out.
    pub(crate) async fn authenticate(&self, headers: &HeaderMap) -> Result<Access, Problem> {
        let text = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (scheme, text) = text.split_once(' ').unwrap_or_default();
        let (id, secret) = token::split(text).filter(|_| scheme.eq_ignore_ascii_case("bearer")).ok_or_else(refused)?;
        let Found { token, .. } = self.find(id).await?.ok_or_else(refused)?;
        let now = now_ms();
        if !token.has_secret(secret) || !token.is_alive(now) {
            return Err(refused());
        }
        self.lock().uses.insert(token.id.clone(), now);
        Ok(Access { token })
    }

    /// Looks at the token again, for who has been connected for long; `None` where it is not good any more. Serving goes on while the
    /// database is away or hangs; false comes then with what is believed.
    pub(crate) async fn again(&self, access: &Access) -> Option<(Access, bool)> {
        let (token, is_sure) = match self.find(&access.token.id).await {
            Ok(found) => found.map(|Found { token, is_sure }| (token, is_sure))?,
            Err(_) => (access.token.clone(), false),
        };
        token.is_alive(now_ms()).then_some((Access { token }, is_sure))
    }

    /// Tokens have changed, or may have; who has been connected for long has to be [told](crate::sync::Hub::ring) then.
    pub(crate) fn forget(&self) {
        let mut remembered = self.lock();
        for known in remembered.tokens.values_mut() {
            // Kept for the case that the database can't be asked.
            known.until = Instant::now();
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

    /// The token with this ID. The database is asked once, however many want to know; if it says nothing in time, what is remembered is
    /// believed for a while.
    async fn find(&self, id: &str) -> Result<Option<Found>, StoreError> {
        let (since, until) = {
            let remembered = self.lock();
            let patience = if remembered.tokens.contains_key(id) { PATIENCE_IF_REMEMBERED } else { PATIENCE };
            (remembered.forgotten, Instant::now() + patience)
        };
        let error = loop {
            let mut question = {
                let mut remembered = self.lock();
                if let Some(known) = remembered.tokens.get(id).filter(|known| Instant::now() < known.until) {
                    return Ok(Some(Found { token: known.token.clone(), is_sure: known.is_sure }));
                }
                match remembered.questions.get(id) {
                    Some(question) => question.clone(),
                    None => self.ask(&mut remembered, id),
                }
            };
            let answered = timeout_at(until, question.wait_for(Option::is_some)).await;
            let answer = answered.ok().and_then(|answer| answer.ok()?.clone());
            match answer {
                None => break StoreError::Unavailable("it has not told of a token in time".to_owned()),
                // It was asked before tokens changed.
                Some(answer) if answer.forgotten < since => {}
                Some(Answer { found: Ok(found), .. }) => return Ok(found.map(|token| Found { token, is_sure: true })),
                Some(Answer { found: Err(error), .. }) => break error,
            }
        };
        if !matches!(error, StoreError::Unavailable(_) | StoreError::Full(_)) {
            return Err(error);
        }
        // Hosts are served while the database is away.
        let mut remembered = self.lock();
        let known = remembered.tokens.get_mut(id).ok_or(error)?;
        if known.until <= Instant::now() {
            (known.until, known.is_sure) = (Instant::now() + BELIEVED_UNASKED, false);
        }
        Ok(Some(Found { token: known.token.clone(), is_sure: false }))
    }

    /// Asks the database for a token. That goes on when nobody waits any more, so that one that hangs is not asked again and again.
    fn ask(&self, remembered: &mut Remembered, id: &str) -> watch::Receiver<Option<Answer>> {
        let (tell, question) = watch::channel(None);
        remembered.questions.insert(id.to_owned(), question.clone());
        let forgotten = remembered.forgotten;
        let (store, asking, shared, id) =
            (self.store.clone(), Arc::clone(&self.asking), Arc::clone(&self.remembered), id.to_owned());
        tokio::spawn(async move {
            let found = match timeout(PATIENCE, asking.acquire()).await {
                Ok(_place) => {
                    let asked = id.clone();
                    store.read_within(PATIENCE, move |transaction| token::find(transaction, &asked)).await
                }
                Err(_) => Err(StoreError::Unavailable("too many tokens are asked for".to_owned())),
            };
            let mut remembered = shared.lock().unwrap_or_else(PoisonError::into_inner);
            remembered.questions.remove(&id);
            if remembered.forgotten == forgotten {
                remembered.learn(&id, &found);
            }
            tell.send_replace(Some(Answer { found, forgotten }));
        });
        question
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    fn learn(&mut self, id: &str, found: &Result<Option<Token>, StoreError>) {
        match found {
            Ok(Some(token)) => {
                if self.tokens.len() >= MOST_REMEMBERED {
                    self.tokens.clear();
                }
                let known = Known { token: token.clone(), until: Instant::now() + BELIEVED, is_sure: true };
                self.tokens.insert(id.to_owned(), known);
            }
            Ok(None) => drop(self.tokens.remove(id)),
            Err(_) => {}
        }
    }
}

fn refused() -> Problem {
    Problem::unauthorized("a token is needed: Authorization: Bearer flags_…, neither expired nor revoked")
}

impl Access {
    /// Looks at the token again, in the transaction that something is to be changed in long after it was admitted.
    ///
    /// # Errors
    /// 401 where it has ended meanwhile.
    pub(crate) fn look_again(&self, transaction: &mut dyn Transaction) -> Result<(), Problem> {
        // What a token is for never changes.
        let found = token::find(transaction, &self.token.id)?.filter(|token| token.is_alive(now_ms()));
        found.map(drop).ok_or_else(refused)
    }

    /// Whether the token has neither expired nor been revoked, as far as was known when it was looked at.
    pub(crate) fn is_alive(&self) -> bool {
        self.token.is_alive(now_ms())
    }

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
    /// 403 where the token is not good for `scope` anywhere.
    pub(crate) fn has(&self, scope: Scope) -> Result<(), Problem> {
        if self.token.scope >= scope { Ok(()) } else { Err(self.lacks(scope)) }
    }

    /// What the token is for.
    pub(crate) fn place(&self) -> Place {
        self.token.place
    }

    /// The only project that the token is for; `None`: all.
    pub(crate) fn project_id(&self) -> Option<i64> {
        self.token.place.project_id
    }

    /// The only environment that the token is for; `None`: all of its project, or of all projects.
    pub(crate) fn environment_id(&self) -> Option<i64> {
        self.token.place.environment_id
    }

    /// # Errors
    /// Where the token is not good for `scope` in all of the project: 403, or 404 where it may not even know of the project.
    pub(crate) fn may_in(&self, scope: Scope, project: &Project) -> Result<(), Problem> {
        self.knows(project)?;
        self.check(scope, Some(project.id), None)
    }

    /// # Errors
    /// 403 where the token is not good for `scope` in the environment, of whose project it [knows](Self::knows).
    pub(crate) fn may_at(&self, scope: Scope, environment: &Environment) -> Result<(), Problem> {
        self.check(scope, Some(environment.project_id), Some(environment.id))
    }

    /// # Errors
    /// Where the token may not even read in a part of the project.
    pub(crate) fn may_read_of(&self, project: &Project) -> Result<(), Problem> {
        self.knows(project)?;
        self.has(Scope::Read)
    }

    /// Whether the token is good for following an environment; every scope is.
    pub(crate) fn may_sync(&self, project_id: i64, environment_id: i64) -> bool {
        self.check(Scope::Sync, Some(project_id), Some(environment_id)).is_ok()
    }

    /// Whether the token is for this project, or for all.
    pub(crate) fn is_for(&self, project_id: i64) -> bool {
        self.token.place.project_id.is_none_or(|id| id == project_id)
    }

    /// # Errors
    /// 404 where the token is for another project, in the words for one that is not there: names of others' projects are not told.
    pub(crate) fn knows(&self, project: &Project) -> Result<(), Problem> {
        if self.is_for(project.id) { Ok(()) } else { Err(project::not_found(&project.key)) }
    }

    fn check(&self, scope: Scope, project_id: Option<i64>, environment_id: Option<i64>) -> Result<(), Problem> {
        self.has(scope)?;
        self.covers(Place { project_id, environment_id })
    }

    /// # Errors
    /// 403 where the token is for less than `place`.
    pub(crate) fn covers(&self, place: Place) -> Result<(), Problem> {
        let partly = || Problem::forbidden("the token is for a part of this only");
        if self.token.place.covers(place) { Ok(()) } else { Err(partly()) }
    }

    fn lacks(&self, scope: Scope) -> Problem {
        Problem::forbidden(format!("the token has the scope {}, and {scope} is needed", self.token.scope))
    }
}
