//! One-shot publications: some events, a few relays, and the last word of each of them.
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contextvm_core::Limits;
use contextvm_core::frame;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use nostr::event::EventId;
use nostr::types::RelayUrl;
use tokio::time::{Instant, timeout_at};

use crate::auth::AuthSigner;
use crate::dial::{Addresses, Dialer};
use crate::error::{DialError, RelayError};
use crate::link::printable;
use crate::oneshot::{Heard, Line, unique};
use crate::publish::{PublishEvent, PublishOutcome, RelayOutcome, after, sum_up};

/// Events to be published once, at several relays, each of which is waited for.
///
/// [`Relays::publish`](crate::Relays::publish) reports at the first success and keeps its connections; this does neither.
#[derive(Clone)]
pub struct Post {
    /// What is published, in this order.
    pub events: Vec<PublishEvent>,
    /// Answers relays that ask who we are (NIP-42); without it they are told nothing.
    pub signer: Option<Arc<dyn AuthSigner>>,
    /// Which network addresses may be dialled.
    pub addresses: Addresses,
    /// Longest wait over all; 10 s.
    pub deadline: Duration,
    /// Bounds; `relay_frame` is used here.
    pub limits: Limits,
}

impl Post {
    /// Prepares a publication with the default bounds.
    #[must_use]
    pub fn new(events: Vec<PublishEvent>) -> Self {
        Self {
            events,
            signer: None,
            addresses: Addresses::Any,
            deadline: Duration::from_secs(10),
            limits: Limits::default(),
        }
    }

    /// Sets who answers a relay's challenge.
    #[must_use]
    pub fn with_signer(mut self, signer: Arc<dyn AuthSigner>) -> Self {
        self.signer = Some(signer);
        self
    }

    /// Restricts which network addresses may be dialled.
    #[must_use]
    pub const fn with_addresses(mut self, addresses: Addresses) -> Self {
        self.addresses = addresses;
        self
    }

    /// Sets the longest wait.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Publishes all events at all relays at once and returns when each has said its last word, or at the deadline.
    ///
    /// A relay that demands authentication gets it and the events once more.
    ///
    /// # Errors
    /// Returns why nothing could be begun on this side. Relays that fail are in the report.
    pub async fn to(&self, urls: &[RelayUrl]) -> Result<PostReport, RelayError> {
        let dialer = Dialer::new(self.limits.relay_frame, self.deadline)?;
        let start = Instant::now();
        let slots: Vec<Slot> =
            unique(urls).into_iter().map(|url| Slot::new(url, self.events.len(), start)).collect();
        let mut running: FuturesUnordered<_> =
            slots.iter().map(|slot| self.post_one(&dialer, slot)).collect();
        let until = after(start, self.deadline);
        while let Ok(Some(())) = timeout_at(until, running.next()).await {}
        drop(running);
        Ok(self.report(slots, start.elapsed()))
    }

    async fn post_one(&self, dialer: &Dialer, slot: &Slot) {
        match Line::open(dialer, &slot.url, self.addresses, self.signer.clone()).await {
            Ok((mut line, _)) => match self.converse(&mut line, slot).await {
                Ok(()) => line.close().await,
                Err(reason) => slot.board().failed = Some(reason),
            },
            Err(error) => slot.board().failed = Some(printable(&error.to_string())),
        }
    }

    /// Sends everything and takes in the answers; the error is why there were no more.
    async fn converse(&self, line: &mut Line<'_>, slot: &Slot) -> Result<(), String> {
        let all: Vec<usize> = (0..self.events.len()).collect();
        self.send(line, slot, &all).await?;
        let mut parked = Vec::new();
        while !slot.is_settled() {
            match line.hear().await? {
                Heard::Ok { id, accepted, text } => {
                    let mut events = self.events.iter().enumerate();
                    let open = events.find(|(index, event)| event.id == id && slot.awaits(*index));
                    let Some((index, _)) = open else {
                        continue;
                    };
                    if !accepted && line.must_authenticate(&text) {
                        slot.note(index, RelayOutcome::Refused(text));
                        parked.push(index);
                    } else {
                        slot.settle(index, outcome(accepted, text));
                    }
                }
                Heard::Authenticated => {
                    let again = std::mem::take(&mut parked);
                    self.send(line, slot, &again).await?;
                }
                Heard::NotAuthenticated(text) => {
                    for index in parked.drain(..) {
                        slot.settle(index, RelayOutcome::Refused(text.clone()));
                    }
                }
                // Nothing was asked.
                Heard::Event { .. } | Heard::EndOfStored { .. } | Heard::Closed { .. } => {}
            }
        }
        Ok(())
    }

    async fn send(&self, line: &mut Line<'_>, slot: &Slot, which: &[usize]) -> Result<(), String> {
        for (index, event) in self.events.iter().enumerate().filter(|(index, _)| which.contains(index)) {
            // From here on it may arrive.
            slot.note(index, RelayOutcome::NoAnswer);
            line.say(frame::event(&event.json)).await?;
        }
        Ok(())
    }

    fn report(&self, slots: Vec<Slot>, waited: Duration) -> PostReport {
        let mut events: Vec<Posted> =
            self.events.iter().map(|event| Posted { id: event.id, per_relay: Vec::new() }).collect();
        let mut failed = Vec::new();
        for Slot { url, board, .. } in slots {
            let board = board.into_inner().unwrap_or_else(PoisonError::into_inner);
            let unsent = board.outcomes.iter().all(|(outcome, _)| *outcome == RelayOutcome::NotSent);
            // The time over all runs out a little earlier than that of the connection, which would have said this.
            let out_of_time = || unsent.then(|| DialError::Timeout(self.deadline).to_string());
            let reason = board.failed.or_else(out_of_time);
            for (posted, (outcome, took)) in events.iter_mut().zip(board.outcomes) {
                let took = took.unwrap_or(waited);
                posted.per_relay.push(PostAnswer { url: url.clone(), outcome, took });
            }
            failed.extend(reason.map(|reason| (url, reason)));
        }
        PostReport { events, failed }
    }
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post")
            .field("events", &self.events)
            .field("deadline", &self.deadline)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// What became of one-shot publications, event by event and relay by relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostReport {
    /// Every event, in the order in which they were given.
    pub events: Vec<Posted>,
    /// Relays that could not be reached or broke off, with the (printable) reason.
    pub failed: Vec<(RelayUrl, String)>,
}

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// The event.
    pub id: EventId,
    /// Every relay once, in the order in which they were given.
    pub per_relay: Vec<PostAnswer>,
}

impl Posted {
    /// Sums the outcomes up.
    #[must_use]
    pub fn outcome(&self) -> PublishOutcome {
        sum_up(self.per_relay.iter().map(|answer| &answer.outcome))
    }

    /// Lists the relays that have the event.
    pub fn accepted(&self) -> impl Iterator<Item = &RelayUrl> {
        self.per_relay.iter().filter(|answer| answer.outcome.is_success()).map(|answer| &answer.url)
    }
}

/// What one relay made of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostAnswer {
    /// The relay.
    pub url: RelayUrl,
    /// Its last word, or how far it came.
    pub outcome: RelayOutcome,
    /// Time from the start to the last word, connecting included; without one, the whole wait.
    pub took: Duration,
}

/// One relay while it is posted to; what it has said survives the end of the wait.
struct Slot {
    url: RelayUrl,
    start: Instant,
    board: Mutex<Board>,
}

struct Board {
    /// Per event how far it has come, and when the relay said its last word.
    outcomes: Vec<(RelayOutcome, Option<Duration>)>,
    failed: Option<String>,
}

impl Slot {
    fn new(url: RelayUrl, events: usize, start: Instant) -> Self {
        let outcomes = vec![(RelayOutcome::NotSent, None); events];
        Self { url, start, board: Mutex::new(Board { outcomes, failed: None }) }
    }

    fn note(&self, index: usize, outcome: RelayOutcome) {
        if let Some(entry @ (_, None)) = self.board().outcomes.get_mut(index) {
            entry.0 = outcome;
        }
    }

    fn settle(&self, index: usize, outcome: RelayOutcome) {
        let took = self.start.elapsed();
        if let Some(entry @ (_, None)) = self.board().outcomes.get_mut(index) {
            *entry = (outcome, Some(took));
        }
    }

    fn awaits(&self, index: usize) -> bool {
        self.board().outcomes.get(index).is_some_and(|(_, took)| took.is_none())
    }

    fn is_settled(&self) -> bool {
        self.board().outcomes.iter().all(|(_, took)| took.is_some())
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a relay's verdict; some relays refuse what they have already.
pub(crate) fn outcome(accepted: bool, text: String) -> RelayOutcome {
    if text.starts_with("duplicate:") {
        RelayOutcome::Duplicate
    } else if accepted {
        RelayOutcome::Accepted
    } else {
        RelayOutcome::Refused(text)
    }
}
