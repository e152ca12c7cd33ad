//! Hosts with sessions (2024-11-05 to 2025-11-25): POST, GET and DELETE, with streams that can be resumed.
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::Endpoint;
use super::admit::{check_accept, check_legacy_version, single};
use super::reply::{Form, Refusal, empty, events, message, parse_id};
use super::session::{Refused, Session, Shape, agreed_version, closed};
use super::stream::Reader;
use crate::answer::{FAILED, Failure, INVALID_REQUEST};
use crate::http::{EVENT_STREAM, LAST_EVENT_ID, PRIMED, PROTOCOL_VERSION, SESSION_ID};
use crate::proxy::conversation::{Gone, Hearer};
use crate::revision::is_modern;

/// What may be done with a session.
const ALLOWED: &str = "GET, POST, DELETE";

/// Opens a session. The host hears of it once the server has agreed, or when that takes long.
pub(super) async fn initialize(
    endpoint: &Arc<Endpoint>,
    id: Box<RawValue>,
    version: &str,
    text: String,
) -> Result<Response, Refusal> {
    let gone = |Gone| Refusal::unavailable(Some(&id), &closed());
    let (speaker, hearer) = endpoint.conversations.open().await.map_err(gone)?.split();
    let (name, over, backlog) = (random_id()?, endpoint.stop.child_token(), endpoint.options.backlog);
    let session = Session::new(name, speaker, over, backlog);
    let busy = || {
        let busy = Failure::new(FAILED, "busy", "too many sessions are open");
        Refusal::unavailable(Some(&id), &busy)
    };
    if !endpoint.sessions.add(Arc::clone(&session)) {
        return Err(busy());
    }
    tokio::spawn(listen(Arc::clone(endpoint), Arc::clone(&session), hearer));
    let unknown = Unknown { endpoint: Arc::clone(endpoint), session: Some(Arc::clone(&session)) };
    let (stream, answers) = session.begin(&id, "initialize").map_err(|_refused| busy())?;
    session.say(text).await.map_err(gone)?;
    match timeout(endpoint.options.quiet, answers.answer()).await {
        Ok(Some(answer)) if Shape::of(&answer).is_some_and(|shape| shape.error_code().is_some()) => {
            return Ok(message(StatusCode::OK, &answer));
        }
        Ok(Some(answer)) => {
            let agreed = agreed_version(&answer).unwrap_or_else(|| version.to_owned());
            let _first = session.version.set(agreed);
        }
        Ok(None) => return Err(gone(Gone)),
        Err(_silence) => {}
    }
    let form = Form { stream: Some(stream), is_primed: version >= PRIMED, quiet: endpoint.options.quiet };
    let mut response = events(None, answers.read(Some(0)), form);
    let name = HeaderValue::from_str(&session.id).map_err(|_| gone(Gone))?;
    response.headers_mut().insert(SESSION_ID, name);
    unknown.disarm();
    Ok(response)
}

/// Ends a session that the host was not told of.
struct Unknown {
    endpoint: Arc<Endpoint>,
    session: Option<Arc<Session>>,
}

impl Unknown {
    fn disarm(mut self) {
        self.session = None;
    }
}

impl Drop for Unknown {
    fn drop(&mut self) {
        if let Some(session) = &self.session {
            self.endpoint.sessions.remove(&session.id);
            session.end(None);
        }
    }
}

/// Passes a request on; the answer comes on a stream that goes on when the connection breaks.
pub(super) async fn request(
    endpoint: &Arc<Endpoint>,
    headers: &HeaderMap,
    id: Box<RawValue>,
    method: &str,
    text: String,
) -> Result<Response, Refusal> {
    let session = session_of(endpoint, headers)?;
    if method == "initialize" {
        return Err(Refusal::bad(Some(&id), INVALID_REQUEST, "the session is initialized already"));
    }
    let (stream, answers) = session.begin(&id, method).map_err(|refused| match refused {
        Refused::InUse => Refusal::bad(Some(&id), INVALID_REQUEST, "a request with this id is still open"),
        Refused::Busy => {
            let busy = Failure::new(FAILED, "busy", "too many requests of this session are open");
            Refusal::unavailable(Some(&id), &busy)
        }
    })?;
    let unsaid = Unsaid { session: &session, id: Some(&id) };
    let said = session.say(text).await;
    match said {
        Ok(()) => unsaid.disarm(),
        Err(Gone) => return Err(lost(endpoint, &session)),
    }
    Ok(stream_of(endpoint, headers, &session, (stream, answers.read(None))))
}

/// Forgets a request that was not passed on.
struct Unsaid<'r> {
    session: &'r Session,
    id: Option<&'r RawValue>,
}

impl Unsaid<'_> {
    fn disarm(mut self) {
        self.id = None;
    }
}

impl Drop for Unsaid<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.session.forget(id);
        }
    }
}

/// Passes a notification or an answer on.
pub(super) async fn tell(
    endpoint: &Arc<Endpoint>,
    headers: &HeaderMap,
    cancelled: Option<&RawValue>,
    text: String,
) -> Result<Response, Refusal> {
    let session = session_of(endpoint, headers)?;
    session.say(text).await.map_err(|Gone| lost(endpoint, &session))?;
    if let Some(id) = cancelled {
        // Nothing will come: the end of the stream frees the connection.
        session.forget(id);
    }
    Ok(empty(StatusCode::ACCEPTED))
}

/// Reads what belongs to no request, or resumes a stream.
pub(super) fn get(endpoint: &Arc<Endpoint>, headers: &HeaderMap) -> Result<Response, Refusal> {
    check_version(headers)?;
    check_accept(headers, &[EVENT_STREAM])?;
    let session = session_of(endpoint, headers)?;
    let bad = |_| Refusal::new(StatusCode::BAD_REQUEST, "the Last-Event-ID header is malformed");
    let unknown = || Refusal::new(StatusCode::BAD_REQUEST, "this event is not known");
    let stream = match single(headers, LAST_EVENT_ID).map_err(bad)? {
        None => session.read_own().ok_or_else(unknown)?,
        Some(last) => {
            let (stream, number) = parse_id(last).ok_or_else(unknown)?;
            // That of a cancelled request is over. Clients take this answer for "there is nothing to be resumed", and every
            // other one for a fault.
            session.resume(stream, number).ok_or_else(|| Refusal::method("POST, DELETE"))?
        }
    };
    Ok(stream_of(endpoint, headers, &session, stream))
}

/// Ends a session.
pub(super) fn delete(endpoint: &Arc<Endpoint>, headers: &HeaderMap) -> Result<Response, Refusal> {
    check_version(headers)?;
    let session = session_of(endpoint, headers)?;
    endpoint.sessions.remove(&session.id);
    session.end(None);
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Refuses what 2026-07-28 does not have.
fn check_version(headers: &HeaderMap) -> Result<(), Refusal> {
    let bad = |_| Refusal::new(StatusCode::BAD_REQUEST, "the MCP-Protocol-Version header is malformed");
    match single(headers, PROTOCOL_VERSION).map_err(bad)? {
        Some(version) if is_modern(version) => Err(Refusal::method("POST")),
        version => check_legacy_version(version),
    }
}

/// What is neither GET, POST nor DELETE.
pub(super) fn other_method() -> Refusal {
    Refusal::method(ALLOWED)
}

fn session_of(endpoint: &Endpoint, headers: &HeaderMap) -> Result<Arc<Session>, Refusal> {
    let missing = Refusal::new(StatusCode::BAD_REQUEST, "one Mcp-Session-Id header is needed");
    match single(headers, SESSION_ID) {
        Ok(Some(id)) => endpoint.sessions.get(id).ok_or_else(no_session),
        Ok(None) | Err(_) => Err(missing),
    }
}

fn no_session() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "there is no such session")
}

/// Ends a session whose server side is gone.
fn lost(endpoint: &Endpoint, session: &Session) -> Refusal {
    endpoint.sessions.remove(&session.id);
    session.end(Some(&closed()));
    no_session()
}

fn stream_of(
    endpoint: &Endpoint,
    headers: &HeaderMap,
    session: &Session,
    (stream, reader): (u64, Reader),
) -> Response {
    let named = headers.get(PROTOCOL_VERSION).and_then(|version| version.to_str().ok());
    let version = named.or_else(|| session.version.get().map(String::as_str));
    let is_primed = version.is_some_and(|version| version >= PRIMED);
    events(None, reader, Form { stream: Some(stream), is_primed, quiet: endpoint.options.quiet })
}

/// Takes what the server says to a session as fast as it comes, until either is over.
async fn listen(endpoint: Arc<Endpoint>, session: Arc<Session>, mut hearer: Hearer) {
    loop {
        let heard = tokio::select! {
            heard = hearer.hear() => heard,
            () = session.over.cancelled() => None,
        };
        let Some(heard) = heard else { break };
        session.hear(heard, &endpoint.tools);
        // Gives the connections a chance to write before more is taken.
        tokio::task::yield_now().await;
    }
    endpoint.sessions.remove(&session.id);
    session.end(Some(&closed()));
}

/// Makes the name of a session: 128 random bits.
fn random_id() -> Result<String, Refusal> {
    let mut bytes = [0; 16];
    let refuse = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "no entropy");
    getrandom::fill(&mut bytes).map_err(refuse)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
