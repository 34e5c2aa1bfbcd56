//! Routes that know what they are: axum's router does not tell.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{self, MethodRouter};
use std::sync::Arc;

use crate::app::App;

/// Paths and what answers there, to be made a router.
#[derive(Debug, Default)]
pub(super) struct Routes {
    router: Router<Arc<App>>,
    known: Vec<(String, &'static str)>,
}

/// What answers at a path, by method.
#[derive(Debug)]
pub(super) struct Methods {
    router: MethodRouter<Arc<App>>,
    names: Vec<&'static str>,
}

pub(super) fn get<H: Handler<T, Arc<App>>, T: 'static>(handler: H) -> Methods {
    Methods { router: routing::get(handler), names: vec!["get"] }
}

pub(super) fn post<H: Handler<T, Arc<App>>, T: 'static>(handler: H) -> Methods {
    Methods { router: routing::post(handler), names: vec!["post"] }
}

impl Methods {
    pub(super) fn post<H: Handler<T, Arc<App>>, T: 'static>(self, handler: H) -> Self {
        self.and("post", |router| router.post(handler))
    }

    pub(super) fn put<H: Handler<T, Arc<App>>, T: 'static>(self, handler: H) -> Self {
        self.and("put", |router| router.put(handler))
    }

    pub(super) fn patch<H: Handler<T, Arc<App>>, T: 'static>(self, handler: H) -> Self {
        self.and("patch", |router| router.patch(handler))
    }

    fn and(mut self, name: &'static str, add: impl FnOnce(MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>>) -> Self {
        self.names.push(name);
        Self { router: add(self.router), ..self }
    }
}

impl Routes {
    pub(super) fn route(mut self, path: &str, methods: Methods) -> Self {
        self.known.extend(methods.names.iter().map(|name| (path.to_owned(), *name)));
        Self { router: self.router.route(path, methods.router), ..self }
    }

    pub(super) fn into_router(self) -> Router<Arc<App>> {
        self.router
    }

    /// Each path below `prefix` with each of its methods, in small letters.
    pub(super) fn known(self, prefix: &'static str) -> impl Iterator<Item = (String, &'static str)> {
        self.known.into_iter().map(move |(path, method)| (format!("{prefix}{path}"), method))
    }
}
