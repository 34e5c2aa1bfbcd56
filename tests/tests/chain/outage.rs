//! All replicas of the control plane are away for a while.

use std::thread;
use std::time::{Duration, Instant};

use crate::host::{Host, n};
use crate::plane::Plane;
use crate::{are_built, eventually, free_port};

/// Seconds of the outage, for who can't wait: a minute is longer than every timeout in the chain, and the other tests run meanwhile.
const VARIABLE: &str = "FLAGS_TEST_OUTAGE_SECONDS";

#[test]
fn hosts_outlive_an_outage_and_catch_up_by_changes() {
    if !are_built() {
        return;
    }
    let outage = std::env::var(VARIABLE).map_or(60, |text| text.parse().unwrap());
    let plane = Plane::new();
    let ports = [free_port(), free_port()];
    let (first, second) = (plane.serve(ports[0]), plane.serve(ports[1]));
    // It would ask for the snapshot ten times a second, were there no stream to be had.
    let host = Host::follow(&plane.source(ports[0]));
    let client = host.client();
    eventually("the flag is there", || n(&client) == 1);
    second.set(2);
    eventually("the host has a change of the other replica", || n(&client) == 2);

    drop((first, second));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(outage) {
        assert_eq!(n(&client), 2);
        thread::sleep(Duration::from_millis(20));
    }
    // Its last word may have been read a while after it came.
    eventually("the age grows", || host.metric("flagsd_age_seconds{") >= outage as f64 * 0.9);
    assert!(host.metric("flagsd_source_stream{") == 0.0);

    // One is there again, for those who change flags; hosts still cannot reach it.
    let second = plane.serve(ports[1]);
    for value in 3..=5 {
        second.set(value);
    }
    assert_eq!(n(&client), 2);
    let first = plane.serve(ports[0]);
    eventually("the host has caught up", || n(&client) == 5);
    let sent = |kind| first.metric(&format!("flags_control_stream_events_total{{kind=\"{kind}\"}}"));
    assert_eq!((sent("snapshot"), sent("change")), (0.0, 3.0), "what was missed, and no more");
    let asked = first.metrics("flags_control_requests_total{").into_iter().filter(|line| line.contains("/snapshot\""));
    assert_eq!(asked.collect::<Vec<_>>(), Vec::<String>::new(), "nobody asked for all of it");
    assert_eq!(
        host.metric("flagsd_revision{"),
        first.metric("flags_control_revision{environment=\"shop/production\"}")
    );
    assert_eq!(host.metric("flagsd_source_refused_total{"), 0.0);
    assert!(host.metric("flagsd_propagation_seconds_count{") >= 1.0);
}
