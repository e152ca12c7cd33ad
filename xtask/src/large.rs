//! Large messages and long streams: what arrives through loss and disorder, what it costs on the wire, and in memory.
use crate::process::Process;
use crate::shell::{Outcome, command, finish, root, run as run_program};

/// What is measured between processes: which way how much goes, and in how many calls.
const MOVES: [(&str, &str); 4] =
    [("1048576", "20"), ("16777216", "3"), ("take:16777216", "3"), ("give:16777216", "3")];
/// A measurement ends after this many seconds.
const SECONDS: &str = "120";

/// Runs the stories of large messages in a release build, and prints the figures; `full` takes the large numbers.
pub(crate) fn run(full: bool) -> Outcome {
    run_program(
        "cargo",
        &[
            "build",
            "--release",
            "-p",
            "contextvm-local-relay",
            "-p",
            "contextvm",
            "--example",
            "bench_peer",
            "--example",
            "relay",
        ],
    )?;
    memory()?;
    run_program("cargo", &["bench", "-p", "contextvm-transfer", "--bench", "wire", "--", "--test"])?;
    let words = ["test", "--release", "-p", "contextvm", "--test", "large", "--"];
    let mut stories = command("cargo", &[&words[..], &["--nocapture", "--test-threads=1"]].concat());
    if full {
        stories.env("CVM_LARGE", "full");
    }
    finish(&mut stories, "stories of large messages")
}

/// Moves large messages between processes and prints what each held at most.
fn memory() -> Outcome {
    let program = |name: &str| root().join("target/release/examples").join(name).display().to_string();
    println!(
        "large messages, one at a time, there and back, there, and back: CPU in ms per call, most resident memory in MB"
    );
    println!(
        "{:<9} {:>13} | {:>7} {:>7} {:>7} | {:>7} {:>7} {:>7}",
        "wire", "bytes", "server", "client", "relay", "server", "client", "relay"
    );
    for protection in ["plain", "encrypted"] {
        for (size, calls) in MOVES {
            let mut relay = Process::start(&program("relay"), &[])?;
            let url = relay.text("url")?;
            let mut server = Process::start(&program("bench_peer"), &["server", &url, protection])?;
            let key = server.text("pubkey")?;
            let load = ["load", &url, &key, protection, "1", calls, size, SECONDS];
            let mut client = Process::start(&program("bench_peer"), &load)?;
            client.line()?;
            let before = [server.cpu_us()?, client.cpu_us()?, relay.cpu_us()?];
            let seen = client.line()?;
            let after = [server.cpu_us()?, client.cpu_us()?, relay.cpu_us()?];
            let calls = seen.get("calls").and_then(serde_json::Value::as_f64).unwrap_or(0.0).max(1.0);
            let [by_server, by_client, by_relay] =
                std::array::from_fn(|part| difference(&after, &before, part) / calls / 1_000.0);
            println!(
                "{protection:<9} {size:>13} | {by_server:>7.1} {by_client:>7.1} {by_relay:>7.1} | {:>7.1} {:>7.1} {:>7.1}",
                server.peak_mb(),
                client.peak_mb(),
                relay.peak_mb()
            );
        }
    }
    Ok(())
}

fn difference(after: &[u64], before: &[u64], part: usize) -> f64 {
    let of = |all: &[u64]| all.get(part).copied().unwrap_or(0);
    of(after).saturating_sub(of(before)) as f64
}
