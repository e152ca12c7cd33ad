//! Cryptography beside the loop: on the runtime's worker threads, results in the order of the pieces.
use std::collections::VecDeque;
use std::pin::Pin;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;

type Job<T> = Box<dyn FnOnce() -> T + Send>;
/// `None` when the job panicked.
type Running<T> = Pin<Box<dyn Future<Output = Option<T>> + Send>>;

/// Jobs that wait, and jobs under way.
pub(crate) struct Work<T> {
    waiting: VecDeque<(usize, Job<T>)>,
    waiting_bytes: usize,
    running: FuturesOrdered<Running<T>>,
    /// What each of them is on, in their order.
    running_sizes: VecDeque<usize>,
    running_bytes: usize,
    most: usize,
}

impl<T: Send + 'static> Work<T> {
    /// At most `most` jobs run at once.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            running: FuturesOrdered::new(),
            running_sizes: VecDeque::new(),
            running_bytes: 0,
            most: most.max(1),
        }
    }

    /// Adds a job on so many bytes; it waits for [`Self::start`].
    pub(crate) fn push(&mut self, bytes: usize, job: impl FnOnce() -> T + Send + 'static) {
        self.waiting_bytes = self.waiting_bytes.saturating_add(bytes);
        self.waiting.push_back((bytes, Box::new(job)));
    }

    /// Starts as many jobs as may run at once.
    pub(crate) fn start(&mut self) {
        while self.running.len() < self.most {
            let Some((bytes, job)) = self.waiting.pop_front() else {
                return;
            };
            self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
            self.running_bytes = self.running_bytes.saturating_add(bytes);
            self.running_sizes.push_back(bytes);
            let task = tokio::spawn(async move { job() });
            self.running.push_back(Box::pin(async move { task.await.ok() }));
        }
    }

    /// Waits for the oldest running job: `None` when none is running, `Some(None)` when it panicked. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Option<T>> {
        let ended = self.running.next().await?;
        let bytes = self.running_sizes.pop_front().unwrap_or(0);
        self.running_bytes = self.running_bytes.saturating_sub(bytes);
        Some(ended)
    }

    pub(crate) fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Jobs that wait or run.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    /// The bytes that all jobs are on.
    pub(crate) fn bytes(&self) -> usize {
        self.waiting_bytes.saturating_add(self.running_bytes)
    }

    /// Jobs that wait, and the bytes that they are on.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.waiting.len(), self.waiting_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_job_runs_on_a_task_of_its_own() {
        let mut work = Work::new(8);
        for _ in 0..2 {
            work.push(1, || tokio::task::try_id().is_some());
        }
        work.start();
        assert_eq!((work.next().await, work.next().await), (Some(Some(true)), Some(Some(true))));
        assert_eq!(work.next().await, None);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn results_come_in_the_order_of_the_jobs_and_no_more_run_than_may() {
        let mut work = Work::new(2);
        for n in 0..20_u64 {
            work.push(10, move || {
                std::thread::sleep(std::time::Duration::from_millis((20 - n) % 3));
                n
            });
        }
        for n in 0..20 {
            work.start();
            assert_eq!(work.bytes(), work.len() * 10, "what runs counts as what waits");
            assert!(work.running.len() <= 2);
            assert_eq!(work.next().await, Some(Some(n)));
        }
        assert_eq!((work.len(), work.waiting(), work.bytes()), (0, (0, 0), 0));
    }

    #[tokio::test]
    async fn a_job_that_panics_costs_nothing_but_itself() {
        for jobs in [1, 3] {
            let mut work = Work::new(8);
            for n in 0..jobs {
                work.push(1, move || assert!(n != 0, "as told"));
            }
            work.start();
            assert_eq!(work.next().await, Some(None));
            for _ in 1..jobs {
                assert_eq!(work.next().await, Some(Some(())));
            }
        }
    }
}
