//! Typed MCP servers over this transport: one rmcp service per caller and era.
//!
//! A request with `_meta."io.modelcontextprotocol/protocolVersion"` belongs to the caller's modern service (2026-07-28),
//! everything else to its legacy service (2025-11-25 and older). A legacy caller that never sent `initialize` gets it
//! said in its stead. A handler that panics answers with an error; a service that ends or fails ends its own caller's
//! session and nothing else.
use std::sync::Arc;

use contextvm_core::PeerTags;
use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::{Limits, rewrite};
use contextvm_engine::server::{Delivery, RequestKey};
use nostr::event::Event;
use nostr::key::PublicKey;
use rmcp::RoleServer;
use rmcp::service::{RequestContext, Service, serve_server};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::listener::Listener;
use crate::session::{Letter, Session, SessionSender};
use crate::stream::StreamWriter;

mod guard;
mod transport;

use guard::Guard;
use transport::SessionTransport;

/// Messages that may wait between a session and its service.
const QUEUE: usize = 16;

/// Who calls: found in the extensions of every request, see [`caller`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Caller {
    /// The caller's verified public key; that of a local caller belongs to nobody.
    pub key: PublicKey,
    /// Whether the process itself calls, see [`ServerHandle::open_local`](crate::ServerHandle::open_local).
    pub is_local: bool,
}

/// Returns who sent the request that a handler is working on.
#[must_use]
pub fn caller(context: &RequestContext<RoleServer>) -> Option<Caller> {
    context.extensions.get::<Caller>().copied()
}

/// Returns the signed event that carried the request that a handler is working on; a local caller signs none.
#[must_use]
pub fn request_event(context: &RequestContext<RoleServer>) -> Option<Arc<Event>> {
    context.extensions.get::<Arc<Event>>().cloned()
}

/// Returns what the caller has said about itself.
#[must_use]
pub fn peer_tags(context: &RequestContext<RoleServer>) -> Option<Arc<PeerTags>> {
    context.extensions.get::<Arc<PeerTags>>().cloned()
}

/// Which request a handler is working on, if it may have a stream.
#[derive(Clone, Debug)]
struct Writable {
    sender: SessionSender,
    key: RequestKey,
}

/// Returns what writes a stream to the caller while a handler is working on its request (CEP-41); `None` when the caller reads
/// none, so that everything belongs into the result.
///
/// ```no_run
/// use contextvm_server::{StreamError, stream_writer};
/// # use rmcp::{RoleServer, service::RequestContext};
///
/// async fn count(context: RequestContext<RoleServer>) -> Result<String, StreamError> {
///     let numbers = ["1\n", "2\n", "3\n"];
///     let Some(mut stream) = stream_writer(&context) else { return Ok(numbers.concat()) };
///     for number in numbers {
///         stream.write(number).await?;
///     }
///     stream.close().await?;
///     Ok(String::from("see the stream"))
/// }
/// ```
#[must_use]
pub fn stream_writer(context: &RequestContext<RoleServer>) -> Option<StreamWriter> {
    let Writable { sender, key } = context.extensions.get()?;
    Some(sender.stream(*key))
}

/// Serves every caller with a service of its own until the server is shut down.
///
/// `factory` is called for each legacy session (each `initialize`) and for each caller's modern requests.
pub async fn serve_rmcp<H, F>(mut listener: Listener, factory: F)
where
    H: Service<RoleServer>,
    F: Fn(Caller) -> H + Send + Sync + 'static,
{
    let factory = Arc::new(factory);
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            session = listener.accept() => match session {
                Some(session) => {
                    sessions.spawn(Box::pin(serve_session(session, Arc::clone(&factory))));
                }
                None => break,
            },
            Some(_ended) = sessions.join_next(), if !sessions.is_empty() => {}
        }
    }
    // The sessions have been told; their services end by themselves.
    while sessions.join_next().await.is_some() {}
}

/// Which revision family a message belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Era {
    Legacy,
    Modern,
}

/// One running service.
struct Running {
    number: u64,
    inbound: mpsc::Sender<Letter>,
}

/// The services of one session.
struct Desks<F> {
    factory: Arc<F>,
    caller: Caller,
    sender: SessionSender,
    legacy: Option<Running>,
    modern: Option<Running>,
    tasks: JoinSet<u64>,
    next_number: u64,
}

async fn serve_session<H, F>(mut session: Session, factory: Arc<F>)
where
    H: Service<RoleServer>,
    F: Fn(Caller) -> H + Send + Sync + 'static,
{
    let mut desks = Desks {
        factory,
        caller: Caller { key: session.caller(), is_local: session.is_local() },
        sender: session.sender(),
        legacy: None,
        modern: None,
        tasks: JoinSet::new(),
        next_number: 0,
    };
    loop {
        tokio::select! {
            letter = session.next() => match letter {
                Some(letter) => desks.route::<H>(letter).await,
                None => break,
            },
            Some(ended) = desks.tasks.join_next(), if !desks.tasks.is_empty() => {
                if !ended.is_ok_and(|number| desks.is_replaced(number)) {
                    tracing::debug!("a service ended; its session ends with it");
                    return;
                }
            }
        }
    }
    // The session is over, what it asked may still be answered: its services end by themselves.
    (desks.legacy, desks.modern) = (None, None);
    while desks.tasks.join_next().await.is_some() {}
}

impl<F> Desks<F> {
    async fn route<H>(&mut self, letter: Letter)
    where
        H: Service<RoleServer>,
        F: Fn(Caller) -> H + Send + Sync + 'static,
    {
        match &letter.inbound().delivery {
            Delivery::Request { method, .. } => {
                if method == "initialize" {
                    self.legacy = None;
                }
                let era = era(&letter.inbound().message);
                self.service::<H>(era).offer(letter).await;
            }
            // Ids are unique over both services, so the one that does not know a cancelled request ignores it.
            Delivery::Notification { method } => {
                let modern = (method == "notifications/cancelled").then_some(self.modern.as_ref()).flatten();
                if let Some(modern) = modern {
                    modern.offer(Letter::uncounted(letter.inbound().clone())).await;
                }
                if let Some(legacy) = &self.legacy {
                    legacy.offer(letter).await;
                }
            }
            Delivery::Response => {
                if let Some(legacy) = &self.legacy {
                    legacy.offer(letter).await;
                }
            }
        }
    }

    fn service<H>(&mut self, era: Era) -> &Running
    where
        H: Service<RoleServer>,
        F: Fn(Caller) -> H + Send + Sync + 'static,
    {
        let slot = match era {
            Era::Legacy => &mut self.legacy,
            Era::Modern => &mut self.modern,
        };
        slot.get_or_insert_with(|| {
            self.next_number = self.next_number.saturating_add(1);
            let number = self.next_number;
            let (inbound, messages) = mpsc::channel(QUEUE);
            let transport = SessionTransport::new(era, self.caller, messages, self.sender.clone());
            let (factory, caller) = (Arc::clone(&self.factory), self.caller);
            self.tasks.spawn(async move {
                let service = Guard(factory(caller));
                match Box::pin(serve_server(service, transport)).await {
                    Ok(running) => {
                        let _reason = running.waiting().await;
                    }
                    Err(error) => tracing::debug!(%error, "a service did not start"),
                }
                number
            });
            Running { number, inbound }
        })
    }

    /// Whether a service that ended had been replaced before.
    fn is_replaced(&self, number: u64) -> bool {
        [&self.legacy, &self.modern].into_iter().flatten().all(|running| running.number != number)
    }
}

impl Running {
    /// Hands a message to the service; a service that has ended is noticed by its task.
    async fn offer(&self, letter: Letter) {
        let _ended = self.inbound.send(letter).await;
    }
}

fn era(message: &str) -> Era {
    if !message.contains("protocolVersion") {
        return Era::Legacy;
    }
    // The machine has held the message to the configured limits already.
    let limits =
        Limits { json_depth: 127, json_nodes: usize::MAX, json_number: usize::MAX, ..Limits::default() };
    let modern = Envelope::parse(message, &limits).is_ok_and(|envelope| {
        envelope.kind == MessageKind::Request && rewrite::protocol_version(envelope.params).is_some()
    });
    if modern { Era::Modern } else { Era::Legacy }
}
