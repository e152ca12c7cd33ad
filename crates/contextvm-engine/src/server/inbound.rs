//! What a server does with an event: policy, seen, access, session, then request, notification or response.
use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use contextvm_core::capability::Capability;
use contextvm_core::envelope::{self, Envelope, EnvelopeError, MessageKind};
use contextvm_core::object;
use contextvm_core::rewrite::{self, CLIENT_PUBKEY, PROGRESS_TOKEN, REQUEST_EVENT_ID, REQUEST_ID, Rewrite};
use contextvm_core::{Now, Opened, Protection, WrapKind, tags};
use contextvm_stream::StreamFrame;
use nostr::event::Event;
use nostr::key::PublicKey;
use serde_json::value::RawValue;

use super::access::Verdict;
use super::outbound::is_progress;
use super::route::{Route, StreamUse, list_method};
use super::waiting::{Held, Letter};
use super::{Delivery, RequestKey, ServerMachine, ServerOutput};
use crate::{DropReason, EncryptionMode, GiftWrapMode};

/// JSON-RPC error code of refusals by the transport.
pub(super) const REFUSED: i64 = -32000;
/// `_meta` member that only means something inside a process.
const STREAM: &str = "stream";

type Entered = Result<(Delivery, String), DropReason>;

impl ServerMachine {
    pub(super) fn opened(&mut self, opened: Opened, now: Now) {
        let protection = opened.protection();
        if let Err(reason) = self.consider(opened.into_event(), protection, now) {
            self.drop(reason);
        }
    }

    fn consider(&mut self, event: Event, protection: Protection, now: Now) -> Result<(), DropReason> {
        if !protection.is_encrypted()
            && let Some(session) = self.sessions.get_mut(&event.pubkey)
        {
            session.floor.show(&event.id);
        }
        self.check_policy(&event, protection)?;
        let key = RequestKey { caller: event.pubkey, id: event.id };
        if self.seen.contains(event.created_at.as_secs(), event.id) {
            let is_due = self.answer_again(key, now) || self.was_interrupted(&event, protection, now);
            return if is_due { Ok(()) } else { Err(DropReason::Duplicate) };
        }
        if self.waiting.holds(&key.caller, key.id) {
            return Err(DropReason::Duplicate);
        }
        self.admit(Letter { event, protection, text: None }, now)
    }

    /// Decides about a message, which may have come in one event or in many.
    pub(super) fn admit(&mut self, letter: Letter, now: Now) -> Result<(), DropReason> {
        let (event, protection) = (&letter.event, letter.protection);
        let message =
            Envelope::parse(letter.message(), &self.config.limits).map_err(|error| reason(&error))?;
        // What was put together is a message, whatever it says.
        if letter.text.is_none()
            && is_progress(&message)
            && let Some(taken) = self.take_frame(event, &message, protection, now)
        {
            return taken;
        }
        let caller = event.pubkey;
        let verdict = self.config.access.decide(&caller, Capability::of(&message));
        match verdict {
            Verdict::Pass { member } if !self.waiting.has_line(&caller) && !self.is_early(event, now) => {
                let (delivery, text) = self.enter(event, &message, protection, member, now)?;
                self.deliver(letter.event, delivery, text);
                Ok(())
            }
            Verdict::Deny => Err(self.refuse(event, &message, protection, now)),
            Verdict::Pass { .. } | Verdict::AskCapability(_) | Verdict::AskKey => {
                let established = self.sessions.is_established(&caller);
                if !self.waiting.push(Held { letter, verdict }, established) {
                    return Err(DropReason::Busy);
                }
                self.advance(caller, None, now);
                Ok(())
            }
        }
    }

    pub(super) fn check_policy(&self, event: &Event, protection: Protection) -> Result<(), DropReason> {
        let admitted = match (protection, self.config.encryption, self.config.gift_wrap) {
            (Protection::Plain, mode, _) => mode != EncryptionMode::Required,
            (Protection::Wrapped(_), EncryptionMode::Disabled, _) => false,
            (Protection::Wrapped(WrapKind::Persistent), _, wraps) => wraps != GiftWrapMode::Ephemeral,
            (Protection::Wrapped(WrapKind::Ephemeral), _, wraps) => wraps != GiftWrapMode::Persistent,
        };
        let stamp = event.created_at.as_secs();
        let was_encrypted =
            self.sessions.get(&event.pubkey).is_some_and(|session| session.floor.is_encrypted());
        if !admitted {
            Err(DropReason::Policy)
        } else if stamp < self.config.accept_from {
            Err(DropReason::BeforeStart)
        } else if !self.seen.remembers(stamp) {
            Err(DropReason::Stale)
        } else if was_encrypted && !protection.is_encrypted() {
            Err(DropReason::BelowFloor)
        } else {
            Ok(())
        }
    }

    /// A private server is silent; an announced one answers requests, as far as its budget goes.
    pub(super) fn refuse(
        &mut self,
        event: &Event,
        message: &Envelope<'_>,
        protection: Protection,
        now: Now,
    ) -> DropReason {
        let id = message.id.filter(|_| message.kind == MessageKind::Request && self.config.access.announced);
        let key = RequestKey { caller: event.pubkey, id: event.id };
        if let Some(id) = id.filter(|_| self.refusals.take(key, now.mono)) {
            let text = envelope::response_error(id, REFUSED, "Unauthorized", None);
            self.publish_refusal(event, protection, text, now);
        }
        DropReason::NotAllowed
    }

    pub(super) fn enter(
        &mut self,
        event: &Event,
        message: &Envelope<'_>,
        protection: Protection,
        member: bool,
        now: Now,
    ) -> Entered {
        let session = self.sessions.get(&event.pubkey).filter(|session| session.established);
        if !self.seen.has_room(session.map(|session| session.accepted(self.seen.period(now.unix)))) {
            return Err(DropReason::SeenFull);
        }
        if self.journal.is_full() {
            return Err(DropReason::Busy);
        }
        match message.kind {
            MessageKind::Request => self.enter_request(event, message, protection, member, now),
            MessageKind::Notification => {
                self.greet(event, protection, member, now)?;
                self.accept(event, protection, None, now);
                self.enter_notification(event, message, now)
            }
            MessageKind::Response | MessageKind::Error => {
                let key = tags::answered_id(&event.tags).map(|id| RequestKey { caller: event.pubkey, id });
                let key = key.filter(|key| self.asked.contains(key)).ok_or(DropReason::Uncorrelated)?;
                self.greet(event, protection, member, now)?;
                self.accept(event, protection, None, now);
                let question = self.asked.take(&key).ok_or(DropReason::Uncorrelated)?;
                Ok((Delivery::Response, rewrite::with_id(message, &question.id)))
            }
        }
    }

    /// Remembers the id of an event that is acted on; `request` when somebody waits for an answer.
    fn accept(&mut self, event: &Event, protection: Protection, request: Option<&Envelope<'_>>, now: Now) {
        self.seen.insert(event.created_at.as_secs(), event.id);
        self.remember_accepted(event, protection, request);
        if let Some(session) = self.sessions.get_mut(&event.pubkey) {
            session.floor.hear(event.id, protection);
            session.accept(self.seen.period(now.unix));
        }
    }

    fn enter_request(
        &mut self,
        event: &Event,
        message: &Envelope<'_>,
        protection: Protection,
        member: bool,
        now: Now,
    ) -> Entered {
        let key = RequestKey { caller: event.pubkey, id: event.id };
        let id = message.id.ok_or(DropReason::Malformed)?;
        let method = message.method.as_deref().unwrap_or_default();
        if !self.has_room(&key.caller, message.text().len()) {
            return Err(self.busy(event, message, id, protection, now));
        }
        self.greet(event, protection, member, now)?;
        let mut route = Route::new(
            id.get().to_string(),
            message.progress_token().map(|token| token.get().to_string()),
            protection,
            message.text().len(),
        );
        match method {
            "initialize" => self.restart(&key.caller, now),
            "subscriptions/listen" => route.listens = true,
            "resources/subscribe" => {
                let subscribed = |uri: &String| {
                    self.sessions.get(&key.caller).is_some_and(|session| session.is_subscribed(uri))
                };
                route.subscribes = uri(message).filter(|uri| !subscribed(uri));
                if route.subscribes.as_ref().is_some_and(|uri| !self.sessions.subscribe(&key.caller, uri)) {
                    return Err(self.busy(event, message, id, protection, now));
                }
            }
            "resources/unsubscribe" => {
                if let Some(uri) = uri(message) {
                    self.sessions.unsubscribe(&key.caller, &uri);
                }
            }
            _ => route.lists = list_method(method),
        }
        let streams = self.takes_stream(&key.caller, &route);
        if streams {
            route.stream = StreamUse::Offered;
        }
        self.accept(event, protection, Some(message), now);
        self.routes.insert(key, route);
        self.sessions.open(&key.caller);
        let delivery = Delivery::Request { key, method: method.to_string(), streams };
        Ok((delivery, self.delivered_text(event, message)))
    }

    /// There is no room for a request: an established caller is told, anybody else may ask again.
    fn busy(
        &mut self,
        event: &Event,
        message: &Envelope<'_>,
        id: &RawValue,
        protection: Protection,
        now: Now,
    ) -> DropReason {
        if self.sessions.is_established(&event.pubkey) {
            self.accept(event, protection, Some(message), now);
            let text = envelope::response_error(id, REFUSED, "Busy", None);
            self.publish_answer(RequestKey { caller: event.pubkey, id: event.id }, protection, text, now);
        }
        DropReason::Busy
    }

    /// The request as the application sees it: our id and token, and only our word on who asked.
    fn delivered_text(&self, event: &Event, message: &Envelope<'_>) -> String {
        let hex = object::quote(&event.id.to_hex());
        let mut edit = sanitised(message).id(hex.clone());
        if message.progress_token().is_some() {
            edit = edit.meta(PROGRESS_TOKEN, hex.clone());
        }
        if self.config.inject_request_event_id {
            edit = edit.meta(REQUEST_EVENT_ID, hex);
        }
        if self.config.inject_client_pubkey {
            edit = edit.meta(CLIENT_PUBKEY, object::quote(&event.pubkey.to_hex()));
        }
        edit.to_text()
    }

    fn enter_notification(&mut self, event: &Event, message: &Envelope<'_>, now: Now) -> Entered {
        let method = message.method.as_deref().unwrap_or_default();
        let mut edit = sanitised(message);
        match method {
            "notifications/initialized" => {
                if let Some(session) = self.sessions.get_mut(&event.pubkey) {
                    session.initialised = true;
                }
            }
            "notifications/cancelled" => {
                let id = rewrite::cancelled_request_id(message.params);
                let key = id.and_then(|id| self.routes.find(event.pubkey, |other| is_same(id, other)));
                let Some(key) = key else {
                    // Its answer may be under way: nobody waits for the rest of it.
                    self.stop_answer(event.pubkey, |other| id.is_some_and(|id| is_same(id, other)), now);
                    return Err(DropReason::UnknownRequest);
                };
                if self.routes.get(&key).is_some_and(|route| route.listens) {
                    // Nothing goes on behind it, so it takes up no place any more.
                    self.stop_stream(&key, now);
                    self.take_route(&key, now);
                    self.routes.expect_late(key);
                } else {
                    self.routes.cancel(&key, now.mono.after(self.config.limits.request_timeout));
                    self.stop_stream(&key, now);
                }
                edit = edit.param(REQUEST_ID, object::quote(&key.id.to_hex()));
            }
            "notifications/progress" => {
                let token = rewrite::notified_token(message.params).map(rewrite::plain_text);
                let is_ours = token.is_some_and(|token| self.asked.has_token(event.pubkey, &token));
                if let Some(key) = self.streamed_elsewhere(&event.pubkey, message) {
                    edit = edit.param(PROGRESS_TOKEN, object::quote(&key.id.to_hex()));
                } else if !is_ours {
                    return Err(DropReason::UnknownRequest);
                }
            }
            _ => {}
        }
        Ok((Delivery::Notification { method: method.to_string() }, edit.to_text()))
    }

    /// Returns the request whose stream a frame is about, if the application writes the frames of that stream itself.
    fn streamed_elsewhere(&self, caller: &PublicKey, message: &Envelope<'_>) -> Option<RequestKey> {
        let frame = StreamFrame::read(message).ok().flatten()?;
        let key = self.routes.find_token(*caller, &frame.token)?;
        let is_theirs = |route: &Route| matches!(route.stream, StreamUse::No | StreamUse::Offered);
        self.routes.get(&key).is_some_and(is_theirs).then_some(key)
    }

    /// Whether one more request fits. Callers that are not established may only use half of what all share.
    fn has_room(&self, caller: &PublicKey, bytes: usize) -> bool {
        let limits = &self.config.limits;
        let session = self.sessions.get(caller);
        let part = if session.is_some_and(|session| session.established) { 1 } else { 2 };
        session.map_or(0, |session| session.open) < limits.in_flight_per_caller
            && self.routes.len() < limits.in_flight.div_ceil(part)
            && self.routes.bytes().saturating_add(bytes) <= limits.in_flight_bytes.div_ceil(part)
            && self.has_share(caller, bytes)
    }

    /// Whether a caller leaves room for others: together its requests may take three quarters of it, one alone all of it.
    fn has_share(&self, caller: &PublicKey, bytes: usize) -> bool {
        let share = self.config.limits.in_flight_bytes / 4 * 3;
        if self.routes.bytes().saturating_add(bytes) <= share {
            return true;
        }
        let own = self.routes.bytes_of(*caller);
        own == 0 || own.saturating_add(bytes) <= share
    }

    /// Finds or makes the session of a caller that was let in, and learns from the event.
    pub(super) fn greet(
        &mut self,
        event: &Event,
        protection: Protection,
        member: bool,
        now: Now,
    ) -> Result<(), DropReason> {
        let mut ended = Vec::new();
        let entered = self.sessions.enter(event.pubkey, now.mono, &mut ended);
        if entered && member && !self.config.access.is_open() {
            self.sessions.establish(&event.pubkey, true, &mut ended);
        }
        for caller in ended {
            self.session_ended(caller);
        }
        let session = self.sessions.get_mut(&event.pubkey).filter(|_| entered).ok_or(DropReason::Busy)?;
        session.member |= member;
        if event.tags.len() > 1 {
            session.learn(&event.tags);
        }
        session.ephemeral |= session.tags.ephemeral || protection == Protection::Wrapped(WrapKind::Ephemeral);
        Ok(())
    }

    /// Begins a session anew. Requests of the old one end at the latest when nobody waits for them any more; answers to
    /// what its application side asked would only confuse the new one.
    fn restart(&mut self, caller: &PublicKey, now: Now) {
        let end = now.mono.after(self.config.limits.request_timeout);
        for key in self.routes.keys_of(*caller) {
            self.stop_stream(&key, now);
            self.routes.end_at(&key, end);
        }
        self.asked.forget_client(*caller);
        self.sessions.unsubscribe_all(caller);
        if let Some(session) = self.sessions.get_mut(caller) {
            session.initialised = false;
            session.told = false;
            session.epoch = session.epoch.wrapping_add(1);
        }
        self.out.push_back(ServerOutput::Restarted(*caller));
    }

    pub(super) fn deliver(&mut self, event: Event, delivery: Delivery, message: String) {
        let caller = event.pubkey;
        let tags = self.sessions.get(&caller).map(|session| Arc::clone(&session.tags)).unwrap_or_default();
        self.out.push_back(ServerOutput::Deliver { caller, delivery, message, event: Arc::new(event), tags });
    }
}

/// Starts an edit that takes out what only we may say.
fn sanitised<'a>(message: &Envelope<'a>) -> Rewrite<'a> {
    Rewrite::of(message).without_meta(CLIENT_PUBKEY).without_meta(REQUEST_EVENT_ID).without_meta(STREAM)
}

fn uri(message: &Envelope<'_>) -> Option<String> {
    rewrite::param(message.params, "uri").and_then(object::string).map(Cow::into_owned)
}

pub(super) const fn reason(error: &EnvelopeError) -> DropReason {
    if error.is_budget() { DropReason::Budget } else { DropReason::Malformed }
}

/// Whether two ids are the same: `1` and `"1"` differ, two spellings of one string do not.
pub(super) fn is_same(id: &RawValue, other: &str) -> bool {
    let text = object::string(id);
    id.get() == other
        || text.is_some_and(|text| serde_json::from_str::<String>(other).is_ok_and(|other| other == text))
}
