//! Connections: how many, how long one may dawdle, and TLS.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics::{counter, gauge};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::addresses::Addresses;
use crate::clock::now_ms;
use crate::config::LimitSettings;
use crate::lines::Lines;
use crate::observe::whole;
use crate::patient::Patient;
use crate::tls::{ClientCertified, Tls};

/// Nobody's request has a head of more.
const HEAD_BYTES: usize = 32 << 10;
const HEADERS: usize = 100;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Connections that are refused are logged, up to this many lines a second; the numbers have all of them.
static REFUSALS: Lines = Lines::new(5);

/// Serves until told to stop, then until the last connection has ended.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    limits: LimitSettings,
    stopping: watch::Receiver<bool>,
) {
    let most = limits.connections;
    let places = Arc::new(Semaphore::new(most));
    let addresses = Addresses::new(limits.connections_of_one());
    let head_time = Duration::from_secs(limits.header_seconds);
    let write_time = Duration::from_secs(limits.write_seconds);
    let mut stop = stopping.clone();
    let mut stopped = pin!(stop.wait_for(|stop| *stop));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stopped => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: some come back when connections end.
                tracing::error!("cannot accept a connection: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        gauge!("flags_control_connections").set(whole((most - places.available_permits()) as u64));
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            // Closed at once: who comes is to try another replica and not to wait here.
            refuse("all", peer);
            continue;
        };
        let Some(own_place) = addresses.take(peer.ip()) else {
            refuse("address", peer);
            continue;
        };
        let (tls, router, stopping) = (tls.clone(), router.clone(), stopping.clone());
        tokio::spawn(async move {
            let _places = (place, own_place);
            // Events are small, and each is to go at once.
            let _ = stream.set_nodelay(true);
            let stream = Patient::new(stream, write_time);
            match tls {
                None => talk(stream, peer, ClientCertified(false), router, head_time, stopping).await,
                Some(tls) => {
                    let Some((stream, certified)) = shake_hands(&tls, stream, peer).await else { return };
                    talk(stream, peer, certified, router, head_time, stopping).await;
                }
            }
        });
    }
    drop(listener);
    let all = u32::try_from(most).unwrap_or(u32::MAX);
    let _ = places.acquire_many(all).await;
}

/// Counts and logs a connection that is closed at once, by the limit that it was beyond.
fn refuse(limit: &'static str, peer: SocketAddr) {
    counter!("flags_control_connections_refused_total", "limit" => limit).increment(1);
    if let Some(left_out) = REFUSALS.take(u64::try_from(now_ms() / 1_000).unwrap_or(0)) {
        tracing::warn!(limit, %peer, left_out, "a connection was closed: there are as many as may be");
    }
}

async fn shake_hands(
    tls: &Tls,
    stream: Patient<TcpStream>,
    peer: SocketAddr,
) -> Option<(tokio_rustls::server::TlsStream<Patient<TcpStream>>, ClientCertified)> {
    match timeout(HANDSHAKE, tls.acceptor().accept(stream)).await {
        Ok(Ok(stream)) => {
            let certified = stream.get_ref().1.peer_certificates().is_some();
            Some((stream, ClientCertified(certified)))
        }
        failed => {
            counter!("flags_control_tls_failures_total").increment(1);
            let why = failed.map_or("it took too long".to_owned(), |failed| {
                failed.err().map(|error| error.to_string()).unwrap_or_default()
            });
            tracing::debug!(%peer, "no TLS connection: {why}");
            None
        }
    }
}

/// Answers the requests of one connection.
async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    certified: ClientCertified,
    router: Router,
    head_time: Duration,
    mut stopping: watch::Receiver<bool>,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request;
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(certified);
        router.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head_time).max_headers(HEADERS).max_buf_size(HEAD_BYTES);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    // How a connection ended is the other end's business; requests are counted and logged where they are answered.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}
