//! Publications: one event, all relays, one report.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nostr::event::EventId;
use nostr::types::RelayUrl;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// A relay that takes longer to take an event is not waited for.
pub(crate) const SLOW: Duration = Duration::from_secs(1);

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

/// Which relays matter to an event, and how much. By default all matter alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audience {
    /// Relays that matter more than the others: bit n stands for relay n modulo 64; none: all matter alike.
    ///
    /// A relay that is not among them takes the event only while its queue is less than half full and it keeps pace, so
    /// that it displaces nothing that is meant for that relay.
    pub first: u64,
    /// It is for these relays alone if one of them is connected, and no relay gives it more than half of its queue.
    pub only: bool,
    /// Only what these relays say counts, if one of them is connected.
    pub decides: bool,
}

impl Audience {
    pub(crate) const fn is_first(self, relay: u16) -> bool {
        self.first == 0 || self.first & (1 << (relay % 64)) != 0
    }
}

/// What became of a publication, relay by relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishReport {
    /// The first relay that took it.
    pub accepted: Option<RelayUrl>,
    /// Every relay that it was meant for, with its outcome at the time of the report.
    pub per_relay: Vec<(RelayUrl, RelayOutcome)>,
    outcome: PublishOutcome,
}

impl PublishReport {
    /// Sums the outcomes up: those of the relays that decide, if only some do.
    #[must_use]
    pub const fn outcome(&self) -> PublishOutcome {
        self.outcome
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
    /// When it was published.
    pub(crate) since: Instant,
    pub(crate) deadline: Instant,
    pub(crate) audience: Audience,
    board: Mutex<Board>,
    changed: Notify,
}

#[derive(Default)]
struct Board {
    decides: bool,
    accepted: Option<RelayUrl>,
    entries: BTreeMap<u16, Entry>,
}

impl Board {
    /// Returns the relays whose word counts.
    fn deciding(&self) -> impl Iterator<Item = &Entry> + Clone {
        let by_first =
            self.decides && self.entries.values().any(|entry| entry.is_first && entry.was_connected);
        self.entries.values().filter(move |entry| entry.is_first || !by_first)
    }

    fn is_decided(&self) -> bool {
        let mut deciding = self.deciding();
        deciding.clone().any(|entry| entry.outcome.is_success()) || deciding.all(|entry| entry.last)
    }

    fn has_moved(&self) -> bool {
        let is_full = |entry: &Entry| entry.outcome == RelayOutcome::QueueFull;
        self.accepted.is_some()
            || self.entries.values().all(|entry| entry.last)
            // One relay that is full does not set the pace for those that are not.
            || (self.entries.values().any(is_full) && !self.awaits_any())
    }

    fn awaits_any(&self) -> bool {
        self.entries.values().any(|entry| entry.keeps_pace && !entry.last)
    }
}

struct Entry {
    url: RelayUrl,
    outcome: RelayOutcome,
    last: bool,
    /// It is one of those that matter most.
    is_first: bool,
    /// It was connected when it was expected to answer, or since.
    was_connected: bool,
    /// It was connected and had answered of late.
    keeps_pace: bool,
}

impl Publication {
    pub(crate) fn new(
        event: &PublishEvent,
        audience: Audience,
        (since, deadline): (Instant, Instant),
    ) -> Self {
        Self {
            id: event.id,
            frame: Utf8Bytes::from(format!("[\"EVENT\",{}]", event.json)),
            since,
            deadline,
            audience,
            board: Mutex::new(Board { decides: audience.decides, ..Board::default() }),
            changed: Notify::new(),
        }
    }

    pub(crate) fn expired(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    /// Adds a relay that is expected to answer; one that is connected and does not lag is worth waiting for.
    pub(crate) fn expect(&self, relay: u16, url: RelayUrl, is_connected: bool, lags: bool) {
        let entry = Entry {
            url,
            outcome: RelayOutcome::NotSent,
            last: false,
            is_first: self.audience.is_first(relay),
            was_connected: is_connected,
            keeps_pace: is_connected && !lags,
        };
        self.board().entries.insert(relay, entry);
    }

    /// Whether it may take up a whole queue of this relay, or only half of it.
    pub(crate) const fn matters_to(&self, relay: u16) -> bool {
        self.audience.is_first(relay) && !self.audience.only
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
        let mut board = self.board();
        if let Some(entry) = board.entries.get_mut(&relay).filter(|entry| !entry.last) {
            entry.was_connected = true;
            entry.outcome = RelayOutcome::NoAnswer;
        }
    }

    /// Notes a relay's last word.
    pub(crate) fn settle(&self, relay: u16, outcome: RelayOutcome) {
        let mut board = self.board();
        let Board { accepted, entries, .. } = &mut *board;
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

    /// Waits until the relays that decide have: for the first success, the last refusal, or the deadline.
    pub(crate) async fn report(self: Arc<Self>) -> PublishReport {
        self.until(self.deadline, |board| board.is_decided()).await;
        self.snapshot()
    }

    async fn until(&self, end: Instant, is_done: fn(&Board) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let is_done = is_done(&self.board());
            if is_done || tokio::time::timeout_at(end, changed).await.is_err() {
                return;
            }
        }
    }

    fn snapshot(&self) -> PublishReport {
        let board = self.board();
        let per_relay =
            board.entries.values().map(|entry| (entry.url.clone(), entry.outcome.clone())).collect();
        let outcome = sum_up(board.deciding().map(|entry| &entry.outcome));
        PublishReport { accepted: board.accepted.clone(), per_relay, outcome }
    }

    fn board(&self) -> std::sync::MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An event that was published and of which it is not known yet what became.
///
/// It is sent whether or not somebody waits for it.
pub struct Publishing(Arc<Publication>);

impl Publishing {
    pub(crate) const fn new(publication: Arc<Publication>) -> Self {
        Self(publication)
    }

    /// Waits until a relay has it, a relay has no room for it, or all have spoken, at the latest for
    /// [`Timing::publish`](crate::Timing::publish): who publishes much in a row may go on then.
    pub async fn moved(&self) {
        self.0.until(self.0.deadline, Board::has_moved).await;
    }

    /// Waits, as [`Self::moved`], and besides, for a second at most, for every relay that is connected and answers in time,
    /// so that no relay that works is left behind.
    pub async fn moved_everywhere(&self) {
        let end = (self.0.since + SLOW).min(self.0.deadline);
        self.0.until(end, |board| board.has_moved() && !board.awaits_any()).await;
        self.moved().await;
    }

    /// Returns what became of it, if that is known.
    #[must_use]
    pub fn settled(&self) -> Option<PublishReport> {
        let is_settled = self.0.board().is_decided() || self.0.expired(Instant::now());
        is_settled.then(|| self.0.snapshot())
    }

    /// Waits for the first success at a relay that decides, until all of these have refused, or for
    /// [`Timing::publish`](crate::Timing::publish).
    pub async fn report(self) -> PublishReport {
        self.0.report().await
    }
}

impl std::fmt::Debug for Publishing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Publishing").field(&self.0.id).finish()
    }
}

/// Returns now, and the deadline of something that starts now.
pub(crate) fn lasting(time: Duration) -> (Instant, Instant) {
    let now = Instant::now();
    (now, after(now, time))
}

/// Returns an instant so much later; more than a clock can count is a year.
pub(crate) fn after(instant: Instant, time: Duration) -> Instant {
    instant + time.min(Duration::from_secs(365 * 86_400))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn url(n: u16) -> RelayUrl {
        RelayUrl::parse(&format!("ws://127.0.0.1:{n}")).unwrap()
    }

    /// A publication to connected relays with the numbers from one, of which the second lags.
    fn publication_for(relays: u16, audience: Audience) -> Arc<Publication> {
        let event = PublishEvent { id: EventId::from_slice(&[1; 32]).unwrap(), json: "{}".into() };
        let publication = Publication::new(&event, audience, lasting(Duration::from_secs(60)));
        for relay in 1..=relays {
            publication.expect(relay, url(relay), true, relay == 2);
        }
        Arc::new(publication)
    }

    fn publication(relays: u16) -> Arc<Publication> {
        publication_for(relays, Audience::default())
    }

    /// Only the first relay has the asker.
    const FIRST: Audience = Audience { first: 1 << 1, only: false, decides: true };

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
        assert!(!publication.board().is_decided());
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
        let all = Publishing::new(publication(3));
        all.0.settle(1, RelayOutcome::Accepted);
        all.moved().await;
        assert!(all.moved_everywhere().now_or_never().is_none());
        all.0.settle(3, RelayOutcome::Refused("blocked: no".into()));
        assert!(all.moved_everywhere().now_or_never().is_some());
        assert_eq!(all.report().await.per_relay[1].1, RelayOutcome::NotSent);

        let silent = Publishing::new(publication(1));
        silent.0.sent(1);
        silent.moved_everywhere().await;
        assert_eq!(silent.report().await.outcome(), PublishOutcome::Unknown);
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_falls_silent_is_waited_for_a_second() {
        let publishing = Publishing::new(publication(3));
        publishing.0.settle(1, RelayOutcome::Accepted);
        let start = Instant::now();
        publishing.moved_everywhere().await;
        assert_eq!(start.elapsed().as_secs(), SLOW.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_is_full_does_not_set_the_pace_for_one_that_is_not() {
        let publishing = Publishing::new(publication(2));
        publishing.0.settle(2, RelayOutcome::QueueFull);
        assert!(publishing.moved().now_or_never().is_none());
        publishing.0.settle(1, RelayOutcome::Refused("blocked: no".into()));
        assert!(publishing.moved().now_or_never().is_some());

        // Nor does one that lags, when the only one that keeps pace is full.
        let publishing = Publishing::new(publication(2));
        publishing.0.settle(1, RelayOutcome::QueueFull);
        assert!(publishing.moved().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_word_of_a_relay_where_nobody_asked_counts_for_nothing() {
        let posted = Publishing::new(publication_for(2, FIRST));
        posted.0.sent(1);
        posted.0.settle(2, RelayOutcome::Accepted);
        assert!(posted.moved().now_or_never().is_some(), "who publishes much may go on");
        let report = posted.report().await;
        assert_eq!((report.outcome(), report.accepted), (PublishOutcome::Unknown, Some(url(2))));

        let posted = Publishing::new(publication_for(2, FIRST));
        posted.0.settle(2, RelayOutcome::Accepted);
        posted.0.settle(1, RelayOutcome::QueueFull);
        assert_eq!(posted.report().await.outcome(), PublishOutcome::NotSent);

        let posted = Publishing::new(publication_for(2, FIRST));
        posted.0.settle(1, RelayOutcome::Duplicate);
        assert_eq!(posted.report().await.outcome(), PublishOutcome::Accepted);
    }

    #[tokio::test(start_paused = true)]
    async fn another_relay_counts_while_the_one_where_it_was_asked_is_away() {
        let publication = Publication::new(
            &PublishEvent { id: EventId::from_slice(&[1; 32]).unwrap(), json: "{}".into() },
            FIRST,
            lasting(Duration::from_secs(60)),
        );
        publication.expect(1, url(1), false, true);
        publication.expect(2, url(2), true, false);
        publication.settle(2, RelayOutcome::Accepted);
        assert_eq!(Arc::new(publication).report().await.outcome(), PublishOutcome::Accepted);
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
