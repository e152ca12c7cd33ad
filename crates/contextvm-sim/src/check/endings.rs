//! C1: every call ends exactly once and within its time, unless its client dies.
use contextvm_core::Limits;

use super::known::{Issue, Known};
use super::{Check, Checker, Expect, Tally, Verdict};
use crate::trace::{Call, Ending, Entry, Host, What};

/// A call lives at most this many request timeouts, however much its server reports.
const TOTAL_FACTOR: u64 = 10;
/// What a machine may be late by, microseconds.
const GRACE: u64 = 1_000_000;

/// Counts endings while it watches them.
#[derive(Debug, Default)]
pub(super) struct Endings {
    pub(super) tally: Tally,
    limits: Limits,
}

impl Endings {
    pub(super) fn new(expect: &Expect) -> Self {
        Self { tally: Tally::default(), limits: expect.limits.clone() }
    }
}

impl Checker for Endings {
    fn see(&mut self, entry: &Entry, known: &Known, verdict: &mut Verdict) {
        let is_client = matches!(entry.host, Host::Client(_)) && known.is_honest(entry.host);
        match &entry.what {
            What::Issued { call, .. } => {
                if known.issue(*call).is_none_or(|issue| issue.at != entry.at || issue.by != entry.host) {
                    verdict.broken(Check::C1, entry, format!("{call:?} was issued a second time"));
                }
                self.tally.issued += u64::from(is_client);
            }
            What::Executed { .. } if known.is_honest(entry.host) => self.tally.executed += 1,
            What::Ended { call, ending } => {
                self.ended(entry, *call, known, verdict);
                if is_client {
                    self.count(*ending);
                }
            }
            What::NotMade { calls } => self.tally.not_made += calls,
            What::Crashed if is_client => {
                self.tally.orphaned += known.open_at(entry.host).count() as u64;
            }
            _ => {}
        }
    }

    fn finish(&mut self, at: u64, known: &Known, verdict: &mut Verdict) {
        for (host, call) in known.open() {
            // A server's application may ask a client that never answers: its face gives up by itself.
            if matches!(host, Host::Client(_)) && known.is_honest(host) {
                let since = known.issue(call).map_or(0, |issue| issue.at);
                let waited = at.saturating_sub(since) / 1_000;
                verdict.broken_at(
                    Check::C1,
                    at,
                    host,
                    format!("{call:?} never ended; it waited for {waited} ms"),
                );
            }
        }
    }
}

impl Endings {
    /// How long a call may last, microseconds, with or without a path.
    fn most(&self, host: Host, issue: &Issue, known: &Known) -> u64 {
        let timeout = self.limits.request_timeout.as_micros() as u64;
        let is_plain = known.host(&issue.to).is_some_and(|server| known.is_honest(server));
        // While its server asks it something, a client gives all its calls time.
        let own = if issue.simple && is_plain && !known.was_asked(host, issue.at) {
            timeout
        } else {
            let parts = self.limits.transfer_total + self.limits.stream_total;
            timeout * TOTAL_FACTOR + parts.as_micros() as u64
        };
        own + GRACE + known.slept(host, issue.at)
    }

    fn ended(&self, entry: &Entry, call: Call, known: &Known, verdict: &mut Verdict) {
        if !known.is_honest(entry.host) {
            return;
        }
        let why = match known.issue(call) {
            None => "which nobody issued",
            Some(issue) if issue.by != entry.host => "which another host issued",
            Some(_) if !known.is_open(entry.host, call) => "which had ended before",
            Some(issue) => {
                let (took, most) = (entry.at.saturating_sub(issue.at), self.most(entry.host, issue, known));
                if took > most && matches!(entry.host, Host::Client(_)) {
                    let why = format!("{call:?} ended after {} ms of {}", took / 1_000, most / 1_000);
                    verdict.broken(Check::C1, entry, why);
                }
                return;
            }
        };
        verdict.broken(Check::C1, entry, format!("an end of {call:?}, {why}"));
    }

    const fn count(&mut self, ending: Ending) {
        let counter = match ending {
            Ending::Answer { .. } => &mut self.tally.answered,
            Ending::Error(_) => &mut self.tally.errors,
            Ending::Lost(_) => &mut self.tally.lost,
            Ending::Cancelled => &mut self.tally.cancelled,
        };
        *counter += 1;
    }
}
