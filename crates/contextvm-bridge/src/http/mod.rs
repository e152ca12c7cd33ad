//! What both ends of Streamable HTTP share: header names, mirrored values, tool annotations and the text of event streams.
//!
//! The front (`proxy::http`) checks what a host sends, the upstream client of the gateway sends the same to a server.
use std::borrow::Cow;

use contextvm_core::envelope::Envelope;
use contextvm_core::object;
use contextvm_core::rewrite;
use serde_json::value::RawValue;

pub(crate) mod sse;
pub(crate) mod tools;
pub(crate) mod value;

pub(crate) use tools::ToolHeaders;

/// Header: the session of a revision that has `initialize`.
pub(crate) const SESSION_ID: &str = "mcp-session-id";
/// Header: the MCP revision.
pub(crate) const PROTOCOL_VERSION: &str = "mcp-protocol-version";
/// Header: the method of the request in the body.
pub(crate) const METHOD: &str = "mcp-method";
/// Header: what the method of the request names.
pub(crate) const NAME: &str = "mcp-name";
/// Start of the headers that mirror arguments of a tool.
pub(crate) const PARAM_PREFIX: &str = "mcp-param-";
/// Header: the last event that was read of a broken stream.
pub(crate) const LAST_EVENT_ID: &str = "last-event-id";
/// Header that keeps reverse proxies from holding events back; its value is `no`.
pub(crate) const ACCEL_BUFFERING: &str = "x-accel-buffering";

/// Content type of one message.
pub(crate) const JSON: &str = "application/json";
/// Content type of a stream of messages.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// The first revision whose streams start with an event without data, to be resumed from.
pub(crate) const PRIMED: &str = "2025-11-25";

/// Whether a content type, or a range of an `Accept` header, is this one; parameters do not matter.
pub(crate) fn is_type(found: &str, wanted: &str) -> bool {
    found.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(wanted)
}

/// Returns the revision in `_meta` of a modern request; `None` also when it is not a string.
pub(crate) fn version_of<'a>(message: &Envelope<'a>) -> Option<Cow<'a, str>> {
    object::string(object::member(message.meta()?, rewrite::PROTOCOL_VERSION)?)
}

/// Returns what [`NAME`] mirrors: `name`, `uri` or `taskId` of the methods that have one.
pub(crate) fn name_of<'a>(message: &Envelope<'a>) -> Option<Cow<'a, str>> {
    let member = match message.method.as_deref()? {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        "tasks/get" | "tasks/update" | "tasks/cancel" => "taskId",
        _ => return None,
    };
    object::string(message.param(member)?)
}

/// Returns the arguments of a `tools/call`, with the name of the tool.
pub(crate) fn tool_call<'a>(message: &Envelope<'a>) -> Option<(Cow<'a, str>, Option<&'a RawValue>)> {
    if message.method.as_deref() != Some("tools/call") {
        return None;
    }
    Some((name_of(message)?, message.param("arguments")))
}

/// Returns the headers, in lower case and with values fit to be sent, that mirror the body of a modern request.
pub(crate) fn mirrored(message: &Envelope<'_>, tools: &ToolHeaders) -> Vec<(String, String)> {
    let mut headers = Vec::with_capacity(3);
    if let Some(version) = version_of(message) {
        headers.push((PROTOCOL_VERSION.to_owned(), value::encode(&version).into_owned()));
    }
    if let Some(method) = &message.method {
        headers.push((METHOD.to_owned(), value::encode(method).into_owned()));
    }
    if let Some(name) = name_of(message) {
        headers.push((NAME.to_owned(), value::encode(&name).into_owned()));
    }
    if let Some((tool, arguments)) = tool_call(message) {
        for header in tools.of(&tool).iter() {
            if let Some(mirrored) = header.value_in(arguments) {
                headers.push((header.name.clone(), value::encode(&mirrored.text).into_owned()));
            }
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use contextvm_core::Limits;

    fn mirrored_of(text: &str, tools: &ToolHeaders) -> Vec<String> {
        let limits = Limits::default();
        let message = Envelope::parse(text, &limits).unwrap();
        mirrored(&message, tools).into_iter().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    #[test]
    fn content_types_compare_without_parameters_and_case() {
        assert!(is_type("Application/JSON; charset=utf-8", JSON));
        assert!(is_type(" text/event-stream;q=0.5", EVENT_STREAM));
        assert!(!is_type("application/json-patch", JSON));
    }

    #[test]
    fn every_header_that_a_body_asks_for_is_mirrored() {
        let tools = ToolHeaders::default();
        let list = r#"{"tools":[{"name":"röntgen","inputSchema":{"type":"object","properties":{
            "city":{"type":"string","x-mcp-header":"City"},
            "at":{"type":"object","properties":{"day":{"type":"integer","x-mcp-header":"Day"}}},
            "dry":{"type":"boolean","x-mcp-header":"Dry"},
            "none":{"type":"string","x-mcp-header":"None"}}}}]}"#;
        tools.learn(&RawValue::from_string(list.to_owned()).unwrap());
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"röntgen",
            "arguments":{"city":" x ","at":{"day":42.0},"dry":false,"none":null},
            "_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
        assert_eq!(
            mirrored_of(call, &tools),
            [
                "mcp-protocol-version: 2026-07-28",
                "mcp-method: tools/call",
                "mcp-name: =?base64?csO2bnRnZW4=?=",
                "mcp-param-city: =?base64?IHgg?=",
                "mcp-param-day: 42",
                "mcp-param-dry: false",
            ]
        );
    }

    #[test]
    fn each_method_has_its_own_member_for_the_name() {
        let table = [
            ("tools/call", "mcp-name: n"),
            ("prompts/get", "mcp-name: n"),
            ("resources/read", "mcp-name: u"),
            ("tasks/get", "mcp-name: t"),
            ("tasks/update", "mcp-name: t"),
            ("tasks/cancel", "mcp-name: t"),
        ];
        let text = |method: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"name":"n","uri":"u","taskId":"t"}}}}"#
            )
        };
        for (method, expected) in table {
            let headers = mirrored_of(&text(method), &ToolHeaders::default());
            assert_eq!(headers, [format!("mcp-method: {method}"), expected.to_owned()]);
        }
        assert_eq!(mirrored_of(&text("tools/list"), &ToolHeaders::default()), ["mcp-method: tools/list"]);
    }
}
