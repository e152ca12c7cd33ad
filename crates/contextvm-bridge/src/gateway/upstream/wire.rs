//! One caller's session with an HTTP server: what every request of it carries, and how it is begun and begun anew.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contextvm_core::envelope::Envelope;
use contextvm_core::object;
use contextvm_core::{Limits, Printable};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::Happening;
use super::target::HttpTarget;
use crate::answer::{FAILED, Failure, raw};
use crate::gateway::welcome::Welcome;
use crate::gateway::{OWN, Options};
use crate::http::{self, ToolHeaders};
use crate::passes::{Pass, Passes};
use crate::revision;

/// How long a notification, an answer or a farewell may take.
const SHORT: Duration = Duration::from_secs(10);

/// One caller's session with the server.
#[derive(Debug)]
pub(super) struct Wire {
    target: HttpTarget,
    /// Bounds of what the server sends.
    pub(super) limits: Limits,
    opening_timeout: Duration,
    pub(super) tools: ToolHeaders,
    pub(super) out: mpsc::Sender<(Happening, Option<Pass>)>,
    pub(super) passes: Passes,
    session: Mutex<Session>,
    reopening: tokio::sync::Mutex<()>,
    listening: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// What the server said when the session began.
#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    /// Counts the beginnings.
    pub(super) generation: u64,
    pub(super) id: Option<HeaderValue>,
    version: Option<HeaderValue>,
    /// The `params` of the `initialize` that began it.
    initialize: Option<Box<RawValue>>,
}

impl Wire {
    pub(super) fn new(
        target: HttpTarget,
        limits: Limits,
        options: &Options,
        out: mpsc::Sender<(Happening, Option<Pass>)>,
    ) -> Self {
        Self {
            target,
            limits,
            opening_timeout: options.opening_timeout,
            tools: ToolHeaders::default(),
            out,
            passes: options.child.passes.clone(),
            session: Mutex::default(),
            reopening: tokio::sync::Mutex::default(),
            listening: Mutex::default(),
        }
    }

    /// Returns the session as it is now.
    pub(super) fn session(&self) -> Session {
        lock(&self.session).clone()
    }

    /// Posts one message. The body of the answer is not read yet.
    pub(super) async fn post(&self, message: &Envelope<'_>, session: &Session) -> Result<Response, Failure> {
        let mut request = self.target.request(Method::POST);
        request = request.header(CONTENT_TYPE, http::JSON);
        request = request.header(ACCEPT, [http::JSON, ", ", http::EVENT_STREAM].concat());
        if is_modern(message) {
            for (name, value) in http::mirrored(message, &self.tools) {
                request = request.header(name, value);
            }
        } else if message.method.as_deref() != Some("initialize") {
            request = with_session(request, session);
        }
        request.body(message.text().to_owned()).send().await.map_err(|error| not_reached(&error))
    }

    /// Asks for the stream of the session, or for the rest of one that broke.
    pub(super) async fn get(&self, session: &Session, last_event: Option<&str>) -> Result<Response, Failure> {
        let request = self.target.request(Method::GET).header(ACCEPT, http::EVENT_STREAM);
        let mut request = with_session(request, session);
        if let Some(last_event) = last_event {
            request = request.header(http::LAST_EVENT_ID, last_event);
        }
        request.send().await.map_err(|error| not_reached(&error))
    }

    /// Posts a message that has no answer; a server that does not take it is not told again.
    pub(super) async fn post_short(&self, text: &str) {
        let Ok(message) = Envelope::parse(text, &self.limits) else { return };
        let session = self.session();
        match tokio::time::timeout(SHORT, self.post(&message, &session)).await {
            Ok(Ok(response)) if response.status().is_success() => {}
            Ok(Ok(response)) => {
                tracing::debug!("the server answered {} to a notification", response.status())
            }
            Ok(Err(_)) | Err(_) => tracing::debug!("the server did not take a notification"),
        }
    }

    /// Keeps what an accepted `initialize` brought.
    pub(super) fn begun(&self, request: &Envelope<'_>, id: Option<HeaderValue>, answer: &Envelope<'_>) {
        let Some(result) = answer.result else { return };
        let version = object::member(result, "protocolVersion").and_then(object::string);
        let version = version.and_then(|version| HeaderValue::from_str(&version).ok());
        let mut session = lock(&self.session);
        let generation = session.generation.saturating_add(1);
        let initialize = request.params.map(ToOwned::to_owned);
        *session = Session { generation, id, version, initialize };
    }

    /// Begins the session anew, unless somebody else has done so since the given beginning.
    ///
    /// A call that is cancelled meanwhile leaves no session that has begun by half.
    pub(super) async fn reopen(self: &Arc<Self>, lost: u64) -> Result<(), Failure> {
        let wire = Arc::clone(self);
        let anew = tokio::spawn(async move { wire.begin_anew(lost).await });
        anew.await.unwrap_or_else(|_panicked| Err(ended()))
    }

    async fn begin_anew(self: &Arc<Self>, lost: u64) -> Result<(), Failure> {
        let _one_at_a_time = self.reopening.lock().await;
        let session = self.session();
        if session.generation != lost {
            return Ok(());
        }
        let id = raw(object::quote(&format!("{OWN}anew-{lost}"))).ok_or_else(ended)?;
        let params = session.initialize.ok_or_else(ended)?;
        let text = contextvm_core::envelope::request(&id, "initialize", Some(&params));
        let request = Envelope::parse(&text, &self.limits).map_err(|_| ended())?;
        let opening = tokio::time::timeout(self.opening_timeout, async {
            let response = self.post(&request, &Session::default()).await?;
            if !response.status().is_success() {
                return Err(status(response.status()));
            }
            let session_id = response.headers().get(http::SESSION_ID).cloned();
            let answer = super::body::first_answer(response, &id, self).await?;
            let answer = Envelope::parse(&answer, &self.limits).map_err(|_| ended())?;
            answer.result.ok_or_else(ended)?;
            self.begun(&request, session_id, &answer);
            Ok(())
        });
        opening.await.map_err(|_late| ended())??;
        self.post_short(&Welcome::initialized()).await;
        super::listen::start(self);
        // Whoever reads it is gone if this fails.
        let _gone = self.out.send((Happening::Anew, None)).await;
        Ok(())
    }

    /// Keeps the task that reads the stream of the session; another one is ended.
    pub(super) fn listen(&self, task: AbortOnDropHandle<()>) {
        *lock(&self.listening) = Some(task);
    }

    /// Ends the session.
    pub(super) async fn farewell(&self) {
        lock(&self.listening).take();
        let session = self.session();
        if session.id.is_some() {
            let request = with_session(self.target.request(Method::DELETE), &session);
            // A server may refuse to be told.
            let _ended = tokio::time::timeout(Duration::from_secs(1), request.send()).await;
        }
    }
}

fn ended() -> Failure {
    Failure::new(FAILED, "upstream_status", "the server ended its session")
}

/// Whether a message needs no session.
pub(super) fn is_modern(message: &Envelope<'_>) -> bool {
    http::version_of(message).is_some_and(|version| revision::is_modern(&version))
}

/// Whether the server does not know the session.
pub(super) fn is_lost(response: &Response, session: &Session) -> bool {
    response.status() == StatusCode::NOT_FOUND && session.id.is_some()
}

pub(super) fn status(status: StatusCode) -> Failure {
    let message = format!("the server answered with HTTP status {}", status.as_u16());
    Failure::new(FAILED, "upstream_status", message).with_json("status", status.as_u16().to_string())
}

/// Says why without saying where: an address inside somebody's network is nothing to callers.
pub(super) fn not_reached(error: &reqwest::Error) -> Failure {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    tracing::debug!("the server is not reached: {}", Printable::short(&cause.to_string(), 200));
    let what = match (error.is_connect(), error.is_timeout()) {
        (_, true) => "connecting took too long",
        (true, _) => "it does not accept connections",
        (false, false) => "the connection broke",
    };
    Failure::new(FAILED, "upstream_unreachable", format!("the server is not reached: {what}"))
}

fn with_session(mut request: reqwest::RequestBuilder, session: &Session) -> reqwest::RequestBuilder {
    if let Some(id) = &session.id {
        request = request.header(http::SESSION_ID, id);
    }
    match &session.version {
        Some(version) => request.header(http::PROTOCOL_VERSION, version),
        None => request,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside is consistent at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
