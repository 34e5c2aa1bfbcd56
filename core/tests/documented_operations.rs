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

/// The lines `pub(crate) const NAME: TYPE = NUMBER;` of a module.
fn in_code(module: &str, of_type: &str) -> BTreeMap<u8, String> {
    let text = read("src/snapshot/island.rs");
    let (_, module) = text.split_once(&format!("mod {module} {{")).expect("the module");
    let (module, _) = module.split_once("\n}").expect("its end");
    let constants = module.lines().filter_map(|line| line.trim().strip_prefix("pub(crate) const "));
    let between = format!(": {of_type} = ");
    let numbered = constants.filter_map(|line| line.trim_end_matches(';').split_once(&between));
    // Kinds of targets are shifted, and the first of them by nothing.
    let small = numbered.filter(|(name, _)| !name.starts_with("TO_"));
    small.filter_map(|(name, number)| Some((number.parse().ok()?, name.to_owned()))).collect()
}

/// The block behind `title`.
fn block(title: &str) -> String {
    let text = read("../docs/format.md");
    let (_, list) = text.split_once(title).expect("the list");
    list.split("```").nth(1).expect("a block").to_owned()
}

/// A number followed by a name in capitals, anywhere in a list.
fn numbered(list: &str) -> BTreeMap<u8, String> {
    let words: Vec<&str> = list.split_whitespace().collect();
    let pairs = words.windows(2).filter(|pair| is_name(pair[1]));
    pairs.filter_map(|pair| Some((pair[0].parse().ok()?, pair[1].to_owned()))).collect()
}

#[test]
fn the_documented_operations_are_those_of_the_code() {
    let code = in_code("op", "u8");
    assert!(code.len() > 50 && code.get(&0).is_some_and(|name| name == "NULL"), "{code:?}");
    assert_eq!(numbered(&block("The operations with their operands")), code);
}

#[test]
fn the_documented_steps_are_those_of_the_code() {
    let block = block("What is asked, with its operands");
    let (before, rest) = block.split_once("one of\n").expect("the comparisons");
    let (comparisons, after) = rest.split_once('\n').expect("one line of them");
    let steps = in_code("step", "u8");
    assert!(steps.len() == 12 && steps.get(&1).is_some_and(|name| name == "IS"), "{steps:?}");
    assert_eq!(numbered(&format!("{before}\n{after}")), steps);
    let code = in_code("step", "u32");
    assert!(code.len() == 8, "{code:?}");
    assert_eq!(numbered(comparisons), code);
}
