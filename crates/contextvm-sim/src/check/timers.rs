//! C12: nobody asks to be woken in the past, and nobody is woken without end.
use std::collections::BTreeMap;

use super::known::Known;
use super::{Check, Checker, Verdict};
use crate::trace::{Entry, Host, What};

/// Wakes within one virtual second that are too many.
const TOO_MANY: u64 = 10_000;
/// Machines count milliseconds, microseconds.
const GRAIN: u64 = 1_000;

/// Wakes of each host in its latest second.
#[derive(Debug, Default)]
pub(super) struct Timers {
    wakes: BTreeMap<Host, (u64, u64)>,
}

impl Checker for Timers {
    fn see(&mut self, entry: &Entry, known: &Known, verdict: &mut Verdict) {
        match entry.what {
            What::Timer { due } if due.saturating_add(GRAIN) <= entry.at && known.is_honest(entry.host) => {
                let late = (entry.at - due) / 1_000;
                verdict.broken(Check::C12, entry, format!("asks to be woken {late} ms ago"));
            }
            What::Woke => {
                let second = entry.at / 1_000_000;
                let (current, count) = self.wakes.entry(entry.host).or_default();
                if *current != second {
                    (*current, *count) = (second, 0);
                }
                *count += 1;
                if *count == TOO_MANY + 1 {
                    verdict.broken(Check::C12, entry, format!("woken {count} times in one second"));
                }
            }
            _ => {}
        }
    }
}
