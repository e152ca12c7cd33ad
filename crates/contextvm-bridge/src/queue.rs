//! Messages that wait: bounded in number and in bytes, because one may be as long as a thousand others.
use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Bytes that may wait in one place; a single longer message may wait alone.
pub(crate) const BYTES: usize = 32 * 1024 * 1024;

/// Something whose length counts.
pub(crate) trait Weigh {
    /// Returns its length, bytes.
    fn weigh(&self) -> usize;
}

impl Weigh for String {
    fn weigh(&self) -> usize {
        self.len()
    }
}

/// The other end is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// Makes a channel for so many messages, and [`BYTES`] of them.
pub(crate) fn channel<T: Weigh>(messages: usize) -> (Sender<T>, Receiver<T>) {
    let (line, taken) = mpsc::channel(messages);
    (Sender { line, room: Arc::new(Semaphore::new(BYTES)) }, Receiver(taken))
}

/// The end where messages go in.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    line: mpsc::Sender<(T, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { line: self.line.clone(), room: Arc::clone(&self.room) }
    }
}

impl<T: Weigh> Sender<T> {
    /// Waits until there is room, and puts a message in.
    pub(crate) async fn send(&self, message: T) -> Result<(), Closed> {
        let permit = Arc::clone(&self.room).acquire_many_owned(cost(message.weigh())).await;
        self.line.send((message, permit.map_err(|_| Closed)?)).await.map_err(|_| Closed)
    }

    /// Puts a message in if there is room, else gives it back; nobody gets it when the other end is gone.
    pub(crate) fn try_send(&self, message: T) -> Result<(), T> {
        let Ok(permit) = Arc::clone(&self.room).try_acquire_many_owned(cost(message.weigh())) else {
            return if self.line.is_closed() { Ok(()) } else { Err(message) };
        };
        match self.line.try_send((message, permit)) {
            Err(mpsc::error::TrySendError::Full((message, _))) => Err(message),
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    /// Waits until there is room for a message of so many bytes. Cancel-safe.
    pub(crate) async fn room_for(&self, bytes: usize) -> Result<(), Closed> {
        drop(self.line.reserve().await.map_err(|_| Closed)?);
        tokio::select! {
            biased;
            () = self.line.closed() => Err(Closed),
            _permit = self.room.acquire_many(cost(bytes)) => Ok(()),
        }
    }
}

#[cfg(test)]
impl<T> Sender<T> {
    /// Waits until the other end is gone.
    pub(crate) async fn closed(&self) {
        self.line.closed().await;
    }
}

#[cfg(test)]
impl<T> Receiver<T> {
    /// Takes nothing more in.
    pub(crate) fn close(&mut self) {
        self.0.close();
    }
}

/// The end where messages come out.
#[derive(Debug)]
pub(crate) struct Receiver<T>(mpsc::Receiver<(T, OwnedSemaphorePermit)>);

impl<T> Receiver<T> {
    /// Waits for the next message; `None` once the other end is gone. Cancel-safe.
    pub(crate) async fn recv(&mut self) -> Option<T> {
        self.0.recv().await.map(|(message, _)| message)
    }
}

/// What a message takes of the room; the longest one takes all of it.
fn cost(bytes: usize) -> u32 {
    u32::try_from(bytes.min(BYTES)).unwrap_or(u32::MAX)
}

/// Messages of one task's own that wait for somebody else.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    line: VecDeque<T>,
    bytes: usize,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { line: VecDeque::new(), bytes: 0 }
    }
}

impl<T: Weigh> Waiting<T> {
    pub(crate) fn push_back(&mut self, message: T) {
        self.bytes = self.bytes.saturating_add(message.weigh());
        self.line.push_back(message);
    }

    pub(crate) fn push_front(&mut self, message: T) {
        self.bytes = self.bytes.saturating_add(message.weigh());
        self.line.push_front(message);
    }

    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let message = self.line.pop_front()?;
        self.bytes = self.bytes.saturating_sub(message.weigh());
        Some(message)
    }

    pub(crate) fn front(&self) -> Option<&T> {
        self.line.front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Whether fewer than so many messages wait, and less than [`BYTES`] of them.
    pub(crate) fn has_room(&self, messages: usize) -> bool {
        self.line.len() < messages && self.bytes < BYTES
    }

    /// Takes everything out, in order.
    pub(crate) fn take_all(&mut self) -> VecDeque<T> {
        self.bytes = 0;
        core::mem::take(&mut self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn a_channel_is_full_by_number_and_by_bytes() {
        let (sender, mut receiver) = channel::<String>(2);
        let half = || "x".repeat(BYTES / 2);
        assert!(sender.try_send(half()).is_ok());
        assert!(sender.try_send(half()).is_ok());
        assert!(sender.try_send(String::new()).is_err(), "two are all");
        receiver.recv().await.unwrap();
        assert!(sender.try_send(half() + "x").is_err(), "one byte too many");
        assert!(sender.room_for(BYTES / 2 + 1).now_or_never().is_none());
        assert_eq!(sender.room_for(BYTES / 2).now_or_never(), Some(Ok(())));
        assert!(sender.try_send(half()).is_ok());
    }

    #[tokio::test]
    async fn what_is_longer_than_the_room_travels_alone() {
        let (sender, mut receiver) = channel::<String>(8);
        sender.send("x".repeat(BYTES + 1)).await.unwrap();
        assert!(sender.try_send("x".to_owned()).is_err());
        assert_eq!(receiver.recv().await.unwrap().len(), BYTES + 1);
        assert!(sender.try_send("x".to_owned()).is_ok());
    }

    #[tokio::test]
    async fn nobody_waits_for_an_end_that_is_gone() {
        let (sender, receiver) = channel::<String>(8);
        sender.send("x".repeat(BYTES)).await.unwrap();
        let (waiting, sending) = (sender.clone(), sender.clone());
        let waiting = tokio::spawn(async move { waiting.room_for(1).await });
        let sending = tokio::spawn(async move { sending.send("x".to_owned()).await });
        tokio::task::yield_now().await;
        drop(receiver);
        assert_eq!(waiting.await.unwrap(), Err(Closed));
        assert_eq!(sending.await.unwrap(), Err(Closed));
        assert!(sender.try_send("x".to_owned()).is_ok(), "there is nothing to wait for");
    }

    #[test]
    fn what_waits_is_weighed() {
        let mut waiting = Waiting::default();
        waiting.push_back("x".repeat(BYTES));
        assert!(!waiting.has_room(8));
        let first = waiting.pop_front().unwrap();
        assert!(waiting.has_room(1));
        waiting.push_front(first);
        assert_eq!((waiting.take_all().len(), waiting.has_room(8)), (1, true));
    }
}
