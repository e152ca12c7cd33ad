//! One caller as the application sees it.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use contextvm_core::{PeerTags, event};
use contextvm_engine::server::{Delivery, RequestKey};
use nostr::event::Event;
use nostr::key::PublicKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::Error;
use crate::desk::Command;
use crate::local::Line;
use crate::stream::{StreamWriter, Streams};

/// One message from a caller.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inbound {
    /// What it is, and the key to answer with.
    pub delivery: Delivery,
    /// The JSON-RPC text: a request's id and progress token are its inner event id in hex.
    pub message: String,
    /// The signed inner event; `None` from a local caller, whose messages are not signed by anybody, and of an
    /// error that answers what the application could not ask.
    pub event: Option<Arc<Event>>,
    /// What the caller has said about itself.
    pub tags: Arc<PeerTags>,
}

/// A message on its way to a session, which counts until it is read or thrown away.
#[derive(Debug)]
pub(crate) struct Letter {
    /// Boxed, because a channel sets places aside before anything is in them.
    inbound: Box<Inbound>,
    unread: Unread,
}

/// The weight of one message in a count of bytes.
#[derive(Debug)]
struct Unread {
    count: Option<Arc<AtomicUsize>>,
    bytes: usize,
}

impl Drop for Unread {
    fn drop(&mut self) {
        if let Some(count) = &self.count {
            count.fetch_sub(self.bytes, Ordering::AcqRel);
        }
    }
}

impl Letter {
    /// Makes a letter that counts.
    pub(crate) fn counted(inbound: Box<Inbound>, count: &Arc<AtomicUsize>) -> Self {
        let bytes = inbound.message.len() + inbound.event.as_ref().map_or(0, |event| event::weight(event));
        count.fetch_add(bytes, Ordering::AcqRel);
        Self { inbound, unread: Unread { count: Some(Arc::clone(count)), bytes } }
    }

    /// Makes a letter that does not count.
    pub(crate) fn uncounted(inbound: Inbound) -> Self {
        Self { inbound: Box::new(inbound), unread: Unread { count: None, bytes: 0 } }
    }

    /// Whether everything that counts, this letter included, is not more than this; a single one always fits.
    pub(crate) fn fits(&self, most: usize) -> bool {
        let count = self.unread.count.as_ref().map_or(0, |count| count.load(Ordering::Acquire));
        count <= most.max(self.unread.bytes)
    }

    pub(crate) const fn inbound(&self) -> &Inbound {
        &self.inbound
    }

    pub(crate) fn open(self) -> Box<Inbound> {
        self.inbound
    }
}

/// The conversation with one caller, from its first message or its last `initialize` on.
#[derive(Debug)]
pub struct Session {
    caller: PublicKey,
    inbound: mpsc::Receiver<Letter>,
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
        inbound: mpsc::Receiver<Letter>,
        wire: Wire,
        alive: oneshot::Sender<()>,
    ) -> Self {
        let sender = SessionSender { caller, way: Way::Wire(wire) };
        Self { caller, inbound, sender, _alive: Alive::Wire { _tell: alive } }
    }

    pub(crate) fn local(line: Arc<Line>, inbound: mpsc::Receiver<Letter>) -> Self {
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
        self.next().await.map(|letter| *letter.open())
    }

    /// As [`Self::recv`], and the message counts on.
    pub(crate) async fn next(&mut self) -> Option<Letter> {
        self.inbound.recv().await
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
    Wire(Wire),
    Local(Arc<Line>),
}

/// What leads to the loop.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) room: Room,
}

/// Room for messages that wait for the loop, in bytes; one alone always finds room.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    free: Arc<Semaphore>,
    /// Kibibytes.
    all: u32,
}

impl Room {
    pub(crate) fn new(bytes: usize) -> Self {
        // Semaphores count up to 2^32 only.
        let all = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).clamp(1, 1 << 28);
        Self { free: Arc::new(Semaphore::new(usize::try_from(all).unwrap_or(1))), all }
    }

    /// Waits for room; those who came first have it first.
    async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Error> {
        let share = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).clamp(1, self.all);
        Arc::clone(&self.free).acquire_many_owned(share).await.map_err(|_closed| Error::Closed)
    }
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
            Way::Wire(wire) => {
                let share = wire.room.take(message.len()).await?;
                let command = Command::Send { to: self.caller, message, _share: share };
                wire.commands.send(command).await.map_err(|_closed| Error::Closed)
            }
            Way::Local(line) => {
                line.take(&message);
                Ok(())
            }
        }
    }

    /// Waits until nothing can be sent any more; nothing waits for a local caller.
    #[cfg(feature = "rmcp")]
    pub(crate) async fn closed(&self) {
        if let Way::Wire(wire) = &self.way {
            wire.commands.closed().await;
        }
    }

    /// Returns what writes the stream of a request of this caller while it is open: of one that came as
    /// `Delivery::Request { streams: true, .. }`. For every other request the writer takes nothing.
    ///
    /// A request has one stream; a second writer of it writes into the same.
    #[must_use]
    pub fn stream(&self, key: RequestKey) -> StreamWriter {
        match &self.way {
            Way::Wire(wire) if key.caller == self.caller => {
                StreamWriter::new(key, wire.commands.clone(), &wire.streams)
            }
            Way::Wire(_) | Way::Local(_) => StreamWriter::of_nothing(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(bytes: usize, count: &Arc<AtomicUsize>) -> Letter {
        let delivery = Delivery::Notification { method: "m".into() };
        let inbound = Inbound { delivery, message: "x".repeat(bytes), event: None, tags: Arc::default() };
        Letter::counted(Box::new(inbound), count)
    }

    #[test]
    fn a_letter_counts_until_it_is_opened_or_thrown_away() {
        let count = Arc::default();
        let first = letter(90, &count);
        assert!(first.fits(10), "alone it always fits");
        let second = letter(20, &count);
        assert!(second.fits(110) && !second.fits(109));
        assert_eq!(first.open().message.len(), 90);
        assert!(second.fits(20));
        drop(second);
        assert_eq!(count.load(Ordering::Acquire), 0);
    }

    #[tokio::test]
    async fn messages_wait_for_room_and_one_alone_always_finds_it() {
        use futures_util::FutureExt as _;
        let room = Room::new(1 << 20);
        let all = room.take(1 << 30).await.unwrap();
        assert!(room.take(1).now_or_never().is_none());
        drop(all);
        let half = room.take(600 << 10).await.unwrap();
        assert!(room.take(600 << 10).now_or_never().is_none());
        assert!(room.take(400 << 10).now_or_never().is_some());
        drop(half);
        assert!(Room::new(0).take(0).now_or_never().is_some());
        assert!(Room::new(usize::MAX).take(usize::MAX).now_or_never().is_some());
    }
}
