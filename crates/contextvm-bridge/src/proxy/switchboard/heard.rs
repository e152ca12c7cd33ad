//! What the server says, and who hears it.
use std::collections::BTreeSet;
use std::time::Instant;

use contextvm_core::Limits;
use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::rewrite::{self, Rewrite};

use super::calls::Path;
use super::texts::is_foreign;
use super::{Act, CRUMB, Era, FAR, Purpose, Switchboard};
use crate::proxy::conversation::Heard;
use crate::revision::log_level;

impl Switchboard {
    /// Takes one message of the server.
    pub(in crate::proxy) fn hear_server(&mut self, text: &str, now: Instant) {
        let Ok(message) = Envelope::parse(text, &self.answer_limits()) else { return };
        self.spoken |= is_foreign(&message);
        match message.kind {
            MessageKind::Response | MessageKind::Error => self.server_answers(&message, now),
            MessageKind::Notification => self.server_says(&message, now),
            MessageKind::Request => self.server_asks(&message, now),
        }
        self.resume();
    }

    /// An answer may be larger than a request, and a request has grown by what was put into it.
    pub(super) fn answer_limits(&self) -> Limits {
        Limits { json_nodes: self.limits.json_nodes.saturating_mul(16), ..self.limits.clone() }
    }

    fn server_answers(&mut self, message: &Envelope<'_>, now: Instant) {
        let Some(id) = message.id.map(rewrite::plain_text) else { return };
        if let Some(purpose) = self.purposes.remove(id.as_ref()) {
            return self.own_answered(purpose, &id, message, now);
        }
        if self.is_probing(&id) {
            self.probe_answered(&id, message, now);
            if matches!(self.era, Era::Legacy) {
                // The host learns of the older server's session instead.
                return;
            }
        }
        let own = self.down_name(&id);
        let Some(call) = self.calls.get(&own) else { return self.down_late(&own, message) };
        match call.path {
            Path::Held => {}
            Path::Straight if call.method == "initialize" => self.initialize_answered(&own, message),
            Path::Straight => self.answer_host(&own, message),
            Path::Down => self.down_answered(&own, &id, message),
            Path::Up => self.up_answered(&own, message),
        }
    }

    fn own_answered(&mut self, purpose: Purpose, own: &str, message: &Envelope<'_>, now: Instant) {
        match purpose {
            Purpose::Nothing => {}
            Purpose::Probe => self.probe_answered(own, message, now),
            Purpose::Open => self.down_opened(message, now),
            Purpose::Discover { host } => self.up_discovered(host, message),
            Purpose::Listen => self.listen_ended(own, message, now),
        }
    }

    fn server_says(&mut self, message: &Envelope<'_>, now: Instant) {
        let method = message.method.as_deref().unwrap_or_default();
        if let Some(id) = rewrite::subscription_id(message.params).map(rewrite::plain_text) {
            if let Some(Purpose::Listen) = self.purposes.get(id.as_ref()) {
                return self.listened(&id, method, message, now);
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
                    .and_then(|told| told.get().parse::<f64>().ok())
                    .filter(|told| told.is_finite());
                call.moved = now;
                let mut edit = Rewrite::of(message).param(rewrite::PROGRESS_TOKEN, token.get());
                match told {
                    // Progress must grow, and the host has seen more than the server knows.
                    Some(told) if call.crumbs && told <= call.progress && call.progress.abs() < FAR => {
                        call.progress += CRUMB;
                        edit = edit.param("progress", call.progress.to_string());
                    }
                    Some(told) => call.progress = told,
                    None => {}
                }
                let text = edit.to_text();
                self.acts.push_back(Act::Host(call.host, Heard { text, about: Some(call.id.clone()) }));
            }
            "notifications/cancelled" => self.server_cancels(message, now),
            "notifications/resources/updated" => {
                self.down_notified(method, message);
                self.tell_updated(message);
            }
            "notifications/message" => self.server_logs(message),
            _ => {
                self.down_notified(method, message);
                self.tell_sessions(message.text());
            }
        }
    }

    /// Log messages name no request: they go to every session, and otherwise to one call of 2026-07-28 of each host that
    /// asked for them.
    fn server_logs(&mut self, message: &Envelope<'_>) {
        self.tell_sessions(message.text());
        let level = rewrite::param(message.params, "level").and_then(log_level);
        let sessions = self.hosts.iter().filter(|(_, host)| host.session);
        let mut told: BTreeSet<u64> = sessions.map(|(host, _)| *host).collect();
        for (_, call) in self.calls.iter() {
            let wanted = call.logs_from.is_some_and(|from| level.is_none_or(|level| level >= from));
            if wanted && call.is_work() && told.insert(call.host) {
                let text = message.text().to_owned();
                self.acts.push_back(Act::Host(call.host, Heard { text, about: Some(call.id.clone()) }));
            }
        }
    }

    /// The server has ended a subscription without an answer; its host gets one.
    pub(super) fn subscription_over(&mut self, own: &str) {
        let Some(call) = self.calls.get(own) else { return };
        let result = format!(
            r#"{{"resultType":"complete","_meta":{{"{}":{}}}}}"#,
            rewrite::SUBSCRIPTION_ID,
            call.id.get()
        );
        self.result_for(own, &result);
    }

    fn tell_sessions(&mut self, text: &str) {
        let sessions = self.hosts.iter().filter(|(_, host)| host.session);
        let heard = Heard { text: text.to_owned(), about: None };
        self.acts.extend(sessions.map(|(host, _)| Act::Host(*host, heard.clone())));
    }
}
