//! When a child that ended is started again.
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// After which endings a child is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartWhen {
    /// After every ending but exit code 0.
    #[default]
    Failure,
    /// After every ending.
    Always,
    /// Never.
    Never,
}

/// How often and how fast a child is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// After which endings.
    pub when: RestartWhen,
    /// Most restarts within `window`.
    pub max: usize,
    /// The time over which restarts are counted.
    pub window: Duration,
    /// First delay; it doubles with every restart.
    pub first: Duration,
    /// Longest delay.
    pub longest: Duration,
    /// A child that lived this long starts again with the first delay.
    pub stable: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            when: RestartWhen::Failure,
            max: 10,
            window: Duration::from_secs(600),
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            stable: Duration::from_secs(60),
        }
    }
}

/// The restarts of one child so far.
#[derive(Clone, Debug)]
pub(crate) struct Restarts {
    policy: RestartPolicy,
    times: VecDeque<Instant>,
    streak: u32,
}

impl Restarts {
    pub(crate) const fn new(policy: RestartPolicy) -> Self {
        Self { policy, times: VecDeque::new(), streak: 0 }
    }

    /// Decides after an ending: how long to wait and the how manieth restart in the window it is, or never again.
    pub(crate) fn after(
        &mut self,
        clean: bool,
        lived: Duration,
        now: Instant,
        chance: f64,
    ) -> Option<(Duration, usize)> {
        match self.policy.when {
            RestartWhen::Never => return None,
            RestartWhen::Failure if clean => return None,
            RestartWhen::Failure | RestartWhen::Always => {}
        }
        while self.times.front().is_some_and(|time| now.duration_since(*time) >= self.policy.window) {
            self.times.pop_front();
        }
        if self.times.len() >= self.policy.max {
            return None;
        }
        self.streak = if lived >= self.policy.stable { 0 } else { self.streak };
        let doubled = self.policy.first.saturating_mul(1_u32.checked_shl(self.streak).unwrap_or(u32::MAX));
        self.streak = self.streak.saturating_add(1).min(31);
        self.times.push_back(now);
        // Up to a tenth longer, so that children that died together do not come back together.
        let delay = doubled.min(self.policy.longest).mul_f64(1.0 + chance.clamp(0.0, 1.0) / 10.0);
        Some((delay, self.times.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(policy: RestartPolicy, lived: Duration, count: usize) -> Vec<Option<u64>> {
        let mut restarts = Restarts::new(policy);
        let mut now = Instant::now();
        let mut out = Vec::new();
        for _ in 0..count {
            let after = restarts.after(false, lived, now, 0.0);
            now += after.map_or(Duration::ZERO, |after| after.0) + lived;
            out.push(after.map(|after| after.0.as_secs()));
        }
        out
    }

    #[test]
    fn delays_double_to_the_longest_and_then_it_gives_up() {
        let expected = [1, 2, 4, 8, 16, 32, 60, 60, 60, 60].map(Some).into_iter().chain([None]);
        assert_eq!(delays(RestartPolicy::default(), Duration::ZERO, 11), expected.collect::<Vec<_>>());
    }

    #[test]
    fn a_child_that_lived_long_starts_again_at_once() {
        let policy = RestartPolicy::default();
        assert_eq!(delays(policy, Duration::from_secs(120), 20), [Some(1); 20]);
    }

    #[test]
    fn a_clean_ending_is_final_unless_always_is_said() {
        let mut on_failure = Restarts::new(RestartPolicy::default());
        assert_eq!(on_failure.after(true, Duration::ZERO, Instant::now(), 0.0), None);
        let always = RestartPolicy { when: RestartWhen::Always, ..RestartPolicy::default() };
        assert!(Restarts::new(always).after(true, Duration::ZERO, Instant::now(), 0.0).is_some());
        let never = RestartPolicy { when: RestartWhen::Never, ..RestartPolicy::default() };
        assert_eq!(Restarts::new(never).after(false, Duration::ZERO, Instant::now(), 0.0), None);
    }

    #[test]
    fn jitter_adds_at_most_a_tenth() {
        let mut restarts = Restarts::new(RestartPolicy::default());
        let after = restarts.after(false, Duration::ZERO, Instant::now(), 1.0).unwrap();
        assert_eq!(after.0, Duration::from_millis(1_100));
    }
}
