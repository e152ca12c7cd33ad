//! Announcements, lists (CEP-6), relay lists (CEP-17) and relay information (NIP-11).
use contextvm_core::event;
use nostr::event::{Tag, Tags};

use crate::Cases;
use crate::json::{Members, VALUES, flipped};

impl Cases<'_> {
    fn document(&mut self, what: &str, name: String, text: impl Into<String>, want: impl Into<String>) {
        self.add_all(format!("{what}/{name}"), vec![what.to_owned(), text.into()], want);
    }
}

pub(crate) fn add(cases: &mut Cases<'_>) {
    servers(cases);
    lists(cases);
    relay_lists(cases);
    announced(cases);
    relay_infos(cases);
    texts(cases);
}

const fn is_text(label: &str) -> bool {
    matches!(label.as_bytes(), b"empty-string" | b"string" | b"digit-string")
}

fn server(cases: &Cases<'_>) -> Members {
    let n = cases.list.len();
    Members::of(&format!(
        r#"{{"protocolVersion":"2025-11-25","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"n","version":"1"}},"instructions":"i","n":{n}}}"#
    ))
}

/// Only a version is needed; what else is wrong costs itself alone.
fn servers(cases: &mut Cases<'_>) {
    for name in ["protocolVersion", "capabilities", "serverInfo", "instructions"] {
        let is_version = name == "protocolVersion";
        let text = server(cases).without(name).text();
        let want = if is_version { "refused NoVersion" } else { "taken 1 versions" };
        cases.document("server", format!("missing/{name}"), text, want);
        for (label, value) in VALUES {
            let text = server(cases).with(name, value).text();
            let is_fine = !is_version || matches!(label, "string" | "digit-string");
            let want = if is_fine { "taken 1 versions" } else { "refused NoVersion" };
            cases.document("server", format!("type/{name}/{label}"), text, want);
        }
        let base = server(cases);
        let same = base.value(name).to_owned();
        cases.document(
            "server",
            format!("twice/{name}"),
            base.push(name, same).text(),
            "refused DuplicateKey",
        );
    }
    for (label, value) in VALUES {
        let text = server(cases).without("protocolVersion").push("supportedVersions", value).text();
        cases.document("server", format!("type/supportedVersions/{label}"), text, "refused NoVersion");
        let text = server(cases)
            .without("protocolVersion")
            .push("supportedVersions", format!("[{value},\"2026-07-28\"]"))
            .text();
        let count = if matches!(label, "string" | "digit-string") { 2 } else { 1 };
        cases.document(
            "server",
            format!("type/supportedVersions-element/{label}"),
            text,
            format!("taken {count} versions"),
        );
    }
    for count in [1, 31, 32, 33, 1_000] {
        let list: Vec<_> = (0..count).map(|n| format!("\"v{n}\"")).collect();
        let text = server(cases)
            .without("protocolVersion")
            .push("supportedVersions", format!("[{}]", list.join(",")))
            .text();
        cases.document(
            "server",
            format!("versions/{count}"),
            text,
            format!("taken {} versions", count.min(32)),
        );
    }
}

/// The four lists: what is no thing with a name is left out and counted.
fn lists(cases: &mut Cases<'_>) {
    for (member, name) in
        [("tools", "name"), ("resources", "uri"), ("resourceTemplates", "uriTemplate"), ("prompts", "name")]
    {
        for (label, value) in VALUES {
            let n = cases.list.len();
            let text = format!(r#"{{"{member}":{value},"n":{n}}}"#);
            let want = match label {
                "empty-array" => "taken 0 of 0",
                "array-of-null" | "array-of-array" => "taken 0 of 1",
                _ => "refused NoList",
            };
            cases.document(member, format!("list/{label}"), text, want);
            let n = cases.list.len();
            let text = format!(r#"{{"{member}":[{{"{name}":{value}}},{{"{name}":"right","n":{n}}}]}}"#);
            let want =
                if matches!(label, "string" | "digit-string") { "taken 2 of 2" } else { "taken 1 of 2" };
            cases.document(member, format!("name/{label}"), text, want);
        }
        for (label, text, want) in [
            ("missing", "{}".to_owned(), "refused NoList"),
            ("upper", format!(r#"{{"{}":[]}}"#, member.to_uppercase()), "refused NoList"),
            ("twice", format!(r#"{{"{member}":[],"{member}":[]}}"#), "refused DuplicateKey"),
            ("same-name", format!(r#"{{"{member}":[{{"{name}":"a"}},{{"{name}":"a"}}]}}"#), "taken 1 of 2"),
            (
                "same-name-escaped",
                format!(r#"{{"{member}":[{{"{name}":"a"}},{{"{name}":"\u0061"}}]}}"#),
                "taken 1 of 2",
            ),
            (
                "name-twice",
                format!(r#"{{"{member}":[{{"{name}":"a","{name}":"b"}}]}}"#),
                "refused DuplicateKey",
            ),
            ("cursor", format!(r#"{{"{member}":[],"nextCursor":"c"}}"#), "taken 0 of 0"),
            (
                "deep",
                format!(r#"{{"{member}":[{{"{name}":"a","x":{}{}}}]}}"#, "[".repeat(70), "]".repeat(70)),
                "refused Depth",
            ),
        ] {
            cases.document(member, label.to_owned(), text, want);
        }
    }
}

fn relay_lists(cases: &mut Cases<'_>) {
    let long = format!("wss://{}", "a".repeat(510));
    let lists: Vec<(&str, Vec<Vec<&str>>, &str)> = vec![
        ("none", vec![], "taken 0 of 0"),
        ("one", vec![vec!["r", "wss://a.example"]], "taken 1 of 1"),
        ("alone", vec![vec!["r"]], "taken 0 of 1"),
        ("empty", vec![vec!["r", ""]], "taken 0 of 1"),
        ("space", vec![vec!["r", "  "]], "taken 0 of 1"),
        ("long", vec![vec!["r", &long]], "taken 0 of 1"),
        ("upper", vec![vec!["R", "wss://a.example"]], "taken 0 of 0"),
        ("relay", vec![vec!["relay", "wss://a.example"]], "taken 0 of 0"),
        ("read", vec![vec!["r", "wss://a.example", "read"]], "taken 1 of 1"),
        ("write", vec![vec!["r", "wss://a.example", "write"]], "taken 1 of 1"),
        ("unknown", vec![vec!["r", "wss://a.example", "both"]], "taken 0 of 1"),
        ("marker-upper", vec![vec!["r", "wss://a.example", "READ"]], "taken 0 of 1"),
        ("marker-empty", vec![vec!["r", "wss://a.example", ""]], "taken 1 of 1"),
        (
            "unmarked-wins",
            vec![vec!["r", "wss://a.example", "read"], vec!["r", "wss://b.example"]],
            "taken 1 of 2",
        ),
        (
            "read-and-write",
            vec![vec!["r", "wss://a.example", "read"], vec!["r", "wss://b.example", "write"]],
            "taken 2 of 2",
        ),
        ("twice", vec![vec!["r", "wss://a.example"], vec!["r", "wss://a.example"]], "taken 1 of 2"),
        ("more-elements", vec![vec!["r", "wss://a.example", "", "x", "y"]], "taken 1 of 1"),
        ("trimmed", vec![vec!["r", " wss://a.example "]], "taken 1 of 1"),
    ];
    for (label, tags, want) in lists {
        let event = relay_list(cases, 10002, &tags);
        cases.document("relay-list", label.to_owned(), event, want);
    }
    for count in [63, 64, 65, 200] {
        let urls: Vec<String> = (0..count).map(|n| format!("wss://r{n}.example")).collect();
        let tags: Vec<Vec<&str>> = urls.iter().map(|url| vec!["r", url.as_str()]).collect();
        let event = relay_list(cases, 10002, &tags);
        cases.document(
            "relay-list",
            format!("many/{count}"),
            event,
            format!("taken {} of {count}", count.min(64)),
        );
    }
    for kind in [0, 3, 10001, 10006, 10050, 11316, 25910, 30002, 10002 ^ 1, 10002 ^ 2, 10002 ^ 32_768] {
        let event = relay_list(cases, kind, &[vec!["r", "wss://a.example"]]);
        cases.document("relay-list", format!("kind/{kind}"), event, "refused Kind");
    }
}

fn relay_list(cases: &Cases<'_>, kind: u16, tags: &[Vec<&str>]) -> String {
    let tags = tags.iter().map(|tag| Tag::parse(tag.iter().copied()).unwrap()).collect();
    let number = cases.list.len().to_string();
    event::print(&cases.world.server.sign_event(
        kind,
        cases.world.now,
        Tags::from_list(tags),
        number,
        [9; 32],
    ))
}

/// An announcement's event: nothing of it is believed before id and signature.
fn announced(cases: &mut Cases<'_>) {
    let fresh = |cases: &Cases<'_>| {
        let content = server(cases).text();
        Members::of(&event::print(&cases.world.server.sign_event(
            11316,
            cases.world.now,
            Tags::new(),
            content,
            [9; 32],
        )))
    };
    let none = "refused NotAnEvent";
    for name in fresh(cases).names() {
        let text = fresh(cases).without(&name).text();
        cases.document("event", format!("missing/{name}"), text, none);
        let base = fresh(cases);
        let same = base.value(&name).to_owned();
        cases.document("event", format!("twice/{name}"), base.push(&name, same).text(), none);
        for (label, value) in VALUES {
            let want = match (name.as_str(), label) {
                ("created_at", "zero" | "one" | "beyond-2^53") | ("kind", "zero" | "one") => "refused Id",
                ("content", _) if is_text(label) => "refused Id",
                // It has none.
                ("tags", "empty-array") => "taken",
                _ => none,
            };
            let text = fresh(cases).with(&name, value).text();
            cases.document("event", format!("type/{name}/{label}"), text, want);
        }
    }
    for (name, bits, want) in
        [("id", 256, "refused Id"), ("pubkey", 256, "refused Id"), ("sig", 512, "refused Signature")]
    {
        for bit in (0..bits).step_by(16) {
            let base = fresh(cases);
            let hex = flipped(base.value(name).trim_matches('"'), bit);
            cases.document(
                "event",
                format!("bit/{name}/{bit}"),
                base.with(name, format!("\"{hex}\"")).text(),
                want,
            );
        }
    }
    let long = format!("{}{}", fresh(cases).text(), " ".repeat(131_072));
    cases.document("event", "too-long".to_owned(), long, "refused TooLong");
}

/// A relay's description of itself: hints, read as far as they are readable.
fn relay_infos(cases: &mut Cases<'_>) {
    for name in ["name", "description", "contact", "software", "version"] {
        for (label, value) in VALUES {
            let n = cases.list.len();
            let text = format!(r#"{{"{name}":{value},"n":{n}}}"#);
            let read = usize::from(matches!(label, "string" | "digit-string"));
            cases.document(
                "relay-info",
                format!("type/{name}/{label}"),
                text,
                format!("taken {read} members"),
            );
        }
    }
    for (label, value) in VALUES {
        let n = cases.list.len();
        let text = format!(r#"{{"supported_nips":[{value}],"n":{n}}}"#);
        let read = usize::from(matches!(label, "zero" | "one"));
        cases.document("relay-info", format!("nip/{label}"), text, format!("taken {read} members"));
        for (name, is_flag) in [("max_message_length", false), ("auth_required", true)] {
            let n = cases.list.len();
            let text = format!(r#"{{"limitation":{{"{name}":{value}}},"n":{n}}}"#);
            let read = if is_flag {
                matches!(label, "true" | "false")
            } else {
                matches!(label, "zero" | "one" | "beyond-2^53")
            };
            cases.document(
                "relay-info",
                format!("limitation/{name}/{label}"),
                text,
                format!("taken {} members", usize::from(read)),
            );
        }
        let n = cases.list.len();
        let text = format!(r#"{{"limitation":{value},"supported_nips":{value},"n":{n}}}"#);
        cases.document("relay-info", format!("containers/{label}"), text, "taken 0 members");
    }
    let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(65_536));
    cases.document("relay-info", "too-long".to_owned(), long, "refused TooLong");
    let nodes = format!(r#"{{"x":[{}0]}}"#, "0,".repeat(9_000));
    cases.document("relay-info", "too-many-values".to_owned(), nodes, "refused Nodes");
}

/// Texts that are no document of any kind.
fn texts(cases: &mut Cases<'_>) {
    for what in ["server", "tools", "relay-info"] {
        for (label, text, want) in [
            ("empty", "", "refused Syntax"),
            ("null", "null", "refused NotAnObject"),
            ("array", "[]", "refused NotAnObject"),
            ("string", "\"a\"", "refused NotAnObject"),
            ("number", "7", "refused NotAnObject"),
            ("html", "<html>", "refused Syntax"),
            ("open", "{", "refused Syntax"),
            ("comma", "{\"a\":1,}", "refused Syntax"),
            ("single", "{'a':1}", "refused Syntax"),
            ("surrogate", "{\"a\":\"\\ud800\"}", "refused LoneSurrogate"),
            ("control", "{\"a\":\"\u{1}\"}", "refused ControlCharacter"),
            ("twice", "{\"a\":1,\"a\":2}", "refused DuplicateKey"),
            ("number-range", "{\"a\":1e999}", "refused NumberRange"),
            (
                "long-number",
                "{\"a\":11111111111111111111111111111111111111111111111111111111111111111}",
                "refused NumberLength",
            ),
            ("after", "{}{}", "refused Syntax"),
        ] {
            cases.document(what, format!("text/{label}"), text, want);
        }
    }
    for what in ["server", "tools"] {
        cases.document(what, "text/mark".to_owned(), "\u{feff}{}", "refused ByteOrderMark");
    }
}
