//! The promises, checked from outside the machines: every checker sees what the hosts wrote down and nothing else.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a checker looks at the entries that its promise speaks of"
)]

use std::fmt;

use contextvm_core::Limits;

use contextvm_engine::DropReason;

use crate::trace::{Entry, Host, What};

mod answers;
mod crowding;
mod drops;
mod endings;
mod executions;
mod figures;
mod floors;
mod known;
mod loads;
mod notices;
mod paths;
mod protection;
mod recipients;
mod streams;
#[cfg(test)]
mod tests;
mod timers;
mod troubles;

pub(crate) use drops::why;
pub use figures::{Excuse, Figures, Tally};

use answers::Answers;
use endings::Endings;
use executions::Executions;
use floors::Floors;
use known::Known;
use loads::Loads;
use notices::Notices;
use paths::Paths;
use protection::Protections;
use recipients::Recipients;
use streams::Streams;
use timers::Timers;

/// A message of this many bytes or more is large: whether it is whole is a promise of its own (C10).
const LARGE: u64 = 8_192;
/// Violations that are kept; a world that breaks more is broken enough.
const KEPT: usize = 64;

/// One promise; the names are those of the proof plan (C9, money, has no machine yet).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// Every call ends exactly once.
    C1,
    /// One inner event, and one request, is executed at most once.
    C2,
    /// Nothing is executed or heard that its author did not issue for this audience in these bytes.
    C3,
    /// An answer is what the application returned for this request.
    C4,
    /// Nothing reaches another key than the one it was for.
    C5,
    /// With an honest path, calls end in time and with their answer.
    C6,
    /// Tables stay within their limits.
    C7,
    /// A peer that speaks encrypted is never spoken to in plaintext.
    C8,
    /// A large message arrives whole or not at all.
    C10,
    /// A reader sees a prefix of what was written, in order, and one end.
    C11,
    /// Nobody asks to be woken in the past, or without end.
    C12,
    /// Nothing happens that drivers log as an error.
    C13,
    /// A second run leaves the same trace.
    C14,
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub check: Check,
    /// When, microseconds.
    pub at: u64,
    /// Where it was seen.
    pub host: Host,
    /// What happened.
    pub why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { check, at, host, why } = self;
        write!(f, "{check:?} at {}.{:06} s, {host:?}: {why}", at / 1_000_000, at % 1_000_000)
    }
}

/// What a world promises beyond what every world promises.
#[derive(Clone, Debug, Default)]
pub struct Expect {
    /// The limits that every endpoint was given.
    pub limits: Limits,
    /// Every call that is not cancelled and whose client lives ends with its answer.
    pub complete: bool,
    /// How long a small call may take beside its tool, microseconds, where every call is answered; `None`: as long as any.
    pub prompt: Option<u64>,
    /// There is no hostile host of any kind.
    pub honest: bool,
}

/// What the checkers found.
#[derive(Debug, Default)]
struct Verdict {
    kept: Vec<Violation>,
    all: u64,
}

impl Verdict {
    fn broken(&mut self, check: Check, entry: &Entry, why: String) {
        self.broken_at(check, entry.at, entry.host, why);
    }

    fn broken_at(&mut self, check: Check, at: u64, host: Host, why: String) {
        self.all += 1;
        if self.kept.len() < KEPT {
            self.kept.push(Violation { check, at, host, why });
        }
    }
}

/// Something that watches a trace for one promise.
trait Checker {
    /// Takes an entry.
    fn see(&mut self, entry: &Entry, known: &Known, verdict: &mut Verdict);

    /// Looks at what should have happened by now.
    fn finish(&mut self, _at: u64, _known: &Known, _verdict: &mut Verdict) {}
}

/// All checkers together.
#[derive(Debug)]
pub struct Checks {
    known: Known,
    endings: Endings,
    executions: Executions,
    answers: Answers,
    notices: Notices,
    paths: Paths,
    loads: Loads,
    floors: Floors,
    honest: bool,
    protections: Protections,
    recipients: Recipients,
    streams: Streams,
    timers: Timers,
    verdict: Verdict,
}

impl Default for Checks {
    fn default() -> Self {
        Self::new(&Expect::default())
    }
}

impl Checks {
    /// Makes the checkers of a world.
    #[must_use]
    pub fn new(expect: &Expect) -> Self {
        Self {
            known: Known::new(expect),
            endings: Endings::new(expect),
            executions: Executions::new(expect),
            answers: Answers::default(),
            notices: Notices::default(),
            paths: Paths::new(expect),
            loads: Loads::new(expect),
            floors: Floors::new(expect),
            honest: expect.honest,
            protections: Protections,
            recipients: Recipients::default(),
            streams: Streams::default(),
            timers: Timers::default(),
            verdict: Verdict::default(),
        }
    }

    /// Takes an entry; [`Trace::emit`](crate::trace::Trace::emit) calls this.
    pub fn see(&mut self, entry: &Entry) {
        self.known.before(entry);
        let Self { known, verdict, .. } = self;
        match &entry.what {
            What::Error(text) => verdict.broken(Check::C13, entry, (*text).to_owned()),
            What::Timer { .. } | What::Woke => self.timers.see(entry, known, verdict),
            What::Load(_) | What::ClientLoad(_) | What::PortLoad(_) | What::Rest { .. } => {
                self.loads.see(entry, known, verdict);
                self.floors.see(entry, known, verdict);
            }
            What::Told { .. } | What::Heard { .. } => self.notices.see(entry, known, verdict),
            What::Path { .. } => self.paths.see(entry, known, verdict),
            What::Wrote { .. } => {
                self.streams.see(entry, known, verdict);
                self.paths.see(entry, known, verdict);
            }
            What::Chunk { .. } => self.streams.see(entry, known, verdict),
            What::Signed { .. } => {
                self.timers.see(entry, known, verdict);
                self.executions.see(entry, known, verdict);
                self.protections.see(entry, known, verdict);
                self.recipients.see(entry, known, verdict);
            }
            _ => {
                self.endings.see(entry, known, verdict);
                self.executions.see(entry, known, verdict);
                self.answers.see(entry, known, verdict);
                self.recipients.see(entry, known, verdict);
                self.paths.see(entry, known, verdict);
                self.floors.see(entry, known, verdict);
                self.streams.see(entry, known, verdict);
                self.timers.see(entry, known, verdict);
            }
        }
        self.known.after(entry);
    }

    /// Something inbound was not acted on.
    pub fn dropped(&mut self, at: u64, host: Host, reason: DropReason) {
        self.known.dropped(at, host, reason);
        if self.honest && drops::is_fault(reason) {
            let why = format!("dropped as {} where nobody is hostile", reason.name());
            self.verdict.broken_at(Check::C13, at, host, why);
        }
    }

    /// An event that had passed the gate could not be opened.
    pub fn unopened(&mut self, at: u64, host: Host, why: &str) {
        if self.honest && why != drops::AGE {
            let why = format!("could not be opened where nobody is hostile: {why}");
            self.verdict.broken_at(Check::C13, at, host, why);
        }
    }

    /// Something was brought to a host, or a timer of its connections was due.
    pub fn stirred(&mut self, at: u64, host: Host, by_timer: bool) {
        let Self { known, timers, verdict, .. } = self;
        timers.stirred(at, host, by_timer, known, verdict);
    }

    /// Looks at what should have happened by now.
    pub fn finish(&mut self, at: u64) {
        let Self { known, verdict, .. } = self;
        self.endings.finish(at, known, verdict);
        self.loads.finish(at, known, verdict);
        self.floors.finish(at, known, verdict);
        self.streams.finish(at, known, verdict);
    }

    /// Returns what was broken, the first of it.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.verdict.kept
    }

    /// Returns how much was broken.
    #[must_use]
    pub const fn broken(&self) -> u64 {
        self.verdict.all
    }

    /// Returns how calls ended.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.endings.tally
    }

    /// Returns what was judged and excused, and how long calls took.
    #[must_use]
    pub const fn figures(&self) -> &Figures {
        &self.paths.figures
    }
}
