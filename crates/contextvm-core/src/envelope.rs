//! The JSON-RPC envelope: what kind of message a text is, with every part a slice of that text.
//!
//! Rules: wire protocol, section "JSON-RPC validity". Unknown top-level members are accepted and kept.
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::value::RawValue;

use crate::object::{self, visit};
use crate::scan::{self, ScanError};
use crate::text::{push_quoted, resembled};
use crate::{Fault, Limits, capability};

/// Largest integer that every JSON parser reads exactly, 2^53 - 1.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

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
    /// Unknown top-level members, in order.
    pub extra: Vec<(Cow<'a, str>, &'a RawValue)>,
    text: &'a str,
    pub(crate) inside: Params<'a>,
}

/// What was found inside `params` in one walk over it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params<'a> {
    /// Its first members, at most [`Params::KEPT`].
    pub(crate) members: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// Whether these are all members.
    pub(crate) is_complete: bool,
    pub(crate) meta: Option<&'a RawValue>,
    progress_token: Option<&'a RawValue>,
}

impl<'a> Params<'a> {
    /// Enough for every method of MCP; an object with more is walked again when it is looked into.
    const KEPT: usize = 16;

    /// Returns a member that was kept.
    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.members.iter().find(|member| member.0 == name).map(|member| member.1)
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
        visit(text, |key, value| parts.take(key, value)).map_err(|_| EnvelopeError::Disagreement)?;
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
        match self.inside.get(name) {
            None if !self.inside.is_complete => object::member(self.params?, name),
            kept => kept,
        }
    }

    /// Returns `error.code` of an error.
    #[must_use]
    pub fn error_code(&self) -> Option<i64> {
        object::member(self.error?, "code")?.get().parse().ok()
    }

    /// Prints the message: known members in the usual order, then the unknown ones, values as they were written.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.print(&self.extra)
    }

    /// Prints the message without its unknown top-level members: other implementations drop a message that has any.
    #[must_use]
    pub fn to_exact_text(&self) -> String {
        self.print(&[])
    }

    fn print(&self, extra: &[(Cow<'a, str>, &'a RawValue)]) -> String {
        let mut out = Printer::new(self.text.len());
        out.raw("id", self.id);
        if let Some(method) = &self.method {
            out.string("method", method);
        }
        out.raw("params", self.params).raw("result", self.result).raw("error", self.error);
        for (key, value) in extra {
            out.raw(key, Some(value));
        }
        out.finish()
    }
}

/// Prints a request.
#[must_use]
pub fn request(id: &RawValue, method: &str, params: Option<&RawValue>) -> String {
    let mut out = Printer::new(method.len() + 64 + length(params));
    out.raw("id", Some(id)).string("method", method).raw("params", params);
    out.finish()
}

/// Prints a notification.
#[must_use]
pub fn notification(method: &str, params: Option<&RawValue>) -> String {
    let mut out = Printer::new(method.len() + 48 + length(params));
    out.string("method", method).raw("params", params);
    out.finish()
}

/// Prints a response; `result` must be an object for peers to accept it.
#[must_use]
pub fn response_result(id: &RawValue, result: &RawValue) -> String {
    let mut out = Printer::new(64 + result.get().len());
    out.raw("id", Some(id)).raw("result", Some(result));
    out.finish()
}

/// Prints an error response.
///
/// ```
/// use contextvm_core::envelope::response_error;
/// let id = serde_json::from_str("7")?;
/// assert_eq!(
///     response_error(id, -32000, "Unauthorized", None),
///     r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32000,"message":"Unauthorized"}}"#,
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
#[must_use]
pub fn response_error(id: &RawValue, code: i64, message: &str, data: Option<&RawValue>) -> String {
    let mut error = object::Edit::new();
    error.set("code", alloc::format!("{code}")).set_string("message", message);
    if let Some(data) = data {
        error.set("data", data.get());
    }
    let mut out = Printer::new(64 + message.len() + length(data));
    out.raw("id", Some(id)).json("error", &error.to_text());
    out.finish()
}

/// Whether a JSON text is a string or a safe integer, as the ids of messages must be.
#[must_use]
pub fn is_id(json: &RawValue) -> bool {
    let text = json.get();
    text.starts_with('"') || text.parse::<i64>().is_ok_and(|id| id.unsigned_abs() <= MAX_SAFE_INTEGER)
}

/// Whether a JSON text is a string or an integer, as progress tokens must be.
#[must_use]
pub fn is_progress_token(json: &RawValue) -> bool {
    json.get().starts_with('"') || is_integer(json)
}

fn is_integer(json: &RawValue) -> bool {
    json.get().bytes().all(|byte| byte == b'-' || byte.is_ascii_digit())
}

fn is_object(json: &RawValue) -> bool {
    json.get().starts_with('{')
}

fn length(json: Option<&RawValue>) -> usize {
    json.map_or(0, |json| json.get().len())
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
    extra: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Parts<'a> {
    fn take(&mut self, key: Cow<'a, str>, value: &'a RawValue) {
        let place = match key.as_ref() {
            "jsonrpc" => &mut self.version,
            "id" => &mut self.id,
            "method" => &mut self.method,
            "params" => &mut self.params,
            "result" => &mut self.result,
            "error" => &mut self.error,
            _ => return self.extra.push((key, value)),
        };
        *place = Some(value);
    }

    fn check(self, text: &'a str) -> Result<Envelope<'a>, EnvelopeError> {
        for (key, _) in &self.extra {
            refuse_lookalike(key, &["jsonrpc", "id", "method", "params", "result", "error"])?;
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
    let mut inside = Params { is_complete: true, ..Params::default() };
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
            inside.is_complete = false;
        }
    })?;
    if let Some(reference) = reference.filter(|reference| is_object(reference)) {
        walk(reference, reference_names, |_, _| {})?;
    }
    let Some(meta) = inside.meta else { return Ok(inside) };
    if !is_object(meta) {
        return Err(EnvelopeError::Meta);
    }
    walk(meta, &["progressToken", "clientPubkey", "requestEventId"], |key, value| {
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
    let mut verdict = Ok(());
    visit(object.get(), |key, value| {
        if verdict.is_ok() {
            verdict = refuse_lookalike(&key, names);
        }
        each(key, value);
    })
    .map_err(|_| EnvelopeError::Disagreement)?;
    verdict
}

fn refuse_lookalike(key: &str, names: &[&'static str]) -> Result<(), EnvelopeError> {
    resembled(key, names).map_or(Ok(()), |name| Err(EnvelopeError::Lookalike(name)))
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

/// Prints members after `"jsonrpc":"2.0"`.
struct Printer(String);

impl Printer {
    fn new(size: usize) -> Self {
        let mut out = String::with_capacity(size);
        out.push_str(r#"{"jsonrpc":"2.0""#);
        Self(out)
    }

    fn json(&mut self, key: &str, json: &str) -> &mut Self {
        self.0.push(',');
        push_quoted(&mut self.0, key);
        self.0.push(':');
        self.0.push_str(json);
        self
    }

    fn raw(&mut self, key: &str, value: Option<&RawValue>) -> &mut Self {
        match value {
            Some(value) => self.json(key, value.get()),
            None => self,
        }
    }

    fn string(&mut self, key: &str, value: &str) -> &mut Self {
        self.0.push(',');
        push_quoted(&mut self.0, key);
        self.0.push(':');
        push_quoted(&mut self.0, value);
        self
    }

    fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

#[cfg(test)]
mod tests;
