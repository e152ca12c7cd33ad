//! C5 of what leaves: an answer is sealed for the key that asked, whether or not anybody can read it.
use std::collections::BTreeMap;

use nostr::event::EventId;
use nostr::key::PublicKey;

use super::known::Known;
use super::{Check, Checker, Verdict};
use crate::trace::{Digest, Entry, Host, What};

/// Who signed what, and for whom an answer is.
#[derive(Debug, Default)]
pub(super) struct Recipients {
    authors: BTreeMap<EventId, Host>,
    /// `None` for what several keys were answered alike.
    answers: BTreeMap<Digest, Option<PublicKey>>,
}

impl Checker for Recipients {
    fn see(&mut self, entry: &Entry, known: &Known, verdict: &mut Verdict) {
        match entry.what {
            What::Returned { caller, result, .. } => {
                let of = self.answers.entry(result).or_insert(Some(caller));
                *of = of.filter(|of| *of == caller);
            }
            What::Signed { id, to, about, answer, .. } => {
                self.authors.entry(id).or_insert(entry.host);
                if known.is_honest(entry.host) {
                    self.sealed(entry, (id, to), about, answer, (known, verdict));
                }
            }
            _ => {}
        }
    }
}

impl Recipients {
    fn sealed(
        &self,
        entry: &Entry,
        (id, to): (EventId, PublicKey),
        about: Option<EventId>,
        answer: Option<Digest>,
        (known, verdict): (&Known, &mut Verdict),
    ) {
        let asked = about.and_then(|about| self.authors.get(&about)).and_then(|host| known.key(*host));
        let meant = answer.and_then(|answer| self.answers.get(&answer).copied().flatten());
        if let Some(other) = [asked, meant].into_iter().flatten().find(|other| *other != to) {
            verdict.broken(Check::C5, entry, format!("{id} is sealed for {to} and answers {other}"));
        }
    }
}
