//! A database whose file system is full.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde_json::json;

use crate::bad_days::check_log;
use crate::harness::{Client, Reply, Server, eventually, free_port};

const FLAGS: &str = "/api/v1/projects/shop/flags";
const CONFIG: &str = "/api/v1/projects/shop/environments/test/flags/a";
const SEGMENTS: &str = "/api/v1/projects/shop/environments/test/segments";

/// The program, with its database on a small file system of its own.
struct Room {
    server: Server,
    /// That file system, as it is seen from outside.
    inside: PathBuf,
    _folder: tempfile::TempDir,
}

impl Room {
    /// `None`, and a word why, where such a file system is not to be had. The mount goes with the program's namespace, however that ends.
    fn new(megabytes: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let [small, token, log] = ["small", "token", "log"].map(|name| folder.path().join(name));
        fs::create_dir(&small).unwrap();
        let mount = format!("mount -t tmpfs -o size={megabytes}m,mode=755 tmpfs {}", small.display());
        let ways: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
        let works = |way: &&[&str]| {
            let tried = Command::new("unshare").args(*way).args(["sh", "-c", &mount]).stderr(Stdio::null()).status();
            tried.is_ok_and(|status| status.success())
        };
        let Some(way) = ways.into_iter().find(works) else {
            println!("skipped: a file system in a mount namespace of its own is not allowed here");
            return None;
        };
        let listen = format!("127.0.0.1:{}", free_port());
        let program = env!("CARGO_BIN_EXE_flags-control");
        let script = format!(
            "{mount} && {program} init >{} && exec {program} serve --listen {listen} --log-level warn",
            token.display()
        );
        let mut command = Command::new("unshare");
        command.args(way).args(["sh", "-c", &script]).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        let child = command.env("FLAGS_CONTROL_DATABASE", format!("sqlite:{}", small.join("db").display())).spawn();
        let child = child.unwrap();
        let inside = PathBuf::from(format!("/proc/{}/root{}", child.id(), small.display()));
        let url = format!("http://{listen}");
        eventually("the program is up", || Client::new(&url, "").get("/healthz").status == 200);
        let admin = fs::read_to_string(token).unwrap();
        Some(Self { server: Server::of(child, url, admin.trim(), log), inside, _folder: folder })
    }

    /// Leaves no room at all.
    fn fill(&self) {
        let mut filler = File::options().append(true).create(true).open(self.filler()).unwrap();
        for size in [64 << 10, 1] {
            let block = vec![1; size];
            let full = loop {
                if let Err(error) = filler.write_all(&block) {
                    break error;
                }
            };
            assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.inside.join("filler")
    }
}

fn is_no_room(reply: Reply) {
    assert_eq!(reply.header("retry-after"), "30");
    let problem = reply.expect(503);
    assert_eq!(problem["type"], "urn:libflags:problem:no-room", "{problem}");
}

#[test]
fn a_full_disk_stops_writes_and_nothing_else() {
    let Some(room) = Room::new(12) else { return };
    let admin = room.server.furnished();
    admin.post(FLAGS, json!({"key": "a"})).expect(201);
    admin.post(SEGMENTS, json!({"key": "vip", "kind": "list"})).expect(201);
    let stream = admin.stream("shop/test", Some("1.1"));
    let newest = AtomicU64::new(0);
    let turn = |writer: &str, at: u64| {
        let metadata = json!({"by": format!("{writer}.{at}"), "ballast": "x".repeat(20_000)});
        let reply = admin.patch(CONFIG, json!({"metadata": metadata}));
        if reply.status == 200 {
            newest.fetch_max(reply.expect(200)["revision"].as_u64().unwrap(), Ordering::Relaxed);
            return None;
        }
        Some(reply)
    };
    for round in ["first", "second"] {
        assert!(turn(round, 0).is_none(), "there is room");
        room.fill();
        // The log that SQLite writes first may have room in it still. Several at once, who share commits.
        thread::scope(|scope| {
            for writer in ["x", "y", "z"] {
                let (turn, writer) = (&turn, format!("{round}.{writer}"));
                scope.spawn(move || is_no_room((1..).find_map(|at| turn(&writer, at)).unwrap()));
            }
        });
        // What is smaller may still fit; in the end nothing does.
        let (mut at, mut refused) = (0, 0);
        while refused < 5 {
            at += 1;
            refused = turn(round, at).map_or(0, |reply| {
                is_no_room(reply);
                refused + 1
            });
        }
        let newest = newest.load(Ordering::Relaxed);
        let tag = format!("\"1.{newest}\"");
        let list = format!("{SEGMENTS}/vip/ids/add");
        let upload = admin.send("POST", &list, Some((0..50_000).map(|id| format!("user-{id}\n")).collect()));
        is_no_room(upload);

        // Everything else goes on, and shows what was acknowledged and nothing more.
        let snapshot = admin.get("/sync/v1/shop/test/snapshot");
        assert_eq!((snapshot.status, snapshot.etag()), (200, tag));
        for (path, what) in [(CONFIG.to_owned(), "metadata"), (format!("{SEGMENTS}/vip"), "key")] {
            assert!(!admin.get(&path).expect(200)[what].is_null(), "{path}");
        }
        admin.get("/healthz").expect(200);
        let fresh = admin.stream("shop/test", None).next();
        assert_eq!((fresh.kind.as_str(), fresh.id), ("snapshot", format!("1.{newest}")));
        loop {
            let event = stream.next_change();
            if event.id == format!("1.{newest}") {
                break;
            }
        }

        room.make_room();
        let reply = admin.patch(CONFIG, json!({"metadata": {"by": round}}));
        assert_eq!(reply.expect(200)["revision"], newest + 1, "at once, and what was refused has no revision");
        assert_eq!(stream.next_change().id, format!("1.{}", newest + 1), "the stream was never cut");
        check_log(&admin, newest + 1);
    }
    let ids = admin.send("POST", &format!("{SEGMENTS}/vip/ids/add"), Some("user-1\n".to_owned()));
    assert_eq!(ids.expect(200)["ids"], 1, "nothing of what was refused");
    assert!(Path::new(&room.inside).join("db").exists());
}
