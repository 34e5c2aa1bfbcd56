//! What asks: this program again, as a process of its own with one thread, so that what asking costs is told apart from what answering does.
//!
//! It is told what to do as one line of JSON, says `{}` when it stands, and answers each further line with one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::http::{Connection, find, request};

/// What to be.
#[derive(Serialize, Deserialize)]
pub(crate) enum Role {
    /// Asks the same on `connections` connections, again and again; each has one request under way.
    Ask { address: SocketAddr, request: String, connections: usize, status: u16, length: usize },
    /// Goes through `requests` in turns, on so many connections; not `keeps`: each of them for one request, which asks for that.
    Write { address: SocketAddr, requests: Vec<String>, connections: usize, keeps: bool },
    /// Holds streams.
    Follow { address: SocketAddr, path: String, token: String, from: String, streams: usize },
}

/// What to do.
#[derive(Serialize, Deserialize)]
pub(crate) enum Order {
    /// Ask or write for so long.
    Run { micros: u64 },
    /// Read each stream up to the event with this id.
    Until { id: String },
}

/// What came of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Requests that were answered right.
    pub(crate) answers: u64,
    pub(crate) seconds: f64,
    /// When streams had the event, in microseconds since 1970: the first, the middle and the last one.
    pub(crate) at: [f64; 3],
    /// The event that all of them got.
    pub(crate) event: String,
}

/// The process, as who started it sees it.
pub(crate) struct Load {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Load {
    pub(crate) fn start(role: &Role) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--child", "load", "-", "0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a load")?;
        let orders = child.stdin.take().context("its stdin is piped")?;
        let answers = BufReader::new(child.stdout.take().context("its stdout is piped")?);
        let mut load = Self { child, orders, answers };
        writeln!(load.orders, "{}", serde_json::to_string(role)?)?;
        load.answer()?;
        Ok(load)
    }

    pub(crate) fn run(&mut self, duration: Duration) -> Result<Done> {
        self.order(&Order::Run { micros: u64::try_from(duration.as_micros())? })?;
        self.answer()
    }

    pub(crate) fn order(&mut self, order: &Order) -> Result<()> {
        writeln!(self.orders, "{}", serde_json::to_string(order)?).context("cannot order a load")
    }

    pub(crate) fn answer(&mut self) -> Result<Done> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("a load ended or said {line:?}"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process itself.
pub(crate) fn work() -> Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    let role = lines.next().context("a role")??;
    let mut worker = Worker::new(serde_json::from_str(&role)?)?;
    println!("{}", serde_json::to_string(&Done::default())?);
    for line in lines {
        let done = worker.obey(serde_json::from_str(&line?)?)?;
        println!("{}", serde_json::to_string(&done)?);
    }
    Ok(())
}

enum Worker {
    Ask { connections: Vec<Connection>, request: Vec<u8>, status: u16, length: usize },
    Write { connections: Vec<Connection>, requests: Vec<String>, next: usize, again: Option<SocketAddr> },
    Follow { streams: Vec<Stream> },
}

impl Worker {
    fn new(role: Role) -> Result<Self> {
        let open = |address, number| (0..number).map(|_| Connection::open(address)).collect::<Result<Vec<_>>>();
        Ok(match role {
            Role::Ask { address, request, connections, status, length } => {
                Self::Ask { connections: open(address, connections)?, request: request.into(), status, length }
            }
            Role::Write { address, requests, connections, keeps } => {
                let again = (!keeps).then_some(address);
                Self::Write { connections: open(address, connections)?, requests, next: 0, again }
            }
            Role::Follow { address, path, token, from, streams } => {
                raise_limit_of_files()?;
                let more = format!("last-event-id: {from}\r\n");
                let text = request("GET", &path, &token, &more, "");
                Self::Follow { streams: open_streams(address, &text, streams)? }
            }
        })
    }

    fn obey(&mut self, order: Order) -> Result<Done> {
        match (self, order) {
            (Self::Ask { connections, request, status, length }, Order::Run { micros }) => run(
                connections,
                Duration::from_micros(micros),
                |_| request.clone(),
                |connection| {
                    let reply = connection.receive()?;
                    ensure!((reply.status, reply.body.len()) == (*status, *length), "{}: {}", reply.status, reply.head);
                    Ok(())
                },
            ),
            (Self::Write { connections, requests, next, again }, Order::Run { micros }) => {
                let text = |next: &mut usize| {
                    let text = requests[*next % requests.len()].clone().into_bytes();
                    *next += 1;
                    text
                };
                run(
                    connections,
                    Duration::from_micros(micros),
                    |_| text(next),
                    |connection| {
                        connection.receive()?.json()?;
                        if let Some(address) = again {
                            *connection = Connection::open(*address)?;
                        }
                        Ok(())
                    },
                )
            }
            (Self::Follow { streams }, Order::Until { id }) => follow(streams, &id),
            _ => bail!("this is not what this process is for"),
        }
    }
}

/// Keeps a request under way on each connection for `duration`, and reads the last answers after it. The answers that count are those that came within.
fn run(
    connections: &mut [Connection],
    duration: Duration,
    mut text: impl FnMut(usize) -> Vec<u8>,
    mut receive: impl FnMut(&mut Connection) -> Result<()>,
) -> Result<Done> {
    let start = Instant::now();
    for (at, connection) in connections.iter_mut().enumerate() {
        connection.send(&text(at))?;
    }
    let mut answers = 0;
    let mut at = 0;
    let count = connections.len();
    while start.elapsed() < duration {
        receive(&mut connections[at])?;
        answers += 1;
        connections[at].send(&text(at))?;
        at = (at + 1) % count;
    }
    let seconds = start.elapsed().as_secs_f64();
    for connection in connections {
        receive(connection)?;
        answers += 1;
    }
    let seconds_of_all = start.elapsed().as_secs_f64();
    Ok(Done { answers, seconds: seconds_of_all.max(seconds), ..Done::default() })
}

/// A stream, and what came over it since the last event that was asked for.
struct Stream {
    stream: TcpStream,
    said: Vec<u8>,
}

fn open_streams(address: SocketAddr, text: &str, number: usize) -> Result<Vec<Stream>> {
    // So many at once that the server has to do meanwhile, and so few that its queue of connections holds them.
    const AT_ONCE: usize = 64;
    let mut streams = Vec::with_capacity(number);
    while streams.len() < number {
        let mut opening = Vec::new();
        for _ in 0..AT_ONCE.min(number - streams.len()) {
            let mut connection = Connection::open(address)?;
            connection.send(text.as_bytes())?;
            opening.push(connection);
        }
        for mut connection in opening {
            ensure!(connection.receive()?.status == 200, "a stream was not admitted");
            streams.push(Stream { stream: connection.into_stream(), said: Vec::new() });
        }
    }
    Ok(streams)
}

/// Reads each stream up to the end of the event with this id. A stream's time is when it was read, which is later than when it came.
fn follow(streams: &mut [Stream], id: &str) -> Result<Done> {
    let wanted = format!("\nid: {id}\n");
    let mut times = Vec::with_capacity(streams.len());
    let mut first: Option<Vec<u8>> = None;
    for stream in streams {
        let event = stream.until(wanted.as_bytes())?;
        times.push(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() * 1e6);
        match &first {
            Some(first) => ensure!(*first == event, "two streams got different events {id}"),
            None => first = Some(event),
        }
    }
    times.sort_by(f64::total_cmp);
    let at = [times[0], times[times.len() / 2], times[times.len() - 1]];
    let event = String::from_utf8(first.context("a stream")?)?;
    Ok(Done { answers: times.len() as u64, at, event, ..Done::default() })
}

impl Stream {
    /// The event that has `id` in it, from its id to its end.
    fn until(&mut self, id: &[u8]) -> Result<Vec<u8>> {
        let mut chunk = [0; 16 << 10];
        loop {
            if let Some(from) = find(&self.said, id)
                && let Some(length) = find(&self.said[from..], b"\n\n")
            {
                let event = self.said[from..from + length].to_vec();
                self.said.drain(..from + length);
                return Ok(event);
            }
            let length = self.stream.read(&mut chunk).context("a stream is silent")?;
            ensure!(length > 0, "a stream was cut");
            self.said.extend_from_slice(&chunk[..length]);
        }
    }
}

/// Each stream is a file here.
pub(super) fn raise_limit_of_files() -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot raise the limit of open files")
}

/// The JSON of an event of [`Done::event`].
pub(crate) fn data_of(event: &str) -> Result<&str> {
    event.split_once("\ndata: ").map(|(_, data)| data).context("an event with data")
}

/// What is in it.
pub(crate) fn value_of(event: &str) -> Result<Value> {
    Ok(serde_json::from_str(data_of(event)?)?)
}
