//! Documents that show the figures of a record, and only those: what they say is generated.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process;

/// A document that shows the figures of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Document {
    path: &'static str,
    /// How the names of its records begin.
    kind: &'static str,
}

/// All of them.
const DOCUMENTS: [Document; 2] =
    [Document { path: "README.md", kind: "" }, Document { path: "docs/design/control.md", kind: "control-" }];

impl Document {
    /// The one that shows records whose names begin with `kind`.
    pub(crate) fn of(kind: &str) -> Self {
        DOCUMENTS.into_iter().find(|document| document.kind == kind).unwrap_or(DOCUMENTS[0])
    }

    pub(crate) fn path(self) -> &'static str {
        self.path
    }

    /// Replaces the document's figures by those of `record`, kept in `place`.
    pub(crate) fn put_figures(self, record: &Value, place: &Path) -> Result<()> {
        let (text, path) = (self.text()?, self.path);
        let (before, rest) =
            text.split_once(FIGURES_BEGIN).with_context(|| format!("{path} has no place for figures"))?;
        let (_, after) = rest.split_once(FIGURES_END).with_context(|| format!("the figures in {path} do not end"))?;
        let text = format!("{before}{}{after}", figures(record, &place.to_string_lossy()));
        fs::write(process::root().join(path), text).with_context(|| format!("cannot write {path}"))
    }

    fn text(self) -> Result<String> {
        fs::read_to_string(process::root().join(self.path)).with_context(|| format!("cannot read {}", self.path))
    }
}

/// Makes the documents' figures anew from the records that they name; with `check`, only says whether they would be others.
pub(crate) fn generate(check: bool) -> Result<()> {
    for document in DOCUMENTS {
        let (text, path) = (document.text()?, document.path);
        let (_, rest) = text.split_once(FIGURES_BEGIN).with_context(|| format!("{path} has no place for figures"))?;
        let (place, _) = rest.split_once(" -->").with_context(|| format!("{path} names no record"))?;
        if place == NOTHING_YET {
            continue;
        }
        let record = fs::read_to_string(process::root().join(place)).with_context(|| format!("cannot read {place}"))?;
        let record = serde_json::from_str(&record).with_context(|| format!("{place} is no record"))?;
        if check {
            ensure!(text.contains(&figures(&record, place)), "the figures in {path} are not those of {place}");
        } else {
            document.put_figures(&record, Path::new(place))?;
        }
    }
    Ok(())
}

/// What stands for a record's place before there is one.
const NOTHING_YET: &str = "nothing measured yet";

/// The lines with the figures of `record`, kept in `place`, the lines around them included.
fn figures(record: &Value, place: &str) -> String {
    let mut text = format!("{FIGURES_BEGIN}{place} -->\n\n");
    let rows = || record["rows"].as_array().into_iter().flatten();
    let has_peers = rows().any(|row| row.get("best_peer").is_some());
    text.push_str("| what | target | median | p99 | best |");
    text.push_str(if has_peers {
        " best peer, median |\n|---|---|---|---|---|---|\n"
    } else {
        "\n|---|---|---|---|---|\n"
    });
    for row in rows() {
        let target = match word(row, "target") {
            "" => String::new(),
            target => format!("{target} {}", word(row, "unit")).trim_end().to_owned(),
        };
        let peer = row
            .get("best_peer")
            .map_or_else(String::new, |peer| format!("{} {}", number(peer, "median"), word(peer, "name")));
        let _ = writeln!(
            text,
            "| {} | {target} | {} | {} | {} |{}",
            word(row, "about"),
            number(row, "median"),
            number(row, "p99"),
            number(row, "best"),
            if has_peers { format!(" {peer} |") } else { String::new() },
        );
    }
    let mut noted = rows().filter(|row| row.get("note").is_some()).peekable();
    if noted.peek().is_some() {
        text.push_str("\nWhile it was measured:\n\n");
    }
    for row in noted {
        let _ = writeln!(text, "- {}: {}.", word(row, "about"), word(row, "note"));
    }
    let mut missed = rows().filter(|row| row["met"] == false).peekable();
    if missed.peek().is_some() {
        text.push_str("\nWhere a target is missed, this is what limits it:\n\n");
    }
    for row in missed {
        let limit = row["limit"].as_str().unwrap_or("Nobody has said why yet.");
        let about = word(row, "about");
        let _ =
            writeln!(text, "- {about}: {} where {} is asked for. {limit}", number(row, "median"), word(row, "target"));
    }
    text.push('\n');
    text.push_str(FIGURES_END);
    text
}

fn word<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn number(value: &Value, name: &str) -> String {
    let number = value[name].as_f64().unwrap_or(f64::NAN);
    if number >= 100.0 { format!("{number:.0}") } else { format!("{number:.2}") }
}

/// Between these two lines stands what the last full run measured.
const FIGURES_BEGIN: &str = "<!-- figures: cargo xtask bench writes these lines, from ";
const FIGURES_END: &str = "<!-- end of figures -->";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_those_of_the_record() {
        for document in DOCUMENTS {
            let (text, path) = (document.text().unwrap(), document.path);
            let (_, rest) = text.split_once(FIGURES_BEGIN).expect("a place for figures");
            let (place, _) = rest.split_once(" -->").expect("the name of a record");
            if place == NOTHING_YET {
                assert_eq!(path, "docs/design/control.md", "there are records, and {path} does not show one");
                continue;
            }
            let record = fs::read_to_string(process::root().join(place)).expect("the record that the document names");
            let made = figures(&serde_json::from_str(&record).unwrap(), place);
            assert!(text.contains(&made), "the figures in {path} are not those of {place}");
        }
    }

    #[test]
    fn a_missed_target_is_shown_with_what_limits_it() {
        let row = |limit: Option<&str>| {
            serde_json::json!({"about": "a check", "target": "≤ 1", "unit": "ns", "best": 1.0, "median": 2.0, "p99": 3.0,
                "best_peer": {"name": "somebody", "median": 400.0}, "met": false, "limit": limit})
        };
        let text = figures(&serde_json::json!({"rows": [row(Some("Light is slow."))]}), "a place");
        assert!(text.contains("| a check | ≤ 1 ns | 2.00 | 3.00 | 1.00 | 400 somebody |"), "{text}");
        assert!(text.contains("- a check: 2.00 where ≤ 1 is asked for. Light is slow."), "{text}");
        let text = figures(&serde_json::json!({"rows": [row(None)]}), "a place");
        assert!(text.contains("- a check: 2.00 where ≤ 1 is asked for. Nobody has said why yet."), "{text}");
    }
}
