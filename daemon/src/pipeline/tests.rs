//! Whatever happens to a set, by patches it becomes what it becomes by whole definitions.

use super::*;
use std::collections::BTreeMap;

use flags_sync::{Change, Snapshot as Whole, Stamp};
use libflags::Context;
use libflags::definition::Format;
use libflags::evaluate::Want;
use libflags::snapshot::diff;
use serde_json::value::RawValue;

use crate::config::Flags;
use crate::input::Content;
use crate::source::{Definition, Touched};

const PLANE: &str = "control+http://127.0.0.1:1/shop/production";
const KEYS: usize = 30;

/// One flagsd's half of it: its pipeline, and what it was last given.
struct Side {
    dir: tempfile::TempDir,
    /// `None` only while it is restarted.
    pipeline: Option<Pipeline>,
    /// Gets patches; the other one gets all of it each time.
    patches: bool,
    definition: Definition,
    touched: Touched,
    file: Option<Arc<Document>>,
}

impl Side {
    fn new(definition: &Definition, patches: bool) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (definition, touched) = (definition.clone(), Touched::all());
        let mut side = Self { dir, pipeline: None, patches, definition, touched, file: None };
        side.start();
        side
    }

    fn start(&mut self) {
        let flags = Flags {
            store: Some(self.dir.path().join("store")),
            state_dir: Some(self.dir.path().join("state")),
            sources: vec![PLANE.to_owned(), format!("file:{}", self.file_path().display())],
            ..Flags::default()
        };
        let config = Config::load(&flags).expect("is good");
        self.pipeline = Some(Pipeline::start(&config, &config.sets[0]).expect("starts"));
    }

    fn file_path(&self) -> PathBuf {
        // The same on both sides, and never read.
        PathBuf::from("/flags.json")
    }

    fn pipeline(&mut self) -> &mut Pipeline {
        self.pipeline.as_mut().expect("runs")
    }

    fn take(&mut self, change: &Change) {
        self.touched.note(change);
        let next = self.definition.after(change.clone()).expect("follows");
        // The other side has nothing in common with what it had before.
        self.definition = if self.patches {
            next
        } else {
            Definition::from_text(&next.text(), next.stamp().clone()).expect("a definition")
        };
    }

    /// Tells the pipeline of what was taken; whether that was a patch, and all that was needed.
    fn give(&mut self, deliberate: bool) -> bool {
        let plane: SourceSpec = PLANE.parse().expect("a source");
        let limits = self.pipeline().limits.clone();
        let patch = self.touched.patch(&self.definition, &plane.to_string(), &limits);
        let patch = patch.filter(|_| self.patches);
        let was_patch = patch.is_some();
        self.touched = Touched::nothing_since(&self.definition);
        let content = Content::Control(self.definition.clone());
        let mut inputs = vec![Input { path: plane.to_string().into(), source: plane, content }];
        inputs.extend(self.file.iter().map(|file| Input {
            source: SourceSpec::File(self.file_path()),
            path: self.file_path(),
            content: Content::File(Arc::clone(file)),
        }));
        let deliberate = deliberate && !self.pipeline().is_held();
        let confirmed_ns = now_ns();
        self.pipeline().offer(Offer { inputs, patch, deliberate, confirmed_ns, changed_ms: None, received: None });
        was_patch && !self.definition.has_document()
    }

    /// As after `kill -9`.
    fn restart(&mut self) {
        self.pipeline = None;
        self.start();
        self.touched = Touched::all();
    }

    /// The text that is remembered of the control plane.
    fn remembered(&mut self) -> Vec<(String, Option<Stamp>)> {
        let source = PLANE.parse().expect("a source");
        let saved = self.pipeline().saved(&source);
        saved.iter().map(|input| (input.text().into_owned(), input.stamp().cloned())).collect()
    }

    /// What there is to see of it, without what differs between any two.
    fn seen(&mut self) -> Value {
        let mut status = serde_json::to_value(self.pipeline().status(Vec::new(), true)).expect("JSON");
        let members = status.as_object_mut().expect("an object");
        for volatile in ["store", "published_ms", "confirmed_ms", "age_seconds", "kept"] {
            members.remove(volatile);
        }
        forget_times(&mut status);
        if let Some(broken) = status["broken"].as_array_mut() {
            broken.sort_by_key(|flag| flag["key"].to_string());
        }
        status
    }
}

fn forget_times(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("since_ms");
            members.values_mut().for_each(forget_times);
        }
        Value::Array(elements) => elements.iter_mut().for_each(forget_times),
        _ => {}
    }
}

fn key(random: &mut fastrand::Rng) -> String {
    format!("flag-{}", random.usize(..KEYS))
}

/// A flag; now and then one that is broken, odd, disabled, or in a flag set.
fn flag(random: &mut fastrand::Rng) -> Box<RawValue> {
    let more = match random.u8(..12) {
        0 => r#","targeting":{"if":[{"$ref":"premium"},"on","off"]}"#.to_owned(),
        1 => r#","targeting":{"if":[{"==":[{"var":"tier"},"premium"]},"on","off"]}"#.to_owned(),
        2 => r#","targeting":{"fractional":[["on",50],["off",50]]}"#.to_owned(),
        3 => r#","metadata":{"flagSetId":"a"}"#.to_owned(),
        4 => format!(r#","metadata":{{"note":"{}"}}"#, "long ".repeat(random.usize(..20))),
        5 => r#","oddity":1"#.to_owned(),
        _ => String::new(),
    };
    let (on, off) = (random.u8(..), random.u8(..));
    let text = match random.u8(..12) {
        0 => r#"{"state":"ENABLED","variants":{}}"#.to_owned(),
        1 => format!(r#"{{"state":"DISABLED","variants":{{"on":{on},"off":{off}}},"defaultVariant":"on"{more}}}"#),
        _ => format!(r#"{{"state":"ENABLED","variants":{{"on":{on},"off":{off}}},"defaultVariant":"on"{more}}}"#),
    };
    RawValue::from_string(text).expect("JSON")
}

fn stamp(revision: u64) -> Stamp {
    Stamp { environment: "shop/production".to_owned(), epoch: 1, revision, time_ms: 0, lost: None, mark: None }
}

fn evaluators(random: &mut fastrand::Rng) -> BTreeMap<String, Box<RawValue>> {
    let tier = ["premium", "gold"][random.usize(..2)];
    let rule = RawValue::from_string(format!(r#"{{"==":[{{"var":"tier"}},"{tier}"]}}"#)).expect("JSON");
    BTreeMap::from([("premium".to_owned(), rule)])
}

/// Of the flag set: now and then it names one, so that flags are others by their keys.
fn metadata(random: &mut fastrand::Rng) -> BTreeMap<String, Box<RawValue>> {
    let set = if random.u8(..16) == 0 { "\"a\"" } else { "\"\"" };
    let members = [("flagSetId", set.to_owned()), ("version", random.u8(..3).to_string())];
    let raw = |(name, text): (&str, String)| (name.to_owned(), RawValue::from_string(text).expect("JSON"));
    members.into_iter().filter(|_| random.bool()).map(raw).collect()
}

fn same(sides: &mut [Side; 2], told: &str) {
    let [one, other] = sides;
    assert_eq!(one.seen(), other.seen(), "{told}");
    assert_eq!(one.remembered(), other.remembered(), "{told}");
    let (ours, theirs) = (one.pipeline().current_snapshot(), other.pipeline().current_snapshot());
    let (Some(ours), Some(theirs)) = (ours, theirs) else { panic!("{told}: nothing is published") };
    let changes: Vec<&str> = diff(&theirs, &ours).iter().map(|change| change.key).collect();
    assert!(changes.is_empty(), "{told}: {changes:?}");
    for context in
        [Context::anonymous(), Context::new("u7").with("tier", "premium"), Context::new("u8").with("tier", "gold")]
    {
        for name in (0..KEYS).flat_map(|n| [format!("flag-{n}"), format!("a\0flag-{n}")]) {
            let answer = |snapshot: &Snapshot| {
                let answer = snapshot.evaluate(name.as_bytes(), Want::Any, &context);
                format!("{:?}", answer.into_details(|value| format!("{value:?}")))
            };
            assert_eq!(answer(&ours), answer(&theirs), "{told}: {name:?}");
        }
    }
}

#[test]
fn by_patches_it_becomes_what_it_becomes_by_whole_definitions() {
    let (mut patched, mut steps) = (0, 0);
    for seed in 1..=6 {
        let mut random = fastrand::Rng::with_seed(seed);
        let flags = (0..KEYS).map(|n| (format!("flag-{n}"), flag(&mut random))).collect();
        let first = Definition::from(Whole {
            stamp: stamp(1),
            flags,
            evaluators: evaluators(&mut random),
            lists: BTreeMap::new(),
            metadata: metadata(&mut random),
        });
        let mut sides = [Side::new(&first, true), Side::new(&first, false)];
        assert_eq!(sides.each_mut().map(|side| side.give(false)), [false, false], "there is nothing to patch yet");
        let mut revision = 1;
        for step in 0..70 {
            let told = format!("seed {seed}, step {step}");
            let (mut deliberate, mut gives) = (false, true);
            match random.u8(..26) {
                0 => {
                    let commands =
                        [Command::Freeze, Command::Unfreeze, Command::Unfreeze, Command::Confirm, Command::Confirm];
                    let command = &commands[random.usize(..commands.len())];
                    obey(&mut sides, command, &told);
                    gives = false;
                }
                1 if random.bool() => {
                    obey(&mut sides, &Command::Rollback { generation: None }, &told);
                    obey(&mut sides, &Command::Unfreeze, &told);
                    gives = false;
                }
                2 => {
                    let key = key(&mut random);
                    let command = if random.bool() {
                        Command::Override { key, value: json!("off") }
                    } else {
                        Command::ClearOverride { key }
                    };
                    obey(&mut sides, &command, &told);
                    gives = false;
                }
                3 => {
                    for side in &mut sides {
                        side.restart();
                    }
                }
                4 => {
                    let flags = (0..2).map(|_| (key(&mut random), flag(&mut random))).collect::<BTreeMap<_, _>>();
                    let text = format!(r#"{{"flags":{}}}"#, serde_json::to_string(&flags).expect("JSON"));
                    let file =
                        Document::parse("/flags.json", text, Format::Json, &Limits::default()).expect("a document");
                    let file = Arc::new(file);
                    sides.iter_mut().for_each(|side| side.file = Some(Arc::clone(&file)));
                }
                what => {
                    // Changes that come at once are given at once.
                    for _ in 0..=random.usize(..2) {
                        revision += 1;
                        let change = Change {
                            stamp: stamp(revision),
                            after: revision - 1,
                            after_mark: None,
                            deliberate: false,
                            flags: (0..random.usize(..3)).map(|_| (key(&mut random), flag(&mut random))).collect(),
                            removed: match what {
                                5 => (0..KEYS * 3 / 4).map(|n| format!("flag-{n}")).collect(),
                                _ => (0..random.usize(..2)).map(|_| key(&mut random)).collect(),
                            },
                            evaluators: (what == 6).then(|| evaluators(&mut random)),
                            lists: BTreeMap::new(),
                            metadata: (what == 7).then(|| metadata(&mut random)),
                        };
                        sides.iter_mut().for_each(|side| side.take(&change));
                    }
                    deliberate = random.u8(..4) == 0;
                }
            }
            if gives {
                let [one, other] = &mut sides;
                patched += usize::from(one.give(deliberate));
                assert!(!other.give(deliberate));
            }
            same(&mut sides, &told);
            steps += 1;
        }
    }
    assert!(patched * 3 > steps, "only {patched} of {steps} steps were patches");
}

fn obey(sides: &mut [Side; 2], command: &Command, told: &str) {
    let answers = sides.each_mut().map(|side| {
        let answer = side.pipeline().obey(command.clone());
        answer.map(drop).map_err(|refusal| refusal.detail)
    });
    assert_eq!(answers[0], answers[1], "{told}: {command:?}");
}
