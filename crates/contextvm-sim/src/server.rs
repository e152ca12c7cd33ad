//! A server: its machine, and the application whose tools answer, stream, ask back, fail, or never end.
mod saving;
mod streaming;

use std::collections::{BTreeMap, VecDeque};

use contextvm_core::{Envelope, rewrite};
use contextvm_engine::server::{Delivery, Question};
use contextvm_engine::{RequestKey, ServerConfig, ServerInput, ServerLoad, ServerMachine, ServerOutput};
use nostr::key::PublicKey;

use crate::cheat::Cheat;
use crate::client::is_own;
use crate::end::{self, Desk, Effect, Input, TOOL_FAILED};
use crate::hostile::{App, Chances, Does};
use crate::journal::Journal;
use crate::kernel::{Act, Due};
use crate::plan::{Acts, CallPlan, Point};
use crate::rng::Rng;
use crate::time::{MS, SEC};
use crate::trace::{Call, Digest, Ending, What};

/// The number of a request that belongs to no call of the plan.
const NO_CALL: u64 = u64::MAX;
/// What the driver answers when the application has no room.
const REFUSED: i64 = -32_000;
/// First number of the calls that servers make.
pub(crate) const ASKED_BACK: u64 = 2_000_000_000;
/// How long an application waits for its caller's answer.
const PATIENCE: u64 = 30 * SEC;

/// One request that an application works on.
#[derive(Clone, Debug)]
struct Run {
    key: RequestKey,
    method: String,
    args: Digest,
    number: u64,
    acts: Acts,
    answers: u64,
    /// Progress notifications still to be sent, and the time between them.
    progress: u8,
    pace: u64,
    /// Streamed so far; `None`: nothing is to be streamed.
    streamed: Option<u64>,
    /// Times that it answers once more, with other words.
    again: u8,
}

/// A moment at which a server is to die.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trap {
    pub(crate) point: Point,
    /// How often it comes there until then.
    pub(crate) nth: u32,
    pub(crate) torn: bool,
    pub(crate) down: u64,
}

/// One life of a server.
#[derive(Debug)]
pub(crate) struct Server {
    machine: ServerMachine,
    rng: Rng,
    runs: BTreeMap<u64, Run>,
    by_key: BTreeMap<RequestKey, u64>,
    next: u64,
    /// Questions to callers by their number, which is also their id.
    asked: BTreeMap<u64, Call>,
    questions: BTreeMap<u64, u64>,
    load: ServerLoad,
    pub(crate) app: App,
    /// Until when the application takes nothing from a caller.
    full: BTreeMap<PublicKey, u64>,
    pub(crate) journal: Option<Journal>,
    pub(crate) trap: Option<Trap>,
    /// It is dead, and nobody has noticed.
    has_fallen: bool,
    pub(crate) effects: VecDeque<Effect>,
}

impl Server {
    /// Begins a life; with a journal, what an earlier one stored is given back to the machine.
    pub(crate) fn new(
        config: &ServerConfig,
        mut journal: Option<Journal>,
        app: Chances,
        barrier: u64,
        desk: &mut Desk<'_>,
    ) -> Self {
        let number = u64::from(desk.me.peer);
        let mut rng = Rng::of(desk.me.seed, "server", u64::from(desk.life) << 16 | number);
        let rng_app = rng.any();
        let mut config = config.clone();
        config.durable = journal.is_some();
        config.accept_from = barrier;
        let mut machine = ServerMachine::new(config, desk.me.keys.public_key(), rng.bytes());
        if let Some(journal) = &mut journal {
            machine.restore(journal.records(&desk.me.limits, desk.now.unix), desk.now);
        }
        let mut server = Self {
            machine,
            rng,
            runs: BTreeMap::new(),
            by_key: BTreeMap::new(),
            next: u64::from(desk.life) << 32,
            asked: BTreeMap::new(),
            questions: BTreeMap::new(),
            load: ServerLoad::default(),
            app: App::new(app, rng_app),
            full: BTreeMap::new(),
            journal,
            trap: None,
            has_fallen: false,
            effects: VecDeque::new(),
        };
        let me = desk.me;
        me.denied.iter().for_each(|caller| desk.emit(What::Denied { caller: *caller }));
        server.drain(desk);
        server
    }

    /// Requests that the application works on, and questions of its own that are open.
    pub(crate) fn busy(&self) -> usize {
        self.runs.len() + self.asked.len()
    }

    /// Records in the journal.
    pub(crate) fn records(&self) -> usize {
        self.journal.as_ref().map_or(0, Journal::len)
    }

    pub(crate) fn load(&self) -> ServerLoad {
        self.machine.load()
    }

    pub(crate) fn timeout(&self) -> Option<contextvm_core::Mono> {
        self.machine.poll_timeout().map(|(at, _)| at)
    }

    pub(crate) fn handle(&mut self, input: Input, desk: &mut Desk<'_>) {
        let input = match input {
            Input::Opened(opened) => ServerInput::Opened(opened),
            Input::Published(ticket, outcome) => ServerInput::Published(ticket, outcome),
            Input::RelayLimit(bytes) => ServerInput::RelayLimit(bytes),
            Input::Wake => ServerInput::Wake,
            Input::RelayUp => return,
        };
        self.tell(input, desk);
    }

    fn tell(&mut self, input: ServerInput, desk: &mut Desk<'_>) {
        if self.has_fallen {
            return;
        }
        self.machine.handle(input, desk.now);
        self.drain(desk);
    }

    /// The application closes the session of whom it works for longest.
    pub(crate) fn close_session(&mut self, desk: &mut Desk<'_>) {
        let Some(caller) = self.runs.values().next().map(|run| run.key.caller) else { return };
        desk.kernel.happened("leaves");
        desk.emit(What::Left { caller: Some(caller) });
        self.runs.retain(|_, run| run.key.caller != caller);
        self.by_key.retain(|key, _| key.caller != caller);
        self.full.remove(&caller);
        self.tell(ServerInput::SessionClosed(caller), desk);
    }

    fn drain(&mut self, desk: &mut Desk<'_>) {
        while !self.has_fallen
            && let Some(output) = self.machine.poll_output()
        {
            self.output(output, desk);
        }
        self.write(desk);
        let load = self.machine.load();
        if load != self.load {
            self.load = load;
            let load = desk.kernel.cheater.load(load);
            desk.emit(What::Load(load));
        }
    }

    fn output(&mut self, output: ServerOutput, desk: &mut Desk<'_>) {
        match output {
            ServerOutput::Publish(outbound) => {
                let is_answer = outbound.draft.content.contains(r#""result":"#);
                let point = if outbound.is_frame { Point::Frame } else { Point::Answers };
                self.effects.push_back(Effect::Publish(outbound));
                if is_answer || point == Point::Frame {
                    self.falls(point, desk);
                }
            }
            ServerOutput::Deliver { caller, delivery, message, .. } => {
                if !matches!(delivery, Delivery::Request { .. }) {
                    return self.deliver(caller, delivery, &message, desk);
                }
                if desk.kernel.cheater.now(Cheat::LogError) {
                    desk.emit(What::Error("on purpose"));
                }
                if self.falls(Point::Delivers, desk) {
                    return;
                }
                for message in desk.kernel.cheater.requests(message) {
                    self.deliver(caller, delivery.clone(), &message, desk);
                }
            }
            ServerOutput::Ask { id: question, question: about } => {
                let wait = self.rng.delay(20 * MS);
                let allow = matches!(about, Question::Key(key) if !desk.me.denied.contains(&key));
                self.later(wait, Act::Decide { question, allow }, desk);
            }
            ServerOutput::StreamRoom(key) => self.resume(key, desk),
            ServerOutput::StreamEnded { key, .. } => {
                if let Some(run) = self.by_key.get(&key).and_then(|nth| self.runs.get_mut(nth)) {
                    run.streamed = None;
                }
            }
            ServerOutput::Remember { number, record } => {
                let now = desk.kernel.now();
                let due = self.journal.as_mut().map(|journal| journal.push(number, record, now));
                if let Some(due) = due.filter(|due| *due > now) {
                    self.later(due - now, Act::Write, desk);
                }
                self.falls(Point::Written, desk);
            }
            ServerOutput::Restarted(_)
            | ServerOutput::Ended(_)
            | ServerOutput::Undeliverable { .. }
            | ServerOutput::Unasked { .. } => {}
            ServerOutput::Refused { reason, .. } | ServerOutput::Drop(reason) => {
                desk.kernel.dropped(desk.me.host, reason)
            }
        }
    }

    fn later(&self, wait: u64, act: Act, desk: &mut Desk<'_>) {
        desk.kernel.queue.after(wait, Due::App { peer: desk.me.peer, life: desk.life, act });
    }

    fn deliver(&mut self, caller: PublicKey, delivery: Delivery, text: &str, desk: &mut Desk<'_>) {
        let Some(message) = end::read(text) else {
            desk.emit(What::Error("a server was handed what is no message"));
            return;
        };
        if self.is_full(caller, &delivery, desk) {
            return self.refuse(caller, &delivery, &message, desk);
        }
        match delivery {
            Delivery::Request { key, method, streams } => {
                let (args, bytes) = end::asked(&message);
                // A client's machine pings by itself.
                if method != "ping" {
                    desk.emit(What::Executed { caller, id: Some(key.id), args, bytes, unix: desk.now.unix });
                    if desk.kernel.cheater.now(Cheat::WrongCancel) {
                        return desk.emit(What::Stopped { caller, args });
                    }
                }
                let number = end::call_of(end::args(&message)).unwrap_or(NO_CALL);
                let plan = desk.kernel.calls.get(&number).cloned();
                self.begin(key, method, args, number, plan, streams, desk);
            }
            Delivery::Notification { method } if method == "notifications/cancelled" => {
                let id = rewrite::cancelled_request_id(message.params);
                let id = id.and_then(|id| serde_json::from_str(id.get()).ok());
                let nth = id.and_then(|id| self.by_key.remove(&RequestKey { caller, id }));
                let run = nth.and_then(|nth| self.runs.remove(&nth)).filter(|run| run.method != "ping");
                if let Some(run) = run {
                    desk.emit(What::Stopped { caller, args: run.args });
                }
            }
            Delivery::Notification { method } => {
                if is_own(&method) {
                    let (said, _) = end::asked(&message);
                    desk.emit(What::Heard { from: caller, said });
                }
            }
            Delivery::Response => {
                let nth = message.id.and_then(|id| id.get().parse().ok());
                let Some(call) = nth.and_then(|nth: u64| self.asked.remove(&nth)) else { return };
                let ending = match message.error_code() {
                    Some(code) if code != TOOL_FAILED => Ending::Error(code),
                    Some(_) | None => {
                        let (result, bytes) = end::answer(&message);
                        Ending::Answer { result, bytes }
                    }
                };
                desk.emit(What::Ended { call, ending });
            }
        }
    }

    /// Whether the application has no room for what a caller sends. A request may find it so for a while.
    fn is_full(&mut self, caller: PublicKey, delivery: &Delivery, desk: &Desk<'_>) -> bool {
        let now = desk.kernel.now();
        if let Delivery::Request { .. } = delivery
            && let Some(lasts) = self.app.fills()
        {
            self.full.insert(caller, now + lasts);
        }
        self.full.get(&caller).is_some_and(|until| now < *until)
    }

    /// The driver answers a request for which there is no room; anything else is counted and gone.
    fn refuse(
        &mut self,
        caller: PublicKey,
        delivery: &Delivery,
        message: &Envelope<'_>,
        desk: &mut Desk<'_>,
    ) {
        let Delivery::Request { key, method, .. } = delivery else { return };
        let (args, bytes) = end::asked(message);
        if method != "ping" {
            desk.emit(What::Unread { caller, id: Some(key.id), args, bytes, unix: desk.now.unix });
        }
        let message = format!(
            r#"{{"jsonrpc":"2.0","id":"{}","error":{{"code":{REFUSED},"message":"Busy"}}}}"#,
            key.id.to_hex()
        );
        self.tell(ServerInput::Send { to: caller, message }, desk);
    }

    #[expect(clippy::too_many_arguments, reason = "what a delivered request consists of")]
    fn begin(
        &mut self,
        key: RequestKey,
        method: String,
        args: Digest,
        number: u64,
        plan: Option<CallPlan>,
        streams: bool,
        desk: &mut Desk<'_>,
    ) {
        let nth = self.next;
        self.next += 1;
        let (mut acts, answers, takes) =
            plan.map_or((Acts::default(), 20, Some(MS)), |plan| (plan.acts, plan.answers, plan.takes));
        let handling = self.app.handles();
        acts.fails |= handling.does == Does::Fails;
        acts.panics |= handling.does == Does::Panics;
        let is_slow = takes.is_some_and(|takes| takes >= SEC);
        let wrongs = [("app_slow", is_slow), ("app_fails", acts.fails), ("app_silent", takes.is_none())];
        for (fault, _) in wrongs.into_iter().filter(|(_, happens)| *happens) {
            desk.kernel.happened(fault);
        }
        let takes = takes.filter(|_| handling.does != Does::Nothing).map(|takes| takes + handling.after);
        if handling.strange {
            self.later(takes.unwrap_or(0), Act::Strange(key.caller), desk);
        }
        for nth in 0..handling.chatter {
            self.later(u64::from(nth) * 10 * MS, Act::Chatter(key.caller), desk);
        }
        let streamed = (streams && acts.streams > 0).then_some(0);
        let progress = acts.progress;
        let pace = takes.unwrap_or(0) / (u64::from(progress) + 1);
        self.runs.insert(
            nth,
            Run { key, method, args, number, acts, answers, progress, pace, streamed, again: handling.again },
        );
        self.by_key.insert(key, nth);
        if takes.is_some() {
            self.later(pace, Act::Run(nth), desk);
        }
        if acts.asks_back {
            self.later(0, Act::AskBack(nth), desk);
        }
        if streamed.is_some() {
            self.later(0, Act::Stream(nth), desk);
        }
    }

    pub(crate) fn act(&mut self, act: Act, desk: &mut Desk<'_>) {
        if self.has_fallen {
            return;
        }
        match act {
            Act::Run(nth) => self.run(nth, desk),
            Act::Stream(nth) => self.stream(nth, desk),
            Act::AskBack(nth) => self.ask_back(nth, desk),
            Act::Strange(to) => self.strange(to, desk),
            Act::Chatter(to) => self.chatter(to, desk),
            Act::Decide { question, allow } => {
                if !allow {
                    desk.kernel.happened("denied");
                }
                self.tell(ServerInput::Verdict { question, allow }, desk);
            }
            Act::GiveUp(nth) => {
                if let Some(call) = self.asked.remove(&nth) {
                    desk.emit(What::Ended { call, ending: Ending::Cancelled });
                }
            }
            Act::Write => self.write(desk),
            Act::Stored => self.stored(desk),
            Act::Begin
            | Act::Begun
            | Act::Late(_)
            | Act::Issue
            | Act::Cancel(_)
            | Act::Take(_)
            | Act::Reply(_) => {}
        }
    }

    /// The application sends a notification to all.
    pub(crate) fn note(&mut self, desk: &mut Desk<'_>) {
        let said = self.rng.any();
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{{"arguments":{{"note":{said}}}}}}}"#
        );
        let Some(message) = end::read(&text) else { return };
        let (said, _) = end::asked(&message);
        desk.emit(What::Told { to: None, said });
        self.tell(ServerInput::Broadcast(text), desk);
    }

    fn run(&mut self, nth: u64, desk: &mut Desk<'_>) {
        let Some(run) = self.runs.get_mut(&nth) else { return };
        let (to, id) = (run.key.caller, run.key.id.to_hex());
        if run.progress > 0 {
            run.progress -= 1;
            let done = run.acts.progress - run.progress;
            let (pace, number) = (run.pace, run.number);
            self.later(pace, Act::Run(nth), desk);
            let message = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"{id}","progress":{done},"message":"{number}"}}}}"#
            );
            let said = end::progressed(number, &done.to_string());
            desk.emit(What::Told { to: Some(to), said });
            self.tell(ServerInput::Send { to, message }, desk);
            return;
        }
        if run.streamed.is_some() {
            // The tool is still writing.
            self.later(100 * MS, Act::Run(nth), desk);
            return;
        }
        let Some(run) = self.runs.remove(&nth) else { return };
        self.by_key.remove(&run.key);
        let message = answer_text(&run, &id);
        let Some(parsed) = end::read(&message) else { return };
        let (result, bytes) = end::answer(&parsed);
        if run.method != "ping" {
            desk.emit(What::Returned { caller: to, args: run.args, result, bytes });
        }
        self.tell(ServerInput::Send { to, message }, desk);
        for nth in 0..run.again {
            // The first answer was the one.
            let message = format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"again":{nth}}}}}"#);
            self.tell(ServerInput::Send { to, message }, desk);
        }
    }

    /// Answers a request that nobody made.
    fn strange(&mut self, to: PublicKey, desk: &mut Desk<'_>) {
        let id = nostr::event::EventId::from_byte_array(self.rng.bytes()).to_hex();
        let message = format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"strange":true}}}}"#);
        self.tell(ServerInput::Send { to, message }, desk);
    }

    /// Tells one caller something that it did not ask for.
    fn chatter(&mut self, to: PublicKey, desk: &mut Desk<'_>) {
        let said = self.rng.any();
        let message = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"arguments":{{"note":{said}}}}}}}"#
        );
        let Some(parsed) = end::read(&message) else { return };
        let (said, _) = end::asked(&parsed);
        desk.emit(What::Told { to: Some(to), said });
        self.tell(ServerInput::Send { to, message }, desk);
    }

    fn ask_back(&mut self, nth: u64, desk: &mut Desk<'_>) {
        let Some(run) = self.runs.get(&nth) else { return };
        let to = run.key.caller;
        let call = Call(ASKED_BACK + (u64::from(desk.me.peer) << 48) + nth);
        let question = self.questions.len() as u64;
        self.questions.insert(question, nth);
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{question},"method":"sampling/createMessage","params":{{"arguments":{{"call":{},"fill":""}}}}}}"#,
            call.0
        );
        let Some(message) = end::read(&text) else { return };
        let (args, bytes) = end::asked(&message);
        desk.emit(What::Issued { call, to, args, bytes, reads: false, simple: false });
        self.asked.insert(question, call);
        self.later(PATIENCE, Act::GiveUp(question), desk);
        self.tell(ServerInput::Send { to, message: text }, desk);
    }
}

/// Prints the answer of a run.
fn answer_text(run: &Run, id: &str) -> String {
    let number = run.number;
    if run.method == "initialize" {
        return format!(
            r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"protocolVersion":"2025-06-18","capabilities":{{}},"serverInfo":{{"name":"sim","version":"{}"}}}}}}"#,
            &id.get(..16).unwrap_or_default()
        );
    }
    if run.acts.fails || run.acts.panics {
        let why = if run.acts.panics { "the tool panicked" } else { "the tool failed" };
        return format!(
            r#"{{"jsonrpc":"2.0","id":"{id}","error":{{"code":{TOOL_FAILED},"message":"{why}","data":{number}}}}}"#
        );
    }
    // What is no call of anybody's plan is told apart by its id, so that no two callers are answered alike.
    let fill = match number {
        NO_CALL => id.get(..16).unwrap_or_default().to_owned(),
        _ => end::fill(number ^ u64::MAX, run.answers),
    };
    format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"call":{number},"fill":"{fill}"}}}}"#)
}
