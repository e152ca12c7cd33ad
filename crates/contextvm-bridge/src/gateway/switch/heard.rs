//! What the child says: answers to the callers they belong to, questions and notifications to those they concern.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::object::{self, compact};
use contextvm_core::{Printable, rewrite};
use nostr::key::PublicKey;
use serde_json::value::RawValue;

use super::{ASKED, Action, Asked, OBEYS, Route, State, Switch};
use crate::answer::{FAILED, Failure, METHOD_NOT_FOUND, empty_result};
use crate::gateway::levels::Level;
use crate::gateway::welcome::Welcome;
use crate::gateway::{OWN, check_dense};
use crate::notice::Notice;

impl Switch {
    pub(in crate::gateway) fn hear_child(&mut self, text: &str, now: Instant) -> Vec<Action> {
        let message = match Envelope::parse(text, &self.line_limits()) {
            Ok(message) => message,
            Err(error) => return self.unreadable(text, &error.to_string()),
        };
        if let Err(error) = check_dense(text, &self.limits) {
            return self.unreadable(text, &error.to_string());
        }
        match message.kind {
            MessageKind::Response | MessageKind::Error => self.child_answered(&message, now),
            MessageKind::Request => self.child_asked(&message, now),
            MessageKind::Notification => self.child_said(&message, now),
        }
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
    pub(in crate::gateway) fn noise(&mut self, what: String) -> Vec<Action> {
        self.noise = self.noise.saturating_add(1);
        if self.noise == 1 || self.noise.is_power_of_two() && self.noise >= 1_024 {
            vec![Action::Tell(Notice::ChildNoise { what, count: self.noise })]
        } else {
            Vec::new()
        }
    }

    fn child_answered(&mut self, message: &Envelope<'_>, now: Instant) -> Vec<Action> {
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
            // Most likely the late answer to a request that was cancelled or took too long.
            let late = self.ghosts.remove(id.as_ref()).is_some_and(|ghost| now >= ghost.since + OBEYS);
            self.is_deaf |= late && message.kind == MessageKind::Response;
            return Vec::new();
        };
        if route.method == "logging/setLevel" && message.kind == MessageKind::Error {
            self.levels.leave(&route.caller);
        }
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
            actions.push(Action::Child(self.own_request("resources/subscribe", "uri", &uri)));
        }
        if let Some(level) = self.levels.lowest() {
            actions.push(Action::Child(self.own_request("logging/setLevel", "level", level.name())));
        }
        if let State::Opening { mut held, .. } = core::mem::replace(&mut self.state, State::Open) {
            actions.extend(held.take_all().into_iter().map(Action::Child));
        }
        actions.push(Action::Tell(Notice::ChildReady));
        actions
    }

    /// Answers the child's open questions to a caller that does not know of them any more.
    pub(super) fn unasked(&mut self, caller: &PublicKey) -> Vec<Action> {
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

    fn child_asked(&mut self, message: &Envelope<'_>, now: Instant) -> Vec<Action> {
        let (Some(id), Some(method)) = (message.id, message.method.as_deref()) else { return Vec::new() };
        if method == "ping" {
            return vec![Action::Child(empty_result(id))];
        }
        let callers: BTreeMap<PublicKey, bool> =
            self.working().map(|route| (route.caller, route.server_requests)).collect();
        let haunting = self.haunting(now);
        let is_sure = |caller: &PublicKey| {
            haunting.as_ref().is_some_and(|ghosts| ghosts.iter().all(|ghost| ghost == caller))
        };
        let refuse =
            |code, reason, why: &str| vec![Action::Child(Failure::new(code, reason, why).answer(id))];
        let mut callers = callers.into_iter();
        match (callers.next(), callers.next()) {
            (None, _) => {
                refuse(METHOD_NOT_FOUND, "no_client", "no client has a call in flight that could be asked")
            }
            (Some((caller, _)), other) if other.is_some() || !is_sure(&caller) => refuse(
                FAILED,
                "several_clients",
                "several clients have calls in flight, or had them just now; which one is meant is not known",
            ),
            (Some((_, false)), _) => {
                refuse(METHOD_NOT_FOUND, "not_supported", "the client does not answer requests of a server")
            }
            (Some(_), _) if self.asked.len() >= ASKED => {
                refuse(FAILED, "busy", "too many requests wait for clients")
            }
            (Some((caller, true)), _) => {
                let own = self.own_id();
                let question = compact(&rewrite::with_id(message, &object::quote(&own)));
                let deadline = now + self.request_timeout;
                self.asked.insert(own, Asked { caller, id: id.to_owned(), deadline });
                vec![Action::Caller(caller, question)]
            }
        }
    }

    /// Calls of callers that the child works on; a modern subscription is none.
    fn working(&self) -> impl Iterator<Item = &Route> {
        let calls = self.routes.values().filter(|route| route.deadline.is_some());
        calls.filter(|route| !self.locals.contains(&route.caller))
    }

    fn child_said(&mut self, message: &Envelope<'_>, now: Instant) -> Vec<Action> {
        let text = compact(message.text());
        let method = message.method.as_deref().unwrap_or_default();
        if method == "notifications/cancelled" {
            return self.child_cancelled(message);
        }
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
            "notifications/resources/updated" => {
                let uri =
                    message.params.and_then(|params| object::member(params, "uri")).and_then(object::string);
                let listeners = uri.map_or_else(BTreeSet::new, |uri| self.subscriptions.listeners(&uri));
                listeners.into_iter().map(|caller| Action::Caller(caller, text.clone())).collect()
            }
            _ if method.ends_with("/list_changed") => vec![Action::Broadcast(text)],
            "notifications/message" => {
                let level = Level::of(message);
                let caller = self.only_caller(now).filter(|caller| self.levels.hears(caller, level));
                caller.map(|caller| Action::Caller(caller, text)).into_iter().collect()
            }
            _ => self.only_caller(now).map(|caller| Action::Caller(caller, text)).into_iter().collect(),
        }
    }

    fn child_cancelled(&mut self, message: &Envelope<'_>) -> Vec<Action> {
        let Some(id) = rewrite::cancelled_request_id(message.params) else { return Vec::new() };
        let own = self.asked.iter().find(|(_, asked)| asked.id.get() == id.get()).map(|(own, _)| own.clone());
        let Some((own, asked)) = own.and_then(|own| self.asked.remove_entry(&own)) else {
            return self.subscription_ended(message, id);
        };
        let text = rewrite::with_cancelled_request_id(message, &object::quote(&own));
        vec![Action::Caller(asked.caller, compact(&text))]
    }

    /// Passes on that the child ends a subscription of the modern era.
    fn subscription_ended(&mut self, message: &Envelope<'_>, id: &RawValue) -> Vec<Action> {
        let id = rewrite::plain_text(id);
        let is_listening = self.routes.get(id.as_ref()).is_some_and(|route| route.deadline.is_none());
        let route = if is_listening { self.routes.remove(id.as_ref()) } else { None };
        let text = || compact(message.text());
        route.map(|route| Action::Caller(route.caller, text())).into_iter().collect()
    }

    /// The one caller that something uncorrelated can concern: the only one at work, also on what is over for its caller, or
    /// else the only one there.
    fn only_caller(&self, now: Instant) -> Option<PublicKey> {
        let mut working = self.haunting(now)?;
        working.extend(self.working().map(|route| route.caller));
        let mut candidates =
            if working.is_empty() { self.callers.keys().copied().collect() } else { working }.into_iter();
        match (candidates.next(), candidates.next()) {
            (Some(only), None) => Some(only),
            (_, _) => None,
        }
    }
}
