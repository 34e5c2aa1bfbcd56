//! `GET /sync/v1/PROJECT/ENVIRONMENT/parts/SHA256`: parts of id lists. What is under a name never changes, so caches keep it for ever.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flags_sync::PartHash;
use flate2::write::GzDecoder;
use futures_util::stream::unfold;
use metrics::counter;

use super::part_cache::Known;
use super::serve::{VARY, admit, insert, takes_gzip};
use crate::app::App;
use crate::problem::Problem;
use crate::resource::part;
use crate::store::StoreError;
use crate::tls::ClientCertified;

const CACHE_CONTROL: &str = "public, max-age=31536000, immutable";

pub(crate) async fn parts(
    State(app): State<Arc<App>>,
    Path((project, environment, name)): Path<(String, String, String)>,
    peer: ConnectInfo<SocketAddr>,
    Extension(certified): Extension<ClientCertified>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (live, _) = admit(&app, &project, &environment, certified, &peer, &headers).await?;
    let not_found = || Problem::not_found("the environment has no such part of a list");
    let sha256: PartHash = name.parse().map_err(|_| not_found())?;
    let mut source = Source { is_current: live.names_part(sha256), key: (live.id, sha256), id: None, app };
    let first = source.chunk(0).await?.ok_or_else(not_found)?;
    let as_gzip = takes_gzip(&headers);
    let etag = if as_gzip { format!("\"{sha256}-gzip\"") } else { format!("\"{sha256}\"") };
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known.flat_map(|list| list.split(',')).any(|tag| tag.trim().trim_start_matches("W/") == etag);
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let unpack = (!as_gzip).then(|| GzDecoder::new(Vec::new()));
        let pieces = unfold(Some((source, Some(first), 0, unpack)), move |state| async move {
            let (mut source, first, number, mut unpack) = state?;
            let chunk = match first {
                Some(first) => Ok(Some(first)),
                None => source.chunk(number).await,
            };
            let piece = match chunk {
                Ok(Some(chunk)) => unpacked(chunk, unpack.as_mut()),
                Ok(None) => return None,
                Err(error) => Err(io::Error::other(error)),
            };
            // After an error the answer breaks off.
            let next = piece.is_ok().then_some((source, None, number + 1, unpack));
            Some((piece, next))
        });
        let mut response = Response::new(Body::from_stream(pieces));
        if as_gzip {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHE_CONTROL));
    headers.insert(header::VARY, HeaderValue::from_static(VARY));
    insert(headers, header::ETAG, &etag);
    Ok(response)
}

/// Where the chunks of a part come from.
struct Source {
    app: Arc<App>,
    key: (i64, PartHash),
    /// In the database, once that was asked.
    id: Option<i64>,
    /// The environment's lists are made of it now. What is only there for hosts that are behind is not kept in memory, nor told from there: it
    /// is to be gone when the database says so.
    is_current: bool,
}

impl Source {
    /// `None` behind the last one, and where there is no such part.
    async fn chunk(&mut self, number: usize) -> Result<Option<Bytes>, StoreError> {
        if self.is_current
            && let Known::Chunk(chunk) = self.app.parts.chunk(self.key, number)
        {
            counter!("flags_control_part_chunks_total", "from" => "memory").increment(1);
            return Ok(chunk);
        }
        let id = match self.id {
            Some(id) => id,
            None => match self.find().await? {
                Some(id) => *self.id.insert(id),
                None if number == 0 => return Ok(None),
                None => return Err(StoreError::Broken(format!("the part {} went away meanwhile", self.key.1))),
            },
        };
        let in_table = i64::try_from(number).unwrap_or(i64::MAX);
        let chunk = part::chunk(&self.app.store, id, in_table).await?.map(Bytes::from);
        counter!("flags_control_part_chunks_total", "from" => "database").increment(1);
        if self.is_current {
            self.app.parts.keep(self.key, number, chunk.as_ref());
        }
        Ok(chunk)
    }

    async fn find(&self) -> Result<Option<i64>, StoreError> {
        let (environment_id, sha256) = self.key;
        self.app.store.read(move |transaction| part::find(transaction, environment_id, sha256)).await
    }
}

fn unpacked(chunk: Bytes, unpack: Option<&mut GzDecoder<Vec<u8>>>) -> io::Result<Bytes> {
    let Some(unpack) = unpack else { return Ok(chunk) };
    unpack.write_all(&chunk)?;
    unpack.flush()?;
    Ok(std::mem::take(unpack.get_mut()).into())
}
