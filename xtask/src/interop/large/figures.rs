//! What one large answer costs on the wire, ours beside both SDKs.
use super::super::{collect, split};
use super::{OUR_CLIENT, OUR_SERVER, TIMEOUT, programs, start_relay, tap};
use crate::process::Process;

/// Name of the cell that prints the figures.
pub(super) const NAME: &str = "figures of a large answer";

/// Measures an answer of 1 MiB for each implementation with itself and each wire, and prints a line for each.
pub(super) fn print() -> Result<String, Vec<String>> {
    let [ts, rs] = ["ts", "rs"].map(programs);
    let mut lines = String::new();
    for (name, [server, client]) in [("ours", [OUR_SERVER, OUR_CLIENT]), ("rs-sdk", rs), ("ts-sdk", ts)] {
        for wire in ["plain", "persistent", "ephemeral"] {
            // The TypeScript SDK of this release sends nothing large when it encrypts.
            if name == "ts-sdk" && wire != "plain" {
                lines.push_str(&format!("\n        {name:8} {wire:10} -"));
                continue;
            }
            let [idle, full] = ["connect", "answer-1MiB"].map(|step| measure(server, client, wire, step));
            let ([events, bytes], [fewer, less]) = (full?, idle?);
            lines.push_str(&format!(
                "\n        {name:8} {wire:10} {:4} events, {:9} bytes to the relay",
                events - fewer,
                bytes - less
            ));
        }
    }
    Ok(format!("1 MiB of text with quotes, backslashes, control characters and other alphabets{lines}"))
}

/// Runs one step between two fresh programs; returns the events that both published and their bytes.
fn measure(server: &[&str], client: &[&str], wire: &str, step: &str) -> Result<[u64; 2], Vec<String>> {
    let mut relay = start_relay()?;
    let (url, counts) = tap::start(&relay.text("url")?)?;
    let (program, first) = split(server)?;
    let mut server = Process::start(program, &[first, &["--relay", &url, "--wire", wire]].concat())?;
    let key = server.text("pubkey")?;
    let (program, first) = split(client)?;
    let args = ["--relay", &url, "--server", &key, "--wire", wire, "--timeout", TIMEOUT, "--only", step];
    collect(program, &[first, &args].concat(), &[], true)?;
    Ok(counts.read())
}
