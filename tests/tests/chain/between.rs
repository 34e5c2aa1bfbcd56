//! Caches before a control plane: nginx as packaged, and a small one that stands in where it is not installed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::{eventually, free_port};

/// A cache that serves at a port until it is dropped.
pub(crate) struct Cache {
    pub(crate) port: u16,
    nginx: Option<(Child, tempfile::TempDir)>,
}

impl Drop for Cache {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.nginx {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// nginx with `packaging/nginx/flags-cache.conf`.
pub(crate) fn nginx(control: u16) -> Option<Cache> {
    let program = ["/usr/sbin/nginx", "/usr/bin/nginx"].map(Path::new).into_iter().find(|path| path.is_file());
    let Some(program) = program else {
        println!("skipped: with nginx, which is not installed; a cache of the test's own stands in");
        return None;
    };
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let packaged = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/nginx/flags-cache.conf");
    let site = std::fs::read_to_string(packaged).unwrap();
    let site = site
        .replace("@LISTEN@", &format!("127.0.0.1:{port}"))
        .replace("@CONTROL@", &format!("http://127.0.0.1:{control}"))
        .replace("@CACHE@", &at("cache"));
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {};\n", at(&format!("{kind}-temp"))))
        .concat();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {};\nerror_log {};\nevents {{}}\nhttp {{\naccess_log off;\n{paths}{site}\n}}\n",
        at("pid"),
        at("error.log")
    );
    std::fs::write(folder.path().join("nginx.conf"), text).unwrap();
    let mut command = Command::new(program);
    command.arg("-p").arg(folder.path()).arg("-c").arg(folder.path().join("nginx.conf"));
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let log = folder.path().join("error.log");
    let cache = Cache { port, nginx: Some((child, folder)) };
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        assert!(start.elapsed() < crate::PATIENCE, "nginx does not serve: {said}");
        thread::sleep(Duration::from_millis(5));
    }
    Some(cache)
}

/// What the stand-in remembers, by what was asked for: an answer's head and body, and when it came.
type Kept = Arc<Mutex<BTreeMap<String, (String, Vec<u8>, Instant)>>>;

/// A cache of snapshots and parts of lists for a second, and for longer while the control plane is away. It passes no streams.
pub(crate) fn stand_in(control: u16) -> Option<Cache> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let kept = Kept::default();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let kept = Arc::clone(&kept);
            // Whoever hangs up, the answer is over.
            thread::spawn(move || drop(serve(&stream, control, &kept)));
        }
    });
    eventually("the stand-in serves", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    Some(Cache { port, nginx: None })
}

fn serve(mut stream: &TcpStream, control: u16, kept: &Kept) -> std::io::Result<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(stream);
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let asked = head.lines().next().unwrap_or_default().to_owned();
    let is_kept = |what: &str| asked.starts_with(&format!("GET /sync/v1/shop/production/{what}"));
    if !is_kept("snapshot ") && !is_kept("parts/") {
        return stream.write_all(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
    let mut kept = kept.lock().unwrap();
    let is_fresh = kept.get(&asked).is_some_and(|kept| kept.2.elapsed() < Duration::from_secs(1));
    let mut status = "";
    if !is_fresh {
        match fetch(control, &head) {
            Some((head, body)) => drop(kept.insert(asked.clone(), (head, body, Instant::now()))),
            None => status = "cache-status: stand-in; hit; ttl=-1\r\n",
        }
    }
    let Some((answer, body, _)) = kept.get(&asked) else {
        return stream.write_all(b"HTTP/1.1 502 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    };
    write!(stream, "{answer}\r\n{status}\r\n")?;
    stream.write_all(body)
}

/// Head, without its last line's end, and body of a whole answer.
fn fetch(control: u16, head: &str) -> Option<(String, Vec<u8>)> {
    use std::io::Read;
    let mut up = TcpStream::connect(("127.0.0.1", control)).ok()?;
    // All of it, and to the end of the connection.
    let is_passed = |line: &&str| {
        let line = line.to_ascii_lowercase();
        !line.starts_with("if-none-match:") && !line.starts_with("connection:") && !line.is_empty()
    };
    let lines: Vec<&str> = head.split("\r\n").filter(is_passed).collect();
    write!(up, "{}\r\nconnection: close\r\n\r\n", lines.join("\r\n")).ok()?;
    let mut answer = Vec::new();
    up.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let body = answer.split_off(end + 4);
    let head = String::from_utf8(answer).ok()?.trim_end().to_owned();
    head.starts_with("HTTP/1.1 200 ").then_some((head, body))
}
