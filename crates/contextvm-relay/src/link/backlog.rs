//! Events read from one relay and not yet taken by the inbox.
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};

use crate::relays::Incoming;

/// A bounded queue between one socket and the inbox, used while the inbox is full.
///
/// While it is full the socket is not read, so that the relay feels the pressure and nothing is lost. While it is not,
/// answers to publications are read even when nobody takes events out of the inbox.
pub(crate) struct Backlog {
    inbox: mpsc::Sender<Incoming>,
    state: Mutex<State>,
    filled: Notify,
    drained: Notify,
    most_events: usize,
    most_bytes: usize,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Incoming>,
    bytes: usize,
}

impl Backlog {
    pub(crate) fn new(inbox: mpsc::Sender<Incoming>, most_events: usize, most_bytes: usize) -> Self {
        Self {
            inbox,
            state: Mutex::default(),
            filled: Notify::new(),
            drained: Notify::new(),
            most_events: most_events.max(1),
            most_bytes: most_bytes.max(1),
        }
    }

    /// Adds an item; the caller has waited for [`Backlog::room`] before reading it.
    pub(crate) fn push(&self, item: Incoming) {
        let mut state = self.state();
        let item = if state.queue.is_empty() {
            match self.inbox.try_send(item) {
                Err(TrySendError::Full(item)) => item,
                // Without an inbox items are dropped.
                Ok(()) | Err(TrySendError::Closed(_)) => return,
            }
        } else {
            item
        };
        // A relay that comes and goes while nobody looks leaves no trace but its last state.
        if matches!(item, Incoming::Down { .. }) && matches!(state.queue.back(), Some(Incoming::Up { .. })) {
            state.queue.pop_back();
        } else {
            state.bytes = state.bytes.saturating_add(size(&item));
            state.queue.push_back(item);
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Waits until another item may be read; returns whether it had to wait.
    pub(crate) async fn room(&self) -> bool {
        let mut waited = false;
        while self.is_full() {
            waited = true;
            self.drained.notified().await;
        }
        waited
    }

    /// Moves queued items to the inbox for ever; once the inbox is gone, items are dropped.
    ///
    /// It runs on the task that calls [`Backlog::push`], so that no item overtakes another.
    pub(crate) async fn deliver(&self) {
        loop {
            while self.state().queue.is_empty() {
                self.filled.notified().await;
            }
            let Ok(permit) = self.inbox.reserve().await else {
                *self.state() = State::default();
                self.drained.notify_one();
                return std::future::pending().await;
            };
            let mut state = self.state();
            let item = state.queue.pop_front();
            state.bytes = state.bytes.saturating_sub(item.as_ref().map_or(0, size));
            drop(state);
            if let Some(item) = item {
                permit.send(item);
            }
            self.drained.notify_one();
        }
    }

    fn is_full(&self) -> bool {
        let state = self.state();
        state.queue.len() >= self.most_events || state.bytes >= self.most_bytes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(item: &Incoming) -> usize {
    match item {
        Incoming::Event { json, .. } => json.len(),
        Incoming::Up { .. } => 0,
        Incoming::Down { reason, .. } => reason.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nostr::types::RelayUrl;

    fn event(json: &str) -> Incoming {
        Incoming::Event { relay: 0, json: json.to_owned(), stored: false }
    }

    /// Makes a backlog behind an inbox that is full already.
    fn behind(most_events: usize, most_bytes: usize) -> (Backlog, mpsc::Receiver<Incoming>) {
        let (inbox, taken) = mpsc::channel(1);
        let backlog = Backlog::new(inbox, most_events, most_bytes);
        backlog.push(event("first"));
        (backlog, taken)
    }

    #[tokio::test]
    async fn it_is_full_by_count_and_by_bytes_until_the_inbox_takes_something() {
        for (most_events, most_bytes) in [(2, 1_000), (1_000, 20)] {
            let (backlog, mut taken) = behind(most_events, most_bytes);
            backlog.push(event("0123456789"));
            assert!(!backlog.room().await);
            backlog.push(event("9876543210"));
            assert!(backlog.is_full());
            assert_eq!(taken.recv().await, Some(event("first")));
            tokio::select! {
                biased;
                waited = backlog.room() => assert!(waited),
                () = backlog.deliver() => {}
            }
            assert_eq!(taken.recv().await, Some(event("0123456789")));
        }
    }

    #[tokio::test]
    async fn nothing_overtakes_what_is_queued() {
        let (backlog, mut taken) = behind(1_000, 1_000);
        backlog.push(event("second"));
        assert_eq!(taken.recv().await, Some(event("first")));
        backlog.push(event("third"));
        for expected in ["second", "third"] {
            tokio::select! {
                item = taken.recv() => assert_eq!(item, Some(event(expected))),
                () = backlog.deliver() => {}
            }
        }
    }

    #[tokio::test]
    async fn without_an_inbox_items_are_dropped_and_reading_goes_on() {
        let (backlog, taken) = behind(1, 1_000);
        backlog.push(event("a"));
        drop(taken);
        tokio::select! {
            biased;
            waited = backlog.room() => assert!(waited),
            () = backlog.deliver() => {}
        }
        backlog.push(event("b"));
        assert!(!backlog.is_full());
    }

    #[tokio::test]
    async fn coming_and_going_while_nobody_looks_takes_no_room() {
        let (backlog, _untaken) = behind(1_000, 1_000);
        let url = RelayUrl::parse("ws://127.0.0.1:1").unwrap();
        for _ in 0..100 {
            backlog.push(Incoming::Up { relay: 0, url: url.clone() });
            backlog.push(Incoming::Down { relay: 0, url: url.clone(), reason: "cut".to_owned() });
        }
        assert!(backlog.state().queue.len() <= 1);
    }
}
