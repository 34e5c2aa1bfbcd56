//! The flags that are measured.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// The key of the static flag `number`.
pub(crate) fn key(number: usize) -> String {
    format!("feature-{number:06}")
}

/// What the static flag `number` answers.
pub(crate) fn answer(number: usize) -> bool {
    // Some mixing, so that neighbours differ without a pattern.
    number.wrapping_mul(0x9E37_79B9) & 0x400 != 0
}

/// A definition of `number` static boolean flags, as JSON.
pub(crate) fn static_flags(number: usize) -> String {
    with_rules(number, &[])
}

/// The same with flags that have targeting: each true for whom its rule gives `on`.
pub(crate) fn with_rules(number: usize, rules: &[(&str, Value)]) -> String {
    let mut text = String::with_capacity(number * 110 + 100);
    text.push_str("{\"flags\":{");
    for index in 0..number {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(text, "{comma}\"{}\":{}", key(index), static_flag(answer(index)));
    }
    for (index, (key, rule)) in rules.iter().enumerate() {
        let comma = if index + number == 0 { "" } else { "," };
        let flag = json!({
            "state": "ENABLED",
            "variants": {"on": true, "off": false},
            "defaultVariant": "off",
            "targeting": rule,
        });
        let _ = write!(text, "{comma}\"{key}\":{flag}");
    }
    text.push_str("}}\n");
    text
}

/// A definition of one of them.
pub(crate) fn one_static_flag(number: usize) -> String {
    format!("{{\"flags\":{{\"{}\":{}}}}}\n", key(number), static_flag(answer(number)))
}

fn static_flag(on: bool) -> String {
    let variant = if on { "on" } else { "off" };
    format!(r#"{{"state":"ENABLED","variants":{{"on":true,"off":false}},"defaultVariant":"{variant}"}}"#)
}

/// `text` of [`static_flags`] with the flag `number` turned the other way.
pub(crate) fn with_one_turned(text: &str, number: usize) -> String {
    let on = answer(number);
    let flag = |on| format!("\"{}\":{}", key(number), static_flag(on));
    text.replacen(&flag(on), &flag(!on), 1)
}

/// One comparison of an attribute with text.
pub(crate) fn equality() -> Value {
    json!({"if": [{"==": [{"var": "country"}, "DE"]}, "on", "off"]})
}

/// Two levels of `and` and `or` over four attributes.
pub(crate) fn two_levels() -> Value {
    json!({"if": [
        {"or": [
            {"and": [{"==": [{"var": "tier"}, "premium"]}, {"==": [{"var": "country"}, "DE"]}]},
            {"and": [{">=": [{"var": "age"}, 18]}, {"==": [{"var": "beta"}, true]}]},
        ]},
        "on",
        "off",
    ]})
}

/// Half of all users.
pub(crate) fn half() -> Value {
    json!({"fractional": [["on", 50], ["off", 50]]})
}

/// The user's id as text of fixed length.
pub(crate) fn user(number: usize) -> String {
    format!("user-{number:08}")
}

/// Whether the user is one of `number` written in the rule: those with even numbers.
pub(crate) fn written_ids(number: usize) -> Value {
    let ids: Vec<String> = (0..number).map(|index| user(index * 2)).collect();
    json!({"if": [{"in": [{"var": "targetingKey"}, ids]}, "on", "off"]})
}

/// Whether the user is in the id list `name`.
pub(crate) fn listed_ids(name: &str) -> Value {
    json!({"if": [{"in": [{"var": "targetingKey"}, {"var": format!("$lists.{name}")}]}, "on", "off"]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_json_of_so_many_flags() {
        let value: Value = serde_json::from_str(&with_rules(10, &[("half", half())])).unwrap();
        assert_eq!(value["flags"].as_object().unwrap().len(), 11);
        assert_eq!(value["flags"]["half"]["targeting"]["fractional"][0][1], 50);
    }

    #[test]
    fn exactly_one_flag_is_turned() {
        let before = static_flags(100);
        let after = with_one_turned(&before, 42);
        let (before, after): (Value, Value) =
            (serde_json::from_str(&before).unwrap(), serde_json::from_str(&after).unwrap());
        for number in 0..100 {
            let same = before["flags"][key(number)] == after["flags"][key(number)];
            assert_eq!(same, number != 42);
        }
    }

    #[test]
    fn answers_are_mixed() {
        let trues = (0..1000).filter(|number| answer(*number)).count();
        assert!((300..700).contains(&trues), "{trues}");
    }
}
