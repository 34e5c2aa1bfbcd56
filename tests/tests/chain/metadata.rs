//! Metadata of a flag set, from the control plane into a program: as from a file.

use libflags::{Client, Context};
use serde_json::json;

use crate::host::{Host, n};
use crate::plane::Plane;
use crate::{are_built, eventually, free_port};

/// What comes with the answers about a flag that there is and one that there is not: `NAME=VALUE`, sorted, and the error.
fn told(client: &Client) -> Vec<String> {
    let mut told = Vec::new();
    for flag in ["n", "nobody"] {
        let details = client.int_details(flag, &Context::anonymous(), 0);
        let mut metadata: Vec<String> =
            details.metadata.iter().map(|(name, value)| format!("{flag}: {name}={value:?}")).collect();
        metadata.sort();
        told.append(&mut metadata);
        told.push(format!("{flag}: {:?}", details.error));
    }
    told
}

#[test]
fn what_a_program_gets_is_what_it_gets_from_the_exported_file() {
    if !are_built() {
        return;
    }
    let plane = Plane::new();
    let replica = plane.serve(free_port());
    let mut host = Host::follow(&plane.source(replica.port));
    let client = host.client();
    eventually("the flag is there", || n(&client) == 1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flags.json");
    std::fs::write(&file, replica.export()).unwrap();
    let other = Host::follow(&format!("file:{}", file.display()));
    let of_file = other.client();
    eventually("the file's flag is there", || n(&of_file) == 1);
    assert_eq!(told(&client), told(&of_file));
    let bare = told(&client).len();
    for (patch, members) in [
        (json!({"version": 7, "both": "set", "beta": true}), 3),
        (json!({"version": null, "both": "other"}), 2),
        (json!({"beta": null, "both": null}), 0),
    ] {
        replica.describe(&patch);
        std::fs::write(&file, replica.export()).unwrap();
        for client in [&client, &of_file] {
            eventually("the metadata is there", || told(client).len() == bare + members);
        }
        eventually("both say the same", || told(&client) == told(&of_file));
    }

    // A change of a flag alone leaves it, and so does a restart without the control plane.
    replica.describe(&json!({"team": "web", "n": 0.5}));
    eventually("it is there", || told(&client).len() == bare + 2);
    let expected = told(&client);
    replica.set(2);
    eventually("the change is there", || n(&client) == 2);
    assert_eq!(told(&client), expected);
    drop(replica);
    host.kill();
    host.restart();
    let client = host.client();
    eventually("what was last is there", || n(&client) == 2);
    assert_eq!(told(&client), expected);
}
