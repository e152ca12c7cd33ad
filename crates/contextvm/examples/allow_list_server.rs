//! A server that lets in the keys it was given, and a tool that knows who calls it.
//!
//! `cargo run --example allow_list_server -- <relay url> <caller key>...`; without arguments it runs a relay, lets in one
//! key that it makes itself, and shows what that caller and a stranger get.
#![expect(clippy::print_stdout, reason = "an example shows its result")]
use std::error::Error;
use std::time::Duration;

use contextvm::client::Client;
use contextvm::server::{Server, caller, serve_rmcp};
use contextvm::{Keys, ServerIdentity};
use contextvm_local_relay::{LocalRelay, RelayOptions};
use nostr::key::PublicKey;
use rmcp::model::{ServerCapabilities, ServerConfig};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler, tool, tool_handler, tool_router};

#[derive(Debug, Clone)]
struct WhoAmI;

#[tool_router]
impl WhoAmI {
    #[tool(description = "Tells the caller its public key, as the signature proved it")]
    fn who_am_i(&self, context: RequestContext<RoleServer>) -> String {
        caller(&context).map_or_else(|| "nobody".into(), |caller| caller.key.to_hex())
    }
}

#[tool_handler]
impl ServerHandler for WhoAmI {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    if let Some(url) = arguments.next() {
        let allowed = arguments.map(|key| key.parse().map(|identity: ServerIdentity| identity.key));
        return serve(&url, allowed.collect::<Result<Vec<_>, _>>()?).await;
    }
    let relay = LocalRelay::start(RelayOptions::default()).await?;
    let url = relay.url();
    let friend = contextvm::new_keys()?;
    let listener = Server::builder(contextvm::new_keys()?)
        .relay(&url)
        .allow([friend.public_key()])
        .fresh_key()
        .start()
        .await?;
    let server = listener.handle().public_key();
    tokio::spawn(serve_rmcp(listener, |_caller| WhoAmI));
    ask(friend, server, &url).await?;
    ask(contextvm::new_keys()?, server, &url).await
}

async fn serve(url: &str, allowed: Vec<PublicKey>) -> Result<(), Box<dyn Error>> {
    let listener =
        Server::builder(contextvm::new_keys()?).relay(url).allow(allowed).fresh_key().start().await?;
    println!("serving as {}", listener.handle().public_key().to_hex());
    serve_rmcp(listener, |_caller| WhoAmI).await;
    Ok(())
}

async fn ask(keys: Keys, server: PublicKey, url: &str) -> Result<(), Box<dyn Error>> {
    let builder = Client::builder(keys, server.into()).relay(url).stateless();
    let (client, _messages) = builder.request_timeout(Duration::from_secs(3)).connect().await?;
    let params = serde_json::from_str(r#"{"name":"who_am_i","arguments":{}}"#)?;
    match client.request("tools/call", Some(params)).await {
        Ok(result) => println!("let in: {result}"),
        Err(error) => println!("not let in: {error}"),
    }
    client.close().await;
    Ok(())
}
