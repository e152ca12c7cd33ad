//! The programs that proofs are made of: examples of the workspace, each a process of its own, so that memory and CPU can be told apart.
use serde_json::Value;

use crate::process::Process;
use crate::shell::{root, run as run_program};

/// How programs are built: the short forms take what `cargo build --examples` has built already.
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

    /// Builds what the proofs start: `hostile`, `steady`, and an ordinary `relay`.
    pub(crate) fn build(self) -> Result<(), Vec<String>> {
        let mut args = vec!["build", "--quiet", "-p", "contextvm-local-relay", "-p", "contextvm"];
        args.extend(["--example", "hostile", "--example", "steady", "--example", "relay"]);
        args.extend((self == Self::Release).then_some("--release"));
        run_program("cargo", &args)
    }

    /// Starts one of them.
    pub(crate) fn start(self, name: &str, words: &[&str]) -> Result<Process, Vec<String>> {
        let folder = if self == Self::Release { "release" } else { "debug" };
        let program = root().join("target").join(folder).join("examples").join(name);
        Process::start(&program.display().to_string(), words)
    }
}

/// Tells a part something and waits for its answer.
pub(crate) fn ask(part: &mut Process, words: &str) -> Result<Value, Vec<String>> {
    part.say(words)?;
    let answer = part.line()?;
    match answer.get("error") {
        Some(error) => Err(vec![format!("{words}: {error}")]),
        None => Ok(answer),
    }
}
