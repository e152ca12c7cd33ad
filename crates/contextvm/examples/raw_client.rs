//! A client in plain JSON-RPC: no MCP library, no lifecycle.
//!
//! `cargo run --example raw_client -- <server key> <method> [params as json] [relay url]`.
#![expect(clippy::print_stdout, reason = "an example shows its result")]
use std::error::Error;

use contextvm::client::{CallError, Client};
use contextvm::core::printable::Printable;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(server), Some(method)) = (arguments.next(), arguments.next()) else {
        println!("usage: raw_client <server key> <method> [params as json] [relay url]");
        return Ok(());
    };
    let params = arguments.next().map(|json| serde_json::from_str(&json)).transpose()?;
    let builder = Client::builder(contextvm::new_keys()?, server.parse()?).relays(arguments.next());
    let (client, _messages) = builder.stateless().connect().await?;
    match client.request(&method, params).await {
        Ok(result) => println!("{result}"),
        Err(CallError::Server { code, message, .. }) => println!("error {code}: {}", Printable(&message)),
        Err(error) => println!("{error}; worth trying again: {}", error.is_retryable()),
    }
    client.close().await;
    Ok(())
}
