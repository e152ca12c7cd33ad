//! Hosts of earlier revisions before a server of 2026-07-28.
//!
//! Each host's session lives here: what it said in `initialize` goes into the `_meta` of every request, and a round of
//! input becomes requests that the host is asked. What it wants to hear becomes part of what all hosts are `listening` to.
use std::collections::{BTreeMap, BTreeSet};

use contextvm_core::Printable;
use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::object::{self, Edit, Object, quote};
use contextvm_core::rewrite::{self, PROGRESS_TOKEN, PROTOCOL_VERSION, Rewrite};
use serde_json::value::RawValue;

use super::calls::{Path, renamed};
use super::downgrade::{QUESTIONS, TASKS};
use super::filter::{Filter, is_name};
use super::texts::request_text;
use super::{Act, Era, Switchboard};
use crate::answer::{FAILED, Failure, METHOD_NOT_FOUND};
use crate::proxy::conversation::Heard;
use crate::revision::{
    CLIENT_CAPABILITIES, CLIENT_INFO, INVALID_PARAMS, LATEST_LEGACY, LEGACY, LOG_LEVEL, MODERN, NO_RESOURCE,
    SERVER_INFO, log_level,
};

/// Rounds of input that one call may take.
const ROUNDS: u32 = 16;
/// Questions of one round.
const ASKS: usize = 16;
/// The session of one host.
#[derive(Debug, Default)]
pub(super) struct Upgrade {
    capabilities: String,
    info: Option<String>,
    level: Option<String>,
    /// What the host wants to hear.
    pub(super) wants: Filter,
    pub(super) rounds: BTreeMap<String, Round>,
    /// Questions put to the host: by their id, the call and the key of the answer.
    asked: BTreeMap<String, (String, String)>,
}

/// A call that may take several rounds.
#[derive(Debug)]
pub(super) struct Round {
    /// The request as it was sent first.
    request: String,
    state: Option<String>,
    /// What the host is asked, and what it has answered.
    answers: BTreeMap<String, Option<String>>,
    /// Which of the questions are elicitations: these can be declined.
    elicitations: BTreeSet<String>,
    count: u32,
}

impl Upgrade {
    pub(super) fn forget_round(&mut self, own: &str) {
        self.rounds.remove(own);
        self.asked.retain(|_, (call, _)| call != own);
    }

    /// Forgets what was open on a connection that is gone.
    pub(super) fn lost(&mut self) {
        self.rounds.clear();
        self.asked.clear();
    }

    /// Adds what every request of 2026-07-28 says of its client.
    fn complete<'a>(&'a self, rewrite: Rewrite<'a>) -> Rewrite<'a> {
        let rewrite = rewrite
            .meta(PROTOCOL_VERSION, quote(MODERN))
            .meta(CLIENT_CAPABILITIES, self.capabilities.as_str());
        let rewrite = match &self.info {
            Some(info) => rewrite.meta(CLIENT_INFO, info.as_str()),
            None => rewrite,
        };
        match &self.level {
            Some(level) => rewrite.meta(LOG_LEVEL, level.as_str()),
            None => rewrite,
        }
    }
}

impl Switchboard {
    pub(super) fn upgrade_of(&mut self, host: u64) -> Option<&mut Upgrade> {
        self.hosts.get_mut(&host)?.upgrade.as_mut()
    }

    /// The server that refused `initialize` has been asked about itself.
    pub(super) fn up_discovered(&mut self, host: u64, answer: &Envelope<'_>) {
        let Some(opening) = self.hosts.get_mut(&host).and_then(|host| host.opening.take()) else { return };
        let versions = answer.result.and_then(|result| object::member(result, "supportedVersions"));
        let versions: Vec<String> =
            versions.and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default();
        let (Some(result), true) = (answer.result, versions.iter().any(|version| version == MODERN)) else {
            // Neither era: the server's own refusal says best why.
            let refusal = opening.refusal.unwrap_or_default();
            if let Ok(refusal) = Envelope::parse(&refusal, &self.answer_limits()) {
                self.answer_host(&opening.own, &refusal);
            }
            return;
        };
        self.era = Era::Modern;
        let limits = self.limits.clone();
        let Ok(initialize) = Envelope::parse(&opening.text, &limits) else { return };
        let said = |name| rewrite::param(initialize.params, name);
        let upgrade = Upgrade {
            capabilities: said("capabilities").map_or("{}", RawValue::get).to_owned(),
            info: said("clientInfo").map(|info| info.get().to_owned()),
            wants: Filter::lists(result),
            ..Upgrade::default()
        };
        let asked = said("protocolVersion").and_then(object::string);
        let version = asked.filter(|asked| LEGACY.contains(&asked.as_ref()));
        let welcome = welcome(result, version.as_deref().unwrap_or(LATEST_LEGACY));
        if let Some(host) = self.hosts.get_mut(&host) {
            host.upgrade = Some(upgrade);
        }
        self.result_for(&opening.own, &welcome);
    }

    /// Sends a request of an earlier revision to a server of 2026-07-28.
    pub(super) fn up_request(&mut self, host: u64, own: &str, message: &Envelope<'_>) {
        let Some(upgrade) = self.upgrade_of(host) else { return };
        let uri = rewrite::param(message.params, "uri").and_then(object::string).unwrap_or_default();
        let level = rewrite::param(message.params, "level");
        match message.method.as_deref().unwrap_or_default() {
            "ping" => self.result_for(own, "{}"),
            "logging/setLevel" if level.and_then(log_level).is_none() => {
                let why = "there is no such level of log messages";
                self.failure_for(own, &Failure::new(INVALID_PARAMS, "invalid_params", why));
            }
            "logging/setLevel" => {
                upgrade.level = level.map(|level| level.get().to_owned());
                self.result_for(own, "{}");
            }
            "resources/subscribe" if !is_name(&uri) => {
                let why = "there can be no resource of this name";
                self.failure_for(own, &Failure::new(INVALID_PARAMS, "invalid_params", why));
            }
            "resources/subscribe" => self.subscribe(host, own, uri.into_owned()),
            "resources/unsubscribe" => self.unsubscribe(host, own, &uri),
            method if method.starts_with(TASKS) => {
                let why =
                    format!("the server speaks MCP {MODERN}, whose tasks are not those of {LATEST_LEGACY}");
                self.failure_for(own, &Failure::new(METHOD_NOT_FOUND, "revision", why));
            }
            method => {
                let text = upgrade.complete(renamed(message, own)).to_text();
                if matches!(method, "tools/call" | "prompts/get" | "resources/read") {
                    let round = Round {
                        request: text.clone(),
                        state: None,
                        answers: BTreeMap::new(),
                        elicitations: BTreeSet::new(),
                        count: 0,
                    };
                    upgrade.rounds.insert(own.to_owned(), round);
                }
                self.send_call(own, Path::Up, text);
            }
        }
    }

    /// Of a session's notifications only its beginning means anything to a server without sessions.
    pub(super) fn up_notification(&mut self, method: &str) {
        if method == "notifications/initialized" {
            self.listen();
        }
    }

    /// Answers a host of an earlier revision as a server of 2026-07-28 did.
    pub(super) fn up_answered(&mut self, own: &str, message: &Envelope<'_>) {
        let Some(call) = self.calls.get(own) else { return };
        let (host, method) = (call.host, call.method.clone());
        let round = self.upgrade_of(host).and_then(|upgrade| upgrade.rounds.remove(own));
        let Some(result) = message.result else {
            let names_uri = || {
                let data = message.error.and_then(|error| object::member(error, "data"));
                data.is_some_and(|data| object::member(data, "uri").is_some())
            };
            return match message.error_code() {
                Some(code @ -32022..=-32020) => {
                    let why = format!(
                        "the server speaks MCP {MODERN} and refused what {LATEST_LEGACY} cannot say (error {code})"
                    );
                    let original = message.error.map_or("null", RawValue::get).to_owned();
                    let failure = Failure::new(FAILED, "revision", why).with_json("original", original);
                    self.failure_for(own, &failure);
                }
                Some(INVALID_PARAMS) if method == "resources/read" && names_uri() => {
                    self.error_for(own, message, NO_RESOURCE);
                }
                _ => self.answer_host(own, message),
            };
        };
        let kind = object::member(result, "resultType").and_then(object::string);
        match (kind.as_deref(), round) {
            (None | Some("complete"), _) => {
                let stripped = Object::parse(result.get()).map(|result| {
                    let mut edit = result.into_edit();
                    edit.remove("resultType");
                    edit.to_text()
                });
                self.result_for(own, &stripped.unwrap_or_else(|_| result.get().to_owned()));
            }
            (Some("input_required"), Some(round)) => self.up_round(host, own, round, result),
            (Some(kind), _) => {
                let why =
                    format!("MCP {LATEST_LEGACY} has no results of type {}", Printable::short(kind, 40));
                self.failure_for(own, &Failure::new(FAILED, "revision", why));
            }
        }
    }

    /// Asks the host what the server wants to know before it goes on.
    fn up_round(&mut self, host: u64, own: &str, mut round: Round, result: &RawValue) {
        round.count += 1;
        if round.count > ROUNDS {
            let failure = Failure::new(FAILED, "too_many_rounds", "the server asks again and again");
            return self.failure_for(own, &failure);
        }
        round.state = object::member(result, "requestState").map(|state| state.get().to_owned());
        round.answers.clear();
        round.elicitations.clear();
        let requests = object::member(result, "inputRequests").and_then(|all| Object::parse(all.get()).ok());
        if requests.as_ref().is_some_and(|requests| requests.len() > ASKS) {
            let failure =
                Failure::new(FAILED, "too_many_questions", "the server asks too many questions at once");
            return self.failure_for(own, &failure);
        }
        let asks = |request: &RawValue| {
            object::member(request, "method").and_then(object::string).unwrap_or_default().into_owned()
        };
        let mut methods = requests.iter().flat_map(Object::iter).map(|(_, request)| asks(request));
        if let Some(method) = methods.find(|method| !QUESTIONS.iter().any(|(known, _)| known == method)) {
            let why = format!("the server asks for {}, which no host knows", Printable::short(&method, 60));
            return self.failure_for(own, &Failure::new(FAILED, "not_supported", why));
        }
        let about = self.calls.get(own).map(|call| call.id.clone());
        for (key, request) in requests.iter().flat_map(Object::iter) {
            let method = asks(request);
            let params =
                object::member(request, "params").filter(|params| Object::parse(params.get()).is_ok());
            let params = params.map_or("{}", RawValue::get);
            let id = self.own_id();
            let text = request_text(&id, &method, params);
            self.acts.push_back(Act::Host(host, Heard { text, about: about.clone() }));
            if method == "elicitation/create" {
                round.elicitations.insert(key.to_owned());
            }
            round.answers.insert(key.to_owned(), None);
            if let Some(upgrade) = self.upgrade_of(host) {
                upgrade.asked.insert(id, (own.to_owned(), key.to_owned()));
            }
        }
        if let Some(upgrade) = self.upgrade_of(host) {
            upgrade.rounds.insert(own.to_owned(), round);
        }
        self.up_next_round(host, own);
    }

    /// Takes a host's answer to a question of a round.
    pub(super) fn up_answer(&mut self, host: u64, message: &Envelope<'_>) {
        let Some(id) = message.id.map(rewrite::plain_text) else { return };
        let Some(upgrade) = self.upgrade_of(host) else { return };
        let Some((own, key)) = upgrade.asked.remove(id.as_ref()) else { return };
        let Some(round) = upgrade.rounds.get_mut(&own) else { return };
        let answer = match (message.kind, message.result) {
            (MessageKind::Response, Some(result)) => result.get().to_owned(),
            _ if round.elicitations.contains(&key) => r#"{"action":"cancel"}"#.to_owned(),
            _ => {
                upgrade.forget_round(&own);
                let failure =
                    Failure::new(FAILED, "host_refused", "the host refused what the server asked of it");
                let original = message.error.map_or("null", RawValue::get).to_owned();
                return self.failure_for(&own, &failure.with_json("original", original));
            }
        };
        round.answers.insert(key, Some(answer));
        self.up_next_round(host, &own);
    }

    /// Repeats the request with the host's answers, once all are there.
    fn up_next_round(&mut self, host: u64, own: &str) {
        let new = self.own_id();
        let limits = self.answer_limits();
        let Some(upgrade) = self.upgrade_of(host) else { return };
        if upgrade.rounds.get(own).is_none_or(|round| round.answers.values().any(Option::is_none)) {
            return;
        }
        let Some(round) = upgrade.rounds.remove(own) else { return };
        let Ok(request) = Envelope::parse(&round.request, &limits) else { return };
        let mut responses = Edit::new();
        for (key, answer) in &round.answers {
            responses.set(key.as_str(), answer.as_deref().unwrap_or("null"));
        }
        let responses = responses.to_text();
        let mut rewrite = Rewrite::of(&request).id(quote(&new));
        if request.progress_token().is_some() {
            rewrite = rewrite.meta(PROGRESS_TOKEN, quote(&new));
        }
        if !round.answers.is_empty() {
            rewrite = rewrite.param("inputResponses", responses);
        }
        if let Some(state) = &round.state {
            rewrite = rewrite.param("requestState", state.as_str());
        }
        let text = rewrite.to_text();
        upgrade.rounds.insert(new.clone(), round);
        self.calls.rename(own, &new);
        self.acts.push_back(Act::Server(text));
    }
}

/// Prints the answer to `initialize` from the answer to `server/discover`.
fn welcome(discovered: &RawValue, version: &str) -> String {
    let member = |name| object::member(discovered, name).map(RawValue::get);
    let meta = object::member(discovered, "_meta");
    let info = meta.and_then(|meta| object::member(meta, SERVER_INFO)).map(RawValue::get);
    let mut result = Edit::new();
    result.set_string("protocolVersion", version);
    result.set("capabilities", member("capabilities").unwrap_or("{}"));
    result.set("serverInfo", info.unwrap_or(r#"{"name":"unknown","version":"0"}"#));
    if let Some(instructions) = member("instructions") {
        result.set("instructions", instructions);
    }
    result.to_text()
}
