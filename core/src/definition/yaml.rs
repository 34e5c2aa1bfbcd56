//! YAML turned into the JSON it stands for, each value remembered with its place in the YAML.
//!
//! The events of the YAML parser are written out as compact JSON text as they come; no tree is built, and nothing
//! recurses. An alias copies the text written for its anchor, so a chain of aliases could grow without bound ("billion
//! laughs"): what is written may be only so much longer than what is read.

use super::document::{Converted, Mark};
use super::error::DefinitionError;
use super::json::write_text;
use super::number::shorten;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

/// How deep YAML may nest; rules must stay far below, so this only spares the parser.
const DEEPEST: usize = 1000;

/// The longest JSON that `bytes` of YAML may become. Without aliases it can't get to five times as long.
fn bound(bytes: usize) -> usize {
    bytes.saturating_mul(8).saturating_add(1 << 20).min(u32::MAX as usize - 1)
}

/// Converts `text`; `name` is for errors.
pub(crate) fn convert(name: &str, text: &str) -> Result<Converted, DefinitionError> {
    let mut writer = Writer { bound: bound(text.len()), ..Writer::default() };
    let mut parser = Parser::new_from_str(text);
    loop {
        let (message, marker) = match parser.next_event() {
            None => return Ok(writer.out),
            Some(Ok((event, span))) => match writer.event(event, span) {
                Ok(()) => continue,
                Err(message) => (message, span.start),
            },
            Some(Err(error)) => (format!("not YAML: {}", error.info()), *error.marker()),
        };
        let (line, column) = position(marker);
        return Err(DefinitionError::Malformed { file: name.to_owned(), line, column, message });
    }
}

#[derive(Default)]
struct Writer {
    out: Converted,
    bound: usize,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchor>,
    documents: u32,
}

/// An array or object that is not written to its end.
struct Open {
    object: bool,
    /// An object's next event is a member's name.
    name_next: bool,
    empty: bool,
    anchor: usize,
    start: usize,
    first_mark: usize,
}

/// What was written for an anchored value.
struct Anchor {
    json: Range<usize>,
    marks: Range<usize>,
}

impl Writer {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), String> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err("a second YAML document in the file; expected one".to_owned());
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let (start, first_mark) = (self.before(span.start)?, self.out.marks.len() - 1);
                if self.at_name() {
                    write_text(&text, &mut self.out.json);
                } else {
                    scalar(&text, style, tag.as_deref(), &mut self.out.json)?;
                }
                self.anchored(anchor, start, first_mark);
                self.after();
            }
            Event::SequenceStart(anchor, tag) => self.open(false, anchor, tag.as_ref(), "seq", span)?,
            Event::MappingStart(anchor, tag) => self.open(true, anchor, tag.as_ref(), "map", span)?,
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    self.out.json.push(if open.object { '}' } else { ']' });
                    self.anchored(open.anchor, open.start, open.first_mark);
                    self.after();
                }
            }
            Event::Alias(anchor) => {
                self.before(span.start)?;
                self.alias(anchor)?;
                self.after();
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        if self.out.json.len() > self.bound {
            return Err(format!("aliases that make the document longer than {} bytes", self.bound));
        }
        Ok(())
    }

    fn open(
        &mut self,
        object: bool,
        anchor: usize,
        tag: Option<&Cow<'_, Tag>>,
        usual: &str,
        span: Span,
    ) -> Result<(), String> {
        if let Some(tag) = tag
            && !(tag.is_yaml_core_schema() && tag.suffix == usual)
        {
            return Err(format!("the YAML tag `{}`; expected none here", shorten(&tag.to_string())));
        }
        if self.at_name() {
            return Err("an array or object as a member's name; expected text".to_owned());
        }
        if self.open.len() >= DEEPEST {
            return Err(format!("nested deeper than {DEEPEST} levels, the limit for YAML"));
        }
        let start = self.before(span.start)?;
        let first_mark = self.out.marks.len() - 1;
        self.out.json.push(if object { '{' } else { '[' });
        self.open.push(Open { object, name_next: object, empty: true, anchor, start, first_mark });
        Ok(())
    }

    /// Copies what was written for an anchor.
    fn alias(&mut self, anchor: usize) -> Result<(), String> {
        let Some(Anchor { json, marks }) = self.anchors.get(&anchor) else {
            return Err("an alias inside the value that it stands for".to_owned());
        };
        let (json, marks) = (json.clone(), marks.clone());
        let out = &mut self.out;
        if out.json.len() + json.len() > self.bound {
            return Err(format!("aliases that make the document longer than {} bytes", self.bound));
        }
        let scalar_name =
            self.open.last().is_some_and(|open| open.name_next) && !out.json[json.clone()].starts_with('"');
        if scalar_name {
            let text = out.json[json].to_owned();
            if text.starts_with(['{', '[']) {
                return Err("an array or object as a member's name; expected text".to_owned());
            }
            write_text(&text, &mut out.json);
            return Ok(());
        }
        // The alias itself is marked already; what is inside it stands where the anchor is.
        let moved = out.json.len() - json.start;
        for index in marks.start + 1..marks.end {
            let mark = out.marks[index];
            out.marks.push(Mark { json: offset(mark.json as usize + moved), ..mark });
        }
        out.json.extend_from_within(json);
        Ok(())
    }

    /// Separates and marks the value or name that begins here; gives where it is written.
    fn before(&mut self, marker: Marker) -> Result<usize, String> {
        if let Some(open) = self.open.last_mut() {
            if open.empty {
                open.empty = false;
            } else if !open.object || open.name_next {
                self.out.json.push(',');
            }
        }
        let start = self.out.json.len();
        let (line, column) = position(marker);
        self.out.marks.push(Mark { json: offset(start), line, column });
        Ok(start)
    }

    /// Goes on after a value or name.
    fn after(&mut self) {
        if let Some(open) = self.open.last_mut()
            && open.object
        {
            if open.name_next {
                self.out.json.push(':');
            }
            open.name_next = !open.name_next;
        }
    }

    fn at_name(&self) -> bool {
        self.open.last().is_some_and(|open| open.name_next)
    }

    fn anchored(&mut self, anchor: usize, start: usize, first_mark: usize) {
        if anchor != 0 {
            let (json, marks) = (start..self.out.json.len(), first_mark..self.out.marks.len());
            self.anchors.insert(anchor, Anchor { json, marks });
        }
    }
}

/// Writes a scalar as the YAML 1.2 core schema reads it.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, json: &mut String) -> Result<(), String> {
    let plain = match tag {
        None if style == ScalarStyle::Plain => plain(text),
        None => None,
        Some(tag) if tag.is_yaml_core_schema() => {
            let read = plain(text);
            let fits = match &*tag.suffix {
                "str" => {
                    write_text(text, json);
                    return Ok(());
                }
                "null" => read.as_deref() == Some("null"),
                "bool" => matches!(read.as_deref(), Some("true" | "false")),
                "int" => read.as_deref().is_some_and(|read| is_number(read) && !read.contains(['.', 'e', 'E'])),
                "float" => read.as_deref().is_some_and(is_number),
                _ => return Err(format!("the YAML tag `!!{}`; expected one of the core schema", shorten(&tag.suffix))),
            };
            if !fits {
                return Err(format!("{:?} does not fit its YAML tag `!!{}`", shorten(text), tag.suffix));
            }
            read
        }
        // `! text`: not to be read as anything but text.
        Some(tag) if format!("{}{}", tag.handle, tag.suffix) == "!" => None,
        Some(tag) => {
            return Err(format!("the YAML tag `{}`; expected one of the core schema", shorten(&tag.to_string())));
        }
    };
    match plain {
        Some(spelling) => json.push_str(&spelling),
        None => write_text(text, json),
    }
    Ok(())
}

fn is_number(spelling: &str) -> bool {
    spelling.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

/// A plain scalar that is not text: as JSON.
fn plain(text: &str) -> Option<Cow<'_, str>> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some("null".into()),
        "true" | "True" | "TRUE" => return Some("true".into()),
        "false" | "False" | "FALSE" => return Some("false".into()),
        _ => {}
    }
    // Neither infinities nor NaN are JSON; this number is refused where it stands.
    const NO_NUMBER: &str = "1e999";
    let (minus, magnitude) = match text.as_bytes()[0] {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        b'0'..=b'9' | b'.' => ("", text),
        _ => return None,
    };
    match magnitude {
        ".inf" | ".Inf" | ".INF" => return Some(format!("{minus}{NO_NUMBER}").into()),
        ".nan" | ".NaN" | ".NAN" if magnitude.len() == text.len() => return Some(NO_NUMBER.into()),
        _ => {}
    }
    for (prefix, radix) in [("0o", 8), ("0x", 16)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
                return None;
            }
            return Some(
                u128::from_str_radix(digits, radix).map_or(NO_NUMBER.into(), |value| value.to_string().into()),
            );
        }
    }
    let (mantissa, exponent) = match magnitude.find(['e', 'E']) {
        Some(at) => (&magnitude[..at], Some(&magnitude[at + 1..])),
        None => (magnitude, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || whole.is_empty() && fraction.is_empty() {
        return None;
    }
    if let Some(exponent) = exponent {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        if digits.is_empty() || !all_digits(digits) {
            return None;
        }
    }
    let significant = whole.trim_start_matches('0');
    let mut number = format!("{minus}{}", if significant.is_empty() { "0" } else { significant });
    if mantissa.contains('.') {
        number.push('.');
        number.push_str(if fraction.is_empty() { "0" } else { fraction });
    }
    if let Some(exponent) = exponent {
        number.push('e');
        number.push_str(exponent);
    }
    Some(number.into())
}

/// Line and column, both from 1.
fn position(marker: Marker) -> (u32, u32) {
    let line = u32::try_from(marker.line()).unwrap_or(u32::MAX);
    (line.max(1), u32::try_from(marker.col() + 1).unwrap_or(u32::MAX))
}

#[expect(clippy::cast_possible_truncation, reason = "what is written is kept below 4 GiB by `bound`")]
fn offset(at: usize) -> u32 {
    at as u32
}
