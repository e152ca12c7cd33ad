//! Floor: whether a caller may be spoken to, and heard, in plaintext.
use alloc::vec::Vec;

use contextvm_core::Protection;
use nostr::event::{Event, EventId};

/// Wrapped messages that are remembered: as many as a caller has in flight at once by default.
const SEALED: usize = 32;

/// What is known of how one caller speaks. The floor only rises, except for what a stranger raised.
///
/// Anybody can put a gift wrap around a message that its author published in clear. So a wrapped message says nothing of its
/// author once the very same message comes in clear: only he and we could show one that was sealed. Nor does it where the
/// author signs something in clear after it: the message itself may have reached nobody but the stranger.
#[derive(Debug, Default)]
pub(super) struct Floor {
    sealed: Vec<EventId>,
    /// The latest stamp of what came wrapped, seconds.
    newest: u64,
    /// So many came wrapped that nobody else can have done it.
    certain: bool,
    /// It has spoken in clear.
    plain: bool,
}

impl Floor {
    pub(super) const fn is_encrypted(&self) -> bool {
        self.certain || !self.sealed.is_empty()
    }

    /// Whether something in clear is listened to that was signed then.
    pub(super) const fn admits_plain(&self, stamp: u64) -> bool {
        !self.is_encrypted() || (!self.certain && stamp > self.newest)
    }

    /// Hears a message for the first time.
    pub(super) fn hear(&mut self, event: &Event, protection: Protection) {
        let (id, stamp) = (event.id, event.created_at.as_secs());
        if !protection.is_encrypted() {
            self.plain = true;
            if self.admits_plain(stamp) {
                self.sealed.clear();
            }
            return;
        }
        self.newest = self.newest.max(stamp);
        if self.sealed.len() < SEALED {
            self.sealed.push(id);
        } else {
            self.certain = true;
            self.sealed = Vec::new();
        }
    }

    /// Hears a frame whose id is not remembered: it may have come in clear before.
    pub(super) fn hear_frame(&mut self, event: &Event, protection: Protection) {
        if !(self.plain && protection.is_encrypted()) {
            self.hear(event, protection);
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
    use nostr::event::{Kind, Signature, Tags};
    use nostr::key::PublicKey;
    use nostr::types::Timestamp;

    const WRAPPED: Protection = Protection::Wrapped(WrapKind::Persistent);

    /// An event of this number and time; nobody looks at the rest.
    fn event(n: u8, stamp: u64) -> Event {
        let (id, key) = (EventId::from_byte_array([n; 32]), PublicKey::from_byte_array([1; 32]));
        let (at, kind) = (Timestamp::from(stamp), Kind::Custom(25_910));
        Event::new(id, key, at, kind, Tags::new(), "", Signature::from_byte_array([0; 64]))
    }

    #[test]
    fn the_floor_rises_with_a_wrapped_message_and_never_by_one_in_clear_of_the_same_time() {
        let mut floor = Floor::default();
        floor.hear(&event(1, 7), Protection::Plain);
        assert!(!floor.is_encrypted());
        floor.hear(&event(2, 7), WRAPPED);
        floor.hear(&event(3, 7), Protection::Plain);
        floor.show(&event(3, 7).id);
        assert!(floor.is_encrypted() && !floor.admits_plain(7));
    }

    #[test]
    fn what_is_shown_in_clear_was_not_sealed_by_its_author() {
        let mut floor = Floor::default();
        floor.hear(&event(1, 7), WRAPPED);
        floor.hear(&event(2, 7), WRAPPED);
        floor.show(&event(1, 7).id);
        assert!(floor.is_encrypted());
        floor.show(&event(2, 7).id);
        assert!(!floor.is_encrypted());
    }

    #[test]
    fn who_signs_something_in_clear_later_did_not_seal_what_came_before() {
        let mut floor = Floor::default();
        floor.hear(&event(1, 7), WRAPPED);
        assert!(floor.admits_plain(8) && floor.is_encrypted(), "it counts when it is heard");
        floor.hear(&event(2, 8), Protection::Plain);
        assert!(!floor.is_encrypted());
    }

    #[test]
    fn after_so_many_nothing_lowers_it_and_nothing_is_remembered() {
        let mut floor = Floor::default();
        for n in 0..=32 {
            floor.hear(&event(n, 7), WRAPPED);
        }
        floor.show(&event(0, 7).id);
        floor.hear(&event(99, 8), Protection::Plain);
        assert!(floor.is_encrypted() && !floor.admits_plain(9) && floor.sealed.is_empty());
    }

    #[test]
    fn a_frame_of_somebody_who_speaks_in_clear_raises_nothing() {
        let mut floor = Floor::default();
        floor.hear_frame(&event(1, 7), Protection::Plain);
        floor.hear_frame(&event(1, 7), WRAPPED);
        assert!(!floor.is_encrypted());
        let mut floor = Floor::default();
        floor.hear_frame(&event(1, 7), WRAPPED);
        assert!(floor.is_encrypted());
    }
}
