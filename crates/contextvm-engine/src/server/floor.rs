//! Floor: whether a caller may be spoken to, and heard, in plaintext.
use alloc::vec::Vec;

use contextvm_core::Protection;
use nostr::event::EventId;

/// Wrapped messages that are remembered: as many as a caller has in flight at once by default.
const SEALED: usize = 32;

/// What is known of how one caller speaks. The floor only rises, except for what a stranger raised.
///
/// Anybody can put a gift wrap around a message that its author published in clear. So a wrapped message says nothing of its
/// author once the very same message comes in clear: only he and we could show one that was sealed.
#[derive(Debug, Default)]
pub(super) struct Floor {
    sealed: Vec<EventId>,
    /// So many came wrapped that nobody else can have done it.
    certain: bool,
    /// It has spoken in clear.
    plain: bool,
}

impl Floor {
    pub(super) const fn is_encrypted(&self) -> bool {
        self.certain || !self.sealed.is_empty()
    }

    /// Hears a message for the first time.
    pub(super) fn hear(&mut self, id: EventId, protection: Protection) {
        if !protection.is_encrypted() {
            self.plain = true;
        } else if self.sealed.len() < SEALED {
            self.sealed.push(id);
        } else {
            self.certain = true;
            self.sealed = Vec::new();
        }
    }

    /// Hears a frame whose id is not remembered: it may have come in clear before.
    pub(super) fn hear_frame(&mut self, id: EventId, protection: Protection) {
        if !(self.plain && protection.is_encrypted()) {
            self.hear(id, protection);
        }
    }

    /// The same message, first heard or not, came in clear.
    pub(super) fn show(&mut self, id: &EventId) {
        self.sealed.retain(|sealed| sealed != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contextvm_core::WrapKind;

    const WRAPPED: Protection = Protection::Wrapped(WrapKind::Persistent);

    fn id(n: u8) -> EventId {
        EventId::from_byte_array([n; 32])
    }

    #[test]
    fn the_floor_rises_with_a_wrapped_message_and_never_by_a_plain_one() {
        let mut floor = Floor::default();
        floor.hear(id(1), Protection::Plain);
        assert!(!floor.is_encrypted());
        floor.hear(id(2), WRAPPED);
        floor.hear(id(3), Protection::Plain);
        floor.show(&id(3));
        assert!(floor.is_encrypted());
    }

    #[test]
    fn what_is_shown_in_clear_was_not_sealed_by_its_author() {
        let mut floor = Floor::default();
        floor.hear(id(1), WRAPPED);
        floor.hear(id(2), WRAPPED);
        floor.show(&id(1));
        assert!(floor.is_encrypted());
        floor.show(&id(2));
        assert!(!floor.is_encrypted());
    }

    #[test]
    fn after_so_many_nothing_lowers_it_and_nothing_is_remembered() {
        let mut floor = Floor::default();
        for n in 0..=32 {
            floor.hear(id(n), WRAPPED);
        }
        floor.show(&id(0));
        assert!(floor.is_encrypted() && floor.certain && floor.sealed.is_empty());
    }

    #[test]
    fn a_frame_of_somebody_who_speaks_in_clear_raises_nothing() {
        let mut floor = Floor::default();
        floor.hear_frame(id(1), Protection::Plain);
        floor.hear_frame(id(1), WRAPPED);
        assert!(!floor.is_encrypted());
        let mut floor = Floor::default();
        floor.hear_frame(id(1), WRAPPED);
        assert!(floor.is_encrypted());
    }
}
