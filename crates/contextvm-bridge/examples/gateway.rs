//! Puts an MCP server on Nostr under a fresh key, as a program of its own or inside another.
//!
//! `gateway ws://127.0.0.1:10547 shared|per-caller COMMAND ARGS...`, or the URL of a Streamable HTTP server in place of the
//! command.
#![expect(clippy::print_stdout, reason = "it tells its key on standard output")]

use contextvm_bridge::{CancellationToken, ChildCommand, Gateway, Isolation, Target};
use contextvm_crypto::Keys;
use contextvm_server::Server;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let relay = args.next().ok_or("the relay is missing")?;
    let isolation = match args.next().as_deref() {
        Some("shared") => Isolation::Shared,
        Some("per-caller") => Isolation::PerCaller,
        _ => return Err("shared or per-caller?".into()),
    };
    let command: Vec<String> = args.collect();
    let target = match command.as_slice() {
        #[cfg(feature = "http")]
        [url] if url.starts_with("http") => contextvm_bridge::HttpTarget::new(url)?.into(),
        argv => Target::from(ChildCommand::new(argv)?),
    };
    let gateway = Gateway::builder(target).isolation(isolation).start().await?;
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).map_err(|error| error.to_string())?;
    let keys = Keys::from_entropy(entropy)?;
    let key = keys.public_key().to_hex();
    let listener = Server::builder(keys).relay(relay).fresh_key().start().await?;
    println!("{key}");
    gateway.run(listener, CancellationToken::new()).await?;
    Ok(())
}
