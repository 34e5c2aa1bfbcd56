//! `GET …/segments/SEGMENT/ids`: one a line, in order.
//!
//! The parts of a list are unpacked and merged by a thread that may block, so few lists are read at once, and no thread waits for long for
//! somebody who does not read.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use flags_sync::list::Merge;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::segment::{SegmentPlace, must_be_list, seen};
use crate::app::App;
use crate::auth::Access;
use crate::limit::Kind;
use crate::problem::Problem;
use crate::resource::part;
use crate::resource::segment::Segment;
use crate::store::Store;

/// Bytes that go out at once.
const PIECE: usize = 64 << 10;

/// Pieces that wait for a reader.
const WAITING: usize = 4;

/// What a thread has read; `None` is the end. Without it what came is a part only.
type Piece = Option<Bytes>;

/// `GET …/ids`: one a line, in order.
pub(super) async fn show_ids(
    State(app): State<Arc<App>>,
    access: Access,
    Path(place): Path<SegmentPlace>,
) -> Result<Response, Problem> {
    let token_id = access.token_id().to_owned();
    let (_, segment) = seen(&app, access, place).await?;
    must_be_list(&segment)?;
    let held = app.limits.place(Kind::Download, &token_id)?;
    let (give, take) = mpsc::channel(WAITING);
    let limits = &app.config.limits;
    let reader = Reader {
        give,
        patience: Duration::from_secs(limits.request_seconds),
        until: Instant::now() + Duration::from_secs(limits.upload_seconds),
    };
    let (store, etag) = (app.store.clone(), format!("\"{}\"", segment.revision));
    tokio::task::spawn_blocking(move || {
        let _held = held;
        if let Err(error) = read(&store, &segment, &reader) {
            tracing::debug!("a list was not downloaded: {error}");
        }
    });
    let pieces = futures_util::stream::unfold(Some(take), |take| async move {
        let mut take = take?;
        match take.recv().await {
            Some(Some(piece)) => Some((Ok(piece), Some(take))),
            Some(None) => None,
            // The answer is broken off, so that nobody takes a part for the whole.
            None => Some((Err(io::Error::from(io::ErrorKind::BrokenPipe)), None)),
        }
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    Ok(response)
}

/// Who reads a list.
struct Reader {
    give: mpsc::Sender<Piece>,
    /// How long one piece may wait for them.
    patience: Duration,
    /// When they have to have all.
    until: Instant,
}

impl Reader {
    /// # Errors
    /// Where nobody takes it in time.
    fn send(&self, piece: Piece) -> io::Result<()> {
        let until = self.until.min(Instant::now() + self.patience);
        match Handle::current().block_on(timeout_at(until, self.give.send(piece))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

fn read(store: &Store, segment: &Segment, reader: &Reader) -> io::Result<()> {
    let mut merge = Merge::new(part::texts(store, segment.id, &segment.list).map_err(io::Error::other)?)?;
    let mut piece = Vec::with_capacity(PIECE);
    while let Some(id) = merge.next_id()? {
        piece.extend_from_slice(id);
        piece.push(b'\n');
        if piece.len() >= PIECE {
            reader.send(Some(std::mem::take(&mut piece).into()))?;
        }
    }
    reader.send(Some(piece.into()))?;
    reader.send(None)
}
