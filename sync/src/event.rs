//! How texts travel in a stream: server-sent events (WHATWG HTML, "Server-sent events").

use std::fmt;
use std::str::FromStr;

/// Which state of an environment an event leads to: `epoch.revision`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    /// See [`Stamp::epoch`](crate::Stamp::epoch).
    pub epoch: u64,
    /// See [`Stamp::revision`](crate::Stamp::revision).
    pub revision: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.revision)
    }
}

impl FromStr for EventId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, revision) = text.split_once('.').unwrap_or((text, ""));
        Ok(Self { epoch: epoch.parse()?, revision: revision.parse()? })
    }
}

/// One event of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'t> {
    /// A whole state, as the text of a snapshot: on connecting without an id, or with one that the server can't go on from.
    Snapshot(&'t str),
    /// The next state, as the text of a change.
    Change(&'t str),
    /// Nothing happened; this is the current state.
    Current,
}

impl Event<'_> {
    /// What goes over the wire.
    #[must_use]
    pub fn to_wire(&self, id: EventId) -> String {
        match self {
            Self::Snapshot(text) => format!("event: snapshot\nid: {id}\ndata: {text}\n\n"),
            Self::Change(text) => format!("event: change\nid: {id}\ndata: {text}\n\n"),
            Self::Current => format!("event: current\nid: {id}\ndata: {id}\n\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_its_text() {
        let id = EventId { epoch: 1, revision: 42 };
        assert_eq!((id.to_string(), "1.42".parse()), ("1.42".to_owned(), Ok(id)));
        for bad in ["", "1", "1.", ".1", "1.2.3", "-1.2", "a.b"] {
            assert!(bad.parse::<EventId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_event_is_three_lines_and_an_empty_one() {
        let wire = Event::Change("{}").to_wire(EventId { epoch: 1, revision: 2 });
        assert_eq!(wire, "event: change\nid: 1.2\ndata: {}\n\n");
    }
}
