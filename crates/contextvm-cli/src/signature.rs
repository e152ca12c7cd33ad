//! Tools as signatures: `get(city: string, days?: integer) -> {temp: number}`.
use contextvm::core::Printable;
use serde_json::Value;

use crate::arguments::{resolve, types};

/// How deep types are spelled out.
const DEPTH: u8 = 3;
/// Most fields and alternatives spelled out at one level.
const WIDTH: usize = 24;

/// Prints the signature of one entry of `tools/list`.
pub(crate) fn signature(tool: &Value) -> String {
    let name = tool.get("name").and_then(Value::as_str).unwrap_or("?");
    let input = tool.get("inputSchema").unwrap_or(&Value::Null);
    let mut text = format!("{}({})", shown(name), fields(input, input, DEPTH));
    if let Some(output) = tool.get("outputSchema") {
        text.push_str(" -> ");
        text.push_str(&type_text(output, output));
    }
    text
}

/// Prints a type.
pub(crate) fn type_text(schema: &Value, root: &Value) -> String {
    typed(schema, root, DEPTH)
}

fn typed(schema: &Value, root: &Value, depth: u8) -> String {
    let schema = resolve(schema, root);
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return alternatives(values.iter().map(literal));
    }
    if let Some(value) = schema.get("const") {
        return literal(value);
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(branches) = schema.get(key).and_then(Value::as_array).filter(|_| depth > 0) {
            return alternatives(branches.iter().map(|branch| typed(branch, root, depth - 1)));
        }
    }
    let wanted = types(schema, root);
    let mut names = Vec::new();
    for (takes, name) in [
        (wanted.string, "string"),
        (wanted.integer, "integer"),
        (wanted.number, "number"),
        (wanted.boolean, "boolean"),
        (wanted.null, "null"),
    ] {
        if takes {
            names.push(name.to_owned());
        }
    }
    if wanted.array {
        let items = schema.get("items").filter(|_| depth > 0);
        let item = items.map_or_else(|| "any".to_owned(), |items| typed(items, root, depth - 1));
        names.push(if item.contains('|') { format!("({item})[]") } else { format!("{item}[]") });
    }
    if wanted.object {
        let known = schema.get("properties").and_then(Value::as_object).is_some_and(|all| !all.is_empty());
        names.push(match known && depth > 0 {
            true => format!("{{{}}}", fields(schema, root, depth - 1)),
            false => "object".to_owned(),
        });
    }
    if names.is_empty() { "any".to_owned() } else { alternatives(names.into_iter()) }
}

fn alternatives(parts: impl Iterator<Item = String>) -> String {
    let mut parts: Vec<String> = parts.take(WIDTH + 1).collect();
    if parts.len() > WIDTH {
        parts.truncate(WIDTH);
        parts.push("...".to_owned());
    }
    parts.dedup();
    parts.join("|")
}

fn literal(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| format!("\"{}\"", shown(text)))
}

/// Prints the fields of an object, required ones first.
fn fields(schema: &Value, root: &Value, depth: u8) -> String {
    let schema = resolve(schema, root);
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return String::new() };
    let is_required = |name: &String| required.contains(&name.as_str());
    let (first, then): (Vec<_>, Vec<_>) = properties.iter().partition(|(name, _)| is_required(name));
    let all = first.into_iter().chain(then).map(|(name, schema)| {
        let mark = if is_required(name) { "" } else { "?" };
        format!("{}{mark}: {}", shown(name), typed(schema, root, depth))
    });
    let mut all: Vec<String> = all.take(WIDTH + 1).collect();
    if all.len() > WIDTH {
        all.truncate(WIDTH);
        all.push("...".to_owned());
    }
    all.join(", ")
}

fn shown(text: &str) -> String {
    Printable::short(text, 80).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_tool_is_one_line() {
        let tool = json!({
            "name": "get_current",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "number"},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "unit": {"enum": ["c", "f"]},
                    "at": {"$ref": "#/$defs/at"},
                    "n": {"type": ["integer", "null"]},
                },
                "required": ["city"],
                "$defs": {"at": {"type": "object", "properties": {"lat": {"type": "number"}}}},
            },
            "outputSchema": {"type": "object", "properties": {"temp": {"type": "number"}}, "required": ["temp"]},
        });
        assert_eq!(
            signature(&tool),
            r#"get_current(city: string, at?: {lat?: number}, days?: number, n?: integer|null, tags?: string[], unit?: "c"|"f") -> {temp: number}"#
        );
    }

    #[test]
    fn a_hostile_tool_name_cannot_break_the_line() {
        let text = signature(&json!({"name": "a\nb\u{1b}[2J"}));
        assert!(!text.contains('\n') && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn an_endless_schema_has_an_end() {
        let schema = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
        assert_eq!(type_text(&schema, &schema), "{next?: {next?: {next?: object}}}");
    }
}
