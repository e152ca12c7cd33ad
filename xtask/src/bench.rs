//! Speed of one server over a real relay, each part in its own process, beside the cost of the cryptography alone.
use serde_json::Value;

use crate::process::Process;
use crate::shell::{Outcome, root, run as run_program};

/// Calls measured per row when no number is given.
const CALLS: &str = "4000";

/// Measures every row and prints a table.
pub(crate) fn run(calls: Option<&str>) -> Outcome {
    let calls = calls.unwrap_or(CALLS);
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
    println!(
        "CPU in microseconds per call, memory in MB; floor: the cryptography of one call on one core, measured in the same run"
    );
    println!(
        "{:<10} {:>6} {:>9} {:>8} {:>7} {:>7} | {:>7} {:>6} {:>6} | {:>6} {:>6} | {:>7} {:>7} {:>7}",
        "protection",
        "bytes",
        "in flight",
        "calls/s",
        "p50 us",
        "p99 us",
        "server",
        "floor",
        "ratio",
        "client",
        "relay",
        "server",
        "client",
        "relay"
    );
    for protection in ["plain", "encrypted"] {
        for size in ["64", "4096", "32768"] {
            for in_flight in ["1", "64"] {
                row(protection, size, in_flight, calls)?;
            }
        }
    }
    Ok(())
}

fn row(protection: &str, size: &str, in_flight: &str, calls: &str) -> Outcome {
    let mut relay = Process::start(&relay_program(), &[])?;
    let url = relay.text("url")?;
    let mut server = Process::start(&peer(), &["server", &url, protection])?;
    let key = server.text("pubkey")?;
    let mut load = Process::start(&peer(), &["load", &url, &key, protection, in_flight, calls, size])?;
    load.line()?;
    let before = [server.cpu_us()?, load.cpu_us()?, relay.cpu_us()?];
    let seen = load.line()?;
    let after = [server.cpu_us()?, load.cpu_us()?, relay.cpu_us()?];
    let calls = number(&seen, "calls").max(1.0);
    let mut spent =
        before.iter().zip(after).map(|(before, after)| after.saturating_sub(*before) as f64 / calls);
    let mut next = || spent.next().unwrap_or(0.0);
    let (by_server, by_client, by_relay) = (next(), next(), next());
    let floor = floor(protection, size)?;
    println!(
        "{protection:<10} {size:>6} {in_flight:>9} {:>8.0} {:>7.0} {:>7.0} | {by_server:>7.0} {floor:>6.0} {:>6.2} | {by_client:>6.0} {by_relay:>6.0} | {:>7.1} {:>7.1} {:>7.1}",
        number(&seen, "per_second"),
        number(&seen, "p50_us"),
        number(&seen, "p99_us"),
        by_server / floor.max(1.0),
        server.rss_mb(),
        load.rss_mb(),
        relay.rss_mb(),
    );
    Ok(())
}

/// The primitives' cost of one request and its answer, measured in the same run.
fn floor(protection: &str, size: &str) -> Result<f64, Vec<String>> {
    let line = Process::start(&peer(), &["floor", size])?.line()?;
    Ok(number(&line, &format!("{protection}_us")))
}

fn relay_program() -> String {
    root().join("target/release/examples/relay").display().to_string()
}

fn peer() -> String {
    root().join("target/release/examples/bench_peer").display().to_string()
}

fn number(value: &Value, name: &str) -> f64 {
    value.get(name).and_then(Value::as_f64).unwrap_or(0.0)
}
