//! The target of tools from strangers: their hashes (CEP-15), their marks in a list, and their pins.
use contextvm_announce::schema::{self, MAX_TOOL, hash_tool, verify};
use contextvm_announce::{CommonSchemas, SchemaHash, SchemaNote, ToolPins, Verdict};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::seeds::{Seed, texts};

/// Tools: the hash of one does not depend on how it is spelled or documented; what a list says is what a reader computes;
/// pins are read as they were printed.
pub fn tool_schema(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let Ok(tool) = serde_json::from_str::<&RawValue>(text) else { return };
    let _ = verify(tool);
    if let Ok(hash) = hash_tool(tool) {
        assert!(text.trim().len() <= MAX_TOOL);
        // A second parser may refuse what does not count. Another spelling may take eight times the room.
        if text.len() <= MAX_TOOL / 8
            && let Ok(value) = serde_json::from_str::<Value>(text)
        {
            respelled(&value, hash);
            stripped(&value, hash);
        }
    }
    listed(tool);
    if let Ok(pins) = ToolPins::of([tool]) {
        let printed = pins.to_text();
        let again = ToolPins::read(&printed).expect("printed pins can be read");
        assert!(again == pins && pins.diff(&again).is_empty() && again.to_text() == printed);
        assert_eq!(ToolPins::default().diff(&pins).added.len(), 1);
        changed(tool, &pins);
    }
}

/// What changes in a tool is named, the same from either side.
fn changed(tool: &RawValue, pins: &ToolPins) {
    let Ok(Value::Object(mut members)) = serde_json::from_str::<Value>(tool.get()) else { return };
    members.insert("description".into(), Value::from("other words, and many of them ".repeat(20)));
    members.remove("outputSchema");
    members.insert("new".into(), Value::from(1));
    let Ok(other) = ToolPins::of([&*raw(Value::Object(members).to_string())]) else { return };
    let (there, back) = (pins.diff(&other), other.diff(pins));
    assert_eq!((there.added.len(), there.removed.len(), there.changed.len()), (0, 0, 1));
    for (one, two) in there.changed[0].members.iter().zip(&back.changed[0].members) {
        assert!(one.before != one.after, "what is named has changed");
        assert_eq!((&one.member, &one.before, &one.after), (&two.member, &two.after, &two.before));
    }
}

/// Other order, other spelling, other documentation: the same hash.
fn respelled(value: &Value, hash: SchemaHash) {
    let mut text = String::new();
    shuffle(value, &mut text);
    assert_eq!(hash_tool(&raw(text)), Ok(hash));
    let mut documented = value.clone();
    for schema in ["inputSchema", "outputSchema"] {
        if let Some(Value::Object(members)) = documented.get_mut(schema) {
            members.insert("description".into(), Value::from("other words"));
        }
    }
    assert_eq!(hash_tool(&raw(documented.to_string())), Ok(hash));
}

/// What was stripped once has nothing left to strip.
fn stripped(value: &Value, hash: SchemaHash) {
    let canonical = |tool: &Value| {
        let name = tool["name"].as_str().expect("a tool with a hash has a name");
        let output = tool.get("outputSchema").map(|output| raw(output.to_string()));
        schema::canonical(name, &raw(tool["inputSchema"].to_string()), output.as_deref())
    };
    let first = canonical(value).expect("a tool with a hash has a canonical form");
    assert_eq!(hash_tool(&raw(first.clone())), Ok(hash));
    let again: Value = serde_json::from_str(&first).expect("the canonical form is json");
    assert_eq!(canonical(&again), Ok(first));
}

/// A tool is listed with the hash that its reader computes, or it is named as one without.
fn listed(tool: &RawValue) {
    let Ok(list) = RawValue::from_string(format!("{{\"tools\":[{}]}}", tool.get())) else { return };
    let name = contextvm_core::object::member(tool, "name").and_then(contextvm_core::object::string);
    let Some(name) = name else { return };
    let Ok(annotated) = CommonSchemas::default().with_tool(name).annotate(&list) else { return };
    if let [SchemaNote::Refused { error, .. }] = annotated.notes.as_slice() {
        assert_eq!((annotated.text.as_str(), annotated.tags.len()), (list.get(), 0));
        assert_eq!(hash_tool(tool), Err(*error));
        return;
    }
    let result: Value = serde_json::from_str(&annotated.text).expect("a list that was scanned is json");
    let verdict = verify(&raw(result["tools"][0].to_string()));
    assert_eq!(verdict, hash_tool(tool).map(Verdict::Match));
    assert_eq!(annotated.tags.len(), 2);
}

/// Prints members in reverse, and everything in a string as an escape.
fn shuffle(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => escape(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { " ," } else { "" });
                shuffle(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (index, (key, value)) in members.iter().rev().enumerate() {
                out.push_str(if index > 0 { " ," } else { "" });
                escape(key, out);
                out.push(':');
                shuffle(value, out);
            }
            out.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
    }
}

fn escape(text: &str, out: &mut String) {
    out.push('"');
    out.extend(text.encode_utf16().map(|unit| format!("\\u{unit:04x}")));
    out.push('"');
}

fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text).expect("it was printed as json")
}

/// The inputs of `corpus/tool_schema`.
pub(crate) fn seeds() -> Vec<Seed> {
    let hash = "60d4353e9a5499b483d09f13d9e28060e70f34edf787bb7040ba30bd390f85af";
    let claiming = |hash: &str| {
        format!(
            r#"{{"name":"a","inputSchema":{{"type":"object"}},"_meta":{{"io.contextvm/common-schema":{{"schemaHash":"{hash}"}}}}}}"#
        )
    };
    let deep = format!(r#"{{"name":"a","inputSchema":{}{}}}"#, "[".repeat(63), "]".repeat(63));
    texts(
        "tool_schema",
        &[
            ("right", &claiming(hash)),
            ("wrong", &claiming("x")),
            ("output", r#"{"name":"a","inputSchema":{"type":"object"},"outputSchema":{"x":1}}"#),
            ("null_output", r#"{"name":"a","inputSchema":true,"outputSchema":null}"#),
            (
                "annotations",
                r#"{"name":"","title":"T","inputSchema":{"title":"t","x-a":1,"properties":{"title":{},"X-a":{},"x":{"default":[{"$ref":"b"}]}}}}"#,
            ),
            ("local_ref", r##"{"name":"a","inputSchema":{"$ref":"#/$defs/b","$defs":{"b":{"$ref":7}}}}"##),
            ("external_ref", r#"{"name":"a","inputSchema":{"const":[{"$ref":""}]}}"#),
            ("proto", r##"{"name":"a","inputSchema":{"__proto__":{"$ref":"#"},"b":{"__proto__":1}}}"##),
            ("proto_ref", r#"{"name":"a","inputSchema":{"__proto__":{"$ref":"http://x"}}}"#),
            (
                "numbers",
                r#"{"name":"a","inputSchema":[-0,1.0,1e21,1E-7,9007199254740993,18446744073709551616,5e-324]}"#,
            ),
            ("infinity", r#"{"name":"a","inputSchema":{"maximum":1e999}}"#),
            (
                "keys",
                "{\"name\":\"é\",\"inputSchema\":{\"\u{ffff}\":1,\"\u{1f600}\":2,\"\\ud83d\\ude01\":3,\"\":4,\"10\":5,\"9\":6}}",
            ),
            (
                "twice",
                r#"{"name":"b","name":"a","inputSchema":{"a":1,"\u0061":2},"inputSchema":{"b":{"c":1,"c":2}}}"#,
            ),
            ("twice_and_infinity", r#"{"name":"a","inputSchema":[{"a":1,"a":2},1e999]}"#),
            ("lone", r#"{"name":"a","description":"\ud800","inputSchema":{"const":"\udc00"}}"#),
            ("deep", &deep),
            ("no_input", r#"{"name":"a"}"#),
            ("meta_is_no_object", r#"{"name":"a","inputSchema":{},"_meta":7}"#),
        ],
    )
}
