//! One replaceable kind: what it should say, what was published last, and with which stamp.
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use contextvm_core::{Mono, Now};
use nostr::event::{EventId, Tag, Tags};
use nostr::key::PublicKey;

use super::AnnounceError;
use super::pause::Backoff;
use crate::{Deletion, Unsigned};

/// Ids of own events of one kind that are remembered for a deletion; the newest.
const REMEMBERED: usize = 32;
/// The reason that readers of a deletion see.
const NO_LONGER: &str = "no longer offered";

/// What an event says, apart from its stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Words {
    Document {
        tags: Vec<Tag>,
        content: String,
    },
    /// There is no such document any more.
    Deleted,
}

/// What was published last.
#[derive(Debug)]
struct Current {
    words: Words,
    event: Unsigned,
    state: State,
    backoff: Backoff,
    /// It goes out again although a relay takes it.
    again: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    InFlight(u64),
    Taken,
    /// Not every relay was asked, or none took it; it goes out again.
    Refused,
}

/// One replaceable kind.
#[derive(Debug)]
pub(super) struct Slot {
    kind: u16,
    /// The highest stamp that was used or seen.
    last: u64,
    /// Events that relays may hold.
    ids: VecDeque<EventId>,
    target: Option<Words>,
    current: Option<Current>,
    /// What was last found wrong with the words.
    complaint: Option<AnnounceError>,
}

impl Slot {
    pub(super) const fn new(kind: u16) -> Self {
        Self { kind, last: 0, ids: VecDeque::new(), target: None, current: None, complaint: None }
    }

    /// Notes an event that a relay holds, or the stamp of a deletion.
    pub(super) fn known(&mut self, created_at: u64, id: Option<EventId>) {
        self.last = self.last.max(created_at);
        if let Some(id) = id
            && !self.ids.contains(&id)
        {
            self.remember(id);
        }
    }

    /// Whether relays may hold an event of this kind, from this run or an earlier one.
    pub(super) fn may_exist(&self) -> bool {
        !self.ids.is_empty()
    }

    /// Whether this run has published an event of this kind and not deleted it.
    pub(super) fn is_published(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.words != Words::Deleted)
    }

    /// Sets what should be said.
    pub(super) fn want(&mut self, words: Words) {
        self.target = Some(words);
        self.complaint = None;
    }

    /// Notes what is wrong with the words, and says whether that is new.
    pub(super) fn complain(&mut self, error: &AnnounceError) -> bool {
        self.complaint.replace(error.clone()).as_ref() != Some(error)
    }

    /// Returns the event to publish now, if there is one.
    pub(super) fn next(&mut self, me: &PublicKey, ticket: u64, now: Now) -> Option<Unsigned> {
        let target = self.target.as_ref()?;
        if let Some(current) = &mut self.current {
            match current.state {
                State::InFlight(_) => return None,
                State::Taken if current.words == *target => return None,
                State::Refused if current.words == *target => {
                    return current.backoff.take_due(now.mono).then(|| {
                        (current.state, current.again) = (State::InFlight(ticket), false);
                        current.event.clone()
                    });
                }
                State::Taken | State::Refused => {}
            }
        }
        let words = target.clone();
        let created_at = now.unix.max(self.last.saturating_add(1));
        let event = self.draft(me, &words, created_at);
        self.last = created_at;
        if words != Words::Deleted {
            self.remember(event.id(me));
        }
        let (state, backoff) = (State::InFlight(ticket), Backoff::default());
        self.current = Some(Current { words, event: event.clone(), state, backoff, again: false });
        Some(event)
    }

    /// Notes what became of a publication, if it was this kind's.
    pub(super) fn on_outcome(&mut self, ticket: u64, taken: bool, now: Now) {
        let Some(current) = &mut self.current else { return };
        if current.state != State::InFlight(ticket) {
            return;
        }
        if !taken {
            current.state = State::Refused;
            current.backoff.fail(now.mono);
            return;
        }
        if current.words == Words::Deleted {
            self.ids.clear();
        }
        current.state = State::Taken;
        if current.again {
            self.repeat(now.mono);
        }
    }

    /// Lets what was published last go out again; what is under way does so afterwards.
    pub(super) fn repeat(&mut self, now: Mono) {
        let Some(current) = &mut self.current else { return };
        if matches!(current.state, State::InFlight(_)) {
            current.again = true;
        } else {
            (current.state, current.backoff) = (State::Refused, Backoff::due(now));
        }
    }

    /// Returns when to try again.
    pub(super) fn timeout(&self) -> Option<Mono> {
        self.current.as_ref().filter(|current| current.state == State::Refused)?.backoff.at()
    }

    /// Whether a publication is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.current.as_ref().is_some_and(|current| matches!(current.state, State::InFlight(_)))
    }

    fn draft(&self, me: &PublicKey, words: &Words, created_at: u64) -> Unsigned {
        match words {
            Words::Document { tags, content } => {
                let (tags, content) = (Tags::from_list(tags.clone()), content.clone());
                Unsigned { kind: self.kind, created_at, tags, content }
            }
            Words::Deleted => {
                let ids = self.ids.iter().copied().collect();
                Deletion { author: *me, kind: self.kind, ids, reason: NO_LONGER.to_string() }
                    .draft(created_at)
            }
        }
    }

    fn remember(&mut self, id: EventId) {
        if self.ids.len() >= REMEMBERED {
            self.ids.pop_front();
        }
        self.ids.push_back(id);
    }
}
