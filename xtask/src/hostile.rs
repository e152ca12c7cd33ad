//! The world of `flood` and `memory`: a server on an honest and on a hostile relay, and a caller that only uses the honest one.
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::examples::{Build, ask};
use crate::figures::{Faults, figure, real, rounded};
use crate::process::Process;

/// Most resident memory under a flood, MiB, and most time of an honest call, p99, milliseconds.
pub(crate) const RSS_MIB: f64 = 128.0;
pub(crate) const P99_MS: f64 = 500.0;
/// What strangers may make a server publish in a minute, and how many lines it may log about them.
const PUBLISHES: f64 = 60.0;
const LINES: f64 = 100.0;

/// All parts of one run.
pub(crate) struct World {
    _honest: Process,
    pub(crate) honest_url: String,
    pub(crate) hostile: Process,
    pub(crate) server: Process,
    pub(crate) caller: Process,
    per_second: u32,
    begun: Instant,
}

impl World {
    /// Starts everything; the hostile relay prepares `first` before anybody listens to it, `long` is a word to the caller.
    pub(crate) fn start(
        build: Build,
        access: &str,
        per_second: u32,
        long: &[&str],
        first: &str,
    ) -> Result<Self, Vec<String>> {
        let mut honest = build.start("relay", &["0"])?;
        let honest_url = honest.text("url")?;
        let mut hostile = build.start("hostile", &["relay"])?;
        let hostile_url = hostile.text("url")?;
        ask(&mut hostile, first)?;
        let mut server = build.start("hostile", &["server", access, &honest_url, &hostile_url])?;
        server.text("pubkey")?;
        let rate = per_second.to_string();
        let mut caller =
            build.start("hostile", &[&["caller", &honest_url, "1", &rate][..], long].concat())?;
        caller.line()?;
        Ok(Self { _honest: honest, honest_url, hostile, server, caller, per_second, begun: Instant::now() })
    }

    /// Prepares what the hostile relay sends next, and returns how much it is.
    pub(crate) fn prepare(&mut self, what: &str) -> Result<u64, Vec<String>> {
        figure(&ask(&mut self.hostile, &format!("prepare {what}"))?, "/prepared")
    }

    /// Sends what was prepared and returns what the honest caller saw meanwhile; all of it must have gone out.
    pub(crate) fn attack(&mut self, prepared: u64, how: &str) -> Result<Value, Vec<String>> {
        self.watch(|world| {
            let done = ask(&mut world.hostile, how)?;
            match figure(&done, "/sent")? {
                sent if sent == prepared => Ok(done),
                sent => Err(vec![format!("{how}: {sent} of {prepared} were sent")]),
            }
        })
    }

    /// Leaves the honest caller alone for a while and returns what it saw, with the CPU that the server took.
    pub(crate) fn quiet(&mut self, time: Duration) -> Result<Value, Vec<String>> {
        self.watch(|_| {
            std::thread::sleep(time);
            Ok(Value::Null)
        })
    }

    /// Returns what the honest caller saw while something was done, and what was used for it.
    fn watch(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<Value, Vec<String>>,
    ) -> Result<Value, Vec<String>> {
        ask(&mut self.caller, "mark")?;
        let (started, before) = (Instant::now(), [self.server.cpu_us()?, self.hostile.cpu_us()?]);
        let done = act(self)?;
        let passed = started.elapsed();
        let after = [self.server.cpu_us()?, self.hostile.cpu_us()?];
        let seen = ask(&mut self.caller, "mark")?;
        let us = passed.as_micros().max(1) as f64;
        let cores = |part: usize| {
            let of = |all: [u64; 2]| all.get(part).copied().unwrap_or(0);
            rounded(of(after).saturating_sub(of(before)) as f64 / us)
        };
        Ok(json!({
            "ms": (us / 1_000.0).round(), "done": done, "honest": seen,
            "calls_due": (passed.as_secs_f64() * f64::from(self.per_second)).floor(),
            "server_cores": cores(0), "hostile_cores": cores(1), "rss_mib": rounded(self.server.rss_mb()),
        }))
    }

    /// What was counted in all, and per minute what strangers caused.
    pub(crate) fn totals(&mut self) -> Result<Value, Vec<String>> {
        let server = ask(&mut self.server, "counters")?;
        let published = ask(&mut self.hostile, "count")?;
        // Those that were begun: what may happen so often in any minute may happen so often in each of them.
        let minutes = (self.begun.elapsed().as_secs_f64() / 60.0).ceil().max(1.0);
        let of = |level: &str| figure(&server, &format!("/lines/{level}"));
        let lines = of("error")? + of("warn")? + of("info")?;
        Ok(json!({
            "rss_peak_mib": rounded(self.server.peak_mb()), "server": server, "published": published,
            "to_strangers_per_min": rounded(figure(&published, "/to_strangers")? as f64 / minutes),
            "lines_per_min": rounded(lines as f64 / minutes),
        }))
    }
}

/// Judges the calls of one stage: nobody lost one, and in a long run as many were made as were due.
pub(crate) fn judge(name: &str, stage: &Value, long: bool, faults: &mut Faults) -> Result<(), Vec<String>> {
    let (calls, answered) = (figure(stage, "/honest/calls")?, figure(stage, "/honest/answered")?);
    faults.unless(calls > 0 && answered >= calls, || {
        format!("{name}: {answered} of {calls} honest calls were answered")
    });
    if long {
        let due = real(stage, "/calls_due")?;
        faults.below(&format!("{name}: calls"), calls as f64, due * 0.9);
    }
    Ok(())
}

/// Judges what strangers made the server hold, publish and log.
pub(crate) fn judge_totals(totals: &Value, rss_mib: f64, faults: &mut Faults) -> Result<(), Vec<String>> {
    faults.above("rss_peak_mib", real(totals, "/rss_peak_mib")?, rss_mib);
    faults.above("to_strangers_per_min", real(totals, "/to_strangers_per_min")?, PUBLISHES);
    faults.above("lines_per_min", real(totals, "/lines_per_min")?, LINES);
    let errors = figure(totals, "/server/lines/error")?;
    faults.unless(errors == 0, || format!("the server logged {errors} errors: {totals}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(stage: &Value, long: bool) -> usize {
        let mut faults = Faults::default();
        judge("x", stage, long, &mut faults).unwrap();
        faults.0.len()
    }

    #[test]
    fn a_stage_without_calls_shows_nothing() {
        let stage = |calls: u64, answered: u64| json!({ "calls_due": 100, "honest": { "calls": calls, "answered": answered } });
        assert_eq!(faults_of(&stage(99, 99), true), 0);
        assert_eq!((faults_of(&stage(0, 0), false), faults_of(&stage(9, 8), false)), (1, 1));
        assert_eq!((faults_of(&stage(50, 50), true), faults_of(&stage(50, 50), false)), (1, 0));
        assert!(judge("x", &json!({}), false, &mut Faults::default()).is_err());
    }

    #[test]
    fn every_total_has_its_bound() {
        let good = json!({
            "rss_peak_mib": 128.0, "to_strangers_per_min": 60.0, "lines_per_min": 100.0,
            "server": { "lines": { "error": 0 } },
        });
        for (path, much) in [
            ("/rss_peak_mib", json!(128.5)),
            ("/to_strangers_per_min", json!(60.5)),
            ("/lines_per_min", json!(100.5)),
            ("/server/lines/error", json!(1)),
        ] {
            let mut faults = Faults::default();
            judge_totals(&good, RSS_MIB, &mut faults).unwrap();
            assert!(faults.0.is_empty());
            let mut bad = good.clone();
            *bad.pointer_mut(path).unwrap() = much;
            judge_totals(&bad, RSS_MIB, &mut faults).unwrap();
            assert_eq!(faults.0.len(), 1, "{path}");
        }
    }
}
