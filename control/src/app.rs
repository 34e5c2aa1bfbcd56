//! What all requests share.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use crate::auth::Auth;
use crate::config::Config;
use crate::limit::Limits;
use crate::store::Store;
use crate::sync::{Hub, PartCache};

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) auth: Arc<Auth>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) limits: Limits,
    pub(crate) parts: PartCache,
    /// A place for each id list that is being uploaded.
    pub(crate) uploads: Semaphore,
    /// A place for each id list that is being downloaded.
    pub(crate) downloads: Arc<Semaphore>,
    /// A place for each file that is being imported.
    pub(crate) imports: Arc<Semaphore>,
    /// Told true when the process is to end: streams end then.
    pub(crate) stopping: watch::Sender<bool>,
}

impl App {
    pub(crate) fn new(config: Config, store: Store) -> Self {
        Self {
            limits: Limits::new(&config.limits),
            parts: PartCache::new(config.sync.part_cache_bytes),
            uploads: Semaphore::new(config.limits.uploads),
            downloads: Arc::new(Semaphore::new(config.limits.downloads)),
            imports: Arc::new(Semaphore::new(config.limits.imports)),
            config,
            auth: Arc::new(Auth::new(store.clone())),
            store,
            hub: Arc::default(),
            stopping: watch::Sender::new(false),
        }
    }
}
