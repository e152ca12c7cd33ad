//! C4, C5 and the answers of C10: an answer is what the application returned for this request of this caller.
use std::collections::BTreeMap;

use nostr::key::PublicKey;

use super::known::{Issue, Known};
use super::{Check, Checker, LARGE, Verdict};
use crate::trace::{Call, Digest, Ending, Entry, Host, What};

/// What applications returned.
#[derive(Debug, Default)]
pub(super) struct Answers {
    returned: BTreeMap<(Host, PublicKey, Digest), Vec<(Digest, u64)>>,
    /// For whom a result was meant, to tell a changed answer from one that went astray.
    meant_for: BTreeMap<Digest, (PublicKey, Digest)>,
}

impl Checker for Answers {
    fn see(&mut self, entry: &Entry, known: &Known, verdict: &mut Verdict) {
        match entry.what {
            What::Returned { caller, args, result, bytes } => {
                self.returned.entry((entry.host, caller, args)).or_default().push((result, bytes));
                self.meant_for.entry(result).or_insert((caller, args));
            }
            What::Ended { call, ending: Ending::Answer { result, bytes } } => {
                self.answered(entry, call, (result, bytes), known, verdict);
            }
            _ => {}
        }
    }
}

impl Answers {
    fn answered(
        &self,
        entry: &Entry,
        call: Call,
        answer: (Digest, u64),
        known: &Known,
        verdict: &mut Verdict,
    ) {
        let (Some(issue), Some(me)) = (known.issue(call), known.key(entry.host)) else { return };
        // Whoever reads it, honest or not: an answer for another key is a leak.
        let meant_for = self.meant_for.get(&answer.0);
        if let Some((other, _)) = meant_for.filter(|(caller, _)| *caller != me) {
            verdict.broken(Check::C5, entry, format!("{call:?} ended with an answer for {other}"));
            return;
        }
        let Some(server) = known.host(&issue.to) else { return };
        if !known.is_honest(entry.host) || !known.is_honest(server) || self.holds(server, me, issue, answer) {
            return;
        }
        let (check, why) = match meant_for {
            Some((_, args)) if *args == issue.args => (Check::C4, "that another server returned"),
            Some(_) => (Check::C4, "of another call"),
            None if answer.1 >= LARGE => (Check::C10, "that nobody returned"),
            None => (Check::C4, "that nobody returned"),
        };
        verdict.broken(check, entry, format!("{call:?} ended with an answer of {} bytes {why}", answer.1));
    }

    fn holds(&self, server: Host, me: PublicKey, issue: &Issue, answer: (Digest, u64)) -> bool {
        self.returned.get(&(server, me, issue.args)).is_some_and(|returned| returned.contains(&answer))
    }
}
