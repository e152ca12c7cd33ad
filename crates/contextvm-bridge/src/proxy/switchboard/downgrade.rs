//! Hosts of 2026-07-28 before a server of an earlier revision.
//!
//! All of them share one session, which the switchboard opens. What the server asks during a call becomes a round of
//! input: the host's request is answered with `input_required`, the server's call stays open, and the host's next
//! request with the same `requestState` continues it.
use std::collections::BTreeMap;
use std::hash::BuildHasher as _;
use std::time::{Duration, Instant};

use contextvm_core::Printable;
use contextvm_core::envelope::{self, Envelope, MessageKind};
use contextvm_core::object::{self, Edit, Object, quote};
use contextvm_core::rewrite::{self, PROTOCOL_VERSION, SUBSCRIPTION_ID};
use serde_json::value::RawValue;

use super::calls::Path;
use super::filter::Filter;
use super::texts::{discovered, shows_modern, with_modern_members, without_modern_meta};
use super::{Act, Era, Purpose, Switchboard};
use crate::answer::{FAILED, Failure, METHOD_NOT_FOUND};
use crate::proxy::conversation::Heard;
use crate::queue;
use crate::revision::{
    CLIENT_CAPABILITIES, INVALID_PARAMS, LATEST_LEGACY, LOG_LEVEL, LOG_LEVELS, MODERN, NO_RESOURCE,
    UNSUPPORTED_VERSION, log_level,
};

/// 2025-11-25: the server wants a URL to be visited first.
const URL_ELICITATION: i64 = -32042;

/// How long a server's question may wait for the host's next round.
const ROUND: Duration = Duration::from_secs(300);
/// Calls that may wait for their next round.
const SUSPENDED: usize = 64;
/// Questions of one round.
const ASKS: usize = 16;

/// What a host may be asked, and the capability that it needs for that.
pub(super) const QUESTIONS: [(&str, &str); 3] =
    [("sampling/createMessage", "sampling"), ("elicitation/create", "elicitation"), ("roots/list", "roots")];
/// The requests that may be answered with a question.
const ASKING: [&str; 3] = ["tools/call", "prompts/get", "resources/read"];
/// Methods of tasks: two revisions, two meanings.
pub(super) const TASKS: &str = "tasks/";
/// Requests of earlier revisions that 2026-07-28 does not have.
const REMOVED: [&str; 5] =
    ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];

/// The session that hosts of 2026-07-28 share.
#[derive(Debug, Default)]
pub(super) struct Downgrade {
    session: Session,
    /// What the server's log level was set to.
    level: Option<&'static str>,
    listens: BTreeMap<String, Filter>,
    suspended: BTreeMap<String, Suspended>,
    /// Calls in a later round: the id that the server knows, and the id of the host's latest request.
    continued: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
enum Session {
    #[default]
    None,
    /// What waits for it, with each request's own id.
    Opening(Vec<(String, String)>),
    /// What the server answered to `initialize`.
    Open(Box<RawValue>),
}

/// A call whose server waits for the host's next round.
#[derive(Debug)]
struct Suspended {
    wire: String,
    method: String,
    /// What the host can do, as its latest request says.
    capabilities: Option<Box<RawValue>>,
    asks: Vec<Ask>,
    /// The server's answer, if it did not wait.
    answer: Option<String>,
    since: Instant,
}

#[derive(Debug)]
struct Ask {
    /// Names it in `inputRequests`; never used for another.
    key: String,
    id: Box<RawValue>,
    method: String,
    params: Option<String>,
}

impl Switchboard {
    /// Sends a request of 2026-07-28 to the older server, once its session is open.
    pub(super) fn down_request(&mut self, own: &str, text: &str, now: Instant) {
        match &mut self.down.session {
            Session::None => {
                self.down.session = Session::Opening(vec![(own.to_owned(), text.to_owned())]);
                self.down_open();
            }
            Session::Opening(held) => held.push((own.to_owned(), text.to_owned())),
            Session::Open(_) => self.down_send(own, text, now),
        }
    }

    /// Forgets a request that waits for the session.
    pub(super) fn down_let_go(&mut self, own: &str) {
        if let Session::Opening(held) = &mut self.down.session {
            held.retain(|(held, _)| held != own);
        }
    }

    #[cfg(test)]
    pub(super) fn down_held(&self) -> usize {
        if let Session::Opening(held) = &self.down.session { held.len() } else { 0 }
    }

    fn down_open(&mut self) {
        let version = env!("CARGO_PKG_VERSION");
        let params = format!(
            r#"{{"protocolVersion":"{LATEST_LEGACY}","capabilities":{{"sampling":{{}},"elicitation":{{}},"roots":{{}}}},"clientInfo":{{"name":"cvm","version":"{version}"}}}}"#
        );
        self.own_request(Purpose::Open, "initialize", &params);
    }

    /// The older server has answered `initialize`.
    pub(super) fn down_opened(&mut self, answer: &Envelope<'_>, now: Instant) {
        let Session::Opening(held) = core::mem::take(&mut self.down.session) else { return };
        let Some(result) = answer.result else {
            // It may have been a newer server all along; if it does not say so, the next request looks again.
            let modern = matches!(self.era, Era::Modern)
                || answer.error.is_some() && shows_modern(answer) == Some(true);
            self.era = if modern { Era::Modern } else { Era::Unknown };
            for (own, text) in held {
                match modern {
                    true => self.modern_request(own, text, now),
                    false => self.answer_host(&own, answer),
                }
            }
            return;
        };
        self.down.session = Session::Open(result.to_owned());
        self.acts.push_back(Act::Server(envelope::notification("notifications/initialized", None)));
        for (own, text) in held {
            if self.calls.get(&own).is_some() {
                self.down_send(&own, &text, now);
            }
        }
    }

    /// Whether the shared session is open.
    pub(super) const fn down_is_open(&self) -> bool {
        matches!(self.down.session, Session::Open(_))
    }

    fn down_send(&mut self, own: &str, text: &str, now: Instant) {
        let Session::Open(welcome) = &self.down.session else { return };
        let Ok(message) = Envelope::parse(text, &self.answer_limits()) else { return };
        let method = message.method.as_deref().unwrap_or_default();
        let missing = [PROTOCOL_VERSION, CLIENT_CAPABILITIES]
            .into_iter()
            .find(|name| rewrite::meta_member(message.params, name).is_none());
        if let Some(missing) = missing {
            let why = format!("the request has no {missing} in its _meta");
            return self.failure_for(own, &Failure::new(INVALID_PARAMS, "incomplete_meta", why));
        }
        let version = rewrite::protocol_version(message.params).and_then(object::string).unwrap_or_default();
        if version != MODERN {
            let failure = Failure::new(
                UNSUPPORTED_VERSION,
                "unsupported_version",
                format!("MCP {} is not spoken here", Printable::short(&version, 30)),
            );
            let failure = failure.with_json("supported", format!(r#"["{MODERN}"]"#));
            return self.failure_for(own, &failure.with_text("requested", &version));
        }
        if rewrite::meta_member(message.params, LOG_LEVEL).is_some_and(|level| log_level(level).is_none()) {
            let why = "there is no such level of log messages";
            return self.failure_for(own, &Failure::new(INVALID_PARAMS, "invalid_params", why));
        }
        match method {
            "server/discover" => {
                let result = discovered(welcome);
                self.result_for(own, &result);
            }
            "subscriptions/listen" => {
                let filter = Filter::read(message.params, welcome);
                self.down_listen(own, filter);
            }
            _ if method.starts_with(TASKS) => {
                let why =
                    format!("the server speaks MCP {LATEST_LEGACY}, whose tasks are not those of {MODERN}");
                self.failure_for(own, &Failure::new(METHOD_NOT_FOUND, "revision", why));
            }
            _ if REMOVED.contains(&method) => {
                let why = format!("MCP {MODERN} has no {}", Printable::short(method, 60));
                self.failure_for(own, &Failure::new(METHOD_NOT_FOUND, "removed_method", why));
            }
            _ => match rewrite::param(message.params, "requestState").and_then(object::string) {
                Some(state) => self.down_resume(own, &state, method, &message, now),
                None => {
                    self.down_log_level();
                    self.send_call(own, Path::Down, without_modern_meta(&message));
                }
            },
        }
    }

    /// Log messages are asked for by request in 2026-07-28, and by session before: it says what the most curious call
    /// wants to hear.
    fn down_log_level(&mut self) {
        let Session::Open(welcome) = &self.down.session else { return };
        let offers = object::member(welcome, "capabilities").and_then(|all| object::member(all, "logging"));
        let lowest = self.calls.iter().filter_map(|(_, call)| call.logs_from).min();
        let level = lowest.and_then(|lowest| LOG_LEVELS.get(lowest)).copied();
        if let (Some(level), Some(_)) = (level, offers)
            && self.down.level != Some(level)
        {
            self.down.level = Some(level);
            self.own_request(Purpose::Nothing, "logging/setLevel", &format!(r#"{{"level":"{level}"}}"#));
        }
    }

    fn down_listen(&mut self, own: &str, filter: Filter) {
        let Some(call) = self.calls.get_mut(own) else { return };
        call.path = Path::Down;
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{"{SUBSCRIPTION_ID}":{}}},"notifications":{}}}}}"#,
            call.id.get(),
            filter.to_text(),
        );
        self.acts.push_back(Act::Host(call.host, Heard { text, about: Some(call.id.clone()) }));
        let new: Vec<String> = filter.uris.iter().filter(|uri| !self.down_wants(uri)).cloned().collect();
        self.down.listens.insert(own.to_owned(), filter);
        for uri in new {
            self.down_subscription("resources/subscribe", &uri);
        }
    }

    /// Whether a subscription of 2026-07-28 is to a resource.
    pub(super) fn down_wants(&self, uri: &str) -> bool {
        self.down.listens.values().any(|filter| filter.uris.contains(uri))
    }

    pub(super) fn down_uris(&self) -> impl Iterator<Item = String> {
        self.down.listens.values().flat_map(|filter| filter.uris.iter().cloned())
    }

    pub(super) fn down_subscription(&mut self, method: &str, uri: &str) {
        self.own_request(Purpose::Nothing, method, &format!(r#"{{"uri":{}}}"#, quote(uri)));
    }

    /// Ends a subscription; says whether the call was one.
    pub(super) fn down_cancelled(&mut self, own: &str) -> bool {
        let Some(filter) = self.down.listens.remove(own) else { return false };
        for uri in filter.uris {
            if !self.is_wanted(&uri) {
                self.down_subscription("resources/unsubscribe", &uri);
            }
        }
        true
    }

    /// Tells the subscriptions that want it what the server said to its session.
    pub(super) fn down_notified(&mut self, method: &str, message: &Envelope<'_>) {
        for (own, _) in self.down.listens.iter().filter(|(_, filter)| filter.wants(method, message.params)) {
            let Some(call) = self.calls.get(own) else { continue };
            let text = rewrite::with_subscription_id(message, call.id.get());
            self.acts.push_back(Act::Host(call.host, Heard { text, about: Some(call.id.clone()) }));
        }
    }

    /// The own id of the host's latest request for a call that the server knows by `wire`.
    pub(super) fn down_name(&self, wire: &str) -> String {
        self.down.continued.get(wire).map_or(wire, String::as_str).to_owned()
    }

    /// The id by which the server knows a call.
    pub(super) fn down_wire_name(&mut self, own: &str) -> String {
        let wire =
            self.down.continued.iter().find(|(_, latest)| *latest == own).map(|(wire, _)| wire.clone());
        if let Some(wire) = &wire {
            self.down.continued.remove(wire);
        }
        wire.unwrap_or_else(|| own.to_owned())
    }

    /// The calls, by the server's ids, that a question of the server could belong to.
    pub(super) fn down_candidates(&self) -> Vec<String> {
        let open = self
            .calls
            .iter()
            .filter(|(_, call)| call.path == Path::Down && ASKING.contains(&call.method.as_str()));
        let wire = |own: &String| {
            let continued = self.down.continued.iter().find(|(_, latest)| *latest == own);
            continued.map_or(own, |(wire, _)| wire).clone()
        };
        let suspended = self.down.suspended.values().map(|call| call.wire.clone());
        open.map(|(own, _)| wire(own)).chain(suspended).collect()
    }

    /// Turns a question of the server into a round of input.
    pub(super) fn down_asked(
        &mut self,
        wire: &str,
        id: &RawValue,
        method: &str,
        message: &Envelope<'_>,
        now: Instant,
    ) {
        let Some((_, capability)) = QUESTIONS.iter().find(|(question, _)| *question == method) else {
            let why = format!("a host of MCP {MODERN} cannot be asked {}", Printable::short(method, 60));
            return self.refuse_server(id.get(), METHOD_NOT_FOUND, "not_supported", &why);
        };
        let own = self.down_name(wire);
        let suspended = self.down.suspended.values().find(|call| call.wire == wire);
        let capabilities = match (suspended, self.calls.get(&own)) {
            (Some(call), _) => call.capabilities.clone(),
            (None, Some(call)) => call.capabilities.clone(),
            (None, None) => return,
        };
        if capabilities.as_deref().and_then(|all| object::member(all, capability)).is_none() {
            let why = format!("the host does not offer {capability}");
            return self.refuse_server(id.get(), METHOD_NOT_FOUND, "not_supported", &why);
        }
        if rewrite::param(message.params, "mode").is_some_and(|mode| mode.get() != r#""form""#) {
            let why = "only elicitations of mode form were offered";
            return self.refuse_server(id.get(), INVALID_PARAMS, "not_supported", why);
        }
        self.next = self.next.saturating_add(1);
        let ask = Ask {
            key: format!("ask-{}", self.next),
            id: id.to_owned(),
            method: method.to_owned(),
            params: message.params.map(|params| params.get().to_owned()),
        };
        if let Some(call) = self.down.suspended.values_mut().find(|call| call.wire == wire) {
            if call.asks.len() < ASKS {
                return call.asks.push(ask);
            }
            return self.refuse_server(id.get(), FAILED, "busy", "too many questions wait for the host");
        }
        if self.down.suspended.len() >= SUSPENDED {
            return self.refuse_server(id.get(), FAILED, "busy", "too many calls wait for their hosts");
        }
        let Some(call) = self.calls.get(&own) else { return };
        let method = call.method.clone();
        self.down.continued.remove(wire);
        let wire = wire.to_owned();
        let call = Suspended { wire, method, capabilities, asks: vec![ask], answer: None, since: now };
        self.down_suspend(&own, call);
    }

    /// Answers the host with the questions and keeps the server's call for the next round.
    fn down_suspend(&mut self, own: &str, call: Suspended) {
        self.next = self.next.saturating_add(1);
        // Whoever knows it may continue the call, so nobody can guess it.
        let [first, second] = [0, 1].map(|half| self.secret.hash_one((self.next, half)));
        let state = format!("cvm-{first:016x}{second:016x}");
        let mut requests = Edit::new();
        for ask in &call.asks {
            let params =
                ask.params.as_ref().map(|params| format!(r#","params":{params}"#)).unwrap_or_default();
            requests.set(ask.key.as_str(), format!(r#"{{"method":{}{params}}}"#, quote(&ask.method)));
        }
        let result = format!(
            r#"{{"resultType":"input_required","inputRequests":{},"requestState":{}}}"#,
            requests.to_text(),
            quote(&state),
        );
        self.down.suspended.insert(state, call);
        self.result_for(own, &result);
    }

    /// Continues a call with what the host answered.
    fn down_resume(&mut self, own: &str, state: &str, method: &str, message: &Envelope<'_>, now: Instant) {
        let known = self.down.suspended.get(state).is_some_and(|call| call.method == method);
        let Some(mut call) = known.then(|| self.down.suspended.remove(state)).flatten() else {
            let why = "the requestState is not known, or no longer";
            return self.failure_for(own, &Failure::new(INVALID_PARAMS, "unknown_request_state", why));
        };
        let responses = rewrite::param(message.params, "inputResponses");
        let mut left = Vec::new();
        for ask in call.asks.drain(..) {
            let response = responses.and_then(|all| object::member(all, &ask.key));
            match response.filter(|response| Object::parse(response.get()).is_ok()) {
                Some(response) => {
                    self.acts.push_back(Act::Server(envelope::response_result(&ask.id, response)));
                }
                None => left.push(ask),
            }
        }
        if let Some(latest) = self.calls.get_mut(own) {
            latest.path = Path::Down;
            call.capabilities = latest.capabilities.clone();
        }
        if !left.is_empty() && call.answer.is_none() {
            call.asks = left;
            call.since = now;
            return self.down_suspend(own, call);
        }
        match call.answer {
            Some(answer) => {
                if let Ok(answer) = Envelope::parse(&answer, &self.answer_limits()) {
                    self.down_answered(own, &call.wire, &answer);
                }
            }
            None => {
                self.down.continued.insert(call.wire, own.to_owned());
            }
        }
    }

    /// An answer that nobody waits for right now may be for a call between two rounds.
    pub(super) fn down_late(&mut self, wire: &str, message: &Envelope<'_>) {
        let held: usize =
            self.down.suspended.values().filter_map(|call| call.answer.as_ref()).map(String::len).sum();
        let Some(call) = self.down.suspended.values_mut().find(|call| call.wire == wire) else { return };
        let has_room = held + message.text().len() <= queue::BYTES;
        call.answer = match message.id {
            Some(id) if !has_room => {
                let why = "the server answered before it was told what it had asked, and there was no room for that";
                Some(Failure::new(FAILED, "busy", why).answer(id))
            }
            _ => Some(message.text().to_owned()),
        };
    }

    /// Answers a host of 2026-07-28 as an older server did.
    pub(super) fn down_answered(&mut self, own: &str, wire: &str, message: &Envelope<'_>) {
        self.down.continued.remove(wire);
        let Some(call) = self.calls.get(own) else { return };
        if message.kind == MessageKind::Response {
            let result = message.result.map(|result| with_modern_members(result, &call.method));
            return match result {
                Some(result) => self.result_for(own, &result),
                None => self.answer_host(own, message),
            };
        }
        match message.error_code() {
            Some(NO_RESOURCE) => self.error_for(own, message, INVALID_PARAMS),
            Some(URL_ELICITATION) => {
                let why = format!(
                    "the server asks for a URL to be visited with error {URL_ELICITATION}, which MCP {MODERN} does not have"
                );
                let failure = Failure::new(FAILED, "url_elicitation", why);
                let original = message.error.map_or("null", RawValue::get).to_owned();
                self.failure_for(own, &failure.with_json("original", original));
            }
            _ => self.answer_host(own, message),
        }
    }

    /// Answers a host with the server's error under another code.
    pub(super) fn error_for(&mut self, own: &str, message: &Envelope<'_>, code: i64) {
        let Some(error) = message.error.and_then(|error| Object::parse(error.get()).ok()) else {
            return self.answer_host(own, message);
        };
        let Some(call) = self.close(own) else { return };
        let mut error = error.into_edit();
        error.set("code", code.to_string());
        let text = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{}}}"#, call.id.get(), error.to_text());
        self.acts.push_back(Act::Host(call.host, Heard { text, about: Some(call.id) }));
    }

    /// Ends rounds that no host will continue.
    pub(super) fn down_sweep(&mut self, now: Instant) {
        let old: Vec<String> = self
            .down
            .suspended
            .iter()
            .filter(|(_, call)| now.duration_since(call.since) >= ROUND)
            .map(|(state, _)| state.clone())
            .collect();
        for state in old {
            let Some(call) = self.down.suspended.remove(&state) else { continue };
            for ask in call.asks {
                self.refuse_server(ask.id.get(), FAILED, "no_answer", "the host did not answer in time");
            }
            if call.answer.is_none() {
                self.tell_cancelled(&call.wire, "the host did not continue the call");
            }
        }
    }
}
