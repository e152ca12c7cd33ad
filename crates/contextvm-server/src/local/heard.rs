//! What a local caller has still to read: bounded, and no change of a list is ever lost.
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Notifications that may wait.
const MOST: usize = 256;
/// Bytes of notifications that may wait.
const BYTES: usize = 4 * 1024 * 1024;

/// Notifications that say that a list is to be read again. One of each always finds its place.
const CHANGES: [&str; 3] = [
    "notifications/tools/list_changed",
    "notifications/resources/list_changed",
    "notifications/prompts/list_changed",
];

/// A queue between the application, which never waits for it, and one reader.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Messages with the change that they are, if they are one.
    queue: VecDeque<(Option<usize>, String)>,
    bytes: usize,
    over: bool,
}

impl Heard {
    /// Queues a notification; `false` when there is no room.
    pub(super) fn push(&self, method: &str, message: String) -> bool {
        let change = CHANGES.iter().position(|known| *known == method);
        let mut waiting = self.waiting();
        if waiting.over {
            return true;
        }
        if change.is_some() {
            if waiting.queue.iter().any(|(waits, _)| *waits == change) {
                return true;
            }
        } else if waiting.queue.len() >= MOST || waiting.bytes.saturating_add(message.len()) > BYTES {
            return false;
        }
        waiting.bytes = waiting.bytes.saturating_add(message.len());
        waiting.queue.push_back((change, message));
        drop(waiting);
        self.news.notify_one();
        true
    }

    /// Waits for the next notification; `None` at the end, after everything was read. Cancel-safe.
    pub(super) async fn next(&self) -> Option<String> {
        loop {
            {
                let mut waiting = self.waiting();
                if let Some((_, message)) = waiting.queue.pop_front() {
                    waiting.bytes = waiting.bytes.saturating_sub(message.len());
                    return Some(message);
                }
                if waiting.over {
                    return None;
                }
            }
            self.news.notified().await;
        }
    }

    /// Lets the reader know that nothing more comes.
    pub(super) fn end(&self) {
        self.waiting().over = true;
        self.news.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // What is inside is consistent at every moment.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_leaves_room_for_each_change_once() {
        let heard = Heard::default();
        for n in 0..1_000 {
            assert_eq!(heard.push("notifications/message", n.to_string()), n < MOST);
        }
        for _ in 0..3 {
            for change in CHANGES {
                assert!(heard.push(change, change.to_owned()));
            }
        }
        heard.end();
        let mut read = Vec::new();
        while let Some(message) = heard.next().await {
            read.push(message);
        }
        assert_eq!(read.len(), MOST + CHANGES.len());
        assert_eq!(read.get(MOST..).unwrap_or_default(), CHANGES);
    }

    #[tokio::test]
    async fn long_messages_are_bounded_in_bytes() {
        let heard = Heard::default();
        let long = "x".repeat(BYTES / 2);
        assert!(heard.push("a", long.clone()));
        assert!(heard.push("a", long.clone()));
        assert!(!heard.push("a", "y".to_owned()));
        assert_eq!(heard.next().await, Some(long));
        assert!(heard.push("a", "y".to_owned()));
    }
}
