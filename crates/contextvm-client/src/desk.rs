//! The client machine with its application side: calls, raw messages, and what the server says.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use contextvm_core::envelope::{self, Envelope, MessageKind};
use contextvm_core::{Limits, Mono, Now, PeerTags, object};
use contextvm_engine::client::Lost;
use contextvm_engine::{ClientInput, ClientMachine, ClientOutput};
use contextvm_runtime::{Counters, Effect, Endpoint, Input};
use serde_json::value::RawValue;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::{CallError, ServerView};

/// Notifications and requests of the server that may wait to be read, beyond answers.
const NOTIFICATIONS: usize = 512;

/// Where the answer to one call goes.
pub(crate) type Reply = oneshot::Sender<Result<Box<RawValue>, CallError>>;

/// What the application side tells the desk.
#[derive(Debug)]
pub(crate) enum Command {
    Send(String),
    Call {
        id: Arc<str>,
        message: String,
        reply: Reply,
    },
    /// Nobody waits for this call any more.
    Abandon(Arc<str>),
    View(oneshot::Sender<ServerView>),
    Close,
}

/// The client machine with its application side.
pub(crate) struct Desk {
    machine: ClientMachine,
    limits: Limits,
    inbox: mpsc::Receiver<Command>,
    outbound: mpsc::Sender<String>,
    tags: Arc<Mutex<PeerTags>>,
    /// Told whenever the application has read a message.
    read: Arc<Notify>,
    counters: Counters,
    calls: BTreeMap<Arc<str>, Reply>,
    /// Delivered by the machine; the next output may say that it ended a lost call.
    held: Option<String>,
    now: Now,
    inbox_gone: bool,
    stop_due: bool,
}

/// Answers that may wait to be read, at most.
fn reserve(limits: &Limits) -> usize {
    limits.pending.max(1)
}

/// Places for what the application has not read: two generations of answers, and notifications.
pub(crate) fn messages_bound(limits: &Limits) -> usize {
    reserve(limits).saturating_mul(2).saturating_add(NOTIFICATIONS)
}

impl Desk {
    pub(crate) fn new(
        machine: ClientMachine,
        limits: Limits,
        inbox: mpsc::Receiver<Command>,
        (outbound, read): (mpsc::Sender<String>, Arc<Notify>),
        tags: Arc<Mutex<PeerTags>>,
        counters: Counters,
    ) -> Self {
        Self {
            machine,
            limits,
            inbox,
            outbound,
            tags,
            read,
            counters,
            calls: BTreeMap::new(),
            held: None,
            now: Now::default(),
            inbox_gone: false,
            stop_due: false,
        }
    }
}

impl Endpoint for Desk {
    type Event = Command;
    const KEEPS: bool = true;

    /// Takes commands only while every answer that may come has a place to wait in.
    async fn next(&mut self) -> Command {
        if self.inbox_gone {
            return core::future::pending().await;
        }
        while !self.outbound.is_closed() && self.outbound.capacity() <= reserve(&self.limits) {
            self.read.notified().await;
        }
        let command = self.inbox.recv().await;
        self.inbox_gone = command.is_none();
        command.unwrap_or(Command::Close)
    }

    fn handle(&mut self, input: Input<Command>, now: Now) {
        self.now = now;
        match input {
            Input::Opened(opened) => self.tell(ClientInput::Opened(opened)),
            Input::Published(ticket, outcome) => self.tell(ClientInput::Published(ticket, outcome)),
            Input::RelayUp => self.tell(ClientInput::RelayUp),
            Input::Wake => self.tell(ClientInput::Wake),
            Input::App(Command::Send(message)) => self.tell(ClientInput::Send(message)),
            Input::App(Command::Call { id, message, reply }) => {
                self.calls.insert(id, reply);
                self.tell(ClientInput::Send(message));
            }
            Input::App(Command::Abandon(id)) => self.abandon(&id),
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
                ClientOutput::Deliver(message) => self.held = Some(message),
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

    /// Cancels a call that nobody waits for.
    fn abandon(&mut self, id: &Arc<str>) {
        if self.calls.remove(id).is_some() {
            let params = format!(r#"{{"requestId":{id},"reason":"the caller stopped waiting"}}"#);
            if let Ok(params) = RawValue::from_string(params) {
                let message = envelope::notification("notifications/cancelled", Some(&params));
                self.tell(ClientInput::Send(message));
            }
        }
    }

    /// Hands on what is held; `lost` says that the server's answer never came.
    fn release(&mut self, lost: Option<Lost>) {
        let Some(message) = self.held.take() else {
            return;
        };
        let Some(envelope) = Envelope::parse(&message, &self.limits).ok() else {
            // The machine delivers only what it parsed or printed itself.
            tracing::error!("the machine delivered what is not json-rpc");
            return;
        };
        let answer = match envelope.kind {
            MessageKind::Response | MessageKind::Error => true,
            MessageKind::Request | MessageKind::Notification => false,
        };
        let call = envelope.id.filter(|_| answer).and_then(|id| self.calls.remove(id.get()));
        match call {
            Some(reply) => {
                // A receiver that is gone has been cancelled, or is about to be.
                let _gone =
                    reply.send(lost.map_or_else(|| result(&envelope), |lost| Err(CallError::Lost(lost))));
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

fn result(envelope: &Envelope<'_>) -> Result<Box<RawValue>, CallError> {
    if let Some(result) = envelope.result {
        return Ok(result.to_owned());
    }
    let error = envelope.error.ok_or(CallError::Answer)?;
    let code = envelope.error_code().ok_or(CallError::Answer)?;
    let message = object::member(error, "message").and_then(object::string).unwrap_or_default().into_owned();
    let data = object::member(error, "data").map(ToOwned::to_owned);
    Err(CallError::Server { code, message, data })
}
