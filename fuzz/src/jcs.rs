//! The target of canonical JSON (RFC 8785): ours against a second printer.
use contextvm_announce::schema::{MAX_TOOL, canonical};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::seeds::{Seed, texts};

/// Values: the canonical form is what a second printer makes of what a second parser reads, and its own canonical form.
pub fn jcs(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        assert!(
            raw(text).is_none_or(|raw| canonical("t", raw, None).is_err()),
            "what is no json has no form"
        );
        return;
    };
    let Some(input) = raw(text) else { return };
    let Ok(form) = canonical("t", input, None) else { return };
    assert!(text.len() <= MAX_TOOL);
    let mut expected = String::new();
    print(&value, &mut expected);
    assert_eq!(form, format!(r#"{{"inputSchema":{expected},"name":"t"}}"#));
    let again = raw(&expected).expect("the canonical form is json");
    assert_eq!(canonical("t", again, None).as_ref(), Ok(&form));
    if text.len() < 2_000 {
        let both = canonical(text, again, Some(again)).expect("each of them has a form");
        let mut name = String::new();
        string(text, &mut name);
        let output =
            if expected == "null" { String::new() } else { format!(r#","outputSchema":{expected}"#) };
        assert_eq!(both, format!(r#"{{"inputSchema":{expected},"name":{name}{output}}}"#));
    }
}

fn raw(text: &str) -> Option<&RawValue> {
    serde_json::from_str(text).ok()
}

/// Keys that are dropped wherever they stand, because they say nothing about how a tool is called.
fn is_dropped(key: &str) -> bool {
    let annotations =
        ["title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "__proto__"];
    key.starts_with("x-") || annotations.contains(&key)
}

fn print(value: &Value, out: &mut String) {
    match value {
        Value::Null | Value::Bool(_) => out.push_str(&value.to_string()),
        Value::Number(number) => out.push_str(&double(number.as_f64().expect("every number is a double"))),
        Value::String(text) => string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                print(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().filter(|(key, _)| !is_dropped(key)).collect();
            members.sort_by_key(|(key, _)| key.encode_utf16().collect::<Vec<u16>>());
            out.push('{');
            for (index, (key, value)) in members.into_iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                string(key, out);
                out.push(':');
                print(value, out);
            }
            out.push('}');
        }
    }
}

fn string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// ECMA-262, Number::toString: the shortest digits, laid out by where the point is.
fn double(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let text = format!("{:e}", value.abs());
    let (digits, exponent) = text.split_once('e').expect("it has an exponent");
    let digits = even(digits.replace('.', ""), value);
    let point = exponent.parse::<i32>().expect("it is a number") + 1;
    let count = i32::try_from(digits.len()).expect("there are few digits");
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let at = |at: i32| digits.split_at(usize::try_from(at).unwrap_or(0));
    let layout = if count <= point && point <= 21 {
        format!("{digits}{}", zeros(point - count))
    } else if 0 < point && point <= 21 {
        let (whole, rest) = at(point);
        format!("{whole}.{rest}")
    } else if -6 < point && point <= 0 {
        format!("0.{}{digits}", zeros(-point))
    } else {
        let (first, rest) = at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        format!("{first}{dot}{rest}e{}{}", if point > 0 { "+" } else { "-" }, (point - 1).abs())
    };
    format!("{}{layout}", if value < 0.0 { "-" } else { "" })
}

/// Of two digits that are as near, ECMA-262 wants the even one; Rust gives the greater.
fn even(digits: String, value: f64) -> String {
    if digits.len() < 15 || !digits.ends_with(['1', '3', '5', '7', '9']) {
        return digits;
    }
    let exact = format!("{:.800e}", value.abs()).replace('.', "");
    let exact = exact.split('e').next().unwrap_or_default().trim_end_matches('0');
    match exact.strip_suffix('5') {
        Some(lower) if lower.len() == digits.len() => lower.to_owned(),
        _ => digits,
    }
}

/// The inputs of `corpus/jcs`.
pub(crate) fn seeds() -> Vec<Seed> {
    texts(
        "jcs",
        &[
            ("zero", "[-0,-0.0,0e9,1e-400]"),
            (
                "integers",
                "[1,-1,9007199254740993,18446744073709551615,-9223372036854775809,123456789012345680000]",
            ),
            ("points", "[1.0,0.5,12.75,0.000001,1e-7,1.5e-7,1e20,1e21,1.5e21,5e-324,1.7976931348623157e308]"),
            // Halfway between two doubles of sixteen digits: the reference was wrong.
            ("tie", "[1,-1709551373713075.25,1709551373713076.75]"),
            ("infinity", "1e309"),
            ("strings", r#"["\u0000\b\t\n\f\r\u001f\"\\\/\u007f\u2028\ud83d\ude00é"]"#),
            ("lone", r#""\ud800""#),
            ("order", r#"{"\uffff":1,"\ud83d\ude00":2,"z":3,"":4,"10":5,"9":6,"é":7}"#),
            ("twice", r#"{"a":1,"a":{"b":1,"\u0062":2}}"#),
            ("dropped", r#"{"title":1,"x-":2,"a":{"default":3,"__proto__":{"b":1}},"titles":4}"#),
            ("reference", r##"{"$ref":"#/a","b":[{"$ref":"c"}]}"##),
            ("null", "null"),
            ("deep", "[[[[{}]]]]"),
            ("spaces", " { \"b\" : [ true , false ] , \"a\" : null } "),
            ("cut", r#"{"a":"#),
        ],
    )
}
