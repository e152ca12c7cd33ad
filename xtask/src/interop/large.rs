//! Large messages (CEP-22) and streams (CEP-41) between ours and both existing SDKs, and what those cannot do even among themselves.
mod cvm;
mod figures;
mod tap;

use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use super::bridges::Needs;
use super::{CVM, Known, PEERS, Report, collect, known, split, twice};
use crate::process::Process;

/// Our programs with the tools and steps of these cells.
const OUR_SERVER: &[&str] = &["target/debug/examples/large_server"];
const OUR_CLIENT: &[&str] = &["target/debug/examples/large_client"];
/// Largest event that the relay takes, bytes: what most public relays take.
const MAX_EVENT: &str = "65536";
/// How long one step may take, milliseconds; the largest take ten seconds, and several times that on a busy machine.
const TIMEOUT: &str = "180000";
/// How long it may take when all steps of a run are known to fail.
const SOON: &str = "3000";
/// Cells that are played at the same time: much of each is waiting for what a relay says.
const AT_ONCE: usize = 3;

const REQUESTS: &[&str] = &["request-100KB", "request-1MiB", "request-8MiB"];
const ANSWERS: &[&str] = &["answer-100KB", "answer-1MiB", "answer-8MiB"];
const TRANSFERS: &[&str] =
    &["request-100KB", "request-1MiB", "request-8MiB", "answer-100KB", "answer-1MiB", "answer-8MiB"];
const STREAMS: &[&str] =
    &["stream", "stream-slow-reader", "stream-overrun", "stream-server-abort", "stream-client-abort"];
/// What a server that `cvm serve` starts does by itself.
const STREAMS_OF_A_CHILD: &[&str] = &["stream", "stream-server-abort", "stream-client-abort"];
const SILENCE: &[&str] = &["stream-silent-client", "stream-silent-server"];

/// What one client does against one server that it has for itself.
#[derive(Clone)]
struct Run {
    steps: Vec<&'static str>,
    /// Further options of both sides.
    options: &'static [&'static str],
}

/// What serves or calls in a cell.
#[derive(Clone, Copy)]
enum Side {
    /// A program that takes the options and speaks the lines of interop/README.md.
    Program(&'static [&'static str]),
    /// `cvm serve` or `cvm call`.
    Cvm,
}

/// One square of the matrix.
struct Cell {
    name: String,
    /// Who serves and who calls, as interop/known.json names them.
    sides: [&'static str; 2],
    server: Side,
    client: Side,
    wire: &'static str,
    /// Whether the client starts without `initialize`.
    stateless: bool,
    runs: Vec<Run>,
}

/// Whether any cell of these is wanted.
pub(super) fn wanted(wanted: impl Fn(&str) -> bool) -> bool {
    wanted(figures::NAME) || cells(&known().unwrap_or_default()).iter().any(|cell| wanted(&cell.name))
}

/// Plays every wanted cell that this machine has the programs for.
pub(super) fn play(has: &[Needs], wanted: impl Fn(&str) -> bool, report: &mut Report) {
    let known = match known() {
        Ok(known) => known,
        Err(lines) => return report.add("large messages", Err(lines)),
    };
    let has_node = has.contains(&Needs::Node);
    let can = |cell: &Cell| wanted(&cell.name) && (has_node || !cell.needs_node());
    let waiting = Mutex::new(cells(&known).into_iter().filter(can).rev().collect::<Vec<_>>());
    let shared = Mutex::new(&mut *report);
    let next = || waiting.lock().ok().and_then(|mut cells| cells.pop());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(cell) = next() {
                    let started = Instant::now();
                    let outcome = twice(&cell.name, cell.sides[1], || cell.play(&known));
                    let seconds = started.elapsed().as_secs_f32();
                    if let Ok(mut report) = shared.lock() {
                        report.add(&cell.name, outcome.map(|detail| format!("{seconds:.1} s  {detail}")));
                    }
                }
            });
        }
    });
    if has_node && wanted(figures::NAME) {
        report.add(figures::NAME, figures::print());
    }
}

/// All squares; those that take longest come first, so that none of them is alone at the end.
fn cells(known: &[Known]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for peer in PEERS.iter().rev() {
        let of = peer.known_as;
        let [server, client] = programs(of).map(Side::Program);
        let [our_server, our_client] = [OUR_SERVER, OUR_CLIENT].map(Side::Program);
        let pairs = [
            ("as server", [of, "ours"], server, our_client),
            ("as client", ["ours", of], our_server, client),
            ("with itself", [of; 2], server, client),
        ];
        for (role, sides, server, client) in pairs {
            // Ours takes nothing large of a caller whom it has never answered, unless that key is on its list.
            let is_welcome = |stateless: bool| !(stateless && sides[0] == "ours");
            for (what, wire, stateless, runs) in
                everything().into_iter().filter(|(.., stateless, _)| is_welcome(*stateless))
            {
                let name = format!("{} {role}, {what}", peer.name);
                cells.push(Cell { name, sides, server, client, wire, stateless, runs });
            }
        }
        // The TypeScript SDK of this release sends nothing large when it encrypts.
        let wire = if of == "ts" { "plain" } else { "persistent" };
        let pairs = [
            ("as server of cvm call", [of, "ours"], server, Side::Cvm),
            ("as client of cvm serve", ["ours", of], Side::Cvm, client),
        ];
        for (role, sides, server, client) in pairs {
            for (what, run) in
                [("large", run(TRANSFERS, &[])), ("streams", run(STREAMS_OF_A_CHILD, &["--streams"]))]
            {
                let name = format!("{} {role}, {wire}, {what}", peer.name);
                cells.push(Cell { name, sides, server, client, wire, stateless: false, runs: vec![run] });
            }
        }
    }
    for cell in &mut cells {
        if !cell.sides.contains(&"ours") {
            cell.keep_defects(known);
        }
    }
    cells.retain(|cell| !cell.runs.is_empty());
    cells
}

/// What every pair does: its name, the wire, whether the client starts without `initialize`, and the runs.
fn everything() -> Vec<(String, &'static str, bool, Vec<Run>)> {
    let [requests, answers] = [REQUESTS, ANSWERS].map(|steps| run(steps, &[]));
    // A second without a word, and then a second without an answer to a ping, are silence.
    let silence = run(SILENCE, &["--streams", "--idle", "1000"]);
    let mut all: Vec<_> = ["persistent", "ephemeral", "plain"]
        .map(|wire| (format!("{wire}, large"), wire, false, vec![requests.clone(), answers.clone()]))
        .into();
    all.push(("plain, large for a stranger".to_owned(), "plain", true, vec![run(&["request-1MiB"], &[])]));
    let beside = run(&["answer-beside-streams"], &["--streams"]);
    all.push(("plain, large beside streams".to_owned(), "plain", false, vec![beside]));
    all.push(("plain, streams".to_owned(), "plain", false, vec![run(STREAMS, &["--streams"])]));
    all.push(("plain, streams and silence".to_owned(), "plain", false, vec![silence]));
    all
}

fn run(steps: &[&'static str], options: &'static [&'static str]) -> Run {
    Run { steps: steps.to_vec(), options }
}

/// Server and client of a peer.
fn programs(known_as: &str) -> [&'static [&'static str]; 2] {
    match known_as {
        "ts" => [&["node", "interop/ts/server.mjs"], &["node", "interop/ts/large-client.mjs"]],
        _ => [&["interop/rs-sdk/target/debug/server"], &["interop/rs-sdk/target/debug/large"]],
    }
}

impl Cell {
    /// Whether one of its programs is one for Node: the TypeScript SDK, or the server behind `cvm serve`.
    fn needs_node(&self) -> bool {
        self.sides.contains(&"ts") || matches!(self.server, Side::Cvm)
    }

    /// What is known of this cell.
    fn known<'k>(&self, known: &'k [Known]) -> Vec<&'k Known> {
        let here = |known: &&Known| {
            let is_wire = known.wires.is_empty() || known.wires.iter().any(|wire| wire == self.wire);
            is_wire && known.concerns(self.sides, self.stateless)
        };
        known.iter().filter(here).collect()
    }

    /// Leaves nothing but steps that are known to fail: what peers can do among themselves needs no proof.
    fn keep_defects(&mut self, known: &[Known]) {
        let known = self.known(known);
        for run in &mut self.runs {
            run.steps.retain(|step| known.iter().any(|known| known.is_of(step)));
        }
        self.runs.retain(|run| !run.steps.is_empty());
    }

    /// Every step passes, or is known to fail and does.
    fn play(&self, known: &[Known]) -> Result<String, Vec<String>> {
        let known = self.known(known);
        let told: Result<Vec<String>, Vec<String>> =
            self.runs.iter().map(|run| self.play_run(run, &known)).collect();
        Ok(told?.join("; "))
    }

    fn play_run(&self, run: &Run, known: &[&Known]) -> Result<String, Vec<String>> {
        let mut relay = start_relay()?;
        let url = relay.text("url")?;
        let (_server, key) = match self.server {
            Side::Cvm => cvm::serve(&url, self.wire)?,
            Side::Program(server) => {
                let (program, first) = split(server)?;
                let args = [first, &["--relay", &url, "--wire", self.wire], run.options].concat();
                let mut server = Process::start(program, &args)?;
                let key = server.text("pubkey")?;
                (server, key)
            }
        };
        let Side::Program(client) = self.client else {
            return cvm::call(&key, &url, self.wire, !run.options.is_empty());
        };
        let hopeless = run.steps.iter().all(|step| known.iter().any(|known| known.is_of(step)));
        let timeout = if hopeless { SOON } else { TIMEOUT };
        let steps = run.steps.join(",");
        let (program, first) = split(client)?;
        let mut args = [first, &["--relay", &url, "--server", &key, "--wire", self.wire]].concat();
        args.extend(["--timeout", timeout, "--only", &steps]);
        args.extend(run.options);
        if self.stateless {
            args.push("--stateless");
        }
        collect(program, &args, known, true)
    }
}

/// Starts a relay with the limit of most public ones.
fn start_relay() -> Result<Process, Vec<String>> {
    Process::start(CVM, &["relay", "run", "--port", "0", "--json", "--max-event", MAX_EVENT])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_be_impossible_is_shown_without_us() {
        let known = known().unwrap();
        let cells = cells(&known);
        for cell in cells.iter().filter(|cell| cell.sides.contains(&"ours")) {
            let peer = cell.sides.iter().find(|side| **side != "ours").unwrap();
            for known in cell.known(&known) {
                for step in cell.runs.iter().flat_map(|run| &run.steps).filter(|step| known.is_of(step)) {
                    let shown =
                        cells.iter().filter(|shown| shown.sides == [*peer; 2] && shown.wire == cell.wire);
                    let shown = shown.filter(|shown| shown.stateless == cell.stateless);
                    let mut steps = shown.flat_map(|shown| &shown.runs).flat_map(|run| &run.steps);
                    assert!(steps.any(|shown| shown == step), "{}: {step}", cell.name);
                }
            }
        }
    }

    #[test]
    fn every_cell_has_a_name_of_its_own() {
        let mut names: Vec<String> = cells(&known().unwrap()).into_iter().map(|cell| cell.name).collect();
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(count >= 24, "{names:?}");
    }
}
