//! Fuzzing with libFuzzer on the stable toolchain: one target or all in turn, their corpora packed, one JSON line each.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use crate::shell::{Outcome, command, finish, root};

const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// What the compiler adds for libFuzzer; comparisons are not traced, which doubles the speed. The last two give a quarter.
const FLAGS: [&str; 9] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=3",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cdebug-assertions",
    "-Coverflow-checks",
    "-Ccodegen-units=1",
    "-Ctarget-cpu=native",
];
/// Inputs that are kept of one target at most.
const MOST_INPUTS: usize = 3_000;
/// How long the inputs of a parser are, and those of a machine, bytes.
const PARSER: u64 = 512;
const MACHINE: u64 = 1_024;
/// Targets that read a list of operations.
const MACHINES: [&str; 7] = [
    "client_engine",
    "server_engine",
    "transfer_receiver",
    "stream_pair",
    "gate",
    "announcer",
    "whole_system",
];

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted<'a> {
    target: &'a str,
    seconds: u64,
    executions: Option<u64>,
    asan: bool,
    pack: bool,
}

impl<'a> Wanted<'a> {
    fn read(args: &[&'a str]) -> Result<Self, Vec<String>> {
        let usage = || {
            vec!["usage: cargo xtask fuzz TARGET|all [--minutes N] [--executions N] [--asan] [--pack]".into()]
        };
        let (target, mut rest) = args.split_first().ok_or_else(usage)?;
        let mut wanted = Self { target, seconds: 60, executions: None, asan: false, pack: false };
        while let Some((option, behind)) = rest.split_first() {
            rest = behind;
            match *option {
                "--asan" => wanted.asan = true,
                "--pack" => wanted.pack = true,
                "--minutes" | "--executions" => {
                    let (number, behind) = rest.split_first().ok_or_else(usage)?;
                    rest = behind;
                    let number: u64 = number.parse().map_err(|_| usage())?;
                    // To libFuzzer none of either means without end.
                    if number == 0 {
                        return Err(usage());
                    }
                    if *option == "--minutes" {
                        wanted.seconds = number.saturating_mul(60);
                    } else {
                        (wanted.executions, wanted.seconds) = (Some(number), 0);
                    }
                }
                _ => return Err(usage()),
            }
        }
        Ok(wanted)
    }
}

/// Builds the targets, runs each for a while, and prints what was found; findings lie in `fuzz/artifacts`.
///
/// What a run adds stays in `fuzz/scratch`; with `pack` the packed corpus is written anew, minimised.
pub(crate) fn run(args: &[&str]) -> Outcome {
    let wanted = Wanted::read(args)?;
    let all = names()?;
    let targets: Vec<&str> =
        all.iter().map(String::as_str).filter(|name| [name, "all"].contains(&wanted.target)).collect();
    if targets.is_empty() {
        return Err(vec![format!("no target {}; there are {}", wanted.target, all.join(", "))]);
    }
    build(&targets, wanted.asan)?;
    let mut found = Vec::new();
    for target in targets {
        let line = fuzz(target, &wanted)?;
        found.extend((line.findings > 0).then(|| format!("{target}: see fuzz/artifacts/{target}")));
        println!("{}", line.to_json(target));
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}

/// The targets, as the replaying program knows them.
fn names() -> Result<Vec<String>, Vec<String>> {
    let output = corpus(&["names"]).output().map_err(|error| vec![format!("cargo: {error}")])?;
    if !output.status.success() {
        return Err(vec![format!("corpus names: {}", String::from_utf8_lossy(&output.stderr))]);
    }
    let names = String::from_utf8_lossy(&output.stdout);
    Ok(names.lines().map(str::to_owned).collect())
}

/// The program that packs and replays corpora, built without a fuzzer.
fn corpus(args: &[&str]) -> std::process::Command {
    let build = ["run", "--quiet", "--manifest-path", "fuzz/Cargo.toml", "--target-dir", "target/fuzz"];
    command("cargo", &[&build[..], &["--bin", "corpus", "--"], args].concat())
}

fn build(targets: &[&str], asan: bool) -> Outcome {
    let mut args = vec!["build", "--release", "--manifest-path", "fuzz/Cargo.toml", "--target", TRIPLE];
    args.extend(["--target-dir", target_dir(asan)]);
    args.extend(targets.iter().flat_map(|target| ["--bin", *target]));
    let mut flags = FLAGS.to_vec();
    // Curves cost more than all the rest, and hide what lies behind a signature; with them only memory is looked at.
    flags.extend(if asan {
        ["-Zsanitizer=address", "-Cpanic=unwind"]
    } else {
        ["--cfg=contextvm_fake_crypto", "-Cpanic=abort"]
    });
    let mut cargo = command("cargo", &args);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}")).env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    if asan {
        cargo.env("RUSTC_BOOTSTRAP", "1");
    }
    finish(&mut cargo, "cargo build")
}

const fn target_dir(asan: bool) -> &'static str {
    if asan { "target/fuzz-asan" } else { "target/fuzz-run" }
}

/// What one run came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Line {
    executions: u64,
    seconds: u64,
    findings: usize,
    corpus: usize,
    packed: usize,
}

impl Line {
    fn to_json(&self, target: &str) -> String {
        let Self { executions, seconds, findings, corpus, packed } = self;
        format!(
            "{{\"target\":\"{target}\",\"executions\":{executions},\"seconds\":{seconds},\"exec_s\":{},\
             \"findings\":{findings},\"corpus\":{corpus},\"packed\":{packed}}}",
            executions / seconds.max(&1)
        )
    }
}

fn fuzz(target: &str, wanted: &Wanted<'_>) -> Result<Line, Vec<String>> {
    let program = root().join(target_dir(wanted.asan)).join(TRIPLE).join("release").join(target);
    let (scratch, artifacts) = (folder("scratch", target)?, folder("artifacts", target)?);
    finish(corpus(&["unpack", target, &text(&scratch)]).stdout(Stdio::null()), "corpus unpack")?;
    let mut args = vec![
        format!("-max_len={}", longest(target)),
        "-timeout=20".to_owned(),
        "-print_final_stats=1".to_owned(),
        format!("-artifact_prefix={}/", artifacts.display()),
        format!("-max_total_time={}", wanted.seconds),
        format!("-runs={}", wanted.executions.map_or(-1, |runs| i64::try_from(runs).unwrap_or(-1))),
    ];
    let dictionary = root().join("fuzz/dictionaries").join(format!("{target}.dict"));
    args.extend(dictionary.is_file().then(|| format!("-dict={}", dictionary.display())));
    args.push(text(&scratch));
    let seeds = root().join("fuzz/corpus").join(target);
    args.extend(seeds.is_dir().then(|| text(&seeds)));
    let before = count(&artifacts);
    let begun = Instant::now();
    let (ended_well, output) = libfuzzer(&program, &args)?;
    let mut line = Line {
        executions: stat(&output, "number_of_executed_units"),
        seconds: begun.elapsed().as_secs(),
        // An input that was found before is written under the same name.
        findings: count(&artifacts).saturating_sub(before).max(usize::from(!ended_well)),
        corpus: count(&scratch),
        packed: 0,
    };
    let least = wanted.executions.unwrap_or(1);
    if line.executions < least && line.findings == 0 {
        return Err(vec![format!("{target}: {} executions of {least}", line.executions), output]);
    }
    if wanted.pack {
        line.packed = pack(target, &program, &scratch)?;
    }
    Ok(line)
}

/// Writes the packed corpus: what is left of everything when nothing in it is said twice.
fn pack(target: &str, program: &Path, scratch: &Path) -> Result<usize, Vec<String>> {
    let merged = folder("scratch", &format!("{target}.merged"))?;
    let wrong = |error: std::io::Error| vec![format!("{}: {error}", merged.display())];
    fs::remove_dir_all(&merged).and_then(|()| fs::create_dir_all(&merged)).map_err(wrong)?;
    let args =
        vec![format!("-max_len={}", longest(target)), "-merge=1".to_owned(), text(&merged), text(scratch)];
    if let (false, output) = libfuzzer(program, &args)? {
        return Err(vec![format!("{target}: the corpus could not be merged"), output]);
    }
    let mut files: Vec<PathBuf> =
        fs::read_dir(&merged).map_err(wrong)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    // Each of them reaches something that the others do not; the longest cost the most and go first.
    files.sort_by_key(|file| (fs::metadata(file).map_or(0, |about| about.len()), file.clone()));
    for file in files.iter().skip(MOST_INPUTS) {
        fs::remove_file(file).map_err(wrong)?;
    }
    finish(corpus(&["pack", target, &text(&merged)]).stdout(Stdio::null()), "corpus pack")?;
    Ok(files.len().min(MOST_INPUTS))
}

/// Runs libFuzzer and returns whether it ended well, and what it said; that it found something is no error here.
fn libfuzzer(program: &Path, args: &[String]) -> Result<(bool, String), Vec<String>> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = command(&text(program), &words).stdin(Stdio::null()).output();
    let output = output.map_err(|error| vec![format!("{}: {error}", program.display())])?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn longest(target: &str) -> u64 {
    if MACHINES.contains(&target) { MACHINE } else { PARSER }
}

fn stat(output: &str, name: &str) -> u64 {
    let stats: BTreeMap<&str, &str> =
        output.lines().filter_map(|line| line.strip_prefix("stat::")?.split_once(':')).collect();
    stats.get(name).and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

fn folder(kind: &str, target: &str) -> Result<PathBuf, Vec<String>> {
    let folder = root().join("fuzz").join(kind).join(target);
    fs::create_dir_all(&folder).map_err(|error| vec![format!("{}: {error}", folder.display())])?;
    Ok(folder)
}

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_read() {
        let wanted = Wanted::read(&["scan", "--minutes", "2", "--pack"]).unwrap();
        assert_eq!((wanted.target, wanted.seconds, wanted.pack, wanted.asan), ("scan", 120, true, false));
        let wanted = Wanted::read(&["all", "--executions", "1000", "--asan"]).unwrap();
        assert_eq!((wanted.executions, wanted.seconds, wanted.asan), (Some(1_000), 0, true));
        for wrong in [
            &[][..],
            &["scan", "--minutes"],
            &["scan", "--minutes", "x"],
            &["scan", "--minutes", "0"],
            &["scan", "fast"],
        ] {
            assert!(Wanted::read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn figures_are_taken_from_what_libfuzzer_says() {
        let said = "#9 DONE\nstat::number_of_executed_units: 5584488\nstat::peak_rss_mb:  33\n";
        assert_eq!((stat(said, "number_of_executed_units"), stat(said, "other")), (5_584_488, 0));
        let line = Line { executions: 100, seconds: 8, findings: 1, corpus: 7, packed: 3 };
        let json: serde_json::Value = serde_json::from_str(&line.to_json("scan")).unwrap();
        assert_eq!((json["exec_s"].as_u64(), json["findings"].as_u64()), (Some(12), Some(1)));
    }
}
