//! Runs ranges of seeds on several threads, shrinks what fails, and shows replay files again.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool for developers")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use contextvm_sim::check::{Excuse, Figures, Tally};
use contextvm_sim::replay::{Crypto, Replay};
use contextvm_sim::run::{Report, run};
use contextvm_sim::shrink::shrink;
use contextvm_sim::world::{Scene, Setup, World};

const USAGE: &str = "\
usage: sim seeds [--from S] [--seeds N] [--calls N] [--hostile-relays | --days D] [--twice] [--threads N] [--out DIR]
                 [--judged PER_MILLE] [--answered PER_MILLE]
       sim replay FILE [--trace]";

/// Failing seeds that are shrunk; of the others only the numbers are told.
const SHRUNK: usize = 3;
/// A seed in which so many thousandths of the fair calls were answered counts as answered.
const ANSWERED: u64 = 850;
/// Seeds of a range whose traces are also summed up apart, to be compared with another process.
const FIRST: u64 = 100;
/// Worlds that are run to shrink one seed.
const SHRINK_RUNS: usize = 600;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["seeds", rest @ ..] => Range::parse(rest).and_then(|range| range.run()),
        ["replay", file] => replay(Path::new(file), false),
        ["replay", file, "--trace"] => replay(Path::new(file), true),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Which seeds are run, and how.
struct Range {
    from: u64,
    seeds: u64,
    setup: Setup,
    twice: bool,
    threads: usize,
    out: PathBuf,
    /// How many thousandths of the calls C6 has to judge, and of the seeds have to be answered.
    judged: u64,
    answered: u64,
}

impl Range {
    fn parse(mut words: &[&str]) -> Result<Self, String> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let out = PathBuf::from("target/sim-failures");
        let (setup, judged, answered) = (Setup::default(), 0, 0);
        let mut range = Self { from: 0, seeds: 1_000, setup, twice: false, threads, out, judged, answered };
        while let [word, rest @ ..] = words {
            words = rest;
            match *word {
                "--hostile-relays" => range.setup.scene = Scene::HostileRelays,
                "--calm" => range.setup.scene = Scene::Calm,
                "--twice" => range.twice = true,
                _ => {
                    let [value, rest @ ..] = words else { return Err(USAGE.to_owned()) };
                    words = rest;
                    range.set(word, value)?;
                }
            }
        }
        Ok(range)
    }

    fn set(&mut self, word: &str, value: &str) -> Result<(), String> {
        let number = || value.parse::<u64>().map_err(|_| format!("{word}: {value} is no number"));
        match word {
            "--from" => self.from = number()?,
            "--seeds" => self.seeds = number()?,
            "--calls" => self.setup.calls = number()?,
            "--days" => self.setup.scene = Scene::Days(number()?.try_into().map_err(|_| USAGE.to_owned())?),
            "--threads" => self.threads = usize::try_from(number()?).unwrap_or(1).max(1),
            "--judged" => self.judged = number()?,
            "--answered" => self.answered = number()?,
            "--out" => self.out = value.into(),
            _ => return Err(USAGE.to_owned()),
        }
        Ok(())
    }

    /// Runs every seed, says how it went on one line of JSON, and whether every promise was kept.
    fn run(&self) -> Result<bool, String> {
        // A panic in a world is a finding with a seed; its own words would only be in the way.
        std::panic::set_hook(Box::new(|_| {}));
        let started = Instant::now();
        let next = AtomicU64::new(0);
        let sum = Mutex::new(Sum::default());
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| self.tell(&next, &over, started));
            let workers: Vec<_> = (0..self.threads).map(|_| scope.spawn(|| self.work(&next, &sum))).collect();
            for worker in workers {
                drop(worker.join());
            }
            over.store(true, Ordering::Relaxed);
        });
        let mut sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
        sum.failed.sort_by_key(|report| report.seed);
        let files = self.shrink(&sum.failed)?;
        println!("{}", self.figures(&mut sum, started.elapsed(), &files));
        let weak = self.weak(&sum);
        for why in &weak {
            eprintln!("{why}");
        }
        Ok(sum.failed.is_empty() && sum.seeds == self.seeds && weak.is_empty())
    }

    /// Why the figures prove less than they should.
    fn weak(&self, sum: &Sum) -> Vec<String> {
        let mut weak = Vec::new();
        if sum.tally.issued == 0 && self.setup.calls > 0 {
            weak.push("no call was ever made".to_owned());
        }
        let (judged, all) = (sum.figures.judged, sum.looked_at());
        if judged * 1_000 < all * self.judged {
            weak.push(format!(
                "C6 judged {judged} of {all} calls, and should judge {} per mille",
                self.judged
            ));
        }
        if sum.answered * 1_000 < sum.seeds * self.answered {
            let (answered, seeds) = (sum.answered, sum.seeds);
            weak.push(format!(
                "{answered} of {seeds} seeds are answered, and should be {} per mille",
                self.answered
            ));
        }
        weak
    }

    fn work(&self, next: &AtomicU64, sum: &Mutex<Sum>) {
        loop {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            if nth >= self.seeds {
                return;
            }
            let begun = Instant::now();
            let report = run(self.from.wrapping_add(nth), &self.setup, self.twice);
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            sum.add(report, nth < FIRST, begun.elapsed());
        }
    }

    fn tell(&self, next: &AtomicU64, over: &AtomicBool, started: Instant) {
        let mut ticks = 0_u32;
        while !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(100));
            ticks += 1;
            if ticks.is_multiple_of(100) {
                let done = next.load(Ordering::Relaxed).min(self.seeds);
                eprintln!("{done} of {} seeds, {} s", self.seeds, started.elapsed().as_secs());
            }
        }
    }

    /// Shrinks the first failing seeds and writes their replay files.
    fn shrink(&self, failed: &[Report]) -> Result<Vec<String>, String> {
        let mut files = Vec::new();
        for report in failed.iter().take(SHRUNK) {
            eprintln!("seed {}:", report.seed);
            for violation in report.violations.iter().take(5) {
                eprintln!("  {violation}");
            }
            let Some(shrunk) = shrink(report.seed, &self.setup, SHRINK_RUNS) else {
                eprintln!("  it shows nothing any more: not even another trace");
                continue;
            };
            let file = self.out.join(format!("{}.replay", report.seed));
            std::fs::create_dir_all(&self.out)
                .and_then(|()| std::fs::write(&file, shrunk.replay.print()))
                .map_err(|error| format!("{}: {error}", file.display()))?;
            eprintln!(
                "  {} parts left out in {} runs: {}",
                shrunk.replay.setup.omit.len(),
                shrunk.runs,
                file.display()
            );
            files.push(file.display().to_string());
        }
        Ok(files)
    }

    fn figures(&self, sum: &mut Sum, took: Duration, files: &[String]) -> serde_json::Value {
        sum.took.sort_unstable();
        let at = |per_mille: usize| {
            let nth = (sum.took.len().saturating_sub(1)) * per_mille / 1_000;
            sum.took.get(nth).copied().unwrap_or_default().as_secs_f64() * 1_000.0
        };
        let Tally { issued, not_made, executed, answered, errors, lost, cancelled, orphaned } = sum.tally;
        let excused: BTreeMap<String, u64> = Excuse::ALL
            .iter()
            .map(|excuse| {
                let count = sum.figures.excused.get(excuse).copied().unwrap_or_default();
                (format!("calls_excused_{}", excuse.name()), count)
            })
            .collect();
        let of = |check: &str| sum.broken.get(check).copied().unwrap_or(0);
        let mut figures = serde_json::json!({
            "job": "sim",
            "crypto": Crypto::BUILT.name(),
            "from": self.from,
            "seeds": sum.seeds,
            "scene": format!("{:?}", self.setup.scene),
            "twice": self.twice,
            "calls_issued": issued,
            "calls_executed": executed,
            "calls_answered": answered,
            "calls_ended_by_error": errors,
            "calls_ended_without_word": lost,
            "calls_cancelled": cancelled,
            "calls_of_crashed_clients": orphaned,
            "calls_not_made": not_made,
            "pairs_armed": sum.figures.pairs_armed,
            "calls_judged_by_c6": sum.figures.judged,
            "calls_fair": sum.figures.fair,
            "calls_fair_answered": sum.figures.fair_answered,
            "seeds_answered_85": sum.answered,
            "latency_virtual_p50_ms": sum.figures.latency_ms(500),
            "latency_virtual_p99_ms": sum.figures.latency_ms(990),
            "latency_virtual_max_ms": sum.figures.latency_ms(1_000),
            "dropped": sum.dropped,
            "seeds_by_fault": sum.faults,
            "seeds_failed": sum.failed.len(),
            "seeds_lost_or_hung": of("C1") + of("C6"),
            "seeds_doubled": of("C2"),
            "seeds_misdelivered": of("C3") + of("C4") + of("C5"),
            "seeds_failed_by_check": sum.broken,
            "failed": sum.failed.iter().take(50).map(|report| report.seed).collect::<Vec<_>>(),
            "replay_files": files,
            "trace_sum": format!("{:016x}", sum.hash),
            "trace_sum_first": format!("{:016x}", sum.first),
            "steps": sum.steps,
            "virtual_s": sum.lasted / 1_000_000,
            "elapsed_s": took.as_secs_f64(),
            "threads": self.threads,
            "seed_p50_ms": at(500),
            "seed_p99_ms": at(990),
            "seed_max_ms": at(1_000),
        });
        if let Some(fields) = figures.as_object_mut() {
            fields.extend(excused.into_iter().map(|(name, count)| (name, count.into())));
        }
        figures
    }
}

/// What came of many seeds.
#[derive(Default)]
struct Sum {
    seeds: u64,
    tally: Tally,
    figures: Figures,
    dropped: BTreeMap<&'static str, u64>,
    /// Seeds in which each fault happened.
    faults: BTreeMap<&'static str, u64>,
    /// Seeds of whose fair calls enough were answered.
    answered: u64,
    failed: Vec<Report>,
    broken: BTreeMap<String, u64>,
    /// The same for the same seeds, in whatever order they ran.
    hash: u64,
    /// The same of the first seeds alone.
    first: u64,
    steps: u64,
    lasted: u64,
    took: Vec<Duration>,
}

impl Sum {
    /// Returns how many calls C6 looked at, whether it judged or excused them.
    fn looked_at(&self) -> u64 {
        self.figures.judged + self.figures.excused.values().sum::<u64>()
    }

    fn add(&mut self, report: Report, is_first: bool, took: Duration) {
        self.seeds += 1;
        self.tally.add(report.tally);
        self.figures.add(&report.figures);
        self.answered += u64::from(report.figures.is_answered(ANSWERED));
        for fault in report.faults.keys() {
            *self.faults.entry(fault).or_default() += 1;
        }
        for (reason, count) in &report.dropped {
            *self.dropped.entry(reason).or_default() += count;
        }
        let hash = report.hash.rotate_left((report.seed % 64) as u32);
        self.hash = self.hash.wrapping_add(hash);
        self.first = self.first.wrapping_add(if is_first { hash } else { 0 });
        self.steps += report.steps;
        self.lasted += report.lasted;
        self.took.push(took);
        if report.is_good() {
            return;
        }
        let checks: std::collections::BTreeSet<String> =
            report.violations.iter().map(|violation| format!("{:?}", violation.check)).collect();
        for check in checks {
            *self.broken.entry(check).or_default() += 1;
        }
        self.failed.push(report);
    }
}

/// Shows a replay file again.
fn replay(file: &Path, trace: bool) -> Result<bool, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let replay = Replay::parse(&text)
        .map_err(|wrong| format!("{}:{}: expected {}", file.display(), wrong.line, wrong.expected))?;
    let Replay { seed, mut setup, shows, crypto, draws, trace: written } = replay;
    if crypto != Crypto::BUILT {
        return Err(format!("{} needs {} cryptography", file.display(), crypto.name()));
    }
    let is_other = draws.is_some_and(|draws| draws != World::draws(seed, &setup));
    setup.keep = trace;
    let outcome = World::new(seed, setup).run();
    for entry in &outcome.trace.kept {
        println!("{:>12.6} {:?} {:?}", entry.at as f64 / 1_000_000.0, entry.host, entry.what);
    }
    let violations = outcome.trace.checks.violations();
    for violation in violations {
        println!("{violation}");
    }
    if violations.is_empty() && !shows.is_empty() {
        if is_other {
            println!(
                "this file belongs to other code, which draws another world from its seed; it once showed:"
            );
        } else {
            println!("nothing is broken any more; it once was:");
        }
        for line in shows {
            println!("  {line}");
        }
    }
    println!("trace {:016x}, {:?}", outcome.trace.hash, outcome.trace.checks.tally());
    if !is_other && written.is_some_and(|written| written != outcome.trace.hash) {
        println!("the file was written with another trace of the same world");
    }
    Ok(violations.is_empty())
}
