//! Records on their way to the store: one batch at a time beside the loop, and everything that came meanwhile in the next.
use std::sync::Arc;
use std::time::Duration;

use contextvm_engine::Record;
use contextvm_store::{Store, StoreError};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::clock::unix_now;
use crate::driver::sleep_until;
use crate::stats::Counters;

/// How long answers wait for an acceptance to be written with. Nothing waits for them.
const PATIENCE: Duration = Duration::from_millis(200);
/// A failing store is logged at most this often.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// What became of all records up to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) through: u64,
    pub(crate) is_kept: bool,
}

/// A batch that is written.
struct Writing {
    through: u64,
    records: usize,
    task: JoinHandle<Result<(), StoreError>>,
}

/// What goes to the store. The machine bounds it: it stops accepting while the store is far behind.
pub(crate) struct Remembering {
    store: Option<Arc<Store>>,
    waiting: Vec<Record>,
    last: u64,
    /// When the next batch begins, if none is written.
    due: Option<Instant>,
    writing: Option<Writing>,
    counters: Counters,
    logged: Option<Instant>,
}

impl Remembering {
    pub(crate) const fn new(store: Option<Arc<Store>>, counters: Counters) -> Self {
        Self { store, waiting: Vec::new(), last: 0, due: None, writing: None, counters, logged: None }
    }

    pub(crate) fn push(&mut self, number: u64, record: Record) {
        let is_urgent = matches!(record, Record::Accepted { .. });
        let due = Instant::now() + if is_urgent { Duration::ZERO } else { PATIENCE };
        self.due = Some(self.due.map_or(due, |other| other.min(due)));
        self.waiting.push(record);
        self.last = number;
    }

    /// Begins to write what is due, unless a batch is written already.
    pub(crate) fn start(&mut self) {
        if self.writing.is_none() && self.due.is_some_and(|due| due <= Instant::now()) {
            self.begin();
        }
    }

    /// Waits for the end of a batch, or for ever; cancel-safe.
    pub(crate) async fn next(&mut self) -> Settled {
        loop {
            if let Some(writing) = &mut self.writing {
                // A panic of the store is a failure of the store.
                let outcome = (&mut writing.task).await.ok();
                let (through, records) = (writing.through, writing.records);
                self.writing = None;
                let is_kept = self.note(outcome, records);
                self.start();
                return Settled { through, is_kept };
            }
            sleep_until(self.due).await;
            self.begin();
        }
    }

    /// Writes what is left.
    pub(crate) async fn finish(mut self) {
        while self.writing.is_some() || !self.waiting.is_empty() {
            self.due = self.due.map(|_| Instant::now());
            self.next().await;
        }
    }

    fn begin(&mut self) {
        let records = core::mem::take(&mut self.waiting);
        self.due = None;
        if records.is_empty() {
            return;
        }
        let (store, count) = (self.store.clone(), records.len());
        let task = tokio::task::spawn_blocking(move || {
            // Without a store nothing was asked to be remembered.
            store.map_or(Ok(()), |store| store.commit(&records, unix_now()))
        });
        self.writing = Some(Writing { through: self.last, records: count, task });
    }

    fn note(&mut self, outcome: Option<Result<(), StoreError>>, records: usize) -> bool {
        let records = u64::try_from(records).unwrap_or(u64::MAX);
        let error = match outcome {
            Some(Ok(())) => {
                self.counters.count(|stats| &mut stats.remembered, records);
                return true;
            }
            Some(Err(error)) => error.to_string(),
            None => "it has met a bug".to_owned(),
        };
        self.counters.count(|stats| &mut stats.unstored, records);
        if self.logged.is_none_or(|last| last.elapsed() >= LOG_EVERY) {
            self.logged = Some(Instant::now());
            tracing::error!(%error, "the store has failed; requests are refused");
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use contextvm_core::{Draft, Protection};
    use contextvm_engine::{Origin, RequestKey};
    use nostr::event::{EventId, Tags};
    use nostr::key::PublicKey;

    use super::*;

    fn key() -> RequestKey {
        let caller =
            PublicKey::parse("466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f27").unwrap();
        RequestKey { caller, id: EventId::from_byte_array([1; 32]) }
    }

    fn accepted() -> Record {
        Record::Accepted { key: key(), stamp: 1, protection: Protection::Plain, origin: Origin::Note }
    }

    fn answered() -> Record {
        let draft = Draft::new(key().caller, 1, Tags::new(), String::new());
        Record::Answered { key: key(), draft, protection: Protection::Plain }
    }

    #[tokio::test(start_paused = true)]
    async fn an_acceptance_is_written_at_once_and_an_answer_with_the_next() {
        let mut remembering = Remembering::new(None, Counters::default());
        let begun = Instant::now();
        remembering.push(1, answered());
        remembering.start();
        assert!(remembering.writing.is_none(), "it waits for company");
        remembering.push(2, accepted());
        remembering.start();
        remembering.push(3, accepted());
        assert_eq!(remembering.next().await, Settled { through: 2, is_kept: true });
        assert_eq!(remembering.next().await, Settled { through: 3, is_kept: true });
        remembering.push(4, answered());
        assert_eq!(remembering.next().await, Settled { through: 4, is_kept: true });
        assert!(begun.elapsed() >= PATIENCE, "alone in the end");
        assert_eq!(remembering.counters.read().remembered, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_at_the_end_is_written_without_waiting() {
        let counters = Counters::default();
        let mut remembering = Remembering::new(None, counters.clone());
        remembering.push(1, accepted());
        remembering.start();
        remembering.push(2, answered());
        remembering.finish().await;
        assert_eq!(counters.read().remembered, 2);
    }
}
