//! C2, C3 and C5 for notifications: whoever hears something, it was said to it, and no oftener than it was said.
use std::collections::BTreeMap;

use nostr::key::PublicKey;

use super::known::Known;
use super::{Check, Checker, Verdict};
use crate::trace::{Digest, Entry, Host, What};

/// What was said, and what was heard.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// How often a host said something, to one peer (`Some`) or to all.
    told: BTreeMap<(Host, Digest, Option<PublicKey>), u64>,
    heard: BTreeMap<(Host, u32, Host, Digest), u64>,
}

impl Checker for Notices {
    fn see(&mut self, entry: &Entry, known: &Known, verdict: &mut Verdict) {
        match entry.what {
            What::Told { to, said } => *self.told.entry((entry.host, said, to)).or_default() += 1,
            What::Heard { from, said } => self.heard(entry, &from, said, known, verdict),
            _ => {}
        }
    }
}

impl Notices {
    fn heard(&mut self, entry: &Entry, from: &PublicKey, said: Digest, known: &Known, verdict: &mut Verdict) {
        let Some(speaker) = known.host(from) else {
            verdict.broken(Check::C3, entry, "heard a key that nobody has".to_owned());
            return;
        };
        let Some(me) = known.key(entry.host) else { return };
        let count = |to| self.told.get(&(speaker, said, to)).copied().unwrap_or_default();
        let told = count(Some(me)) + count(None);
        if told == 0 {
            if self.told.keys().any(|(by, what, _)| *by == speaker && *what == said) {
                let why = format!("heard what {speaker:?} said to another");
                verdict.broken(Check::C5, entry, why);
            } else if known.is_honest(speaker) && known.is_honest(entry.host) {
                verdict.broken(Check::C3, entry, format!("heard what {speaker:?} never said"));
            }
            return;
        }
        let heard = self.heard.entry((entry.host, known.life(entry.host), speaker, said)).or_default();
        *heard += 1;
        if *heard > told && known.is_honest(speaker) && known.is_honest(entry.host) {
            let why = format!("heard {heard} times what {speaker:?} said {told} times");
            verdict.broken(Check::C2, entry, why);
        }
    }
}
