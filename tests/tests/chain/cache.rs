//! Something that only knows HTTP lies between: a cache, or a server of files.

use std::process::{Child, Command, Stdio};

use crate::between::{Cache, nginx, stand_in};
use crate::host::{Host, n};
use crate::plane::{self, Plane};
use crate::{are_built, eventually, free_port};

#[test]
fn hosts_go_on_by_a_cache_that_outlives_the_control_plane() {
    if !are_built() {
        return;
    }
    through(stand_in);
    through(nginx);
}

/// `start` starts a cache before the control plane at a port; `None` where it is not installed.
fn through(start: impl Fn(u16) -> Option<Cache>) {
    let plane = Plane::new();
    let replica = plane.serve(free_port());
    let Some(cache) = start(replica.port) else { return };
    let host = Host::follow(&plane.source(cache.port));
    let client = host.client();
    eventually("the flag is there", || n(&client) == 1);
    replica.set(2);
    eventually("a change comes by polling", || n(&client) == 2);
    assert_eq!(host.link()["connection"], "polling");
    // A state that names a list waits for all of its parts.
    replica.upload("vip", "a\nb\n");
    replica.set(3);
    eventually("a list comes through it", || n(&client) == 3);
    replica.set(2);
    eventually("and what follows", || n(&client) == 2);
    eventually("the cache says what is current", || host.metric("flagsd_source_confirmed_seconds{") < 2.0);

    // The cache alone is left: for hosts that are there, and for one that was never there before.
    let port = replica.port;
    drop(replica);
    let connects = host.metric("flagsd_source_connects_total{");
    let late = Host::follow(&plane.source(cache.port));
    let late_client = late.client();
    eventually("a new host gets what was there last", || n(&late_client) == 2);
    eventually("polls go on", || host.metric("flagsd_source_connects_total{") > connects + 20.0);
    assert_eq!(n(&client), 2);
    assert_eq!(host.metric("flagsd_source_up{"), 1.0, "what is stale is an answer");
    let confirmed = host.metric("flagsd_source_confirmed_seconds{");
    eventually("what is stale is no news", || host.metric("flagsd_source_confirmed_seconds{") > confirmed + 1.0);

    let replica = plane.serve(port);
    replica.set(3);
    eventually("the control plane is back", || n(&client) == 3 && n(&late_client) == 3);
    eventually("and says what is current", || host.metric("flagsd_source_confirmed_seconds{") < 2.0);
}

#[test]
fn a_server_of_files_is_enough() {
    if !are_built() {
        return;
    }
    let plane = Plane::new();
    let replica = plane.serve(free_port());
    let root = tempfile::tempdir().unwrap();
    plane::lay_out(&replica.snapshot(), root.path());
    let port = free_port();
    let mut command = Command::new("python3");
    command.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]).current_dir(root.path());
    let _server = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    eventually("files are served", || plane::ask("GET", port, "/", "", None).0 == 200);
    let host = Host::reporting(&format!("control+http://127.0.0.1:{port}/shop/production?key={}", plane.key), "h");
    let client = host.client();
    eventually("the flag is there", || n(&client) == 1);
    let old = replica.snapshot();
    replica.set(2);
    eventually("the control plane has it", || replica.snapshot() != old);
    plane::lay_out(&replica.snapshot(), root.path());
    eventually("a new file is taken", || n(&client) == 2);
    // Somebody who may write there, but not sign.
    plane::lay_out(&replica.snapshot().replacen("\"v2\"", "\"v7\"", 1), root.path());
    eventually("what is not signed is refused", || host.metric("flagsd_source_refused_total{") > 0.0);
    assert_eq!(n(&client), 2);
    assert_eq!(host.metric("flagsd_source_reports_dropped_total{"), 1.0, "it was tried once, and then let be");
}

/// Killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
