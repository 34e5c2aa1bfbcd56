//! Lists as files have them.
//!
//! ```text
//! ids in ascending order, as exports have them ──► hashed as they are read
//! any other order ──► read again, sorted in memory, hashed
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use flags_sync::{
    List, Part, PartHash,
    list::{PartHasher, check_id},
};
use libflags::definition::{
    Document, Limits, ListFormat, PreparedList,
    lists::{ListFile, read_ids, resolve},
};
use serde_json::Value;

use crate::failure::Failure;

/// The ids of a file.
#[derive(Debug)]
pub(in crate::control) struct Local {
    pub(super) key: String,
    pub(super) path: PathBuf,
    /// Each counted once, however often it stands there.
    pub(super) ids: u64,
    /// Of the ids in order, one a line; nothing where there are none.
    pub(super) whole: PartHash,
}

impl Local {
    /// What the control plane calls this content, where all of it came at once.
    pub(super) fn content(&self) -> PartHash {
        let part = Part { sha256: self.whole, bytes: 0, ids: self.ids, removes: false };
        List { ids: self.ids, parts: Vec::from_iter((self.ids > 0).then_some(part)) }.content()
    }

    pub(super) fn format(&self) -> ListFormat {
        ListFormat::from_path(&self.path)
    }
}

/// The lists that a definition declares, which lies in `directory`, by key.
///
/// # Errors
/// Where a file is missing or two are of one list, and at the first line that is no id.
pub(in crate::control) fn read(document: &Document, directory: &Path) -> Result<BTreeMap<String, Local>, Failure> {
    let (files, problems) = resolve(document, directory);
    if !problems.is_empty() {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        return Err(Failure::new(problems.join("\n")));
    }
    files.into_iter().map(|file| Ok((file.name.clone(), read_one(file)?))).collect()
}

fn read_one(ListFile { name, path }: ListFile) -> Result<Local, Failure> {
    let mut sorted = Sorted::default();
    let ids = each_id(&path, |id| sorted.follow(id))?;
    if !sorted.is_in_order {
        sorted = Sorted::default();
        let mut all = Ids::default();
        each_id(&path, |id| all.push(id))?;
        all.sort();
        all.iter().for_each(|id| sorted.follow(id));
    }
    debug_assert!(sorted.ids <= ids);
    Ok(Local { key: name, path, ids: sorted.ids, whole: sorted.hasher.finish() })
}

/// Hands out each id of a file; tells how many there were.
fn each_id(path: &Path, mut hand_out: impl FnMut(&str)) -> Result<u64, Failure> {
    let (mut count, mut fault) = (0_u64, None);
    let read = read_ids(path, &Limits::default(), |id| {
        count += 1;
        match check_id(id) {
            Err(what) if fault.is_none() => fault = Some(format!("{}: id {count}: {what}", path.display())),
            Err(_) => {}
            Ok(()) => hand_out(id),
        }
    });
    match (read, fault) {
        (_, Some(fault)) => Err(Failure::new(fault)),
        (Err(error), None) => Err(Failure::new(error.to_string())),
        (Ok(count), None) => Ok(count),
    }
}

/// Ids that come in order, the same one perhaps several times.
struct Sorted {
    last: String,
    ids: u64,
    hasher: PartHasher,
    is_in_order: bool,
}

impl Default for Sorted {
    fn default() -> Self {
        Self { last: String::new(), ids: 0, hasher: PartHasher::default(), is_in_order: true }
    }
}

impl Sorted {
    fn follow(&mut self, id: &str) {
        if id <= self.last.as_str() {
            // No id is empty, so the first comes after what is here before it.
            self.is_in_order &= id == self.last;
            return;
        }
        self.hasher.update(id.as_bytes());
        self.hasher.update(b"\n");
        self.ids += 1;
        self.last.clear();
        self.last.push_str(id);
    }
}

/// Ids in memory: their bytes, and 12 more for each.
#[derive(Default)]
struct Ids {
    text: String,
    /// Where each begins, and its length.
    places: Vec<(u64, u32)>,
}

impl Ids {
    fn push(&mut self, id: &str) {
        // Ids have at most 1024 bytes.
        self.places.push((self.text.len() as u64, u32::try_from(id.len()).unwrap_or_default()));
        self.text.push_str(id);
    }

    fn sort(&mut self) {
        let text = &self.text;
        self.places.sort_unstable_by(|one, other| at(text, *one).cmp(at(text, *other)));
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|place| at(&self.text, *place))
    }
}

fn at(text: &str, (start, length): (u64, u32)) -> &str {
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    text.get(start..start.saturating_add(length as usize)).unwrap_or_default()
}

/// The names of the lists that rules refer to.
pub(in crate::control) fn named_in(rules: &Value, names: &mut BTreeSet<String>) {
    match rules {
        Value::Object(members) => {
            let path = members.get("var").map(|path| path.get(0).unwrap_or(path));
            let name = path.and_then(|path| path.as_str()?.strip_prefix("$lists."));
            names.extend(name.map(str::to_owned));
            members.values().for_each(|member| named_in(member, names));
        }
        Value::Array(items) => items.iter().for_each(|item| named_in(item, names)),
        _ => {}
    }
}

/// Lists of these names for a compiler that is to check rules: what is in them does not count there.
pub(in crate::control) fn names_only(names: impl IntoIterator<Item = String>) -> Vec<PreparedList> {
    let named = |(content, label)| PreparedList { label, content, ids: 0, file: PathBuf::new() };
    (1..).zip(names).map(named).collect()
}

/// Whether a member of a definition's metadata says where lists lie.
pub(in crate::control) fn is_declaration(member: &str) -> bool {
    member == "lists" || member.starts_with("list.")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn local(text: &str) -> Result<Local, Failure> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("vip.txt");
        std::fs::write(&path, text).expect("a file");
        read_one(ListFile { name: "vip".to_owned(), path })
    }

    #[test]
    fn the_order_and_number_of_lines_do_not_count() {
        let one = local("a\nb\né\n").expect("ids");
        for text in ["a\na\nb\né\né\n", "é\n\n b\na\nb", "b\na\né\n"] {
            let other = local(text).expect("ids");
            assert_eq!((other.ids, other.content()), (3, one.content()), "{text:?}");
        }
        for text in ["a\nb\n", "a\nbé\n", "", "a\nb\nc\né\n"] {
            assert_ne!(local(text).expect("ids").content(), one.content(), "{text:?}");
        }
        assert_eq!(local("").expect("ids").content(), List::default().content());
    }

    #[test]
    fn what_is_no_id_is_refused_with_its_place() {
        let told = |text: &str| match local(text) {
            Err(Failure::Impossible { message, .. }) => message,
            other => panic!("{other:?}"),
        };
        assert!(told("a\nb\u{7}\n").ends_with("/vip.txt: id 2: an id has no control characters in it"));
        assert!(told(&format!("a\n{}\nb\u{7}", "x".repeat(1_025))).ends_with(": id 2: an id has at most 1024 bytes"));
    }

    #[test]
    fn lists_are_found_wherever_rules_name_them() {
        let mut names = BTreeSet::new();
        let rule = json!({"if": [{"in": [{"var": "id"}, {"var": "$lists.a"}]}, {"!": [{"var": ["$lists.b", 1]}]}]});
        named_in(&rule, &mut names);
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }
}
