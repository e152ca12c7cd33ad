//! The HTTP front: local MCP hosts reach servers on Nostr over Streamable HTTP, of both eras at one endpoint.
//!
//! A message is read only after its sender was checked ([`guard`]). [`admit`] decides its era by its body and checks the
//! headers; [`modern`] makes one conversation per request, [`legacy`] one per session.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use contextvm_core::Printable;
use contextvm_core::envelope::{Envelope, EnvelopeError, is_id};
use contextvm_core::object::string;
use contextvm_core::scan::ScanError;
use futures_util::StreamExt as _;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

mod admit;
mod guard;
mod legacy;
mod modern;
mod options;
mod reply;
mod session;
mod stream;
#[cfg(test)]
mod tests;

pub use options::{HttpOptions, SecretToken};

use super::conversation::Conversations;
use crate::Error;
use crate::answer::INVALID_REQUEST;
use crate::http::{SESSION_ID, ToolHeaders};
use crate::notice::{Notice, Reporter};
use admit::Admitted;
use reply::{PARSE_ERROR, Refusal, empty, plain};
use session::Sessions;

/// Where a single server is served.
pub(crate) const PATH: &str = "/mcp";

/// Connections that may be open at once; further ones wait.
const CONNECTIONS: usize = 512;
/// Requests without a session that may be open at once at one endpoint.
const EXCHANGES: usize = 256;
/// How long a host may take to send the head of a request.
const HEAD: Duration = Duration::from_secs(30);
/// What is allocated at once for a body that is declared to be long, bytes.
const FIRST: usize = 1024 * 1024;
/// How long a host may take to send the body of a request.
const BODY: Duration = Duration::from_secs(30);
/// How often idle sessions are looked for, at most.
const SWEEP: Duration = Duration::from_secs(30);
/// How long connections may take to end.
const FAREWELL: Duration = Duration::from_millis(500);
/// The pause after a connection could not be taken.
const PAUSE: Duration = Duration::from_millis(100);

/// One server at one path.
#[derive(Debug)]
struct Endpoint {
    conversations: Conversations,
    options: Arc<HttpOptions>,
    sessions: Sessions,
    exchanges: Arc<Semaphore>,
    tools: ToolHeaders,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Front {
    endpoints: BTreeMap<String, Arc<Endpoint>>,
    options: Arc<HttpOptions>,
    reporter: Reporter,
    stop: CancellationToken,
}

/// Opens the address.
///
/// # Errors
/// Fails when it is in use, or is open to others than was allowed.
pub(crate) async fn bind(options: &HttpOptions) -> Result<TcpListener, Error> {
    options.check()?;
    let failed = |error: std::io::Error| Error::Listen(format!("{}: {error}", options.address));
    TcpListener::bind(options.address).await.map_err(failed)
}

/// Serves each server at its path ([`PATH`] for a single one) until `stop` is given. Then what is open is answered with
/// errors, and connections have half a second to end.
pub(crate) async fn serve(
    listener: TcpListener,
    servers: BTreeMap<String, Conversations>,
    options: HttpOptions,
    reporter: Reporter,
    stop: CancellationToken,
) {
    let options = Arc::new(options);
    let endpoint = |conversations| {
        Arc::new(Endpoint {
            conversations,
            options: Arc::clone(&options),
            sessions: Sessions::new(options.sessions, options.idle),
            exchanges: Arc::new(Semaphore::new(EXCHANGES)),
            tools: ToolHeaders::default(),
            stop: stop.child_token(),
        })
    };
    let endpoints = servers.into_iter().map(|(path, server)| (path, endpoint(server))).collect();
    let front = Arc::new(Front { endpoints, options: Arc::clone(&options), reporter, stop: stop.clone() });
    let router = Router::new().fallback(answer).with_state(Arc::clone(&front));
    let mut connections = JoinSet::new();
    let mut sweep = interval(SWEEP.min(options.idle / 4).max(Duration::from_millis(1)));
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _now = sweep.tick() => front.endpoints.values().for_each(|endpoint| endpoint.sessions.expire()),
            Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(converse(socket, router.clone(), stop.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let _late = timeout(FAREWELL, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
}

/// Serves one connection.
async fn converse(socket: TcpStream, router: Router, stop: CancellationToken) {
    // Small events are not held back to be joined.
    let _best_effort = socket.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let connection = builder.serve_connection(TokioIo::new(socket), TowerToHyperService::new(router));
    let mut connection = core::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection broke");
    }
}

async fn answer(State(front): State<Arc<Front>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let origin = match guard::check_sender(&parts, &front.options) {
        Ok(origin) => origin,
        Err(refusal) => return refusal.into_response(),
    };
    let answered = front.answer(&parts, body, origin.is_some()).await;
    let mut response = answered.unwrap_or_else(Refusal::into_response);
    if let Some(origin) = origin {
        share(&parts, response.headers_mut(), origin);
    }
    response
}

/// Lets the scripts of a page of this origin read the answer.
fn share(parts: &Parts, headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    if guard::is_preflight(parts) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        if let Some(asked) = parts.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
    } else {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(SESSION_ID));
    }
}

impl Front {
    async fn answer(&self, parts: &Parts, body: Body, is_listed: bool) -> Result<Response, Refusal> {
        match parts.uri.path() {
            "/healthz" => return Ok(plain("ok\n")),
            "/readyz" if self.stop.is_cancelled() => {
                return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "stopping"));
            }
            "/readyz" if !self.endpoints.values().all(|endpoint| endpoint.conversations.is_ready()) => {
                return Err(Refusal::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "no relay of the server is connected",
                ));
            }
            "/readyz" => return Ok(plain("ready\n")),
            _ => {}
        }
        let Some(endpoint) = self.endpoints.get(parts.uri.path()) else {
            return Err(Refusal::new(StatusCode::NOT_FOUND, "nothing is served here"));
        };
        if is_listed && guard::is_preflight(parts) {
            return Ok(empty(StatusCode::NO_CONTENT));
        }
        guard::check_token(&parts.headers, &self.options)?;
        match parts.method {
            Method::POST => self.post(endpoint, &parts.headers, body).await,
            Method::GET => legacy::get(endpoint, &parts.headers),
            Method::DELETE => legacy::delete(endpoint, &parts.headers),
            _ => Err(legacy::other_method()),
        }
    }

    async fn post(
        &self,
        endpoint: &Arc<Endpoint>,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Refusal> {
        admit::check_form(headers)?;
        let bytes = read(headers, body, self.options.body).await?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Refusal::bad(None, PARSE_ERROR, "the message is not UTF-8"))?;
        let admitted = match Envelope::parse(&text, &self.options.limits) {
            Ok(message) => admit::admit(headers, &message, &endpoint.tools)?,
            Err(error) => {
                let why = Printable::short(&text, 120);
                self.reporter.tell(&Notice::HostNoise(format!("{error}: {why}")));
                return Err(malformed(&text, &error));
            }
        };
        match admitted {
            Admitted::Request { id, method } => modern::request(endpoint, id, &method, text).await,
            Admitted::Notification => modern::notification(endpoint, text).await,
            Admitted::Initialize { id, version } if !headers.contains_key(SESSION_ID) => {
                legacy::initialize(endpoint, id, &version, text).await
            }
            Admitted::Initialize { id, .. } => {
                legacy::request(endpoint, headers, id, "initialize", text).await
            }
            Admitted::InSession { id, method } => legacy::request(endpoint, headers, id, &method, text).await,
            Admitted::ToSession { cancelled } => {
                legacy::tell(endpoint, headers, cancelled.as_deref(), text).await
            }
        }
    }
}

/// Reads a body of at most `limit` bytes.
async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Vec<u8>, Refusal> {
    let too_large = || Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the message is too large");
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: usize| length > limit) {
        return Err(too_large());
    }
    let mut pieces = body.into_data_stream();
    let reading = async {
        let mut bytes = Vec::with_capacity(declared.unwrap_or_default().min(FIRST));
        while let Some(piece) = pieces.next().await {
            let broken = |_| Refusal::new(StatusCode::BAD_REQUEST, "the message broke off");
            let piece = piece.map_err(broken)?;
            if bytes.len() + piece.len() > limit {
                return Err(too_large());
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    };
    let late = Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the message took too long to arrive"));
    timeout(BODY, reading).await.unwrap_or(late)
}

/// Refuses a text that is no message; if it was meant as a request, under its id.
fn malformed(text: &str, error: &EnvelopeError) -> Refusal {
    #[derive(Deserialize)]
    struct Meant<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
    }
    let is_json = !matches!(
        error,
        EnvelopeError::Scan(
            ScanError::Syntax { .. }
                | ScanError::Truncated
                | ScanError::Trailing { .. }
                | ScanError::ControlCharacter { .. }
                | ScanError::ByteOrderMark
        )
    );
    let meant = serde_json::from_str::<Meant<'_>>(text).ok();
    // A string that stands for no text must not be said back.
    let is_sound = |id: &RawValue| is_id(id) && (!id.get().starts_with('"') || string(id).is_some());
    let id = meant.map(|meant| meant.id).filter(|id| is_sound(id));
    Refusal::bad(id, if is_json { INVALID_REQUEST } else { PARSE_ERROR }, &error.to_string())
}
