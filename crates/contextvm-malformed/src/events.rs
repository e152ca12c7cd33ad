//! Plaintext events whose JSON is wrong: members, types, lengths, letters, bits, marks.
use contextvm_core::event;

use crate::Cases;
use crate::json::{Members, VALUES, broken, escaped, flipped, marks, replaced};
use crate::world::Role;

const MALFORMED: &str = "gate malformed";
/// The members of hex with their lengths.
const HEX: [(&str, usize); 3] = [("id", 64), ("pubkey", 64), ("sig", 128)];

impl Cases<'_> {
    /// A true event that is new, as its members.
    pub(crate) fn fresh(&self) -> Members {
        Members::of(&self.fresh_text())
    }

    pub(crate) fn fresh_text(&self) -> String {
        event::print(&self.world.message(self.role, &[], &self.note()))
    }
}

pub(crate) fn add(cases: &mut Cases<'_>) {
    members(cases);
    spellings(cases);
    extras(cases);
    orders(cases);
    lengths(cases);
    letters(cases);
    bits(cases);
    content(cases);
    texts(cases);
}

/// What a member makes of an event when it is altered and still of its type: the first check in the order of the gate.
fn altered(cases: &Cases<'_>, member: &str) -> &'static str {
    match (member, cases.role) {
        ("pubkey", Role::Client) => "gate wrong_author",
        ("sig", _) => "open signature",
        _ => "gate id",
    }
}

fn members(cases: &mut Cases<'_>) {
    for name in cases.fresh().names() {
        let text = cases.fresh().without(&name).text();
        cases.add(format!("missing/{name}"), text, MALFORMED);
        for (label, value) in VALUES {
            let want = match (name.as_str(), label) {
                ("created_at", "zero" | "one" | "beyond-2^53") => "gate stale",
                ("kind", "zero" | "one") => "gate kind",
                ("tags", "empty-array") => "gate audience",
                ("content", "empty-string" | "string" | "digit-string") => "gate id",
                _ => MALFORMED,
            };
            let text = cases.fresh().with(&name, value).text();
            cases.add(format!("type/{name}/{label}"), text, want);
        }
        let base = cases.fresh();
        let (same, key) = (base.value(&name).to_owned(), format!("\"{name}\""));
        cases.add(format!("twice/{name}/same"), base.insert(0, key.clone(), same).text(), MALFORMED);
        for (label, at) in [("other-first", 0), ("other-last", 7)] {
            let text = cases.fresh().insert(at, key.clone(), "\"\"").text();
            cases.add(format!("twice/{name}/{label}"), text, MALFORMED);
        }
        let base = cases.fresh();
        let same = base.value(&name).to_owned();
        cases.add(format!("twice/{name}/escaped"), base.insert(3, escaped(&name), same).text(), MALFORMED);
    }
}

fn spellings(cases: &mut Cases<'_>) {
    for name in cases.fresh().names() {
        let upper = name.to_uppercase();
        let title = format!("{}{}", &upper[..1], &name[1..]);
        let spellings = [
            ("upper", upper),
            ("title", title),
            ("space-before", format!(" {name}")),
            ("space-after", format!("{name} ")),
            ("nul-after", format!("{name}\\u0000")),
            ("zero-width", format!("{name}\u{200b}")),
            ("half", name[..name.len() / 2].to_owned()),
        ];
        for (label, key) in spellings {
            let text = cases.fresh().respelt(&name, format!("\"{key}\"")).text();
            cases.add(format!("key/{name}/{label}"), text, MALFORMED);
            // Beside the true member it is one that nobody knows.
            let text = cases.fresh().insert(2, format!("\"{key}\""), "\"\"").text();
            cases.add(format!("key-beside/{name}/{label}"), text, "taken");
        }
        let text = cases.fresh().respelt(&name, escaped(&name)).text();
        cases.add(format!("key/{name}/escape"), text, "taken");
    }
}

fn extras(cases: &mut Cases<'_>) {
    for name in ["relays", "ots", "seen_on", "", "_", "é", "__proto__", "constructor", "$ref", "delegation"]
    {
        for (label, value) in [
            ("null", "null"),
            ("string", "\"\""),
            ("number", "-1.5e3"),
            ("array", "[[[]]]"),
            ("object", "{\"id\":\"0\"}"),
        ] {
            let name_shown = if name.is_empty() { "empty" } else { name };
            let text = cases.fresh().push(name, value).text();
            cases.add(format!("extra/{name_shown}/{label}"), text, "taken");
        }
    }
    for (label, value) in [
        ("long-string", format!("\"{}\"", "x".repeat(60_000))),
        ("long-array", format!("[0{}]", ",0".repeat(20_000))),
    ] {
        let text = cases.fresh().push("x", value).text();
        cases.add(format!("extra/{label}"), text, "taken");
    }
}

fn orders(cases: &mut Cases<'_>) {
    let size = cases.fresh().len();
    for by in 1..size {
        cases.add(format!("order/rotated/{by}"), cases.fresh().rotated(by).text(), "taken");
        cases.add(format!("order/reversed/{by}"), cases.fresh().reversed().rotated(by).text(), "taken");
    }
    for a in 0..size {
        for b in a + 1..size {
            cases.add(format!("order/swapped/{a}-{b}"), cases.fresh().swapped(a, b).text(), "taken");
        }
    }
}

fn lengths(cases: &mut Cases<'_>) {
    for (name, right) in HEX {
        for length in (0..=right + 2).filter(|length| *length != right) {
            let base = cases.fresh();
            let hex: String = base.value(name).trim_matches('"').chars().cycle().take(length).collect();
            cases.add(
                format!("length/{name}/{length}"),
                base.with(name, format!("\"{hex}\"")).text(),
                MALFORMED,
            );
        }
    }
}

fn letters(cases: &mut Cases<'_>) {
    for (name, length) in HEX {
        for at in 0..length {
            let base = cases.fresh();
            let hex = base.value(name).trim_matches('"').to_owned();
            let wrong = ["g", "G", "/", ":", "@", "`", " ", "\\u0000", "é", "\u{ff10}", "-", "x"][at % 12];
            let text = base.with(name, format!("\"{}\"", replaced(&hex, at, wrong))).text();
            cases.add(format!("digit/{name}/{at}"), text, MALFORMED);
        }
        let hex = |cases: &Cases<'_>| cases.fresh().value(name).trim_matches('"').to_owned();
        let forms: [(&str, String, &str); 10] = [
            ("upper", hex(cases).to_uppercase(), MALFORMED),
            ("one-upper", one_upper(&hex(cases)), MALFORMED),
            ("prefixed", format!("0x{}", &hex(cases)[2..]), MALFORMED),
            ("prefix-added", format!("0x{}", hex(cases)), MALFORMED),
            ("space-before", format!(" {}", hex(cases)), MALFORMED),
            ("space-after", format!("{} ", hex(cases)), MALFORMED),
            ("newline-after", format!("{}\\n", hex(cases)), MALFORMED),
            (
                "colons",
                hex(cases)
                    .as_bytes()
                    .chunks(2)
                    .map(|pair| String::from_utf8_lossy(pair))
                    .collect::<Vec<_>>()
                    .join(":"),
                MALFORMED,
            ),
            ("doubled", hex(cases).repeat(2), MALFORMED),
            ("bytes", format!("[{}]", "1,".repeat(31) + "1"), MALFORMED),
        ];
        for (label, hex, want) in forms {
            let value = if label == "bytes" { hex } else { format!("\"{hex}\"") };
            let text = cases.fresh().with(name, value).text();
            cases.add(format!("form/{name}/{label}"), text, want);
        }
        // Hex is written as it is: nobody needs escapes in it.
        let base = cases.fresh();
        let hex = base.value(name).trim_matches('"').to_owned();
        let first = format!("\\u{:04x}", u32::from(hex.chars().next().unwrap()));
        cases.add(
            format!("form/{name}/escape"),
            base.with(name, format!("\"{}\"", replaced(&hex, 0, &first))).text(),
            MALFORMED,
        );
        for (label, digit) in [("zeros", "0"), ("ones", "f")] {
            let text = cases.fresh().with(name, format!("\"{}\"", digit.repeat(length))).text();
            let want = altered(cases, name);
            cases.add(format!("form/{name}/{label}"), text, want);
        }
    }
}

/// Writes the first letter of a hex text large.
fn one_upper(hex: &str) -> String {
    let at = hex.find(|digit: char| digit.is_ascii_lowercase()).unwrap();
    replaced(hex, at, &hex[at..=at].to_uppercase())
}

fn bits(cases: &mut Cases<'_>) {
    for (name, length) in HEX {
        for bit in 0..length * 4 {
            let base = cases.fresh();
            let hex = flipped(base.value(name).trim_matches('"'), bit);
            let want = altered(cases, name);
            cases.add(format!("bit/{name}/{bit}"), base.with(name, format!("\"{hex}\"")).text(), want);
        }
    }
}

fn content(cases: &mut Cases<'_>) {
    let letters = cases.note().len();
    for at in 0..letters {
        let changed = replaced(&cases.note(), at, "~");
        let text = cases.fresh().with("content", contextvm_core::object::quote(&changed)).text();
        cases.add(format!("content/changed/{at}"), text, "gate id");
    }
    for code in 0..32_u8 {
        let raw = format!("\"{}\"", char::from(code));
        cases.add(
            format!("content/control/{code:02x}"),
            cases.fresh().with("content", raw).text(),
            MALFORMED,
        );
    }
    let escapes = [
        "x41",
        "u12",
        "u12g4",
        "uD83D",
        "ud800",
        "udc00",
        "ud800\\u0041",
        "udc00\\ud800",
        "ud800\\ud800",
        "a",
        "0",
        "'",
        "U0041",
        "u{41}",
        " ",
        "",
    ];
    for (at, escape) in escapes.into_iter().enumerate() {
        let text = cases.fresh().with("content", format!("\"\\{escape}\"")).text();
        cases.add(format!("content/escape/{at}"), text, MALFORMED);
    }
    for (at, fine) in [
        "\\ud83d\\ude00",
        "\\b\\f\\n\\r\\t\\/\\\\\\\"",
        "\u{7f}",
        "\u{2028}",
        "\u{feff}",
        "\\u0000",
        "\u{10ffff}",
    ]
    .into_iter()
    .enumerate()
    {
        // True JSON, another content.
        cases.add(
            format!("content/other/{at}"),
            cases.fresh().with("content", format!("\"{fine}\"")).text(),
            "gate id",
        );
    }
}

fn texts(cases: &mut Cases<'_>) {
    let size = cases.fresh_text().len();
    for at in 0..size {
        let text = cases.fresh_text()[..at].to_owned();
        cases.add(format!("cut/{at}"), text, MALFORMED);
    }
    let outside: Vec<_> = broken(&cases.fresh_text());
    for (at, (label, _)) in outside.into_iter().enumerate() {
        let text = broken(&cases.fresh_text()).swap_remove(at).1;
        cases.add(format!("text/{label}"), text, MALFORMED);
    }
    for (label, before, after, want) in [
        ("space-around", " \t\r\n", " \t\r\n", "taken"),
        ("mark-before", "\u{feff}", "", MALFORMED),
        ("comma-after", "", ",", MALFORMED),
        ("brace-after", "", "}", MALFORMED),
        ("second-after", "", "{}", MALFORMED),
        ("nul-after", "", "\0", MALFORMED),
        ("nul-before", "\0", "", MALFORMED),
        ("space-of-others", "\u{a0}", "", MALFORMED),
        ("form-feed", "\u{c}", "", MALFORMED),
        ("in-array", "[", "]", MALFORMED),
        ("in-object", "{\"event\":", "}", MALFORMED),
        ("comment-before", "/**/", "", MALFORMED),
        ("comment-after", "", "//", MALFORMED),
        ("guard", ")]}'\n", "", MALFORMED),
        ("separator", "\u{1e}", "\n", MALFORMED),
    ] {
        let text = format!("{before}{}{after}", cases.fresh_text());
        cases.add(format!("text/{label}"), text, want);
    }
    for (label, open, colon, comma, close) in [
        ("airy", "{ ", " : ", " , ", " }"),
        ("lines", "{\n", ":\n", ",\r\n", "\n}"),
        ("tabs", "\t{\t", "\t:\t", "\t,\t", "\t}\t"),
    ] {
        let text = cases.fresh().text_with(open, colon, comma, close);
        cases.add(format!("text/{label}"), text, "taken");
    }
    for (label, open, colon, comma, close) in [
        ("comma-first", "{,", ":", ",", "}"),
        ("comma-last", "{", ":", ",", ",}"),
        ("equals", "{", "=", ",", "}"),
        ("arrows", "{", "=>", ",", "}"),
        ("semicolons", "{", ":", ";", "}"),
        ("no-commas", "{", ":", " ", "}"),
        ("brackets", "[", ":", ",", "]"),
        ("brackets-of-values", "(", ":", ",", ")"),
    ] {
        let text = cases.fresh().text_with(open, colon, comma, close);
        cases.add(format!("text/{label}"), text, MALFORMED);
    }
    for (label, text) in [
        ("null", "null"),
        ("true", "true"),
        ("number", "7"),
        ("string", "\"event\""),
        ("array", "[]"),
        ("object", "{}"),
        ("words", "event"),
        ("html", "<html></html>"),
        ("space", " "),
    ] {
        cases.add(format!("text/only-{label}"), text, MALFORMED);
    }
    let quoted = contextvm_core::object::quote(&cases.fresh_text());
    cases.add("text/quoted", quoted, MALFORMED);
    debug_assert!(marks(&cases.fresh_text()).len() > 40, "structure is looked at");
}
