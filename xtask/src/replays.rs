//! Signed requests that somebody else sends again, in every way there is: none may be executed twice.
//!
//! The same rounds are played against a server in memory and against one with a store. Every round must have gone out whole
//! to a server that listened; after each the server must say that it has looked at nearly all of it, because what is thrown
//! away unread is not executed either.
use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::examples::{Build, ask};
use crate::figures::{Faults, figure, rounded, verdict};
use crate::process::Process;
use crate::shell::{Outcome, command, finish, root};

/// Requests a second when they are sent for the first time, and those of others.
const FIRST_PER_SECOND: u32 = 400;
const OTHERS_PER_SECOND: u32 = 800;
/// Requests of one caller that a server has open at a time (docs/LIMITS.md): more of them are refused, which is final.
const AT_ONCE: usize = 32;
/// Replays of the long form, over both arrangements, at least.
const LEAST: u64 = 1_000_000;
/// How long a server may take to look at what it was sent.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is sent before the restart and after it: its name, what is prepared for it (nothing: the same as before), how many, and
/// how often it is sent.
type Round = (&'static str, Option<&'static str>, usize, u32);

/// How much there is of everything.
struct Sizes {
    requests: usize,
    many: usize,
    others: usize,
    same: u32,
    per_second: u32,
    /// How much of what was sent the server must have looked at, percent; a busy machine throws away some of it.
    looked_at: u64,
}

const SHORT: Sizes =
    Sizes { requests: 200, many: 2_000, others: 500, same: 4, per_second: 2_000, looked_at: 50 };
const LONG: Sizes =
    Sizes { requests: 2_000, many: 100_000, others: 50_000, same: 50, per_second: 3_000, looked_at: 99 };

impl Sizes {
    /// Replays before the restart.
    fn before(&self) -> [Round; 7] {
        let (some, many) = (self.requests, self.many);
        [
            ("same", None, some, self.same),
            ("wrapped", Some("wrapped"), many, 1),
            ("plain", Some("plain"), many, 1),
            // Signed for somebody else, or too long ago: to be executed never.
            ("stale", Some("stale"), some, 1),
            ("stale, plain", Some("plain"), some, 1),
            ("elsewhere", Some("elsewhere"), some, 1),
            ("elsewhere, plain", Some("plain"), some, 1),
        ]
    }

    /// Replays after as many accepted requests of others as there is room to remember.
    fn after_others(&self) -> [Round; 1] {
        [("after others", Some("originals"), self.many / 2, 1)]
    }

    /// Replays after a restart.
    fn after_restart(&self) -> [Round; 4] {
        let (some, many) = (self.requests, self.many);
        [
            ("plain after a restart", Some("plain"), many, 1),
            ("wrapped after a restart", Some("wrapped"), many, 1),
            ("stale after a restart", Some("stale"), some, 1),
            ("elsewhere after a restart", Some("elsewhere"), some, 1),
        ]
    }
}

/// Replays requests, before and after a restart, and prints what was executed as one line of JSON.
pub(crate) fn run(short: bool) -> Outcome {
    let build = Build::of(short);
    build.build()?;
    let sizes = if short { SHORT } else { LONG };
    let mut faults = Faults::default();
    let (mut replayed, mut members) = (0, serde_json::Map::new());
    for arrangement in ["in_memory", "with_store"] {
        let found = arrange(build, &sizes, arrangement, &mut faults)?;
        replayed += figure(&found, "/replayed")?;
        members.insert(arrangement.to_owned(), found);
    }
    if !short {
        faults.below("replayed", replayed as f64, LEAST as f64);
        a_million_others()?;
    }
    let document =
        json!({ "job": "replays", "requests": sizes.requests, "replayed": replayed, "servers": members });
    verdict(&document, faults.0)
}

/// The engine alone after a million others, of which it remembers as many as there is room for and refuses the rest.
fn a_million_others() -> Outcome {
    let words = [
        "test",
        "--release",
        "--quiet",
        "-p",
        "contextvm-engine",
        "--test",
        "server",
        "replay_after_a_million",
    ];
    let mut test = command("cargo", &words);
    finish(test.env("OTHERS", "1000000").stdout(std::process::Stdio::null()), "replay_after_a_million")
}

/// A relay that replays, and the server that it replays to.
struct Replay {
    relay: Process,
    server: Process,
    rounds: Vec<Value>,
    replayed: u64,
}

impl Replay {
    /// Sends the requests of one caller for the first time, never more than may be open; returns how many were executed.
    fn first(&mut self, number: usize) -> Result<u64, Vec<String>> {
        ask(&mut self.relay, &format!("prepare first {number} 0"))?;
        for from in (0..number).step_by(AT_ONCE) {
            let to = number.min(from + AT_ONCE);
            ask(&mut self.relay, &format!("send {FIRST_PER_SECOND} {from} {to}"))?;
            self.executed(to as u64)?;
        }
        figure(&self.settle()?, "/executed")
    }

    /// Waits until so many requests were executed, as long as that may take.
    fn executed(&mut self, least: u64) -> Outcome {
        let begun = Instant::now();
        while figure(&ask(&mut self.server, "counters")?, "/executed")? < least {
            if begun.elapsed() > PATIENCE {
                return Err(vec![format!("{least} first requests were not executed within {PATIENCE:?}")]);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Sends requests of others for the first time; returns how many were executed in all after that.
    fn others(&mut self, number: usize) -> Result<u64, Vec<String>> {
        ask(&mut self.relay, &format!("prepare others {number} 0"))?;
        ask(&mut self.relay, &format!("send {OTHERS_PER_SECOND}"))?;
        figure(&self.settle()?, "/executed")
    }

    fn all(&mut self, rounds: &[Round], sizes: &Sizes) -> Result<(), Vec<String>> {
        rounds.iter().try_for_each(|round| self.round(*round, sizes))
    }

    /// Plays one round, all of which must arrive.
    fn round(&mut self, (name, prepare, number, times): Round, sizes: &Sizes) -> Result<(), Vec<String>> {
        if let Some(prepare) = prepare {
            ask(&mut self.relay, &format!("prepare {prepare} {number} 0"))?;
        }
        let before = figure(&ask(&mut self.server, "counters")?, "/received")?;
        let mut sent = 0;
        for _ in 0..times {
            sent += figure(&ask(&mut self.relay, &format!("send {}", sizes.per_second))?, "/sent")?;
        }
        let wanted = number as u64 * u64::from(times);
        let received = figure(&self.settle()?, "/received")? - before;
        self.rounds.push(json!({ "round": name, "sent": sent, "received": received }));
        self.replayed += received;
        if sent == wanted && received * 100 >= wanted * sizes.looked_at {
            return Ok(());
        }
        Err(vec![format!("{name}: {received} of {sent} were looked at, {wanted} were to be sent")])
    }

    /// Waits until the server counts no more, and returns what it counted.
    fn settle(&mut self) -> Result<Value, Vec<String>> {
        let begun = Instant::now();
        let (mut last, mut alike) = (Value::Null, 0);
        while begun.elapsed() < PATIENCE && alike < 3 {
            std::thread::sleep(Duration::from_millis(100));
            let counted = ask(&mut self.server, "counters")?;
            alike = if counted == last { alike + 1 } else { 0 };
            last = counted;
        }
        Ok(last)
    }
}

fn arrange(
    build: Build,
    sizes: &Sizes,
    arrangement: &str,
    faults: &mut Faults,
) -> Result<Value, Vec<String>> {
    let folder = root().join("target/replays").join(arrangement);
    let wrong = |error: std::io::Error| vec![format!("{}: {error}", folder.display())];
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(wrong)?;
    }
    fs::create_dir_all(&folder).map_err(wrong)?;
    let store = folder.join("store").display().to_string();
    let mut relay = build.start("hostile", &["relay"])?;
    let url = relay.text("url")?;
    let words = match arrangement {
        "with_store" => vec!["server", "allowed", "--store", &store, &url],
        _ => vec!["server", "allowed", &url],
    };
    let mut server = build.start("hostile", &words)?;
    server.text("pubkey")?;
    let mut replay = Replay { relay, server, rounds: Vec::new(), replayed: 0 };
    let first = replay.first(sizes.requests)?;
    replay.all(&sizes.before(), sizes)?;
    let replayed = replay.settle()?;
    let with_others = replay.others(sizes.others)?;
    replay.all(&sizes.after_others(), sizes)?;
    let again = replay.settle()?;
    let peak = rounded(replay.server.peak_mb());
    replay.server.kill();
    replay.server = build.start("hostile", &words)?;
    replay.server.text("pubkey")?;
    replay.all(&sizes.after_restart(), sizes)?;
    let restarted = replay.settle()?;
    let requests = sizes.requests as u64;
    faults.unless(first == requests, || format!("{arrangement}: {first} of {requests} were executed"));
    let sent = sizes.others as u64;
    for (when, counted, most) in
        [("before others", &replayed, requests), ("after others", &again, requests + sent)]
    {
        let executed = figure(counted, "/executed")?;
        faults.unless(executed <= most, || {
            format!("{arrangement}, {when}: {executed} executed, at most {most}")
        });
    }
    let others = with_others.saturating_sub(figure(&replayed, "/executed")?);
    faults.unless(others * 2 >= sent, || format!("{arrangement}: {others} of {sent} others were executed"));
    for (when, counted) in [("before others", &replayed), ("after others", &again), ("restarted", &restarted)]
    {
        let doubled = figure(counted, "/doubled")?;
        faults.unless(doubled == 0, || format!("{arrangement}, {when}: {doubled} were executed twice"));
    }
    let executed = figure(&restarted, "/executed")?;
    faults.unless(executed == 0, || format!("{arrangement}: {executed} were executed again after a restart"));
    Ok(json!({
        "replayed": replay.replayed, "first_executed": first, "others_executed": others,
        "executed": figure(&again, "/executed")?, "doubled": figure(&again, "/doubled")?, "executed_after_restart": figure(&restarted, "/executed")?,
        "rss_peak_mib": peak, "again": again, "restarted": restarted, "rounds": replay.rounds,
    }))
}
