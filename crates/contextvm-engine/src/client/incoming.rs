//! From the server to the application.
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::{Now, Opened, rewrite};
use nostr::event::{Event, EventId};
use serde_json::value::RawValue;

use super::{ClientMachine, ClientOutput, json, retry};
use crate::DropReason;

/// What the first `e` tag of an event says.
enum Names {
    Nothing,
    /// A tag is there, but no pending call has that id.
    Unknown,
    Call(EventId),
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
        let mut news = self.session.hear(opened.protection());
        let event = opened.into_event();
        news |= self.learn_tags(&event, now);
        if news {
            self.outputs.push_back(ClientOutput::Learned);
        }
        match self.take_message(&event, now) {
            Ok(text) => self.deliver(text),
            Err(reason) => self.drop_because(reason),
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

    /// Classifies by JSON-RPC type alone and returns what the application is to see.
    fn take_message(&mut self, event: &Event, now: Now) -> Result<String, DropReason> {
        let envelope = Envelope::parse(&event.content, &self.config.limits)
            .map_err(|error| if error.is_budget() { DropReason::Budget } else { DropReason::Malformed })?;
        let names = self.names(event);
        match envelope.kind {
            MessageKind::Response | MessageKind::Error => self.take_answer(event, &envelope, &names),
            MessageKind::Notification => self.take_notification(event, &envelope, &names, now),
            MessageKind::Request => self.take_request(event, &envelope, now),
        }
    }

    fn names(&self, event: &Event) -> Names {
        let Some(tag) = event.tags.iter().find(|tag| tag.kind() == "e") else {
            return Names::Nothing;
        };
        let id = tag.content().and_then(|hex| EventId::from_hex(hex).ok());
        id.filter(|id| self.pending.get(id).is_some()).map_or(Names::Unknown, Names::Call)
    }

    /// The first answer ends the call; the JSON-RPC id in it is not looked at.
    fn take_answer(
        &mut self,
        event: &Event,
        envelope: &Envelope<'_>,
        names: &Names,
    ) -> Result<String, DropReason> {
        let call = match names {
            Names::Call(id) => self.take_answered(id),
            Names::Nothing | Names::Unknown => None,
        };
        let call = call.ok_or(DropReason::Uncorrelated)?;
        if let Some(result) = envelope.result {
            self.facts.keep(&call.method, event, result);
            if call.method == "tools/list" {
                self.harmless.learn(result);
            }
        }
        Ok(rewrite::with_id(envelope, call.id.get()))
    }

    fn take_notification(
        &mut self,
        event: &Event,
        envelope: &Envelope<'_>,
        names: &Names,
        now: Now,
    ) -> Result<String, DropReason> {
        if matches!(names, Names::Unknown) {
            return Err(DropReason::Uncorrelated);
        }
        if !self.heard.first_time(event.id, now.mono) {
            return Err(DropReason::Duplicate);
        }
        let method = envelope.method.as_deref().unwrap_or_default();
        match method {
            "notifications/progress" => return self.take_progress(&event.content, envelope, names, now),
            "notifications/cancelled" => return Ok(self.take_cancellation(&event.content, envelope)),
            _ => {}
        }
        if let Names::Call(id) = names {
            self.sign_of_life(id, now);
        }
        Ok(event.content.clone())
    }

    /// Progress belongs to the call that the `e` tag names; without one, to the call with that token.
    fn take_progress(
        &mut self,
        content: &str,
        envelope: &Envelope<'_>,
        names: &Names,
        now: Now,
    ) -> Result<String, DropReason> {
        let token = rewrite::notified_token(envelope.params);
        let form = token.map(rewrite::plain_text);
        let same = |own: &RawValue| form.as_deref() == Some(&*rewrite::plain_text(own));
        let call = match names {
            Names::Call(id) => {
                let own = self.pending.get(id).and_then(|call| call.token.as_deref());
                if !own.is_some_and(same) {
                    return Err(DropReason::UnknownRequest);
                }
                Some(*id)
            }
            Names::Nothing | Names::Unknown => self.pending.by_token(same),
        };
        let Some(id) = call else {
            return Ok(content.to_owned());
        };
        self.sign_of_life(&id, now);
        let own = self.pending.get(&id).and_then(|call| call.token.as_deref());
        let restored = own.filter(|own| token.is_some_and(|token| token.get() != own.get()));
        Ok(restored
            .map_or_else(|| content.to_owned(), |own| rewrite::with_notified_token(envelope, own.get())))
    }

    /// The server takes a request of its own back: the application knows it under the id that it saw.
    fn take_cancellation(&mut self, content: &str, envelope: &Envelope<'_>) -> String {
        let named = rewrite::cancelled_request_id(envelope.params);
        let shown = named.and_then(|id| self.asked.take_by_server_id(&json::id_form(id)));
        let shown = shown.and_then(json::raw);
        let changed = shown.filter(|shown| named.is_some_and(|named| named.get() != shown.get()));
        changed.map_or_else(
            || content.to_owned(),
            |shown| rewrite::with_cancelled_request_id(envelope, shown.get()),
        )
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

    fn sign_of_life(&mut self, id: &EventId, now: Now) {
        let timeout = self.config.limits.request_timeout;
        let chance = &mut self.chance;
        self.pending.change(id, |call| call.on_sign_of_life(timeout, now.mono, chance));
    }
}
