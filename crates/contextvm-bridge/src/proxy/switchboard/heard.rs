//! What the server says, and who hears it.
use std::collections::BTreeSet;
use std::time::Instant;

use contextvm_core::Limits;
use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::rewrite;

use super::calls::Path;
use super::texts::{is_foreign, modern_params, shows_modern};
use super::{ASKED, Act, Era, Purpose, Switchboard};
use crate::answer::{FAILED, empty_result};
use crate::proxy::conversation::Heard;

impl Switchboard {
    /// Takes one message of the server.
    pub(in crate::proxy) fn hear_server(&mut self, text: &str, now: Instant) {
        let limits = Limits { json_nodes: self.limits.json_nodes.saturating_mul(16), ..self.limits.clone() };
        let Ok(message) = Envelope::parse(text, &limits) else { return };
        self.spoken |= is_foreign(&message);
        match message.kind {
            MessageKind::Response | MessageKind::Error => self.server_answers(&message, now),
            MessageKind::Notification => self.server_says(&message, now),
            MessageKind::Request => self.server_asks(&message),
        }
    }

    fn server_answers(&mut self, message: &Envelope<'_>, now: Instant) {
        let Some(id) = message.id.map(rewrite::plain_text) else { return };
        if let Some(purpose) = self.purposes.remove(id.as_ref()) {
            return self.own_answered(purpose, &id, message, now);
        }
        if let Era::Probing { own, .. } = &self.era
            && *own == id
        {
            match shows_modern(message) {
                Some(true) => self.probed(true, now),
                Some(false) => return self.probed(false, now),
                None => self.not_probed(message),
            }
        }
        let own = self.down_name(&id);
        let Some(call) = self.calls.get(&own) else { return self.down_late(&own, message) };
        match call.path {
            Path::Straight if call.method == "initialize" => self.initialize_answered(&own, message),
            Path::Straight => self.answer_host(&own, message),
            Path::Down => self.down_answered(&own, &id, message),
            Path::Up => self.up_answered(&own, message),
        }
    }

    fn own_answered(&mut self, purpose: Purpose, own: &str, message: &Envelope<'_>, now: Instant) {
        match purpose {
            Purpose::Nothing => {}
            Purpose::Probe => match shows_modern(message) {
                Some(modern) => self.probed(modern, now),
                None => self.not_probed(message),
            },
            Purpose::Open => self.down_opened(message, now),
            Purpose::Discover { host } => self.up_discovered(host, message),
            Purpose::Listen { host } => self.up_listen_ended(host, own, now),
        }
    }

    /// A server that refuses `initialize` may be one that does not need it.
    fn initialize_answered(&mut self, own: &str, message: &Envelope<'_>) {
        let Some(host) = self.calls.get(own).map(|call| call.host) else { return };
        let Some(state) = self.hosts.get_mut(&host) else { return };
        if let Some(opening) = state.opening.as_mut().filter(|opening| opening.own == own) {
            if message.kind == MessageKind::Error && shows_modern(message) == Some(false) {
                opening.refusal = Some(message.text().to_owned());
                self.own_request(Purpose::Discover { host }, "server/discover", &modern_params("{}"));
                return;
            }
            state.opening = None;
        }
        self.answer_host(own, message);
    }

    fn server_says(&mut self, message: &Envelope<'_>, now: Instant) {
        let method = message.method.as_deref().unwrap_or_default();
        if let Some(id) = rewrite::subscription_id(message.params).map(rewrite::plain_text) {
            if let Some(Purpose::Listen { host }) = self.purposes.get(id.as_ref()) {
                let host = *host;
                return self.up_listened(host, &id, method, message);
            }
            let Some(call) = self.calls.get(&id) else { return };
            let text = rewrite::with_subscription_id(message, call.id.get());
            self.acts.push_back(Act::Host(call.host, Heard { text, about: Some(call.id.clone()) }));
            return;
        }
        match method {
            "notifications/progress" => {
                let token = rewrite::notified_token(message.params).map(rewrite::plain_text);
                let own = token.map(|token| self.down_name(&token));
                let Some(call) = own.and_then(|own| self.calls.get_mut(&own)) else { return };
                let Some(token) = &call.token else { return };
                let told = rewrite::param(message.params, "progress")
                    .and_then(|told| told.get().parse::<f64>().ok());
                call.moved = now;
                call.progress = told.unwrap_or(call.progress);
                let text = rewrite::with_notified_token(message, token.get());
                self.acts.push_back(Act::Host(call.host, Heard { text, about: Some(call.id.clone()) }));
            }
            "notifications/cancelled" => self.server_cancels(message),
            "notifications/message" => self.server_logs(message),
            _ => {
                self.down_notified(method, message);
                self.tell_sessions(message.text());
            }
        }
    }

    /// The server takes a request of its own back.
    fn server_cancels(&mut self, message: &Envelope<'_>) {
        let Some(id) = rewrite::cancelled_request_id(message.params) else { return };
        if let Some(host) = self.asked.remove(id.get()) {
            let text = message.text().to_owned();
            self.acts.push_back(Act::Host(host, Heard { text, about: None }));
        }
    }

    /// Log messages name no request: they go to every session, and to every call of 2026-07-28 that asked for them.
    fn server_logs(&mut self, message: &Envelope<'_>) {
        self.tell_sessions(message.text());
        let told: Vec<Act> = self
            .calls
            .iter()
            .filter(|(_, call)| call.wants_logs)
            .map(|(_, call)| {
                Act::Host(call.host, Heard { text: message.text().to_owned(), about: Some(call.id.clone()) })
            })
            .collect();
        self.acts.extend(told);
    }

    fn tell_sessions(&mut self, text: &str) {
        let sessions = self.hosts.iter().filter(|(_, host)| host.session);
        let heard = Heard { text: text.to_owned(), about: None };
        self.acts.extend(sessions.map(|(host, _)| Act::Host(*host, heard.clone())));
    }

    /// Asks the one host that a request of the server can concern.
    fn server_asks(&mut self, message: &Envelope<'_>) {
        let (Some(id), Some(method)) = (message.id, message.method.as_deref()) else { return };
        let working: Vec<_> = self.calls.iter().filter(|(_, call)| call.is_work()).collect();
        let about = match working.as_slice() {
            [(_, call)] => Some(call.id.clone()),
            _ => None,
        };
        let hosts: BTreeSet<u64> = working.iter().map(|(_, call)| call.host).collect();
        let down: Vec<String> = self.down_candidates();
        let sessions: Vec<u64> =
            self.hosts.iter().filter(|(_, host)| host.session).map(|(host, _)| *host).collect();
        if let [own] = down.as_slice()
            && hosts.iter().all(|host| !sessions.contains(host))
        {
            let own = own.clone();
            return self.down_asked(&own, id, method, message);
        }
        let mut hosts = hosts.into_iter();
        let host = match (hosts.next(), hosts.next(), sessions.as_slice()) {
            (Some(host), None, _) if down.is_empty() => Some(host),
            (None, None, [host]) if down.is_empty() => Some(*host),
            (_, _, _) => None,
        };
        match host {
            Some(_) if method == "ping" => self.acts.push_back(Act::Server(empty_result(id))),
            Some(_) if self.asked.len() >= ASKED => {
                self.refuse_server(id.get(), FAILED, "busy", "too many requests wait for hosts");
            }
            Some(host) => {
                self.asked.insert(id.get().to_owned(), host);
                self.acts.push_back(Act::Host(host, Heard { text: message.text().to_owned(), about }));
            }
            None if method == "ping" => self.acts.push_back(Act::Server(empty_result(id))),
            None => self.refuse_server(
                id.get(),
                FAILED,
                "which_host",
                "it is not known which of the hosts behind this client is meant",
            ),
        }
    }
}
