//! flagsctl on definition files: what it prints, to the letter, and how it ends.

mod common;

use common::{BAD, FLAGS, directory, flagsctl};
use serde_json::json;

#[test]
fn eval_tells_which_branch_matched() {
    let files = directory(&[("flags.json", FLAGS)]);
    let context = r#"{"targetingKey": "ann", "tier": "premium", "country": "FR"}"#;
    flagsctl(files.path(), &["eval", "new-cart", "--file", "flags.json", "--context", context]).exits(0).prints(
        r#"new-cart = true
variant   on
reason    TARGETING_MATCH
because   targeting chose the variant
flag      boolean, enabled, default off (false)
metadata  flagSetId = "shop"
from      flags.json

matched: /if/3 because {"and": [{"==": [{"var": "tier"}, "premium"]}, {"in": [{"var": "country"}, ["CH", "FR"]]}]} holds
targeting  {"if": [{"ends_with": [{"var": "email"}, "@example.com"]}, "on", {"and": [{"==": [{"var": "tier"}, "premium"]}, {"in": …  → "on"
  condition  {"ends_with": [{"var": "email"}, "@example.com"]}  → null
    argument   {"var": "email"}  → null
  then       "on"  (not reached)
  condition  {"and": [{"==": [{"var": "tier"}, "premium"]}, {"in": [{"var": "country"}, ["CH", "FR"]]}]}  → true
    argument   {"==": [{"var": "tier"}, "premium"]}  → true
      argument   {"var": "tier"}  → "premium"
    argument   {"in": [{"var": "country"}, ["CH", "FR"]]}  → true
      argument   {"var": "country"}  → "FR"
  then       "on"
  else       {"fractional": [["on", 10], ["off", 90]]}  (not reached)
"#,
    );
}

#[test]
fn eval_tells_the_bucket() {
    let files = directory(&[("flags.json", FLAGS)]);
    let run = flagsctl(files.path(), &["eval", "new-cart", "--file", "flags.json", "-k", "ann"]).exits(0);
    // murmur3("new-cartann") was checked with another implementation.
    assert!(
        run.stdout.contains(
            "matched: /if/4, the else\n\
         matched: bucket \"off\", places 10 to 100 of 100: murmur3(\"new-cartann\") = 0x44143a02, place 26\n"
        ),
        "{}",
        run.stdout
    );
    let run = flagsctl(files.path(), &["eval", "new-cart", "--file", "flags.json"]).exits(0);
    assert!(run.stdout.contains("matched: no bucket: there is no targeting key\n"), "{}", run.stdout);
    assert!(run.stdout.contains("because   targeting chose no variant, so the default variant stands\n"));
}

#[test]
fn eval_for_machines() {
    let files = directory(&[("flags.json", FLAGS)]);
    let arguments = ["eval", "new-cart", "--file", "flags.json", "--attr", "email=a@example.com", "--json"];
    let json = flagsctl(files.path(), &arguments).exits(0).json();
    assert_eq!(json["value"], true);
    assert_eq!(json["variant"], "on");
    assert_eq!(json["reason"], "TARGETING_MATCH");
    assert_eq!(json["errorCode"], json!(null));
    assert_eq!(json["metadata"], json!({"flagSetId": "shop"}));
    assert_eq!(json["source"], json!({"file": "flags.json"}));
    assert_eq!(json["flag"]["type"], "boolean");
    let condition = &json["explanation"]["parts"][0];
    assert_eq!(condition["rule"], json!({"ends_with": [{"var": "email"}, "@example.com"]}));
    assert_eq!(
        (&condition["role"], &condition["pointer"], &condition["value"]),
        (&json!("condition"), &json!("/if/0"), &json!(true))
    );
    assert_eq!(condition["parts"][0]["value"], "a@example.com");
    assert_eq!(json["explanation"]["parts"][2]["skipped"], true);
    let bucket =
        flagsctl(files.path(), &["eval", "new-cart", "--file", "flags.json", "-k", "ann", "--json"]).exits(0).json();
    let bucketing = &bucket["explanation"]["parts"][4]["bucketing"];
    assert_eq!(bucketing["key"], "new-cartann");
    assert_eq!(bucketing["hash"], 0x4414_3a02);
    assert_eq!((&bucketing["total"], &bucketing["place"], &bucketing["chosen"]), (&json!(100), &json!(26), &json!(1)));
}

#[test]
fn eval_takes_its_context_from_everywhere() {
    let files =
        directory(&[("flags.json", FLAGS), ("context.json", r#"{"tier": "basic", "country": "CH", "n": {"a": 1}}"#)]);
    let base = ["eval", "new-cart", "--file", "flags.json", "--value", "--context-file", "context.json"];
    let with = |more: &[&str]| flagsctl(files.path(), &[&base, more].concat()).exits(0).stdout;
    assert_eq!(with(&[]), "false\n");
    assert_eq!(with(&["--context", r#"{"tier": "premium"}"#]), "true\n");
    assert_eq!(with(&["--context", r#"{"tier": "premium"}"#, "--attr", "tier=basic"]), "false\n");
    assert_eq!(with(&["--attr", "tier=premium", "--attr", "country=DE"]), "false\n");
}

#[test]
fn eval_of_other_flags() {
    let files = directory(&[("flags.json", FLAGS), ("bad.json", BAD)]);
    let eval = |arguments: &[&str]| flagsctl(files.path(), &[&["eval"], arguments].concat());
    eval(&["max-items", "--file", "flags.json", "--type", "integer"]).exits(0).prints(
        "max-items = 10\n\
         variant   few\n\
         reason    STATIC\n\
         because   it has no targeting: everybody gets the default variant\n\
         flag      number, enabled, default few (10)\n\
         metadata  flagSetId = \"shop\"\n\
         metadata  owner = \"cart\"\n\
         from      flags.json\n",
    );
    eval(&["theme", "--file", "flags.json"]).exits(0).prints(
        "theme has no value: the caller's default stands\n\
         reason    DISABLED\n\
         because   its state is DISABLED\n\
         flag      object, disabled, default plain ({\"dark\":false})\n\
         metadata  flagSetId = \"shop\"\n\
         from      flags.json\n",
    );
    eval(&["max-itms", "--file", "flags.json"]).exits(1).prints(
        "max-itms has no value: the caller's default stands\n\
         reason   ERROR, FLAG_NOT_FOUND\n\
         because  no flag has this key\n\
         from     flags.json\n\
         \n\
         did you mean max-items?\n",
    );
    let mismatch = eval(&["max-items", "--file", "flags.json", "--type", "string"]).exits(1);
    assert!(mismatch.stdout.contains("reason    ERROR, TYPE_MISMATCH\n"), "{}", mismatch.stdout);
    let broken = eval(&["typo", "--file", "bad.json"]).exits(1);
    assert!(broken.stdout.contains("reason   ERROR, PARSE_ERROR\n"), "{}", broken.stdout);
    assert!(broken.stdout.contains("bad.json:6:25: error: flag \"typo\" at /flags/typo/defaultVariant: "));
    eval(&["greeting", "--file", "flags.json", "--value"])
        .exits(3)
        .complains("flagsctl: flag \"greeting\" has no value here: DEFAULT\n  hint: without --value it is explained\n");
}

#[test]
fn eval_by_flag_set() {
    let text = r#"{"flags": {
        "k": {"state": "ENABLED", "variants": {"a": "in none"}, "defaultVariant": "a"},
        "l": {"state": "ENABLED", "variants": {"a": "in x"}, "defaultVariant": "a", "metadata": {"flagSetId": "x"}}
    }}"#;
    let files = directory(&[("flags.json", text)]);
    let eval = |key: &str, selector: &str| {
        flagsctl(files.path(), &["eval", key, "--file", "flags.json", "--value", "--selector", selector])
    };
    assert_eq!(eval("l", "flagSetId=x").exits(0).stdout, "in x\n");
    assert_eq!(eval("k", "flagSetId=").exits(0).stdout, "in none\n");
    assert!(eval("k", "flagSetId=x").exits(3).stderr.contains("FLAG_NOT_FOUND"));
    assert!(eval("k", "nonsense=x").exits(2).stderr.contains("unknown key \"nonsense\""));
}

#[test]
fn wrong_arguments_are_told_on_stderr() {
    let files = directory(&[("flags.json", FLAGS)]);
    let eval = |context: &str| flagsctl(files.path(), &["eval", "k", "--file", "flags.json", "--context", context]);
    assert!(eval("[1]").exits(2).stderr.contains("--context is no JSON object"));
    assert!(eval("{").exits(2).stderr.contains("--context is no JSON: EOF"));
    let missing = flagsctl(files.path(), &["eval", "k", "--file", "absent.json"]).exits(3);
    assert!(missing.stderr.starts_with("flagsctl: absent.json: No such file"), "{}", missing.stderr);
    assert!(flagsctl(files.path(), &["eval"]).exits(2).stderr.contains("Usage: flagsctl eval"));
    assert!(flagsctl(files.path(), &["nonsense"]).exits(2).stderr.contains("unrecognized subcommand"));
    assert!(
        flagsctl(files.path(), &["eval", "k", "--attr", "novalue"]).exits(2).stderr.contains("expected NAME=VALUE")
    );
}

#[test]
fn check_names_every_problem_and_its_place() {
    let files = directory(&[("flags.json", FLAGS), ("bad.json", BAD), ("notes.txt", "hello\n"), ("empty.json", "")]);
    flagsctl(files.path(), &["check", "flags.json"]).exits(0).prints("1 file, 4 flags: 0 errors, 0 warnings\n");
    flagsctl(files.path(), &["check", "flags.json", "bad.json", "notes.txt"]).exits(2).prints(
        r#"bad.json:4:16: error: flag "typo" at /flags/typo/state: expected "ENABLED" or "DISABLED" as `state`, found "ENABLE"
bad.json:6:25: error: flag "typo" at /flags/typo/defaultVariant: "onn" names no variant; expected "on" or "off"
bad.json:7:21: error: flag "typo" at /flags/typo/targeting/iff: unknown operator "iff"; expected one of JsonLogic's or flagd's
notes.txt:1:1: error: expected an object with `flags`, found `h`
3 files, 6 flags: 4 errors, 0 warnings
"#,
    );
    let json = flagsctl(files.path(), &["check", "bad.json", "--format", "json"]).exits(2).json();
    assert_eq!((&json["errors"], &json["flags"]), (&json!(3), &json!(2)));
    assert_eq!(
        json["problems"][0],
        json!({
            "severity": "error", "file": "bad.json", "line": 4, "column": 16, "flag": "typo",
            "pointer": "/flags/typo/state",
            "message": "expected \"ENABLED\" or \"DISABLED\" as `state`, found \"ENABLE\"",
        })
    );
    assert_eq!(flagsctl(files.path(), &["check", "bad.json", "--json"]).exits(2).json(), json);
    let github = flagsctl(files.path(), &["check", "bad.json", "--format", "github"]).exits(2);
    assert_eq!(
        github.stdout.lines().next(),
        Some(
            "::error file=bad.json,line=4,col=16,title=flag typo::/flags/typo/state: \
             expected \"ENABLED\" or \"DISABLED\" as `state`, found \"ENABLE\""
        )
    );
    assert!(flagsctl(files.path(), &["check", "empty.json"]).exits(2).stdout.starts_with("empty.json:1:1: error: "));
    assert!(flagsctl(files.path(), &["check", "absent.json"]).exits(2).stdout.contains("No such file"));
}

#[test]
fn check_of_directories_warnings_and_lists() {
    let warned = r#"{"flags": {"k": {"state": "ENABLED", "variants": {"a": 1}, "defaultVariant": "a", "stat": 1}}}"#;
    let listed = r#"{"metadata": {"list.beta": "beta.txt"}, "flags": {"k": {"state": "ENABLED", "variants": {"a": 1},
        "targeting": {"if": [{"in": [{"var": "id"}, {"var": "$lists.beta"}]}, "a"]}}}}"#;
    let files =
        directory(&[("warned.json", warned), (".hidden.json", "no"), ("listed.yml", listed), ("readme.md", "x")]);
    let missing = flagsctl(files.path(), &["check", "."]).exits(2);
    assert!(missing.stdout.contains("beta.txt"), "{}", missing.stdout);
    assert!(missing.stdout.ends_with("2 files, 2 flags: 2 errors, 1 warning\n"), "{}", missing.stdout);
    std::fs::write(files.path().join("beta.txt"), "ann\n").expect("a file");
    let warned = flagsctl(files.path(), &["check", "."]).exits(0);
    assert!(warned.stdout.contains(": warning: flag \"k\" at /flags/k/stat"), "{}", warned.stdout);
    flagsctl(files.path(), &["check", "--strict", "."]).exits(1);
    let nothing = directory(&[("readme.md", "x")]);
    assert!(
        flagsctl(nothing.path(), &["check", "."]).exits(3).stderr.contains("there is no .json, .yaml or .yml file")
    );
}

#[test]
fn list_shows_what_there_is() {
    let files = directory(&[("flags.json", FLAGS), ("bad.json", BAD)]);
    flagsctl(files.path(), &["list", "--file", "flags.json"]).exits(0).prints(
        "KEY        TYPE     STATE     DEFAULT                 TARGETING  FLAG SET\n\
         greeting   string   enabled   -                       -          shop\n\
         max-items  number   enabled   few (10)                -          shop\n\
         new-cart   boolean  enabled   off (false)             yes        shop\n\
         theme      object   disabled  plain ({\"dark\":false})  -          shop\n",
    );
    flagsctl(files.path(), &["list", "--file", "bad.json"]).exits(0).prints(
        "KEY   TYPE     STATE    DEFAULT  TARGETING\n\
         good  string   enabled  a (\"A\")  -\n\
         typo  unknown  broken   -        -\n",
    );
    flagsctl(files.path(), &["list", "--file", "flags.json", "--keys", "*e*t*"])
        .exits(0)
        .prints("greeting\nnew-cart\n");
    flagsctl(files.path(), &["list", "--file", "flags.json", "x*"]).exits(0).prints("no flags\n");
    let json =
        flagsctl(files.path(), &["list", "--file", "flags.json", "--state", "disabled", "--json"]).exits(0).json();
    assert_eq!(
        json,
        json!([{"key": "theme", "flagSetId": "shop", "type": "object", "state": "disabled", "defaultVariant": "plain",
            "defaultValue": {"dark": false}, "targeted": false}])
    );
}

#[test]
fn diff_tells_what_changed() {
    let newer = FLAGS.replace("\"few\",", "\"many\",").replace("premium", "gold").replace("\"greeting\"", "\"hail\"");
    let files = directory(&[("a.json", FLAGS), ("b.json", &newer)]);
    flagsctl(files.path(), &["diff", "a.json", "a.json"]).exits(0).prints("no difference\n");
    flagsctl(files.path(), &["diff", "a.json", "b.json"]).exits(1).prints(
        "- greeting (shop)  string, enabled, default -\n\
         + hail (shop)  string, enabled, default -\n\
         ~ max-items (shop)  default few (10) → many (50)\n\
         ~ new-cart (shop)  targeting …==\": [{\"var\": \"tier\"}, \"premium\"]}, {\"in\": [{\"var\": \"countr… → \
         …==\": [{\"var\": \"tier\"}, \"gold\"]}, {\"in\": [{\"var\": \"country\"}…\n\
         1 added, 1 removed, 2 changed\n",
    );
    flagsctl(files.path(), &["diff", "--quiet", "a.json", "b.json"]).exits(1).prints("");
    let json = flagsctl(files.path(), &["diff", "a.json", "b.json", "--json"]).exits(1).json();
    assert_eq!((&json["added"], &json["removed"], &json["changed"]), (&json!(1), &json!(1), &json!(2)));
    let changed = &json["changes"][2];
    assert_eq!(
        (&changed["key"], &changed["change"], &changed["aspects"]),
        (&json!("max-items"), &json!("changed"), &json!(["default"]))
    );
    assert_eq!((&changed["before"]["defaultValue"], &changed["after"]["defaultValue"]), (&json!(10), &json!(50)));
    assert_eq!(json["changes"][0]["after"], json!(null));
    flagsctl(files.path(), &["diff", "a.json", "absent.json"]).exits(3);
}

#[test]
fn text_in_flags_cannot_steer_the_terminal() {
    let text =
        r#"{"flags": {"a\u001b[31mb": {"state": "ENABLED", "variants": {"x\n": "y\u0007"}, "defaultVariant": "x\n"}}}"#;
    let files = directory(&[("flags.json", text)]);
    for arguments in [["list", "--file", "flags.json"].as_slice(), &["eval", "a\x1b[31mb", "--file", "flags.json"]] {
        let run = flagsctl(files.path(), arguments).exits(0);
        assert!(!run.stdout.chars().any(|letter| letter.is_control() && letter != '\n'), "{:?}", run.stdout);
        assert!(run.stdout.contains("a\\u{1b}[31mb"), "{}", run.stdout);
    }
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    // More than a pipe holds: a test that starts a program at this moment may have the other end open until that runs.
    let flag =
        |number| format!(r#""k{number}": {{"state": "ENABLED", "variants": {{"a": 1}}, "defaultVariant": "a"}}"#);
    let flags: Vec<String> = (0..4000).map(flag).collect();
    let files = directory(&[("flags.json", &format!(r#"{{"flags": {{{}}}}}"#, flags.join(",")))]);
    for more in [[].as_slice(), &["--json"]] {
        let arguments = [&["list", "--file", "flags.json"], more].concat();
        let mut child = common::command(files.path(), &arguments).spawn().expect("starts");
        drop(child.stdout.take());
        let run = common::finish(child);
        assert_eq!((run.code, run.stderr.as_str()), (141, ""), "{arguments:?}");
    }
}

#[test]
fn completions_and_help_know_every_command() {
    let files = directory(&[]);
    let help = flagsctl(files.path(), &["--help"]).exits(0).stdout;
    assert!(help.contains("Exit codes:"));
    for command in [
        "eval",
        "check",
        "status",
        "list",
        "inspect",
        "watch",
        "diff",
        "rollback",
        "freeze",
        "unfreeze",
        "override",
        "confirm",
        "reload",
        "completions",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
        let own = flagsctl(files.path(), &[command, "--help"]).exits(0).stdout;
        assert!(own.contains("Examples:\n  flagsctl "), "{command}: {own}");
        for shell in ["bash", "zsh", "fish"] {
            let script = flagsctl(files.path(), &["completions", shell]).exits(0).stdout;
            assert!(script.contains(command), "{shell} {command}");
        }
    }
}
