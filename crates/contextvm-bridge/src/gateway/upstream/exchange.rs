//! One request to an HTTP server and everything that comes back for it.
use std::sync::Arc;
use std::time::Duration;

use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::object::{self, quote};
use contextvm_core::rewrite::{self, Rewrite};
use serde_json::value::RawValue;

use super::Happening;
use super::body::{self, Stream, answers, one_answer};
use super::wire::{Wire, is_lost, is_modern, status};
use crate::answer::{FAILED, Failure, raw};
use crate::gateway::OWN;
use crate::http;
use crate::passes::Pass;
use crate::revision::HEADER_MISMATCH;

/// Pause before a broken stream is resumed, unless the server says otherwise.
const RESUME: Duration = Duration::from_secs(1);
/// Shortest and longest pause that a server may ask for.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(60));
/// How often resuming may fail in a row.
const RESUMES: u32 = 5;
/// Most pages of a list of tools that are read to learn of their headers.
const PAGES: usize = 16;

/// Sends a request and hands on what comes back; the last of it is the answer, if need be an error.
pub(super) async fn run(wire: Arc<Wire>, text: String) {
    let Ok(request) = Envelope::parse(&text, &wire.limits) else { return };
    let Some(id) = request.id else { return };
    let exchange = Exchange { wire: &wire, request: &request, id, is_modern: is_modern(&request) };
    if let Err(failure) = exchange.run().await {
        exchange.hand_on(failure.answer(id), None).await;
    }
}

struct Exchange<'a> {
    wire: &'a Arc<Wire>,
    request: &'a Envelope<'a>,
    id: &'a RawValue,
    is_modern: bool,
}

impl Exchange<'_> {
    async fn run(&self) -> Result<(), Failure> {
        let (mut reopened, mut relisted) = (false, false);
        loop {
            let session = self.wire.session();
            let response = self.wire.post(self.request, &session).await?;
            if !self.is_modern && !self.is_initialize() && !reopened && is_lost(&response, &session) {
                reopened = true;
                self.wire.reopen(session.generation).await?;
                continue;
            }
            let is_ok = response.status().is_success();
            let session_id = response.headers().get(http::SESSION_ID).cloned();
            if is_ok && body::is_stream(&response) {
                return self.read(Stream::new(response, self.wire), session_id).await;
            }
            let (text, pass) = one_answer(response, self.id, self.wire).await?;
            if !relisted && self.is_mismatch(&text) {
                relisted = true;
                self.learn_tools().await;
                continue;
            }
            self.learn(&text, session_id);
            self.hand_on(text, pass).await;
            return Ok(());
        }
    }

    fn is_initialize(&self) -> bool {
        self.request.method.as_deref() == Some("initialize")
    }

    /// Reads a stream up to the answer, and resumes it when it breaks if the server says from where.
    async fn read(
        &self,
        mut stream: Stream,
        session_id: Option<reqwest::header::HeaderValue>,
    ) -> Result<(), Failure> {
        let (mut last, mut pause) = (None, RESUME);
        loop {
            while let Some(event) = stream.next().await? {
                last = event.id.or(last);
                pause = event.retry.unwrap_or(pause).clamp(PAUSES.0, PAUSES.1);
                if event.data.trim().is_empty() {
                    continue;
                }
                let is_answer = self.is_answer(&event.data);
                if is_answer {
                    self.learn(&event.data, session_id.clone());
                }
                self.hand_on(event.data, stream.take_pass()).await;
                if is_answer {
                    return Ok(());
                }
            }
            let Some(last) = last.as_deref().filter(|_| !self.is_modern) else {
                let message =
                    "the server's answer broke off; whether the request was carried out is not known";
                return Err(Failure::new(FAILED, "upstream_unreachable", message));
            };
            stream = self.resume(last, pause).await?;
        }
    }

    async fn resume(&self, last: &str, pause: Duration) -> Result<Stream, Failure> {
        let mut failed = 0;
        loop {
            tokio::time::sleep(pause).await;
            let failure = match self.wire.get(&self.wire.session(), Some(last)).await {
                Ok(response) if response.status().is_success() && body::is_stream(&response) => {
                    return Ok(Stream::new(response, self.wire));
                }
                Ok(response) if response.status().is_client_error() => return Err(status(response.status())),
                Ok(response) => status(response.status()),
                Err(failure) => failure,
            };
            failed += 1;
            if failed >= RESUMES {
                return Err(failure);
            }
        }
    }

    /// Whether a text was meant as the answer, valid or not.
    fn is_answer(&self, text: &str) -> bool {
        #[derive(serde::Deserialize)]
        struct Meant<'a> {
            #[serde(borrow)]
            id: &'a RawValue,
            method: Option<serde::de::IgnoredAny>,
        }
        match Envelope::parse(text, &self.wire.limits) {
            Ok(message) => answers(&message, self.id),
            Err(_) => serde_json::from_str::<Meant<'_>>(text).is_ok_and(|meant| {
                meant.method.is_none() && rewrite::plain_text(meant.id) == rewrite::plain_text(self.id)
            }),
        }
    }

    /// Keeps what an answer says about the session and the tools.
    fn learn(&self, text: &str, session_id: Option<reqwest::header::HeaderValue>) {
        let method = self.request.method.as_deref();
        let (true, Ok(answer)) =
            (matches!(method, Some("initialize" | "tools/list")), Envelope::parse(text, &self.wire.limits))
        else {
            return;
        };
        match (method, answer.result) {
            (Some("tools/list"), Some(result)) => self.wire.tools.learn(result),
            (Some("initialize"), Some(_)) => self.wire.begun(self.request, session_id, &answer),
            (_, _) => {}
        }
    }

    /// Whether the server misses headers that its list of tools asks for: then the call was not carried out.
    fn is_mismatch(&self, text: &str) -> bool {
        self.is_modern
            && http::tool_call(self.request).is_some()
            && Envelope::parse(text, &self.wire.limits).is_ok_and(|answer| {
                answer.kind == MessageKind::Error && answer.error_code() == Some(HEADER_MISMATCH)
            })
    }

    /// Reads the list of tools in the caller's name, page by page.
    async fn learn_tools(&self) {
        let mut cursor: Option<String> = None;
        for page in 0..PAGES {
            let Some(id) = raw(quote(&format!("{OWN}tools-{page}"))) else { return };
            let meta = self.request.meta().map_or("{}", RawValue::get);
            let Some(params) = raw(format!(r#"{{"_meta":{meta}}}"#)) else { return };
            let text = contextvm_core::envelope::request(&id, "tools/list", Some(&params));
            let Ok(list) = Envelope::parse(&text, &self.wire.limits) else { return };
            let mut edit = Rewrite::of(&list).without_meta(rewrite::PROGRESS_TOKEN);
            if let Some(cursor) = &cursor {
                edit = edit.param("cursor", quote(cursor));
            }
            let text = edit.to_text();
            let Ok(list) = Envelope::parse(&text, &self.wire.limits) else { return };
            let Ok(response) = self.wire.post(&list, &self.wire.session()).await else { return };
            let Ok(answer) = body::first_answer(response, &id, self.wire).await else { return };
            let Ok(answer) = Envelope::parse(&answer, &self.wire.limits) else { return };
            let Some(result) = answer.result else { return };
            self.wire.tools.learn(result);
            let next = object::member(result, "nextCursor").and_then(object::string);
            cursor = next.map(|next| next.into_owned());
            if cursor.is_none() {
                return;
            }
        }
    }

    /// Waits while the session does not keep up; it is gone if this fails.
    async fn hand_on(&self, text: String, pass: Option<Pass>) {
        let _gone = self.wire.out.send((Happening::Message(text), pass)).await;
    }
}
