//! Events that wait for the application's word about their caller, or for their second.
use core::time::Duration;

use contextvm_core::capability::Capability;
use contextvm_core::envelope::Envelope;
use contextvm_core::{Mono, Now};
use nostr::event::Event;
use nostr::key::PublicKey;

use super::access::{Question, Verdict};
use super::inbound::{Entered, reason};
use super::outbound::is_progress;
use super::refusing::Refused;
use super::waiting::{Held, Letter};
use super::{ServerMachine, ServerOutput};
use crate::DropReason;

/// How often we look whether the second of an early event has come.
const EARLY_LOOK: Duration = Duration::from_millis(100);

impl ServerMachine {
    /// Whether an event must wait for its second, so that what was done before a restart is stamped before it. A key that is
    /// never served again has no restart.
    pub(super) const fn is_early(&self, event: &Event, now: Now) -> bool {
        (self.config.accept_from > 0 || self.config.durable) && event.created_at.as_secs() > now.unix
    }

    /// Lets an event that was let in wait for its second, unless by then nobody waits for its answer.
    pub(super) fn hold(&mut self, held: Held, now: Now) -> Result<(), Refused> {
        let ahead = Duration::from_secs(held.letter.event.created_at.as_secs().saturating_sub(now.unix));
        if ahead > self.config.limits.request_timeout {
            return Err(Refused::new(held.letter, DropReason::Stale));
        }
        // The clock shows whole seconds: the next one may begin at any moment.
        let look = now.mono.after(ahead.saturating_sub(Duration::from_secs(1)) + EARLY_LOOK);
        // However many wait, they all look in the same moment.
        let next_look = Mono(look.0.next_multiple_of(EARLY_LOOK.as_millis() as u64));
        let established = self.sessions.is_established(&held.letter.event.pubkey);
        let refused = self.waiting.hold(held, next_look, established);
        refused.map_or(Ok(()), |held| Err(Refused::new(held.letter, DropReason::Busy)))
    }

    /// Takes note of the application's word, or of its silence.
    pub(super) fn verdict(&mut self, question: u64, allow: bool, now: Now) {
        let Some(caller) = self.waiting.answered(question) else { return };
        let mut known = None;
        if let Some(head) = self.waiting.head(&caller) {
            match &head.verdict {
                Verdict::AskCapability(_) if allow => head.verdict = Verdict::Pass { member: false },
                Verdict::AskCapability(_) => head.verdict = self.config.access.decide_key(&caller),
                Verdict::AskKey => known = Some(allow),
                Verdict::Pass { .. } | Verdict::Deny => {}
            }
        }
        self.advance(caller, known, now);
    }

    /// Lets the line of one caller move on until a question must be asked. A word about the key counts for all
    /// events in line that depend on nothing else.
    pub(super) fn advance(&mut self, caller: PublicKey, known: Option<bool>, now: Now) {
        while let Some(head) = self.waiting.head(&caller) {
            let question = match (&head.verdict, known) {
                (Verdict::AskKey, Some(allow)) => {
                    head.verdict = if allow { Verdict::Pass { member: true } } else { Verdict::Deny };
                    None
                }
                (Verdict::AskKey, None) => Some(Question::Key(caller)),
                (Verdict::AskCapability(Capability { method, name }), _) => {
                    Some(Question::Capability { method: method.clone(), name: name.clone() })
                }
                (Verdict::Pass { .. } | Verdict::Deny, _) => None,
            };
            if let Some(question) = question {
                let id = self.waiting.ask(caller, now.mono.after(self.config.limits.access_timeout));
                self.out.push_back(ServerOutput::Ask { id, question });
                return;
            }
            let Some(held) = self.waiting.pop(&caller) else { return };
            self.release(held, now);
        }
    }

    /// Goes on with an event whose verdict is known by now.
    pub(super) fn release(&mut self, held: Held, now: Now) {
        let event = held.letter.event.id;
        let is_passed = matches!(held.verdict, Verdict::Pass { .. });
        let gone_on = if is_passed && self.is_early(&held.letter.event, now) {
            self.hold(held, now)
        } else {
            let Held { letter, verdict } = held;
            match self.go_on(&letter, &verdict, now) {
                Ok(entered) => {
                    self.hand_over(letter, entered, now);
                    Ok(())
                }
                Err(reason) => Err(Refused::new(letter, reason)),
            }
        };
        if let Err(refused) = gone_on {
            let reason = self.turned_down(*refused.letter, refused.reason, now);
            self.out.push_back(ServerOutput::Refused { event, reason });
        }
    }

    fn go_on(&mut self, letter: &Letter, verdict: &Verdict, now: Now) -> Entered {
        self.check_policy(&letter.event, letter.protection)?;
        let message =
            Envelope::parse(letter.message(), &self.config.limits).map_err(|error| reason(&error))?;
        let Verdict::Pass { member } = *verdict else {
            if let Some(session) = self.sessions.get_mut(&letter.event.pubkey) {
                session.member = false;
            }
            return Err(self.refuse(&letter.event, &message, letter.protection, now));
        };
        if letter.text.is_none()
            && is_progress(&message)
            && let Some(taken) = self.take_frame(&letter.event, &message, (letter.protection, false), now)
        {
            return taken.map(|()| None);
        }
        self.enter(&letter.event, &message, letter.protection, member, now)
    }
}
