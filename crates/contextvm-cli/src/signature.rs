//! Tools as signatures: `get(city: string, days?: integer) -> {temp: number}`.
use std::collections::HashSet;

use contextvm::core::Printable;
use serde_json::Value;

use crate::arguments::{resolve, types};

/// How deep types are spelled out.
const DEPTH: u8 = 3;
/// Most fields and alternatives spelled out at one level.
const WIDTH: usize = 24;
/// Most fields, types and values spelled out of one schema, which may refer to itself in many ways.
const PARTS: usize = 500;
/// Stands for what is not spelled out.
const MORE: &str = "...";

/// Prints the signature of one entry of `tools/list`.
pub(crate) fn signature(tool: &Value) -> String {
    let name = tool.get("name").and_then(Value::as_str).unwrap_or("?");
    let input = tool.get("inputSchema").unwrap_or(&Value::Null);
    let mut text = format!("{}({})", shown(name), Speller::new(input).fields(input, DEPTH));
    if let Some(output) = tool.get("outputSchema") {
        text.push_str(" -> ");
        text.push_str(&type_text(output, output));
    }
    text
}

/// Prints a type.
pub(crate) fn type_text(schema: &Value, root: &Value) -> String {
    Speller::new(root).typed(schema, DEPTH)
}

/// Spells types out until it has said enough.
struct Speller<'a> {
    root: &'a Value,
    said: usize,
}

impl<'a> Speller<'a> {
    const fn new(root: &'a Value) -> Self {
        Self { root, said: 0 }
    }

    /// Prints the type of a schema.
    fn typed(&mut self, schema: &Value, depth: u8) -> String {
        self.said += 1;
        if self.said > PARTS {
            return MORE.to_owned();
        }
        let schema = resolve(schema, self.root);
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            self.said += values.len().min(WIDTH);
            return alternatives(values.iter().map(literal));
        }
        if let Some(value) = schema.get("const") {
            return literal(value);
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(branches) = schema.get(key).and_then(Value::as_array).filter(|_| depth > 0) {
                return alternatives(branches.iter().map(|branch| self.typed(branch, depth - 1)));
            }
        }
        self.plain(schema, depth)
    }

    /// Prints a type without alternatives of its own.
    fn plain(&mut self, schema: &Value, depth: u8) -> String {
        let wanted = types(schema, self.root);
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
            let item = items.map_or_else(|| "any".to_owned(), |items| self.typed(items, depth - 1));
            names.push(if item.contains('|') { format!("({item})[]") } else { format!("{item}[]") });
        }
        if wanted.object {
            let known =
                schema.get("properties").and_then(Value::as_object).is_some_and(|all| !all.is_empty());
            names.push(match known && depth > 0 {
                true => format!("{{{}}}", self.fields(schema, depth - 1)),
                false => "object".to_owned(),
            });
        }
        if names.is_empty() { "any".to_owned() } else { alternatives(names.into_iter()) }
    }

    /// Prints the fields of an object, required ones first.
    fn fields(&mut self, schema: &Value, depth: u8) -> String {
        let schema = resolve(schema, self.root);
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        let required: HashSet<&str> = required.filter_map(Value::as_str).collect();
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return String::new();
        };
        let is_required = |name: &String| required.contains(name.as_str());
        let (first, then): (Vec<_>, Vec<_>) = properties.iter().partition(|(name, _)| is_required(name));
        let has_more = properties.len() > WIDTH;
        let mut all = Vec::new();
        for (name, schema) in first.into_iter().chain(then).take(WIDTH) {
            if self.said > PARTS {
                break;
            }
            let mark = if is_required(name) { "" } else { "?" };
            all.push(format!("{}{mark}: {}", shown(name), self.typed(schema, depth)));
        }
        if has_more || self.said > PARTS {
            all.push(MORE.to_owned());
        }
        all.join(", ")
    }
}

fn alternatives(parts: impl Iterator<Item = String>) -> String {
    let mut parts: Vec<String> = parts.take(WIDTH + 1).collect();
    if parts.len() > WIDTH {
        parts.truncate(WIDTH);
        parts.push(MORE.to_owned());
    }
    parts.dedup();
    parts.join("|")
}

/// Prints a listed value; a list or an object is not spelled out.
pub(crate) fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => format!("\"{}\"", shown(text)),
        Value::Array(_) => "[...]".to_owned(),
        Value::Object(_) => "{...}".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) => shown(&value.to_string()),
    }
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
    fn values_that_are_no_text_cannot_break_the_line_either() {
        let odd = json!({"enum": [["\u{9b}2J\u{202e}"], {"\u{9b}": 1}, 1.5, null, true, "\u{9b}"]});
        let text = type_text(&odd, &odd);
        assert!(text.starts_with("[...]|{...}|1.5|null|true|") && text.is_ascii(), "{text}");
    }

    #[test]
    fn a_short_schema_with_endless_ways_through_it_has_a_short_signature() {
        let wide = json!({"$ref": "#/properties/a"});
        let all = json!({"type": "object", "properties": {"a": {"allOf": vec![wide.clone(); 1_000]}}});
        assert_eq!(type_text(&all, &all), "{a?: any}");
        let any = json!({"type": "object", "properties": {"a": {"anyOf": vec![wide; 1_000]}}});
        assert!(type_text(&any, &any).len() < 10_000);
        let names = (0..25).map(|nth| (format!("{nth}").repeat(40), json!({"$ref": "#"})));
        let deep = json!({"type": "object", "properties": names.collect::<serde_json::Map<_, _>>()});
        let text = type_text(&deep, &deep);
        assert!(text.len() < 100_000 && text.ends_with("...}"), "{}", text.len());
        let values: Vec<u32> = (0..1_000).collect();
        let names = (0..25).map(|nth| (nth.to_string(), json!({"enum": values})));
        let listed = json!({"type": "object", "properties": names.collect::<serde_json::Map<_, _>>()});
        assert!(type_text(&listed, &listed).len() < 10_000);
    }

    #[test]
    fn an_endless_schema_has_an_end() {
        let schema = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
        assert_eq!(type_text(&schema, &schema), "{next?: {next?: {next?: object}}}");
    }
}
