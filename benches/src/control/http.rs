//! As much of HTTP/1.1 as the measurements need: one request at a time on a connection that stays.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Nothing here takes so long unless it hangs; to make an environment of 100 000 flags takes the most.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) struct Connection {
    stream: TcpStream,
    /// What was read; what is before `used` was looked at.
    buffer: Vec<u8>,
    used: usize,
}

/// What came back. The texts are borrowed from the connection, so that reading many costs little.
pub(crate) struct Reply<'c> {
    pub(crate) status: u16,
    pub(crate) head: &'c str,
    pub(crate) body: &'c [u8],
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: Vec::new(), used: 0 })
    }

    pub(crate) fn send(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request).context("cannot send a request")
    }

    /// The answer to the oldest request that has none.
    pub(crate) fn receive(&mut self) -> Result<Reply<'_>> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let head = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            self.more()?;
        };
        let text = std::str::from_utf8(&self.buffer[..head]).context("a head in UTF-8")?;
        let status = text.split(' ').nth(1).and_then(|word| word.parse().ok()).context("a status")?;
        let length: usize = match header(text, "content-length") {
            Some(length) => length.parse().context("a length")?,
            None => 0,
        };
        while self.buffer.len() < head + length {
            self.more()?;
        }
        self.used = head + length;
        let (head, body) = self.buffer[..self.used].split_at(head);
        Ok(Reply { status, head: std::str::from_utf8(head)?, body })
    }

    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn more(&mut self) -> Result<()> {
        let mut chunk = [0; 64 << 10];
        let length = self.stream.read(&mut chunk).context("no answer")?;
        ensure!(length > 0, "the connection was closed instead of an answer");
        self.buffer.extend_from_slice(&chunk[..length]);
        Ok(())
    }
}

impl Reply<'_> {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(self.head, name)
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// Where the request did not succeed.
    pub(crate) fn json(&self) -> Result<Value> {
        ensure!((200..300).contains(&self.status), "{}: {}", self.status, String::from_utf8_lossy(self.body));
        Ok(serde_json::from_slice(self.body).unwrap_or_default())
    }
}

/// The text of a request.
pub(crate) fn request(method: &str, path: &str, token: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: control\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n{more}\r\n{body}"
    )
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Where `part` begins in `text`.
pub(crate) fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
