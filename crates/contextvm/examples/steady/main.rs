//! One process of `cargo xtask chaos` and `cargo xtask soak`: a server that counts executions, or callers at a constant rate.
#![expect(clippy::print_stdout, reason = "a program of `cargo xtask`: JSON lines on standard output")]
mod figures;
mod load;
#[path = "../hostile/logs.rs"]
mod logs;
mod outages;
mod plain;
mod server;

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use contextvm::Limits;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};

type Failure = Box<dyn Error + Send + Sync>;

const USAGE: &str = "\
usage: steady server RELAYS WINDOW_S [STORE] | plain RELAY | load RELAYS SERVER CALLERS CALLS_PER_S WINDOW_S TIMEOUT_S
RELAYS are separated by commas; each process prints a line of JSON when it is ready and one after each line it reads:
  figures, held   what was counted so far, and what it holds
  go, stop        (load) begins to call; stops and waits until every call has ended
  down, back      (load) a relay is about to be killed; it listens again";

#[tokio::main]
async fn main() -> Result<(), Failure> {
    logs::count();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["server", relays, window, store @ ..] => {
            server::run(&split(relays), limits(window)?, store.first().map(Path::new)).await
        }
        ["plain", relay] => plain::run(relay).await,
        ["load", relays, server, callers, rate, window, timeout] => {
            let plan = load::Plan {
                relays: split(relays),
                server: server.parse()?,
                callers: callers.parse()?,
                per_second: rate.parse()?,
                limits: Limits { request_timeout: Duration::from_secs(timeout.parse()?), ..limits(window)? },
            };
            load::run(plan).await
        }
        _ => Err(USAGE.into()),
    }
}

fn split(relays: &str) -> Vec<String> {
    relays.split(',').map(str::to_owned).collect()
}

/// The usual bounds with another age window, so that what is remembered that long stops growing sooner.
fn limits(window: &str) -> Result<Limits, Failure> {
    let limits = Limits { age_window: window.parse()?, ..Limits::default() };
    let ledger_ttl = Duration::from_secs(limits.age_window.saturating_add(limits.age_skew));
    Ok(Limits { ledger_ttl, ..limits })
}

/// Lines of standard input.
fn commands() -> Lines<BufReader<Stdin>> {
    BufReader::new(tokio::io::stdin()).lines()
}
