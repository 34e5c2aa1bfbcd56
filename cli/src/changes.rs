//! What differs between two snapshots, as `diff` and `watch` show it.

use libflags::{
    Snapshot,
    snapshot::{Change, ChangeKind, SnapshotFlag, diff},
};
use serde_json::{Map, Value, json};

use crate::{
    output::{Cell, Look, Output, clip},
    value,
};

/// A changed flag and in what it changed.
#[derive(Debug)]
pub(crate) struct Changed {
    key: String,
    flag_set: Option<String>,
    pub(crate) kind: ChangeKind,
    /// What it is now; where it is gone, what it was.
    about: String,
    aspects: Vec<Aspect>,
    before: Option<Value>,
    after: Option<Value>,
}

/// A part of a flag that changed.
#[derive(Debug)]
struct Aspect {
    name: &'static str,
    /// For people: empty where there was nothing.
    before: String,
    after: String,
}

/// What changed from `a` to `b`, in the order of keys.
pub(crate) fn between(a: &Snapshot, b: &Snapshot) -> Vec<Changed> {
    diff(a, b).iter().map(|change| changed(change, a, b)).collect()
}

fn changed(change: &Change<'_>, a: &Snapshot, b: &Snapshot) -> Changed {
    let about = |flag: &SnapshotFlag<'_>| {
        let targeted = if flag.targeted() { ", targeted" } else { "" };
        format!(
            "{}, {}, default {}{targeted}",
            value::kind(flag.kind()),
            value::state(flag),
            value::default_shown(flag)
        )
    };
    let whole = |flag: &SnapshotFlag<'_>, snapshot: &Snapshot| {
        let mut json = value::flag(flag);
        json["variants"] = Value::Object(variants(flag));
        json["metadata"] = Value::Object(value::metadata(flag.metadata));
        json["targeting"] =
            snapshot.targeting(flag).and_then(|rule| serde_json::from_str(&rule).ok()).unwrap_or(Value::Null);
        json
    };
    Changed {
        key: change.key.to_owned(),
        flag_set: change.flag_set.map(str::to_owned),
        kind: change.kind(),
        about: change.after.as_ref().or(change.before.as_ref()).map(about).unwrap_or_default(),
        aspects: match (&change.before, &change.after) {
            (Some(before), Some(after)) => aspects(before, a, after, b),
            _ => Vec::new(),
        },
        before: change.before.as_ref().map(|flag| whole(flag, a)),
        after: change.after.as_ref().map(|flag| whole(flag, b)),
    }
}

fn aspects(before: &SnapshotFlag<'_>, a: &Snapshot, after: &SnapshotFlag<'_>, b: &Snapshot) -> Vec<Aspect> {
    let mut aspects = Vec::new();
    let mut note = |name, before: String, after: String| {
        if before != after {
            aspects.push(Aspect { name, before, after });
        }
    };
    note("type", value::kind(before.kind()).to_owned(), value::kind(after.kind()).to_owned());
    note("state", value::state(before).to_owned(), value::state(after).to_owned());
    note("default", value::default_shown(before), value::default_shown(after));
    let rule = |snapshot: &Snapshot, flag| snapshot.targeting(flag).unwrap_or_else(|| "none".to_owned());
    let (old, new) = differing(&variants(before), &variants(after));
    note("variants", old, new);
    note("targeting", rule(a, before), rule(b, after));
    let (old, new) = differing(&value::metadata(before.metadata), &value::metadata(after.metadata));
    note("metadata", old, new);
    if aspects.is_empty() {
        // Nothing that can be read: an id list that the rule names holds other ids.
        aspects.push(Aspect { name: "id list", before: String::new(), after: String::new() });
    }
    aspects
}

fn variants(flag: &SnapshotFlag<'_>) -> Map<String, Value> {
    flag.variants().map(|(name, value)| (name.to_owned(), value::to_json(value))).collect()
}

/// The entries of two objects that are not the same in both.
fn differing(before: &Map<String, Value>, after: &Map<String, Value>) -> (String, String) {
    let only = |of: &Map<String, Value>, other: &Map<String, Value>| {
        let entries = of.iter().filter(|(name, value)| other.get(*name) != Some(value));
        let entries: Vec<String> = entries.map(|(name, value)| format!("{name}={value}")).collect();
        if entries.is_empty() { "none".to_owned() } else { entries.join(" ") }
    };
    (only(before, after), only(after, before))
}

impl Changed {
    /// One line for people.
    pub(crate) fn line(&self, output: &Output) -> String {
        const MOST: usize = 60;
        let (sign, look) = match self.kind {
            ChangeKind::Added => ('+', Look::Good),
            ChangeKind::Removed => ('-', Look::Bad),
            ChangeKind::Changed => ('~', Look::Warn),
        };
        let name = match &self.flag_set {
            Some(set) => format!("{} ({set})", self.key),
            None => self.key.clone(),
        };
        let name = output.paint(look, &Cell::new(format!("{sign} {name}")).plain());
        let detail = match self.kind {
            ChangeKind::Changed => {
                let aspect = |aspect: &Aspect| {
                    if aspect.before.is_empty() && aspect.after.is_empty() {
                        return format!("content of an {}", aspect.name);
                    }
                    let (before, after) = apart(&aspect.before, &aspect.after, MOST);
                    format!("{} {before} → {after}", aspect.name)
                };
                self.aspects.iter().map(aspect).collect::<Vec<_>>().join("; ")
            }
            _ => Cell::new(&self.about).plain(),
        };
        format!("{name}  {detail}")
    }

    /// The same for machines.
    pub(crate) fn json(&self) -> Value {
        let mut json = json!({
            "key": self.key, "flagSetId": self.flag_set, "change": self.kind.as_str(),
            "before": self.before, "after": self.after,
        });
        if self.kind == ChangeKind::Changed {
            json["aspects"] = self.aspects.iter().map(|aspect| Value::from(aspect.name)).collect();
        }
        json
    }
}

/// Two texts for one line: as they are where they are short, else from a little before where they differ.
fn apart(before: &str, after: &str, most: usize) -> (String, String) {
    const LEAD: usize = 24;
    if before.chars().count().max(after.chars().count()) <= most {
        return (clip(before, most), clip(after, most));
    }
    let same = before.chars().zip(after.chars()).take_while(|(old, new)| old == new).count();
    let cut = |text: &str| match same.checked_sub(LEAD) {
        None | Some(0) => clip(text, most),
        Some(start) => format!("…{}", clip(&text.chars().skip(start).collect::<String>(), most)),
    };
    (cut(before), cut(after))
}

/// How many were added, removed and changed.
pub(crate) fn counts(changes: &[Changed]) -> (usize, usize, usize) {
    let of = |kind| changes.iter().filter(|change| change.kind == kind).count();
    (of(ChangeKind::Added), of(ChangeKind::Removed), of(ChangeKind::Changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_shown_where_they_differ() {
        assert_eq!(apart("a", "b", 10), ("a".into(), "b".into()));
        let long = |end: &str| format!("{}{end}", "x".repeat(100));
        let (before, after) = apart(&long("1"), &long("2"), 60);
        assert_eq!(before, format!("…{}1", "x".repeat(24)));
        assert_eq!(after, format!("…{}2", "x".repeat(24)));
        let (before, after) = apart(&long(""), "none", 10);
        assert_eq!((before.as_str(), after.as_str()), ("xxxxxxxxx…", "none"));
    }
}
