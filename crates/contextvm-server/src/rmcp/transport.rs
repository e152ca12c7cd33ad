//! The rmcp transport of one service.
use std::collections::VecDeque;

use contextvm_engine::server::Delivery;
use rmcp::RoleServer;
use rmcp::model::{JsonRpcMessage, RequestId};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::sync::mpsc;

use super::{Caller, Era, Writable};
use crate::session::{Inbound, Letter, SessionSender};
use crate::{Error, answer};

/// Id of the `initialize` that is said in the stead of a stateless caller.
const INITIALIZE_ID: &str = "contextvm:initialize";
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":"contextvm:initialize","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"stateless","version":"0"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// Feeds one service from its caller's session, and never with a first message that would end it.
pub(super) struct SessionTransport {
    era: Era,
    caller: Caller,
    inbound: mpsc::Receiver<Letter>,
    sender: SessionSender,
    ready: VecDeque<RxJsonRpcMessage<RoleServer>>,
    /// Whether the service has seen the request that opens its lifecycle.
    open: bool,
}

impl SessionTransport {
    pub(super) fn new(
        era: Era,
        caller: Caller,
        inbound: mpsc::Receiver<Letter>,
        sender: SessionSender,
    ) -> Self {
        Self { era, caller, inbound, sender, ready: VecDeque::new(), open: false }
    }

    /// Turns one inbound message into what the service is to read.
    async fn take(&mut self, inbound: Inbound) {
        let Some(message) = self.read(&inbound).await else {
            return;
        };
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

    async fn read(&self, inbound: &Inbound) -> Option<RxJsonRpcMessage<RoleServer>> {
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
                    // A closed server needs no answer.
                    let _closed = self.sender.send(answer::unreadable(key)?).await;
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
        let sender = self.sender.clone();
        async move {
            match text {
                Some(text) => sender.send(text).await,
                None => Ok(()),
            }
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            let letter = self.inbound.recv().await?;
            self.take(*letter.open()).await;
        }
    }

    async fn close(&mut self) -> Result<(), Error> {
        self.inbound.close();
        Ok(())
    }
}

fn answers_our_initialize(item: &TxJsonRpcMessage<RoleServer>) -> bool {
    let ours = |id: &RequestId| matches!(id, RequestId::String(text) if &**text == INITIALIZE_ID);
    match item {
        JsonRpcMessage::Response(response) => ours(&response.id),
        JsonRpcMessage::Error(error) => error.id.as_ref().is_some_and(ours),
        JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => false,
    }
}
