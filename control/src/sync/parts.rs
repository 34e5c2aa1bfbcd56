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

use super::serve::{admit, insert, takes_gzip};
use crate::app::App;
use crate::problem::Problem;
use crate::resource::part;
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
    let environment_id = live.id;
    let found = app.store.read(move |transaction| part::find(transaction, environment_id, sha256)).await?;
    let id = found.ok_or_else(not_found)?;
    let as_gzip = takes_gzip(&headers);
    let etag = if as_gzip { format!("\"{sha256}-gzip\"") } else { format!("\"{sha256}\"") };
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known.flat_map(|list| list.split(',')).any(|tag| tag.trim().trim_start_matches("W/") == etag);
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let unpack = (!as_gzip).then(|| GzDecoder::new(Vec::new()));
        let pieces = unfold(Some((app, 0, unpack)), move |state| async move {
            let (app, number, mut unpack) = state?;
            let piece = match part::chunk(&app.store, id, number).await {
                Ok(Some(chunk)) => unpacked(chunk, unpack.as_mut()),
                Ok(None) => return None,
                Err(error) => Err(io::Error::other(error)),
            };
            // After an error the answer breaks off.
            let next = piece.is_ok().then_some((app, number + 1, unpack));
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
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    insert(headers, header::ETAG, &etag);
    Ok(response)
}

fn unpacked(chunk: Vec<u8>, unpack: Option<&mut GzDecoder<Vec<u8>>>) -> io::Result<Bytes> {
    let Some(unpack) = unpack else { return Ok(chunk.into()) };
    unpack.write_all(&chunk)?;
    unpack.flush()?;
    Ok(std::mem::take(unpack.get_mut()).into())
}
