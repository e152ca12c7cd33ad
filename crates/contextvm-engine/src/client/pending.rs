//! Pending calls: what was asked and is waited for.
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use contextvm_core::Mono;
use core::time::Duration;
use nostr::event::EventId;
use serde_json::value::RawValue;

use super::tokens::Wire;
use crate::{Ticket, Wake};

/// How far a request is known to have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// No outcome yet.
    Fresh,
    /// An uncertain outcome: some relay may have passed it on.
    Perhaps,
    /// Every attempt so far was refused by every relay; the text is the last one's.
    Nowhere(String),
    /// A relay took it.
    Taken,
}

/// One call.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) ticket: Ticket,
    /// The application's id, in its own JSON text.
    pub(super) id: Box<RawValue>,
    /// The id in comparable form.
    pub(super) id_form: String,
    /// The application's progress token, in its own JSON text.
    pub(super) token: Option<Box<RawValue>>,
    /// The progress token that went out.
    pub(super) wire: Wire,
    pub(super) method: String,
    /// Size of the signed event, which the driver keeps while the call waits; while the message is sent in pieces, its size,
    /// or that of the event it would be.
    pub(super) bytes: usize,
    /// Its request is on its way as a transfer, and has no event of its own yet.
    pub(super) uploading: bool,
    /// The application reads its stream.
    pub(super) reading: bool,
    /// Asking twice does no harm, whatever the server promises.
    pub(super) harmless: bool,
    /// It carries the discovery flags.
    pub(super) flagged: bool,
    /// It went out in a gift wrap.
    pub(super) wrapped: bool,
    pub(super) started: Mono,
    /// Until when a server takes its event; afterwards it is too old, however it travels.
    pub(super) fresh_until: Mono,
    /// How long it may last, whatever is heard of it.
    pub(super) lasts: Duration,
    /// `None` for an open subscription, which ends by answer, cancellation or close only.
    pub(super) deadline: Option<Mono>,
    pub(super) sent: Sent,
    /// When anything was last published for it.
    pub(super) last_out: Mono,
    /// When it was last wrapped: relays that saw the wrap since then do not pass it on again.
    pub(super) last_wrap: Mono,
    /// When the same outer event is due again.
    pub(super) same_at: Option<Mono>,
    /// It is due for a relay that came up, not because it was refused.
    pub(super) same_for_relay: bool,
    /// When a new wrap is due.
    pub(super) rewrap_at: Option<Mono>,
    /// Attempts that no relay confirmed.
    pub(super) failures: u32,
    /// New wraps since the server was last heard on this call.
    pub(super) rewraps: u32,
}

impl Pending {
    /// Returns when this call wants attention, and why.
    pub(super) fn due(&self) -> Option<(Mono, Wake)> {
        let deadline = self.deadline.map(|at| (at, Wake::Deadline));
        let same = self.same_at.map(|at| (at, Wake::Retry));
        let rewrap = self.rewrap_at.map(|at| (at, Wake::Retry));
        [deadline, same, rewrap].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

/// All calls, found by inner id, by ticket, by the application's id and by time.
#[derive(Debug, Default)]
pub(super) struct PendingCalls {
    calls: BTreeMap<EventId, Pending>,
    tickets: BTreeMap<Ticket, EventId>,
    ids: BTreeSet<(String, Ticket)>,
    due: BTreeSet<(Mono, EventId)>,
    bytes: usize,
}

impl PendingCalls {
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Returns the bytes of all events that wait.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn insert(&mut self, event: EventId, call: Pending) {
        self.bytes = self.bytes.saturating_add(call.bytes);
        self.tickets.insert(call.ticket, event);
        self.ids.insert((call.id_form.clone(), call.ticket));
        if let Some((at, _)) = call.due() {
            self.due.insert((at, event));
        }
        self.calls.insert(event, call);
    }

    pub(super) fn get(&self, event: &EventId) -> Option<&Pending> {
        self.calls.get(event)
    }

    /// Changes a call and keeps the order of deadlines.
    pub(super) fn change<R>(&mut self, event: &EventId, edit: impl FnOnce(&mut Pending) -> R) -> Option<R> {
        let call = self.calls.get_mut(event)?;
        let before = call.due();
        let result = edit(call);
        let after = call.due();
        if before != after {
            if let Some((at, _)) = before {
                self.due.remove(&(at, *event));
            }
            if let Some((at, _)) = after {
                self.due.insert((at, *event));
            }
        }
        Some(result)
    }

    /// Ends a call: whoever takes it must say how it ended.
    pub(super) fn take(&mut self, event: &EventId) -> Option<Pending> {
        let call = self.calls.remove(event)?;
        self.bytes = self.bytes.saturating_sub(call.bytes);
        self.tickets.remove(&call.ticket);
        self.ids.remove(&(call.id_form.clone(), call.ticket));
        if let Some((at, _)) = call.due() {
            self.due.remove(&(at, *event));
        }
        Some(call)
    }

    pub(super) fn by_ticket(&self, ticket: Ticket) -> Option<EventId> {
        self.tickets.get(&ticket).copied()
    }

    /// Finds the newest call with the application's id.
    pub(super) fn by_id(&self, id_form: &str) -> Option<EventId> {
        let low = (String::from(id_form), Ticket(0));
        let high = (String::from(id_form), Ticket(u64::MAX));
        let (_, ticket) = self.ids.range(low..=high).next_back()?;
        self.by_ticket(*ticket)
    }

    /// Returns all inner ids in the order in which they were asked.
    pub(super) fn in_order(&self) -> impl Iterator<Item = EventId> + '_ {
        self.tickets.values().copied()
    }

    /// Returns the first call that is due by now.
    pub(super) fn first_due(&self, now: Mono) -> Option<EventId> {
        self.due.first().filter(|(at, _)| *at <= now).map(|(_, event)| *event)
    }

    pub(super) fn next_due(&self) -> Option<(Mono, Wake)> {
        let (_, event) = self.due.first()?;
        self.calls.get(event)?.due()
    }
}
