//! What operators see: a log line and numbers for each request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;
use axum::{Router, response::IntoResponse};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::app::App;
use crate::clock::now_ms;
use crate::lines::Lines;
use crate::resource::token;
use crate::routes;
use crate::trace::RequestSpan;

/// Who asked goes by this name from proxy to log.
const REQUEST_ID: &str = "x-request-id";

/// Bounds of the latency histogram, in seconds.
const BUCKETS: [f64; 11] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// The same of what goes through networks, and through hosts that were away.
const LAG_BUCKETS: [f64; 12] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0];

/// How often what was measured is added up. Until then each measurement is kept, which nobody would ever end where nobody asks for the numbers.
const ADD_UP: Duration = Duration::from_secs(5);

/// Begins to count, in a runtime that goes on with it.
///
/// # Errors
/// Where somebody counts already.
pub(crate) fn start() -> anyhow::Result<PrometheusHandle> {
    let recorder =
        PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)?
            .set_buckets_for_metric(Matcher::Full("flags_control_propagation_seconds".to_owned()), &LAG_BUCKETS)?;
    let recorder = recorder.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)?;
    tokio::spawn(add_up(handle.clone(), ADD_UP));
    describe_counter!("flags_control_requests_total", "Requests answered, by method, route and status");
    describe_counter!("flags_control_log_pruned_total", "Changes of the logs that were thrown away");
    describe_counter!("flags_control_schedules_total", "Scheduled changes that were made, or failed, by outcome");
    describe_histogram!("flags_control_request_seconds", "Seconds to the answer's first byte, by route");
    describe_gauge!("flags_control_streams", "Streams that hosts follow, by environment");
    describe_gauge!("flags_control_revision", "The revision that hosts get, by environment");
    describe_counter!(
        "flags_control_stream_events_total",
        "Events that streams were given, by kind: snapshot, change, current"
    );
    describe_gauge!("flags_control_database_up", "1 where the database was read when it was last tried");
    describe_gauge!("flags_control_streams_limit", "How many streams this process holds at most");
    describe_gauge!("flags_control_connections", "Connections that are open");
    describe_counter!(
        "flags_control_part_chunks_total",
        "Chunks of id lists' parts that hosts were given, by where they came from: memory, database"
    );
    describe_gauge!("flags_control_part_cache_bytes", "Parts of id lists in memory, bytes");
    describe_counter!("flags_control_parts_evicted_total", "Parts of id lists that made way for others in memory");
    describe_counter!(
        "flags_control_connections_refused_total",
        "Connections closed at once, since there were as many as may be, by limit: all, address"
    );
    describe_counter!(
        "flags_control_connections_cut_total",
        "Connections closed since what was sent was not read, or too slowly"
    );
    describe_counter!("flags_control_tls_failures_total", "Connections that did not come to speak TLS");
    describe_gauge!(
        "flags_control_certificate_expiry_timestamp_seconds",
        "When certificates end, seconds since 1970, by which: server, client_ca; of several the first that does"
    );
    describe_counter!("flags_control_tls_reloads_total", "Certificates read anew, by result: taken, refused");
    describe_counter!(
        "flags_control_refused_total",
        "Requests refused, by the kind of problem they were answered with"
    );
    describe_counter!(
        "flags_control_shed_total",
        "Requests turned away for being too many at once, by class: read, write, stream, upload, download, import"
    );
    describe_counter!(
        "flags_control_shares_refused_total",
        "Requests turned away since their token holds many places and the last are kept for others, by class: stream, upload, download, import"
    );
    describe_histogram!(
        "flags_control_store_seconds",
        "Seconds that a transaction took, with the wait for a connection, by kind"
    );
    describe_histogram!(
        "flags_control_follow_seconds",
        "Seconds from a change's time to its being there for this process's streams"
    );
    describe_gauge!(
        "flags_control_hosts",
        "Hosts that have told this process lately what they published, by environment"
    );
    describe_gauge!("flags_control_hosts_behind", "How many of them had an old revision then, by environment");
    describe_gauge!(
        "flags_control_hosts_ahead",
        "How many of them had a revision then that was not known here, by environment"
    );
    describe_counter!(
        "flags_control_epochs_begun_total",
        "Epochs of environments that began since the database had lost what it had acknowledged"
    );
    describe_histogram!(
        "flags_control_propagation_seconds",
        "Seconds from a change's time to its publication on a host, as hosts report them, by environment"
    );
    describe_counter!("flags_control_spans_total", "Spans for the collector of traces, by result: sent, dropped");
    describe_gauge!("process_resident_memory_bytes", "Memory of this process");
    describe_gauge!("process_start_time_seconds", "When it started, seconds since 1970");
    begin();
    Ok(handle)
}

async fn add_up(handle: PrometheusHandle, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        handle.run_upkeep();
    }
}

/// What has not happened yet is there as a zero: an alert on its growth could not see it appear.
fn begin() {
    for class in ["read", "write", "stream", "upload", "download", "import"] {
        counter!("flags_control_shed_total", "class" => class).absolute(0);
    }
    for class in ["stream", "upload", "download", "import"] {
        counter!("flags_control_shares_refused_total", "class" => class).absolute(0);
    }
    for result in ["taken", "refused"] {
        counter!("flags_control_tls_reloads_total", "result" => result).absolute(0);
    }
    for kind in ["snapshot", "change", "current"] {
        counter!("flags_control_stream_events_total", "kind" => kind).absolute(0);
    }
    for limit in ["all", "address"] {
        counter!("flags_control_connections_refused_total", "limit" => limit).absolute(0);
    }
    for result in ["sent", "dropped"] {
        counter!("flags_control_spans_total", "result" => result).absolute(0);
    }
    counter!("flags_control_refused_total", "kind" => "no-room").absolute(0);
    counter!("flags_control_epochs_begun_total").absolute(0);
    counter!("flags_control_tls_failures_total").absolute(0);
    counter!("flags_control_connections_cut_total").absolute(0);
    gauge!("flags_control_connections").set(0.0);
    gauge!("process_start_time_seconds").set(whole(u64::try_from(now_ms()).unwrap_or(0)) / 1_000.0);
}

/// `VmRSS` of `/proc/self/status`.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1_024)
}

/// For those who watch over this process, at an address of its own: `/metrics`, `/healthz`, `/readyz`.
pub(crate) fn router(app: Arc<App>, handle: PrometheusHandle) -> Router {
    let render = |State(app): State<Arc<App>>| async move {
        for (path, live) in app.hub.all() {
            gauge!("flags_control_streams", "environment" => path.clone()).set(whole(live.streams() as u64));
            gauge!("flags_control_revision", "environment" => path.clone()).set(whole(live.newest().revision));
            let hosts = live.hosts.counts(now_ms());
            gauge!("flags_control_hosts", "environment" => path.clone()).set(whole(hosts.all as u64));
            gauge!("flags_control_hosts_behind", "environment" => path.clone()).set(whole(hosts.behind as u64));
            gauge!("flags_control_hosts_ahead", "environment" => path).set(whole(hosts.ahead as u64));
        }
        gauge!("flags_control_database_up").set(if app.hub.trouble().is_none() { 1.0 } else { 0.0 });
        gauge!("flags_control_streams_limit").set(whole(app.config.limits.streams as u64));
        if let Some(bytes) = resident_bytes() {
            gauge!("process_resident_memory_bytes").set(whole(bytes));
        }
        handle.run_upkeep();
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render()).into_response()
    };
    Router::new().route("/metrics", get(render)).merge(routes::health()).with_state(app)
}

/// A whole number for a gauge.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
pub(crate) fn whole(number: u64) -> f64 {
    number as f64
}

/// What is refused is logged, up to this many lines a second; the numbers have all of it.
static REFUSALS: Lines = Lines::new(100);

/// Counts and logs a request; reads, and what hosts report, that went well only for who debugs.
pub(crate) async fn request(mut request: Request, next: Next) -> Response {
    let start = Instant::now();
    let id = request_id(&request);
    if let Ok(value) = HeaderValue::from_str(&id) {
        request.headers_mut().insert(REQUEST_ID, value);
    }
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.to_string());
    let token = token_id(&request);

    let span = RequestSpan::begin(&request, &route, &id);
    let mut response = match span {
        Some(span) => {
            let response = span.around(next.run(request)).await;
            span.end(response.status());
            response
        }
        None => next.run(request).await,
    };

    let (status, elapsed) = (response.status(), start.elapsed());
    counter!("flags_control_requests_total", "method" => known(&method), "route" => route.clone(), "status" => status.as_str().to_owned())
        .increment(1);
    histogram!("flags_control_request_seconds", "route" => route.clone()).record(elapsed);
    let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    let (status, ms) = (status.as_u16(), elapsed.as_secs_f64() * 1_000.0);
    if refused || status >= 500 {
        if let Some(left_out) = REFUSALS.take(u64::try_from(now_ms() / 1_000).unwrap_or(0)) {
            tracing::warn!(request = id, %method, path, status, ms, token, peer, left_out, "refused");
        }
    } else if method == Method::GET || method == Method::HEAD || route.starts_with("/sync/") {
        tracing::debug!(request = id, %method, path, status, ms, token, peer, "answered");
    } else {
        tracing::info!(request = id, %method, path, status, ms, token, peer, "answered");
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// A method's name as a label: anybody may make up methods, and each label is kept for good.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// The id that came with the request, if it is a word, or a new one.
fn request_id(request: &Request) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_word = |id: &&str| {
        (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    given.filter(is_word).map(str::to_owned).unwrap_or_else(|| {
        let mut random = [0; 8];
        // Without random bytes requests are harder to tell apart, and that is all.
        let _ = getrandom::fill(&mut random);
        format!("{:016x}", u64::from_le_bytes(random))
    })
}

/// The part of the token that is no secret.
fn token_id(request: &Request) -> Option<String> {
    let text = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    token::split(text.split_once(' ')?.1).map(|(id, _)| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_takes_no_more_memory_the_more_it_is() {
        let mut own_process = std::process::Command::new(std::env::current_exe().expect("Linux tells"));
        own_process.args(["--ignored", "--exact", "observe::tests::memory_of_measurements"]);
        let output = own_process.output().expect("this program");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }

    #[tokio::test]
    #[ignore = "its memory is its process's: the test above starts it"]
    async fn memory_of_measurements() {
        /// Of all measurements, kept one by one.
        const BYTES: u64 = 64 << 20;
        let recorder = PrometheusBuilder::new().set_buckets(&BUCKETS).expect("buckets").build_recorder();
        let handle = recorder.handle();
        tokio::spawn(add_up(handle.clone(), Duration::from_millis(1)));
        let measured = metrics::with_local_recorder(&recorder, || histogram!("measured_seconds"));
        let before = resident_bytes().expect("Linux tells");
        let (mut most, number) = (0, BYTES / 8);
        for _ in 0..64 {
            (0..number / 64).for_each(|_| measured.record(0.001));
            most = resident_bytes().expect("Linux tells").saturating_sub(before).max(most);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(most < BYTES / 2, "{most} bytes for {number} measurements");
        assert!(handle.render().contains(&format!("measured_seconds_count {number}\n")), "all of them count");
    }
}
