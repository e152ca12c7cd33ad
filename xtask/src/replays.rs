//! Signed requests that somebody else sends again, in every way there is: none may be executed twice.
use serde_json::{Value, json};

use crate::hostile::{Build, ask, build, number, part, rounded};
use crate::shell::Outcome;

/// Requests that are executed once each.
const REQUESTS: usize = 2_000;

/// Replays requests, before and after a restart, and prints what was executed as one line of JSON.
pub(crate) fn run(short: bool) -> Outcome {
    let built = Build::of(short);
    build(built)?;
    let requests = if short { REQUESTS / 10 } else { REQUESTS };
    let many = if short { 5_000 } else { 100_000 };
    let times = if short { 1 } else { 2 };
    let mut relay = part(built, &["relay"])?;
    let url = relay.text("url")?;
    ask(&mut relay, "prepare strangers 1 0")?;
    let mut server = part(built, &["server", "allowed", &url])?;
    server.text("pubkey")?;
    let mut replayed = 0;
    let mut rounds = Vec::new();
    let mut send = |relay: &mut _, name: &str, prepare: &str, times: u32, per_second: u32| {
        if !prepare.is_empty() {
            ask(relay, prepare)?;
        }
        for _ in 0..times {
            let sent = ask(relay, &format!("send {per_second}"))?;
            replayed += if name == "first" { 0 } else { number(&sent, "/sent") };
            rounds.push(json!({ name: sent }));
        }
        Ok::<(), Vec<String>>(())
    };
    send(&mut relay, "first", &format!("prepare first {requests} 0"), 1, 200)?;
    settle();
    let first = ask(&mut server, "counters")?;
    send(&mut relay, "same", "", 50 * times / 2, 5_000)?;
    send(&mut relay, "wrapped", &format!("prepare wrapped {many} 0"), 2 * times, 4_000)?;
    send(&mut relay, "plain", &format!("prepare plain {many} 0"), 2 * times, 5_000)?;
    settle();
    let again = ask(&mut server, "counters")?;
    let published = ask(&mut relay, "count")?;
    let peak = rounded(server.peak_mb());
    drop(server);
    let mut server = part(built, &["server", "allowed", &url])?;
    server.text("pubkey")?;
    send(&mut relay, "plain after a restart", "", 1, 5_000)?;
    send(&mut relay, "wrapped after a restart", &format!("prepare wrapped {many} 0"), 1, 4_000)?;
    for what in ["stale", "elsewhere"] {
        send(&mut relay, what, &format!("prepare {what} {requests} 0"), 5, 4_000)?;
        send(&mut relay, what, &format!("prepare plain {requests} 0"), 5, 4_000)?;
    }
    settle();
    let restarted = ask(&mut server, "counters")?;
    let count = |counted: &Value| (number(counted, "/executed"), number(counted, "/doubled"));
    println!(
        "{}",
        json!({
            "job": "replays", "requests": requests, "replayed": replayed, "executed": count(&again).0,
            "doubled": count(&again).1, "executed_after_restart": count(&restarted).0, "rss_peak_mib": peak,
            "first": first, "again": again, "restarted": restarted, "published": published, "rounds": rounds,
        })
    );
    // A busy machine may refuse a request; then nothing was executed, and a replay of it is its first execution.
    let begun =
        replayed > 0 && count(&first).0 > 0 && count(&again).0 <= u64::try_from(requests).unwrap_or(0);
    if begun && count(&first).1 == 0 && count(&again).1 == 0 && count(&restarted) == (0, 0) {
        return Ok(());
    }
    Err(vec![format!(
        "{requests} requests were sent; executed, and executed twice: {:?}, after replays {:?}, after a restart {:?}",
        count(&first),
        count(&again),
        count(&restarted)
    )])
}

/// Lets the server come to what it has read.
fn settle() {
    std::thread::sleep(std::time::Duration::from_secs(3));
}
