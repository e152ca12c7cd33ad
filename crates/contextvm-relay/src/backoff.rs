//! Growing delays with full jitter: a relay that comes back does not meet all its clients at once.
use std::time::Duration;

/// Delays that are drawn from zero to a bound which doubles with each failure.
///
/// The longer a relay was away, the wider its clients are spread: after 20 s no second sees more than a tenth of them.
/// One that is back at once meets them all within `first`, because a client cannot know how many others there are.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
    penalty: bool,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0, penalty: false }
    }

    /// Starts afresh, unless a penalty is still to be served.
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Makes the next delay one of the longest.
    pub(crate) const fn punish(&mut self) {
        self.penalty = true;
    }

    /// Draws the next delay; `random` is uniform.
    pub(crate) fn next(&mut self, random: u32) -> Duration {
        if core::mem::take(&mut self.penalty) {
            return self.most / 2 + fraction(self.most / 2, random);
        }
        let bound = self.first.saturating_mul(1 << self.failures.min(16)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        fraction(bound, random)
    }

    /// Draws the next delay from the upper half of what [`Backoff::next`] may give.
    pub(crate) fn next_upper(&mut self, random: u32) -> Duration {
        let bound = self.first.saturating_mul(1 << self.failures.min(16)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        bound / 2 + fraction(bound / 2, random)
    }
}

fn fraction(bound: Duration, random: u32) -> Duration {
    bound.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// Draws a uniform number; without randomness every caller waits longest, which is safe.
pub(crate) fn draw() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(500);
    const MOST: Duration = Duration::from_secs(30);

    #[test]
    fn the_bound_doubles_up_to_the_longest_and_starts_afresh_after_a_reset() {
        let mut backoff = Backoff::new(FIRST, MOST);
        let bounds: Vec<u128> = (0..8).map(|_| backoff.next(u32::MAX).as_millis()).collect();
        assert_eq!(bounds, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(backoff.next(0), Duration::ZERO);
        backoff.reset();
        assert_eq!(backoff.next(u32::MAX), FIRST);
    }

    #[test]
    fn a_penalty_is_served_once_and_survives_a_reset() {
        let mut backoff = Backoff::new(FIRST, MOST);
        backoff.punish();
        backoff.reset();
        assert_eq!(backoff.next(0), MOST / 2);
        assert_eq!(backoff.next(u32::MAX), FIRST);
    }

    /// Lets 1,000 clients lose one relay at once and returns when each is connected again after an outage, sorted.
    fn storm(outage: Duration) -> Vec<Duration> {
        let mut random = 0x2545_F491_4F6C_DD1D_u64;
        let mut connected: Vec<Duration> = (0..1_000)
            .map(|_| {
                let (mut backoff, mut at) = (Backoff::new(FIRST, MOST), Duration::ZERO);
                loop {
                    // An xorshift generator, so that the storm is the same on every run.
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    at += backoff.next((random >> 32) as u32);
                    if at >= outage {
                        return at;
                    }
                }
            })
            .collect();
        connected.sort();
        connected
    }

    /// The most clients that connect within any one stretch of time.
    fn peak(connected: &[Duration], stretch: Duration) -> usize {
        let within =
            |from: &Duration| connected.iter().filter(|at| (*from..*from + stretch).contains(at)).count();
        connected.iter().map(within).max().unwrap()
    }

    #[test]
    fn no_second_after_an_outage_sees_more_than_a_tenth_of_the_clients_connect() {
        for seconds in [20, 60, 300] {
            let connected = storm(Duration::from_secs(seconds));
            let most = peak(&connected, Duration::from_secs(1));
            assert!(most <= 100, "{most} of 1,000 within one second after {seconds} s");
            let last = *connected.last().unwrap() - Duration::from_secs(seconds);
            assert!(last > MOST / 2 && last <= MOST, "{last:?}");
        }
    }

    #[test]
    fn clients_of_a_relay_that_is_back_at_once_come_evenly_within_the_first_delay() {
        let connected = storm(Duration::ZERO);
        assert!(*connected.last().unwrap() <= FIRST);
        let most = peak(&connected, FIRST / 10);
        assert!((100..150).contains(&most), "{most} of 1,000 within a tenth of the delay");
    }

    #[test]
    fn failures_without_end_do_not_overflow() {
        let mut backoff = Backoff::new(FIRST, MOST);
        backoff.failures = u32::MAX;
        assert_eq!(backoff.next(u32::MAX), MOST);
        assert_eq!(backoff.next_upper(0), MOST / 2);
    }
}
