//! What an HTTP server answers with: one message, or a stream of them.
use contextvm_core::envelope::{self, Envelope, MessageKind};
use contextvm_core::object::{self, Object};
use contextvm_core::rewrite;
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use serde_json::value::RawValue;

use super::wire::{Wire, not_reached, status};
use crate::answer::{FAILED, Failure};
use crate::http;
use crate::http::sse::{Event, Parser};
use crate::passes::{LONG, Pass, Passes};

/// The messages of a stream as they come.
pub(super) struct Stream {
    response: Response,
    parser: Parser,
    ready: std::collections::VecDeque<Event>,
    passes: Passes,
    pass: Option<Pass>,
}

impl Stream {
    pub(super) fn new(response: Response, wire: &Wire) -> Self {
        let (parser, passes) = (Parser::new(wire.limits.child_line), wire.passes.clone());
        Self { response, parser, ready: std::collections::VecDeque::new(), passes, pass: None }
    }

    /// Returns the pass of the event that was read last, if it needed one.
    pub(super) const fn take_pass(&mut self) -> Option<Pass> {
        self.pass.take()
    }

    /// Waits for the next event; `None` at the end, be it orderly or not.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if self.pass.is_none() && self.parser.held() > LONG {
                self.pass = Some(self.passes.take().await);
            }
            let Ok(Some(bytes)) = self.response.chunk().await else { return Ok(None) };
            self.ready = self.parser.push(&bytes).map_err(|error| invalid(&error.to_string()))?.into();
        }
    }
}

/// Whether the body is a stream of events.
pub(super) fn is_stream(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| http::is_type(kind, http::EVENT_STREAM))
}

/// Reads a body that is one answer. An error without our id is given it: whatever else could it belong to?
pub(super) async fn one_answer(
    mut response: Response,
    id: &RawValue,
    wire: &Wire,
) -> Result<(String, Option<Pass>), Failure> {
    let (limits, code) = (&wire.limits, response.status());
    let (mut bytes, mut pass) = (Vec::new(), None);
    while let Some(chunk) = response.chunk().await.map_err(|error| not_reached(&error))? {
        if bytes.len() + chunk.len() > limits.child_line {
            return Err(invalid(&format!("it is longer than {} bytes", limits.child_line)));
        }
        bytes.extend_from_slice(&chunk);
        if pass.is_none() && bytes.len() > LONG {
            pass = Some(wire.passes.take().await);
        }
    }
    let because = |why: &str| if code.is_success() { invalid(why) } else { status(code) };
    let text = String::from_utf8(bytes).map_err(|_| because("it is not utf-8"))?;
    let text = text.trim_start_matches('\u{feff}');
    let is_answer = match Envelope::parse(text, limits) {
        Ok(message) => answers(&message, id),
        Err(_) => false,
    };
    if is_answer {
        return Ok((text.to_owned(), pass));
    }
    let adopted = adopt(text, id).filter(|text| Envelope::parse(text, limits).is_ok());
    adopted.map(|text| (text, pass)).ok_or_else(|| because("it is not the answer to the request"))
}

/// Reads either kind of body up to the answer to one request; whatever else comes is left out.
pub(super) async fn first_answer(response: Response, id: &RawValue, wire: &Wire) -> Result<String, Failure> {
    if !is_stream(&response) {
        return one_answer(response, id, wire).await.map(|(text, _)| text);
    }
    let mut stream = Stream::new(response, wire);
    while let Some(event) = stream.next().await? {
        if Envelope::parse(&event.data, &wire.limits).is_ok_and(|message| answers(&message, id)) {
            return Ok(event.data);
        }
    }
    Err(invalid("the stream ended without it"))
}

/// Whether a message is the answer to the request with this id.
pub(super) fn answers(message: &Envelope<'_>, id: &RawValue) -> bool {
    let is_answer = matches!(message.kind, MessageKind::Response | MessageKind::Error);
    is_answer && message.id.is_some_and(|own| rewrite::plain_text(own) == rewrite::plain_text(id))
}

/// Makes an answer to our request of an error that names none.
fn adopt(text: &str, id: &RawValue) -> Option<String> {
    let members = Object::parse(text).ok()?;
    let is_unnamed = members.get("id").is_none_or(|id| id.get() == "null");
    let error = members.get("error").filter(|_| is_unnamed)?;
    let code = object::member(error, "code")?.get().parse().ok()?;
    let message = object::member(error, "message").and_then(object::string)?;
    Some(envelope::response_error(id, code, &message, object::member(error, "data")))
}

pub(super) fn invalid(why: &str) -> Failure {
    Failure::new(FAILED, "upstream_answer_invalid", format!("the server's answer is invalid: {why}"))
}
