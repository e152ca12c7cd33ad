//! Whose event it was that came to nothing, at once or after the application was heard about it.
use std::collections::BTreeMap;

use nostr::event::EventId;

/// Opened events that are remembered in case they are refused later, in each of two generations.
const REMEMBERED: usize = 4_096;

/// Where an event came from, for the case that it comes to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) relay: u16,
    /// Its place among the events of the relay.
    pub(crate) number: u64,
    /// The relay had kept it.
    pub(crate) stored: bool,
    /// Length of its text.
    pub(crate) bytes: usize,
}

/// The sources of events that a machine was given and may refuse yet.
#[derive(Debug)]
pub(crate) struct Blame {
    /// The event that it was given last, until it is done with that.
    last: Option<(EventId, Source)>,
    /// Others, young and old; `None` when the machine refuses nothing later and does not name what it refuses.
    later: Option<[BTreeMap<EventId, Source>; 2]>,
}

impl Blame {
    pub(crate) fn new(refuses_later: bool) -> Self {
        Self { last: None, later: refuses_later.then(Default::default) }
    }

    /// Takes note of what the machine is given now.
    pub(crate) const fn give(&mut self, event: EventId, source: Source) {
        self.last = Some((event, source));
    }

    /// Returns the source of what was refused, once: of the event of this inner id. What has no name is the last event, for
    /// a machine that names nothing, and otherwise no event.
    pub(crate) fn refused(&mut self, event: Option<EventId>) -> Option<Source> {
        match (event, &mut self.later) {
            (Some(event), _) if self.last.is_some_and(|(last, _)| last == event) => {
                self.last.take().map(|(_, source)| source)
            }
            (Some(event), Some([young, old])) => young.remove(&event).or_else(|| old.remove(&event)),
            (None, None) => self.last.take().map(|(_, source)| source),
            (Some(_), None) | (None, Some(_)) => None,
        }
    }

    /// The machine is done with the last event, or has put it aside.
    pub(crate) fn settled(&mut self) {
        let Some((event, source)) = self.last.take() else { return };
        if let Some([young, old]) = &mut self.later {
            if young.len() >= REMEMBERED {
                *old = std::mem::take(young);
            }
            young.insert(event, source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> EventId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        EventId::from_byte_array(bytes)
    }

    fn of(number: u64) -> Source {
        Source { relay: 1, number, stored: false, bytes: 100 }
    }

    #[test]
    fn what_is_refused_after_the_application_was_heard_is_its_own_relays_and_paid_once() {
        let mut blame = Blame::new(true);
        for n in 0..3 {
            blame.give(id(n), of(n));
            blame.settled();
        }
        blame.give(id(3), of(3));
        assert_eq!(blame.refused(Some(id(1))), Some(of(1)), "not the one that came with it");
        assert_eq!(blame.refused(Some(id(1))), None);
        assert_eq!(blame.refused(None), None, "what belongs to no event");
        assert_eq!(blame.refused(Some(id(3))), Some(of(3)));
    }

    #[test]
    fn a_machine_that_names_nothing_means_what_it_was_given_just_now() {
        let mut blame = Blame::new(false);
        blame.give(id(1), of(1));
        assert_eq!(blame.refused(None), Some(of(1)));
        blame.give(id(2), of(2));
        blame.settled();
        assert_eq!(blame.refused(None), None);
    }

    #[test]
    fn thousands_may_wait_and_no_more_are_remembered() {
        let mut blame = Blame::new(true);
        for n in 0..100_000 {
            blame.give(id(n), of(n));
            blame.settled();
        }
        let kept = (0..100_000).filter(|n| blame.refused(Some(id(*n))).is_some()).count();
        assert!((REMEMBERED..=2 * REMEMBERED).contains(&kept), "{kept}");
    }
}
