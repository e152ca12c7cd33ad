//! A client for one command: options from the flags, failures as problems.
use std::time::{Duration, Instant};

use contextvm::client::modern::{self, ClientMeta};
use contextvm::client::{
    Answered, CallError, Client, ClientOptions, Error, ErrorKind, Lost, Messages, StreamedCall,
};
use contextvm::core::event::Protection;
use contextvm::core::{Printable, object};
use serde_json::value::RawValue;

use crate::args::Global;
use crate::bar;
use crate::finding;
use crate::keys::{self, Chosen, npub};
use crate::names::{self, Named};
use crate::output::Talk;
use crate::problem::{Code, Problem};
use crate::saved::SavedServer;

/// The revision that one-shot commands ask for first.
const REVISION: &str = "2025-11-25";
/// How long one-shot commands wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Most pages of a list that are read.
const PAGES: usize = 256;
/// Bytes of a list after which no further page is read.
const LIST: usize = 8 * 1024 * 1024;

/// A whole list, as the server wrote it.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) items: Vec<Box<RawValue>>,
    /// The list goes on; it was cut off.
    pub(crate) more: bool,
    /// How its last page travelled.
    pub(crate) protection: Option<Protection>,
}

/// A connected client that knows who the server is and which revision of MCP it speaks.
pub(crate) struct Session {
    pub(crate) client: Client,
    /// What the server answered to `initialize`, in that form also when it speaks 2026-07-28 only.
    pub(crate) welcome: serde_json::Value,
    /// The server does without `initialize`, so that every request says what that would have said.
    modern: bool,
    pub(crate) ephemeral: bool,
    /// How the server is saved, if that was its name.
    pub(crate) saved: Option<SavedServer>,
    /// Local relays of strangers' lists may be used, or none of them is needed.
    local: bool,
    started: Instant,
    timeout: Duration,
    talk: Talk,
    // Dropping it would end the client's interest in notifications; nothing reads it.
    _messages: Messages,
}

/// Collects what a client needs to know; `timeout` counts unless another one was asked for.
pub(crate) fn options(
    global: &Global,
    named: &Named,
    talk: &Talk,
    timeout: Duration,
) -> Result<(ClientOptions, bool), Problem> {
    let chosen = keys::choose_or_ephemeral(global.key.as_deref())?;
    let options = options_of(&chosen, global, named, talk, global.timeout.unwrap_or(timeout));
    Ok((options, chosen.ephemeral))
}

/// Does what [`options`] does for a key that is chosen already, with exactly this time.
pub(crate) fn options_of(
    chosen: &Chosen,
    global: &Global,
    named: &Named,
    talk: &Talk,
    timeout: Duration,
) -> ClientOptions {
    let mut options = ClientOptions::new(chosen.keys.clone(), named.server.clone());
    options.relays = named.relays(global).to_vec();
    options.discovery_relays = Some(finding::places(global));
    if options.relays.is_empty() {
        // Only what is looked up can be rolled back.
        options.memory = finding::memory(talk);
    }
    options.dangerous_local_relays = global.local_relays;
    options.config.encryption = global.encryption.into();
    options.config.gift_wrap = global.gift_wrap.into();
    options.config.limits.request_timeout = timeout;
    options.ready_timeout = options.ready_timeout.min(timeout);
    options
}

impl Session {
    /// Connects, and says `initialize` unless the server turns out to do without.
    pub(crate) async fn open(global: &Global, name: &str, talk: &Talk) -> Result<Self, Problem> {
        let named = names::resolve(name, global, talk).await?;
        Self::open_named(global, named, talk).await
    }

    /// Does what [`Self::open`] does, and offers to read what tools write while they work.
    pub(crate) async fn open_reading(global: &Global, name: &str, talk: &Talk) -> Result<Self, Problem> {
        let named = names::resolve(name, global, talk).await?;
        Self::connect(global, named, talk, true).await
    }

    /// Does what [`Self::open`] does for a server that is known already.
    pub(crate) async fn open_named(global: &Global, named: Named, talk: &Talk) -> Result<Self, Problem> {
        Self::connect(global, named, talk, false).await
    }

    async fn connect(global: &Global, named: Named, talk: &Talk, streams: bool) -> Result<Self, Problem> {
        let (mut options, ephemeral) = options(global, &named, talk, TIMEOUT)?;
        options.config.open_streams = streams;
        let relays = options.relays.clone();
        let local = options.dangerous_local_relays || !relays.is_empty();
        talk.detail(&format!("calling as {}", npub(&options.keys.public_key())));
        let started = Instant::now();
        let (client, messages) = Client::connect(options)
            .await
            .map_err(|error| not_connected(&error, &relays, started.elapsed()))?;
        talk.detail(&format!("connected after {} ms", started.elapsed().as_millis()));
        let timeout = global.timeout.unwrap_or(TIMEOUT);
        let welcome = serde_json::Value::Null;
        let modern = false;
        let mut session = Self {
            client,
            welcome,
            modern,
            ephemeral,
            saved: named.saved,
            local,
            started,
            timeout,
            talk: *talk,
            _messages: messages,
        };
        session.welcome = session.greet().await?;
        Ok(session)
    }

    /// Says `initialize`; a server that refuses may be one of 2026-07-28 only, and is asked about itself instead.
    async fn greet(&mut self) -> Result<serde_json::Value, Problem> {
        let version = env!("CARGO_PKG_VERSION");
        let params = format!(
            r#"{{"protocolVersion":"{REVISION}","capabilities":{{}},"clientInfo":{{"name":"cvm","version":"{version}"}}}}"#
        );
        let refusal = match self.client.request("initialize", raw(params)?).await {
            Ok(welcome) => {
                let notified = self.client.notify("notifications/initialized", None).await;
                notified.map_err(|error| Problem::internal(error.to_string()))?;
                return Ok(serde_json::from_str(welcome.get()).unwrap_or_default());
            }
            Err(error) => error,
        };
        let problem = self.failed("initialize", &refusal);
        if !matches!(refusal, CallError::Server { .. }) || problem.is(Code::NotAllowed) {
            return Err(problem);
        }
        self.modern = true;
        let Ok(discovered) = self.request("server/discover", None).await else { return Err(problem) };
        let discovered: serde_json::Value = serde_json::from_str(discovered.get()).unwrap_or_default();
        let member = |path: &str| discovered.pointer(path).cloned().unwrap_or_default();
        Ok(serde_json::json!({
            "protocolVersion": modern::REVISION,
            "capabilities": member("/capabilities"),
            "serverInfo": member("/_meta/io.modelcontextprotocol~1serverInfo"),
            "instructions": member("/instructions"),
        }))
    }

    /// Calls a method; the deadline covers the whole command.
    pub(crate) async fn request(
        &self,
        method: &str,
        params: Option<String>,
    ) -> Result<Box<RawValue>, Problem> {
        self.call(method, params).await.map(|answered| answered.result)
    }

    /// Does what [`Self::request`] does, and tells which events carried it.
    pub(crate) async fn call(&self, method: &str, params: Option<String>) -> Result<Answered, Problem> {
        let params = self.params(params)?;
        let call = self.client.call(method, params);
        let answered = bar::beside(&self.talk, self.client.transfers(), call).await;
        self.understood(method, answered)
    }

    /// Begins a call whose tool may write while it works.
    pub(crate) async fn call_reading(
        &self,
        method: &str,
        params: Option<String>,
    ) -> Result<StreamedCall, Problem> {
        let params = self.params(params)?;
        self.client.call_stream(method, params).await.map_err(|error| self.failed(method, &error))
    }

    fn params(&self, params: Option<String>) -> Result<Option<Box<RawValue>>, Problem> {
        let params = params.map(raw).transpose()?.flatten();
        if !self.modern {
            return Ok(params);
        }
        let meta = ClientMeta::new("cvm", env!("CARGO_PKG_VERSION"));
        let with_meta = meta.put_into(params.as_deref());
        with_meta.map(Some).map_err(|error| Problem::internal(error.to_string()))
    }

    /// Takes a result that ends its call.
    pub(crate) fn understood(
        &self,
        method: &str,
        answered: Result<Answered, CallError>,
    ) -> Result<Answered, Problem> {
        let answered = answered.map_err(|error| self.failed(method, &error))?;
        match object::member(&answered.result, "resultType").and_then(object::string).as_deref() {
            None | Some("complete") => Ok(answered),
            Some("input_required") => Err(Problem::new(Code::ToolError, "the server asks for further input")
                .fact(format!("{method} needs answers that only an MCP host with a person can give"))
                .hint(format!("use it from an MCP host: cvm use {}", self.npub()))),
            Some(other) => {
                let kind = Printable::short(other, 40);
                Err(Problem::internal(format!("the result is of the unknown type {kind}")))
            }
        }
    }

    /// Reads all pages of a list; one that does not end is cut off. Takes the time of two answers at most.
    pub(crate) async fn list(&self, method: &str, member: &str) -> Result<Listed, Problem> {
        let odd = |why: &str| Problem::internal(format!("the answer to {method} is not understood: {why}"));
        let mut listed = Listed::default();
        let (mut bytes, mut cursor) = (0_usize, None::<String>);
        let begun = Instant::now();
        for _ in 0..PAGES {
            if begun.elapsed() >= self.timeout {
                let problem =
                    Problem::new(Code::Timeout, format!("the answers to {method} do not end in time"));
                return Err(problem
                    .fact(format!("{} came in {} ms", listed.items.len(), begun.elapsed().as_millis()))
                    .hint(format!("wait longer: --timeout {}s", self.timeout.as_secs().max(1) * 4)));
            }
            let params = cursor.map(|cursor| format!(r#"{{"cursor":{}}}"#, object::quote(&cursor)));
            let Answered { result, exchange, .. } = self.call(method, params).await?;
            bytes = bytes.saturating_add(result.get().len());
            let page = object::member(&result, member).ok_or_else(|| odd("the list is missing"))?;
            let page: Vec<Box<RawValue>> =
                serde_json::from_str(page.get()).map_err(|error| odd(&error.to_string()))?;
            listed.items.extend(page);
            listed.protection = exchange.map(|exchange| exchange.protection).or(listed.protection);
            cursor =
                object::member(&result, "nextCursor").and_then(object::string).map(|text| text.into_owned());
            listed.more = cursor.is_some();
            if !listed.more || bytes > LIST {
                break;
            }
        }
        Ok(listed)
    }

    pub(crate) fn npub(&self) -> String {
        npub(&self.client.server())
    }

    /// Says goodbye; a server that does not hear it is no problem of ours.
    pub(crate) async fn close(self) {
        let _late = tokio::time::timeout(Duration::from_millis(500), self.client.close()).await;
    }

    fn failed(&self, method: &str, error: &CallError) -> Problem {
        let waited = format!("{method}: {} ms after the start", self.started.elapsed().as_millis());
        match error {
            CallError::Server { code, message, data } => {
                self.server_error(method, *code, message, data.as_deref())
            }
            // It has answered before, so it is there and only this call takes too long.
            CallError::Lost { why: Lost::NoReply, .. } if !self.welcome.is_null() => {
                let problem = Problem::new(Code::Timeout, format!("{method} was not answered in time"));
                problem
                    .fact(waited)
                    .hint(format!("wait longer: --timeout {}s", self.timeout.as_secs().max(1) * 4))
            }
            CallError::Lost { why: Lost::NoReply, .. } => {
                let problem = Problem::new(Code::NoReply, "the server did not answer");
                let problem = self.relay_facts(problem.fact(waited)).data("server", self.npub());
                if !self.local && finding::lists_only_local(&self.client.server()) {
                    return problem
                        .fact("its relay list names only relays that are not wss://, which are not used")
                        .hint("if they are yours: --local-relays");
                }
                problem.hint(
                    "is the server running, on these relays, and does it allow this key and form (--gift-wrap, --encryption)?",
                )
            }
            CallError::Lost { why: Lost::NotSent, .. } => {
                let problem = Problem::new(Code::NoRelayAccepted, "no relay took the request");
                self.relay_facts(problem.fact(waited)).hint("use another relay: --relay wss://...")
            }
            CallError::Lost { why: Lost::TooLarge, detail, .. } => {
                detailed(Problem::new(Code::InvalidArguments, error.to_string()), detail)
            }
            CallError::Lost { why: Lost::Transfer, detail, .. } => {
                let problem =
                    Problem::new(Code::TransferFailed, format!("{method}: a large message was lost"));
                let problem = self.relay_facts(detailed(problem, detail).fact(waited));
                problem.hint("try once more, or over another relay: --relay wss://...")
            }
            CallError::Lost { .. } | CallError::Answer | CallError::Ended | CallError::Closed | _ => {
                Problem::internal(error.to_string()).fact(waited)
            }
        }
    }

    fn relay_facts(&self, problem: Problem) -> Problem {
        let waited = format!("waited up to {} s", self.timeout.as_secs_f32());
        let relays = self.client.status().relays.into_iter();
        relays.fold(problem.fact(waited), |problem, (url, up)| {
            let state = if up { "connected" } else { "not connected" };
            problem.fact(format!("{}   {state}", Printable(&url)))
        })
    }

    fn server_error(&self, method: &str, code: i64, message: &str, data: Option<&RawValue>) -> Problem {
        let said = format!("the server said: {} ({code})", Printable::short(message, 400));
        let class = match (code, method) {
            (-32000, _) if message.eq_ignore_ascii_case("unauthorized") => Code::NotAllowed,
            (-32042, _) if data.is_some_and(|data| data.get().contains("payment")) => Code::PaymentRequired,
            (-32601, _) => Code::NotFound,
            (-32602, "tools/call") => Code::InvalidArguments,
            (_, _) => Code::ToolError,
        };
        let problem = Problem::new(class, format!("{method} failed")).fact(said);
        let problem = match data {
            Some(data) => problem.fact(format!("with: {}", Printable::short(data.get(), 400))),
            None => problem,
        };
        if class != Code::NotAllowed {
            return problem.hint(format!("cvm ls {}", self.npub()));
        }
        if self.ephemeral {
            let problem = problem.fact("this call used a key that nobody knows");
            return problem.hint("use a key that the server allows: --key me");
        }
        problem.hint(format!("ask the operator to allow {}", npub(&self.client.public_key())))
    }
}

fn not_connected(error: &Error, relays: &[String], waited: Duration) -> Problem {
    let problem = match (error, error.kind()) {
        (Error::NoRelays, _) => {
            let problem = Problem::new(Code::RelayUnreachable, "no relay of the server is known");
            return problem
                .fact("no --relay was given, the server's name holds none, and no relay list was found")
                .hint("name the relay: --relay wss://...");
        }
        (_, ErrorKind::Config) => {
            return Problem::new(Code::InvalidValue, error.to_string()).hint("--relay wss://...");
        }
        (_, ErrorKind::Relay) if relays.is_empty() => {
            Problem::new(Code::RelayUnreachable, "none of the server's relays could be reached")
        }
        (_, ErrorKind::Relay) => {
            Problem::new(Code::RelayUnreachable, format!("none of {} relays could be reached", relays.len()))
        }
        (_, _) => return Problem::internal(error.to_string()),
    };
    let problem = relays
        .iter()
        .fold(problem, |problem, url| problem.fact(format!("{}   not connected", Printable(url))));
    problem
        .fact(format!("waited {} ms: {error}", waited.as_millis()))
        .hint("use another relay: --relay wss://...  (-vv shows why)")
}

/// Adds what is known beyond the kind of a failure.
fn detailed(problem: Problem, detail: &str) -> Problem {
    if detail.is_empty() { problem } else { problem.fact(Printable::short(detail, 400).to_string()) }
}

fn raw(json: String) -> Result<Option<Box<RawValue>>, Problem> {
    let raw = RawValue::from_string(json);
    raw.map(Some).map_err(|error| Problem::internal(format!("the request is not JSON: {error}")))
}
