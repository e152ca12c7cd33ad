//! The rmcp transport of one service.
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contextvm_engine::server::Delivery;
use rmcp::RoleServer;
use rmcp::model::{ClientNotification, JsonRpcMessage, RequestId};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout_at};

use super::{Caller, Era, Writable};
use crate::session::{Inbound, Letter, SessionSender};
use crate::{Error, answer};

/// Id of the `initialize` that is said in the stead of a stateless caller.
const INITIALIZE_ID: &str = "contextvm:initialize";
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":"contextvm:initialize","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"stateless","version":"0"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// How long a service may still answer when its session is over.
const LINGER: Duration = Duration::from_secs(60);

/// Requests that the service has read and not answered.
#[derive(Debug, Default)]
struct Unanswered {
    ids: Mutex<BTreeSet<String>>,
    changed: Notify,
}

impl Unanswered {
    fn add(&self, id: &RequestId) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_string());
    }

    fn remove(&self, id: &RequestId) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).remove(&id.to_string());
        self.changed.notify_one();
    }

    async fn none(&self) {
        while !self.ids.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.changed.notified().await;
        }
    }
}

/// Feeds one service from its caller's session, and never with a first message that would end it.
pub(super) struct SessionTransport {
    era: Era,
    caller: Caller,
    inbound: mpsc::Receiver<Letter>,
    sender: SessionSender,
    ready: VecDeque<RxJsonRpcMessage<RoleServer>>,
    /// Whether the service has seen the request that opens its lifecycle.
    open: bool,
    unanswered: Arc<Unanswered>,
    /// Until when the service may still answer, once its session is over.
    until: Option<Instant>,
}

impl SessionTransport {
    pub(super) fn new(
        era: Era,
        caller: Caller,
        inbound: mpsc::Receiver<Letter>,
        sender: SessionSender,
    ) -> Self {
        let (ready, unanswered) = (VecDeque::new(), Arc::default());
        Self { era, caller, inbound, sender, ready, open: false, unanswered, until: None }
    }

    /// Turns one inbound message into what the service is to read.
    fn take(&mut self, inbound: Inbound) {
        let Some(message) = self.read(&inbound) else { return };
        self.count(&message);
        match &inbound.delivery {
            Delivery::Request { method, .. } => {
                if self.era == Era::Legacy && !self.open && method != "initialize" && method != "ping" {
                    self.say(INITIALIZE);
                    self.say(INITIALIZED);
                    self.open = true;
                }
                self.open |=
                    method == "initialize" || (self.era == Era::Modern && method != "server/discover");
                self.ready.push_back(message);
            }
            Delivery::Notification { .. } | Delivery::Response => {
                if self.open {
                    self.ready.push_back(message);
                }
            }
        }
    }

    /// Notes a request that will be answered, or that will not because its caller took it back.
    fn count(&self, message: &RxJsonRpcMessage<RoleServer>) {
        match message {
            JsonRpcMessage::Request(request) => self.unanswered.add(&request.id),
            JsonRpcMessage::Notification(notification) => {
                if let ClientNotification::CancelledNotification(cancelled) = &notification.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    self.unanswered.remove(id);
                }
            }
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => {}
        }
    }

    fn read(&self, inbound: &Inbound) -> Option<RxJsonRpcMessage<RoleServer>> {
        match serde_json::from_str::<RxJsonRpcMessage<RoleServer>>(&inbound.message) {
            Ok(mut message) => {
                message.insert_extension(self.caller);
                if let Some(event) = &inbound.event {
                    message.insert_extension(std::sync::Arc::clone(event));
                }
                message.insert_extension(std::sync::Arc::clone(&inbound.tags));
                if let Delivery::Request { key, streams: true, .. } = inbound.delivery {
                    message.insert_extension(Writable { sender: self.sender.clone(), key });
                }
                Some(message)
            }
            Err(_unreadable) => {
                if let Delivery::Request { key, .. } = &inbound.delivery {
                    let (sender, answer) = (self.sender.clone(), answer::unreadable(key)?);
                    // On its own, because whoever receives may be dropped while relays are behind. A closed server needs no answer.
                    tokio::spawn(async move { sender.send(answer).await.ok() });
                }
                None
            }
        }
    }

    fn say(&mut self, text: &str) {
        if let Ok(message) = serde_json::from_str(text) {
            self.ready.push_back(message);
        }
    }
}

impl Transport<RoleServer> for SessionTransport {
    type Error = Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        let text = if answers_our_initialize(&item) { None } else { serde_json::to_string(&item).ok() };
        let (sender, unanswered) = (self.sender.clone(), Arc::clone(&self.unanswered));
        async move {
            let sent = match text {
                Some(text) => sender.send(text).await,
                None => Ok(()),
            };
            if let Some(id) = answered(&item) {
                unanswered.remove(id);
            }
            sent
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            if let Some(letter) = self.inbound.recv().await {
                self.take(*letter.open());
                continue;
            }
            // A service that sees the end of its transport takes a few seconds more for its answers, and then drops them.
            let until = *self.until.get_or_insert_with(|| Instant::now() + LINGER);
            tokio::select! {
                _late = timeout_at(until, self.unanswered.none()) => {}
                () = self.sender.closed() => {}
            }
            return None;
        }
    }

    async fn close(&mut self) -> Result<(), Error> {
        self.inbound.close();
        Ok(())
    }
}

fn answers_our_initialize(item: &TxJsonRpcMessage<RoleServer>) -> bool {
    matches!(answered(item), Some(RequestId::String(text)) if &**text == INITIALIZE_ID)
}

/// Returns the id of the request that a message answers.
fn answered(item: &TxJsonRpcMessage<RoleServer>) -> Option<&RequestId> {
    match item {
        JsonRpcMessage::Response(response) => Some(&response.id),
        JsonRpcMessage::Error(error) => error.id.as_ref(),
        JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
    }
}
