//! Answers to strangers that are looked at again: by then another relay may have delivered the request too.
use std::collections::VecDeque;
use std::time::Duration;

use contextvm_relay::PublishEvent;
use nostr::event::EventId;
use tokio::time::Instant;

/// When an answer is looked at again, and then once more. A relay is seldom later than another by the first; behind the
/// second its caller soon asks again.
const LOOKS_AFTER: [Duration; 2] = [Duration::from_millis(250), Duration::from_millis(1_000)];
/// Answers that wait for each of the two; when there are more, the oldest has waited long enough.
const MOST: usize = 512;

/// One answer, and the relays that it went to (bit n: relay n modulo 64).
#[derive(Debug)]
struct Look {
    since: Instant,
    about: EventId,
    told: u64,
    event: PublishEvent,
}

/// Answers that went to the relays alone that had delivered the request: those that were never looked at again, and those
/// that were once, both oldest first.
#[derive(Debug, Default)]
pub(crate) struct Late {
    looks: [VecDeque<Look>; 2],
}

impl Late {
    pub(crate) fn push(&mut self, about: EventId, told: u64, event: PublishEvent, now: Instant) {
        let [first, _] = &mut self.looks;
        first.push_back(Look { since: now, about, told, event });
    }

    /// Returns when [`Self::due`] should be asked.
    pub(crate) fn next(&self) -> Option<Instant> {
        let at = |(looks, after): (&VecDeque<Look>, Duration)| {
            let oldest = looks.front()?;
            Some(if looks.len() > MOST { oldest.since } else { oldest.since + after })
        };
        self.looks.iter().zip(LOOKS_AFTER).filter_map(at).min()
    }

    /// Takes the next answer that is to go to further relays, and these.
    pub(crate) fn due(&mut self, via: impl Fn(&EventId) -> u64, now: Instant) -> Option<(PublishEvent, u64)> {
        let [first, second] = &mut self.looks;
        let [soon, later] = LOOKS_AFTER;
        loop {
            let (mut look, is_last) = match take_due(first, soon, now) {
                Some(look) => (look, false),
                None => (take_due(second, later, now)?, true),
            };
            let further = via(&look.about) & !look.told;
            look.told |= further;
            let event = (further != 0).then(|| look.event.clone());
            if !is_last {
                second.push_back(look);
            }
            if let Some(event) = event {
                return Some((event, further));
            }
        }
    }
}

fn take_due(looks: &mut VecDeque<Look>, after: Duration, now: Instant) -> Option<Look> {
    let is_full = looks.len() > MOST;
    looks.pop_front_if(|oldest| is_full || oldest.since + after <= now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> EventId {
        EventId::from_byte_array([u8::try_from(n % 256).unwrap(); 32])
    }

    fn event(n: usize) -> PublishEvent {
        PublishEvent { id: id(n), json: n.to_string().into() }
    }

    #[test]
    fn a_relay_that_delivered_the_request_late_gets_the_answer_and_one_that_did_not_gets_nothing() {
        let (mut late, now) = (Late::default(), Instant::now());
        late.push(id(1), 0b01, event(1), now);
        late.push(id(2), 0b01, event(2), now);
        let via = |about: &EventId| if *about == id(2) { 0b111 } else { 0b01 };
        assert_eq!(late.due(via, now), None);
        let then = late.next().unwrap();
        assert_eq!(late.due(via, then), Some((event(2), 0b110)));
        assert_eq!(late.due(via, then), None);
    }

    #[test]
    fn a_relay_that_is_later_than_that_gets_it_a_second_after_the_answer_and_then_nobody_does() {
        let (mut late, now) = (Late::default(), Instant::now());
        late.push(id(1), 0b001, event(1), now);
        let soon = late.next().unwrap();
        assert_eq!((soon, late.due(|_| 0b011, soon)), (now + LOOKS_AFTER[0], Some((event(1), 0b010))));
        let later = late.next().unwrap();
        assert_eq!(later, now + LOOKS_AFTER[1]);
        assert_eq!(late.due(|_| 0b111, soon), None);
        assert_eq!(late.due(|_| 0b111, later), Some((event(1), 0b100)));
        assert_eq!((late.due(|_| 0b1111, later), late.next()), (None, None));
    }

    #[test]
    fn no_more_than_some_hundred_wait() {
        let (mut late, now) = (Late::default(), Instant::now());
        for n in 0..=MOST {
            late.push(id(n), 1, event(n), now);
        }
        assert!(late.next().unwrap() <= now);
        assert_eq!(late.due(|_| 0b11, now), Some((event(0), 0b10)));
        assert_eq!(late.due(|_| 0b11, now), None);
        assert_eq!(late.looks.each_ref().map(VecDeque::len), [MOST, 1]);
        for n in 0..MOST {
            late.push(id(n), 1, event(n), now);
        }
        while late.due(|_| 0b01, now).is_some() {}
        assert_eq!(late.looks.each_ref().map(VecDeque::len), [MOST, MOST]);
    }
}
