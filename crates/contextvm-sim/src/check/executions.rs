//! C2, C3 and the requests of C10: what is executed was asked for, by this caller, of this server, in these bytes, once.
use std::collections::{BTreeMap, BTreeSet};

use nostr::event::EventId;
use nostr::key::PublicKey;

use super::known::Known;
use super::{Check, Checker, Excuse, Expect, LARGE, Verdict};
use crate::trace::{Digest, Entry, Host, What};

/// What was signed, and what was executed.
#[derive(Debug, Default)]
pub(super) struct Executions {
    signed: BTreeMap<EventId, Signature>,
    ids: BTreeSet<(Host, EventId)>,
    requests: BTreeSet<(Host, u32, Host, Digest)>,
    /// Seconds by which a stamp may differ from the clock of the server that executes it.
    window: u64,
}

/// Who signed an event, for whom and when.
#[derive(Clone, Copy, Debug)]
struct Signature {
    by: Host,
    to: PublicKey,
    stamp: u64,
}

/// One execution as the application saw it.
#[derive(Clone, Copy)]
struct Execution {
    caller: PublicKey,
    id: Option<EventId>,
    args: Digest,
    bytes: u64,
    unix: u64,
}

impl Executions {
    pub(super) fn new(expect: &Expect) -> Self {
        let limits = &expect.limits;
        // What was taken in time may wait: for its second, for the disk, for an application, for the rest of a transfer.
        let waits = limits.request_timeout + limits.access_timeout + limits.transfer_total;
        Self { window: limits.age_window + limits.age_skew + waits.as_secs(), ..Self::default() }
    }
}

impl Checker for Executions {
    fn see(&mut self, entry: &Entry, known: &Known, verdict: &mut Verdict) {
        match entry.what {
            What::Signed { id, to, stamp, .. } => {
                self.signed.insert(id, Signature { by: entry.host, to, stamp });
            }
            // What was refused unread is not executed later either.
            What::Executed { caller, id, args, bytes, unix }
            | What::Unread { caller, id, args, bytes, unix }
                if known.is_honest(entry.host) =>
            {
                self.executed(entry, Execution { caller, id, args, bytes, unix }, known, verdict);
            }
            What::Stopped { caller, args } if known.is_honest(entry.host) => {
                stopped(entry, caller, args, known, verdict);
            }
            _ => {}
        }
    }
}

impl Executions {
    fn executed(&mut self, entry: &Entry, execution: Execution, known: &Known, verdict: &mut Verdict) {
        let Some(caller) = known.host(&execution.caller) else {
            verdict.broken(Check::C3, entry, "executed for a key that nobody has".to_owned());
            return;
        };
        if known.is_denied(entry.host, execution.caller) {
            verdict.broken(Check::C3, entry, format!("executed for {caller:?}, which is not served"));
        }
        if let Some(id) = execution.id {
            if !self.ids.insert((entry.host, id)) {
                verdict.broken(Check::C2, entry, format!("the event {id} of {caller:?} was executed again"));
            }
            if let Err(why) = self.was_signed(&id, caller, known.key(entry.host)) {
                verdict.broken(Check::C3, entry, format!("executed for {caller:?}: {why}"));
            }
            self.was_young(entry, &id, execution.unix, known, verdict);
        }
        if known.is_honest(caller) {
            self.was_issued(entry, caller, execution, known, verdict);
        }
    }

    fn was_signed(&self, id: &EventId, caller: Host, me: Option<PublicKey>) -> Result<(), &'static str> {
        match self.signed.get(id) {
            None => Err("nobody signed this event"),
            Some(signature) if signature.by != caller => Err("another key signed this event"),
            Some(signature) if Some(signature.to) != me => Err("the event is meant for another server"),
            Some(_) => Ok(()),
        }
    }

    /// What is older than ids are remembered for must not be executed: nobody knows whether it was before.
    fn was_young(&self, entry: &Entry, id: &EventId, unix: u64, known: &Known, verdict: &mut Verdict) {
        let Some(Signature { stamp, .. }) = self.signed.get(id) else { return };
        let apart = stamp.abs_diff(unix);
        let waited = self.window.saturating_mul(1_000_000);
        let jumped = known.troubles.since(entry.host, Excuse::Clock, entry.at.saturating_sub(waited));
        if apart > self.window && !jumped {
            verdict.broken(Check::C3, entry, format!("executed an event stamped {apart} s away"));
        }
    }

    fn was_issued(
        &mut self,
        entry: &Entry,
        caller: Host,
        execution: Execution,
        known: &Known,
        verdict: &mut Verdict,
    ) {
        let Some((call, issue)) = known.asked(caller, execution.args) else {
            let check = if execution.bytes >= LARGE { Check::C10 } else { Check::C3 };
            let why = format!("executed {} bytes for {caller:?} that it never asked", execution.bytes);
            verdict.broken(check, entry, why);
            return;
        };
        if Some(issue.to) != known.key(entry.host) {
            verdict.broken(Check::C3, entry, format!("{call:?} was meant for another server"));
        }
        if issue.bytes != execution.bytes {
            let why = format!("{call:?} has {} bytes, {} were executed", issue.bytes, execution.bytes);
            verdict.broken(Check::C10, entry, why);
        }
        if !self.requests.insert((entry.host, known.life(entry.host), caller, execution.args)) {
            verdict.broken(Check::C2, entry, format!("{call:?} of {caller:?} was executed again"));
        }
    }
}

/// An application was told to stop: its caller must have ended the call before.
fn stopped(entry: &Entry, caller: PublicKey, args: Digest, known: &Known, verdict: &mut Verdict) {
    let Some(caller) = known.host(&caller).filter(|caller| known.is_honest(*caller)) else { return };
    let Some((call, _)) = known.asked(caller, args) else { return };
    if known.is_open(caller, call) {
        verdict.broken(Check::C3, entry, format!("stopped {call:?}, which {caller:?} still waits for"));
    }
}
