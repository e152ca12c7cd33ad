//! A server's journal as a simulated disk: batches that are written, what is on the disk, and what a crash leaves of it.
use contextvm_core::Limits;
use contextvm_engine::record::Record;

use crate::rng::Rng;
use crate::time::MS;

/// How long answers wait for an acceptance to be written with, as in `contextvm_runtime`.
const PATIENCE: u64 = 1_000 * MS;
/// How often a batch takes out what is of no use any more, seconds.
const PRUNED_EVERY: u64 = 60;

/// A batch that is being written.
#[derive(Clone, Debug)]
struct Writing {
    through: u64,
    records: Vec<Record>,
}

/// How a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    /// The number of its last record.
    pub(crate) through: u64,
    /// It is on the disk.
    pub(crate) is_kept: bool,
}

/// Records on the disk, and those on their way: one batch at a time, and everything that came meanwhile in the next.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    rng: Rng,
    stored: Vec<Record>,
    waiting: Vec<Record>,
    last: u64,
    due: Option<u64>,
    writing: Option<Writing>,
    /// Batches that fail, per mille.
    fails: u32,
    /// Batches that take long, per mille.
    slow: u32,
    /// When it last did so, Unix seconds.
    pruned: u64,
    since: Option<u64>,
}

impl Journal {
    /// Makes an empty journal; without `since` it is made when its server first starts.
    pub(crate) const fn new(rng: Rng, fails: u32, slow: u32, since: Option<u64>) -> Self {
        Self {
            rng,
            stored: Vec::new(),
            waiting: Vec::new(),
            last: 0,
            due: None,
            writing: None,
            fails,
            slow,
            pruned: 0,
            since,
        }
    }

    /// Takes a record; returns when the next batch may begin.
    pub(crate) fn push(&mut self, number: u64, record: Record, now: u64) -> u64 {
        let is_urgent = matches!(record, Record::Accepted { .. });
        let due = now + if is_urgent { 0 } else { PATIENCE };
        let due = self.due.map_or(due, |other| other.min(due));
        self.due = Some(due);
        self.waiting.push(record);
        self.last = number;
        due
    }

    /// Begins to write what is due, unless a batch is written already; returns when that will be done.
    pub(crate) fn start(&mut self, now: u64) -> Option<u64> {
        if self.writing.is_some() || self.due.is_none_or(|due| due > now) {
            return None;
        }
        self.due = None;
        self.writing = Some(Writing { through: self.last, records: std::mem::take(&mut self.waiting) });
        let wait = self.rng.below(2 * MS);
        let slowly = self.rng.delay(500 * MS);
        Some(now + if self.rng.chance(self.slow) { slowly } else { wait })
    }

    /// The batch that is written ends.
    pub(crate) fn end(&mut self, limits: &Limits, unix: u64) -> Option<Settled> {
        let Writing { through, records } = self.writing.take()?;
        let is_kept = !self.rng.chance(self.fails);
        if is_kept {
            self.stored.extend(records);
        }
        if unix >= self.pruned.saturating_add(PRUNED_EVERY) || unix < self.pruned {
            self.pruned = unix;
            self.prune(limits, unix);
        }
        Some(Settled { through, is_kept })
    }

    /// Forgets what is of no use any more at a Unix second, as the host's clock has it, and remembers how much that was.
    fn prune(&mut self, limits: &Limits, unix: u64) {
        let age = limits.age_window + limits.age_skew;
        let ttl = limits.ledger_ttl.as_secs();
        let mut since = self.since.unwrap_or(0);
        self.stored.retain(|record| match record {
            Record::Accepted { stamp, .. } => {
                let keeps = stamp.saturating_add(age) >= unix;
                if !keeps {
                    since = since.max(stamp.saturating_add(1));
                }
                keeps
            }
            Record::Answered { draft, .. } => draft.created_at.saturating_add(ttl) >= unix,
        });
        self.since = Some(since);
    }

    /// Returns how many records are on the disk.
    pub(crate) fn len(&self) -> usize {
        self.stored.len()
    }

    /// Everything that is on the disk and still of use.
    pub(crate) fn records(&mut self, limits: &Limits, unix: u64) -> Vec<Record> {
        self.prune(limits, unix);
        self.stored.clone()
    }

    /// Returns the barrier: the second after the one in which the journal was made, or after what was forgotten.
    pub(crate) fn since(&mut self, limits: &Limits, unix: u64) -> u64 {
        self.since.get_or_insert(unix.saturating_add(1));
        self.prune(limits, unix);
        self.since.unwrap_or(0)
    }

    /// The process dies: a batch that was being written is there whole or not at all, and torn it is not there.
    pub(crate) fn crash(&mut self, torn: bool) {
        let arrived = self.rng.chance(500) && !torn;
        if let Some(writing) = self.writing.take().filter(|_| arrived) {
            self.stored.extend(writing.records);
        }
        self.waiting.clear();
        self.due = None;
        self.last = 0;
    }
}
