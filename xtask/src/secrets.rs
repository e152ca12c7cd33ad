//! A key that must be found nowhere: `cvm` is used in its main ways at the highest log level, and everything it leaves is searched.
mod canary;
mod evidence;
mod scene;

use std::path::PathBuf;

use serde_json::json;

use self::canary::Canary;
use self::evidence::Evidence;
use self::scene::Scene;
use crate::shell::{Outcome, root, run as run_program};

/// Where everything of a run is, below the root of the workspace.
const PLACE: &str = "target/secrets";

/// Uses `cvm` with a key and searches for it; prints what was searched as one line of JSON.
pub(crate) fn run(short: bool) -> Outcome {
    let cvm = cvm(short)?;
    let scene = Scene::make(&root().join(PLACE), &cvm)?;
    let canary = Canary::read(&scene.secrets())?;
    let mut evidence = Evidence::default();
    scene.play(&canary, &mut evidence)?;
    let (planted, found) = scene.plant(&canary)?;
    let dumps = scene.dumps(&canary)?;
    evidence.search_files(&scene.place, &scene.keys, &canary)?;
    let hits = evidence.hits.len();
    println!(
        "{}",
        json!({
            "job": "secrets", "hits": hits, "forms": canary.forms(), "commands": scene.commands(),
            "processes": evidence.processes, "places": evidence.places, "bytes": evidence.bytes,
            "planted": planted, "planted_found": found, "core_dumps": dumps.document(),
        })
    );
    let mut wrong = evidence.hits;
    if found != planted {
        wrong.push(format!("the search found {found} of {planted} planted secrets"));
    }
    wrong.extend(dumps.wrong());
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// Builds the binary, unless there is one somewhere else.
fn cvm(short: bool) -> Result<PathBuf, Vec<String>> {
    if let Some(path) = std::env::var_os("CVM_SECRETS") {
        return Ok(path.into());
    }
    let mut build = vec!["build", "--quiet", "-p", "contextvm-cli"];
    if !short {
        build.push("--release");
    }
    run_program("cargo", &build)?;
    Ok(root().join("target").join(if short { "debug" } else { "release" }).join("cvm"))
}
