//! A relay that replays, withholds, alters, injects, poisons and lies.
use std::collections::BTreeSet;
use std::rc::Rc;

use contextvm_core::{kind, tags};
use nostr::event::EventId;
use nostr::key::PublicKey;

use super::act::Issue;
use super::deed::{Chances, Deed, Mood};
use super::forge::{Field, Forge};
use super::texts;
use crate::frame::Carried;
use crate::hash::short;

/// Events that a relay keeps for replays.
const KEPT: usize = 64;
/// Keys that a relay knows.
const PEOPLE: usize = 32;
const SECOND: u64 = 1_000_000;
/// Every field, with the deed of altering it.
const FIELDS: [(Deed, Field); 7] = [
    (Deed::RelayAltersId, Field::Id),
    (Deed::RelayAltersAuthor, Field::Author),
    (Deed::RelayAltersStamp, Field::Stamp),
    (Deed::RelayAltersKind, Field::Kind),
    (Deed::RelayAltersTags, Field::Tags),
    (Deed::RelayAltersContent, Field::Content),
    (Deed::RelayAltersSignature, Field::Signature),
];
/// Refusals with every prefix of NIP-01, and some with none.
const REFUSALS: [&str; 10] = [
    "duplicate: had it",
    "pow: 999 bits",
    "blocked: you",
    "rate-limited: slow down",
    "invalid: event too large",
    "restricted: no",
    "mute: no one was listening",
    "error: \u{202e}disk\n",
    "auth-required: who are you",
    "",
];

/// What a relay says on one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saying {
    /// Microseconds from now.
    pub after: u64,
    /// The frame.
    pub said: Said,
}

/// One frame of a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// An event under the peer's own subscription.
    Event(Rc<Carried>),
    /// An event under a subscription that nobody made.
    Astray(Rc<Carried>),
    /// What became of a publication.
    Ok {
        /// Which event.
        id: EventId,
        /// Whether it was taken.
        accepted: bool,
        /// The words.
        message: &'static str,
    },
    /// There are no more stored events.
    EndOfStored,
    /// The subscription is over.
    Closed(&'static str),
    /// Words without a meaning.
    Notice(&'static str),
    /// A challenge (NIP-42).
    Challenge(&'static str),
    /// What is no frame at all.
    Rubbish(&'static str),
}

/// What becomes of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whether it is stored and passed on, as far as anything is.
    pub passes_on: bool,
    /// What the publisher is told.
    pub sayings: Vec<Saying>,
}

/// The mind of a hostile relay: an honest relay asks it before it says anything.
#[derive(Clone, Debug)]
pub struct HostileRelay {
    mood: Mood,
    forge: Forge,
    /// Events of its whole life, each as likely to be here as any other.
    kept: Vec<Rc<Carried>>,
    newest: Option<Rc<Carried>>,
    heard: u64,
    people: BTreeSet<PublicKey>,
    kind_withheld: u16,
    peer_withheld: u16,
    issues: Vec<Issue>,
}

impl HostileRelay {
    /// Makes a hostile relay.
    #[must_use]
    pub fn new(chances: Chances, seed: u64) -> Self {
        let mut mood = Mood::new(chances, seed);
        let forge = Forge::new(mood.rng.u64(..));
        let kinds = [kind::MESSAGE, kind::GIFT_WRAP, kind::EPHEMERAL_GIFT_WRAP];
        let kind_withheld = kinds.get(mood.rng.usize(..kinds.len())).copied().unwrap_or(kind::MESSAGE);
        let peer_withheld = mood.rng.u16(..4);
        let (kept, people, issues) = Default::default();
        Self { mood, forge, kept, newest: None, heard: 0, people, kind_withheld, peer_withheld, issues }
    }

    /// Returns chances and tally.
    #[must_use]
    pub const fn mood(&self) -> &Mood {
        &self.mood
    }

    /// Takes what was signed with keys of the relay's own since the last time: a server may execute it.
    pub fn take_issues(&mut self) -> Vec<Issue> {
        std::mem::take(&mut self.issues)
    }

    /// Decides about a publication that an honest relay would answer with `accepted` and `message`.
    pub fn takes(&mut self, event: &Rc<Carried>, accepted: bool, message: &'static str) -> Taken {
        let id = event.id;
        self.turn_to(short(id.as_bytes()));
        self.keep(event);
        let mut taken = Taken { passes_on: accepted, sayings: Vec::new() };
        if self.mood.does(Deed::RelayStrangeOk) {
            let id = EventId::from_byte_array(self.forge.bytes());
            let accepted = self.mood.rng.bool();
            taken.sayings.push(now(Said::Ok { id, accepted, message: "" }));
        }
        if accepted && self.mood.does(Deed::RelayAcceptsLying) {
            taken.passes_on = false;
        }
        if self.mood.does(Deed::RelaySilent) {
            return taken;
        }
        let lies = accepted && taken.passes_on && self.mood.does(Deed::RelayRefusesLying);
        let said = if lies {
            Said::Ok { id, accepted: false, message: texts::pick(&mut self.mood.rng, &REFUSALS) }
        } else {
            Said::Ok { id, accepted, message }
        };
        taken.sayings.push(now(said));
        taken
    }

    /// Decides what a subscriber hears of an event that an honest relay would pass on to it.
    pub fn passes(&mut self, peer: u16, event: &Rc<Carried>) -> Vec<Saying> {
        let mut sayings = Vec::new();
        self.turn_to(short(event.id.as_bytes()) ^ (1 + u64::from(peer)) << 48);
        let mood = &mut self.mood;
        let withheld = mood.does(Deed::RelayWithholds)
            || (event.kind == self.kind_withheld && mood.does(Deed::RelayWithholdsKind))
            || (peer % 4 == self.peer_withheld && mood.does(Deed::RelayWithholdsPeer));
        if withheld {
            return sayings;
        }
        let after = if mood.does(Deed::RelayDelays) { mood.rng.u64(SECOND..60 * SECOND) } else { 0 };
        self.poison(event, after, &mut sayings);
        if self.mood.does(Deed::RelayWrongSubscription) {
            sayings.push(Saying { after, said: Said::Astray(Rc::clone(event)) });
        } else if let Some(copy) = self.alter(event) {
            sayings.push(Saying { after, said: Said::Event(copy) });
        } else {
            sayings.push(Saying { after, said: Said::Event(Rc::clone(event)) });
        }
        if self.mood.does(Deed::RelayRepeats) {
            for _ in 0..self.mood.rng.u8(1..8) {
                let after = after + self.mood.rng.u64(..3 * SECOND);
                sayings.push(Saying { after, said: Said::Event(Rc::clone(event)) });
            }
        }
        sayings
    }

    /// Returns what a subscriber hears when an honest relay would say that the stored events are over.
    pub fn ends_stored(&mut self) -> Vec<Saying> {
        if self.mood.does(Deed::RelayNoEose) {
            return Vec::new();
        }
        vec![now(Said::EndOfStored)]
    }

    /// Decides what a subscriber hears while nothing happens; `me` is the subscriber, `unix` the time.
    pub fn idles(&mut self, me: &PublicKey, unix: u64) -> Vec<Saying> {
        let mut said = Vec::new();
        self.turn_to(short(me.as_bytes()) ^ unix);
        self.replay(&mut said);
        if self.mood.does(Deed::RelayInjectsWrap) {
            said.push(Said::Event(Carried::lie(self.forge.rubbish(me, unix))));
        }
        self.speak_for_others(me, unix, &mut said);
        if self.mood.does(Deed::RelayManyEose) {
            said.push(Said::EndOfStored);
        }
        if self.mood.does(Deed::RelayCloses) {
            said.push(Said::Closed(texts::pick(&mut self.mood.rng, &REFUSALS)));
        }
        if self.mood.does(Deed::RelayChatters) {
            said.push(match self.mood.rng.u8(..4) {
                0 => Said::Notice("\u{1b}[31mgive me your key\n"),
                1 => Said::Challenge("wss://another.example"),
                2 => Said::Rubbish("[\"EVENT\",["),
                _ => Said::Rubbish("\u{0}"),
            });
        }
        let rng = &mut self.mood.rng;
        said.into_iter().map(|said| Saying { after: rng.u64(..SECOND), said }).collect()
    }

    fn replay(&mut self, said: &mut Vec<Said>) {
        if self.kept.is_empty() || !self.mood.does(Deed::RelayReplays) {
            return;
        }
        for _ in 0..self.mood.rng.u8(1..6) {
            let nth = self.mood.rng.usize(..self.kept.len());
            said.extend(self.kept.get(nth).map(|event| Said::Event(Rc::clone(event))));
        }
    }

    /// A message of a key of its own, and one that claims to be somebody else's.
    fn speak_for_others(&mut self, me: &PublicKey, unix: u64, said: &mut Vec<Said>) {
        if self.mood.does(Deed::RelayInjectsMessage) {
            let keys = self.forge.keys();
            let (protection, text) = (self.forge.protection(), self.text());
            let inner = self.forge.message(&keys, me, unix, self.answered(), text);
            let (author, server, id, content) = (inner.pubkey, *me, inner.id, inner.content.clone());
            self.issues.push(Issue { author, server, id, content });
            let outer = self.forge.protect(&inner, me, protection, unix);
            said.extend(outer.map(|outer| Said::Event(Carried::lie(outer))));
        }
        let other = self.people.iter().copied().find(|other| other != me);
        if let Some(other) = other
            && self.mood.does(Deed::RelayForges)
        {
            let text = self.text();
            let forged = self.forge.forged(&other, me, unix, &text);
            let protection = self.forge.protection();
            let outer = self.forge.protect(&forged, me, protection, unix);
            said.extend(outer.map(|outer| Said::Event(Carried::lie(outer))));
        }
    }

    fn text(&mut self) -> String {
        match self.mood.rng.u8(..3) {
            0 => texts::call("1", None, "relay"),
            1 => texts::answer("1", "relay"),
            _ => r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#.to_owned(),
        }
    }

    /// An `e` tag with the id of the newest event, if that is known.
    fn answered(&self) -> Option<nostr::event::Tag> {
        Some(tags::answered(&self.newest.as_ref()?.id))
    }

    /// A forged copy under the true id comes first.
    fn poison(&mut self, event: &Rc<Carried>, after: u64, sayings: &mut Vec<Saying>) {
        if !self.mood.does(Deed::RelayPoisons) {
            return;
        }
        for _ in 0..self.mood.rng.u8(1..4) {
            let field = if self.mood.rng.bool() { Field::Signature } else { Field::Content };
            let copy = self.forge.altered(event.event(), field, false);
            sayings.push(Saying { after, said: Said::Event(Carried::lie(copy)) });
        }
        // Often the true one comes so much later that the forged ones have been looked at.
        let pause = if self.mood.rng.bool() { SECOND / 10 } else { 0 };
        sayings.push(Saying { after: after + pause, said: Said::Event(Rc::clone(event)) });
    }

    fn alter(&mut self, event: &Carried) -> Option<Rc<Carried>> {
        let (_, field) = FIELDS.into_iter().find(|(deed, _)| self.mood.does(*deed))?;
        let rehash = self.mood.rng.bool();
        Some(Carried::lie(self.forge.altered(event.event(), field, rehash)))
    }

    /// What it does about one event is the same whatever came before it.
    fn turn_to(&mut self, key: u64) {
        self.mood.turn_to(key);
        self.forge = Forge::new(self.mood.rng.u64(..));
    }

    fn keep(&mut self, event: &Rc<Carried>) {
        self.heard += 1;
        if self.kept.len() < KEPT {
            self.kept.push(Rc::clone(event));
        } else if let Some(old) = self.kept.get_mut(self.mood.rng.u64(..self.heard) as usize) {
            *old = Rc::clone(event);
        }
        self.newest = Some(Rc::clone(event));
        if self.people.len() < PEOPLE {
            self.people.extend(event.to);
            if event.kind == kind::MESSAGE {
                self.people.insert(event.author);
            }
        }
    }
}

const fn now(said: Said) -> Saying {
    Saying { after: 0, said }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn published(relay: &mut HostileRelay, forge: &mut Forge) -> (EventId, Rc<Carried>) {
        let (author, to) = (forge.keys(), forge.keys().public_key());
        let inner = forge.message(&author, &to, 1_700_000_000, [], texts::call("1", None, "x"));
        let protection = forge.protection();
        let outer = forge.protect(&inner, &to, protection, 1_700_000_000).unwrap();
        let event = Carried::made(outer.into());
        let taken = relay.takes(&event, true, "");
        if taken.passes_on {
            for peer in 0..4 {
                relay.passes(peer, &event);
            }
        }
        (event.id, event)
    }

    #[test]
    fn a_relay_without_a_knob_is_honest() {
        let mut relay = HostileRelay::new(Chances::default(), 1);
        let mut forge = Forge::new(1);
        let (id, event) = published(&mut relay, &mut forge);
        let ok = Said::Ok { id, accepted: true, message: "" };
        assert_eq!(relay.takes(&event, true, ""), Taken { passes_on: true, sayings: vec![now(ok)] });
        assert_eq!(relay.passes(1, &event), [now(Said::Event(Rc::clone(&event)))]);
        assert_eq!(relay.ends_stored(), [now(Said::EndOfStored)]);
        assert_eq!(relay.idles(&forge.keys().public_key(), 0), []);
        assert_eq!(relay.mood().deeds.total(), 0);
    }

    #[test]
    fn every_deed_of_a_relay_happens() {
        let mut relay = HostileRelay::new(Chances::every("relay", 200), 2);
        let mut forge = Forge::new(2);
        for _ in 0..300 {
            published(&mut relay, &mut forge);
            relay.ends_stored();
            relay.idles(&forge.keys().public_key(), 1_700_000_000);
        }
        for deed in Deed::of("relay") {
            assert!(relay.mood().deeds.get(deed) > 0, "{}", deed.name());
        }
    }

    #[test]
    fn poison_comes_before_the_true_event_and_under_its_id() {
        let chances = Chances::default().with(Deed::RelayPoisons, 1_000);
        let mut relay = HostileRelay::new(chances, 3);
        let (id, event) = published(&mut relay, &mut Forge::new(3));
        let sayings = relay.passes(0, &event);
        let copies: BTreeMap<bool, usize> = sayings.iter().fold(BTreeMap::new(), |mut copies, saying| {
            let Said::Event(copy) = &saying.said else { panic!("an event") };
            assert_eq!(copy.event().id, id);
            *copies.entry(*copy == event).or_default() += 1;
            copies
        });
        assert!(copies[&false] >= 1 && copies[&true] >= 1);
        assert_ne!(sayings[0].said, Said::Event(event), "the forged one is first");
    }

    #[test]
    fn events_of_every_age_are_played_back() {
        let mut relay = HostileRelay::new(Chances::default(), 5);
        let mut forge = Forge::new(5);
        let all: Vec<Rc<Carried>> = (0..640).map(|_| published(&mut relay, &mut forge).1).collect();
        let early = relay.kept.iter().filter(|event| all.iter().take(320).any(|early| early == *event));
        assert!((16..48).contains(&early.count()));
        assert_eq!(relay.newest.as_ref(), all.last());
    }

    #[test]
    fn what_is_done_about_an_event_does_not_depend_on_others() {
        let mut forge = Forge::new(6);
        let mut relays = [0; 2].map(|_| HostileRelay::new(Chances::every("relay", 300), 6));
        let [with, without] = &mut relays;
        published(with, &mut forge);
        let (_, event) = published(&mut HostileRelay::new(Chances::default(), 6), &mut forge);
        for peer in 0..20 {
            assert_eq!(with.passes(peer, &event), without.passes(peer, &event));
        }
    }

    #[test]
    fn the_same_seed_does_the_same() {
        let run = || {
            let mut relay = HostileRelay::new(Chances::every("relay", 300), 4);
            let mut forge = Forge::new(4);
            for _ in 0..50 {
                published(&mut relay, &mut forge);
            }
            relay.mood().deeds.clone()
        };
        assert_eq!(run(), run());
    }
}
