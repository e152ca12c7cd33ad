//! Relays that are killed and come back while calls are made all the time.
//!
//! What must come of it follows from what was promised:
//!
//! * with another honest relay in common, nothing at all is noticed: each call is answered, and executed once;
//! * with the only relay killed, a server of ours answers each call once the relay is back, because it says that a repeat
//!   is executed once and answered alike;
//! * a server that does not say so is asked again only for what does no harm; every other call ends in its answer or in
//!   an error that says that it may have been executed, and none is executed twice.
//!
//! A call that ended otherwise, or did not end, is lost.
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::examples::{Build, ask};
use crate::figures::{figure, real, rounded, verdict};
use crate::shell::Outcome;
use crate::steady::{Load, Steady};

/// Most time from the return of a relay to the end of a call that had to wait for it, and to a new connection, p99.
const RECOVERY_MS: f64 = 2_000.0;
/// Most that may be left of a run in resident memory beyond the noise of the allocator, MiB.
const LEFT_MIB: f64 = 4.0;
/// Ids of opened events that one endpoint remembers at most, whatever their age, and what one of them takes, bytes. A run
/// ends before the callers have that many, so that what they have more than at its beginning is not held against them.
const IDS: f64 = 65_536.0;
const ID_BYTES: f64 = 176.0;
/// What a caller is told when its call may not be repeated, or reached nobody.
const SAID: [&str; 2] =
    ["tools/call: NoReply, may have been executed", "tools/call: NotSent, may be called again"];

/// What the figures call lost.
const LOST: &str = "calls that ended neither in their answer nor, at a server that promises nothing about repeats, in an error \
                    that says that they may have been executed or reached nobody";

/// One arrangement of relays and server.
#[derive(Clone, Copy)]
struct Scene {
    name: &'static str,
    relays: usize,
    plain: bool,
    kills: usize,
}

/// Kills relays and prints what became of the calls as one line of JSON.
pub(crate) fn run(short: bool, kills: Option<&str>) -> Outcome {
    let kills = match kills {
        Some(kills) => kills.parse().map_err(|error| vec![format!("--kills {kills}: {error}")])?,
        None if short => 7,
        None => 200,
    };
    Build::of(short).build()?;
    let scenes = [
        Scene { name: "one_of_three", relays: 3, plain: false, kills },
        Scene { name: "the_only_one", relays: 1, plain: false, kills },
        Scene { name: "no_promise", relays: 1, plain: true, kills },
    ];
    let (mut document, mut wrong) = (json!({ "job": "chaos", "lost_means": LOST }), Vec::new());
    for scene in scenes {
        let (found, faults) = play(scene, short)?;
        wrong.extend(faults.into_iter().map(|fault| format!("{}: {fault}", scene.name)));
        if let Some(members) = document.as_object_mut() {
            members.insert(scene.name.to_owned(), found);
        }
    }
    verdict(&document, wrong)
}

fn play(scene: Scene, is_short: bool) -> Result<(Value, Vec<String>), Vec<String>> {
    let load = Load {
        build: Build::of(is_short),
        relays: scene.relays,
        // A server takes 32 calls of one caller at a time, so that one caller alone could not wait through an outage.
        callers: if is_short { 10 } else { 40 },
        per_second: if is_short { 50 } else { 200 },
        window: 60,
        timeout: if is_short {
            8
        } else if scene.plain {
            15
        } else {
            60
        },
        plain: scene.plain,
    };
    let mut steady = Steady::start(load)?;
    let idle = steady.held()?;
    ask(&mut steady.callers, "go")?;
    let begun = Instant::now();
    // Until what is remembered for a while is as much as it will ever be.
    let warm = if is_short || scene.plain { 2 } else { load.window + 80 };
    std::thread::sleep(Duration::from_secs(warm));
    let before = (steady.held()?, begun.elapsed());
    let mut chance = Chance(0x2545_f491_4f6c_dd1d);
    for kill in 0..scene.kills {
        steady.kill(kill % scene.relays, chance.millis(100, 900))?;
        std::thread::sleep(chance.millis(2_500, 3_500));
    }
    std::thread::sleep(Duration::from_secs(if is_short { 2 } else { 10 }));
    let after = steady.held()?;
    let calls_in = |time: Duration| time.as_secs_f64() * f64::from(load.per_second);
    let (due_before, due) = (calls_in(before.1), calls_in(begun.elapsed()));
    let remembered = |endpoints: usize| rounded(remembered_mib(due_before, due, endpoints as f64));
    let calls = ask(&mut steady.callers, "stop")?;
    std::thread::sleep(Duration::from_secs(1));
    let left = steady.held()?;
    let executed = ask(&mut steady.server, "figures")?;
    let lost = lost(&calls, scene.plain)?;
    let found = json!({
        "kills": scene.kills, "calls_due": due.floor(), "lost": lost, "calls": calls, "executions": executed,
        "idle_before": idle, "idle_after": left, "under_load_before": before.0, "under_load_after": after,
        "remembered_more_mib": { "server": remembered(1), "callers": remembered(load.callers) },
    });
    let faults = faults(&found, scene, !is_short)?;
    Ok((found, faults))
}

/// Memory that the ids of more calls take, of so many endpoints that share them, MiB.
fn remembered_mib(calls_before: f64, calls: f64, endpoints: f64) -> f64 {
    let ids = |calls: f64| (calls / endpoints).min(IDS) * endpoints;
    (ids(calls) - ids(calls_before)) * ID_BYTES / f64::from(1 << 20)
}

/// Calls that ended neither in their answer nor in an error that is true and says what may be done.
fn lost(calls: &Value, plain: bool) -> Result<u64, Vec<String>> {
    // Nobody need be told anything, so that a missing one is none.
    let said =
        |words: &str| calls.pointer("/failed").and_then(|failed| failed.get(words)).and_then(Value::as_u64);
    let told: u64 = if plain { SAID.iter().filter_map(|words| said(words)).sum() } else { 0 };
    Ok(figure(calls, "/calls")?.saturating_sub(figure(calls, "/answered")?).saturating_sub(told))
}

/// Says what is wrong with a run; `long` looks at times, rates and memory, too.
fn faults(found: &Value, scene: Scene, long: bool) -> Result<Vec<String>, Vec<String>> {
    let mut faults = Vec::new();
    let mut must_be_none = vec![
        ("/lost", "calls were lost"),
        ("/calls/misdelivered", "calls got the answer of another one"),
        ("/executions/doubled", "calls were executed twice"),
        ("/executions/unnumbered", "requests were executed that nobody made"),
        ("/executions/error_logs/count", "errors were logged by the server"),
        ("/calls/error_logs/count", "errors were logged by the callers"),
    ];
    if !scene.plain {
        must_be_none.push(("/executions/doubled_reads", "calls that only read were executed twice"));
        let (calls, executed) = (figure(found, "/calls/calls")?, figure(found, "/executions/executed")?);
        if calls != executed {
            faults.push(format!("{executed} of {calls} calls were executed"));
        }
    }
    for (path, what) in must_be_none {
        match figure(found, path)? {
            0 => {}
            some => faults.push(format!("{some} {what}")),
        }
    }
    let (made, due) = (figure(found, "/calls/calls")? as f64, real(found, "/calls_due")?);
    if made < if long { due * 0.9 } else { 1.0 } {
        faults.push(format!("{made} calls were made of {due}"));
    }
    for part in ["server", "callers"] {
        for thing in ["descriptors", "tasks"] {
            let at = |when: &str| figure(found, &format!("/{when}/{part}/{thing}"));
            let (before, after) = (at("idle_before")?, at("idle_after")?);
            if after > before {
                faults.push(format!("{after} {thing} of the {part} are left of {before}"));
            }
        }
        let at = |when: &str| real(found, &format!("/{when}/{part}/rss_mib"));
        let (before, after) = (at("under_load_before")?, at("under_load_after")?);
        let remembered = real(found, &format!("/remembered_more_mib/{part}"))?;
        if long && !scene.plain && after - before > LEFT_MIB + remembered {
            faults.push(format!(
                "{after} MiB are held by the {part}, and {before} before; {remembered} of them are ids"
            ));
        }
    }
    for what in ["recovered", "reconnected"] {
        let (count, took) =
            (figure(found, &format!("/calls/{what}/count"))?, real(found, &format!("/calls/{what}/p99_ms"))?);
        // With other relays in common no call need wait for the one that comes back.
        if count == 0 && (what == "reconnected" || scene.relays == 1) {
            faults.push(format!("nobody {what}, so that nothing was shown"));
        }
        // What is said of a server without a promise is that its callers are told, not when.
        if long && !scene.plain && took > RECOVERY_MS {
            faults.push(format!("{what} within {took} ms in 99 of 100 cases"));
        }
    }
    Ok(faults)
}

/// Chance that is the same on every run.
struct Chance(u64);

impl Chance {
    fn millis(&mut self, least: u64, most: u64) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_millis(least + (self.0 >> 32) % (most - least + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCENE: Scene = Scene { name: "test", relays: 1, plain: false, kills: 1 };

    fn good() -> Value {
        let held = json!({ "descriptors": 9, "tasks": 9, "rss_mib": 20.0 });
        let held = json!({ "server": held, "callers": held });
        let none = json!({ "count": 0 });
        json!({
            "lost": 0,
            "calls_due": 8.0,
            "calls": {
                "calls": 8, "answered": 8, "misdelivered": 0, "failed": {}, "error_logs": none,
                "recovered": { "count": 3, "p99_ms": 900.5 }, "reconnected": { "count": 3, "p99_ms": 900.5 },
            },
            "executions": {
                "executed": 8, "doubled": 0, "doubled_reads": 0, "unnumbered": 0, "error_logs": none,
            },
            "idle_before": held, "idle_after": held, "under_load_before": held, "under_load_after": held,
            "remembered_more_mib": { "server": 0.5, "callers": 2.0 },
        })
    }

    #[test]
    fn every_broken_promise_is_a_fault() {
        assert_eq!(faults(&good(), SCENE, true), Ok(Vec::new()));
        for (path, value) in [
            ("/lost", json!(1)),
            ("/calls/misdelivered", json!(1)),
            ("/executions/doubled", json!(1)),
            ("/executions/doubled_reads", json!(1)),
            ("/executions/unnumbered", json!(1)),
            ("/executions/error_logs/count", json!(1)),
            ("/calls/error_logs/count", json!(1)),
            ("/executions/executed", json!(7)),
            ("/idle_after/server/tasks", json!(10)),
            ("/idle_after/callers/descriptors", json!(10)),
            ("/under_load_after/server/rss_mib", json!(25.0)),
            ("/under_load_after/callers/rss_mib", json!(26.5)),
            ("/under_load_before/server/rss_mib", json!(15.0)),
            ("/calls/recovered/p99_ms", json!(2000.5)),
            ("/calls/reconnected/p99_ms", json!(2000.5)),
            ("/calls/recovered/count", json!(0)),
            ("/calls/reconnected/count", json!(0)),
            ("/calls_due", json!(9.0)),
        ] {
            let mut found = good();
            *found.pointer_mut(path).unwrap() = value;
            assert_eq!(faults(&found, SCENE, true).unwrap().len(), 1, "{path}");
            let (parent, name) = path.rsplit_once('/').unwrap();
            found.pointer_mut(parent).and_then(Value::as_object_mut).unwrap().remove(name);
            assert!(faults(&found, SCENE, true).is_err(), "without {path} nothing was shown");
        }
    }

    #[test]
    fn ids_are_remembered_until_an_endpoint_has_all_that_it_may_have() {
        let mib = |ids: f64| ids * ID_BYTES / f64::from(1 << 20);
        assert_eq!(remembered_mib(1_000.0, 5_000.0, 1.0), mib(4_000.0));
        assert_eq!(remembered_mib(60_000.0, 120_000.0, 1.0), mib(5_536.0));
        assert_eq!(remembered_mib(60_000.0, 120_000.0, 40.0), mib(60_000.0));
        assert_eq!(remembered_mib(70_000.0, 120_000.0, 1.0), 0.0);
    }

    #[test]
    fn a_call_is_lost_unless_it_was_answered_or_its_caller_told_the_truth() {
        let calls = json!({ "calls": 10, "answered": 6, "failed": {
            "tools/call: NoReply, may have been executed": 2, "tools/call: NotSent, may be called again": 1,
            "prompts/get: NoReply, may be called again": 1,
        }});
        assert_eq!((lost(&calls, true), lost(&calls, false)), (Ok(1), Ok(4)));
    }
}
