//! What callers are told whose requests are not acted on, or whose answers are not kept any more.
use alloc::boxed::Box;
use alloc::string::ToString;

use contextvm_core::envelope::{self, Envelope, MessageKind};
use contextvm_core::{Now, Protection};
use nostr::event::Event;
use serde_json::value::RawValue;

use super::inbound::{REFUSED, TRANSFERRED_ID};
use super::journal::Interrupted;
use super::outbound::error_text;
use super::waiting::Letter;
use super::{RequestKey, ServerMachine};
use crate::DropReason;

/// What the caller of a request is told that was taken, and whose answer we do not have: it was interrupted by a restart,
/// or answered long ago.
const LOST: &str = "Executed or interrupted; its answer is not kept";

/// A message that is not acted on.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) letter: Box<Letter>,
    pub(super) reason: DropReason,
}

impl Refused {
    pub(super) fn new(letter: Letter, reason: DropReason) -> Self {
        Self { letter: Box::new(letter), reason }
    }
}

impl ServerMachine {
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

    /// There is no room for a request: an established caller is told, anybody else may ask again.
    pub(super) fn busy(
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

    /// A message is not acted on: its caller is told where it waits, and where we can afford it.
    pub(super) fn turned_down(&mut self, letter: Letter, reason: DropReason, now: Now) -> DropReason {
        let key = RequestKey { caller: letter.event.pubkey, id: letter.event.id };
        if matches!(reason, DropReason::Busy | DropReason::SeenFull)
            && self.sessions.is_established(&key.caller)
            // Without a store, another run could take what is stamped ahead of its start.
            && (self.config.durable || !self.is_early(&letter.event, now))
            && !self.ledger.holds(&key)
            && self.seen.has_last_room()
            && let Ok(message) = Envelope::parse(letter.message(), &self.config.limits)
            && let Some(id) = message.id.filter(|_| message.kind == MessageKind::Request)
            // It is stored beside the end frame.
            && (letter.text.is_none() || id.get().len() <= TRANSFERRED_ID)
            && self.may_tell(key, now)
        {
            self.busy(&letter.event, &message, id, letter.protection, now);
        }
        // To be silent about access is our policy, and for the other two nobody waits.
        let is_said = self.ledger.holds(&key)
            || matches!(
                reason,
                DropReason::NotAllowed | DropReason::UnknownRequest | DropReason::Uncorrelated
            );
        // Nothing of it is left, so its last frame alone would never complete it.
        if letter.text.is_some() && !is_said {
            self.turn_away(&letter.event, reason, now);
        }
        reason
    }

    /// Answers an event that was accepted before, as far as that is due; says whether anything was said.
    ///
    /// What a relay had kept for longer than a caller waits is no question: after a restart every relay hands over what
    /// was asked in the last ten minutes.
    pub(super) fn repeat(&mut self, event: &Event, protection: Protection, stored: bool, now: Now) -> bool {
        let key = RequestKey { caller: event.pubkey, id: event.id };
        !(stored && self.is_late(event, now))
            && (self.answer_again(key, now) || self.tell_lost(key, event, protection, now))
    }

    /// Whether the author of an event does not wait any more.
    pub(super) const fn is_late(&self, event: &Event, now: Now) -> bool {
        let until = event.created_at.as_secs().saturating_add(self.config.limits.request_timeout.as_secs());
        until < now.unix
    }

    /// Tells a caller that we do not have the answer to a request that was taken; says whether it was told.
    fn tell_lost(&mut self, key: RequestKey, event: &Event, protection: Protection, now: Now) -> bool {
        if self.routes.get(&key).is_some() || self.ledger.holds(&key) || self.answers.holds(&key) {
            return false;
        }
        let (travelled, id) = match self.journal.take_interrupted(&key) {
            Some(Interrupted { protection, id }) => (Some(protection), id),
            None => (None, None),
        };
        let id = id.or_else(|| {
            let message = Envelope::parse(&event.content, &self.config.limits).ok()?;
            message.id.filter(|_| message.kind == MessageKind::Request).map(|id| id.get().to_string())
        });
        let Some(id) = id.filter(|_| travelled.is_some() || self.may_tell(key, now)) else { return false };
        let travelled = travelled.filter(|travelled| travelled.is_encrypted()).unwrap_or(protection);
        self.publish_answer(key, travelled, error_text(&id, REFUSED, LOST), now)
    }

    /// Whether an answer that nobody asked the application for may be given to a caller; if so, it is counted.
    fn may_tell(&mut self, key: RequestKey, now: Now) -> bool {
        let is_known = self.sessions.is_established(&key.caller);
        let budget = if is_known { &mut self.regrets } else { &mut self.refusals };
        budget.take(key, now.mono)
    }
}
