//! Counters of one endpoint: plain numbers, no peer data.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contextvm_engine::DropReason;
use tokio::time::Instant;

/// A line per reason is logged at most this often.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// A reading of an endpoint's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Events that relays handed over.
    pub received: u64,
    /// Events that were opened and given to the machine.
    pub opened: u64,
    /// Events that could not be opened: not ours, forged, stale or broken.
    pub unopened: u64,
    /// Events published and accepted by a relay.
    pub accepted: u64,
    /// Publications of unknown outcome.
    pub unknown: u64,
    /// Publications refused by every relay.
    pub refused: u64,
    /// Messages dropped because the application did not read them.
    pub unread: u64,
    /// Records that the store has on disk.
    pub remembered: u64,
    /// Records that it failed to keep.
    pub unstored: u64,
    /// Refusals of the gate and of the machine by reason.
    pub drops: BTreeMap<DropReason, u64>,
}

impl Stats {
    /// Returns how often something was dropped for a reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(&reason).copied().unwrap_or(0)
    }
}

#[derive(Debug, Default)]
struct Inner {
    stats: Stats,
    logged: BTreeMap<DropReason, Instant>,
}

/// Shared counters; cloning gives another handle to the same numbers.
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Mutex<Inner>>);

impl Counters {
    /// Reads all numbers.
    #[must_use]
    pub fn read(&self) -> Stats {
        self.with(|inner| inner.stats.clone())
    }

    /// Counts a refusal and logs it, sampled.
    pub fn drop(&self, reason: DropReason) {
        let line = self.with(|inner| {
            let count = inner.stats.drops.entry(reason).or_default();
            *count = count.saturating_add(1);
            let count = *count;
            let now = Instant::now();
            let due = inner.logged.get(&reason).is_none_or(|last| now.duration_since(*last) >= LOG_EVERY);
            due.then(|| {
                inner.logged.insert(reason, now);
                count
            })
        });
        if let Some(count) = line {
            tracing::debug!(?reason, count, "dropped");
        }
    }

    /// Counts an application message that nobody read.
    pub fn unread(&self) {
        self.add(|stats| &mut stats.unread);
    }

    pub(crate) fn add(&self, field: impl FnOnce(&mut Stats) -> &mut u64) {
        self.count(field, 1);
    }

    pub(crate) fn count(&self, field: impl FnOnce(&mut Stats) -> &mut u64, by: u64) {
        self.with(|inner| {
            let number = field(&mut inner.stats);
            *number = number.saturating_add(by);
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_drop_is_counted_under_its_reason() {
        let counters = Counters::default();
        counters.drop(DropReason::Duplicate);
        counters.drop(DropReason::Duplicate);
        counters.drop(DropReason::Busy);
        let stats = counters.read();
        assert_eq!(stats.dropped(DropReason::Duplicate), 2);
        assert_eq!(stats.dropped(DropReason::Busy), 1);
        assert_eq!(stats.dropped(DropReason::Malformed), 0);
    }

    #[tokio::test]
    async fn clones_share_their_numbers() {
        let counters = Counters::default();
        counters.clone().unread();
        assert_eq!(counters.read().unread, 1);
    }
}
