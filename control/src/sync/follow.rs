//! Keeps the live environments as the database has them.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use flags_sync::{Snapshot, Stamp};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::live::KEPT;
use super::{Live, lost};
use crate::auth::Auth;
use crate::clock::now_ms;
use crate::definition::Segments;
use crate::resource::{change, environment, segment};
use crate::store::{News, Store, StoreError, Told, Transaction};

/// How often the database is looked at although it has told nothing.
const LOOK: Duration = Duration::from_secs(1);

/// A database that says nothing for so long hangs.
const HANGS: Duration = Duration::from_secs(10);

/// How many changes are read at once, and how much news.
const AT_ONCE: usize = 256;

/// The environments that hosts can follow, by `project/environment`.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    environments: RwLock<HashMap<String, Arc<Live>>>,
    health: RwLock<Health>,
}

/// How following goes.
#[derive(Clone, Debug, Default)]
struct Health {
    looked: Option<Instant>,
    trouble: Option<String>,
}

impl Hub {
    pub(crate) fn find(&self, path: &str) -> Option<Arc<Live>> {
        self.environments.read().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    /// All of them, each with its path.
    pub(crate) fn all(&self) -> Vec<(String, Arc<Live>)> {
        let environments = self.environments.read().unwrap_or_else(PoisonError::into_inner);
        environments.iter().map(|(path, live)| (path.clone(), Arc::clone(live))).collect()
    }

    /// Wakes all streams, to look at their tokens and whether the process ends.
    pub(crate) fn ring(&self) {
        for (_, live) in self.all() {
            live.ring();
        }
    }

    /// What is wrong: nothing was read from the database yet, or not for a while.
    pub(crate) fn trouble(&self) -> Option<String> {
        let health = self.health.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(looked) = health.looked else { return Some("the database was not read yet".to_owned()) };
        let hangs = || format!("the database has not answered for {} s", looked.elapsed().as_secs());
        health.trouble.or_else(|| (looked.elapsed() > HANGS).then(hangs))
    }

    /// Whether hosts can be served: everything was read once.
    pub(crate) fn is_filled(&self) -> bool {
        self.health.read().unwrap_or_else(PoisonError::into_inner).looked.is_some()
    }

    fn by_id(&self, id: i64) -> Option<Arc<Live>> {
        let environments = self.environments.read().unwrap_or_else(PoisonError::into_inner);
        environments.values().find(|live| live.id == id).cloned()
    }

    /// Takes a change as it was committed; false where something is missing before it, or nothing is known of the environment.
    fn take(&self, id: i64, revision: u64, text: &str) -> bool {
        self.by_id(id).is_some_and(|live| live.newest().revision >= revision || live.advance(text))
    }

    fn note(&self, result: &Result<(), StoreError>) {
        let mut health = self.health.write().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => {
                if health.trouble.take().is_some() {
                    tracing::info!("the database answers again");
                }
                health.looked = Some(Instant::now());
            }
            Err(error) => {
                if health.trouble.is_none() {
                    tracing::warn!("{error}; hosts are served from memory");
                }
                health.trouble = Some(error.to_string());
            }
        }
    }
}

/// Follows the database until the store is gone.
pub(crate) async fn follow(store: Store, hub: Arc<Hub>, auth: Arc<Auth>, mut told: mpsc::UnboundedReceiver<Told>) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // All that has been told by now: many writes are one look.
        let mut batch = Vec::new();
        let mut everything = false;
        tokio::select! {
            _ = look.tick() => everything = true,
            count = told.recv_many(&mut batch, AT_ONCE) => if count == 0 {
                return;
            },
        }
        let (mut named, mut marks, mut tokens) = (BTreeSet::new(), Vec::new(), false);
        for told in batch {
            match told {
                Told::News(News::Change { environment, revision, text }) => {
                    if !hub.take(environment, revision, &text) {
                        named.insert(environment);
                    }
                }
                Told::News(News::Environment(id)) => drop(named.insert(id)),
                Told::News(News::Tokens) => tokens = true,
                Told::News(News::Anything) => (tokens, everything) = (true, true),
                Told::Mark(mark) => marks.push(mark),
            }
        }
        if tokens {
            auth.forget();
            hub.ring();
        }
        if everything {
            let result = catch_up(&store, &hub, None).await;
            hub.note(&result);
        } else {
            for id in named {
                let result = catch_up(&store, &hub, Some(id)).await;
                hub.note(&result);
            }
        }
        for mark in marks {
            // Who waited may have gone.
            let _ = mark.send(());
        }
    }
}

/// Brings one environment, or all, to where the database is.
async fn catch_up(store: &Store, hub: &Arc<Hub>, only: Option<i64>) -> Result<(), StoreError> {
    if let Some(live) = only.and_then(|id| hub.by_id(id)) {
        // Its changes are read anyway: no need to ask first.
        if !advance(store, &live).await? {
            load(store, hub, live.id).await?;
        }
        return Ok(());
    }
    for standing in store.read(environment::standings).await? {
        let id = standing.id;
        if only.is_some_and(|only| only != id) {
            continue;
        }
        let Some(live) = hub.by_id(id) else {
            load(store, hub, id).await?;
            continue;
        };
        let served = live.stamp();
        match standing.against(&served) {
            Ordering::Equal => {}
            Ordering::Greater if standing.epoch == served.epoch && advance(store, &live).await? => {}
            Ordering::Greater => load(store, hub, id).await?,
            Ordering::Less if lost::go_beyond(store, &live).await? => load(store, hub, id).await?,
            Ordering::Less => {}
        }
    }
    Ok(())
}

/// Takes the changes that are new; false where they do not follow on what is here, be it for an epoch or a key.
async fn advance(store: &Store, live: &Live) -> Result<bool, StoreError> {
    loop {
        let (id, at) = (live.id, live.newest());
        let read = move |transaction: &mut dyn Transaction| {
            change::texts_on_from(transaction, id, (at.epoch, at.revision), AT_ONCE)
        };
        let Some(changes) = store.read(read).await? else { return Ok(false) };
        let is_last = changes.len() < AT_ONCE;
        for text in &changes {
            if !live.advance(text) {
                return Ok(false);
            }
        }
        if is_last {
            return Ok(true);
        }
    }
}

async fn load(store: &Store, hub: &Arc<Hub>, id: i64) -> Result<(), StoreError> {
    let loaded = store.read(move |transaction| read(transaction, id)).await?;
    let Some((path, project_id, secret, snapshot, changes)) = loaded else { return Ok(()) };
    if let Some(live) = hub.by_id(id) {
        if snapshot.stamp.position() < live.stamp().position() {
            // A standby was read, which follows: nobody is taken back for that.
            return Ok(());
        }
        live.replace(secret, snapshot, &changes);
        return Ok(());
    }
    let live = Arc::new(Live::new(id, project_id, secret, snapshot, &changes));
    hub.environments.write().unwrap_or_else(PoisonError::into_inner).insert(path, live);
    Ok(())
}

/// Path, project, key, state, and the texts of the changes that led to it.
type Loaded = (String, i64, flags_sync::SecretKey, Snapshot, Vec<String>);

fn read(transaction: &mut dyn Transaction, id: i64) -> Result<Option<Loaded>, StoreError> {
    let Some(environment) = environment::with_id(transaction, id)? else { return Ok(None) };
    let flags = change::definitions(transaction, id)?;
    // The time of its last change, so that all replicas have one text for one revision.
    let sql = "SELECT time_ms FROM change WHERE environment_id = $1 AND revision = $2";
    let values = [id.into(), change::integer(environment.revision)?.into()];
    let time_ms = transaction.row(sql, &values)?.map_or(Ok(now_ms()), |mut row| row.integer(0))?;
    let stamp = Stamp {
        environment: environment.path.clone(),
        epoch: environment.epoch,
        revision: environment.revision,
        time_ms: u64::try_from(time_ms).unwrap_or(0),
        lost: Some(environment.lost),
        mark: environment.mark,
    };
    let Segments { rules, lists } = segment::all(transaction, id)?;
    let (evaluators, metadata) = (change::raw_members(rules)?, change::raw_members(environment.metadata.clone())?);
    let snapshot = Snapshot { stamp, flags, evaluators, lists, metadata };
    let changes = change::latest_texts(transaction, id, environment.epoch, KEPT)?;
    Ok(Some((environment.path.clone(), environment.project_id, environment.secret(), snapshot, changes)))
}
