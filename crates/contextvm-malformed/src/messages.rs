//! JSON-RPC messages: members, types, spellings, budgets, and JSON that is none.
use crate::Cases;
use crate::json::{Members, VALUES, escaped};
use crate::world::Role;

/// What a message is, apart from what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Request,
    Notification,
    Response,
    Error,
}

pub(crate) const SHAPES: [Shape; 4] = [Shape::Request, Shape::Notification, Shape::Response, Shape::Error];

impl Shape {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Notification => "notification",
            Self::Response => "response",
            Self::Error => "error",
        }
    }

    /// What becomes of such a message when nothing is wrong: nobody has asked anything here.
    pub(crate) const fn fine(self, role: Role) -> &'static str {
        match (self, role) {
            (Self::Request, Role::Server) => "taken request",
            (Self::Request, Role::Client) => "drop unsupported",
            (Self::Notification, _) => "taken",
            (Self::Response | Self::Error, _) => "drop uncorrelated",
        }
    }
}

impl Cases<'_> {
    /// A true message of a shape that is new.
    pub(crate) fn shaped(&self, shape: Shape) -> Members {
        let n = 1_000_000 + self.list.len();
        Members::of(&match shape {
            Shape::Request => format!(
                r#"{{"jsonrpc":"2.0","id":{n},"method":"tools/call","params":{{"name":"a","arguments":{{"list":[1,[2]]}},"_meta":{{"progressToken":"t"}}}}}}"#
            ),
            Shape::Notification => self.note(),
            Shape::Response => format!(r#"{{"jsonrpc":"2.0","id":{n},"result":{{"list":[1,[2]]}}}}"#),
            Shape::Error => {
                format!(r#"{{"jsonrpc":"2.0","id":{n},"error":{{"code":-32000,"message":"m","data":null}}}}"#)
            }
        })
    }

    /// A notification with this value in its params.
    pub(crate) fn holding(&self, value: &str) -> String {
        let n = self.list.len();
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"n":{n},"x":{value}}}}}"#)
    }

    /// Adds a message that is refused for this.
    pub(crate) fn refused(&mut self, name: String, text: String, why: &str) {
        self.add(name, text, format!("drop malformed {why}"));
    }
}

pub(crate) fn add(cases: &mut Cases<'_>) {
    members(cases);
    insides(cases);
    twice(cases);
    lookalikes(cases);
    extras(cases);
    versions(cases);
}

const fn is_string(label: &str) -> bool {
    matches!(label.as_bytes(), b"empty-string" | b"string" | b"digit-string")
}

const fn is_object(label: &str) -> bool {
    matches!(label.as_bytes(), b"empty-object" | b"object")
}

/// Why a top-level member of this shape may not have a value of this type; nothing when it may.
fn fault(member: &str, label: &str) -> Option<&'static str> {
    let right = match member {
        "jsonrpc" => false,
        "id" => is_string(label) || matches!(label, "zero" | "one" | "minus-one"),
        "method" => is_string(label),
        _ => is_object(label),
    };
    match member {
        "error" if is_object(label) => Some("ErrorCode"),
        _ if right => None,
        "jsonrpc" => Some("Version"),
        "id" => Some("Id"),
        "method" => Some("Method"),
        "params" => Some("Params"),
        "result" => Some("Result"),
        _ => Some("Error"),
    }
}

fn members(cases: &mut Cases<'_>) {
    for shape in SHAPES {
        let fine = shape.fine(cases.role);
        for name in cases.shaped(shape).names() {
            let text = cases.shaped(shape).without(&name).text();
            let want = match (shape, name.as_str()) {
                (_, "jsonrpc") => "drop malformed Version",
                (Shape::Request, "id") => "taken",
                (Shape::Response, "id") => "drop malformed NoId",
                (_, "method" | "result" | "error") => "drop malformed Shapeless",
                _ => fine,
            };
            cases.add(format!("missing/{}/{name}", shape.name()), text, want);
            for (label, value) in VALUES {
                let text = cases.shaped(shape).with(&name, value).text();
                let want = fault(&name, label)
                    .map_or_else(|| fine.to_owned(), |why| format!("drop malformed {why}"));
                let text = if text_is_common(&name) { unique(cases, &text) } else { text };
                cases.add(format!("type/{}/{name}/{label}", shape.name()), text, want);
            }
        }
    }
}

/// Whether a message without this member says nothing of its number.
fn text_is_common(name: &str) -> bool {
    matches!(name, "id" | "params")
}

/// Adds an unknown member, so that no two cases are alike.
pub(crate) fn unique(cases: &Cases<'_>, text: &str) -> String {
    format!("{},\"n\":{}}}", &text[..text.len() - 1], cases.list.len())
}

fn insides(cases: &mut Cases<'_>) {
    let request = Shape::Request.fine(cases.role);
    for (label, value) in VALUES {
        let params = format!(r#"{{"name":"a","_meta":{value}}}"#);
        let want = if is_object(label) { request } else { "drop malformed Meta" };
        let text = cases.shaped(Shape::Request).with("params", params).text();
        cases.add(format!("type/_meta/{label}"), text, want);
        let params = format!(r#"{{"name":"a","_meta":{{"progressToken":{value}}}}}"#);
        let is_token =
            is_string(label) || matches!(label, "zero" | "one" | "minus-one" | "beyond-2^53" | "beyond-2^64");
        let want = if is_token { request } else { "drop malformed ProgressToken" };
        let text = cases.shaped(Shape::Request).with("params", params).text();
        cases.add(format!("type/progressToken/{label}"), text, want);
        let is_code = matches!(label, "zero" | "one" | "minus-one" | "beyond-2^53" | "beyond-2^64");
        let want = if is_code { "drop uncorrelated" } else { "drop malformed ErrorCode" };
        let text =
            cases.shaped(Shape::Error).with("error", format!(r#"{{"code":{value},"message":"m"}}"#)).text();
        cases.add(format!("type/code/{label}"), text, want);
        let want = if is_string(label) { "drop uncorrelated" } else { "drop malformed ErrorMessage" };
        let text =
            cases.shaped(Shape::Error).with("error", format!(r#"{{"code":1,"message":{value}}}"#)).text();
        cases.add(format!("type/message/{label}"), text, want);
        let text = cases
            .shaped(Shape::Error)
            .with("error", format!(r#"{{"code":1,"message":"m","data":{value}}}"#))
            .text();
        cases.add(format!("type/data/{label}"), text, "drop uncorrelated");
        // What a tool's arguments are is the application's business.
        for inside in ["name", "arguments"] {
            let params = format!(r#"{{"{inside}":{value},"_meta":{{}}}}"#);
            let text = cases.shaped(Shape::Request).with("params", params).text();
            cases.add(format!("type/{inside}/{label}"), text, request);
        }
    }
    for (label, error, why) in [
        ("code", r#"{"message":"m"}"#, "ErrorCode"),
        ("message", r#"{"code":1}"#, "ErrorMessage"),
        ("both", "{}", "ErrorCode"),
    ] {
        let text = cases.shaped(Shape::Error).with("error", error).text();
        cases.refused(format!("missing/error/inside-{label}"), text, why);
    }
}

fn twice(cases: &mut Cases<'_>) {
    for shape in SHAPES {
        for name in cases.shaped(shape).names() {
            for (label, at) in [("first", 0), ("last", 3)] {
                let base = cases.shaped(shape);
                let at = at.min(base.len());
                let same = base.value(&name).to_owned();
                let text = base.clone().insert(at, format!("\"{name}\""), same.clone()).text();
                cases.refused(format!("twice/{}/{name}/{label}", shape.name()), text, "DuplicateKey");
                let text = cases.shaped(shape).insert(at, escaped(&name), "null").text();
                cases.refused(format!("twice/{}/{name}/{label}-escaped", shape.name()), text, "DuplicateKey");
            }
        }
    }
    for (label, params) in [
        ("name", r#"{"name":"a","name":"b"}"#),
        ("name-escaped", r#"{"name":"a","n\u0061me":"b"}"#),
        ("meta", r#"{"_meta":{},"_meta":{}}"#),
        ("token", r#"{"_meta":{"progressToken":1,"progressToken":2}}"#),
        ("deep", r#"{"a":[[{"b":[{"c":1,"c":1}]}]]}"#),
        ("empty", r#"{"":1,"":1}"#),
        ("slash", r#"{"a/b":1,"a\/b":1}"#),
        ("emoji", r#"{"😀":1,"\ud83d\ude00":1}"#),
        ("null-letter", r#"{"\u0000":1,"\u0000":2}"#),
        ("far", r#"{"a":1,"b":2,"c":3,"d":4,"a":5}"#),
    ] {
        let text = cases.shaped(Shape::Request).with("params", params).text();
        cases.refused(format!("twice/params/{label}"), text, "DuplicateKey");
    }
}

fn lookalikes(cases: &mut Cases<'_>) {
    for shape in SHAPES {
        for name in ["jsonrpc", "id", "method", "params", "result", "error", "_meta"] {
            let upper = name.to_uppercase();
            let last = name.len() - 1;
            let mut spellings = vec![
                ("upper", upper.clone()),
                ("last", format!("{}{}", &name[..last], &upper[last..])),
                ("escaped", format!("\\u{:04x}{}", u32::from(upper.chars().nth(1).unwrap()), &name[1..])),
            ];
            spellings[2].1 =
                format!("{}\\u{:04x}{}", &name[..1], u32::from(upper.chars().nth(1).unwrap()), &name[2..]);
            if name.contains('s') {
                spellings.push(("long-s", name.replace('s', "\u{17f}")));
            }
            for (label, key) in spellings {
                let text = cases.shaped(shape).insert(1, format!("\"{key}\""), "null").text();
                cases.refused(format!("alike/{}/{name}/{label}", shape.name()), text, "Lookalike");
            }
        }
    }
    for (method, inside) in [
        ("tools/call", "name"),
        ("prompts/get", "name"),
        ("resources/read", "uri"),
        ("resources/subscribe", "uri"),
        ("resources/unsubscribe", "uri"),
        ("completion/complete", "ref"),
        ("ping", "_meta"),
        ("tools/list", "_meta"),
        ("initialize", "_meta"),
    ] {
        let upper = inside.to_uppercase();
        for (label, key) in [("upper", upper.clone()), ("title", format!("{}{}", &upper[..2], &inside[2..]))]
        {
            let params = format!(r#"{{"{inside}":{{}},"{key}":"b"}}"#);
            let text = cases
                .shaped(Shape::Request)
                .with("method", format!("\"{method}\""))
                .with("params", params)
                .text();
            cases.refused(format!("alike/params/{method}/{inside}/{label}"), text, "Lookalike");
        }
    }
    for inside in ["progressToken", "clientPubkey", "requestEventId"] {
        for (label, key) in [
            ("lower", inside.to_lowercase()),
            ("upper", inside.to_uppercase()),
            ("title", format!("{}{}", inside[..1].to_uppercase(), &inside[1..])),
        ] {
            let params = format!(r#"{{"name":"a","_meta":{{"{key}":"b"}}}}"#);
            let text = cases.shaped(Shape::Request).with("params", params).text();
            cases.refused(format!("alike/meta/{inside}/{label}"), text, "Lookalike");
            let text = cases.shaped(Shape::Request).push("_meta", format!(r#"{{"{key}":"b"}}"#)).text();
            cases.refused(format!("alike/meta-beside/{inside}/{label}"), text, "Lookalike");
        }
    }
    for inside in ["type", "name", "uri"] {
        let params = format!(r#"{{"ref":{{"{}":"x"}},"argument":{{}}}}"#, inside.to_uppercase());
        let text = cases
            .shaped(Shape::Request)
            .with("method", "\"completion/complete\"")
            .with("params", params)
            .text();
        cases.refused(format!("alike/ref/{inside}"), text, "Lookalike");
    }
    // A capital letter elsewhere is somebody's argument.
    for (label, params) in [
        ("arguments", r#"{"name":"a","arguments":{"Name":1,"name":2}}"#),
        ("other", r#"{"name":"a","URI":1}"#),
        ("trailing-space", r#"{"name":"a","name ":1}"#),
    ] {
        let text = cases.shaped(Shape::Request).with("params", params).text();
        let want = Shape::Request.fine(cases.role);
        cases.add(format!("alike/not/{label}"), text, want);
    }
}

fn extras(cases: &mut Cases<'_>) {
    for shape in SHAPES {
        for (name, value) in [
            ("x", "null"),
            ("_meta", "{}"),
            ("_meta", "[]"),
            ("_meta", "null"),
            ("sessionId", "\"s\""),
            ("", "1"),
            ("é", "[]"),
            ("__proto__", "{}"),
            ("json-rpc", "\"1.0\""),
            ("id ", "1"),
            (" method", "\"m\""),
            ("param", "[]"),
            ("results", "{}"),
            ("errors", "[]"),
            ("token", "{\"a\":{\"a\":1}}"),
        ] {
            let text = cases.shaped(shape).push(name, value).text();
            let want = shape.fine(cases.role);
            let number = cases.list.len();
            cases.add(
                format!("extra/{}/{}/{number}", shape.name(), if name.is_empty() { "empty" } else { name }),
                text,
                want,
            );
        }
        for by in 1..cases.shaped(shape).len() {
            let text = cases.shaped(shape).rotated(by).text();
            let want = shape.fine(cases.role);
            cases.add(format!("order/{}/{by}", shape.name()), text, want);
        }
    }
}

fn versions(cases: &mut Cases<'_>) {
    for (label, value) in [
        ("1.0", "\"1.0\""),
        ("2", "\"2\""),
        ("2.00", "\"2.00\""),
        ("2.1", "\"2.1\""),
        ("3.0", "\"3.0\""),
        ("02.0", "\"02.0\""),
        ("space-before", "\" 2.0\""),
        ("space-after", "\"2.0 \""),
        ("comma", "\"2,0\""),
        ("v", "\"v2.0\""),
        ("three", "\"2.0.0\""),
        ("fullwidth", "\"\u{ff12}.0\""),
        ("nul", "\"2.0\\u0000\""),
        ("number", "2.0"),
        ("integer", "2"),
        ("arabic", "\"\u{662}.0\""),
        ("zero-width", "\"2.0\u{200b}\""),
        ("word", "\"two\""),
        ("list", "[\"2.0\"]"),
    ] {
        for shape in [Shape::Request, Shape::Response] {
            let text = cases.shaped(shape).with("jsonrpc", value).text();
            cases.refused(format!("version/{}/{label}", shape.name()), text, "Version");
        }
    }
    for (label, value) in [("escaped", "\"\\u0032.0\""), ("all-escaped", "\"\\u0032\\u002e\\u0030\"")] {
        let text = cases.shaped(Shape::Notification).with("jsonrpc", value).text();
        cases.add(format!("version/{label}"), text, "taken");
    }
}
