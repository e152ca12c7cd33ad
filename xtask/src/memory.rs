//! Everything that asks a server for memory, beside callers that are known: keys, declared transfers, unread streams.
use std::time::Duration;

use serde_json::{Value, json};

use crate::examples::Build;
use crate::figures::{Faults, figure, verdict};
use crate::hostile::{World, judge, judge_totals};
use crate::shell::Outcome;

/// Calls a second of the honest caller, who also reads streams and sends large requests.
const HONEST: u32 = 20;
/// Most resident memory of a server with the usual limits, MiB.
const RSS_MIB: f64 = 256.0;
/// Declared transfers of 100 MiB, which no server takes with the usual limits, and as many again of 20 MiB, which it does.
const STARTS: u32 = 64_000;
/// To whom a server listens when it is attacked: to nobody who attacks; to all who attack from known keys; to everybody.
///
/// What callers lose at a server that is open to all is reported and not judged (docs/KNOWN-ISSUES.md).
const SERVERS: [&str; 3] = ["allowed", "listed", "open"];

/// Attacks a server in each arrangement and prints one line of JSON.
pub(crate) fn run(short: bool) -> Outcome {
    Build::of(short).build()?;
    let (mut document, mut wrong) = (json!({ "job": "memory" }), Vec::new());
    // The attack reaches least at `allowed`, which the long form shows.
    for access in SERVERS.iter().filter(|access| !short || **access == "listed") {
        let (found, faults) = attack(access, short)?;
        wrong.extend(faults.into_iter().map(|fault| format!("{access}: {fault}")));
        if let Some(members) = document.as_object_mut() {
            members.insert((*access).to_owned(), found);
        }
    }
    verdict(&document, wrong)
}

fn attack(access: &str, short: bool) -> Result<(Value, Vec<String>), Vec<String>> {
    let part = if short { 25 } else { 1 };
    let mut world = World::start(Build::of(short), access, HONEST, &["long"], "prepare pool 1000 0")?;
    let mut stages = vec![("quiet", world.quiet(Duration::from_secs(3))?)];
    let sizes = [100_u32 << 20, 20 << 20];
    for (name, prepare, per_second) in [
        ("known", None, 1_000),
        ("keys", Some(format!("strangers {} 0", 100_000 / part)), 4_000),
        ("chunks", Some("chunks 1536 40000".to_owned()), 500),
        ("declared", Some(format!("starts {} {}", STARTS / part, sizes[0])), 4_000),
        ("begun", Some(format!("starts {} {}", STARTS / part, sizes[1])), 4_000),
        ("streams", Some(format!("streams {} 1000", 10_000 / part)), 1_000),
    ] {
        // Those of the pool were prepared when everything was started.
        let prepared = prepare.map_or(Ok(1_000), |prepare| world.prepare(&prepare))?;
        stages.push((name, world.attack(prepared, &format!("send {per_second}"))?));
    }
    stages.push(("calm", world.quiet(Duration::from_secs(5))?));
    let totals = world.totals()?;
    let mut faults = Faults::default();
    if access != "open" {
        judge_stages(&stages, short, &mut faults)?;
    }
    if !short {
        let mut of_all = Faults::default();
        judge_totals(&totals, RSS_MIB, &mut of_all)?;
        // Whoever attacks is a caller there, and gets answers.
        let is_told = |fault: &str| fault.starts_with("to_strangers") || fault.starts_with("lines");
        of_all.0.retain(|fault| access == "allowed" || !is_told(fault));
        faults.0.extend(of_all.0);
    }
    let report: serde_json::Map<String, Value> =
        stages.iter().map(|(name, seen)| ((*name).to_owned(), seen.clone())).collect();
    let document = json!({
        "keys": 100_000 / part, "starts": 2 * STARTS / part,
        "streams": 10_000 / part, "stages": report, "totals": totals, "judged": access != "open",
    });
    Ok((document, faults.0))
}

/// No call, stream or large request of a caller that was there before is lost, and there were some of each.
fn judge_stages(stages: &[(&str, Value)], short: bool, faults: &mut Faults) -> Result<(), Vec<String>> {
    let mut chunks = 0;
    for (name, seen) in stages {
        judge(name, seen, !short, faults)?;
        let of = |figure_name: &str| figure(seen, &format!("/honest/{figure_name}"));
        let lost = of("kept_broken")? + of("streams_lost")? + of("uploads_lost")?;
        faults.unless(lost == 0, || format!("{name}: {lost} streams and uploads were lost"));
        let now = of("kept_chunks")?;
        faults.unless(now > chunks, || format!("{name}: the stream that was there before stood still"));
        chunks = now;
    }
    let last = stages.last().map(|(_, seen)| seen).unwrap_or(&Value::Null);
    for name in ["streams", "uploads"] {
        let count = figure(last, &format!("/honest/{name}"))?;
        faults.unless(count > 0, || format!("no {name} were tried"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(chunks: u64) -> Value {
        json!({ "calls_due": 9.0, "honest": {
            "calls": 9, "answered": 9, "kept_chunks": chunks, "kept_broken": 0, "streams": 1, "streams_lost": 0,
            "uploads": 1, "uploads_lost": 0,
        }})
    }

    fn faults_of(last: Value) -> Vec<String> {
        let mut faults = Faults::default();
        judge_stages(&[("one", stage(5)), ("two", last)], false, &mut faults).unwrap();
        faults.0
    }

    #[test]
    fn whatever_a_known_caller_loses_is_a_fault() {
        assert_eq!(faults_of(stage(6)), Vec::<String>::new());
        assert_eq!(faults_of(stage(5)).len(), 1, "a stream that stands still");
        for (name, value) in [
            ("answered", 8),
            ("kept_broken", 1),
            ("streams_lost", 1),
            ("uploads_lost", 1),
            ("streams", 0),
            ("uploads", 0),
        ] {
            let mut last = stage(6);
            last["honest"][name] = json!(value);
            assert_eq!(faults_of(last).len(), 1, "{name}");
        }
    }
}
