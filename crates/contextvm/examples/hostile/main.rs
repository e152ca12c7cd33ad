//! One process of `cargo xtask flood`, `memory` and `replays`: the server, an honest caller, or a relay that attacks.
#![expect(clippy::print_stdout, reason = "a program of `cargo xtask`: JSON lines on standard output")]
mod caller;
mod logs;
mod made;
mod relay;
mod server;

use std::error::Error;
use std::path::Path;

use contextvm::Keys;
use nostr::key::PublicKey;

/// Callers with the numbers from 1 to this one are allowed; the server has a number beyond them.
const ALLOWED: u8 = 16;
/// The server's number.
const SERVER: u8 = 100;

const USAGE: &str = "\
usage: hostile server open|allowed|listed [--store FILE] RELAY.. | caller RELAY NUMBER PER_SECOND [long] | relay | derive FILE LABEL
each part prints a line of JSON when it is ready and one after each line it reads
server: open to all; to callers 1 to 16 (allowed); also to those who attack as `pool` (listed)
caller: `mark` closes a window; with `long` it also reads streams and sends large requests";

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["server", access, "--store", place, relays @ ..] => {
            server::run(access, Some(Path::new(place)), relays).await
        }
        ["server", access, relays @ ..] => server::run(access, None, relays).await,
        ["caller", relay, number, per_second, rest @ ..] => {
            caller::run(relay, number.parse()?, per_second.parse()?, rest == ["long"]).await
        }
        ["relay"] => relay::run().await,
        ["derive", file, label] => {
            let keys = Keys::parse(std::fs::read_to_string(file)?.trim())?.derive(label)?;
            println!("{}", serde_json::json!({ "nsec": *keys.to_nsec() }));
            Ok(())
        }
        _ => Err(USAGE.into()),
    }
}

/// The keys of a part, which every process knows: nothing here is worth a secret.
fn keys(number: u8) -> Result<Keys, Failure> {
    Ok(Keys::from_secret_bytes([number; 32])?)
}

fn public_key(number: u8) -> Result<PublicKey, Failure> {
    Ok(keys(number)?.public_key())
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
