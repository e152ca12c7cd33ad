//! A typed MCP client, written with rmcp.
//!
//! `cargo run --example echo_client -- <server key> [relay url]`; without a relay the server's own list is looked up.
//! Without any argument it starts a relay and a small raw server in the same process and calls that.
#![expect(clippy::print_stdout, reason = "an example shows its result")]
use std::error::Error;

use contextvm::client::Client;
use contextvm::server::{Delivery, Server};
use contextvm::{Keys, ServerIdentity};
use contextvm_local_relay::{LocalRelay, RelayOptions};
use rmcp::ServiceExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next() {
        Some(server) => call(contextvm::new_keys()?, server.parse()?, arguments.next()).await,
        None => {
            let relay = LocalRelay::start(RelayOptions::default()).await?;
            let mut listener =
                Server::builder(contextvm::new_keys()?).relay(relay.url()).fresh_key().start().await?;
            let server = listener.handle().public_key();
            tokio::spawn(async move {
                while let Some(session) = listener.accept().await {
                    tokio::spawn(answer(session));
                }
            });
            call(contextvm::new_keys()?, server.into(), Some(relay.url())).await
        }
    }
}

/// Connects, asks for the tools, and prints their names.
async fn call(keys: Keys, server: ServerIdentity, relay: Option<String>) -> Result<(), Box<dyn Error>> {
    let (client, messages) = Client::builder(keys, server).relays(relay).connect().await?;
    let mcp = ().serve(client.into_transport(messages)).await?;
    for tool in mcp.list_all_tools().await? {
        println!("{}", tool.name);
    }
    mcp.cancel().await?;
    Ok(())
}

/// A server in a few lines of plain JSON-RPC.
async fn answer(mut session: contextvm::server::Session) {
    let sender = session.sender();
    while let Some(inbound) = session.recv().await {
        let Delivery::Request { key, method, .. } = inbound.delivery else {
            continue;
        };
        let result = match method.as_str() {
            "initialize" => serde_json::json!({
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "raw", "version": "1"},
            }),
            "tools/list" => {
                serde_json::json!({"tools": [{"name": "nothing", "inputSchema": {"type": "object"}}]})
            }
            _ => serde_json::json!({}),
        };
        let answer = serde_json::json!({"jsonrpc": "2.0", "id": key.id.to_hex(), "result": result});
        if sender.send(answer.to_string()).await.is_err() {
            return;
        }
    }
}
