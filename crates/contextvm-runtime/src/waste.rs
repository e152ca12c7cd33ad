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
/// One event counts for no more: what took longer waited for a core.
const DEAREST: Duration = Duration::from_millis(1);

/// What each relay owes: the instant at which its wasted work will be paid off.
///
/// Anybody can publish what nobody can open, on any relay, so that a relay is not to blame for it, and is not cut. It is
/// heard less often until the flood is over; the other relays are heard as before.
#[derive(Debug, Default)]
pub(crate) struct Waste {
    paid: BTreeMap<u16, Instant>,
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
}

/// Whether work on an event that was opened came to nothing by its sender's doing.
///
/// What is refused because we are busy, or came too late, is the lot of honest peers too.
pub(crate) const fn is_waste(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::NotAllowed
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
    fn one_event_that_waited_for_a_core_is_not_dear() {
        let (mut waste, now) = (Waste::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(waste.charge(1, Duration::from_secs(60), now), None);
        }
    }
}
