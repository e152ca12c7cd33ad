//! Every rule by which a POST is sorted and its headers are checked.
use super::*;
use axum::http::{HeaderName, HeaderValue};
use axum::response::IntoResponse as _;
use contextvm_core::Limits;

const CAPABLE: &str = r#""io.modelcontextprotocol/clientCapabilities":{}"#;
const VERSION: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#;

fn map(headers: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    map
}

fn annotated() -> ToolHeaders {
    let tools = ToolHeaders::default();
    let list = r#"{"tools":[{"name":"t","inputSchema":{"properties":{
        "s":{"type":"string","x-mcp-header":"S"},"n":{"type":"integer","x-mcp-header":"N"},
        "b":{"type":"boolean","x-mcp-header":"B"}}}}]}"#;
    tools.learn(&RawValue::from_string(list.to_owned()).unwrap());
    tools
}

/// Returns what a message is taken for, or the status and error code of its refusal.
fn admitted(text: &str, headers: &[(&str, &str)]) -> Result<&'static str, (u16, Option<i64>)> {
    let limits = Limits::default();
    let message = Envelope::parse(text, &limits).unwrap();
    match admit(&map(headers), &message, &annotated()) {
        Ok(Admitted::Request { .. }) => Ok("request"),
        Ok(Admitted::Notification) => Ok("notification"),
        Ok(Admitted::Initialize { .. }) => Ok("initialize"),
        Ok(Admitted::InSession { .. }) => Ok("in session"),
        Ok(Admitted::ToSession { cancelled: None }) => Ok("to session"),
        Ok(Admitted::ToSession { cancelled: Some(_) }) => Ok("cancels"),
        Err(refusal) => {
            let text = format!("{refusal:?}");
            let code =
                text.split_once(r#"code\":"#).map(|rest| rest.1.split(',').next().unwrap().parse().unwrap());
            Err((refusal.into_response().status().as_u16(), code))
        }
    }
}

fn modern(method: &str, members: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{members}"_meta":{{{VERSION},{CAPABLE}}}}}}}"#
    )
}

fn call(arguments: &str) -> String {
    modern("tools/call", &format!(r#""name":"t","arguments":{arguments},"#))
}

const HEADERS: [(&str, &str); 2] = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call")];
const MISMATCH: Result<&str, (u16, Option<i64>)> = Err((400, Some(-32020)));

#[test]
fn the_era_is_decided_by_the_message() {
    let initialize =
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let note = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
    let meant = r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    let response = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let old = [("mcp-protocol-version", "2025-06-18")];
    let new = [("mcp-protocol-version", "2026-07-28")];
    let unknown = [("mcp-protocol-version", "2024-01-01")];
    let list = [new[0], ("mcp-method", "tools/list")];
    assert_eq!(admitted(initialize, &[]), Ok("initialize"));
    assert_eq!(admitted(initialize, &old), Ok("initialize"));
    assert_eq!(admitted(initialize, &new), Ok("initialize"));
    assert_eq!(admitted(initialize, &unknown), Err((400, None)));
    assert_eq!(admitted(ping, &[]), Ok("in session"));
    assert_eq!(admitted(ping, &old), Ok("in session"));
    assert_eq!(admitted(ping, &unknown), Err((400, None)));
    assert_eq!(admitted(ping, &[old[0], old[0]]), MISMATCH);
    assert_eq!(admitted(note, &old), Ok("to session"));
    assert_eq!(admitted(note, &unknown), Err((400, None)));
    assert_eq!(admitted(note, &new), Ok("notification"));
    assert_eq!(admitted(meant, &[]), Ok("notification"));
    assert_eq!(admitted(cancel, &[]), Ok("cancels"));
    assert_eq!(admitted(response, &old), Ok("to session"));
    assert_eq!(admitted(response, &new), Err((400, Some(-32600))));
    assert_eq!(admitted(&modern("tools/list", ""), &list), Ok("request"));
    assert_eq!(admitted(&modern("initialize", ""), &[new[0], ("mcp-method", "initialize")]), Ok("request"));
}

#[test]
fn a_modern_request_needs_its_meta() {
    let with = |meta: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{{"_meta":{{{meta}}}}}}}"#)
    };
    let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "server/discover")];
    let incomplete = Err((400, Some(-32602)));
    assert_eq!(admitted(&with(&format!("{VERSION},{CAPABLE}")), &headers), Ok("request"));
    assert_eq!(admitted(&with(VERSION), &headers), incomplete);
    assert_eq!(admitted(&with(&format!("{VERSION},{}", CAPABLE.replace("{}", "7"))), &headers), incomplete);
    assert_eq!(admitted(&with(CAPABLE), &headers), incomplete);
    assert_eq!(
        admitted(&with(&format!("{},{CAPABLE}", VERSION.replace("\"2026-07-28\"", "7"))), &headers),
        incomplete
    );
    assert_eq!(admitted(&with(""), &headers), incomplete);
    let bare = r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#;
    assert_eq!(admitted(bare, &headers), incomplete);
    assert_eq!(admitted(bare, &[]), incomplete);
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    assert_eq!(admitted(ping, &[("mcp-protocol-version", "2026-07-28")]), incomplete);
}

#[test]
fn method_and_version_headers_must_be_there_once_and_fit() {
    let list = modern("tools/list", "");
    let version = ("mcp-protocol-version", "2026-07-28");
    let method = ("mcp-method", "tools/list");
    assert_eq!(admitted(&list, &[version, method]), Ok("request"));
    assert_eq!(
        admitted(&list, &[("MCP-PROTOCOL-VERSION", "2026-07-28"), ("Mcp-Method", " tools/list ")]),
        Ok("request")
    );
    for headers in [
        vec![version],
        vec![method],
        vec![version, ("mcp-method", "prompts/list")],
        vec![version, ("mcp-method", "TOOLS/LIST")],
        vec![version, ("mcp-method", "tools/läst")],
        vec![version, method, method],
        vec![version, version, method],
        vec![("mcp-protocol-version", "2025-11-25"), method],
        vec![version, method, ("mcp-name", "a"), ("mcp-name", "b")],
    ] {
        assert_eq!(admitted(&list, &headers), MISMATCH, "{headers:?}");
    }
    // What another revision asks for is the server's business.
    let later = list.replace("2026-07-28", "2027-01-01");
    assert_eq!(admitted(&later, &[("mcp-protocol-version", "2027-01-01")]), Ok("request"));
}

#[test]
fn the_name_header_mirrors_what_the_method_names() {
    for (method, member) in [
        ("tools/call", "name"),
        ("prompts/get", "name"),
        ("resources/read", "uri"),
        ("tasks/get", "taskId"),
        ("tasks/update", "taskId"),
        ("tasks/cancel", "taskId"),
    ] {
        let text = modern(method, &format!(r#""{member}":"Näme","#));
        let with = |name: Option<&str>| {
            let mut headers = vec![HEADERS[0], ("mcp-method", method)];
            headers.extend(name.map(|name| ("mcp-name", name)));
            admitted(&text, &headers)
        };
        assert_eq!(with(Some("=?base64?TsOkbWU=?=")), Ok("request"), "{method}");
        assert_eq!(with(Some("  =?base64?TsOkbWU=?= ")), Ok("request"), "{method}");
        for wrong in
            [None, Some("name"), Some("=?base64?TsOkbWU?="), Some("Näme"), Some("=?base64?bmFtZQ==?=")]
        {
            assert_eq!(with(wrong), MISMATCH, "{method} {wrong:?}");
        }
    }
    let plain = modern("tools/call", r#""name":"a b","#);
    assert_eq!(admitted(&plain, &[HEADERS[0], HEADERS[1], ("mcp-name", "  a b  ")]), Ok("request"));
    let nameless = modern("tools/call", "");
    assert_eq!(admitted(&nameless, &HEADERS), Ok("request"));
}

#[test]
fn headers_of_annotated_arguments_must_be_there_exactly_when_the_arguments_are() {
    let with = |arguments: &str, headers: &[(&str, &str)]| {
        let all = [HEADERS.as_slice(), &[("mcp-name", "t")], headers].concat();
        admitted(&call(arguments), &all)
    };
    let accepted: [(&str, &[(&str, &str)]); 10] = [
        ("{}", &[]),
        (r#"{"s":null,"other":1}"#, &[]),
        (r#"{"s":[1]}"#, &[]),
        (r#"{"s":"a b"}"#, &[("mcp-param-s", "a b")]),
        (r#"{"s":"Hello"}"#, &[("Mcp-Param-S", "=?base64?SGVsbG8=?=")]),
        (r#"{"s":"SGVsbG8="}"#, &[("mcp-param-s", "SGVsbG8=")]),
        (r#"{"s":"=?base64?SGVsbG8="}"#, &[("mcp-param-s", "=?base64?SGVsbG8=")]),
        (r#"{"n":42}"#, &[("mcp-param-n", "42.0")]),
        (r#"{"n":42.0,"b":true}"#, &[("mcp-param-n", "42"), ("mcp-param-b", "true")]),
        ("{}", &[("mcp-param-unknown", "x")]),
    ];
    for (arguments, headers) in accepted {
        assert_eq!(with(arguments, headers), Ok("request"), "{arguments} {headers:?}");
    }
    let refused: [(&str, &[(&str, &str)]); 11] = [
        (r#"{"s":"a"}"#, &[]),
        ("{}", &[("mcp-param-s", "a")]),
        (r#"{"s":null}"#, &[("mcp-param-s", "null")]),
        (r#"{"s":"a"}"#, &[("mcp-param-s", "A")]),
        (r#"{"s":"a"}"#, &[("mcp-param-s", "a"), ("mcp-param-s", "a")]),
        (r#"{"s":"Hello"}"#, &[("mcp-param-s", "=?base64?SGVsbG8?=")]),
        (r#"{"s":"Hello"}"#, &[("mcp-param-s", "=?base64?SGVs!!!bG8=?=")]),
        (r#"{"s":"42"}"#, &[("mcp-param-s", "42.0")]),
        (r#"{"n":42}"#, &[("mcp-param-n", "43")]),
        (r#"{"b":true}"#, &[("mcp-param-b", "True")]),
        (r#"{"s":"ä"}"#, &[("mcp-param-s", "ä")]),
    ];
    for (arguments, headers) in refused {
        assert_eq!(with(arguments, headers), MISMATCH, "{arguments} {headers:?}");
    }
}

#[test]
fn a_host_must_read_both_forms_of_an_answer() {
    let accepts = |values: &[&str]| {
        let headers: Vec<(&str, &str)> = values.iter().map(|value| ("accept", *value)).collect();
        check_accept(&map(&headers), &[JSON, EVENT_STREAM]).is_ok()
    };
    assert!(accepts(&["application/json, text/event-stream"]));
    assert!(accepts(&["Text/Event-Stream;q=0.9,APPLICATION/json"]));
    assert!(accepts(&["application/json", "text/event-stream"]));
    assert!(accepts(&["*/*"]));
    assert!(!accepts(&[]) && !accepts(&["application/json"]) && !accepts(&["text/*, application/json"]));
}
