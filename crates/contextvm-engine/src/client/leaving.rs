//! How calls end, and what is let go of then.
use alloc::string::String;

use contextvm_core::envelope::{Envelope, is_id};
use contextvm_core::{Now, Protection, tags};
use nostr::event::{Event, EventId};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ending::Ending;
use super::outgoing::Asking;
use super::pending::Pending;
use super::streams::cancelled;
use super::{ClientMachine, ClientOutput, Exchange};
use crate::DropReason;

/// The few members that a refusal looks for in a message that did not parse.
#[derive(Deserialize)]
struct Remains<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<&'a RawValue>,
}

impl ClientMachine {
    /// Refuses a message that was not taken apart: with an error where it has an id and is no answer.
    pub(super) fn refuse(&mut self, message: &str, reading: bool, ending: &Ending<'_>) {
        let remains = serde_json::from_str::<Remains<'_>>(message).ok();
        let id = remains.filter(|remains| remains.method.is_some()).and_then(|remains| remains.id);
        match id.filter(|id| is_id(id)) {
            Some(id) => self.refuse_call(id, reading, ending),
            None => self.outputs.push_back(ClientOutput::Lost(ending.lost())),
        }
    }

    /// Refuses a request that was not registered.
    pub(super) fn refuse_asking(&mut self, asking: &Asking, ending: &Ending<'_>) {
        self.refuse_call(&asking.id, asking.reading, ending);
    }

    fn refuse_call(&mut self, id: &RawValue, reading: bool, ending: &Ending<'_>) {
        self.deliver(ending.to_text(id));
        self.outputs.push_back(ClientOutput::Lost(ending.lost()));
        if reading {
            self.tell_end(id, cancelled());
        }
    }

    /// Ends a call that was taken out of the table.
    pub(super) fn end(&mut self, event: &EventId, call: &Pending, ending: &Ending<'_>, now: Now) {
        self.refuse_call(&call.id, false, ending);
        if !call.uploading {
            self.outputs.push_back(ClientOutput::Forget(call.ticket));
        }
        self.leave(event, call, false, now);
    }

    /// Ends a call whose request or answer cannot be moved.
    pub(super) fn fail_call(&mut self, event: &EventId, what: &str, now: Now) {
        if let Some(call) = self.pending.take(event) {
            // Without its end frame nothing of a request was executed.
            let retryable = call.uploading || call.is_retryable();
            self.end(event, &call, &Ending::Transfer { what, retryable }, now);
        }
    }

    /// Takes a call by inner id as the server ended it; `None` when nobody waits for it.
    pub(super) fn take_answered(&mut self, event: &EventId, now: Now) -> Option<Pending> {
        self.pending.get(event).filter(|call| !call.uploading)?;
        let call = self.pending.take(event)?;
        self.session.answered(call.flagged, now);
        self.outputs.push_back(ClientOutput::Forget(call.ticket));
        Some(call)
    }

    /// Remembers what an answer says that is of use later; `event` is the one with its tags.
    pub(super) fn learn_answer(&mut self, call: &Pending, event: &Event, envelope: &Envelope<'_>) {
        if !call.flagged && tags::introduces(&event.tags) {
            // It forgot us since, and does not know what we take.
            self.session.unannounce();
        }
        let Some(result) = envelope.result else { return };
        self.facts.keep(&call.method, event, result);
        if call.method == "tools/list" {
            self.harmless.learn(result);
        }
    }

    /// Lets go of everything that belongs to a call which was taken out of the table.
    pub(super) fn leave(&mut self, event: &EventId, call: &Pending, is_answered: bool, now: Now) {
        if call.uploading {
            self.stop_upload(event, now);
            if call.reading {
                self.tell_end(&call.id, cancelled());
            }
        }
        self.stop_download(event, &call.wire.text, now);
        self.leave_stream(event, is_answered, now);
        if !self.streams.is_live(event) {
            self.tokens.free(&call.wire.text);
        }
    }

    pub(super) fn deliver(&mut self, message: String) {
        self.outputs.push_back(ClientOutput::Deliver { message, exchange: None });
    }

    /// Hands the server's answer to a call to the application.
    pub(super) fn deliver_answer(
        &mut self,
        message: String,
        (request, response): (EventId, EventId),
        protection: Protection,
    ) {
        let exchange = Some(Exchange { request, response, protection });
        self.outputs.push_back(ClientOutput::Deliver { message, exchange });
    }

    pub(super) fn drop_because(&mut self, reason: DropReason) {
        self.outputs.push_back(ClientOutput::Drop(reason));
    }
}
