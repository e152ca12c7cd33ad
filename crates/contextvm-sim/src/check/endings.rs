//! C1: every call ends exactly once, unless its client dies.
use super::known::Known;
use super::{Check, Checker, Tally, Verdict};
use crate::trace::{Call, Ending, Entry, Host, What};

/// Counts endings while it watches them.
#[derive(Debug, Default)]
pub(super) struct Endings {
    pub(super) tally: Tally,
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
    fn ended(&self, entry: &Entry, call: Call, known: &Known, verdict: &mut Verdict) {
        if !known.is_honest(entry.host) {
            return;
        }
        let why = match known.issue(call) {
            None => "which nobody issued",
            Some(issue) if issue.by != entry.host => "which another host issued",
            Some(_) if !known.is_open(entry.host, call) => "which had ended before",
            Some(_) => return,
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
