//! How much one token, one address, and all together may ask.

use std::cell::Cell;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use metrics::counter;

use crate::addresses;
use crate::config::LimitSettings;
use crate::places::{NoPlace, Place, Places};
use crate::problem::Problem;

type ByToken = DefaultKeyedRateLimiter<String, StateInformationMiddleware>;

/// The limits of this process.
#[derive(Debug)]
pub(crate) struct Limits {
    /// GCRA, by token.
    requests: ByToken,
    /// The same of what hosts ask.
    sync: ByToken,
    /// The same by address, whatever the token.
    addresses: DefaultKeyedRateLimiter<IpAddr>,
    /// By token, what hosts report.
    reports: DefaultKeyedRateLimiter<String>,
    streams: Places,
    uploads: Places,
    downloads: Places,
    imports: Places,
    /// Of the management API, under way.
    managing: Arc<AtomicUsize>,
    most_managing: usize,
}

/// What a request of the management API is for. With too many at once reads are turned away before writes are, and hosts never for either's sake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Read,
    Write,
}

/// What a token may still ask, as its answers say.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    limit: u32,
    remaining: u32,
    /// Until all of it is there again.
    reset_s: u64,
}

tokio::task_local! {
    /// What the request that is answered now found.
    static FOUND: Cell<Option<Allowance>>;
}

/// What of one token's a process does many of at once, or for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A host's.
    Stream,
    /// Of an id list.
    Upload,
    /// Of an id list.
    Download,
    /// Of a file.
    Import,
}

/// A place among the requests of the management API; dropped when that ends.
#[derive(Debug)]
pub(crate) struct Managing(Arc<AtomicUsize>);

impl Drop for Managing {
    fn drop(&mut self) {
        // ORDERING: Relaxed; the number alone counts.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Limits {
    pub(crate) fn new(settings: &LimitSettings) -> Self {
        let quota = |rate, burst| {
            let at_least_one = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
            Quota::per_second(at_least_one(rate)).allow_burst(at_least_one(burst))
        };
        Self {
            requests: RateLimiter::keyed(quota(settings.requests_per_second, settings.burst)).with_middleware(),
            sync: RateLimiter::keyed(quota(settings.sync_requests_per_second, settings.sync_burst)).with_middleware(),
            addresses: RateLimiter::keyed(quota(settings.address_requests_per_second, settings.address_burst)),
            reports: RateLimiter::keyed(quota(settings.reports_per_second, settings.reports_per_second)),
            streams: Places::new(settings.streams, settings.kept_percent),
            uploads: Places::new(settings.uploads, settings.kept_percent),
            downloads: Places::new(settings.downloads, settings.kept_percent),
            imports: Places::new(settings.imports, settings.kept_percent),
            managing: Arc::default(),
            most_managing: settings.management_requests,
        }
    }

    /// Counts a request of a token to the management API.
    ///
    /// # Errors
    /// 429 where there were too many.
    pub(crate) fn request(&self, token_id: &str) -> Result<(), Problem> {
        count(&self.requests, token_id)
    }

    /// Counts a request of a host. A fleet that shares a token comes at once after an outage.
    ///
    /// # Errors
    /// 429 where there were too many.
    pub(crate) fn sync(&self, token_id: &str) -> Result<(), Problem> {
        count(&self.sync, token_id)
    }

    /// Counts a request from an address, before anything is known of who asks.
    ///
    /// # Errors
    /// 429 where there were too many.
    pub(crate) fn address(&self, address: IpAddr) -> Result<(), Problem> {
        check(&self.addresses, &addresses::client(address), "this address has asked too often")
    }

    /// Counts a report of a host, and nothing else: hosts of an environment may share a token.
    ///
    /// # Errors
    /// 429 where there were too many.
    pub(crate) fn report(&self, token_id: &str) -> Result<(), Problem> {
        check(&self.reports, &token_id.to_owned(), "hosts with this token have reported too often")
    }

    /// Admits a stream, or work that takes long.
    ///
    /// # Errors
    /// 503 where all places are taken; 429 where the token has its share, and what is left is kept for others.
    pub(crate) fn place(&self, kind: Kind, token_id: &str) -> Result<Place, Problem> {
        let (places, class, problem, detail) = match kind {
            Kind::Stream => {
                (&self.streams, "stream", "too-many-streams", "this process holds as many streams as it may")
            }
            Kind::Upload => {
                (&self.uploads, "upload", "too-many-uploads", "as many lists as may are being uploaded now")
            }
            Kind::Download => {
                (&self.downloads, "download", "too-many-downloads", "as many lists as may are being downloaded now")
            }
            Kind::Import => {
                (&self.imports, "import", "too-many-imports", "as many files as may are being imported now")
            }
        };
        places.take(token_id).map_err(|none| match none {
            NoPlace::Full => {
                counter!("flags_control_shed_total", "class" => class).increment(1);
                Problem::come_back(StatusCode::SERVICE_UNAVAILABLE, problem, detail, 5)
            }
            NoPlace::Kept => {
                counter!("flags_control_shares_refused_total", "class" => class).increment(1);
                let detail = format!("this token has its share ({class}): what is left is kept for others");
                Problem::come_back(StatusCode::TOO_MANY_REQUESTS, "share-taken", detail, 5)
            }
        })
    }

    /// Admits a request of the management API.
    ///
    /// # Errors
    /// 503 where too many are under way.
    pub(crate) fn management(&self, class: Class) -> Result<Managing, Problem> {
        let (most, name) = match class {
            Class::Read => (self.most_managing.div_ceil(2), "read"),
            Class::Write => (self.most_managing, "write"),
        };
        managing(&self.managing, most).ok_or_else(|| {
            counter!("flags_control_shed_total", "class" => name).increment(1);
            let detail = "more is asked at once than this process does";
            Problem::come_back(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail, 1)
        })
    }

    /// Lets go of tokens that have not asked for a while.
    pub(crate) fn tidy(&self) {
        self.requests.retain_recent();
        self.requests.shrink_to_fit();
        self.sync.retain_recent();
        self.sync.shrink_to_fit();
        self.addresses.retain_recent();
        self.addresses.shrink_to_fit();
        self.reports.retain_recent();
        self.reports.shrink_to_fit();
    }
}

impl Class {
    pub(crate) fn of(method: &Method) -> Self {
        if method == Method::GET || method == Method::HEAD { Self::Read } else { Self::Write }
    }
}

/// Puts what the token may still ask into the headers of the answer.
pub(crate) async fn tell(request: Request, next: Next) -> Response {
    let answered = async {
        let mut response = next.run(request).await;
        if let Some(allowance) = FOUND.with(Cell::get) {
            allowance.tell(response.headers_mut());
        }
        response
    };
    FOUND.scope(Cell::new(None), answered).await
}

impl Allowance {
    fn tell(self, headers: &mut HeaderMap) {
        headers.insert(HeaderName::from_static("ratelimit-limit"), self.limit.into());
        headers.insert(HeaderName::from_static("ratelimit-remaining"), self.remaining.into());
        headers.insert(HeaderName::from_static("ratelimit-reset"), self.reset_s.into());
    }
}

fn count(limiter: &ByToken, token_id: &str) -> Result<(), Problem> {
    match limiter.check_key(&token_id.to_owned()) {
        Ok(state) => {
            note(&state);
            Ok(())
        }
        Err(not_until) => {
            note_exhausted(not_until.quota());
            let wait_s = wait_s(not_until.wait_time_from(DefaultClock::default().now()));
            Err(too_many(wait_s, "this token has asked too often"))
        }
    }
}

fn note(state: &StateSnapshot) {
    let (quota, remaining) = (state.quota(), state.remaining_burst_capacity());
    let limit = quota.burst_size().get();
    let used = limit.saturating_sub(remaining);
    let reset_s = wait_s(quota.replenish_interval() * used);
    let _ = FOUND.try_with(|found| found.set(Some(Allowance { limit, remaining, reset_s })));
}

fn note_exhausted(quota: Quota) {
    let limit = quota.burst_size().get();
    let reset_s = wait_s(quota.replenish_interval() * limit);
    let _ = FOUND.try_with(|found| found.set(Some(Allowance { limit, remaining: 0, reset_s })));
}

fn check<K: Clone + Eq + Hash>(limiter: &DefaultKeyedRateLimiter<K>, key: &K, detail: &str) -> Result<(), Problem> {
    let now = || DefaultClock::default().now();
    limiter.check_key(key).map_err(|not_until| too_many(wait_s(not_until.wait_time_from(now())), detail))
}

/// Takes a place, if one is left.
fn managing(taken: &Arc<AtomicUsize>, most: usize) -> Option<Managing> {
    // ORDERING: Relaxed; the number alone counts.
    let before = taken.fetch_add(1, Ordering::Relaxed);
    let place = Managing(Arc::clone(taken));
    (before < most).then_some(place)
}

/// Whole seconds, rounded up.
fn wait_s(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

fn too_many(after_s: u64, detail: &str) -> Problem {
    Problem::come_back(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", detail, after_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_told_when_to_come_back_and_others_are_not_hindered() {
        let limits = Limits::new(&LimitSettings { requests_per_second: 1, burst: 3, ..LimitSettings::default() });
        for _ in 0..3 {
            assert!(limits.request("a").is_ok());
        }
        assert_eq!(limits.request("a").expect_err("too many").status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(limits.request("b").is_ok());
    }

    #[test]
    fn a_fleet_that_shares_a_token_comes_back_at_once_and_takes_nothing_from_people() {
        let limits = Limits::new(&LimitSettings::default());
        for _ in 0..12_000 {
            assert!(limits.sync("fleet").is_ok());
        }
        assert!(limits.request("fleet").is_ok());
        let limits =
            Limits::new(&LimitSettings { sync_requests_per_second: 1, sync_burst: 2, ..LimitSettings::default() });
        assert!(limits.sync("a").is_ok() && limits.sync("a").is_ok());
        assert_eq!(limits.sync("a").expect_err("too many").status(), StatusCode::TOO_MANY_REQUESTS);
    }

    #[test]
    fn reads_are_turned_away_before_writes() {
        let limits = Limits::new(&LimitSettings { management_requests: 4, ..LimitSettings::default() });
        let reads = [limits.management(Class::Read).expect("room"), limits.management(Class::Read).expect("room")];
        assert_eq!(limits.management(Class::Read).expect_err("full").status(), StatusCode::SERVICE_UNAVAILABLE);
        let writes = [limits.management(Class::Write).expect("room"), limits.management(Class::Write).expect("room")];
        assert!(limits.management(Class::Write).is_err());
        assert!(limits.place(Kind::Stream, "host").is_ok(), "hosts are not counted");
        drop((reads, writes));
        assert!(limits.management(Class::Read).is_ok());
    }

    #[test]
    fn whoever_has_one_address_of_ipv6_has_no_more_of_them() {
        let limits = Limits::new(&LimitSettings {
            address_requests_per_second: 1,
            address_burst: 2,
            ..LimitSettings::default()
        });
        let ask = |address: &str| limits.address(address.parse().expect("an address"));
        assert!(ask("2001:db8:0:1::1").is_ok() && ask("2001:db8:0:1::2").is_ok());
        assert_eq!(ask("2001:db8:0:1:ffff::3").expect_err("too many").status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(ask("2001:db8:0:2::1").is_ok(), "a neighbour");
    }

    #[test]
    fn a_stream_that_ends_makes_room() {
        let limits = Limits::new(&LimitSettings { streams: 3, ..LimitSettings::default() });
        let stream = |token| limits.place(Kind::Stream, token);
        let (first, _second) = (stream("a").expect("room"), stream("a").expect("room"));
        assert_eq!(stream("a").expect_err("its share").status(), StatusCode::TOO_MANY_REQUESTS);
        let _third = stream("b").expect("kept for others");
        assert_eq!(stream("c").expect_err("full").status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(first);
        assert!(stream("c").is_ok());
    }
}
