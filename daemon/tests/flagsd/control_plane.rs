//! A control plane of the tests: speaks `docs/design/sync.md` on a loopback port, and lies where it is told to.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flags_sync::{Change, Event, EventId, List, SecretKey, Snapshot, Stamp};
use serde_json::value::RawValue;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned, crypto};

pub(crate) const ENVIRONMENT: &str = "shop/production";

/// How often a stream says that nothing happened.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// A control plane; dropped, it hangs up.
pub(crate) struct ControlPlane {
    port: u16,
    pub(crate) key: SecretKey,
    shared: Arc<Mutex<Shared>>,
    tls: Option<Arc<ServerConfig>>,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) at: Instant,
    /// `stream`, `snapshot` or `parts/SHA256`
    pub(crate) what: String,
    pub(crate) last_event_id: Option<String>,
    pub(crate) if_none_match: Option<String>,
    pub(crate) status: u16,
}

#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) snapshot: Option<Snapshot>,
    /// Changes by where they lead, as texts.
    changes: Vec<(EventId, u64, String)>,
    pub(crate) requests: Vec<Request>,
    /// Answers this to the stream, and this to the snapshot; 200 where there is nothing.
    pub(crate) stream_answer: Option<(u16, &'static str)>,
    pub(crate) snapshot_answer: Option<(u16, &'static str)>,
    pub(crate) token: Option<String>,
    /// What is served as parts of id lists, by name, whether it is right or not.
    pub(crate) parts: BTreeMap<String, Vec<u8>>,
    /// What was reported, and taken.
    pub(crate) reports: Vec<String>,
    /// How often somebody came to report.
    pub(crate) asked_to_take: u64,
    /// Answers this to reports, and 0 to nobody; 204 where there is nothing.
    pub(crate) report_answer: Option<u16>,
    /// How many bytes of a part go out at once, and how long nothing goes out then.
    pub(crate) part_pace: Option<(usize, Duration)>,
    /// How many members that hold nothing come before a part that is packed.
    pub(crate) empty_members: usize,
    /// What the snapshot's text is, instead of the right one.
    pub(crate) snapshot_text: Option<String>,
    /// What goes over each stream, as it is, beside the truth.
    raw: Vec<String>,
    pub(crate) silent: bool,
    /// Streams of an earlier number are cut.
    round: u64,
    stopped: bool,
    open: Vec<TcpStream>,
    /// The most connections that were open at once.
    pub(crate) most_open: usize,
}

impl ControlPlane {
    /// With these number flags at revision 1.
    pub(crate) fn start(flags: &[(&str, i64)]) -> Self {
        Self::start_with(flags, None)
    }

    pub(crate) fn start_with(flags: &[(&str, i64)], tls: Option<(&Path, &Path)>) -> Self {
        let key = SecretKey::from_seed(&[7; 32]);
        let flags = flags.iter().map(|(key, n)| ((*key).to_owned(), flag(*n))).collect();
        let (evaluators, lists, metadata) = Default::default();
        let snapshot = Snapshot { stamp: stamp(1, 1), flags, evaluators, lists, metadata };
        let shared = Shared { snapshot: Some(snapshot), ..Shared::default() };
        let tls = tls.map(|(certificate, key)| {
            let certificates = CertificateDer::pem_file_iter(certificate).expect("is there").map(|c| c.expect("good"));
            let key = PrivateKeyDer::from_pem_file(key).expect("is there");
            let builder = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
            let builder = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
            Arc::new(builder.with_single_cert(certificates.collect(), key).expect("a certificate"))
        });
        let mut plane = Self { port: 0, key, shared: Arc::new(Mutex::new(shared)), tls };
        plane.listen();
        plane
    }

    /// Listens, again on the same port after [`stop`](Self::stop).
    pub(crate) fn listen(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).expect("a port");
        self.port = listener.local_addr().expect("an address").port();
        listener.set_nonblocking(true).expect("can be");
        self.shared().stopped = false;
        let (shared, secret, tls) = (Arc::clone(&self.shared), [7; 32], self.tls.clone());
        std::thread::spawn(move || {
            while !lock(&shared).stopped {
                match listener.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(false).expect("can be");
                        note_open(&mut lock(&shared), &stream);
                        let (shared, key, tls) = (Arc::clone(&shared), SecretKey::from_seed(&secret), tls.clone());
                        std::thread::spawn(move || {
                            // Whoever hangs up, the answer is over.
                            let _ = match tls {
                                Some(tls) => {
                                    let session = ServerConnection::new(tls).expect("a session");
                                    serve(StreamOwned::new(session, &stream), &shared, &key)
                                }
                                None => serve(&stream, &shared, &key),
                            };
                            let _ = stream.shutdown(std::net::Shutdown::Both);
                        });
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
    }

    /// Hangs up, and listens no more.
    pub(crate) fn stop(&self) {
        let mut shared = self.shared();
        shared.stopped = true;
        shared.round += 1;
        for stream in shared.open.drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        drop(shared);
        while TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn source(&self, parameters: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("control+{scheme}://127.0.0.1:{}/{ENVIRONMENT}?{parameters}", self.port)
    }

    /// The same, with its key.
    pub(crate) fn signed_source(&self) -> String {
        self.source(&format!("key={}", self.key.public()))
    }

    pub(crate) fn shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }

    pub(crate) fn set(&self, key: &str, n: i64) {
        self.change(&[(key, flag(n))], &[], false);
    }

    /// Makes a change, and sends it to every stream.
    pub(crate) fn change(&self, flags: &[(&str, Box<RawValue>)], removed: &[String], deliberate: bool) {
        self.change_with_lists(flags, removed, deliberate, BTreeMap::new());
    }

    /// The same with lists.
    pub(crate) fn change_with_lists(
        &self,
        flags: &[(&str, Box<RawValue>)],
        removed: &[String],
        deliberate: bool,
        lists: BTreeMap<String, Option<List>>,
    ) {
        let mut shared = self.shared();
        let snapshot = shared.snapshot.as_mut().expect("is there");
        let after = snapshot.stamp.revision;
        // Of flags that are disabled nothing is known here.
        let lost = if deliberate { 0 } else { removed.len() as u64 };
        let lost = snapshot.stamp.lost.map(|before| before + lost);
        let change = Change {
            stamp: Stamp { lost, ..stamp(snapshot.stamp.epoch, after + 1) },
            after,
            after_mark: snapshot.stamp.mark,
            deliberate,
            flags: flags.iter().map(|(key, flag)| ((*key).to_owned(), flag.clone())).collect(),
            removed: removed.to_vec(),
            evaluators: None,
            lists,
            metadata: None,
        };
        let text = change.seal(&self.key);
        let id = EventId { epoch: change.stamp.epoch, revision: change.stamp.revision };
        snapshot.apply(change).expect("follows");
        shared.changes.push((id, after, text));
    }

    /// Goes back to an earlier state, as a database does that a standby takes the place of.
    pub(crate) fn lose_all_after(&self, before: Snapshot) {
        let mut shared = self.shared();
        shared.changes.retain(|(id, ..)| id.revision <= before.stamp.revision);
        shared.snapshot = Some(before);
    }

    /// Sends this over every stream, whether it is true or not.
    pub(crate) fn inject(&self, wire: String) {
        self.shared().raw.push(wire);
    }

    pub(crate) fn cut(&self) {
        self.shared().round += 1;
    }

    pub(crate) fn position(&self) -> String {
        position(&self.shared()).to_string()
    }

    pub(crate) fn streams(&self) -> Vec<Request> {
        self.shared().requests.iter().filter(|request| request.what == "stream").cloned().collect()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        let mut shared = self.shared();
        shared.stopped = true;
        shared.round += 1;
    }
}

pub(crate) fn flag(n: i64) -> Box<RawValue> {
    let text = format!(r#"{{"state":"ENABLED","variants":{{"v":{n}}},"defaultVariant":"v"}}"#);
    RawValue::from_string(text).expect("JSON")
}

pub(crate) fn stamp(epoch: u64, revision: u64) -> Stamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    Stamp {
        environment: ENVIRONMENT.to_owned(),
        epoch,
        revision,
        time_ms: now.try_into().expect("fits"),
        lost: Some(0),
        mark: Some(fastrand::u64(..1 << 53)),
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn position(shared: &Shared) -> EventId {
    let stamp = &shared.snapshot.as_ref().expect("is there").stamp;
    EventId { epoch: stamp.epoch, revision: stamp.revision }
}

/// Counts the connections that the other end has not closed.
fn note_open(shared: &mut Shared, stream: &TcpStream) {
    shared.open.retain(|open| {
        open.set_nonblocking(true).expect("can be");
        let is_open = match open.peek(&mut [0]) {
            Ok(0) => false,
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        };
        let _ = open.set_nonblocking(false);
        is_open
    });
    shared.open.push(stream.try_clone().expect("a handle"));
    shared.most_open = shared.most_open.max(shared.open.len());
}

fn serve(mut stream: impl Read + Write, shared: &Mutex<Shared>, key: &SecretKey) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text");
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let path = head.split(' ').nth(1).expect("a path").to_owned();
    let what = path.strip_prefix(&format!("/sync/v1/{ENVIRONMENT}/")).expect("ours").to_owned();
    if what == "report" {
        let length = header("content-length").and_then(|length| length.parse().ok()).expect("a length");
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let mut inner = lock(shared);
        inner.asked_to_take += 1;
        let status = inner.report_answer.unwrap_or(204);
        if status == 204 {
            inner.reports.push(String::from_utf8(body).expect("text"));
        }
        drop(inner);
        if status == 0 {
            // Says nothing until the other end gives up.
            return stream.read(&mut [0]).map(drop);
        }
        return write!(stream, "HTTP/1.1 {status} Fine\r\ncontent-length: 0\r\n\r\n");
    }
    let mut inner = lock(shared);
    let answer = if what == "stream" { inner.stream_answer } else { inner.snapshot_answer };
    let refused = inner.token.as_ref().is_some_and(|token| header("authorization") != Some(format!("Bearer {token}")));
    let (mut status, mut more) = answer.unwrap_or((200, ""));
    if refused {
        (status, more) = (401, "content-type: application/problem+json\r\n");
    }
    let tag = format!("\"{}\"", position(&inner));
    if status == 200 && what == "snapshot" && header("if-none-match").as_ref() == Some(&tag) {
        status = 304;
    }
    inner.requests.push(Request {
        at: Instant::now(),
        what: what.clone(),
        last_event_id: header("last-event-id"),
        if_none_match: header("if-none-match"),
        status,
    });
    let round = inner.round;
    if status != 200 {
        let body = match status {
            304 => String::new(),
            _ => format!(r#"{{"detail": "no, says {:?}"}}"#, header("authorization").unwrap_or_default()),
        };
        drop(inner);
        return write!(stream, "HTTP/1.1 {status} No\r\ncontent-length: {}\r\n{more}\r\n{body}", body.len());
    }
    if let Some(name) = what.strip_prefix("parts/") {
        let gzip = header("accept-encoding").is_some_and(|accepted| accepted.contains("gzip"));
        let part = inner.parts.get(name).cloned();
        let (piece, pause) = inner.part_pace.unwrap_or((usize::MAX, Duration::ZERO));
        let nothing = packed(b"").repeat(inner.empty_members);
        drop(inner);
        let Some(part) = part else { return write!(stream, "HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n") };
        let (body, encoding) =
            if gzip { ([nothing, packed(&part)].concat(), "content-encoding: gzip\r\n") } else { (part, "") };
        write!(stream, "HTTP/1.1 200 OK\r\n{encoding}content-length: {}\r\n\r\n", body.len())?;
        for piece in body.chunks(piece) {
            stream.write_all(piece)?;
            std::thread::sleep(pause);
        }
        return Ok(());
    }
    if what == "snapshot" {
        let right = || inner.snapshot.as_ref().expect("is there").seal(key);
        let text = inner.snapshot_text.clone().unwrap_or_else(right);
        let gzip = header("accept-encoding").is_some_and(|accepted| accepted.contains("gzip"));
        drop(inner);
        let (body, encoding) =
            if gzip { (packed(text.as_bytes()), "content-encoding: gzip\r\n") } else { (text.into(), "") };
        write!(stream, "HTTP/1.1 200 OK\r\netag: {tag}\r\n{encoding}content-length: {}\r\n\r\n", body.len())?;
        return stream.write_all(&body);
    }
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")?;
    let mut at: Option<EventId> = header("last-event-id").and_then(|id| id.parse().ok());
    let mut raw = inner.raw.len();
    drop(inner);
    let mut beat = Instant::now();
    loop {
        let mut wire = String::new();
        {
            let inner = lock(shared);
            if inner.round != round {
                return Ok(());
            }
            let known = |at: EventId| {
                at == position(&inner) || inner.changes.iter().any(|c| (at.epoch, at.revision) == (c.0.epoch, c.1))
            };
            if !at.is_some_and(known) {
                let text = inner.snapshot.as_ref().expect("is there").seal(key);
                wire += &Event::Snapshot(&text).to_wire(position(&inner));
                at = Some(position(&inner));
            }
            let since = at;
            for (id, _, text) in inner.changes.iter().filter(|(id, ..)| Some(*id) > since) {
                wire += &Event::Change(text).to_wire(*id);
                at = Some(*id);
            }
            wire.extend(inner.raw.iter().skip(raw).cloned());
            raw = inner.raw.len();
            if beat.elapsed() > HEARTBEAT && !inner.silent {
                beat = Instant::now();
                wire += &Event::Current.to_wire(position(&inner));
            }
        }
        stream.write_all(wire.as_bytes())?;
        stream.flush()?;
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn packed(text: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(text).expect("fits");
    packer.finish().expect("fits")
}
