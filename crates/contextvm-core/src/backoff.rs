//! Growing delays with full jitter: a relay that comes back does not meet all its clients at once.
use core::time::Duration;

/// Delays between a lost connection and the next, drawn from zero to a bound that grows with the time waited so far.
///
/// The bound is `first` until 1.5 s were waited, and grows with the square of that time from there to `most`:
/// a relay that restarts has its clients back within a second or two, and the longer one was away, the wider they are
/// spread; after 20 s no second sees more than a tenth of them. One that is back at once meets them all within `first`,
/// because a client cannot know how many others there are.
#[derive(Clone, Debug)]
pub struct Reconnect {
    first: Duration,
    most: Duration,
    waited: Duration,
    penalty: bool,
}

/// A connection that was live for less time made nothing good.
const OF_USE: Duration = Duration::from_secs(1);
/// How long is waited before the bound grows.
const QUICK: Duration = Duration::from_millis(1_500);

impl Reconnect {
    /// Begins without any delay behind it.
    #[must_use]
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, waited: Duration::ZERO, penalty: false }
    }

    /// Takes note of how long a connection lasted, and for how much of that it was live: it makes good for as much waiting
    /// as it lasted if it was live for a second, and for all if it lasted `enough`.
    ///
    /// A relay that is restarted every few seconds is not taken for one that is away. One that closes every connection at
    /// once is, and so is one that goes down under its clients before it has served them: they are not to come back all at
    /// once again and again. A penalty is still to be served.
    pub fn lived(&mut self, life: Duration, live: Duration, enough: Duration) {
        if life >= enough {
            self.waited = Duration::ZERO;
        } else if live >= OF_USE {
            self.waited = self.waited.saturating_sub(life);
        }
    }

    /// Makes the next delay one of the longest.
    pub const fn punish(&mut self) {
        self.penalty = true;
    }

    /// Draws the next delay; `random` is uniform.
    pub fn next(&mut self, random: u32) -> Duration {
        if core::mem::take(&mut self.penalty) {
            return self.most / 2 + fraction(self.most / 2, random);
        }
        let delay = fraction(self.bound(), random);
        self.waited = self.waited.saturating_add(delay);
        delay
    }

    fn bound(&self) -> Duration {
        let times = self.waited.as_secs_f64() / QUICK.as_secs_f64();
        let growth = (times * times).clamp(1.0, 1e6);
        Duration::try_from_secs_f64(self.first.as_secs_f64() * growth).unwrap_or(self.most).min(self.most)
    }
}

/// Pauses whose bound doubles with each refusal.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Begins without any refusal.
    #[must_use]
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0 }
    }

    /// Starts afresh.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Draws the next pause from the upper half of what the bound allows; `random` is uniform.
    pub fn next_upper(&mut self, random: u32) -> Duration {
        let bound = self.first.saturating_mul(1 << self.failures.min(16)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        bound / 2 + fraction(bound / 2, random)
    }
}

fn fraction(bound: Duration, random: u32) -> Duration {
    bound.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const FIRST: Duration = Duration::from_millis(500);
    const MOST: Duration = Duration::from_secs(30);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_bound_grows_with_the_time_waited_up_to_the_longest() {
        let mut reconnect = Reconnect::new(FIRST, MOST);
        let bounds: Vec<u128> = (0..10).map(|_| reconnect.next(u32::MAX).as_millis()).collect();
        assert_eq!(bounds, [500, 500, 500, 500, 888, 1_854, 5_000, 21_097, 30_000, 30_000]);
        assert_eq!(reconnect.next(u32::MAX), MOST);
        assert_eq!(reconnect.next(0), Duration::ZERO);
        assert_eq!(reconnect.next(u32::MAX), MOST);
    }

    #[test]
    fn a_connection_makes_good_for_as_much_waiting_as_it_lasted() {
        let mut reconnect = Reconnect::new(FIRST, MOST);
        let wait = |reconnect: &mut Reconnect| reconnect.next(u32::MAX);
        while wait(&mut reconnect) < MOST {}
        reconnect.lived(SECOND, SECOND, 5 * SECOND);
        assert_eq!(wait(&mut reconnect), MOST, "one second is not enough for what was waited");
        reconnect.lived(5 * SECOND, Duration::ZERO, 5 * SECOND);
        assert_eq!(wait(&mut reconnect), FIRST);
        // A relay that is killed whenever it has been up for a second.
        for _ in 0..1_000 {
            reconnect.lived(SECOND, SECOND, 5 * SECOND);
            assert_eq!(wait(&mut reconnect), FIRST);
        }
        // A relay that closes every connection at once.
        for _ in 0..20 {
            reconnect.lived(Duration::from_millis(1), Duration::ZERO, 5 * SECOND);
            wait(&mut reconnect);
        }
        assert_eq!(wait(&mut reconnect), MOST);
    }

    #[test]
    fn a_relay_that_goes_down_under_its_clients_again_and_again_meets_ever_fewer_of_them_at_once() {
        let mut reconnect = Reconnect::new(FIRST, MOST);
        for _ in 0..20 {
            // Three seconds, in which it hardly got as far as new events.
            reconnect.lived(3 * SECOND, SECOND / 2, 5 * SECOND);
            reconnect.next(u32::MAX);
        }
        assert_eq!(reconnect.next(u32::MAX), MOST);
    }

    #[test]
    fn a_penalty_is_served_once_and_survives_a_long_life() {
        let mut reconnect = Reconnect::new(FIRST, MOST);
        reconnect.punish();
        reconnect.lived(MOST, MOST, FIRST);
        assert_eq!(reconnect.next(0), MOST / 2);
        assert_eq!(reconnect.next(u32::MAX), FIRST);
    }

    /// Lets 1,000 clients lose one relay at once and returns when each is connected again after an outage, sorted.
    fn storm(outage: Duration) -> Vec<Duration> {
        let mut random = 0x2545_F491_4F6C_DD1D_u64;
        let mut connected: Vec<Duration> = (0..1_000)
            .map(|_| {
                let (mut reconnect, mut at) = (Reconnect::new(FIRST, MOST), Duration::ZERO);
                loop {
                    // An xorshift generator, so that the storm is the same on every run.
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    at += reconnect.next((random >> 32) as u32);
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
    fn after_an_outage_of_up_to_three_seconds_all_are_back_within_two() {
        for millis in [100, 500, 1_000, 2_000, 3_000] {
            let last = *storm(Duration::from_millis(millis)).last().unwrap() - Duration::from_millis(millis);
            assert!(last <= 2 * SECOND, "{last:?} after an outage of {millis} ms");
        }
    }

    #[test]
    fn one_with_a_shorter_first_delay_comes_back_that_much_sooner_after_outages_of_any_length() {
        let (mut early, mut late) = (Reconnect::new(FIRST / 5, MOST), Reconnect::new(FIRST, MOST));
        for waited in [0, 1_000, 2_000, 3_000, 10_000] {
            let waited = Duration::from_millis(waited);
            (early.waited, late.waited) = (waited, waited);
            let apart = (early.bound() * 5).abs_diff(late.bound());
            assert!(apart < Duration::from_micros(1), "{waited:?}: {apart:?}");
        }
    }

    #[test]
    fn failures_without_end_do_not_overflow() {
        let mut backoff = Backoff::new(FIRST, MOST);
        backoff.failures = u32::MAX;
        assert_eq!(backoff.next_upper(0), MOST / 2);
        let mut reconnect = Reconnect::new(FIRST, MOST);
        reconnect.waited = Duration::MAX;
        assert_eq!(reconnect.next(u32::MAX), MOST);
    }
}
