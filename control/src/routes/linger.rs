//! Answers before the end of the body.
//!
//! A connection that is closed with bytes unread is reset, and with it an answer that is on its way: who sends all before reading would
//! never learn why. So the answer goes out at once, and what still comes is read and dropped for a while.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Error;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use hyper::body::{Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::timeout;

use crate::app::App;

/// Who sends more is cut.
const MOST_BYTES: usize = 64 << 20;

/// Who takes longer is cut.
const MOST_TIME: Duration = Duration::from_secs(10);

/// Answers, and goes on reading what the answer did not wait for.
pub(super) async fn linger(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    // Who asks before sending is told not to, by the answer.
    let is_asked_for = !request.headers().contains_key(header::EXPECT);
    let (give_back, mut given_back) = oneshot::channel();
    let lend = |body| Body::new(Lent { body: Some(body), is_asked_for, give_back: Some(give_back) });
    let response = next.run(request.map(lend)).await;
    let unread = given_back.try_recv();
    if matches!(unread, Err(TryRecvError::Closed)) {
        return response;
    }
    let mut stopping = app.stopping.subscribe();
    tokio::spawn(async move {
        let read = async {
            let body = match unread {
                Ok(body) => Ok(body),
                Err(_) => given_back.await,
            };
            let Ok(Unread(body)) = body else { return };
            let (mut pieces, mut bytes) = (body.into_data_stream(), 0);
            while let (true, Some(Ok(piece))) = (bytes <= MOST_BYTES, pieces.next().await) {
                bytes += piece.len();
            }
        };
        tokio::select! {
            _ = timeout(MOST_TIME, read) => {}
            _ = stopping.wait_for(|stop| *stop) => {}
        }
    });
    response
}

/// A body that whoever answers has let go of.
struct Unread(Body);

/// A body that comes back from whoever answers.
struct Lent {
    body: Option<Body>,
    /// The client sends it, or waits for nothing but time to pass.
    is_asked_for: bool,
    give_back: Option<oneshot::Sender<Unread>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.is_asked_for = true;
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let is_unread = self.is_asked_for && !self.is_end_stream();
        if let (true, Some(body), Some(give_back)) = (is_unread, self.body.take(), self.give_back.take()) {
            // Nobody waits for it where the whole request has been given up.
            let _ = give_back.send(Unread(body));
        }
    }
}
