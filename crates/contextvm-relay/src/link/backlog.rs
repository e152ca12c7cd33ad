//! Events read from one relay and not yet taken by the inbox.
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::relays::Incoming;

/// How many times the bound of the queue may be dropped in one pause before the socket is not read any more.
const DROPPED: usize = 4;

/// A bounded queue between one socket and the inbox, used while the inbox is full or the relay is on hold.
///
/// While it is full the socket is not read, so that the relay feels the pressure and nothing is lost. While it is not,
/// answers to publications are read even when nobody takes events out of the inbox. On hold, newer events push out the
/// oldest, so that whoever else uses this relay is heard late at most by what the queue holds. What is said about the
/// connection overtakes all events.
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
    events: VecDeque<Incoming>,
    bytes: usize,
    /// That the relay went, and came back: at most two.
    news: VecDeque<Incoming>,
    /// Nothing is moved to the inbox before this instant.
    held: Option<Instant>,
    /// Events that were pushed out in this pause.
    dropped: usize,
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

    /// Moves nothing to the inbox before an instant.
    pub(crate) fn hold(&self, until: Instant) {
        let mut state = self.state();
        // Of an earlier pause that is over.
        state.held(Instant::now());
        state.held = Some(state.held.map_or(until, |held| held.max(until)));
        drop(state);
        // Whoever waits for room need not wait now.
        self.drained.notify_one();
    }

    /// Adds an item and returns how many were pushed out; the caller has waited for [`Backlog::room`] before reading it.
    pub(crate) fn push(&self, item: Incoming) -> usize {
        let mut state = self.state();
        let is_held = state.is_held();
        let is_event = matches!(item, Incoming::Event { .. });
        let waits = if is_event { is_held || !state.events.is_empty() } else { !state.news.is_empty() };
        let item = if waits {
            item
        } else {
            match self.inbox.try_send(item) {
                Err(TrySendError::Full(item)) => item,
                // Without an inbox items are dropped.
                Ok(()) | Err(TrySendError::Closed(_)) => return 0,
            }
        };
        let mut dropped = 0;
        if is_event {
            if is_held {
                dropped = self.make_room(&mut state);
            }
            state.bytes = state.bytes.saturating_add(size(&item));
            state.events.push_back(item);
        } else if matches!((&item, state.news.back()), (Incoming::Down { .. }, Some(Incoming::Up { .. }))) {
            // A relay that comes and goes while nobody looks leaves no trace but its last state.
            state.news.pop_back();
        } else {
            state.news.push_back(item);
        }
        drop(state);
        self.filled.notify_one();
        dropped
    }

    /// Drops the oldest events until there is room.
    fn make_room(&self, state: &mut State) -> usize {
        let mut dropped = 0;
        while self.is_full(state) {
            let Some(oldest) = state.events.pop_front() else {
                break;
            };
            state.bytes = state.bytes.saturating_sub(size(&oldest));
            dropped += 1;
        }
        state.dropped = state.dropped.saturating_add(dropped);
        dropped
    }

    /// Waits until another item may be read; returns whether it had to wait.
    pub(crate) async fn room(&self) -> bool {
        let mut waited = false;
        while !self.has_room() {
            waited = true;
            self.drained.notified().await;
        }
        waited
    }

    fn has_room(&self) -> bool {
        let state = self.state();
        let may_drop = state.is_held() && state.dropped < self.most_events.saturating_mul(DROPPED);
        may_drop || !self.is_full(&state)
    }

    /// Moves queued items to the inbox for ever; once the inbox is gone, items are dropped.
    ///
    /// It runs on the task that calls [`Backlog::push`], so that no event overtakes another.
    pub(crate) async fn deliver(&self) {
        loop {
            self.filled().await;
            let Ok(permit) = self.inbox.reserve().await else {
                *self.state() = State::default();
                self.drained.notify_one();
                return std::future::pending().await;
            };
            let item = self.state().next();
            if let Some(item) = item {
                permit.send(item);
            }
            self.drained.notify_one();
        }
    }

    /// Waits until there is something to deliver: events wait while the relay is on hold.
    async fn filled(&self) {
        loop {
            let until = {
                let mut state = self.state();
                match state.held(Instant::now()) {
                    _ if !state.news.is_empty() => return,
                    None if !state.events.is_empty() => return,
                    until => until,
                }
            };
            match until {
                Some(until) => {
                    // Whichever comes first, it is looked again.
                    let _ = tokio::time::timeout_at(until, self.filled.notified()).await;
                }
                None => self.filled.notified().await,
            }
        }
    }

    fn is_full(&self, state: &State) -> bool {
        state.events.len() >= self.most_events || state.bytes >= self.most_bytes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the relay is on hold. A hold may be over and not forgotten yet, while the inbox is full.
    fn is_held(&self) -> bool {
        self.held.is_some_and(|until| until > Instant::now())
    }

    /// Returns until when the relay is on hold; a hold that is over is forgotten.
    fn held(&mut self, now: Instant) -> Option<Instant> {
        self.held = self.held.filter(|until| *until > now);
        if self.held.is_none() {
            self.dropped = 0;
        }
        self.held
    }

    /// Takes out what is to be delivered next.
    fn next(&mut self) -> Option<Incoming> {
        if let Some(news) = self.news.pop_front() {
            return Some(news);
        }
        let event = if self.is_held() { None } else { self.events.pop_front() };
        self.bytes = self.bytes.saturating_sub(event.as_ref().map_or(0, size));
        event
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
    use std::time::Duration;

    fn event(json: &str) -> Incoming {
        Incoming::Event { relay: 0, number: 1, json: json.to_owned(), stored: false }
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
            assert!(!backlog.has_room());
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
        assert!(backlog.has_room());
    }

    #[tokio::test]
    async fn coming_and_going_while_nobody_looks_takes_no_room() {
        let (backlog, _untaken) = behind(1_000, 1_000);
        let url = RelayUrl::parse("ws://127.0.0.1:1").unwrap();
        for _ in 0..100 {
            backlog.push(Incoming::Up { relay: 0, url: url.clone() });
            backlog.push(Incoming::Down { relay: 0, url: url.clone(), reason: "cut".to_owned() });
        }
        assert!(backlog.state().news.len() <= 1);
    }

    /// Takes everything out that is delivered before nothing more comes.
    async fn rest(backlog: &Backlog, taken: &mut mpsc::Receiver<Incoming>) -> Vec<Incoming> {
        let mut rest = Vec::new();
        loop {
            tokio::select! {
                biased;
                item = taken.recv() => rest.extend(item),
                () = backlog.deliver() => {}
                // Time stands still while anything can be done.
                () = tokio::time::sleep(Duration::from_secs(3_600)) => return rest,
            }
        }
    }

    fn texts(items: &[Incoming]) -> Vec<&str> {
        let mut texts = Vec::new();
        for item in items {
            texts.push(match item {
                Incoming::Event { json, .. } => json.as_str(),
                Incoming::Up { .. } => "up",
                Incoming::Down { .. } => "down",
            });
        }
        texts
    }

    #[tokio::test(start_paused = true)]
    async fn on_hold_nothing_comes_out_and_the_newest_stay() {
        let (inbox, mut taken) = mpsc::channel(64);
        let backlog = Backlog::new(inbox, 3, 1_000);
        let until = Instant::now() + Duration::from_secs(1);
        backlog.hold(until);
        backlog.hold(until - Duration::from_millis(500));
        let dropped: usize = (0..8).map(|n| backlog.push(event(&n.to_string()))).sum();
        assert_eq!(dropped, 5);
        assert!(taken.try_recv().is_err());
        tokio::select! {
            () = backlog.deliver() => {}
            first = taken.recv() => {
                assert_eq!(first, Some(event("5")));
                assert!(Instant::now() >= until, "the longer hold counts");
            }
        }
        backlog.push(event("8"));
        assert_eq!(texts(&rest(&backlog, &mut taken).await), ["6", "7", "8"]);
        assert_eq!(backlog.push(event("9")), 0);
        assert_eq!(taken.try_recv(), Ok(event("9")), "after the hold all is as before");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_that_is_over_drops_nothing_however_long_the_inbox_is_full() {
        let (backlog, mut taken) = behind(3, 1_000);
        backlog.hold(Instant::now() + Duration::from_secs(1));
        tokio::select! {
            () = backlog.deliver() => {}
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
        let mut dropped = 0;
        while backlog.has_room() {
            dropped += backlog.push(event("honest"));
        }
        assert_eq!((dropped, backlog.state().events.len()), (0, 3), "the socket is left alone instead");
        assert_eq!(texts(&rest(&backlog, &mut taken).await), ["first", "honest", "honest", "honest"]);
    }

    #[tokio::test(start_paused = true)]
    async fn that_a_relay_went_and_came_back_is_told_at_once_on_hold_and_before_all_events() {
        let (inbox, mut taken) = mpsc::channel(64);
        let backlog = Backlog::new(inbox, 3, 1_000);
        let until = Instant::now() + Duration::from_secs(1);
        backlog.hold(until);
        backlog.push(event("early"));
        let url = RelayUrl::parse("ws://127.0.0.1:1").unwrap();
        backlog.push(Incoming::Down { relay: 0, url: url.clone(), reason: "cut".to_owned() });
        backlog.push(Incoming::Up { relay: 0, url: url.clone() });
        assert_eq!(texts(&[taken.recv().await.unwrap(), taken.recv().await.unwrap()]), ["down", "up"]);
        assert!(Instant::now() < until);

        let (full, mut slow) = behind(10, 1_000);
        full.push(event("second"));
        full.push(Incoming::Up { relay: 0, url });
        assert_eq!(texts(&rest(&full, &mut slow).await), ["first", "up", "second"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_said_about_the_connection_outlives_a_flood() {
        let (inbox, mut taken) = mpsc::channel(64);
        let backlog = Backlog::new(inbox, 2, 30);
        backlog.hold(Instant::now() + Duration::from_secs(1));
        let url = RelayUrl::parse("ws://127.0.0.1:1").unwrap();
        backlog.push(Incoming::Up { relay: 0, url: url.clone() });
        let dropped: usize = (0..10).map(|_| backlog.push(event("0123456789012345"))).sum();
        assert_eq!(dropped, 8);
        backlog.push(Incoming::Down { relay: 0, url, reason: "cut".to_owned() });
        assert!(backlog.state().bytes <= 32);
        let left = rest(&backlog, &mut taken).await;
        assert_eq!(texts(&left), ["up", "down", "0123456789012345", "0123456789012345"]);
        assert_eq!(backlog.state().bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_that_goes_on_is_left_in_the_socket_until_the_hold_ends() {
        let (inbox, mut taken) = mpsc::channel(64);
        let backlog = Backlog::new(inbox, 2, 1_000);
        let until = Instant::now() + Duration::from_secs(1);
        backlog.hold(until);
        let mut read = 0;
        loop {
            tokio::select! {
                biased;
                waited = backlog.room() => {
                    if waited {
                        break;
                    }
                    backlog.push(event("flood"));
                    read += 1;
                }
                () = backlog.deliver() => {}
            }
        }
        assert_eq!(read, 2 + 2 * DROPPED);
        assert!(Instant::now() >= until);
        assert_eq!(taken.try_recv(), Ok(event("flood")));
    }
}
