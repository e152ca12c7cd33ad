//! The first word to a server that was never heard, when the first thing to send it is a transfer.
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use contextvm_core::envelope;
use contextvm_core::{Mono, Now, object};
use nostr::event::{EventId, Tag, Tags};

use super::ending::Ending;
use super::{ClientMachine, json};
use crate::size::event_len;

/// How long one greeting has, until the next one goes out.
const PATIENCE: Duration = Duration::from_secs(3);
/// Most greetings; then transfers begin without an answer.
const MOST: usize = 3;

/// A request that is to become a transfer, or not.
#[derive(Debug)]
struct Waiting {
    text: String,
    tags: Vec<Tag>,
    is_second: bool,
}

/// Pings that ask a server who it is, and the requests that wait for its answer.
///
/// It is known then whether it takes transfers at all, and a server that takes none from strangers knows us.
#[derive(Debug, Default)]
pub(super) struct Greeting {
    /// The ids of the pings.
    pings: Vec<EventId>,
    due: Mono,
    waiting: BTreeMap<EventId, Waiting>,
}

impl Greeting {
    pub(super) fn next_due(&self) -> Option<Mono> {
        (!self.waiting.is_empty()).then_some(self.due)
    }

    /// Whether an event answers a ping.
    pub(super) fn is_answered_by(&self, named: Option<EventId>) -> bool {
        named.is_some_and(|named| self.pings.contains(&named))
    }

    /// Lets go of a request.
    pub(super) fn forget(&mut self, call: &EventId) {
        self.waiting.remove(call);
    }
}

impl ClientMachine {
    /// Keeps the text of a call that is in the table until the server has said who it is.
    pub(super) fn greet_first(
        &mut self,
        call: EventId,
        (text, tags): (String, Vec<Tag>),
        is_second: bool,
        now: Now,
    ) {
        let is_first = self.greeting.waiting.is_empty();
        self.greeting.waiting.insert(call, Waiting { text, tags, is_second });
        if is_first {
            self.greeting.pings.clear();
            self.greet(now);
        }
    }

    /// Begins what waited.
    pub(super) fn begin_waiting(&mut self, now: Now) {
        for (call, waiting) in core::mem::take(&mut self.greeting.waiting) {
            let Waiting { text, tags, is_second } = waiting;
            match self.handshake() {
                Some(handshake) => self.start_upload(call, (text, handshake), tags, is_second, now),
                None => self.send_after_all(&call, text, tags, now),
            }
        }
    }

    pub(super) fn wake_greeting(&mut self, now: Now) {
        if self.greeting.next_due().is_none_or(|due| due > now.mono) {
            return;
        }
        if self.greeting.pings.len() < MOST { self.greet(now) } else { self.begin_waiting(now) }
    }

    fn greet(&mut self, now: Now) {
        let id = json::raw(object::quote(&self.tokens.choose(None).text));
        let Some(id) = id else { return };
        self.greeting.due = now.mono.after(PATIENCE);
        let ping = envelope::request(&id, "ping", None);
        let tags = self.request_tags(true);
        if let Some(event) = self.publish_loose(tags, ping, now) {
            self.greeting.pings.push(event);
        }
    }

    /// The server takes no transfers: a request that fits goes as one event.
    fn send_after_all(&mut self, call: &EventId, text: String, tags: Vec<Tag>, now: Now) {
        let Some(pending) = self.pending.take(call) else { return };
        let (size, limit) = (text.len(), self.event_limit());
        if size > limit {
            return self.end(call, &pending, &Ending::TooLarge { size, limit }, now);
        }
        let draft = self.unique.draft(self.me, now.unix, Tags::from_list(tags), text);
        let size = event_len(&draft);
        if size > limit {
            return self.end(call, &pending, &Ending::TooLarge { size, limit }, now);
        }
        self.ask_with(pending, (draft, size), now);
    }
}
