//! Publications that nobody answers: notifications, and answers to requests of the server.
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use contextvm_core::Mono;

use super::chance::Chance;
use super::retry::{NOT_SENT_WINDOW, SAME_EVENT_GAP, resend_delay};
use crate::{Outcome, Ticket};

#[derive(Debug)]
struct Loose {
    give_up: Mono,
    last_out: Mono,
    same_at: Option<Mono>,
    refusals: u32,
}

/// What to do with one of them now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Publish the same outer event again.
    Again(Ticket),
    /// Nothing more can be done for it.
    Forget(Ticket),
}

/// Loose publications whose outcome is not known yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct LooseEnds {
    open: BTreeMap<Ticket, Loose>,
}

impl LooseEnds {
    /// Registers one; when there are too many the oldest is given up.
    pub(super) fn insert(&mut self, ticket: Ticket, now: Mono, most: usize) -> Option<Step> {
        let given_up = if self.open.len() >= most.max(1) { self.open.pop_first() } else { None };
        let loose = Loose { give_up: now.after(NOT_SENT_WINDOW), last_out: now, same_at: None, refusals: 0 };
        self.open.insert(ticket, loose);
        given_up.map(|(old, _)| Step::Forget(old))
    }

    /// Takes an outcome; an uncertain one counts as sent.
    pub(super) fn outcome(
        &mut self,
        ticket: Ticket,
        outcome: &Outcome,
        now: Mono,
        chance: &mut Chance,
    ) -> Option<Step> {
        let loose = self.open.get_mut(&ticket)?;
        match outcome {
            Outcome::Accepted | Outcome::Unknown => {}
            Outcome::Refused(_) => {
                let at = now.after(resend_delay(loose.refusals, chance));
                if at < loose.give_up {
                    loose.refusals = loose.refusals.saturating_add(1);
                    loose.same_at = Some(at);
                    return None;
                }
            }
        }
        self.open.remove(&ticket);
        Some(Step::Forget(ticket))
    }

    /// A relay came up: what was refused may go now.
    pub(super) fn relay_up(&mut self, now: Mono) {
        for loose in self.open.values_mut() {
            if let Some(at) = loose.same_at {
                loose.same_at = Some(at.min(now.max(loose.last_out.after(SAME_EVENT_GAP))));
            }
        }
    }

    /// Returns what is due.
    pub(super) fn wake(&mut self, now: Mono) -> Vec<Step> {
        let due = self.open.iter_mut().filter(|(_, loose)| loose.same_at.is_some_and(|at| at <= now));
        due.map(|(ticket, loose)| {
            loose.same_at = None;
            loose.last_out = now;
            Step::Again(*ticket)
        })
        .collect()
    }

    /// Stops all retries: what is on its way still reports its outcome.
    pub(super) fn close(&mut self) -> Vec<Step> {
        let waiting: Vec<Ticket> = self
            .open
            .iter()
            .filter(|(_, loose)| loose.same_at.is_some())
            .map(|(ticket, _)| *ticket)
            .collect();
        for loose in self.open.values_mut() {
            loose.give_up = Mono::default();
        }
        waiting.into_iter().filter(|ticket| self.open.remove(ticket).is_some()).map(Step::Forget).collect()
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn next_due(&self) -> Option<Mono> {
        self.open.values().filter_map(|loose| loose.same_at).min()
    }
}
