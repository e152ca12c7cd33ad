//! Runs a local relay until standard input ends: `relay [port] [--auth]`; prints `{"ready":true,"url":...}` first.
use contextvm_local_relay::{LocalRelay, RelayOptions};
use std::net::SocketAddr;
use std::process::ExitCode;
use tokio::io::AsyncReadExt;

#[tokio::main]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "an example program talks to its user")]
async fn main() -> ExitCode {
    let mut options = RelayOptions::default();
    for argument in std::env::args().skip(1) {
        match (argument.as_str(), argument.parse::<u16>()) {
            ("--auth", _) => options.auth = true,
            (_, Ok(port)) => options.addr = SocketAddr::from(([127, 0, 0, 1], port)),
            (_, Err(_)) => {
                eprintln!("usage: relay [port] [--auth]");
                return ExitCode::from(2);
            }
        }
    }
    let relay = match LocalRelay::start(options).await {
        Ok(relay) => relay,
        Err(error) => {
            eprintln!("failed to {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("{}", serde_json::json!({ "ready": true, "url": relay.url() }));
    let mut input = tokio::io::stdin();
    let mut buffer = [0_u8; 1_024];
    while matches!(input.read(&mut buffer).await, Ok(count) if count > 0) {}
    println!("{}", serde_json::json!({ "stats": format!("{:?}", relay.stats()) }));
    relay.shutdown().await;
    ExitCode::SUCCESS
}
