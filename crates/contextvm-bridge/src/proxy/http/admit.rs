//! What a POST is allowed to be: its era, and headers that fit its body.
use axum::http::{HeaderMap, StatusCode, header};
use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::object;
use contextvm_core::rewrite;
use serde_json::value::RawValue;

use super::reply::{INVALID_PARAMS, Refusal};
use crate::answer::INVALID_REQUEST;
use crate::http::value::{decode, is_same_number};
use crate::http::{
    EVENT_STREAM, JSON, METHOD, NAME, PROTOCOL_VERSION, ToolHeaders, is_type, name_of, tool_call, version_of,
};
use crate::revision::{CLIENT_CAPABILITIES, HEADER_MISMATCH, LEGACY, MODERN, is_modern};

/// What is done with a message.
#[derive(Debug)]
pub(super) enum Admitted {
    /// A request of 2026-07-28 or later: one exchange of its own.
    Request { id: Box<RawValue>, method: String },
    /// A notification of 2026-07-28 or later.
    Notification,
    /// It opens a session.
    Initialize { id: Box<RawValue>, version: String },
    /// A request within a session.
    InSession { id: Box<RawValue>, method: String },
    /// A notification or an answer within a session; perhaps it cancels a request.
    ToSession { cancelled: Option<Box<RawValue>> },
}

/// Returns the value of a header that may stand once only.
pub(super) fn single<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, String> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(value) => Ok(Some(value.trim())),
            Err(_) => Err(format!("{name} holds characters that a header cannot have")),
        },
        (Some(_), Some(_)) => Err(format!("{name} is there more than once")),
    }
}

/// Refuses a host that could not read the answer.
pub(super) fn check_accept(headers: &HeaderMap, wanted: &[&str]) -> Result<(), Refusal> {
    let ranges = || {
        let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(','))
    };
    let accepts = |kind: &str| ranges().any(|range| is_type(range, kind) || is_type(range, "*/*"));
    if wanted.iter().all(|kind| accepts(kind)) {
        Ok(())
    } else {
        Err(Refusal::new(
            StatusCode::NOT_ACCEPTABLE,
            "the host must accept application/json and text/event-stream",
        ))
    }
}

/// Refuses a POST whose form is not that of a message.
pub(super) fn check_form(headers: &HeaderMap) -> Result<(), Refusal> {
    check_accept(headers, &[JSON, EVENT_STREAM])?;
    match single(headers, header::CONTENT_TYPE.as_str()) {
        Ok(Some(kind)) if is_type(kind, JSON) => Ok(()),
        Ok(_) | Err(_) => {
            Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content type must be application/json"))
        }
    }
}

/// Sorts a message and checks the headers that its era has.
pub(super) fn admit(
    headers: &HeaderMap,
    message: &Envelope<'_>,
    tools: &ToolHeaders,
) -> Result<Admitted, Refusal> {
    let version = single(headers, PROTOCOL_VERSION).map_err(|what| mismatch(message, &what))?;
    let says_modern = version.is_some_and(is_modern);
    let method = message.method.as_deref().unwrap_or_default();
    match (message.kind, message.id) {
        (MessageKind::Request, Some(id)) => {
            let opens = if method == "initialize" { message.param("protocolVersion") } else { None };
            let opens = opens.and_then(object::string);
            let has_version = rewrite::protocol_version(message.params).is_some();
            if opens.is_none() && (has_version || says_modern || method == "server/discover") {
                check_modern(headers, version, message, tools)?;
                return Ok(Admitted::Request { id: id.to_owned(), method: method.to_owned() });
            }
            check_legacy_version(version)?;
            Ok(match opens {
                Some(version) => Admitted::Initialize { id: id.to_owned(), version: version.into_owned() },
                None => Admitted::InSession { id: id.to_owned(), method: method.to_owned() },
            })
        }
        (MessageKind::Notification, _) if says_modern || version_of(message).is_some() => {
            Ok(Admitted::Notification)
        }
        (MessageKind::Response | MessageKind::Error, _) if says_modern => {
            Err(Refusal::bad(None, INVALID_REQUEST, "a client of this revision sends no responses"))
        }
        (_, _) => {
            check_legacy_version(version)?;
            let cancelled = rewrite::cancelled_request_id(message.params);
            let cancelled = cancelled.filter(|_| method == "notifications/cancelled");
            Ok(Admitted::ToSession { cancelled: cancelled.map(ToOwned::to_owned) })
        }
    }
}

fn mismatch(message: &Envelope<'_>, what: &str) -> Refusal {
    Refusal::bad(message.id, HEADER_MISMATCH, &format!("Header mismatch: {what}"))
}

/// Refuses a revision that has sessions but is not known.
pub(super) fn check_legacy_version(version: Option<&str>) -> Result<(), Refusal> {
    match version {
        Some(version) if version != MODERN && !LEGACY.contains(&version) => {
            Err(Refusal::new(StatusCode::BAD_REQUEST, "this MCP-Protocol-Version is not supported"))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_modern(
    headers: &HeaderMap,
    version: Option<&str>,
    message: &Envelope<'_>,
    tools: &ToolHeaders,
) -> Result<(), Refusal> {
    let in_body = version_of(message);
    let capabilities = message.meta().and_then(|meta| object::member(meta, CLIENT_CAPABILITIES));
    let has_capabilities = capabilities.is_some_and(|capabilities| capabilities.get().starts_with('{'));
    let incomplete = || {
        let mut missing = Vec::new();
        if in_body.is_none() {
            missing.push(rewrite::PROTOCOL_VERSION);
        }
        if !has_capabilities {
            missing.push(CLIENT_CAPABILITIES);
        }
        let what = format!("required members of _meta are missing or malformed: {}", missing.join(", "));
        Err(Refusal::bad(message.id, INVALID_PARAMS, &what))
    };
    let Some(named) = in_body.as_deref() else { return incomplete() };
    match version {
        None => return Err(mismatch(message, "the MCP-Protocol-Version header is missing")),
        Some(version) if version != named => {
            let what = format!("MCP-Protocol-Version is {version:?} and _meta says {named:?}");
            return Err(mismatch(message, &what));
        }
        Some(_) => {}
    }
    // What another revision asks for is not known here; the server says whether it knows.
    if named == MODERN {
        check_mirrored(headers, message, tools).map_err(|what| mismatch(message, &what))?;
        if !has_capabilities {
            return incomplete();
        }
    }
    Ok(())
}

/// Checks the headers that mirror the body.
fn check_mirrored(headers: &HeaderMap, message: &Envelope<'_>, tools: &ToolHeaders) -> Result<(), String> {
    let method = message.method.as_deref().unwrap_or_default();
    match single(headers, METHOD)? {
        None => return Err("the Mcp-Method header is missing".to_owned()),
        Some(found) if found != method => {
            return Err(format!("Mcp-Method is {found:?} and the body says {method:?}"));
        }
        Some(_) => {}
    }
    let found = single(headers, NAME)?;
    if let Some(name) = name_of(message) {
        let found = found.ok_or("the Mcp-Name header is missing")?;
        let found = decode(found).ok_or("Mcp-Name is not base64 of UTF-8")?;
        if found != name {
            return Err(format!("Mcp-Name is {found:?} and the body says {name:?}"));
        }
    }
    let Some((tool, arguments)) = tool_call(message) else { return Ok(()) };
    for header in tools.of(&tool).iter() {
        let name = &header.name;
        match (header.value_in(arguments), single(headers, name)?) {
            (None, None) => {}
            (None, Some(_)) => return Err(format!("{name} is there and the body has no such argument")),
            (Some(_), None) => return Err(format!("{name} is missing")),
            (Some(value), Some(found)) => {
                let found = decode(found).ok_or_else(|| format!("{name} is not base64 of UTF-8"))?;
                if found != value.text && !(value.is_number && is_same_number(&found, &value.text)) {
                    return Err(format!("{name} is not what the body says"));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "tests/admit.rs"]
mod tests;
