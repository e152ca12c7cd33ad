//! What the backend says: answers to the requests they belong to, questions and notifications to its caller.
use std::time::Instant;

use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::object::{compact, quote};
use contextvm_core::{Printable, rewrite};

use super::{Action, Asked, Lane, NAME, RESOURCES, Route, State, replaced};
use crate::answer::{FAILED, Failure, METHOD_NOT_FOUND, empty_result};
use crate::gateway::levels::Level;
use crate::gateway::welcome::Welcome;
use crate::gateway::{OWN, check_dense};
use crate::notice::Notice;

impl Lane {
    pub(in crate::gateway::private) fn hear_backend(
        &mut self,
        text: &str,
        server_requests: bool,
        now: Instant,
    ) -> Vec<Action> {
        let message = match Envelope::parse(text, &self.limits) {
            Ok(message) => message,
            Err(error) => return self.unreadable(text, &error.to_string()),
        };
        if let Err(error) = check_dense(text, &self.wire) {
            return self.unreadable(text, &error.to_string());
        }
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
            if let State::Opening { mut held, .. } = before {
                actions.extend(held.take_all().into_iter().map(Action::Backend));
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
    pub(in crate::gateway::private) fn anew(&mut self) -> Vec<Action> {
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
    pub(in crate::gateway::private) fn noise(&mut self, what: String) -> Vec<Action> {
        self.noise = self.noise.saturating_add(1);
        if self.noise == 1 || self.noise.is_power_of_two() && self.noise >= 1_024 {
            vec![Action::Tell(Notice::ChildNoise { what, count: self.noise })]
        } else {
            Vec::new()
        }
    }
}
