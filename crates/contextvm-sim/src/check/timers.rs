//! C12: nobody asks to be woken in the past, and nobody is woken without end.
use std::collections::BTreeMap;

use super::known::Known;
use super::{Check, Checker, Verdict};
use crate::trace::{Entry, Host, What};

/// Wakes within one virtual second that anybody may ask for.
const USUAL: u64 = 50;
/// Wakes for each thing that was brought to a host in this second, and for each call that it has open; half as many in the
/// second after, and so on: publications have deadlines of some seconds.
const EACH: u64 = 20;
/// Machines count milliseconds, microseconds.
const GRAIN: u64 = 1_000;

/// What a host was woken for and brought in one second.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    number: u64,
    wakes: u64,
    stirs: u64,
    /// Most publications that were open in it: each may end by a deadline of its own.
    publications: u64,
    /// What was brought in the seconds before, each counted half as much as the one after it.
    before: u64,
}

/// Wakes of each host in its latest second: of its machine, and of its connections.
#[derive(Debug, Default)]
pub(super) struct Timers {
    seconds: BTreeMap<Host, Second>,
}

impl Checker for Timers {
    fn see(&mut self, entry: &Entry, known: &Known, verdict: &mut Verdict) {
        match entry.what {
            What::Timer { due } if due.saturating_add(GRAIN) <= entry.at && known.is_honest(entry.host) => {
                let late = (entry.at - due) / 1_000;
                verdict.broken(Check::C12, entry, format!("asks to be woken {late} ms ago"));
            }
            What::Woke => self.stirred(entry.at, entry.host, true, known, verdict),
            // Calls that end in the same second may have a time each.
            What::Ended { .. } => self.stirred(entry.at, entry.host, false, known, verdict),
            _ => {}
        }
    }
}

impl Timers {
    /// Takes one wake, or one thing that was brought to a host.
    pub(super) fn stirred(&mut self, at: u64, host: Host, woke: bool, known: &Known, verdict: &mut Verdict) {
        let number = at / 1_000_000;
        let second = self.seconds.entry(host).or_default();
        if second.number != number {
            let passed = number.saturating_sub(second.number).min(63);
            let before = (second.stirs + second.before / 2) >> passed.saturating_sub(1);
            *second = Second { number, before, ..Second::default() };
        }
        if !woke {
            second.stirs += 1;
            return;
        }
        second.wakes += 1;
        second.publications = second.publications.max(known.publications(host));
        // Counted only where it may matter: few ever come so far.
        if second.wakes > USUAL + EACH * (second.stirs + second.before) {
            let open = known.open_at(host).count() as u64;
            // What no relay took has a time of its own, a second or more after the last.
            let things = second.stirs + second.before + open;
            let most = USUAL + EACH * things + second.publications;
            if second.wakes == most + 1 {
                let why = format!("woken {} times in one second for {} things", second.wakes, second.stirs);
                verdict.broken_at(Check::C12, at, host, why);
            }
        }
    }
}
