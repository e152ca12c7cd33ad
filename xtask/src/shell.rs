//! Running other programs from the root of the workspace.
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a command of this tool comes to: nothing, or the lines that say what is wrong.
pub(crate) type Outcome = Result<(), Vec<String>>;

/// Returns the root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Makes a command that runs in the root of the workspace.
pub(crate) fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command
}

/// Runs a program to its end, its output passed through.
pub(crate) fn run(program: &str, args: &[&str]) -> Outcome {
    eprintln!("$ {program} {}", args.join(" "));
    finish(&mut command(program, args), program)
}

/// Runs a prepared command to its end.
pub(crate) fn finish(command: &mut Command, name: &str) -> Outcome {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(vec![format!("{name}: {status}")]),
        Err(error) => Err(vec![format!("{name}: {error}")]),
    }
}

/// Whether a program answers when it is called with these arguments.
pub(crate) fn present(program: &str, args: &[&str]) -> bool {
    command(program, args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Formatting, clippy, documentation and dependencies.
pub(crate) fn lint() -> Outcome {
    run("cargo", &["fmt", "--all", "--check"])?;
    run("cargo", &["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"])?;
    eprintln!("$ cargo doc --workspace --no-deps --all-features");
    let mut doc = command("cargo", &["doc", "--workspace", "--no-deps", "--all-features"]);
    finish(doc.env("RUSTDOCFLAGS", "-D warnings"), "cargo doc")?;
    deny()
}

/// `cargo deny`: what needs no network always, advisories where their database can be had.
fn deny() -> Outcome {
    if !present("cargo", &["deny", "--version"]) {
        eprintln!("skipped: cargo deny (not installed; `cargo install cargo-deny --locked`)");
        return Ok(());
    }
    run("cargo", &["deny", "--all-features", "check", "bans", "licenses", "sources"])?;
    if present("cargo", &["deny", "--all-features", "fetch", "db"]) {
        run("cargo", &["deny", "--all-features", "check", "advisories"])
    } else {
        eprintln!("skipped: cargo deny advisories (the advisory database cannot be fetched here)");
        Ok(())
    }
}
