//! The client machine with its application side: calls, raw messages, and what the server says.
use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use contextvm_core::envelope::{self, Envelope, MessageKind};
use contextvm_core::{Limits, Mono, Now, PeerTags, object, rewrite};
use contextvm_engine::client::{Exchange, Lost};
use contextvm_engine::{ClientInput, ClientMachine, ClientOutput, StreamNews};
use contextvm_runtime::{Counters, Effect, Endpoint, Input};
use serde_json::value::RawValue;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::queue::{self, Queue, Weighed};
use crate::streamed::{Patience, Reading, Wish};
use crate::{Answered, CallError, ServerView, Transferred};

const CANCELLED: &str = "notifications/cancelled";

/// What a server is told whose request finds no room: code and message.
const UNREAD: (i64, &str) = (-32_000, "Busy: the application does not read");

/// How one call ended.
pub(crate) type Answer = Result<Answered, CallError>;

/// Where the answer to one call goes; closed once nobody waits for it.
type Reply = oneshot::Sender<Weighed<Answer>>;

/// A call that has not ended.
struct Open {
    reply: Reply,
    /// It stays open for as long as the server likes, who ends it by a cancellation.
    is_subscription: bool,
}

/// What the application side tells the desk.
#[derive(Debug)]
pub(crate) enum Command {
    Send(String),
    Call {
        id: Arc<str>,
        message: String,
        reply: Reply,
        is_subscription: bool,
        /// Present if the stream of the call is read.
        reading: Option<Box<Reading>>,
    },
    View(oneshot::Sender<ServerView>),
    /// Some call is not waited for any more.
    Abandoned,
    /// Some stream was read, or is not read any more.
    Flow,
    Close,
}

/// What the desk hears besides commands, however many of those wait.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// The application has read a message or an answer.
    pub(crate) read: Notify,
    /// Bytes that it has not read.
    pub(crate) unread: AtomicUsize,
    /// The application has stopped waiting for a call.
    pub(crate) abandoned: Notify,
    /// The application has taken something of a stream, or wants no more of it.
    pub(crate) flow: Notify,
    /// The application closes the client.
    pub(crate) closing: CancellationToken,
}

/// The client machine with its application side.
pub(crate) struct Desk {
    machine: ClientMachine,
    limits: Limits,
    inbox: mpsc::Receiver<Command>,
    unread: Queue,
    signals: Arc<Signals>,
    told: Told,
    counters: Counters,
    calls: BTreeMap<Arc<str>, Open>,
    /// Streams that are read, by the id of their call.
    streams: BTreeMap<Arc<str>, Box<Reading>>,
    patience: Patience,
    /// Delivered by the machine; the next output may say that it ended a lost call.
    held: Option<(String, Option<Exchange>)>,
    now: Now,
    /// Every command was taken.
    inbox_empty: bool,
    stop_due: bool,
}

/// What the application can look up at any time.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// What the server has said about itself.
    pub(crate) tags: Arc<Mutex<PeerTags>>,
    /// The newest of all transfers.
    pub(crate) moved: watch::Sender<Option<Transferred>>,
}

impl Desk {
    pub(crate) fn new(
        machine: ClientMachine,
        limits: Limits,
        (inbox, unread): (mpsc::Receiver<Command>, Queue),
        signals: Arc<Signals>,
        told: Told,
        counters: Counters,
    ) -> Self {
        Self {
            machine,
            // The machine has counted the values of what it delivers.
            limits: Limits { json_nodes: usize::MAX, ..limits },
            inbox,
            unread,
            signals,
            told,
            counters,
            calls: BTreeMap::new(),
            streams: BTreeMap::new(),
            patience: Patience::default(),
            held: None,
            now: Now::default(),
            inbox_empty: false,
            stop_due: false,
        }
    }
}

impl Endpoint for Desk {
    type Event = Command;
    const KEEPS: bool = true;
    const DROPS_LATER: bool = false;

    /// Takes commands only while every answer that may come has a place to wait in.
    async fn next(&mut self) -> Command {
        loop {
            let room = self.has_room();
            tokio::select! {
                // What makes room comes before what takes it.
                biased;
                // A stream is stopped before its call is cancelled.
                () = self.signals.flow.notified() => return Command::Flow,
                () = self.signals.abandoned.notified() => return Command::Abandoned,
                () = self.signals.closing.cancelled(), if !self.inbox.is_closed() => self.inbox.close(),
                () = self.signals.read.notified(), if !room => {}
                command = self.inbox.recv(), if room && !self.inbox_empty => {
                    self.inbox_empty = command.is_none();
                    return command.unwrap_or(Command::Close);
                }
            }
        }
    }

    fn handle(&mut self, input: Input<Command>, now: Now) {
        self.now = now;
        match input {
            Input::Opened(opened) => self.tell(ClientInput::Opened(opened)),
            Input::Published(ticket, outcome) => self.tell(ClientInput::Published(ticket, outcome)),
            Input::RelayUp => self.tell(ClientInput::RelayUp),
            Input::ClockAhead(seconds) => self.tell(ClientInput::ClockAhead(seconds)),
            Input::RelayLimit(bytes) => self.tell(ClientInput::RelayLimit(bytes)),
            // A client keeps nothing.
            Input::Remembered(_) | Input::Unstored(_) => {}
            Input::Wake => self.tell(ClientInput::Wake),
            Input::App(command) => self.take(command),
        }
    }

    fn poll(&mut self) -> Option<Effect> {
        loop {
            let Some(output) = self.machine.poll_output() else {
                self.release(None);
                return core::mem::take(&mut self.stop_due).then_some(Effect::Stop);
            };
            if let ClientOutput::Lost(lost) = output {
                self.release(Some(lost));
                continue;
            }
            self.release(None);
            match output {
                ClientOutput::Publish(outbound) => return Some(Effect::Publish(outbound)),
                ClientOutput::Republish { ticket, rewrap } => {
                    return Some(Effect::Republish { ticket, rewrap });
                }
                ClientOutput::Forget(ticket) => return Some(Effect::Forget(ticket)),
                ClientOutput::Drop(reason) => return Some(Effect::Drop { event: None, reason }),
                ClientOutput::Deliver { message, exchange } => self.held = Some((message, exchange)),
                ClientOutput::Learned => {
                    let learned = self.machine.server_tags().clone();
                    *self.told.tags.lock().unwrap_or_else(PoisonError::into_inner) = learned;
                }
                ClientOutput::Stream { id, news } => self.hand_on(&id, news),
                ClientOutput::Moved(moved) => {
                    self.told.moved.send_replace(Some(moved));
                }
                ClientOutput::Lost(_) => {}
            }
        }
    }

    fn poll_timeout(&self) -> Option<Mono> {
        self.machine.poll_timeout().map(|(mono, _why)| mono)
    }

    /// Waits for readers of streams who are behind.
    fn holds_until(&mut self) -> Option<Mono> {
        let buffer = self.limits.stream_buffer.min(self.limits.streams_bytes);
        self.patience.until(self.streams.values().map(Box::as_ref), buffer, self.now.mono)
    }

    fn owes(&self) -> bool {
        false
    }
}

impl Desk {
    fn tell(&mut self, input: ClientInput) {
        self.machine.handle(input, self.now);
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Send(message) => self.tell(ClientInput::Send(message)),
            // Whoever asked may have stopped waiting before anything was sent.
            Command::Call { reply, .. } if reply.is_closed() => {}
            Command::Call { id, message, reply, is_subscription, reading } => {
                self.calls.insert(Arc::clone(&id), Open { reply, is_subscription });
                let Some(reading) = reading else { return self.tell(ClientInput::Send(message)) };
                self.streams.insert(id, reading);
                self.tell(ClientInput::SendReading(message));
            }
            Command::Flow => self.follow_streams(),
            Command::Abandoned => self.cancel_abandoned(),
            Command::View(reply) => {
                // Who asked may have gone.
                let _gone = reply.send(ServerView::of(&self.machine));
            }
            Command::Close => {
                self.tell(ClientInput::Close);
                self.stop_due = true;
            }
        }
    }

    /// Whether commands may be taken: answers find a place, or the application has given up reading them.
    fn has_room(&self) -> bool {
        self.unread.has_room() || self.signals.closing.is_cancelled()
    }

    /// Hands news of a stream to its reader, who is never waited for.
    fn hand_on(&mut self, id: &RawValue, news: StreamNews) {
        if let Some(reading) = self.streams.get_mut(id.get()) {
            reading.tell(news);
            if reading.is_done() {
                self.streams.remove(id.get());
            }
        }
    }

    /// Tells the machine what the readers of streams have taken, and what they do not want any more.
    fn follow_streams(&mut self) {
        let mut wishes = Vec::new();
        for (id, reading) in &mut self.streams {
            wishes.extend(reading.wishes().map(|wish| (Arc::clone(id), wish)));
        }
        for (id, wish) in wishes {
            let Ok(id) = RawValue::from_string(id.to_string()) else { continue };
            self.tell(match wish {
                Wish::Taken(chunks) => ClientInput::Taken { id, chunks },
                Wish::Stop(reason) => ClientInput::StopReading { id, reason },
            });
        }
        self.streams.retain(|_, reading| !reading.is_done());
    }

    /// Cancels the calls that nobody waits for.
    fn cancel_abandoned(&mut self) {
        let abandoned = self.calls.iter().filter(|(_, call)| call.reply.is_closed());
        let abandoned: Vec<Arc<str>> = abandoned.map(|(id, _)| Arc::clone(id)).collect();
        for id in abandoned {
            self.calls.remove(&id);
            let params = format!(r#"{{"requestId":{id},"reason":"the caller stopped waiting"}}"#);
            if let Ok(params) = RawValue::from_string(params) {
                let message = envelope::notification(CANCELLED, Some(&params));
                self.tell(ClientInput::Send(message));
            }
        }
    }

    /// Hands on what is held; `lost` says that the server's answer never came.
    fn release(&mut self, lost: Option<Lost>) {
        let Some((message, exchange)) = self.held.take() else {
            return;
        };
        let Some(envelope) = Envelope::parse(&message, &self.limits).ok() else {
            // The machine delivers only what it parsed or printed itself.
            tracing::error!("the machine delivered what is not json-rpc");
            return;
        };
        let (answer, ended) = match envelope.kind {
            MessageKind::Response | MessageKind::Error => (true, envelope.id),
            // The machine delivers only what ends a subscription, or a request of the server: their ids are two things.
            MessageKind::Notification if envelope.method.as_deref() == Some(CANCELLED) => {
                let id = rewrite::cancelled_request_id(envelope.params);
                let is_open =
                    |id: &RawValue| self.calls.get(id.get()).is_some_and(|call| call.is_subscription);
                (false, id.filter(|id| is_open(id)))
            }
            MessageKind::Request | MessageKind::Notification => (false, None),
        };
        match ended.and_then(|id| self.calls.remove(id.get())) {
            Some(Open { reply, .. }) => {
                let result = match (lost, answer) {
                    (Some(why), _) => Err(lost_call(why, &envelope)),
                    (None, true) if !self.unread.takes_answer(message.len()) => Err(CallError::Lost {
                        why: Lost::Busy,
                        detail: queue::no_room(message.len()),
                        retryable: false,
                    }),
                    (None, true) => answered(&envelope, exchange),
                    (None, false) => Err(CallError::Ended),
                };
                // A receiver that is gone has been cancelled, or is about to be.
                let is_ours = matches!(result, Err(CallError::Lost { .. } | CallError::Ended));
                let bytes = if is_ours { 0 } else { message.len() };
                let _gone = reply.send(self.unread.weigh(result, bytes));
            }
            None => {
                let id = envelope.id.map(ToOwned::to_owned);
                let is_kept = match &id {
                    Some(id) if answer => self.unread.answer(id, message),
                    Some(_) | None => self.unread.offer(message),
                };
                if !is_kept {
                    self.counters.unread();
                    // A request that nobody has seen would be waited for by its server, and keep our calls alive.
                    if let Some(id) = id.filter(|_| !answer) {
                        let (code, text) = UNREAD;
                        self.tell(ClientInput::Send(envelope::response_error(&id, code, text, None)));
                    }
                }
            }
        }
    }
}

/// What the machine says of a lost call.
fn lost_call(why: Lost, envelope: &Envelope<'_>) -> CallError {
    let detail = envelope.error.and_then(|error| object::member(error, "message")).and_then(object::string);
    CallError::Lost {
        why,
        retryable: is_retryable(envelope),
        detail: detail.unwrap_or_default().into_owned(),
    }
}

/// Whether a new one with the same content does no harm.
fn is_retryable(envelope: &Envelope<'_>) -> bool {
    let data = envelope.error.and_then(|error| object::member(error, "data"));
    data.and_then(|data| object::member(data, "retryable")).is_some_and(|flag| flag.get() == "true")
}

fn answered(envelope: &Envelope<'_>, exchange: Option<Exchange>) -> Answer {
    if let Some(result) = envelope.result {
        return Ok(Answered { result: result.to_owned(), exchange });
    }
    let error = envelope.error.ok_or(CallError::Answer)?;
    let code = envelope.error_code().ok_or(CallError::Answer)?;
    let message = object::member(error, "message").and_then(object::string).unwrap_or_default().into_owned();
    let data = object::member(error, "data").map(ToOwned::to_owned);
    Err(CallError::Server { code, message, data })
}

#[cfg(test)]
mod tests {
    use contextvm_engine::{ClientConfig, Outbound, Outcome};
    use nostr::key::PublicKey;

    use super::*;
    use crate::Messages;

    fn desk() -> (Desk, Messages) {
        desk_with(Limits::default())
    }

    fn desk_with(limits: Limits) -> (Desk, Messages) {
        let server = PublicKey::from_byte_array([7; 32]);
        let machine = ClientMachine::new(ClientConfig::new(server), server, [0; 32]);
        let (_commands, inbox) = mpsc::channel(1);
        let signals = Arc::<Signals>::default();
        let (unread, messages) = Queue::new(&limits, Arc::clone(&signals));
        let (told, counters) = (Told::default(), Counters::default());
        (Desk::new(machine, limits, (inbox, unread), signals, told, counters), messages)
    }

    #[tokio::test]
    async fn a_subscription_that_the_server_ends_is_not_waited_for_and_nothing_else_is_ended() {
        let (mut desk, mut messages) = desk();
        let (reply, mut ended) = oneshot::channel();
        desk.calls.insert("\"x\"".into(), Open { reply, is_subscription: true });
        let (reply, mut call) = oneshot::channel();
        desk.calls.insert("\"z\"".into(), Open { reply, is_subscription: false });
        // The last may be the id of a request of the server, which took it back.
        for id in ["\"y\"", "\"x\"", "\"z\""] {
            let params = RawValue::from_string(format!(r#"{{"requestId":{id}}}"#)).unwrap();
            desk.held = Some((envelope::notification(CANCELLED, Some(&params)), None));
            desk.release(None);
        }
        assert!(matches!(ended.try_recv().unwrap().open(), Err(CallError::Ended)));
        assert!(messages.recv().await.unwrap().contains("\"y\""));
        assert!(messages.recv().await.unwrap().contains("\"z\""));
        desk.held = Some((r#"{"jsonrpc":"2.0","id":"z","result":{}}"#.into(), None));
        desk.release(None);
        assert!(call.try_recv().unwrap().open().is_ok());
        drop(desk);
        assert!(messages.recv().await.is_none());
    }

    #[test]
    fn a_call_that_may_have_been_executed_is_not_worth_another_attempt() {
        let (mut desk, _messages) = desk();
        for (method, again) in [("tools/call", false), ("tools/list", true)] {
            let (reply, mut answer) = oneshot::channel();
            let message = format!(r#"{{"jsonrpc":"2.0","id":"x","method":"{method}"}}"#);
            let call =
                Command::Call { id: "\"x\"".into(), message, reply, is_subscription: false, reading: None };
            desk.handle(Input::App(call), Now::default());
            let Some(Effect::Publish(Outbound { ticket, .. })) = desk.poll() else { panic!("{method}") };
            desk.handle(Input::Published(ticket, Outcome::Accepted), Now::default());
            while let Some(mono) = desk.poll_timeout() {
                desk.handle(Input::Wake, Now { mono, unix: 0 });
                while desk.poll().is_some() {}
                if desk.calls.is_empty() {
                    break;
                }
            }
            let error = answer.try_recv().unwrap().open().unwrap_err();
            assert!(matches!(error, CallError::Lost { why: Lost::NoReply, .. }), "{method}: {error:?}");
            assert_eq!(error.is_retryable(), again, "{method}");
        }
    }

    #[test]
    fn answers_that_no_caller_takes_are_bounded_in_bytes() {
        let (mut desk, _messages) = desk_with(Limits { transfers_bytes: 1_000, ..Limits::default() });
        let mut answers = Vec::new();
        for n in 0..4 {
            let (reply, answer) = oneshot::channel();
            desk.calls.insert(n.to_string().into(), Open { reply, is_subscription: false });
            answers.push(answer);
            let text = "x".repeat(800);
            // An error may be as long as a result.
            let answer = match n % 2 {
                0 => format!(r#"{{"jsonrpc":"2.0","id":{n},"result":{{"x":"{text}"}}}}"#),
                _ => format!(
                    r#"{{"jsonrpc":"2.0","id":{n},"error":{{"code":1,"message":"","data":"{text}"}}}}"#
                ),
            };
            desk.held = Some((answer, None));
            desk.release(None);
        }
        let mut kept = answers.into_iter().map(|mut answer| answer.try_recv().unwrap().open());
        assert!(kept.next().unwrap().is_ok());
        assert!(matches!(kept.next().unwrap(), Err(CallError::Server { code: 1, .. })));
        for answer in kept {
            assert!(matches!(answer, Err(CallError::Lost { why: Lost::Busy, retryable: false, .. })));
        }
        assert_eq!(desk.signals.unread.load(std::sync::atomic::Ordering::Acquire), 0);
    }
}
