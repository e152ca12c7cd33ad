//! What a server does with a message of its application: correlate, protect, publish, and publish again.
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use contextvm_core::envelope::{self, Envelope, MessageKind};
use contextvm_core::object::{self, Object};
use contextvm_core::rewrite::{self, REQUEST_ID, Rewrite, SUBSCRIPTION_ID};
use contextvm_core::tags;
use contextvm_core::{Draft, Now, Protection};
use nostr::event::{Event, EventId, Tag, Tags};
use nostr::key::PublicKey;
use serde_json::value::RawValue;

use super::answers::Parcel;
use super::inbound::{REFUSED, is_same};
use super::post::{Answer, Publication, Settled};
use super::route::{Route, StreamUse};
use super::session::share_of;
use super::{RequestKey, ServerMachine, ServerOutput};
use crate::size::{LEAST, event_len, is_about_size};
use crate::{DropReason, Outbound, Outcome, Reach, Ticket};

/// A question of the application is forgotten after so many request timeouts, as a client's calls are.
const QUESTION_FACTOR: u32 = 10;

/// Why an answer was not sent.
pub(super) enum Unsent {
    /// It is larger than what can be sent to this caller; the text comes back.
    TooLarge(String),
    /// Too many large answers are under way.
    Busy,
}

/// JSON-RPC "internal error".
pub(super) const INTERNAL: i64 = -32603;

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
        if !self.streams.is_empty() && self.streams.is_open(&key) {
            return self.park(&key, message, further, now);
        }
        let Some(route) = self.take_route(&key, now) else {
            return if self.routes.was_late(&key) { Ok(()) } else { Err(DropReason::UnknownRequest) };
        };
        // Whoever took the request back does not know what came of it, and wants no updates.
        if message.kind == MessageKind::Error || route.cancelled {
            self.unsubscribe(to, &route);
        }
        if route.cancelled {
            return Ok(());
        }
        if route.stream == StreamUse::Failed && message.kind != MessageKind::Error {
            let text = error_text(&route.id, REFUSED, "Stream aborted");
            self.publish_answer(key, route.protection, text, now);
            return Ok(());
        }
        let mut text = rewrite::with_id(message, &route.id);
        if route.listens
            && let Ok(answer) = Envelope::parse(&text, &self.config.limits)
        {
            text = rewrite::with_ended_subscription(&answer, &route.id).into_owned();
        }
        let has_further = !further.is_empty();
        let sent = match self.try_answer(key, &route, text, further, now) {
            // What is said about an answer does not stand in its way.
            Err(Unsent::TooLarge(text)) if has_further && !text.is_empty() => {
                self.try_answer(key, &route, text, Vec::new(), now)
            }
            sent => sent,
        };
        let (code, why, reason) = match sent {
            Ok(()) => return Ok(()),
            Err(Unsent::TooLarge(_)) => {
                (INTERNAL, "Answer is larger than one event may be", DropReason::TooLarge)
            }
            Err(Unsent::Busy) => (REFUSED, "Busy", DropReason::Busy),
        };
        self.publish_answer(key, route.protection, error_text(&route.id, code, why), now);
        Err(reason)
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
        self.publish_other(to, protection, None, None, message.text().to_string(), now).map(|_| ())
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
    pub(super) fn correlate(
        &mut self,
        key: RequestKey,
        message: &Envelope<'_>,
        now: Now,
    ) -> Result<(), DropReason> {
        let route = self.routes.get(&key).ok_or(DropReason::UnknownRequest)?;
        if route.cancelled {
            return Ok(());
        }
        let (text, answered) = if is_progress(message) {
            let token = route.token.as_deref().ok_or(DropReason::UnknownRequest)?;
            // The existing Rust SDK's client takes any event with the `e` tag for the answer and drops the real one,
            // so progress to others than ours names its request only where the token alone would be ambiguous.
            let is_ours =
                self.sessions.get(&key.caller).is_some_and(|session| session.tags.unordered_streams);
            let named = (is_ours || self.routes.shares_token(&key)).then_some(key.id);
            (rewrite::with_notified_token(message, token), named)
        } else {
            (rewrite::with_subscription_id(message, &route.id), Some(key.id))
        };
        let protection = self.mirrored(&key.caller, route.protection);
        self.publish_other(key.caller, protection, Some(key.id), answered, text, now).map(|_| ())
    }

    /// Asks a caller something; where that cannot be done the application is told, and need not wait.
    fn send_request(&mut self, to: PublicKey, message: &Envelope<'_>, now: Now) -> Result<(), DropReason> {
        let id = message.id.ok_or(DropReason::Malformed)?.get();
        if let Err(reason) = self.ask(to, message, id, now) {
            let tags = self.sessions.get(&to).map_or_else(Arc::default, |session| Arc::clone(&session.tags));
            self.out.push_back(ServerOutput::Unasked { of: to, id: id.to_string(), reason, tags });
        }
        Ok(())
    }

    fn ask(&mut self, to: PublicKey, message: &Envelope<'_>, id: &str, now: Now) -> Result<(), DropReason> {
        let answers = self.sessions.get(&to).is_some_and(|session| session.tags.server_requests);
        if !answers {
            return Err(DropReason::Unsupported);
        }
        let (limits, own) = (&self.config.limits, self.asked.count_of(to));
        let established = self.sessions.get(&to).is_some_and(|session| session.established);
        if own >= limits.in_flight_per_caller
            || self.asked.len() >= share_of(limits.in_flight, established, own)
        {
            return Err(DropReason::Busy);
        }
        let until = now.mono.after(limits.request_timeout.saturating_mul(QUESTION_FACTOR));
        let token = message.progress_token().map(|token| rewrite::plain_text(token).into_owned());
        let protection = self.floor(&to);
        let event = self.publish_other(to, protection, None, None, message.text().to_string(), now)?;
        self.asked.insert(RequestKey { caller: to, id: event }, id.to_string(), token, until);
        Ok(())
    }

    pub(super) fn published(&mut self, ticket: Ticket, outcome: &Outcome, now: Now) {
        if self.frame_landed(ticket, outcome, now) {
            return;
        }
        let is_about_size = matches!(outcome, Outcome::Refused(text) if is_about_size(text));
        match self.post.settle(ticket, outcome, now.mono) {
            Settled::Told(caller, epoch) => {
                if let Some(session) = self.sessions.get_mut(&caller).filter(|session| session.epoch == epoch)
                {
                    session.told = true;
                }
            }
            Settled::Refused(key) if is_about_size => self.refused_for_size(key, now),
            Settled::Refused(_) | Settled::Done => {}
        }
    }

    /// Relays take less than was thought: the next answer of this size is transferred. Where this one is given up for it,
    /// its caller is told so.
    fn refused_for_size(&mut self, key: RequestKey, now: Now) {
        let Some(kept) = self.ledger.get_mut(&key) else { return };
        let protection = kept.protection;
        if kept.draft.content.len() <= LEAST {
            return;
        }
        if self.relay_limit.takes(&kept.draft, protection) {
            self.relay_limit.shrink();
        }
        if self.post.is_trying(&key) {
            return;
        }
        let text = Envelope::parse(&kept.draft.content, &self.own).ok().and_then(|answer| {
            Some(envelope::response_error(answer.id?, INTERNAL, "Answer is larger than relays take", None))
        });
        if let Some(text) = text {
            self.publish_answer(key, protection, text, now);
        }
    }

    pub(super) fn session_closed(&mut self, caller: PublicKey, now: Now) {
        for key in self.routes.heard_of(caller) {
            // What was cancelled is told, and that it was cancelled behind it.
            if self.routes.get(&key).is_some_and(|route| !route.cancelled) {
                self.journal.forget_free(&key, &mut self.out);
            }
            self.end_route(key, "Session closed", now);
        }
        self.asked.forget_client(caller);
        self.sessions.unsubscribe_all(&caller);
    }

    /// Ends a route without the application; if the caller still waits, it is told why.
    pub(super) fn end_route(&mut self, key: RequestKey, why: &str, now: Now) {
        self.stop_stream(&key, now);
        let Some(route) = self.take_route(&key, now) else { return };
        self.routes.expect_late(key);
        self.unsubscribe(key.caller, &route);
        if !route.cancelled {
            let text = error_text(&route.id, REFUSED, why);
            self.publish_answer(key, route.protection, text, now);
        }
    }

    /// Takes back the subscription that a request asked for.
    pub(super) fn unsubscribe(&mut self, caller: PublicKey, route: &Route) {
        if let Some(uri) = &route.subscribes {
            self.sessions.unsubscribe(&caller, uri);
        }
    }

    /// Publishes a kept answer again for a caller that asked again; says whether it was due.
    pub(super) fn answer_again(&mut self, key: RequestKey, now: Now) -> bool {
        let Some(kept) = self.ledger.get_mut(&key) else { return self.transfer_again(&key, now) };
        if !kept.pace.take(now.mono) {
            return false;
        }
        let (draft, protection) = (kept.draft.clone(), kept.protection);
        let is_old = now.unix.abs_diff(draft.created_at) > self.config.limits.age_window / 2;
        // Relays pass an id on only once, so a plaintext answer needs a new one; a wrap has a new one anyway.
        let draft = if protection.is_encrypted() && !is_old {
            draft
        } else {
            self.unique.draft(self.me, now.unix, draft.tags, draft.content)
        };
        let mut publication = self.publication(key.caller, Some(key.id));
        if publication.reach == Reach::Asked && self.post.may_spread(now.mono) {
            // Who asks again may listen elsewhere than it asked.
            publication.reach = Reach::All;
        }
        if !self.post.is_trying(&key) {
            publication.answer = Some(Answer { key, tries: 0, first: now.mono });
        }
        self.publish(publication, draft, protection);
        true
    }

    /// Publishes an answer again that no relay took where it was asked for; the others had their turn the first time.
    pub(super) fn try_again(&mut self, publication: Publication, now: Now) {
        let Some(answer) = &publication.answer else { return };
        let Some(kept) = self.ledger.get_mut(&answer.key) else { return };
        kept.pace.sent(now.mono);
        let (draft, protection) = (kept.draft.clone(), kept.protection);
        self.publish_to(Reach::Asked, publication, draft, protection);
    }

    /// Publishes an answer of a few words, keeps it for repeats, and says whether it was small enough.
    pub(super) fn publish_answer(
        &mut self,
        key: RequestKey,
        asked: Protection,
        text: String,
        now: Now,
    ) -> bool {
        let protection = self.mirrored(&key.caller, asked);
        let (draft, told) = self.draft(key.caller, Some(key.id), Vec::new(), text, now);
        let fits = self.fits(event_len(&draft), protection);
        if fits {
            self.publish_kept(key, draft, told, protection, now);
        }
        fits
    }

    /// Publishes an answer with further tags: as one event where relays take it, otherwise as a transfer where the caller
    /// understands that, otherwise as one event and hoping. Gives the text back when it is too large.
    fn try_answer(
        &mut self,
        key: RequestKey,
        route: &Route,
        text: String,
        further: Vec<Tag>,
        now: Now,
    ) -> Result<(), Unsent> {
        let protection = self.mirrored(&key.caller, route.protection);
        if !self.relay_limit.may_take(&text) {
            if let Some(token) = self.transfer_token(&key.caller, route) {
                let parcel = Parcel { key, id: &route.id, token, protection, further };
                return self.transfer(parcel, text, now);
            }
            // Not hashed for nothing.
            if text.len() > self.config.limits.event {
                return Err(Unsent::TooLarge(text));
            }
        }
        let (draft, told) = self.draft(key.caller, Some(key.id), further.clone(), text, now);
        let len = event_len(&draft);
        let fits = self.fits(len, protection);
        if !fits || !self.relay_limit.takes_len(len, protection) {
            if let Some(token) = self.transfer_token(&key.caller, route) {
                let parcel = Parcel { key, id: &route.id, token, protection, further };
                return self.transfer(parcel, draft.content, now);
            }
            if !fits {
                return Err(Unsent::TooLarge(draft.content));
            }
        }
        self.publish_kept(key, draft, told, protection, now);
        Ok(())
    }

    /// Returns the token for the transfer of an answer, if the caller understands transfers and gave one.
    fn transfer_token(&self, caller: &PublicKey, route: &Route) -> Option<String> {
        let knows = self.sessions.get(caller).is_some_and(|session| session.tags.oversized);
        route.token_text().filter(|_| knows)
    }

    /// Publishes an answer and keeps it for repeats.
    fn publish_kept(
        &mut self,
        key: RequestKey,
        draft: Draft,
        told: Option<u32>,
        protection: Protection,
        now: Now,
    ) {
        // A first answer goes where a stranger's answer goes, although it makes its caller known.
        let mut publication = self.publication(key.caller, Some(key.id));
        publication.told = told;
        self.establish_answered(&key.caller);
        let is_known = self.sessions.is_established(&key.caller);
        let is_kept = self.ledger.keep(key, draft.clone(), protection, is_known, now.mono);
        if is_kept {
            self.remember_answered(key, &draft, protection);
        }
        publication.answer = is_kept.then_some(Answer { key, tries: 0, first: now.mono });
        self.publish(publication, draft, protection);
    }

    /// On a server that is open to all, who had a request answered is established while there is room.
    pub(super) fn establish_answered(&mut self, caller: &PublicKey) {
        if self.config.access.is_open() {
            self.sessions.establish(caller, false, &mut Vec::new());
        }
    }

    /// Publishes a refusal: nothing but `p` and `e`, and no session is made for it.
    pub(super) fn publish_refusal(&mut self, event: &Event, asked: Protection, text: String, now: Now) {
        let protection = self.unmet(asked);
        let tags = Tags::from_list(alloc::vec![tags::recipient(&event.pubkey), tags::answered(&event.id)]);
        let draft = self.unique.draft(self.me, now.unix, tags, text);
        let publication = self.publication(event.pubkey, Some(event.id));
        self.publish(publication, draft, protection);
    }

    /// Publishes what is no answer: `about` is the request that it belongs to, `e` the one that it names.
    pub(super) fn publish_other(
        &mut self,
        to: PublicKey,
        protection: Protection,
        about: Option<EventId>,
        e: Option<EventId>,
        text: String,
        now: Now,
    ) -> Result<EventId, DropReason> {
        let (draft, told) = self.draft(to, e, Vec::new(), text, now);
        if !self.fits(event_len(&draft), protection) {
            return Err(DropReason::TooLarge);
        }
        let id = draft.id;
        let publication = Publication { told, ..self.publication(to, about) };
        self.publish(publication, draft, protection);
        Ok(id)
    }

    /// Begins to say something to somebody: about what, and nothing hangs on it yet.
    ///
    /// What a stranger makes us say goes where it asked: whoever floods one relay does not make us flood the others.
    pub(super) fn publication(&self, to: PublicKey, about: Option<EventId>) -> Publication {
        let is_known = about.is_none() || self.sessions.is_established(&to);
        let reach = if is_known { Reach::All } else { Reach::Asked };
        Publication { to, about, reach, told: None, answer: None }
    }

    pub(super) fn publish(&mut self, publication: Publication, draft: Draft, protection: Protection) {
        self.publish_to(publication.reach, publication, draft, protection);
    }

    fn publish_to(&mut self, reach: Reach, publication: Publication, draft: Draft, protection: Protection) {
        let Publication { to: recipient, about, .. } = publication;
        let ticket = self.post.ticket(publication);
        self.post_out(Outbound { ticket, draft, recipient, protection, is_frame: false, about, reach });
    }

    /// Makes a draft: `p`, `e`, then our discovery tags while the caller was not told or where it introduced itself, then
    /// further ones; returns whether the caller is told now.
    pub(super) fn draft(
        &mut self,
        to: PublicKey,
        e: Option<EventId>,
        further: Vec<Tag>,
        text: String,
        now: Now,
    ) -> (Draft, Option<u32>) {
        let session = self.sessions.get(&to);
        let told = session.filter(|session| !session.told).map(|session| session.epoch);
        let is_answer = e.is_some() && session.is_some_and(|session| session.introduced == e);
        let due = if told.is_some() || is_answer { self.discovery.as_slice() } else { &[] };
        let mut all = Vec::with_capacity(2 + due.len() + further.len());
        all.push(tags::recipient(&to));
        all.extend(e.as_ref().map(tags::answered));
        all.extend(due.iter().cloned());
        all.extend(further);
        (self.unique.draft(self.me, now.unix, Tags::from_list(all), text), told)
    }

    const fn fits(&self, event: usize, protection: Protection) -> bool {
        let limits = &self.config.limits;
        event <= if protection.is_encrypted() { limits.inner_event } else { limits.event }
    }

    pub(super) fn take_route(&mut self, key: &RequestKey, now: Now) -> Option<Route> {
        if self.streams.is_open(key) {
            self.stop_stream(key, now);
        }
        let route = self.routes.take(key)?;
        self.sessions.close(&key.caller, now.mono);
        if route.stream == StreamUse::Offered {
            self.out.push_back(ServerOutput::StreamEnded { key: *key, failure: None });
        }
        Some(route)
    }
}

/// The request that a notification of the application belongs to, if it belongs to one.
pub(super) fn subject(message: &Envelope<'_>) -> Result<Option<EventId>, DropReason> {
    if is_progress(message) {
        let token = rewrite::notified_token(message.params).and_then(event_id);
        return token.map(Some).ok_or(DropReason::UnknownRequest);
    }
    Ok(rewrite::subscription_id(message.params).and_then(event_id))
}

pub(super) fn is_progress(message: &Envelope<'_>) -> bool {
    message.method.as_deref() == Some("notifications/progress")
}

/// Reads an id or token of ours: the inner event id in hex.
fn event_id(json: &RawValue) -> Option<EventId> {
    contextvm_core::event::read_id(object::string(json)?.as_ref())
}

/// Prints an error for a client's own id.
pub(super) fn error_text(id: &str, code: i64, message: &str) -> String {
    serde_json::from_str::<&RawValue>(id)
        .map(|id| envelope::response_error(id, code, message, None))
        .unwrap_or_default()
}
