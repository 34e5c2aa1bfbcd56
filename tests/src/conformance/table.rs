//! Tables of rules: the published one of JsonLogic, and our own.

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value as Json, json};

use crate::engine::{Answer, Engine, ErrorCode, Kind, Subject, same_json, unix_seconds};

/// How many cases of a table were run, and those that failed: case by case, in words.
#[derive(Debug, Default)]
pub struct Report {
    /// How many cases there were.
    pub cases: usize,
    /// What went wrong.
    pub failures: Vec<String>,
}

impl Report {
    fn count(&mut self, case: &Json, result: Result<(), String>) {
        self.cases += 1;
        if let Err(found) = result {
            self.failures.push(format!("{case} gave {found}"));
        }
    }
}

/// Runs the table of jsonlogic.com: an array of remarks (text) and cases `[rule, data, result]`.
///
/// Data that is no object can't be an evaluation context; there the rule runs with it as the scope of a `map`.
///
/// # Errors
/// A table of another form.
pub fn run_json_logic<E: Engine>(table: &str) -> anyhow::Result<Report> {
    let mut report = Report::default();
    for case in serde_json::from_str::<Vec<Json>>(table)?.iter().filter(|case| !case.is_string()) {
        let [rule, data, result] = three(case)?;
        let outcome = if data.is_object() {
            E::check_rule(rule, "flag", &Subject::with_attributes(data), &Ok(result.clone()))
        } else {
            E::check_rule(&json!({"map": [[data], rule]}), "flag", &Subject::default(), &Ok(json!([result])))
        };
        report.count(case, outcome);
    }
    Ok(report)
}

/// Runs our own table of rules: an array of groups
/// `{"about": TEXT, "flagKey": TEXT?, "targetingKey": ANY?, "cases": [[RULE, DATA, RESULT], …], "errors": [[RULE, DATA, CODE], …]}`.
///
/// # Errors
/// A table of another form.
pub fn run_rules<E: Engine>(table: &str) -> anyhow::Result<Report> {
    let mut report = Report::default();
    for group in serde_json::from_str::<Vec<Json>>(table)? {
        let about = group["about"].as_str().context("a group needs an `about`")?;
        let flag_key = group["flagKey"].as_str().unwrap_or("flag");
        for (case, is_error) in
            members(&group, "cases").map(|c| (c, false)).chain(members(&group, "errors").map(|c| (c, true)))
        {
            let [rule, data, expected] = three(case).context(about.to_owned())?;
            let subject = subject(&group, data)?;
            let expected = if is_error { Err(error_code(expected)?) } else { Ok(expected.clone()) };
            let outcome = E::check_rule(rule, flag_key, &subject, &expected);
            report.count(case, outcome.map_err(|found| format!("{found} ({about})")));
        }
    }
    Ok(report)
}

/// Runs our own table of flags: an array of groups
/// `{"about": TEXT, "definition": {…}, "targetingKey": ANY?, "cases": [[KEY, DATA, KIND, {"value", "variant", "reason", "error", "metadata"}], …]}`.
/// Each case reads a flag; what the result does not name is the caller's value, no variant, no error, no metadata.
///
/// # Errors
/// A table of another form, or a definition that is refused whole.
pub fn run_flags<E: Engine>(table: &str) -> anyhow::Result<Report> {
    let mut report = Report::default();
    for group in serde_json::from_str::<Vec<Json>>(table)? {
        let about = group["about"].as_str().context("a group needs an `about`")?;
        let engine = E::load(&group["definition"].to_string()).context(about.to_owned())?;
        for case in members(&group, "cases") {
            let (Some(key), data, Some(kind), expected) = (case[0].as_str(), &case[1], case[2].as_str(), &case[3])
            else {
                bail!("{about}: {case} is not [key, data, kind, result]");
            };
            let (kind, fallback) = match kind {
                "Boolean" => (Kind::Boolean, json!(false)),
                "String" => (Kind::String, json!("fallback")),
                "Integer" => (Kind::Integer, json!(-1)),
                "Float" => (Kind::Float, json!(-0.5)),
                "Object" => (Kind::Object, json!({"fallback": true})),
                _ => bail!("{about}: {kind} is no kind"),
            };
            let answer = engine.evaluate(key, &subject(&group, data)?, kind, &fallback);
            let outcome = match_answer(&answer, expected, &fallback);
            report.count(case, outcome.map_err(|what| format!("another {what}: {answer:?} ({about})")));
        }
    }
    Ok(report)
}

/// Which part of the answer differs from what is expected, if any.
fn match_answer(answer: &Answer, expected: &Json, fallback: &Json) -> Result<(), String> {
    let same = |what: &str, same: bool| if same { Ok(()) } else { Err(what.to_owned()) };
    let metadata = expected.get("metadata").cloned().unwrap_or_else(|| json!({}));
    same("value", same_json(&answer.value, expected.get("value").unwrap_or(fallback)))?;
    same("variant", answer.variant.as_deref() == expected["variant"].as_str())?;
    same("reason", Some(answer.reason.to_string().as_str()) == expected["reason"].as_str())?;
    same("error code", answer.error_code.map(|code| code.to_string()).as_deref() == expected["error"].as_str())?;
    same("metadata", same_json(&Json::Object(answer.metadata.clone()), &metadata))
}

fn subject(group: &Json, data: &Json) -> anyhow::Result<Subject> {
    ensure!(data.is_object(), "{data} is no evaluation context");
    Ok(Subject {
        targeting_key: group.get("targetingKey").cloned(),
        attributes: data.as_object().cloned().unwrap_or_default(),
        unix_seconds: unix_seconds(),
    })
}

fn members<'a>(group: &'a Json, name: &str) -> impl Iterator<Item = &'a Json> {
    group[name].as_array().into_iter().flatten()
}

fn three(case: &Json) -> anyhow::Result<[&Json; 3]> {
    match case.as_array().map(Vec::as_slice) {
        Some([rule, data, result]) => Ok([rule, data, result]),
        _ => bail!("{case} is not [rule, data, result]"),
    }
}

fn error_code(code: &Json) -> anyhow::Result<ErrorCode> {
    Ok(match code.as_str() {
        Some("PARSE_ERROR") => ErrorCode::ParseError,
        Some("GENERAL") => ErrorCode::General,
        _ => bail!("{code} is no error code of a rule"),
    })
}
