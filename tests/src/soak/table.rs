//! What each flag answers in one round, as a file that programs in any language read with a few lines.
//!
//! Lines of fields with tabs between them; texts that may hold anything are the hexadecimal of their bytes:
//!
//! ```text
//! subject  TARGETING KEY  (NAME  TYPE  VALUE)*        numbered from 0; the targeting key after "=", or "-" for none
//! row      KEY  KIND  SUBJECT  REASON  ERROR  VARIANT  VALUE
//! end
//! ```
//!
//! TYPE is bool, int, float (the bits) or text; KIND also json. REASON and what follows is as in `tests/c/answer.c`: VARIANT after "=" or "-",
//! VALUE as `TYPE:value`, or "-" where the caller's default stands.

use std::fmt::Write as _;

use libflags::snapshot::Evaluation;
use libflags::{FlagValue, Want};
use serde_json::{Map, Value as Json};

use crate::engine::{Answer, Kind, Subject};

/// Expected answers.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Who asks.
    pub subjects: Vec<Subject>,
    /// What each is answered.
    pub rows: Vec<Row>,
}

/// One expected answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The flag's key.
    pub key: String,
    /// As what it is read: bool, int, float, text or json.
    pub kind: String,
    /// Which subject asks.
    pub subject: usize,
    /// Reason, error, variant and value, with tabs between them.
    pub answer: String,
}

impl Row {
    /// The row that says what `answer` is.
    #[must_use]
    pub fn new(key: &str, kind: Kind, subject: usize, answer: &Answer) -> Self {
        let error = answer.error_code.map_or("-".to_owned(), |code| code.to_string());
        let (variant, value) = match &answer.variant {
            None => ("-".to_owned(), "-".to_owned()),
            Some(variant) => (format!("={}", hexadecimal(variant)), value_of(kind, &answer.value)),
        };
        let answer = format!("{}\t{error}\t{variant}\t{value}", answer.reason);
        Self { key: key.to_owned(), kind: name_of(kind).to_owned(), subject, answer }
    }

    /// What to ask the library for.
    #[must_use]
    pub fn want(&self) -> Want {
        match self.kind.as_str() {
            "bool" => Want::Bool,
            "int" => Want::Int,
            "float" => Want::Float,
            "text" => Want::Text,
            _ => Want::Json,
        }
    }

    /// The value alone, `None` where the caller's default stands.
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        self.answer.rsplit('\t').next().filter(|value| *value != "-")
    }
}

impl Table {
    /// As the text of a file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for subject in &self.subjects {
            let key = subject.targeting_key.as_ref().and_then(Json::as_str);
            let _ = write!(text, "subject\t{}", key.map_or("-".to_owned(), |key| format!("={}", hexadecimal(key))));
            for (name, value) in &subject.attributes {
                let (kind, value) = match value {
                    Json::Bool(value) => ("bool", value.to_string()),
                    Json::String(text) => ("text", hexadecimal(text)),
                    Json::Number(number) => match number.as_i64() {
                        Some(number) => ("int", number.to_string()),
                        None => ("float", bits(number.as_f64())),
                    },
                    _ => continue,
                };
                let _ = write!(text, "\t{}\t{kind}\t{value}", hexadecimal(name));
            }
            text.push('\n');
        }
        for row in &self.rows {
            let _ = writeln!(text, "row\t{}\t{}\t{}\t{}", row.key, row.kind, row.subject, row.answer);
        }
        text.push_str("end\n");
        text
    }

    /// Reads what [`Table::to_text`] wrote; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut table = Self::default();
        let mut lines = text.strip_suffix("end\n")?.lines();
        lines.try_for_each(|line| {
            match line.split_once('\t')? {
                ("subject", rest) => table.subjects.push(parse_subject(rest)?),
                ("row", rest) => {
                    let mut parts = rest.splitn(4, '\t').map(str::to_owned);
                    let mut next = || parts.next();
                    let (key, kind, subject) = (next()?, next()?, next()?.parse().ok()?);
                    table.rows.push(Row { key, kind, subject, answer: next()? });
                }
                _ => return None,
            }
            Some(())
        })?;
        Some(table)
    }
}

/// An answer of the library's as a row has it.
#[must_use]
pub fn text_of(evaluation: &Evaluation<'_>) -> String {
    let error = evaluation.error.map_or("-", |error| error.as_str());
    let variant = evaluation.variant.map_or("-".to_owned(), |variant| format!("={}", hexadecimal(variant)));
    let value = match evaluation.value {
        None => "-".to_owned(),
        Some(FlagValue::Bool(value)) => format!("bool:{value}"),
        Some(FlagValue::Int(value)) => format!("int:{value}"),
        Some(FlagValue::Float(value)) => format!("float:{:016x}", value.to_bits()),
        Some(FlagValue::Text(value)) => format!("text:{}", hexadecimal(value)),
        Some(FlagValue::Json(value)) => format!("json:{}", hexadecimal(value)),
    };
    format!("{}\t{error}\t{variant}\t{value}", evaluation.reason.as_str())
}

fn parse_subject(text: &str) -> Option<Subject> {
    let mut fields = text.split('\t');
    let targeting_key = match fields.next()? {
        "-" => None,
        key => Some(Json::String(text_from(key.strip_prefix('=')?)?)),
    };
    let mut attributes = Map::new();
    while let Some(name) = fields.next() {
        let (kind, value) = (fields.next()?, fields.next()?);
        let value = match kind {
            "bool" => Json::Bool(value == "true"),
            "int" => Json::from(value.parse::<i64>().ok()?),
            "float" => Json::from(f64::from_bits(u64::from_str_radix(value, 16).ok()?)),
            "text" => Json::String(text_from(value)?),
            _ => return None,
        };
        attributes.insert(text_from(name)?, value);
    }
    Some(Subject { targeting_key, attributes, unix_seconds: 0 })
}

fn value_of(kind: Kind, value: &Json) -> String {
    match (kind, value) {
        (_, Json::Bool(value)) => format!("bool:{value}"),
        (_, Json::String(text)) => format!("text:{}", hexadecimal(text)),
        #[expect(clippy::cast_possible_truncation, reason = "flags hold whole numbers within ±(2^53-1)")]
        (Kind::Integer, Json::Number(number)) => format!("int:{}", number.as_f64().unwrap_or(f64::NAN) as i64),
        (_, Json::Number(number)) => format!("float:{}", bits(number.as_f64())),
        (_, value) => format!("json:{}", hexadecimal(&value.to_string())),
    }
}

fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "bool",
        Kind::String => "text",
        Kind::Integer => "int",
        Kind::Float => "float",
        Kind::Object => "json",
    }
}

fn bits(number: Option<f64>) -> String {
    format!("{:016x}", number.unwrap_or(f64::NAN).to_bits())
}

fn hexadecimal(text: &str) -> String {
    let mut digits = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

fn text_from(hexadecimal: &str) -> Option<String> {
    let pairs = hexadecimal.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> =
        pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    String::from_utf8(bytes?).ok()
}
