//! Answers to strangers that are looked at once more: by then another relay may have delivered the request too.
use std::collections::VecDeque;
use std::time::Duration;

use contextvm_relay::PublishEvent;
use nostr::event::EventId;
use tokio::time::Instant;

/// When an answer is looked at again. A relay is seldom later than another by more.
const LOOK_AFTER: Duration = Duration::from_millis(250);
/// Answers that wait for that; when there are more, the oldest has waited long enough.
const MOST: usize = 512;

/// One answer, and the relays that it went to (bit n: relay n modulo 64).
#[derive(Debug)]
struct Look {
    at: Instant,
    about: EventId,
    told: u64,
    event: PublishEvent,
}

/// Answers that went to the relays alone that had delivered the request, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Late {
    looks: VecDeque<Look>,
}

impl Late {
    pub(crate) fn push(&mut self, about: EventId, told: u64, event: PublishEvent, now: Instant) {
        self.looks.push_back(Look { at: now + LOOK_AFTER, about, told, event });
        if self.looks.len() > MOST
            && let Some(oldest) = self.looks.front_mut()
        {
            oldest.at = now;
        }
    }

    /// Returns when [`Self::due`] should be asked.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.looks.front().map(|oldest| oldest.at)
    }

    /// Takes the next answer that is to go to further relays, and these.
    pub(crate) fn due(&mut self, via: impl Fn(&EventId) -> u64, now: Instant) -> Option<(PublishEvent, u64)> {
        while self.looks.len() > MOST || self.looks.front().is_some_and(|look| look.at <= now) {
            let Look { about, told, event, .. } = self.looks.pop_front()?;
            let further = via(&about) & !told;
            if further != 0 {
                return Some((event, further));
            }
        }
        None
    }
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
        assert_eq!((late.due(via, then), late.next()), (None, None));
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
        assert_eq!(late.looks.len(), MOST);
    }
}
