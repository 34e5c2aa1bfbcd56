//! Rules that others name by `{"$ref": "NAME"}`, as flagd's `$evaluators` have them: a flag's own, or segments.

use serde_json::{Map, Value};

/// How deep they may name each other.
const DEEPEST: usize = 32;

/// How many values a flag's rule may have when all is written out: beyond what a host takes, so that nobody waits for what is refused anyway.
pub(crate) const MOST_VALUES: usize = 100_000;

/// How many bytes its texts may have then.
pub(crate) const MOST_BYTES: usize = 8 << 20;

/// What may still be written out for one flag: all that it needs shares it.
#[derive(Debug)]
pub(crate) struct Budget {
    values: usize,
    bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { values: MOST_VALUES, bytes: MOST_BYTES }
    }
}

impl Budget {
    /// Takes a value with texts of so many bytes; `None` where that is too much.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<()> {
        self.values = self.values.checked_sub(1)?;
        self.bytes = self.bytes.checked_sub(bytes)?;
        Some(())
    }
}

/// A rule with what it names, as `find` tells, written out. What names nothing that is there stays as it is.
///
/// `None` where that comes to no end, or to more than the budget.
pub(crate) fn written_out<'e>(
    rule: &Value,
    find: impl Fn(&str) -> Option<&'e Value>,
    budget: &mut Budget,
) -> Option<Value> {
    Writer { find, budget }.write(rule, 0)
}

/// Those of `evaluators` that a rule names, and that these name.
pub(crate) fn named<'e>(
    rule: &Value,
    evaluators: &'e Map<String, Value>,
    named: &mut std::collections::BTreeMap<&'e str, &'e Value>,
) {
    let mut waiting = vec![rule];
    while let Some(value) = waiting.pop() {
        if let Some((name, rule)) = reference(value).and_then(|name| evaluators.get_key_value(name)) {
            if named.insert(name, rule).is_none() {
                waiting.push(rule);
            }
            continue;
        }
        match value {
            Value::Array(items) => waiting.extend(items),
            Value::Object(members) => waiting.extend(members.values()),
            _ => {}
        }
    }
}

struct Writer<'b, F> {
    find: F,
    budget: &'b mut Budget,
}

impl<'e, F: Fn(&str) -> Option<&'e Value>> Writer<'_, F> {
    fn write(&mut self, rule: &Value, depth: usize) -> Option<Value> {
        let bytes = match rule {
            Value::String(text) => text.len(),
            Value::Object(members) => members.keys().map(String::len).sum(),
            _ => 0,
        };
        self.budget.take(bytes)?;
        if depth > DEEPEST {
            return None;
        }
        if let Some(named) = reference(rule).and_then(|name| (self.find)(name)) {
            return self.write(named, depth + 1);
        }
        match rule {
            Value::Array(items) => items.iter().map(|item| self.write(item, depth)).collect(),
            Value::Object(members) => {
                let members = members.iter().map(|(name, value)| Some((name.clone(), self.write(value, depth)?)));
                members.collect::<Option<Map<_, _>>>().map(Value::Object)
            }
            other => Some(other.clone()),
        }
    }
}

/// The name in `{"$ref": NAME}`.
pub(crate) fn reference(value: &Value) -> Option<&str> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    object.get("$ref")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn references_are_written_out() {
        let evaluators = map(json!({"a": {"==": [{"$ref": "b"}, 1]}, "b": {"var": "x"}, "unused": true}));
        let rule = json!({"if": [{"$ref": "a"}, "on", {"$ref": "nobody"}]});
        let expected = json!({"if": [{"==": [{"var": "x"}, 1]}, "on", {"$ref": "nobody"}]});
        assert_eq!(written_out(&rule, |name| evaluators.get(name), &mut Budget::default()), Some(expected));
        let mut found = std::collections::BTreeMap::new();
        named(&rule, &evaluators, &mut found);
        assert_eq!(found.into_keys().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_comes_to_no_end_is_given_up() {
        let circle = map(json!({"a": {"!": [{"$ref": "b"}]}, "b": {"$ref": "a"}}));
        assert_eq!(written_out(&json!({"$ref": "a"}), |name| circle.get(name), &mut Budget::default()), None);
        let doubling: Map<String, Value> = (0..30)
            .map(|at| {
                (format!("r{at}"), json!({"and": [{"$ref": format!("r{}", at + 1)}, {"$ref": format!("r{}", at + 1)}]}))
            })
            .chain([("r30".to_owned(), json!(true))])
            .collect();
        assert_eq!(
            written_out(&json!({"$ref": "r0"}), |name| doubling.get(name), &mut Budget::default()),
            None,
            "2^30 values"
        );
        let mut found = std::collections::BTreeMap::new();
        named(&json!({"$ref": "r0"}), &doubling, &mut found);
        assert_eq!(found.len(), 31);
    }
    #[test]
    fn long_texts_count_and_so_does_what_was_written_before() {
        let long = map(json!({"long": {"==": [{"var": "x"}, "x".repeat(1 << 20)]}}));
        let times = |times: usize| json!({"or": vec![json!({"$ref": "long"}); times]});
        let mut budget = Budget::default();
        assert!(written_out(&times(5), |name| long.get(name), &mut budget).is_some());
        assert_eq!(written_out(&times(5), |name| long.get(name), &mut budget), None, "10 MiB of both");
        assert_eq!(written_out(&times(100), |name| long.get(name), &mut Budget::default()), None, "100 MiB");
    }
}
