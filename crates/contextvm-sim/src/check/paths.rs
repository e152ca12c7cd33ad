//! C6: with an honest path between them, a call of a client to a server is answered, unless something else stood in its way.
use std::collections::{BTreeMap, BTreeSet};

use super::known::{Issue, Known};
use super::{Check, Checker, Excuse, Expect, Figures, LARGE, Verdict};
use crate::trace::{Call, Ending, Entry, Host, What};
use contextvm_core::Limits;
use contextvm_engine::client::Lost;
use nostr::key::PublicKey;

/// An application that answered less than this before the end may be why the call was lost, microseconds.
const LATE: u64 = 15_000_000;
/// A path that has been there for so long is enough for a call that was made before, microseconds: the longest time between
/// two wraps, a quarter of it by chance, and what one round trip with its outcome takes.
const ENOUGH: u64 = 45_000_000;

/// The error of a server that does not keep an answer, or whose application has no room for a request, and the smallest ledger that keeps those of the last seconds, bytes.
const REFUSED: i64 = -32_000;
const SMALL_LEDGER: usize = 100_000;
/// The error of a server that could not send its answer.
const INTERNAL: i64 = -32_603;
/// What a reader counts for a piece of a stream beside its text, bytes.
const PIECE: usize = 64;

/// What one pair of a client and a server has.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    /// Since when it has had an honest path.
    since: Option<u64>,
    /// Since when their clocks have agreed.
    clocks: Option<u64>,
    was_good: bool,
}

/// How far a call came at the application.
#[derive(Clone, Copy, Debug)]
struct Work {
    executed: u64,
    returned: Option<u64>,
    /// How long the answer is.
    bytes: u64,
}

/// Since when which pairs have a path, how far the calls came, and what is counted of it.
#[derive(Debug, Default)]
pub(super) struct Paths {
    limits: Limits,
    complete: bool,
    prompt: Option<u64>,
    ways: BTreeMap<(u16, u16), Way>,
    work: BTreeMap<Call, Work>,
    /// Calls whose requests found the application's channel full.
    unread: BTreeSet<Call>,
    /// How many bytes a reader counts for what was written to a stream.
    wrote: BTreeMap<Call, usize>,
    /// Streams whose writers gave them up, and those that their readers do not read to their end.
    given_up: BTreeSet<Call>,
    enough: BTreeSet<Call>,
    /// Who was answered by whom since it began: it knows whether that server takes a request twice.
    met: BTreeSet<(Host, PublicKey)>,
    pub(super) figures: Figures,
}

impl Paths {
    pub(super) fn new(expect: &Expect) -> Self {
        let Expect { limits, complete, prompt, .. } = expect.clone();
        Self { limits, complete, prompt, ..Self::default() }
    }
}

impl Checker for Paths {
    fn see(&mut self, entry: &Entry, known: &Known, verdict: &mut Verdict) {
        let asked = |caller, args| Some(known.asked(known.host(caller)?, args)?.0);
        match &entry.what {
            What::Path { client, server, good, clocks } => {
                self.path((*client, *server), *good, *clocks, entry.at)
            }
            What::Executed { caller, args, .. } => {
                if let Some(call) = asked(caller, *args) {
                    self.work.insert(call, Work { executed: entry.at, returned: None, bytes: 0 });
                }
            }
            What::Unread { caller, args, .. } => self.unread.extend(asked(caller, *args)),
            What::Returned { caller, args, bytes, .. } => {
                let call = asked(caller, *args);
                if let Some(work) = call.and_then(|call| self.work.get_mut(&call)) {
                    work.returned = Some(entry.at);
                    work.bytes = *bytes;
                }
            }
            What::Wrote { caller, args, data } => {
                if let Some(call) = asked(caller, *args) {
                    let pieces = data.len().div_ceil(self.limits.stream_chunk.max(1));
                    *self.wrote.entry(call).or_default() += data.len() + pieces * PIECE;
                }
            }
            What::Restarted { .. } => self.met.retain(|(host, _)| *host != entry.host),
            What::GaveUp { caller, args } => self.given_up.extend(asked(caller, *args)),
            What::HadEnough { call } => drop(self.enough.insert(*call)),
            What::Ended { call, ending } if known.is_honest(entry.host) => {
                if let Some(issue) = known.issue(*call).filter(|_| known.is_open(entry.host, *call)) {
                    self.ended(entry, *call, issue, *ending, known, verdict);
                }
                // Whoever cancels or gives up does not wait for the rest of a stream.
                if !matches!(ending, Ending::Answer { .. }) {
                    self.enough.insert(*call);
                } else if let Some(issue) = known.issue(*call) {
                    self.met.insert((entry.host, issue.to));
                }
                self.work.remove(call);
            }
            What::StreamEnded { call, complete: false } if known.is_honest(entry.host) => {
                self.broke_off(entry, *call, known, verdict);
            }
            _ => {}
        }
    }
}

impl Paths {
    fn path(&mut self, pair: (u16, u16), good: bool, clocks: bool, at: u64) {
        let way = self.ways.entry(pair).or_default();
        way.clocks = if clocks { way.clocks.or(Some(at)) } else { None };
        way.since = if good { way.since.or(Some(at)) } else { None };
        if good && !std::mem::replace(&mut way.was_good, true) {
            self.figures.pairs_armed += 1;
        }
    }

    fn way(&self, issue: &Issue, known: &Known) -> Way {
        let (Host::Client(client), Some(Host::Server(server))) = (issue.by, known.host(&issue.to)) else {
            return Way::default();
        };
        self.ways.get(&(client, server)).copied().unwrap_or_default()
    }

    /// What may have kept a call from its answer, beside its application.
    fn excuse(&self, issue: &Issue, at: u64, known: &Known) -> Option<Excuse> {
        let (client, server) = (issue.by, known.host(&issue.to)?);
        let way = self.way(issue, known);
        let was = |trouble: Excuse| {
            [client, server].into_iter().any(|host| known.troubles.since(host, trouble, issue.at))
        };
        let left = known.is_gone(client) || known.is_denied(server, known.key(client)?);
        let trouble =
            [Excuse::Crash, Excuse::Clock, Excuse::Left, Excuse::Signer, Excuse::Disk, Excuse::Room];
        if left {
            return Some(Excuse::Left);
        }
        if let Some(trouble) = trouble.into_iter().find(|trouble| was(*trouble)) {
            return Some(trouble);
        }
        // A message is stamped once: no repetition makes up for a clock.
        if way.clocks.is_none_or(|since| since > issue.at) {
            return Some(Excuse::Clock);
        }
        // What went out in plaintext before is not sent again under another id, and nothing to a server that is not known.
        let repeats = known.person(client).is_some_and(|person| person.encrypted)
            && self.met.contains(&(client, issue.to));
        let enough = way
            .since
            .is_some_and(|since| since <= issue.at || (repeats && at.saturating_sub(since) >= ENOUGH));
        (!enough).then_some(Excuse::Path)
    }

    fn ended(
        &mut self,
        entry: &Entry,
        call: Call,
        issue: &Issue,
        ending: Ending,
        known: &Known,
        verdict: &mut Verdict,
    ) {
        let is_client = matches!(entry.host, Host::Client(_));
        let answered = matches!(ending, Ending::Answer { .. });
        // Who has read enough may be told that the call is over with its stream.
        // So is who calls a tool that gave its stream up.
        let is_left = self.given_up.contains(&call) || self.enough.contains(&call);
        let has_enough = matches!(ending, Ending::Error(_)) && is_left;
        if ending == Ending::Cancelled || !is_client || has_enough {
            return;
        }
        if let Ending::Lost(Lost::Malformed) = ending {
            verdict.broken(Check::C6, entry, format!("{call:?} is called malformed by its own endpoint"));
        }
        let work = self.work.get(&call).copied();
        if self.complete {
            if !answered {
                verdict.broken(Check::C6, entry, format!("{call:?} ended without its answer: {ending:?}"));
            } else if issue.simple {
                self.is_prompt(entry, call, issue, work, verdict);
            }
        }
        if !known.host(&issue.to).is_some_and(|server| known.is_honest(server)) {
            return;
        }
        // What was answered in good time is no reason for an error of the endpoint.
        let is_error = matches!(ending, Ending::Error(_));
        let late = !answered
            && application_is_late(work.filter(|work| !is_error || work.returned.is_none()), entry.at);
        let unread = ending == Ending::Error(REFUSED) && self.unread.contains(&call);
        let excuse = self.excuse(issue, entry.at, known);
        let unkept = ending == Ending::Error(REFUSED) && self.is_unkept(work);
        let full = unkept || self.overflows(call) || self.has_no_room(ending, issue, known);
        let is_large = work.is_some_and(|work| work.bytes >= LARGE);
        let forgot = ending == Ending::Error(INTERNAL) && is_large;
        let is_refused = ending == Ending::Lost(Lost::Transfer) && work.is_none() && issue.bytes >= LARGE;
        let unknown = is_refused && Self::is_unknown(issue, known);
        let occupied = is_refused && self.is_occupied(issue, known);
        let excuse = excuse.or(if forgot || unknown { Self::forgot(issue, known) } else { None });
        let stalled = work.is_none() && self.waits_for_disk(ending, issue, entry.at, known);
        let excuse = excuse.or(stalled.then_some(Excuse::Disk));
        let excuse =
            excuse.or((full || occupied).then_some(Excuse::Room)).or((late || unread).then_some(Excuse::App));
        self.figures.excuse(excuse);
        if answered && issue.simple {
            self.figures.took(entry.at.saturating_sub(issue.at));
        }
        // An application that never answers is no endpoint's loss.
        let silent = !answered && work.is_some_and(|work| work.returned.is_none());
        if !silent && excuse != Some(Excuse::Left) {
            self.figures.fair += 1;
            self.figures.fair_answered += u64::from(answered);
        }
        if !answered && excuse.is_none() && !self.complete {
            verdict.broken(Check::C6, entry, format!("{call:?} was lost on an honest path: {ending:?}"));
        }
    }

    /// Whether a ledger may not have kept an answer: a repeat of its request is told so, and may be told first.
    fn is_unkept(&self, work: Option<Work>) -> bool {
        let Limits { ledger_bytes, ledger_answer, .. } = self.limits;
        let returned = work.filter(|work| work.returned.is_some());
        returned.is_some_and(|work| work.bytes as usize > ledger_answer || ledger_bytes < SMALL_LEDGER)
    }

    /// Why a server may not know that a client takes transfers: that is said once, and what is forgotten is not asked for.
    fn forgot(issue: &Issue, known: &Known) -> Option<Excuse> {
        let server = known.host(&issue.to)?;
        let ever = |host, trouble| known.troubles.since(host, trouble, 0);
        [Excuse::Crash, Excuse::Room].into_iter().find(|trouble| ever(server, *trouble)).or(ever(
            issue.by,
            Excuse::Left,
        )
        .then_some(Excuse::Left))
    }

    /// Whether a server had forgotten who transfers a request to it: that is said, perhaps when all of it is out already.
    fn is_unknown(issue: &Issue, known: &Known) -> bool {
        let server = known.host(&issue.to);
        server.is_some_and(|server| known.crowding.was_forgotten(issue.by, server, issue.at))
    }

    /// Whether what a relay played back may have taken all places of who transfers a request.
    fn is_occupied(&self, issue: &Issue, known: &Known) -> bool {
        let server = known.host(&issue.to);
        server.is_some_and(|server| known.crowding.has_old_transfers(server, &self.limits))
    }

    /// Whether the disk of a server stood still for most of what a caller waits once its signer is done: what is not on it
    /// is not executed.
    fn waits_for_disk(&self, ending: Ending, issue: &Issue, at: u64, known: &Known) -> bool {
        let told = matches!(ending, Ending::Lost(Lost::NoReply) | Ending::Error(REFUSED));
        let patience = self.limits.request_timeout.as_micros() as u64;
        let stood = |server| {
            let said = known.crowding.said_since(issue.by, server, issue.at).unwrap_or(issue.at);
            let left = patience.saturating_sub(said.saturating_sub(issue.at));
            known.troubles.stood_still(server, said, at) > left / 2
        };
        told && known.host(&issue.to).is_some_and(stood)
    }

    /// Whether a client had as many calls open as it may.
    fn has_no_room(&self, ending: Ending, issue: &Issue, known: &Known) -> bool {
        ending == Ending::Lost(Lost::Busy) && known.open_at(issue.by).count() >= self.limits.pending
    }

    /// Whether more was streamed than a reader has to hold. Nothing keeps a writer back until it is read.
    fn overflows(&self, call: Call) -> bool {
        let most = self.limits.stream_buffer.min(self.limits.streams_bytes);
        self.wrote.get(&call).is_some_and(|bytes| *bytes > most)
    }

    fn is_prompt(&self, entry: &Entry, call: Call, issue: &Issue, work: Option<Work>, verdict: &mut Verdict) {
        let Some(prompt) = self.prompt else { return };
        let tool =
            work.and_then(|work| Some(work.returned?.saturating_sub(work.executed))).unwrap_or_default();
        let took = entry.at.saturating_sub(issue.at).saturating_sub(tool);
        if took > prompt {
            let why =
                format!("{call:?} took {} ms beside its tool, and may take {}", took / 1_000, prompt / 1_000);
            verdict.broken(Check::C6, entry, why);
        }
    }

    /// A stream ended before its end: its writer or its reader must have given up, or something must have stood in its way.
    fn broke_off(&mut self, entry: &Entry, call: Call, known: &Known, verdict: &mut Verdict) {
        let Some(issue) = known.issue(call).filter(|_| self.wrote.contains_key(&call)) else { return };
        if self.given_up.contains(&call) || self.enough.contains(&call) || self.overflows(call) {
            return;
        }
        let honest = known.host(&issue.to).is_some_and(|server| known.is_honest(server));
        let enough = self.way(issue, known).since.is_some_and(|since| since <= issue.at);
        if honest && (self.complete || (enough && self.excuse(issue, entry.at, known).is_none())) {
            verdict.broken(
                Check::C6,
                entry,
                format!("the stream of {call:?} broke off, and nobody gave it up"),
            );
        }
    }
}

fn application_is_late(work: Option<Work>, at: u64) -> bool {
    work.is_some_and(|work| work.returned.is_none_or(|returned| at.saturating_sub(returned) < LATE))
}
