//! The HTTP answers of the front: refusals, single messages and streams of events.
use std::borrow::Cow;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use contextvm_core::object::Edit;
use futures_util::stream;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::stream::{Event, Reader};
use crate::answer::{Failure, INVALID_REQUEST, METHOD_NOT_FOUND};
use crate::http::{ACCEL_BUFFERING, EVENT_STREAM, JSON, sse};
use crate::revision::{HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION};

/// JSON-RPC: not JSON.
pub(super) const PARSE_ERROR: i64 = -32700;
/// JSON-RPC: the params are not what the method needs.
pub(super) const INVALID_PARAMS: i64 = -32602;
/// When a host may try to resume a stream.
const RETRY: Duration = Duration::from_millis(500);

/// Why a request is not passed on.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    /// One sentence, or a JSON-RPC error.
    text: Cow<'static, str>,
    is_json: bool,
    header: Option<(header::HeaderName, &'static str)>,
}

impl Refusal {
    pub(super) const fn new(status: StatusCode, what: &'static str) -> Self {
        Self { status, text: Cow::Borrowed(what), is_json: false, header: None }
    }

    pub(super) fn unauthorized() -> Self {
        let header = Some((header::WWW_AUTHENTICATE, "Bearer"));
        Self { header, ..Self::new(StatusCode::UNAUTHORIZED, "the token is missing or wrong") }
    }

    pub(super) fn method(allowed: &'static str) -> Self {
        let header = Some((header::ALLOW, allowed));
        Self { header, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "this method is not served here") }
    }

    /// A message that is wrong in itself.
    pub(super) fn bad(id: Option<&RawValue>, code: i64, message: &str) -> Self {
        let mut error = Edit::new();
        error.set("code", code.to_string()).set_string("message", message);
        let mut text = Edit::new();
        text.set("jsonrpc", r#""2.0""#);
        if let Some(id) = id {
            text.set("id", id.get());
        }
        text.set("error", error.to_text());
        let text = text.to_text().into();
        Self { status: StatusCode::BAD_REQUEST, text, is_json: true, header: None }
    }

    /// There is no room or no server.
    pub(super) fn unavailable(id: Option<&RawValue>, failure: &Failure) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        match id {
            Some(id) => Self { status, text: failure.answer(id).into(), is_json: true, header: None },
            None => Self::new(status, "the server cannot be spoken to at the moment"),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let kind = if self.is_json { JSON } else { "text/plain; charset=utf-8" };
        let mut response = whole(self.status, kind, self.text.into_owned());
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

fn whole(status: StatusCode, kind: &'static str, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Answers without a body.
pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Answers with one sentence.
pub(super) fn plain(text: &'static str) -> Response {
    whole(StatusCode::OK, "text/plain; charset=utf-8", text.to_owned())
}

/// Answers with one message.
pub(super) fn message(status: StatusCode, line: &str) -> Response {
    whole(status, JSON, line.to_owned())
}

/// The status of an answer of 2026-07-28, given its error code.
pub(super) const fn status_of(code: Option<i64>) -> StatusCode {
    match code {
        Some(METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
        Some(HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_VERSION | PARSE_ERROR | INVALID_REQUEST) => {
            StatusCode::BAD_REQUEST
        }
        Some(_) | None => StatusCode::OK,
    }
}

/// How a stream of events is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// The number of the stream, if its events can be resumed from.
    pub(super) stream: Option<u64>,
    /// Whether it starts with an event that only tells from where to resume.
    pub(super) is_primed: bool,
    /// After which silence it gets a comment.
    pub(super) quiet: Duration,
}

impl Form {
    fn id(self, number: u64) -> Option<String> {
        self.stream.map(|stream| format!("{stream}-{number}"))
    }

    fn print(self, event: &Event) -> String {
        sse::message(self.id(event.number).as_deref(), &event.line)
    }
}

/// Takes an event id apart: the number of the stream, and that of the event in it.
pub(super) fn parse_id(id: &str) -> Option<(u64, u64)> {
    let (stream, number) = id.split_once('-')?;
    Some((stream.parse().ok()?, number.parse().ok()?))
}

/// Answers with what the reader reads, after an event that was read from it already.
pub(super) fn events(first: Option<&Event>, reader: Reader, form: Form) -> Response {
    let mut begin = String::new();
    if let (true, Some(id)) = (form.is_primed, form.id(reader.last())) {
        begin.push_str(&sse::priming(&id, RETRY));
    }
    if let Some(first) = first {
        begin.push_str(&form.print(first));
    }
    let begin = Some(begin).filter(|begin| !begin.is_empty());
    let pieces = stream::unfold((begin, reader), move |(begin, mut reader)| async move {
        let piece = match begin {
            Some(begin) => begin,
            None => match timeout(form.quiet, reader.next()).await {
                Ok(Some(event)) => form.print(&event),
                Ok(None) => return None,
                Err(_silence) => sse::KEEP_ALIVE.to_owned(),
            },
        };
        Some((Ok::<_, Infallible>(Bytes::from(piece)), (None, reader)))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    for (name, value) in [
        (header::CONTENT_TYPE, EVENT_STREAM),
        (header::CACHE_CONTROL, "no-cache"),
        (header::HeaderName::from_static(ACCEL_BUFFERING), "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_have_the_status_that_the_specification_gives_them() {
        for (code, status) in [
            (None, 200),
            (Some(-32601), 404),
            (Some(-32020), 400),
            (Some(-32021), 400),
            (Some(-32022), 400),
            (Some(-32700), 400),
            (Some(-32600), 400),
            (Some(-32602), 200),
            (Some(-32000), 200),
            (Some(7), 200),
        ] {
            assert_eq!(status_of(code).as_u16(), status, "{code:?}");
        }
    }

    #[test]
    fn event_ids_name_stream_and_event() {
        assert_eq!(parse_id("3-14"), Some((3, 14)));
        for bad in ["", "3", "3-", "-1", "a-1", "1-2-3", "99999999999999999999-1"] {
            assert_eq!(parse_id(bad), None, "{bad}");
        }
    }
}
