//! Everything that can be run on this workspace beside cargo itself; CI calls only these.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool for developers")]

mod arch;
mod bench;
mod chaos;
mod conformance;
mod coverage;
mod examples;
mod figures;
mod flood;
mod fuzz;
mod hostile;
mod interop;
mod large;
mod malformed;
mod memory;
mod process;
mod replays;
mod rules;
mod secrets;
mod shell;
mod sim;
mod soak;
mod source;
mod steady;
mod test;
mod tidy;
mod tunnel;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  arch              check crates, edges, layers, dependencies and forbidden words against architecture.rules.toml
  tidy              check first lines, file sizes, glossary and limits table
  lint              rustfmt, clippy with warnings denied, documentation without warnings, cargo deny
  test [--no-skips] everything that shows the workspace works; parts that need Node or Python are skipped by name without it
  interop [FILTER]  both existing SDKs against ours, each as client and as server; existing MCP servers behind `cvm serve`,
                    driven by the official clients
  conformance [--spec REVISION] [--quick] [--child] [--across] [--cvm PATH]
                    MCP's own suite against a server, and against the same server through Nostr; without Node it is skipped
  large [--full]    large messages and long streams in a release build: what arrives through loss and disorder, events and bytes
                    on the wire, CPU and memory; `--full` moves 1 MiB x 50, 16 MiB x 2 and 100,000 chunks
  sim [--seeds N] [--from S] [--calls N] [--hostile-relays | --days D] [--twice] [--real-crypto] [--threads N]
                    clients, servers and relays in virtual time, one world per seed; every promise is checked from outside, and
                    what fails is shrunk to a replay file (docs/SIMULATION.md)
  replay FILE [--trace] [--real-crypto]
                    shows the world of a replay file again
  chaos [--kills N | --short]
                    kills relays with SIGKILL under 200 encrypted calls a second, 200 times in each of three arrangements: what
                    was lost, executed twice, how long it took to be served again, and what is left behind
  soak [--minutes N | --short]
                    300 encrypted calls a second for half an hour to a server with a store: errors, growth of memory (judged in runs
                    above 22 minutes), and how much slower it becomes
  secrets [--short] uses `cvm` in its main ways at the highest log level and searches everything it leaves for its key
  malformed [--short]
                    ten thousand malformed inputs against `cvm serve`, as stranger and as allowed caller, and against a client
  fuzz TARGET|all [--minutes N] [--executions N] [--asan] [--pack]
                    libFuzzer on the stable toolchain, a minute for each target unless more is said; `--pack` writes the packed
                    corpus anew (fuzz/README.md)
  coverage [--write | --files]
                    which regions of the pure crates the committed corpora reach, against the ceiling of fuzz/uncovered.txt;
                    needs `rustup component add llvm-tools`
  flood [--short]   300,000 gift wraps of as many keys by one relay, and what becomes of an honest caller on another one
  memory [--short]  keys, declared transfers, unread streams: what a server holds, and what becomes of callers that it knew
  replays [--short] signed requests sent again in every way there is, before and after a restart: what is executed
  bench [CALLS]     calls/s, latency, CPU per call and memory of server, client and relay, beside both existing SDKs and the
                    cost of the cryptography alone";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["arch"] => arch::run(),
        ["tidy"] => tidy::run(),
        ["lint"] => shell::lint(),
        ["test"] => test::run(false),
        ["test", "--no-skips"] => test::run(true),
        ["conformance", args @ ..] => conformance::run(args).map(drop),
        ["interop"] => interop::run(None).map(drop),
        ["interop", filter] => interop::run(Some(filter)).map(drop),
        ["large"] => large::run(false),
        ["large", "--full"] => large::run(true),
        ["fuzz", args @ ..] => fuzz::run(args),
        ["coverage", args @ ..] => coverage::run(args),
        ["flood"] => flood::run(false),
        ["flood", "--short"] => flood::run(true),
        ["malformed"] => malformed::run(false),
        ["malformed", "--short"] => malformed::run(true),
        ["memory"] => memory::run(false),
        ["memory", "--short"] => memory::run(true),
        ["replays"] => replays::run(false),
        ["replays", "--short"] => replays::run(true),
        ["chaos"] => chaos::run(false, None),
        ["chaos", "--short"] => chaos::run(true, None),
        ["chaos", "--kills", kills] => chaos::run(false, Some(kills)),
        ["soak"] => soak::run(false, None),
        ["soak", "--short"] => soak::run(true, None),
        ["soak", "--minutes", minutes] => soak::run(false, Some(minutes)),
        ["secrets"] => secrets::run(false).map(drop),
        ["secrets", "--short"] => secrets::run(true).map(drop),
        ["sim", "--short"] => sim::short(),
        ["sim", args @ ..] => sim::run(args),
        ["replay", args @ ..] => sim::replay(args),
        ["bench"] => bench::run(None),
        ["bench", calls] => bench::run(Some(calls)),
        _ => Err(vec![USAGE.to_owned()]),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(lines) => {
            for line in lines {
                eprintln!("{line}");
            }
            ExitCode::FAILURE
        }
    }
}
