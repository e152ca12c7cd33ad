//! MCP's official conformance suite against a server directly, and against the same server through Nostr: no check may be lost.
mod checks;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use crate::interop::has_node;
use crate::process::Process;
use crate::shell::{Outcome, command, root, run as run_program};
use crate::tunnel::Nostr;
use checks::Run;

const REVISIONS: [&str; 2] = ["2025-11-25", "2026-07-28"];
/// Everything that is built, installed and found; nothing of it is kept.
const WORK: &str = "target/conformance";
const LOG: &str = "target/conformance/log";
const PROGRAMS: &str = "interop/conformance";
/// Read by the programs in `WORK`, where the packages are.
const FILES: [&str; 5] = ["package.json", "package-lock.json", "client.mjs", "server.mjs", "fixtures.json"];
const NODE: &str = "target/conformance/npm/node_modules/.bin/node";
const SUITE: &str = "target/conformance/npm/node_modules/@modelcontextprotocol/conformance/dist/index.js";
const ONE_ERA: &str = "interop/conformance/one_era.mjs";
const CLIENT: &str = "target/conformance/npm/client.mjs";
const SERVERS: [Server; 2] = [
    Server {
        name: "rmcp",
        program: "target/conformance/server/debug/contextvm-conformance-server",
        args: &[],
        child: &["stdio"],
        tasks: true,
    },
    Server {
        name: "typescript",
        program: NODE,
        args: &["target/conformance/npm/server.mjs"],
        child: &[],
        tasks: false,
    },
];
const CVM: &str = "target/debug/cvm";
/// Scenarios that `--across` excuses, by the beginning of their names. Most of their checks call tools of our server that ask with
/// requests in 2025-11-25 and with `input_required` in 2026-07-28, each only in its own era; for `server-stateless` this was
/// not looked into check by check.
const EXCUSED: [&str; 5] = [
    "elicitation-sep",
    "tools-call-elicitation",
    "tools-call-sampling",
    "input-required-result-",
    "server-stateless",
];

/// A server that passes the whole suite when it is asked directly.
struct Server {
    name: &'static str,
    program: &'static str,
    args: &'static [&'static str],
    /// What makes it speak over its standard input and output; nothing if it does not.
    child: &'static [&'static str],
    /// Whether it has the tasks extension.
    tasks: bool,
}

struct Options<'a> {
    revisions: Vec<&'a str>,
    /// The first server only, and no client.
    quick: bool,
    /// The server as a child of the gateway, and no client.
    child: bool,
    /// The server shows the other era only, so that the proxy translates.
    across: bool,
    cvm: Option<&'a str>,
}

/// Runs `conformance [--spec REVISION] [--quick] [--child] [--across] [--cvm PATH]`; returns what was skipped.
pub(crate) fn run(args: &[&str]) -> Result<Vec<String>, Vec<String>> {
    if let ["through", cvm, relay, words @ ..] = args {
        return through(&Nostr::at(cvm, relay, LOG), words).map(|()| Vec::new());
    }
    let options = Options::new(args)?;
    if !has_node() {
        let skipped = "conformance (no node and npm)";
        eprintln!("skipped: {skipped}");
        return Ok(vec![skipped.to_owned()]);
    }
    prepare(&options)?;
    let nostr = Nostr::start(options.cvm.unwrap_or(CVM), LOG)?;
    let mut lost = Vec::new();
    for revision in &options.revisions {
        if options.across {
            lost.extend(across_eras(&nostr, revision)?);
            continue;
        }
        let servers = SERVERS.iter().take(if options.quick { 1 } else { SERVERS.len() });
        for server in servers.filter(|server| !options.child || !server.child.is_empty()) {
            lost.extend(server_scenarios(&nostr, server, revision, options.child)?);
        }
        if !options.quick && !options.child {
            lost.extend(client_scenarios(&nostr, revision)?);
        }
    }
    if lost.is_empty() { Ok(Vec::new()) } else { Err(lost) }
}

impl<'a> Options<'a> {
    fn new(args: &[&'a str]) -> Result<Self, Vec<String>> {
        let mut options =
            Self { revisions: REVISIONS.to_vec(), quick: false, child: false, across: false, cvm: None };
        let mut rest = args;
        loop {
            rest = match rest {
                [] => return Ok(options),
                ["--quick", rest @ ..] => {
                    options.quick = true;
                    rest
                }
                ["--child", rest @ ..] => {
                    options.child = true;
                    rest
                }
                ["--across", rest @ ..] => {
                    options.across = true;
                    rest
                }
                ["--spec", revision, rest @ ..] if REVISIONS.contains(revision) => {
                    options.revisions = vec![revision];
                    rest
                }
                ["--spec", ..] => {
                    return Err(vec![format!("conformance: --spec takes {}", REVISIONS.join(" or "))]);
                }
                ["--cvm", cvm, rest @ ..] => {
                    options.cvm = Some(cvm);
                    rest
                }
                [word, ..] => return Err(vec![format!("conformance: {word} is not understood")]),
            };
        }
    }
}

/// Builds the server and `cvm`, and installs the suite.
fn prepare(options: &Options<'_>) -> Outcome {
    prepare_server()?;
    if options.cvm.is_none() {
        run_program("cargo", &["build", "--quiet", "-p", "contextvm-cli"])?;
    }
    let npm = root().join(WORK).join("npm");
    let installed = npm.join("node_modules/.package-lock.json");
    let lock = |directory: &Path| fs::read(directory.join("package-lock.json")).ok();
    let current = installed.exists() && lock(&npm) == lock(&root().join(PROGRAMS));
    let copied = fs::create_dir_all(&npm).and_then(|()| {
        let mut files = FILES.iter();
        files.try_for_each(|file| fs::copy(root().join(PROGRAMS).join(file), npm.join(file)).map(|_| ()))
    });
    copied.map_err(|error| vec![format!("{}: {error}", npm.display())])?;
    if !current {
        let prefix = format!("{WORK}/npm");
        run_program("npm", &["ci", "--prefix", &prefix, "--no-audit", "--no-fund", "--silent"])?;
    }
    Ok(())
}

/// Builds the server on rmcp.
pub(crate) fn prepare_server() -> Outcome {
    let manifest = format!("{PROGRAMS}/server/Cargo.toml");
    let target = format!("{WORK}/server");
    run_program(
        "cargo",
        &["build", "--quiet", "--locked", "--manifest-path", &manifest, "--target-dir", &target],
    )
}

/// The scenarios that test a server.
fn server_scenarios(
    nostr: &Nostr,
    server: &Server,
    revision: &str,
    as_child: bool,
) -> Result<Vec<String>, Vec<String>> {
    let started = Instant::now();
    let mut process = Process::start(server.program, server.args)?;
    let url = process.text("url")?;
    // Only a set of requirements includes an extension.
    let which: &[&str] = if server.tasks {
        &["--requirements", revision]
    } else {
        &["--suite", "all", "--spec-version", revision]
    };
    let suite = |url: &str, way: &str| {
        let directory = results(revision, &format!("{}-{way}", server.name))?;
        let output = directory.display().to_string();
        run_suite(&[&["server", "--url", url, "--output-dir", &output], which].concat())?;
        Run::read(&directory, "server-")
    };
    let direct = suite(&url, "direct")?;
    let child = [&["--", server.program], server.args, server.child].concat();
    let upstream: &[&str] = if as_child { &child } else { &[&url] };
    let tunnel = nostr.tunnel(upstream, &format!("{revision}-{}", server.name))?;
    let through = suite(&tunnel.url, "tunnel")?;
    Ok(judge(&format!("{revision}, {} server", server.name), &direct, &through, started))
}

/// The scenarios that test a server, against one that speaks the other era only: the proxy translates.
fn across_eras(nostr: &Nostr, revision: &str) -> Result<Vec<String>, Vec<String>> {
    let started = Instant::now();
    let [server, _] = &SERVERS;
    let suite = |url: &str, way: &str| {
        let directory = results(revision, &format!("across-{way}"))?;
        let output = directory.display().to_string();
        let which = ["--suite", "all", "--spec-version", revision];
        run_suite(&[&["server", "--url", url, "--output-dir", &output], which.as_slice()].concat())?;
        Run::read(&directory, "server-")
    };
    let mut process = Process::start(server.program, server.args)?;
    let direct = suite(&process.text("url")?, "direct")?;
    let other = if revision == REVISIONS[0] { "modern" } else { "legacy" };
    let child = ["--isolation", "per-client", "--", NODE, ONE_ERA, other, server.program, "stdio"];
    let tunnel = nostr.tunnel(&child, &format!("{revision}-across"))?;
    let through = suite(&tunnel.url, "tunnel")?;
    let lost = judge(&format!("{revision}, {other} server"), &direct, &through, started);
    let is_excused = |check: &String| EXCUSED.iter().any(|name| check.contains(&format!(": {name}")));
    let (excused, lost): (Vec<_>, Vec<_>) = lost.into_iter().partition(is_excused);
    println!("  {} of them in scenarios that are excused", excused.len());
    Ok(lost)
}

/// The scenarios that test a client: the suite's own server is put behind Nostr, so that they test the gateway's client.
fn client_scenarios(nostr: &Nostr, revision: &str) -> Result<Vec<String>, Vec<String>> {
    let started = Instant::now();
    let [tunnelled, others] = list_client_scenarios(revision)?;
    let client = [NODE, CLIENT].map(absolute).join(" ");
    let xtask = std::env::current_exe().map_err(|error| vec![error.to_string()])?.display().to_string();
    let [cvm, relay] = nostr.words();
    let through = format!("{xtask} conformance through {} {relay} {client}", absolute(cvm));
    let suite = |command: &str, way: &str| {
        let directory = results(revision, &format!("client-{way}"))?;
        let output = directory.display().to_string();
        for scenario in &tunnelled {
            let which = ["--scenario", scenario, "--spec-version", revision];
            run_suite(
                &[&["client", "--command", command, "--output-dir", &output], which.as_slice()].concat(),
            )?;
        }
        Run::read(&directory, "")
    };
    let direct = suite(&client, "direct")?;
    let through = suite(&through, "tunnel")?;
    let lost = judge(&format!("{revision}, typescript client"), &direct, &through, started);
    println!(
        "  not tunnelled: {} scenarios of auth/* (OAuth is between an HTTP client and an HTTP server)",
        others.len()
    );
    Ok(lost)
}

/// Runs a client against the HTTP server whose URL is the last word, through a tunnel.
fn through(nostr: &Nostr, words: &[&str]) -> Outcome {
    let [program, args @ .., url] = words else { return Err(vec!["no program and URL".to_owned()]) };
    let name = std::env::var("MCP_CONFORMANCE_SCENARIO").unwrap_or_default();
    let tunnel = nostr.tunnel(&[url], &format!("client-{name}"))?;
    run_program(program, &[args, &[&tunnel.url]].concat())
}

/// The client scenarios of a revision: those that can be tunnelled, and those that cannot.
fn list_client_scenarios(revision: &str) -> Result<[Vec<String>; 2], Vec<String>> {
    let output = command(NODE, &[SUITE, "list"]).output().map_err(|error| vec![error.to_string()])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let clients = text.split("Client scenarios").nth(1).and_then(|text| text.split("Authorization").next());
    let scenarios = clients.unwrap_or_default().lines().filter(|line| line.contains(revision));
    let names = scenarios.filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned);
    let (others, tunnelled): (Vec<_>, Vec<_>) = names.partition(|name| name.starts_with("auth/"));
    Ok([tunnelled, others])
}

/// Prints both runs; returns what the direct run fails and what the tunnel loses.
fn judge(title: &str, direct: &Run, through: &Run, started: Instant) -> Vec<String> {
    println!("{title:<50} direct tunnel");
    print!("{}", direct.table(through));
    let [(ran, passed), (_, tunnelled)] = [direct.count(), through.count()];
    let lost = direct.lost_in(through);
    println!("  {:<48} {passed:>6} {tunnelled:>6}", format!("{ran} scenarios"));
    println!("  {} checks lost, {:.1} s", lost.len(), started.elapsed().as_secs_f32());
    let named = |kind: &str, checks: Vec<String>| {
        checks.into_iter().map(|check| format!("{title}: {kind}: {check}")).collect::<Vec<_>>()
    };
    [named("fails directly", direct.failures()), named("lost in the tunnel", lost)].concat()
}

/// Runs the suite, which fails if a check does; the results say which.
fn run_suite(args: &[&str]) -> Outcome {
    let args = [&[SUITE], args].concat();
    let status =
        command(NODE, &args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.map(drop).map_err(|error| vec![format!("{NODE}: {error}")])
}

/// Makes an empty directory for results.
fn results(revision: &str, name: &str) -> Result<PathBuf, Vec<String>> {
    let directory = root().join(WORK).join("results").join(revision).join(name);
    let wrong = |error: std::io::Error| vec![format!("{}: {error}", directory.display())];
    if directory.exists() {
        fs::remove_dir_all(&directory).map_err(wrong)?;
    }
    fs::create_dir_all(&directory).map_err(wrong)?;
    Ok(directory)
}

fn absolute(path: &str) -> String {
    root().join(path).display().to_string()
}
