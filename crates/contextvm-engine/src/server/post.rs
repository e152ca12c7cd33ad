//! Post: publications whose outcome matters, and answers that wait to be published again.
use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

use contextvm_core::{Limits, Mono};
use nostr::event::EventId;
use nostr::key::PublicKey;

use super::RequestKey;
use crate::{Outcome, Reach, Ticket};

/// Publications whose outcome is awaited at most; a driver that reports every outcome stays far below.
const AWAITED: usize = 8_192;
/// How long an answer that no relay took is tried again.
const LONGEST: Duration = Duration::from_secs(60);
/// Repeats for strangers that may go everywhere in one second; those beyond go where they were asked for.
const SPREAD: u32 = 32;
/// Answers that wait to be published again beyond which that is not done for strangers: they may ask again.
const STRANGE: usize = 512;
const SECOND: Duration = Duration::from_secs(1);

/// What hangs on one publication.
#[derive(Clone, Debug)]
pub(super) struct Publication {
    pub(super) to: PublicKey,
    /// The request that it belongs to.
    pub(super) about: Option<EventId>,
    pub(super) reach: Reach,
    /// The session's epoch, when our discovery tags were on it.
    pub(super) told: Option<u32>,
    pub(super) answer: Option<Answer>,
}

/// An answer that the ledger keeps is tried again until a relay takes it.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) key: RequestKey,
    pub(super) tries: u32,
    pub(super) first: Mono,
}

/// What an outcome means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// Our discovery tags have reached a caller, in this epoch of its session.
    Told(PublicKey, u32),
    /// No relay took the answer to this request.
    Refused(RequestKey),
    Done,
}

#[derive(Debug)]
pub(super) struct Post {
    next: u64,
    awaited: BTreeMap<Ticket, Publication>,
    retries: BTreeMap<(Mono, u64), Publication>,
    /// The answers among both, at most once each.
    trying: BTreeSet<RequestKey>,
    /// Repeats that went everywhere in the second that began then.
    spread: (Mono, u32),
    longest: Duration,
}

impl Post {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            next: 0,
            awaited: BTreeMap::new(),
            retries: BTreeMap::new(),
            trying: BTreeSet::new(),
            spread: (Mono::default(), 0),
            longest: limits.ledger_ttl.min(LONGEST),
        }
    }

    /// Names a publication and remembers what hangs on it.
    pub(super) fn ticket(&mut self, publication: Publication) -> Ticket {
        let ticket = self.next_ticket();
        if publication.told.is_some() || publication.answer.is_some() {
            if self.awaited.len() >= AWAITED
                && let Some((_, oldest)) = self.awaited.pop_first()
            {
                self.gave_up(&oldest);
            }
            self.trying.extend(publication.answer.as_ref().map(|answer| answer.key));
            self.awaited.insert(ticket, publication);
        }
        ticket
    }

    /// Names a publication that somebody else looks after.
    pub(super) const fn next_ticket(&mut self) -> Ticket {
        self.next = self.next.wrapping_add(1);
        Ticket(self.next)
    }

    /// Takes note of an outcome; an answer that no relay took is scheduled again.
    ///
    /// An answer is given up when nothing is tried any more: [`Self::is_trying`].
    pub(super) fn settle(&mut self, ticket: Ticket, outcome: &Outcome, now: Mono) -> Settled {
        let Some(mut publication) = self.awaited.remove(&ticket) else { return Settled::Done };
        match outcome {
            Outcome::Accepted => {
                self.gave_up(&publication);
                let Publication { to, told, .. } = publication;
                return told.map_or(Settled::Done, |epoch| Settled::Told(to, epoch));
            }
            Outcome::Unknown | Outcome::Refused(_) => {}
        }
        let is_crowded = self.retries.len() >= STRANGE && publication.reach == Reach::Asked;
        let Some(answer) = &mut publication.answer else { return Settled::Done };
        let key = answer.key;
        let at = now.after(Duration::from_secs(1 << answer.tries.min(6)));
        answer.tries = answer.tries.saturating_add(1);
        if at <= answer.first.after(self.longest) && self.retries.len() < AWAITED && !is_crowded {
            self.retries.insert((at, ticket.0), publication);
        } else {
            self.gave_up(&publication);
        }
        Settled::Refused(key)
    }

    /// Whether an answer is under way, or is going to be published again.
    pub(super) fn is_trying(&self, key: &RequestKey) -> bool {
        self.trying.contains(key)
    }

    /// Whether one more repeat for a stranger may go everywhere in this second; if so, it is counted.
    pub(super) fn may_spread(&mut self, now: Mono) -> bool {
        let (since, count) = self.spread;
        let count = if now.since(since) >= SECOND { 0 } else { count };
        if count >= SPREAD {
            return false;
        }
        self.spread = if count == 0 { (now, 1) } else { (since, count + 1) };
        true
    }

    /// Nothing more is done about a publication.
    fn gave_up(&mut self, publication: &Publication) {
        if let Some(answer) = &publication.answer {
            self.trying.remove(&answer.key);
        }
    }

    /// Takes an answer that is due to be published again.
    pub(super) fn due(&mut self, now: Mono) -> Option<Publication> {
        let first = self.retries.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let publication = first.remove();
        self.gave_up(&publication);
        Some(publication)
    }

    pub(super) fn next_retry(&self) -> Option<Mono> {
        self.retries.keys().next().map(|(at, _)| *at)
    }

    pub(super) fn len(&self) -> usize {
        self.awaited.len() + self.retries.len()
    }
}
