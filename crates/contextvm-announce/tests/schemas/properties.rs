//! What holds for the hash of every tool.
use contextvm_announce::schema::{canonical, hash, hash_tool};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::generate::Generator;
use crate::raw;

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z$_]{0,6}",
        1 => any::<String>(),
        1 => prop::sample::select(vec!["title", "default", "x-y", "__proto__", "properties", "$defs"]).prop_map(String::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..6).prop_map(|members| members
                .into_iter()
                .filter(|(key, _)| key != "$ref")
                .collect::<Map<_, _>>()
                .into()),
        ]
    })
}

/// Prints a value with its members in another order.
fn reversed(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(reversed).collect::<Vec<_>>().join(",")),
        Value::Object(members) => {
            let members = members.iter().rev();
            let members =
                members.map(|(key, value)| format!("{} :{}", Value::from(key.as_str()), reversed(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

/// Adds annotations to every object.
fn documented(value: &mut Value, text: &str) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| documented(item, text)),
        Value::Object(members) => {
            members.values_mut().for_each(|value| documented(value, text));
            for key in ["title", "description", "x-note"] {
                members.insert(key.into(), json!({ "$ref": text }));
            }
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn the_order_of_members_does_not_count(name in any::<String>(), schema in value()) {
        let forward = hash(&name, &raw(&schema.to_string()), None).unwrap();
        prop_assert_eq!(hash(&name, &raw(&reversed(&schema)), None).unwrap(), forward);
    }

    #[test]
    fn annotations_do_not_count(name in any::<String>(), schema in value(), text in any::<String>()) {
        let bare = hash(&name, &raw(&schema.to_string()), Some(&raw("{}"))).unwrap();
        let mut more = schema;
        documented(&mut more, &text);
        prop_assert_eq!(hash(&name, &raw(&more.to_string()), Some(&raw(&json!({"title": text}).to_string()))).unwrap(), bare);
    }

    #[test]
    fn what_was_stripped_has_the_same_canonical_form(seed in any::<u64>()) {
        let text = Generator::new(seed).tool();
        let Ok(tool) = serde_json::from_str::<&serde_json::value::RawValue>(&text) else { return Ok(()) };
        let Ok(first) = hash_tool(tool) else { return Ok(()) };
        let members: Value = serde_json::from_str(&text).unwrap();
        let schema = |key: &str| members.get(key).map(|schema| raw(&schema.to_string()));
        let name = members["name"].as_str().unwrap();
        let stripped = canonical(name, &schema("inputSchema").unwrap(), schema("outputSchema").as_deref()).unwrap();
        prop_assert_eq!(hash_tool(&raw(&stripped)).unwrap(), first);
        let again: Value = serde_json::from_str(&stripped).unwrap();
        let input = raw(&again["inputSchema"].to_string());
        let output = again.get("outputSchema").map(|schema| raw(&schema.to_string()));
        prop_assert_eq!(canonical(name, &input, output.as_deref()).unwrap(), stripped);
    }

    #[test]
    fn a_name_or_a_keyword_that_differs_makes_another_hash(a in any::<String>(), b in any::<String>()) {
        let schema = |word: &str| raw(&json!({ "const": word }).to_string());
        let hashes = [hash(&a, &schema(&a), None), hash(&b, &schema(&a), None), hash(&a, &schema(&b), None)];
        prop_assert_eq!(hashes[0] == hashes[1], a == b);
        prop_assert_eq!(hashes[0] == hashes[2], a == b);
    }
}
