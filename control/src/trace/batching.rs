//! How spans wait and go out: the variables of OpenTelemetry's specification, which the SDK reads for a queue of its own alone.

use std::env;
use std::str::FromStr;
use std::time::Duration;

/// How spans wait and go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batching {
    /// Spans that wait.
    pub(super) waiting: usize,
    /// Spans that are sent at once.
    pub(super) batch: usize,
    /// How long a batch is waited for until it is full.
    pub(super) gather: Duration,
    /// How long the collector may take for a batch.
    pub(super) patience: Duration,
}

/// More spans than this are kept for nobody.
const MOST: usize = 1 << 20;

/// The longest time: an hour.
const LONGEST_MS: u64 = 3_600_000;

impl Default for Batching {
    fn default() -> Self {
        Self { waiting: 2_048, batch: 512, gather: Duration::from_secs(1), patience: Duration::from_secs(10) }
    }
}

impl Batching {
    /// What the environment says. What makes no sense there is passed over, with a word in the log.
    pub(super) fn from_environment() -> Self {
        Self::from(|name| env::var(name).ok())
    }

    fn from(said: impl Fn(&str) -> Option<String>) -> Self {
        let size = |name| number(&said, name, 1..=MOST);
        let time = |name, least| number(&said, name, least..=LONGEST_MS).map(Duration::from_millis);
        let default = Self::default();
        let waiting = size("OTEL_BSP_MAX_QUEUE_SIZE").unwrap_or(default.waiting);
        let of_request = time("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", 1).or_else(|| time("OTEL_EXPORTER_OTLP_TIMEOUT", 1));
        // A batch is one request, which is not sent again: the shorter of the two times is what it has.
        let patience = time("OTEL_BSP_EXPORT_TIMEOUT", 1).into_iter().chain(of_request).min();
        Self {
            waiting,
            batch: size("OTEL_BSP_MAX_EXPORT_BATCH_SIZE").unwrap_or(default.batch).min(waiting),
            gather: time("OTEL_BSP_SCHEDULE_DELAY", 0).unwrap_or(default.gather),
            patience: patience.unwrap_or(default.patience),
        }
    }
}

fn number<N: FromStr + PartialOrd>(
    said: impl Fn(&str) -> Option<String>,
    name: &str,
    sane: std::ops::RangeInclusive<N>,
) -> Option<N> {
    let text = said(name).filter(|text| !text.is_empty())?;
    let number = text.trim().parse().ok().filter(|number| sane.contains(number));
    if number.is_none() {
        tracing::warn!("{name}={text} makes no sense, and is passed over");
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(said: &[(&str, &str)]) -> Batching {
        Batching::from(|name| said.iter().find(|(said, _)| *said == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn what_the_environment_says_counts_where_it_makes_sense() {
        let default = Batching::default();
        assert_eq!(of(&[]), default);
        let said = of(&[
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "20"),
            ("OTEL_BSP_SCHEDULE_DELAY", "0"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "3000"),
        ]);
        let (gather, patience) = (Duration::ZERO, Duration::from_secs(3));
        assert_eq!(said, Batching { waiting: 100, batch: 20, gather, patience });
        for (name, value) in [
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "-1"),
            ("OTEL_BSP_SCHEDULE_DELAY", "1s"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "0"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "99999999999"),
            ("OTEL_BSP_SCHEDULE_DELAY", ""),
        ] {
            assert_eq!(of(&[(name, value)]), default, "{name}={value}");
        }
        assert_eq!(of(&[("OTEL_BSP_MAX_QUEUE_SIZE", "10")]).batch, 10, "no batch is larger than what waits");
    }

    #[test]
    fn the_shortest_time_counts_and_that_of_traces_before_that_of_all() {
        let patience = |said: &[_]| of(said).patience.as_millis();
        let (all, traces, batch) =
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_BSP_EXPORT_TIMEOUT");
        assert_eq!(patience(&[(all, "20000")]), 20_000);
        assert_eq!(patience(&[(all, "20000"), (batch, "15000")]), 15_000);
        assert_eq!(patience(&[(all, "500"), (batch, "15000")]), 500);
        assert_eq!(patience(&[(all, "500"), (traces, "700")]), 700);
    }
}
