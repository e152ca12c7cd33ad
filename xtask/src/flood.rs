//! A flood of rubbish by one relay, and an honest caller on another one.
use std::time::Duration;

use serde_json::json;

use crate::hostile::{Build, World, ask, build, number, rounded};
use crate::shell::Outcome;

/// Calls a second of the honest caller.
const HONEST: u32 = 50;
/// Rubbish a second: a million in seventy seconds.
const PER_SECOND: u32 = 14_286;
/// Rubbish a second through the relay that the honest caller uses.
const SAME_RELAY: u32 = 3_000;

/// Floods a server with gift wraps of as many keys, and prints what became of the honest caller as one line of JSON.
pub(crate) fn run(short: bool) -> Outcome {
    let built = Build::of(short);
    build(built)?;
    let (wraps, rest) = if short { (30_000, 2) } else { (300_000, 5) };
    let mut world = World::start(built, "allowed", HONEST, &format!("prepare rubbish {wraps} 700"))?;
    let rest = Duration::from_secs(rest);
    let before = world.quiet(rest)?;
    let paced = world.watch(|world| ask(&mut world.hostile, &format!("send {PER_SECOND}")))?;
    std::thread::sleep(Duration::from_secs(2));
    let calm = world.quiet(rest)?;
    ask(&mut world.hostile, &format!("prepare rubbish {wraps} 700"))?;
    let unpaced = world.watch(|world| ask(&mut world.hostile, "send 0"))?;
    std::thread::sleep(Duration::from_secs(2));
    let calm_again = world.quiet(rest)?;
    // Through the honest relay, at a pace that half a core can bear.
    ask(&mut world.hostile, &format!("prepare rubbish {} 700", wraps / 10))?;
    let same_relay = world
        .watch(|world| ask(&mut world.hostile, &format!("publish {} {SAME_RELAY}", world.honest_url)))?;
    let counted = ask(&mut world.server, "counters")?;
    let published = ask(&mut world.hostile, "count")?;
    let peak = rounded(world.server.peak_mb());
    println!(
        "{}",
        json!({
            "job": "flood", "wraps": wraps, "before": before, "paced": paced, "calm": calm, "unpaced": unpaced,
            "calm_again": calm_again, "same_relay": same_relay, "rss_peak_mib": peak, "server": counted, "published": published,
        })
    );
    let mut wrong = Vec::new();
    for (name, part) in
        [("paced", &paced), ("unpaced", &unpaced), ("calm", &calm), ("calm again", &calm_again)]
    {
        let (calls, answered) = (number(part, "/honest/calls"), number(part, "/honest/answered"));
        if answered < calls || calls == 0 {
            wrong.push(format!("{name}: {answered} of {calls} honest calls were answered"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}
