//! What a server does with an event: policy, seen, access, session, then request, notification or response.
use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use contextvm_core::capability::Capability;
use contextvm_core::envelope::{Envelope, EnvelopeError, MessageKind};
use contextvm_core::object;
use contextvm_core::rewrite::{self, CLIENT_PUBKEY, PROGRESS_TOKEN, REQUEST_EVENT_ID, REQUEST_ID, Rewrite};
use contextvm_core::{Now, Opened, Protection, WrapKind, tags};
use contextvm_stream::StreamFrame;
use nostr::event::Event;
use nostr::key::PublicKey;
use serde_json::value::RawValue;

use super::access::Verdict;
use super::outbound::is_progress;
use super::refusing::Refused;
use super::route::{Route, StreamUse, list_method};
use super::session::share_of;
use super::waiting::{Held, Letter};
use super::{Delivery, RequestKey, ServerMachine, ServerOutput};
use crate::{DropReason, EncryptionMode, GiftWrapMode};

/// JSON-RPC error code of refusals by the transport.
pub(super) const REFUSED: i64 = -32000;
/// What a caller says once its session has begun.
pub(super) const INITIALIZED: &str = "notifications/initialized";
/// Longest JSON-RPC id of a transferred request, bytes: the store keeps it, since its end frame does not hold it.
pub(super) const TRANSFERRED_ID: usize = 128;
/// `_meta` member that only means something inside a process.
const STREAM: &str = "stream";

/// A message for the application; `None` where it hears nothing of what was acted on.
pub(super) type Entered = Result<Option<(Delivery, String)>, DropReason>;

/// How far a message came at once.
enum Judged {
    Entered(Option<(Delivery, String)>),
    Undecided(Verdict),
}

impl ServerMachine {
    pub(super) fn opened(&mut self, opened: Opened, now: Now) {
        let (protection, stored) = (opened.protection(), opened.is_stored());
        let event = opened.event().id;
        if let Err(reason) = self.consider(opened.into_event(), protection, stored, now) {
            self.out.push_back(ServerOutput::Refused { event, reason });
        }
    }

    fn consider(
        &mut self,
        event: Event,
        protection: Protection,
        stored: bool,
        now: Now,
    ) -> Result<(), DropReason> {
        if !protection.is_encrypted()
            && let Some(session) = self.sessions.get_mut(&event.pubkey)
        {
            session.floor.show(&event.id);
        }
        self.check_policy(&event, protection)?;
        let key = RequestKey { caller: event.pubkey, id: event.id };
        if self.seen.contains(event.created_at.as_secs(), event.id) || self.journal.was_answered(&event.id) {
            let is_due = self.repeat(&event, protection, stored, now);
            return if is_due { Ok(()) } else { Err(DropReason::Duplicate) };
        }
        if self.waiting.holds(&key.caller, key.id) {
            return Err(DropReason::Duplicate);
        }
        self.admit(Letter { event, protection, text: None }, stored, now)
    }

    /// Decides about a message, which may have come in one event or in many.
    pub(super) fn admit(&mut self, letter: Letter, stored: bool, now: Now) -> Result<(), DropReason> {
        let refused = match self.judge(&letter, stored, now) {
            Ok(Judged::Entered(entered)) => {
                self.hand_over(letter, entered, now);
                return Ok(());
            }
            Ok(Judged::Undecided(verdict)) => {
                let caller = letter.event.pubkey;
                let established = self.sessions.is_established(&caller);
                let is_decided = established || matches!(verdict, Verdict::Pass { .. });
                let Some(held) = self.waiting.push(Held { letter, verdict }, established) else {
                    self.advance(caller, None, now);
                    return Ok(());
                };
                Refused::new(held.letter, if is_decided { DropReason::Busy } else { DropReason::Undecided })
            }
            Err(reason) => Refused::new(letter, reason),
        };
        Err(self.turned_down(*refused.letter, refused.reason, now))
    }

    fn judge(&mut self, letter: &Letter, stored: bool, now: Now) -> Result<Judged, DropReason> {
        let (event, protection) = (&letter.event, letter.protection);
        let message =
            Envelope::parse(letter.message(), &self.config.limits).map_err(|error| reason(&error))?;
        // What was put together is a message, whatever it says.
        if letter.text.is_none()
            && is_progress(&message)
            && let Some(taken) = self.take_frame(event, &message, (protection, stored), now)
        {
            return taken.map(|()| Judged::Entered(None));
        }
        // A relay had it while we were away, and whoever asked has given up: nobody would expect it to be done now.
        if stored && message.kind == MessageKind::Request && self.is_late(event, now) {
            return Err(DropReason::Stale);
        }
        let caller = event.pubkey;
        match self.config.access.decide(&caller, Capability::of(&message)) {
            Verdict::Pass { member } if !self.waiting.has_line(&caller) && !self.is_early(event, now) => {
                self.enter(event, &message, protection, member, now).map(Judged::Entered)
            }
            Verdict::Deny => Err(self.refuse(event, &message, protection, now)),
            verdict @ (Verdict::Pass { .. } | Verdict::AskCapability(_) | Verdict::AskKey) => {
                Ok(Judged::Undecided(verdict))
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
        let session = self.sessions.get(&event.pubkey);
        let is_below =
            !protection.is_encrypted() && session.is_some_and(|session| !session.floor.admits_plain(stamp));
        if !admitted {
            Err(DropReason::Policy)
        } else if stamp < self.config.accept_from {
            Err(DropReason::BeforeStart)
        } else if !self.seen.remembers(stamp) {
            Err(DropReason::Stale)
        } else if is_below {
            Err(DropReason::BelowFloor)
        } else {
            Ok(())
        }
    }

    pub(super) fn enter(
        &mut self,
        event: &Event,
        message: &Envelope<'_>,
        protection: Protection,
        member: bool,
        now: Now,
    ) -> Entered {
        if !self.has_room_to_remember(&event.pubkey, now) {
            return Err(DropReason::SeenFull);
        }
        if self.journal.is_full() {
            return Err(DropReason::Busy);
        }
        match message.kind {
            MessageKind::Request => self.enter_request(event, message, protection, member, now),
            MessageKind::Notification => {
                let method = message.method.as_deref().unwrap_or_default();
                let is_passing = matches!(method, "notifications/cancelled" | "notifications/progress");
                if is_passing && !self.journal.is_of_this_run(event) {
                    return Err(DropReason::BeforeStart);
                }
                self.greet(event, protection, member, now)?;
                if is_passing {
                    self.take(event, protection, now);
                } else {
                    self.accept(event, protection, None, now);
                }
                self.enter_notification(event, message, method, now)
            }
            MessageKind::Response | MessageKind::Error => {
                let key = tags::answered_id(&event.tags).map(|id| RequestKey { caller: event.pubkey, id });
                let key = key.filter(|key| self.asked.contains(key)).ok_or(DropReason::Uncorrelated)?;
                self.greet(event, protection, member, now)?;
                // After a restart nobody has asked, so no record is needed.
                self.take(event, protection, now);
                let question = self.asked.take(&key).ok_or(DropReason::Uncorrelated)?;
                Ok(Some((Delivery::Response, rewrite::with_id(message, &question.id))))
            }
        }
    }

    /// Remembers the id of an event that is acted on, also across a restart; `request` when somebody waits for an answer.
    pub(super) fn accept(
        &mut self,
        event: &Event,
        protection: Protection,
        request: Option<&Envelope<'_>>,
        now: Now,
    ) {
        self.remember_accepted(event, protection, request);
        self.take(event, protection, now);
    }

    /// Remembers the id of an event that is acted on and means nothing to another run.
    fn take(&mut self, event: &Event, protection: Protection, now: Now) {
        self.remember_id(event, now);
        if let Some(session) = self.sessions.get_mut(&event.pubkey) {
            session.floor.hear(event, protection);
        }
    }

    /// Remembers the id of an event, at its author's expense.
    pub(super) fn remember_id(&mut self, event: &Event, now: Now) {
        self.seen.insert(event.created_at.as_secs(), event.id);
        if let Some(session) = self.sessions.get_mut(&event.pubkey) {
            session.accept(self.seen.period(now.unix));
        }
    }

    /// Whether one more id of this author can be remembered.
    pub(super) fn has_room_to_remember(&self, author: &PublicKey, now: Now) -> bool {
        let session = self.sessions.get(author).filter(|session| session.established);
        self.seen.has_room(session.map(|session| session.accepted(self.seen.period(now.unix))))
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
        if message.text() != event.content && id.get().len() > TRANSFERRED_ID {
            return Err(DropReason::Malformed);
        }
        if !self.has_room(&key.caller, message.text().len()) {
            return Err(self.busy(event, message, id, protection, now));
        }
        self.greet(event, protection, member, now)?;
        if tags::introduces(&event.tags)
            && let Some(session) = self.sessions.get_mut(&key.caller).filter(|session| session.told)
        {
            session.introduced = Some(key.id);
        }
        let mut route = Route::new(
            id.get().to_string(),
            message.progress_token().map(|token| token.get().to_string()),
            protection,
            message.text().len(),
        );
        match method {
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
        if self.config.durable {
            // Until the store has it. What was held for longer is not executed: nobody would expect that.
            self.routes.end_at(&key, now.mono.after(self.config.limits.request_timeout));
        }
        self.sessions.open(&key.caller);
        let delivery = Delivery::Request { key, method: method.to_string(), streams };
        Ok(Some((delivery, self.delivered_text(event, message))))
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

    fn enter_notification(
        &mut self,
        event: &Event,
        message: &Envelope<'_>,
        method: &str,
        now: Now,
    ) -> Entered {
        let mut edit = sanitised(message);
        match method {
            "notifications/cancelled" => {
                let id = rewrite::cancelled_request_id(message.params);
                let key = id.and_then(|id| self.routes.find(event.pubkey, |other| is_same(id, other)));
                let Some(key) = key else {
                    // Its answer may be under way: nobody waits for the rest of it.
                    self.stop_answer(event.pubkey, |other| id.is_some_and(|id| is_same(id, other)), now);
                    return Err(DropReason::UnknownRequest);
                };
                if self.routes.get(&key).is_some_and(|route| !route.heard) {
                    // The application never hears of either.
                    self.end_unheard(key, None, now);
                    return Ok(None);
                }
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
        Ok(Some((Delivery::Notification { method: method.to_string() }, edit.to_text())))
    }

    /// Returns the request whose stream a frame is about, if the application writes the frames of that stream itself.
    fn streamed_elsewhere(&self, caller: &PublicKey, message: &Envelope<'_>) -> Option<RequestKey> {
        let frame = StreamFrame::read(message).ok().flatten()?;
        let key = self.routes.find_token(*caller, &frame.token)?;
        let is_theirs = |route: &Route| matches!(route.stream, StreamUse::No | StreamUse::Offered);
        self.routes.get(&key).is_some_and(is_theirs).then_some(key)
    }

    /// Whether one more request fits.
    fn has_room(&self, caller: &PublicKey, bytes: usize) -> bool {
        let limits = &self.config.limits;
        let session = self.sessions.get(caller);
        let open = session.map_or(0, |session| session.open);
        let established = session.is_some_and(|session| session.established);
        let part = if established { 1 } else { 2 };
        open < limits.in_flight_per_caller
            && self.routes.len() < share_of(limits.in_flight, established, open)
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

    /// Begins a session anew with this request. What was asked before ends at the latest when nobody waits for it any
    /// more; answers to what its application side asked would only confuse the new one.
    fn restart(&mut self, key: &RequestKey, now: Now) {
        let end = now.mono.after(self.config.limits.request_timeout);
        for older in self.routes.older_than(key) {
            self.stop_stream(&older, now);
            self.routes.end_at(&older, end);
        }
        let caller = &key.caller;
        self.asked.forget_client(*caller);
        self.sessions.unsubscribe_all(caller);
        if let Some(session) = self.sessions.get_mut(caller) {
            session.initialised = false;
            session.told = false;
            session.epoch = session.epoch.wrapping_add(1);
        }
        self.out.push_back(ServerOutput::Restarted(*caller));
    }

    /// The application hears of a message now.
    pub(super) fn hear(&mut self, caller: PublicKey, delivery: &Delivery, now: Now) {
        match delivery {
            Delivery::Request { key, method, .. } => {
                self.routes.hear(key);
                if method == "initialize" {
                    self.restart(key, now);
                }
            }
            Delivery::Notification { method } if method == INITIALIZED => {
                if let Some(session) = self.sessions.get_mut(&caller) {
                    session.initialised = true;
                }
            }
            Delivery::Notification { .. } | Delivery::Response => {}
        }
    }

    /// Hands a message to the application, or to the journal, which holds it until the store has its record.
    pub(super) fn hand_over(&mut self, letter: Letter, entered: Option<(Delivery, String)>, now: Now) {
        let Some((delivery, message)) = entered else { return };
        let caller = letter.event.pubkey;
        if !self.config.durable {
            self.hear(caller, &delivery, now);
        }
        let tags = self.sessions.get(&caller).map(|session| Arc::clone(&session.tags)).unwrap_or_default();
        let event = Arc::new(letter.event);
        self.out.push_back(ServerOutput::Deliver { caller, delivery, message, event, tags });
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
