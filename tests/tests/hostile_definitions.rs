//! Definitions and contexts that nobody writes in good faith: each gets an answer or a clear error, on a thread with a small
//! stack and in bounded work.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use libflags::definition::Format;
use libflags::evaluate::{Attributes, ErrorCode, FlagValue, List, ListSource, Object, ObjectSource, Reason, Want};
use libflags::{Client, Context, Value};
use libflags_tests::compiled::Asked;
use libflags_tests::engine::Subject;
use serde_json::{Map, Value as Json, json};

/// As little stack as musl gives a thread.
const SMALL_STACK_BYTES: usize = 128 * 1024;

/// What Rust gives a thread.
const USUAL_STACK_BYTES: usize = 2 * 1024 * 1024;

fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    on_a_stack_of(SMALL_STACK_BYTES, test);
}

/// For definitions: those are compiled where there is more stack than where they are evaluated.
fn on_a_usual_stack(test: impl FnOnce() + Send + 'static) {
    on_a_stack_of(USUAL_STACK_BYTES, test);
}

/// Runs `test` on a thread of its own. A hang ends the whole process with a word about it.
fn on_a_stack_of(bytes: usize, test: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let thread = thread::Builder::new().stack_size(bytes).spawn(move || {
        test();
        // Nobody listens any more only where the watchdog has given up.
        let _ = done.send(());
    });
    let thread = thread.expect("a thread can be started");
    if let Err(mpsc::RecvTimeoutError::Timeout) = finished.recv_timeout(Duration::from_secs(300)) {
        eprintln!("no answer after five minutes");
        std::process::abort();
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A client whose flag `f` has the variants `true`, `false` and `yes` (all text), the default `no`, and this targeting.
fn client(targeting: &Json) -> Client {
    let variants = json!({"true": "true", "false": "false", "yes": "yes", "no": "no"});
    let flag = json!({"state": "ENABLED", "variants": variants, "defaultVariant": "no", "targeting": targeting});
    Client::from_definition(&json!({"flags": {"f": flag, "sound": sound()}}).to_string(), Format::Json)
        .expect("a document")
}

fn sound() -> Json {
    json!({"state": "ENABLED", "variants": {"on": true}, "defaultVariant": "on"})
}

/// Reads `f`: its variant, or the error.
fn read<A: Attributes>(client: &Client, context: &A) -> Result<String, ErrorCode> {
    let snapshot = client.snapshot();
    let evaluation = snapshot.evaluate(b"f", Want::Text, context);
    match (evaluation.variant, evaluation.error) {
        (Some(variant), None) => Ok(variant.to_owned()),
        (None, Some(error)) => Err(error),
        (variant, error) => panic!("{variant:?} and {error:?}"),
    }
}

fn evaluate(targeting: &Json, attributes: Json) -> Result<String, ErrorCode> {
    read(&client(targeting), &Asked(&Subject::with_attributes(&attributes)))
}

#[test]
fn ten_thousand_attributes() {
    on_a_small_stack(|| {
        let names: Vec<String> = (0..10_000).map(|n| format!("attribute-{n}")).collect();
        let attributes: Vec<(&str, Value<'_>)> =
            names.iter().zip(0_u32..).map(|(name, n)| (name.as_str(), n.into())).collect();
        let rule = json!({"and": [{"==": [{"var": "attribute-9999"}, 9999]}, {"!": [{"var": "attribute-10000"}]}]});
        let client = client(&rule);
        assert_eq!(read(&client, &Context::from_slice(None, &attributes)).as_deref(), Ok("true"));
        assert_eq!(read(&client, &Object::new(&attributes)).as_deref(), Ok("true"));
        let added = attributes.iter().fold(Context::anonymous(), |context, (name, value)| context.with(name, *value));
        assert_eq!(read(&client, &added).as_deref(), Ok("true"));
        let json: Map<String, Json> = names.iter().zip(0_u32..).map(|(name, n)| (name.clone(), json!(n))).collect();
        assert_eq!(evaluate(&rule, Json::Object(json)).as_deref(), Ok("true"));
    });
}

#[test]
fn texts_of_a_mebibyte() {
    on_a_small_stack(|| {
        let text = "é".repeat(512 * 1024);
        let context = json!({"long": text, "same": text, "longer": format!("{text}!")});
        let long = json!({"var": "long"});
        let cases = [
            (json!({"==": [long, {"var": "same"}]}), Ok("true")),
            (json!({"<": [long, {"var": "longer"}]}), Ok("true")),
            (json!({"in": [long, {"var": "longer"}]}), Ok("true")),
            (json!({"in": [{"var": "longer"}, long]}), Ok("false")),
            (json!({"in": [long, ["a", {"var": "same"}]]}), Ok("true")),
            (json!({"starts_with": [{"var": "longer"}, long]}), Ok("true")),
            (json!({"ends_with": [{"var": "longer"}, "é!"]}), Ok("true")),
            (json!({"===": [{"substr": [{"var": "longer"}, -2]}, "é!"]}), Ok("true")),
            (json!({"===": [{"substr": [{"var": "longer"}, 524_287, 2]}, "é!"]}), Ok("true")),
            (json!({"sem_ver": [long, "=", "1.0.0"]}), Ok("no")),
            (json!({"==": [long, 1]}), Ok("false")),
            (json!({"var": {"var": "long"}}), Ok("no")),
            // A key is hashed where it lies, and so is one put together.
            (json!({"fractional": [long, ["yes", 1]]}), Ok("yes")),
            (json!({"fractional": [{"cat": [long, {"var": "same"}]}, ["yes", 1]]}), Ok("yes")),
            // No variant is called that.
            (long.clone(), Err(ErrorCode::General)),
            // Two mebibytes are more than an evaluation may build.
            (json!({"==": [{"cat": [long, long]}, ""]}), Err(ErrorCode::General)),
        ];
        for (rule, expected) in cases {
            assert_eq!(evaluate(&rule, context.clone()).as_deref().map_err(|error| *error), expected, "{rule}");
        }
        let client = client(&json!({"fractional": [["yes", 1], ["no", 0]]}));
        assert_eq!(read(&client, &Context::new(&text)).as_deref(), Ok("yes"));
    });
}

/// A text of a mebibyte where a definition has room for it.
#[test]
fn a_mebibyte_in_the_definition() {
    on_a_small_stack(|| {
        let text = "x".repeat(1 << 20);
        let rule = json!({"if": [{"==": [{"var": "a"}, text]}, "yes", {"cat": [text, text]}]});
        assert_eq!(evaluate(&rule, json!({"a": text})).as_deref(), Ok("yes"));
        assert_eq!(evaluate(&rule, json!({"a": "x"})), Err(ErrorCode::General));
    });
}

/// Lists in lists, each built over the one before, so that nothing recurses but the evaluator.
fn nested<R>(levels: usize, read: impl FnOnce(Value<'_>) -> R) -> R {
    struct Level(Vec<Level>);
    impl ListSource for Level {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn element(&self, index: usize) -> Option<Value<'_>> {
            self.0.get(index).map(|level| Value::List(List::foreign(level)))
        }
    }
    let mut outermost = Level(Vec::new());
    for _ in 1..levels {
        outermost = Level(vec![outermost]);
    }
    let result = read(Value::List(List::foreign(&outermost)));
    while let Some(inner) = outermost.0.pop() {
        outermost = inner; // so that dropping does not recurse either
    }
    result
}

#[test]
fn lists_nested_a_thousand_and_a_million_deep() {
    on_a_small_stack(|| {
        let path = format!("deep{}", ".0".repeat(999));
        let cases = [
            (json!({"!!": {"var": "deep"}}), Ok("true")),
            (json!({"in": [{"var": "deep"}, [1, {"var": "deep"}]]}), Ok("false")),
            (json!({"==": [{"var": "deep"}, {"var": "deep"}]}), Ok("false")),
            (json!({"some": [{"merge": [{"var": "deep"}, 1]}, {"==": [{"var": ""}, 1]}]}), Ok("true")),
            (json!({"!": {"missing": ["deep"]}}), Ok("true")),
            (json!({"<": [{"var": "deep"}, 1]}), Ok("false")),
            (json!({"var": "deep"}), Err(ErrorCode::General)),
        ];
        for levels in [1000, 1_000_000] {
            for (rule, expected) in &cases {
                let found = nested(levels, |deep| read(&client(rule), &Context::anonymous().with("deep", deep)));
                assert_eq!(found.as_deref().map_err(|error| *error), *expected, "{rule}");
            }
            let innermost = json!({"all": [[{"var": path}], {"!==": [{"var": ""}, null]}]});
            let found = nested(levels, |deep| read(&client(&innermost), &Context::anonymous().with("deep", deep)));
            assert_eq!(found.as_deref(), Ok("true"));
            // As text it is empty however deep, if the evaluator goes that deep at all.
            let text = json!({"==": [{"cat": [{"var": "deep"}]}, ""]});
            let found = nested(levels, |deep| read(&client(&text), &Context::anonymous().with("deep", deep)));
            assert!(matches!(found.as_deref(), Ok("true") | Err(ErrorCode::General)), "{found:?}");
        }
    });
}

/// A list whose elements are itself, and which says it is as long as a list can be.
#[derive(Debug)]
struct Endless {
    len: usize,
}

impl ListSource for Endless {
    fn len(&self) -> usize {
        self.len
    }
    fn element(&self, _: usize) -> Option<Value<'_>> {
        Some(Value::List(List::foreign(self)))
    }
}

impl ObjectSource for Endless {
    fn member(&self, _: &[u8]) -> Option<Value<'_>> {
        Some(Value::Object(Object::foreign(self)))
    }
}

#[test]
fn values_without_an_end() {
    on_a_small_stack(|| {
        for len in [1, 2, usize::MAX] {
            let endless = Endless { len };
            let context = Context::anonymous()
                .with("list", Value::List(List::foreign(&endless)))
                .with("object", Value::Object(Object::foreign(&endless)));
            let rules = [
                json!({"cat": {"var": "list"}}),
                json!({"substr": [{"var": "list"}, 1]}),
                json!({"fractional": [{"cat": {"var": "list"}}, ["yes"]]}),
                json!({"map": [{"var": "list"}, {"var": ""}]}),
                json!({"map": [{"var": "list"}, {"map": [{"var": ""}, {"map": [{"var": ""}, 1]}]}]}),
                json!({"filter": [{"var": "list"}, {"some": [{"var": ""}, false]}]}),
                json!({"reduce": [{"var": "list"}, {"+": [1, {"var": "accumulator"}]}, 0]}),
                json!({"merge": [{"var": "list"}, {"var": "list"}]}),
                json!({"missing": {"var": "list"}}),
                json!({"missing_some": [1, {"var": "list"}]}),
                json!({"in": [1, {"var": "list"}]}),
                json!({"all": [{"var": "list"}, true]}),
                json!({"var": {"var": "list"}}),
                json!({"max": {"var": "list"}}),
            ];
            for rule in rules {
                // Lists of one or two may well be gone through; the longest one can't be.
                let found = read(&client(&json!({"if": [rule, "yes", "yes"]})), &context);
                assert!(matches!(found.as_deref(), Ok("yes") | Err(ErrorCode::General)), "{rule}: {found:?}");
            }
            let path = format!("object{}", ".x".repeat(5000));
            assert_eq!(read(&client(&json!({"if": [{"var": path}, "yes"]})), &context).as_deref(), Ok("yes"));
        }
    });
}

#[test]
fn rules_that_multiply_their_work() {
    on_a_small_stack(|| {
        let ten: Vec<u32> = (0..10).collect();
        let mut rule = json!(1);
        for _ in 0..12 {
            rule = json!({"all": [ten, rule]});
        }
        assert_eq!(evaluate(&rule, json!({})), Err(ErrorCode::General), "10^12 steps");
        let hundred: Vec<u32> = (0..100).collect();
        let doubling = json!({"reduce": [hundred, {"cat": [{"var": "accumulator"}, {"var": "accumulator"}]}, "x"]});
        assert_eq!(evaluate(&doubling, json!({})), Err(ErrorCode::General), "2^100 bytes");
        let merging = json!({"reduce": [hundred, {"merge": [{"var": "accumulator"}, {"var": "accumulator"}]}, [1]]});
        assert_eq!(evaluate(&merging, json!({})), Err(ErrorCode::General), "2^100 elements");
        let long_list = json!({"l": vec![1; 100_000]});
        let sum = json!({"reduce": [{"var": "l"}, {"+": [{"var": "accumulator"}, {"var": "current"}]}, 0]});
        assert_eq!(evaluate(&json!({"===": [sum, 100_000]}), long_list).as_deref(), Ok("true"));
    });
}

#[test]
fn odd_keys() {
    on_a_small_stack(|| {
        let client = client(&json!({"var": "x"}));
        let snapshot = client.snapshot();
        let long = vec![b'k'; 1 << 20];
        let keys: [&[u8]; 8] = [b"", b"unknown", b"F", b"f\0", b"\0", b"\xff\xfe", &long, "f\u{301}".as_bytes()];
        for key in keys {
            let evaluation = snapshot.evaluate(key, Want::Any, &Context::anonymous());
            assert_eq!(evaluation.error, Some(ErrorCode::FlagNotFound), "{} bytes", key.len());
            assert_eq!((evaluation.reason, evaluation.value), (Reason::Error, None));
        }
        assert!(client.bool("", &Context::anonymous(), true));
        assert_eq!(client.string("k".repeat(1 << 20), &Context::anonymous(), "mine"), "mine");
    });
}

#[test]
fn text_that_is_not_utf8() {
    on_a_small_stack(|| {
        let bytes = Value::Text(b"\xff\xfea\x80");
        let context = Context::anonymous().with("x", bytes).with("y", bytes);
        for (rule, expected) in [
            (json!({"==": [{"var": "x"}, {"var": "y"}]}), Ok("true")),
            (json!({"==": [{"var": "x"}, "\u{fffd}"]}), Ok("false")),
            (json!({"===": [{"substr": [{"var": "x"}, 2, 1]}, "a"]}), Ok("true")),
            (json!({"===": [{"substr": [{"var": "x"}, -2, 1]}, "a"]}), Ok("true")),
            (json!({"in": ["a", {"var": "x"}]}), Ok("true")),
            (json!({"==": [{"cat": [{"var": "x"}, "!"]}, {"cat": [{"var": "y"}, "!"]}]}), Ok("true")),
            (json!({"fractional": [{"var": "x"}, ["yes"]]}), Ok("yes")),
            (json!({"sem_ver": [{"var": "x"}, "=", "1"]}), Ok("no")),
            (json!({"+": [{"var": "x"}, 1]}), Err(ErrorCode::ParseError)),
            (json!({"var": "x"}), Err(ErrorCode::General)),
            (json!({"var": {"var": "x"}}), Ok("no")),
        ] {
            assert_eq!(read(&client(&rule), &context).as_deref().map_err(|error| *error), expected, "{rule}");
        }
    });
}

#[test]
fn numbers_that_json_has_not() {
    on_a_small_stack(|| {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let context = Context::anonymous().with("x", number);
            assert_eq!(read(&client(&json!({"var": "x"})), &context), Err(ErrorCode::ParseError));
            let same = read(&client(&json!({"==": [{"var": "x"}, {"var": "x"}]})), &context);
            assert_eq!(same.as_deref(), Ok(if number.is_nan() { "false" } else { "true" }));
            let huge = json!({"substr": ["text", {"var": "x"}, {"var": "x"}]});
            assert!(read(&client(&json!({"if": [huge, "yes", "yes"]})), &context).is_ok());
            let weight = json!({"fractional": ["k", ["yes", {"var": "x"}], ["no", 1]]});
            assert_eq!(read(&client(&weight), &context).as_deref(), Ok("no"));
        }
        for number in [i64::MAX, i64::MIN] {
            let context = Context::anonymous().with("x", number);
            assert_eq!(read(&client(&json!({"==": [{"var": "x"}, {"var": "x"}]})), &context).as_deref(), Ok("true"));
            assert_eq!(read(&client(&json!({"var": "x"})), &context), Err(ErrorCode::General));
            assert!(read(&client(&json!({"if": [{"-": [{"var": "x"}]}, "yes"]})), &context).is_ok());
            assert!(read(&client(&json!({"if": [{"%": [{"var": "x"}, -1]}, "yes", "no"]})), &context).is_ok());
        }
    });
}

/// `f` is refused, alone, and what is said of it mentions `word`.
fn refused(targeting: &str, evaluators: &str, word: &str) {
    let definition = format!(
        r#"{{"flags": {{"f": {{"state": "ENABLED", "variants": {{"yes": "yes"}}, "defaultVariant": "yes", "targeting": {targeting}}},
            "sound": {}}}, "$evaluators": {evaluators}}}"#,
        sound()
    );
    let client = Client::from_definition(&definition, Format::Json).expect("a broken flag is no broken document");
    let snapshot = client.snapshot();
    let evaluation = snapshot.evaluate(b"f", Want::Text, &Context::anonymous());
    assert_eq!(evaluation.error, Some(ErrorCode::ParseError), "{word}");
    let neighbour = snapshot.evaluate(b"sound", Want::Bool, &Context::anonymous());
    assert_eq!(neighbour.value, Some(FlagValue::Bool(true)), "{word}");
    use libflags::definition::{Document, Limits, ListNames, check};
    let document = Document::parse("hostile.json", definition, Format::Json, &Limits::default()).expect("a document");
    let problems = check([&document], &ListNames::default(), &Limits::default());
    assert!(
        problems.iter().any(|problem| problem.is_error() && problem.message.contains(word)),
        "{word}: {problems:?}"
    );
    assert!(problems.iter().all(|problem| problem.message.len() < 10_000));
}

/// The deepest rules there may be, of the operators that take the most stack. An optimised build walks them in 128 KiB.
#[test]
fn sixty_four_levels() {
    let stack = if cfg!(debug_assertions) { USUAL_STACK_BYTES } else { SMALL_STACK_BYTES };
    for around in [
        |rule| json!({"!": rule}),
        |rule| json!({"-": rule}),
        |rule| json!({"if": [rule, "yes"]}),
        |rule| json!({"if": [false, "no", rule]}),
        |rule| json!({"and": [true, rule]}),
        |rule| json!({"cat": ["", rule]}),
        |rule| json!({"merge": rule}),
        |rule| json!({"substr": [rule, 0]}),
        |rule| json!({"var": rule}),
        |rule| json!({"var": ["absent", rule]}),
        |rule| json!({"missing": rule}),
        |rule| json!({"fractional": ["k", [rule, 1]]}),
        |rule| json!({"fractional": [rule, ["yes"]]}),
        |rule| json!({"sem_ver": [rule, "=", "1"]}),
        |rule| json!({"map": [[1], rule]}),
        |rule| json!({"filter": [[1], rule]}),
        |rule| json!({"some": [[1], rule]}),
        |rule| json!({"reduce": [[1], rule, 0]}),
        |rule| json!({"in": ["x", rule]}),
        |rule| json!([rule]),
        |rule| json!({"<": [1, rule]}),
    ] {
        let mut client_and_levels = None;
        for levels in 30.. {
            let rule = (1..levels).fold(json!("yes"), |rule, _| around(rule));
            let client = client(&json!({"if": [rule, "yes", "yes"]}));
            if read(&client, &Context::anonymous()) == Err(ErrorCode::ParseError) {
                break;
            }
            client_and_levels = Some((client, levels));
        }
        let (client, levels) = client_and_levels.expect("one level is not too deep");
        assert!(levels > 30, "{} goes no deeper than {levels}", around(json!("…")));
        on_a_stack_of(stack, move || assert!(read(&client, &Context::anonymous()).is_ok()));
    }
}

#[test]
fn deep_and_wide_rules() {
    on_a_usual_stack(|| {
        let nest = |levels: usize| format!("{}1{}", r#"{"!": ["#.repeat(levels), "]}".repeat(levels));
        let definition = format!(
            r#"{{"flags": {{"f": {{"state": "ENABLED", "variants": {{"true": 1, "false": 0}}, "targeting": {}}}}}}}"#,
            nest(60)
        );
        let client = Client::from_definition(&definition, Format::Json).expect("a document");
        assert_eq!(client.int("f", &Context::anonymous(), -1), 1);
        refused(&nest(1000), "{}", "deeper than 64");
        refused(&format!(r#"{{"cat": [{}1]}}"#, "1,".repeat(20_000)), "{}", "10000");
        let chain: String = (0..100).map(|n| format!(r#""e{n}": {{"$ref": "e{}"}},"#, n + 1)).collect();
        refused(r#"{"$ref": "e0"}"#, &format!(r#"{{{chain} "e100": {{"var": "x"}}}}"#), "nested deeper");
        let laughs: String = (0..30)
            .map(|n| {
                format!(r#""e{n}": {{"and": [{0}, {0}, {0}, {0}]}},"#, format_args!(r#"{{"$ref": "e{}"}}"#, n + 1))
            })
            .collect();
        refused(r#"{"!": {"$ref": "e0"}}"#, &format!(r#"{{{laughs} "e30": {{"var": "x"}}}}"#), "10000");
        let ring: String = (0..50).map(|n| format!(r#""e{n}": {{"!": {{"$ref": "e{}"}}}},"#, (n + 1) % 50)).collect();
        refused(r#"{"$ref": "e0"}"#, &format!("{{{}}}", ring.trim_end_matches(',')), "refers to itself");
        refused(&format!(r#"{{"{}": []}}"#, "x".repeat(1 << 20)), "{}", "unknown operator");
        refused(&format!(r#"{{"$ref": "{}"}}"#, "x".repeat(1 << 20)), "{}", "no evaluator");
        refused(&format!(r#"{{"==": [{}, 1]}}"#, "9".repeat(1 << 20)), "{}", "beyond");
        refused(r#"{"==": ["\ud800", 1]}"#, "{}", "surrogate");
    });
}

#[test]
fn json_nested_a_hundred_thousand_deep() {
    on_a_usual_stack(|| {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), (r#"{"!":["#, "]}")] {
            let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
            for definition in [
                deep.clone(),
                format!(r#"{{"flags": {deep}}}"#),
                format!(r#"{{"flags": {{"f": {deep}}}}}"#),
                format!(r#"{{"flags": {{"f": {{"state": "ENABLED", "variants": {{"a": {deep}}}}}}}}}"#),
                format!(r#"{{"flags": {{"f": {{"state": "ENABLED", "variants": {{"a": 1}}, "targeting": {deep}}}}}}}"#),
                format!(r#"{{"flags": {{"f": {{"state": "ENABLED", "variants": {{"a": 1}}, "metadata": {deep}}}}}}}"#),
                format!(r#"{{"flags": {{}}, "metadata": {deep}}}"#),
                format!(r#"{{"flags": {{}}, "$evaluators": {{"e": {deep}}}}}"#),
                format!(r#"{{"flags": {{}}, "unknown": {deep}}}"#),
            ] {
                // Refused whole with a word about where, or the flag is.
                match Client::from_definition(&definition, Format::Json) {
                    Err(error) => assert!(!error.to_string().is_empty()),
                    Ok(client) => {
                        let snapshot = client.snapshot();
                        let evaluation = snapshot.evaluate(b"f", Want::Any, &Context::anonymous());
                        assert!(evaluation.error.is_some(), "{:?}", evaluation.value);
                    }
                }
            }
        }
    });
}

#[test]
fn more_than_the_limits() {
    on_a_small_stack(|| {
        let many: Map<String, Json> = (0..257).map(|n| (format!("v{n}"), json!(true))).collect();
        let definition = json!({"flags": {
            "k".repeat(256): sound(), "k".repeat(257): sound(), "sound": sound(),
            "": sound(), "nul\0": sound(),
            "many": {"state": "ENABLED", "variants": many, "defaultVariant": "v0"},
        }});
        let client = Client::from_definition(&definition.to_string(), Format::Json).expect("a document");
        let off = |key: &str| client.bool(key, &Context::anonymous(), false);
        assert!(off("sound") && off(&"k".repeat(256)));
        assert!(!off(&"k".repeat(257)) && !off("") && !off("nul\0") && !off("many"));
    });
}

#[test]
fn twenty_thousand_flags() {
    on_a_small_stack(|| {
        let flags: Map<String, Json> =
            (0..20_000).map(|n| (format!("flag-{n}"), if n % 100 == 7 { json!({}) } else { sound() })).collect();
        let client = Client::from_definition(&json!({"flags": flags}).to_string(), Format::Json).expect("a document");
        let context = Context::anonymous();
        for n in 0..20_000 {
            assert_eq!(client.bool(format!("flag-{n}"), &context, false), n % 100 != 7, "{n}");
            assert!(!client.bool(format!("other-{n}"), &context, false), "{n}");
        }
    });
}

#[test]
fn text_that_is_no_definition() {
    on_a_small_stack(|| {
        for text in [
            "",
            " ",
            "{",
            "null",
            "[]",
            "{}",
            "\"flags\"",
            r#"{"flags": 1}"#,
            r#"{"flags": null}"#,
            "{\"flags\": {}",
            "\u{feff}",
            "{'flags': {}}",
            "\0",
        ] {
            let error = Client::from_definition(text, Format::Json).expect_err(text);
            assert!(!error.to_string().is_empty());
        }
        assert!(Client::from_definition("\u{feff}{\"flags\": {}}", Format::Json).is_ok());
    });
}
