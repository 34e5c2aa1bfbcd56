//! A control plane goes back to a backup, and its hosts with it.

use crate::host::{Host, n};
use crate::plane::Plane;
use crate::{are_built, eventually, free_port};

#[test]
fn hosts_take_what_was_restored_whether_they_saw_it_go_or_not() {
    if !are_built() {
        return;
    }
    let plane = Plane::new();
    let port = free_port();
    let replica = plane.serve(port);
    let (host, mut late) = (Host::follow(&plane.source(port)), Host::follow(&plane.source(port)));
    let (client, late_client) = (host.client(), late.client());
    replica.set(2);
    eventually("both have it", || n(&client) == 2 && n(&late_client) == 2);
    let backup = plane.back_up();
    for value in 3..=9 {
        replica.set(value);
    }
    eventually("both have the newest", || n(&client) == 9 && n(&late_client) == 9);
    let revision = host.metric("flagsd_revision{");
    let names = ["flagsd_source_refused_total{", "flagsd_refused_total{", "flagsd_held_total{"];
    let refusals = || names.map(|name| host.metric(name));
    let refused = refusals();
    late.kill();

    drop(replica);
    plane.restore(&backup);
    assert_eq!(n(&client), 9, "the last good flags, as in any outage");
    let replica = plane.serve(port);
    eventually("the host goes back", || n(&client) == 2);
    assert!(host.metric("flagsd_revision{") < revision);
    let position = || host.link()["position"].as_str().unwrap().to_owned();
    assert!(position().starts_with("2."), "{}", position());
    // What it goes back to is confirmed, not borne: it is a newer epoch, and nothing was refused or held.
    eventually("it is confirmed", || host.metric("flagsd_source_confirmed_seconds{") < 2.0);
    assert_eq!(refusals(), refused);

    // A host that was off meanwhile remembers what is no more: it begins with that, and goes back as well.
    assert_eq!(n(&late_client), 9);
    late.restart();
    eventually("the late one goes back", || n(&late_client) == 2);
    let streams = || host.metric("flagsd_source_stream{") + late.metric("flagsd_source_stream{");
    eventually("both follow the stream", || streams() == 2.0);
    replica.set(7);
    eventually("changes of the new epoch come", || n(&client) == 7 && n(&late_client) == 7);
    assert_eq!(late.link()["position"], position());
    let sent = |kind| replica.metric(&format!("flags_control_stream_events_total{{kind=\"{kind}\"}}"));
    assert_eq!(sent("change"), 2.0, "as changes, to each one");
}
