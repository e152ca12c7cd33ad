//! Waiting: for changes to cease, and before something is tried again.
use core::time::Duration;

use contextvm_core::Mono;

use super::{LATEST, QUIET, REST};

/// Changes that are acted on once they cease, or have come for long enough; the more seldom, the longer they keep coming.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quiet {
    /// The first change, and when to act.
    pending: Option<(Mono, Mono)>,
    /// When changes were acted on last, and how long from then on there is rest.
    acted: Option<(Mono, Duration)>,
}

impl Quiet {
    /// Changes that come this long after a rest have nothing to do with those before it.
    const CALM: Duration = Duration::from_secs(60);

    /// Notes a change.
    pub(super) fn poke(&mut self, now: Mono) {
        let first = self.pending.map_or(now, |(first, _due)| first);
        let due = now.after(QUIET).min(first.after(LATEST));
        self.pending = Some((first, self.rested().map_or(due, |rested| due.max(rested))));
    }

    /// Whether changes will be acted on as soon as they cease; those that keep coming are put off.
    pub(super) fn is_pressing(&self) -> bool {
        self.at().is_some_and(|due| self.rested() != Some(due))
    }

    fn rested(&self) -> Option<Mono> {
        self.acted.map(|(at, rest)| at.after(rest))
    }

    /// Returns when to act.
    pub(super) fn at(&self) -> Option<Mono> {
        self.pending.map(|(_first, due)| due)
    }

    /// Whether to act now; then the changes are forgotten.
    pub(super) fn take_due(&mut self, now: Mono) -> bool {
        let is_due = self.at().is_some_and(|due| now >= due);
        if is_due {
            let rest = match self.acted {
                Some((at, rest)) if now.since(at) <= rest * 2 + Self::CALM => (rest * 2).min(REST),
                _ => QUIET,
            };
            (self.pending, self.acted) = (None, Some((now, rest)));
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
    /// The longest delay, and how long something must have worked for its failures to be forgotten.
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

    /// Notes that something which had worked since then has failed: there will be another attempt.
    pub(super) fn end(&mut self, since: Option<Mono>, now: Mono) {
        if since.is_some_and(|since| now.since(since) >= Self::MOST) {
            self.failures = 0;
        }
        self.fail(now);
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
