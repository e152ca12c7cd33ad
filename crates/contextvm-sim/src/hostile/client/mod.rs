//! A client that floods, forges, replays, breaks frames and uses what belongs to others.
mod borrowed;
mod work;

pub(super) use work::cut;

use std::collections::{BTreeSet, VecDeque};

use contextvm_core::{Limits, kind, tags};
use contextvm_crypto::Keys;
use nostr::event::{Event, EventId, Tag};
use nostr::key::PublicKey;

use super::act::{Act, Issue};
use super::deed::{Chances, Mood};
use super::forge::Forge;
use super::texts;

/// Events of others that a client remembers.
const KEPT: usize = 32;
const SECOND: u64 = 1_000_000;
/// What makes a server believe that its caller can do everything.
const FLAGS: [&str; 6] = [
    tags::SUPPORT_ENCRYPTION,
    tags::SUPPORT_ENCRYPTION_EPHEMERAL,
    tags::SUPPORT_OVERSIZED_TRANSFER,
    tags::SUPPORT_OPEN_STREAM,
    tags::SUPPORT_UNORDERED_STREAMS,
    tags::SUPPORT_SERVER_REQUESTS,
];

/// The mind of a hostile client.
#[derive(Clone, Debug)]
pub struct HostileClient {
    mood: Mood,
    forge: Forge,
    keys: Keys,
    servers: Vec<PublicKey>,
    /// Signed messages and gift wraps of others, as every relay shows them to everybody.
    messages: VecDeque<Event>,
    wraps: VecDeque<Event>,
    /// Inner ids, own and foreign ones.
    ids: VecDeque<EventId>,
    last: Option<(PublicKey, Event)>,
    count: u64,
}

/// One round of a client: where, when, and what it has done so far.
struct Round {
    to: PublicKey,
    unix: u64,
    acts: Vec<Act>,
}

impl HostileClient {
    /// Makes a hostile client that knows these servers.
    #[must_use]
    pub fn new(chances: Chances, seed: u64, keys: Keys, servers: Vec<PublicKey>) -> Self {
        let mut mood = Mood::new(chances, seed);
        let forge = Forge::new(mood.rng.u64(..));
        Self {
            mood,
            forge,
            keys,
            servers,
            messages: VecDeque::new(),
            wraps: VecDeque::new(),
            ids: VecDeque::new(),
            last: None,
            count: 0,
        }
    }

    /// Returns chances and tally.
    #[must_use]
    pub const fn mood(&self) -> &Mood {
        &self.mood
    }

    /// Returns the keys under which it calls.
    #[must_use]
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Hears an event, whoever it is for: a hostile client subscribes to everything.
    pub fn hears(&mut self, event: &Event) {
        if event.pubkey == self.keys.public_key() {
            return;
        }
        if event.kind.as_u16() == kind::MESSAGE {
            remember(&mut self.ids, event.id);
            remember(&mut self.messages, event.clone());
        } else {
            remember(&mut self.wraps, event.clone());
        }
    }

    /// Does something to one of its servers, at `unix` by the clock of the world.
    pub fn idles(&mut self, unix: u64) -> Vec<Act> {
        let nth = self.mood.rng.usize(..self.servers.len().max(1));
        let Some(to) = self.servers.get(nth).copied() else { return Vec::new() };
        let mut round = Round { to, unix, acts: Vec::new() };
        self.calls(&mut round);
        self.floods(&mut round);
        self.frames(&mut round);
        self.transfers(&mut round);
        self.texts(&mut round);
        self.borrows(&mut round);
        self.lies(&mut round);
        let rng = &mut self.mood.rng;
        for act in &mut round.acts {
            act.after = act.after.saturating_add(rng.u64(..SECOND));
        }
        round.acts
    }

    /// An ordinary call, unlike any other in its words alone.
    fn call(&mut self) -> String {
        self.count += 1;
        let rng = &mut self.mood.rng;
        let id = texts::common(rng);
        let token = rng.bool().then(|| texts::common(rng));
        texts::call(id, token, &format!("{}-{}", self.count, rng.u32(..)))
    }

    /// Signs and sends what a server may act on.
    fn say(
        &mut self,
        round: &mut Round,
        more: impl IntoIterator<Item = Tag>,
        content: String,
    ) -> Option<EventId> {
        let inner = self.forge.message(&self.keys, &round.to, round.unix, more, content);
        self.send(round, inner, true)
    }

    /// Sends an inner event in some envelope; only an `issued` one may be acted on.
    fn send(&mut self, round: &mut Round, inner: Event, issued: bool) -> Option<EventId> {
        let protection = self.forge.protection();
        let event = self.forge.protect(&inner, &round.to, protection, round.unix)?;
        let id = inner.id;
        let issue = issued.then(|| Issue {
            author: inner.pubkey,
            server: round.to,
            id,
            content: inner.content.clone(),
        });
        if issued {
            remember(&mut self.ids, id);
            self.last = Some((round.to, inner));
        }
        round.acts.push(Act { after: 0, event, issue });
        Some(id)
    }

    fn foreign_id(&mut self) -> Option<EventId> {
        choose(&mut self.mood.rng, &self.ids)
    }

    /// A token of somebody else's request, where one is to be read in clear.
    fn foreign_token(&mut self) -> String {
        let seen: BTreeSet<String> = self.messages.iter().filter_map(token).collect();
        let nth = self.mood.rng.usize(..seen.len().max(1));
        let common = texts::common(&mut self.mood.rng).trim_matches('"').to_owned();
        seen.into_iter().nth(nth).unwrap_or(common)
    }
}

fn token(event: &Event) -> Option<String> {
    let message = contextvm_core::Envelope::parse(&event.content, &Limits::default()).ok()?;
    let token = message.progress_token()?;
    Some(contextvm_core::rewrite::plain_text(token).into_owned())
}

fn addressee(event: &Event) -> Option<PublicKey> {
    let tag = event.tags.iter().find(|tag| tag.kind() == tags::RECIPIENT)?;
    PublicKey::from_hex(tag.content()?).ok()
}

fn remember<T>(kept: &mut VecDeque<T>, new: T) {
    if kept.len() >= KEPT {
        kept.pop_front();
    }
    kept.push_back(new);
}

fn choose<T: Clone>(rng: &mut fastrand::Rng, among: &VecDeque<T>) -> Option<T> {
    let nth = rng.usize(..among.len().max(1));
    among.get(nth).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostile::deed::Deed;
    use contextvm_core::{Protection, WrapKind, event};
    use contextvm_crypto::{open, open_plain};

    const NOW: u64 = 1_700_000_000;

    fn client(chances: Chances) -> (HostileClient, Keys) {
        let mut forge = Forge::new(9);
        let (server, other) = (forge.keys(), forge.keys().public_key());
        let keys = forge.keys();
        (HostileClient::new(chances, 1, keys, vec![server.public_key(), other]), server)
    }

    #[test]
    fn every_deed_of_a_client_happens() {
        let (mut client, server) = client(Chances::every("client", 300));
        let mut forge = Forge::new(1);
        for _ in 0..60 {
            let honest = forge.keys();
            let text = texts::call("1", Some("\"mine\""), "x");
            let inner = forge.message(&honest, &server.public_key(), NOW, [], text);
            let wrapped = Protection::Wrapped(WrapKind::Ephemeral);
            client.hears(&forge.protect(&inner, &server.public_key(), wrapped, NOW).unwrap());
            client.hears(&inner);
            assert!(client.idles(NOW).iter().all(|act| event::is_id_true(&act.event)));
        }
        for deed in Deed::of("client") {
            assert!(client.mood().deeds.get(deed) > 0, "{}", deed.name());
        }
    }

    #[test]
    fn what_is_issued_opens_and_what_must_not_be_executed_does_not() {
        let lies = [
            Deed::ClientOldEvents,
            Deed::ClientForges,
            Deed::ClientOtherKinds,
            Deed::ClientOtherAudience,
            Deed::ClientHandsOn,
            Deed::ClientFloods,
        ];
        let opens = |act: &Act, server: &Keys| {
            let (me, limits) = (server.public_key(), Limits::default());
            let opened = if act.event.kind.as_u16() == kind::MESSAGE {
                open_plain(act.event.clone(), &me, NOW, &limits)
            } else {
                open(&act.event, server, NOW, &limits)
            };
            opened.is_ok()
        };
        for deed in Deed::of("client") {
            let (mut client, server) = client(Chances::default().with(deed, 1_000));
            let mut forge = Forge::new(2);
            let honest = forge.keys();
            let elsewhere = forge.keys().public_key();
            client.hears(&forge.message(&honest, &elsewhere, NOW, [], texts::call("1", None, "x")));
            client.servers.truncate(if deed == Deed::ClientHandsOn { 2 } else { 1 });
            let acts: Vec<Act> = (0..10).flat_map(|_| client.idles(NOW)).collect();
            for act in &acts {
                assert!(act.issue.is_none() || opens(act, &server), "{}", deed.name());
                assert!(!lies.contains(&deed) || !opens(act, &server), "{}", deed.name());
            }
        }
    }
}
