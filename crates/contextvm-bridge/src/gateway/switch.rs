//! Who gets what: the gateway's decisions, without any input or output of its own.
//!
//! Requests reach the child under ids and progress tokens that are unique over all callers, so an answer belongs to
//! exactly one of them. What the child says by itself goes to a caller only if it can concern no other.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::object::{self, compact};
use contextvm_core::{Limits, Printable, rewrite};
use contextvm_server::Delivery;
use nostr::key::PublicKey;
use serde_json::value::RawValue;

use super::answer::{FAILED, Failure, METHOD_NOT_FOUND, TIMED_OUT, empty_result};
use super::subscriptions::Subscriptions;
use super::welcome::Welcome;
use crate::notice::Notice;

/// Questions of the child that may wait for a caller's answer.
const ASKED: usize = 256;
/// Beginning of the ids that the gateway gives.
const OWN: &str = "cvm-";

/// What the gateway is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Write a line to the child.
    Child(String),
    /// Send a message to a caller.
    Caller(PublicKey, String),
    /// Send a notification to every caller.
    Broadcast(String),
    /// End the child: it does not do its part.
    Kick,
    /// Tell whoever runs the gateway.
    Tell(Notice),
}

/// One message from a caller.
#[derive(Clone, Copy, Debug)]
pub(super) struct Letter<'a> {
    pub(super) caller: PublicKey,
    pub(super) delivery: &'a Delivery,
    pub(super) message: &'a str,
    /// The caller answers requests that a server sends.
    pub(super) server_requests: bool,
}

/// A request that the child works on.
#[derive(Debug)]
struct Route {
    caller: PublicKey,
    method: String,
    uri: Option<String>,
    server_requests: bool,
    deadline: Option<Instant>,
}

/// A question of the child that a caller was asked.
#[derive(Debug)]
struct Asked {
    caller: PublicKey,
    id: Box<RawValue>,
}

#[derive(Debug)]
enum State {
    Down { how: String, again: Option<Instant> },
    Opening { id: String, since: Instant, held: VecDeque<String> },
    Open,
}

/// The gateway's memory.
#[derive(Debug)]
pub(super) struct Switch {
    limits: Limits,
    request_timeout: Duration,
    opening_timeout: Duration,
    state: State,
    welcome: Option<Welcome>,
    routes: BTreeMap<String, Route>,
    asked: BTreeMap<String, Asked>,
    subscriptions: Subscriptions,
    callers: BTreeMap<PublicKey, usize>,
    next: u64,
    noise: u64,
}

impl Switch {
    pub(super) fn new(limits: Limits, request_timeout: Duration, opening_timeout: Duration) -> Self {
        Self {
            limits,
            request_timeout,
            opening_timeout,
            state: State::Down { how: "has not started".to_owned(), again: None },
            welcome: None,
            routes: BTreeMap::new(),
            asked: BTreeMap::new(),
            subscriptions: Subscriptions::default(),
            callers: BTreeMap::new(),
            next: 0,
            noise: 0,
        }
    }

    /// Returns what the child said, once it has answered `initialize` in its present life.
    pub(super) fn open(&self) -> Option<&Welcome> {
        match self.state {
            State::Open => self.welcome.as_ref(),
            State::Down { .. } | State::Opening { .. } => None,
        }
    }

    /// Whether a caller still waits for the child.
    fn owes(&self, caller: &PublicKey) -> bool {
        self.routes.values().any(|route| route.caller == *caller)
    }

    /// Whether a caller has a session or still waits for the child.
    pub(super) fn knows(&self, caller: &PublicKey) -> bool {
        self.callers.contains_key(caller) || self.owes(caller)
    }

    pub(super) fn session_began(&mut self, caller: PublicKey) {
        *self.callers.entry(caller).or_default() += 1;
    }

    pub(super) fn session_ended(&mut self, caller: PublicKey) -> Vec<Action> {
        let left = self.callers.get_mut(&caller).map_or(0, |count| {
            *count = count.saturating_sub(1);
            *count
        });
        if left > 0 {
            return Vec::new();
        }
        self.callers.remove(&caller);
        let unwanted = self.subscriptions.leave(&caller);
        unwanted.iter().map(|uri| Action::Child(self.own_request("resources/unsubscribe", uri))).collect()
    }

    pub(super) fn child_up(&mut self, now: Instant) -> Vec<Action> {
        let id = self.own_id();
        let request = Welcome::request(&id);
        self.state = State::Opening { id, since: now, held: VecDeque::new() };
        vec![Action::Child(request)]
    }

    /// Answers everything that waits for the child; none of it will ever be answered by it.
    pub(super) fn child_down(
        &mut self,
        how: &str,
        restart: Option<(Duration, usize)>,
        now: Instant,
    ) -> Vec<Action> {
        self.state = State::Down { how: how.to_owned(), again: restart.map(|(wait, _)| now + wait) };
        self.asked.clear();
        let mut failure = Failure::new(FAILED, "child_exited", format!("the server's process {how}"));
        if let Some((wait, _)) = restart {
            failure = failure.with_time("retryAfterMs", wait);
        }
        let failed = self.fail_all(&failure);
        let notice = Notice::ChildExited { how: how.to_owned(), failed: failed.len(), restart };
        failed.into_iter().chain([Action::Tell(notice)]).collect()
    }

    /// Answers everything that waits, because the gateway stops.
    pub(super) fn stop(&mut self) -> Vec<Action> {
        self.fail_all(&Failure::new(FAILED, "shutting_down", "the server shuts down"))
    }

    fn fail_all(&mut self, failure: &Failure) -> Vec<Action> {
        let routes = core::mem::take(&mut self.routes);
        routes.into_iter().map(|(id, route)| Action::Caller(route.caller, failure.answer_to(&id))).collect()
    }

    /// Answers a request that could not be written to the child.
    pub(super) fn not_written(&mut self, line: &str) -> Vec<Action> {
        let id = Envelope::parse(line, &self.line_limits())
            .ok()
            .filter(|message| message.kind == MessageKind::Request);
        let id = id.and_then(|message| message.id).map(|id| rewrite::plain_text(id).into_owned());
        let Some((id, route)) = id.and_then(|id| self.routes.remove_entry(&id)) else { return Vec::new() };
        let failure = Failure::new(FAILED, "child_busy", "the server's process does not keep up");
        vec![Action::Caller(route.caller, failure.answer_to(&id))]
    }

    /// Ends what takes too long.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<Action> {
        let late =
            self.routes.iter().filter(|(_, route)| route.deadline.is_some_and(|deadline| deadline <= now));
        let late: Vec<String> = late.map(|(id, _)| id.clone()).collect();
        let mut actions = Vec::new();
        for id in late {
            let Some(route) = self.routes.remove(&id) else { continue };
            let failure =
                Failure::new(TIMED_OUT, "child_timeout", "the server's process did not answer in time")
                    .with_time("waitedMs", self.request_timeout);
            actions.push(Action::Caller(route.caller, failure.answer_to(&id)));
            let cancel = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":"{id}","reason":"timeout"}}}}"#
            );
            actions.push(Action::Child(cancel));
        }
        if let State::Opening { since, .. } = &self.state
            && now.duration_since(*since) >= self.opening_timeout
        {
            actions.push(Action::Kick);
        }
        actions
    }

    pub(super) fn hear_caller(&mut self, letter: Letter<'_>, now: Instant) -> Vec<Action> {
        let Ok(message) = Envelope::parse(letter.message, &self.line_limits()) else { return Vec::new() };
        match letter.delivery {
            Delivery::Request { key, method } => {
                self.request(&letter, &key.id.to_hex(), method, &message, now)
            }
            Delivery::Notification { method } => self.notification(&letter, method, &message),
            Delivery::Response => self.answered(letter.caller, &message),
        }
    }

    fn request(
        &mut self,
        letter: &Letter<'_>,
        id: &str,
        method: &str,
        message: &Envelope<'_>,
        now: Instant,
    ) -> Vec<Action> {
        let caller = letter.caller;
        let refuse = |failure: Failure| vec![Action::Caller(caller, failure.answer_to(id))];
        let Some(json_id) = message.id else { return Vec::new() };
        if method == "initialize"
            && let Some(welcome) = &self.welcome
        {
            return vec![Action::Caller(caller, welcome.answer(json_id, message.params))];
        }
        if let State::Down { how, again } = &self.state {
            let mut failure = Failure::new(FAILED, "child_down", format!("the server's process {how}"));
            if let Some(again) = again {
                failure = failure.with_time("retryAfterMs", again.saturating_duration_since(now));
            }
            return refuse(failure);
        }
        if self.routes.len() >= self.limits.in_flight.saturating_mul(2) {
            return refuse(Failure::new(FAILED, "busy", "too many requests wait for the server's process"));
        }
        let uri = message.params.and_then(|params| object::member(params, "uri")).and_then(object::string);
        let uri = uri.filter(|_| method.starts_with("resources/")).map(|uri| uri.into_owned());
        if method == "resources/unsubscribe"
            && let Some(uri) = &uri
            && self.subscriptions.remove(uri, &caller)
        {
            // Others still listen, so the child must not hear of it.
            return vec![Action::Caller(caller, empty_result(json_id))];
        }
        // A subscription of the modern era stays open as long as its caller wants it.
        let deadline = (method != "subscriptions/listen").then(|| now + self.request_timeout);
        let route = Route {
            caller,
            method: method.to_owned(),
            uri,
            server_requests: letter.server_requests,
            deadline,
        };
        self.routes.insert(id.to_owned(), route);
        self.write_child(compact(letter.message))
    }

    fn notification(&mut self, letter: &Letter<'_>, method: &str, message: &Envelope<'_>) -> Vec<Action> {
        match method {
            // Said once by the gateway; and the roots of one caller are nothing to a shared child.
            "notifications/initialized" | "notifications/roots/list_changed" => Vec::new(),
            "notifications/cancelled" => {
                let id = rewrite::cancelled_request_id(message.params).map(rewrite::plain_text);
                let own = |route: &Route| route.caller == letter.caller;
                match id {
                    Some(id) if self.routes.get(id.as_ref()).is_some_and(own) => {
                        self.routes.remove(id.as_ref());
                        self.write_child(compact(letter.message))
                    }
                    Some(_) | None => Vec::new(),
                }
            }
            "notifications/progress" if !self.asked.values().any(|asked| asked.caller == letter.caller) => {
                Vec::new()
            }
            _ => self.write_child(compact(letter.message)),
        }
    }

    /// Takes a caller's answer to a question of the child.
    fn answered(&mut self, caller: PublicKey, message: &Envelope<'_>) -> Vec<Action> {
        let id = message.id.map(rewrite::plain_text);
        let Some(id) =
            id.filter(|id| self.asked.get(id.as_ref()).is_some_and(|asked| asked.caller == caller))
        else {
            return Vec::new();
        };
        match self.asked.remove(id.as_ref()) {
            Some(asked) => self.write_child(compact(&rewrite::with_id(message, asked.id.get()))),
            None => Vec::new(),
        }
    }

    /// Lines wait while the child is being initialised, in order.
    fn write_child(&mut self, line: String) -> Vec<Action> {
        match &mut self.state {
            State::Open => vec![Action::Child(line)],
            State::Opening { held, .. } if held.len() < self.limits.in_flight => {
                held.push_back(line);
                Vec::new()
            }
            State::Opening { .. } => self.not_written(&line),
            State::Down { .. } => Vec::new(),
        }
    }

    pub(super) fn hear_child(&mut self, text: &str, now: Instant) -> Vec<Action> {
        let message = match Envelope::parse(text, &self.line_limits()) {
            Ok(message) => message,
            Err(error) => return self.unreadable(text, &error.to_string()),
        };
        match message.kind {
            MessageKind::Response | MessageKind::Error => self.child_answered(&message),
            MessageKind::Request => self.child_asked(&message),
            MessageKind::Notification => self.child_said(&message, now),
        }
    }

    /// A line of the child may be longer than an event, and a caller's message has grown by what was put into it.
    fn line_limits(&self) -> Limits {
        Limits { json_nodes: self.limits.json_nodes.saturating_mul(16), ..self.limits.clone() }
    }

    /// Counts a line that is no message; if it was meant as an answer, its caller learns of it.
    fn unreadable(&mut self, text: &str, why: &str) -> Vec<Action> {
        #[derive(serde::Deserialize)]
        struct Meant {
            id: String,
        }
        let mut actions = self.noise(format!("{why}: {}", Printable::short(text, 120)));
        let meant = serde_json::from_str(text).ok().map(|meant: Meant| meant.id);
        if let Some((id, route)) = meant.and_then(|id| self.routes.remove_entry(&id)) {
            let failure =
                Failure::new(FAILED, "child_answer_invalid", "the server's process gave an invalid answer");
            actions.push(Action::Caller(route.caller, failure.with_text("why", why).answer_to(&id)));
        }
        actions
    }

    /// Counts a line that is no message and tells of the first.
    pub(super) fn noise(&mut self, what: String) -> Vec<Action> {
        self.noise = self.noise.saturating_add(1);
        if self.noise == 1 || self.noise.is_power_of_two() && self.noise >= 1_024 {
            vec![Action::Tell(Notice::ChildNoise { what, count: self.noise })]
        } else {
            Vec::new()
        }
    }

    fn child_answered(&mut self, message: &Envelope<'_>) -> Vec<Action> {
        let Some(id) = message.id.map(rewrite::plain_text) else {
            return self.noise("an error without an id".to_owned());
        };
        if let State::Opening { id: opening, .. } = &self.state
            && *opening == id
        {
            return self.opened(message);
        }
        if id.starts_with(OWN) {
            return Vec::new();
        }
        let Some(route) = self.routes.remove(id.as_ref()) else {
            return self.noise("an answer to no open request".to_owned());
        };
        if let (Some(uri), MessageKind::Response) = (&route.uri, message.kind)
            && route.method == "resources/subscribe"
        {
            self.subscriptions.add(uri, route.caller);
        }
        let mut actions = Vec::new();
        if !self.owes(&route.caller) {
            actions.extend(self.unasked(&route.caller));
        }
        actions.push(Action::Caller(route.caller, compact(message.text())));
        actions
    }

    fn opened(&mut self, message: &Envelope<'_>) -> Vec<Action> {
        let Some(welcome) = Welcome::learn(message) else { return Vec::new() };
        let mut actions = Vec::new();
        if welcome.is_accepted() {
            actions.push(Action::Child(Welcome::initialized()));
        }
        // A refusal of a child that once took part is not kept: its callers are in the middle of their sessions.
        if welcome.is_accepted() || self.welcome.is_none() {
            self.welcome = Some(welcome);
        }
        for uri in self.subscriptions.uris() {
            actions.push(Action::Child(self.own_request("resources/subscribe", &uri)));
        }
        if let State::Opening { held, .. } = core::mem::replace(&mut self.state, State::Open) {
            actions.extend(held.into_iter().map(Action::Child));
        }
        actions.push(Action::Tell(Notice::ChildReady));
        actions
    }

    /// Answers the child's open questions to a caller that waits for nothing any more.
    fn unasked(&mut self, caller: &PublicKey) -> Vec<Action> {
        let over: Vec<String> = self
            .asked
            .iter()
            .filter(|(_, asked)| asked.caller == *caller)
            .map(|(id, _)| id.clone())
            .collect();
        let failure = Failure::new(FAILED, "call_ended", "the call that this request belonged to has ended");
        let over = over.iter().filter_map(|id| self.asked.remove(id));
        over.map(|asked| Action::Child(failure.answer(&asked.id))).collect()
    }

    fn child_asked(&mut self, message: &Envelope<'_>) -> Vec<Action> {
        let (Some(id), Some(method)) = (message.id, message.method.as_deref()) else { return Vec::new() };
        if method == "ping" {
            return vec![Action::Child(empty_result(id))];
        }
        let callers: BTreeMap<PublicKey, bool> =
            self.working().map(|route| (route.caller, route.server_requests)).collect();
        let refuse =
            |code, reason, why: &str| vec![Action::Child(Failure::new(code, reason, why).answer(id))];
        let mut callers = callers.into_iter();
        match (callers.next(), callers.next()) {
            (None, _) => {
                refuse(METHOD_NOT_FOUND, "no_client", "no client has a call in flight that could be asked")
            }
            (Some(_), Some(_)) => refuse(
                FAILED,
                "several_clients",
                "several clients have calls in flight; which one is meant is not known",
            ),
            (Some((_, false)), None) => {
                refuse(METHOD_NOT_FOUND, "not_supported", "the client does not answer requests of a server")
            }
            (Some(_), None) if self.asked.len() >= ASKED => {
                refuse(FAILED, "busy", "too many requests wait for clients")
            }
            (Some((caller, true)), None) => {
                let own = self.own_id();
                let question = compact(&rewrite::with_id(message, &object::quote(&own)));
                self.asked.insert(own, Asked { caller, id: id.to_owned() });
                vec![Action::Caller(caller, question)]
            }
        }
    }

    /// Calls that the child works on; a modern subscription is none.
    fn working(&self) -> impl Iterator<Item = &Route> {
        self.routes.values().filter(|route| route.deadline.is_some())
    }

    fn child_said(&mut self, message: &Envelope<'_>, now: Instant) -> Vec<Action> {
        let text = compact(message.text());
        let method = message.method.as_deref().unwrap_or_default();
        if let Some(token) = rewrite::subscription_id(message.params).map(rewrite::plain_text) {
            let route = self.routes.get(token.as_ref());
            return route.map(|route| Action::Caller(route.caller, text)).into_iter().collect();
        }
        match method {
            "notifications/progress" => {
                let token = rewrite::notified_token(message.params).map(rewrite::plain_text);
                let route = token.and_then(|token| self.routes.get_mut(token.as_ref()));
                let caller = route.map(|route| {
                    route.deadline = route.deadline.map(|_| now + self.request_timeout);
                    route.caller
                });
                caller.map(|caller| Action::Caller(caller, text)).into_iter().collect()
            }
            "notifications/cancelled" => self.child_cancelled(message),
            "notifications/resources/updated" => {
                let uri =
                    message.params.and_then(|params| object::member(params, "uri")).and_then(object::string);
                let listeners = uri.map_or_else(BTreeSet::new, |uri| self.subscriptions.listeners(&uri));
                listeners.into_iter().map(|caller| Action::Caller(caller, text.clone())).collect()
            }
            _ if method.ends_with("/list_changed") => vec![Action::Broadcast(text)],
            _ => self.only_caller().map(|caller| Action::Caller(caller, text)).into_iter().collect(),
        }
    }

    fn child_cancelled(&mut self, message: &Envelope<'_>) -> Vec<Action> {
        let Some(id) = rewrite::cancelled_request_id(message.params) else { return Vec::new() };
        let own = self.asked.iter().find(|(_, asked)| asked.id.get() == id.get()).map(|(own, _)| own.clone());
        let Some((own, asked)) = own.and_then(|own| self.asked.remove_entry(&own)) else { return Vec::new() };
        let text = rewrite::with_cancelled_request_id(message, &object::quote(&own));
        vec![Action::Caller(asked.caller, compact(&text))]
    }

    /// The one caller that something uncorrelated can concern: the only one at work, or else the only one there.
    fn only_caller(&self) -> Option<PublicKey> {
        let working: BTreeSet<PublicKey> = self.working().map(|route| route.caller).collect();
        let mut candidates =
            if working.is_empty() { self.callers.keys().copied().collect() } else { working }.into_iter();
        match (candidates.next(), candidates.next()) {
            (Some(only), None) => Some(only),
            (_, _) => None,
        }
    }

    fn own_id(&mut self) -> String {
        self.next = self.next.saturating_add(1);
        format!("{OWN}{}", self.next)
    }

    fn own_request(&mut self, method: &str, uri: &str) -> String {
        let id = self.own_id();
        format!(
            r#"{{"jsonrpc":"2.0","id":"{id}","method":"{method}","params":{{"uri":{}}}}}"#,
            object::quote(uri)
        )
    }
}

#[cfg(test)]
mod tests;
