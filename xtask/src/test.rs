//! Everything that shows the workspace works, in one command.
use crate::shell::{Outcome, command, finish, present, run as run_program};
use crate::{
    arch, chaos, conformance, coverage, flood, interop, malformed, memory, replays, secrets, sim, soak, tidy,
};

/// Runs the rules, the documentation's examples, the peers, and last the test runner, whose summary closes the output.
///
/// Parts that need Node or Python are skipped by name when it is absent; `no_skips` makes each of those a failure.
pub(crate) fn run(no_skips: bool) -> Outcome {
    arch::run()?;
    tidy::run()?;
    run_program("cargo", &["test", "--workspace", "--doc", "--quiet"])?;
    let mut skipped = coverage::short()?;
    sim::short()?;
    skipped.extend(interop::run(None)?);
    skipped.extend(conformance::run(&[])?);
    skipped.extend(conformance::run(&["--across"])?);
    for program in ["node", "python3"].iter().filter(|program| !present(program, &["--version"])) {
        let stories = format!("stories with children in another language (no {program})");
        eprintln!("skipped: {stories}");
        skipped.push(stories);
    }
    // Tests start some of the examples as processes of their own, and so do the proofs.
    run_program("cargo", &["build", "--quiet", "--workspace", "--bins", "--examples"])?;
    skipped.extend(proofs()?);
    if no_skips && !skipped.is_empty() {
        return Err(vec![format!("{} parts were skipped: {}", skipped.len(), skipped.join("; "))]);
    }
    let runner: &[&str] =
        if present("cargo", &["nextest", "--version"]) { &["nextest", "run"] } else { &["test"] };
    let which = ["--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"];
    let mut tests = command("cargo", &[runner, &which].concat());
    if no_skips {
        // Tests that need a program look at this.
        tests.env("CVM_NO_SKIPS", "1");
    }
    finish(&mut tests, "cargo test")
}

/// The short forms of what can be shown at length; returns what was skipped.
fn proofs() -> Result<Vec<String>, Vec<String>> {
    malformed::run(true)?;
    flood::run(true)?;
    memory::run(true)?;
    replays::run(true)?;
    chaos::run(true, None)?;
    soak::run(true, None)?;
    secrets::run(true)
}
