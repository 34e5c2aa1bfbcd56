//! Any bytes are safe to evaluate: a snapshot damaged in any way is refused or gives answers, and never panics, loops or
//! reads outside itself. (Segments carry a checksum; here it is left out on purpose.)

use libflags::{
    Context, List, Snapshot, Value, Want,
    compile::Compiler,
    definition::{Document, Format, Limits, Selector},
};

/// Flags that between them use every operation of the rule language.
fn definition() -> String {
    let many: Vec<String> = (0..100).map(|number| format!(r#""id-{number}", {number}"#)).collect();
    let few: Vec<String> = (0..20).map(|number| format!(r#""id-{number}""#)).collect();
    let rules = [
        r#"{"if": [{"and": [{"==": [{"var": "tier"}, "gold"]}, {"!": {"var": "a.b"}}]}, "one", {"<": [1, {"var": "age"}, 99]}, "two"]}"#.to_owned(),
        format!(r#"{{"if": [{{"in": [{{"var": "id"}}, [{}]]}}, "one", {{"in": [{{"var": "id"}}, [{}]]}}, "two"]}}"#, many.join(","), few.join(",")),
        r#"{"if": [{"in": [{"var": "id"}, ["x", "y"]]}, "one", {"in": ["a", {"var": "id"}]}, "two"]}"#.to_owned(),
        r#"{"fractional": [{"cat": [{"var": "$flagd.flagKey"}, {"var": "id"}]}, ["one", 30], ["two", 70]]}"#.to_owned(),
        r#"{"fractional": [{"var": "id"}, [{"var": "x"}, {"+": [1, {"var": "age"}]}], ["two"]]}"#.to_owned(),
        r#"{"if": [{"sem_ver": [{"var": "id"}, "^", "1.2.3"]}, "one", {"starts_with": [{"var": "id"}, "i"]}, "two"]}"#.to_owned(),
        r#"{"reduce": [{"map": [{"filter": [{"var": "list"}, {">": [{"var": ""}, 1]}]}, {"*": [{"var": ""}, 2]}]}, {"max": [{"var": "current"}, {"var": "accumulator"}]}, 0]}"#.to_owned(),
        r#"{"if": [{"some": [{"merge": [{"var": "list"}, [1, {"var": "age"}]]}, {"===": [{"var": ""}, 3]}]}, "one", {"all": [{"var": "list"}, {"%": [{"var": ""}, 2]}]}, "two"]}"#.to_owned(),
        r#"{"cat": [{"substr": [{"var": ["id", "one"]}, 0, 3]}, {"var": {"cat": ["a", ".b"]}}]}"#.to_owned(),
        r#"{"if": [{"missing": ["id", "b"]}, "one", {"missing_some": [1, ["a", "age"]]}, "two", {"none": [[1, [2], {"a": 1, "b": {}}], {"==": [{"var": "a"}, {"var": "b"}]}]}, "one"]}"#.to_owned(),
        r#"{"if": [{"or": [{">=": [{"/": [{"-": [{"var": "age"}]}, {"min": [1, {"var": "age"}]}]}, {"var": "$flagd.timestamp"}]}, {"!=": [{"var": "targetingKey"}, null]}]}, "one"]}"#.to_owned(),
    ];
    let flags: Vec<String> = rules.iter().enumerate().map(|(number, rule)| {
        format!(r#""flag-{number}": {{"state": "ENABLED", "variants": {{"one": {{"a": [1]}}, "two": {{}}}}, "defaultVariant": "one",
                    "targeting": {rule}, "metadata": {{"text": "t", "number": 1.5, "bool": true}}}}"#)
    }).collect();
    format!(
        r#"{{"metadata": {{"flagSetId": "set", "owner": "o"}}, "flags": {{{},
            "static": {{"state": "ENABLED", "variants": {{"on": true}}, "defaultVariant": "on"}},
            "text": {{"state": "ENABLED", "variants": {{"a": "x"}}, "defaultVariant": "a"}}}}}}"#,
        flags.join(",")
    )
}

fn snapshot_bytes() -> Vec<u8> {
    let limits = Limits::default();
    let document = Document::parse("definition", definition(), Format::Json, &limits).expect("a definition");
    let compilation = Compiler::new(limits).compile(&[document], &Selector::All).expect("a snapshot");
    assert_eq!(compilation.broken, [], "{:?}", compilation.problems);
    compilation.snapshot.to_vec()
}

/// Reads everything there is to read.
fn read_all(bytes: &[u8]) -> Option<usize> {
    let snapshot = Snapshot::from_bytes(bytes).ok()?;
    let list = [Value::from(1), Value::from(2.5), Value::from("3"), Value::Null];
    let context =
        Context::new("user-1").with("tier", "gold").with("age", 30).with("id", "id-7").with("list", List::new(&list));
    let mut answered = 0;
    for number in 0..12 {
        let evaluation = snapshot.evaluate(format!("flag-{number}").as_bytes(), Want::Any, &context);
        answered += evaluation.metadata.iter().count() + usize::from(evaluation.value.is_some());
    }
    for key in ["static", "text", "set\0flag-1"] {
        answered += usize::from(snapshot.evaluate(key.as_bytes(), Want::Any, &context).value.is_some());
    }
    for flag in snapshot.flags() {
        answered += flag.variants().count() + flag.metadata.iter().count() + flag.key.len();
        answered += usize::from(flag.targeted()) + flag.default_variant().map_or(0, str::len);
    }
    answered += snapshot.lists().count() + snapshot.sizes().payload;
    Some(answered)
}

/// A generator good enough to damage bytes with: xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32).expect("32 bits fit") % bound
    }
}

#[test]
fn undamaged_bytes_are_read() {
    assert!(read_all(&snapshot_bytes()).expect("a snapshot") > 100);
}

#[test]
fn bytes_cut_short_are_refused_or_read() {
    let bytes = snapshot_bytes();
    for len in (0..bytes.len()).step_by(7) {
        read_all(&bytes[..len]);
    }
    assert_eq!(read_all(&[]), None);
}

#[test]
fn damaged_bytes_are_refused_or_read() {
    let bytes = snapshot_bytes();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut read = 0;
    for _ in 0..2000 {
        let mut damaged = bytes.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(damaged.len());
            damaged[at] = match random.below(4) {
                0 => 0,
                1 => 0xff,
                2 => damaged[at].wrapping_add(1),
                _ => u8::try_from(random.below(256)).expect("a byte"),
            };
        }
        read += usize::from(read_all(&damaged).is_some());
    }
    assert!(read > 500, "most damage lies in the tables' contents and is found only when it is read: {read}");
}

#[test]
fn every_byte_of_an_island_may_be_anything() {
    let bytes = snapshot_bytes();
    // The arena comes first; the first 2 KiB hold the set's metadata and several islands.
    for at in 0..2048.min(bytes.len()) {
        for value in [0xff, bytes[at] ^ 1] {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            read_all(&damaged);
        }
    }
    assert!(read_all(&bytes).is_some());
}

#[test]
fn the_arena_comes_first() {
    let limits = Limits::default();
    let document = Document::parse("definition", definition(), Format::Json, &limits).expect("a definition");
    let compilation = Compiler::new(limits).compile(&[document], &Selector::All).expect("a snapshot");
    let snapshot = Snapshot::from_bytes(&compilation.snapshot).expect("a snapshot");
    let first = snapshot.flags().next().expect("a flag");
    let arena = compilation.snapshot.windows(first.key.len()).position(|window| window == first.key.as_bytes());
    assert!(arena.expect("the key of the first flag lies in the arena") < 1024);
}
