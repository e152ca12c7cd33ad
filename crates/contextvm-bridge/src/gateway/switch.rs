//! Who gets what: the gateway's decisions, without any input or output of its own.
//!
//! Requests reach the child under ids and progress tokens that are unique over all callers, so an answer belongs to
//! exactly one of them. What the child says by itself goes to a caller only if it can concern no other.
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::object::{self, compact};
use contextvm_core::{Limits, rewrite};
use contextvm_server::Delivery;
use nostr::key::PublicKey;
use serde_json::value::RawValue;

use super::levels::{Level, Levels};
use super::subscriptions::Subscriptions;
use super::welcome::Welcome;
use super::{OWN, cancelled};
use crate::answer::{FAILED, Failure, TIMED_OUT, empty_result};
use crate::notice::Notice;
use crate::queue::Waiting;

mod heard;

/// Questions of the child that may wait for a caller's answer.
const ASKED: usize = 256;
/// A restart that is due this soon is waited for; otherwise requests are refused until the child is back.
const PATIENCE: Duration = Duration::from_millis(2_500);
/// How long a child that obeys may work on after a cancellation.
const OBEYS: Duration = Duration::from_secs(1);

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
    /// A subscription of the modern era has none: it lasts as long as its caller is there.
    deadline: Option<Instant>,
}

/// A request that is over for its caller, and that the child may work on all the same.
#[derive(Debug)]
struct Ghost {
    caller: PublicKey,
    since: Instant,
}

/// A question of the child that a caller was asked.
#[derive(Debug)]
struct Asked {
    caller: PublicKey,
    id: Box<RawValue>,
    deadline: Instant,
}

/// A caller with a session.
#[derive(Debug)]
struct Presence {
    sessions: usize,
    heard: Instant,
}

#[derive(Debug)]
enum State {
    Down { how: String, again: Option<Instant>, held: Waiting<String> },
    Opening { id: String, since: Instant, held: Waiting<String> },
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
    /// What the child says to nobody in particular may be about these, too.
    ghosts: BTreeMap<String, Ghost>,
    /// Since when there may be others, for which there was no place.
    crowded: Option<Instant>,
    /// The child has gone on with something that was cancelled.
    is_deaf: bool,
    asked: BTreeMap<String, Asked>,
    subscriptions: Subscriptions,
    levels: Levels,
    callers: BTreeMap<PublicKey, Presence>,
    /// Sessions of the process itself: what the child says to nobody in particular is never for them, and because of them
    /// nobody else misses it.
    locals: BTreeSet<PublicKey>,
    next: u64,
    noise: u64,
}

impl Switch {
    pub(super) fn new(limits: Limits, request_timeout: Duration, opening_timeout: Duration) -> Self {
        Self {
            limits,
            request_timeout,
            opening_timeout,
            state: State::Down { how: "has not started".to_owned(), again: None, held: Waiting::default() },
            welcome: None,
            routes: BTreeMap::new(),
            ghosts: BTreeMap::new(),
            crowded: None,
            is_deaf: false,
            asked: BTreeMap::new(),
            subscriptions: Subscriptions::default(),
            levels: Levels::default(),
            callers: BTreeMap::new(),
            locals: BTreeSet::new(),
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
        self.callers.contains_key(caller) || self.locals.contains(caller) || self.owes(caller)
    }

    /// Takes note of a session; what the caller asked for in an earlier one is over.
    pub(super) fn session_began(&mut self, caller: PublicKey, now: Instant) -> Vec<Action> {
        let presence = self.callers.entry(caller).or_insert(Presence { sessions: 0, heard: now });
        presence.sessions += 1;
        presence.heard = now;
        let mut actions = self.unasked(&caller);
        actions.extend(self.unwanted(caller));
        actions
    }

    /// Takes note of a session of the process itself.
    pub(super) fn local_began(&mut self, caller: PublicKey) {
        self.locals.insert(caller);
    }

    pub(super) fn session_ended(&mut self, caller: PublicKey) -> Vec<Action> {
        self.locals.remove(&caller);
        let left = self.callers.get_mut(&caller).map_or(0, |presence| {
            presence.sessions = presence.sessions.saturating_sub(1);
            presence.sessions
        });
        if left > 0 {
            return Vec::new();
        }
        self.callers.remove(&caller);
        self.unwanted(caller)
    }

    /// Tells the child what nobody wants any more without this caller.
    fn unwanted(&mut self, caller: PublicKey) -> Vec<Action> {
        let mut uris = self.subscriptions.leave(&caller);
        uris.retain(|uri| !self.is_being_subscribed(uri, &caller));
        let before = self.levels.lowest();
        self.levels.leave(&caller);
        let level = self.levels.lowest().filter(|lowest| Some(*lowest) != before);
        if !matches!(self.state, State::Open) {
            return Vec::new();
        }
        let mut lines: Vec<String> =
            uris.iter().map(|uri| self.own_request("resources/unsubscribe", "uri", uri)).collect();
        lines.extend(level.map(|level| self.own_request("logging/setLevel", "level", level.name())));
        lines.into_iter().map(Action::Child).collect()
    }

    pub(super) fn child_up(&mut self, now: Instant) -> Vec<Action> {
        let mut held = match &mut self.state {
            State::Down { held, .. } => core::mem::take(held),
            State::Opening { .. } | State::Open => Waiting::default(),
        };
        if self.welcome.as_ref().is_some_and(|welcome| !welcome.is_accepted()) {
            // It does without `initialize`, and servers of that kind end when they are asked.
            self.state = State::Open;
            let held = held.take_all().into_iter().map(Action::Child);
            return held.chain([Action::Tell(Notice::ChildReady)]).collect();
        }
        let id = self.own_id();
        let request = Welcome::request(&id);
        self.state = State::Opening { id, since: now, held };
        vec![Action::Child(request)]
    }

    /// Answers everything that waits for the child; none of it will ever be answered by it.
    pub(super) fn child_down(
        &mut self,
        how: &str,
        restart: Option<(Duration, usize)>,
        now: Instant,
    ) -> Vec<Action> {
        let again = restart.map(|(wait, _)| now + wait);
        self.state = State::Down { how: how.to_owned(), again, held: Waiting::default() };
        self.asked.clear();
        self.ghosts.clear();
        (self.crowded, self.is_deaf) = (None, false);
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
        let gone = |route: &Route| {
            let presence = self.callers.get(&route.caller);
            let is_local = self.locals.contains(&route.caller);
            !is_local
                && presence
                    .is_none_or(|presence| now.duration_since(presence.heard) >= self.limits.session_idle)
        };
        let is_late = |route: &Route| route.deadline.map_or_else(|| gone(route), |deadline| deadline <= now);
        let late = self.routes.iter().filter(|(_, route)| is_late(route));
        let late: Vec<String> = late.map(|(id, _)| id.clone()).collect();
        let mut actions = Vec::new();
        for id in late {
            let Some(route) = self.routes.remove(&id) else { continue };
            let failure = if route.deadline.is_some() {
                Failure::new(TIMED_OUT, "child_timeout", "the server's process did not answer in time")
                    .with_time("waitedMs", self.request_timeout)
            } else {
                Failure::new(TIMED_OUT, "lease_expired", "nothing was heard of the client for too long")
                    .with_time("waitedMs", self.limits.session_idle)
            };
            actions.push(Action::Caller(route.caller, failure.answer_to(&id)));
            actions.extend(self.write_child(cancelled(&id, "timeout")));
            self.haunt(id, &route, now);
        }
        self.ghosts.retain(|_, ghost| ghost.since + self.request_timeout > now);
        self.crowded.take_if(|since| *since + self.request_timeout <= now);
        let unanswered = self.asked.extract_if(.., |_, asked| asked.deadline <= now);
        let failure = Failure::new(TIMED_OUT, "no_reply", "the client did not answer in time");
        actions.extend(unanswered.map(|(_, asked)| Action::Child(failure.answer(&asked.id))));
        if let State::Opening { since, .. } = &self.state
            && now.duration_since(*since) >= self.opening_timeout
        {
            actions.push(Action::Kick);
        }
        actions
    }

    pub(super) fn hear_caller(&mut self, letter: Letter<'_>, now: Instant) -> Vec<Action> {
        if let Some(presence) = self.callers.get_mut(&letter.caller) {
            presence.heard = now;
        }
        let Ok(message) = Envelope::parse(letter.message, &self.line_limits()) else { return Vec::new() };
        match letter.delivery {
            Delivery::Request { key, method, .. } => {
                self.request(&letter, &key.id.to_hex(), method, &message, now)
            }
            Delivery::Notification { method } => self.notification(&letter, method, &message, now),
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
        // One that says which revision without sessions it means is for the child to refuse.
        if method == "initialize"
            && rewrite::protocol_version(message.params).is_none()
            && let Some(welcome) = &self.welcome
        {
            return vec![Action::Caller(caller, welcome.answer(json_id, message.params))];
        }
        if let State::Down { how, again, held: _ } = &self.state {
            let wait = again.map(|again| again.saturating_duration_since(now));
            if wait.is_none_or(|wait| wait > PATIENCE) {
                let mut failure = Failure::new(FAILED, "child_down", format!("the server's process {how}"));
                if let Some(wait) = wait {
                    failure = failure.with_time("retryAfterMs", wait);
                }
                return refuse(failure);
            }
        }
        if self.routes.len() >= self.limits.in_flight.saturating_mul(2) {
            return refuse(Failure::new(FAILED, "busy", "too many requests wait for the server's process"));
        }
        let uri = message.params.and_then(|params| object::member(params, "uri")).and_then(object::string);
        let uri = uri.filter(|_| method.starts_with("resources/")).map(|uri| uri.into_owned());
        if method == "resources/unsubscribe"
            && let Some(uri) = &uri
            && (self.subscriptions.remove(uri, &caller) || self.is_being_subscribed(uri, &caller))
        {
            // Others still listen, so the child must not hear of it.
            return vec![Action::Caller(caller, empty_result(json_id))];
        }
        let mut line = compact(letter.message);
        if method == "logging/setLevel"
            && let Some(level) = Level::of(message)
        {
            let before = self.levels.lowest();
            self.levels.set(caller, level);
            match self.levels.lowest() {
                // The child says as much already; the rest is left out on the way to this caller.
                lowest if lowest == before => return vec![Action::Caller(caller, empty_result(json_id))],
                Some(lowest) if lowest != level => {
                    let edit = rewrite::Rewrite::of(message).param("level", object::quote(lowest.name()));
                    line = compact(&edit.to_text());
                }
                Some(_) | None => {}
            }
        }
        let deadline = (method != "subscriptions/listen").then(|| now + self.request_timeout);
        let route = Route {
            caller,
            method: method.to_owned(),
            uri,
            server_requests: letter.server_requests,
            deadline,
        };
        self.routes.insert(id.to_owned(), route);
        self.write_child(line)
    }

    /// Whether the child was asked by others to tell of a resource, and has not answered yet.
    fn is_being_subscribed(&self, uri: &str, caller: &PublicKey) -> bool {
        self.routes.values().any(|route| {
            route.method == "resources/subscribe"
                && route.uri.as_deref() == Some(uri)
                && route.caller != *caller
        })
    }

    /// Notes that the child may go on with a request whose caller does not wait any more.
    fn haunt(&mut self, id: String, route: &Route, now: Instant) {
        if route.deadline.is_none() || self.locals.contains(&route.caller) {
            return;
        }
        if self.ghosts.len() < self.limits.in_flight {
            self.ghosts.insert(id, Ghost { caller: route.caller, since: now });
        } else {
            self.crowded = Some(now);
        }
    }

    /// Whether the child may still work on what was over at some time.
    fn may_go_on(&self, since: Instant, now: Instant) -> bool {
        now < since + if self.is_deaf { self.request_timeout } else { OBEYS }
    }

    /// Callers of what is over and may be worked on all the same; `None` if not all of them are known.
    fn haunting(&self, now: Instant) -> Option<BTreeSet<PublicKey>> {
        let ghosts = self.ghosts.values().filter(|ghost| self.may_go_on(ghost.since, now));
        let is_known = !self.crowded.is_some_and(|since| self.may_go_on(since, now));
        is_known.then(|| ghosts.map(|ghost| ghost.caller).collect())
    }

    fn notification(
        &mut self,
        letter: &Letter<'_>,
        method: &str,
        message: &Envelope<'_>,
        now: Instant,
    ) -> Vec<Action> {
        if matches!(&self.state, State::Down { held, .. } if held.is_empty()) {
            return Vec::new();
        }
        match method {
            // Said once by the gateway; and the roots of one caller are nothing to a shared child.
            "notifications/initialized" | "notifications/roots/list_changed" => Vec::new(),
            "notifications/cancelled" => {
                let id = rewrite::cancelled_request_id(message.params).map(rewrite::plain_text);
                let own = |route: &Route| route.caller == letter.caller;
                match id {
                    Some(id) if self.routes.get(id.as_ref()).is_some_and(own) => {
                        if let Some((id, route)) = self.routes.remove_entry(id.as_ref()) {
                            self.haunt(id, &route, now);
                        }
                        self.write_child(compact(letter.message))
                    }
                    Some(_) | None => Vec::new(),
                }
            }
            "notifications/progress" if !self.is_awaited(letter.caller, message) => Vec::new(),
            _ => self.write_child(compact(letter.message)),
        }
    }

    /// Whether the child can make something of a caller's progress: a word on a stream that the child writes for one of its
    /// calls, or how far the caller is with what the child asked.
    fn is_awaited(&self, caller: PublicKey, message: &Envelope<'_>) -> bool {
        let token = rewrite::notified_token(message.params).map(rewrite::plain_text);
        match token.and_then(|token| self.routes.get(token.as_ref())) {
            Some(route) => route.caller == caller,
            None => self.asked.values().any(|asked| asked.caller == caller),
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

    /// Lines wait while the child is started again and initialised, in order.
    fn write_child(&mut self, line: String) -> Vec<Action> {
        match &mut self.state {
            State::Open => vec![Action::Child(line)],
            State::Opening { held, .. } | State::Down { held, .. }
                if held.has_room(self.limits.in_flight) =>
            {
                held.push_back(line);
                Vec::new()
            }
            State::Opening { .. } | State::Down { .. } => self.not_written(&line),
        }
    }

    /// A line of the child may be longer than an event, and a caller's message has grown by what was put into it.
    fn line_limits(&self) -> Limits {
        Limits { json_nodes: self.limits.json_nodes.saturating_mul(16), ..self.limits.clone() }
    }

    fn own_id(&mut self) -> String {
        self.next = self.next.saturating_add(1);
        format!("{OWN}{}", self.next)
    }

    fn own_request(&mut self, method: &str, member: &str, value: &str) -> String {
        let id = self.own_id();
        format!(
            r#"{{"jsonrpc":"2.0","id":"{id}","method":"{method}","params":{{"{member}":{}}}}}"#,
            object::quote(value)
        )
    }
}

#[cfg(test)]
mod tests;
