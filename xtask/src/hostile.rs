//! The parts of `flood`, `memory` and `replays`: each a process of its own, so that memory and CPU are the server's.
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::Process;
use crate::shell::{root, run as run_program};

/// How a program is built: the short forms take what `cargo build --examples` has built already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    Debug,
    Release,
}

impl Build {
    /// Returns how the programs of a short or a long form are built.
    pub(crate) const fn of(short: bool) -> Self {
        if short { Self::Debug } else { Self::Release }
    }
}

/// Builds the program whose parts these are, unless `CVM_HOSTILE` names one that was built before.
pub(crate) fn build(build: Build) -> Result<(), Vec<String>> {
    if std::env::var_os("CVM_HOSTILE").is_some() {
        return Ok(());
    }
    let mut args = vec!["build", "--quiet", "-p", "contextvm", "--example", "hostile"];
    if build == Build::Release {
        args.push("--release");
    }
    run_program("cargo", &args)
}

/// Starts one part.
pub(crate) fn part(build: Build, words: &[&str]) -> Result<Process, Vec<String>> {
    let folder = if build == Build::Release { "release" } else { "debug" };
    let built = root().join("target").join(folder).join("examples/hostile").display().to_string();
    Process::start(&std::env::var("CVM_HOSTILE").unwrap_or(built), words)
}

/// Tells a part something and waits for its answer.
pub(crate) fn ask(part: &mut Process, words: &str) -> Result<Value, Vec<String>> {
    part.say(words)?;
    part.line()
}

/// A server on an honest and on a hostile relay, and a caller that only uses the honest one.
pub(crate) struct World {
    _honest: Process,
    pub(crate) honest_url: String,
    pub(crate) hostile: Process,
    pub(crate) server: Process,
    pub(crate) caller: Process,
}

impl World {
    /// Starts everything; the hostile relay prepares `first` before anybody listens to it.
    pub(crate) fn start(
        build: Build,
        access: &str,
        per_second: u32,
        first: &str,
    ) -> Result<Self, Vec<String>> {
        let mut honest = part(build, &["honest"])?;
        let honest_url = honest.text("url")?;
        let mut hostile = part(build, &["relay"])?;
        let hostile_url = hostile.text("url")?;
        ask(&mut hostile, first)?;
        let mut server = part(build, &["server", access, &honest_url, &hostile_url])?;
        server.text("pubkey")?;
        let mut caller = part(build, &["caller", &honest_url, "1", &per_second.to_string()])?;
        caller.line()?;
        Ok(Self { _honest: honest, honest_url, hostile, server, caller })
    }

    /// Leaves the honest caller alone for a while and returns what it saw, with the CPU that the server took.
    pub(crate) fn quiet(&mut self, time: Duration) -> Result<Value, Vec<String>> {
        self.watch(|_| {
            std::thread::sleep(time);
            Ok(Value::Null)
        })
    }

    /// Returns what the honest caller saw while something was done, and what was used for it.
    pub(crate) fn watch(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<Value, Vec<String>>,
    ) -> Result<Value, Vec<String>> {
        ask(&mut self.caller, "mark")?;
        let (started, before) = (Instant::now(), [self.server.cpu_us()?, self.hostile.cpu_us()?]);
        let done = act(self)?;
        let passed = started.elapsed().as_micros().max(1) as f64;
        let after = [self.server.cpu_us()?, self.hostile.cpu_us()?];
        let seen = ask(&mut self.caller, "mark")?;
        let cores = |part: usize| {
            let of = |all: [u64; 2]| all.get(part).copied().unwrap_or(0);
            rounded(of(after).saturating_sub(of(before)) as f64 / passed)
        };
        Ok(json!({
            "ms": (passed / 1_000.0).round(), "done": done, "honest": seen,
            "server_cores": cores(0), "hostile_cores": cores(1), "rss_mib": rounded(self.server.rss_mb()),
        }))
    }
}

/// Keeps two digits.
pub(crate) fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// Reads a number at a path of names.
pub(crate) fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}
