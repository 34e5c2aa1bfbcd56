//! Which part of the library the instructions of a path belong to: `cargo xtask instructions --parts`.
//!
//! callgrind says how often each instruction was executed, and `addr2line` of which functions it is, inlined ones too. An instruction
//! belongs to the innermost of them that is one of the parts below, so that what the standard library does counts for who asked it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The parts, and how the paths of their source files are told. The first that fits counts.
const PARTS: [(&str, &[&str]); 7] = [
    ("loop", &["/benches/"]),
    ("XXH3", &["/xxhash-rust-"]),
    ("generation", &["core/src/store/", "core/src/atomic.rs"]),
    ("index", &["core/src/snapshot/index.rs"]),
    ("attributes", &["core/src/evaluate/context.rs", "ffi/src/context.rs", "ffi/src/view.rs", "ffi/src/value.rs"]),
    ("rule", &["core/src/evaluate/", "core/src/snapshot/"]),
    ("call", &["core/src/client.rs", "ffi/src/"]),
];
/// Functions of the C library, whose source nobody has here.
const LIBC: &str = "libc";
const OTHER: &str = "other";

/// How often the instructions of each object were executed, by their addresses in it.
type Executed = BTreeMap<String, BTreeMap<u64, f64>>;

/// The instructions of one call of a path, by part.
pub(super) type Parts = BTreeMap<&'static str, f64>;

/// What lies between two dumps of callgrind (`--dump-instr=yes`), of which the second counted `calls` calls more.
pub(super) fn between(some: &str, more: &str, calls: f64) -> Result<Parts> {
    let (some, more) = (executed(some), executed(more));
    let mut parts = Parts::new();
    for (object, addresses) in more {
        let addresses: BTreeMap<u64, f64> = addresses
            .into_iter()
            .map(|(address, count)| {
                (address, count - some.get(&object).and_then(|old| old.get(&address)).unwrap_or(&0.0))
            })
            .filter(|(_, count)| *count != 0.0)
            .collect();
        let of =
            if object.contains("/libc.so") { vec![LIBC; addresses.len()] } else { named(&object, addresses.keys())? };
        for (part, count) in of.into_iter().zip(addresses.values()) {
            *parts.entry(part).or_default() += count / calls;
        }
    }
    Ok(parts)
}

/// The lines of a table in Markdown.
pub(super) fn table(paths: &BTreeMap<String, Parts>) -> Vec<String> {
    let columns: Vec<&str> = PARTS.iter().map(|(part, _)| *part).chain([LIBC, OTHER]).collect();
    let row = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let head = ["a call of"].into_iter().chain(columns.iter().copied()).chain(["all"]).map(str::to_owned).collect();
    let paths = paths.iter().map(|(path, parts)| {
        let cell = |part: &&str| parts.get(part).map_or_else(String::new, |count| format!("{count:.0}"));
        let all: f64 = parts.values().sum();
        row([path.clone()].into_iter().chain(columns.iter().map(cell)).chain([format!("{all:.0}")]).collect())
    });
    [row(head), format!("|{}", "---|".repeat(columns.len() + 2))].into_iter().chain(paths).collect()
}

/// Reads a dump: `ob=` names the object, a line of costs begins with the address (whole, or as a distance from the last one), and what
/// follows on `calls=` was spent in somebody else.
fn executed(dump: &str) -> Executed {
    let (mut names, mut executed) = (BTreeMap::new(), Executed::new());
    let (mut object, mut address, mut is_call) = (String::new(), 0_u64, false);
    for line in dump.lines() {
        if let Some(name) = line.strip_prefix("ob=").or_else(|| line.strip_prefix("cob=")) {
            let (number, path) = name.split_once(' ').unwrap_or((name, ""));
            if !path.is_empty() {
                names.insert(number.to_owned(), path.to_owned());
            }
            if line.starts_with("ob=") {
                object = names.get(number).cloned().unwrap_or_default();
            }
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if let Some((at, rest)) = line.split_once(' ')
            && let Some(at) = moved(address, at)
        {
            address = at;
            let count = rest.split(' ').nth(1).and_then(|count| count.parse::<f64>().ok());
            if let Some(count) = count.filter(|_| !std::mem::take(&mut is_call)) {
                *executed.entry(object.clone()).or_default().entry(address).or_default() += count;
            }
        }
    }
    executed
}

/// `0x12`, `+3`, `-3`, or `*` for the same again.
fn moved(from: u64, position: &str) -> Option<u64> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    match position.as_bytes().first()? {
        b'*' => Some(from),
        b'+' => from.checked_add(number(&position[1..])?),
        b'-' => from.checked_sub(number(&position[1..])?),
        _ => position.starts_with("0x").then(|| number(position))?,
    }
}

/// The part of each of the addresses.
fn named<'a>(object: &str, addresses: impl Iterator<Item = &'a u64>) -> Result<Vec<&'static str>> {
    let asked: Vec<String> = addresses.map(|address| format!("{address:#x}\n")).collect();
    let mut command = Command::new("addr2line");
    command.args(["--inlines", "--addresses", "--exe", object]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot run addr2line")?;
    let mut stdin = child.stdin.take().context("its stdin is piped")?;
    let text = asked.concat();
    // Of its own, since addr2line answers while it is still asked.
    let asking = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    asking.join().ok().context("the thread panicked")??;
    let said = String::from_utf8_lossy(&output.stdout);
    let parts = parts_of(&said);
    ensure!(parts.len() == asked.len(), "addr2line answered {} of {} addresses of {object}", parts.len(), asked.len());
    Ok(parts)
}

/// addr2line says each address, then where it comes from: the innermost function first.
fn parts_of(said: &str) -> Vec<&'static str> {
    let mut parts = Vec::new();
    for line in said.lines() {
        if line.starts_with("0x") {
            parts.push(OTHER);
        } else if let Some(part @ &mut OTHER) = parts.last_mut()
            && let Some((name, _)) = PARTS.iter().find(|(_, files)| files.iter().any(|file| line.contains(file)))
        {
            *part = name;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_read_by_object_and_address() {
        let dump = "positions: instr line\nob=(1) /a\nfl=(1) x.rs\nfn=(1) f\n0x10 5 3\n+4 +1 3\ncob=(2) /lib/libc.so.6\n\
                    calls=2 0x99 0\n* 6 500\n-4 * 2\nob=(2)\n0x99 1 7\nob=(1)\n0x10 5 1\n";
        let executed = executed(dump);
        assert_eq!(executed["/a"], BTreeMap::from([(0x10, 6.0), (0x14, 3.0)]));
        assert_eq!(executed["/lib/libc.so.6"], BTreeMap::from([(0x99, 7.0)]));
    }

    #[test]
    fn an_instruction_belongs_to_the_innermost_part() {
        let said = "0x10\n/rustc/library/core/src/num/uint_macros.rs:1\n/registry/xxhash-rust-0.8/src/xxh3.rs:9\n\
                    /x/core/src/snapshot/index.rs:80\n0x14\n??:0\n0x18\n/x/core/src/client.rs:7 (discriminator 2)\n";
        assert_eq!(parts_of(said), ["XXH3", OTHER, "call"]);
    }

    #[test]
    fn a_table_has_a_row_for_each_path() {
        let paths = BTreeMap::from([("key".to_owned(), Parts::from([("XXH3", 53.2), (LIBC, 1.0)]))]);
        let table = table(&paths);
        assert_eq!(table.len(), 3);
        assert_eq!(table[2], "| key |  | 53 |  |  |  |  |  | 1 |  | 54 |");
    }
}
