//! How much one token, one address, and all together may ask.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::StatusCode;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter};

use crate::config::LimitSettings;
use crate::problem::Problem;

/// The limits of this process.
#[derive(Debug)]
pub(crate) struct Limits {
    /// GCRA, by token.
    requests: DefaultKeyedRateLimiter<String>,
    /// The same by address, whatever the token.
    addresses: DefaultKeyedRateLimiter<IpAddr>,
    streams: Arc<AtomicUsize>,
    most_streams: usize,
}

/// A stream's place among the admitted; dropped when it ends.
#[derive(Debug)]
pub(crate) struct StreamPlace(Arc<AtomicUsize>);

impl Drop for StreamPlace {
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
            requests: RateLimiter::keyed(quota(settings.requests_per_second, settings.burst)),
            addresses: RateLimiter::keyed(quota(settings.address_requests_per_second, settings.address_burst)),
            streams: Arc::default(),
            most_streams: settings.streams,
        }
    }

    /// Counts a request of a token.
    ///
    /// # Errors
    /// 429 where there were too many.
    pub(crate) fn request(&self, token_id: &str) -> Result<(), Problem> {
        let checked = self.requests.check_key(&token_id.to_owned());
        checked.map_err(|not_until| too_many(&not_until, "this token has asked too often"))
    }

    /// Counts a request from an address, before anything is known of who asks.
    ///
    /// # Errors
    /// 429 where there were too many.
    pub(crate) fn address(&self, address: IpAddr) -> Result<(), Problem> {
        let checked = self.addresses.check_key(&address);
        checked.map_err(|not_until| too_many(&not_until, "this address has asked too often"))
    }

    /// Admits a stream.
    ///
    /// # Errors
    /// 503 where all places are taken.
    pub(crate) fn stream(&self) -> Result<StreamPlace, Problem> {
        // ORDERING: Relaxed; the number alone counts.
        let before = self.streams.fetch_add(1, Ordering::Relaxed);
        let place = StreamPlace(Arc::clone(&self.streams));
        if before < self.most_streams {
            return Ok(place);
        }
        let detail = "this process holds as many streams as it may";
        Err(Problem::come_back(StatusCode::SERVICE_UNAVAILABLE, "too-many-streams", detail, 5))
    }

    /// Lets go of tokens that have not asked for a while.
    pub(crate) fn tidy(&self) {
        self.requests.retain_recent();
        self.requests.shrink_to_fit();
        self.addresses.retain_recent();
        self.addresses.shrink_to_fit();
    }
}

fn too_many(not_until: &NotUntil<<DefaultClock as Clock>::Instant>, detail: &str) -> Problem {
    let wait = not_until.wait_time_from(DefaultClock::default().now());
    let after_s = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
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
    fn a_stream_that_ends_makes_room() {
        let limits = Limits::new(&LimitSettings { streams: 2, ..LimitSettings::default() });
        let (first, _second) = (limits.stream().expect("room"), limits.stream().expect("room"));
        assert_eq!(limits.stream().expect_err("full").status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(first);
        assert!(limits.stream().is_ok());
    }
}
