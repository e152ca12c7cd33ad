//! Waiting: for changes to cease, and before something is tried again.
use core::time::Duration;

use contextvm_core::Mono;

use super::{LATEST, QUIET};

/// Changes that are acted on once they cease, or have come for long enough.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quiet {
    /// The first change, and when to act.
    pending: Option<(Mono, Mono)>,
}

impl Quiet {
    /// Notes a change.
    pub(super) fn poke(&mut self, now: Mono) {
        let first = self.pending.map_or(now, |(first, _due)| first);
        self.pending = Some((first, now.after(QUIET).min(first.after(LATEST))));
    }

    /// Returns when to act.
    pub(super) fn at(&self) -> Option<Mono> {
        self.pending.map(|(_first, due)| due)
    }

    /// Whether to act now; then the changes are forgotten.
    pub(super) fn take_due(&mut self, now: Mono) -> bool {
        let is_due = self.at().is_some_and(|due| now >= due);
        if is_due {
            self.pending = None;
        }
        is_due
    }
}

/// A delay that doubles with each failure.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    at: Option<Mono>,
}

impl Backoff {
    /// The first delay.
    const FIRST: Duration = Duration::from_secs(5);
    /// The longest delay.
    const MOST: Duration = Duration::from_secs(600);

    /// Makes one that is due now.
    pub(super) const fn due(now: Mono) -> Self {
        Self { failures: 0, at: Some(now) }
    }

    /// Notes a failure: there will be another attempt.
    pub(super) fn fail(&mut self, now: Mono) {
        let factor = 2_u32.saturating_pow(self.failures.min(16));
        self.at = Some(now.after(Self::FIRST.saturating_mul(factor).min(Self::MOST)));
        self.failures = self.failures.saturating_add(1);
    }

    /// Returns when to try again.
    pub(super) const fn at(&self) -> Option<Mono> {
        self.at
    }

    /// Whether to try again now; then it counts as tried.
    pub(super) fn take_due(&mut self, now: Mono) -> bool {
        let is_due = self.at.is_some_and(|at| now >= at);
        if is_due {
            self.at = None;
        }
        is_due
    }
}
