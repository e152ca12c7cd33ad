//! Ten thousand malformed inputs against a real `cvm serve` and a real client, by a relay that says anything.
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::process::Process;
use crate::shell::{Outcome, command, finish, root, run as run_program};

/// The secret of the served key, which is known: the relay answers in its name to a client.
const SECRET: &str = "1111111111111111111111111111111111111111111111111111111111111111";
/// In the short form every so manyth input is sent.
const SPARSE: &str = "17";

/// Sends every input (or, in short, some of each group) in both roles and prints a line of figures for each. A panic, a restart,
/// or an honest call without answer is an error, and so is an event, message or wrap that a server counts otherwise than the
/// tables say; frames of transfers and streams and what relays say have to be lived through.
pub(crate) fn run(short: bool) -> Outcome {
    let build =
        ["build", "--quiet", "-p", "contextvm-cli", "-p", "contextvm-malformed", "--bins", "--examples"];
    run_program("cargo", &build)?;
    let every = if short { SPARSE } else { "1" };
    let mut faults = Vec::new();
    for who in ["allowed", "stranger"] {
        faults.extend(serve(who, every)?);
    }
    faults.extend(call(every)?);
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn program(name: &str) -> String {
    root().join("target/debug").join(name).display().to_string()
}

/// Lets `cvm serve` meet the inputs of a caller; returns what is wrong.
fn serve(who: &str, every: &str) -> Result<Vec<String>, Vec<String>> {
    let directory = root().join("target/malformed").join(who);
    let (log, notes) = (directory.join("cvm.log"), directory.join("child.txt"));
    fresh(&directory)?;
    let mut relay =
        Process::start(&program("examples/live"), &["server", &log.display().to_string(), who, every])?;
    let place = relay.line()?;
    let said = |name: &str| place.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (url, allowed) = (said("url"), said("allow"));
    let (child, notes_path) = (program("examples/child"), notes.display().to_string());
    let home = format!("HOME={}", directory.display());
    let key = format!("CVM_MALFORMED_KEY={SECRET}");
    let args = [
        "NO_COLOR=1",
        "CVM_LOG=warn,contextvm_runtime=trace",
        &home,
        &key,
        &program("cvm"),
        "serve",
        "--json",
        "-k",
        "env:CVM_MALFORMED_KEY",
        "-r",
        &url,
        "--allow",
        &allowed,
        "--",
        &child,
        &notes_path,
    ];
    let mut server = Process::start_logged("env", &args, &log)?;
    let ready = server.text("server")?;
    let figures = relay.line()?;
    println!("{figures}");
    let mut faults = wrong(&figures, &["panics", "errors", "unanswered"]);
    let different = figures.get("different").and_then(Value::as_array).cloned().unwrap_or_default();
    faults.extend(different.iter().map(|line| format!("{who}: {line}")));
    let notes = fs::read_to_string(&notes).map_err(|error| vec![format!("{ready}: {error}")])?;
    let starts = notes.lines().filter(|line| *line == "start").count();
    if starts != 1 {
        faults.push(format!("{who}: the child was started {starts} times"));
    }
    Ok(faults)
}

/// Lets a client meet the inputs; it fails when a call does not end with the honest answer.
fn call(every: &str) -> Result<Vec<String>, Vec<String>> {
    finish(&mut command(&program("examples/live"), &["client", every]), "malformed inputs to a client")?;
    Ok(Vec::new())
}

/// Names the figures that are not zero.
fn wrong(figures: &Value, names: &[&str]) -> Vec<String> {
    let count = |name: &str| figures.get(name).and_then(Value::as_u64);
    names
        .iter()
        .filter(|name| count(name) != Some(0))
        .map(|name| format!("{name}: {:?} in {figures}", count(name)))
        .collect()
}

fn fresh(directory: &Path) -> Outcome {
    if directory.exists() {
        fs::remove_dir_all(directory).map_err(|error| vec![format!("{}: {error}", directory.display())])?;
    }
    fs::create_dir_all(directory).map_err(|error| vec![format!("{}: {error}", directory.display())])
}
