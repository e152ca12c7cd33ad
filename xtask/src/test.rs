//! Everything that shows the workspace works, in one command.
use crate::shell::{Outcome, present, run as run_program};
use crate::{arch, interop, tidy};

/// Runs the rules, the documentation's examples, the peers, and last the test runner, whose summary closes the output.
///
/// Parts that need Node are skipped by name when it is absent; `no_skips` makes each of those a failure.
pub(crate) fn run(no_skips: bool) -> Outcome {
    arch::run()?;
    tidy::run()?;
    run_program("cargo", &["test", "--workspace", "--doc", "--quiet"])?;
    replay_corpora()?;
    let skipped = peers()?;
    for part in &skipped {
        eprintln!("skipped: {part}");
    }
    if no_skips && !skipped.is_empty() {
        return Err(vec![format!("{} parts were skipped", skipped.len())]);
    }
    if present("cargo", &["nextest", "--version"]) {
        run_program(
            "cargo",
            &["nextest", "run", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"],
        )
    } else {
        run_program("cargo", &["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"])
    }
}

/// Replays every committed fuzz input through its target, without a fuzzer.
fn replay_corpora() -> Outcome {
    run_program(
        "cargo",
        &["test", "--manifest-path", "fuzz/Cargo.toml", "--lib", "--quiet", "--target-dir", "target/fuzz"],
    )
}

/// Runs the interoperation matrix as far as this machine has what it needs; returns what it lacks.
fn peers() -> Result<Vec<String>, Vec<String>> {
    let mut skipped = Vec::new();
    if !interop::has_node() {
        skipped.push("interop with @contextvm/sdk and the official MCP client (no node and npm)".to_owned());
        interop::run(Some("rs-sdk"))?;
    } else {
        interop::run(None)?;
    }
    Ok(skipped)
}
