//! Hosts without sessions (2026-07-28): one exchange per POST, over when its stream is closed.
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::Endpoint;
use super::reply::{Form, Refusal, empty, events, message, status_of};
use super::session::{Shape, closed, line, lists_tools};
use super::stream::Stream;
use crate::answer::{FAILED, Failure};
use crate::proxy::conversation::{Conversation, Gone, Said};

/// One request on its way.
struct Exchange {
    endpoint: Arc<Endpoint>,
    id: Box<RawValue>,
    lists_tools: bool,
    stream: Arc<Stream>,
    _place: OwnedSemaphorePermit,
}

/// Passes a request on and answers with a stream of what comes back, or with an error alone if it has a status of its own.
pub(super) async fn request(
    endpoint: &Arc<Endpoint>,
    id: Box<RawValue>,
    method: &str,
    text: String,
) -> Result<Response, Refusal> {
    let Ok(place) = Arc::clone(&endpoint.exchanges).try_acquire_owned() else {
        let busy = Failure::new(FAILED, "busy", "too many requests are open");
        return Err(Refusal::unavailable(Some(&id), &busy));
    };
    let gone = |Gone| Refusal::unavailable(Some(&id), &closed());
    let conversation = endpoint.conversations.open().await.map_err(gone)?;
    conversation.say(Said::Message(text)).await.map_err(gone)?;
    let stream = Stream::once();
    // From now on the end of this reader is the end of the request, also while the first message is awaited.
    let mut reader = stream.read(None);
    let endpoint = Arc::clone(endpoint);
    let quiet = endpoint.options.quiet;
    let exchange = Exchange { endpoint, id, lists_tools: lists_tools(method), stream, _place: place };
    tokio::spawn(exchange.run(conversation));
    let first = timeout(quiet, reader.next()).await.ok().flatten();
    if let Some(answer) = first.as_ref().filter(|first| first.is_answer) {
        let status = status_of(Shape::of(&answer.line).and_then(|shape| shape.error_code()));
        if status != StatusCode::OK {
            return Ok(message(status, &answer.line));
        }
    }
    Ok(events(first.as_ref(), reader, Form { stream: None, is_primed: false, quiet }))
}

/// Passes a notification on; nothing comes back.
pub(super) async fn notification(endpoint: &Arc<Endpoint>, text: String) -> Result<Response, Refusal> {
    let gone = |Gone| Refusal::unavailable(None, &closed());
    let conversation = endpoint.conversations.open().await.map_err(gone)?;
    conversation.say(Said::Message(text)).await.map_err(gone)?;
    Ok(empty(StatusCode::ACCEPTED))
}

impl Exchange {
    /// Takes what comes back as fast as it comes, until it is answered or nobody waits for it any more.
    async fn run(self, conversation: Conversation) {
        let (speaker, mut hearer) = conversation.split();
        loop {
            let heard = tokio::select! {
                heard = hearer.hear() => heard,
                () = self.stream.deserted() => break,
                () = self.endpoint.stop.cancelled() => None,
            };
            let Some(heard) = heard else {
                self.stream.push(closed().answer(&self.id), true, usize::MAX);
                return;
            };
            let Some(shape) = Shape::of(&heard.text) else { continue };
            let is_answer = shape.is_answer();
            if heard.about.is_none() {
                // A stream carries what belongs to its request; nobody else listens here.
                continue;
            }
            if let (true, true, Some(result)) = (is_answer, self.lists_tools, shape.result) {
                self.endpoint.tools.learn(result);
            }
            let lost = self.stream.push(line(heard.text), is_answer, self.endpoint.options.backlog);
            if is_answer {
                return;
            }
            if lost > 0 {
                tracing::warn!("a host does not read; its request was given up");
                self.stream.end();
                break;
            }
            // Gives the connection a chance to write before more is taken.
            tokio::task::yield_now().await;
        }
        let _gone = speaker.say(Said::Abandon(self.id)).await;
    }
}
