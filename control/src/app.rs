//! What all requests share.

use std::sync::Arc;

use tokio::sync::watch;

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
    /// Told true when the process is to end: streams end then.
    pub(crate) stopping: watch::Sender<bool>,
}

impl App {
    pub(crate) fn new(config: Config, store: Store) -> Self {
        Self {
            limits: Limits::new(&config.limits),
            parts: PartCache::new(config.sync.part_cache_bytes),
            config,
            auth: Arc::new(Auth::new(store.clone())),
            store,
            hub: Arc::default(),
            stopping: watch::Sender::new(false),
        }
    }
}
