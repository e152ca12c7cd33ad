//! Publications waiting for one relay: not yet sent, or sent and unanswered.
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nostr::event::EventId;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::publish::{Publication, RelayOutcome, SLOW};

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
    /// When the relay took our authentication on this connection.
    authenticated: Option<Instant>,
    /// It left something unanswered, said that it is rate-limited, or was slow to take the last event.
    lags: bool,
}

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
    /// `auth-required:` after authentication has ended: final, but for what went out before the relay took our answer.
    Unauthorized,
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
            authenticated: None,
            lags: false,
        };
        Self { relay, most_events, most_bytes, state: Mutex::new(state) }
    }

    /// Queues a publication, or settles it when there is no room: for what does not matter to this relay, half of the
    /// queue, and nothing while the relay is behind.
    pub(crate) fn push(&self, publication: &Arc<Publication>, now: Instant) {
        let mut state = self.state();
        let size = publication.frame.len();
        if !self.fits(&state, publication, now) {
            state.drop_expired(now);
        }
        if self.fits(&state, publication, now) {
            state.bytes = state.bytes.saturating_add(size);
            state.queue.push_back(Arc::clone(publication));
        } else {
            drop(state);
            publication.settle(self.relay, RelayOutcome::QueueFull);
        }
    }

    fn fits(&self, state: &State, publication: &Publication, now: Instant) -> bool {
        let part = if publication.matters_to(self.relay) { 1 } else { 2 };
        // What is behind and has nothing to do may show that it is back.
        let is_behind = state.lags(now) && !(state.queue.is_empty() && state.sent.is_empty());
        state.queue.len() < self.most_events.div_ceil(part)
            && state.bytes.saturating_add(publication.frame.len()) <= self.most_bytes.div_ceil(part)
            && (publication.audience.is_first(self.relay) || !is_behind)
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
        let authenticated = state.authenticated;
        let sent = state.sent.get_mut(id)?;
        let took = now - sent.at;
        let is_early = authenticated.is_some_and(|at| sent.at <= at);
        let refused = RelayOutcome::Refused(text.to_owned());
        let last = match answer {
            Answer::Success(RelaySuccess::New) => RelayOutcome::Accepted,
            Answer::Success(RelaySuccess::Old) => RelayOutcome::Duplicate,
            // It may judge events and our authentication side by side.
            Answer::Unauthorized if is_early => {
                let again = state.forget(id);
                state.put_back(again, now);
                return Some(took);
            }
            Answer::No | Answer::Unauthorized => refused,
            // It was said before, and nothing came of it yet.
            Answer::Authenticate if sent.parked => return None,
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
        state.authenticated = Some(now);
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
        (state.paused, state.authenticated) = (None, None);
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
    pub(crate) fn lags(&self, now: Instant) -> bool {
        self.state().lags(now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether it was behind when it last showed itself, or has left something waiting for too long since.
    fn lags(&self, now: Instant) -> bool {
        let oldest = self.order.first_key_value().and_then(|(_, id)| self.sent.get(id)).map(|sent| sent.at);
        let first = self.queue.front().map(|publication| publication.since);
        self.lags || [oldest, first].into_iter().flatten().any(|since| now > since + SLOW)
    }

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
            Some(sent) => {
                sent.at = now;
                sent.publications.push(publication);
            }
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
mod tests;
