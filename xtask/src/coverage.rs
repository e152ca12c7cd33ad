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
/// Regions of them all that the corpora must reach, percent.
const LEAST_PERCENT: f64 = 90.0;
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
    let faults = faults(&crates, &before);
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Compares with the ceiling and tests the targets themselves: mutations of the seeds, what reading costs in memory.
///
/// Everything is built once, with counters. Without the tools for them everything is tested without, and what was skipped is
/// returned.
pub(crate) fn short() -> Result<Vec<String>, Vec<String>> {
    if tools().is_some() {
        run(&[])?;
        // The corpora have just been replayed.
        let mut tests =
            counted(&["test", "--quiet", "--lib"], &["--", "--skip", "_input_keeps_every_promise"]);
        // Counters of the tests would hide what the corpora do not reach.
        tests.env("LLVM_PROFILE_FILE", root().join(TARGET_DIR).join("tests.profraw"));
        return finish(&mut tests, "tests of the fuzz targets").map(|()| Vec::new());
    }
    let skipped = "coverage of the corpora (no llvm-tools; `rustup component add llvm-tools`)";
    eprintln!("skipped: {skipped}");
    let words =
        ["test", "--quiet", "--lib", "--manifest-path", "fuzz/Cargo.toml", "--target-dir", "target/fuzz"];
    finish(&mut command("cargo", &words), "tests of the fuzz targets")?;
    Ok(vec![skipped.to_owned()])
}

/// Cargo in the package of the fuzz targets, with counters in the code.
fn counted(words: &[&str], behind: &[&str]) -> std::process::Command {
    let place = ["--manifest-path", "fuzz/Cargo.toml", "--target", TRIPLE, "--target-dir", TARGET_DIR];
    let mut cargo = command("cargo", &[words, &place, behind].concat());
    // How code is split into units decides which copies of it are counted.
    cargo.env("CARGO_INCREMENTAL", "0").env("CARGO_ENCODED_RUSTFLAGS", "-Cinstrument-coverage");
    cargo
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
    finish(&mut counted(&["build", "--quiet", "--bin", "corpus"], &[]), "cargo build")?;
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
    if !output.status.success() {
        return Err(vec![format!("llvm-cov: {}", String::from_utf8_lossy(&output.stderr))]);
    }
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

/// Says which crates are above their ceiling or are not there, and whether enough was reached.
fn faults(crates: &BTreeMap<String, Regions>, ceiling: &BTreeMap<String, u64>) -> Vec<String> {
    let mut lines = Vec::new();
    let missing = PURE.iter().filter(|name| crates.get(**name).is_none_or(|regions| regions.all == 0));
    lines.extend(missing.map(|name| format!("contextvm-{name} is not in the report")));
    let percent = total(crates).percent();
    if percent < LEAST_PERCENT {
        lines.push(format!("{percent:.2} % of the regions are reached, {LEAST_PERCENT} must be"));
    }
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

    /// All pure crates with a thousand regions each, of which so many are missed in one.
    fn some(uncovered: u64) -> BTreeMap<String, Regions> {
        let regions =
            |name: &str| Regions { all: 1_000, reached: 1_000 - if name == "core" { uncovered } else { 0 } };
        PURE.iter().map(|name| ((*name).to_owned(), regions(name))).collect()
    }

    #[test]
    fn the_ceiling_may_only_fall() {
        let ceiling = read("# words\ncore 3\n");
        assert!(faults(&some(3), &ceiling).is_empty());
        assert_eq!(faults(&some(4), &ceiling).len(), 1);
        assert_eq!(faults(&some(1), &BTreeMap::new()).len(), 1, "a new crate starts at none");
        assert_eq!(read(&print(&some(2), &ceiling))["core"], 2);
        assert_eq!(read(&print(&some(4), &ceiling))["core"], 3);
    }

    #[test]
    fn a_report_without_a_crate_or_with_too_little_of_all_is_a_fault() {
        let ceiling = read("core 1000\n");
        assert_eq!(faults(&some(600), &ceiling), Vec::<String>::new());
        assert_eq!(faults(&some(601), &ceiling).len(), 1, "less than 90 %");
        let mut crates = some(0);
        crates.remove("engine");
        assert_eq!(faults(&crates, &ceiling).len(), 1);
        crates.insert("engine".to_owned(), Regions::default());
        assert_eq!(faults(&crates, &ceiling).len(), 1, "a crate without regions");
        assert_eq!(faults(&BTreeMap::new(), &ceiling).len(), PURE.len() + 1, "an empty report");
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
