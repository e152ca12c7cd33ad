//! Everything that can be run on this workspace beside cargo itself; CI calls only these.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool for developers")]

mod arch;
mod bench;
mod interop;
mod process;
mod rules;
mod shell;
mod source;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  arch              check crates, edges, layers, dependencies and forbidden words against architecture.rules.toml
  tidy              check first lines, file sizes, glossary and limits table
  lint              rustfmt, clippy with warnings denied, documentation without warnings, cargo deny
  test [--no-skips] everything that shows the workspace works; parts that need Node are skipped by name without it
  interop [FILTER]  both existing SDKs against ours, each as client and as server, and the official MCP client
  bench [SECONDS]   calls/s, latency, CPU per call and memory of server, client and relay, beside the cost of the cryptography";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["arch"] => arch::run(),
        ["tidy"] => tidy::run(),
        ["lint"] => shell::lint(),
        ["test"] => test::run(false),
        ["test", "--no-skips"] => test::run(true),
        ["interop"] => interop::run(None),
        ["interop", filter] => interop::run(Some(filter)),
        ["bench"] => bench::run(None),
        ["bench", seconds] => bench::run(Some(seconds)),
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
