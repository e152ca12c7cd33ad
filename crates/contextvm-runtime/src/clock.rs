//! The driver's clocks: the only place that asks the host what time it is.
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use contextvm_core::{Mono, Now};
use tokio::time::Instant;

/// Reads both clocks; monotonic time starts at zero when this is made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts the monotonic clock.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Reads both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        let mono = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { mono: Mono(mono), unix: unix_now() }
    }

    /// Returns the instant at which the monotonic clock shows at least `mono`.
    #[must_use]
    pub fn instant(&self, mono: Mono) -> Instant {
        self.start
            .checked_add(Duration::from_millis(mono.0))
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400))
    }
}

/// Returns the wall clock in whole Unix seconds (zero when the host's clock stands before 1970).
#[must_use]
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_instant_of_a_mono_is_never_early() {
        let clock = Clock::start();
        let due = clock.now().mono.after(Duration::from_millis(20));
        tokio::time::sleep_until(clock.instant(due)).await;
        assert!(clock.now().mono >= due);
    }

    #[tokio::test]
    async fn the_end_of_time_has_an_instant() {
        let clock = Clock::start();
        assert!(clock.instant(Mono(u64::MAX)) > Instant::now());
    }
}
