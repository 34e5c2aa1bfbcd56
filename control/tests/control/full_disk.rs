//! A database whose file system is full.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde_json::json;

use crate::bad_days::check_log;
use crate::harness::{Client, Reply, Server, eventually, free_port, rows};

const FLAGS: &str = "/api/v1/projects/shop/flags";
const CONFIG: &str = "/api/v1/projects/shop/environments/test/flags/a";
const SEGMENTS: &str = "/api/v1/projects/shop/environments/test/segments";

/// A database on a small file system of its own.
struct Room {
    /// Has the file system in a mount namespace of its own, which goes with it.
    holder: Child,
    /// How to get in there.
    way: Vec<String>,
    database: String,
    admin: String,
    /// That file system, as it is seen from outside.
    inside: PathBuf,
    folder: tempfile::TempDir,
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Room {
    /// `None`, and a word why, where such a file system is not to be had.
    fn new(megabytes: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let [small, token] = ["small", "token"].map(|name| folder.path().join(name));
        fs::create_dir(&small).unwrap();
        let mount = format!("mount -t tmpfs -o size={megabytes}m,mode=755 tmpfs {}", small.display());
        let ways: [(&[&str], &[&str]); 2] = [
            (&["--mount"], &["--mount"]),
            (&["--user", "--map-root-user", "--mount"], &["--user", "--preserve-credentials", "--mount"]),
        ];
        let works = |(way, _): &(&[&str], &[&str])| {
            let tried = Command::new("unshare").args(*way).args(["sh", "-c", &mount]).stderr(Stdio::null()).status();
            tried.is_ok_and(|status| status.success())
        };
        let Some((out, back)) = ways.into_iter().find(works) else {
            println!("skipped: a file system in a mount namespace of its own is not allowed here");
            return None;
        };
        let program = env!("CARGO_BIN_EXE_flags-control");
        let script = format!("{mount} && {program} init >{} && exec sleep 600", token.display());
        let mut command = Command::new("unshare");
        command.args(out).args(["sh", "-c", &script]).stdout(Stdio::null()).stderr(Stdio::null());
        let database = format!("sqlite:{}", small.join("db").display());
        let holder = command.env("FLAGS_CONTROL_DATABASE", &database).spawn().unwrap();
        let pid = holder.id();
        let way = ["--target", &pid.to_string()].iter().chain(back).map(|part| (*part).to_owned()).collect();
        let inside = PathBuf::from(format!("/proc/{pid}/root{}", small.display()));
        let admin = || fs::read_to_string(&token).unwrap_or_default();
        eventually("there is a database", || admin().ends_with('\n'));
        Some(Self { holder, way, database, admin: admin().trim().to_owned(), inside, folder })
    }

    /// The program, in there.
    fn program(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(&self.way).arg(env!("CARGO_BIN_EXE_flags-control")).env("FLAGS_CONTROL_DATABASE", &self.database);
        command
    }

    /// How many rows tables have, in a copy outside.
    fn rows(&self, tables: [&str; 2]) -> [i64; 2] {
        let copy = self.folder.path().join("copy");
        assert!(self.program().arg("backup").arg(&copy).status().unwrap().success());
        let rows = tables.map(|table| rows(&copy, &format!("SELECT count(*) FROM {table}")));
        fs::remove_file(copy).unwrap();
        rows
    }

    /// Serves, which may not come to pass.
    fn start(&self) -> Server {
        let listen = format!("127.0.0.1:{}", free_port());
        let log = self.folder.path().join(format!("log-{listen}"));
        let mut command = self.program();
        command.args(["serve", "--listen", &listen, "--log-level", "warn"]);
        let child = command.stdout(Stdio::null()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        Server::of(child, format!("http://{listen}"), &self.admin, log)
    }

    fn serve(&self) -> Server {
        let server = self.start();
        eventually("the program is up", || Client::new(&server.url, "").get("/healthz").status == 200);
        server
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
    let server = room.serve();
    let admin = server.furnished();
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
    eventually("of the uploads that found no room nothing is left", || room.rows(["part", "part_chunk"]) == [1, 1]);
}

#[test]
fn a_start_on_a_full_disk_serves_what_is_there_or_says_what_is_missing() {
    let Some(room) = Room::new(12) else { return };
    let mut server = room.serve();
    server.furnished().post(FLAGS, json!({"key": "a"})).expect(201);
    for signal in [nix::sys::signal::Signal::SIGKILL, nix::sys::signal::Signal::SIGTERM] {
        room.fill();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(server.child.id().try_into().unwrap()), signal).unwrap();
        server.child.wait().unwrap();
        server = room.serve();
        let admin = server.admin();
        eventually("hosts are served", || admin.get("/sync/v1/shop/test/snapshot").etag() == "\"1.2\"");
        assert_eq!(admin.get(CONFIG).expect(200)["state"], "DISABLED");
        admin.get("/readyz").expect(200);
        eventually("nothing more fits", || {
            let ballast = json!({"metadata": {"ballast": "x".repeat(100_000)}});
            admin.patch(&format!("{CONFIG}?dry_run=true"), ballast.clone()).expect(200);
            admin.patch(CONFIG, ballast).status == 503
        });
        assert_eq!(admin.get("/sync/v1/shop/test/snapshot").etag(), "\"1.2\"");
        room.make_room();
    }
    // Where nobody has the database open SQLite has nothing beside it, and has to make that before it can read.
    drop(server);
    assert!(room.program().arg("migrate").stdout(Stdio::null()).status().unwrap().success());
    assert!(!room.inside.join("db-shm").exists());
    room.fill();
    let mut failing = room.start();
    assert_eq!(failing.child.wait().unwrap().code(), Some(1));
    assert!(failing.log().starts_with("flags-control: the database has no room left: "), "{}", failing.log());
    room.make_room();
    let server = room.serve();
    server.admin().patch(CONFIG, json!({"state": "ENABLED"})).expect(200);
}
