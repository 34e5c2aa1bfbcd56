//! How much one token, and all together, may ask.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::StatusCode;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::config::LimitSettings;
use crate::problem::Problem;

/// The limits of this process.
#[derive(Debug)]
pub(crate) struct Limits {
    /// GCRA, by token.
    requests: DefaultKeyedRateLimiter<String>,
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
        let rate = NonZeroU32::new(settings.requests_per_second).unwrap_or(NonZeroU32::MIN);
        let burst = NonZeroU32::new(settings.burst).unwrap_or(NonZeroU32::MIN);
        Self {
            requests: RateLimiter::keyed(Quota::per_second(rate).allow_burst(burst)),
            streams: Arc::default(),
            most_streams: settings.streams,
        }
    }

    /// Counts a request of a token.
    ///
    /// # Errors
    /// 429 where there were too many.
    pub(crate) fn request(&self, token_id: &str) -> Result<(), Problem> {
        self.requests.check_key(&token_id.to_owned()).map_err(|not_until| {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            let after_s = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let detail = "this token has asked too often";
            Problem::come_back(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", detail, after_s)
        })
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
    }
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
