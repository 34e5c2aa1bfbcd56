//! What attached hosts would cost a server that did nothing but write: the floor under the rows `control-host-cpu-…`.
//!
//! One thread writes as many bytes as an event has to each of so many sockets, one after the other; what holds them, and reads
//! them, is the same process as for those rows. What it takes is the kernel's alone: nothing is looked up, locked or woken in between.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::time::{ClockId, clock_gettime};

use super::http::{PATIENCE, find};
use super::load::{Load, Order, Role, raise_limit_of_files};
use crate::measure::count;

/// Microseconds of a processor for a write, of `changes` events of so many bytes to each of so many streams.
pub(super) fn block(streams: usize, changes: usize, bytes: usize) -> Result<f64> {
    raise_limit_of_files()?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let role = Role::Follow {
        address: listener.local_addr()?,
        path: "/".to_owned(),
        token: String::new(),
        from: "1.0".to_owned(),
        streams,
    };
    let accepting = thread::spawn(move || (0..streams).map(|_| admit(&listener)).collect::<Result<Vec<_>>>());
    let mut load = Load::start(&role)?;
    let mut sockets = accepting.join().map_err(|_| anyhow!("the thread that accepts has panicked"))??;
    let mut seconds = 0.0;
    for revision in 1..=changes {
        load.order(&Order::Until { id: format!("1.{revision}") })?;
        let event = event(revision, bytes);
        let before = own_seconds()?;
        for socket in &mut sockets {
            socket.write_all(event.as_bytes())?;
        }
        seconds += own_seconds()? - before;
        let done = load.answer()?;
        ensure!(done.answers == streams as u64, "{} streams have it", done.answers);
    }
    Ok(seconds * 1e6 / count(streams * changes))
}

/// Of this thread.
fn own_seconds() -> Result<f64> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?).as_secs_f64())
}

fn admit(listener: &TcpListener) -> Result<TcpStream> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut head, mut chunk) = (Vec::new(), [0; 1 << 10]);
    while find(&head, b"\r\n\r\n").is_none() {
        let length = stream.read(&mut chunk).context("a request")?;
        ensure!(length > 0, "a stream was given up");
        head.extend_from_slice(&chunk[..length]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
    Ok(stream)
}

/// An event in its chunk.
fn event(revision: usize, bytes: usize) -> String {
    let head = format!("event: change\nid: 1.{revision}\ndata: ");
    let event = format!("{head}{}\n\n", "x".repeat(bytes.saturating_sub(head.len())));
    format!("{:x}\r\n{event}\r\n", event.len())
}
