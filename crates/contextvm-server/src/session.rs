//! One caller as the application sees it.
use std::sync::Arc;

use contextvm_core::PeerTags;
use contextvm_engine::server::Delivery;
use nostr::event::Event;
use nostr::key::PublicKey;
use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::desk::Command;
use crate::local::Line;

/// One message from a caller.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inbound {
    /// What it is, and the key to answer with.
    pub delivery: Delivery,
    /// The JSON-RPC text: a request's id and progress token are its inner event id in hex.
    pub message: String,
    /// The signed inner event; `None` from a local caller, whose messages are not signed by anybody.
    pub event: Option<Arc<Event>>,
    /// What the caller has said about itself.
    pub tags: Arc<PeerTags>,
}

/// The conversation with one caller, from its first message or its last `initialize` on.
#[derive(Debug)]
pub struct Session {
    caller: PublicKey,
    /// Boxed, because a channel sets places aside before anything is in them.
    inbound: mpsc::Receiver<Box<Inbound>>,
    sender: SessionSender,
    _alive: Alive,
}

/// Lets the other side know when a session is dropped.
#[derive(Debug)]
enum Alive {
    Wire { _tell: oneshot::Sender<()> },
    Local(Arc<Line>),
}

impl Drop for Alive {
    fn drop(&mut self) {
        match self {
            Self::Wire { .. } => {}
            Self::Local(line) => line.end(),
        }
    }
}

impl Session {
    pub(crate) fn new(
        caller: PublicKey,
        inbound: mpsc::Receiver<Box<Inbound>>,
        commands: mpsc::Sender<Command>,
        alive: oneshot::Sender<()>,
    ) -> Self {
        let sender = SessionSender { caller, way: Way::Wire(commands) };
        Self { caller, inbound, sender, _alive: Alive::Wire { _tell: alive } }
    }

    pub(crate) fn local(line: Arc<Line>, inbound: mpsc::Receiver<Box<Inbound>>) -> Self {
        let caller = line.caller();
        let sender = SessionSender { caller, way: Way::Local(Arc::clone(&line)) };
        Self { caller, inbound, sender, _alive: Alive::Local(line) }
    }

    /// Whether the caller is the process itself, see [`ServerHandle::open_local`](crate::ServerHandle::open_local).
    #[must_use]
    pub const fn is_local(&self) -> bool {
        matches!(self.sender.way, Way::Local(_))
    }

    /// Returns the caller's public key; that of a local caller belongs to nobody.
    #[must_use]
    pub const fn caller(&self) -> PublicKey {
        self.caller
    }

    /// Waits for the next message; `None` once the session ended or was replaced by a new `initialize`.
    ///
    /// Cancel-safe. Dropping the session answers its open requests with an error.
    pub async fn recv(&mut self) -> Option<Inbound> {
        self.inbound.recv().await.map(|inbound| *inbound)
    }

    /// Returns the way back to this caller.
    #[must_use]
    pub fn sender(&self) -> SessionSender {
        self.sender.clone()
    }
}

/// The way back to one caller.
#[derive(Clone, Debug)]
pub struct SessionSender {
    caller: PublicKey,
    way: Way,
}

#[derive(Clone, Debug)]
enum Way {
    Wire(mpsc::Sender<Command>),
    Local(Arc<Line>),
}

impl SessionSender {
    /// Returns the caller's public key.
    #[must_use]
    pub const fn caller(&self) -> PublicKey {
        self.caller
    }

    /// Sends one JSON-RPC message: an answer, a notification or a request. Waits while the relays are behind, and never for
    /// a local caller.
    ///
    /// # Errors
    /// Fails when the server is shut down.
    pub async fn send(&self, message: String) -> Result<(), Error> {
        match &self.way {
            Way::Wire(commands) => {
                let command = Command::Send { to: self.caller, message };
                commands.send(command).await.map_err(|_closed| Error::Closed)
            }
            Way::Local(line) => {
                line.take(&message);
                Ok(())
            }
        }
    }
}
