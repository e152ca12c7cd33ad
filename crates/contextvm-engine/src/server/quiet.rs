//! A pause behind transferred requests, which the existing SDKs know only once their end frame's publication has returned.
use alloc::collections::{BTreeMap, VecDeque};
use core::time::Duration;

use contextvm_core::{Draft, Mono, Now, tags};
use nostr::event::{Event, EventId};

use super::{ServerMachine, ServerOutput};
use crate::{Outbound, Ticket};

/// How long nothing is published that names such a request.
const PAUSE: Duration = Duration::from_millis(250);
/// Requests that are remembered for it.
const MOST: usize = 256;

/// Requests that nothing may name yet, and what waits for that.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    /// Oldest first.
    requests: VecDeque<(Mono, EventId)>,
    held: BTreeMap<(Mono, Ticket), Outbound>,
}

impl Quiet {
    pub(super) fn next_end(&self) -> Option<Mono> {
        self.held.keys().next().map(|(at, _)| *at)
    }

    /// Returns until when a draft has to wait.
    fn until(&self, draft: &Draft) -> Option<Mono> {
        if self.requests.is_empty() {
            return None;
        }
        let request = tags::answered_id(&draft.tags)?;
        self.requests.iter().find(|(_, id)| *id == request).map(|(until, _)| *until)
    }

    fn due(&mut self, now: Mono) -> Option<Outbound> {
        let first = self.held.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }
}

impl ServerMachine {
    /// Begins the pause of a request that came in many events, unless its caller is known to need none.
    pub(super) fn hush(&mut self, end: &Event, now: Now) {
        let session = self.sessions.get(&end.pubkey);
        if session.is_some_and(|session| session.tags.unordered_streams || session.tags.server_requests) {
            return;
        }
        if self.quiet.requests.len() >= MOST {
            self.quiet.requests.pop_front();
        }
        self.quiet.requests.push_back((now.mono.after(PAUSE), end.id));
    }

    /// Publishes what has waited long enough.
    pub(super) fn end_pauses(&mut self, now: Now) {
        while self.quiet.requests.front().is_some_and(|(until, _)| *until <= now.mono) {
            self.quiet.requests.pop_front();
        }
        while let Some(outbound) = self.quiet.due(now.mono) {
            self.out.push_back(ServerOutput::Publish(outbound));
        }
    }

    /// Publishes now, or behind the pause of the request that the event names.
    pub(super) fn post_out(&mut self, outbound: Outbound) {
        match self.quiet.until(&outbound.draft) {
            Some(until) => {
                self.quiet.held.insert((until, outbound.ticket), outbound);
            }
            None => self.out.push_back(ServerOutput::Publish(outbound)),
        }
    }
}
