//! The seam between a front (standard streams, HTTP) and the server side of a proxy.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::queue::{self, Closed, Weigh};

/// Levels by which a message may be deeper than it came, because a translation put it, or a part of it, into another one.
pub(crate) const WRAPPED: usize = 8;

/// Messages that may wait in either direction of one conversation.
const WAITING: usize = 64;
/// Conversations that may wait to be taken up.
const OPENING: usize = 16;

/// What a host says.
#[derive(Debug)]
pub(crate) enum Said {
    /// One JSON-RPC message, as the host wrote it.
    Message(String),
    /// Nobody waits any more for the request with this id.
    Abandon(Box<RawValue>),
}

impl Weigh for Said {
    fn weigh(&self) -> usize {
        match self {
            Self::Message(text) => text.len(),
            Self::Abandon(id) => id.get().len(),
        }
    }
}

/// What the server says to one host.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    /// One JSON-RPC message, with the host's own ids and progress tokens.
    pub(crate) text: String,
    /// The host's id of the request that it belongs to; `None` if it belongs to the session.
    pub(crate) about: Option<Box<RawValue>>,
}

impl Weigh for Heard {
    fn weigh(&self) -> usize {
        self.text.len()
    }
}

impl Weigh for (u64, Heard) {
    fn weigh(&self) -> usize {
        self.1.weigh()
    }
}

/// The other side of a conversation is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl From<Closed> for Gone {
    fn from(_: Closed) -> Self {
        Self
    }
}

/// One host's end: ids are unique within it only. Dropping it cancels what is open.
#[derive(Debug)]
pub(crate) struct Conversation {
    speaker: Speaker,
    hearer: Hearer,
}

/// The sending half of a host's end.
#[derive(Clone, Debug)]
pub(crate) struct Speaker(queue::Sender<Said>);

/// The receiving half of a host's end. It must be drained: a host that does not read holds up the others.
#[derive(Debug)]
pub(crate) struct Hearer(queue::Receiver<Heard>);

/// The server side's end of a conversation.
#[derive(Debug)]
pub(crate) struct Counterpart {
    pub(crate) said: queue::Receiver<Said>,
    pub(crate) heard: queue::Sender<Heard>,
}

/// Opens conversations with one server side; cloning gives another handle to the same one.
#[derive(Clone, Debug)]
pub(crate) struct Conversations {
    opening: mpsc::Sender<Counterpart>,
    ready: Vec<Readiness>,
}

/// Whether a server can be spoken to right now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness(Arc<AtomicBool>);

impl Readiness {
    pub(crate) fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }
}

impl Speaker {
    pub(crate) async fn say(&self, said: Said) -> Result<(), Gone> {
        Ok(self.0.send(said).await?)
    }

    /// Waits until so many bytes can be said. Cancel-safe.
    pub(crate) async fn room_for(&self, bytes: usize) -> Result<(), Gone> {
        Ok(self.0.room_for(bytes).await?)
    }

    /// Says something if there is room, else gives it back; nobody hears it when the server side is gone.
    pub(crate) fn try_say(&self, said: Said) -> Result<(), Said> {
        self.0.try_send(said)
    }
}

impl Hearer {
    /// Waits for the next message; `None` once the server side is gone. Cancel-safe.
    pub(crate) async fn hear(&mut self) -> Option<Heard> {
        self.0.recv().await
    }
}

impl Conversation {
    pub(crate) fn new() -> (Self, Counterpart) {
        let (speaker, said) = queue::channel(WAITING);
        let (heard, hearer) = queue::channel(WAITING);
        (Self { speaker: Speaker(speaker), hearer: Hearer(hearer) }, Counterpart { said, heard })
    }

    #[cfg(feature = "http")]
    pub(crate) async fn say(&self, said: Said) -> Result<(), Gone> {
        self.speaker.say(said).await
    }

    pub(crate) fn split(self) -> (Speaker, Hearer) {
        (self.speaker, self.hearer)
    }
}

impl Conversations {
    /// Makes a handle and the place where new conversations arrive.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Counterpart>) {
        let (opening, opened) = mpsc::channel(OPENING);
        (Self { opening, ready: Vec::new() }, opened)
    }

    /// Adds what must be ready for this side to be.
    pub(crate) fn depends_on(&mut self, readiness: impl IntoIterator<Item = Readiness>) {
        self.ready.extend(readiness);
    }

    pub(crate) fn readiness(&self) -> impl Iterator<Item = Readiness> {
        self.ready.iter().cloned()
    }

    /// Whether every server behind this side can be spoken to right now.
    #[cfg(feature = "http")]
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.iter().all(|ready| ready.0.load(Ordering::Relaxed))
    }

    pub(crate) async fn open(&self) -> Result<Conversation, Gone> {
        let (conversation, counterpart) = Conversation::new();
        self.opening.send(counterpart).await.map_err(|_closed| Gone)?;
        Ok(conversation)
    }
}
