//! The simulator: ranges of seeds, and replay files shown again.
use crate::shell::{Outcome, command, finish, run as run_program};

/// Where the simulator is built when its cryptography is fake, so that nothing else ever links that.
const FAKE_TARGET: &str = "target/sim";
/// What makes it fake.
const FAKE: &str = "--cfg contextvm_fake_crypto";

/// Runs seeds; the arguments are those of the program, and `--real-crypto`.
pub(crate) fn run(args: &[&str]) -> Outcome {
    let real = args.contains(&"--real-crypto");
    let rest: Vec<&str> = args.iter().copied().filter(|arg| *arg != "--real-crypto").collect();
    simulate(real, &[&["seeds"], &rest[..]].concat())
}

/// Shows a replay file again, with everything that happened where `--trace` is among the arguments.
pub(crate) fn replay(args: &[&str]) -> Outcome {
    let real = args.contains(&"--real-crypto");
    let rest: Vec<&str> = args.iter().copied().filter(|arg| *arg != "--real-crypto").collect();
    simulate(real, &[&["replay"], &rest[..]].concat())
}

/// What every change is tested with: seeds of every kind, some of them twice, and some days.
pub(crate) fn short() -> Outcome {
    run(&["--seeds", "300"])?;
    run(&["--seeds", "40", "--from", "1000000", "--twice"])?;
    run(&["--seeds", "100", "--hostile-relays"])?;
    run(&["--seeds", "1", "--days", "8"])
}

fn simulate(real: bool, args: &[&str]) -> Outcome {
    let build = ["build", "--quiet", "--release", "-p", "contextvm-sim", "--bin", "sim"];
    if real {
        run_program("cargo", &build)?;
        return run_program("target/release/sim", args);
    }
    eprintln!("$ RUSTFLAGS=\"{FAKE}\" cargo {} --target-dir {FAKE_TARGET}", build.join(" "));
    let mut build = command("cargo", &[&build[..], &["--target-dir", FAKE_TARGET]].concat());
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    finish(build.env("RUSTFLAGS", format!("{flags} {FAKE}")), "cargo build")?;
    run_program("target/sim/release/sim", args)
}
