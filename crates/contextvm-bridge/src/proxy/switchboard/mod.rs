//! Who gets what: a proxy's decisions, without any input or output of its own.
//!
//! Several hosts share one identity on Nostr. Their requests travel under ids and progress tokens of the switchboard, so
//! that hosts which count from one never meet. A host and a server of different MCP eras are translated for each other:
//! [`downgrade`] for a host of 2026-07-28 before an older server, [`upgrade`] for the reverse.
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use contextvm_core::Limits;
use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::object::{self, quote};
use contextvm_core::rewrite;
use serde_json::value::RawValue;

use super::conversation::Heard;
use crate::answer::{FAILED, Failure, INVALID_REQUEST};

mod calls;
mod downgrade;
mod filter;
mod heard;
mod texts;
mod upgrade;

use calls::{Call, Calls, Path, renamed};
use downgrade::Downgrade;
use texts::{modern_params, request_text, with_result_subscription};
use upgrade::Upgrade;

/// How long a server may take to show which era it speaks before it is taken for an older one.
const PROBE: Duration = Duration::from_secs(20);
/// How long a server that has never said anything may take: less than hosts wait for the answer to `initialize`.
const SILENT: Duration = Duration::from_secs(45);
/// A server of 2026-07-28 may end subscriptions of a client that says nothing for long; so something is said before.
const LEASE: Duration = Duration::from_secs(600);
/// A call without any news for this long gets progress from the proxy, so that its host keeps waiting.
const QUIET: Duration = Duration::from_secs(15);
/// Reasons of the errors that our own client gives in place of an answer.
pub(super) const LOCAL: [&str; 3] = ["no_reply", "not_sent", "closed"];
/// Requests of the server that may wait for hosts.
const ASKED: usize = 256;
/// By how much such progress grows; real progress soon overtakes it.
const CRUMB: f64 = 1e-6;

/// What is to be done next.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Send a message to the server.
    Server(String),
    /// Send a message to a host.
    Host(u64, Heard),
}

/// What is known of one host.
#[derive(Debug, Default)]
struct Host {
    /// It has a session: it spoke without the `_meta` of 2026-07-28.
    session: bool,
    /// Its `initialize`, until that is answered.
    opening: Option<Opening>,
    /// Present when its messages are translated.
    upgrade: Option<Upgrade>,
}

/// An `initialize` that a host waits for.
#[derive(Debug)]
struct Opening {
    own: String,
    text: String,
    /// What the server answered, while it is asked whether it can do without.
    refusal: Option<String>,
}

/// Which revision the server is known to speak without `initialize`.
#[derive(Debug)]
enum Era {
    Unknown,
    /// Asked, and what waits for the answer.
    Probing {
        own: String,
        since: Instant,
        held: Vec<(String, String)>,
    },
    Modern,
    Legacy,
}

/// What a request of the switchboard itself is for.
#[derive(Clone, Debug)]
enum Purpose {
    /// Nobody is interested in its answer.
    Nothing,
    /// Finds out which era the server speaks.
    Probe,
    /// Opens the session that hosts of 2026-07-28 share with an older server.
    Open,
    /// Asks a server of 2026-07-28 about itself, for a host that said `initialize` in the call of this id.
    Discover { host: u64 },
    /// Listens for a host of an earlier revision.
    Listen { host: u64 },
}

/// The proxy's memory.
#[derive(Debug)]
pub(super) struct Switchboard {
    limits: Limits,
    hosts: BTreeMap<u64, Host>,
    calls: Calls,
    purposes: BTreeMap<String, Purpose>,
    /// The server's open requests: by its id, the host that was asked.
    asked: BTreeMap<String, u64>,
    era: Era,
    down: Downgrade,
    acts: VecDeque<Act>,
    /// When something was said to the server last.
    said: Option<Instant>,
    /// The server has said something since the connection was made.
    spoken: bool,
    next: u64,
    nonce: u64,
}

impl Switchboard {
    /// Makes an empty one; `nonce` keeps what it hands out for later apart from that of earlier runs.
    pub(super) fn new(limits: Limits, nonce: u64) -> Self {
        Self {
            limits,
            hosts: BTreeMap::new(),
            calls: Calls::default(),
            purposes: BTreeMap::new(),
            asked: BTreeMap::new(),
            era: Era::Unknown,
            down: Downgrade::default(),
            acts: VecDeque::new(),
            said: None,
            spoken: false,
            next: 0,
            nonce,
        }
    }

    /// Returns what is to be done next; to be called until `None`.
    pub(super) fn poll(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    pub(super) fn opened(&mut self, host: u64) {
        self.hosts.insert(host, Host::default());
    }

    /// Cancels what a host that is gone has left open.
    pub(super) fn closed(&mut self, host: u64) {
        for own in self.calls.of_host(host) {
            self.cancel(&own, "the host is gone");
        }
        if let Some(listen) = self.hosts.remove(&host).and_then(|host| host.upgrade).and_then(|up| up.listen)
        {
            self.purposes.remove(&listen);
            self.tell_cancelled(&listen, "the host is gone");
        }
        let unanswered: Vec<String> =
            self.asked.iter().filter(|(_, asked)| **asked == host).map(|(id, _)| id.clone()).collect();
        for id in unanswered {
            self.asked.remove(&id);
            self.refuse_server(&id, FAILED, "host_gone", "the host that was asked is gone");
        }
    }

    /// The connection to the server was made, perhaps anew: what must stay open is opened again.
    pub(super) fn reconnected(&mut self) {
        self.down_reconnected();
        let upgraded: Vec<u64> =
            self.hosts.iter().filter(|(_, host)| host.upgrade.is_some()).map(|(host, _)| *host).collect();
        for host in upgraded {
            self.up_listen(host);
        }
    }

    /// The connection to the server is gone, with everything that was open on it.
    pub(super) fn lost(&mut self, failure: &Failure) {
        let open: Vec<String> = self.calls.iter().map(|(own, _)| own.clone()).collect();
        for own in open {
            self.failure_for(&own, failure);
        }
        self.spoken = false;
        self.purposes.clear();
        self.asked.clear();
        self.down.lost();
        if matches!(self.era, Era::Probing { .. }) {
            self.era = Era::Unknown;
        }
        for host in self.hosts.values_mut() {
            host.opening = None;
            if let Some(upgrade) = &mut host.upgrade {
                upgrade.lost();
            }
        }
    }

    /// Keeps hosts waiting for calls that take long, and gives up on what nobody will ever finish; `silence` says what
    /// a host is told of a server that has never said anything.
    pub(super) fn sweep(&mut self, now: Instant, silence: &dyn Fn(Duration) -> Failure) {
        let given_up =
            |call: &Call| !self.spoken && call.is_work() && now.duration_since(call.asked) >= SILENT;
        let silent: Vec<String> =
            self.calls.iter().filter(|(_, call)| given_up(call)).map(|(own, _)| own.clone()).collect();
        for own in silent {
            self.failure_for(&own, &silence(SILENT));
            self.tell_cancelled(&own, "no answer");
        }
        let mut crumbs = Vec::new();
        for (_, call) in self.calls.iter_mut() {
            if let (Some(token), true) = (&call.token, now.duration_since(call.moved) >= QUIET)
                && call.is_work()
            {
                call.moved = now;
                call.progress += CRUMB;
                let text = format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{},"progress":{},"message":"waiting for the server"}}}}"#,
                    token.get(),
                    call.progress,
                );
                crumbs.push(Act::Host(call.host, Heard { text, about: Some(call.id.clone()) }));
            }
        }
        self.acts.extend(crumbs);
        if let Era::Probing { since, .. } = &self.era
            && now.duration_since(*since) >= PROBE
        {
            self.probed(false, now);
        }
        self.renew_leases(now);
        self.down_sweep(now);
        self.up_sweep(now);
    }

    /// Says something to a server that a subscription is open with, if nobody has for long.
    fn renew_leases(&mut self, now: Instant) {
        let listening = self.calls.iter().any(|(_, call)| !call.is_work() && call.path == Path::Straight)
            || self.purposes.values().any(|purpose| matches!(purpose, Purpose::Listen { .. }));
        match self.said {
            Some(said) if listening && now.duration_since(said) >= LEASE => {
                self.own_request(Purpose::Nothing, "server/discover", &modern_params("{}"));
                self.said = Some(now);
            }
            Some(_) => {}
            None => self.said = Some(now),
        }
    }

    /// Takes one message of a host.
    pub(super) fn hear_host(&mut self, host: u64, text: &str, now: Instant) {
        let Ok(message) = Envelope::parse(text, &self.limits) else { return };
        self.said = Some(now);
        match message.kind {
            MessageKind::Request => self.host_asks(host, &message, now),
            MessageKind::Notification => self.host_says(host, &message),
            MessageKind::Response | MessageKind::Error => self.host_answers(host, &message),
        }
    }

    /// Nobody waits for this request any more.
    pub(super) fn abandon(&mut self, host: u64, id: &RawValue) {
        if let Some(own) = self.calls.own_of(host, id) {
            self.cancel(&own, "the host stopped waiting");
        }
    }

    fn host_asks(&mut self, host: u64, message: &Envelope<'_>, now: Instant) {
        let Some(id) = message.id else { return };
        let refuse = |failure: Failure| {
            Act::Host(host, Heard { text: failure.answer(id), about: Some(id.to_owned()) })
        };
        if self.calls.len() >= self.limits.pending {
            self.acts.push_back(refuse(Failure::new(
                FAILED,
                "busy",
                "too many requests wait for the server",
            )));
            return;
        }
        let own = self.own_id();
        if self.calls.open(own.clone(), host, message, now).is_none() {
            let failure = Failure::new(INVALID_REQUEST, "id_in_use", "a request with this id is still open");
            self.acts.push_back(refuse(failure));
            return;
        }
        let method = message.method.as_deref().unwrap_or_default();
        if rewrite::protocol_version(message.params).is_some() || method == "server/discover" {
            let text = renamed(message, &own).to_text();
            return self.modern_request(own, text, now);
        }
        let state = self.hosts.entry(host).or_default();
        state.session = true;
        if method == "initialize" {
            state.opening =
                Some(Opening { own: own.clone(), text: message.text().to_owned(), refusal: None });
            state.upgrade = None;
        } else if state.upgrade.is_some() {
            return self.up_request(host, &own, message);
        }
        self.acts.push_back(Act::Server(renamed(message, &own).to_text()));
    }

    /// Sends a request of 2026-07-28 the way that suits the server.
    fn modern_request(&mut self, own: String, text: String, now: Instant) {
        match &mut self.era {
            Era::Modern => self.acts.push_back(Act::Server(text)),
            Era::Legacy => self.down_request(&own, &text, now),
            Era::Probing { held, .. } => held.push((own, text)),
            Era::Unknown => {
                let discovering = self.calls.get(&own).is_some_and(|call| call.method == "server/discover");
                if discovering {
                    // The host's own question shows it just as well.
                    self.era = Era::Probing { own, since: now, held: Vec::new() };
                    self.acts.push_back(Act::Server(text));
                    return;
                }
                let probe = self.own_request(Purpose::Probe, "server/discover", &modern_params("{}"));
                self.era = Era::Probing { own: probe, since: now, held: vec![(own, text)] };
            }
        }
    }

    /// The server has shown which era it speaks; what waited for that goes on.
    fn probed(&mut self, modern: bool, now: Instant) {
        let next = if modern { Era::Modern } else { Era::Legacy };
        let Era::Probing { own, held, .. } = core::mem::replace(&mut self.era, next) else { return };
        if !modern && self.calls.get(&own).is_some() {
            self.down_request(&own, &request_text(&own, "server/discover", &modern_params("{}")), now);
        }
        for (own, text) in held {
            if self.calls.get(&own).is_some() {
                self.modern_request(own, text, now);
            }
        }
    }

    /// It could not be found out; whoever waits learns why, and the next request tries again.
    fn not_probed(&mut self, answer: &Envelope<'_>) {
        let Era::Probing { held, .. } = core::mem::replace(&mut self.era, Era::Unknown) else { return };
        for (own, _) in held {
            self.answer_host(&own, answer);
        }
    }

    fn host_says(&mut self, host: u64, message: &Envelope<'_>) {
        let method = message.method.as_deref().unwrap_or_default();
        if method == "notifications/cancelled" {
            let own =
                rewrite::cancelled_request_id(message.params).and_then(|id| self.calls.own_of(host, id));
            let Some(own) = own else { return };
            let reason = rewrite::param(message.params, "reason").and_then(object::string);
            self.cancel(&own, reason.as_deref().unwrap_or("cancelled by the host"));
        } else if self.hosts.get(&host).is_some_and(|host| host.upgrade.is_some()) {
            self.up_notification(host, method);
        } else {
            self.acts.push_back(Act::Server(message.text().to_owned()));
        }
    }

    fn host_answers(&mut self, host: u64, message: &Envelope<'_>) {
        let Some(id) = message.id else { return };
        if self.asked.get(id.get()) == Some(&host) {
            self.asked.remove(id.get());
            self.acts.push_back(Act::Server(message.text().to_owned()));
        } else {
            self.up_answer(host, message);
        }
    }

    fn refuse_server(&mut self, id: &str, code: i64, reason: &str, why: &str) {
        if let Some(id) = crate::answer::raw(id.to_owned()) {
            self.acts.push_back(Act::Server(Failure::new(code, reason, why).answer(&id)));
        }
    }

    /// Answers a host's request as the server did, under the host's id.
    fn answer_host(&mut self, own: &str, message: &Envelope<'_>) {
        let Some(call) = self.calls.close(own) else { return };
        let text = rewrite::with_id(message, call.id.get());
        let text = match call.is_work() {
            true => text,
            false => with_result_subscription(&text, &call.id),
        };
        self.acts.push_back(Act::Host(call.host, Heard { text, about: Some(call.id) }));
    }

    /// Answers a host's request with a result of the switchboard's own.
    fn result_for(&mut self, own: &str, result: &str) {
        let Some(call) = self.calls.close(own) else { return };
        let text = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, call.id.get());
        self.acts.push_back(Act::Host(call.host, Heard { text, about: Some(call.id) }));
    }

    fn failure_for(&mut self, own: &str, failure: &Failure) {
        let Some(call) = self.calls.close(own) else { return };
        self.acts
            .push_back(Act::Host(call.host, Heard { text: failure.answer(&call.id), about: Some(call.id) }));
    }

    /// Ends a call that its host does not want any more.
    fn cancel(&mut self, own: &str, reason: &str) {
        let Some(call) = self.calls.close(own) else { return };
        if let Some(host) = self.hosts.get_mut(&call.host)
            && let Some(up) = &mut host.upgrade
        {
            up.forget_round(own);
        }
        if !self.down_cancelled(own) {
            let wire = self.down_wire_name(own);
            self.tell_cancelled(&wire, reason);
        }
    }

    fn tell_cancelled(&mut self, own: &str, reason: &str) {
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{},"reason":{}}}}}"#,
            quote(own),
            quote(reason),
        );
        self.acts.push_back(Act::Server(text));
    }

    fn own_id(&mut self) -> String {
        self.next = self.next.saturating_add(1);
        format!("cvm-{}", self.next)
    }

    /// Sends a request of the switchboard's own; returns its id.
    fn own_request(&mut self, purpose: Purpose, method: &str, params: &str) -> String {
        let own = self.own_id();
        self.purposes.insert(own.clone(), purpose);
        self.acts.push_back(Act::Server(request_text(&own, method, params)));
        own
    }
}

#[cfg(test)]
mod tests;
