//! Gift wraps: the plaintext, the event in it, and the event around it.
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contextvm_core::event;
use nostr::event::{Tag, Tags};

use crate::Cases;
use crate::json::{Members, VALUES, flipped, replaced};
use crate::wraps::INNER;

pub(crate) fn add(cases: &mut Cases<'_>) {
    plaintexts(cases);
    inner_events(cases);
    inner_bits(cases);
    outer(cases);
}

fn plaintexts(cases: &mut Cases<'_>) {
    let none = "open not_an_event";
    for (label, text) in [
        ("space", " "),
        ("null", "null"),
        ("true", "true"),
        ("number", "7"),
        ("string", "\"event\""),
        ("array", "[]"),
        ("object", "{}"),
        ("words", "event"),
        ("request", r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#),
        ("frame", r#"["EVENT",{}]"#),
        ("nul", "\0"),
        ("html", "<a>"),
    ] {
        let wrap = cases.around(text);
        cases.add(format!("inside/{label}"), wrap, none);
    }
    for (label, bytes) in [
        ("ff", &b"\xff"[..]),
        ("c0-80", b"\xc0\x80"),
        ("surrogate", b"\xed\xa0\x80"),
        ("half", b"\xe2\x82"),
        ("latin", b"{\"a\":\"\xe9\"}"),
        ("utf16", b"{\0}\0"),
    ] {
        let payload = cases.payload(&cases.padded(bytes));
        cases.add_payload(format!("inside/bytes-{label}"), &payload, none);
    }
    let size = cases.inner().len();
    for at in (1..size).step_by(5) {
        let wrap = cases.around(&cases.inner()[..at]);
        cases.add(format!("inside/cut/{at}"), wrap, none);
    }
    for (label, before, after, want) in [
        ("space-around", "\n ", " \n", "taken"),
        ("mark-before", "\u{feff}", "", none),
        ("brace-after", "", "}", none),
        ("nul-after", "", "\0", none),
        ("second-after", "", "{}", none),
        ("in-array", "[", "]", none),
        ("in-member", "{\"event\":", "}", none),
        ("in-frame", "[\"EVENT\",", "]", none),
    ] {
        let wrap = cases.around(&format!("{before}{}{after}", cases.inner()));
        cases.add(format!("inside/{label}"), wrap, want);
    }
    for name in cases.fresh().names() {
        let wrap = cases.around(&cases.fresh().without(&name).text());
        cases.add(format!("inside/missing/{name}"), wrap, none);
        let again = cases.fresh().value(&name).to_owned();
        let wrap = cases.around(&cases.fresh().push(&name, again).text());
        cases.add(format!("inside/twice/{name}"), wrap, none);
        for (label, value) in VALUES {
            let want = match (name.as_str(), label) {
                ("created_at", "zero" | "one" | "beyond-2^53") => "open age",
                ("kind", "zero" | "one") => "open kind",
                ("tags", "empty-array") => "open audience",
                ("content", "empty-string" | "string" | "digit-string") => "open id",
                _ => none,
            };
            let wrap = cases.around(&cases.fresh().with(&name, value).text());
            cases.add(format!("inside/type/{name}/{label}"), wrap, want);
        }
    }
    for (label, text) in [
        ("rumor", cases.fresh().without("sig").text()),
        ("quoted", contextvm_core::object::quote(&cases.inner())),
        ("base64", STANDARD.encode(cases.inner())),
    ] {
        let wrap = cases.around(&text);
        cases.add(format!("inside/{label}"), wrap, none);
    }
    let wrap = cases.around(&cases.fresh().push("extra", "{\"a\":[]}").text());
    cases.add("inside/extra", wrap, "taken");
}

fn inner_events(cases: &mut Cases<'_>) {
    let signed = |cases: &Cases<'_>, kind: u16, at: u64, tags: Vec<Tag>| {
        let event =
            cases.world.author(cases.role).sign_event(kind, at, Tags::from_list(tags), cases.note(), [9; 32]);
        cases.around(&event::print(&event))
    };
    let near = (0..16).map(|bit| INNER ^ (1 << bit));
    let known = [
        0, 1, 3, 4, 5, 7, 13, 14, 15, 1059, 1111, 10002, 11316, 11317, 20000, 21059, 22242, 24133, 27235,
        30000, 30023, 65535,
    ];
    for kind in near.chain(known) {
        let wrap = signed(cases, kind, cases.world.now, vec![cases.to_me()]);
        cases.add(format!("inner/kind/{kind}"), wrap, "open kind");
    }
    let wrapped = cases.around(&cases.inner());
    let wrap = cases.around(&wrapped);
    cases.add("inner/wrapped-twice", wrap, "open kind");
    for (label, at) in [
        ("zero", 0),
        ("day-ago", cases.world.now - 86_400),
        ("two-days-ago", cases.world.now - 172_800),
        ("hour-ago", cases.world.now - 3_600),
        ("tomorrow", cases.world.now + 86_400),
        ("milliseconds", cases.world.now * 1_000),
        ("most", u64::MAX),
    ] {
        let wrap = signed(cases, INNER, at, vec![cases.to_me()]);
        cases.add(format!("inner/age/{label}"), wrap, "open age");
    }
    let me = cases.world.address(cases.role);
    let other = cases.world.other.public_key().to_hex();
    let tag = |elements: &[&str]| Tag::parse(elements.iter().copied()).unwrap();
    for (label, tags) in [
        ("none", vec![]),
        ("other", vec![tag(&["p", &other])]),
        ("me-and-other", vec![tag(&["p", &me]), tag(&["p", &other])]),
        ("other-and-me", vec![tag(&["p", &other]), tag(&["p", &me])]),
        ("twice", vec![tag(&["p", &me]), tag(&["p", &me])]),
        ("large", vec![tag(&["P", &me])]),
        ("upper", vec![tag(&["p", &me.to_uppercase()])]),
        ("empty", vec![tag(&["p", ""])]),
        ("alone", vec![tag(&["p"])]),
        ("second", vec![tag(&["p", "", &me])]),
        ("longer", vec![tag(&["p", &format!("{me}00")])]),
        ("shorter", vec![tag(&["p", &me[..63]])]),
        ("space", vec![tag(&["p", &format!("{me} ")])]),
    ] {
        let wrap = signed(cases, INNER, cases.world.now, tags);
        cases.add(format!("inner/audience/{label}"), wrap, "open audience");
    }
}

/// Bits of the inner event: what the one-time key says of it counts for nothing.
fn inner_bits(cases: &mut Cases<'_>) {
    for (name, bits, want) in
        [("id", 256, "open id"), ("pubkey", 256, "open id"), ("sig", 512, "open signature")]
    {
        for bit in (0..bits).step_by(4) {
            let bit = bit + bit / 4 % 4;
            let base = cases.fresh();
            let hex = flipped(base.value(name).trim_matches('"'), bit);
            let wrap = cases.around(&base.with(name, format!("\"{hex}\"")).text());
            cases.add(format!("inner/bit/{name}/{bit}"), wrap, want);
        }
    }
    let letters = cases.note().len();
    for at in (0..letters).step_by(3) {
        let changed = contextvm_core::object::quote(&replaced(&cases.note(), at, "~"));
        let wrap = cases.around(&cases.fresh().with("content", changed).text());
        cases.add(format!("inner/content/{at}"), wrap, "open id");
    }
}

fn outer(cases: &mut Cases<'_>) {
    let honest = |cases: &Cases<'_>| Members::of(&cases.around(&cases.inner()));
    for name in cases.fresh().names() {
        let text = honest(cases).without(&name).text();
        cases.add(format!("outer/missing/{name}"), text, "gate malformed");
    }
    for bit in (0..256).step_by(8) {
        let base = honest(cases);
        let hex = flipped(base.value("id").trim_matches('"'), bit);
        cases.add(format!("outer/bit/id/{bit}"), base.with("id", format!("\"{hex}\"")).text(), "gate id");
        let base = honest(cases);
        let hex = flipped(base.value("pubkey").trim_matches('"'), bit);
        cases.add(
            format!("outer/bit/pubkey/{bit}"),
            base.with("pubkey", format!("\"{hex}\"")).text(),
            "gate id",
        );
        // The one-time key says nothing about the caller, so its signature is not looked at.
        let base = honest(cases);
        let hex = flipped(base.value("sig").trim_matches('"'), bit);
        cases.add(format!("outer/bit/sig/{bit}"), base.with("sig", format!("\"{hex}\"")).text(), "taken");
    }
    for (label, at) in [
        ("zero", 0),
        ("two-days-ago", cases.world.now - 172_800),
        ("tomorrow", cases.world.now + 86_400),
        ("most", u64::MAX),
    ] {
        let content = STANDARD.encode(cases.payload(&cases.padded(cases.inner().as_bytes())));
        let event = cases.outer_event(21059, at, vec![cases.to_me()], &content);
        cases.add(format!("outer/age/{label}"), event::print(&event), "taken");
    }
    let me = cases.world.address(cases.role);
    let other = cases.world.other.public_key().to_hex();
    let tag = |elements: &[&str]| Tag::parse(elements.iter().copied()).unwrap();
    for (label, tags, want) in [
        ("none", vec![], "gate audience"),
        ("other", vec![tag(&["p", &other])], "gate audience"),
        ("both", vec![tag(&["p", &me]), tag(&["p", &other])], "gate audience"),
        ("twice", vec![tag(&["p", &me]), tag(&["p", &me])], "gate audience"),
        ("upper", vec![tag(&["p", &me.to_uppercase()])], "gate audience"),
        ("longer", vec![tag(&["p", &format!("{me}00")])], "gate audience"),
        ("hint", vec![tag(&["p", &me, "wss://a.example"])], "taken"),
        ("more", vec![tag(&["p", &me]), tag(&["expiration", "1"])], "taken"),
    ] {
        let content = STANDARD.encode(cases.payload(&cases.padded(cases.inner().as_bytes())));
        let event = cases.outer_event(1059, cases.world.now, tags, &content);
        cases.add(format!("outer/audience/{label}"), event::print(&event), want);
    }
    for (label, value) in VALUES {
        let want = match label {
            "empty-string" | "string" | "digit-string" => "gate id",
            _ => "gate malformed",
        };
        let text = honest(cases).with("content", value).text();
        cases.add(format!("outer/content/{label}"), text, want);
    }
}
