//! Frames of answers and of streams: given out in turns, published, and followed until a relay took them.
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use contextvm_core::{Draft, Mono, Now, Protection, tags};
use nostr::event::{EventId, Tag, Tags};
use nostr::key::PublicKey;

use super::{RequestKey, ServerMachine, ServerOutput};
use crate::Outcome;
use crate::flight::{Flights, Landing};

/// Whose frames they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Answer(RequestKey),
    Stream(RequestKey),
}

/// A frame that carries our discovery tags: its number, and the epoch of the session that it tells.
pub(super) type Telling = Option<(u64, u32)>;

/// Frames on their way, who is next to give one out, and who wants to be called when.
#[derive(Debug, Default)]
pub(super) struct Frames {
    flights: Flights<Owner>,
    turns: VecDeque<Owner>,
    in_turn: BTreeSet<Owner>,
    timers: BTreeSet<(Mono, Owner)>,
    wakes: BTreeMap<Owner, Mono>,
}

impl Frames {
    /// Puts somebody who may have a frame to give out at the end of the line.
    pub(super) fn call(&mut self, owner: Owner) {
        if self.in_turn.insert(owner) {
            self.turns.push_back(owner);
        }
    }

    /// Sets when somebody wants to be called.
    pub(super) fn wake_at(&mut self, owner: Owner, at: Option<Mono>) {
        if let Some(old) = self.wakes.remove(&owner) {
            self.timers.remove(&(old, owner));
        }
        if let Some(at) = at {
            self.wakes.insert(owner, at);
            self.timers.insert((at, owner));
        }
    }

    /// Forgets somebody who is gone.
    pub(super) fn forget(&mut self, owner: Owner) {
        self.wake_at(owner, None);
        // Nobody republishes a frame whose owner is gone, so its ticket means nothing any more.
        let _ = self.flights.forget(&owner);
        if self.in_turn.remove(&owner) {
            self.turns.retain(|other| *other != owner);
        }
    }

    /// Forgets what somebody has on its way, because it begins anew.
    pub(super) fn recall(&mut self, owner: Owner) {
        let _ = self.flights.forget(&owner);
    }

    /// Returns when somebody wants to be called, or a frame is to be published again.
    pub(super) fn next_wake(&self) -> Option<Mono> {
        let timer = self.timers.first().map(|(at, _)| *at);
        timer.into_iter().chain(self.flights.next_due()).min()
    }

    fn next_turn(&mut self) -> Option<Owner> {
        if self.flights.room() == 0 {
            return None;
        }
        let owner = self.turns.pop_front()?;
        self.in_turn.remove(&owner);
        Some(owner)
    }

    fn due(&mut self, now: Mono) -> Option<Owner> {
        let (_, owner) = self.timers.first().copied().filter(|(at, _)| *at <= now)?;
        self.wake_at(owner, None);
        Some(owner)
    }
}

impl ServerMachine {
    /// Gives out one frame after the other, in turns, while there is room for frames on their way.
    pub(super) fn give_out(&mut self, now: Now) {
        while let Some(owner) = self.frames.next_turn() {
            let gave = match owner {
                Owner::Answer(key) => self.answer_turn(&key, now),
                Owner::Stream(key) => self.stream_turn(&key, now),
            };
            if gave {
                self.frames.call(owner);
            }
        }
        self.tell_room();
    }

    /// Calls who wanted to be called by now, and publishes frames again that are due.
    pub(super) fn wake_frames(&mut self, now: Now) {
        while let Some(owner) = self.frames.due(now.mono) {
            match owner {
                Owner::Answer(key) => self.wake_answer(&key, now),
                Owner::Stream(key) => self.wake_stream(&key, now),
            }
        }
        self.republish_frames(now);
    }

    fn republish_frames(&mut self, now: Now) {
        while let Some(outbound) = self.frames.flights.due(now.mono, || self.post.next_ticket()) {
            self.out.push_back(ServerOutput::Publish(outbound));
        }
    }

    /// Takes note of what became of a frame; `false` when the ticket is not that of a frame.
    pub(super) fn frame_landed(&mut self, ticket: crate::Ticket, outcome: &Outcome, now: Now) -> bool {
        let Some((owner, progress, landing)) = self.frames.flights.land(ticket, outcome, now.mono) else {
            return false;
        };
        let Some(landing) = landing else {
            self.republish_frames(now);
            return true;
        };
        if *outcome == Outcome::Accepted {
            self.note_told(owner, progress);
        }
        match owner {
            Owner::Answer(key) => self.answer_landed(&key, progress, landing, now),
            Owner::Stream(key) => self.stream_landed(&key, progress, landing == Landing::Taken, now),
        }
        self.frames.call(owner);
        true
    }

    /// Remembers that our discovery tags have reached a relay, if they were on this frame.
    fn note_told(&mut self, owner: Owner, progress: u64) {
        let (Owner::Answer(key) | Owner::Stream(key)) = owner;
        let telling = match owner {
            Owner::Answer(_) => self.answers.telling(&key),
            Owner::Stream(_) => self.streams.telling(&key),
        };
        let epoch = telling.filter(|(frame, _)| *frame == progress).map(|(_, epoch)| epoch);
        let session = self.sessions.get_mut(&key.caller);
        if let Some(session) = session.filter(|session| Some(session.epoch) == epoch) {
            session.told = true;
        }
    }

    /// Publishes a frame of somebody and follows it.
    pub(super) fn publish_frame(
        &mut self,
        (owner, progress): (Owner, u64),
        draft: Draft,
        protection: Protection,
        now: Now,
    ) {
        let (Owner::Answer(key) | Owner::Stream(key)) = owner;
        let (ticket, frame) = (self.post.next_ticket(), (owner, progress));
        let outbound = self.frames.flights.depart(ticket, frame, draft, key.caller, protection, now.mono);
        self.post_out(outbound);
    }

    /// Publishes a frame once, and does not look after it: an accept, or an abort. It goes to somebody about something.
    pub(super) fn publish_once(
        &mut self,
        (to, about): (PublicKey, Option<EventId>),
        e: Option<EventId>,
        protection: Protection,
        text: String,
        now: Now,
    ) {
        let tags = frame_tags(to, e, Vec::new());
        let draft = self.unique.draft(self.me, now.unix, tags, text);
        self.publish(self.publication(to, about), draft, protection);
    }
}

/// The tags of a frame: `p`, `e` where it belongs to a request of the caller, then others.
pub(super) fn frame_tags(to: PublicKey, e: Option<EventId>, others: Vec<Tag>) -> Tags {
    let mut all = Vec::with_capacity(2 + others.len());
    all.push(tags::recipient(&to));
    all.extend(e.as_ref().map(tags::answered));
    all.extend(others);
    Tags::from_list(all)
}
