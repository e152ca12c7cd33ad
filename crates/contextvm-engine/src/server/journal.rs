//! Journal: what has to be on disk before the application hears of it, and what was on disk when we started.
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::{String, ToString};

use contextvm_core::envelope::Envelope;
use contextvm_core::{Draft, Now, Protection};
use nostr::event::Event;

use super::inbound::REFUSED;
use super::outbound::error_text;
use super::{Delivery, RequestKey, ServerMachine, ServerOutput};
use crate::record::{Origin, Record};
use crate::{DropReason, ServerConfig};

/// Bytes of records, and of messages behind them, from which on nothing new is accepted until the store has caught up.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// What an accepted event takes there beside its text.
const ACCEPTED: usize = 256;
/// Longest JSON-RPC id of a transferred request that is kept, bytes.
const ID: usize = 128;
/// What the caller of a request is told that was taken by an earlier run and not answered, as far as we know.
const INTERRUPTED: &str = "Interrupted by a restart";
/// What the caller of a request is told that cannot be remembered.
const UNSTORED: &str = "Not executed: storage failed";

/// A request of an earlier run without a kept answer.
#[derive(Debug)]
struct Asked {
    protection: Protection,
    /// The caller's own JSON-RPC id, where the event does not hold it.
    id: Option<String>,
}

/// Records under way to the store, and what the application may hear once they are there.
#[derive(Debug)]
pub(super) struct Journal {
    durable: bool,
    /// Number of the last record.
    last: u64,
    /// Number of the last acceptance that was given out as an output.
    asked: u64,
    /// The store has spoken about all records up to this one.
    settled: u64,
    /// Records that the store has not spoken about, and their weight in bytes.
    open: VecDeque<(u64, usize)>,
    bytes: usize,
    /// Outputs towards the application, each behind the acceptance with this number.
    held: VecDeque<(u64, ServerOutput)>,
    /// The same, waiting for nothing any more.
    free: VecDeque<ServerOutput>,
    /// Requests whose streams were offered and which the application never hears of.
    unheard: BTreeSet<RequestKey>,
    interrupted: BTreeMap<RequestKey, Asked>,
    /// The Unix second from which on no event of an earlier run is young enough to be repeated.
    interrupted_until: u64,
}

impl Journal {
    pub(super) const fn new(config: &ServerConfig) -> Self {
        Self {
            durable: config.durable,
            last: 0,
            asked: 0,
            settled: 0,
            open: VecDeque::new(),
            bytes: 0,
            held: VecDeque::new(),
            free: VecDeque::new(),
            unheard: BTreeSet::new(),
            interrupted: BTreeMap::new(),
            interrupted_until: 0,
        }
    }

    /// Whether the store is so far behind that nothing new may be accepted.
    pub(super) const fn is_full(&self) -> bool {
        self.bytes >= MOST_BYTES
    }

    /// Returns how many outputs wait for the store, and how many records it has not spoken about.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.held.len(), self.open.len())
    }

    pub(super) fn next_free(&mut self) -> Option<ServerOutput> {
        self.free.pop_front()
    }

    /// Lets an output go out now, or holds it back until the store has everything that was accepted before it.
    pub(super) fn pass(&mut self, output: ServerOutput) -> Option<ServerOutput> {
        match &output {
            _ if !self.durable => {}
            ServerOutput::Remember { number, record: Record::Accepted { .. } } => self.asked = *number,
            ServerOutput::Deliver { .. }
            | ServerOutput::Restarted(_)
            | ServerOutput::Ended(_)
            | ServerOutput::StreamRoom(_)
            | ServerOutput::StreamEnded { .. } => {
                if self.asked > self.settled || !self.held.is_empty() {
                    self.held.push_back((self.asked, output));
                    return None;
                }
                return self.is_heard(&output).then_some(output);
            }
            ServerOutput::Publish(_)
            | ServerOutput::Ask { .. }
            | ServerOutput::Remember { .. }
            | ServerOutput::Undeliverable { .. }
            | ServerOutput::Drop(_) => {}
        }
        Some(output)
    }

    /// Takes the next output that waits for nothing newer than this record.
    fn release(&mut self, through: u64) -> Option<ServerOutput> {
        self.held.pop_front_if(|(number, _)| *number <= through).map(|(_, output)| output)
    }

    /// Whether an output is not about a request that the application never heard of.
    fn is_heard(&mut self, output: &ServerOutput) -> bool {
        !matches!(output, ServerOutput::StreamEnded { key, .. } if self.unheard.remove(key))
    }

    fn number(&mut self, weight: usize) -> u64 {
        self.last = self.last.wrapping_add(1);
        self.open.push_back((self.last, weight));
        self.bytes = self.bytes.saturating_add(weight);
        self.last
    }

    fn settle(&mut self, through: u64) {
        self.settled = self.settled.max(through.min(self.last));
        while let Some((_, weight)) = self.open.pop_front_if(|(number, _)| *number <= through) {
            self.bytes = self.bytes.saturating_sub(weight);
        }
    }

    /// Forgets the requests of an earlier run once nobody can repeat them.
    pub(super) fn forget(&mut self, unix: u64) {
        if unix > self.interrupted_until {
            self.interrupted = BTreeMap::new();
        }
    }
}

impl ServerMachine {
    /// Takes over what an earlier run has had remembered; to be called once, before any input.
    ///
    /// A request of the earlier run that comes again gets the very answer it got then, or is told that a restart came
    /// between. None is executed again. More ids than `seen_ids` are all taken; new work is refused until they are old.
    pub fn restore(&mut self, records: impl IntoIterator<Item = Record>, now: Now) {
        let limits = &self.config.limits;
        let keep = limits.age_window.saturating_add(limits.age_skew);
        for record in records {
            match record {
                Record::Accepted { key, stamp, protection, origin } => {
                    self.seen.insert(stamp, key.id);
                    let id = match origin {
                        Origin::Note => continue,
                        Origin::Request => None,
                        Origin::Transfer(id) => Some(id),
                    };
                    let until = stamp.saturating_add(keep);
                    self.journal.interrupted_until = self.journal.interrupted_until.max(until);
                    if self.ledger.get_mut(&key).is_none() {
                        self.journal.interrupted.insert(key, Asked { protection, id });
                    }
                }
                Record::Answered { key, draft, protection } => {
                    if self.ledger.restore(key, draft, protection, now) {
                        self.journal.interrupted.remove(&key);
                    }
                }
            }
        }
        self.seen.forget(now.unix);
        self.journal.forget(now.unix);
    }

    /// Has an accepted event remembered.
    pub(super) fn remember_accepted(
        &mut self,
        event: &Event,
        protection: Protection,
        request: Option<&Envelope<'_>>,
    ) {
        if !self.journal.durable {
            return;
        }
        let origin = match request {
            None => Origin::Note,
            Some(message) if message.text() == event.content => Origin::Request,
            Some(message) => {
                let id = message.id.map(|id| id.get()).filter(|id| id.len() <= ID);
                id.map_or(Origin::Note, |id| Origin::Transfer(id.to_string()))
            }
        };
        // Requests are weighed while they are in flight.
        let text = if request.is_some() { 0 } else { event.content.len() };
        let number = self.journal.number(ACCEPTED + text);
        let key = RequestKey { caller: event.pubkey, id: event.id };
        let record = Record::Accepted { key, stamp: event.created_at.as_secs(), protection, origin };
        self.out.push_back(ServerOutput::Remember { number, record });
    }

    /// Has a kept answer remembered, unless the store is far behind.
    pub(super) fn remember_answered(&mut self, key: RequestKey, draft: &Draft, protection: Protection) {
        if self.journal.durable && !self.journal.is_full() {
            let number = self.journal.number(ACCEPTED + draft.content.len());
            let record = Record::Answered { key, draft: draft.clone(), protection };
            self.out.push_back(ServerOutput::Remember { number, record });
        }
    }

    /// Lets the application hear of what is on disk now, except of requests that ended meanwhile.
    pub(super) fn remembered(&mut self, through: u64, now: Now) {
        self.journal.settle(through);
        while let Some(output) = self.journal.release(through) {
            if let ServerOutput::Deliver { delivery: Delivery::Request { key, streams, .. }, .. } = &output
                && self.routes.get(key).is_none_or(|route| route.cancelled)
            {
                self.unheard(*key, *streams);
                let _ = self.take_route(key, now);
            } else if self.journal.is_heard(&output) {
                self.journal.free.push_back(output);
            }
        }
    }

    /// Gives up what cannot be remembered: nothing of it is executed, and who waits for an answer is told so.
    pub(super) fn unstored(&mut self, through: u64, now: Now) {
        self.journal.settle(through);
        while let Some(output) = self.journal.release(through) {
            if let ServerOutput::Deliver { delivery, .. } = &output {
                if let Delivery::Request { key, streams, .. } = delivery {
                    self.unheard(*key, *streams);
                    let uri = self.routes.get(key).and_then(|route| route.subscribes.clone());
                    if let Some(uri) = uri {
                        self.sessions.unsubscribe(&key.caller, &uri);
                    }
                    self.end_route(*key, UNSTORED, now);
                }
                self.drop(DropReason::Unstored);
            } else if self.journal.is_heard(&output) {
                self.journal.free.push_back(output);
            }
        }
    }

    /// Tells a caller that a request was interrupted by a restart; says whether it was.
    pub(super) fn was_interrupted(&mut self, event: &Event, protection: Protection, now: Now) -> bool {
        let key = RequestKey { caller: event.pubkey, id: event.id };
        let Some(asked) = self.journal.interrupted.remove(&key) else { return false };
        let id = asked.id.or_else(|| {
            let message = Envelope::parse(&event.content, &self.config.limits).ok()?;
            Some(message.id?.get().to_string())
        });
        let Some(id) = id else { return false };
        let asked = if asked.protection.is_encrypted() { asked.protection } else { protection };
        self.publish_answer(key, asked, error_text(&id, REFUSED, INTERRUPTED), now)
    }

    fn unheard(&mut self, key: RequestKey, streams: bool) {
        if streams {
            self.journal.unheard.insert(key);
        }
    }
}
