//! One caller as the application sees it.
use std::sync::Arc;

use contextvm_core::PeerTags;
use contextvm_engine::server::Delivery;
use nostr::event::Event;
use nostr::key::PublicKey;
use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::desk::Command;

/// One message from a caller.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inbound {
    /// What it is, and the key to answer with.
    pub delivery: Delivery,
    /// The JSON-RPC text: a request's id and progress token are its inner event id in hex.
    pub message: String,
    /// The signed inner event.
    pub event: Arc<Event>,
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
    _alive: oneshot::Sender<()>,
}

impl Session {
    pub(crate) fn new(
        caller: PublicKey,
        inbound: mpsc::Receiver<Box<Inbound>>,
        commands: mpsc::Sender<Command>,
        alive: oneshot::Sender<()>,
    ) -> Self {
        Self { caller, inbound, sender: SessionSender { caller, commands }, _alive: alive }
    }

    /// Returns the caller's public key.
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
    commands: mpsc::Sender<Command>,
}

impl SessionSender {
    /// Returns the caller's public key.
    #[must_use]
    pub const fn caller(&self) -> PublicKey {
        self.caller
    }

    /// Sends one JSON-RPC message: an answer, a notification or a request. Waits while the relays are behind.
    ///
    /// # Errors
    /// Fails when the server is shut down.
    pub async fn send(&self, message: String) -> Result<(), Error> {
        let command = Command::Send { to: self.caller, message };
        self.commands.send(command).await.map_err(|_closed| Error::Closed)
    }
}
