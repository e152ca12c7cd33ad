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
        "{:<10} {:>7} {:>9} {:>8} {:>9} {:>9} {:>11} {:>10} {:>9} {:>9} {:>9}",
        "protection",
        "bytes",
        "in flight",
        "calls/s",
        "p50 us",
        "p99 us",
        "cpu us/call",
        "floor us",
        "cpu/floor",
        "relay MB",
        "server MB"
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
    let before = server.cpu_us()?;
    let seen = load.line()?;
    let spent = server.cpu_us()?.saturating_sub(before);
    let floor = floor(protection, size)?;
    let per_call = spent as f64 / number(&seen, "calls").max(1.0);
    println!(
        "{protection:<10} {size:>7} {in_flight:>9} {:>8.0} {:>9.0} {:>9.0} {per_call:>11.0} {floor:>10.0} {:>9.2} {:>9.1} {:>9.1}",
        number(&seen, "per_second"),
        number(&seen, "p50_us"),
        number(&seen, "p99_us"),
        per_call / floor.max(1.0),
        relay.rss_mb(),
        server.rss_mb(),
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
