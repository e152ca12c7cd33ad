//! Hosts of 2026-07-28 before a server of an earlier revision.
//!
//! All of them share one session, which the switchboard opens. What the server asks during a call becomes a round of
//! input: the host's request is answered with `input_required`, the server's call stays open, and the host's next
//! request with the same `requestState` continues it.
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use contextvm_core::Printable;
use contextvm_core::envelope::{self, Envelope, MessageKind};
use contextvm_core::object::{self, Edit, Object, quote};
use contextvm_core::rewrite::{self, PROTOCOL_VERSION, Rewrite, SUBSCRIPTION_ID};
use serde_json::value::RawValue;

use super::calls::Path;
use super::filter::Filter;
use super::{Act, Era, Purpose, Switchboard};
use crate::answer::{FAILED, Failure, METHOD_NOT_FOUND};
use crate::proxy::conversation::Heard;
use crate::revision::{
    CLIENT_CAPABILITIES, CLIENT_INFO, INVALID_PARAMS, LATEST_LEGACY, LOG_LEVEL, MODERN, NO_RESOURCE,
    SERVER_INFO, UNSUPPORTED_VERSION,
};

/// 2025-11-25: the server wants a URL to be visited first.
const URL_ELICITATION: i64 = -32042;

/// How long a server's question may wait for the host's next round.
const ROUND: Duration = Duration::from_secs(300);
/// Calls that may wait for their next round.
const SUSPENDED: usize = 64;
/// Questions of one round.
const ASKS: usize = 16;

/// The requests that may be answered with a question.
const ASKING: [&str; 3] = ["tools/call", "prompts/get", "resources/read"];
/// The requests whose results carry caching hints.
const CACHED: [&str; 5] =
    ["tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"];
/// Requests of earlier revisions that 2026-07-28 does not have.
const REMOVED: [&str; 5] =
    ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];

/// The session that hosts of 2026-07-28 share.
#[derive(Debug, Default)]
pub(super) struct Downgrade {
    session: Session,
    level: Option<String>,
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
    asks: Vec<Ask>,
    /// The server's answer, if it did not wait.
    answer: Option<String>,
    since: Instant,
}

#[derive(Debug)]
struct Ask {
    id: Box<RawValue>,
    method: String,
    params: Option<String>,
}

impl Downgrade {
    /// Forgets what was open on a connection that is gone.
    pub(super) fn lost(&mut self) {
        self.suspended.clear();
        self.continued.clear();
        self.listens.clear();
        if matches!(self.session, Session::Opening(_)) {
            self.session = Session::None;
        }
    }
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
            // It may have been another server all along; the next request looks again.
            self.era = Era::Unknown;
            for (own, _) in held {
                self.answer_host(&own, answer);
            }
            return;
        };
        self.down.session = Session::Open(result.to_owned());
        self.down.level = None;
        self.acts.push_back(Act::Server(envelope::notification("notifications/initialized", None)));
        let uris: BTreeSet<String> =
            self.down.listens.values().flat_map(|filter| filter.uris.iter().cloned()).collect();
        for uri in uris {
            self.down_subscription("resources/subscribe", &uri);
        }
        for (own, text) in held {
            if self.calls.get(&own).is_some() {
                self.down_send(&own, &text, now);
            }
        }
    }

    /// The session may be gone; whoever listens needs it at once.
    pub(super) fn down_reconnected(&mut self) {
        self.down.suspended.clear();
        self.down.continued.clear();
        if matches!(self.down.session, Session::Open(_)) {
            self.down.session = Session::None;
            if !self.down.listens.is_empty() {
                self.down.session = Session::Opening(Vec::new());
                self.down_open();
            }
        }
    }

    fn down_send(&mut self, own: &str, text: &str, now: Instant) {
        let Session::Open(welcome) = &self.down.session else { return };
        let Ok(message) = Envelope::parse(text, &self.limits) else { return };
        let method = message.method.as_deref().unwrap_or_default();
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
        match method {
            "server/discover" => {
                let result = discovered(welcome);
                self.result_for(own, &result);
            }
            "subscriptions/listen" => {
                let filter = Filter::read(message.params, welcome);
                self.down_listen(own, filter);
            }
            _ if REMOVED.contains(&method) => {
                let why = format!("MCP {MODERN} has no {}", Printable::short(method, 60));
                self.failure_for(own, &Failure::new(METHOD_NOT_FOUND, "removed_method", why));
            }
            _ => match rewrite::param(message.params, "requestState").and_then(object::string) {
                Some(state) => self.down_resume(own, &state, method, &message, now),
                None => {
                    self.down_log_level(&message);
                    if let Some(call) = self.calls.get_mut(own) {
                        call.path = Path::Down;
                    }
                    self.acts.push_back(Act::Server(without_modern_meta(&message)));
                }
            },
        }
    }

    /// Log messages are asked for by request in 2026-07-28, and by session before.
    fn down_log_level(&mut self, message: &Envelope<'_>) {
        let Session::Open(welcome) = &self.down.session else { return };
        let offers = object::member(welcome, "capabilities").and_then(|all| object::member(all, "logging"));
        let level = rewrite::meta_member(message.params, LOG_LEVEL).map(RawValue::get);
        if let (Some(level), Some(_)) = (level, offers)
            && self.down.level.as_deref() != Some(level)
        {
            self.down.level = Some(level.to_owned());
            self.own_request(Purpose::Nothing, "logging/setLevel", &format!(r#"{{"level":{level}}}"#));
        }
    }

    fn down_listen(&mut self, own: &str, filter: Filter) {
        let Some(call) = self.calls.get(own) else { return };
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{"{SUBSCRIPTION_ID}":{}}},"notifications":{}}}}}"#,
            call.id.get(),
            filter.to_text(),
        );
        self.acts.push_back(Act::Host(call.host, Heard { text, about: Some(call.id.clone()) }));
        let known = |uri: &&String| self.down.listens.values().any(|filter| filter.uris.contains(*uri));
        let new: Vec<String> = filter.uris.iter().filter(|uri| !known(uri)).cloned().collect();
        self.down.listens.insert(own.to_owned(), filter);
        for uri in new {
            self.down_subscription("resources/subscribe", &uri);
        }
    }

    fn down_subscription(&mut self, method: &str, uri: &str) {
        self.own_request(Purpose::Nothing, method, &format!(r#"{{"uri":{}}}"#, quote(uri)));
    }

    /// Ends a subscription; says whether the call was one.
    pub(super) fn down_cancelled(&mut self, own: &str) -> bool {
        let Some(filter) = self.down.listens.remove(own) else { return false };
        for uri in filter.uris {
            if !self.down.listens.values().any(|filter| filter.uris.contains(&uri)) {
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
    pub(super) fn down_asked(&mut self, wire: &str, id: &RawValue, method: &str, message: &Envelope<'_>) {
        let ask = Ask {
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
        let own = self.down_name(wire);
        let capability = match method {
            "sampling/createMessage" => "sampling",
            "elicitation/create" => "elicitation",
            "roots/list" => "roots",
            _ => {
                let why = format!("a host of MCP {MODERN} cannot be asked {}", Printable::short(method, 60));
                return self.refuse_server(id.get(), METHOD_NOT_FOUND, "not_supported", &why);
            }
        };
        let Some(call) = self.calls.get(&own) else { return };
        if call.capabilities.as_deref().and_then(|all| object::member(all, capability)).is_none() {
            let why = format!("the host does not offer {capability}");
            return self.refuse_server(id.get(), METHOD_NOT_FOUND, "not_supported", &why);
        }
        if self.down.suspended.len() >= SUSPENDED {
            return self.refuse_server(id.get(), FAILED, "busy", "too many calls wait for their hosts");
        }
        let since = call.moved;
        let method = call.method.clone();
        self.down.continued.remove(wire);
        let call = Suspended { wire: wire.to_owned(), method, asks: vec![ask], answer: None, since };
        self.down_suspend(&own, call);
    }

    /// Answers the host with the questions and keeps the server's call for the next round.
    fn down_suspend(&mut self, own: &str, call: Suspended) {
        self.next = self.next.saturating_add(1);
        let state = format!("cvm-{:016x}-{}", self.nonce, self.next);
        let mut requests = Edit::new();
        for (at, ask) in call.asks.iter().enumerate() {
            let params =
                ask.params.as_ref().map(|params| format!(r#","params":{params}"#)).unwrap_or_default();
            requests.set(ask_key(at), format!(r#"{{"method":{}{params}}}"#, quote(&ask.method)));
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
        for (at, ask) in call.asks.drain(..).enumerate() {
            let response = responses.and_then(|all| object::member(all, &ask_key(at)));
            match response.filter(|response| Object::parse(response.get()).is_ok()) {
                Some(response) => {
                    self.acts.push_back(Act::Server(envelope::response_result(&ask.id, response)));
                }
                None => left.push(ask),
            }
        }
        if let Some(call) = self.calls.get_mut(own) {
            call.path = Path::Down;
        }
        if !left.is_empty() && call.answer.is_none() {
            call.asks = left;
            call.since = now;
            return self.down_suspend(own, call);
        }
        match call.answer {
            Some(answer) => {
                if let Ok(answer) = Envelope::parse(&answer, &self.limits) {
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
        if let Some(call) = self.down.suspended.values_mut().find(|call| call.wire == wire) {
            call.answer = Some(message.text().to_owned());
        }
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
        let Some(call) = self.calls.close(own) else { return };
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

fn ask_key(at: usize) -> String {
    format!("ask-{}", at + 1)
}

fn without_modern_meta(message: &Envelope<'_>) -> String {
    let rewrite = Rewrite::of(message);
    let names = [PROTOCOL_VERSION, CLIENT_CAPABILITIES, CLIENT_INFO, LOG_LEVEL];
    names.into_iter().fold(rewrite, Rewrite::without_meta).to_text()
}

/// Adds what 2026-07-28 demands of a result and earlier revisions do not have.
fn with_modern_members(result: &RawValue, method: &str) -> String {
    let Ok(object) = Object::parse(result.get()) else { return result.get().to_owned() };
    let mut edit = object.into_edit();
    let mut add = |name: &'static str, json: &'static str| {
        if edit.get(name).is_none() {
            edit.set(name, json);
        }
    };
    add("resultType", r#""complete""#);
    if CACHED.contains(&method) {
        add("ttlMs", "0");
        add("cacheScope", r#""private""#);
    }
    edit.to_text()
}

/// Prints the answer to `server/discover` from an older server's answer to `initialize`.
fn discovered(welcome: &RawValue) -> String {
    let mut result = Edit::new();
    let member = |name| object::member(welcome, name).map(RawValue::get);
    result.set("resultType", r#""complete""#);
    result.set("supportedVersions", format!(r#"["{MODERN}"]"#));
    result.set("capabilities", member("capabilities").unwrap_or("{}"));
    if let Some(instructions) = member("instructions") {
        result.set("instructions", instructions);
    }
    result.set("ttlMs", "0");
    result.set("cacheScope", r#""private""#);
    if let Some(info) = member("serverInfo") {
        result.set("_meta", format!(r#"{{"{SERVER_INFO}":{info}}}"#));
    }
    result.to_text()
}
