//! Texts that are made to cost too much or to be read in two ways.
use contextvm_core::object::compact;
use contextvm_core::rewrite::Rewrite;
use contextvm_core::{Capability, Envelope, EnvelopeError, Limits, Scan, ScanError, scan};

/// 200 shapes of bombs: twenty families, each in ten sizes.
fn bombs() -> Vec<(String, String)> {
    type Family = (&'static str, fn(usize) -> String);
    let sizes = [1, 7, 63, 64, 65, 500, 4_000, 30_000, 65_536, 130_000];
    let families: &[Family] = &[
        ("open arrays", |n| "[".repeat(n)),
        ("nested arrays", |n| format!("{}{}", "[".repeat(n), "]".repeat(n))),
        ("open objects", |n| r#"{"a":"#.repeat(n)),
        ("nested objects", |n| format!("{}1{}", r#"{"a":"#.repeat(n), "}".repeat(n))),
        ("nested both", |n| format!("{}1{}", r#"[{"a":"#.repeat(n), "}]".repeat(n))),
        ("wide array", |n| format!("[{}0]", "0,".repeat(n))),
        ("wide array of empty arrays", |n| format!("[{}0]", "[],".repeat(n))),
        ("wide array of empty objects", |n| format!("[{}0]", "{},".repeat(n))),
        ("wide object", |n| {
            format!("{{{}\"\":0}}", (0..n).map(|i| format!("\"{i}\":0,")).collect::<String>())
        }),
        ("wide object, keys alike but for the end", |n| {
            format!(
                "{{{}\"\":0}}",
                (0..n).map(|i| format!("\"{}{i}\":0,", "k".repeat(40))).collect::<String>()
            )
        }),
        ("one key for ever", |n| format!("{{{}\"a\":0}}", "\"a\":0,".repeat(n))),
        ("one key in many spellings", |n| format!("{{{}\"a\":0}}", r#""\u0061":0,"#.repeat(n))),
        ("keys that fall in order", |n| {
            format!("{{{}\"\":0}}", (0..n).rev().map(|i| format!("\"{i:06}\":0,")).collect::<String>())
        }),
        ("long integer", |n| "9".repeat(n)),
        ("long fraction", |n| format!("0.{}", "3".repeat(n))),
        ("long exponent", |n| format!("1e{}", "9".repeat(n))),
        ("long string", |n| format!("\"{}\"", "a".repeat(n))),
        ("string of escapes", |n| format!("\"{}\"", r"\u0000".repeat(n))),
        ("string that does not end", |n| format!("\"{}", "\\\"".repeat(n))),
        ("whitespace", |n| format!("{}0{}", " ".repeat(n), "\n".repeat(n))),
    ];
    let all = families.iter().flat_map(|(name, make)| sizes.map(|n| (format!("{name} × {n}"), make(n))));
    all.collect()
}

#[test]
fn every_bomb_is_refused_or_within_budget() {
    let limits = Limits::default();
    assert_eq!(bombs().len(), 200);
    let mut accepted = 0;
    for (name, text) in bombs() {
        match scan::check(&text, &limits) {
            Ok(Scan { nodes, depth }) => {
                accepted += 1;
                assert!(depth <= limits.json_depth, "{name}");
                assert!(nodes <= limits.json_nodes.max(text.len() / 8), "{name}");
                assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{name}");
            }
            Err(error) => {
                let size = error.to_string().len();
                assert!(size < 100, "{name}: an error holds no text of a peer");
            }
        }
        assert!(Envelope::parse(&text, &limits).is_err(), "{name}");
    }
    assert!((50..150).contains(&accepted), "{accepted} accepted: the shapes test both sides");
}

#[test]
fn the_scan_stops_where_a_budget_ends() {
    let limits = Limits::default();
    let at = |text: &str| match scan::check(text, &limits) {
        Err(ScanError::Depth { at, .. } | ScanError::Nodes { at, .. }) => at,
        other => panic!("{other:?}"),
    };
    assert_eq!(at(&"[".repeat(1_000_000)), limits.json_depth);
    assert_eq!(at(&format!("[{}", "0,".repeat(limits.json_nodes))), 2 * limits.json_nodes - 1);
    let million = (0..1_000_000).map(|i| format!("\"{i}\":0,")).collect::<String>();
    assert!(at(&format!("{{{million}\"\":0}}")) < million.len());
}

/// What two of serde_json, Python and Node read differently, or may not.
#[test]
fn what_two_parsers_read_differently_is_refused() {
    let call =
        |params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
    let scan_refusals = [
        call(r#"{"name":"a","name":"b"}"#),
        call(r#"{"name":"a","\u006eame":"b"}"#),
        call(r#"{"name":"a","arguments":{"x":{"y":1,"y":2}}}"#),
        call(r#"{"name":"a","arguments":[[{"y":1,"z":3,"y":2}]]}"#),
        call(r#"{"name":"\ud800"}"#),
        call(r#"{"name":"\udc00\ud800"}"#),
        call(r#"{"name":"\ud83d\u0061"}"#),
        call(r#"{"\ud800":1}"#),
        call(r#"{"x":1e400}"#),
        call(r#"{"x":-1e400}"#),
        call(r#"{"x":1E+99999999999999999999}"#),
        call(&format!(r#"{{"x":{}}}"#, "9".repeat(65))),
        call("{\"name\":\"a\nb\"}"),
        call("{\"name\":\"a\u{1}b\"}"),
        call("{\"name\":\"a\u{0}b\"}"),
        format!("\u{feff}{}", call("{}")),
        format!("{}\u{feff}", call("{}")),
        format!("{}{}", call("{}"), call("{}")),
        format!("{},", call("{}")),
        call(r#"{"x":01}"#),
        call(r#"{"x":+1}"#),
        call(r#"{"x":.5}"#),
        call(r#"{"x":5.}"#),
        call(r#"{"x":0x10}"#),
        call(r#"{"x":NaN}"#),
        call(r#"{"x":-Infinity}"#),
        call(r#"{"x":1,}"#),
        call(r#"{"x":[1,]}"#),
        call(r#"{"x":/**/1}"#),
        call(r#"{"x":'a'}"#),
        call(r#"{x:1}"#),
        call("{\"x\":\u{b}1}"),
        call("{\"x\":\u{a0}1}"),
        call(r#"{"x":"\x41"}"#),
        call(r#"{"x":"\v"}"#),
        call(r#"{"x":True}"#),
    ];
    for text in scan_refusals {
        let refusal = Envelope::parse(&text, &Limits::default()).map(|message| message.kind);
        assert!(matches!(refusal, Err(EnvelopeError::Scan(_))), "{text}: {refusal:?}");
    }
}

#[test]
fn forms_that_a_parser_would_change_are_kept_letter_by_letter() {
    for form in [
        "-0",
        "-0.0",
        "1.0",
        "1e2",
        "1E-400",
        "9007199254740993",
        "0.10000000000000000000000001",
        "\"\\u0041\\/\"",
    ] {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":-0,"method":"m","params":{{"x":{form},"_meta":{{"k":{form}}}}}}}"#
        );
        let message = Envelope::parse(&text, &Limits::default()).unwrap();
        assert_eq!(message.to_text(), text);
        let rewritten = Rewrite::of(&message).meta("a", "1").to_text();
        let end = "}}}";
        assert_eq!(rewritten, text.replace(end, &format!(",\"a\":1{end}")));
    }
}

#[test]
fn one_message_is_never_two_lines_after_compacting() {
    let smuggled = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{\"x\":\n{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"tools/call\"}\r\n}}";
    let message = Envelope::parse(smuggled, &Limits::default()).unwrap();
    for text in
        [compact(smuggled), compact(&message.to_text()), compact(&Rewrite::of(&message).id("3").to_text())]
    {
        assert!(!text.contains(['\n', '\r', '\0']), "{text}");
    }
}

#[test]
fn the_checked_name_is_the_name_that_a_lenient_parser_sees() {
    let limits = Limits::default();
    let keys = ["name", "Name", "NAME", "n\\u0061me", "N\\u0041me", "name ", "uri"];
    let mut agreed = 0;
    for first in keys {
        for second in keys {
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"{first}":"one","{second}":"two"}}}}"#
            );
            let Ok(message) = Envelope::parse(&text, &limits) else {
                continue;
            };
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            let lenient = value["params"]
                .as_object()
                .unwrap()
                .iter()
                .filter(|(key, _)| key.eq_ignore_ascii_case("name"));
            let seen: Vec<&str> = lenient.filter_map(|(_, value)| value.as_str()).collect();
            let checked = Capability::of(&message).unwrap().name;
            assert_eq!(seen, checked.as_deref().into_iter().collect::<Vec<_>>(), "{text}");
            agreed += 1;
        }
    }
    assert!(agreed >= 8, "{agreed} accepted");
}
