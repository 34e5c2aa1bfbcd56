//! Whatever sequence of changes a compiler goes through, by patches or by whole documents, what it makes means the same as what is
//! put together from all of them at once.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use libflags::{
    Context, Snapshot, Want,
    compile::{Compilation, Compiler, Patch},
    definition::{Document, Format, Limits, Selector},
    snapshot::{diff, list_file},
    store::{MemoryFiles, Payload, Region},
};

const SETS: [&str; 3] = ["", "a", "b"];

/// A document as it stands.
#[derive(Clone, Debug, Default)]
struct Text {
    metadata: String,
    evaluators: String,
    /// In the order written.
    flags: Vec<(String, String)>,
}

/// Two compilers that are told of the same changes: one patches, one puts everything together each time.
struct Pair {
    folder: PathBuf,
    patching: Compiler,
    whole: Compiler,
    lists: BTreeMap<u64, Vec<u8>>,
    selector: Selector,
    texts: [Text; 2],
    patched: usize,
}

impl Pair {
    fn new(folder: &Path) -> Self {
        let compiler = || Compiler::new(Limits::default());
        Self {
            folder: folder.to_owned(),
            patching: compiler(),
            whole: compiler(),
            lists: BTreeMap::new(),
            selector: Selector::All,
            texts: <[Text; 2]>::default(),
            patched: 0,
        }
    }

    fn documents(&self) -> [Document; 2] {
        [0, 1].map(|number| self.parse(number, &self.texts[number]))
    }

    fn parse(&self, number: usize, text: &Text) -> Document {
        let mut json =
            format!(r#"{{"metadata": {{{}}}, "$evaluators": {{{}}}, "flags": {{"#, text.metadata, text.evaluators);
        for (at, (key, flag)) in text.flags.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(json, "{comma}\"{key}\": {flag}").expect("a string");
        }
        json.push_str("}}");
        let name = self.folder.join(format!("{number}.json")).display().to_string();
        Document::parse(&name, json, Format::Json, &Limits::default()).expect("a definition")
    }

    /// Compares after a change; `patches` are flags of a document and keys that it has no more.
    fn check(&mut self, patches: Option<&[(usize, Text, Vec<String>)]>, seed: &str) {
        let documents = self.documents();
        let patched = match patches {
            Some(patches) => {
                let documents: Vec<Document> = patches.iter().map(|(at, flags, _)| self.parse(*at, flags)).collect();
                let of = |(flags, (_, _, removed)): (_, &'_ (usize, Text, Vec<String>))| (flags, removed.clone());
                let owned: Vec<(&Document, Vec<String>)> = documents.iter().zip(patches).map(of).collect();
                let patches: Vec<Patch<'_>> = owned.iter().map(|(flags, removed)| Patch { flags, removed }).collect();
                self.patching.apply(&patches).expect("patched")
            }
            None => self.patching.compile(&documents, &self.selector).expect("compiled"),
        };
        self.patched += usize::from(patched.changed.is_some());
        // Having forgotten its lists, it has nothing to patch.
        self.whole.forget_lists();
        let whole = self.whole.compile(&documents, &self.selector).expect("compiled");
        assert_eq!(whole.changed, None, "{seed}");
        self.lists.extend(
            patched
                .lists
                .iter()
                .chain(&whole.lists)
                .filter_map(|list| Some((list.name, list.built.as_ref()?.to_bytes()))),
        );
        assert_eq!(patched.flags, whole.flags, "{seed}");
        let (mut ours, mut theirs) = (patched.broken.clone(), whole.broken.clone());
        ours.sort_by_key(|flag| (flag.document.clone(), flag.key.clone()));
        theirs.sort_by_key(|flag| (flag.document.clone(), flag.key.clone()));
        assert_eq!(ours, theirs, "{seed}");
        self.same(&patched, &whole, seed);
        if whole.broken.is_empty() {
            let fresh = Compiler::new(Limits::default()).compile(&documents, &self.selector).expect("compiled");
            self.same(&patched, &fresh, seed);
        }
    }

    fn open(&self, compilation: &Compilation) -> Snapshot {
        let mut files = MemoryFiles::default();
        for list in &compilation.lists {
            let bytes = self.lists.get(&list.name).expect("handed out once");
            files.0.insert(list_file(list.name), Region::copy_of(bytes));
        }
        Snapshot::open(Region::copy_of(&compilation.snapshot), &files, None).expect("a snapshot")
    }

    fn same(&self, patched: &Compilation, whole: &Compilation, seed: &str) {
        let (ours, theirs) = (self.open(patched), self.open(whole));
        let changes: Vec<&str> = diff(&theirs, &ours).iter().map(|change| change.key).collect();
        assert!(changes.is_empty(), "{seed}: {changes:?}");
        assert!(ours.keys().eq(theirs.keys()), "{seed}");
        assert_eq!(ours.lists().collect::<Vec<_>>(), theirs.lists().collect::<Vec<_>>(), "{seed}");
        let contexts =
            [Context::anonymous(), Context::new("u7").with("tier", "premium"), Context::new("id-1").with("n", 70)];
        for key in (0..KEYS).map(key) {
            let names = SETS.iter().map(|set| format!("{set}\0{key}")).chain([key.clone()]);
            for name in names {
                for context in &contexts {
                    let answer = |snapshot: &Snapshot| {
                        format!(
                            "{:?}",
                            snapshot
                                .evaluate(name.as_bytes(), Want::Any, context)
                                .into_details(|value| format!("{value:?}"))
                        )
                    };
                    assert_eq!(answer(&ours), answer(&theirs), "{seed}: {name:?}");
                }
            }
        }
    }
}

const KEYS: usize = 40;

fn key(number: usize) -> String {
    // Of different lengths, so that islands are.
    format!("flag-{number}{}", "x".repeat(number % 7 * 5))
}

/// A flag's text; some are broken, some odd.
fn flag(random: &mut Random) -> String {
    let variants = r#""variants": {"on": true, "off": false}, "defaultVariant": "off""#;
    let many: Vec<String> = (0..80).map(|id| format!("\"u{id}\"")).collect();
    let targeting = match random.below(10) {
        0 => r#", "targeting": {"if": [{"$ref": "premium"}, "on", "off"]}"#.to_owned(),
        1 => r#", "targeting": {"if": [{"==": [{"var": "tier"}, "premium"]}, "on", "off"]}"#.to_owned(),
        2 => format!(r#", "targeting": {{"if": [{{"in": [{{"var": "targetingKey"}}, [{}]]}}, "on"]}}"#, many.join(",")),
        3 => r#", "targeting": {"if": [{"in": [{"var": "targetingKey"}, {"var": "$lists.beta"}]}, "on"]}"#.to_owned(),
        4 => r#", "targeting": {"fractional": [["on", 50], ["off", 50]]}"#.to_owned(),
        _ => String::new(),
    };
    let metadata = match random.below(8) {
        0 => r#", "metadata": {"flagSetId": "a"}"#.to_owned(),
        1 => r#", "metadata": {"flagSetId": "b", "owner": "someone"}"#.to_owned(),
        2 => format!(r#", "metadata": {{"note": "{}"}}"#, "long ".repeat(random.below(9))),
        _ => String::new(),
    };
    let odd = if random.below(12) == 0 { r#", "oddity": 1"# } else { "" };
    match random.below(14) {
        0 => r#"{"state": "ENABLED", "variants": {}}"#.to_owned(),
        1 => format!(r#"{{"state": "DISABLED", {variants}{metadata}}}"#),
        2 => format!(
            r#"{{"state": "ENABLED", "variants": {{"one": "text", "two": "texts"}}, "defaultVariant": "two"{metadata}}}"#
        ),
        _ => format!(r#"{{"state": "ENABLED", {variants}{targeting}{metadata}{odd}}}"#),
    }
}

#[test]
fn patched_is_put_together() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("ids.txt"), "id-1\nid-2\n").expect("written");
    let (mut patched, mut steps) = (0, 0);
    for seed in 1..=12 {
        let mut random = Random(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let mut pair = Pair::new(folder.path());
        pair.check(None, "empty");
        // With flag sets and without, with few flags and with many.
        let (metadata, in_sets) = (random.below(2) == 0, random.below(3) == 0);
        for step in 0..90 {
            let told = format!("seed {seed}, step {step}");
            let at = random.below(2);
            match random.below(20) {
                0 if metadata => {
                    let set = SETS[random.below(if in_sets { 3 } else { 1 })];
                    pair.texts[at].metadata =
                        format!(r#""flagSetId": "{set}", "list.beta": "ids.txt", "v": {}"#, random.below(3));
                    pair.check(None, &told);
                }
                1 => {
                    let tier = ["premium", "gold", "other"][random.below(3)];
                    pair.texts[at].evaluators = format!(r#""premium": {{"==": [{{"var": "tier"}}, "{tier}"]}}"#);
                    pair.check(None, &told);
                }
                2 if random.below(3) == 0 => {
                    pair.selector =
                        [Selector::All, Selector::FlagSet("a".into()), Selector::NoFlagSet][random.below(3)].clone();
                    pair.check(None, &told);
                }
                _ => {
                    let mut patch = (at, Text::default(), Vec::new());
                    for _ in 0..=random.below(2) {
                        let (key, flags) = (key(random.below(KEYS)), &mut pair.texts[at].flags);
                        let there = flags.iter().position(|(other, _)| *other == key);
                        if random.below(3) == 0 {
                            there.map(|there| flags.remove(there));
                            patch.1.flags.retain(|(other, _)| *other != key);
                            patch.2.push(key);
                            continue;
                        }
                        let mut text = flag(&mut random);
                        if !in_sets {
                            text = text.replace("flagSetId", "another");
                        }
                        match there {
                            Some(there) => flags[there].1.clone_from(&text),
                            None => flags.insert(random.below(flags.len() + 1), (key.clone(), text.clone())),
                        }
                        patch.1.flags.retain(|(other, _)| *other != key);
                        patch.2.retain(|other| *other != key);
                        patch.1.flags.push((key, text));
                    }
                    let whole = random.below(4) == 0;
                    pair.check((!whole).then_some(&[patch]), &told);
                }
            }
            steps += 1;
        }
        patched += pair.patched;
    }
    assert!(patched * 3 > steps, "only {patched} of {steps} steps were patches");
}

#[test]
fn one_flag_of_many_leaves_the_bytes_of_the_others_alone() {
    let text = |turned: Option<usize>| {
        let flags: Vec<String> = (0..5000)
            .map(|number| {
                let default = if turned == Some(number) { "on" } else { "off" };
                format!(r#""flag-{number:05}": {{"state": "ENABLED", "variants": {{"on": true, "off": false}}, "defaultVariant": "{default}"}}"#)
            })
            .collect();
        format!(r#"{{"flags": {{{}}}}}"#, flags.join(","))
    };
    let parse = |text: String| Document::parse("f.json", text, Format::Json, &Limits::default()).expect("a definition");
    let mut compiler = Compiler::new(Limits::default());
    let first = compiler.compile(&[parse(text(None))], &Selector::All).expect("compiled").snapshot.to_vec();
    let change = parse(format!(
        r#"{{"flags": {{"flag-01234": {}}}}}"#,
        r#"{"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"}"#
    ));
    let second = compiler.apply(&[Patch { flags: &change, removed: &[] }]).expect("patched");
    assert_eq!(second.changed.as_deref(), Some(["flag-01234".to_owned()].as_slice()));
    let differing = first.iter().zip(second.snapshot.iter()).filter(|(a, b)| a != b).count();
    assert!(first.len() == second.snapshot.len() && (1..=8).contains(&differing), "{differing} bytes");
    // The same size in the same place: the very bytes that are made at once.
    let fresh = Compiler::new(Limits::default()).compile(&[parse(text(Some(1234)))], &Selector::All).expect("compiled");
    assert!(fresh.snapshot.as_slice() == second.snapshot.as_slice());
    let same = compiler.compile(&[parse(text(Some(1234)))], &Selector::All).expect("compiled");
    assert_eq!(same.changed.as_deref(), Some([].as_slice()));
}

#[test]
fn what_was_never_compiled_cannot_be_patched() {
    let document = Document::parse("f", r#"{"flags": {}}"#, Format::Json, &Limits::default()).expect("a definition");
    let patch = Patch { flags: &document, removed: &[] };
    let error = Compiler::new(Limits::default()).apply(&[patch]).expect_err("refused");
    assert!(error.to_string().contains("was not compiled"), "{error}");
}

/// Numbers that look random and are the same in every run (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = u128::from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)) * end as u128;
        usize::try_from(high >> 64).expect("below `end`")
    }
}
