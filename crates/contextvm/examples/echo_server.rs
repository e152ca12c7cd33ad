//! An MCP server with one tool, written with rmcp and served over a relay.
//!
//! `cargo run --example echo_server -- ws://127.0.0.1:7777` serves on that relay; without an argument it starts a relay
//! of its own, calls itself once and ends.
#![expect(clippy::print_stdout, reason = "an example shows its result")]
use std::error::Error;

use contextvm::client::Client;
use contextvm::server::{Identity, Server, serve_rmcp};
use contextvm_local_relay::{LocalRelay, RelayOptions};
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolRequestParams, ServerCapabilities, ServerConfig};
use rmcp::{ServerHandler, ServiceExt, schemars, tool, tool_handler, tool_router};

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct EchoArguments {
    /// What to say back.
    text: String,
}

/// One of these serves one caller.
#[derive(Debug, Clone)]
struct Echo;

#[tool_router]
impl Echo {
    #[tool(description = "Says back what it is told")]
    fn echo(&self, Parameters(EchoArguments { text }): Parameters<EchoArguments>) -> String {
        text
    }
}

#[tool_handler]
impl ServerHandler for Echo {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let given = std::env::args().nth(1);
    let own = match given {
        Some(_) => None,
        None => Some(LocalRelay::start(RelayOptions::default()).await?),
    };
    let url = given.unwrap_or_else(|| own.as_ref().map(LocalRelay::url).unwrap_or_default());

    let identity = Identity { name: Some("Echo".into()), ..Identity::default() };
    let listener =
        Server::builder(contextvm::new_keys()?).relay(&url).identity(identity).fresh_key().start().await?;
    let handle = listener.handle();
    println!("serving as {} on {url}", handle.public_key().to_hex());
    let serving = tokio::spawn(serve_rmcp(listener, |_caller| Echo));

    if own.is_some() {
        let keys = contextvm::new_keys()?;
        let (client, messages) =
            Client::builder(keys, handle.public_key().into()).relay(&url).connect().await?;
        let mcp = ().serve(client.into_transport(messages)).await?;
        let arguments =
            serde_json::json!({"text": "hello over nostr"}).as_object().cloned().unwrap_or_default();
        let answer = mcp.call_tool(CallToolRequestParams::new("echo").with_arguments(arguments)).await?;
        println!("{}", serde_json::to_string(&answer)?);
        mcp.cancel().await?;
        handle.shutdown().await;
    }
    serving.await?;
    Ok(())
}
