//! The simulator: ranges of seeds, and replay files shown again.
use crate::shell::{Outcome, command, finish, root, run as run_program};

/// Where the simulator is built when its cryptography is fake, so that nothing else ever links that.
const FAKE_TARGET: &str = "target/sim";
/// What makes it fake.
const FAKE: &str = "--cfg contextvm_fake_crypto --cfg contextvm_fake_hashes";

/// Runs seeds; the arguments are those of the program, and `--real-crypto`.
pub(crate) fn run(args: &[&str]) -> Outcome {
    let real = args.contains(&"--real-crypto");
    let rest: Vec<&str> = args.iter().copied().filter(|arg| *arg != "--real-crypto").collect();
    simulate(real, &[&["seeds"], &rest[..]].concat())
}

/// Shows a replay file again, with everything that happened where `--trace` is among the arguments. The file says what its
/// cryptography was.
pub(crate) fn replay(args: &[&str]) -> Outcome {
    let file = args.iter().find(|arg| !arg.starts_with("--"));
    let text = file.and_then(|file| std::fs::read_to_string(root().join(file)).ok()).unwrap_or_default();
    let real = args.contains(&"--real-crypto") || text.lines().any(|line| line == "crypto real");
    let rest: Vec<&str> = args.iter().copied().filter(|arg| *arg != "--real-crypto").collect();
    simulate(real, &[&["replay"], &rest[..]].concat())
}

/// What every change is tested with: seeds of every kind, some of them twice, in two processes, with real cryptography, and
/// some days. Where C6 judges too few calls, or too few seeds are answered, it proves too little and fails.
pub(crate) fn short() -> Outcome {
    build(false)?;
    let figures = told(&["seeds", "--seeds", "2000", "--judged", "250", "--answered", "700"])?;
    let again = told(&["seeds", "--seeds", "100", "--threads", "1"])?;
    let (first, second) = (field(&figures, "trace_sum_first"), field(&again, "trace_sum"));
    if first.is_none() || first != second {
        return Err(vec![format!("two processes saw other traces of the same seeds: {first:?}, {second:?}")]);
    }
    run(&["--seeds", "40", "--from", "1000000", "--twice"])?;
    run(&["--seeds", "500", "--hostile-relays"])?;
    run(&["--seeds", "4", "--days", "8"])?;
    run(&["--seeds", "20", "--calls", "100", "--real-crypto"])
}

/// Runs the simulator, and returns what it printed as well as passing it on.
fn told(args: &[&str]) -> Result<String, Vec<String>> {
    let program = format!("{FAKE_TARGET}/release/sim");
    eprintln!("$ {program} {}", args.join(" "));
    let output = command(&program, args).stderr(std::process::Stdio::inherit()).output();
    let output = output.map_err(|error| vec![format!("{program}: {error}")])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    print!("{text}");
    if output.status.success() { Ok(text) } else { Err(vec![format!("{program}: {}", output.status)]) }
}

/// Returns the text of one field of a line of JSON.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!(r#""{name}":""#))?;
    rest.split('"').next()
}

fn simulate(real: bool, args: &[&str]) -> Outcome {
    build(real)?;
    let target = if real { "target" } else { FAKE_TARGET };
    run_program(&format!("{target}/release/sim"), args)
}

fn build(real: bool) -> Outcome {
    let build = ["build", "--quiet", "--release", "-p", "contextvm-sim", "--bin", "sim"];
    if real {
        return run_program("cargo", &build);
    }
    eprintln!("$ RUSTFLAGS=\"{FAKE}\" cargo {} --target-dir {FAKE_TARGET}", build.join(" "));
    let mut build = command("cargo", &[&build[..], &["--target-dir", FAKE_TARGET]].concat());
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    finish(build.env("RUSTFLAGS", format!("{flags} {FAKE}")), "cargo build")
}
