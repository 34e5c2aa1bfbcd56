//! The API's description: it is what is committed, and what people read agrees with it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::program;

const HTTP_API: &str = include_str!("../../../docs/http-api.md");

fn document() -> String {
    let output = program("sqlite:nowhere").arg("openapi").output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_committed_description_is_current() {
    let is_current = document() == include_str!("../../../docs/openapi.json");
    assert!(is_current, "docs/openapi.json is stale: flags-control openapi > docs/openapi.json");
}

/// A path with its parameters' names left out: `{project}` and `P` are both `*`.
fn shape(path: &str) -> String {
    let segment = |segment: &str| {
        let is_name = segment.starts_with('{') || (segment.len() == 1 && segment.chars().all(char::is_uppercase));
        if is_name { "*".to_owned() } else { segment.to_owned() }
    };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

#[test]
fn what_people_read_names_each_path_and_no_other() {
    let document: Value = serde_json::from_str(&document()).unwrap();
    let paths: BTreeSet<String> = document["paths"].as_object().unwrap().keys().map(|path| shape(path)).collect();
    let mut told = BTreeSet::new();
    for line in HTTP_API.lines().filter(|line| line.starts_with("| `/")) {
        let mut last = String::new();
        for named in line.split('|').nth(1).unwrap().split('`').skip(1).step_by(2) {
            let named = shape(named);
            // `…/x` is below the path before it, or beside it.
            let full = match named.strip_prefix('…') {
                None => format!("/api/v1{named}"),
                Some(end) => {
                    let beside = last.rsplit_once('/').unwrap().0.to_owned();
                    let both = [format!("{last}{end}"), format!("{beside}{end}")];
                    both.into_iter().find(|path| paths.contains(path)).unwrap_or_else(|| panic!("{named} in {line}"))
                }
            };
            assert!(paths.contains(&full), "there is no {full}: {line}");
            told.insert(full.clone());
            if !named.starts_with('…') || !last.is_empty() && full.len() > last.len() {
                last = full;
            }
        }
    }
    let untold: Vec<_> = paths.iter().filter(|path| path.starts_with("/api/") && !told.contains(*path)).collect();
    assert!(untold.is_empty(), "docs/http-api.md does not tell of {untold:?}");
}
