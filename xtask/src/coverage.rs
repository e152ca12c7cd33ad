//! Which regions of the pure crates the replayed corpora reach, against a ceiling that may only fall.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::shell::{Outcome, command, finish, root};

const TRIPLE: &str = "x86_64-unknown-linux-gnu";
const TARGET_DIR: &str = "target/coverage";
/// The committed ceiling.
const CEILING: &str = "fuzz/uncovered.txt";
/// The crates that are fuzzed: words and machines.
const PURE: [&str; 6] = ["announce", "core", "crypto", "engine", "stream", "transfer"];

/// Regions of one crate, and how many of them were reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Regions {
    all: u64,
    reached: u64,
}

impl Regions {
    const fn uncovered(self) -> u64 {
        self.all - self.reached
    }

    fn percent(self) -> f64 {
        100.0 * self.reached as f64 / self.all.max(1) as f64
    }
}

/// Replays every committed input with counters in the code, prints one JSON line, and compares with the ceiling.
///
/// `write` lowers the ceiling to what was found; `files` lists what is not reached file by file. Needs the component
/// `llvm-tools` of the toolchain.
pub(crate) fn run(args: &[&str]) -> Outcome {
    let (write, files) = match args {
        [] => (false, false),
        ["--write"] => (true, false),
        ["--files"] => (false, true),
        _ => return Err(vec!["usage: cargo xtask coverage [--write | --files]".to_owned()]),
    };
    let Some(tools) = tools() else {
        return Err(vec!["no llvm-profdata: rustup component add llvm-tools".to_owned()]);
    };
    let found = measure(&tools)?;
    if files {
        list(&found);
    }
    let crates = by_crate(&found);
    println!("{}", to_json(&crates));
    let path = root().join(CEILING);
    let before = read(&fs::read_to_string(&path).unwrap_or_default());
    if write {
        let text = print(&crates, &before);
        return fs::write(&path, text).map_err(|error| vec![format!("{CEILING}: {error}")]);
    }
    let mut above = above(&crates, &before);
    let missing = PURE.iter().filter(|name| crates.get(**name).is_none_or(|regions| regions.all == 0));
    above.extend(missing.map(|name| format!("contextvm-{name} is not in the report")));
    if above.is_empty() { Ok(()) } else { Err(above) }
}

/// Compares with the ceiling where the toolchain has the tools, and says so where it has not.
pub(crate) fn short() -> Outcome {
    if tools().is_some() {
        return run(&[]);
    }
    eprintln!("skipped: coverage of the corpora (no llvm-tools; `rustup component add llvm-tools`)");
    Ok(())
}

/// The folder of the tools that belong to the compiler.
fn tools() -> Option<PathBuf> {
    let output = command("rustc", &["--print", "sysroot"]).output().ok()?;
    let sysroot = String::from_utf8(output.stdout).ok()?;
    let folder = Path::new(sysroot.trim()).join("lib/rustlib").join(TRIPLE).join("bin");
    folder.join("llvm-profdata").is_file().then_some(folder)
}

/// The regions of every file of the pure crates.
fn measure(tools: &Path) -> Result<BTreeMap<String, Regions>, Vec<String>> {
    let build =
        ["build", "--quiet", "--manifest-path", "fuzz/Cargo.toml", "--bin", "corpus", "--target", TRIPLE];
    let mut cargo = command("cargo", &[&build[..], &["--target-dir", TARGET_DIR]].concat());
    // How code is split into units decides which copies of it are counted.
    cargo.env("CARGO_INCREMENTAL", "0").env("CARGO_ENCODED_RUSTFLAGS", "-Cinstrument-coverage");
    finish(&mut cargo, "cargo build")?;
    let folder = root().join(TARGET_DIR);
    let (raw, merged) = (folder.join("corpus.profraw"), folder.join("corpus.profdata"));
    let program = folder.join(TRIPLE).join("debug/corpus");
    let mut replay = command(&text(&program), &["replay"]);
    finish(replay.env("LLVM_PROFILE_FILE", &raw).stdout(Stdio::null()), "the replay")?;
    let profdata = text(&tools.join("llvm-profdata"));
    finish(
        &mut command(&profdata, &["merge", "-sparse", &text(&raw), "-o", &text(&merged)]),
        "llvm-profdata",
    )?;
    let export = ["export", "--summary-only", "--instr-profile", &text(&merged), &text(&program)];
    let output = command(&text(&tools.join("llvm-cov")), &export).output();
    let output = output.map_err(|error| vec![format!("llvm-cov: {error}")])?;
    let report: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| vec![format!("llvm-cov: {error}")])?;
    Ok(regions(&report))
}

/// Takes the files of the pure crates out of a report of `llvm-cov export`, named as in the repository.
fn regions(report: &Value) -> BTreeMap<String, Regions> {
    let files = report.pointer("/data/0/files").and_then(Value::as_array);
    let mut found = BTreeMap::new();
    for file in files.into_iter().flatten() {
        let name = file.get("filename").and_then(Value::as_str).unwrap_or("");
        let Some((_, name)) = name.split_once("crates/contextvm-") else { continue };
        if !name.split_once("/src/").is_some_and(|(of, _)| PURE.contains(&of)) {
            continue;
        }
        let number = |path: &str| file.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        let regions =
            Regions { all: number("/summary/regions/count"), reached: number("/summary/regions/covered") };
        found.insert(name.to_owned(), regions);
    }
    found
}

fn by_crate(files: &BTreeMap<String, Regions>) -> BTreeMap<String, Regions> {
    let mut crates = BTreeMap::<String, Regions>::new();
    for (name, regions) in files {
        let of = name.split('/').next().unwrap_or(name);
        let sum = crates.entry(of.to_owned()).or_default();
        (sum.all, sum.reached) = (sum.all + regions.all, sum.reached + regions.reached);
    }
    crates
}

fn total(crates: &BTreeMap<String, Regions>) -> Regions {
    let sum = |part: fn(&Regions) -> u64| crates.values().map(part).sum();
    Regions { all: sum(|regions| regions.all), reached: sum(|regions| regions.reached) }
}

fn to_json(crates: &BTreeMap<String, Regions>) -> String {
    let all = total(crates);
    let parts = crates.iter().map(|(name, regions)| format!("\"{name}_percent\":{:.2}", regions.percent()));
    let parts: Vec<String> = parts.collect();
    format!(
        "{{\"regions\":{},\"uncovered\":{},\"percent\":{:.2},{}}}",
        all.all,
        all.uncovered(),
        all.percent(),
        parts.join(",")
    )
}

fn list(files: &BTreeMap<String, Regions>) {
    let mut rows: Vec<_> = files.iter().filter(|(_, regions)| regions.uncovered() > 0).collect();
    rows.sort_by_key(|(_, regions)| core::cmp::Reverse(regions.uncovered()));
    for (name, regions) in rows {
        eprintln!("{:>5} of {:>5}  {name}", regions.uncovered(), regions.all);
    }
}

/// The uncovered regions that each crate may have.
fn read(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (name, count) = line.split_once(' ')?;
        Some((name.to_owned(), count.trim().parse().ok()?))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect()
}

/// Prints the ceiling: what was found, or what was allowed before where that is less.
fn print(crates: &BTreeMap<String, Regions>, before: &BTreeMap<String, u64>) -> String {
    let mut text = String::from(
        "# Regions of the pure crates that no committed input reaches; `cargo xtask coverage --write` lowers them, nothing raises\n\
         # them but a reviewed edit of this file.\n",
    );
    for (name, regions) in crates {
        let count = before.get(name).map_or(regions.uncovered(), |before| regions.uncovered().min(*before));
        text.push_str(&format!("{name} {count}\n"));
    }
    text
}

fn above(crates: &BTreeMap<String, Regions>, ceiling: &BTreeMap<String, u64>) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, regions) in crates {
        let allowed = ceiling.get(name).copied().unwrap_or(0);
        if regions.uncovered() > allowed {
            lines.push(format!(
                "contextvm-{name}: {} of {} regions are not reached by the corpora, {allowed} may be ({CEILING}); add inputs: \
                 `cargo xtask fuzz TARGET --pack`",
                regions.uncovered(),
                regions.all
            ));
        }
    }
    lines
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(uncovered: u64) -> BTreeMap<String, Regions> {
        BTreeMap::from([("core".to_owned(), Regions { all: 10, reached: 10 - uncovered })])
    }

    #[test]
    fn the_ceiling_may_only_fall() {
        let ceiling = read("# words\ncore 3\n");
        assert!(above(&some(3), &ceiling).is_empty());
        assert_eq!(above(&some(4), &ceiling).len(), 1);
        assert_eq!(above(&some(1), &BTreeMap::new()).len(), 1, "a new crate starts at none");
        assert_eq!(read(&print(&some(2), &ceiling))["core"], 2);
        assert_eq!(read(&print(&some(4), &ceiling))["core"], 3);
    }

    #[test]
    fn only_pure_crates_are_counted() {
        let file = |name: &str| serde_json::json!({"filename": format!("/x/crates/{name}"), "summary": {"regions": {"count": 4, "covered": 3}}});
        let report = serde_json::json!({"data": [{"files": [
            file("contextvm-core/src/scan.rs"), file("contextvm-core/src/a/b.rs"), file("contextvm-relay/src/lib.rs"),
        ]}]});
        let crates = by_crate(&regions(&report));
        assert_eq!(crates, BTreeMap::from([("core".to_owned(), Regions { all: 8, reached: 6 })]));
        assert!(to_json(&crates).contains(r#""percent":75.00"#));
    }
}
