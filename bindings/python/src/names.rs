//! Attribute names as Python strings, so that a context can be asked for one without making a string first.
//!
//! ```text
//! print = (first 8 bytes, last 8 bytes, length), which says everything about a name of up to 16 bytes
//! slot  = few bits of print
//! look at WAYS slots from there: the same name → its string; an empty slot → fill it; none → a string of our own
//! ```
//!
//! Slots are filled once and never change, so a look is a load and a compare, with the GIL or without. What does not find
//! a free slot (a process that has seen thousands of different names) pays for a temporary string instead.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

/// How many names a process keeps: a power of two.
const SLOTS: usize = 1024;
/// How many slots one name may lie in.
const WAYS: usize = 4;

struct Name {
    print: Print,
    utf8: Box<[u8]>,
    text: Py<PyString>,
}

static NAMES: [PyOnceLock<Name>; SLOTS] = [const { PyOnceLock::new() }; SLOTS];

/// Calls `read` with `name` as an interned Python string; `None` also where `name` is not UTF-8.
///
/// The answer goes straight to where the caller wants it, hence the inlining: as another option around an option it would be
/// copied, right after it was written in smaller pieces, which stalls the processor.
#[inline(always)]
pub(crate) fn with_name<'py, T>(
    py: Python<'py>,
    name: &[u8],
    read: impl FnOnce(&Bound<'py, PyString>) -> Option<T>,
) -> Option<T> {
    let print = Print::of(name);
    let first = print.slot();
    for way in 0..WAYS {
        // The mask keeps the index below SLOTS, which the compiler sees.
        let slot = (first + way) & (SLOTS - 1);
        match NAMES[slot].get(py) {
            Some(known) if known.print == print && (name.len() <= 16 || *known.utf8 == *name) => {
                return read(known.text.bind(py));
            }
            Some(_) => {}
            None => return read(&learn(py, name, Some(slot))?),
        }
    }
    read(&learn(py, name, None)?)
}

/// Makes a string of a name that is not known yet, and keeps it where there is a slot for it.
#[cold]
#[inline(never)]
fn learn<'py>(py: Python<'py>, name: &[u8], slot: Option<usize>) -> Option<Bound<'py, PyString>> {
    let text = std::str::from_utf8(name).ok()?;
    let Some(slot) = slot else { return Some(PyString::new(py, text)) };
    let text = PyString::intern(py, text);
    // Another thread may have put another name there meanwhile: then ours goes to the next slot the next time.
    NAMES[slot].get_or_init(py, || Name { print: Print::of(name), utf8: name.into(), text: text.clone().unbind() });
    Some(text)
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Print {
    head: u64,
    tail: u64,
    len: usize,
}

impl Print {
    #[inline]
    fn of(name: &[u8]) -> Self {
        let (head, tail) = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
            (Some(head), Some(tail)) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
            _ => match (name.first_chunk::<4>(), name.last_chunk::<4>()) {
                (Some(head), Some(tail)) => (u32::from_le_bytes(*head).into(), u32::from_le_bytes(*tail).into()),
                _ => (name.iter().fold(0, |head, byte| head << 8 | u64::from(*byte)), 0),
            },
        };
        Self { head, tail, len: name.len() }
    }

    #[inline]
    fn slot(self) -> usize {
        let mixed =
            (self.head ^ self.tail.rotate_left(29) ^ (self.len as u64) << 56).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        // The product's high bits depend on every bit that went in; 54 = 64 - log2(SLOTS).
        (mixed >> 54) as usize
    }
}
