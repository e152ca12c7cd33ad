//! One process of `cargo xtask flood`, `memory` and `replays`: the server, an honest caller, or a relay that attacks.
#![expect(clippy::print_stdout, reason = "a program of `cargo xtask`: JSON lines on standard output")]
mod caller;
mod logs;
mod made;
mod relay;
mod server;

use std::error::Error;

use contextvm::Keys;
use contextvm_local_relay::{LocalRelay, RelayOptions};
use nostr::key::PublicKey;

/// Callers with the numbers from 1 to this one are allowed; the server has a number beyond them.
const ALLOWED: u8 = 16;
/// The server's number.
const SERVER: u8 = 100;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["server", access, relays @ ..] => server::run(access, relays).await,
        ["caller", relay, number, per_second] => {
            caller::run(relay, number.parse()?, per_second.parse()?).await
        }
        ["relay"] => relay::run().await,
        ["honest"] => honest().await,
        _ => Err(
            "usage: hostile server open|allowed RELAY.. | caller RELAY NUMBER PER_SECOND | relay | honest"
                .into(),
        ),
    }
}

/// The keys of a part, which every process knows: nothing here is worth a secret.
fn keys(number: u8) -> Result<Keys, Failure> {
    Ok(Keys::from_secret_bytes([number; 32])?)
}

fn public_key(number: u8) -> Result<PublicKey, Failure> {
    Ok(keys(number)?.public_key())
}

/// Runs a relay that does what a relay should, until standard input ends.
async fn honest() -> Result<(), Failure> {
    let relay = LocalRelay::start(RelayOptions::default()).await?;
    println!("{}", serde_json::json!({ "url": relay.url() }));
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    relay.shutdown().await;
    Ok(())
}

/// Reads lines of standard input on a thread of its own.
fn commands() -> tokio::sync::mpsc::Receiver<String> {
    let (say, said) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if say.blocking_send(line).is_err() {
                return;
            }
        }
    });
    said
}
