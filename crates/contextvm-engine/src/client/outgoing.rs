//! From the application to the server.
use alloc::borrow::{Cow, ToOwned};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use contextvm_core::envelope::{self, Envelope, MessageKind, is_id};
use contextvm_core::{Draft, Now, object, rewrite, tags};
use nostr::event::{EventId, Tag, Tags};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ending::Ending;
use super::pending::{Pending, Sent};
use super::{ClientMachine, ClientOutput, Lost, json, retry, session, stateless};
use crate::size::event_len;
use crate::{DropReason, Outbound, Ticket};

/// What must be known of a request to wait for its answer.
struct Asking {
    id: Box<RawValue>,
    token: Option<Box<RawValue>>,
    method: String,
    tool: Option<String>,
}

impl Asking {
    fn read(envelope: &Envelope<'_>) -> Option<Self> {
        let method = envelope.method.as_deref()?.to_owned();
        let name = || rewrite::param(envelope.params, "name").and_then(object::string);
        Some(Self {
            id: envelope.id?.to_owned(),
            token: envelope.progress_token().map(ToOwned::to_owned),
            tool: if method == "tools/call" { name().map(Cow::into_owned) } else { None },
            method,
        })
    }
}

/// The few members that a refusal looks for in a message that did not parse.
#[derive(Deserialize)]
struct Remains<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<&'a RawValue>,
}

impl ClientMachine {
    pub(super) fn on_send(&mut self, message: String, now: Now) {
        let largest = self.event_limit();
        if message.len() > largest {
            return self.refuse(&message, &Ending::TooLarge { size: message.len(), limit: largest });
        }
        let envelope = match Envelope::parse(&message, &self.config.limits) {
            Ok(envelope) => envelope,
            Err(error) => {
                let what = error.to_string();
                return self.refuse(&message, &Ending::Malformed { what: &what });
            }
        };
        if envelope.extra > 0 {
            // The existing SDKs drop a message with any member that JSON-RPC does not name.
            return self.on_send(envelope.to_exact_text(), now);
        }
        match envelope.kind {
            MessageKind::Request => {
                let Some(asking) = Asking::read(&envelope) else {
                    return;
                };
                let local = self.config.stateless && asking.method == "initialize";
                if local && !self.closed {
                    let answer = stateless::initialize_answer(&asking.id, envelope.params);
                    return self.deliver(answer);
                }
                self.send_request(asking, message, now);
            }
            MessageKind::Notification => self.send_notification(&envelope, now),
            MessageKind::Response | MessageKind::Error => self.send_answer(&envelope, now),
        }
    }

    fn send_request(&mut self, asking: Asking, message: String, now: Now) {
        if self.closed {
            return self.refuse_call(&asking.id, &Ending::Closed { retryable: true });
        }
        let limit = self.config.limits.pending;
        if self.pending.len() >= limit {
            return self.refuse_call(&asking.id, &Ending::Busy { limit, of: "calls" });
        }
        let is_initialize = asking.method == "initialize";
        // An initialize makes the server forget what it knew of us.
        let flagged = is_initialize || !self.session.announced;
        let mut tags = vec![tags::recipient(&self.config.server)];
        if flagged {
            tags.extend(session::flags(&self.config));
        }
        let draft = self.unique.draft(self.me, now.unix, Tags::from_list(tags), message);
        let (size, limit) = (event_len(&draft), self.event_limit());
        if size > limit {
            return self.refuse_call(&asking.id, &Ending::TooLarge { size, limit });
        }
        let most = self.config.limits.in_flight_bytes;
        if self.pending.bytes().saturating_add(size) > most {
            return self.refuse_call(&asking.id, &Ending::Busy { limit: most, of: "bytes" });
        }
        self.session.announced &= !is_initialize;
        let ticket = self.ticket();
        let call = Pending { bytes: size, flagged, ..self.call(asking, ticket, now) };
        self.pending.insert(draft.id, call);
        self.publish(ticket, draft);
    }

    fn call(&self, asking: Asking, ticket: Ticket, now: Now) -> Pending {
        let Asking { id, token, method, tool } = asking;
        let tool_is_harmless = tool.is_some_and(|name| self.harmless.has(&name));
        Pending {
            ticket,
            id_form: json::id_form(&id),
            id,
            token,
            harmless: tool_is_harmless || retry::is_read(&method),
            method,
            bytes: 0,
            flagged: false,
            wrapped: self.session.protection(&self.config).is_encrypted(),
            started: now.mono,
            deadline: Some(now.mono.after(self.config.limits.request_timeout)),
            sent: Sent::Fresh,
            last_out: now.mono,
            same_at: None,
            same_for_relay: false,
            rewrap_at: None,
            failures: 0,
            rewraps: 0,
        }
    }

    fn send_notification(&mut self, envelope: &Envelope<'_>, now: Now) {
        let method = envelope.method.as_deref().unwrap_or_default();
        if self.closed || (self.config.stateless && method == "notifications/initialized") {
            return;
        }
        let cancelled = if method == "notifications/cancelled" {
            let named = rewrite::cancelled_request_id(envelope.params);
            named.and_then(|id| self.pending.by_id(&json::id_form(id)))
        } else {
            None
        };
        if cancelled
            .and_then(|event| self.pending.get(&event))
            .is_some_and(|call| call.method == "initialize")
        {
            return;
        }
        self.publish_loose(vec![tags::recipient(&self.config.server)], envelope.text().to_owned(), now);
        if let Some(call) = cancelled.and_then(|event| self.pending.take(&event)) {
            self.outputs.push_back(ClientOutput::Forget(call.ticket));
        }
    }

    /// Sends the application's answer to a request of the server, under the server's own id.
    fn send_answer(&mut self, envelope: &Envelope<'_>, now: Now) {
        let question = envelope.id.and_then(|id| self.asked.take(&json::id_form(id)));
        let Some(question) = question.filter(|_| !self.closed) else {
            return self.drop_because(DropReason::Uncorrelated);
        };
        self.extend_all(now);
        let text = rewrite::with_id(envelope, question.id.get());
        let tags = vec![tags::recipient(&self.config.server), tags::answered(&question.event)];
        if !self.publish_loose(tags.clone(), text, now) {
            let sorry =
                envelope::response_error(&question.id, -32603, "the answer is too large to send", None);
            self.publish_loose(tags, sorry, now);
        }
    }

    /// Publishes what nobody answers; `false` when it is over the limit.
    fn publish_loose(&mut self, tags: Vec<Tag>, text: String, now: Now) -> bool {
        let draft = self.unique.draft(self.me, now.unix, Tags::from_list(tags), text);
        if event_len(&draft) > self.event_limit() {
            self.outputs.push_back(ClientOutput::Lost(Lost::TooLarge));
            return false;
        }
        let ticket = self.ticket();
        let given_up = self.loose.insert(ticket, now.mono, self.config.limits.outbound_events);
        self.take_step(given_up);
        self.publish(ticket, draft);
        true
    }

    /// Tells the server that a call is not waited for any more.
    pub(super) fn publish_cancellation(&mut self, id: &RawValue, reason: &str, now: Now) {
        let params = format!(r#"{{"requestId":{},"reason":{}}}"#, id.get(), object::quote(reason));
        let params = json::raw(params);
        let text = envelope::notification("notifications/cancelled", params.as_deref());
        self.publish_loose(vec![tags::recipient(&self.config.server)], text, now);
    }

    fn publish(&mut self, ticket: Ticket, draft: Draft) {
        let protection = self.session.protection(&self.config);
        let recipient = self.config.server;
        self.outputs.push_back(ClientOutput::Publish(Outbound { ticket, draft, recipient, protection }));
    }

    const fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// The largest event that may be sent: inside a wrap, or as it is.
    const fn event_limit(&self) -> usize {
        if self.session.protection(&self.config).is_encrypted() {
            self.config.limits.inner_event
        } else {
            self.config.limits.event
        }
    }

    /// Refuses a message that was not taken apart: with an error where it has an id and is no answer.
    fn refuse(&mut self, message: &str, ending: &Ending<'_>) {
        let remains = serde_json::from_str::<Remains<'_>>(message).ok();
        let id = remains.filter(|remains| remains.method.is_some()).and_then(|remains| remains.id);
        match id.filter(|id| is_id(id)) {
            Some(id) => self.refuse_call(id, ending),
            None => self.outputs.push_back(ClientOutput::Lost(ending.lost())),
        }
    }

    fn refuse_call(&mut self, id: &RawValue, ending: &Ending<'_>) {
        self.deliver(ending.to_text(id));
        self.outputs.push_back(ClientOutput::Lost(ending.lost()));
    }

    /// Ends a call that was taken out of the table.
    pub(super) fn end(&mut self, call: &Pending, ending: &Ending<'_>) {
        self.refuse_call(&call.id, ending);
        self.outputs.push_back(ClientOutput::Forget(call.ticket));
    }

    fn deliver(&mut self, message: String) {
        self.outputs.push_back(ClientOutput::Deliver { message, exchange: None });
    }

    pub(super) fn drop_because(&mut self, reason: DropReason) {
        self.outputs.push_back(ClientOutput::Drop(reason));
    }

    /// Ends a call by inner id as the server ended it; `None` when nobody waits for it.
    pub(super) fn take_answered(&mut self, event: &EventId) -> Option<Pending> {
        let call = self.pending.take(event)?;
        self.session.announced |= call.flagged;
        self.outputs.push_back(ClientOutput::Forget(call.ticket));
        Some(call)
    }
}
