//! What a hostile client does with what is not its own, and what nobody may act on.
use contextvm_core::{Protection, WrapKind, object, tags};
use nostr::event::{Event, Tag};
use nostr::key::PublicKey;

use super::{HostileClient, Round, SECOND, addressee, choose};
use crate::hostile::act::Act;
use crate::hostile::deed::Deed;
use crate::hostile::texts;

impl HostileClient {
    pub(super) fn texts(&mut self, round: &mut Round) {
        if self.mood.does(Deed::ClientBombs) {
            let text = texts::bomb(&mut self.mood.rng, false);
            self.say(round, [], text);
        }
        if self.mood.does(Deed::ClientBatches) {
            for _ in 0..self.mood.rng.u8(1..6) {
                let text = texts::batch(&mut self.mood.rng);
                let inner = self.forge.message(&self.keys, &round.to, round.unix, [], text);
                self.send(round, inner, false);
            }
        }
        if self.mood.does(Deed::ClientResponses) {
            let asked = self.foreign_id().map(|id| tags::answered(&id));
            let id = texts::common(&mut self.mood.rng);
            let text = if self.mood.rng.bool() { texts::answer(id, "uninvited") } else { texts::error(id) };
            let inner = self.forge.message(&self.keys, &round.to, round.unix, asked, text);
            self.send(round, inner, false);
        }
        if self.mood.does(Deed::ClientCancels) {
            let ids = self.ids.iter().map(|id| object::quote(&id.to_hex()));
            let mut ids: Vec<String> = ids.collect();
            ids.extend(["0", "1", "2", "\"1\"", "null", "{}"].map(str::to_owned));
            for _ in 0..self.mood.rng.u8(1..6) {
                let nth = self.mood.rng.usize(..ids.len());
                let text = texts::cancelled(ids.get(nth).map_or("1", String::as_str));
                self.say(round, [], text);
            }
        }
    }

    /// What others signed or sealed, in new clothes.
    pub(super) fn borrows(&mut self, round: &mut Round) {
        let message = choose(&mut self.mood.rng, &self.messages);
        if let Some(inner) = &message
            && self.mood.does(Deed::ClientRewraps)
        {
            let to = addressee(inner).unwrap_or(round.to);
            self.wrap_for(round, inner, &to);
        }
        if let Some(inner) = &message
            && self.servers.len() > 1
            && self.mood.wants(Deed::ClientHandsOn)
        {
            let others = self.servers.iter().copied().filter(|server| Some(*server) != addressee(inner));
            for to in others.collect::<Vec<_>>() {
                self.mood.deeds.add(Deed::ClientHandsOn);
                self.wrap_for(round, inner, &to);
            }
        }
        if let Some(wrap) = choose(&mut self.mood.rng, &self.wraps)
            && self.mood.does(Deed::ClientRepublishes)
        {
            let after = self.mood.rng.u64(..60 * SECOND);
            round.acts.push(Act { after, event: wrap, issue: None });
        }
    }

    fn wrap_for(&mut self, round: &mut Round, inner: &Event, to: &PublicKey) {
        let wrap = if self.mood.rng.bool() { WrapKind::Persistent } else { WrapKind::Ephemeral };
        let outer = self.forge.protect(inner, to, Protection::Wrapped(wrap), round.unix);
        round.acts.extend(outer.map(|event| Act { after: 0, event, issue: None }));
    }

    /// Events that must never be acted on, however true their signatures are.
    pub(super) fn lies(&mut self, round: &mut Round) {
        if self.mood.does(Deed::ClientOldEvents) {
            // Further away than any clock of an honest host may be wrong.
            let shift = self.mood.rng.u64(7_200..400_000);
            let stamp =
                if self.mood.rng.bool() { round.unix.saturating_sub(shift) } else { round.unix + shift };
            let text = self.call();
            let inner = self.forge.message(&self.keys, &round.to, stamp, [], text);
            self.send(round, inner, false);
        }
        if self.mood.does(Deed::ClientForges) {
            let victim = self.messages.back().map_or_else(|| self.forge.keys().public_key(), |it| it.pubkey);
            let text = self.call();
            let inner = self.forge.forged(&victim, &round.to, round.unix, &text);
            self.send(round, inner, false);
        }
        if self.mood.does(Deed::ClientOtherKinds) {
            let list = nostr::event::Tags::from_list(vec![tags::recipient(&round.to)]);
            let other = if self.mood.rng.bool() { 1 } else { self.mood.rng.u16(..25_910) };
            let text = self.call();
            let inner = self.keys.sign_event(other, round.unix, list, text, self.forge.bytes());
            self.send(round, inner, false);
        }
        if self.mood.does(Deed::ClientOtherAudience) {
            let (mine, other) = (tags::recipient(&round.to), tags::recipient(&self.keys.public_key()));
            let list = match self.mood.rng.u8(..4) {
                0 => Vec::new(),
                1 => vec![other],
                2 => vec![mine, other],
                _ => vec![Tag::custom("P", [round.to.to_hex()])],
            };
            let text = self.call();
            let inner = self.forge.message_with(&self.keys, round.unix, list, text);
            self.send(round, inner, false);
        }
    }
}
