//! A flood of rubbish by one relay, and an honest caller on another one.
use std::time::Duration;

use serde_json::json;

use crate::examples::Build;
use crate::figures::{Faults, figure, real, verdict};
use crate::hostile::{P99_MS, RSS_MIB, World, judge, judge_totals};
use crate::shell::Outcome;

/// Calls a second of the honest caller.
const HONEST: u32 = 50;
/// Rubbish a second: a million in seventy seconds.
const PER_SECOND: u32 = 14_286;
/// Rubbish a second through the relay that the honest caller uses.
const SAME_RELAY: u32 = 3_000;
/// Bytes inside of each gift wrap.
const BYTES: u32 = 700;

/// Floods a server with gift wraps of as many keys, and prints what became of the honest caller as one line of JSON.
pub(crate) fn run(short: bool) -> Outcome {
    let build = Build::of(short);
    build.build()?;
    let (wraps, rest) = if short { (30_000, 1) } else { (300_000, 5) };
    let rubbish = format!("rubbish {wraps} {BYTES}");
    let mut world = World::start(build, "allowed", HONEST, &[], &format!("prepare {rubbish}"))?;
    let (rest, pause) = (Duration::from_secs(rest), Duration::from_secs(2));
    let before = world.quiet(rest)?;
    let paced = world.attack(wraps, &format!("send {PER_SECOND}"))?;
    std::thread::sleep(pause);
    let calm = world.quiet(rest)?;
    // In the short form the same once more: to make as much again takes longer than to send it.
    let unpaced = if short { wraps } else { world.prepare(&rubbish)? };
    let unpaced = world.attack(unpaced, "send 0")?;
    std::thread::sleep(pause);
    let calm_again = world.quiet(rest)?;
    // Through the honest relay, at a pace that half a core can bear.
    let few = world.prepare(&format!("rubbish {} {BYTES}", wraps / 10))?;
    let publish = format!("publish {} {SAME_RELAY}", world.honest_url);
    let same_relay = world.attack(few, &publish)?;
    let totals = world.totals()?;
    let stages = [("before", &before), ("paced", &paced), ("calm", &calm), ("unpaced", &unpaced)];
    let mut faults = Faults::default();
    for (name, stage) in stages.into_iter().chain([("calm_again", &calm_again)]) {
        judge(name, stage, !short, &mut faults)?;
        if !short {
            faults.above(&format!("{name}: p99_ms"), real(stage, "/honest/p99_ms")?, P99_MS);
        }
    }
    // Half of what was sent may be dropped at the door, but somebody must have looked.
    let received = figure(&totals, "/server/received")?;
    faults.unless(received >= wraps / 10, || format!("the server heard {received} of {wraps}"));
    if !short {
        judge_totals(&totals, RSS_MIB, &mut faults)?;
    }
    let document = json!({
        "job": "flood", "wraps": wraps, "before": before, "paced": paced, "calm": calm, "unpaced": unpaced,
        "calm_again": calm_again, "same_relay": same_relay, "totals": totals,
    });
    verdict(&document, faults.0)
}
