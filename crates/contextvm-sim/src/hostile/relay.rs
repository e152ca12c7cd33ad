//! A relay that replays, withholds, alters, injects, poisons and lies.
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use contextvm_core::{event, kind, tags};
use nostr::event::{Event, EventId};
use nostr::key::PublicKey;

use super::act::Issue;
use super::deed::{Chances, Deed, Mood};
use super::forge::{Field, Forge};
use super::texts;

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
const REFUSALS: [&str; 9] = [
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
    Event(Rc<str>),
    /// An event under a subscription that nobody made.
    Astray(Rc<str>),
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
    kept: VecDeque<Rc<str>>,
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
        Self { mood, forge, kept, people, kind_withheld, peer_withheld, issues }
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
    pub fn takes(&mut self, id: EventId, json: &Rc<str>, accepted: bool, message: &'static str) -> Taken {
        self.keep(json);
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
    pub fn passes(&mut self, peer: u16, outer_kind: u16, json: &Rc<str>) -> Vec<Saying> {
        let mut sayings = Vec::new();
        let mood = &mut self.mood;
        let withheld = mood.does(Deed::RelayWithholds)
            || (outer_kind == self.kind_withheld && mood.does(Deed::RelayWithholdsKind))
            || (peer % 4 == self.peer_withheld && mood.does(Deed::RelayWithholdsPeer));
        if withheld {
            return sayings;
        }
        let after = if mood.does(Deed::RelayDelays) { mood.rng.u64(SECOND..60 * SECOND) } else { 0 };
        self.poison(json, after, &mut sayings);
        if self.mood.does(Deed::RelayWrongSubscription) {
            sayings.push(Saying { after, said: Said::Astray(Rc::clone(json)) });
        } else if let Some(copy) = self.alter(json) {
            sayings.push(Saying { after, said: Said::Event(copy) });
        } else {
            sayings.push(Saying { after, said: Said::Event(Rc::clone(json)) });
        }
        if self.mood.does(Deed::RelayRepeats) {
            for _ in 0..self.mood.rng.u8(1..8) {
                let after = after + self.mood.rng.u64(..3 * SECOND);
                sayings.push(Saying { after, said: Said::Event(Rc::clone(json)) });
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
        self.replay(&mut said);
        if self.mood.does(Deed::RelayInjectsWrap) {
            said.push(Said::Event(event::print(&self.forge.rubbish(me, unix)).into()));
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
            said.extend(self.kept.get(nth).map(|json| Said::Event(Rc::clone(json))));
        }
    }

    /// A message of a key of its own, and one that claims to be somebody else's.
    fn speak_for_others(&mut self, me: &PublicKey, unix: u64, said: &mut Vec<Said>) {
        let text = match self.mood.rng.u8(..3) {
            0 => texts::call("1", None, "relay"),
            1 => texts::answer("1", "relay"),
            _ => r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#.to_owned(),
        };
        if self.mood.does(Deed::RelayInjectsMessage) {
            let keys = self.forge.keys();
            let protection = self.forge.protection();
            let inner = self.forge.message(&keys, me, unix, self.answered(), text.clone());
            let (author, server, id, content) = (inner.pubkey, *me, inner.id, inner.content.clone());
            self.issues.push(Issue { author, server, id, content });
            let outer = self.forge.protect(&inner, me, protection, unix);
            said.extend(outer.map(|outer| Said::Event(event::print(&outer).into())));
        }
        let other = self.people.iter().copied().find(|other| other != me);
        if let Some(other) = other
            && self.mood.does(Deed::RelayForges)
        {
            let forged = self.forge.forged(&other, me, unix, &text);
            let protection = self.forge.protection();
            let outer = self.forge.protect(&forged, me, protection, unix);
            said.extend(outer.map(|outer| Said::Event(event::print(&outer).into())));
        }
    }

    /// An `e` tag with the id of the newest event, if that is known.
    fn answered(&self) -> Option<nostr::event::Tag> {
        let event = self.kept.back().and_then(|json| event::read(json))?;
        Some(tags::answered(&event.id))
    }

    /// A forged copy under the true id comes first.
    fn poison(&mut self, json: &Rc<str>, after: u64, sayings: &mut Vec<Saying>) {
        if !self.mood.wants(Deed::RelayPoisons) {
            return;
        }
        let Some(event) = event::read(json) else { return };
        self.mood.deeds.add(Deed::RelayPoisons);
        for _ in 0..self.mood.rng.u8(1..4) {
            let field = if self.mood.rng.bool() { Field::Signature } else { Field::Content };
            let copy = self.forge.altered(&event, field, false);
            sayings.push(Saying { after, said: Said::Event(event::print(&copy).into()) });
        }
        // Often the true one comes so much later that the forged ones have been looked at.
        let pause = if self.mood.rng.bool() { SECOND / 10 } else { 0 };
        sayings.push(Saying { after: after + pause, said: Said::Event(Rc::clone(json)) });
    }

    fn alter(&mut self, json: &Rc<str>) -> Option<Rc<str>> {
        let (deed, field) = FIELDS.into_iter().find(|(deed, _)| self.mood.wants(*deed))?;
        let event: Event = event::read(json)?;
        self.mood.deeds.add(deed);
        let rehash = self.mood.rng.bool();
        Some(event::print(&self.forge.altered(&event, field, rehash)).into())
    }

    fn keep(&mut self, json: &Rc<str>) {
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Rc::clone(json));
        if self.people.len() < PEOPLE
            && let Some(event) = event::read(json)
        {
            let named = event.tags.iter().find(|tag| tag.kind() == tags::RECIPIENT);
            self.people.extend(named.and_then(|tag| PublicKey::from_hex(tag.content()?).ok()));
            if event.kind.as_u16() == kind::MESSAGE {
                self.people.insert(event.pubkey);
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

    fn published(relay: &mut HostileRelay, forge: &mut Forge) -> (EventId, Rc<str>) {
        let (author, to) = (forge.keys(), forge.keys().public_key());
        let inner = forge.message(&author, &to, 1_700_000_000, [], texts::call("1", None, "x"));
        let protection = forge.protection();
        let outer = forge.protect(&inner, &to, protection, 1_700_000_000).unwrap();
        let json: Rc<str> = event::print(&outer).into();
        let taken = relay.takes(outer.id, &json, true, "");
        if taken.passes_on {
            for peer in 0..4 {
                relay.passes(peer, outer.kind.as_u16(), &json);
            }
        }
        (outer.id, json)
    }

    #[test]
    fn a_relay_without_a_knob_is_honest() {
        let mut relay = HostileRelay::new(Chances::default(), 1);
        let mut forge = Forge::new(1);
        let (id, json) = published(&mut relay, &mut forge);
        let ok = Said::Ok { id, accepted: true, message: "" };
        assert_eq!(relay.takes(id, &json, true, ""), Taken { passes_on: true, sayings: vec![now(ok)] });
        assert_eq!(relay.passes(1, kind::MESSAGE, &json), [now(Said::Event(Rc::clone(&json)))]);
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
        let (id, json) = published(&mut relay, &mut Forge::new(3));
        let sayings = relay.passes(0, kind::MESSAGE, &json);
        let copies: BTreeMap<bool, usize> = sayings.iter().fold(BTreeMap::new(), |mut copies, saying| {
            let Said::Event(text) = &saying.said else { panic!("an event") };
            assert_eq!(event::read(text).unwrap().id, id);
            *copies.entry(*text == json).or_default() += 1;
            copies
        });
        assert!(copies[&false] >= 1 && copies[&true] >= 1);
        assert_ne!(sayings[0].said, Said::Event(json), "the forged one is first");
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
