//! Metrics in Prometheus' text format.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use crate::clock::unix_ms;
use crate::source::{Connection, Health, LinkReport};
use crate::status::{SetState, SetStatus, Status};

/// What is counted for a set since flagsd started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) published: u64,
    /// Changes refused: no source says anything that can be compiled, or the guard found it unfit.
    pub(crate) refused: u64,
    /// Changes held for their blast radius.
    pub(crate) held: u64,
    pub(crate) publish_failures: u64,
    pub(crate) keep_failures: u64,
    pub(crate) compile: Histogram,
    pub(crate) publish: Histogram,
    /// From the receipt of a change of a control plane to its publication.
    pub(crate) change: Histogram,
    /// From a change at the control plane to its publication here, by both clocks.
    pub(crate) propagation: Histogram,
}

/// Durations, in buckets that grow fourfold from 100 µs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    /// One for each bound, and one for all above.
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

const BOUNDS: [f64; 9] = [0.000_1, 0.000_4, 0.001_6, 0.006_4, 0.025_6, 0.102_4, 0.409_6, 1.638_4, 6.553_6];

impl Histogram {
    pub(crate) fn observe(&mut self, duration: Duration) {
        let bucket = BOUNDS.iter().position(|bound| duration.as_secs_f64() <= *bound).unwrap_or(BOUNDS.len());
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum += duration;
    }
}

/// The metrics of everything that `status` tells of.
pub(crate) fn render(status: &Status) -> String {
    let mut page = Page(String::new());
    page.family("flagsd_build_info", "gauge", "The version that runs.");
    page.sample("flagsd_build_info", &[("version", status.version)], 1);
    page.family("process_start_time_seconds", "gauge", "When flagsd started, seconds since 1970.");
    page.sample("process_start_time_seconds", &[], seconds(status.started_ms));
    if let Some(bytes) = resident_bytes() {
        page.family("process_resident_memory_bytes", "gauge", "Memory of flagsd.");
        page.sample("process_resident_memory_bytes", &[], bytes);
    }

    let sets = &status.sets;
    macro_rules! per_set {
        ($name:literal, $kind:literal, $help:literal, $value:expr) => {
            page.family($name, $kind, $help);
            for set in sets {
                let value: &dyn Fn(&crate::status::SetStatus) -> f64 = &$value;
                page.sample($name, &[("set", &set.name)], value(set));
            }
        };
    }
    #[expect(clippy::cast_precision_loss, reason = "a metric is a double")]
    {
        per_set!("flagsd_generation", "gauge", "Number of the published generation.", |set| set.generation as f64);
        per_set!("flagsd_revision", "gauge", "Revision of the published content, 0 for files.", |set| set.revision
            as f64);
        per_set!("flagsd_flags", "gauge", "Flags in the published generation.", |set| set.flags as f64);
        per_set!("flagsd_problems", "gauge", "Problems in what the sources say.", |set| set.problem_count as f64);
        per_set!("flagsd_broken_flags", "gauge", "Flags whose definition is broken.", |set| set.broken_count as f64);
        per_set!("flagsd_overrides", "gauge", "Flags with a local value.", |set| set.overrides.len() as f64);
        per_set!("flagsd_publishes_total", "counter", "Generations published.", |set| set.counters.published as f64);
        per_set!("flagsd_refused_total", "counter", "Changes refused.", |set| set.counters.refused as f64);
        per_set!("flagsd_held_total", "counter", "Changes held for what they remove.", |set| set.counters.held as f64);
        per_set!("flagsd_publish_failures_total", "counter", "Failed writes to the store.", |set| {
            set.counters.publish_failures as f64
        });
        per_set!("flagsd_keep_failures_total", "counter", "Failed writes to the state directory.", |set| {
            set.counters.keep_failures as f64
        });
    }
    per_set!(
        "flagsd_age_seconds",
        "gauge",
        "Since the sources last confirmed what is published; NaN for never.",
        |set| { set.age_seconds.unwrap_or(f64::NAN) }
    );
    per_set!("flagsd_ready", "gauge", "Whether something is published and every source was looked at.", |set| {
        f64::from(u8::from(set.ready))
    });
    per_set!("flagsd_stale", "gauge", "Whether the sources have not confirmed it for too long.", |set| {
        f64::from(u8::from(set.state == SetState::Stale))
    });
    per_set!("flagsd_frozen", "gauge", "Whether an operator froze it.", |set| f64::from(u8::from(
        set.frozen.is_some()
    )));
    per_set!("flagsd_change_held", "gauge", "Whether a change waits for confirmation.", |set| {
        f64::from(u8::from(set.held.is_some()))
    });
    per_set!("flagsd_change_refused", "gauge", "Whether what the sources say is refused.", |set| {
        f64::from(u8::from(set.refused.is_some()))
    });

    page.family("flagsd_source_up", "gauge", "Whether a source could be read.");
    for (set, source) in sets.iter().flat_map(|set| set.sources.iter().map(move |source| (set, source))) {
        let labels = [("set", set.name.as_str()), ("source", source.source.as_str())];
        page.sample("flagsd_source_up", &labels, u8::from(source.state == Health::Ok));
    }
    page.family("flagsd_source_errors_total", "counter", "How often something went wrong with a source.");
    for (set, source) in sets.iter().flat_map(|set| set.sources.iter().map(move |source| (set, source))) {
        let labels = [("set", set.name.as_str()), ("source", source.source.as_str())];
        page.sample("flagsd_source_errors_total", &labels, source.errors);
    }
    control_planes(&mut page, sets);
    page.family("flagsd_compile_seconds", "histogram", "Time to compile a change.");
    for set in sets {
        page.histogram("flagsd_compile_seconds", &set.name, &set.counters.compile);
    }
    page.family("flagsd_publish_seconds", "histogram", "Time to publish a change.");
    for set in sets {
        page.histogram("flagsd_publish_seconds", &set.name, &set.counters.publish);
    }
    page.family("flagsd_change_seconds", "histogram", "From the receipt of a change to its publication.");
    for set in sets {
        page.histogram("flagsd_change_seconds", &set.name, &set.counters.change);
    }
    page.family(
        "flagsd_propagation_seconds",
        "histogram",
        "From a change at the control plane to its publication here.",
    );
    for set in sets {
        page.histogram("flagsd_propagation_seconds", &set.name, &set.counters.propagation);
    }
    page.0
}

/// What is known of sources that are control planes.
#[expect(clippy::cast_precision_loss, reason = "a metric is a double")]
fn control_planes(page: &mut Page, sets: &[SetStatus]) {
    let links: Vec<([(&str, &str); 2], &LinkReport)> = sets
        .iter()
        .flat_map(|set| set.sources.iter().map(move |source| (set, source)))
        .filter_map(|(set, source)| {
            Some(([("set", set.name.as_str()), ("source", source.source.as_str())], source.control.as_ref()?))
        })
        .collect();
    let mut family = |name, kind, help, value: &dyn Fn(&LinkReport) -> f64| {
        page.family(name, kind, help);
        for (labels, link) in &links {
            page.sample(name, labels, value(link));
        }
    };
    let since = |ms: u64| unix_ms(SystemTime::now()).saturating_sub(ms) as f64 / 1_000.0;
    let help = "Whether changes of a control plane come as they happen.";
    family("flagsd_source_stream", "gauge", help, &|link| f64::from(u8::from(link.connection == Connection::Stream)));
    let help = "Revision last taken from a control plane.";
    family("flagsd_source_revision", "gauge", help, &|link| link.revision as f64);
    let help = "Since a control plane last said that what was taken from it is current; NaN for never.";
    family("flagsd_source_confirmed_seconds", "gauge", help, &|link| link.confirmed_ms.map_or(f64::NAN, since));
    let help = "Texts of a control plane that were refused.";
    family("flagsd_source_refused_total", "counter", help, &|link| link.refused as f64);
    let help = "Connections opened to a control plane.";
    family("flagsd_source_connects_total", "counter", help, &|link| link.connects as f64);
    let help = "How often a control plane was told what is published here.";
    family("flagsd_source_reports_total", "counter", help, &|link| link.reports as f64);
    let help = "How often nobody took that.";
    family("flagsd_source_reports_dropped_total", "counter", help, &|link| link.reports_dropped as f64);
    let help = "Id lists that a newer revision of a control plane waits for.";
    family("flagsd_source_lists_waiting", "gauge", help, &|link| link.lists_waiting as f64);
    let help = "Parts of those lists that did not come yet.";
    family("flagsd_source_parts_waiting", "gauge", help, &|link| link.parts_waiting as f64);
    let help = "How often id lists could not be fetched, kept or built.";
    family("flagsd_source_list_failures_total", "counter", help, &|link| link.list_failures as f64);
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if at == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn histogram(&mut self, name: &str, set: &str, histogram: &Histogram) {
        let mut count = 0;
        let bucket = format!("{name}_bucket");
        for (bound, in_bucket) in BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]).zip(histogram.counts) {
            count += in_bucket;
            self.sample(&bucket, &[("set", set), ("le", &bound)], count);
        }
        self.sample(&format!("{name}_sum"), &[("set", set)], histogram.sum.as_secs_f64());
        self.sample(&format!("{name}_count"), &[("set", set)], count);
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}

fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_each_once_and_adds_up() {
        let mut histogram = Histogram::default();
        for micros in [50, 100, 101, 2_000, 60_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let mut page = Page(String::new());
        page.histogram("x", "a\"b", &histogram);
        for line in [
            "x_bucket{set=\"a\\\"b\",le=\"0.0001\"} 2",
            "x_bucket{set=\"a\\\"b\",le=\"0.0004\"} 3",
            "x_bucket{set=\"a\\\"b\",le=\"6.5536\"} 4",
            "x_bucket{set=\"a\\\"b\",le=\"+Inf\"} 5",
            "x_sum{set=\"a\\\"b\"} 60.002251",
            "x_count{set=\"a\\\"b\"} 5",
        ] {
            assert!(page.0.lines().any(|found| found == line), "{line:?} is missing in\n{}", page.0);
        }
    }
}
