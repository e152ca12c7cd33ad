//! From the server to the application.
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::rewrite::PROGRESS_TOKEN;
use contextvm_core::{Now, Opened, Protection, rewrite, tags};
use nostr::event::{Event, EventId};
use serde_json::value::RawValue;

use super::{ClientMachine, ClientOutput, json, retry};
use crate::DropReason;

/// What the first `e` tag of an event says.
pub(super) enum Names {
    Nothing,
    /// A tag is there, but no pending call has its id.
    Unknown(Option<EventId>),
    Call(EventId),
}

impl Names {
    pub(super) const fn call(&self) -> Option<EventId> {
        match self {
            Self::Call(id) => Some(*id),
            Self::Nothing | Self::Unknown(_) => None,
        }
    }
}

impl ClientMachine {
    pub(super) fn on_opened(&mut self, opened: Opened, now: Now) {
        if opened.event().pubkey != self.config.server {
            return self.drop_because(DropReason::WrongAuthor);
        }
        if self.closed {
            return self.drop_because(DropReason::Uncorrelated);
        }
        if let Some(reason) = self.session.refusal(&self.config, opened.protection()) {
            return self.drop_because(reason);
        }
        let protection = opened.protection();
        let mut news = self.session.hear(protection);
        let event = opened.into_event();
        news |= self.learn_tags(&event, now);
        if news {
            self.outputs.push_back(ClientOutput::Learned);
        }
        if let Err(reason) = self.take_message(&event, protection, now) {
            self.drop_because(reason);
        }
    }

    fn learn_tags(&mut self, event: &Event, now: Now) -> bool {
        let kept_promises = self.session.tags.repeats;
        let news = self.session.tags.learn(&event.tags);
        if news {
            self.facts.keep_tagged(event);
        }
        if self.session.tags.repeats && !kept_promises {
            self.arm_all(now);
        }
        news
    }

    /// Classifies by JSON-RPC type alone and hands on what the application is to see.
    fn take_message(&mut self, event: &Event, protection: Protection, now: Now) -> Result<(), DropReason> {
        let envelope = Envelope::parse(&event.content, &self.config.limits)
            .map_err(|error| if error.is_budget() { DropReason::Budget } else { DropReason::Malformed })?;
        let names = self.names(event);
        match envelope.kind {
            MessageKind::Response | MessageKind::Error
                if self.greeting.is_answered_by(tags::answered_id(&event.tags)) =>
            {
                self.begin_waiting(now);
                Ok(())
            }
            MessageKind::Response | MessageKind::Error
                if self.probe.is_answered_by(tags::answered_id(&event.tags)) =>
            {
                self.probe.pass(now);
                Ok(())
            }
            MessageKind::Response | MessageKind::Error => {
                let request = names.call().ok_or_else(|| self.unasked(event, now))?;
                self.take_answer(event, &envelope, &request, protection, now)
            }
            MessageKind::Notification => {
                if self.take_frame((event, protection), &envelope, &names, now)? {
                    return Ok(());
                }
                let message = self.take_notification(event, &envelope, &names, now)?;
                message.into_iter().for_each(|message| self.deliver(message));
                Ok(())
            }
            MessageKind::Request => {
                let message = self.take_request(event, &envelope, now)?;
                self.deliver(message);
                Ok(())
            }
        }
    }

    /// Says what an answer is that no call waits for: news once, and then a copy in another wrap, which anybody can make.
    fn unasked(&mut self, event: &Event, now: Now) -> DropReason {
        if self.heard.first_time(event.id, now.mono) {
            DropReason::Uncorrelated
        } else {
            DropReason::Duplicate
        }
    }

    fn names(&self, event: &Event) -> Names {
        if !tags::is_correlated(&event.tags) {
            return Names::Nothing;
        }
        let id = tags::answered_id(&event.tags);
        let is_asked = |id: &EventId| self.pending.get(id).is_some_and(|call| !call.uploading);
        id.filter(is_asked).map_or(Names::Unknown(id), Names::Call)
    }

    /// The first answer ends the call; the JSON-RPC id in it is not looked at.
    fn take_answer(
        &mut self,
        event: &Event,
        envelope: &Envelope<'_>,
        request: &EventId,
        protection: Protection,
        now: Now,
    ) -> Result<(), DropReason> {
        let call = self.take_answered(request, now).ok_or_else(|| self.unasked(event, now))?;
        self.learn_answer(&call, event, envelope);
        let message = rewrite::with_id(envelope, call.id.get());
        self.deliver_answer(message, (*request, event.id), protection);
        self.leave(request, &call, true, now);
        Ok(())
    }

    fn take_notification(
        &mut self,
        event: &Event,
        envelope: &Envelope<'_>,
        names: &Names,
        now: Now,
    ) -> Result<Option<String>, DropReason> {
        if matches!(names, Names::Unknown(_)) {
            return Err(DropReason::Uncorrelated);
        }
        if !self.heard.first_time(event.id, now.mono) {
            return Err(DropReason::Duplicate);
        }
        let method = envelope.method.as_deref().unwrap_or_default();
        match method {
            "notifications/progress" => return self.take_progress(&event.content, envelope, names, now),
            "notifications/cancelled" => {
                return self.take_cancellation(&event.content, envelope, names, now).map(Some);
            }
            _ => {}
        }
        let call = names.call().or_else(|| self.subscription(rewrite::subscription_id(envelope.params)?));
        if let Some(id) = call {
            self.sign_of_life(&id, now);
        }
        Ok(Some(event.content.clone()))
    }

    /// Progress belongs to the call that the `e` tag names; without one, to the call with that token.
    ///
    /// That of a token which the application does not know is no news to it.
    fn take_progress(
        &mut self,
        content: &str,
        envelope: &Envelope<'_>,
        names: &Names,
        now: Now,
    ) -> Result<Option<String>, DropReason> {
        let token = envelope.param(PROGRESS_TOKEN).map(rewrite::plain_text);
        let found = match &token {
            Some(token) => self.call_with(token, names)?,
            None if names.call().is_some() => return Err(DropReason::UnknownRequest),
            None => None,
        };
        let Some(id) = found else {
            let is_private = token.is_some_and(|token| self.tokens.is_private(&token));
            return if is_private { Err(DropReason::Uncorrelated) } else { Ok(Some(content.to_owned())) };
        };
        self.sign_of_life(&id, now);
        Ok(self.with_own_token(content, envelope, &id))
    }

    /// Finds the call with a token, which is the one that the `e` tag names if it names any.
    ///
    /// What a server of ours names is right: an unknown request is one of an earlier client with our key, whose
    /// application counted its tokens from one as well.
    pub(super) fn call_with(&self, token: &str, names: &Names) -> Result<Option<EventId>, DropReason> {
        let holder = self.tokens.holder(token);
        if let Names::Unknown(named) = names
            && self.session.tags.repeats
            && *named != holder
        {
            return Err(DropReason::Uncorrelated);
        }
        let is_other = names.call().is_some_and(|named| holder != Some(named));
        if is_other { Err(DropReason::UnknownRequest) } else { Ok(holder) }
    }

    /// Prints progress of a call with the application's own token; `None` if it gave none, or is not waiting any more.
    pub(super) fn with_own_token(
        &self,
        content: &str,
        envelope: &Envelope<'_>,
        call: &EventId,
    ) -> Option<String> {
        let own = self.pending.get(call)?.token.as_deref()?;
        let is_same = envelope.param(PROGRESS_TOKEN).is_some_and(|token| token.get() == own.get());
        Some(if is_same { content.to_owned() } else { rewrite::with_notified_token(envelope, own.get()) })
    }

    /// The server ends a subscription (MCP 2026-07-28), or takes a request of its own back: the application reads the
    /// id that it knows. What names neither is about nothing that is open.
    fn take_cancellation(
        &mut self,
        content: &str,
        envelope: &Envelope<'_>,
        names: &Names,
        now: Now,
    ) -> Result<String, DropReason> {
        let named = rewrite::cancelled_request_id(envelope.params).ok_or(DropReason::UnknownRequest)?;
        let ended = names.call().and_then(|id| self.end_subscription(&id, now));
        let ended = ended
            .or_else(|| self.asked.take_by_server_id(&json::id_form(named)).and_then(json::raw))
            .or_else(|| self.subscription(named).and_then(|id| self.end_subscription(&id, now)))
            .ok_or(DropReason::UnknownRequest)?;
        Ok(if ended.get() == named.get() {
            content.to_owned()
        } else {
            rewrite::with_cancelled_request_id(envelope, ended.get())
        })
    }

    /// Finds the open subscription with an id of the application.
    fn subscription(&self, id: &RawValue) -> Option<EventId> {
        let event = self.pending.by_id(&json::id_form(id))?;
        self.pending.get(&event).filter(|call| call.is_subscription()).map(|_| event)
    }

    /// Ends a call if it is a subscription, and returns the application's id.
    fn end_subscription(&mut self, event: &EventId, now: Now) -> Option<Box<RawValue>> {
        self.pending.get(event).filter(|call| call.is_subscription())?;
        let call = self.take_answered(event, now)?;
        self.leave(event, &call, true, now);
        Some(call.id)
    }

    /// Requests of the server are shown under its own id, or under the inner event id while that one is taken.
    fn take_request(
        &mut self,
        event: &Event,
        envelope: &Envelope<'_>,
        now: Now,
    ) -> Result<String, DropReason> {
        if !self.config.answer_server_requests {
            return Err(DropReason::Unsupported);
        }
        if self.asked.len() >= self.config.limits.in_flight_per_caller {
            return Err(DropReason::Busy);
        }
        if !self.heard.first_time(event.id, now.mono) {
            return Err(DropReason::Duplicate);
        }
        let id = envelope.id.ok_or(DropReason::Malformed)?;
        let id_form = json::id_form(id);
        let until = now.mono.after(self.config.limits.request_timeout.saturating_mul(retry::TOTAL_FACTOR));
        let taken = self.asked.has(&id_form);
        let shown = if taken { format!("\"{}\"", event.id.to_hex()) } else { id_form.clone() };
        let text = match json::raw(shown.clone()) {
            Some(shown) if taken => rewrite::with_id(envelope, shown.get()),
            Some(_) | None => event.content.clone(),
        };
        self.asked.insert(shown, event.id, id.to_owned(), id_form, until);
        Ok(text)
    }

    pub(super) fn sign_of_life(&mut self, id: &EventId, now: Now) {
        let timeout = self.config.limits.request_timeout;
        let chance = &mut self.chance;
        self.pending.change(id, |call| call.on_sign_of_life(timeout, now.mono, chance));
    }
}
