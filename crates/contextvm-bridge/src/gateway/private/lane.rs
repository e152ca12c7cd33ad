//! What passes between one caller's session and its own backend, and what is answered in the backend's stead.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use contextvm_core::envelope::{self, Envelope, MessageKind};
use contextvm_core::object::{self, compact, quote};
use contextvm_core::{Limits, Printable, rewrite};
use contextvm_server::Delivery;
use serde_json::value::RawValue;

use crate::answer::{FAILED, Failure, METHOD_NOT_FOUND, TIMED_OUT, empty_result, raw};
use crate::gateway::levels::Level;
use crate::gateway::welcome::Welcome;
use crate::gateway::{OWN, Options, cancelled};
use crate::notice::Notice;

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
    Opening { id: String, since: Instant, held: VecDeque<String> },
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

    /// Whether a message cancels a request that this session does not know.
    pub(super) fn is_foreign(&self, delivery: &Delivery, message: &str) -> bool {
        let is_cancellation =
            matches!(delivery, Delivery::Notification { method } if method == "notifications/cancelled");
        let message = is_cancellation.then(|| Envelope::parse(message, &self.limits).ok()).flatten();
        let id = message.and_then(|message| rewrite::cancelled_request_id(message.params));
        id.is_some_and(|id| !self.routes.contains_key(rewrite::plain_text(id).as_ref()))
    }

    pub(super) fn hear_caller(&mut self, delivery: &Delivery, text: &str, now: Instant) -> Vec<Action> {
        self.heard = now;
        let Ok(message) = Envelope::parse(text, &self.limits) else { return Vec::new() };
        match delivery {
            Delivery::Request { key, method } => self.request(&key.id.to_hex(), method, &message, now),
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
            self.state = State::Opening { id: id.to_owned(), since: now, held: VecDeque::new() };
            return vec![Action::Backend(line)];
        }
        let is_modern = rewrite::protocol_version(message.params).is_some();
        match &mut self.state {
            State::Opening { held, .. } => {
                held.push_back(line);
                Vec::new()
            }
            State::Closed if !is_modern => {
                let own = self.own_id();
                let line_of_own = self.initialize(&own);
                self.state = State::Opening { id: own, since: now, held: VecDeque::from([line]) };
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
        match (&mut self.state, method) {
            (_, "notifications/cancelled") => {
                let id = rewrite::cancelled_request_id(message.params).map(rewrite::plain_text);
                match id.and_then(|id| self.routes.remove(id.as_ref())) {
                    Some(_) => self.forward(line),
                    None => Vec::new(),
                }
            }
            (_, "notifications/progress") if self.asked.is_empty() => Vec::new(),
            // Nothing runs that could be told of anything, or what runs was told so by the gateway.
            (State::Closed, _) => Vec::new(),
            (State::Opening { id, .. }, "notifications/initialized") if id.starts_with(OWN) => Vec::new(),
            (State::Opening { .. } | State::Open, _) => self.forward(line),
        }
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
            State::Opening { held, .. } if held.len() < self.limits.in_flight_per_caller * 4 => {
                held.push_back(line);
                Vec::new()
            }
            State::Opening { .. } => Vec::new(),
            State::Closed | State::Open => vec![Action::Backend(line)],
        }
    }

    pub(super) fn hear_backend(&mut self, text: &str, server_requests: bool, now: Instant) -> Vec<Action> {
        let message = match Envelope::parse(text, &self.limits) {
            Ok(message) => message,
            Err(error) => return self.unreadable(text, &error.to_string()),
        };
        match message.kind {
            MessageKind::Response | MessageKind::Error => self.backend_answered(&message),
            MessageKind::Request => self.backend_asked(&message, server_requests, now),
            MessageKind::Notification => self.backend_said(&message, now),
        }
    }

    fn backend_answered(&mut self, message: &Envelope<'_>) -> Vec<Action> {
        let Some(id) = message.id.map(rewrite::plain_text) else {
            return self.noise("an error without an id".to_owned());
        };
        let mut actions = Vec::new();
        if let Some(route) = self.routes.remove(id.as_ref()) {
            self.learn(&route, message.kind);
            actions.push(Action::Caller(compact(message.text())));
        }
        if matches!(&self.state, State::Opening { id: opening, .. } if *opening == id) {
            let is_open = message.kind == MessageKind::Response;
            // Refused, it is tried again with the next request; what waits hears from the server itself why.
            let state = if is_open { State::Open } else { State::Closed };
            let before = core::mem::replace(&mut self.state, state);
            if is_open && id.starts_with(OWN) {
                actions.push(Action::Backend(Welcome::initialized()));
                actions.extend(self.anew());
            }
            if !is_open && self.routes.is_empty() {
                // One that does without `initialize` may end after it; what comes next must not meet it on its way out.
                actions.push(Action::Release);
            }
            if let State::Opening { held, .. } = before {
                actions.extend(held.into_iter().map(Action::Backend));
            }
        }
        actions
    }

    fn learn(&mut self, route: &Route, kind: MessageKind) {
        match (route.method.as_str(), &route.uri, kind) {
            ("resources/subscribe", Some(uri), MessageKind::Response)
                if self.resources.len() < RESOURCES && uri.len() <= NAME =>
            {
                self.resources.insert(uri.clone());
            }
            ("resources/unsubscribe", Some(uri), MessageKind::Response) => {
                self.resources.remove(uri);
            }
            ("logging/setLevel", _, MessageKind::Error) => self.level = None,
            _ => {}
        }
    }

    /// What another backend is told that the one before it knew.
    pub(super) fn anew(&mut self) -> Vec<Action> {
        let level = self.level.map(Level::name);
        let uris: Vec<String> = self.resources.iter().cloned().collect();
        let level = level.map(|level| self.own_request("logging/setLevel", "level", level));
        let uris = uris.iter().map(|uri| self.own_request("resources/subscribe", "uri", uri));
        let lines: Vec<String> = uris.collect();
        level.into_iter().chain(lines).map(Action::Backend).collect()
    }

    fn backend_asked(&mut self, message: &Envelope<'_>, server_requests: bool, now: Instant) -> Vec<Action> {
        let (Some(id), Some(method)) = (message.id, message.method.as_deref()) else { return Vec::new() };
        if method == "ping" {
            return vec![Action::Backend(empty_result(id))];
        }
        let refused = if self.replaced {
            replaced()
        } else if !server_requests {
            Failure::new(METHOD_NOT_FOUND, "not_supported", "the client does not answer requests of a server")
        } else if self.asked.len() >= self.limits.in_flight_per_caller {
            Failure::new(FAILED, "busy", "too many requests wait for the client")
        } else {
            let own = self.own_id();
            let question = compact(&rewrite::with_id(message, &quote(&own)));
            let deadline = now + self.request_timeout;
            self.asked.insert(own, Asked { id: id.to_owned(), deadline });
            return vec![Action::Caller(question)];
        };
        vec![Action::Backend(refused.answer(id))]
    }

    fn backend_said(&mut self, message: &Envelope<'_>, now: Instant) -> Vec<Action> {
        if message.method.as_deref() == Some("notifications/cancelled") {
            return self.backend_cancelled(message);
        }
        let text = compact(message.text());
        if let Some(id) = rewrite::subscription_id(message.params).map(rewrite::plain_text) {
            let is_open = self.routes.contains_key(id.as_ref());
            return is_open.then_some(Action::Caller(text)).into_iter().collect();
        }
        match message.method.as_deref().unwrap_or_default() {
            "notifications/progress" => {
                let token = rewrite::notified_token(message.params).map(rewrite::plain_text);
                let Some(route) = token.and_then(|token| self.routes.get_mut(token.as_ref())) else {
                    return Vec::new();
                };
                route.deadline = route.deadline.map(|_| now + self.request_timeout);
                vec![Action::Caller(text)]
            }
            // The caller's newer session hears from its own backend.
            _ if self.replaced => Vec::new(),
            _ => vec![Action::Caller(text)],
        }
    }

    /// Takes back a question of the backend, or ends a subscription of the caller.
    fn backend_cancelled(&mut self, message: &Envelope<'_>) -> Vec<Action> {
        let Some(id) = rewrite::cancelled_request_id(message.params) else { return Vec::new() };
        let own = self.asked.iter().find(|(_, asked)| asked.id.get() == id.get()).map(|(own, _)| own.clone());
        if let Some(own) = own {
            self.asked.remove(&own);
            return vec![Action::Caller(compact(&rewrite::with_cancelled_request_id(message, &quote(&own))))];
        }
        let id = rewrite::plain_text(id);
        if self.routes.get(id.as_ref()).is_some_and(|route| route.deadline.is_none()) {
            self.routes.remove(id.as_ref());
            return vec![Action::Caller(compact(message.text()))];
        }
        Vec::new()
    }

    /// Counts what is no message; if it was meant as an answer, the caller learns of it.
    fn unreadable(&mut self, text: &str, why: &str) -> Vec<Action> {
        #[derive(serde::Deserialize)]
        struct Meant {
            id: String,
        }
        let mut actions = self.noise(format!("{why}: {}", Printable::short(text, 120)));
        let meant = serde_json::from_str(text).ok().map(|meant: Meant| meant.id);
        if let Some((id, _)) = meant.and_then(|id| self.routes.remove_entry(&id)) {
            let failure = self.failure(FAILED, "answer_invalid", "the server gave an invalid answer");
            actions.push(Action::Caller(failure.with_text("why", why).answer_to(&id)));
        }
        actions
    }

    /// Counts what is no message and tells of the first.
    pub(super) fn noise(&mut self, what: String) -> Vec<Action> {
        self.noise = self.noise.saturating_add(1);
        if self.noise == 1 || self.noise.is_power_of_two() && self.noise >= 1_024 {
            vec![Action::Tell(Notice::ChildNoise { what, count: self.noise })]
        } else {
            Vec::new()
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
