//! Server-sent events as they come (WHATWG HTML, "Interpreting an event stream"), each no longer than a limit.

use std::fmt;

/// Takes a stream of bytes apart into events.
#[derive(Debug)]
pub(super) struct Events {
    /// What has come and is no whole line yet, from `start` on.
    buffer: Vec<u8>,
    start: usize,
    /// Up to here no line ends.
    scanned: usize,
    /// A line ended in a carriage return: a line feed that follows belongs to it.
    after_return: bool,
    event: RawEvent,
    has_data: bool,
    /// Bytes of one event.
    limit: usize,
}

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RawEvent {
    /// Empty where it has no type.
    pub(super) kind: String,
    pub(super) data: String,
}

/// Why a stream is not read further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventError {
    /// An event is longer than so many bytes.
    TooLong(usize),
    NotUtf8,
}

impl Events {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            after_return: false,
            event: RawEvent::default(),
            has_data: false,
            limit,
        }
    }

    /// Adds what came.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// How many bytes of an event have come that is not whole yet.
    pub(super) fn pending(&self) -> usize {
        self.buffer.len() - self.start + self.event.data.len()
    }

    /// The next event that is whole.
    ///
    /// # Errors
    ///
    /// [`EventError`]; the stream is of no use any more then.
    pub(super) fn next(&mut self) -> Result<Option<RawEvent>, EventError> {
        while let Some((from, to)) = self.line() {
            let line = self.buffer.get(from..to).unwrap_or_default();
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if std::mem::take(&mut self.has_data) {
                    self.release();
                    return Ok(Some(event));
                }
                continue;
            }
            if self.event.data.len() + line.len() > self.limit {
                return Err(EventError::TooLong(self.limit));
            }
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let (name, value) = line.split_at(colon);
            let value = value.strip_prefix(b":").unwrap_or(value);
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match name {
                b"event" => self.event.kind = text(value)?.to_owned(),
                b"data" => {
                    if std::mem::replace(&mut self.has_data, true) {
                        self.event.data.push('\n');
                    }
                    self.event.data.push_str(text(value)?);
                }
                // `id` stands in the text too, signed; `retry` is ours to choose; the empty name is a comment.
                _ => {}
            }
        }
        if self.pending() > self.limit {
            return Err(EventError::TooLong(self.limit));
        }
        Ok(None)
    }

    /// The next whole line, without its end.
    fn line(&mut self) -> Option<(usize, usize)> {
        if self.after_return && self.start < self.buffer.len() {
            self.after_return = false;
            if self.buffer.get(self.start) == Some(&b'\n') {
                self.start += 1;
            }
        }
        self.scanned = self.scanned.max(self.start);
        let rest = self.buffer.get(self.scanned..)?;
        let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            self.scanned = self.buffer.len();
            return None;
        };
        let (from, to) = (self.start, self.scanned + end);
        self.after_return = self.buffer.get(to) == Some(&b'\r');
        self.start = to + 1;
        self.scanned = self.start;
        Some((from, to))
    }

    /// A snapshot may have been large, and what follows is small.
    fn release(&mut self) {
        const SMALL: usize = 64 << 10;
        if self.start == self.buffer.len() && self.buffer.capacity() > SMALL {
            self.buffer = Vec::new();
            (self.start, self.scanned) = (0, 0);
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, EventError> {
    std::str::from_utf8(bytes).map_err(|_| EventError::NotUtf8)
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(limit) => write!(f, "an event is longer than {limit} bytes, the limit"),
            Self::NotUtf8 => f.write_str("an event is not UTF-8"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, data: &str) -> RawEvent {
        RawEvent { kind: kind.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn however_it_is_cut_the_events_are_the_same() {
        let text = "event: change\nid: 1.2\ndata: {\"é\":1}\n\n: a comment\r\n\r\ndata:a\rdata: b\r\revent: x\n\nid: 7\ndata\n\n";
        let expected = [event("change", "{\"é\":1}"), event("", "a\nb"), event("", "")];
        for size in 1..=text.len() {
            let mut events = Events::new(100);
            let mut found = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                events.feed(piece);
                while let Some(event) = events.next().expect("good") {
                    found.push(event);
                }
            }
            assert_eq!(found, expected, "pieces of {size}");
        }
    }

    #[test]
    fn an_endless_line_or_event_is_refused_before_it_is_held() {
        let mut events = Events::new(1_000);
        let mut fed = 0;
        while events.next().is_ok() {
            events.feed(&[b'x'; 100]);
            fed += 100;
        }
        assert!(fed <= 1_100, "{fed}");
        let mut events = Events::new(1_000);
        let mut lines = 0;
        while events.next().is_ok() {
            events.feed(b"data: 0123456789\n");
            lines += 1;
        }
        assert!(lines <= 101, "{lines}");
        let mut events = Events::new(100);
        events.feed(b"data: \xff\n\n");
        assert_eq!(events.next(), Err(EventError::NotUtf8));
    }
}
