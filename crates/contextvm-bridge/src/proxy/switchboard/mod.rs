//! Who gets what: a proxy's decisions, without any input or output of its own.
//!
//! Several hosts share one identity on Nostr. Their requests travel under ids and progress tokens of the switchboard, so
//! that hosts which count from one never meet. A host and a server of different MCP eras are translated for each other:
//! [`downgrade`] for a host of 2026-07-28 before an older server, [`upgrade`] for the reverse.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::RandomState;
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
mod era;
mod filter;
mod heard;
mod listening;
mod opening;
mod questions;
mod sharing;
mod texts;
mod upgrade;

use calls::{Call, Calls, Path, renamed};
use downgrade::Downgrade;
use era::Era;
use listening::Listening;
use opening::Opening;
use questions::Asked;
use texts::{modern_params, request_text, with_result_subscription};
use upgrade::Upgrade;

/// How long a server that has never said anything may take: less than hosts wait for the answer to `initialize`.
const SILENT: Duration = Duration::from_secs(45);
/// A server of 2026-07-28 may end subscriptions of a client that says nothing for long; so something is said before.
const LEASE: Duration = Duration::from_secs(600);
/// A call without any news for this long gets progress from the proxy, so that its host keeps waiting.
const QUIET: Duration = Duration::from_secs(15);
/// Reasons of the errors that our own client gives in place of an answer.
pub(super) const LOCAL: [&str; 3] = ["no_reply", "not_sent", "closed"];
/// By how much such progress grows; real progress soon overtakes it.
const CRUMB: f64 = 1e-6;
/// Beyond this progress such a step would be lost in the number.
const FAR: f64 = 1e9;

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
    /// What it said after its `initialize`, which comes first: messages, and of requests the own ids.
    held: Vec<(Option<String>, String)>,
    /// Present when its messages are translated.
    upgrade: Option<Upgrade>,
    /// The resources it subscribed to, if its messages are not translated.
    uris: BTreeSet<String>,
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
    /// Listens for the hosts of earlier revisions.
    Listen,
}

/// The proxy's memory.
#[derive(Debug)]
pub(super) struct Switchboard {
    limits: Limits,
    hosts: BTreeMap<u64, Host>,
    calls: Calls,
    purposes: BTreeMap<String, Purpose>,
    asked: Asked,
    era: Era,
    down: Downgrade,
    listening: Listening,
    acts: VecDeque<Act>,
    /// Hosts whose `initialize` is over while more of theirs is held.
    resuming: Vec<u64>,
    /// When something was said to the server last.
    said: Option<Instant>,
    /// The server has said something since the connection was made.
    spoken: bool,
    /// The host whose session began last.
    latest: u64,
    next: u64,
    secret: RandomState,
}

impl Switchboard {
    /// Makes an empty one.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            hosts: BTreeMap::new(),
            calls: Calls::default(),
            purposes: BTreeMap::new(),
            asked: Asked::default(),
            era: Era::Unknown,
            down: Downgrade::default(),
            listening: Listening::default(),
            acts: VecDeque::new(),
            resuming: Vec::new(),
            said: None,
            spoken: false,
            latest: 0,
            next: 0,
            secret: RandomState::new(),
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
        let state = self.hosts.remove(&host).unwrap_or_default();
        for own in self.calls.of_host(host) {
            self.cancel(&own, "the host is gone");
        }
        if state.upgrade.is_some() {
            self.listen();
        }
        self.unshare(&state.uris);
        self.asked_gone(host);
    }

    /// The connection to the server was made, perhaps anew: what must stay open is opened again.
    pub(super) fn reconnected(&mut self) {
        self.listen();
    }

    /// The connection to the server is gone, with everything that was open on it.
    pub(super) fn lost(&mut self, failure: &Failure) {
        let open: Vec<String> = self.calls.iter().map(|(own, _)| own.clone()).collect();
        for own in open {
            self.failure_for(&own, failure);
        }
        self.spoken = false;
        self.purposes.clear();
        self.asked = Asked::default();
        self.down = Downgrade::default();
        self.listening = Listening::default();
        if matches!(self.era, Era::Probing { .. }) {
            self.era = Era::Unknown;
        }
        self.resuming.clear();
        for host in self.hosts.values_mut() {
            host.opening = None;
            host.held.clear();
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
        let silent: Vec<(String, Path)> = self
            .calls
            .iter()
            .filter(|(_, call)| given_up(call))
            .map(|(own, call)| (own.clone(), call.path))
            .collect();
        for (own, path) in silent {
            self.failure_for(&own, &silence(SILENT));
            if path != Path::Held {
                self.tell_cancelled(&own, "no answer");
            }
        }
        let mut crumbs = Vec::new();
        for (_, call) in self.calls.iter_mut() {
            if let (Some(token), true) = (&call.token, now.duration_since(call.moved) >= QUIET)
                && call.is_work()
                && call.progress.abs() < FAR
            {
                call.moved = now;
                call.progress += CRUMB;
                call.crumbs = true;
                let text = format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{},"progress":{},"message":"waiting for the server"}}}}"#,
                    token.get(),
                    call.progress,
                );
                crumbs.push(Act::Host(call.host, Heard { text, about: Some(call.id.clone()) }));
            }
        }
        self.acts.extend(crumbs);
        self.era_sweep(now);
        self.renew_leases(now);
        self.asked_sweep(now);
        self.down_sweep(now);
        self.listen_sweep(now);
        self.resume();
    }

    /// Says something to a server that a subscription is open with, if nobody has for long.
    fn renew_leases(&mut self, now: Instant) {
        let listening = self.calls.iter().any(|(_, call)| !call.is_work() && call.path != Path::Held)
            || self.purposes.values().any(|purpose| matches!(purpose, Purpose::Listen));
        match self.said {
            Some(said) if listening && now.duration_since(said) >= LEASE => {
                match self.era {
                    Era::Legacy => self.own_request(Purpose::Nothing, "ping", "{}"),
                    Era::Unknown | Era::Probing { .. } | Era::Modern => {
                        self.own_request(Purpose::Nothing, "server/discover", &modern_params(""))
                    }
                };
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
        self.resume();
    }

    /// How long a host has waited for the call that the server knows by this id.
    pub(super) fn waited(&self, wire: &str, now: Instant) -> Option<Duration> {
        self.calls.get(&self.down_name(wire)).map(|call| now.duration_since(call.asked))
    }

    /// Nobody waits for this request any more.
    pub(super) fn abandon(&mut self, host: u64, id: &RawValue) {
        if let Some(own) = self.calls.own_of(host, id) {
            self.cancel(&own, "the host stopped waiting");
        }
        self.resume();
    }

    fn host_asks(&mut self, host: u64, message: &Envelope<'_>, now: Instant) {
        let Some(id) = message.id else { return };
        let refuse = |failure: Failure| {
            Act::Host(host, Heard { text: failure.answer(id), about: Some(id.to_owned()) })
        };
        let bytes = self.calls.bytes().saturating_add(message.text().len());
        if self.calls.len() >= self.limits.pending || bytes > self.limits.in_flight_bytes {
            let failure = Failure::new(FAILED, "busy", "too many requests wait for the server");
            self.acts.push_back(refuse(failure));
            return;
        }
        let own = self.own_id();
        if self.calls.open(own.clone(), host, message, now).is_none() {
            let failure = Failure::new(INVALID_REQUEST, "id_in_use", "a request with this id is still open");
            self.acts.push_back(refuse(failure));
            return;
        }
        if self.calls.get(&own).is_some_and(|call| call.modern) {
            let text = renamed(message, &own).to_text();
            return self.modern_request(own, text, now);
        }
        self.hosts.entry(host).or_default().session = true;
        if message.method.as_deref() == Some("initialize") {
            self.open_session(host, &own, message);
        } else if !self.hold(host, Some(&own), message) {
            self.session_request(host, &own, message);
        }
    }

    /// Sends a request of a host with a session.
    fn session_request(&mut self, host: u64, own: &str, message: &Envelope<'_>) {
        if self.hosts.get(&host).is_some_and(|host| host.upgrade.is_some()) {
            return self.up_request(host, own, message);
        }
        if self.is_shared(host, message) {
            return self.result_for(own, "{}");
        }
        self.send_call(own, Path::Straight, renamed(message, own).to_text());
    }

    /// Sends a host's request to the server.
    fn send_call(&mut self, own: &str, path: Path, text: String) {
        if let Some(call) = self.calls.get_mut(own) {
            call.path = path;
            self.acts.push_back(Act::Server(text));
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
        } else if self.hold(host, None, message) {
        } else if self.hosts.get(&host).is_some_and(|host| host.upgrade.is_some()) {
            self.up_notification(method);
        } else {
            self.acts.push_back(Act::Server(message.text().to_owned()));
            if method == "notifications/initialized" {
                self.latest = host;
                self.share_again(host);
            }
        }
    }

    fn refuse_server(&mut self, id: &str, code: i64, reason: &str, why: &str) {
        if let Some(id) = crate::answer::raw(id.to_owned()) {
            self.acts.push_back(Act::Server(Failure::new(code, reason, why).answer(&id)));
        }
    }

    /// Answers a host's request as the server did, under the host's id.
    fn answer_host(&mut self, own: &str, message: &Envelope<'_>) {
        let Some(call) = self.close(own) else { return };
        let text = rewrite::with_id(message, call.id.get());
        let text = match call.is_work() {
            true => text,
            false => with_result_subscription(&text, &call.id),
        };
        self.acts.push_back(Act::Host(call.host, Heard { text, about: Some(call.id) }));
    }

    /// Answers a host's request with a result of the switchboard's own.
    fn result_for(&mut self, own: &str, result: &str) {
        let Some(call) = self.close(own) else { return };
        let text = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, call.id.get());
        self.acts.push_back(Act::Host(call.host, Heard { text, about: Some(call.id) }));
    }

    fn failure_for(&mut self, own: &str, failure: &Failure) {
        let Some(call) = self.close(own) else { return };
        self.acts
            .push_back(Act::Host(call.host, Heard { text: failure.answer(&call.id), about: Some(call.id) }));
    }

    /// Takes a call out of the table.
    fn close(&mut self, own: &str) -> Option<Call> {
        let call = self.calls.close(own)?;
        self.listening.forget(own);
        if call.path == Path::Held {
            self.let_go(call.host, own);
        }
        if call.method == "initialize" {
            self.opening_over(call.host, own);
        }
        Some(call)
    }

    /// Forgets a request that waits to be sent.
    fn let_go(&mut self, host: u64, own: &str) {
        if let Some(state) = self.hosts.get_mut(&host) {
            state.held.retain(|(held, _)| held.as_deref() != Some(own));
        }
        if let Era::Probing { held, .. } = &mut self.era {
            held.retain(|(held, _)| held != own);
        }
        self.down_let_go(own);
    }

    /// Ends a call that its host does not want any more.
    fn cancel(&mut self, own: &str, reason: &str) {
        let Some(call) = self.close(own) else { return };
        self.probe_cancelled(own);
        if let Some(host) = self.hosts.get_mut(&call.host)
            && let Some(up) = &mut host.upgrade
        {
            up.forget_round(own);
        }
        if !self.down_cancelled(own) && call.path != Path::Held {
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
