//! Publications waiting for one relay: not yet sent, or sent and unanswered.
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nostr::event::EventId;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::publish::{Publication, RelayOutcome};

/// How many times the bound of the queue may be sent and unanswered before the oldest are forgotten.
const UNANSWERED: usize = 8;

/// The bounded queue of one relay. It never blocks; what does not fit is settled as [`RelayOutcome::QueueFull`].
pub(crate) struct Outbox {
    relay: u16,
    most_events: usize,
    most_bytes: usize,
    state: Mutex<State>,
}

struct State {
    queue: VecDeque<Arc<Publication>>,
    bytes: usize,
    sent: BTreeMap<EventId, Sent>,
    order: BTreeMap<u64, EventId>,
    sent_bytes: usize,
    next: u64,
    paused: Option<Instant>,
    pause: Backoff,
    /// It left something unanswered, said that it is rate-limited, or was slow to take the last event.
    lags: bool,
}

/// A relay that takes longer to take an event is not waited for.
const SLOW: Duration = Duration::from_secs(1);

struct Sent {
    number: u64,
    at: Instant,
    publications: Vec<Arc<Publication>>,
    /// Refused for want of authentication, which is under way.
    parked: bool,
}

/// What the writer is to do next.
pub(crate) enum Take {
    /// Send this.
    Send(Arc<Publication>),
    /// Nothing may be sent before this instant, or before something is pushed.
    Wait(Option<Instant>),
}

/// A relay's answer to a publication, as read from its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// `true`, or `false` with `duplicate:`.
    Success(RelaySuccess),
    /// `auth-required:` while authentication can still change the answer.
    Authenticate,
    /// `rate-limited:`.
    Later,
    /// Anything else.
    No,
}

/// The two ways in which a relay may have an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelaySuccess {
    /// It has it now.
    New,
    /// It had it before.
    Old,
}

impl Outbox {
    pub(crate) fn new(relay: u16, most_events: usize, most_bytes: usize, pause: Backoff) -> Self {
        let state = State {
            queue: VecDeque::new(),
            bytes: 0,
            sent: BTreeMap::new(),
            order: BTreeMap::new(),
            sent_bytes: 0,
            next: 0,
            paused: None,
            pause,
            lags: false,
        };
        Self { relay, most_events, most_bytes, state: Mutex::new(state) }
    }

    /// Queues a publication, or settles it when there is no room.
    pub(crate) fn push(&self, publication: &Arc<Publication>, now: Instant) {
        let mut state = self.state();
        let size = publication.frame.len();
        if !self.fits(&state, size) {
            state.drop_expired(now);
        }
        if self.fits(&state, size) {
            state.bytes = state.bytes.saturating_add(size);
            state.queue.push_back(Arc::clone(publication));
        } else {
            drop(state);
            publication.settle(self.relay, RelayOutcome::QueueFull);
        }
    }

    fn fits(&self, state: &State, size: usize) -> bool {
        state.queue.len() < self.most_events && state.bytes.saturating_add(size) <= self.most_bytes
    }

    /// Takes the next publication whose deadline has not passed and counts it as sent.
    pub(crate) fn take(&self, now: Instant) -> Take {
        let mut state = self.state();
        let most_events = self.most_events.saturating_mul(UNANSWERED);
        state.forget_oldest(most_events, self.most_bytes.saturating_mul(UNANSWERED), now);
        match state.paused {
            Some(until) if until > now => return Take::Wait(Some(until)),
            Some(_) | None => state.paused = None,
        }
        while let Some(publication) = state.pop() {
            if publication.expired(now) {
                state.lags = true;
                continue;
            }
            state.remember(Arc::clone(&publication), now);
            drop(state);
            publication.sent(self.relay);
            return Take::Send(publication);
        }
        Take::Wait(None)
    }

    /// Takes in a relay's answer; returns the time it took, or `None` for an event that nobody waits for.
    pub(crate) fn answered(
        &self,
        id: &EventId,
        answer: Answer,
        text: &str,
        now: Instant,
    ) -> Option<Duration> {
        let mut state = self.state();
        let sent = state.sent.get_mut(id)?;
        let took = now - sent.at;
        let refused = RelayOutcome::Refused(text.to_owned());
        let last = match answer {
            Answer::Success(RelaySuccess::New) => RelayOutcome::Accepted,
            Answer::Success(RelaySuccess::Old) => RelayOutcome::Duplicate,
            Answer::No => refused,
            Answer::Authenticate | Answer::Later => {
                for publication in &sent.publications {
                    publication.note(self.relay, refused.clone());
                }
                sent.parked = answer == Answer::Authenticate;
                if answer == Answer::Later {
                    state.lags = true;
                    let again = state.forget(id);
                    state.rest(now);
                    state.put_back(again, now);
                }
                return Some(took);
            }
        };
        if last.is_success() {
            state.pause.reset();
            state.lags = took > SLOW;
        }
        let publications = state.forget(id);
        drop(state);
        for publication in publications {
            publication.settle(self.relay, last.clone());
        }
        Some(took)
    }

    /// Queues again what was refused for want of authentication.
    pub(crate) fn authenticated(&self, now: Instant) {
        let mut state = self.state();
        let parked = state.take_parked();
        state.put_back(parked, now);
    }

    /// Settles what was refused for want of authentication.
    pub(crate) fn not_authenticated(&self, text: &str) {
        let parked = self.state().take_parked();
        for publication in parked {
            publication.settle(self.relay, RelayOutcome::Refused(text.to_owned()));
        }
    }

    /// Queues again what the lost connection left without an answer; drops what is too old.
    pub(crate) fn disconnected(&self, now: Instant) {
        let mut state = self.state();
        let again = state.take_sent();
        state.paused = None;
        state.put_back(again, now);
        state.drop_expired(now);
    }

    /// Gives everything up because the relay was removed.
    pub(crate) fn abandon(&self) {
        let mut state = self.state();
        let mut all = state.take_sent();
        all.extend(std::mem::take(&mut state.queue));
        state.bytes = 0;
        drop(state);
        for publication in all {
            publication.abandon(self.relay);
        }
    }

    /// How many publications wait to be sent.
    pub(crate) fn len(&self) -> usize {
        self.state().queue.len()
    }

    /// Whether the relay is behind: nobody should wait for it.
    pub(crate) fn lags(&self) -> bool {
        self.state().lags
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn pop(&mut self) -> Option<Arc<Publication>> {
        let publication = self.queue.pop_front()?;
        self.bytes = self.bytes.saturating_sub(publication.frame.len());
        Some(publication)
    }

    fn remember(&mut self, publication: Arc<Publication>, now: Instant) {
        self.sent_bytes = self.sent_bytes.saturating_add(publication.frame.len());
        let number = self.next;
        let id = publication.id;
        match self.sent.get_mut(&id) {
            Some(sent) => sent.publications.push(publication),
            None => {
                self.next += 1;
                self.order.insert(number, id);
                self.sent
                    .insert(id, Sent { number, at: now, publications: vec![publication], parked: false });
            }
        }
    }

    fn forget(&mut self, id: &EventId) -> Vec<Arc<Publication>> {
        let Some(Sent { number, publications, .. }) = self.sent.remove(id) else {
            return Vec::new();
        };
        self.order.remove(&number);
        for publication in &publications {
            self.sent_bytes = self.sent_bytes.saturating_sub(publication.frame.len());
        }
        publications
    }

    /// Forgets the oldest unanswered publications: those whose deadline has passed, and those beyond the bounds.
    fn forget_oldest(&mut self, most_events: usize, most_bytes: usize, now: Instant) {
        while let Some((_, &id)) = self.order.first_key_value()
            && (self.order.len() > most_events || self.sent_bytes > most_bytes || self.has_expired(&id, now))
        {
            self.lags = true;
            self.forget(&id);
        }
    }

    fn has_expired(&self, id: &EventId, now: Instant) -> bool {
        self.sent
            .get(id)
            .is_none_or(|sent| sent.publications.iter().all(|publication| publication.expired(now)))
    }

    /// Takes out everything unanswered, oldest first.
    fn take_sent(&mut self) -> Vec<Arc<Publication>> {
        let order = std::mem::take(&mut self.order);
        order.values().flat_map(|id| self.forget(id)).collect()
    }

    /// Takes out what was refused for want of authentication, oldest first.
    fn take_parked(&mut self) -> Vec<Arc<Publication>> {
        let parked = |id: &&EventId| self.sent.get(*id).is_some_and(|sent| sent.parked);
        let ids: Vec<EventId> = self.order.values().filter(parked).copied().collect();
        ids.iter().flat_map(|id| self.forget(id)).collect()
    }

    /// Puts publications back at the head of the queue, in their order.
    fn put_back(&mut self, publications: Vec<Arc<Publication>>, now: Instant) {
        for publication in publications.into_iter().rev().filter(|publication| !publication.expired(now)) {
            self.bytes = self.bytes.saturating_add(publication.frame.len());
            self.queue.push_front(publication);
        }
    }

    fn drop_expired(&mut self, now: Instant) {
        let before = self.queue.len();
        self.queue.retain(|publication| !publication.expired(now));
        self.lags |= self.queue.len() < before;
        self.bytes = self.queue.iter().map(|publication| publication.frame.len()).sum();
    }

    /// Stops sending for a while, once per burst of refusals.
    fn rest(&mut self, now: Instant) {
        if self.paused.is_none() {
            let pause = self.pause.next_upper(crate::backoff::draw());
            self.paused = Some(now + pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::PublishEvent;
    use nostr::types::RelayUrl;

    const SECOND: Duration = Duration::from_secs(1);

    fn outbox(events: usize, bytes: usize) -> Outbox {
        Outbox::new(1, events, bytes, Backoff::new(SECOND, SECOND * 60))
    }

    fn publication(byte: u8, deadline: Instant) -> Arc<Publication> {
        let event = PublishEvent { id: EventId::from_slice(&[byte; 32]).unwrap(), json: "{}".into() };
        let publication = Publication::new(&event, deadline);
        publication.expect(1, RelayUrl::parse("ws://127.0.0.1:1").unwrap(), true);
        Arc::new(publication)
    }

    fn taken(outbox: &Outbox, now: Instant) -> Option<u8> {
        match outbox.take(now) {
            Take::Send(publication) => Some(publication.id.as_bytes()[0]),
            Take::Wait(_) => None,
        }
    }

    async fn outcome(publication: &Arc<Publication>) -> RelayOutcome {
        Arc::clone(publication).report().await.per_relay[0].1.clone()
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_at_once_by_count_and_by_bytes() {
        let now = Instant::now();
        let size = publication(1, now).frame.len();
        for outbox in [outbox(2, 1_000), outbox(1_000, 2 * size)] {
            let all: Vec<_> = (1..=3).map(|byte| publication(byte, now + SECOND)).collect();
            for publication in &all {
                outbox.push(publication, now);
            }
            assert_eq!(outcome(&all[2]).await, RelayOutcome::QueueFull);
            assert_eq!(
                [taken(&outbox, now), taken(&outbox, now), taken(&outbox, now)],
                [Some(1), Some(2), None]
            );
        }
    }

    #[tokio::test]
    async fn what_is_too_old_makes_room_and_is_never_sent() {
        let now = Instant::now();
        let outbox = outbox(1, 1_000);
        outbox.push(&publication(1, now + SECOND), now);
        outbox.push(&publication(2, now + SECOND * 9), now + SECOND);
        assert_eq!(taken(&outbox, now + SECOND * 2), Some(2));
        outbox.push(&publication(3, now + SECOND * 3), now + SECOND * 2);
        assert_eq!(taken(&outbox, now + SECOND * 3), None);
    }

    #[tokio::test]
    async fn a_lost_connection_puts_unanswered_publications_first_in_their_order() {
        let now = Instant::now();
        let outbox = outbox(10, 10_000);
        for (byte, deadline) in
            [(1, SECOND), (2, SECOND * 9), (3, SECOND * 9), (4, SECOND * 9), (5, SECOND * 9)]
        {
            outbox.push(&publication(byte, now + deadline), now);
        }
        for _ in 0..4 {
            taken(&outbox, now);
        }
        let id = EventId::from_slice(&[3; 32]).unwrap();
        assert!(outbox.answered(&id, Answer::No, "no", now).is_some());
        outbox.disconnected(now + SECOND);
        let again: Vec<_> = std::iter::from_fn(|| taken(&outbox, now + SECOND)).collect();
        assert_eq!(again, [2, 4, 5]);
    }

    #[tokio::test]
    async fn a_rate_limit_pauses_everything_and_the_refused_event_goes_first() {
        let now = Instant::now();
        let outbox = outbox(10, 10_000);
        let first = publication(1, now + SECOND * 9);
        outbox.push(&first, now);
        outbox.push(&publication(2, now + SECOND * 9), now);
        assert_eq!(taken(&outbox, now), Some(1));
        outbox.answered(&first.id, Answer::Later, "rate-limited: slow", now);
        let Take::Wait(Some(until)) = outbox.take(now) else { panic!("it must pause") };
        assert!(until - now >= SECOND / 2 && until - now <= SECOND);
        assert_eq!([taken(&outbox, until), taken(&outbox, until)], [Some(1), Some(2)]);
        outbox.answered(&first.id, Answer::Success(RelaySuccess::New), "", until);
        assert_eq!(outcome(&first).await, RelayOutcome::Accepted);
    }

    #[test]
    fn a_relay_lags_from_what_it_left_unanswered_to_the_next_that_it_takes() {
        let now = Instant::now();
        let outbox = outbox(10, 10_000);
        let (first, second) = (publication(1, now + SECOND), publication(2, now + SECOND * 9));
        outbox.push(&first, now);
        outbox.push(&second, now);
        assert_eq!((taken(&outbox, now + SECOND), outbox.lags()), (Some(2), true));
        outbox.answered(&second.id, Answer::Success(RelaySuccess::New), "", now + SECOND);
        assert!(!outbox.lags());
    }

    #[tokio::test]
    async fn what_awaits_authentication_is_sent_again_or_refused() {
        let now = Instant::now();
        let outbox = outbox(10, 10_000);
        let event = publication(1, now + SECOND * 9);
        outbox.push(&event, now);
        taken(&outbox, now);
        outbox.answered(&event.id, Answer::Authenticate, "auth-required: who", now);
        assert_eq!(taken(&outbox, now), None);
        outbox.authenticated(now);
        assert_eq!(taken(&outbox, now), Some(1));
        outbox.answered(&event.id, Answer::Authenticate, "auth-required: who", now);
        outbox.not_authenticated("restricted: not you");
        assert_eq!(outcome(&event).await, RelayOutcome::Refused("restricted: not you".to_owned()));
    }

    #[test]
    fn unanswered_publications_are_forgotten_in_the_end() {
        let now = Instant::now();
        let outbox = outbox(1, 10_000);
        for byte in 0..20 {
            outbox.push(&publication(byte, now + SECOND), now);
            assert_eq!(taken(&outbox, now), Some(byte));
        }
        assert_eq!(taken(&outbox, now), None);
        assert_eq!(outbox.state().sent.len(), UNANSWERED);
        assert_eq!(outbox.state().sent_bytes, UNANSWERED * publication(1, now).frame.len());
    }

    #[test]
    fn a_relay_that_never_answers_costs_no_memory_after_the_deadline() {
        let now = Instant::now();
        let outbox = outbox(10, 10_000);
        for byte in 0..8 {
            outbox.push(&publication(byte, now + SECOND), now);
            taken(&outbox, now);
        }
        let refused = EventId::from_slice(&[3; 32]).unwrap();
        outbox.answered(&refused, Answer::Authenticate, "auth-required: who", now);
        assert_eq!(outbox.state().sent.len(), 8);
        assert!(!outbox.lags());
        assert_eq!(taken(&outbox, now + SECOND), None);
        assert!(outbox.lags());
        let state = outbox.state();
        assert_eq!((state.sent.len(), state.order.len(), state.sent_bytes), (0, 0, 0));
    }
}
