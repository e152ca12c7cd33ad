//! Damaged events of one relay: too many within a hundred that follow each other cost it the connection.
use std::collections::BTreeSet;

/// Delivered events over which damaged ones are counted, and how many of them may be damaged.
const WINDOW: u64 = 100;
const MOST: usize = 5;
/// A report comes before so many more events were delivered: the queues on its way hold fewer.
const LATEST: u64 = 4_096;

/// Which of a relay's events were damaged, by their place among all that it delivered.
///
/// Reports may come late and in any order; what counts is where the events stood.
#[derive(Debug, Default)]
pub(super) struct Damage {
    numbers: BTreeSet<u64>,
    /// Events up to this one are paid for.
    forgiven: u64,
}

impl Damage {
    /// Notes that an event is damaged, when `delivered` events have come; returns whether the connection is to end.
    pub(super) fn note(&mut self, number: u64, delivered: u64) -> bool {
        if number <= self.forgiven || !self.numbers.insert(number) {
            return false;
        }
        let first = number.saturating_sub(WINDOW - 1);
        let starts: Vec<u64> = self.numbers.range(first..=number).copied().collect();
        let within = |start: u64| self.numbers.range(start..start.saturating_add(WINDOW)).count();
        let is_crowded = starts.into_iter().any(|start| within(start) > MOST);
        if is_crowded {
            self.forgive(delivered);
        } else {
            self.numbers = self.numbers.split_off(&delivered.saturating_sub(LATEST));
        }
        is_crowded
    }

    /// Takes note that the connection ended for it, after so many events.
    pub(super) fn forgive(&mut self, delivered: u64) {
        self.numbers.clear();
        self.forgiven = delivered;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_twenty_is_tolerated_for_ever_and_one_more_is_not() {
        let mut damage = Damage::default();
        for number in 1..=10_000 {
            assert!(number % 20 != 0 || !damage.note(number, number), "{number}");
        }
        assert!(damage.note(9_999, 10_000));
    }

    #[test]
    fn what_counts_is_where_events_stood_and_not_when_they_were_reported() {
        for (every, most) in [(25, 0), (16, 1)] {
            let mut damage = Damage::default();
            let cuts = (1..=1_000).rev().filter(|number| number % every == 0);
            let cuts = cuts.filter(|number| damage.note(*number, 1_000)).count();
            assert_eq!(cuts, most, "one in {every}");
        }
    }

    #[test]
    fn an_event_counts_once_and_what_was_paid_for_not_at_all() {
        let mut damage = Damage::default();
        assert!((0..20).all(|_| !damage.note(7, 1_000)));
        for number in 1..=5 {
            let is_last = number == 5;
            assert_eq!(damage.note(number, 1_000), is_last);
        }
        assert!((1..=1_000).all(|number| !damage.note(number, 1_500)));
        assert!((1_001..=1_005).all(|number| !damage.note(number, 1_500)));
        assert!(damage.note(1_006, 1_500));
    }

    #[test]
    fn reports_without_end_take_no_more_room_than_the_window_of_late_ones_allows() {
        let mut damage = Damage::default();
        for number in (20..1_000_000).step_by(20) {
            damage.note(number, number);
        }
        assert!(damage.numbers.len() <= 206, "{}", damage.numbers.len());
    }
}
