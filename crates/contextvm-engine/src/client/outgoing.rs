//! From the application to the server.
use alloc::borrow::{Cow, ToOwned};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use contextvm_core::envelope::{self, Envelope, MessageKind};
use contextvm_core::rewrite::{PROGRESS_TOKEN, Rewrite};
use contextvm_core::{Draft, Mono, Now, object, rewrite, tags};
use contextvm_stream::StreamEnd;
use contextvm_transfer::Handshake;
use nostr::event::{EventId, Tag, Tags};
use serde_json::value::RawValue;

use super::ending::Ending;
use super::pending::{Pending, Sent};
use super::tokens::Wire;
use super::{ClientMachine, ClientOutput, Lost, json, retry, session, stateless};
use crate::size::{escaped_len, event_len};
use crate::{DropReason, Ticket};

/// More than there is around a message in its event, request tags aside, bytes.
const AROUND_MESSAGE: usize = 2_048;

/// What must be known of a request to wait for its answer.
pub(super) struct Asking {
    pub(super) id: Box<RawValue>,
    token: Option<Box<RawValue>>,
    method: String,
    tool: Option<String>,
    pub(super) reading: bool,
}

impl Asking {
    fn read(envelope: &Envelope<'_>, reading: bool) -> Option<Self> {
        let method = envelope.method.as_deref()?.to_owned();
        let name = || envelope.param("name").and_then(object::string);
        Some(Self {
            id: envelope.id?.to_owned(),
            token: envelope.progress_token().map(ToOwned::to_owned),
            tool: if method == "tools/call" { name().map(Cow::into_owned) } else { None },
            method,
            reading,
        })
    }

    /// Whether nothing but its answer can come of it, at any server.
    fn never_has_token(&self) -> bool {
        matches!(&*self.method, "initialize" | "ping")
    }
}

/// How a request goes out.
enum Way {
    /// As one event of so many bytes.
    Event(Draft, usize),
    Transfer(String, Handshake),
}

impl ClientMachine {
    pub(super) fn on_send(&mut self, message: String, reading: bool, now: Now) {
        let largest = self.config.limits.transfer_bytes.max(self.event_limit());
        if message.len() > largest {
            let ending = Ending::TooLarge { size: message.len(), limit: largest };
            return self.refuse(&message, reading, &ending);
        }
        let envelope = match Envelope::parse(&message, &self.config.limits) {
            Ok(envelope) => envelope,
            Err(error) => {
                let what = error.to_string();
                return self.refuse(&message, reading, &Ending::Malformed { what: &what });
            }
        };
        if envelope.extra > 0 {
            // The existing SDKs drop a message with any member that JSON-RPC does not name.
            return self.on_send(envelope.to_exact_text(), reading, now);
        }
        match envelope.kind {
            MessageKind::Request => {
                let Some(asking) = Asking::read(&envelope, reading) else {
                    return;
                };
                let local = self.config.stateless && asking.method == "initialize";
                if local && !self.closed {
                    return self.answer_here(&asking, &envelope);
                }
                let wire = if self.needs_no_token(&asking, &message) {
                    Wire::default()
                } else {
                    self.tokens.choose(asking.token.as_deref())
                };
                let marked = wire.is_private.then(|| {
                    Rewrite::of(&envelope).meta(PROGRESS_TOKEN, object::quote(&wire.text)).to_text()
                });
                self.send_request(asking, wire, marked.unwrap_or(message), now);
            }
            MessageKind::Notification => self.send_notification(&envelope, now),
            MessageKind::Response | MessageKind::Error => self.send_answer(&envelope, now),
        }
    }

    /// Whether a request goes out without a token of ours, because no transfer and no stream comes of it.
    ///
    /// Some servers of the existing SDK that write streams never answer a request with a token whose tool wrote none;
    /// the others show by a ping that they do.
    fn needs_no_token(&self, asking: &Asking, message: &str) -> bool {
        let tags = &self.session.tags;
        let is_risky = tags.open_stream && !tags.repeats && !self.probe.is_passed();
        let is_short = is_risky || asking.never_has_token();
        if !is_short || asking.reading || asking.token.is_some() {
            return false;
        }
        let around =
            self.config.request_tags.iter().flat_map(|tag| tag.as_slice()).map(String::len).sum::<usize>();
        let len = escaped_len(message) + around + AROUND_MESSAGE;
        self.relay.takes_len(len, self.session.protection(&self.config))
    }

    /// Answers an `initialize` that a stateless client does not send.
    fn answer_here(&mut self, asking: &Asking, envelope: &Envelope<'_>) {
        self.deliver(stateless::initialize_answer(&asking.id, envelope.params));
        if asking.reading {
            self.tell_end(&asking.id, StreamEnd::Answered { chunks: 0 });
        }
    }

    fn send_request(&mut self, asking: Asking, wire: Wire, text: String, now: Now) {
        if self.closed {
            return self.refuse_asking(&asking, &Ending::Closed { retryable: true });
        }
        let limit = self.config.limits.pending;
        if self.pending.len() >= limit {
            return self.refuse_asking(&asking, &Ending::Busy { limit, of: "calls" });
        }
        let is_initialize = asking.method == "initialize";
        // An initialize makes the server forget what it knew of us.
        self.session.grow_old(self.config.limits.session_idle / 2, now);
        let flagged = is_initialize || !self.session.is_announced();
        let tags = self.request_tags(flagged);
        let way = match self.way(&tags, text, now) {
            Ok(way) => way,
            Err(ending) => return self.refuse_asking(&asking, &ending),
        };
        let size = match &way {
            Way::Event(_, size) => *size,
            Way::Transfer(text, _) => self.transfer_size(text, now),
        };
        let most = self.config.limits.in_flight_bytes;
        if self.pending.bytes().saturating_add(size) > most {
            return self.refuse_asking(&asking, &Ending::Busy { limit: most, of: "bytes" });
        }
        if is_initialize {
            self.session.unannounce();
            self.reset_probe();
        }
        let is_withheld = wire.text.is_empty() && !asking.never_has_token();
        match way {
            Way::Event(draft, size) => {
                let ticket = self.ticket();
                let call = Pending { flagged, ..self.call(asking, wire, ticket, now) };
                self.ask_with(call, (draft, size), now);
            }
            Way::Transfer(text, handshake) => {
                let ticket = self.ticket();
                let call = Pending { flagged, bytes: size, ..self.call(asking, wire, ticket, now) };
                self.begin_upload(call, (text, handshake), tags, now);
            }
        }
        if is_withheld {
            self.probe_tokens(now);
        }
    }

    /// The tags of a request, or of the start frame of its transfer.
    pub(super) fn request_tags(&self, flagged: bool) -> Vec<Tag> {
        let mut tags = vec![tags::recipient(&self.config.server)];
        if flagged {
            tags.extend(session::flags(&self.config));
        }
        tags.extend(self.config.request_tags.iter().cloned());
        tags
    }

    /// Decides how a request goes out: as one event if relays take it, else as a transfer if the server does.
    fn way(&mut self, tags: &[Tag], text: String, now: Now) -> Result<Way, Ending<'static>> {
        let (handshake, limit) = (self.handshake(), self.event_limit());
        // A long text is hashed only if it is sent as it is.
        match handshake.filter(|_| !self.relay.may_take(&text)) {
            Some(handshake) => return Ok(Way::Transfer(text, handshake)),
            None if text.len() > limit => return Err(Ending::TooLarge { size: text.len(), limit }),
            None => {}
        }
        let draft = self.unique.draft(self.me, now.unix, Tags::from_list(tags.to_vec()), text);
        let size = event_len(&draft);
        let fits = self.relay.takes_len(size, self.session.protection(&self.config));
        if let Some(handshake) = handshake.filter(|_| !fits) {
            return Ok(Way::Transfer(draft.content, handshake));
        }
        if size > limit { Err(Ending::TooLarge { size, limit }) } else { Ok(Way::Event(draft, size)) }
    }

    /// What a transfer counts for: it still goes as one event if it turns out that the server takes none.
    fn transfer_size(&self, text: &str, now: Now) -> usize {
        let limits = &self.config.limits;
        let tags = Tags::from_list(self.request_tags(true));
        let event = event_len(&Draft::new(self.me, now.unix, tags, String::new())) + escaped_len(text);
        text.len().max(event.min(limits.event.max(limits.inner_event)))
    }

    /// Publishes the event of a request, and waits for the answer to it.
    pub(super) fn ask_with(&mut self, mut call: Pending, (draft, size): (Draft, usize), now: Now) {
        call.bytes = size;
        call.uploading = false;
        (call.started, call.last_out, call.last_wrap) = (now.mono, now.mono, now.mono);
        call.fresh_until = self.fresh_until(now);
        call.deadline = Some(now.mono.after(self.config.limits.request_timeout));
        let (event, ticket, reading) = (draft.id, call.ticket, core::mem::take(&mut call.reading));
        self.enter(event, call);
        self.publish(ticket, draft);
        if reading {
            self.open_stream(&event, true);
        }
    }

    fn fresh_until(&self, now: Now) -> Mono {
        now.mono.after(Duration::from_secs(self.config.limits.age_window))
    }

    /// Puts a call into the table, under the id of its event.
    pub(super) fn enter(&mut self, event: EventId, call: Pending) {
        self.tokens.hold(&call.wire.text, event);
        self.pending.insert(event, call);
    }

    pub(super) fn call(&self, asking: Asking, wire: Wire, ticket: Ticket, now: Now) -> Pending {
        let Asking { id, token, method, tool, reading } = asking;
        let tool_is_harmless = tool.is_some_and(|name| self.harmless.has(&name));
        let timeout = self.config.limits.request_timeout;
        Pending {
            ticket,
            id_form: json::id_form(&id),
            id,
            token,
            wire,
            harmless: tool_is_harmless || retry::is_read(&method),
            method,
            bytes: 0,
            uploading: false,
            reading,
            flagged: false,
            wrapped: self.session.protection(&self.config).is_encrypted(),
            started: now.mono,
            fresh_until: self.fresh_until(now),
            lasts: timeout.saturating_mul(retry::TOTAL_FACTOR),
            deadline: Some(now.mono.after(timeout)),
            sent: Sent::Fresh,
            last_out: now.mono,
            last_wrap: now.mono,
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
        let call = cancelled.and_then(|event| self.pending.get(&event));
        if call.is_some_and(|call| call.method == "initialize") {
            return;
        }
        // The server knows nothing of a request that is on its way; the transfer is aborted instead.
        if !call.is_some_and(|call| call.uploading) {
            let tags = vec![tags::recipient(&self.config.server)];
            self.publish_loose(tags, envelope.text().to_owned(), now);
        }
        let Some(event) = cancelled else { return };
        if let Some(call) = self.pending.take(&event) {
            if !call.uploading {
                self.outputs.push_back(ClientOutput::Forget(call.ticket));
            }
            self.leave(&event, &call, false, now);
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
        if self.publish_loose(tags.clone(), text, now).is_none() {
            let sorry =
                envelope::response_error(&question.id, -32603, "the answer is too large to send", None);
            self.publish_loose(tags, sorry, now);
        }
    }

    /// Publishes what nobody waits for and returns its id; `None` when it is over the limit.
    pub(super) fn publish_loose(&mut self, tags: Vec<Tag>, text: String, now: Now) -> Option<EventId> {
        let limit = self.event_limit();
        if text.len() <= limit {
            let draft = self.unique.draft(self.me, now.unix, Tags::from_list(tags), text);
            if event_len(&draft) <= limit {
                let (event, ticket) = (draft.id, self.ticket());
                let given_up = self.loose.insert(ticket, now.mono, self.config.limits.outbound_events);
                self.take_step(given_up);
                self.publish(ticket, draft);
                return Some(event);
            }
        }
        self.outputs.push_back(ClientOutput::Lost(Lost::TooLarge));
        None
    }

    /// Tells the server that a call is not waited for any more.
    pub(super) fn publish_cancellation(&mut self, id: &RawValue, reason: &str, now: Now) {
        let params = format!(r#"{{"requestId":{},"reason":{}}}"#, id.get(), object::quote(reason));
        let params = json::raw(params);
        self.publish_control(envelope::notification("notifications/cancelled", params.as_deref()), now);
    }

    /// Publishes a small message about a call, which nobody answers.
    pub(super) fn publish_control(&mut self, text: String, now: Now) {
        self.publish_loose(vec![tags::recipient(&self.config.server)], text, now);
    }

    pub(super) const fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// The largest event that may be sent: inside a wrap, or as it is.
    pub(super) const fn event_limit(&self) -> usize {
        if self.session.protection(&self.config).is_encrypted() {
            self.config.limits.inner_event
        } else {
            self.config.limits.event
        }
    }
}
