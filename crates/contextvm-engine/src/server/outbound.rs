//! What a server does with a message of its application: correlate, protect, publish, and publish again.
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use contextvm_core::envelope::{self, Envelope, MessageKind};
use contextvm_core::object::{self, Object};
use contextvm_core::rewrite::{self, REQUEST_ID, Rewrite, SUBSCRIPTION_ID};
use contextvm_core::tags;
use contextvm_core::{Draft, Now, Protection, WrapKind};
use nostr::event::{Event, EventId, Tag, Tags};
use nostr::key::PublicKey;
use serde_json::value::RawValue;

use super::inbound::{REFUSED, is_same};
use super::post::{Answer, Publication};
use super::route::Route;
use super::{RequestKey, ServerMachine, ServerOutput};
use crate::size::event_len;
use crate::{DropReason, EncryptionMode, GiftWrapMode, Outbound, Outcome, Ticket};

/// JSON-RPC "internal error".
const INTERNAL: i64 = -32603;
/// Broadcasts that may be under way at once.
const CASTS: usize = 64;
/// One answer is repeated so many times at once: a client that restarts within a second signs the very same
/// `initialize` again.
const FREE_REPEATS: u32 = 2;
/// The pause before the next repeat; it doubles each time, so that nobody makes us publish one answer for ever.
const REPEAT: Duration = Duration::from_secs(1);

/// One broadcast under way: it is copied to one session after the other as the outputs are drained.
#[derive(Clone, Debug)]
pub(super) struct Cast {
    message: String,
    /// Only to subscribers of this resource.
    uri: Option<String>,
    now: Now,
    last: Option<PublicKey>,
}

impl ServerMachine {
    /// Sends a message of the application; further tags are for an answer alone.
    pub(super) fn send(&mut self, to: PublicKey, message: &str, further: Vec<Tag>, now: Now) {
        let sent = match Envelope::parse(message, &self.own) {
            // The existing SDKs drop a message with any member that JSON-RPC does not name.
            Ok(parsed) if parsed.extra > 0 => return self.send(to, &parsed.to_exact_text(), further, now),
            Ok(parsed) => match parsed.kind {
                MessageKind::Request => self.send_request(to, &parsed, now),
                MessageKind::Notification => self.send_notification(to, &parsed, now),
                MessageKind::Response | MessageKind::Error => self.send_answer(to, &parsed, further, now),
            },
            Err(_) => {
                self.rescue(to, message, now);
                Err(DropReason::Malformed)
            }
        };
        if let Err(reason) = sent {
            self.out.push_back(ServerOutput::Undeliverable { to, reason });
        }
    }

    fn send_answer(
        &mut self,
        to: PublicKey,
        message: &Envelope<'_>,
        further: Vec<Tag>,
        now: Now,
    ) -> Result<(), DropReason> {
        let id = message.id.and_then(event_id).ok_or(DropReason::UnknownRequest)?;
        let key = RequestKey { caller: to, id };
        let Some(route) = self.take_route(&key, now) else {
            return if self.routes.was_late(&key) { Ok(()) } else { Err(DropReason::UnknownRequest) };
        };
        if route.cancelled {
            return Ok(());
        }
        if let Some(uri) = route.subscribes.filter(|_| message.kind == MessageKind::Error) {
            self.sessions.unsubscribe(&to, &uri);
        }
        let mut text = rewrite::with_id(message, &route.id);
        if route.listens
            && let Ok(answer) = Envelope::parse(&text, &self.config.limits)
        {
            text = rewrite::with_ended_subscription(&answer, &route.id).into_owned();
        }
        let has_further = !further.is_empty();
        let sent = match self.try_answer(key, route.protection, text, further, now) {
            // What is said about an answer does not stand in its way.
            Err(text) if has_further => self.try_answer(key, route.protection, text, Vec::new(), now),
            sent => sent,
        };
        if sent.is_ok() {
            return Ok(());
        }
        let text = error_text(&route.id, INTERNAL, "Answer is larger than one event may be");
        self.publish_answer(key, route.protection, text, now);
        Err(DropReason::TooLarge)
    }

    /// The application wrote nonsense where an answer was due: the caller gets an error and need not wait.
    fn rescue(&mut self, to: PublicKey, message: &str, now: Now) {
        let Ok(members) = Object::parse(message) else { return };
        if members.get("method").is_some() {
            return;
        }
        let key = members.get("id").and_then(event_id).map(|id| RequestKey { caller: to, id });
        let Some(key) = key else { return };
        let Some(route) = self.take_route(&key, now).filter(|route| !route.cancelled) else { return };
        let text = error_text(&route.id, INTERNAL, "Internal error");
        self.publish_answer(key, route.protection, text, now);
    }

    fn send_notification(
        &mut self,
        to: PublicKey,
        message: &Envelope<'_>,
        now: Now,
    ) -> Result<(), DropReason> {
        if message.method.as_deref() == Some("notifications/cancelled")
            && let Some(id) = rewrite::cancelled_request_id(message.params)
        {
            let key = event_id(id).map(|id| RequestKey { caller: to, id });
            if let Some(key) = key.filter(|key| self.routes.get(key).is_some()) {
                return self.end_subscription(key, message, now);
            }
            self.asked.forget_where(to, |question| is_same(id, &question.id));
        }
        if let Some(id) = subject(message)? {
            return self.correlate(RequestKey { caller: to, id }, message, now);
        }
        let protection = self.floor(&to);
        self.publish_other(to, protection, None, message.text().to_string(), now).map(|_| ())
    }

    /// Ends a subscription of a caller with the application's cancellation (MCP 2026-07-28), which is kept for repeats
    /// as an answer is.
    fn end_subscription(
        &mut self,
        key: RequestKey,
        message: &Envelope<'_>,
        now: Now,
    ) -> Result<(), DropReason> {
        if !self.routes.get(&key).is_some_and(|route| route.listens) {
            // Any other request is the caller's to cancel, and the application still owes its answer.
            return Err(DropReason::Unsupported);
        }
        let Some(route) = self.take_route(&key, now).filter(|route| !route.cancelled) else { return Ok(()) };
        self.routes.expect_late(key);
        let mut edit = Rewrite::of(message).param(REQUEST_ID, &route.id);
        if rewrite::subscription_id(message.params).is_some() {
            edit = edit.meta(SUBSCRIPTION_ID, &route.id);
        }
        let is_sent = self.publish_answer(key, route.protection, edit.to_text(), now);
        if is_sent { Ok(()) } else { Err(DropReason::TooLarge) }
    }

    /// Sends a notification that belongs to one request: own token and id go out, ours stay in.
    fn correlate(&mut self, key: RequestKey, message: &Envelope<'_>, now: Now) -> Result<(), DropReason> {
        let route = self.routes.get(&key).ok_or(DropReason::UnknownRequest)?;
        if route.cancelled {
            return Ok(());
        }
        let (text, answered) = if is_progress(message) {
            let token = route.token.as_deref().ok_or(DropReason::UnknownRequest)?;
            // The existing Rust SDK's client takes any event with the `e` tag for the answer and drops the real one,
            // so progress names its request only where the token alone would be ambiguous.
            let named = self.routes.shares_token(&key).then_some(key.id);
            (rewrite::with_notified_token(message, token), named)
        } else {
            (rewrite::with_subscription_id(message, &route.id), Some(key.id))
        };
        let protection = self.mirrored(&key.caller, route.protection);
        self.publish_other(key.caller, protection, answered, text, now).map(|_| ())
    }

    fn send_request(&mut self, to: PublicKey, message: &Envelope<'_>, now: Now) -> Result<(), DropReason> {
        let answers = self.sessions.get(&to).is_some_and(|session| session.tags.server_requests);
        let id = message.id.ok_or(DropReason::Malformed)?.get().to_string();
        if !answers {
            return Err(DropReason::Unsupported);
        }
        let limits = &self.config.limits;
        if self.asked.count_of(to) >= limits.in_flight_per_caller || self.asked.len() >= limits.in_flight {
            return Err(DropReason::Busy);
        }
        let until = now.mono.after(limits.session_idle);
        let token = message.progress_token().map(|token| rewrite::plain_text(token).into_owned());
        let protection = self.floor(&to);
        let event = self.publish_other(to, protection, None, message.text().to_string(), now)?;
        self.asked.insert(RequestKey { caller: to, id: event }, id, token, until);
        Ok(())
    }

    pub(super) fn broadcast(&mut self, message: String, now: Now) {
        if let Err(reason) = self.start_cast(message, now) {
            self.drop(reason);
        }
    }

    fn start_cast(&mut self, message: String, now: Now) -> Result<(), DropReason> {
        let parsed = Envelope::parse(&message, &self.own).map_err(|_| DropReason::Malformed)?;
        if parsed.kind != MessageKind::Notification {
            return Err(DropReason::Unsupported);
        }
        if parsed.extra > 0 {
            return self.start_cast(parsed.to_exact_text(), now);
        }
        if let Some(id) = subject(&parsed)? {
            let key = self.routes.key_of(id).ok_or(DropReason::UnknownRequest)?;
            return self.correlate(key, &parsed, now);
        }
        if self.casts.len() >= CASTS {
            return Err(DropReason::Busy);
        }
        let is_update = parsed.method.as_deref() == Some("notifications/resources/updated");
        let uri = rewrite::param(parsed.params, "uri").filter(|_| is_update);
        let uri = uri.and_then(object::string).map(|uri| uri.into_owned());
        if is_update && uri.is_none() {
            return Err(DropReason::Malformed);
        }
        self.casts.push_back(Cast { message, uri, now, last: None });
        Ok(())
    }

    /// Makes the next copy of the oldest broadcast; returns `false` when none is under way.
    pub(super) fn cast_one(&mut self) -> bool {
        let Some(cast) = self.casts.front_mut() else { return false };
        let uri = cast.uri.as_deref();
        let next = self.sessions.next_where(cast.last, |session| {
            session.initialised && session.member && uri.is_none_or(|uri| session.is_subscribed(uri))
        });
        cast.last = next;
        let (message, now) = (cast.message.clone(), cast.now);
        let sent = match next {
            Some(caller) => self.publish_other(caller, self.floor(&caller), None, message, now),
            None => {
                self.casts.pop_front();
                return true;
            }
        };
        if let Err(reason) = sent {
            self.drop(reason);
        }
        true
    }

    pub(super) fn published(&mut self, ticket: Ticket, outcome: &Outcome, now: Now) {
        let Some((caller, epoch)) = self.post.settle(ticket, outcome, now.mono) else { return };
        if let Some(session) = self.sessions.get_mut(&caller).filter(|session| session.epoch == epoch) {
            session.told = true;
        }
    }

    pub(super) fn session_closed(&mut self, caller: PublicKey, now: Now) {
        for key in self.routes.keys_of(caller) {
            self.end_route(key, "Session closed", now);
        }
        self.asked.forget_client(caller);
        self.sessions.unsubscribe_all(&caller);
    }

    /// Ends a route without the application; if the caller still waits, it is told why.
    pub(super) fn end_route(&mut self, key: RequestKey, why: &str, now: Now) {
        let Some(route) = self.take_route(&key, now) else { return };
        self.routes.expect_late(key);
        if !route.cancelled {
            let text = error_text(&route.id, REFUSED, why);
            self.publish_answer(key, route.protection, text, now);
        }
    }

    /// Publishes a kept answer again for a caller that asked again; says whether it was due.
    pub(super) fn answer_again(&mut self, key: RequestKey, now: Now) -> bool {
        let Some(kept) = self.ledger.get_mut(&key) else { return false };
        if let Some(times) = kept.again.checked_sub(FREE_REPEATS)
            && now.mono.since(kept.sent) < REPEAT * (1 << times.min(16))
        {
            return false;
        }
        kept.again = kept.again.saturating_add(1);
        kept.sent = now.mono;
        let (draft, protection) = (kept.draft.clone(), kept.protection);
        let is_old = now.unix.abs_diff(draft.created_at) > self.config.limits.age_window / 2;
        // Relays pass an id on only once, so a plaintext answer needs a new one; a wrap has a new one anyway.
        let draft = if protection.is_encrypted() && !is_old {
            draft
        } else {
            self.unique.draft(self.me, now.unix, draft.tags, draft.content)
        };
        self.publish(Publication { to: key.caller, told: None, answer: None }, draft, protection);
        true
    }

    /// Publishes an answer again that no relay took.
    pub(super) fn try_again(&mut self, publication: Publication, now: Now) {
        let Some(answer) = &publication.answer else { return };
        let Some(kept) = self.ledger.get_mut(&answer.key) else { return };
        kept.sent = now.mono;
        let (draft, protection) = (kept.draft.clone(), kept.protection);
        self.publish(publication, draft, protection);
    }

    /// Publishes an answer, keeps it for repeats, and says whether it was small enough.
    pub(super) fn publish_answer(
        &mut self,
        key: RequestKey,
        asked: Protection,
        text: String,
        now: Now,
    ) -> bool {
        self.try_answer(key, asked, text, Vec::new(), now).is_ok()
    }

    /// Publishes an answer with further tags and keeps it for repeats; gives the text back when it is too large.
    fn try_answer(
        &mut self,
        key: RequestKey,
        asked: Protection,
        text: String,
        further: Vec<Tag>,
        now: Now,
    ) -> Result<(), String> {
        let protection = self.mirrored(&key.caller, asked);
        let (draft, told) = self.draft(key.caller, Some(key.id), further, text, now);
        if !self.fits(&draft, protection) {
            return Err(draft.content);
        }
        let is_kept = self.ledger.keep(key, draft.clone(), protection, now.mono);
        let answer = is_kept.then_some(Answer { key, tries: 0, first: now.mono });
        self.publish(Publication { to: key.caller, told, answer }, draft, protection);
        if self.config.access.is_open() {
            self.sessions.establish(&key.caller, false, &mut Vec::new());
        }
        Ok(())
    }

    /// Publishes a refusal: nothing but `p` and `e`, and no session is made for it.
    pub(super) fn publish_refusal(&mut self, event: &Event, asked: Protection, text: String, now: Now) {
        let protection = match asked {
            Protection::Plain => Protection::Plain,
            Protection::Wrapped(wrap) => Protection::Wrapped(self.fixed_wrap().unwrap_or(wrap)),
        };
        let tags = Tags::from_list(alloc::vec![tags::recipient(&event.pubkey), tags::answered(&event.id)]);
        let draft = self.unique.draft(self.me, now.unix, tags, text);
        self.publish(Publication { to: event.pubkey, told: None, answer: None }, draft, protection);
    }

    fn publish_other(
        &mut self,
        to: PublicKey,
        protection: Protection,
        e: Option<EventId>,
        text: String,
        now: Now,
    ) -> Result<EventId, DropReason> {
        let (draft, told) = self.draft(to, e, Vec::new(), text, now);
        if !self.fits(&draft, protection) {
            return Err(DropReason::TooLarge);
        }
        let id = draft.id;
        self.publish(Publication { to, told, answer: None }, draft, protection);
        Ok(id)
    }

    fn publish(&mut self, publication: Publication, draft: Draft, protection: Protection) {
        let recipient = publication.to;
        let ticket = self.post.ticket(publication);
        self.out.push_back(ServerOutput::Publish(Outbound { ticket, draft, recipient, protection }));
    }

    /// Makes a draft: `p`, `e`, then our discovery tags while the caller was not told, then further ones; returns whether
    /// the caller is told now.
    fn draft(
        &mut self,
        to: PublicKey,
        e: Option<EventId>,
        further: Vec<Tag>,
        text: String,
        now: Now,
    ) -> (Draft, Option<u32>) {
        let session = self.sessions.get(&to);
        let told = session.filter(|session| !session.told).map(|session| session.epoch);
        let due = if told.is_some() { self.discovery.as_slice() } else { &[] };
        let mut all = Vec::with_capacity(2 + due.len() + further.len());
        all.push(tags::recipient(&to));
        all.extend(e.as_ref().map(tags::answered));
        all.extend(due.iter().cloned());
        all.extend(further);
        (self.unique.draft(self.me, now.unix, Tags::from_list(all), text), told)
    }

    fn fits(&self, draft: &Draft, protection: Protection) -> bool {
        let limits = &self.config.limits;
        let most = if protection.is_encrypted() { limits.inner_event } else { limits.event };
        event_len(draft) <= most
    }

    pub(super) fn take_route(&mut self, key: &RequestKey, now: Now) -> Option<Route> {
        let route = self.routes.take(key)?;
        self.sessions.close(&key.caller, now.mono);
        Some(route)
    }

    /// The protection of what answers a request: that of the request, in the best wrap the caller is known to open.
    fn mirrored(&self, to: &PublicKey, asked: Protection) -> Protection {
        match asked {
            Protection::Plain => Protection::Plain,
            Protection::Wrapped(wrap) => Protection::Wrapped(self.wrap(to, wrap)),
        }
    }

    /// The protection of what answers nothing: encrypted as soon as the caller was encrypted once.
    fn floor(&self, to: &PublicKey) -> Protection {
        let was_encrypted = self.sessions.get(to).is_some_and(|session| session.encrypted);
        match self.config.encryption {
            EncryptionMode::Disabled => Protection::Plain,
            EncryptionMode::Optional if !was_encrypted => Protection::Plain,
            EncryptionMode::Optional | EncryptionMode::Required => {
                Protection::Wrapped(self.wrap(to, WrapKind::Persistent))
            }
        }
    }

    fn wrap(&self, to: &PublicKey, otherwise: WrapKind) -> WrapKind {
        let ephemeral = self.sessions.get(to).is_some_and(|session| session.ephemeral);
        self.fixed_wrap().unwrap_or(if ephemeral { WrapKind::Ephemeral } else { otherwise })
    }

    const fn fixed_wrap(&self) -> Option<WrapKind> {
        match self.config.gift_wrap {
            GiftWrapMode::Optional => None,
            GiftWrapMode::Ephemeral => Some(WrapKind::Ephemeral),
            GiftWrapMode::Persistent => Some(WrapKind::Persistent),
        }
    }
}

/// The request that a notification of the application belongs to, if it belongs to one.
fn subject(message: &Envelope<'_>) -> Result<Option<EventId>, DropReason> {
    if is_progress(message) {
        let token = rewrite::notified_token(message.params).and_then(event_id);
        return token.map(Some).ok_or(DropReason::UnknownRequest);
    }
    Ok(rewrite::subscription_id(message.params).and_then(event_id))
}

fn is_progress(message: &Envelope<'_>) -> bool {
    message.method.as_deref() == Some("notifications/progress")
}

/// Reads an id or token of ours: the inner event id in hex.
fn event_id(json: &RawValue) -> Option<EventId> {
    EventId::from_hex(object::string(json)?.as_ref()).ok()
}

/// Prints an error for a client's own id.
fn error_text(id: &str, code: i64, message: &str) -> String {
    serde_json::from_str::<&RawValue>(id)
        .map(|id| envelope::response_error(id, code, message, None))
        .unwrap_or_default()
}
