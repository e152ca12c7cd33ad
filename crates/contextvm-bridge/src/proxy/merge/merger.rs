//! Which server gets what, for one conversation of a host: decisions only, without any input or output of their own.
//!
//! Requests travel under ids of the merger, because one of a host may become several. [`route`](super::route) finds the
//! servers, [`gather`](super::gather) puts their answers together, [`sessions`](super::sessions) and
//! [`listen`](super::listen) begin what lasts. What one server alone answers passes as it is.
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use contextvm_core::Limits;
use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::object::quote;
use contextvm_core::rewrite::{self, PROGRESS_TOKEN, Rewrite};
use serde_json::value::RawValue;

use super::gather::Collect;
use super::listen::Listen;
use super::names::Directory;
use super::route::{Seek, task_of};
use crate::answer::{FAILED, Failure, INVALID_REQUEST, TIMED_OUT};
use crate::proxy::conversation::{Heard, Said, WRAPPED};

/// How long a server that did not open a session is left alone before it is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(30);

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Act {
    /// Say something to a server.
    Server(usize, Said),
    /// Send a message to the host.
    Host(Heard),
}

/// How the host's session with one server stands (revisions that begin with `initialize`).
#[derive(Debug)]
pub(super) enum Session {
    /// The host has not asked for one.
    Fresh,
    Opening,
    Open,
    /// It did not open together with the others.
    Late,
    /// It was refused.
    Out {
        why: String,
        again: Instant,
    },
    /// The server side has ended.
    Gone,
}

/// One open request of the host, or an errand of the merger's own.
#[derive(Debug)]
pub(super) struct Call {
    /// The host's id; an errand has none.
    pub(super) id: Option<Box<RawValue>>,
    token: Option<Box<RawValue>>,
    pub(super) since: Instant,
    /// How much progress of several servers was passed on.
    steps: u64,
    pub(super) work: Work,
    /// What servers are asked for it, by own id.
    pub(super) parts: BTreeMap<String, usize>,
}

/// How a call is answered.
#[derive(Debug)]
pub(super) enum Work {
    /// As its one server does.
    Straight,
    /// As the first server does that knows the resource.
    Seek(Seek),
    /// With what several servers say.
    Collect(Collect),
    /// When the subscription ends.
    Listen(Listen),
    /// Not at all: it opens the session with a server that was late or failed before.
    Open,
}

/// A request of a server that the host has not answered yet.
#[derive(Debug)]
struct Asked {
    server: usize,
    id: Box<RawValue>,
    token: Option<Box<RawValue>>,
}

/// The memory of one conversation.
#[derive(Debug)]
pub(super) struct Merger {
    pub(super) directory: Arc<Directory>,
    pub(super) limits: Limits,
    pub(super) sessions: Vec<Session>,
    /// The host's `initialize`, for servers that come later.
    pub(super) opening: Option<String>,
    pub(super) initialized: bool,
    /// The lists of whose changes the host was promised to hear.
    pub(super) tells: Vec<&'static str>,
    pub(super) calls: BTreeMap<u64, Call>,
    by_id: BTreeMap<String, u64>,
    pub(super) parts: BTreeMap<String, u64>,
    /// The host's last `logging/setLevel`, for the same.
    pub(super) level: Option<String>,
    asked: BTreeMap<String, Asked>,
    /// Which server the host subscribed to a resource with.
    pub(super) subscribed: BTreeMap<String, usize>,
    pub(super) acts: VecDeque<Act>,
    pub(super) now: Instant,
    next: u64,
}

impl Merger {
    pub(super) fn new(directory: Arc<Directory>, limits: Limits, now: Instant) -> Self {
        Self {
            sessions: (0..directory.len()).map(|_| Session::Fresh).collect(),
            directory,
            limits,
            opening: None,
            level: None,
            initialized: false,
            tells: Vec::new(),
            calls: BTreeMap::new(),
            by_id: BTreeMap::new(),
            parts: BTreeMap::new(),
            asked: BTreeMap::new(),
            subscribed: BTreeMap::new(),
            acts: VecDeque::new(),
            now,
            next: 0,
        }
    }

    /// Returns what is to be done next; to be called until `None`.
    pub(super) fn poll(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    /// Takes one message of the host.
    pub(super) fn hear_host(&mut self, text: &str, now: Instant) {
        self.now = now;
        let limits = self.limits.clone();
        let Ok(message) = Envelope::parse(text, &limits) else { return };
        match message.kind {
            MessageKind::Request => self.host_asks(&message),
            MessageKind::Notification => self.host_says(&message),
            MessageKind::Response | MessageKind::Error => self.host_answers(&message),
        }
    }

    /// Nobody waits for this request any more.
    pub(super) fn abandon(&mut self, id: &RawValue) {
        if let Some(number) = self.by_id.get(id.get()) {
            self.cancel(*number, |own| crate::answer::raw(quote(own)).map(Said::Abandon));
        }
    }

    /// Takes one message of a server.
    pub(super) fn hear_server(&mut self, server: usize, heard: &Heard, now: Instant) {
        self.now = now;
        let limits = self.answer_limits();
        let Ok(message) = Envelope::parse(&heard.text, &limits) else { return };
        match message.kind {
            MessageKind::Response | MessageKind::Error => self.server_answers(server, &message),
            MessageKind::Notification => self.server_says(server, &message, heard.about.as_deref()),
            MessageKind::Request => self.server_asks(server, &message, heard.about.as_deref()),
        }
    }

    /// A server side has ended; what was asked of it fails.
    pub(super) fn gone(&mut self, server: usize) {
        if let Some(session) = self.sessions.get_mut(server) {
            *session = Session::Gone;
        }
        let lost: Vec<String> = self.parts_of(|_, of| of == server).into_iter().map(|(own, _)| own).collect();
        let limits = self.limits.clone();
        for own in lost {
            let text = self.left_out(server).answer_to(&own);
            if let Ok(message) = Envelope::parse(&text, &limits) {
                self.server_answers(server, &message);
            }
        }
    }

    /// Answers what is still open, because the conversation ends.
    pub(super) fn end(&mut self) {
        let failure = Failure::new(TIMED_OUT, "closed", "the conversation ended before the answer came");
        for number in self.calls.keys().copied().collect::<Vec<_>>() {
            self.failure_for(number, &failure);
        }
    }

    /// Goes on without servers that take too long, and tries those again that failed.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.now = now;
        self.gather_sweep();
        self.listen_sweep();
        let Some(opening) = self.opening.clone() else { return };
        for server in 0..self.sessions.len() {
            if let Some(session @ Session::Out { .. }) = self.sessions.get_mut(server)
                && matches!(session, Session::Out { again, .. } if *again <= now)
            {
                *session = Session::Late;
                let number = self.errand(Work::Open);
                self.ask_text(number, server, &opening);
            }
        }
    }

    /// Answers may have more members than requests: they may have been put together from several events.
    pub(super) fn answer_limits(&self) -> Limits {
        // It may have been put into another message since it came.
        let json_depth = self.limits.json_depth.saturating_add(WRAPPED);
        Limits { json_nodes: self.limits.json_nodes.saturating_mul(16), json_depth, ..self.limits.clone() }
    }

    fn host_asks(&mut self, message: &Envelope<'_>) {
        let Some(id) = message.id else { return };
        let failure = if self.by_id.contains_key(id.get()) {
            Some(Failure::new(INVALID_REQUEST, "id_in_use", "a request with this id is still open"))
        } else if self.calls.len() >= self.limits.pending {
            Some(Failure::new(FAILED, "busy", "too many requests wait for the servers"))
        } else {
            None
        };
        if let Some(failure) = failure {
            let heard = Heard { text: failure.answer(id), about: Some(id.to_owned()) };
            return self.acts.push_back(Act::Host(heard));
        }
        let number = self.errand(Work::Straight);
        if let Some(call) = self.calls.get_mut(&number) {
            call.id = Some(id.to_owned());
            call.token = message.progress_token().map(ToOwned::to_owned);
        }
        self.by_id.insert(id.get().to_owned(), number);
        self.route(number, message);
    }

    /// Whether a server takes requests: without a session only those that need none.
    pub(super) fn can_ask(&self, server: usize, modern: bool) -> bool {
        match self.sessions.get(server) {
            Some(Session::Fresh | Session::Opening | Session::Open) => true,
            Some(Session::Late | Session::Out { .. }) => modern,
            Some(Session::Gone) | None => false,
        }
    }

    pub(super) fn left_out(&self, server: usize) -> Failure {
        let why = match self.sessions.get(server) {
            Some(Session::Out { why, .. }) => why.as_str(),
            Some(Session::Gone) | None => "its connection has ended",
            Some(Session::Fresh | Session::Opening | Session::Open | Session::Late) => {
                "it has not answered yet"
            }
        };
        let name = self.directory.name(server);
        Failure::new(FAILED, "left_out", format!("{name} is left out: {why}")).with_text("server", name)
    }

    fn host_says(&mut self, message: &Envelope<'_>) {
        match message.method.as_deref().unwrap_or_default() {
            "notifications/cancelled" => {
                let number =
                    rewrite::cancelled_request_id(message.params).and_then(|id| self.by_id.get(id.get()));
                if let Some(number) = number {
                    self.cancel(*number, |own| {
                        Some(Said::Message(rewrite::with_cancelled_request_id(message, &quote(own))))
                    });
                }
            }
            "notifications/progress" => {
                let own = rewrite::notified_token(message.params).map(rewrite::plain_text);
                let Some(asked) = own.and_then(|own| self.asked.get(own.as_ref())) else { return };
                let Some(token) = &asked.token else { return };
                let text = rewrite::with_notified_token(message, token.get());
                self.acts.push_back(Act::Server(asked.server, Said::Message(text)));
            }
            method => {
                self.initialized |= method == "notifications/initialized";
                let servers: Vec<usize> =
                    (0..self.sessions.len()).filter(|server| self.can_ask(*server, false)).collect();
                for server in servers {
                    self.acts.push_back(Act::Server(server, Said::Message(message.text().to_owned())));
                }
            }
        }
    }

    fn host_answers(&mut self, message: &Envelope<'_>) {
        let own = message.id.map(rewrite::plain_text);
        let Some(asked) = own.and_then(|own| self.asked.remove(own.as_ref())) else { return };
        let text = rewrite::with_id(message, asked.id.get());
        self.acts.push_back(Act::Server(asked.server, Said::Message(text)));
    }

    fn server_answers(&mut self, server: usize, message: &Envelope<'_>) {
        let Some(own) = message.id.map(rewrite::plain_text) else { return };
        let Some(number) = self.parts.get(own.as_ref()).copied() else { return };
        let Some(call) = self.calls.get_mut(&number) else { return };
        if call.parts.get(own.as_ref()) != Some(&server) {
            return;
        }
        call.parts.remove(own.as_ref());
        self.parts.remove(own.as_ref());
        match &call.work {
            Work::Straight => {
                let task = message.result.and_then(task_of);
                if let Some(task) = task {
                    self.directory.has_task(server, &task);
                }
                self.answer(number, message);
            }
            Work::Seek(_) => self.sought(number, server, message),
            Work::Collect(_) => self.collected(number, server, message),
            Work::Listen(_) => self.listen_ended(number, &own, message),
            Work::Open => self.opened_late(number, server, message),
        }
    }

    fn server_says(&mut self, server: usize, message: &Envelope<'_>, about: Option<&RawValue>) {
        let number = self.number_of(server, about);
        let call = number.and_then(|number| self.calls.get_mut(&number));
        if rewrite::subscription_id(message.params).is_some() {
            if let (Some(number), Some(about)) = (number, about) {
                self.listened(number, &rewrite::plain_text(about), message);
            }
            return;
        }
        match (message.method.as_deref().unwrap_or_default(), call) {
            ("notifications/progress", None) => {}
            ("notifications/progress", Some(call)) => {
                let Some(token) = &call.token else { return };
                let text = if matches!(call.work, Work::Straight) {
                    message.text().to_owned()
                } else {
                    // Each server counts for itself; together they may only rise.
                    call.steps += 1;
                    let says = message.param("message").map(|says| format!(r#","message":{}"#, says.get()));
                    format!(
                        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"{PROGRESS_TOKEN}":{},"progress":{}{}}}}}"#,
                        token.get(),
                        call.steps,
                        says.unwrap_or_default(),
                    )
                };
                self.acts.push_back(Act::Host(Heard { text, about: call.id.clone() }));
            }
            ("notifications/cancelled", _) => {
                let Some(id) = rewrite::cancelled_request_id(message.params) else { return };
                let found =
                    self.asked.iter().find(|(_, asked)| asked.server == server && asked.id.get() == id.get());
                let Some(own) = found.map(|(own, _)| own.clone()) else { return };
                self.asked.remove(&own);
                let text = rewrite::with_cancelled_request_id(message, &quote(&own));
                self.acts.push_back(Act::Host(Heard { text, about: None }));
            }
            (_, call) => {
                let about = call.and_then(|call| call.id.clone());
                self.acts.push_back(Act::Host(Heard { text: message.text().to_owned(), about }));
            }
        }
    }

    fn server_asks(&mut self, server: usize, message: &Envelope<'_>, about: Option<&RawValue>) {
        let Some(id) = message.id else { return };
        if self.asked.len() >= self.limits.pending {
            let busy = Failure::new(FAILED, "busy", "too many questions wait for the host").answer(id);
            return self.acts.push_back(Act::Server(server, Said::Message(busy)));
        }
        let own = self.own_id();
        let token = message.progress_token().map(ToOwned::to_owned);
        let rewrite = Rewrite::of(message).id(quote(&own));
        let rewrite = match token {
            Some(_) => rewrite.meta(PROGRESS_TOKEN, quote(&own)),
            None => rewrite,
        };
        let about = self.number_of(server, about).and_then(|number| self.calls.get(&number)?.id.clone());
        self.acts.push_back(Act::Host(Heard { text: rewrite.to_text(), about }));
        self.asked.insert(own, Asked { server, id: id.to_owned(), token });
    }

    /// The call that something is about which a server says.
    fn number_of(&self, server: usize, about: Option<&RawValue>) -> Option<u64> {
        let own = rewrite::plain_text(about?);
        let number = *self.parts.get(own.as_ref())?;
        (self.calls.get(&number)?.parts.get(own.as_ref()) == Some(&server)).then_some(number)
    }

    fn own_id(&mut self) -> String {
        self.next = self.next.saturating_add(1);
        format!("m-{}", self.next)
    }

    /// Opens a call without a host's request.
    pub(super) fn errand(&mut self, work: Work) -> u64 {
        self.next = self.next.saturating_add(1);
        let call = Call { id: None, token: None, since: self.now, steps: 0, work, parts: BTreeMap::new() };
        self.calls.insert(self.next, call);
        self.next
    }

    /// Asks a server something for a call.
    pub(super) fn ask(&mut self, number: u64, server: usize, rewrite: Rewrite<'_>) {
        let own = self.own_id();
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.parts.insert(own.clone(), server);
        let text = rewrite.id(quote(&own)).to_text();
        self.parts.insert(own, number);
        self.acts.push_back(Act::Server(server, Said::Message(text)));
    }

    pub(super) fn ask_text(&mut self, number: u64, server: usize, text: &str) {
        let limits = self.limits.clone();
        if let Ok(message) = Envelope::parse(text, &limits) {
            self.ask(number, server, Rewrite::of(&message));
        }
    }

    /// The open parts of all calls that match, with their servers.
    fn parts_of(&self, wanted: impl Fn(u64, usize) -> bool) -> Vec<(String, usize)> {
        let all = self
            .calls
            .iter()
            .flat_map(|(number, call)| call.parts.iter().map(move |(own, server)| (*number, own, *server)));
        all.filter(|(number, _, server)| wanted(*number, *server))
            .map(|(_, own, server)| (own.clone(), server))
            .collect()
    }

    /// Ends a call and what is still open of it.
    pub(super) fn close(&mut self, number: u64) -> Option<Call> {
        let call = self.calls.remove(&number)?;
        if let Some(id) = &call.id {
            self.by_id.remove(id.get());
        }
        for own in call.parts.keys() {
            self.parts.remove(own);
        }
        Some(call)
    }

    /// Ends a call without an answer, and tells its servers so.
    pub(super) fn cancel(&mut self, number: u64, said: impl Fn(&str) -> Option<Said>) {
        let Some(call) = self.close(number) else { return };
        if matches!(&call.work, Work::Collect(collect) if collect.opens()) {
            self.sessions_given_up();
        }
        for (own, server) in &call.parts {
            self.acts.extend(said(own).map(|said| Act::Server(*server, said)));
        }
    }

    /// Takes back what a call still asks of servers.
    pub(super) fn take_back(&mut self, number: u64) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        for (own, server) in core::mem::take(&mut call.parts) {
            self.parts.remove(&own);
            self.acts
                .extend(crate::answer::raw(quote(&own)).map(|own| Act::Server(server, Said::Abandon(own))));
        }
    }

    /// Answers the host as a server did.
    pub(super) fn answer(&mut self, number: u64, message: &Envelope<'_>) {
        let Some(Call { id: Some(id), .. }) = self.close(number) else { return };
        let text = rewrite::with_id(message, id.get());
        self.acts.push_back(Act::Host(Heard { text, about: Some(id) }));
    }

    pub(super) fn answer_text(&mut self, number: u64, text: &str) {
        let limits = self.answer_limits();
        match Envelope::parse(text, &limits) {
            Ok(message) => self.answer(number, &message),
            Err(_) => self.failure_for(number, &Failure::new(FAILED, "no_server", "no server can be asked")),
        }
    }

    pub(super) fn result_for(&mut self, number: u64, result: &str) {
        let Some(Call { id: Some(id), .. }) = self.close(number) else { return };
        let text = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id.get());
        self.acts.push_back(Act::Host(Heard { text, about: Some(id) }));
    }

    pub(super) fn failure_for(&mut self, number: u64, failure: &Failure) {
        let Some(Call { id: Some(id), .. }) = self.close(number) else { return };
        self.acts.push_back(Act::Host(Heard { text: failure.answer(&id), about: Some(id) }));
    }
}

/// Whether a message needs no session.
pub(super) fn is_modern(message: &Envelope<'_>) -> bool {
    rewrite::protocol_version(message.params).is_some()
        || message.method.as_deref() == Some("server/discover")
}
