//! Speed of servers over a real relay, each part in its own process: ours, the existing SDKs', and the cryptography alone.
use serde_json::Value;

use crate::interop;
use crate::process::Process;
use crate::shell::{Outcome, root, run as run_program};

/// Calls of one measurement when no number is given.
const CALLS: &str = "4000";
/// A measurement ends after this many seconds, however few calls a slow server has answered by then.
const SECONDS: &str = "2";
/// Every server is measured this often, in turn with the others; the medians are printed.
const ROUNDS: usize = 3;

/// One kind of load.
#[derive(Clone, Copy)]
struct Load<'a> {
    protection: &'a str,
    size: &'a str,
    in_flight: &'a str,
    calls: &'a str,
}

/// One server that is measured, under the load of our client.
struct Server {
    name: &'static str,
    program: String,
    args: &'static [&'static str],
    /// Takes the options of interop/README.md.
    is_interop: bool,
}

/// What one measurement found, in the order of the table's columns.
type Figures = [f64; 9];

/// Measures every server under every load and prints a table.
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
            "interop_server",
            "--example",
            "relay",
        ],
    )?;
    let (servers, skipped) = servers();
    println!(
        "CPU in microseconds per call, memory in MB, medians of {ROUNDS} rounds in turn; floor: the cryptography of one call on one core"
    );
    println!(
        "{:<26} {:<9} {:>6} {:>9} {:>8} {:>7} {:>7} | {:>7} {:>6} {:>6} | {:>6} {:>6} | {:>7} {:>7} {:>7}",
        "server",
        "wire",
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
    let mut failed = Vec::new();
    for protection in ["plain", "encrypted"] {
        for size in ["64", "4096", "32768"] {
            for in_flight in ["1", "64"] {
                failed.extend(
                    rows(&servers, Load { protection, size, in_flight, calls }).err().unwrap_or_default(),
                );
            }
        }
    }
    // Only ours has to carry a message of 1 MiB in every mode; what a peer cannot is said.
    for protection in ["plain", "encrypted"] {
        let load = Load { protection, size: "1048576", in_flight: "1", calls: "20" };
        let (ours, theirs) = servers.split_at(2.min(servers.len()));
        failed.extend(rows(ours, load).err().unwrap_or_default());
        for why in rows(theirs, load).err().unwrap_or_default() {
            println!("1 MiB, {protection}: {why}");
        }
    }
    for part in skipped {
        println!("skipped: {part}");
    }
    if failed.is_empty() { Ok(()) } else { Err(failed) }
}

/// Ours on both paths, and those of the peers that can be run here; what cannot is named.
fn servers() -> (Vec<Server>, Vec<String>) {
    let program = |path: &str| root().join(path).display().to_string();
    let mut servers = vec![
        Server { name: "ours, raw", program: peer(), args: &["server"], is_interop: false },
        Server {
            name: "ours, rmcp",
            program: program("target/release/examples/interop_server"),
            args: &[],
            is_interop: true,
        },
    ];
    let mut skipped = Vec::new();
    match interop::prepare_rs(true) {
        Ok(()) => servers.push(Server {
            name: "contextvm-sdk 0.2.2, rmcp",
            program: program("interop/rs-sdk/target/release/server"),
            args: &[],
            is_interop: true,
        }),
        Err(why) => skipped.push(format!("contextvm-sdk 0.2.2 (interop/rs-sdk: {})", why.join("; "))),
    }
    let node = if interop::has_node() { interop::prepare_ts() } else { Err(vec!["no node and npm".into()]) };
    match node {
        Ok(()) => servers.push(Server {
            name: "@contextvm/sdk 0.11.14",
            program: "node".into(),
            args: &["interop/ts/server.mjs"],
            is_interop: true,
        }),
        Err(why) => skipped.push(format!("@contextvm/sdk 0.11.14 (interop/ts: {})", why.join("; "))),
    }
    (servers, skipped)
}

/// Measures all servers in turn under one load, and prints a row for each.
fn rows(servers: &[Server], load: Load<'_>) -> Outcome {
    let mut found: Vec<Vec<Figures>> = servers.iter().map(|_| Vec::new()).collect();
    let mut floors = Vec::new();
    let mut failed = Vec::new();
    for _ in 0..ROUNDS {
        for (server, found) in servers.iter().zip(&mut found) {
            match measure(server, load) {
                Ok(figures) => found.push(figures),
                Err(why) => failed.push(format!("{}: {}", server.name, why.join("; "))),
            }
        }
        floors.push(floor(load)?);
    }
    let floor = median(floors);
    for (server, found) in servers.iter().zip(&found).filter(|(_, found)| !found.is_empty()) {
        let [per_second, p50, p99, by_server, by_client, by_relay, server_mb, client_mb, relay_mb] =
            std::array::from_fn(|column| {
                median(found.iter().filter_map(|figures| figures.get(column).copied()).collect())
            });
        println!(
            "{:<26} {:<9} {:>6} {:>9} {per_second:>8.0} {p50:>7.0} {p99:>7.0} | {by_server:>7.0} {floor:>6.0} {:>6.2} | {by_client:>6.0} {by_relay:>6.0} | {server_mb:>7.1} {client_mb:>7.1} {relay_mb:>7.1}",
            server.name,
            load.protection,
            load.size,
            load.in_flight,
            by_server / floor.max(1.0),
        );
    }
    if failed.is_empty() { Ok(()) } else { Err(failed) }
}

fn measure(server: &Server, load: Load<'_>) -> Result<Figures, Vec<String>> {
    let Load { protection, size, in_flight, calls } = load;
    let mut relay = Process::start(&relay_program(), &[])?;
    let url = relay.text("url")?;
    let mut args = server.args.to_vec();
    let wire = if protection == "plain" { "plain" } else { "ephemeral" };
    if server.is_interop {
        args.extend(["--relay", &url, "--wire", wire]);
    } else {
        args.extend([&url, protection]);
    }
    let mut server = Process::start(&server.program, &args)?;
    let key = server.text("pubkey")?;
    let mut load =
        Process::start(&peer(), &["load", &url, &key, protection, in_flight, calls, size, SECONDS])?;
    load.line()?;
    let before = [server.cpu_us()?, load.cpu_us()?, relay.cpu_us()?];
    let seen = load.line()?;
    let after = [server.cpu_us()?, load.cpu_us()?, relay.cpu_us()?];
    let calls = number(&seen, "calls").max(1.0);
    let spent = |part: usize| -> f64 {
        let of = |all: [u64; 3]| all.get(part).copied().unwrap_or(0);
        of(after).saturating_sub(of(before)) as f64 / calls
    };
    Ok([
        number(&seen, "per_second"),
        number(&seen, "p50_us"),
        number(&seen, "p99_us"),
        spent(0),
        spent(1),
        spent(2),
        server.rss_mb(),
        load.rss_mb(),
        relay.rss_mb(),
    ])
}

/// The primitives' cost of one request and its answer, measured in the same run.
fn floor(load: Load<'_>) -> Result<f64, Vec<String>> {
    let line = Process::start(&peer(), &["floor", load.size])?.line()?;
    Ok(number(&line, &format!("{}_us", load.protection)))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(0.0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_one_round_that_went_wrong() {
        assert_eq!(median(vec![900.0, 2.0, 3.0]), 3.0);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
