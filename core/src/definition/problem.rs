//! What `check` prints: one thing wrong with a definition, and where.

use serde::Serialize;
use std::fmt;

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// What it is in is not served: the flag answers `PARSE_ERROR`, or keeps its last good form.
    Error,
    /// Served as written, but hardly as meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One thing wrong with a definition.
///
/// Displayed as `flags.json:12:9: error: flag "checkout" at /flags/checkout/state: …`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Whether it stops the flag from being served.
    pub severity: Severity,
    /// The document's name, usually its path.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// The key of the flag it is in, if in any.
    pub flag: Option<String>,
    /// Where in the document, as a JSON pointer (RFC 6901), such as `/flags/checkout/targeting/if/0`; "" is all of it.
    pub pointer: String,
    /// What was found and what was expected.
    pub message: String,
}

impl Problem {
    /// Whether it is an error rather than a warning.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, file, line, column, .. } = self;
        write!(f, "{file}:{line}:{column}: {severity}: ")?;
        match (&self.flag, self.pointer.is_empty()) {
            (Some(flag), false) => write!(f, "flag {flag:?} at {}: ", Visible(&self.pointer))?,
            (Some(flag), true) => write!(f, "flag {flag:?}: ")?,
            (None, false) => write!(f, "at {}: ", Visible(&self.pointer))?,
            (None, true) => {}
        }
        write!(f, "{}", Visible(&self.message))
    }
}

/// Text from a definition, unable to steer the terminal it is printed on.
struct Visible<'a>(&'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            if letter.is_control() {
                write!(f, "{}", letter.escape_default())?;
            } else {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}
