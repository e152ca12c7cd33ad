//! A key that must be found nowhere: `cvm` is used in its main ways at the highest log level, and everything it leaves is searched.
//!
//! No way is known to make `cvm` panic; every command runs with `RUST_BACKTRACE=full`, and one is aborted.
mod canary;
mod evidence;
mod scene;

use std::path::PathBuf;

use serde_json::json;

use self::canary::Canary;
use self::evidence::Evidence;
use self::scene::{ENTRY, KEYS, Scene};
use crate::examples::Build;
use crate::figures::verdict;
use crate::shell::{root, run as run_program};

/// Where everything of a run is, below the root of the workspace.
const PLACE: &str = "target/secrets";

/// Uses `cvm` with a key and searches for it; prints what was searched as one line of JSON, and returns what was skipped.
pub(crate) fn run(short: bool) -> Result<Vec<String>, Vec<String>> {
    let cvm = cvm(short)?;
    let scene = Scene::make(&root().join(PLACE), &cvm)?;
    // `serve --from` serves under keys made of the one that it is given.
    let derived = derived(short, &scene)?;
    let canary = Canary::read(&[scene.secrets(), vec![derived]].concat())?;
    let mut evidence = Evidence::default();
    scene.play(&canary, &mut evidence)?;
    let (planted, found) = scene.plant(&canary)?;
    let dumps = scene.dumps(&canary)?;
    evidence.search_files(&scene.place, &scene.keys, &canary)?;
    let hits = evidence.hits.len();
    let document = json!({
        "job": "secrets", "hits": hits, "forms": canary.forms(), "commands": scene.commands(),
        "processes": evidence.processes, "places": evidence.places, "bytes": evidence.bytes,
        "planted": planted, "planted_found": found, "core_dumps": dumps.document(),
    });
    let mut wrong = evidence.hits;
    if found != planted {
        wrong.push(format!("the search found {found} of {planted} planted secrets"));
    }
    wrong.extend(dumps.wrong());
    let skipped: Vec<String> = dumps.skipped().into_iter().collect();
    skipped.iter().for_each(|skipped| eprintln!("skipped: {skipped}"));
    verdict(&document, wrong).map(|()| skipped)
}

/// Writes the key of the served entry beside the one that it is made of; the example knows how that is done.
fn derived(short: bool, scene: &Scene) -> Result<PathBuf, Vec<String>> {
    let build = Build::of(short);
    build.build()?;
    let file = scene.keys.join(KEYS[0]);
    let nsec = build.start("hostile", &["derive", &file.display().to_string(), ENTRY])?.text("nsec")?;
    let path = scene.keys.join("derived");
    let written = std::fs::write(&path, nsec);
    written.map(|()| path.clone()).map_err(|error| vec![format!("{}: {error}", path.display())])
}

/// Builds the binary.
fn cvm(short: bool) -> Result<PathBuf, Vec<String>> {
    let mut build = vec!["build", "--quiet", "-p", "contextvm-cli"];
    if !short {
        build.push("--release");
    }
    run_program("cargo", &build)?;
    Ok(root().join("target").join(if short { "debug" } else { "release" }).join("cvm"))
}
