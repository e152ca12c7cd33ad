//! The JSON-RPC envelope: what kind of message a text is, with every part a slice of that text.
//!
//! Rules: wire protocol, section "JSON-RPC validity". Unknown top-level members are accepted and kept.
mod print;

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::value::RawValue;

pub use self::print::{notification, request, response_error, response_result};
use crate::object::{self, Printer, visit};
use crate::scan::{self, ScanError};
use crate::text::resembled;
use crate::{Fault, Limits, capability};

/// Largest integer that every JSON parser reads exactly, 2^53 - 1.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// The top-level members that a message may have.
const KNOWN: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];
/// Members of `_meta` that this library reads or sets.
const RESERVED_META: [&str; 3] = ["progressToken", "clientPubkey", "requestEventId"];

/// The four shapes of a JSON-RPC message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageKind {
    /// `method` and `id`.
    Request,
    /// `method` without `id`.
    Notification,
    /// `result` and `id`.
    Response,
    /// `error`, mostly with `id`.
    Error,
}

/// Why a text is not a JSON-RPC message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The text is not JSON within budget that all parsers read alike.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The text is an array: JSON-RPC batches are not part of the protocol.
    #[error("batches are not accepted")]
    Batch,
    /// The text is another JSON value than an object.
    #[error("message is not an object")]
    NotAnObject,
    /// `jsonrpc` is absent or not `"2.0"`.
    #[error("jsonrpc is not \"2.0\"")]
    Version,
    /// `id` is neither a string nor an integer up to 2^53 - 1.
    #[error("id is neither a string nor a safe integer")]
    Id,
    /// A result without `id`.
    #[error("response without id")]
    NoId,
    /// `method` is not a string.
    #[error("method is not a string")]
    Method,
    /// None of `method`, `result` and `error` is there.
    #[error("neither method nor result nor error")]
    Shapeless,
    /// Members of different message kinds are mixed.
    #[error("more than one of method, result and error, or an answer with params")]
    Mixed,
    /// `params` is not an object.
    #[error("params is not an object")]
    Params,
    /// `params._meta` is not an object.
    #[error("params._meta is not an object")]
    Meta,
    /// `params._meta.progressToken` is neither a string nor an integer.
    #[error("progress token is neither a string nor an integer")]
    ProgressToken,
    /// `result` is not an object.
    #[error("result is not an object")]
    Result,
    /// `error` is not an object.
    #[error("error is not an object")]
    Error,
    /// `error.code` is absent or not an integer.
    #[error("error code is not an integer")]
    ErrorCode,
    /// `error.message` is absent or not a string.
    #[error("error message is not a string")]
    ErrorMessage,
    /// A member is spelled like the named one but for letter case, and some parsers take one for the other.
    #[error("a member resembles {0}")]
    Lookalike(&'static str),
    /// The scan accepted what the parser refuses.
    #[error("scan and parser disagree")]
    Disagreement,
}

impl EnvelopeError {
    /// Says who misbehaved: whoever wrote the text, or this library.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Disagreement => Fault::Bug,
            Self::Scan(_)
            | Self::Batch
            | Self::NotAnObject
            | Self::Version
            | Self::Id
            | Self::NoId
            | Self::Method
            | Self::Shapeless
            | Self::Mixed
            | Self::Params
            | Self::Meta
            | Self::ProgressToken
            | Self::Result
            | Self::Error
            | Self::ErrorCode
            | Self::ErrorMessage
            | Self::Lookalike(_) => Fault::Peer,
        }
    }

    /// Whether the text was refused for its cost and not for its form.
    #[must_use]
    pub const fn is_budget(&self) -> bool {
        matches!(self, Self::Scan(scan) if scan.is_budget())
    }
}

/// One JSON-RPC message, checked, every part borrowed from its text. [`Envelope::parse`] is the only constructor.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    /// Which shape it has.
    pub kind: MessageKind,
    /// A string or a safe integer; always there in a request and a response.
    pub id: Option<&'a RawValue>,
    /// The method of a request or notification, unescaped.
    pub method: Option<Cow<'a, str>>,
    /// The object `params` of a request or notification.
    pub params: Option<&'a RawValue>,
    /// The object `result` of a response.
    pub result: Option<&'a RawValue>,
    /// The object `error` of an error.
    pub error: Option<&'a RawValue>,
    /// How many unknown top-level members there are; [`Envelope::to_text`] keeps them.
    pub extra: usize,
    text: &'a str,
    pub(crate) inside: Params<'a>,
    /// The unknown member `_meta` beside `params`, where CEP-16 draws it.
    pub(crate) meta_beside: Option<&'a RawValue>,
}

/// What was found inside `params` in one walk over it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params<'a> {
    pub(crate) object: Option<&'a RawValue>,
    /// Its first members, at most [`Params::KEPT`].
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// Whether there are more members.
    has_more: bool,
    pub(crate) meta: Option<&'a RawValue>,
    progress_token: Option<&'a RawValue>,
}

impl<'a> Params<'a> {
    /// Enough for every method of MCP; an object with more is walked again when it is looked into.
    const KEPT: usize = 16;

    /// Returns a member.
    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        match self.members.iter().find(|member| member.0 == name) {
            None if self.has_more => object::member(self.object?, name),
            kept => kept.map(|member| member.1),
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

impl<'a> Envelope<'a> {
    /// Scans and parses one message.
    ///
    /// # Errors
    /// Returns the first rule of the wire protocol that the text breaks.
    ///
    /// ```
    /// use contextvm_core::{Limits, envelope::{Envelope, MessageKind}};
    /// let text = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"add"}}"#;
    /// let message = Envelope::parse(text, &Limits::default())?;
    /// assert_eq!(message.kind, MessageKind::Request);
    /// assert_eq!(message.method.as_deref(), Some("tools/call"));
    /// # Ok::<(), contextvm_core::envelope::EnvelopeError>(())
    /// ```
    pub fn parse(text: &'a str, limits: &Limits) -> Result<Self, EnvelopeError> {
        scan::check(text, limits)?;
        match text.trim_start().bytes().next() {
            Some(b'{') => {}
            Some(b'[') => return Err(EnvelopeError::Batch),
            _ => return Err(EnvelopeError::NotAnObject),
        }
        let mut parts = Parts::default();
        visit(text, |key, value| parts.take(&key, value)).map_err(|_| EnvelopeError::Disagreement)?;
        parts.check(text)
    }

    /// Returns the text it was parsed from, byte for byte.
    #[must_use]
    pub const fn text(&self) -> &'a str {
        self.text
    }

    /// Returns the object `params._meta` of a request or notification.
    #[must_use]
    pub const fn meta(&self) -> Option<&'a RawValue> {
        self.inside.meta
    }

    /// Returns `params._meta.progressToken`: a string or an integer, `0` and `""` included.
    #[must_use]
    pub const fn progress_token(&self) -> Option<&'a RawValue> {
        self.inside.progress_token
    }

    /// Returns a member of `params` without walking over it again, as [`rewrite::param`](crate::rewrite::param) would.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&'a RawValue> {
        self.inside.get(name)
    }

    /// Returns `error.code` of an error.
    #[must_use]
    pub fn error_code(&self) -> Option<i64> {
        object::member(self.error?, "code")?.get().parse().ok()
    }

    /// Prints the message: known members in the usual order, then the unknown ones, values as they were written.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = self.printer();
        if self.extra > 0 {
            // It was an object when it was parsed.
            let _ = visit(self.text, |key, value| {
                if !KNOWN.contains(&key.as_ref()) {
                    out.raw(&key, Some(value));
                }
            });
        }
        out.finish()
    }

    /// Prints the message without its unknown top-level members: other implementations drop a message that has any.
    #[must_use]
    pub fn to_exact_text(&self) -> String {
        self.printer().finish()
    }

    fn printer(&self) -> Printer {
        let mut out = print::start(self.text.len());
        out.raw("id", self.id);
        if let Some(method) = &self.method {
            out.string("method", method);
        }
        out.raw("params", self.params).raw("result", self.result).raw("error", self.error);
        out
    }
}

/// Whether a JSON text is a string or a safe integer, as the ids of messages must be.
#[must_use]
pub fn is_id(json: &RawValue) -> bool {
    let text = json.get();
    text.starts_with('"') || text.parse::<i64>().is_ok_and(|id| id.unsigned_abs() <= MAX_SAFE_INTEGER)
}

/// Whether a JSON text is a string or an integer, as progress tokens must be.
fn is_progress_token(json: &RawValue) -> bool {
    json.get().starts_with('"') || is_integer(json)
}

fn is_integer(json: &RawValue) -> bool {
    json.get().bytes().all(|byte| byte == b'-' || byte.is_ascii_digit())
}

fn is_object(json: &RawValue) -> bool {
    json.get().starts_with('{')
}

/// The top-level members, before any rule was checked.
#[derive(Default)]
struct Parts<'a> {
    version: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    method: Option<&'a RawValue>,
    params: Option<&'a RawValue>,
    result: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
    meta_beside: Option<&'a RawValue>,
    extra: usize,
    lookalike: Option<&'static str>,
}

impl<'a> Parts<'a> {
    fn take(&mut self, key: &str, value: &'a RawValue) {
        let place = match key {
            "jsonrpc" => &mut self.version,
            "id" => &mut self.id,
            "method" => &mut self.method,
            "params" => &mut self.params,
            "result" => &mut self.result,
            "error" => &mut self.error,
            other => {
                self.extra += 1;
                let resembled = resembled(other, &KNOWN).or_else(|| resembled(other, &["_meta"]));
                self.lookalike = self.lookalike.or(resembled);
                if other != "_meta" {
                    return;
                }
                &mut self.meta_beside
            }
        };
        *place = Some(value);
    }

    fn check(self, text: &'a str) -> Result<Envelope<'a>, EnvelopeError> {
        if let Some(name) = self.lookalike {
            return Err(EnvelopeError::Lookalike(name));
        }
        if let Some(meta) = self.meta_beside.filter(|meta| is_object(meta)) {
            walk(meta, &RESERVED_META, |_, _| {})?;
        }
        if self.version.and_then(object::string).as_deref() != Some("2.0") {
            return Err(EnvelopeError::Version);
        }
        if self.id.is_some_and(|id| !is_id(id)) {
            return Err(EnvelopeError::Id);
        }
        let kind = self.kind()?;
        let method = match self.method {
            Some(method) => Some(object::string(method).ok_or(EnvelopeError::Method)?),
            None => None,
        };
        let inside = check_params(self.params, method.as_deref())?;
        if self.result.is_some_and(|result| !is_object(result)) {
            return Err(EnvelopeError::Result);
        }
        if let Some(error) = self.error {
            check_error(error)?;
        }
        Ok(Envelope {
            kind,
            id: self.id,
            method,
            params: self.params,
            result: self.result,
            error: self.error,
            extra: self.extra,
            text,
            inside,
            meta_beside: self.meta_beside,
        })
    }

    const fn kind(&self) -> Result<MessageKind, EnvelopeError> {
        match (self.method.is_some(), self.result.is_some(), self.error.is_some()) {
            (true, false, false) if self.id.is_some() => Ok(MessageKind::Request),
            (true, false, false) => Ok(MessageKind::Notification),
            (false, false, false) => Err(EnvelopeError::Shapeless),
            (false, true, false) | (false, false, true) if self.params.is_some() => Err(EnvelopeError::Mixed),
            (false, true, false) if self.id.is_none() => Err(EnvelopeError::NoId),
            (false, true, false) => Ok(MessageKind::Response),
            (false, false, true) => Ok(MessageKind::Error),
            (true, true, _) | (true, _, true) | (_, true, true) => Err(EnvelopeError::Mixed),
        }
    }
}

/// Checks `params` and keeps what later steps ask for.
fn check_params<'a>(params: Option<&'a RawValue>, method: Option<&str>) -> Result<Params<'a>, EnvelopeError> {
    let mut inside = Params { object: params, ..Params::default() };
    let Some(params) = params else { return Ok(inside) };
    if !is_object(params) {
        return Err(EnvelopeError::Params);
    }
    let (names, reference_names) = capability::names(method.unwrap_or_default());
    let mut reference = None;
    walk(params, names, |key, value| {
        match key.as_ref() {
            "_meta" => inside.meta = Some(value),
            "ref" => reference = Some(value),
            _ => {}
        }
        if inside.members.len() < Params::KEPT {
            inside.members.push((key, value));
        } else {
            inside.has_more = true;
        }
    })?;
    if let Some(reference) = reference.filter(|reference| is_object(reference)) {
        walk(reference, reference_names, |_, _| {})?;
    }
    let Some(meta) = inside.meta else { return Ok(inside) };
    if !is_object(meta) {
        return Err(EnvelopeError::Meta);
    }
    walk(meta, &RESERVED_META, |key, value| {
        if key == "progressToken" {
            inside.progress_token = Some(value);
        }
    })?;
    if inside.progress_token.is_some_and(|token| !is_progress_token(token)) {
        return Err(EnvelopeError::ProgressToken);
    }
    Ok(inside)
}

/// Walks over the members of an object and refuses one that resembles one of `names`.
fn walk<'a>(
    object: &'a RawValue,
    names: &[&'static str],
    mut each: impl FnMut(Cow<'a, str>, &'a RawValue),
) -> Result<(), EnvelopeError> {
    let mut lookalike = None;
    visit(object.get(), |key, value| {
        lookalike = lookalike.or_else(|| resembled(&key, names));
        each(key, value);
    })
    .map_err(|_| EnvelopeError::Disagreement)?;
    lookalike.map_or(Ok(()), |name| Err(EnvelopeError::Lookalike(name)))
}

fn check_error(error: &RawValue) -> Result<(), EnvelopeError> {
    if !is_object(error) {
        return Err(EnvelopeError::Error);
    }
    if !object::member(error, "code").is_some_and(is_integer) {
        return Err(EnvelopeError::ErrorCode);
    }
    if !object::member(error, "message").is_some_and(|message| message.get().starts_with('"')) {
        return Err(EnvelopeError::ErrorMessage);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
