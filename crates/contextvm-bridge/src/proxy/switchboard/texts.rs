//! Messages of the switchboard's own, and what can be read out of an answer.
use contextvm_core::envelope::Envelope;
use contextvm_core::object::{self, Object, quote};
use contextvm_core::rewrite::{PROTOCOL_VERSION, SUBSCRIPTION_ID};
use serde_json::value::RawValue;

use super::LOCAL;
use crate::answer::FAILED;
use crate::revision::{CLIENT_CAPABILITIES, CLIENT_INFO, MODERN};

/// Prints a request.
pub(super) fn request_text(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{},"method":{},"params":{params}}}"#, quote(id), quote(method))
}

/// Prints params that hold nothing but the `_meta` of 2026-07-28.
pub(super) fn modern_params(capabilities: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        r#"{{"_meta":{{"{PROTOCOL_VERSION}":"{MODERN}","{CLIENT_CAPABILITIES}":{capabilities},"{CLIENT_INFO}":{{"name":"cvm","version":"{version}"}}}}}}"#
    )
}

/// Whether the other side said this, and not our own client in its place.
pub(super) fn is_foreign(message: &Envelope<'_>) -> bool {
    let data = message.error.and_then(|error| object::member(error, "data"));
    let reason = data.and_then(|data| object::member(data, "reason")).and_then(object::string);
    reason.is_none_or(|reason| !LOCAL.contains(&reason.as_ref()))
}

/// What an answer to `server/discover` shows: that the server speaks 2026-07-28, that it does not, or nothing.
pub(super) fn shows_modern(answer: &Envelope<'_>) -> Option<bool> {
    let Some(error) = answer.error else { return Some(true) };
    let text = |name| object::member(error, name).and_then(object::string);
    let reason = object::member(error, "data").and_then(|data| object::member(data, "reason"));
    match answer.error_code() {
        Some(-32022..=-32020) => Some(true),
        // Said by a client, a gateway or an access check, not by the MCP server.
        _ if reason.is_some() => None,
        Some(FAILED) if text("message").is_some_and(|text| text.eq_ignore_ascii_case("unauthorized")) => None,
        _ => Some(false),
    }
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
