//! Records on their way to the store: one batch at a time beside the loop, and everything that came meanwhile in the next.
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc as blocking};
use std::time::Duration;

use contextvm_engine::Record;
use contextvm_store::{Store, StoreError};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::clock::unix_now;
use crate::driver::sleep_until;
use crate::stats::Counters;

/// How long answers wait for an acceptance to be written with. Nothing waits for them, and a process that is killed
/// meanwhile loses them: their requests count as interrupted then.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of answers that do not wait.
const MOST_BYTES: usize = 1024 * 1024;
/// How long an acceptance waits for others that are being opened.
const COMPANY: Duration = Duration::from_millis(1);
/// How often a server that nobody calls takes out what is too old, and how soon it goes on where much is.
const PRUNE_EVERY: Duration = Duration::from_secs(30);
/// How late it looks again, however long things are kept.
const PRUNE_LATEST: Duration = Duration::from_secs(86_400);
const PRUNE_ON: Duration = Duration::from_millis(100);
/// What the disk has at least to take what is left at the end.
const FINISH: Duration = Duration::from_secs(2);
/// When what failed at the end is tried again; a store that failed twice leaves the disk alone for a second.
const AGAIN: [Duration; 2] = [Duration::ZERO, Duration::from_secs(1)];
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
}

/// What became of a batch, and when something has to be taken out, Unix seconds; no outcome after a panic.
struct Written {
    outcome: Option<Result<(), StoreError>>,
    next_prune: Option<u64>,
    /// The batch, if it was not kept.
    refused: Vec<Record>,
}

impl Written {
    const NOTHING: Self = Self { outcome: None, next_prune: None, refused: Vec::new() };
}

/// The thread that a store has for itself: a disk that hangs takes nobody else along.
struct Writer {
    batches: blocking::Sender<Vec<Record>>,
    written: mpsc::Receiver<Written>,
}

impl Writer {
    fn start(commit: impl FnMut(&[Record]) -> Written + Send + 'static) -> Self {
        let (batches, coming) = blocking::channel::<Vec<Record>>();
        let (done, written) = mpsc::channel(1);
        let work = move || {
            let mut commit = commit;
            for batch in coming {
                // A panic of the store is a failure of the store.
                let written = catch_unwind(AssertUnwindSafe(|| commit(&batch))).unwrap_or(Written::NOTHING);
                let is_kept = matches!(written.outcome, Some(Ok(())));
                let written = Written { refused: if is_kept { Vec::new() } else { batch }, ..written };
                if done.blocking_send(written).is_err() {
                    break;
                }
            }
            // Closed and unlocked before anybody hears that it is over.
            drop(commit);
            drop(done);
        };
        // Without a thread every batch fails.
        let _thread = std::thread::Builder::new().name("store".to_owned()).spawn(work);
        Self { batches, written }
    }

    fn of(store: Arc<Store>) -> Self {
        Self::start(move |batch| {
            let outcome = store.commit(batch, unix_now());
            Written { outcome: Some(outcome), next_prune: store.next_prune(), ..Written::NOTHING }
        })
    }
}

/// What goes to the store. The machine bounds it: it stops accepting while the store is far behind.
pub(crate) struct Remembering {
    /// Absent where nothing was asked to be remembered.
    writer: Option<Writer>,
    waiting: Vec<Record>,
    waiting_bytes: usize,
    last: u64,
    /// When the next batch begins, if none is written, and when at the latest, whatever else is coming.
    due: Option<(Instant, Instant)>,
    prune_at: Option<Instant>,
    writing: Option<Writing>,
    counters: Counters,
    logged: Option<Instant>,
    /// Nobody but us tries again what fails now; and what failed last.
    is_ending: bool,
    refused: Vec<Record>,
}

impl Remembering {
    pub(crate) fn new(store: Option<Arc<Store>>, counters: Counters) -> Self {
        Self::with(store.map(Writer::of), counters)
    }

    const fn with(writer: Option<Writer>, counters: Counters) -> Self {
        Self {
            writer,
            waiting: Vec::new(),
            waiting_bytes: 0,
            last: 0,
            due: None,
            prune_at: None,
            writing: None,
            counters,
            logged: None,
            is_ending: false,
            refused: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, number: u64, record: Record) {
        let now = Instant::now();
        let due = match &record {
            Record::Accepted { .. } => (now, now + COMPANY),
            Record::Answered { draft, .. } => {
                self.waiting_bytes = self.waiting_bytes.saturating_add(draft.content.len());
                let due = if self.waiting_bytes < MOST_BYTES { now + PATIENCE } else { now };
                (due, due)
            }
        };
        self.due = Some(self.due.map_or(due, |other| other.min(due)));
        self.waiting.push(record);
        self.last = number;
    }

    /// Begins to write what is due, unless a batch is written already, or more is coming that can go with it.
    pub(crate) fn start(&mut self, is_more_coming: bool) {
        let now = Instant::now();
        let is_due = |(due, latest): (Instant, Instant)| due <= now && (!is_more_coming || latest <= now);
        if self.writing.is_none() && self.due.is_some_and(is_due) {
            self.begin();
        }
    }

    /// Waits for the end of a batch, or for ever; cancel-safe.
    pub(crate) async fn next(&mut self) -> Settled {
        loop {
            if self.writing.is_some() {
                let written = match &mut self.writer {
                    Some(writer) => writer.written.recv().await,
                    None => Some(Written { outcome: Some(Ok(())), ..Written::NOTHING }),
                };
                let mut written = written.unwrap_or(Written::NOTHING);
                if self.is_ending {
                    self.refused = core::mem::take(&mut written.refused);
                }
                if let Some(Writing { through, records }) = self.writing.take() {
                    let is_kept = self.note(written, records);
                    self.start(false);
                    return Settled { through, is_kept };
                }
            }
            let due = self.due.map(|(_, latest)| latest);
            sleep_until(due.or(self.prune_at)).await;
            self.begin();
        }
    }

    /// Writes what is left and closes the store, as far as that is done in time. Whom the machine would have tell again is gone:
    /// what fails is tried again here, at once and after a second.
    pub(crate) async fn finish(mut self, grace: Duration) {
        self.is_ending = true;
        let rest = async {
            let mut pauses = AGAIN.into_iter();
            while self.writing.is_some() || !self.waiting.is_empty() {
                if self.writing.is_none() {
                    self.begin();
                }
                let is_kept = self.next().await.is_kept;
                let refused = core::mem::take(&mut self.refused);
                if !is_kept && let Some(pause) = pauses.next() {
                    self.waiting.extend(refused);
                    tokio::time::sleep(pause).await;
                }
            }
            if let Some(Writer { batches, mut written }) = self.writer.take() {
                drop(batches);
                while written.recv().await.is_some() {}
            }
        };
        if timeout(grace.max(FINISH), rest).await.is_err() {
            tracing::error!("the disk has not taken in time what the store was to keep; it is left alone");
        }
    }

    /// Begins a batch of all that waits; without anything, the store only takes out what is too old.
    fn begin(&mut self) {
        let records = core::mem::take(&mut self.waiting);
        (self.due, self.prune_at, self.waiting_bytes) = (None, None, 0);
        self.writing = Some(Writing { through: self.last, records: records.len() });
        if let Some(writer) = &mut self.writer {
            // A thread that is gone is found out by whoever waits for its word.
            let _gone = writer.batches.send(records);
        }
    }

    fn note(&mut self, written: Written, records: usize) -> bool {
        let now = Instant::now();
        let records = u64::try_from(records).unwrap_or(u64::MAX);
        let error = match written.outcome {
            Some(Ok(())) => {
                self.prune_at = written.next_prune.map(|unix| now + prune_in(unix));
                self.counters.count(|stats| &mut stats.remembered, records);
                return true;
            }
            Some(Err(error)) => error.to_string(),
            None => "it has met a bug".to_owned(),
        };
        self.prune_at = Some(now + PRUNE_EVERY);
        self.counters.count(|stats| &mut stats.unstored, records);
        if self.logged.is_none_or(|last| last.elapsed() >= LOG_EVERY) {
            self.logged = Some(now);
            tracing::error!(%error, "the store has failed; requests are refused");
        }
        false
    }
}

/// How long a server that nobody calls leaves what is too old from this second on.
fn prune_in(unix: u64) -> Duration {
    match unix.saturating_sub(unix_now()) {
        0 => PRUNE_ON,
        seconds => Duration::from_secs(seconds).clamp(PRUNE_EVERY, PRUNE_LATEST),
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

    fn answered(bytes: usize) -> Record {
        let draft = Draft::new(key().caller, 1, Tags::new(), "x".repeat(bytes));
        Record::Answered { key: key(), draft, protection: Protection::Plain }
    }

    #[tokio::test(start_paused = true)]
    async fn an_acceptance_is_written_at_once_and_an_answer_with_the_next() {
        let mut remembering = Remembering::new(None, Counters::default());
        let begun = Instant::now();
        remembering.push(1, answered(10));
        remembering.start(false);
        assert!(remembering.writing.is_none(), "it waits for company");
        remembering.push(2, accepted());
        remembering.start(false);
        remembering.push(3, accepted());
        assert_eq!(remembering.next().await, Settled { through: 2, is_kept: true });
        assert_eq!(remembering.next().await, Settled { through: 3, is_kept: true });
        remembering.push(4, answered(10));
        assert_eq!(remembering.next().await, Settled { through: 4, is_kept: true });
        assert!(begun.elapsed() >= PATIENCE, "alone in the end");
        assert_eq!(remembering.counters.read().remembered, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn an_acceptance_waits_for_others_on_their_way_and_not_for_long() {
        let mut remembering = Remembering::new(None, Counters::default());
        let begun = Instant::now();
        remembering.push(1, accepted());
        remembering.start(true);
        assert!(remembering.writing.is_none());
        remembering.push(2, accepted());
        remembering.start(false);
        assert!(remembering.writing.is_some(), "nothing else is coming");
        assert_eq!(remembering.next().await, Settled { through: 2, is_kept: true });
        assert_eq!(begun.elapsed(), Duration::ZERO);
        remembering.push(3, accepted());
        remembering.start(true);
        assert_eq!(remembering.next().await, Settled { through: 3, is_kept: true });
        assert!(begun.elapsed() <= COMPANY * 2, "whatever else is coming");
    }

    #[tokio::test(start_paused = true)]
    async fn many_bytes_of_answers_do_not_wait() {
        let mut remembering = Remembering::new(None, Counters::default());
        for number in 1..=4 {
            remembering.start(false);
            assert!(remembering.writing.is_none());
            remembering.push(number, answered(MOST_BYTES / 4));
        }
        remembering.start(false);
        assert!(remembering.writing.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_at_the_end_is_written_without_waiting() {
        let counters = Counters::default();
        let mut remembering = Remembering::new(None, counters.clone());
        remembering.push(1, accepted());
        remembering.start(false);
        remembering.push(2, answered(10));
        remembering.finish(Duration::ZERO).await;
        assert_eq!(counters.read().remembered, 2);
    }

    #[tokio::test]
    async fn a_disk_that_hangs_is_left_alone_at_the_end() {
        let (hang, hung) = blocking::channel::<()>();
        let writer = Writer::start(move |_| {
            let _never = hung.recv();
            Written { outcome: Some(Ok(())), ..Written::NOTHING }
        });
        let counters = Counters::default();
        let mut remembering = Remembering::with(Some(writer), counters.clone());
        remembering.push(1, accepted());
        remembering.start(false);
        remembering.push(2, accepted());
        timeout(Duration::from_secs(30), remembering.finish(Duration::ZERO)).await.unwrap();
        assert_eq!(counters.read().remembered, 0);
        drop(hang);
    }

    #[tokio::test]
    async fn what_fails_at_the_end_is_tried_twice_again() {
        let full = || StoreError::Io { path: "store".into(), kind: std::io::ErrorKind::StorageFull };
        for (failures, kept, log) in [(1, 3, [1, 2, 1]), (2, 3, [1, 2, 3]), (9, 0, [1, 2, 3])] {
            let (tell, mut told) = mpsc::channel(8);
            let mut left = failures;
            let writer = Writer::start(move |batch: &[Record]| {
                let _full = tell.try_send(batch.len());
                let outcome = if left > 0 { Err(full()) } else { Ok(()) };
                left = i32::max(left - 1, 0);
                Written { outcome: Some(outcome), ..Written::NOTHING }
            });
            let counters = Counters::default();
            let mut remembering = Remembering::with(Some(writer), counters.clone());
            remembering.push(1, accepted());
            remembering.start(false);
            remembering.push(2, accepted());
            remembering.push(3, answered(10));
            remembering.finish(Duration::from_secs(5)).await;
            let mut sizes = Vec::new();
            while let Some(size) = told.recv().await {
                sizes.push(size);
            }
            assert_eq!((counters.read().remembered, sizes), (kept, log.to_vec()), "{failures}");
        }
    }

    #[tokio::test]
    async fn a_panic_of_the_store_is_a_failure_of_one_batch() {
        let mut is_first = true;
        let writer = Writer::start(move |_| {
            assert!(!std::mem::take(&mut is_first), "a bug");
            Written { outcome: Some(Ok(())), ..Written::NOTHING }
        });
        let mut remembering = Remembering::with(Some(writer), Counters::default());
        for (through, is_kept) in [(1, false), (2, true)] {
            remembering.push(through, accepted());
            remembering.start(false);
            assert_eq!(remembering.next().await, Settled { through, is_kept });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_nobody_calls_takes_out_what_is_too_old() {
        let (tell, mut told) = mpsc::channel(8);
        let mut left = 3;
        let writer = Writer::start(move |batch: &[Record]| {
            let _full = tell.try_send(batch.len());
            left -= 1;
            Written { outcome: Some(Ok(())), next_prune: (left > 0).then_some(0), ..Written::NOTHING }
        });
        let mut remembering = Remembering::with(Some(writer), Counters::default());
        remembering.push(1, accepted());
        for batch in [1, 0, 0] {
            assert_eq!(remembering.next().await, Settled { through: 1, is_kept: true });
            assert_eq!(told.recv().await, Some(batch));
        }
        assert!(timeout(Duration::from_secs(3_600), remembering.next()).await.is_err(), "and then sleeps");
    }
}
