//! JSON text, read where it lies: one grammar, used to skip a value while checking it and to lay it out as a [`Tape`].
//!
//! ```text
//! value(sink):  scalar → sink.scalar | '[' → sink.open, values, sink.close | '{' → sink.open, key ':' value …, sink.close
//! ```
//!
//! It is a loop, not a recursion, so depth costs no stack. Own code rather than serde's, because a definition needs what
//! serde's data model drops: where each value begins, how a number was spelled, which member came twice.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Where and why a text is not JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Byte offset in the text.
    pub(crate) at: usize,
    /// What was found and what was expected.
    pub(crate) message: String,
}

/// Text between its quotes, escapes not yet replaced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawText<'a> {
    pub(crate) inner: &'a str,
    escaped: bool,
}

impl<'a> RawText<'a> {
    /// The text meant, and whether it is valid Unicode: a lone surrogate (`"\ud800"`) is replaced by U+FFFD.
    pub(crate) fn decode(self) -> (Cow<'a, str>, bool) {
        if self.escaped { unescape(self.inner) } else { (Cow::Borrowed(self.inner), true) }
    }
}

/// How many bytes at the front of `bytes` are [`PLAIN`]: eight at a time.
#[inline(always)]
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    // The top bit of each byte that is less than n, for n up to 128; above the lowest such byte, a borrow may set
    // others wrongly, but only the lowest is looked at.
    let below = |bytes: u64, n: u64| bytes.wrapping_sub(ONES * n) & !bytes & (ONES << 7);
    let mut rest = bytes;
    while let Some((eight, after)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*eight);
        let quote = below(word ^ (ONES * b'"' as u64), 1);
        let backslash = below(word ^ (ONES * b'\\' as u64), 1);
        let special = below(word, 0x20) | quote | backslash;
        if special != 0 {
            return bytes.len() - rest.len() + special.trailing_zeros() as usize / 8;
        }
        rest = after;
    }
    bytes.len() - rest.len() + rest.iter().take_while(|byte| PLAIN[usize::from(**byte)]).count()
}

/// Takes what [`Scanner::value`] reads.
pub(crate) trait Sink<'a> {
    fn null(&mut self, at: usize);
    fn bool(&mut self, at: usize, value: bool);
    fn number(&mut self, at: usize, spelling: &'a str);
    fn text(&mut self, at: usize, text: RawText<'a>);
    fn open(&mut self, at: usize, object: bool);
    /// Ends the innermost container; says whether the one around it (if any) is an object.
    fn close(&mut self) -> Option<bool>;
    /// Whether it can take no more.
    fn full(&self) -> bool {
        false
    }
}

/// A place in a JSON text.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    nesting: Vec<bool>,
}

/// Bytes that text holds as they are: all but `"`, `\` and control characters.
const PLAIN: [bool; 256] = {
    let mut table = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = false;
        byte += 1;
    }
    table[b'"' as usize] = false;
    table[b'\\' as usize] = false;
    table
};

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, nesting: Vec::new() }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn slice(&self, from: usize) -> &'a str {
        &self.text[from..self.at]
    }

    /// The next byte that is not white space, not consumed.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                _ => return Some(byte),
            }
        }
        None
    }

    pub(crate) fn fault<T>(&self, expected: &str) -> Result<T, Fault> {
        let found = match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            None if self.at >= self.text.len() => "the end of the text".to_owned(),
            None => "half a character".to_owned(),
            Some(found) if found.is_control() => format!("`{}`", found.escape_default()),
            Some(found) => format!("`{found}`"),
        };
        Err(Fault { at: self.at, message: format!("expected {expected}, found {found}") })
    }

    pub(crate) fn expect(&mut self, byte: u8, expected: &str) -> Result<(), Fault> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            self.fault(expected)
        }
    }

    /// Nothing but white space may follow.
    pub(crate) fn end(&mut self) -> Result<(), Fault> {
        if self.peek().is_none() { Ok(()) } else { self.fault("the end of the text") }
    }

    /// Walks the object that begins here; `member` must consume the value. `at` is where the key begins.
    pub(crate) fn members(
        &mut self,
        mut member: impl FnMut(&mut Self, RawText<'a>, usize) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.expect(b'{', "an object")?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let (at, key) = self.key()?;
            member(self, key, at)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.fault("`,` or `}`"),
            }
        }
    }

    /// Walks the array that begins here; `element` must consume each.
    pub(crate) fn elements(
        &mut self,
        mut element: impl FnMut(&mut Self, u32) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.expect(b'[', "an array")?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        for index in 0.. {
            element(self, index)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    break;
                }
                _ => return self.fault("`,` or `]`"),
            }
        }
        Ok(())
    }

    /// Skips a value; gives where it begins. Its text is then `slice(start)`.
    pub(crate) fn skip(&mut self) -> Result<usize, Fault> {
        self.peek();
        let start = self.at;
        let mut sink = Skip { nesting: std::mem::take(&mut self.nesting) };
        let outcome = self.value(&mut sink);
        sink.nesting.clear();
        self.nesting = sink.nesting;
        outcome.map(|()| start)
    }

    /// Reads one value into `sink`.
    pub(crate) fn value<S: Sink<'a>>(&mut self, sink: &mut S) -> Result<(), Fault> {
        let mut inside = None;
        loop {
            // A value begins here.
            let byte = self.peek();
            let at = self.at;
            if sink.full() {
                return Err(Fault { at, message: "too many values".to_owned() });
            }
            match byte {
                Some(b'"') => {
                    let text = self.text()?;
                    sink.text(at, text);
                }
                Some(b'{') => {
                    self.at += 1;
                    sink.open(at, true);
                    if self.peek() != Some(b'}') {
                        inside = Some(true);
                        let (at, key) = self.key()?;
                        sink.text(at, key);
                        continue;
                    }
                    self.at += 1;
                    inside = sink.close();
                }
                Some(b'[') => {
                    self.at += 1;
                    sink.open(at, false);
                    if self.peek() != Some(b']') {
                        inside = Some(false);
                        continue;
                    }
                    self.at += 1;
                    inside = sink.close();
                }
                Some(b'-' | b'0'..=b'9') => {
                    let spelling = self.number()?;
                    sink.number(at, spelling);
                }
                Some(b't') => {
                    self.literal("true")?;
                    sink.bool(at, true);
                }
                Some(b'f') => {
                    self.literal("false")?;
                    sink.bool(at, false);
                }
                Some(b'n') => {
                    self.literal("null")?;
                    sink.null(at);
                }
                _ => return self.fault("a value"),
            }
            // A value ended here, and with it perhaps what it stands in.
            loop {
                match (inside, if inside.is_some() { self.peek() } else { None }) {
                    (None, _) => return Ok(()),
                    (Some(false), Some(b',')) => {
                        self.at += 1;
                        break;
                    }
                    (Some(true), Some(b',')) => {
                        self.at += 1;
                        let (at, key) = self.key()?;
                        sink.text(at, key);
                        break;
                    }
                    (Some(false), Some(b']')) | (Some(true), Some(b'}')) => {
                        self.at += 1;
                        inside = sink.close();
                    }
                    (Some(false), _) => return self.fault("`,` or `]`"),
                    (Some(true), _) => return self.fault("`,` or `}`"),
                }
            }
        }
    }

    #[inline]
    fn key(&mut self) -> Result<(usize, RawText<'a>), Fault> {
        if self.peek() != Some(b'"') {
            return self.fault("a member's name in double quotes");
        }
        let at = self.at;
        let key = self.text()?;
        self.expect(b':', "`:`")?;
        Ok((at, key))
    }

    /// Text; the opening quote is the next byte.
    #[inline(always)]
    fn text(&mut self) -> Result<RawText<'a>, Fault> {
        let bytes = self.text.as_bytes();
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain_length(&bytes[self.at..]);
            match bytes.get(self.at) {
                Some(b'"') => {
                    let inner = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(RawText { inner, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                    self.escape(bytes)?;
                }
                None => return self.fault("`\"` at the end of the text"),
                Some(_) => return self.fault("no control character inside text (write it as \\u00..)"),
            }
        }
    }

    #[cold]
    fn escape(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        match bytes.get(self.at) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !bytes.get(self.at).is_some_and(u8::is_ascii_hexdigit) {
                        return self.fault("four hexadecimal digits after \\u");
                    }
                    self.at += 1;
                }
            }
            _ => return self.fault("one of \"\\/bfnrtu after `\\`"),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<&'a str, Fault> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        if bytes[self.at] == b'-' {
            self.at += 1;
        }
        if bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
            if bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
                return self.fault("no digit after a leading 0");
            }
        } else {
            self.digits(bytes)?;
        }
        if bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits(bytes)?;
        }
        if let Some(b'e' | b'E') = bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = bytes.get(self.at) {
                self.at += 1;
            }
            self.digits(bytes)?;
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let start = self.at;
        while bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start { self.fault("a digit") } else { Ok(()) }
    }

    fn literal(&mut self, literal: &str) -> Result<(), Fault> {
        if self.text.as_bytes()[self.at..].starts_with(literal.as_bytes()) {
            self.at += literal.len();
            Ok(())
        } else {
            self.fault("a value")
        }
    }
}

struct Skip {
    nesting: Vec<bool>,
}

impl<'a> Sink<'a> for Skip {
    fn null(&mut self, _: usize) {}
    fn bool(&mut self, _: usize, _: bool) {}
    fn number(&mut self, _: usize, _: &'a str) {}
    fn text(&mut self, _: usize, _: RawText<'a>) {}
    fn open(&mut self, _: usize, object: bool) {
        self.nesting.push(object);
    }
    fn close(&mut self) -> Option<bool> {
        self.nesting.pop();
        self.nesting.last().copied()
    }
}

/// What a [`Node`] is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token<'a> {
    Null,
    Bool(bool),
    /// As spelled.
    Number(&'a str),
    /// A value, or the name of the member that follows.
    Text(Cow<'a, str>),
    Array,
    /// Its members follow as name, value, name, value.
    Object,
}

/// A value on a [`Tape`].
#[derive(Clone, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) token: Token<'a>,
    /// Byte offset of its first character in the text.
    pub(crate) at: u32,
    /// The first node after it and all it contains. While a container is open: the one around it.
    pub(crate) end: u32,
}

/// A JSON value laid out flat, in the order of the text: node 0 is the value, what a container holds follows it.
#[derive(Clone, Debug)]
pub(crate) struct Tape<'a> {
    nodes: Vec<Node<'a>>,
    /// Texts that hold a lone surrogate.
    not_unicode: Vec<u32>,
    open: u32,
    most: usize,
}

const NONE: u32 = u32::MAX;

#[expect(
    clippy::cast_possible_truncation,
    reason = "`parse` refuses texts of 4 GiB, and a text holds fewer nodes than bytes"
)]
impl<'a> Tape<'a> {
    /// Lays out `text`, which must be one JSON value of no more than about `most` values.
    pub(crate) fn parse(text: &'a str, most: usize) -> Result<Self, Fault> {
        let mut tape = Self::new();
        tape.lay_out(text, most)?;
        Ok(tape)
    }

    /// An empty tape, to lay out one value after the other on.
    pub(crate) fn new() -> Self {
        Self { nodes: Vec::new(), not_unicode: Vec::new(), open: NONE, most: 0 }
    }

    /// Lays out `text` in the place of what it held, as [`parse`](Self::parse) does. On an error it holds no value.
    pub(crate) fn lay_out(&mut self, text: &'a str, most: usize) -> Result<(), Fault> {
        self.nodes.clear();
        self.not_unicode.clear();
        (self.open, self.most) = (NONE, most);
        if u32::try_from(text.len()).is_err() {
            return Err(Fault { at: 0, message: "longer than 4 GiB".to_owned() });
        }
        self.nodes.reserve((text.len() / 4).clamp(8, 1024));
        let mut scanner = Scanner::new(text);
        scanner.value(self)?;
        scanner.end()
    }

    pub(crate) fn node(&self, index: u32) -> &Node<'a> {
        &self.nodes[index as usize]
    }

    pub(crate) fn token(&self, index: u32) -> &Token<'a> {
        &self.node(index).token
    }

    pub(crate) fn not_unicode(&self) -> &[u32] {
        &self.not_unicode
    }

    /// The elements of the array at `index`; nothing for anything else.
    pub(crate) fn elements(&self, index: u32) -> impl Iterator<Item = u32> + '_ {
        let array = matches!(self.token(index), Token::Array);
        let end = if array { self.node(index).end } else { index + 1 };
        let mut next = index + 1;
        std::iter::from_fn(move || {
            (next < end).then(|| {
                let element = next;
                next = self.node(element).end;
                element
            })
        })
    }

    /// The members of the object at `index`, as written: name, node of the name, node of the value.
    pub(crate) fn members(&self, index: u32) -> impl Iterator<Item = (&str, u32, u32)> + '_ {
        let object = matches!(self.token(index), Token::Object);
        let end = if object { self.node(index).end } else { index + 1 };
        let mut next = index + 1;
        std::iter::from_fn(move || {
            (next < end).then(|| {
                let (name, value) = (next, next + 1);
                next = self.node(value).end;
                (self.text(name).unwrap_or_default(), name, value)
            })
        })
    }

    /// The one member of the object at `index`, if it is an object of one.
    pub(crate) fn only_member(&self, index: u32) -> Option<(&str, u32, u32)> {
        let node = self.node(index);
        let object = matches!(node.token, Token::Object) && node.end > index + 1;
        (object && self.node(index + 2).end == node.end)
            .then(|| (self.text(index + 1).unwrap_or_default(), index + 1, index + 2))
    }

    pub(crate) fn text(&self, index: u32) -> Option<&str> {
        match self.token(index) {
            Token::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Appends the JSON pointer from the value to `target`; to a member's name means to the member.
    pub(crate) fn pointer(&self, target: u32, pointer: &mut String) {
        let mut here = 0;
        'down: while here < target {
            for (index, element) in self.elements(here).enumerate() {
                if target < self.node(element).end {
                    pointer.push('/');
                    pointer.push_str(&index.to_string());
                    here = element;
                    continue 'down;
                }
            }
            for (name, name_at, value) in self.members(here) {
                if target < self.node(value).end {
                    push_segment(pointer, name);
                    if target == name_at {
                        return;
                    }
                    here = value;
                    continue 'down;
                }
            }
            return;
        }
    }

    /// Appends the value at `index` as compact JSON: order and number spelling kept, of equal names the last member.
    pub(crate) fn write(&self, index: u32, out: &mut String) {
        // A loop over the flat nodes; `ends` holds the open containers.
        let mut ends: Vec<(u32, bool)> = Vec::new();
        let mut next = index;
        let stop = self.node(index).end;
        let mut skipped = HashSet::new();
        while next < stop {
            while let Some(&(end, object)) = ends.last() {
                if next < end {
                    break;
                }
                out.push(if object { '}' } else { ']' });
                ends.pop();
            }
            let in_object = ends.last().is_some_and(|&(_, object)| object);
            let mut value = next;
            if in_object {
                value = next + 1;
                if skipped.contains(&next) {
                    next = self.node(value).end;
                    continue;
                }
            }
            if !out.ends_with(['{', '[']) && !ends.is_empty() {
                out.push(',');
            }
            if in_object {
                write_text(self.text(next).unwrap_or_default(), out);
                out.push(':');
            }
            next = value + 1;
            match self.token(value) {
                Token::Null => out.push_str("null"),
                Token::Bool(true) => out.push_str("true"),
                Token::Bool(false) => out.push_str("false"),
                Token::Number(spelling) => out.push_str(spelling),
                Token::Text(text) => write_text(text, out),
                Token::Array => {
                    out.push('[');
                    ends.push((self.node(value).end, false));
                }
                Token::Object => {
                    out.push('{');
                    ends.push((self.node(value).end, true));
                    self.repeated(value, |name| {
                        skipped.insert(name);
                    });
                }
            }
        }
        for (_, object) in ends.into_iter().rev() {
            out.push(if object { '}' } else { ']' });
        }
    }

    /// Calls `found` with the name node of each member of the object at `index` that a later member of that name
    /// overrides, in the order written.
    pub(crate) fn repeated(&self, index: u32, mut found: impl FnMut(u32)) {
        const FEW: usize = 8;
        let (mut few, mut count) = ([("", 0); FEW], 0);
        for (name, at, _) in self.members(index) {
            if let Some(place) = few.get_mut(count) {
                *place = (name, at);
            }
            count += 1;
        }
        if let Some(mut members) = few.get(..count) {
            while let Some(((name, at), later)) = members.split_first() {
                if later.iter().any(|(other, _)| other == name) {
                    found(*at);
                }
                members = later;
            }
            return;
        }
        let (mut last, mut overridden) = (HashMap::new(), Vec::new());
        for (name, at, _) in self.members(index) {
            if let Some(earlier) = last.insert(name, at) {
                overridden.push(earlier);
            }
        }
        overridden.sort_unstable();
        overridden.into_iter().for_each(found);
    }

    fn push(&mut self, token: Token<'a>, at: usize) {
        let end = self.nodes.len() as u32 + 1;
        self.nodes.push(Node { token, at: at as u32, end });
    }
}

#[expect(clippy::cast_possible_truncation, reason = "as above")]
impl<'a> Sink<'a> for Tape<'a> {
    fn null(&mut self, at: usize) {
        self.push(Token::Null, at);
    }
    fn bool(&mut self, at: usize, value: bool) {
        self.push(Token::Bool(value), at);
    }
    fn number(&mut self, at: usize, spelling: &'a str) {
        self.push(Token::Number(spelling), at);
    }
    fn text(&mut self, at: usize, text: RawText<'a>) {
        let (text, unicode) = text.decode();
        if !unicode {
            self.not_unicode.push(self.nodes.len() as u32);
        }
        self.push(Token::Text(text), at);
    }
    fn open(&mut self, at: usize, object: bool) {
        let end = std::mem::replace(&mut self.open, self.nodes.len() as u32);
        self.nodes.push(Node { token: if object { Token::Object } else { Token::Array }, at: at as u32, end });
    }
    fn close(&mut self) -> Option<bool> {
        let end = self.nodes.len() as u32;
        let closed = &mut self.nodes[self.open as usize];
        self.open = std::mem::replace(&mut closed.end, end);
        let around = self.nodes.get(self.open as usize)?;
        Some(matches!(around.token, Token::Object))
    }
    fn full(&self) -> bool {
        self.nodes.len() > self.most
    }
}

/// Appends a segment to a JSON pointer (RFC 6901).
pub(crate) fn push_segment(pointer: &mut String, segment: &str) {
    pointer.push('/');
    for letter in segment.chars() {
        match letter {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}

/// Appends `text` as JSON text, quotes included.
pub(crate) fn write_text(text: &str, out: &mut String) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if PLAIN[usize::from(byte)] {
            continue;
        }
        out.push_str(&text[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            control => {
                const HEX: [char; 16] =
                    ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
                out.push_str("\\u00");
                out.push(HEX[usize::from(control >> 4)]);
                out.push(HEX[usize::from(control & 15)]);
            }
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

#[cold]
fn unescape(inner: &str) -> (Cow<'_, str>, bool) {
    let mut text = String::with_capacity(inner.len());
    let mut unicode = true;
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let letter = rest.as_bytes().get(at + 1).copied().unwrap_or(b'\\');
        rest = rest.get(at + 2..).unwrap_or_default();
        match letter {
            b'b' => text.push('\u{8}'),
            b'f' => text.push('\u{c}'),
            b'n' => text.push('\n'),
            b'r' => text.push('\r'),
            b't' => text.push('\t'),
            b'u' => {
                let first = take_unit(&mut rest).unwrap_or(0xd800);
                let mut code = u32::from(first);
                if (0xd800..0xdc00).contains(&first) && rest.starts_with("\\u") {
                    let mut after = &rest[2..];
                    if let Some(second @ 0xdc00..0xe000) = take_unit(&mut after) {
                        rest = after;
                        code = 0x10000 + ((code - 0xd800) << 10) + (u32::from(second) - 0xdc00);
                    }
                }
                unicode &= char::from_u32(code).is_some();
                text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            itself => text.push(char::from(itself)),
        }
    }
    text.push_str(rest);
    (Cow::Owned(text), unicode)
}

/// Takes four hexadecimal digits off the front.
fn take_unit(rest: &mut &str) -> Option<u16> {
    let unit = u16::from_str_radix(rest.get(..4)?, 16).ok()?;
    *rest = &rest[4..];
    Some(unit)
}
