//! C2, C3 and the requests of C10: what is executed was asked for, by this caller, of this server, in these bytes, once.
use std::collections::{BTreeMap, BTreeSet};

use nostr::event::EventId;
use nostr::key::PublicKey;

use super::known::Known;
use super::{Check, Checker, LARGE, Verdict};
use crate::trace::{Digest, Entry, Host, What};

/// What was signed, and what was executed.
#[derive(Debug, Default)]
pub(super) struct Executions {
    signed: BTreeMap<EventId, (Host, PublicKey)>,
    ids: BTreeSet<(Host, EventId)>,
    requests: BTreeSet<(Host, u32, Host, Digest)>,
}

/// One execution as the application saw it.
#[derive(Clone, Copy)]
struct Execution {
    caller: PublicKey,
    id: Option<EventId>,
    args: Digest,
    bytes: u64,
}

impl Checker for Executions {
    fn see(&mut self, entry: &Entry, known: &Known, verdict: &mut Verdict) {
        match entry.what {
            What::Signed { id, to, .. } => {
                self.signed.insert(id, (entry.host, to));
            }
            What::Executed { caller, id, args, bytes } if known.is_honest(entry.host) => {
                self.executed(entry, Execution { caller, id, args, bytes }, known, verdict);
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
        if let Some(id) = execution.id {
            if !self.ids.insert((entry.host, id)) {
                verdict.broken(Check::C2, entry, format!("the event {id} of {caller:?} was executed again"));
            }
            if let Err(why) = self.was_signed(&id, caller, known.key(entry.host)) {
                verdict.broken(Check::C3, entry, format!("executed for {caller:?}: {why}"));
            }
        }
        if known.is_honest(caller) {
            self.was_issued(entry, caller, execution, known, verdict);
        }
    }

    fn was_signed(&self, id: &EventId, caller: Host, me: Option<PublicKey>) -> Result<(), &'static str> {
        match self.signed.get(id) {
            None => Err("nobody signed this event"),
            Some((by, _)) if *by != caller => Err("another key signed this event"),
            Some((_, to)) if Some(*to) != me => Err("the event is meant for another server"),
            Some(_) => Ok(()),
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
