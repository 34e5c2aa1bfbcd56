//! Hosts tell the control plane what they have published.

use serde_json::Value;

use crate::host::{Host, n};
use crate::plane::{Plane, Replica};
use crate::{are_built, eventually, free_port};

/// What a replica was told of a host.
fn told(replica: &Replica, host: &str) -> Value {
    let listed = replica.hosts();
    listed.into_iter().find(|listed| listed["host"] == host).unwrap_or(Value::Null)
}

#[test]
fn the_control_plane_knows_how_far_a_change_has_come() {
    if !are_built() {
        return;
    }
    let plane = Plane::new();
    let replica = plane.serve(free_port());
    let source = plane.source(replica.port);
    let hosts = ["one", "two"].map(|name| Host::reporting(&source, name));
    for name in ["one", "two"] {
        eventually("each host reports", || told(&replica, name)["state"] == "fresh");
    }
    let before = told(&replica, "one")["revision"].as_u64().unwrap();
    replica.set(2);
    for (host, name) in hosts.iter().zip(["one", "two"]) {
        let client = host.client();
        eventually("the change is there", || n(&client) == 2);
        eventually("and reported", || told(&replica, name)["revision"].as_u64() > Some(before));
        let told = told(&replica, name);
        let took = told["reportedMs"].as_u64().unwrap() - told["publishedMs"].as_u64().unwrap();
        assert!(told["lagMs"].is_u64() && took < 60_000, "{told}");
        assert_eq!((&told["set"], &told["behind"]), (&"default".into(), &false.into()));
        assert_eq!(host.metric("flagsd_source_reports_dropped_total{"), 0.0);
    }
    let here = "{environment=\"shop/production\"}";
    assert_eq!(replica.metric(&format!("flags_control_hosts{here}")), 2.0);
    assert_eq!(replica.metric(&format!("flags_control_hosts_behind{here}")), 0.0);
    assert_eq!(replica.metric(&format!("flags_control_propagation_seconds_count{here}")), 2.0);

    // Another process knows nothing of them until they speak again, and they do at the next change.
    let port = replica.port;
    drop(replica);
    let replica = plane.serve(port);
    assert_eq!(replica.hosts(), Vec::<Value>::new());
    replica.set(3);
    for name in ["one", "two"] {
        eventually("it is told", || told(&replica, name)["revision"].as_u64() > Some(before + 1));
    }
}
