//! Messages of the switchboard's own, and what can be read out of an answer.
use contextvm_core::envelope::Envelope;
use contextvm_core::object::{self, Edit, Object, quote};
use contextvm_core::rewrite::{PROTOCOL_VERSION, Rewrite, SUBSCRIPTION_ID};
use serde_json::value::RawValue;

use super::LOCAL;
use crate::answer::{FAILED, TIMED_OUT};
use crate::revision::{CLIENT_CAPABILITIES, CLIENT_INFO, LOG_LEVEL, MODERN, SERVER_INFO};

/// The requests whose results carry caching hints.
const CACHED: [&str; 5] =
    ["tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"];

/// Prints a request.
pub(super) fn request_text(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{},"method":{},"params":{params}}}"#, quote(id), quote(method))
}

/// Prints params of 2026-07-28: `members`, each with a comma behind it, and what the switchboard says of itself.
pub(super) fn modern_params(members: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        r#"{{{members}"_meta":{{"{PROTOCOL_VERSION}":"{MODERN}","{CLIENT_CAPABILITIES}":{{}},"{CLIENT_INFO}":{{"name":"cvm","version":"{version}"}}}}}}"#
    )
}

/// Whether the other side said this, and not our own client in its place.
pub(super) fn is_foreign(message: &Envelope<'_>) -> bool {
    message.error_code() != Some(TIMED_OUT)
        || reason(message).and_then(object::string).is_none_or(|reason| !LOCAL.contains(&reason.as_ref()))
}

/// What an answer to `server/discover` shows: that the server speaks 2026-07-28, that it does not, or nothing.
pub(super) fn shows_modern(answer: &Envelope<'_>) -> Option<bool> {
    let Some(error) = answer.error else {
        return Some(
            answer.result.is_some_and(|result| object::member(result, "supportedVersions").is_some()),
        );
    };
    let text = |name| object::member(error, name).and_then(object::string);
    match answer.error_code() {
        Some(-32022..=-32020) => Some(true),
        // Said by a client, a gateway or an access check, not by the MCP server.
        Some(FAILED | TIMED_OUT) if reason(answer).is_some() => None,
        Some(FAILED) if text("message").is_some_and(|text| text.eq_ignore_ascii_case("unauthorized")) => None,
        _ => Some(false),
    }
}

fn reason<'a>(answer: &Envelope<'a>) -> Option<&'a RawValue> {
    object::member(object::member(answer.error?, "data")?, "reason")
}

/// The end of a subscription names it in its result, too.
pub(super) fn with_result_subscription(text: &str, id: &RawValue) -> String {
    let edited = Object::parse(text).ok().and_then(|message| {
        let result = Object::parse(message.get("result")?.get()).ok()?;
        let meta = Object::parse(result.get("_meta")?.get()).ok()?;
        meta.get(SUBSCRIPTION_ID)?;
        let mut meta = meta.into_edit();
        meta.set(SUBSCRIPTION_ID, id.get().to_owned());
        let mut result = result.into_edit();
        result.set("_meta", meta.to_text());
        let mut message = message.into_edit();
        message.set("result", result.to_text());
        Some(message.to_text())
    });
    edited.unwrap_or_else(|| text.to_owned())
}

/// Takes out of a request what only 2026-07-28 knows.
pub(super) fn without_modern_meta(message: &Envelope<'_>) -> String {
    let rewrite = Rewrite::of(message);
    let names = [PROTOCOL_VERSION, CLIENT_CAPABILITIES, CLIENT_INFO, LOG_LEVEL];
    names.into_iter().fold(rewrite, Rewrite::without_meta).to_text()
}

/// Adds what 2026-07-28 demands of a result and earlier revisions do not have.
pub(super) fn with_modern_members(result: &RawValue, method: &str) -> String {
    let Ok(object) = Object::parse(result.get()) else { return result.get().to_owned() };
    let mut edit = object.into_edit();
    let mut add = |name: &'static str, json: &'static str| {
        if edit.get(name).is_none() {
            edit.set(name, json);
        }
    };
    add("resultType", r#""complete""#);
    if CACHED.contains(&method) {
        add("ttlMs", "0");
        add("cacheScope", r#""private""#);
    }
    edit.to_text()
}

/// Prints the answer to `server/discover` from an older server's answer to `initialize`.
pub(super) fn discovered(welcome: &RawValue) -> String {
    let mut result = Edit::new();
    let member = |name| object::member(welcome, name).map(RawValue::get);
    result.set("resultType", r#""complete""#);
    result.set("supportedVersions", format!(r#"["{MODERN}"]"#));
    let mut capabilities =
        member("capabilities").and_then(|all| Object::parse(all).ok()).unwrap_or_default().into_edit();
    capabilities.remove("tasks");
    result.set("capabilities", capabilities.to_text());
    if let Some(instructions) = member("instructions") {
        result.set("instructions", instructions);
    }
    result.set("ttlMs", "0");
    result.set("cacheScope", r#""private""#);
    if let Some(info) = member("serverInfo") {
        result.set("_meta", format!(r#"{{"{SERVER_INFO}":{info}}}"#));
    }
    result.to_text()
}
