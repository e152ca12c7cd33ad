//! Whose request it is: by name, by resource, by task, or by what only one server offers.
use std::borrow::Cow;
use std::collections::VecDeque;

use contextvm_core::Printable;
use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::object::{self, Object, quote};
use contextvm_core::rewrite::Rewrite;
use serde_json::value::RawValue;

use super::gather::{LISTS, What};
use super::merger::{Call, Merger, Work, is_modern};
use super::names::Named;
use crate::answer::{Failure, METHOD_NOT_FOUND};
use crate::revision::{INVALID_PARAMS, NO_RESOURCE};

/// Errors that a server gives which does not know a resource, with that of revisions before 2026-07-28 and the general one.
const UNKNOWN: [i64; 4] = [INVALID_PARAMS, METHOD_NOT_FOUND, NO_RESOURCE, -32603];
/// Resource subscriptions of a host whose servers are remembered.
const SUBSCRIBED: usize = 1_024;
/// Longest of their URIs, bytes.
const LONGEST: usize = 4 * 1024;

/// A request for a resource that is put to one server after the other.
#[derive(Debug)]
pub(super) struct Seek {
    request: String,
    method: String,
    uri: String,
    left: VecDeque<usize>,
    error: Option<String>,
}

impl Merger {
    /// Finds out which servers a request is for.
    pub(super) fn route(&mut self, number: u64, message: &Envelope<'_>) {
        let method = message.method.as_deref().unwrap_or_default();
        match method {
            "ping" if !is_modern(message) => self.result_for(number, "{}"),
            "initialize" => self.open_sessions(number, message),
            "server/discover" => self.collect(number, What::Discover, message, None),
            "logging/setLevel" => self.collect(number, What::Level, message, Some("logging")),
            "tools/call" | "prompts/get" => self.named(number, message),
            "completion/complete" => self.complete(number, message),
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
                let uri = message.param("uri").and_then(object::string).unwrap_or_default().into_owned();
                self.seek(number, message, uri, "resources");
            }
            "subscriptions/listen" => self.listen(number, message),
            _ => match LISTS.iter().find(|list| list.method == method) {
                Some(list) => self.collect(number, What::List(list), message, Some(list.part)),
                None => self.other(number, message),
            },
        }
    }

    /// Asks the server whose tool or prompt it is.
    fn named(&mut self, number: u64, message: &Envelope<'_>) {
        let exposed = message.param("name").and_then(object::string).unwrap_or_default();
        match self.directory.resolve(&exposed) {
            Named::Of(server, name) => {
                self.straight(number, server, message, Rewrite::of(message).param("name", quote(&name)));
            }
            Named::Shortened(servers) => self.find(number, message, exposed.into_owned(), &servers),
            Named::Nobody => self.unknown_name(number, &exposed),
        }
    }

    pub(super) fn unknown_name(&mut self, number: u64, exposed: &str) {
        let names = self.directory.names().join(", ");
        let why = format!(
            "there is no {}: names begin with one of {names}, and two underscores",
            Printable::short(exposed, 100)
        );
        self.failure_for(number, &Failure::new(INVALID_PARAMS, "unknown_name", why));
    }

    /// Asks the server whose prompt or resource is to be completed.
    fn complete(&mut self, number: u64, message: &Envelope<'_>) {
        let reference = message.param("ref");
        let part =
            |name| reference.and_then(|reference| object::member(reference, name)).and_then(object::string);
        let Some(exposed) = part("name") else {
            let uri = part("uri").unwrap_or_default().into_owned();
            return self.seek(number, message, uri, "completions");
        };
        match self.directory.resolve(&exposed) {
            Named::Of(server, name) => {
                let edited =
                    reference.and_then(|reference| Object::parse(reference.get()).ok()).map(|reference| {
                        let mut edit = reference.into_edit();
                        edit.set_string("name", &name);
                        edit.to_text()
                    });
                let edited = edited.unwrap_or_default();
                self.straight(number, server, message, Rewrite::of(message).param("ref", edited));
            }
            Named::Shortened(servers) => self.find(number, message, exposed.into_owned(), &servers),
            Named::Nobody => self.unknown_name(number, &exposed),
        }
    }

    /// Asks the servers one after the other whose resource it may be.
    fn seek(&mut self, number: u64, message: &Envelope<'_>, uri: String, capability: &str) {
        let method = message.method.as_deref().unwrap_or_default();
        let before = self.subscribed.get(&uri).filter(|_| method == "resources/unsubscribe");
        let servers = before.map_or_else(|| self.directory.of_resource(&uri), |server| vec![*server]);
        let modern = is_modern(message);
        let left: VecDeque<usize> = servers
            .iter()
            .copied()
            .filter(|server| self.can_ask(*server, modern))
            .filter(|server| self.directory.offers(*server, capability) != Some(false))
            .collect();
        match (left.is_empty(), servers.as_slice()) {
            (true, [server]) if !self.can_ask(*server, modern) => {
                return self.failure_for(number, &self.left_out(*server));
            }
            (true, _) => return self.not_offered(number, method),
            (false, _) => {}
        }
        let seek =
            Seek { request: message.text().to_owned(), method: method.to_owned(), uri, left, error: None };
        if let Some(call) = self.calls.get_mut(&number) {
            call.work = Work::Seek(seek);
        }
        self.seek_on(number);
    }

    fn seek_on(&mut self, number: u64) {
        let Some(Call { work: Work::Seek(seek), .. }) = self.calls.get_mut(&number) else { return };
        let (request, next, error) = (seek.request.clone(), seek.left.pop_front(), seek.error.clone());
        match next {
            Some(server) => self.ask_text(number, server, &request),
            None => self.answer_text(number, &error.unwrap_or_default()),
        }
    }

    pub(super) fn sought(&mut self, number: u64, server: usize, message: &Envelope<'_>) {
        let Some(Call { work: Work::Seek(seek), .. }) = self.calls.get_mut(&number) else { return };
        if message.kind == MessageKind::Response {
            match seek.method.as_str() {
                "resources/read" => self.directory.has_resource(server, &seek.uri),
                "resources/subscribe" if self.subscribed.len() < SUBSCRIBED && seek.uri.len() <= LONGEST => {
                    self.subscribed.insert(core::mem::take(&mut seek.uri), server);
                }
                "resources/unsubscribe" => drop(self.subscribed.remove(&seek.uri)),
                _ => {}
            }
            return self.answer(number, message);
        }
        let says_more = |text: &Option<String>| {
            // An error that tells more than that the resource is not there is worth more to the host.
            text.is_none() || !message.error_code().is_some_and(|code| UNKNOWN.contains(&code))
        };
        if says_more(&seek.error) {
            seek.error = Some(message.text().to_owned());
        }
        self.seek_on(number);
    }

    /// Asks the only server that can be meant by a method which is not understood here.
    fn other(&mut self, number: u64, message: &Envelope<'_>) {
        let method = message.method.as_deref().unwrap_or_default();
        let task =
            message.param("taskId").and_then(object::string).and_then(|task| self.directory.of_task(&task));
        let family = method.split('/').next().unwrap_or_default();
        let offering: Vec<usize> = (0..self.sessions.len())
            .filter(|server| self.directory.offers(*server, family) == Some(true))
            .collect();
        let only = if let [server] = offering.as_slice() { Some(*server) } else { None };
        match task.or(only) {
            Some(server) => self.straight(number, server, message, Rewrite::of(message)),
            None => self.not_offered(number, method),
        }
    }

    pub(super) fn not_offered(&mut self, number: u64, method: &str) {
        let names = self.directory.names().join(", ");
        let why = format!("which of {names} is meant by {} cannot be told", Printable::short(method, 60));
        self.failure_for(number, &Failure::new(METHOD_NOT_FOUND, "which_server", why));
    }

    /// Passes a request to one server.
    fn straight(&mut self, number: u64, server: usize, message: &Envelope<'_>, rewrite: Rewrite<'_>) {
        if self.can_ask(server, is_modern(message)) {
            self.ask(number, server, rewrite);
        } else {
            let failure = self.left_out(server);
            self.failure_for(number, &failure);
        }
    }
}

/// The task that a result hands out: below `task` in 2025-11-25, in the result itself as an extension of 2026-07-28.
pub(super) fn task_of(result: &RawValue) -> Option<String> {
    if !result.get().contains("taskId") {
        return None;
    }
    let within = object::member(result, "task").unwrap_or(result);
    object::member(within, "taskId").and_then(object::string).map(Cow::into_owned)
}
