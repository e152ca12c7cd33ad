//! What passes between one caller's session and its own backend, and what is answered in the backend's stead.
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use contextvm_core::envelope::{self, Envelope, MessageKind};
use contextvm_core::object::{self, compact, quote};
use contextvm_core::{Limits, rewrite};
use contextvm_server::Delivery;
use serde_json::value::RawValue;

use crate::answer::{FAILED, Failure, TIMED_OUT, raw};
use crate::gateway::levels::Level;
use crate::gateway::welcome::Welcome;
use crate::gateway::{OWN, Options, cancelled};
use crate::notice::Notice;
use crate::queue::Waiting;

mod heard;

/// Longest `params` of an `initialize` that are kept, to initialise another backend with; bytes.
const INITIALIZE: usize = 2_048;
/// Most resources whose subscription is renewed with another backend.
const RESOURCES: usize = 128;
/// Longest name of a resource that is kept, bytes.
const NAME: usize = 2_048;

/// What the session is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Send a message to the backend, which is started if there is none.
    Backend(String),
    /// Send a message to the caller.
    Caller(String),
    /// End the backend: it does not do its part.
    Kick,
    /// End the backend: another one is started for what comes next.
    Release,
    /// Tell whoever runs the gateway.
    Tell(Notice),
}

/// A request that the backend works on.
#[derive(Debug)]
struct Route {
    method: String,
    uri: Option<String>,
    /// A subscription of the modern era has none: it lasts as long as its caller is there.
    deadline: Option<Instant>,
}

/// A question of the backend that the caller was asked.
#[derive(Debug)]
struct Asked {
    id: Box<RawValue>,
    deadline: Instant,
}

/// How far a backend is, as requests of the legacy eras see it.
#[derive(Debug)]
enum State {
    Closed,
    Opening { id: String, since: Instant, held: Waiting<String> },
    Open,
}

/// One session's memory.
#[derive(Debug)]
pub(super) struct Lane {
    /// How many sessions this caller had before.
    number: u64,
    /// The caller is the process itself.
    is_local: bool,
    /// Begins the reasons of failures: `child` or `upstream`.
    kind: &'static str,
    limits: Limits,
    /// Those of everybody else on the wire.
    wire: Limits,
    request_timeout: Duration,
    opening_timeout: Duration,
    state: State,
    /// The `params` of the caller's `initialize`.
    first: Option<Box<RawValue>>,
    routes: BTreeMap<String, Route>,
    asked: BTreeMap<String, Asked>,
    resources: BTreeSet<String>,
    level: Option<Level>,
    heard: Instant,
    next: u64,
    noise: u64,
    replaced: bool,
}

impl Lane {
    pub(super) fn new(
        number: u64,
        is_local: bool,
        kind: &'static str,
        options: &Options,
        now: Instant,
    ) -> Self {
        Self {
            number,
            is_local,
            kind,
            limits: Limits {
                json_nodes: options.limits.json_nodes.saturating_mul(16),
                ..options.limits.clone()
            },
            wire: options.limits.clone(),
            request_timeout: options.request_timeout,
            opening_timeout: options.opening_timeout,
            state: State::Closed,
            first: None,
            routes: BTreeMap::new(),
            asked: BTreeMap::new(),
            resources: BTreeSet::new(),
            level: None,
            heard: now,
            next: 0,
            noise: 0,
            replaced: false,
        }
    }

    /// Whether nobody waits for anybody.
    pub(super) fn is_idle(&self) -> bool {
        self.routes.is_empty() && self.asked.is_empty() && !matches!(self.state, State::Opening { .. })
    }

    /// Whether the backend may make room for another: what the process itself asks keeps no place from a caller.
    pub(super) fn gives_way(&self) -> bool {
        self.is_local || self.is_idle()
    }

    /// Whether the backend may end after a while: what only the process itself listens to does not keep it.
    pub(super) fn may_rest(&self) -> bool {
        let only_listens = || {
            let is_opening = matches!(self.state, State::Opening { .. });
            !is_opening && self.asked.is_empty() && self.routes.values().all(|route| route.deadline.is_none())
        };
        self.is_idle() || self.is_local && only_listens()
    }

    /// Whether the caller wants to hear from its backend although nothing is open.
    pub(super) fn is_subscribed(&self) -> bool {
        !self.resources.is_empty()
    }

    /// The caller began another session: this one only ends what is open, and asks nothing any more.
    pub(super) fn replaced(&mut self) -> Vec<Action> {
        self.replaced = true;
        let failure = replaced();
        let asked = core::mem::take(&mut self.asked);
        asked.into_values().map(|asked| Action::Backend(failure.answer(&asked.id))).collect()
    }

    /// Whether a message cancels a request that this session does not know, or speaks on its stream.
    pub(super) fn is_foreign(&self, delivery: &Delivery, message: &str) -> bool {
        let Delivery::Notification { method } = delivery else { return false };
        let about = match method.as_str() {
            "notifications/cancelled" => rewrite::cancelled_request_id,
            "notifications/progress" if self.asked.is_empty() => rewrite::notified_token,
            _ => return false,
        };
        let message = Envelope::parse(message, &self.limits).ok();
        let id = message.and_then(|message| about(message.params));
        id.is_some_and(|id| !self.routes.contains_key(rewrite::plain_text(id).as_ref()))
    }

    pub(super) fn hear_caller(&mut self, delivery: &Delivery, text: &str, now: Instant) -> Vec<Action> {
        self.heard = now;
        let Ok(message) = Envelope::parse(text, &self.limits) else { return Vec::new() };
        match delivery {
            Delivery::Request { key, method, .. } => self.request(&key.id.to_hex(), method, &message, now),
            Delivery::Notification { method } => self.notification(method, &message),
            Delivery::Response => self.answered(&message),
        }
    }

    fn request(&mut self, id: &str, method: &str, message: &Envelope<'_>, now: Instant) -> Vec<Action> {
        if self.routes.len() >= self.limits.in_flight_per_caller.saturating_mul(2) {
            let failure = Failure::new(FAILED, "busy", "too many requests wait for the server");
            return vec![Action::Caller(failure.answer_to(id))];
        }
        let uri = message.param("uri").and_then(object::string).map(|uri| uri.into_owned());
        let uri = uri.filter(|_| method.starts_with("resources/"));
        let deadline = (method != "subscriptions/listen").then(|| now + self.request_timeout);
        self.routes.insert(id.to_owned(), Route { method: method.to_owned(), uri, deadline });
        if method == "logging/setLevel" {
            self.level = Level::of(message);
        }
        let line = compact(message.text());
        if method == "initialize" {
            self.first =
                message.params.filter(|params| params.get().len() <= INITIALIZE).map(ToOwned::to_owned);
            self.state = State::Opening { id: id.to_owned(), since: now, held: Waiting::default() };
            return vec![Action::Backend(line)];
        }
        let is_modern = rewrite::protocol_version(message.params).is_some();
        match &mut self.state {
            State::Opening { held, .. } if held.has_room(usize::MAX) => {
                held.push_back(line);
                Vec::new()
            }
            State::Opening { .. } => self.not_sent(&line),
            State::Closed if !is_modern => {
                let own = self.own_id();
                let line_of_own = self.initialize(&own);
                let mut held = Waiting::default();
                held.push_back(line);
                self.state = State::Opening { id: own, since: now, held };
                vec![Action::Backend(line_of_own)]
            }
            State::Closed | State::Open => vec![Action::Backend(line)],
        }
    }

    /// Prints an `initialize` as the caller once sent it; one for a caller that never did declares nothing.
    fn initialize(&self, id: &str) -> String {
        let id = raw(quote(id));
        match (id, &self.first) {
            (Some(id), Some(params)) => compact(&envelope::request(&id, "initialize", Some(params))),
            (Some(id), None) => Welcome::plain_request(&id),
            (None, _) => String::new(),
        }
    }

    fn notification(&mut self, method: &str, message: &Envelope<'_>) -> Vec<Action> {
        let line = compact(message.text());
        let is_awaited = self.is_awaited(message);
        match (&mut self.state, method) {
            (_, "notifications/cancelled") => {
                let id = rewrite::cancelled_request_id(message.params).map(rewrite::plain_text);
                match id.and_then(|id| self.routes.remove(id.as_ref())) {
                    Some(_) => self.forward(line),
                    None => Vec::new(),
                }
            }
            (_, "notifications/progress") if !is_awaited => Vec::new(),
            // Nothing runs that could be told of anything, or what runs was told so by the gateway.
            (State::Closed, _) => Vec::new(),
            (State::Opening { id, .. }, "notifications/initialized") if id.starts_with(OWN) => Vec::new(),
            (State::Opening { .. } | State::Open, _) => self.forward(line),
        }
    }

    /// Whether the backend can make something of the caller's progress: a word on a stream that it writes for a call, or how
    /// far the caller is with what it asked.
    fn is_awaited(&self, message: &Envelope<'_>) -> bool {
        let token = rewrite::notified_token(message.params).map(rewrite::plain_text);
        !self.asked.is_empty() || token.is_some_and(|token| self.routes.contains_key(token.as_ref()))
    }

    /// Takes the caller's answer to a question of the backend.
    fn answered(&mut self, message: &Envelope<'_>) -> Vec<Action> {
        let id = message.id.map(rewrite::plain_text);
        match id.and_then(|id| self.asked.remove(id.as_ref())) {
            Some(asked) => vec![Action::Backend(compact(&rewrite::with_id(message, asked.id.get())))],
            None => Vec::new(),
        }
    }

    /// Messages wait while the backend is initialised, in order.
    fn forward(&mut self, line: String) -> Vec<Action> {
        match &mut self.state {
            State::Opening { held, .. } if held.has_room(self.limits.in_flight_per_caller * 4) => {
                held.push_back(line);
                Vec::new()
            }
            State::Opening { .. } => Vec::new(),
            State::Closed | State::Open => vec![Action::Backend(line)],
        }
    }

    /// Answers everything that is open: the backend is gone.
    pub(super) fn closed(&mut self, failure: &Failure) -> Vec<Action> {
        self.state = State::Closed;
        self.asked.clear();
        let routes = core::mem::take(&mut self.routes);
        routes.into_keys().map(|id| Action::Caller(failure.answer_to(&id))).collect()
    }

    /// Answers a request that the backend could not take.
    pub(super) fn not_sent(&mut self, line: &str) -> Vec<Action> {
        let message = Envelope::parse(line, &self.limits).ok();
        let id =
            message.filter(|message| message.kind == MessageKind::Request).and_then(|message| message.id);
        let id = id.map(|id| rewrite::plain_text(id).into_owned());
        let Some((id, _)) = id.and_then(|id| self.routes.remove_entry(&id)) else { return Vec::new() };
        let failure = self.failure(FAILED, "busy", "the server does not keep up");
        vec![Action::Caller(failure.answer_to(&id))]
    }

    /// Ends what takes too long.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let lease = self.limits.session_idle;
        let is_gone = self.replaced || !self.is_local && now.duration_since(self.heard) >= lease;
        let is_late = |route: &Route| route.deadline.map_or(is_gone, |deadline| deadline <= now);
        let late: Vec<(String, Route)> = self.routes.extract_if(.., |_, route| is_late(route)).collect();
        for (id, route) in late {
            let failure = if route.deadline.is_some() {
                self.failure(TIMED_OUT, "timeout", "the server did not answer in time")
                    .with_time("waitedMs", self.request_timeout)
            } else {
                Failure::new(TIMED_OUT, "lease_expired", "nothing was heard of the client for too long")
                    .with_time("waitedMs", lease)
            };
            actions.push(Action::Caller(failure.answer_to(&id)));
            actions.extend(self.forward(cancelled(&id, "timeout")));
        }
        let unanswered = self.asked.extract_if(.., |_, asked| asked.deadline <= now);
        let failure = Failure::new(TIMED_OUT, "no_reply", "the client did not answer in time");
        actions.extend(unanswered.map(|(_, asked)| Action::Backend(failure.answer(&asked.id))));
        if let State::Opening { since, .. } = &self.state
            && now.duration_since(*since) >= self.opening_timeout
        {
            actions.push(Action::Kick);
        }
        actions
    }

    /// Makes a failure whose reason begins with what the backend is.
    pub(super) fn failure(&self, code: i64, reason: &str, message: impl Into<String>) -> Failure {
        Failure::new(code, &[self.kind, "_", reason].concat(), message)
    }

    fn own_id(&mut self) -> String {
        self.next = self.next.saturating_add(1);
        format!("{OWN}{}-{}", self.number, self.next)
    }

    fn own_request(&mut self, method: &str, member: &str, value: &str) -> String {
        let id = self.own_id();
        format!(
            r#"{{"jsonrpc":"2.0","id":"{id}","method":"{method}","params":{{"{member}":{}}}}}"#,
            quote(value)
        )
    }
}

/// What the backend is told in the stead of a caller that does not know any more what it was asked for.
fn replaced() -> Failure {
    Failure::new(FAILED, "session_replaced", "the client began another session")
}

#[cfg(test)]
mod tests;
