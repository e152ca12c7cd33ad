//! What a process counts: executions, times, and what it holds itself, all in memory that does not grow with the run.
use std::time::Duration;

use serde_json::{Value, json};

use crate::logs;

/// Calls that can be told apart.
const MOST: usize = 1 << 22;
/// Buckets per doubling of a time: the error of a percentile is below two percent.
const STEPS: u32 = 64;

/// How often each call was executed, by its number.
pub(crate) struct Executions {
    times: Vec<u8>,
    executed: u64,
    doubled: u64,
    doubled_reads: u64,
    unnumbered: u64,
}

/// Whether a call only reads, so that it may be repeated by anybody: every fourth does.
pub(crate) const fn is_read(number: u64) -> bool {
    number.is_multiple_of(4)
}

/// What a call that was not executed yet looks like; not zero, so that the memory is there from the start.
const NEVER: u8 = b'0';

impl Default for Executions {
    fn default() -> Self {
        Self { times: vec![NEVER; MOST], executed: 0, doubled: 0, doubled_reads: 0, unnumbered: 0 }
    }
}

impl Executions {
    pub(crate) fn count(&mut self, number: Option<u64>) {
        let place = number.and_then(|number| usize::try_from(number).ok());
        let Some(times) = place.and_then(|place| self.times.get_mut(place)) else {
            self.unnumbered += 1;
            return;
        };
        match (*times == NEVER, number.is_some_and(is_read)) {
            (true, _) => self.executed += 1,
            (false, true) => self.doubled_reads += 1,
            (false, false) => self.doubled += 1,
        }
        *times = times.saturating_add(1);
    }

    /// Calls that were executed, executions beyond the first, and what the process holds.
    pub(crate) fn figures(&self, drops: &str) -> Value {
        let (descriptors, tasks) = held();
        json!({
            "executed": self.executed,
            "doubled": self.doubled,
            "doubled_reads": self.doubled_reads,
            "unnumbered": self.unnumbered,
            "drops": drops,
            "error_logs": error_logs(),
            "descriptors": descriptors,
            "tasks": tasks,
        })
    }
}

/// Times by size, in fixed memory.
pub(crate) struct Times {
    buckets: Vec<u64>,
    count: u64,
    longest: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { buckets: vec![0; (STEPS * 40) as usize], count: 0, longest: Duration::ZERO }
    }
}

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        self.count += 1;
        self.longest = self.longest.max(time);
        if let Some(bucket) = self.buckets.get_mut(bucket(time)) {
            *bucket += 1;
        }
    }

    /// The time that so many of a thousand did not exceed, milliseconds.
    pub(crate) fn at(&self, of_thousand: u64) -> f64 {
        let wanted = (self.count * of_thousand).div_ceil(1_000).max(1);
        let mut seen = 0;
        let found = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.map_or(0.0, upper_ms).min(ms(self.longest))
    }

    pub(crate) fn figures(&self) -> Value {
        json!({
            "count": self.count,
            "p50_ms": round(self.at(500)),
            "p99_ms": round(self.at(990)),
            "longest_ms": round(ms(self.longest)),
        })
    }
}

/// Microseconds below the first doubling have a bucket each.
fn bucket(time: Duration) -> usize {
    let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
    let doublings = us.ilog2().saturating_sub(STEPS.ilog2());
    usize::try_from(u64::from(doublings * STEPS) + (us >> doublings)).unwrap_or(usize::MAX)
}

/// The largest time of a bucket, milliseconds.
fn upper_ms(bucket: usize) -> f64 {
    let (steps, bucket) = (STEPS as usize, bucket);
    let doublings = (bucket / steps).saturating_sub(1);
    let us = ((bucket - doublings * steps + 1) as u64) << doublings;
    us as f64 / 1_000.0
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn round(ms: f64) -> f64 {
    (ms * 100.0).round() / 100.0
}

/// How often something logged an error, and where the first time.
pub(crate) fn error_logs() -> Value {
    let [errors, ..] = logs::read();
    json!({ "count": errors, "first": logs::first_error() })
}

/// Open descriptors and live tasks of this process.
pub(crate) fn held() -> (usize, usize) {
    let descriptors = std::fs::read_dir("/proc/self/fd").map(Iterator::count).unwrap_or_default();
    (descriptors, tokio::runtime::Handle::current().metrics().num_alive_tasks())
}
