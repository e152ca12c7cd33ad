//! A Streamable HTTP server as one caller's backend: messages in, messages out, either era.
//!
//! Each request is an exchange of its own. What has no answer is posted in order, so that a server learns that it is
//! initialised before it is asked anything.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::{Limits, rewrite};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

mod body;
mod exchange;
mod listen;
mod target;
mod wire;

pub use target::HttpTarget;

use super::Options;
use crate::passes::Pass;
use crate::queue;
use wire::{Wire, is_modern};

/// How long the stream of a session may hold up what follows.
const ATTACHED: Duration = Duration::from_secs(2);
/// Messages to the server that may wait.
const OUTBOX: usize = 256;
/// Messages of the server that may wait; few, because one may be long.
const INBOX: usize = 4;

/// What comes from the server.
#[derive(Debug)]
pub(crate) enum Happening {
    /// One JSON-RPC message, unchecked.
    Message(String),
    /// The session was lost and begun anew; what was said in it is forgotten.
    Anew,
}

/// One caller's session with the server; dropping it ends everything but the server's own memory of it.
#[derive(Debug)]
pub(crate) struct Upstream {
    outbox: queue::Sender<String>,
    inbox: mpsc::Receiver<(Happening, Option<Pass>)>,
    /// That of the last message.
    pass: Option<Pass>,
    stop: CancellationToken,
    courier: AbortOnDropHandle<()>,
}

impl Upstream {
    pub(crate) fn start(target: &HttpTarget, options: &Options) -> Self {
        let limits =
            Limits { json_nodes: options.limits.json_nodes.saturating_mul(16), ..options.limits.clone() };
        let (outbox, outgoing) = queue::channel(OUTBOX);
        let (out, inbox) = mpsc::channel(INBOX);
        let wire = Wire::new(target.clone(), limits, options, out);
        let stop = CancellationToken::new();
        let courier = Courier {
            wire: Arc::new(wire),
            outgoing,
            exchanges: JoinSet::new(),
            open: BTreeMap::new(),
            stop: stop.clone(),
        };
        let courier = AbortOnDropHandle::new(tokio::spawn(Box::pin(courier.run())));
        Self { outbox, inbox, pass: None, stop, courier }
    }

    /// Queues a message; `false` when there is no room.
    pub(crate) fn send(&self, message: String) -> bool {
        self.outbox.try_send(message).is_ok()
    }

    /// Waits for the next message. Cancel-safe. The message before it is done with.
    pub(crate) async fn next(&mut self) -> Option<Happening> {
        self.pass = None;
        let (happening, pass) = self.inbox.recv().await?;
        self.pass = pass;
        Some(happening)
    }

    /// Ends what is open and tells the server that the session is over.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        drop(self.inbox);
        let _ended = self.courier.await;
    }
}

/// Takes messages to the server, in order.
struct Courier {
    wire: Arc<Wire>,
    outgoing: queue::Receiver<String>,
    exchanges: JoinSet<()>,
    /// Exchanges by the id of their request, and whether closing the connection is what cancels them.
    open: BTreeMap<String, (AbortHandle, bool)>,
    stop: CancellationToken,
}

impl Courier {
    async fn run(mut self) {
        let stop = self.stop.clone();
        let ended = async {
            loop {
                tokio::select! {
                    text = self.outgoing.recv() => match text {
                        Some(text) => self.carry(text).await,
                        None => return,
                    },
                    Some(_ended) = self.exchanges.join_next(), if !self.exchanges.is_empty() => {
                        self.open.retain(|_, (exchange, _)| !exchange.is_finished());
                    }
                }
            }
        };
        tokio::select! {
            () = ended => {}
            () = stop.cancelled() => {}
        }
        self.exchanges.abort_all();
        self.wire.farewell().await;
    }

    async fn carry(&mut self, text: String) {
        let Ok(message) = Envelope::parse(&text, &self.wire.limits) else { return };
        if let (MessageKind::Request, Some(id)) = (message.kind, message.id) {
            let (id, is_modern) = (rewrite::plain_text(id).into_owned(), is_modern(&message));
            let exchange = self.exchanges.spawn(Box::pin(exchange::run(Arc::clone(&self.wire), text)));
            self.open.insert(id, (exchange, is_modern));
            return;
        }
        match message.method.as_deref() {
            Some("notifications/cancelled") => {
                let id = rewrite::cancelled_request_id(message.params).map(rewrite::plain_text);
                let exchange = id.and_then(|id| self.open.remove(id.as_ref()));
                if !exchange.as_ref().is_some_and(|(_, is_modern)| *is_modern) {
                    self.wire.post_short(&text).await;
                }
                if let Some((exchange, _)) = exchange {
                    exchange.abort();
                }
            }
            Some("notifications/initialized") => {
                self.wire.post_short(&text).await;
                // Some servers say on this stream what belongs to a call, and lose it if nobody listens yet.
                let _answered = timeout(ATTACHED, listen::start(&self.wire)).await;
            }
            _ => self.wire.post_short(&text).await,
        }
    }
}
