//! The key that signs what hosts get is replaced by another.

use serde_json::json;

use crate::host::{Host, n};
use crate::plane::Plane;
use crate::{are_built, eventually, free_port};

const REFUSED: &str = "of none of the configured keys";

#[test]
fn who_knows_both_keys_goes_over_a_rotation_and_who_does_not_keeps_what_it_has() {
    if !are_built() {
        return;
    }
    let plane = Plane::new();
    let ports = [free_port(), free_port()];
    let (first, second) = (plane.serve(ports[0]), plane.serve(ports[1]));
    let next = first.tell("POST", "/projects/shop/environments/production/signing-key", &json!(null));
    assert_eq!(next["publicKey"], plane.key);
    let next = next["nextPublicKey"].as_str().unwrap().to_owned();
    // The first replica has one host: what it sends is what that one gets.
    let both = Host::follow(&format!("{}&key={next}", plane.source(ports[0])));
    let mut old = Host::follow(&plane.source(ports[1]));
    let new = Host::follow(&plane.source(ports[1]).replace(&plane.key, &next));
    let (client, old_client) = (both.client(), old.client());
    eventually("both keys, or the old one, are good", || n(&client) == 1 && n(&old_client) == 1);
    eventually("the new one is not yet", || new.trouble().contains(REFUSED));
    eventually("there is a stream", || both.metric("flagsd_source_stream{") == 1.0);

    let rotated = second.tell("POST", "/projects/shop/environments/production/signing-key/rotate", &json!(null));
    assert_eq!((&rotated["publicKey"], rotated.get("nextPublicKey")), (&json!(next), None));
    let revision = rotated["revision"].as_f64().unwrap();
    eventually("it has gone over", || both.metric("flagsd_revision{") == revision);
    assert_eq!(n(&client), 1, "the same flags");
    eventually("the new one is good now", || new.metric("flagsd_revision{") == revision);
    let new_client = new.client();
    assert_eq!(n(&new_client), 1);
    second.set(2);
    eventually("changes flow", || n(&client) == 2 && n(&new_client) == 2);
    eventually("the old key is no good", || old.trouble().contains(REFUSED));
    assert_eq!(n(&old_client), 1, "last-known-good");

    assert_eq!(both.metric("flagsd_source_refused_total{"), 0.0);
    let sent = |kind| first.metric(&format!("flags_control_stream_events_total{{kind=\"{kind}\"}}"));
    assert_eq!((sent("snapshot"), sent("change")), (1.0, 2.0), "the rotation was a change like any other");

    // Told of the new key, without the old one.
    old.kill();
    old.restart_on(&plane.source(ports[1]).replace(&plane.key, &next));
    eventually("it catches up", || n(&old_client) == 2);
    assert_eq!(old.trouble(), "");
}
