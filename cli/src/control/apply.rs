//! `flagsctl apply`: makes a project what its files say (GitOps).
//!
//! ```text
//! read files, read the control plane ──► steps ──► shown ──► confirmed ──► one write each, only if nothing moved since
//!
//! 0. lists get their ids: first it is all tried, as these may be refused for their size; then environments get their metadata
//! 1. flags come (back), and get the variants that they have now or shall have
//! 2. what they do, those that others need first
//! 3. what they are, to the letter
//! 4. flags go, those that need others first
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufRead, IsTerminal, Write},
    path::PathBuf,
};

use clap::Args;
use serde_json::{Map, Value, json};

use super::{
    client::{Control, WriteArguments},
    desired::{self, Around, Desired, Wanted, normal},
    lists::{self, Segments},
    profile::Target,
};
use crate::{
    failure::{Exit, Failure},
    output::{Cell, Look, Output, clip, count},
};

/// Make a project what files in a directory say
#[derive(Args, Debug)]
#[command(after_help = "\
DIR/ENVIRONMENT.json, .yaml or .yml is a flagd definition of that environment; its flags may also have the control plane's \
type, description, owner, tags, kind, expiresMs, rollout, prerequisites and offVariant. Files of ids that its metadata names \
(lists, list.NAME) are its list segments.

Exit codes: 0 nothing differs, or it is done; 1 the question was answered with no; 2 with --plan: something differs.

Examples:
  flagsctl apply -f flags/ --project shop --plan
  flagsctl apply -f flags/ --project shop --yes --comment \"$(git log -1 --format=%h)\"")]
pub(crate) struct Apply {
    /// The directory
    #[arg(long, short, value_name = "DIR")]
    file: PathBuf,
    /// Archive the flags that no file has; else they are left alone
    #[arg(long)]
    prune: bool,
    /// Only say what differs
    #[arg(long, conflicts_with = "yes")]
    plan: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// However many flags this takes away shall go: hosts do not hold it
    #[arg(long)]
    deliberate: bool,
    /// Why, for the log
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// A flag at the control plane.
#[derive(Debug)]
struct Present {
    flag: Value,
    /// Of the environments that there are files of.
    configs: BTreeMap<String, Value>,
}

/// What an environment's file says of its metadata, and what it is.
#[derive(Debug)]
struct Metadata {
    wanted: Map<String, Value>,
    present: Value,
}

/// One difference.
#[derive(Debug)]
struct Step {
    action: Action,
    of: Of,
    environment: Option<String>,
    /// Member, before, after.
    aspects: Vec<(String, Value, Value)>,
}

/// What differs.
#[derive(Debug)]
enum Of {
    Environment,
    List(String),
    Flag(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Create,
    Restore,
    Change,
    Archive,
}

pub(crate) fn run(arguments: &Apply, output: &mut Output) -> Result<Exit, Failure> {
    let Desired { flags: mut wanted, environments } = desired::read(&arguments.file)?;
    let control = Control::open(&arguments.target)?;
    let lists = differing_lists(&control, &environments, &mut wanted)?;
    let present = present(&control, &wanted, &environments)?;
    let metadata = differing_metadata(&control, &environments)?;
    let mut steps: Vec<Step> = lists.iter().map(|(environment, change)| list_step(environment, change)).collect();
    steps.extend(metadata.iter().map(|(environment, metadata)| metadata.step(environment)));
    steps.extend(self::steps(&wanted, &present, arguments.prune));
    if !output.json {
        for step in &steps {
            let line = step.line(output);
            output.line(line)?;
        }
    }
    must_be_open(&control, &steps, &wanted)?;
    let left = present.iter().filter(|(key, it)| !wanted.contains_key(*key) && it.flag["archived"] != true).count();
    let left = if arguments.prune { 0 } else { left };
    let confirmed = steps.is_empty() || arguments.yes || (!arguments.plan && confirmed(steps.len(), output)?);
    if confirmed && !steps.is_empty() {
        let write =
            WriteArguments { comment: arguments.comment.clone(), dry_run: false, deliberate: arguments.deliberate };
        let writer = Writer { control: &control, write };
        if steps.len() > 1 {
            // Else it is the only one, and changes nothing where it is refused.
            lists.iter().try_for_each(|(environment, change)| change.check(&control, environment, &writer.write))?;
        }
        lists.iter().try_for_each(|(environment, change)| change.make(&control, environment, &writer.write))?;
        for (environment, metadata) in &metadata {
            writer.describe(environment, metadata)?;
        }
        writer.apply(&wanted, &present, arguments.prune)?;
    }
    if output.json {
        let list: Vec<Value> = steps.iter().map(Step::json).collect();
        output.document(&json!({"changes": list, "applied": confirmed, "unmanaged": left}))?;
    } else {
        let done = match (steps.len(), confirmed) {
            (0, _) => "nothing differs".to_owned(),
            (number, true) => format!("{} applied", count(number, "difference")),
            (number, false) => format!("{}, nothing was applied", count(number, "difference")),
        };
        let alone = if left == 0 { String::new() } else { format!("; {} in no file, left alone", count(left, "flag")) };
        output.line(done + &alone)?;
    }
    Ok(match (confirmed, arguments.plan) {
        (true, _) => Exit::Done,
        (false, true) => Exit::Wrong,
        (false, false) => Exit::No,
    })
}

/// Finds out before anything is written whether an environment in which something differs is archived.
fn must_be_open(control: &Control, steps: &[Step], wanted: &BTreeMap<String, Wanted>) -> Result<(), Failure> {
    let mut touched: BTreeSet<&str> = steps.iter().filter_map(|step| step.environment.as_deref()).collect();
    for step in steps.iter().filter(|step| step.action == Action::Create) {
        // A flag that is new is configured wherever a file has it.
        if let Of::Flag(key) = &step.of {
            touched.extend(wanted.get(key).into_iter().flat_map(|wanted| wanted.configs.keys().map(String::as_str)));
        }
    }
    for environment in touched {
        if control.get(&control.in_project(&["environments", environment])?)?.body["archived"] == true {
            let place = format!("{}/{environment}", control.project_key()?);
            return Err(Failure::new(format!("{place} is archived, and differs from its file: nothing was applied"))
                .hint(format!("flagsctl env restore --env {environment}, or take its file away")));
        }
    }
    Ok(())
}

fn confirmed(steps: usize, output: &mut Output) -> Result<bool, Failure> {
    if output.json || !io::stdin().is_terminal() {
        return Err(
            Failure::new("nothing was applied: there is nobody to ask").hint("--yes applies, --plan only looks")
        );
    }
    output.flush()?;
    eprint!("apply {}? [y/N] ", count(steps, "difference"));
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// All flags of the project, and the configurations of those that the files have.
fn present(
    control: &Control,
    wanted: &BTreeMap<String, Wanted>,
    environments: &BTreeMap<String, Around>,
) -> Result<BTreeMap<String, Present>, Failure> {
    // An environment that is not there is found out before anything is written.
    let mut listed = BTreeMap::new();
    for environment in environments.keys() {
        let path = control.in_project(&["environments", environment, "flags"])?;
        let mut configs = control.items(&path, &[], None)?;
        configs.extend(control.items(&path, &[("archived", "true")], None)?);
        let by_key = configs.into_iter().map(|mut config| (config["key"].take(), config));
        let by_key = by_key.filter_map(|(key, config)| Some((key.as_str()?.to_owned(), config)));
        listed.insert(environment, by_key.collect::<BTreeMap<_, _>>());
    }
    let path = control.in_project(&["flags"])?;
    let mut flags = control.items(&path, &[], None)?;
    flags.extend(control.items(&path, &[("archived", "true")], None)?);
    let mut present = BTreeMap::new();
    for flag in flags {
        let key = flag["key"].as_str().unwrap_or_default().to_owned();
        let mut configs = BTreeMap::new();
        for environment in wanted.get(&key).into_iter().flat_map(|wanted| wanted.configs.keys()) {
            let config = listed.get_mut(environment).and_then(|configs| configs.remove(&key));
            configs.extend(config.map(|config| (environment.clone(), config)));
        }
        present.insert(key, Present { flag, configs });
    }
    Ok(present)
}

/// The lists that differ from what files have, each with its environment. What flags take with them that is a segment of that
/// rule where they go is left to the segment, as an import does.
fn differing_lists<'e>(
    control: &Control,
    environments: &'e BTreeMap<String, Around>,
    wanted: &mut BTreeMap<String, Wanted>,
) -> Result<Vec<(&'e str, lists::Change<'e>)>, Failure> {
    let mut differing = Vec::new();
    for (environment, around) in environments {
        let segments = Segments::of(control, environment)?;
        segments.check_named(&around.name, &around.named, &around.lists)?;
        for config in wanted.values_mut().filter_map(|wanted| wanted.configs.get_mut(environment)) {
            let own = config["evaluators"].as_object();
            let are_segments = own.is_some_and(|own| own.iter().all(|(name, rule)| segments.has_rule(name, rule)));
            if let Some(config) = config.as_object_mut().filter(|_| are_segments) {
                config.remove("evaluators");
            }
        }
        let changes = lists::changes(control, environment, &around.lists, &segments)?;
        differing.extend(changes.into_iter().map(|change| (environment.as_str(), change)));
    }
    Ok(differing)
}

fn list_step(environment: &str, change: &lists::Change<'_>) -> Step {
    let action = match (change.is_new(), change.is_archived()) {
        (true, _) => Action::Create,
        (false, true) => Action::Restore,
        (false, false) => Action::Change,
    };
    let (of, environment) = (Of::List(change.key().to_owned()), Some(environment.to_owned()));
    Step { action, of, environment, aspects: change.aspects() }
}

/// The environments whose metadata differs from what their files say.
fn differing_metadata(
    control: &Control,
    environments: &BTreeMap<String, Around>,
) -> Result<BTreeMap<String, Metadata>, Failure> {
    let mut differing = BTreeMap::new();
    for (environment, around) in environments {
        let Some(wanted) = around.metadata.clone() else { continue };
        let mut found = control.get(&control.in_project(&["environments", environment])?)?.body;
        let present = found["metadata"].take();
        if present.as_object() != Some(&wanted) {
            differing.insert(environment.clone(), Metadata { wanted, present });
        }
    }
    Ok(differing)
}

/// What differs of flags, for people and machines.
fn steps(wanted: &BTreeMap<String, Wanted>, present: &BTreeMap<String, Present>, prune: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    for (key, wanted) in wanted {
        let found = present.get(key);
        let flag = found.map_or(&Value::Null, |found| &found.flag);
        let mut step = |action, environment: Option<&String>, aspects| {
            steps.push(Step { action, of: Of::Flag(key.clone()), environment: environment.cloned(), aspects });
        };
        let about = aspects(&wanted.about, flag);
        match found {
            None => step(Action::Create, None, about),
            Some(_) if flag["archived"] == true => step(Action::Restore, None, about),
            Some(_) if !about.is_empty() => step(Action::Change, None, about),
            Some(_) => {}
        }
        for (environment, config) in &wanted.configs {
            let before = found.and_then(|found| found.configs.get(environment)).cloned();
            let before = before.map_or_else(|| normal(json!({})), normal);
            let mut members = config.as_object().cloned().unwrap_or_default();
            for name in before.as_object().into_iter().flatten().map(|(name, _)| name) {
                members.entry(name.clone()).or_insert(Value::Null);
            }
            let aspects = aspects(&members, &before);
            if !aspects.is_empty() {
                step(Action::Change, Some(environment), aspects);
            }
        }
    }
    if prune {
        let gone = present.iter().filter(|(key, it)| !wanted.contains_key(*key) && it.flag["archived"] != true);
        steps.extend(gone.map(|(key, _)| Step {
            action: Action::Archive,
            of: Of::Flag(key.clone()),
            environment: None,
            aspects: Vec::new(),
        }));
    }
    steps
}

/// The members that are others in `before`.
fn aspects(members: &Map<String, Value>, before: &Value) -> Vec<(String, Value, Value)> {
    let differing = members.iter().filter(|(name, value)| before[name.as_str()] != **value);
    differing.map(|(name, value)| (name.clone(), before[name.as_str()].clone(), value.clone())).collect()
}

impl Step {
    fn line(&self, output: &Output) -> String {
        const MOST: usize = 48;
        let (sign, look) = match self.action {
            Action::Create | Action::Restore => ("+", Look::Good),
            Action::Change => ("~", Look::Warn),
            Action::Archive => ("-", Look::Bad),
        };
        let place = self.environment.as_ref().map(|environment| format!("({environment})"));
        let of = match &self.of {
            Of::Environment => None,
            // As rules call it.
            Of::List(key) => Some(format!("$lists.{key}")),
            Of::Flag(key) => Some(key.clone()),
        };
        let is_list = matches!(self.of, Of::List(_));
        let names: Vec<&str> = of.as_deref().into_iter().chain(place.as_deref()).collect();
        let name = output.paint(look, &Cell::new(format!("{sign} {}", names.join(" "))).plain());
        let shown = |value: &Value| match value {
            Value::Null => "none".to_owned(),
            // Of a hash the begin tells one from another.
            Value::String(hash) if is_list => clip(hash, 13),
            value => clip(&value.to_string(), MOST),
        };
        let done = match self.action {
            Action::Create => Some("created"),
            Action::Restore => Some("restored"),
            Action::Archive => Some("archived"),
            Action::Change => None,
        };
        let mut aspects: Vec<String> = done.map(str::to_owned).into_iter().collect();
        if done.is_none() || is_list {
            aspects.extend(self.aspects.iter().map(|(name, before, after)| {
                format!("{} {} → {}", Cell::new(name).plain(), shown(before), shown(after))
            }));
        }
        format!("{name}  {}", aspects.join("; "))
    }

    fn json(&self) -> Value {
        let action = match self.action {
            Action::Create => "create",
            Action::Restore => "restore",
            Action::Change => "change",
            Action::Archive => "archive",
        };
        let aspect =
            |(name, before, after): &(String, Value, Value)| json!({"name": name, "before": before, "after": after});
        let aspects: Vec<Value> = self.aspects.iter().map(aspect).collect();
        let (flag, list) = match &self.of {
            Of::Environment => (None, None),
            Of::List(key) => (None, Some(key)),
            Of::Flag(key) => (Some(key), None),
        };
        json!({"action": action, "flag": flag, "list": list, "environment": self.environment, "aspects": aspects})
    }
}

/// Writes, in an order in which each write is good on its own.
struct Writer<'c> {
    control: &'c Control,
    write: WriteArguments,
}

impl Metadata {
    fn step(&self, environment: &str) -> Step {
        let aspect = ("metadata".to_owned(), self.present.clone(), Value::Object(self.wanted.clone()));
        Step {
            action: Action::Change,
            of: Of::Environment,
            environment: Some(environment.to_owned()),
            aspects: vec![aspect],
        }
    }

    /// The merge patch that leads from what it is to what it shall be.
    fn patch(&self) -> Value {
        let mut patch = self.wanted.clone();
        for name in self.present.as_object().into_iter().flatten().map(|(name, _)| name) {
            patch.entry(name.clone()).or_insert(Value::Null);
        }
        json!({"metadata": patch})
    }
}

impl Writer<'_> {
    fn describe(&self, environment: &str, metadata: &Metadata) -> Result<(), Failure> {
        let path = self.control.in_project(&["environments", environment])?;
        // What this run did to lists has moved the revision.
        let now = self.control.get(&path)?.body;
        if now["metadata"] != metadata.present {
            return Err(Failure::new(format!("the metadata of {environment} has changed since the plan was made"))
                .hint("run it again"));
        }
        let revision = now["revision"].as_i64();
        self.control.write("PATCH", &path, Some(&metadata.patch()), &self.write, revision).map(drop)
    }

    fn apply(
        &self,
        wanted: &BTreeMap<String, Wanted>,
        present: &BTreeMap<String, Present>,
        prune: bool,
    ) -> Result<(), Failure> {
        let mut versions = BTreeMap::new();
        for (key, wanted) in wanted {
            versions.insert(key, self.come(key, wanted, present.get(key))?);
        }
        for key in needed_first(wanted) {
            for (environment, config) in &wanted[&key].configs {
                let before = present.get(&key).and_then(|present| present.configs.get(environment));
                self.configure(&key, environment, config, before)?;
            }
        }
        for (key, wanted) in wanted {
            if let Some((flag, version)) = &versions[key] {
                let left: Map<String, Value> =
                    aspects(&wanted.about, flag).into_iter().map(|(name, _, after)| (name, after)).collect();
                self.patch(key, left, flag, *version)?;
            }
        }
        if prune {
            let gone = present.iter().filter(|(key, it)| !wanted.contains_key(*key) && it.flag["archived"] != true);
            self.archive(gone.map(|(key, it)| (key.clone(), it.flag["version"].as_i64())).collect())?;
        }
        Ok(())
    }

    /// A flag that is there, with all variants that it has or shall have. Returns it where it may not be as wanted yet.
    fn come(
        &self,
        key: &str,
        wanted: &Wanted,
        present: Option<&Present>,
    ) -> Result<Option<(Value, Option<i64>)>, Failure> {
        let Some(Present { flag, .. }) = present else {
            let mut body = wanted.about.clone();
            body.insert("key".to_owned(), json!(key));
            self.control.write(
                "POST",
                &self.control.in_project(&["flags"])?,
                Some(&Value::Object(body)),
                &self.write,
                None,
            )?;
            return Ok(None);
        };
        let (mut flag, mut version) = (flag.clone(), flag["version"].as_i64());
        if flag["archived"] == true {
            let path = self.control.in_project(&["flags", key, "restore"])?;
            let answer = self.control.write("POST", &path, None, &self.write, version)?;
            (flag, version) = (answer.body, answer.revision);
        }
        let mut variants = flag["variants"].as_object().cloned().unwrap_or_default();
        variants.extend(wanted.about["variants"].as_object().cloned().unwrap_or_default());
        if Value::Object(variants.clone()) != flag["variants"] {
            let body = json!({"variants": variants});
            let path = self.control.in_project(&["flags", key])?;
            let answer = self.control.write("PATCH", &path, Some(&body), &self.write, version)?;
            (flag, version) = (answer.body, answer.revision);
        }
        Ok(Some((flag, version)))
    }

    fn configure(&self, key: &str, environment: &str, config: &Value, before: Option<&Value>) -> Result<(), Failure> {
        if before.is_some_and(|before| normal(before.clone()) == *config) {
            return Ok(());
        }
        let path = self.control.in_project(&["environments", environment, "flags", key])?;
        // What this run did to the flag itself has moved the revision; what others did to the configuration has to be planned anew.
        let now = self.control.get(&path)?;
        if before.is_some_and(|before| normal(before.clone()) != normal(now.body.clone())) {
            return Err(Failure::new(format!("{key} has changed in {environment} since the plan was made"))
                .hint("run it again"));
        }
        let revision = now.revision;
        self.control.write("PUT", &path, Some(config), &self.write, revision).map(drop)
    }

    fn patch(
        &self,
        key: &str,
        mut left: Map<String, Value>,
        flag: &Value,
        version: Option<i64>,
    ) -> Result<(), Failure> {
        if left.is_empty() {
            return Ok(());
        }
        // In a merge patch, what is to go has to be said.
        if let Some(variants) = left.get_mut("variants").and_then(Value::as_object_mut) {
            for name in flag["variants"].as_object().into_iter().flatten().map(|(name, _)| name) {
                variants.entry(name.clone()).or_insert(Value::Null);
            }
        }
        let path = self.control.in_project(&["flags", key])?;
        self.control.write("PATCH", &path, Some(&Value::Object(left)), &self.write, version).map(drop)
    }

    /// Which of them needs which is not known here: those that are refused are tried again while others go.
    fn archive(&self, mut gone: Vec<(String, Option<i64>)>) -> Result<(), Failure> {
        while !gone.is_empty() {
            let before = gone.len();
            let mut refused = None;
            let mut kept = Vec::new();
            for (key, version) in gone {
                let path = self.control.in_project(&["flags", &key, "archive"])?;
                if let Err(failure) = self.control.write("POST", &path, None, &self.write, version) {
                    refused = Some(failure);
                    kept.push((key, version));
                }
            }
            gone = kept;
            match refused {
                Some(failure) if gone.len() == before => return Err(failure),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The flags, each after those that it needs in any environment.
fn needed_first(wanted: &BTreeMap<String, Wanted>) -> Vec<String> {
    fn visit(key: &str, wanted: &BTreeMap<String, Wanted>, seen: &mut BTreeSet<String>, order: &mut Vec<String>) {
        let Some(flag) = wanted.get(key) else { return };
        if !seen.insert(key.to_owned()) {
            return;
        }
        for config in flag.configs.values() {
            for needed in config["prerequisites"].as_array().into_iter().flatten() {
                visit(needed["flag"].as_str().unwrap_or_default(), wanted, seen, order);
            }
        }
        order.push(key.to_owned());
    }
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    for key in wanted.keys() {
        visit(key, wanted, &mut seen, &mut order);
    }
    order
}
