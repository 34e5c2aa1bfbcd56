//! Where output goes: tables and colours for people, JSON for machines.

use std::{
    borrow::Cow,
    io::{self, BufWriter, IsTerminal, Stdout, Write},
};

use serde::Serialize;

/// Standard output.
#[derive(Debug)]
pub(crate) struct Output {
    out: BufWriter<Stdout>,
    /// Whether JSON was asked for.
    pub(crate) json: bool,
    colour: bool,
}

/// How a text looks on a terminal; plain elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Look {
    #[default]
    Plain,
    Bold,
    Dim,
    Good,
    Warn,
    Bad,
}

impl Look {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\x1b[1m",
            Self::Dim => "\x1b[2m",
            Self::Good => "\x1b[32m",
            Self::Warn => "\x1b[33m",
            Self::Bad => "\x1b[31m",
        }
    }
}

impl Output {
    pub(crate) fn to_stdout(json: bool) -> Self {
        let stdout = io::stdout();
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let colour = wanted && stdout.is_terminal();
        Self { out: BufWriter::new(stdout), json, colour }
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// A line.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        self.out.write_all(text.as_ref().as_bytes())?;
        self.out.write_all(b"\n")
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// A JSON document, indented.
    pub(crate) fn document(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut self.out, value)?;
        self.out.write_all(b"\n")
    }

    /// A JSON document on a line of its own.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")
    }

    /// `text` as `look` shows it.
    pub(crate) fn paint(&self, look: Look, text: &str) -> String {
        if self.colour && look != Look::Plain { format!("{}{text}\x1b[0m", look.code()) } else { text.to_owned() }
    }

    /// A table: columns as wide as their widest cell, two spaces between them, nothing behind the last.
    pub(crate) fn table(&mut self, table: &Table) -> io::Result<()> {
        let mut widths: Vec<usize> = table.header.iter().map(|name| name.len()).collect();
        for row in &table.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(columns(&cell.text));
            }
        }
        let header: Vec<Cell> = table.header.iter().map(|name| Cell::new(*name).look(Look::Bold)).collect();
        for row in std::iter::once(&header).chain(&table.rows) {
            let mut line = String::new();
            for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
                line.push_str(if at == 0 { "" } else { "  " });
                line.push_str(&self.paint(cell.look, &cell.text));
                if at + 1 < row.len() {
                    line.extend(std::iter::repeat_n(' ', width - columns(&cell.text)));
                }
            }
            self.line(line.trim_end())?;
        }
        Ok(())
    }

    /// Names and what they are, one a line, aligned.
    pub(crate) fn facts(&mut self, facts: &[(&str, Cell)]) -> io::Result<()> {
        let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, cell) in facts {
            let name = self.paint(Look::Dim, &format!("{name:width$}"));
            self.line(format!("{name}  {}", self.paint(cell.look, &cell.text)))?;
        }
        Ok(())
    }
}

/// Rows under a header.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) header: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

/// A text and its look. Made visible: it cannot steer the terminal, and stays on its line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    text: String,
    look: Look,
}

impl Cell {
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self { text: visible(text.as_ref()).into_owned(), look: Look::Plain }
    }

    /// The text alone.
    pub(crate) fn plain(self) -> String {
        self.text
    }

    pub(crate) fn look(self, look: Look) -> Self {
        Self { look, ..self }
    }
}

/// How many columns a text takes, a letter being one.
fn columns(text: &str) -> usize {
    text.chars().count()
}

/// `text` with control characters written out.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        let escape =
            |letter: char| if letter.is_control() { letter.escape_default().to_string() } else { letter.into() };
        Cow::Owned(text.chars().map(escape).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// `text`, cut to `most` letters.
pub(crate) fn clip(text: &str, most: usize) -> String {
    let text = visible(text);
    if columns(&text) <= most { text.into_owned() } else { text.chars().take(most - 1).chain(['…']).collect() }
}

/// `1 flag`, `2 flags`.
pub(crate) fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_a_definition_cannot_steer_the_terminal() {
        assert_eq!(visible("a\x1b[31m\nb"), "a\\u{1b}[31m\\nb");
        assert!(matches!(visible("é plain"), Cow::Borrowed("é plain")));
        assert_eq!(clip("abcdef", 4), "abc…");
        assert_eq!(clip("äöü", 3), "äöü");
        assert_eq!(count(1, "flag") + &count(0, "error"), "1 flag0 errors");
    }
}
