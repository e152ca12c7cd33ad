//! A server's journal as a simulated disk: what was written, what is on the disk, and what a crash leaves of it.
use contextvm_core::Limits;
use contextvm_engine::record::Record;

use crate::rng::Rng;
use crate::time::MS;

/// Records by number, and how many of them a crash cannot take away.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    rng: Rng,
    stored: Vec<Record>,
    written: Vec<(u64, Record)>,
    /// Syncs that fail, per mille.
    fails: u32,
    /// Writes that take long, per mille.
    slow: u32,
    last_at: u64,
    since: Option<u64>,
}

impl Journal {
    pub(crate) const fn new(rng: Rng, fails: u32, slow: u32) -> Self {
        Self { rng, stored: Vec::new(), written: Vec::new(), fails, slow, last_at: 0, since: None }
    }

    /// Takes a record; returns when it is on the disk, never before an earlier one.
    pub(crate) fn write(&mut self, number: u64, record: Record, now: u64) -> u64 {
        self.written.push((number, record));
        let wait = if self.rng.chance(self.slow) { self.rng.delay(500 * MS) } else { self.rng.below(2 * MS) };
        self.last_at = self.last_at.max(now + wait);
        self.last_at
    }

    /// Brings everything up to a number to the disk; returns whether that succeeded.
    pub(crate) fn sync(&mut self, through: u64) -> bool {
        let fails = self.rng.chance(self.fails);
        let written = std::mem::take(&mut self.written);
        for (number, record) in written {
            if number > through {
                self.written.push((number, record));
            } else if !fails {
                self.stored.push(record);
            }
        }
        !fails
    }

    /// Everything that is on the disk and still of use at a Unix second, as the host's clock has it.
    pub(crate) fn records(&mut self, limits: &Limits, unix: u64) -> Vec<Record> {
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
        self.stored.clone()
    }

    /// Returns the barrier: the second after the one in which the journal was made, or after what was forgotten.
    pub(crate) fn since(&mut self, unix: u64) -> u64 {
        *self.since.get_or_insert(unix.saturating_add(1))
    }

    /// The process dies: of what was not synced some may have arrived, in order; a torn record is none.
    pub(crate) fn crash(&mut self, torn: bool) {
        let written = std::mem::take(&mut self.written);
        let arrived = self.rng.index(written.len() + 1);
        let arrived = if torn { arrived.saturating_sub(1) } else { arrived };
        self.stored.extend(written.into_iter().take(arrived).map(|(_, record)| record));
    }
}
