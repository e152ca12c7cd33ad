//! Seen: the accepted inner ids whose age is still admissible.
use alloc::collections::BTreeSet;

use contextvm_core::Limits;
use nostr::event::EventId;

/// Remembers every accepted id until an event of that age is refused anyway; it never forgets earlier.
///
/// Plaintext and wrapped events share it. Worst case: `seen_ids` times about 64 bytes.
#[derive(Debug)]
pub(super) struct Seen {
    ids: BTreeSet<(u64, EventId)>,
    /// Highest stamp of any id that was forgotten: nothing up to it may be accepted any more.
    forgotten: Option<u64>,
    keep: u64,
    most: usize,
}

impl Seen {
    pub(super) fn new(limits: &Limits) -> Self {
        let keep = limits.age_window.saturating_add(limits.age_skew);
        Self { ids: BTreeSet::new(), forgotten: None, keep, most: limits.seen_ids }
    }

    /// Forgets the ids of events that are too old to be admitted.
    pub(super) fn forget(&mut self, unix: u64) {
        while let Some(&(stamp, _)) = self.ids.first() {
            if stamp.saturating_add(self.keep) >= unix {
                break;
            }
            self.ids.pop_first();
            self.forgotten = self.forgotten.max(Some(stamp));
        }
    }

    /// Whether an id with this stamp would still be remembered, had it been accepted.
    pub(super) fn remembers(&self, stamp: u64) -> bool {
        self.forgotten.is_none_or(|forgotten| stamp > forgotten)
    }

    pub(super) fn contains(&self, stamp: u64, id: EventId) -> bool {
        self.ids.contains(&(stamp, id))
    }

    /// Whether one more id fits. The last quarter is kept for established callers who have not taken much lately:
    /// `accepted` is what such a caller has had accepted in this [period](Self::period). The very last ids are kept for
    /// requests that are refused aloud.
    pub(super) fn has_room(&self, accepted: Option<usize>) -> bool {
        let is_modest = accepted.is_some_and(|accepted| accepted < self.most.div_ceil(16));
        let most = if is_modest { self.most - self.most / 64 } else { self.most - self.most / 4 };
        self.ids.len() < most
    }

    /// Whether the id of a request that is refused aloud still fits.
    pub(super) fn has_last_room(&self) -> bool {
        self.ids.len() < self.most
    }

    /// Numbers the spans of time in which the acceptances of one caller are counted.
    pub(super) fn period(&self, unix: u64) -> u64 {
        unix / self.keep.max(1)
    }

    pub(super) fn insert(&mut self, stamp: u64, id: EventId) {
        self.ids.insert((stamp, id));
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> EventId {
        EventId::from_byte_array([n; 32])
    }

    fn seen(most: usize) -> Seen {
        Seen::new(&Limits { age_window: 10, age_skew: 2, seen_ids: most, ..Limits::default() })
    }

    #[test]
    fn an_id_is_remembered_as_long_as_its_age_is_admissible() {
        let mut seen = seen(4);
        seen.insert(100, id(1));
        seen.forget(112);
        assert!(seen.contains(100, id(1)));
        seen.forget(113);
        assert!(!seen.contains(100, id(1)));
        assert!(!seen.remembers(100), "a forgotten stamp is refused even when the clock goes back");
        assert!(seen.remembers(101));
    }

    #[test]
    fn a_full_window_forgets_nothing_and_keeps_a_quarter_for_established_callers_who_took_little() {
        let mut seen = seen(32);
        for n in 0..24 {
            assert!(seen.has_room(None));
            seen.insert(100, id(n));
        }
        assert!(!seen.has_room(None));
        assert!(!seen.has_room(Some(2)));
        for n in 24..32 {
            assert!(seen.has_room(Some(1)));
            seen.insert(100, id(n));
        }
        assert!(!seen.has_room(Some(0)));
        assert!((0..32).all(|n| seen.contains(100, id(n))));
    }
}
