//! A bounded memory of event ids in two generations.
use nostr::event::EventId;
use std::collections::HashSet;

/// Remembers between `limit` and twice `limit` of the latest ids, 32 bytes each plus the table.
#[derive(Debug)]
pub(crate) struct Seen {
    young: HashSet<EventId>,
    old: HashSet<EventId>,
    limit: usize,
}

impl Seen {
    /// Makes an empty memory.
    pub(crate) fn new(limit: usize) -> Self {
        Self { young: HashSet::new(), old: HashSet::new(), limit: limit.max(1) }
    }

    /// Says whether the id is remembered.
    pub(crate) fn contains(&self, id: &EventId) -> bool {
        self.young.contains(id) || self.old.contains(id)
    }

    /// Remembers an id that is not remembered yet.
    pub(crate) fn insert(&mut self, id: EventId) {
        if self.young.len() >= self.limit {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> EventId {
        EventId::from_slice(&[number; 32]).unwrap()
    }

    #[test]
    fn the_latest_ids_are_remembered_and_the_memory_stays_bounded() {
        let mut seen = Seen::new(4);
        for number in 0..100 {
            assert!(!seen.contains(&id(number)));
            seen.insert(id(number));
            assert!(seen.contains(&id(number)));
            assert!(seen.young.len() + seen.old.len() <= 8);
        }
        assert!((96..100).all(|number| seen.contains(&id(number))));
        assert!(!seen.contains(&id(0)));
    }
}
