//! A client: its machine, and the application that calls, cancels, reads streams and answers its server.
use std::collections::{BTreeMap, VecDeque};

use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::object;
use contextvm_engine::client::ClientLoad;
use contextvm_engine::{ClientConfig, ClientInput, ClientMachine, ClientOutput, StreamEnd, StreamNews};
use serde_json::value::RawValue;

use crate::cheat::Cheat;
use crate::end::{self, Desk, Effect, Input, TOOL_FAILED};
use crate::kernel::{Act, Due};
use crate::plan::CallPlan;
use crate::rng::Rng;
use crate::time::{MS, SEC};
use crate::trace::{Call, Ending, What};

/// First number of the calls that begin sessions.
pub(crate) const BEGINNINGS: u64 = 1_000_000_000;
/// Time between calls that waited for their session.
const PACE: u64 = 20 * MS;
/// How often a session is begun before the application calls anyway.
const ATTEMPTS: u32 = 3;

/// A call as its application knows it.
#[derive(Clone, Copy, Debug)]
struct Open {
    call: Call,
    /// Its application gave it a progress token, which is its id.
    has_token: bool,
    /// It reads a stream that has not ended.
    reads: bool,
    /// Chunks after which it has enough of its stream.
    stops: Option<u64>,
    has_ended: bool,
}

/// What an application knows of a call beforehand.
#[derive(Clone, Copy, Debug)]
struct Kind {
    reads: bool,
    simple: bool,
    stops: Option<u64>,
}

/// One life of a client.
#[derive(Debug)]
pub(crate) struct Client {
    machine: ClientMachine,
    config: ClientConfig,
    rng: Rng,
    number: u64,
    /// The application's own ids, which every client counts from zero.
    next_id: u64,
    calls: BTreeMap<u64, Open>,
    ids: BTreeMap<Call, u64>,
    /// Calls that wait for the session to begin.
    waiting: VecDeque<CallPlan>,
    attempts: u32,
    has_begun: bool,
    beginning: Option<Call>,
    /// Requests of the server that are to be answered.
    replies: BTreeMap<u64, (String, u64)>,
    next_reply: u64,
    /// An error of our own endpoint whose reason follows.
    held: Option<(u64, i64)>,
    slow: u32,
    /// It closed itself.
    has_left: bool,
    pub(crate) effects: VecDeque<Effect>,
}

impl Client {
    pub(crate) fn new(config: ClientConfig, desk: &mut Desk<'_>, slow: u32) -> Self {
        let number = u64::from(desk.me.peer);
        let mut rng = Rng::of(desk.me.seed, "client", u64::from(desk.life) << 16 | number);
        let machine = ClientMachine::new(config.clone(), desk.me.keys.public_key(), rng.bytes());
        let client = Self {
            machine,
            rng,
            number,
            next_id: 0,
            calls: BTreeMap::new(),
            ids: BTreeMap::new(),
            waiting: VecDeque::new(),
            attempts: 0,
            has_begun: config.stateless,
            beginning: None,
            replies: BTreeMap::new(),
            next_reply: 0,
            held: None,
            slow,
            has_left: false,
            effects: VecDeque::new(),
            config,
        };
        if !client.has_begun {
            let due = Due::App { peer: desk.me.peer, life: desk.life, act: Act::Begin };
            desk.kernel.queue.after(2 * SEC, due);
        }
        client
    }

    /// Calls that have not ended, or whose streams have not.
    pub(crate) fn open_calls(&self) -> usize {
        self.waiting.len() + self.calls.values().filter(|open| !open.has_ended || open.reads).count()
    }

    /// Calls that wait for their session to begin: nobody made them.
    pub(crate) fn unmade(&self) -> usize {
        self.waiting.len()
    }

    /// Calls of which the application has not seen the end, and questions that it has not answered.
    pub(crate) fn busy(&self) -> usize {
        self.open_calls() + self.replies.len()
    }

    pub(crate) fn load(&self) -> ClientLoad {
        self.machine.load()
    }

    pub(crate) fn timeout(&self) -> Option<contextvm_core::Mono> {
        self.machine.poll_timeout().map(|(at, _)| at)
    }

    pub(crate) fn handle(&mut self, input: Input, desk: &mut Desk<'_>) {
        let input = match input {
            Input::Opened(opened) => ClientInput::Opened(opened),
            Input::Published(ticket, outcome) => ClientInput::Published(ticket, outcome),
            Input::RelayUp => ClientInput::RelayUp,
            Input::RelayLimit(bytes) => ClientInput::RelayLimit(bytes),
            Input::Wake => ClientInput::Wake,
        };
        self.tell(input, desk);
    }

    fn tell(&mut self, input: ClientInput, desk: &mut Desk<'_>) {
        self.machine.handle(input, desk.now);
        while let Some(output) = self.machine.poll_output() {
            self.output(output, desk);
        }
        self.release_held(desk);
    }

    /// The application makes a call.
    pub(crate) fn call(&mut self, plan: CallPlan, desk: &mut Desk<'_>) {
        if let Some(chance) = desk.kernel.cheater.elsewhere() {
            self.waiting.push_back(plan);
            let act = Act::Issue;
            desk.kernel.queue.after(chance % SEC, Due::App { peer: desk.me.peer, life: desk.life, act });
        } else if self.has_begun && self.waiting.is_empty() {
            self.issue(&plan, desk);
        } else {
            self.waiting.push_back(plan);
        }
    }

    fn issue(&mut self, plan: &CallPlan, desk: &mut Desk<'_>) {
        let id = self.next_id;
        self.next_id += 1;
        let text = end::request(plan, id);
        let reads = plan.reads && self.config.open_streams;
        let kind = Kind { reads, simple: !reads && plan.is_simple(), stops: plan.stops };
        self.issued(plan.call, id, &text, kind, desk);
        if let Some(after) = plan.cancels {
            let act = Act::Cancel(id);
            desk.kernel.queue.after(after, Due::App { peer: desk.me.peer, life: desk.life, act });
        }
        let input = if reads { ClientInput::SendReading(text) } else { ClientInput::Send(text) };
        self.tell(input, desk);
    }

    fn issued(&mut self, call: Call, id: u64, text: &str, kind: Kind, desk: &mut Desk<'_>) {
        let Some(message) = end::read(text) else { return };
        let (args, bytes) = end::asked(&message);
        let Kind { reads, simple, stops } = kind;
        desk.emit(What::Issued { call, to: self.config.server, args, bytes, reads, simple });
        let has_token = message.progress_token().is_some();
        self.calls.insert(id, Open { call, has_token, reads, stops, has_ended: false });
        self.ids.insert(call, id);
    }

    pub(crate) fn act(&mut self, act: Act, desk: &mut Desk<'_>) {
        if self.has_left && matches!(act, Act::Begin | Act::Begun | Act::Issue) {
            return;
        }
        match act {
            Act::Begin => self.begin(desk),
            Act::Begun => {
                let text = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned();
                self.tell(ClientInput::Send(text), desk);
            }
            Act::Issue => {
                if let Some(plan) = self.waiting.pop_front() {
                    self.issue(&plan, desk);
                }
            }
            Act::Cancel(id) => self.cancel(id, desk),
            Act::Take(id) => {
                if let Some(id) = raw(id) {
                    self.tell(ClientInput::Taken { id, chunks: 1 }, desk);
                }
            }
            Act::Late(message) => self.deliver(&message, true, desk),
            Act::Reply(nth) => self.reply(nth, desk),
            Act::Strange(_)
            | Act::Chatter(_)
            | Act::Run(_)
            | Act::Stream(_)
            | Act::AskBack(_)
            | Act::Decide { .. }
            | Act::GiveUp(_)
            | Act::Write
            | Act::Stored => {}
        }
    }

    fn begin(&mut self, desk: &mut Desk<'_>) {
        let call = Call(
            BEGINNINGS + self.number * 1_000_000 + u64::from(desk.life) * 100 + u64::from(self.attempts),
        );
        self.attempts += 1;
        let id = self.next_id;
        self.next_id += 1;
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize","params":{{"protocolVersion":"2025-06-18","capabilities":{{}},"clientInfo":{{"name":"sim","version":"{}"}}}}}}"#,
            call.0
        );
        self.beginning = Some(call);
        self.issued(call, id, &text, Kind { reads: false, simple: true, stops: None }, desk);
        self.tell(ClientInput::Send(text), desk);
    }

    fn cancel(&mut self, id: u64, desk: &mut Desk<'_>) {
        if self.calls.get(&id).is_none_or(|open| open.has_ended) {
            return;
        }
        self.ended(id, Ending::Cancelled, desk);
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
        );
        self.tell(ClientInput::Send(text), desk);
    }

    /// The application has enough of a stream.
    fn stop_reading(&mut self, number: u64, desk: &mut Desk<'_>) {
        desk.kernel.happened("stop_reading");
        if let Some(id) = raw(number) {
            self.tell(ClientInput::StopReading { id, reason: Some("enough".to_owned()) }, desk);
        }
    }

    /// The application closes its endpoint; returns whether it had not.
    pub(crate) fn leave(&mut self, desk: &mut Desk<'_>) -> bool {
        let leaves = !std::mem::replace(&mut self.has_left, true);
        if leaves {
            desk.kernel.happened("leaves");
            desk.emit(What::Left { caller: None });
            self.tell(ClientInput::Close, desk);
        }
        leaves
    }

    /// Whether the application makes calls.
    pub(crate) const fn calls(&self) -> bool {
        !self.has_left
    }

    /// The application sends a notification of its own.
    pub(crate) fn note(&mut self, desk: &mut Desk<'_>) {
        let said = self.rng.any();
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/roots/list_changed","params":{{"arguments":{{"note":{said}}}}}}}"#
        );
        let Some(message) = end::read(&text) else { return };
        let (said, _) = end::asked(&message);
        desk.emit(What::Told { to: Some(self.config.server), said });
        self.tell(ClientInput::Send(text), desk);
    }

    fn reply(&mut self, nth: u64, desk: &mut Desk<'_>) {
        let Some((id, call)) = self.replies.remove(&nth) else { return };
        let args = format!(r#"{{"call":{call},"fill":""}}"#);
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"reply":{call}}}}}"#);
        let Some(message) = end::read(&text) else { return };
        let (result, bytes) = end::answer(&message);
        let args = end::digest("sampling/createMessage", None, &args);
        desk.emit(What::Returned { caller: self.config.server, args, result, bytes });
        self.tell(ClientInput::Send(text), desk);
    }

    fn output(&mut self, output: ClientOutput, desk: &mut Desk<'_>) {
        match output {
            ClientOutput::Lost(lost) => {
                if let Some((id, _)) = self.held.take() {
                    self.ended(id, Ending::Lost(lost), desk);
                }
            }
            ClientOutput::Publish(outbound) => self.effects.push_back(Effect::Publish(outbound)),
            ClientOutput::Republish { ticket, rewrap } => {
                self.effects.push_back(Effect::Republish { ticket, rewrap });
            }
            ClientOutput::Forget(ticket) => self.effects.push_back(Effect::Forget(ticket)),
            ClientOutput::Deliver { message, exchange } => {
                self.release_held(desk);
                if exchange.is_none() {
                    return self.deliver(&message, false, desk);
                }
                if desk.kernel.cheater.now(Cheat::AnswerLate) {
                    let act = Act::Late(message);
                    let due = Due::App { peer: desk.me.peer, life: desk.life, act };
                    return desk.kernel.queue.after(1_000 * SEC, due);
                }
                for message in desk.kernel.cheater.answers(desk.me.peer, message) {
                    self.deliver(&message, true, desk);
                }
            }
            ClientOutput::Stream { id, news } => self.stream(&id, news, desk),
            ClientOutput::Drop(reason) => desk.kernel.dropped(desk.me.host, reason),
            ClientOutput::Moved(_) | ClientOutput::Learned => {}
        }
    }

    fn release_held(&mut self, desk: &mut Desk<'_>) {
        if let Some((id, code)) = self.held.take() {
            self.ended(id, Ending::Error(code), desk);
        }
    }

    fn deliver(&mut self, text: &str, from_server: bool, desk: &mut Desk<'_>) {
        let Some(message) = end::read(text) else {
            desk.emit(What::Error("a client was handed what is no message"));
            return;
        };
        match message.kind {
            MessageKind::Response | MessageKind::Error => self.answered(&message, from_server, desk),
            MessageKind::Request => self.asked(&message, desk),
            MessageKind::Notification => {
                if message.method.as_deref() == Some("notifications/progress") {
                    return self.progressed(&message, desk);
                }
                if message.method.as_deref().is_some_and(is_own) {
                    let (said, _) = end::asked(&message);
                    desk.emit(What::Heard { from: self.config.server, said });
                }
            }
        }
    }

    /// The application hears how far a call is, which the words say by its number. Under a token that it gave to a call it
    /// must be that call; one that it does not know, of an earlier life perhaps, is no news to it.
    fn progressed(&self, message: &Envelope<'_>, desk: &mut Desk<'_>) {
        let part = |name| message.params.and_then(|params| object::member(params, name)).map(RawValue::get);
        let Some(call) = part("message").and_then(|words| words.trim_matches('"').parse::<u64>().ok()) else {
            return;
        };
        let open = part("progressToken").and_then(|token| self.calls.get(&token.parse().ok()?));
        if open.is_some_and(|open| open.has_token && open.call.0 != call) {
            desk.emit(What::Error("progress of another call under the token of this one"));
        }
        let said = end::progressed(call, part("progress").unwrap_or_default());
        let said = desk.kernel.cheater.progress(desk.me.peer, said);
        desk.emit(What::Heard { from: self.config.server, said });
    }

    fn answered(&mut self, message: &Envelope<'_>, from_server: bool, desk: &mut Desk<'_>) {
        let Some(id) = message.id.and_then(|id| id.get().parse::<u64>().ok()) else { return };
        match message.error_code() {
            Some(code) if code != TOOL_FAILED => {
                if from_server {
                    self.ended(id, Ending::Error(code), desk);
                } else {
                    self.held = Some((id, code));
                }
            }
            Some(_) | None => {
                let (result, bytes) = end::answer(message);
                self.ended(id, Ending::Answer { result, bytes }, desk);
            }
        }
    }

    fn ended(&mut self, id: u64, ending: Ending, desk: &mut Desk<'_>) {
        let Some(open) = self.calls.get_mut(&id) else {
            desk.emit(What::Error("an answer to a call that was never made"));
            return;
        };
        open.has_ended = true;
        let call = open.call;
        desk.emit(What::Ended { call, ending });
        if self.beginning == Some(call) {
            self.beginning = None;
            self.begun(matches!(ending, Ending::Answer { .. }), desk);
        }
    }

    /// The attempt to begin a session ended.
    fn begun(&mut self, success: bool, desk: &mut Desk<'_>) {
        if !success && self.attempts < ATTEMPTS {
            let due = Due::App { peer: desk.me.peer, life: desk.life, act: Act::Begin };
            desk.kernel.queue.after(SEC, due);
            return;
        }
        self.has_begun = true;
        if success {
            let due = Due::App { peer: desk.me.peer, life: desk.life, act: Act::Begun };
            desk.kernel.queue.after(0, due);
        }
        for nth in 0..self.waiting.len() as u64 {
            let act = Act::Issue;
            desk.kernel.queue.after(nth * PACE, Due::App { peer: desk.me.peer, life: desk.life, act });
        }
    }

    fn asked(&mut self, message: &Envelope<'_>, desk: &mut Desk<'_>) {
        let args = end::args(message);
        let (digest, bytes) = end::asked(message);
        let unix = desk.now.unix;
        desk.emit(What::Executed { caller: self.config.server, id: None, args: digest, bytes, unix });
        let Some(id) = message.id else { return };
        let Some(call) = end::call_of(args) else {
            // As a client does that knows no such method.
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32601,"message":"unknown"}}}}"#,
                id.get()
            );
            return self.tell(ClientInput::Send(text), desk);
        };
        let nth = self.next_reply;
        self.next_reply += 1;
        self.replies.insert(nth, (id.get().to_owned(), call));
        let wait = self.rng.delay(20 * MS);
        let act = Act::Reply(nth);
        desk.kernel.queue.after(wait, Due::App { peer: desk.me.peer, life: desk.life, act });
    }

    fn stream(&mut self, id: &RawValue, news: StreamNews, desk: &mut Desk<'_>) {
        let Some(number) = id.get().parse::<u64>().ok() else { return };
        let Some(open) = self.calls.get_mut(&number) else {
            desk.emit(What::Error("a stream of a call that was never made"));
            return;
        };
        let call = open.call;
        match news {
            StreamNews::Chunk { index, data } => {
                let data = desk.kernel.cheater.chunk(&data);
                desk.emit(What::Chunk { call, index, data });
                if open.stops == Some(index) {
                    desk.emit(What::HadEnough { call });
                    return self.stop_reading(number, desk);
                }
                let wait = if self.rng.chance(self.slow) { self.rng.delay(SEC) } else { MS };
                let act = Act::Take(number);
                desk.kernel.queue.after(wait, Due::App { peer: desk.me.peer, life: desk.life, act });
            }
            StreamNews::Ended(end) => {
                open.reads = false;
                let complete = matches!(end, StreamEnd::Closed { .. });
                desk.emit(What::StreamEnded { call, complete });
            }
        }
    }
}

/// Whether a notification is an application's own.
pub(crate) fn is_own(method: &str) -> bool {
    !matches!(method, "notifications/cancelled" | "notifications/progress" | "notifications/initialized")
}

fn raw(id: u64) -> Option<Box<RawValue>> {
    RawValue::from_string(id.to_string()).ok()
}
