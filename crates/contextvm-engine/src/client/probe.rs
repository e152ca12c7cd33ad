//! The one question to a server of which it is not known whether it answers requests with tokens.
use core::time::Duration;

use alloc::format;
use contextvm_core::{Mono, Now, envelope, object};
use nostr::event::{EventId, Tags};

use super::{ClientMachine, ClientOutput, json};
use crate::Ticket;
use crate::size::event_len;

/// How late an answer may come: what hung in a server until then came out by another way.
const LIFE: Duration = Duration::from_secs(10);

/// A ping with a token, sent once in a session and never again; nothing waits for it.
#[derive(Debug, Default)]
pub(super) struct Probe {
    sent: Option<(EventId, Mono)>,
    /// It is on its way to the relays.
    ticket: Option<Ticket>,
    passed: bool,
}

impl Probe {
    /// Whether the server has answered a request with a token.
    pub(super) const fn is_passed(&self) -> bool {
        self.passed
    }

    /// Whether an event answers the ping.
    pub(super) fn is_answered_by(&self, named: Option<EventId>) -> bool {
        self.sent.is_some_and(|(event, _)| named == Some(event))
    }

    /// Takes the answer, of whatever kind.
    pub(super) fn pass(&mut self, now: Now) {
        self.passed |= self.sent.is_some_and(|(_, sent)| now.mono < sent.after(LIFE));
    }
}

impl ClientMachine {
    /// Asks with a token, if that was not done yet in this session.
    pub(super) fn probe_tokens(&mut self, now: Now) {
        if self.probe.sent.is_some() {
            return;
        }
        let token = object::quote(&self.tokens.choose(None).text);
        let params = json::raw(format!(r#"{{"_meta":{{"progressToken":{token}}}}}"#));
        let Some(id) = json::raw(token) else { return };
        let ping = envelope::request(&id, "ping", params.as_deref());
        let tags = Tags::from_list(self.request_tags(!self.session.is_announced()));
        let draft = self.unique.draft(self.me, now.unix, tags, ping);
        if event_len(&draft) > self.event_limit() {
            return;
        }
        let ticket = self.ticket();
        self.probe = Probe { sent: Some((draft.id, now.mono)), ticket: Some(ticket), passed: false };
        self.publish(ticket, draft);
    }

    /// Lets go of the ping whatever became of it; `false` when the ticket is of something else.
    pub(super) fn on_probe_published(&mut self, ticket: Ticket) -> bool {
        let is_ours = self.probe.ticket == Some(ticket);
        if is_ours {
            self.let_go_of_probe();
        }
        is_ours
    }

    /// The next session of the server is asked anew.
    pub(super) fn reset_probe(&mut self) {
        self.let_go_of_probe();
        self.probe = Probe::default();
    }

    pub(super) fn let_go_of_probe(&mut self) {
        self.outputs.extend(self.probe.ticket.take().map(ClientOutput::Forget));
    }
}
