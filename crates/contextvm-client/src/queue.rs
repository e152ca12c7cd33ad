//! What the application has not read yet, messages and answers to calls: bounded in number and in bytes.
use std::sync::Arc;
use std::sync::atomic::Ordering;

use contextvm_core::{Limits, envelope};
use contextvm_engine::client::LOST_CODE;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, mpsc};

use crate::Messages;
use crate::desk::Signals;

/// Notifications and requests of the server that may wait to be read, beyond answers.
const NOTIFICATIONS: usize = 512;

/// Something that counts as unread until it is opened or thrown away.
#[derive(Debug)]
pub(crate) struct Weighed<T> {
    value: T,
    _weight: Weight,
}

#[derive(Debug)]
struct Weight {
    signals: Arc<Signals>,
    bytes: usize,
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.signals.unread.fetch_sub(self.bytes, Ordering::AcqRel);
        self.signals.read.notify_one();
    }
}

impl<T> Weighed<T> {
    pub(crate) fn new(value: T, bytes: usize, signals: &Arc<Signals>) -> Self {
        signals.unread.fetch_add(bytes, Ordering::AcqRel);
        Self { value, _weight: Weight { signals: Arc::clone(signals), bytes } }
    }

    pub(crate) fn open(self) -> T {
        self.value
    }
}

/// The desk's end of the queue.
#[derive(Debug)]
pub(crate) struct Queue {
    outbound: mpsc::Sender<Weighed<String>>,
    signals: Arc<Signals>,
    /// Answers that may wait to be read, at most.
    reserve: usize,
    /// Bytes beyond which nothing new is sent; answers to what was sent before may wait in twice as many.
    bytes: usize,
}

impl Queue {
    /// Makes both ends.
    pub(crate) fn new(limits: &Limits, signals: Arc<Signals>) -> (Self, Messages) {
        let reserve = limits.pending.clamp(1, Semaphore::MAX_PERMITS / 4);
        // Two generations of answers, and notifications.
        let (outbound, inbound) = mpsc::channel(reserve.saturating_mul(2).saturating_add(NOTIFICATIONS));
        let messages = Messages::new(inbound, Arc::clone(&signals));
        (Self { outbound, signals, reserve, bytes: limits.transfers_bytes }, messages)
    }

    /// Whether commands may be taken: answers find a place, or the application has given up reading them.
    pub(crate) fn has_room(&self) -> bool {
        let is_read = self.outbound.capacity() > self.reserve && self.waiting() <= self.bytes;
        is_read || self.outbound.is_closed()
    }

    /// Whether an answer may wait beside everything else; one alone always may.
    pub(crate) fn takes_answer(&self, bytes: usize) -> bool {
        let waiting = self.waiting();
        waiting == 0 || waiting.saturating_add(bytes) <= self.bytes.saturating_mul(2)
    }

    /// Makes something that counts as unread.
    pub(crate) fn weigh<T>(&self, value: T, bytes: usize) -> Weighed<T> {
        Weighed::new(value, bytes, &self.signals)
    }

    /// Queues an answer; what is too large for what already waits becomes an error.
    ///
    /// Says whether it was queued as it is.
    pub(crate) fn answer(&self, id: &RawValue, message: String) -> bool {
        // What nobody reads any more is not counted as lost.
        if self.outbound.is_closed() || self.takes_answer(message.len()) {
            return self.push(message);
        }
        let text = no_room(message.len());
        drop(message);
        self.push(envelope::response_error(id, LOST_CODE, &text, None));
        false
    }

    /// Queues a notification or a request of the server, if there is room beside the answers. Says whether there was.
    pub(crate) fn offer(&self, message: String) -> bool {
        let kept = self.reserve.saturating_mul(2);
        let fits = self.waiting().saturating_add(message.len()) <= self.bytes;
        let has_room = self.outbound.capacity() > kept && fits;
        self.outbound.is_closed() || (has_room && self.push(message))
    }

    fn waiting(&self) -> usize {
        self.signals.unread.load(Ordering::Acquire)
    }

    fn push(&self, message: String) -> bool {
        let bytes = message.len();
        let pushed = self.outbound.try_send(self.weigh(message, bytes));
        !matches!(pushed, Err(mpsc::error::TrySendError::Full(_)))
    }
}

/// Says why an answer was not handed on.
pub(crate) fn no_room(bytes: usize) -> String {
    format!("the answer of {bytes} bytes does not fit beside what was not read")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(limits: Limits) -> (Queue, Messages) {
        Queue::new(&limits, Arc::default())
    }

    #[test]
    fn no_limit_is_too_large_for_the_queue() {
        let (queue, _messages) = queue(Limits { pending: usize::MAX, ..Limits::default() });
        assert!(queue.outbound.capacity() > queue.reserve);
    }

    #[tokio::test]
    async fn large_answers_stop_the_sender_then_become_errors_and_are_never_nothing() {
        let (queue, mut messages) = queue(Limits { transfers_bytes: 1_000, ..Limits::default() });
        let id = RawValue::from_string("7".into()).unwrap();
        let large = "x".repeat(900);
        assert!(queue.answer(&id, "y".repeat(5_000)), "alone, anything fits");
        assert_eq!(messages.recv().await.unwrap().len(), 5_000);
        assert!(queue.answer(&id, large.clone()));
        assert!(queue.has_room());
        assert!(queue.answer(&id, large.clone()));
        assert!(!queue.has_room(), "nothing new is sent");
        assert!(!queue.offer("notification".into()));
        assert!(!queue.answer(&id, large.clone()));
        for _ in 0..2 {
            assert_eq!(messages.recv().await.unwrap(), large);
        }
        let error = messages.recv().await.unwrap();
        assert!(error.contains(r#""id":7"#) && error.contains("900 bytes"), "{error}");
        assert!(queue.has_room());
        assert!(queue.offer("notification".into()));
    }

    #[test]
    fn notifications_alone_never_stop_the_sender() {
        let (queue, _messages) = queue(Limits { transfers_bytes: 1_000, ..Limits::default() });
        assert!(!queue.offer("x".repeat(1_001)));
        for is_kept in [true, true, false] {
            assert_eq!(queue.offer("x".repeat(500)), is_kept);
            assert!(queue.has_room());
        }
    }

    #[test]
    fn who_reads_nothing_is_not_waited_for() {
        let (queue, messages) = queue(Limits { transfers_bytes: 10, ..Limits::default() });
        let id = RawValue::from_string("7".into()).unwrap();
        assert!(queue.answer(&id, "x".repeat(100)));
        assert!(!queue.has_room());
        drop(messages);
        assert!(queue.has_room() && queue.answer(&id, "x".repeat(100)) && queue.offer("x".into()));
    }
}
