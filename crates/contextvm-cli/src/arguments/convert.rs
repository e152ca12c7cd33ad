//! From typed text to the JSON that a schema wants.
use contextvm::core::object::quote;
use serde_json::Value;

use super::parse::{Argument, Form, json};
use super::schema::{items, listed, types};
use super::{Node, invalid, shown};
use crate::problem::Problem;

/// Converts the value of an argument that stands alone.
pub(super) fn value(argument: &Argument, schema: &Value, root: &Value) -> Result<Node, Problem> {
    let text = match &argument.form {
        Form::Json(json) => return Ok(Node::Leaf(json.clone())),
        Form::String(text) => return Ok(Node::Leaf(quote(text))),
        Form::Text(text) => text,
    };
    let wanted = types(schema, root);
    if wanted.array && !wanted.string {
        return if text.trim_start().starts_with('[') {
            json(&argument.key, text).map(Node::Leaf)
        } else {
            Ok(Node::List(vec![item(argument, schema, root)?]))
        };
    }
    scalar(&argument.key, text, schema, root).map(Node::Leaf)
}

/// Converts one item of a list.
pub(super) fn item(argument: &Argument, schema: &Value, root: &Value) -> Result<String, Problem> {
    match &argument.form {
        Form::Json(json) => Ok(json.clone()),
        Form::String(text) => Ok(quote(text)),
        Form::Text(text) => scalar(&argument.key, text, items(schema, root), root),
    }
}

fn scalar(key: &str, text: &str, schema: &Value, root: &Value) -> Result<String, Problem> {
    if let Some(values) = listed(schema, root) {
        return one_of(key, text, &values);
    }
    let wanted = types(schema, root);
    // A schema that takes strings gets the text as it is, `42` and `true` included.
    if wanted.string || wanted.is_any() {
        return Ok(quote(text));
    }
    let trimmed = text.trim();
    let fitting = match trimmed {
        "true" | "false" => wanted.boolean,
        "null" => wanted.null,
        number if is_number(number) => wanted.number || wanted.integer && is_whole(number),
        object if object.starts_with('{') => wanted.object,
        list if list.starts_with('[') => wanted.array,
        _ => false,
    };
    if fitting {
        return json(key, trimmed);
    }
    let mut names = Vec::new();
    for (takes, name) in [
        (wanted.integer, "a whole number"),
        (wanted.number, "a number"),
        (wanted.boolean, "true or false"),
        (wanted.array, "a list"),
        (wanted.object, "an object: name.field=value or name:='{...}'"),
        (wanted.null, "null"),
    ] {
        if takes {
            names.push(name);
        }
    }
    Err(invalid(format!("{} wants {}, not {}", shown(key), names.join(" or "), shown(text))))
}

/// Finds a listed value: first as text, then as JSON.
fn one_of(key: &str, text: &str, values: &[&Value]) -> Result<String, Problem> {
    if values.iter().any(|value| value.as_str() == Some(text)) {
        return Ok(quote(text));
    }
    let meant: Option<Value> = serde_json::from_str(text).ok();
    if meant.is_some_and(|meant| values.contains(&&meant)) {
        return json(key, text);
    }
    Err(not_listed(key, &shown(text), values))
}

/// Says which values there are.
pub(super) fn not_listed(key: &str, given: &str, values: &[&Value]) -> Problem {
    let names: Vec<&str> = values.iter().filter_map(|value| value.as_str()).collect();
    let problem = invalid(format!("{} cannot be {given}", shown(key)));
    let problem = match crate::nearest::nearest(given.trim_matches('"'), names) {
        Some(near) => problem.fact(format!("did you mean: {}", contextvm::core::Printable(near))),
        None => problem,
    };
    let listed = values
        .iter()
        .take(40)
        .map(|value| value.as_str().map_or_else(|| crate::signature::literal(value), shown));
    problem.fact(format!("it takes: {}", listed.collect::<Vec<_>>().join(", ")))
}

fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && serde_json::from_str::<serde_json::Number>(text).is_ok()
}

fn is_whole(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit())
}
