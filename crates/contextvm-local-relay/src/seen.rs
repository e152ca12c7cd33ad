//! A bounded memory of event ids.
use nostr::event::EventId;
use std::collections::{BTreeSet, VecDeque};

/// Remembers the latest ids, about 80 bytes each; once it is full it stays as large as it is.
#[derive(Debug)]
pub(crate) struct Seen {
    ids: BTreeSet<EventId>,
    /// The same, oldest first.
    order: VecDeque<EventId>,
    limit: usize,
}

impl Seen {
    /// Makes an empty memory.
    pub(crate) fn new(limit: usize) -> Self {
        Self { ids: BTreeSet::new(), order: VecDeque::new(), limit: limit.max(1) }
    }

    /// Says whether the id is remembered.
    pub(crate) fn contains(&self, id: &EventId) -> bool {
        self.ids.contains(id)
    }

    /// Remembers an id, and forgets the oldest if there is no room for it.
    pub(crate) fn insert(&mut self, id: EventId) {
        if !self.ids.insert(id) {
            return;
        }
        if self.order.len() >= self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        self.order.push_back(id);
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
            seen.insert(id(number));
            assert!(seen.contains(&id(number)));
            assert!(seen.ids.len() <= 4 && seen.ids.len() == seen.order.len());
        }
        assert!((0..100).all(|number| seen.contains(&id(number)) == (number >= 96)));
    }
}
