//! What is said on a connection besides events: the subscription, its loss, and authentication.
use nostr::event::EventId;

use super::{AUTH, Auth, OVERLAP, Pool, Subscription, Timer, draw};
use crate::frame::{Filter, Said};
use crate::kernel::{Due, Kernel};
use crate::time::SEC;

/// A subscription that lived this long is not blamed for earlier refusals.
const LIVED: u64 = 60 * SEC;

impl Pool {
    pub(super) fn closed(&mut self, relay: u16, text: &str, kernel: &mut Kernel) {
        let now = kernel.now();
        let Some(line) = self.lines.get_mut(usize::from(relay)) else { return };
        match line.subscription {
            Subscription::Live { since } if now - since >= LIVED => line.reopen.reset(),
            Subscription::Live { .. } | Subscription::Asked => {}
            Subscription::Wanted | Subscription::Closed { .. } => return,
        }
        line.goes_quiet(now);
        kernel.net.is_changed = true;
        let can = matches!(line.auth, Auth::Idle | Auth::Sent(_));
        let wait = if text.starts_with("auth-required:") && can {
            line.auth_wanted = true;
            AUTH
        } else {
            line.reopen.next_upper(draw(&mut self.rng)).as_micros() as u64
        };
        line.subscription = Subscription::Closed { until: now + wait };
        self.talk(relay, kernel);
    }

    /// Subscribes and authenticates as far as it is time.
    pub(super) fn talk(&mut self, relay: u16, kernel: &mut Kernel) {
        let now = kernel.now();
        let (peer, life, key) = (self.peer, self.life, self.key);
        let Some(line) = self.lines.get_mut(usize::from(relay)) else { return };
        let connection = line.connection;
        let mut wait = None;
        match line.subscription {
            Subscription::Closed { until } if until > now => wait = Some(until),
            Subscription::Wanted | Subscription::Closed { .. } => {
                line.subscription = Subscription::Asked;
                let since =
                    line.seen.saturating_sub(OVERLAP).max(self.start).saturating_sub(self.filter.since);
                let filter = Filter { since, ..self.filter.clone() };
                kernel.say(peer, relay, Said::Req(filter));
            }
            Subscription::Asked | Subscription::Live { .. } => {}
        }
        if let (true, Auth::Idle, Some(challenge)) = (line.auth_wanted, line.auth, line.challenge.clone()) {
            match line.last_signature.map(|last| last + AUTH).filter(|at| *at > now) {
                Some(at) => wait = Some(wait.map_or(at, |wait| at.min(wait))),
                None => {
                    line.last_signature = Some(now);
                    let id = EventId::from_byte_array(self.rng.bytes());
                    line.auth = Auth::Sent(id);
                    kernel.say(peer, relay, Said::Auth { id, key, challenge });
                }
            }
        }
        // Many challenges wait for one and the same moment.
        if let Some(at) = wait
            && line.reopens != Some((at, connection))
        {
            line.reopens = Some((at, connection));
            let timer = Timer::Reopen { relay, connection };
            kernel.queue.at(at, Due::Pool { peer, life, timer });
        }
    }
}
