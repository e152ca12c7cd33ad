//! C6: with an honest path between them, a call of a client to a server ends in time and is not lost.
use std::collections::BTreeMap;

use super::known::{Issue, Known};
use super::{Check, Checker, Expect, Verdict};
use crate::trace::{Call, Ending, Entry, Host, What};
use contextvm_engine::client::Lost;

/// An application that answered less than this before the end may be why the call was lost, microseconds.
const LATE: u64 = 15_000_000;

/// Since when which pairs have a path, and how far the calls came.
#[derive(Debug, Default)]
pub(super) struct Paths {
    ends_within: u64,
    complete: bool,
    good: BTreeMap<(u16, u16), u64>,
    executed: BTreeMap<Call, Option<u64>>,
}

impl Paths {
    pub(super) fn new(expect: &Expect) -> Self {
        Self { ends_within: expect.ends_within, complete: expect.complete, ..Self::default() }
    }
}

impl Checker for Paths {
    fn see(&mut self, entry: &Entry, known: &Known, verdict: &mut Verdict) {
        match &entry.what {
            What::Path { client, server, good: true } => {
                self.good.entry((*client, *server)).or_insert(entry.at);
            }
            What::Path { client, server, good: false } => {
                self.overdue((*client, *server), entry.at, known, verdict);
                self.good.remove(&(*client, *server));
            }
            What::Executed { caller, args, .. } => {
                let call = known.host(caller).and_then(|host| known.asked(host, *args));
                if let Some((call, _)) = call {
                    self.executed.insert(call, None);
                }
            }
            What::Returned { caller, args, .. } => {
                let call = known.host(caller).and_then(|host| known.asked(host, *args));
                if let Some((call, _)) = call {
                    self.executed.insert(call, Some(entry.at));
                }
            }
            What::Ended { call, ending } if known.is_honest(entry.host) => {
                if let Some(issue) = known.issue(*call) {
                    self.ended(entry, *call, issue, *ending, known, verdict);
                }
                self.executed.remove(call);
            }
            _ => {}
        }
    }

    fn finish(&mut self, at: u64, known: &Known, verdict: &mut Verdict) {
        let pairs: Vec<(u16, u16)> = self.good.keys().copied().collect();
        for pair in pairs {
            self.overdue(pair, at, known, verdict);
        }
    }
}

impl Paths {
    /// Since when a call has an honest path, if it has one.
    fn since(&self, issue: &Issue, known: &Known) -> Option<u64> {
        let (Host::Client(client), Host::Server(server)) = (issue.by, known.host(&issue.to)?) else {
            return None;
        };
        self.good.get(&(client, server)).copied()
    }

    fn ended(
        &self,
        entry: &Entry,
        call: Call,
        issue: &Issue,
        ending: Ending,
        known: &Known,
        verdict: &mut Verdict,
    ) {
        let answered = matches!(ending, Ending::Answer { .. } | Ending::Cancelled);
        if self.complete && !answered && matches!(entry.host, Host::Client(_)) {
            verdict.broken(Check::C6, entry, format!("{call:?} ended without its answer: {ending:?}"));
            return;
        }
        let Some(since) = self.since(issue, known) else { return };
        let took = entry.at.saturating_sub(since.max(issue.at));
        if took > self.ends_within {
            verdict.broken(Check::C6, entry, format!("{call:?} took {} ms", took / 1_000));
        }
        // What the client decides by itself has nothing to do with the path.
        let lost = matches!(ending, Ending::Lost(Lost::NoReply | Lost::NotSent | Lost::Transfer));
        if lost && since <= issue.at && !self.application_is_late(call, entry.at) {
            verdict.broken(Check::C6, entry, format!("{call:?} was lost on an honest path: {ending:?}"));
        }
    }

    fn application_is_late(&self, call: Call, at: u64) -> bool {
        match self.executed.get(&call) {
            Some(None) => true,
            Some(Some(returned)) => at.saturating_sub(*returned) < LATE,
            None => false,
        }
    }

    fn overdue(&self, pair: (u16, u16), at: u64, known: &Known, verdict: &mut Verdict) {
        let Some(since) = self.good.get(&pair) else { return };
        let client = Host::Client(pair.0);
        for call in known.open_at(client).filter(|_| known.is_honest(client)) {
            let Some(issue) = known.issue(call) else { continue };
            if known.host(&issue.to) != Some(Host::Server(pair.1)) {
                continue;
            }
            let waits = at.saturating_sub((*since).max(issue.at));
            if waits > self.ends_within {
                verdict.broken_at(Check::C6, at, client, format!("{call:?} waits for {} ms", waits / 1_000));
            }
        }
    }
}
