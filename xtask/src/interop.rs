//! Both existing SDKs against ours, each as client and as server, and existing servers and clients at both ends of a tunnel.
mod bridges;
mod finding;
mod large;

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;

use self::bridges::Needs;
use crate::conformance::prepare_server;
use crate::process::Process;
use crate::shell::{Outcome, command, present, root, run as run_program};

/// The other implementations, and how their programs are started.
const PEERS: [Peer; 2] = [
    Peer {
        name: "ts-sdk",
        known_as: "ts",
        server: &["node", "interop/ts/server.mjs"],
        client: &["node", "interop/ts/client.mjs"],
    },
    Peer {
        name: "rs-sdk",
        known_as: "rs",
        server: &["interop/rs-sdk/target/debug/server"],
        client: &["interop/rs-sdk/target/debug/client"],
    },
];
const OUR_SERVER: &[&str] = &["target/debug/examples/interop_server"];
const OUR_CLIENT: &[&str] = &["target/debug/examples/interop_client"];
const RELAY: &str = "target/debug/examples/relay";
const CVM: &str = "target/debug/cvm";
const VENV: &str = "target/interop/python";
const REQUIREMENTS: &str = "interop/python/requirements.txt";
/// How long a step may take, milliseconds; steps that fail for a known reason take all of it.
const TIMEOUT: &str = "6000";
const WIRES: [&str; 3] = ["plain", "persistent", "ephemeral"];
/// Keys of the cells that need a known caller; they guard nothing.
const CALLER_KEY: &str = "2222222222222222222222222222222222222222222222222222222222222222";
const CALLER: &str = "466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f27";
const SERVER_KEY: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const SERVER: &str = "4f355bdcb7cc0af728ef3cceb9615d90684bb5b2ca5f859ab0f0b704075871aa";

struct Peer {
    name: &'static str,
    known_as: &'static str,
    server: &'static [&'static str],
    client: &'static [&'static str],
}

/// One square of the matrix.
struct Cell<'a> {
    name: String,
    /// Who serves and who calls, as interop/known.json names them.
    sides: [&'a str; 2],
    server: &'a [&'a str],
    client: &'a [&'a str],
    wire: &'a str,
    kind: Kind,
}

/// What a cell shows.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// All steps, with `initialize`.
    Stateful,
    /// All steps, without `initialize` (CEP-35).
    Stateless,
    /// A key that is not on the allow-list hears nothing; one that is on it is served.
    AllowList,
    /// The client starts anew, with the same key, while the server lives.
    ClientRestart,
    /// The server starts anew, with the same key, in the middle of a client's life.
    ServerRestart,
}

/// What became of the cells.
#[derive(Default)]
struct Report {
    passed: usize,
    failed: Vec<String>,
}

impl Report {
    fn add(&mut self, name: &str, outcome: Result<String, Vec<String>>) {
        match outcome {
            Ok(detail) => {
                self.passed += 1;
                println!("ok    {name}  {detail}");
            }
            Err(lines) => {
                println!("FAIL  {name}");
                self.failed.extend(lines.into_iter().map(|line| format!("{name}: {line}")));
            }
        }
    }
}

/// Runs every cell whose name contains `filter`, as far as this machine has what it needs; returns what it lacks.
pub(crate) fn run(filter: Option<&str>) -> Result<Vec<String>, Vec<String>> {
    let wanted = |name: &str| filter.is_none_or(|filter| name.contains(filter));
    let mut skipped = Vec::new();
    let mut has = Vec::new();
    if has_node() {
        has.push(Needs::Node);
    } else {
        skipped.push(
            "interop with @contextvm/sdk, the official TypeScript client and servers (no node and npm)"
                .to_owned(),
        );
    }
    if has_python() {
        has.push(Needs::Python);
    } else {
        skipped.push(
            "interop with the official Python client and server (no python3 with venv, 3.10 or later)"
                .to_owned(),
        );
    }
    let has_peer = |cell: &Cell<'_>| has.contains(&Needs::Node) || !cell.name.starts_with("ts-sdk");
    let cells: Vec<Cell<'_>> =
        matrix().into_iter().filter(|cell| wanted(&cell.name) && has_peer(cell)).collect();
    let bridges = bridges::wanted(wanted);
    let finding = has.contains(&Needs::Node) && finding::wanted(wanted);
    let large = large::wanted(wanted);
    prepare(&cells, [bridges, finding, large], &has)?;
    let mut relay = Process::start(RELAY, &[])?;
    let url = relay.text("url")?;
    let mut report = Report::default();
    for cell in &cells {
        let started = Instant::now();
        let outcome = twice(&cell.name, cell.sides[1], || play(cell, &url));
        let seconds = started.elapsed().as_secs_f32();
        report.add(&cell.name, outcome.map(|detail| format!("{seconds:.1} s  {detail}")));
    }
    if bridges {
        bridges::play(&url, &has, wanted, &mut report);
    }
    if finding {
        finding::play(wanted, &mut report);
    }
    if large {
        large::play(&has, wanted, &mut report);
    }
    println!("interop: {} cells passed, {} failed", report.passed, report.failed.len());
    for part in &skipped {
        println!("skipped: {part}");
    }
    if report.passed == 0 && report.failed.is_empty() && skipped.is_empty() {
        return Err(vec!["interop: no cell has such a name".to_owned()]);
    }
    if report.failed.is_empty() { Ok(skipped) } else { Err(report.failed) }
}

/// Plays a cell, and once more if the Rust SDK calls and does not connect: 0.2.2 listens only once a task of its own has
/// begun, and what is answered before that is lost (docs/KNOWN-ISSUES.md). What failed first is shown.
fn twice(
    name: &str,
    client: &str,
    play: impl Fn() -> Result<String, Vec<String>>,
) -> Result<String, Vec<String>> {
    play().or_else(|first| {
        if client != "rs" || !first.iter().any(|line| line.starts_with("connect ")) {
            return Err(first);
        }
        println!("again {name}: {}", first.join("; "));
        play()
    })
}

fn matrix() -> Vec<Cell<'static>> {
    let mut cells = Vec::new();
    for peer in &PEERS {
        let roles = [
            ("client", OUR_SERVER, peer.client, ["ours", peer.known_as]),
            ("server", peer.server, OUR_CLIENT, [peer.known_as, "ours"]),
        ];
        for (role, server, client, sides) in roles {
            for wire in WIRES {
                for (label, kind) in [("stateful", Kind::Stateful), ("stateless", Kind::Stateless)] {
                    let name = format!("{} as {role}, {wire}, {label}", peer.name);
                    cells.push(Cell { name, sides, server, client, wire, kind });
                }
            }
            for (label, kind) in [
                ("allow-list", Kind::AllowList),
                ("client restarts", Kind::ClientRestart),
                ("server restarts", Kind::ServerRestart),
            ] {
                let name = format!("{} as {role}, {label}", peer.name);
                cells.push(Cell { name, sides, server, client, wire: "ephemeral", kind });
            }
        }
    }
    cells
}

/// Builds and installs what the cells start.
fn prepare(cells: &[Cell<'_>], [bridges, finding, large]: [bool; 3], has: &[Needs]) -> Outcome {
    let packages =
        ["-p", "contextvm-local-relay", "-p", "contextvm-cli", "-p", "contextvm", "-p", "contextvm-announce"];
    let programs = ["--bin", "cvm", "--example", "relay", "--example", "interop_server"];
    let more = ["--example", "interop_client", "--example", "schemas"];
    let last = ["--example", "large_server", "--example", "large_client"];
    run_program("cargo", &[&["build", "--quiet"], packages.as_slice(), &programs, &more, &last].concat())?;
    let wants = |peer: &str| cells.iter().any(|cell| cell.name.starts_with(peer));
    if wants("rs-sdk") || finding || large {
        prepare_rs(false)?;
    }
    if wants("ts-sdk") || finding || ((bridges || large) && has.contains(&Needs::Node)) {
        prepare_ts()?;
    }
    if bridges && has.contains(&Needs::Python) {
        prepare_python()?;
    }
    if bridges { prepare_server() } else { Ok(()) }
}

/// Installs what the TypeScript programs need, unless it is there.
pub(crate) fn prepare_ts() -> Outcome {
    let written = |path: &str| fs::metadata(root().join(path)).and_then(|file| file.modified()).ok();
    if written("interop/ts/node_modules/.package-lock.json") >= written("interop/ts/package-lock.json") {
        return Ok(());
    }
    run_program("npm", &["ci", "--prefix", "interop/ts", "--no-audit", "--no-fund", "--silent"])
}

/// Installs the official Python SDK, unless it is there.
fn prepare_python() -> Outcome {
    let wanted = fs::read_to_string(root().join(REQUIREMENTS)).map_err(|error| vec![error.to_string()])?;
    let installed = root().join(VENV).join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    run_program("python3", &["-m", "venv", "--clear", VENV])?;
    run_program(bridges::PYTHON, &["-m", "pip", "install", "--quiet", "--requirement", REQUIREMENTS])?;
    fs::write(&installed, wanted).map_err(|error| vec![format!("{}: {error}", installed.display())])
}

/// Builds the programs on the existing Rust SDK.
pub(crate) fn prepare_rs(release: bool) -> Outcome {
    let mut args = vec!["build", "--quiet", "--locked", "--manifest-path", "interop/rs-sdk/Cargo.toml"];
    if release {
        args.push("--release");
    }
    run_program("cargo", &args)
}

fn play(cell: &Cell<'_>, url: &str) -> Result<String, Vec<String>> {
    match cell.kind {
        Kind::Stateful => with_server(cell, url, &[], |key| steps(cell, url, key, &[])),
        Kind::Stateless => with_server(cell, url, &[], |key| steps(cell, url, key, &["--stateless"])),
        Kind::AllowList => with_server(cell, url, &["--allow", CALLER], |key| {
            steps(cell, url, key, &["--key", CALLER_KEY, "--only", "list,call"])?;
            match steps(cell, url, key, &["--only", "list", "--timeout", "2000"]) {
                Ok(_) => Err(vec!["a key that is not on the list was served".to_owned()]),
                Err(_) => Ok("listed key served, other key unheard".to_owned()),
            }
        }),
        Kind::ClientRestart => with_server(cell, url, &[], |key| {
            steps(cell, url, key, &["--key", CALLER_KEY, "--only", "list,call"])?;
            steps(cell, url, key, &["--key", CALLER_KEY, "--only", "list,call,progress"])
        }),
        Kind::ServerRestart => server_restarts(cell, url),
    }
}

/// The server dies and starts anew, with the same key, while the client lives and goes on calling.
fn server_restarts(cell: &Cell<'_>, url: &str) -> Result<String, Vec<String>> {
    let mut server = start_server(cell, url, &["--key", SERVER_KEY])?;
    server.text("pubkey")?;
    let (program, first) = split(cell.client)?;
    let mut args = first.to_vec();
    args.extend(["--relay", url, "--server", SERVER, "--wire", cell.wire, "--timeout", TIMEOUT]);
    args.extend(["--only", "list,call,hold,large,parallel,ping"]);
    let mut client = Process::start(program, &args)?;
    let mut after = 0_usize;
    let mut held = false;
    loop {
        let line = client.line()?;
        match step(&line) {
            _ if line.get("ok") != Some(&Value::Bool(true)) => return Err(vec![missed(&line)]),
            "hold" => {
                drop(server);
                server = start_server(cell, url, &["--key", SERVER_KEY])?;
                server.text("pubkey")?;
                held = true;
                client.say("go on")?;
            }
            "done" if held && after == 3 => return Ok("3 steps before, 3 steps after".to_owned()),
            "done" => return Err(vec![format!("{after} steps after the restart")]),
            _ => after += usize::from(held),
        }
    }
}

fn start_server(cell: &Cell<'_>, url: &str, more: &[&str]) -> Result<Process, Vec<String>> {
    let (program, first) = split(cell.server)?;
    let mut args = first.to_vec();
    args.extend(["--relay", url, "--wire", cell.wire]);
    args.extend(more);
    Process::start(program, &args)
}

/// Runs `body` with the server's key while the server lives.
fn with_server(
    cell: &Cell<'_>,
    url: &str,
    more: &[&str],
    body: impl FnOnce(&str) -> Result<String, Vec<String>>,
) -> Result<String, Vec<String>> {
    let mut server = start_server(cell, url, more)?;
    let key = server.text("pubkey")?;
    body(&key)
}

/// Runs one client to its end; every step that it prints must be ok, or known to fail for a reason of the peer's.
fn steps(cell: &Cell<'_>, url: &str, key: &str, more: &[&str]) -> Result<String, Vec<String>> {
    let (program, first) = split(cell.client)?;
    let mut args = first.to_vec();
    args.extend(["--relay", url, "--server", key, "--wire", cell.wire, "--timeout", TIMEOUT]);
    args.extend(more);
    let stateless = cell.kind == Kind::Stateless;
    let known = known()?;
    let known: Vec<&Known> = known.iter().filter(|known| known.concerns(cell.sides, stateless)).collect();
    collect(program, &args, &known, false)
}

/// A step that a peer's own defect makes fail.
#[derive(Debug, serde::Deserialize)]
struct Known {
    server: String,
    client: String,
    stateless: Option<bool>,
    /// All of them where none is named.
    #[serde(default)]
    wires: Vec<String>,
    step: String,
    reason: String,
}

impl Known {
    fn concerns(&self, [server, client]: [&str; 2], stateless: bool) -> bool {
        let is = |pattern: &str, name: &str| pattern == "*" || name.starts_with(pattern);
        is(&self.server, server)
            && is(&self.client, client)
            && self.stateless.is_none_or(|state| state == stateless)
    }

    /// Whether it is this step, or one of those that `*` stands for.
    fn is_of(&self, step: &str) -> bool {
        match self.step.strip_suffix('*') {
            Some(opening) => step.starts_with(opening),
            None => self.step == step,
        }
    }
}

fn known() -> Result<Vec<Known>, Vec<String>> {
    let text = std::fs::read_to_string(root().join("interop/known.json"))
        .map_err(|error| vec![error.to_string()])?;
    serde_json::from_str(&text).map_err(|error| vec![format!("interop/known.json: {error}")])
}

fn split<'a>(words: &'a [&'a str]) -> Result<(&'a str, &'a [&'a str]), Vec<String>> {
    words.split_first().map(|(program, args)| (*program, args)).ok_or_else(|| vec!["no program".to_owned()])
}

/// Reads the JSON lines of one program and counts its steps; with `surely`, those that are known to fail must do so.
fn collect(program: &str, args: &[&str], known: &[&Known], surely: bool) -> Result<String, Vec<String>> {
    let output = command(program, args)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| vec![format!("{program}: {error}")])?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let Some((last, steps)) = lines.split_last().filter(|(last, _)| step(last) == "done") else {
        return Err(vec![format!("ended early: {}", output.status)]);
    };
    let (passed, others): (Vec<&Value>, Vec<&Value>) =
        steps.iter().partition(|line| line.get("ok") == Some(&Value::Bool(true)));
    let reason =
        |line: &Value| known.iter().find(|known| known.is_of(step(line))).map(|known| known.reason.as_str());
    let mut failed: Vec<String> =
        others.iter().filter(|line| reason(line).is_none()).map(|line| missed(line)).collect();
    let passed = passed.iter().filter(|line| surely && reason(line).is_some());
    failed.extend(passed.map(|line| format!("{} passes: interop/known.json is out of date", step(line))));
    if !failed.is_empty() {
        return Err(failed);
    }
    let mut excused: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in others {
        excused.entry(reason(line).unwrap_or_default()).or_default().push(step(line));
    }
    let excused: Vec<String> = excused
        .iter()
        .map(|(reason, steps)| {
            let verb = if steps.len() == 1 { "fails" } else { "fail" };
            format!("\n        {} {verb}: {reason}", steps.join(", "))
        })
        .collect();
    let ran = last.pointer("/detail/ran").and_then(Value::as_u64).unwrap_or_default();
    if ran == 0 {
        return Err(vec!["no step ran".to_owned()]);
    }
    Ok(format!("{ran} steps{}", excused.concat()))
}

/// Returns the name of the step that a client's line is about.
fn step(line: &Value) -> &str {
    line.get("step").and_then(Value::as_str).unwrap_or("")
}

/// Says what became of a step that failed.
fn missed(line: &Value) -> String {
    format!("{} {}", step(line), line["detail"])
}

/// Whether the TypeScript programs can run here.
pub(crate) fn has_node() -> bool {
    present("node", &["--version"]) && present("npm", &["--version"])
}

/// Whether the Python programs can be installed here.
fn has_python() -> bool {
    present("python3", &["-c", "import ensurepip, sys, venv; assert sys.version_info >= (3, 10)"])
}

/// Makes a path below the root of the workspace absolute.
fn absolute(path: &str) -> String {
    root().join(path).display().to_string()
}
