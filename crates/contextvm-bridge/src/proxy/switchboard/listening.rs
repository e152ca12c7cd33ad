//! The one subscription that all hosts of earlier revisions share before a server of 2026-07-28.
//!
//! A server bounds the open requests of one caller, and to it all hosts are one; so the subscription asks for all that
//! any of them wants to hear. When that changes another takes its place, and the old one ends only when the server has
//! acknowledged the new one: nothing is missed in between.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use contextvm_core::envelope::Envelope;
use contextvm_core::rewrite::{Rewrite, SUBSCRIPTION_ID};

use super::calls::Call;
use super::filter::{Filter, URIS};
use super::texts::modern_params;
use super::{Act, Host, Purpose, Switchboard};
use crate::answer::{FAILED, Failure, METHOD_NOT_FOUND};
use crate::proxy::conversation::Heard;

/// First and longest pause before a subscription that ended is opened again; one that stood as long as the longest
/// begins with the first again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The pause before a server that did not know what a subscription is may be asked again.
const UNKNOWN: Duration = Duration::from_secs(3_600);
/// The names of all resources that hosts listen to, bytes: all are sent whenever one changes.
const NAMES: usize = 256 * 1024;

/// What is open on behalf of all upgraded hosts.
#[derive(Debug, Default)]
pub(super) struct Listening {
    /// What the server has acknowledged, and since when it stands.
    standing: Option<(Subscription, Instant)>,
    /// What the server has not acknowledged. There is one at a time: changes meanwhile wait for its end or success.
    opening: Option<Subscription>,
    /// Requests for updates of a resource, by their own ids, until a subscription that covers them stands.
    waiting: BTreeMap<String, String>,
    /// When a subscription that ended is opened again, and how many ended soon before.
    again: Option<Instant>,
    failures: u32,
}

#[derive(Debug)]
struct Subscription {
    own: String,
    filter: Filter,
}

impl Listening {
    /// A request is over, so it does not wait any more.
    pub(super) fn forget(&mut self, own: &str) {
        self.waiting.remove(own);
    }
}

impl Switchboard {
    /// Takes a host's request for updates of a resource.
    pub(super) fn subscribe(&mut self, host: u64, own: &str, uri: String) {
        let waits = |own: &String| self.calls.get(own).is_some_and(|call| call.host == host);
        let waiting = self.listening.waiting.keys().filter(|own| waits(own)).count();
        let known = self.upgrade_of(host).map_or(0, |upgrade| upgrade.wants.uris.len());
        let bytes: usize = self.wanted().uris.iter().map(String::len).sum();
        if known.saturating_add(waiting) >= URIS || bytes.saturating_add(uri.len()) > NAMES {
            let why = "too many resources are subscribed to";
            return self.failure_for(own, &Failure::new(FAILED, "busy", why));
        }
        self.listening.waiting.insert(own.to_owned(), uri);
        self.listen();
    }

    /// Takes a host's request to hear no more of a resource; earlier requests for it that still wait are over, too.
    pub(super) fn unsubscribe(&mut self, host: u64, own: &str, uri: &str) {
        if let Some(upgrade) = self.upgrade_of(host) {
            upgrade.wants.uris.remove(uri);
        }
        for earlier in self.take_waiting(|call, wanted| call.host == host && wanted == uri) {
            self.result_for(&earlier, "{}");
        }
        self.result_for(own, "{}");
        self.listen();
    }

    /// A host's session is over while the host is still there.
    pub(super) fn stop_listening(&mut self, host: u64) {
        let failure = Failure::new(FAILED, "session_ended", "the host began another session");
        for own in self.take_waiting(|call, _| call.host == host) {
            self.failure_for(&own, &failure);
        }
        self.listen();
    }

    /// Brings the subscription in line with what the hosts want to hear by now.
    pub(super) fn listen(&mut self) {
        self.answer_waiting();
        let wanted = self.wanted();
        let listening = &mut self.listening;
        if wanted == Filter::default() {
            listening.again = None;
            let standing = listening.standing.take().map(|(standing, _)| standing);
            for over in [standing, listening.opening.take()].into_iter().flatten() {
                self.end(&over, "no host listens any more");
            }
            return;
        }
        let stands = listening.standing.as_ref().is_some_and(|(standing, _)| standing.filter == wanted);
        // A pause is cut short only for a host that waits.
        let pauses = listening.again.is_some() && listening.waiting.is_empty();
        if listening.opening.is_some() || stands || pauses {
            return;
        }
        listening.again = None;
        let params = modern_params(&format!(r#""notifications":{},"#, wanted.to_text()));
        let own = self.own_request(Purpose::Listen, "subscriptions/listen", &params);
        self.listening.opening = Some(Subscription { own, filter: wanted });
    }

    /// All that any host hears or waits to hear.
    fn wanted(&self) -> Filter {
        let mut wanted = Filter::default();
        for upgrade in self.hosts.values().filter_map(|host| host.upgrade.as_ref()) {
            wanted.add(&upgrade.wants);
        }
        wanted.uris.extend(self.listening.waiting.values().cloned());
        wanted
    }

    /// Takes out requests that wait, chosen by their calls and resources; returns their own ids.
    fn take_waiting(&mut self, chosen: impl Fn(&Call, &str) -> bool) -> Vec<String> {
        let calls = &self.calls;
        let is_chosen = |own: &String, uri: &mut String| calls.get(own).is_some_and(|call| chosen(call, uri));
        self.listening.waiting.extract_if(.., is_chosen).map(|(own, _)| own).collect()
    }

    /// Answers the requests that the standing subscription covers.
    fn answer_waiting(&mut self) {
        let Some((standing, _)) = &self.listening.standing else { return };
        let covered = |_: &String, uri: &mut String| standing.filter.uris.contains(uri);
        let covered: Vec<_> = self.listening.waiting.extract_if(.., covered).collect();
        for (own, uri) in covered {
            let host = self.calls.get(&own).map(|call| call.host);
            if let Some(upgrade) = host.and_then(|host| self.upgrade_of(host)) {
                upgrade.wants.uris.insert(uri);
            }
            self.result_for(&own, "{}");
        }
    }

    fn end(&mut self, subscription: &Subscription, reason: &str) {
        self.purposes.remove(&subscription.own);
        self.tell_cancelled(&subscription.own, reason);
    }

    /// Tells the hosts that want it what the subscription brought.
    pub(super) fn listened(&mut self, own: &str, method: &str, message: &Envelope<'_>, now: Instant) {
        // Whatever comes shows that it stands: on the way one message may overtake another.
        if let Some(new) = self.listening.opening.take_if(|opening| opening.own == own) {
            if let Some((old, _)) = self.listening.standing.replace((new, now)) {
                self.end(&old, "replaced by another subscription");
            }
            self.listening.again = None;
            self.listen();
        }
        let wants = |host: &Host| {
            host.upgrade.as_ref().is_some_and(|upgrade| upgrade.wants.wants(method, message.params))
        };
        let told = self.hosts.iter().filter(|(_, host)| wants(host));
        let text = Rewrite::of(message).without_meta(SUBSCRIPTION_ID).to_text();
        let heard = Heard { text, about: None };
        self.acts.extend(told.map(|(host, _)| Act::Host(*host, heard.clone())));
    }

    /// A subscription that ended is opened again after a while; who waited for it learns that it did not come about.
    pub(super) fn listen_ended(&mut self, own: &str, end: &Envelope<'_>, now: Instant) {
        let listening = &mut self.listening;
        if let Some(opening) = listening.opening.take_if(|opening| opening.own == own) {
            let failure = Failure::new(FAILED, "subscription_ended", "the server ended the subscription");
            for own in self.take_waiting(|_, uri| opening.filter.uris.contains(uri)) {
                self.failure_for(&own, &failure);
            }
        } else if let Some((_, since)) = listening.standing.take_if(|(standing, _)| standing.own == own)
            && now.duration_since(since) >= PAUSES.1
        {
            listening.failures = 0;
        }
        let listening = &mut self.listening;
        let pause = match end.error_code() {
            Some(METHOD_NOT_FOUND) => UNKNOWN,
            _ => PAUSES.0.saturating_mul(1 << listening.failures).min(PAUSES.1),
        };
        listening.failures = listening.failures.saturating_add(1).min(6);
        listening.again = Some(now + pause);
        // Who began to wait since is not refused for what others asked for.
        self.listen();
    }

    pub(super) fn listen_sweep(&mut self, now: Instant) {
        if self.listening.again.take_if(|again| *again <= now).is_some() {
            self.listen();
        }
    }
}
