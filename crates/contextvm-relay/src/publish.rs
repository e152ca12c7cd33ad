//! Publications: one event, all relays, one report.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nostr::event::EventId;
use nostr::types::RelayUrl;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// A signed event ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishEvent {
    /// The event id, which relays name in their answers.
    pub id: EventId,
    /// The event as JSON text.
    pub json: Arc<str>,
}

/// What became of a publication at one relay.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelayOutcome {
    /// The relay took it.
    Accepted,
    /// The relay had it already.
    Duplicate,
    /// The relay said no, in these (printable) words.
    Refused(String),
    /// Too much was already waiting for this relay.
    QueueFull,
    /// It was never sent: the relay could not be reached in time.
    NotSent,
    /// It was sent and the relay did not answer in time.
    NoAnswer,
}

impl RelayOutcome {
    /// Whether the relay has the event.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        match self {
            Self::Accepted | Self::Duplicate => true,
            Self::Refused(_) | Self::QueueFull | Self::NotSent | Self::NoAnswer => false,
        }
    }

    /// Whether the relay may have the event.
    pub(crate) fn may_be_there(&self) -> bool {
        self.is_success() || *self == Self::NoAnswer
    }
}

/// What became of a publication as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishOutcome {
    /// At least one relay has it.
    Accepted,
    /// No relay took it, and none may have it without having said so.
    Refused,
    /// No relay took it, but it was sent to one that did not answer: it may have arrived.
    Unknown,
    /// It was sent nowhere.
    NotSent,
}

/// What became of a publication, relay by relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishReport {
    /// The first relay that took it.
    pub accepted: Option<RelayUrl>,
    /// Every relay with its outcome at the time of the report.
    pub per_relay: Vec<(RelayUrl, RelayOutcome)>,
}

impl PublishReport {
    /// Sums the outcomes up.
    #[must_use]
    pub fn outcome(&self) -> PublishOutcome {
        sum_up(self.per_relay.iter().map(|(_, outcome)| outcome))
    }
}

/// Says what several relays together made of an event.
pub(crate) fn sum_up<'a>(outcomes: impl Iterator<Item = &'a RelayOutcome> + Clone) -> PublishOutcome {
    let any = |wanted: fn(&RelayOutcome) -> bool| outcomes.clone().any(wanted);
    if any(RelayOutcome::is_success) {
        PublishOutcome::Accepted
    } else if any(|outcome| *outcome == RelayOutcome::NoAnswer) {
        PublishOutcome::Unknown
    } else if any(|outcome| matches!(outcome, RelayOutcome::Refused(_))) {
        PublishOutcome::Refused
    } else {
        PublishOutcome::NotSent
    }
}

/// One publication under way, shared between the caller and every relay.
pub(crate) struct Publication {
    pub(crate) id: EventId,
    /// The whole EVENT frame; clones share the bytes.
    pub(crate) frame: Utf8Bytes,
    pub(crate) deadline: Instant,
    board: Mutex<Board>,
    changed: Notify,
}

#[derive(Default)]
struct Board {
    accepted: Option<RelayUrl>,
    entries: BTreeMap<u16, Entry>,
}

struct Entry {
    url: RelayUrl,
    outcome: RelayOutcome,
    last: bool,
    /// It is connected and has answered of late.
    keeps_pace: bool,
}

impl Publication {
    pub(crate) fn new(event: &PublishEvent, deadline: Instant) -> Self {
        Self {
            id: event.id,
            frame: Utf8Bytes::from(format!("[\"EVENT\",{}]", event.json)),
            deadline,
            board: Mutex::default(),
            changed: Notify::new(),
        }
    }

    pub(crate) fn expired(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    /// Adds a relay that is expected to answer; one that keeps pace is worth waiting for.
    pub(crate) fn expect(&self, relay: u16, url: RelayUrl, keeps_pace: bool) {
        let entry = Entry { url, outcome: RelayOutcome::NotSent, last: false, keeps_pace };
        self.board().entries.insert(relay, entry);
    }

    /// Notes how far a relay has come; it may still change its mind.
    pub(crate) fn note(&self, relay: u16, outcome: RelayOutcome) {
        if let Some(entry) = self.board().entries.get_mut(&relay)
            && !entry.last
        {
            entry.outcome = outcome;
        }
    }

    /// Notes that the event goes to a relay's socket, for the first time or again: from here on it may arrive.
    pub(crate) fn sent(&self, relay: u16) {
        self.note(relay, RelayOutcome::NoAnswer);
    }

    /// Notes a relay's last word.
    pub(crate) fn settle(&self, relay: u16, outcome: RelayOutcome) {
        let mut board = self.board();
        let Board { accepted, entries } = &mut *board;
        if let Some(entry) = entries.get_mut(&relay) {
            if outcome.is_success() {
                accepted.get_or_insert_with(|| entry.url.clone());
            }
            entry.outcome = outcome;
            entry.last = true;
        }
        drop(board);
        self.changed.notify_waiters();
    }

    /// Notes that nothing more will come from a relay.
    pub(crate) fn abandon(&self, relay: u16) {
        if let Some(entry) = self.board().entries.get_mut(&relay) {
            entry.last = true;
        }
        self.changed.notify_waiters();
    }

    /// Waits for the first success, the last refusal, or the deadline.
    pub(crate) async fn report(self: Arc<Self>) -> PublishReport {
        self.until(Self::is_decided).await
    }

    /// Waits for a success and all relays that keep pace, the last refusal, or the deadline.
    pub(crate) async fn report_all(self: Arc<Self>) -> PublishReport {
        self.until(Self::is_everywhere).await
    }

    async fn until(&self, is_done: fn(&Self) -> bool) -> PublishReport {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if is_done(self) {
                return self.snapshot();
            }
            if tokio::time::timeout_at(self.deadline, changed).await.is_err() {
                return self.snapshot();
            }
        }
    }

    fn is_decided(&self) -> bool {
        let board = self.board();
        board.accepted.is_some() || board.entries.values().all(|entry| entry.last)
    }

    fn is_everywhere(&self) -> bool {
        let is_awaited = |entry: &Entry| entry.keeps_pace && !entry.last;
        self.is_decided() && !self.board().entries.values().any(is_awaited)
    }

    fn snapshot(&self) -> PublishReport {
        let board = self.board();
        let per_relay =
            board.entries.values().map(|entry| (entry.url.clone(), entry.outcome.clone())).collect();
        PublishReport { accepted: board.accepted.clone(), per_relay }
    }

    fn board(&self) -> std::sync::MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the deadline of something that starts now.
pub(crate) fn deadline(after: Duration) -> Instant {
    Instant::now() + after
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(n: u16) -> RelayUrl {
        RelayUrl::parse(&format!("ws://127.0.0.1:{n}")).unwrap()
    }

    fn publication(relays: u16) -> Arc<Publication> {
        let event = PublishEvent { id: EventId::from_slice(&[1; 32]).unwrap(), json: "{}".into() };
        let publication = Publication::new(&event, deadline(Duration::from_secs(60)));
        for relay in 1..=relays {
            publication.expect(relay, url(relay), relay != 2);
        }
        Arc::new(publication)
    }

    #[tokio::test]
    async fn the_first_success_is_reported_before_the_others_have_spoken() {
        let publication = publication(3);
        publication.sent(1);
        publication.settle(2, RelayOutcome::Duplicate);
        let report = publication.report().await;
        assert_eq!(report.accepted, Some(url(2)));
        assert_eq!(report.outcome(), PublishOutcome::Accepted);
        assert_eq!(report.per_relay[0].1, RelayOutcome::NoAnswer);
        assert_eq!(report.per_relay[2].1, RelayOutcome::NotSent);
    }

    #[tokio::test]
    async fn refusal_by_all_is_reported_at_once_and_by_some_is_not() {
        let publication = publication(2);
        publication.settle(1, RelayOutcome::Refused("blocked: no".into()));
        assert!(!publication.is_decided());
        publication.settle(2, RelayOutcome::QueueFull);
        assert_eq!(publication.report().await.outcome(), PublishOutcome::Refused);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_after_sending_is_unknown_and_before_sending_is_not_sent() {
        let sent = publication(1);
        sent.sent(1);
        assert_eq!(sent.report().await.outcome(), PublishOutcome::Unknown);
        assert_eq!(publication(1).report().await.outcome(), PublishOutcome::NotSent);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_after_a_second_sending_is_unknown_whatever_the_first_brought() {
        let publication = publication(1);
        publication.sent(1);
        publication.note(1, RelayOutcome::Refused("rate-limited: slow down".into()));
        publication.sent(1);
        assert_eq!(publication.report().await.outcome(), PublishOutcome::Unknown);
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_keeps_pace_is_waited_for_and_another_is_not() {
        let all = publication(3);
        all.settle(1, RelayOutcome::Accepted);
        assert!(all.is_decided() && !all.is_everywhere());
        all.settle(3, RelayOutcome::Refused("blocked: no".into()));
        assert!(all.is_everywhere());
        assert_eq!(all.report_all().await.per_relay[1].1, RelayOutcome::NotSent);

        let silent = publication(1);
        silent.sent(1);
        assert_eq!(silent.report_all().await.outcome(), PublishOutcome::Unknown);
    }

    #[tokio::test]
    async fn without_relays_the_report_comes_at_once() {
        assert_eq!(publication(0).report().await.outcome(), PublishOutcome::NotSent);
    }

    #[tokio::test]
    async fn a_last_word_is_not_overwritten_by_a_note() {
        let publication = publication(1);
        publication.settle(1, RelayOutcome::Accepted);
        publication.note(1, RelayOutcome::Refused("late".into()));
        assert_eq!(publication.report().await.per_relay[0].1, RelayOutcome::Accepted);
    }
}
