//! Journal: what has to be on disk before the application hears of it, and what was on disk when we started.
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::{String, ToString};
use core::time::Duration;

use contextvm_core::envelope::Envelope;
use contextvm_core::{Draft, Mono, Now, Protection, event};
use nostr::event::{Event, EventId};

use super::inbound::INITIALIZED;
use super::{Delivery, RequestKey, ServerMachine, ServerOutput, ledger};
use crate::record::{Origin, Record};
use crate::{DropReason, ServerConfig};

/// Bytes of records, and of messages behind them, from which on nothing new is accepted until the store has caught up.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// What an accepted event takes there beside what is held for the application.
const ACCEPTED: usize = 256;
/// What the caller of a request is told that cannot be remembered.
const UNSTORED: &str = "Not executed: storage failed";
/// What it is told when the store has not said anything for as long as a caller waits.
const TOO_SLOW: &str = "Not executed: storage is too slow";
/// Pause before what could not be stored is given to a store that has failed twice in a row; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A request of an earlier run without a kept answer.
#[derive(Debug)]
pub(super) struct Interrupted {
    pub(super) protection: Protection,
    /// The caller's own JSON-RPC id, where the event does not hold it.
    pub(super) id: Option<String>,
}

/// A record that the store has not spoken about.
#[derive(Debug)]
struct Open {
    number: u64,
    /// Bytes.
    weight: usize,
    /// An acceptance that must get there in the end.
    accepted: Option<Box<Record>>,
}

/// Acceptances that the store failed to keep. What they are about is not executed and its caller is told so; after a
/// restart it must not be executed either.
#[derive(Debug, Default)]
struct Owed {
    records: VecDeque<Box<Record>>,
    /// Failures in a row.
    failures: u32,
    due: Option<Mono>,
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
    open: VecDeque<Open>,
    /// Of these records.
    bytes: usize,
    owed: Owed,
    /// Outputs towards the application, each behind the acceptance with this number.
    held: VecDeque<(u64, ServerOutput)>,
    /// What these take, bytes.
    held_bytes: usize,
    /// The same, waiting for nothing any more.
    free: VecDeque<ServerOutput>,
    /// Requests whose streams were offered and which the application never hears of.
    unheard: BTreeSet<RequestKey>,
    /// Requests that somebody may still have waited for when we started.
    interrupted: BTreeMap<RequestKey, Interrupted>,
    /// Requests that an earlier run has answered. The acceptance may have failed to get to the disk to which the answer
    /// got, and the ledger has no room for every answer.
    answered: BTreeSet<EventId>,
    /// The Unix second from which on no event of an earlier run is young enough to be repeated.
    interrupted_until: u64,
    /// The first Unix second of which no event was taken by an earlier run.
    began: u64,
}

impl Journal {
    pub(super) fn new(config: &ServerConfig) -> Self {
        Self {
            durable: config.durable,
            last: 0,
            asked: 0,
            settled: 0,
            open: VecDeque::new(),
            bytes: 0,
            owed: Owed::default(),
            held: VecDeque::new(),
            held_bytes: 0,
            free: VecDeque::new(),
            unheard: BTreeSet::new(),
            interrupted: BTreeMap::new(),
            answered: BTreeSet::new(),
            interrupted_until: 0,
            began: 0,
        }
    }

    /// Whether the store is so far behind that nothing new may be accepted.
    pub(super) fn is_full(&self) -> bool {
        self.bytes + self.held_bytes + self.owed.records.len() * ACCEPTED >= MOST_BYTES
    }

    /// Whether no earlier run can have acted on an event.
    pub(super) const fn is_of_this_run(&self, event: &Event) -> bool {
        event.created_at.as_secs() >= self.began
    }

    /// Whether an earlier run has answered an event.
    pub(super) fn was_answered(&self, id: &EventId) -> bool {
        self.answered.contains(id)
    }

    pub(super) fn take_interrupted(&mut self, key: &RequestKey) -> Option<Interrupted> {
        self.interrupted.remove(key)
    }

    /// Returns when what could not be stored is given to the store again.
    pub(super) const fn next_due(&self) -> Option<Mono> {
        self.owed.due
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
        if !self.durable {
            return self.is_heard(&output).then_some(output);
        }
        if let ServerOutput::Remember { number, record: Record::Accepted { .. } } = &output {
            self.asked = *number;
        }
        if is_for_application(&output) {
            if self.asked > self.settled || !self.held.is_empty() {
                self.held_bytes = self.held_bytes.saturating_add(weight(&output));
                self.held.push_back((self.asked, output));
                return None;
            }
            return self.is_heard(&output).then_some(output);
        }
        Some(output)
    }

    /// Takes out a request that the application is not to hear of any more.
    fn forget_held(&mut self, key: &RequestKey) {
        let position = self.held.iter().position(|(_, output)| delivers(output, key));
        if let Some((_, output)) = position.and_then(|position| self.held.remove(position)) {
            self.held_bytes -= weight(&output);
            self.forgotten(key, &output);
        }
    }

    /// Does the same with a request that was let out and not fetched yet, here or in the queue behind it.
    pub(super) fn forget_free(&mut self, key: &RequestKey, out: &mut VecDeque<ServerOutput>) {
        let found = [&mut self.free, out].into_iter().find_map(|queue| {
            let position = queue.iter().position(|output| delivers(output, key))?;
            queue.remove(position)
        });
        if let Some(output) = found {
            self.forgotten(key, &output);
        }
    }

    /// The application never hears of a request, nor of the end of the stream that it was offered.
    fn forgotten(&mut self, key: &RequestKey, output: &ServerOutput) {
        if matches!(output, ServerOutput::Deliver { delivery: Delivery::Request { streams: true, .. }, .. }) {
            self.unheard.insert(*key);
        }
    }

    /// Takes the next output that waits for nothing newer than this record.
    fn release(&mut self, through: u64) -> Option<ServerOutput> {
        let (_, output) = self.held.pop_front_if(|(number, _)| *number <= through)?;
        self.held_bytes -= weight(&output);
        Some(output)
    }

    /// Whether an output is not about a request that the application never heard of.
    fn is_heard(&mut self, output: &ServerOutput) -> bool {
        !matches!(output, ServerOutput::StreamEnded { key, .. } if self.unheard.remove(key))
    }

    /// Asks for a record to be kept.
    fn ask(&mut self, record: Record, weight: usize) -> ServerOutput {
        self.last = self.last.wrapping_add(1);
        self.bytes = self.bytes.saturating_add(weight);
        let accepted = matches!(record, Record::Accepted { .. }).then(|| Box::new(record.clone()));
        self.open.push_back(Open { number: self.last, weight, accepted });
        ServerOutput::Remember { number: self.last, record }
    }

    /// The store has spoken about all records up to this one.
    fn settle(&mut self, through: u64, is_kept: bool) {
        self.settled = self.settled.max(through.min(self.last));
        while let Some(open) = self.open.pop_front_if(|open| open.number <= through) {
            self.bytes = self.bytes.saturating_sub(open.weight);
            self.owed.records.extend(open.accepted.filter(|_| !is_kept));
        }
    }

    /// Forgets the requests of an earlier run once nobody can repeat them.
    pub(super) fn forget(&mut self, unix: u64) {
        if unix > self.interrupted_until {
            (self.interrupted, self.answered) = Default::default();
        }
    }
}

impl ServerMachine {
    /// Takes over what an earlier run has had remembered; to be called once, before any input.
    ///
    /// A request of the earlier run that comes again gets the very answer it got then, or is told that a restart came
    /// between. None is executed again. More ids than `seen_ids` are all taken; new work is refused until they are old.
    pub fn restore(&mut self, records: impl IntoIterator<Item = Record>, now: Now) {
        let mut records = records.into_iter().peekable();
        if records.peek().is_some() {
            self.journal.began = now.unix.saturating_add(1);
        }
        let limits = &self.config.limits;
        let keep = limits.age_window.saturating_add(limits.age_skew);
        let waits = limits.request_timeout.as_secs();
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
                    if stamp.saturating_add(waits) >= now.unix && !self.ledger.holds(&key) {
                        self.journal.interrupted.insert(key, Interrupted { protection, id });
                    }
                }
                Record::Answered { key, draft, protection } => {
                    let until = draft.created_at.saturating_add(keep);
                    self.journal.interrupted_until = self.journal.interrupted_until.max(until);
                    self.journal.answered.insert(key.id);
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
            Some(message) => message.id.map_or(Origin::Note, |id| Origin::Transfer(id.get().to_string())),
        };
        let key = RequestKey { caller: event.pubkey, id: event.id };
        self.remember_as(key, event.created_at.as_secs(), (protection, origin));
    }

    /// Has a frame remembered that nobody waits for, unless the store is far behind.
    pub(super) fn remember_note(&mut self, key: RequestKey, stamp: u64, protection: Protection) {
        if self.journal.durable && !self.journal.is_full() {
            self.remember_as(key, stamp, (protection, Origin::Note));
        }
    }

    fn remember_as(&mut self, key: RequestKey, stamp: u64, (protection, origin): (Protection, Origin)) {
        let asked = self.journal.ask(Record::Accepted { key, stamp, protection, origin }, ACCEPTED);
        self.out.push_back(asked);
    }

    /// Has a kept answer remembered, unless the store is far behind.
    pub(super) fn remember_answered(&mut self, key: RequestKey, draft: &Draft, protection: Protection) {
        if self.journal.durable && !self.journal.is_full() {
            let record = Record::Answered { key, draft: draft.clone(), protection };
            let asked = self.journal.ask(record, ledger::weight(draft));
            self.out.push_back(asked);
        }
    }

    /// Lets the application hear of what is on disk now, except of requests that ended meanwhile.
    pub(super) fn remembered(&mut self, through: u64, now: Now) {
        self.journal.settle(through, true);
        while let Some(output) = self.journal.release(through) {
            self.let_out(output, now);
        }
        // The store works, so what it failed to keep before gets there as well.
        self.journal.owed.failures = 0;
        self.store_all(now);
    }

    /// Gives up what cannot be remembered: nothing of it is executed, and who waits for an answer is told so.
    pub(super) fn unstored(&mut self, through: u64, now: Now) {
        self.journal.settle(through, false);
        self.owe(now);
        while let Some(output) = self.journal.release(through) {
            if let ServerOutput::Deliver { delivery: Delivery::Request { key, streams, .. }, .. } = &output {
                self.unheard(*key, *streams);
                self.end_unheard(*key, Some(UNSTORED), now);
                self.drop(DropReason::Unstored);
            } else if let ServerOutput::Deliver { delivery: Delivery::Notification { method }, .. } = &output
                && has_record(method)
            {
                self.drop(DropReason::Unstored);
            } else {
                self.let_out(output, now);
            }
        }
    }

    /// What could not be stored is tried again, at once and before the errors that say so, and then ever more rarely.
    fn owe(&mut self, now: Now) {
        let owed = &mut self.journal.owed;
        owed.failures = owed.failures.saturating_add(1);
        if owed.failures == 1 {
            self.store_all(now);
        } else if owed.due.is_none() && !owed.records.is_empty() {
            let pause = FIRST_PAUSE * (1 << owed.failures.saturating_sub(2).min(5));
            owed.due = Some(now.mono.after(pause.min(LONGEST_PAUSE)));
        }
    }

    /// Gives the store what it has failed to keep, if the time for that has come.
    pub(super) fn ask_when_due(&mut self, now: Now) {
        if self.journal.owed.due.is_some_and(|due| due <= now.mono) {
            self.store_all(now);
        }
    }

    /// Gives the store what it has failed to keep, as far as it could still come again, whether or not it is time to try
    /// again: also before the end.
    pub fn store_all(&mut self, now: Now) {
        let limits = &self.config.limits;
        let keep = limits.age_window.saturating_add(limits.age_skew);
        self.journal.owed.due = None;
        for record in core::mem::take(&mut self.journal.owed.records) {
            if matches!(*record, Record::Accepted { stamp, .. } if stamp.saturating_add(keep) >= now.unix) {
                let asked = self.journal.ask(*record, ACCEPTED);
                self.out.push_back(asked);
            }
        }
    }

    /// Lets the application hear of something, unless it is about a request that it never heard of.
    fn let_out(&mut self, output: ServerOutput, now: Now) {
        // The session of a stream may have been replaced by what was held before this.
        if matches!(&output, ServerOutput::StreamRoom(key) if !self.streams.is_open(key)) {
            return;
        }
        if let ServerOutput::Deliver { caller, delivery, .. } = &output {
            if let Delivery::Request { key, streams, .. } = delivery
                && self.routes.get(key).is_none_or(|route| route.cancelled)
            {
                self.unheard(*key, *streams);
                let _ = self.take_route(key, now);
                return;
            }
            let before = self.out.len();
            self.hear(*caller, delivery, now);
            // What ends with a replaced session ends before the new one begins.
            for news in self.out.split_off(before) {
                if is_for_application(&news) {
                    self.let_out(news, now);
                } else {
                    self.out.push_back(news);
                }
            }
        }
        if self.journal.is_heard(&output) {
            self.journal.free.push_back(output);
        }
    }

    /// Ends a request that the application has not heard of, and never will.
    pub(super) fn end_unheard(&mut self, key: RequestKey, why: Option<&str>, now: Now) {
        self.journal.forget_held(&key);
        match why {
            Some(why) => self.end_route(key, why, now),
            None => {
                if let Some(route) = self.take_route(&key, now) {
                    self.unsubscribe(key.caller, &route);
                }
            }
        }
    }

    /// Ends a request whose time is over.
    pub(super) fn end_overdue(&mut self, key: RequestKey, now: Now) {
        if self.routes.get(&key).is_some_and(|route| route.heard) {
            self.end_route(key, "Session restarted", now);
        } else {
            self.end_unheard(key, Some(TOO_SLOW), now);
        }
    }

    fn unheard(&mut self, key: RequestKey, streams: bool) {
        if streams {
            self.journal.unheard.insert(key);
        }
    }
}

/// Whether a notification is told without having been stored: it does no harm when it is told again.
fn has_record(method: &str) -> bool {
    !matches!(method, INITIALIZED | "notifications/cancelled" | "notifications/progress")
}

/// Whether an output tells the application of this request.
fn delivers(output: &ServerOutput, key: &RequestKey) -> bool {
    matches!(output, ServerOutput::Deliver { delivery: Delivery::Request { key: of, .. }, .. } if of == key)
}

/// What an output that is held back takes, bytes. The text of a request is weighed as what is in flight.
fn weight(output: &ServerOutput) -> usize {
    let ServerOutput::Deliver { delivery, message, event, .. } = output else {
        return size_of::<ServerOutput>();
    };
    let text = if matches!(delivery, Delivery::Request { .. }) { 0 } else { message.len() };
    text + event::weight(event)
}

const fn is_for_application(output: &ServerOutput) -> bool {
    matches!(
        output,
        ServerOutput::Deliver { .. }
            | ServerOutput::Restarted(_)
            | ServerOutput::Ended(_)
            | ServerOutput::StreamRoom(_)
            | ServerOutput::StreamEnded { .. }
    )
}
