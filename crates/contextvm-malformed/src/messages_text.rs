//! JSON-RPC messages: ids, batches, budgets, letters and words.
use crate::Cases;
use crate::json::{VALUES, broken};
use crate::messages::{SHAPES, Shape, unique};
use crate::world::Role;

pub(crate) fn add(cases: &mut Cases<'_>) {
    ids(cases);
    tokens(cases);
    shapes(cases);
    budgets(cases);
    texts(cases);
    strings(cases);
    literals(cases);
    methods(cases);
    notifications(cases);
}

fn ids(cases: &mut Cases<'_>) {
    let long = format!("\"{}\"", "i".repeat(10_000));
    let digits = "1".repeat(64);
    let too_long = "1".repeat(65);
    let list: [(&str, &str, Option<&str>); 38] = [
        ("0", "0", None),
        ("minus-0", "-0", None),
        ("most", "9007199254740991", None),
        ("one-more", "9007199254740992", Some("malformed Id")),
        ("least", "-9007199254740991", None),
        ("one-less", "-9007199254740992", Some("malformed Id")),
        ("i64-max", "9223372036854775807", Some("malformed Id")),
        ("u64-max", "18446744073709551615", Some("malformed Id")),
        ("exponent", "1e0", Some("malformed Id")),
        ("large-exponent", "1E2", Some("malformed Id")),
        ("fraction", "1.5", Some("malformed Id")),
        ("point-zero", "0.0", Some("malformed Id")),
        ("leading-zero", "01", Some("malformed Syntax")),
        ("plus", "+1", Some("malformed Syntax")),
        ("hex", "0x1", Some("malformed Syntax")),
        ("point-first", ".5", Some("malformed Syntax")),
        ("point-last", "5.", Some("malformed Syntax")),
        ("minus", "-", Some("malformed Syntax")),
        ("nan", "NaN", Some("malformed Syntax")),
        ("infinity", "Infinity", Some("malformed Syntax")),
        ("digits-64", &digits, Some("malformed Id")),
        ("digits-65", &too_long, Some("budget NumberLength")),
        ("1e400", "1e400", Some("malformed NumberRange")),
        ("1e308", "1e308", Some("malformed Id")),
        ("empty", "\"\"", None),
        ("space", "\" \"", None),
        ("long", &long, None),
        ("emoji", "\"😀\"", None),
        ("escaped", "\"\\u0069\"", None),
        ("nul", "\"\\u0000\"", None),
        ("newline", "\"\\n\"", None),
        ("announcement", "\"announcement\"", None),
        ("hex-64", "\"00000000000000000000000000000000000000000000000000000000000000aa\"", None),
        ("null-word", "\"null\"", None),
        ("surrogate", "\"\\ud800\"", Some("malformed LoneSurrogate")),
        ("control", "\"\u{1}\"", Some("malformed ControlCharacter")),
        ("list", "[1]", Some("malformed Id")),
        ("object", "{\"id\":1}", Some("malformed Id")),
    ];
    for shape in [Shape::Request, Shape::Response, Shape::Error] {
        for (label, value, why) in list {
            let text = unique(cases, &cases.shaped(shape).with("id", value).text());
            let want = why.map_or_else(|| shape.fine(cases.role).to_owned(), |why| format!("drop {why}"));
            cases.add(format!("id/{}/{label}", shape.name()), text, want);
        }
    }
}

/// Tokens are strings or integers of any size, and are kept as they were written.
fn tokens(cases: &mut Cases<'_>) {
    for (label, value, why) in [
        ("minus-0", "-0", None),
        ("most", "9007199254740991", None),
        ("u64-max", "18446744073709551615", None),
        ("long-digits", "1111111111111111111111111111111111", None),
        ("exponent", "1e0", Some("ProgressToken")),
        ("fraction", "0.5", Some("ProgressToken")),
        ("point-zero", "0.0", Some("ProgressToken")),
        ("leading-zero", "01", Some("Syntax")),
        ("plus", "+1", Some("Syntax")),
        ("minus", "-", Some("Syntax")),
        ("hex", "0x1", Some("Syntax")),
        ("nan", "NaN", Some("Syntax")),
        ("space", "\" \"", None),
        ("emoji", "\"😀\"", None),
        ("nul", "\"\\u0000\"", None),
        ("quote", "\"\\\"\"", None),
        ("surrogate", "\"\\ud800\"", Some("LoneSurrogate")),
        ("control", "\"\u{1}\"", Some("ControlCharacter")),
        ("null-word", "\"null\"", None),
        ("nested", "{\"progressToken\":1}", Some("ProgressToken")),
        ("huge", "1e400", Some("NumberRange")),
        ("list", "[\"t\"]", Some("ProgressToken")),
        ("word", "t", Some("Syntax")),
        ("single", "'t'", Some("Syntax")),
    ] {
        for shape in [Shape::Request, Shape::Notification] {
            let n = cases.list.len();
            let params = format!(r#"{{"n":{n},"_meta":{{"progressToken":{value}}}}}"#);
            let text = cases.shaped(shape).with("params", params).text();
            let want =
                why.map_or_else(|| shape.fine(cases.role).to_owned(), |why| format!("drop malformed {why}"));
            cases.add(format!("token/{}/{label}", shape.name()), text, want);
        }
    }
}

fn shapes(cases: &mut Cases<'_>) {
    let request = |cases: &Cases<'_>| cases.shaped(Shape::Request).text();
    let note = |cases: &Cases<'_>| cases.note();
    let batches: Vec<(&str, String)> = vec![
        ("empty", "[]".to_owned()),
        ("one", format!("[{}]", request(cases))),
        ("two", format!("[{},{}]", request(cases), note(cases))),
        ("note", format!("[{}]", note(cases))),
        ("nested", format!("[[{}]]", request(cases))),
        ("null", "[null]".to_owned()),
        ("numbers", "[1,2]".to_owned()),
        ("empties", "[[],[]]".to_owned()),
        ("many", format!("[{}{}]", format!("{},", note(cases)).repeat(50), note(cases))),
        ("space", format!(" \n[ {} ] ", note(cases))),
        (
            "responses",
            format!("[{},{}]", cases.shaped(Shape::Response).text(), cases.shaped(Shape::Error).text()),
        ),
        ("frame", format!("[\"EVENT\",{}]", note(cases))),
    ];
    for (label, text) in batches {
        cases.refused(format!("batch/{label}"), text, "Batch");
    }
    for (label, text, why) in [
        ("null", "null", "NotAnObject"),
        ("true", "true", "NotAnObject"),
        ("false", " false", "NotAnObject"),
        ("number", "7", "NotAnObject"),
        ("negative", "-1.5e3", "NotAnObject"),
        ("string", "\"jsonrpc\"", "NotAnObject"),
        ("empty-string", "\"\"", "NotAnObject"),
        ("object", "{}", "Version"),
        ("nothing", "", "Syntax"),
        ("space", " ", "Syntax"),
        ("newlines", "\r\n\r\n", "Syntax"),
        ("word", "ping", "Syntax"),
        ("html", "<html>", "Syntax"),
        ("http", "POST / HTTP/1.1", "Syntax"),
        ("base64", "eyJqc29ucnBjIjoiMi4wIn0=", "Syntax"),
        ("nul", "\0", "Syntax"),
        ("mark", "\u{feff}{}", "ByteOrderMark"),
        ("percent", "%7B%7D", "Syntax"),
        ("xml", "<?xml version=\"1.0\"?>", "Syntax"),
        ("emoji", "😀", "Syntax"),
    ] {
        cases.refused(format!("only/{label}"), text.to_owned(), why);
    }
    let quoted = contextvm_core::object::quote(&request(cases));
    cases.refused("only/quoted".to_owned(), quoted, "NotAnObject");
    for (label, base, name, value, why) in [
        ("request-result", Shape::Request, "result", "{}", "Mixed"),
        ("request-error", Shape::Request, "error", "{\"code\":1,\"message\":\"m\"}", "Mixed"),
        ("note-result", Shape::Notification, "result", "{}", "Mixed"),
        ("note-error", Shape::Notification, "error", "{\"code\":1,\"message\":\"m\"}", "Mixed"),
        ("response-error", Shape::Response, "error", "{\"code\":1,\"message\":\"m\"}", "Mixed"),
        ("response-null-error", Shape::Response, "error", "null", "Mixed"),
        ("error-null-result", Shape::Error, "result", "null", "Mixed"),
        ("error-result", Shape::Error, "result", "{}", "Mixed"),
        ("response-params", Shape::Response, "params", "{}", "Mixed"),
        ("error-params", Shape::Error, "params", "{}", "Mixed"),
        ("response-method", Shape::Response, "method", "\"m\"", "Mixed"),
        ("error-method", Shape::Error, "method", "\"m\"", "Mixed"),
        ("request-null-result", Shape::Request, "result", "null", "Mixed"),
        ("note-null-id", Shape::Notification, "id", "null", "Id"),
    ] {
        let text = cases.shaped(base).push(name, value).text();
        cases.refused(format!("mixed/{label}"), text, why);
    }
}

fn budgets(cases: &mut Cases<'_>) {
    // The message and its params are two levels; sixty-four are allowed.
    for levels in 50..=80 {
        let want = if levels + 2 <= 64 { "taken" } else { "drop budget Depth" };
        let value = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let text = cases.holding(&value);
        cases.add(format!("depth/arrays/{levels}"), text, want);
        let value = format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        let text = cases.holding(&value);
        cases.add(format!("depth/objects/{levels}"), text, want);
    }
    for levels in [127, 128, 129, 1_000, 10_000, 60_000] {
        let text = cases.holding(&"[".repeat(levels));
        cases.add(format!("depth/open/{levels}"), text, "drop budget Depth");
    }
    for digits in 56..=80 {
        let want = if digits <= 64 { "taken" } else { "drop budget NumberLength" };
        let text = cases.holding(&"7".repeat(digits));
        cases.add(format!("digits/whole/{digits}"), text, want);
        let text = cases.holding(&format!("0.{}", "7".repeat(digits - 2)));
        cases.add(format!("digits/fraction/{digits}"), text, want);
    }
    for (label, value, want) in [
        ("1e308", "1e308", "taken"),
        ("most", "1.7976931348623157e308", "taken"),
        ("1e309", "1e309", "drop malformed NumberRange"),
        ("minus", "-1e309", "drop malformed NumberRange"),
        ("1e400", "1e400", "drop malformed NumberRange"),
        ("1e99999", "1e99999", "drop malformed NumberRange"),
        ("plus", "1E+400", "drop malformed NumberRange"),
        ("small", "1e-400", "taken"),
        ("smallest", "5e-324", "taken"),
        ("zero", "0e999", "taken"),
        ("minus-zero", "-0.0", "taken"),
        ("2^53", "9007199254740993", "taken"),
        ("2^64", "18446744073709551616", "taken"),
    ] {
        let text = cases.holding(value);
        cases.add(format!("range/{label}"), text, want);
    }
    for (label, value) in [
        ("empties", format!("[{}[]]", "[],".repeat(20_000))),
        ("objects", format!("[{}{{}}]", "{},".repeat(20_000))),
        ("numbers", format!("[{}0]", "0,".repeat(40_000))),
        ("strings", format!("[{}\"\"]", "\"\",".repeat(25_000))),
        ("bomb", format!("[{}{{\"\":0}}]", "{\"\":0},".repeat(13_000))),
        ("long", format!("\"{}\"", "x".repeat(100_000))),
        ("escapes", format!("\"{}\"", "\\u0041".repeat(16_000))),
        ("keys", format!("{{{}\"z\":0}}", (0..9_000).map(|n| format!("\"k{n}\":0,")).collect::<String>())),
    ] {
        let text = cases.holding(&value);
        cases.add(format!("large/{label}"), text, "taken");
    }
}

fn texts(cases: &mut Cases<'_>) {
    for shape in SHAPES {
        for at in 1..cases.shaped(shape).text().len() {
            let text = cases.shaped(shape).text()[..at].to_owned();
            // Short beginnings are the same for all.
            if at > 30 {
                cases.refused(format!("cut/{}/{at}", shape.name()), text, "Syntax");
            }
        }
        for nth in 0..broken(&cases.shaped(shape).text()).len() {
            let (label, text) = broken(&cases.shaped(shape).text()).swap_remove(nth);
            cases.refused(format!("text/{}/{label}", shape.name()), text, "Syntax");
        }
    }
    for (label, before, after) in [
        ("comma-after", "", ","),
        ("brace-after", "", "}"),
        ("second", "", "{}"),
        ("nul-after", "", "\0"),
        ("nul-before", "\0", ""),
        ("comment-before", "/**/", ""),
        ("comment-after", "", "//x"),
        ("guard", ")]}'", ""),
        ("line-number", "1 ", ""),
        ("separator", "\u{1e}", ""),
        ("form-feed", "\u{c}", ""),
        ("wide-space", "\u{3000}", ""),
        ("line-mark", "", "\u{2028}"),
        ("length", "Content-Length: 10\r\n\r\n", ""),
        ("data", "data: ", ""),
    ] {
        let text = format!("{before}{}{after}", cases.note());
        cases.refused(format!("text/{label}"), text, "Syntax");
    }
    for (label, open, colon, comma, close, want) in [
        ("airy", "{ ", " : ", " , ", " }", "taken"),
        ("lines", "\n{\n", ":\r\n", ",\n", "\n}\n", "taken"),
        ("tabs", "\t{", ":\t", "\t,", "}\t", "taken"),
        ("two-lines", "{\n", ":", ",\n\n", "}\n\n", "taken"),
        ("comma-first", "{,", ":", ",", "}", "drop malformed Syntax"),
        ("comma-last", "{", ":", ",", ",}", "drop malformed Syntax"),
        ("equals", "{", "=", ",", "}", "drop malformed Syntax"),
        ("semicolon", "{", ":", ";", "}", "drop malformed Syntax"),
        ("vertical", "{", "\u{b}:", ",", "}", "drop malformed Syntax"),
        ("no-break", "{\u{a0}", ":", ",", "}", "drop malformed Syntax"),
        ("comment", "{", ":/*x*/", ",", "}", "drop malformed Syntax"),
        ("line-comment", "{//x\n", ":", ",", "}", "drop malformed Syntax"),
        ("hash", "{#x\n", ":", ",", "}", "drop malformed Syntax"),
        ("mark-inside", "{\u{feff}", ":", ",", "}", "drop malformed Syntax"),
        ("no-commas", "{", ":", " ", "}", "drop malformed Syntax"),
    ] {
        let text = cases.shaped(Shape::Notification).text_with(open, colon, comma, close);
        cases.add(format!("space/{label}"), text, want);
    }
}

fn strings(cases: &mut Cases<'_>) {
    for code in 0..32_u8 {
        let letter = char::from(code);
        let text = cases.holding(&format!("\"a{letter}\""));
        cases.refused(format!("control/value/{code:02x}"), text, "ControlCharacter");
        let text = cases.holding(&format!("{{\"a{letter}\":1}}"));
        cases.refused(format!("control/key/{code:02x}"), text, "ControlCharacter");
    }
    for (nth, escape) in [
        "x41", "a", "0", "'", "U0041", "u{41}", "u12", "u12g4", "u 041", "uu0041", " ", "é", "v", "e", "-",
        "u-041",
    ]
    .into_iter()
    .enumerate()
    {
        for (place, value) in [("value", format!("\"\\{escape}\"")), ("key", format!("{{\"\\{escape}\":1}}"))]
        {
            let text = cases.holding(&value);
            cases.refused(format!("escape/{place}/{nth}"), text, "Syntax");
        }
    }
    let lone = [
        "\\ud800",
        "\\udbff",
        "\\udc00",
        "\\udfff",
        "\\ud800x",
        "\\ud800\\u0041",
        "\\ud800\\ud800",
        "\\udc00\\ud800",
        "x\\ud83d",
        "\\uD83D\\n",
        "\\uDE00\\uD83D",
    ];
    for (nth, text_of) in lone.into_iter().enumerate() {
        let places = [
            ("value", cases.holding(&format!("\"{text_of}\""))),
            ("key", cases.holding(&format!("{{\"{text_of}\":1}}"))),
            ("list", cases.holding(&format!("[[\"{text_of}\"]]"))),
            ("method", cases.shaped(Shape::Notification).with("method", format!("\"{text_of}\"")).text()),
            ("top-key", cases.shaped(Shape::Notification).insert(0, format!("\"{text_of}\""), "1").text()),
        ];
        for (place, text) in places {
            cases.refused(format!("surrogate/{place}/{nth}"), text, "LoneSurrogate");
        }
    }
    for (label, value) in [
        ("pair", "\\ud83d\\ude00"),
        ("raw", "😀"),
        ("last", "\\udbff\\udfff"),
        ("private", "\u{e000}"),
        ("not-a-letter", "\u{ffff}"),
        ("delete", "\u{7f}"),
        ("c1", "\u{85}"),
        ("bidi", "\u{202e}"),
        ("line", "\u{2028}"),
        ("mark", "\u{feff}"),
        ("null", "\\u0000"),
        ("all", "\\b\\f\\n\\r\\t\\/\\\\\\\""),
    ] {
        let text = cases.holding(&format!("\"{value}\""));
        cases.add(format!("letter/{label}"), text, "taken");
    }
}

fn literals(cases: &mut Cases<'_>) {
    for (nth, value) in [
        "NaN",
        "Infinity",
        "-Infinity",
        "undefined",
        "True",
        "None",
        "nul",
        "nulll",
        "tru",
        "truee",
        "TRUE",
        "fals",
        "010",
        "00",
        "-01",
        ".5",
        "5.",
        "-.5",
        "+5",
        "1_000",
        "1e",
        "1e+",
        "1e-",
        "1.e5",
        "-",
        "--1",
        "0x10",
        "0b1",
        "0o7",
        "1e1.5",
        "1,5,",
        "1 2",
        "'a'",
        "`a`",
        "\"a",
        "a\"",
        "\"a\"\"b\"",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1;2]",
        "[1",
        "]",
        "[1}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{:}",
        "{1:1}",
        "{a:1}",
        "{'a':1}",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "{null:1}",
        "{\"a\"::1}",
        "{\"a\":1:2}",
        "(1)",
        "<1>",
        "@",
        "\\\"a\\\"",
        "\\",
        "#",
        "~",
        "1n",
        "1f",
        "1L",
        "1e5e5",
        "\u{ff11}",
        "\u{661}",
        "\u{201c}a\u{201d}",
    ]
    .into_iter()
    .enumerate()
    {
        let text = cases.holding(value);
        cases.refused(format!("literal/{nth:02}"), text, "Syntax");
    }
}

fn methods(cases: &mut Cases<'_>) {
    let long = "m".repeat(10_000);
    for (nth, method) in [
        "",
        " ",
        "tools/call ",
        " tools/call",
        "TOOLS/CALL",
        "Tools/Call",
        "tools//call",
        "tools",
        "tools/",
        "/call",
        "../x",
        "a b",
        "\\u0000",
        "\\n",
        "😀",
        "rpc.discover",
        "notifications/initialized",
        "notifications/cancelled",
        "notifications/progress",
        "initialize",
        "ping",
        "tools/list",
        "server/discover",
        "subscriptions/listen",
        "resources/subscribe",
        "resources/unsubscribe",
        "completion/complete",
        "logging/setLevel",
        "sampling/createMessage",
        "roots/list",
        "elicitation/create",
        "__proto__",
        "constructor",
        "announcement",
        "\u{ff54}ools/call",
        "t\u{200b}ools/call",
        "\u{202e}llac/sloot",
        &long,
    ]
    .into_iter()
    .enumerate()
    {
        let text = cases.shaped(Shape::Request).with("method", format!("\"{method}\"")).text();
        let want = Shape::Request.fine(cases.role);
        cases.add(format!("method/request/{nth:02}"), text, want);
        let has_own_rules = matches!(method, "notifications/cancelled" | "notifications/progress");
        if !has_own_rules {
            let text = cases.shaped(Shape::Notification).with("method", format!("\"{method}\"")).text();
            cases.add(format!("method/notification/{nth:02}"), text, "taken");
        }
    }
}

/// Notifications about requests that nobody has made.
fn notifications(cases: &mut Cases<'_>) {
    for (label, value) in VALUES {
        let n = cases.list.len();
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{value},"n":{n}}}}}"#
        );
        cases.add(format!("cancelled/{label}"), text, "drop unknown_request");
        let n = cases.list.len();
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{value},"progress":{n}}}}}"#
        );
        // A client's application may know what its server means.
        let want = if cases.role == Role::Server { "drop unknown_request" } else { "taken" };
        cases.add(format!("progress/{label}"), text, want);
    }
    for (label, params) in [
        ("no-params", String::new()),
        ("empty-params", ",\"params\":{}".to_owned()),
        ("reason-only", ",\"params\":{\"reason\":\"r\"}".to_owned()),
    ] {
        let text = format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled"{params}}}"#);
        cases.add(format!("cancelled/{label}"), text, "drop unknown_request");
    }
}
