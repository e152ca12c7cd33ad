//! Outcomes, relays coming back, deadlines, and the end.
use alloc::string::ToString;
use alloc::vec::Vec;
use contextvm_core::{Mono, Now};
use contextvm_transfer::TransferError;
use nostr::event::EventId;

use super::ending::Ending;
use super::loose::Step;
use super::pending::{Pending, Sent};
use super::retry::{Due, SETTLED, SETTLED_MOST};
use super::{ClientMachine, ClientOutput};
use crate::size::is_about_size;
use crate::{Outcome, Ticket};

impl ClientMachine {
    pub(super) fn on_published(&mut self, ticket: Ticket, outcome: &Outcome, now: Now) {
        if self.on_probe_published(ticket) || self.on_frame_published(ticket, outcome, now) {
            return;
        }
        let asked = self.pending.by_ticket(ticket);
        let Some(event) = asked.filter(|event| self.pending.get(event).is_some_and(|call| !call.uploading))
        else {
            let step = self.loose.outcome(ticket, outcome, now.mono, &mut self.chance);
            return self.take_step(step);
        };
        self.learn_size(&event, outcome);
        let Self { pending, session, chance, .. } = self;
        let goes_on =
            pending.change(&event, |call| call.on_outcome(outcome, &session.tags, now.mono, chance));
        if goes_on == Some(false) {
            self.end_overdue(&event, now);
        }
    }

    /// Relays take less than was thought: what comes next goes in smaller pieces.
    fn learn_size(&mut self, event: &EventId, outcome: &Outcome) {
        let Some(call) = self.pending.get(event) else { return };
        let fits = self.relay.takes_len(call.bytes, self.session.protection(&self.config));
        if fits && matches!(outcome, Outcome::Refused(text) if is_about_size(text)) {
            self.relay.shrink();
        }
    }

    pub(super) fn on_relay_up(&mut self, now: Now) {
        if self.closed {
            return;
        }
        let Self { pending, session, .. } = self;
        let events: Vec<EventId> = pending.in_order().collect();
        for event in &events {
            pending.change(event, |call| call.on_relay_up(&session.tags, now.mono));
        }
        self.loose.relay_up(now.mono);
        // Also for calls that begin before the server is back; the relay that it is on may be the last one to come up.
        let (first, _) = self.settling.unwrap_or((now.mono, now.mono));
        self.settling = Some((first, now.mono.after(SETTLED).min(first.after(SETTLED_MOST))));
        // Deadlines are left for the wake that belongs to them: an answer may be waiting in the driver.
        for event in &events {
            if self.pending.get(event).is_some_and(|call| !is_over(call, now.mono)) {
                self.wake_call(event, now);
            }
        }
        self.wake_loose(now);
        self.uploads_relay_up(now);
    }

    pub(super) fn on_wake(&mut self, now: Now) {
        // What is known of a transfer says more than that no answer came.
        self.wake_greeting(now);
        self.wake_uploads(now);
        self.wake_downloads(now);
        self.wake_streams(now);
        self.wake_settled(now);
        while let Some(event) = self.pending.first_due(now.mono) {
            self.wake_call(&event, now);
        }
        self.wake_loose(now);
        self.asked.expire(now.mono);
    }

    /// Wraps again what waits since a relay came up.
    fn wake_settled(&mut self, now: Now) {
        if self.settling.is_none_or(|(_, at)| at > now.mono) {
            return;
        }
        let Self { pending, session, settling, .. } = self;
        *settling = None;
        let events: Vec<EventId> = pending.in_order().collect();
        for event in events {
            pending.change(&event, |call| call.on_settled(&session.tags, now.mono));
        }
    }

    pub(super) fn on_close(&mut self, now: Now) {
        if self.closed {
            return;
        }
        let events: Vec<EventId> = self.pending.in_order().collect();
        for event in events {
            let Some(call) = self.pending.take(&event) else {
                continue;
            };
            let retryable = call.uploading || call.is_retryable();
            self.end(&event, &call, &Ending::Closed { retryable }, now);
            if call.is_cancellable() && !matches!(call.sent, Sent::Nowhere(_)) {
                self.publish_cancellation(&call.id, "the client was closed", now);
            }
        }
        self.close_streams(now);
        self.let_go_of_probe();
        for step in self.loose.close() {
            self.take_step(Some(step));
        }
        self.asked.clear();
        self.settling = None;
        self.closed = true;
    }

    /// Plans new wraps for calls that could not have any before.
    pub(super) fn arm_all(&mut self, now: Now) {
        let Self { pending, session, chance, .. } = self;
        let events: Vec<EventId> = pending.in_order().collect();
        for event in events {
            pending.change(&event, |call| call.arm_rewrap(&session.tags, now.mono, chance));
        }
    }

    pub(super) fn take_step(&mut self, step: Option<Step>) {
        match step {
            Some(Step::Again(ticket)) => {
                self.outputs.push_back(ClientOutput::Republish { ticket, rewrap: false });
            }
            Some(Step::Forget(ticket)) => self.outputs.push_back(ClientOutput::Forget(ticket)),
            None => {}
        }
    }

    fn wake_call(&mut self, event: &EventId, now: Now) {
        if self.asked.len() > 0 && self.pending.get(event).is_some_and(|call| is_over(call, now.mono)) {
            // The server waits for an answer of the application, which may take a person's time.
            self.extend(event, now);
        }
        let Self { pending, session, chance, .. } = self;
        let due = pending.change(event, |call| (call.on_wake(&session.tags, now.mono, chance), call.ticket));
        match due {
            Some((Due::Over, _)) => self.end_overdue(event, now),
            Some((Due::Same, ticket)) => {
                self.outputs.push_back(ClientOutput::Republish { ticket, rewrap: false })
            }
            Some((Due::Rewrap, ticket)) => {
                self.outputs.push_back(ClientOutput::Republish { ticket, rewrap: true })
            }
            Some((Due::Nothing, _)) | None => {}
        }
    }

    /// Gives every call time to go on after the application has answered what its server wanted to know.
    pub(super) fn extend_all(&mut self, now: Now) {
        let events: Vec<EventId> = self.pending.in_order().collect();
        for event in events {
            self.extend(&event, now);
        }
    }

    pub(super) fn extend(&mut self, event: &EventId, now: Now) {
        let timeout = self.config.limits.request_timeout;
        self.pending.change(event, |call| call.extend(timeout, now.mono));
    }

    fn wake_loose(&mut self, now: Now) {
        for step in self.loose.wake(now.mono) {
            self.take_step(Some(step));
        }
    }

    /// Ends a call whose time is over: the server may have it, or nobody has.
    fn end_overdue(&mut self, event: &EventId, now: Now) {
        let Some(call) = self.pending.take(event) else {
            return;
        };
        // What is within the skew is no reason for a call to be lost.
        let clock_ahead =
            Some(self.clock_ahead).filter(|off| off.unsigned_abs() > self.config.limits.age_skew);
        let waited_ms = u64::try_from(now.mono.since(call.started).as_millis()).unwrap_or(u64::MAX);
        match &call.sent {
            _ if call.uploading => {
                let what = TransferError::TimedOut.to_string();
                self.end(event, &call, &Ending::Transfer { what: &what, retryable: true }, now);
            }
            Sent::Nowhere(relay) => {
                self.end(event, &call, &Ending::NotSent { waited_ms, relay, clock_ahead }, now);
            }
            Sent::Fresh | Sent::Perhaps | Sent::Taken => {
                let retryable = call.is_retryable();
                self.end(event, &call, &Ending::NoReply { waited_ms, retryable, clock_ahead }, now);
                if call.is_cancellable() {
                    self.publish_cancellation(&call.id, "timed out", now);
                }
            }
        }
    }
}

fn is_over(call: &Pending, now: Mono) -> bool {
    call.deadline.is_some_and(|at| at <= now)
}
