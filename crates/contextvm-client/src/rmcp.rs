//! Typed MCP clients over this transport.
use contextvm_core::Limits;
use contextvm_core::envelope::{self, Envelope, MessageKind};
use rmcp::RoleClient;
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;

use crate::{Client, Error, Messages};

/// JSON-RPC internal error.
const INTERNAL: i64 = -32603;

/// An rmcp transport for the client role, see [`Client::into_transport`].
#[derive(Debug)]
pub struct ClientTransport {
    client: Client,
    messages: Messages,
}

impl Client {
    /// Makes an rmcp transport of this client; serve an rmcp client handler on it.
    #[must_use]
    pub const fn into_transport(self, messages: Messages) -> ClientTransport {
        ClientTransport { client: self, messages }
    }
}

impl Transport<RoleClient> for ClientTransport {
    type Error = Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        let text = serde_json::to_string(&item).map_err(|_| Error::Unprintable);
        let client = self.client.clone();
        async move { client.send(text?).await }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            let text = self.messages.recv().await?;
            match serde_json::from_str(&text) {
                Ok(message) => return Some(message),
                Err(_unreadable) => {
                    if let Some(message) = in_place_of(&text) {
                        return Some(message);
                    }
                }
            }
        }
    }

    async fn close(&mut self) -> Result<(), Error> {
        self.client.close().await;
        Ok(())
    }
}

/// Makes an error of an answer that rmcp cannot read, so that its call ends.
fn in_place_of(text: &str) -> Option<RxJsonRpcMessage<RoleClient>> {
    // The machine has held the message to the configured limits already.
    let limits =
        Limits { json_depth: 127, json_nodes: usize::MAX, json_number: usize::MAX, ..Limits::default() };
    let envelope = Envelope::parse(text, &limits).ok()?;
    match envelope.kind {
        MessageKind::Response | MessageKind::Error => {
            let error = envelope::response_error(envelope.id?, INTERNAL, "the answer cannot be read", None);
            serde_json::from_str(&error).ok()
        }
        MessageKind::Request | MessageKind::Notification => None,
    }
}
