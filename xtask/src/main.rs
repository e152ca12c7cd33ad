//! Everything that can be run on this workspace beside cargo itself; CI calls only these.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool for developers")]

mod arch;
mod bench;
mod conformance;
mod interop;
mod large;
mod process;
mod rules;
mod shell;
mod source;
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
