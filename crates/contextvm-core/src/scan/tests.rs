//! Every refusal of the scan by name, and what it accepts.
use super::*;
use crate::Fault;
use alloc::format;

fn limits() -> Limits {
    Limits { json_depth: 3, json_nodes: 6, json_number: 8, event: 200, child_line: 400, ..Limits::default() }
}

#[test]
fn every_refusal_has_its_own_name() {
    let long = " ".repeat(401);
    let table: &[(&str, ScanError)] = &[
        (&long, ScanError::TooLong { bytes: 401, limit: 400 }),
        ("[[[[]]]]", ScanError::Depth { at: 3, limit: 3 }),
        (r#"{"a":[{"b":{}}]}"#, ScanError::Depth { at: 11, limit: 3 }),
        ("[1,2,3,4,5,6]", ScanError::Nodes { at: 11, limit: 6 }),
        ("[123456789]", ScanError::NumberLength { at: 1, length: 9, limit: 8 }),
        ("[0.1234567]", ScanError::NumberLength { at: 1, length: 9, limit: 8 }),
        ("[1e400]", ScanError::NumberRange { at: 1 }),
        ("-1E+400", ScanError::NumberRange { at: 0 }),
        (r#""\ud800""#, ScanError::LoneSurrogate { at: 1 }),
        (r#""ab\udc00""#, ScanError::LoneSurrogate { at: 3 }),
        (r#""\ud800\u0041""#, ScanError::LoneSurrogate { at: 1 }),
        (r#""\ud800x""#, ScanError::LoneSurrogate { at: 1 }),
        (r#"{"a":1,"a":1}"#, ScanError::DuplicateKey { at: 12 }),
        (r#"{"a":1,"b":2,"\u0061":1}"#, ScanError::DuplicateKey { at: 23 }),
        (r#"{"\/":1,"/":1}"#, ScanError::DuplicateKey { at: 13 }),
        (r#"{"x":{"":1,"":2}}"#, ScanError::DuplicateKey { at: 15 }),
        ("\"a\nb\"", ScanError::ControlCharacter { at: 2 }),
        ("\"12345678\u{0}\"", ScanError::ControlCharacter { at: 9 }),
        ("\u{feff}{}", ScanError::ByteOrderMark),
        ("{} {}", ScanError::Trailing { at: 3 }),
        ("01", ScanError::Trailing { at: 1 }),
        ("", ScanError::Truncated),
        ("  ", ScanError::Truncated),
        ("[", ScanError::Truncated),
        ("[1", ScanError::Truncated),
        ("{\"a\"", ScanError::Truncated),
        ("{\"a\":", ScanError::Truncated),
        ("{\"a\":1,", ScanError::Truncated),
        ("\"a", ScanError::Truncated),
        ("\"a\\", ScanError::Truncated),
        ("\"\\u00", ScanError::Truncated),
        ("-", ScanError::Truncated),
        ("1.", ScanError::Truncated),
        ("1e", ScanError::Truncated),
        ("tru", ScanError::Truncated),
        ("[1,]", ScanError::Syntax { at: 3 }),
        ("{,}", ScanError::Syntax { at: 1 }),
        ("{1:2}", ScanError::Syntax { at: 1 }),
        ("{\"a\" 1}", ScanError::Syntax { at: 5 }),
        ("[1}", ScanError::Syntax { at: 2 }),
        ("{\"a\":1]", ScanError::Syntax { at: 6 }),
        ("'a'", ScanError::Syntax { at: 0 }),
        ("nuLl", ScanError::Syntax { at: 0 }),
        ("NaN", ScanError::Syntax { at: 0 }),
        ("\"\\x\"", ScanError::Syntax { at: 2 }),
        ("\"\\u00g0\"", ScanError::Syntax { at: 5 }),
        ("+1", ScanError::Syntax { at: 0 }),
        ("[-a]", ScanError::Syntax { at: 2 }),
        ("[.5]", ScanError::Syntax { at: 1 }),
        ("\u{a0}1", ScanError::Syntax { at: 0 }),
    ];
    for (text, error) in table {
        assert_eq!(check(text, &limits()), Err(*error), "{text}");
        assert_eq!(error.fault(), Fault::Peer);
    }
}

#[test]
fn only_cost_is_a_matter_of_budget() {
    let budget = [
        ScanError::TooLong { bytes: 1, limit: 0 },
        ScanError::Depth { at: 0, limit: 0 },
        ScanError::Nodes { at: 0, limit: 0 },
        ScanError::NumberLength { at: 0, length: 1, limit: 0 },
    ];
    assert!(budget.iter().all(ScanError::is_budget));
    let form = [
        ScanError::NumberRange { at: 0 },
        ScanError::LoneSurrogate { at: 0 },
        ScanError::DuplicateKey { at: 0 },
        ScanError::ControlCharacter { at: 0 },
        ScanError::ByteOrderMark,
        ScanError::Trailing { at: 0 },
        ScanError::Truncated,
        ScanError::Syntax { at: 0 },
    ];
    assert!(!form.iter().any(ScanError::is_budget));
}

#[test]
fn what_all_parsers_read_alike_is_accepted_and_counted() {
    let table: &[(&str, usize, usize)] = &[
        ("0", 1, 0),
        ("-0", 1, 0),
        ("\t [ ] \r\n", 1, 1),
        ("[[[]]]", 3, 3),
        (r#"{"a":{"a":1},"b":{"a":2}}"#, 5, 2),
        (r#"{"a":1,"A":2,"ä":3,"":4}"#, 5, 1),
        (r#"["😀","\ud83d\ude00","\u0000","\u007f"]"#, 5, 1),
        ("1e-400", 1, 0),
        ("1e308", 1, 0),
        ("\"\u{7f}\u{2028}\u{ffff}\"", 1, 0),
    ];
    for (text, nodes, depth) in table {
        assert_eq!(check(text, &limits()), Ok(Scan { nodes: *nodes, depth: *depth }), "{text}");
    }
}

#[test]
fn integers_beyond_two_to_the_53_are_accepted() {
    for text in ["9007199254740993", "-9007199254740993", "123456789012345678901234567890"] {
        assert!(check(text, &Limits::default()).is_ok(), "{text}");
    }
}

#[test]
fn a_long_text_may_hold_one_value_per_eight_bytes() {
    let limits = limits();
    let fits = format!("[{}\"{}\"]", "1,".repeat(24), "a".repeat(250));
    assert!(fits.len() > 200 && fits.len() / 8 >= 26);
    assert!(matches!(check(&fits, &limits), Ok(Scan { nodes: 26, .. })));
    let dense = format!("[{}1]", "1,".repeat(100));
    assert_eq!(check(&dense, &limits), Err(ScanError::Nodes { at: 49, limit: dense.len() / 8 }));
}
