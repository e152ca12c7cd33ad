//! In which order events of several relays are taken, where there may be no room for all of them.
use std::collections::{BTreeMap, BTreeSet};

use contextvm_announce::Signed;
use nostr::event::EventId;

/// What an event costs its relay beside its own bytes: that an event is small must not make it cheap to send many.
const EACH: usize = 1_024;

/// Puts events in an order that gives every relay its turn: next is always the relay that has said the least so far, with the newest
/// of its events that no relay has said before.
///
/// Whatever one relay invents, and however it grinds ids, the others have an equal share of any room.
pub(crate) fn in_turns<'a>(
    answers: impl Iterator<Item = &'a BTreeSet<EventId>>,
    events: &'a BTreeMap<EventId, Signed>,
) -> Vec<&'a Signed> {
    let mut relays: Vec<_> = answers.map(|ids| (0, newest_last(ids, events))).collect();
    let (mut order, mut known) = (Vec::new(), BTreeSet::new());
    while let Some((said, left)) =
        relays.iter_mut().filter(|(_, left)| !left.is_empty()).min_by_key(|(said, _)| *said)
    {
        if let Some(event) = left.pop().filter(|event| known.insert(event.id)) {
            *said += weight(event);
            order.push(event);
        }
    }
    order
}

fn newest_last<'a>(ids: &BTreeSet<EventId>, events: &'a BTreeMap<EventId, Signed>) -> Vec<&'a Signed> {
    let mut events: Vec<_> = ids.iter().filter_map(|id| events.get(id)).collect();
    events.sort_by_key(|event| event.stamp());
    events
}

fn weight(event: &Signed) -> usize {
    let values = event.tags.iter().flat_map(|tag| tag.as_slice());
    EACH + event.content.len() + values.map(String::len).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use contextvm_crypto::Keys;
    use nostr::event::Tags;

    use super::*;

    fn event(byte: u8, created_at: u64, length: usize) -> Signed {
        let keys = Keys::from_secret_bytes([byte; 32]).unwrap();
        Signed::verify(keys.sign_event(11316, created_at, Tags::new(), "x".repeat(length), [0; 32])).unwrap()
    }

    fn stamps(relays: &[&[Signed]]) -> Vec<u64> {
        let events = relays.concat().into_iter().map(|event| (event.id, event)).collect();
        let ids: Vec<BTreeSet<_>> =
            relays.iter().map(|relay| relay.iter().map(|event| event.id).collect()).collect();
        in_turns(ids.iter(), &events).into_iter().map(|event| event.created_at.as_secs()).collect()
    }

    #[test]
    fn each_relay_has_its_turn_and_its_newest_come_first() {
        let many: Vec<_> = (1..=6).map(|byte| event(byte, u64::from(byte), 0)).collect();
        let few = [event(7, 10, 0), event(8, 20, 0)];
        assert_eq!(stamps(&[&many, &few]), [6, 20, 5, 10, 4, 3, 2, 1]);
    }

    #[test]
    fn who_sends_large_events_waits_for_those_who_send_small_ones() {
        let large = [event(1, 2, 5_000), event(2, 1, 5_000)];
        let small: Vec<_> = (3..=8).map(|byte| event(byte, u64::from(byte), 0)).collect();
        assert_eq!(stamps(&[&large, &small]), [2, 8, 7, 6, 5, 4, 3, 1]);
    }

    #[test]
    fn what_another_relay_has_said_costs_nothing() {
        let both = [event(1, 9, 0), event(2, 8, 0)];
        let second = [both.as_slice(), &[event(3, 7, 0)]].concat();
        let third = [event(4, 1, 0), event(5, 2, 0)];
        assert_eq!(stamps(&[&both, &second, &third]), [9, 8, 2, 7, 1]);
    }
}
