//! How much work relays may cause that comes to nothing: half a core, shared by those that cause much.
use std::collections::BTreeMap;
use std::time::Duration;

use contextvm_engine::DropReason;
use tokio::time::Instant;

/// Wasted work is paid off at half the speed of one core.
const PACE: u32 = 2;
/// What a relay may owe before it is put on hold: 0.2 s of one core, some thousands of gift wraps.
const CREDIT: Duration = Duration::from_millis(400);
/// What it may owe when the hold ends, so that a hold is worth its price.
const RELEASE: Duration = Duration::from_millis(300);
/// Who owes more than this shares what there is with the others that do.
const SHARES: Duration = Duration::from_millis(100);
/// One event counts for no more.
const DEAREST: Duration = Duration::from_millis(1);
/// Stored events of one relay that may come to nothing for free, in so much time: after a restart every relay sends what it
/// kept, and most of that was answered before.
const STORED: u32 = 8_192;
const STORED_TIME: Duration = Duration::from_secs(60);

/// What each relay owes: the instant at which its wasted work will be paid off.
///
/// Anybody can publish what nobody can open, on any relay, so that a relay is not to blame for it, and is not cut. It is
/// heard less often until the flood is over; the other relays are heard as before.
#[derive(Debug, Default)]
pub(crate) struct Waste {
    paid: BTreeMap<u16, Instant>,
    /// Stored events that came to nothing, since when.
    stored: BTreeMap<u16, (Instant, u32)>,
}

impl Waste {
    /// Notes work on one event that came to nothing; returns until when its relay is to be held, if it owes too much.
    pub(crate) fn charge(&mut self, relay: u16, cost: Duration, now: Instant) -> Option<Instant> {
        self.paid.retain(|_, paid| *paid > now);
        let paid = self.paid.get(&relay).copied().unwrap_or(now);
        let sharing =
            self.paid.iter().filter(|(other, paid)| **other != relay && **paid > now + SHARES).count();
        let sharing = u32::try_from(sharing).unwrap_or(u32::MAX).saturating_add(1);
        let price = cost.min(DEAREST).saturating_mul(PACE).saturating_mul(sharing);
        let paid = paid + price;
        self.paid.insert(relay, paid);
        (paid > now + CREDIT).then(|| paid - RELEASE)
    }

    /// The same for an event that the relay had kept.
    pub(crate) fn charge_stored(&mut self, relay: u16, cost: Duration, now: Instant) -> Option<Instant> {
        let (since, count) = self.stored.entry(relay).or_insert((now, 0));
        if now.saturating_duration_since(*since) >= STORED_TIME {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        if *count > STORED { self.charge(relay, cost, now) } else { None }
    }
}

/// What an event costs, by its size: not what the clock says of this one, which may have waited for a core.
///
/// How fast the host is is learnt from events that opened, because nobody can make that cheap: the least that one took of
/// late.
#[derive(Debug)]
pub(crate) struct Prices {
    /// To open a small event.
    open: Duration,
}

/// What it takes on a host of today, and what is believed at most and at least.
const OPEN: Duration = Duration::from_micros(90);
const OPEN_LEAST: Duration = Duration::from_micros(30);
const OPEN_MOST: Duration = DEAREST;
/// An event with so many bytes of content takes twice as long to open.
const DOUBLES: u32 = 9_000;

impl Default for Prices {
    fn default() -> Self {
        Self { open: OPEN }
    }
}

impl Prices {
    /// Learns how long it took to open a gift wrap.
    pub(crate) fn learn(&mut self, bytes: usize, took: Duration) {
        let small =
            took.saturating_mul(DOUBLES) / DOUBLES.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        let rising = self.open.saturating_add(self.open / 64);
        self.open = small.min(rising).clamp(OPEN_LEAST, OPEN_MOST);
    }

    /// An event that was parsed and hashed, and not opened.
    pub(crate) fn look(&self, bytes: usize) -> Duration {
        self.open / 45 + self.bytes(bytes) / 2
    }

    /// An event that could not be opened: mostly its inner signature was never looked at.
    pub(crate) fn try_open(&self, bytes: usize) -> Duration {
        self.open / 4 * 3 + self.bytes(bytes)
    }

    /// An event that was opened, and whose message was parsed.
    pub(crate) fn read(&self, bytes: usize) -> Duration {
        self.open + self.bytes(bytes) * 2
    }

    fn bytes(&self, bytes: usize) -> Duration {
        self.open.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX)) / DOUBLES
    }
}

/// Whether work on an event that was opened came to nothing by its sender's doing.
///
/// What is refused because we are busy, or came too late, is the lot of honest peers too.
pub(crate) const fn is_waste(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::NotAllowed
            | DropReason::Undecided
            | DropReason::Duplicate
            | DropReason::BeforeStart
            | DropReason::Stale
            | DropReason::Malformed
            | DropReason::Budget
            | DropReason::WrongAuthor
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRAP: Duration = Duration::from_micros(65);

    /// Lets relays flood for ten seconds, held as told, and returns the work that each caused.
    fn flood(relays: u16) -> Vec<Duration> {
        let (mut waste, start) = (Waste::default(), Instant::now());
        let mut spent = vec![Duration::ZERO; usize::from(relays)];
        let mut held = vec![start; usize::from(relays)];
        for step in 0..100_000_u32 {
            let now = start + Duration::from_micros(100) * step;
            for (relay, (spent, held)) in (0..).zip(spent.iter_mut().zip(&mut held)) {
                if *held <= now {
                    *spent += WRAP;
                    *held = waste.charge(relay, WRAP, now).unwrap_or(*held);
                }
            }
        }
        spent
    }

    #[test]
    fn a_flood_takes_half_a_core_however_many_relays_it_comes_from() {
        for relays in [1, 2, 4] {
            let spent = flood(relays);
            let all: Duration = spent.iter().sum();
            assert!(all <= Duration::from_millis(5_900), "{relays} relays: {all:?} of ten seconds");
            assert!(all >= Duration::from_millis(4_000), "{relays} relays: {all:?} of ten seconds");
            let least = spent.iter().min().copied().unwrap_or_default();
            assert!(least * u32::from(relays) * 2 >= all, "{spent:?} is no fair share");
        }
    }

    #[test]
    fn a_little_rubbish_holds_nobody() {
        let (mut waste, start) = (Waste::default(), Instant::now());
        for second in 0..100 {
            for n in 0..1_000 {
                let now = start + Duration::from_secs(second) + Duration::from_micros(n * 900);
                assert_eq!(waste.charge(1, WRAP, now), None);
            }
        }
    }

    #[test]
    fn what_one_relay_owes_is_not_asked_of_another() {
        let (mut waste, now) = (Waste::default(), Instant::now());
        while waste.charge(1, WRAP, now).is_none() {}
        assert_eq!(waste.charge(2, WRAP, now), None);
        let later = now + Duration::from_secs(1);
        assert_eq!(waste.charge(1, WRAP, later), None, "it is paid off in time");
    }

    #[test]
    fn what_a_relay_kept_is_free_at_a_restart_and_not_without_end() {
        let (mut waste, start) = (Waste::default(), Instant::now());
        let mut flood =
            |at: Instant| (0..20_000).take_while(|_| waste.charge_stored(1, WRAP, at).is_none()).count();
        let first = flood(start);
        assert!(first >= 8_192 + 2_000, "{first}");
        assert!(flood(start + STORED_TIME / 2) < 8_192, "a relay that sends it again and again pays");
        assert!(flood(start + STORED_TIME) >= 8_192);
    }

    #[test]
    fn what_an_event_costs_does_not_depend_on_how_long_it_waited_for_a_core() {
        let mut prices = Prices::default();
        for n in 0..1_000 {
            let took = if n % 3 == 0 { OPEN } else { Duration::from_millis(50) };
            prices.learn(0, took);
        }
        assert!(prices.try_open(0) <= OPEN, "{prices:?}");
        assert!(prices.look(1_000) * 8 <= prices.try_open(1_000), "{prices:?}");
    }

    #[test]
    fn a_slow_host_is_known_soon_and_so_is_its_like_for_large_events() {
        let mut prices = Prices::default();
        let slow = 5 * OPEN;
        for _ in 0..200 {
            prices.learn(9_000, 2 * slow);
        }
        let off = prices.read(0).abs_diff(slow);
        assert!(off < Duration::from_micros(1), "{prices:?}");
        assert!(prices.read(40_000) > 8 * slow);
    }
}
