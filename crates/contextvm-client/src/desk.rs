//! The client machine with its application side: calls, raw messages, and what the server says.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use contextvm_core::envelope::{self, Envelope, MessageKind};
use contextvm_core::{Limits, Mono, Now, PeerTags, object, rewrite};
use contextvm_engine::client::{Exchange, Lost};
use contextvm_engine::{ClientInput, ClientMachine, ClientOutput};
use contextvm_runtime::{Counters, Effect, Endpoint, Input};
use serde_json::value::RawValue;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{Answered, CallError, ServerView};

/// Notifications and requests of the server that may wait to be read, beyond answers.
const NOTIFICATIONS: usize = 512;

const CANCELLED: &str = "notifications/cancelled";

/// How one call ended.
pub(crate) type Answer = Result<Answered, CallError>;

/// Where the answer to one call goes; closed once nobody waits for it.
type Reply = oneshot::Sender<Answer>;

/// What the application side tells the desk.
#[derive(Debug)]
pub(crate) enum Command {
    Send(String),
    Call {
        id: Arc<str>,
        message: String,
        reply: Reply,
    },
    View(oneshot::Sender<ServerView>),
    /// Some call is not waited for any more.
    Abandoned,
    Close,
}

/// What the desk hears besides commands, however many of those wait.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// The application has read a message.
    pub(crate) read: Notify,
    /// The application has stopped waiting for a call.
    pub(crate) abandoned: Notify,
    /// The application closes the client.
    pub(crate) closing: CancellationToken,
}

/// The client machine with its application side.
pub(crate) struct Desk {
    machine: ClientMachine,
    limits: Limits,
    inbox: mpsc::Receiver<Command>,
    outbound: mpsc::Sender<String>,
    signals: Arc<Signals>,
    tags: Arc<Mutex<PeerTags>>,
    counters: Counters,
    calls: BTreeMap<Arc<str>, Reply>,
    /// Delivered by the machine; the next output may say that it ended a lost call.
    held: Option<(String, Option<Exchange>)>,
    now: Now,
    /// Every command was taken.
    inbox_empty: bool,
    stop_due: bool,
}

/// Answers that may wait to be read, at most.
fn reserve(limits: &Limits) -> usize {
    limits.pending.clamp(1, Semaphore::MAX_PERMITS / 4)
}

/// Places for what the application has not read: two generations of answers, and notifications.
pub(crate) fn messages_bound(limits: &Limits) -> usize {
    reserve(limits).saturating_mul(2).saturating_add(NOTIFICATIONS)
}

impl Desk {
    pub(crate) fn new(
        machine: ClientMachine,
        limits: Limits,
        (inbox, outbound): (mpsc::Receiver<Command>, mpsc::Sender<String>),
        signals: Arc<Signals>,
        tags: Arc<Mutex<PeerTags>>,
        counters: Counters,
    ) -> Self {
        Self {
            machine,
            limits,
            inbox,
            outbound,
            signals,
            tags,
            counters,
            calls: BTreeMap::new(),
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

    /// Takes commands only while every answer that may come has a place to wait in.
    async fn next(&mut self) -> Command {
        loop {
            let room = self.has_room();
            tokio::select! {
                // What makes room comes before what takes it.
                biased;
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
            Input::Wake => self.tell(ClientInput::Wake),
            Input::App(Command::Send(message)) => self.tell(ClientInput::Send(message)),
            // Whoever asked may have stopped waiting before anything was sent.
            Input::App(Command::Call { reply, .. }) if reply.is_closed() => {}
            Input::App(Command::Call { id, message, reply }) => {
                self.calls.insert(id, reply);
                self.tell(ClientInput::Send(message));
            }
            Input::App(Command::Abandoned) => self.cancel_abandoned(),
            Input::App(Command::View(reply)) => {
                // Who asked may have gone.
                let _gone = reply.send(ServerView::of(&self.machine));
            }
            Input::App(Command::Close) => {
                self.tell(ClientInput::Close);
                self.stop_due = true;
            }
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
                ClientOutput::Drop(reason) => return Some(Effect::Drop(reason)),
                ClientOutput::Deliver { message, exchange } => self.held = Some((message, exchange)),
                ClientOutput::Learned => {
                    let learned = self.machine.server_tags().clone();
                    *self.tags.lock().unwrap_or_else(PoisonError::into_inner) = learned;
                }
                ClientOutput::Lost(_) => {}
            }
        }
    }

    fn poll_timeout(&self) -> Option<Mono> {
        self.machine.poll_timeout().map(|(mono, _why)| mono)
    }

    fn owes(&self) -> bool {
        false
    }
}

impl Desk {
    fn tell(&mut self, input: ClientInput) {
        self.machine.handle(input, self.now);
    }

    /// Whether commands may be taken: answers find a place, or the application has given up reading them.
    fn has_room(&self) -> bool {
        self.outbound.capacity() > reserve(&self.limits)
            || self.outbound.is_closed()
            || self.signals.closing.is_cancelled()
    }

    /// Cancels the calls that nobody waits for.
    fn cancel_abandoned(&mut self) {
        let abandoned = self.calls.iter().filter(|(_, reply)| reply.is_closed());
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
            // The machine delivers only what ends a subscription, or a request of the server.
            MessageKind::Notification if envelope.method.as_deref() == Some(CANCELLED) => {
                (false, rewrite::cancelled_request_id(envelope.params))
            }
            MessageKind::Request | MessageKind::Notification => (false, None),
        };
        match ended.and_then(|id| self.calls.remove(id.get())) {
            Some(reply) => {
                let result = match (lost, answer) {
                    (Some(why), _) => Err(CallError::Lost { why, retryable: is_retryable(&envelope) }),
                    (None, true) => answered(&envelope, exchange),
                    (None, false) => Err(CallError::Ended),
                };
                // A receiver that is gone has been cancelled, or is about to be.
                let _gone = reply.send(result);
            }
            None => self.offer(answer, message),
        }
    }

    /// Queues a message for the application; answers always have a place, see [`Desk::next`].
    fn offer(&self, answer: bool, message: String) {
        let kept = reserve(&self.limits).saturating_mul(2);
        if self.outbound.is_closed() {
            return;
        }
        if (!answer && self.outbound.capacity() <= kept) || self.outbound.try_send(message).is_err() {
            self.counters.unread();
        }
    }
}

/// What the machine says of a lost call: whether a new one with the same content does no harm.
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

    fn desk() -> (Desk, mpsc::Receiver<String>) {
        let server = PublicKey::from_byte_array([7; 32]);
        let machine = ClientMachine::new(ClientConfig::new(server), server, [0; 32]);
        let (_commands, inbox) = mpsc::channel(1);
        let (outbound, messages) = mpsc::channel(messages_bound(&Limits::default()));
        let (tags, counters) = (Arc::default(), Counters::default());
        let desk = Desk::new(machine, Limits::default(), (inbox, outbound), Arc::default(), tags, counters);
        (desk, messages)
    }

    #[test]
    fn a_subscription_that_the_server_ends_is_not_waited_for() {
        let (mut desk, mut messages) = desk();
        let (reply, mut answer) = oneshot::channel();
        desk.calls.insert("\"x\"".into(), reply);
        for id in ["\"y\"", "\"x\""] {
            let params = RawValue::from_string(format!(r#"{{"requestId":{id}}}"#)).unwrap();
            desk.held = Some((envelope::notification(CANCELLED, Some(&params)), None));
            desk.release(None);
        }
        assert!(matches!(answer.try_recv(), Ok(Err(CallError::Ended))));
        assert!(messages.try_recv().unwrap().contains("\"y\""));
        assert!(messages.try_recv().is_err());
    }

    #[test]
    fn a_call_that_may_have_been_executed_is_not_worth_another_attempt() {
        let (mut desk, _messages) = desk();
        for (method, again) in [("tools/call", false), ("tools/list", true)] {
            let (reply, mut answer) = oneshot::channel();
            let message = format!(r#"{{"jsonrpc":"2.0","id":"x","method":"{method}"}}"#);
            desk.handle(Input::App(Command::Call { id: "\"x\"".into(), message, reply }), Now::default());
            let Some(Effect::Publish(Outbound { ticket, .. })) = desk.poll() else { panic!("{method}") };
            desk.handle(Input::Published(ticket, Outcome::Accepted), Now::default());
            while let Some(mono) = desk.poll_timeout() {
                desk.handle(Input::Wake, Now { mono, unix: 0 });
                while desk.poll().is_some() {}
                if desk.calls.is_empty() {
                    break;
                }
            }
            let error = answer.try_recv().unwrap().unwrap_err();
            assert!(matches!(error, CallError::Lost { why: Lost::NoReply, .. }), "{method}: {error:?}");
            assert_eq!(error.is_retryable(), again, "{method}");
        }
    }

    #[test]
    fn no_limit_is_too_large_for_the_queue() {
        let limits = Limits { pending: usize::MAX, ..Limits::default() };
        let (sender, _receiver) = mpsc::channel::<String>(messages_bound(&limits));
        assert!(sender.capacity() > reserve(&limits));
    }
}
