//! Frames on their way: published, and not yet known to be taken by a relay.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use contextvm_core::{Draft, Mono, Protection, tags};
use nostr::key::PublicKey;

use crate::size::is_about_size;
use crate::{Outbound, Outcome, Reach, Ticket};

/// Frames of all transfers and streams of one endpoint that are on their way at once.
const MOST: usize = 48;
/// How long a frame that every relay refuses is offered again.
const WINDOW: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MOST_DOUBLINGS: u32 = 3;

/// One frame, kept until its outcome.
#[derive(Debug)]
struct Frame<K> {
    owner: K,
    progress: u64,
    draft: Draft,
    recipient: PublicKey,
    protection: Protection,
    first: Mono,
    refusals: u32,
    /// It was published twice, and nobody said what became of the first.
    is_second: bool,
}

/// What became of a frame, or that nothing did yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Landing {
    /// A relay took it, or may have: the receiver is the judge.
    Taken,
    /// No relay takes it.
    Lost,
    /// Relays refuse frames of this size.
    TooLarge,
}

/// Frames of one endpoint by ticket; `K` says whose they are.
#[derive(Debug)]
pub(crate) struct Flights<K> {
    out: BTreeMap<Ticket, Frame<K>>,
    again: BTreeMap<(Mono, Ticket), Frame<K>>,
    /// On their way for somebody who is gone: they take up room until their outcome.
    orphans: BTreeSet<Ticket>,
}

impl<K> Default for Flights<K> {
    fn default() -> Self {
        Self { out: BTreeMap::new(), again: BTreeMap::new(), orphans: BTreeSet::new() }
    }
}

impl<K: Clone + PartialEq> Flights<K> {
    /// Returns how many more frames may be given out.
    pub(crate) fn room(&self) -> usize {
        MOST.saturating_sub(self.out.len() + self.again.len() + self.orphans.len())
    }

    /// Takes a frame of somebody and returns it as it is to be published.
    pub(crate) fn depart(
        &mut self,
        ticket: Ticket,
        (owner, progress): (K, u64),
        draft: Draft,
        recipient: PublicKey,
        protection: Protection,
        now: Mono,
    ) -> Outbound {
        let frame = Frame {
            owner,
            progress,
            draft,
            recipient,
            protection,
            first: now,
            refusals: 0,
            is_second: false,
        };
        self.publish(ticket, frame)
    }

    /// Takes an outcome; returns whose frame it was, its number, and what became of it unless it is published again.
    ///
    /// `None` when the ticket belongs to no frame.
    pub(crate) fn land(
        &mut self,
        ticket: Ticket,
        outcome: &Outcome,
        now: Mono,
    ) -> Option<(K, u64, Option<Landing>)> {
        self.orphans.remove(&ticket);
        let mut frame = self.out.remove(&ticket)?;
        let (owner, progress) = (frame.owner.clone(), frame.progress);
        let landing = match outcome {
            Outcome::Accepted => Landing::Taken,
            Outcome::Unknown if frame.is_second => Landing::Taken,
            Outcome::Unknown => {
                frame.is_second = true;
                self.again.insert((now, ticket), frame);
                return Some((owner, progress, None));
            }
            Outcome::Refused(text) if is_about_size(text) => Landing::TooLarge,
            Outcome::Refused(_) if now >= frame.first.after(WINDOW) => Landing::Lost,
            Outcome::Refused(_) => {
                let pause = FIRST_PAUSE * (1 << frame.refusals.min(MOST_DOUBLINGS));
                frame.refusals = frame.refusals.saturating_add(1);
                self.again.insert((now.after(pause), ticket), frame);
                return Some((owner, progress, None));
            }
        };
        Some((owner, progress, Some(landing)))
    }

    /// Returns a frame that is due to be published again, under a new ticket.
    pub(crate) fn due(&mut self, now: Mono, ticket: impl FnOnce() -> Ticket) -> Option<Outbound> {
        let first = self.again.first_entry().filter(|first| first.key().0 <= now)?;
        let frame = first.remove();
        Some(self.publish(ticket(), frame))
    }

    /// Publishes what waits for a relay at once: one came up.
    pub(crate) fn relay_up(&mut self, now: Mono) {
        let waiting = core::mem::take(&mut self.again);
        self.again =
            waiting.into_iter().map(|((at, ticket), frame)| ((at.min(now), ticket), frame)).collect();
    }

    /// Lets go of everything that somebody has on its way, and returns the tickets of what is not followed any more.
    pub(crate) fn forget(&mut self, owner: &K) -> Vec<Ticket> {
        self.again.retain(|_, frame| frame.owner != *owner);
        let left: Vec<Ticket> =
            self.out.extract_if(.., |_, frame| frame.owner == *owner).map(|(ticket, _)| ticket).collect();
        self.orphans.extend(&left);
        left
    }

    pub(crate) fn next_due(&self) -> Option<Mono> {
        self.again.keys().next().map(|(at, _)| *at)
    }

    fn publish(&mut self, ticket: Ticket, frame: Frame<K>) -> Outbound {
        let outbound = Outbound {
            ticket,
            draft: frame.draft.clone(),
            recipient: frame.recipient,
            protection: frame.protection,
            is_frame: true,
            about: tags::answered_id(&frame.draft.tags),
            reach: Reach::All,
        };
        self.out.insert(ticket, frame);
        outbound
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use nostr::event::Tags;

    use super::*;

    const ME: &str = "466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f27";

    fn depart(flights: &mut Flights<u8>, ticket: u64, owner: u8, now: u64) -> Outbound {
        let me = PublicKey::parse(ME).unwrap();
        let draft = Draft::new(me, 1, Tags::new(), String::from("frame"));
        flights.depart(Ticket(ticket), (owner, ticket), draft, me, Protection::Plain, Mono(now))
    }

    fn refused(text: &str) -> Outcome {
        Outcome::Refused(text.into())
    }

    #[test]
    fn a_frame_that_a_relay_took_is_let_go() {
        let mut flights = Flights::default();
        let before = flights.room();
        depart(&mut flights, 1, 7, 0);
        assert_eq!(flights.room(), before - 1);
        let landed = flights.land(Ticket(1), &Outcome::Accepted, Mono(1));
        assert_eq!(landed, Some((7, 1, Some(Landing::Taken))));
        assert_eq!(flights.land(Ticket(1), &Outcome::Accepted, Mono(1)), None);
        assert_eq!((flights.room(), flights.next_due()), (before, None));
    }

    #[test]
    fn silence_is_asked_a_second_time_and_then_believed() {
        let mut flights = Flights::default();
        let first = depart(&mut flights, 1, 7, 0);
        assert_eq!(flights.land(Ticket(1), &Outcome::Unknown, Mono(9)), Some((7, 1, None)));
        let second = flights.due(Mono(9), || Ticket(2)).unwrap();
        assert_eq!((second.ticket, &second.draft), (Ticket(2), &first.draft));
        let landed = flights.land(Ticket(2), &Outcome::Unknown, Mono(20));
        assert_eq!(landed, Some((7, 1, Some(Landing::Taken))));
    }

    #[test]
    fn a_refused_frame_is_offered_for_half_a_minute_and_at_once_when_a_relay_comes_up() {
        let mut flights = Flights::default();
        depart(&mut flights, 1, 7, 0);
        assert_eq!(
            flights.land(Ticket(1), &refused("no relay could be reached"), Mono(0)),
            Some((7, 1, None))
        );
        assert!(flights.due(Mono(499), || Ticket(2)).is_none());
        flights.relay_up(Mono(100));
        assert!(flights.due(Mono(100), || Ticket(2)).is_some());
        let (mut now, mut last) = (100, 2);
        let landing = loop {
            match flights.land(Ticket(last), &refused("no relay could be reached"), Mono(now)) {
                Some((7, 1, None)) => now = flights.next_due().unwrap().0,
                landed => break landed,
            }
            last += 1;
            assert!(flights.due(Mono(now), || Ticket(last)).is_some());
        };
        assert_eq!(landing, Some((7, 1, Some(Landing::Lost))));
        assert!((30_000..40_000).contains(&now), "{now}");
    }

    #[test]
    fn only_a_refusal_that_speaks_of_size_is_one_of_size() {
        for (text, is_size) in [
            ("invalid: event too large", true),
            ("blocked: message is 70000 bytes, the limit is 65536", true),
            ("rate-limited: slow down", false),
            ("rate-limited: limit exceeded", false),
            ("rate-limited: too many bytes per minute", false),
            ("auth-required: who are you", false),
        ] {
            let mut flights = Flights::default();
            depart(&mut flights, 1, 7, 0);
            let landing = flights.land(Ticket(1), &refused(text), Mono(0)).unwrap().2;
            assert_eq!(landing == Some(Landing::TooLarge), is_size, "{text}");
        }
    }

    #[test]
    fn what_is_forgotten_lands_nowhere_and_then_makes_room() {
        let mut flights = Flights::default();
        let before = flights.room();
        for ticket in 0..10 {
            depart(&mut flights, ticket, u8::try_from(ticket % 2).unwrap(), 0);
        }
        flights.land(Ticket(0), &refused("closed"), Mono(0)).unwrap();
        flights.forget(&0);
        assert_eq!(flights.room(), before - 9, "one was not on its way");
        assert_eq!(flights.next_due(), None);
        for ticket in [2, 4, 6, 8] {
            assert_eq!(flights.land(Ticket(ticket), &Outcome::Accepted, Mono(0)), None);
        }
        assert_eq!(flights.room(), before - 5);
    }
}
