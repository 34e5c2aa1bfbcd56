//! docs/format.md lists the operations of rules as `snapshot::island` numbers them.

use std::collections::BTreeMap;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn is_name(word: &str) -> bool {
    word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// The lines `pub(crate) const NAME: u8 = NUMBER;` of the module `op`.
fn in_code() -> BTreeMap<u8, String> {
    let text = read("src/snapshot/island.rs");
    let (_, module) = text.split_once("mod op {").expect("the module op");
    let (module, _) = module.split_once("\n}").expect("its end");
    let constants = module.lines().filter_map(|line| line.trim().strip_prefix("pub(crate) const "));
    let numbered = constants.map(|line| line.trim_end_matches(';').split_once(": u8 = ").expect("a number"));
    numbered.map(|(name, number)| (number.parse().expect("a small number"), name.to_owned())).collect()
}

/// A number followed by a name in capitals, anywhere in the list.
fn in_document() -> BTreeMap<u8, String> {
    let text = read("../docs/format.md");
    let (_, list) = text.split_once("The operations with their operands").expect("the list");
    let list = list.split("```").nth(1).expect("a block");
    let words: Vec<&str> = list.split_whitespace().collect();
    let pairs = words.windows(2).filter(|pair| is_name(pair[1]));
    pairs.filter_map(|pair| Some((pair[0].parse().ok()?, pair[1].to_owned()))).collect()
}

#[test]
fn the_documented_operations_are_those_of_the_code() {
    let code = in_code();
    assert!(code.len() > 50 && code.get(&0).is_some_and(|name| name == "NULL"), "{code:?}");
    assert_eq!(in_document(), code);
}
