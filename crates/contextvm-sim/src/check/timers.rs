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
/// Relays on each of which a message may wait for its outcome, and for how many seconds it does.
const RELAYS: u64 = 8;
const OUTCOME: usize = 12;
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
    /// How many messages each host signed in each of the latest seconds.
    signed: BTreeMap<Host, [(u64, u64); OUTCOME]>,
}

impl Checker for Timers {
    fn see(&mut self, entry: &Entry, known: &Known, verdict: &mut Verdict) {
        match entry.what {
            What::Timer { due } if due.saturating_add(GRAIN) <= entry.at && known.is_honest(entry.host) => {
                let late = (entry.at - due) / 1_000;
                verdict.broken(Check::C12, entry, format!("asks to be woken {late} ms ago"));
            }
            What::Woke => self.stirred(entry.at, entry.host, true, known, verdict),
            What::Signed { .. } => self.signed(entry.at, entry.host),
            // Calls that end in the same second may have a time each.
            What::Ended { .. } => self.stirred(entry.at, entry.host, false, known, verdict),
            _ => {}
        }
    }
}

impl Timers {
    fn signed(&mut self, at: u64, host: Host) {
        let number = at / 1_000_000;
        let seconds = self.signed.entry(host).or_default();
        let Some((second, count)) = seconds.get_mut(number as usize % OUTCOME) else { return };
        *count = if *second == number { *count + 1 } else { 1 };
        *second = number;
    }

    /// Returns for how many outcomes of messages a host may be waiting.
    fn outcomes(&self, number: u64, host: Host) -> u64 {
        let lately = |second: u64| number.saturating_sub(second) < OUTCOME as u64;
        let seconds = self.signed.get(&host).into_iter().flatten();
        RELAYS * seconds.filter(|(second, _)| lately(*second)).map(|(_, count)| count).sum::<u64>()
    }

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
            let (wakes, stirs) = (second.wakes, second.stirs);
            let most = USUAL + EACH * things + second.publications + self.outcomes(number, host);
            if wakes == most + 1 {
                let why = format!("woken {wakes} times in one second for {stirs} things");
                verdict.broken_at(Check::C12, at, host, why);
            }
        }
    }
}
