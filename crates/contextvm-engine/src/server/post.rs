//! Post: publications whose outcome matters, and answers that wait to be published again.
use alloc::collections::BTreeMap;
use core::time::Duration;

use contextvm_core::{Limits, Mono};
use nostr::key::PublicKey;

use super::RequestKey;
use crate::{Outcome, Ticket};

/// Publications whose outcome is awaited at most; a driver that reports every outcome stays far below.
const AWAITED: usize = 8_192;
/// How long an answer that no relay took is tried again.
const LONGEST: Duration = Duration::from_secs(60);

/// What hangs on one publication.
#[derive(Clone, Debug)]
pub(super) struct Publication {
    pub(super) to: PublicKey,
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

#[derive(Debug)]
pub(super) struct Post {
    next: u64,
    awaited: BTreeMap<Ticket, Publication>,
    retries: BTreeMap<(Mono, u64), Publication>,
    longest: Duration,
}

impl Post {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            next: 0,
            awaited: BTreeMap::new(),
            retries: BTreeMap::new(),
            longest: limits.ledger_ttl.min(LONGEST),
        }
    }

    /// Names a publication and remembers what hangs on it.
    pub(super) fn ticket(&mut self, publication: Publication) -> Ticket {
        let ticket = self.next_ticket();
        if publication.told.is_some() || publication.answer.is_some() {
            if self.awaited.len() >= AWAITED {
                self.awaited.pop_first();
            }
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
    /// Returns the caller and the session's epoch when our discovery tags have reached a relay.
    pub(super) fn settle(
        &mut self,
        ticket: Ticket,
        outcome: &Outcome,
        now: Mono,
    ) -> Option<(PublicKey, u32)> {
        let mut publication = self.awaited.remove(&ticket)?;
        match outcome {
            Outcome::Accepted => return Some((publication.to, publication.told?)),
            Outcome::Unknown | Outcome::Refused(_) => {}
        }
        let answer = publication.answer.as_mut()?;
        let at = now.after(Duration::from_secs(1 << answer.tries.min(6)));
        answer.tries = answer.tries.saturating_add(1);
        if at <= answer.first.after(self.longest) && self.retries.len() < AWAITED {
            self.retries.insert((at, ticket.0), publication);
        }
        None
    }

    /// Takes an answer that is due to be published again.
    pub(super) fn due(&mut self, now: Mono) -> Option<Publication> {
        let first = self.retries.first_entry()?;
        if first.key().0 > now { None } else { Some(first.remove()) }
    }

    pub(super) fn next_retry(&self) -> Option<Mono> {
        self.retries.keys().next().map(|(at, _)| *at)
    }

    pub(super) fn len(&self) -> usize {
        self.awaited.len() + self.retries.len()
    }
}
