//! Servers that are found: announcements of each implementation read by the others, and calls by name alone.
use std::fs::{self, File};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{CVM, PEERS, Peer, RELAY, Report, absolute, collect, split};
use crate::process::Process;
use crate::shell::{command, run};

/// What reads announcements with the implementation of a peer.
const READERS: [(&str, &[&str]); 2] =
    [("ts-sdk", &["node", "interop/ts/reader.mjs"]), ("rs-sdk", &["interop/rs-sdk/target/debug/reader"])];
/// The server behind `cvm serve`: the tools of every test server.
const CHILD: [&str; 2] = ["node", "interop/ts/stdio-server.mjs"];
/// Where the server's key is kept; it guards nothing.
const KEY: &str = "target/interop/announced.key";
/// How long an announcement may take to arrive.
const PATIENCE: Duration = Duration::from_secs(20);
/// Names of cells.
const OURS_BY_NAME: &str = "ours, by name";
const SCHEMAS: &str = "tool schemas, hashed by ts-sdk";
/// Makes and hashes tools.
const OUR_SCHEMAS: &str = "target/debug/examples/schemas";
/// Tools that are compared, more than 10,000 of which have a hash, and where they are kept meanwhile.
const TOOLS: usize = 11_000;
const TOOLS_FILE: &str = "target/interop/tools.jsonl";

/// Two relays: servers live on one and are looked for on the other.
struct Place {
    live: (Process, String),
    discovery: (Process, String),
}

/// What became of one cell.
type Outcome = Result<String, Vec<String>>;

/// Whether any cell of these is wanted.
pub(super) fn wanted(wanted: impl Fn(&str) -> bool) -> bool {
    names().iter().any(|name| wanted(name))
}

fn names() -> Vec<String> {
    let peers = PEERS.iter().flat_map(|peer| [read_by(peer.name), called_by(peer.name), found_of(peer.name)]);
    peers.chain([OURS_BY_NAME, SCHEMAS].map(str::to_owned)).collect()
}

fn read_by(peer: &str) -> String {
    format!("ours, announced, read by {peer}")
}

fn called_by(peer: &str) -> String {
    format!("ours, by name, called by {peer}")
}

fn found_of(peer: &str) -> String {
    format!("{peer}, by name, found and called by cvm")
}

/// Plays every wanted cell; all of them need node.
pub(super) fn play(wanted: impl Fn(&str) -> bool, report: &mut Report) {
    let mut add = |name: &str, outcome: &dyn Fn() -> Outcome| {
        if wanted(name) {
            let started = Instant::now();
            let outcome = outcome();
            let seconds = started.elapsed().as_secs_f32();
            report.add(name, outcome.map(|detail| format!("{seconds:.1} s  {detail}")));
        }
    };
    for ((_, reader), peer) in READERS.iter().zip(&PEERS) {
        add(&read_by(peer.name), &|| ours(|place, key| place.read(reader, key)));
        add(&called_by(peer.name), &|| ours(|place, key| place.called_by(peer, key)));
        add(&found_of(peer.name), &|| theirs(peer));
    }
    add(OURS_BY_NAME, &|| ours(|place, key| place.found_by_us(key, "Interop")));
    add(SCHEMAS, &schemas);
}

/// Hashes generated tools with the SDK and with ours; both must also refuse the same ones, for the same reason.
fn schemas() -> Outcome {
    let lines = |program: &str, args: &[&str], input: Stdio| -> Result<Vec<String>, Vec<String>> {
        let output = command(program, args).stdin(input).stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| vec![format!("{program}: {error}")])?;
        Ok(String::from_utf8_lossy(&output.stdout).split_terminator('\n').map(str::to_owned).collect())
    };
    let file = absolute(TOOLS_FILE);
    let failed = |error: std::io::Error| vec![format!("{TOOLS_FILE}: {error}")];
    let tools = lines(OUR_SCHEMAS, &["make", "15", &TOOLS.to_string()], Stdio::null())?;
    fs::write(&file, tools.join("\n") + "\n").map_err(failed)?;
    let ours = lines(OUR_SCHEMAS, &["hash"], File::open(&file).map_err(failed)?.into())?;
    let theirs = lines("node", &["interop/ts/schemas.mjs"], File::open(&file).map_err(failed)?.into())?;
    if [tools.len(), ours.len(), theirs.len()] != [TOOLS; 3] {
        return Err(vec![format!("{} tools, hashed {} and {}", tools.len(), ours.len(), theirs.len())]);
    }
    let differ = |((tool, ours), theirs): ((&String, &String), &String)| {
        (ours != theirs).then(|| format!("{tool}: ours {ours}, theirs {theirs}"))
    };
    let different: Vec<String> = tools.iter().zip(&ours).zip(&theirs).filter_map(differ).take(5).collect();
    let refused = theirs.iter().filter(|line| line.starts_with("refused")).count();
    if different.is_empty() {
        Ok(format!("{} hashes are equal, {refused} are refused by both", TOOLS - refused))
    } else {
        Err(different)
    }
}

/// Runs `body` with our server, which announces itself.
fn ours(body: impl FnOnce(&Place, &str) -> Outcome) -> Outcome {
    let place = Place::new()?;
    let (live, discovery) = (place.live.1.as_str(), place.discovery.1.as_str());
    let key = key()?;
    let mut args =
        vec!["serve", "--key", &key, "--open", "--json", "-q", "--relay", live, "--inject-client-pubkey"];
    args.extend(["--announce", "--name", "Interop", "--bootstrap", discovery, "--category", "interop"]);
    args.extend(["--common-schema", "echo", "--common-schema", "add", "--"]);
    args.extend(CHILD);
    let mut server = Process::start(CVM, &args)?;
    let key = server.text("server")?;
    let hex = place.wait(&key)?;
    let outcome = body(&place, &hex);
    drop(server);
    outcome
}

/// Makes a key, once: a server under a key that is forgotten does not announce itself.
fn key() -> Result<String, Vec<String>> {
    let path = absolute(KEY);
    if !Path::new(&path).exists() {
        run(CVM, &["key", "new", &path, "--quiet"])?;
    }
    Ok(path)
}

/// Finds and calls the announced server of a peer.
fn theirs(peer: &Peer) -> Outcome {
    let place = Place::new()?;
    let (program, first) = split(peer.server)?;
    let args = [first, &["--relay", &place.live.1, "--announce", &place.discovery.1, "--wire", "persistent"]];
    let mut server = Process::start(program, &args.concat())?;
    let key = server.text("pubkey")?;
    place.wait(&key)?;
    let name = if peer.known_as == "ts" { "Interop TS" } else { "interop-rs-server" };
    place.found_by_us(&key, name)
}

impl Place {
    fn new() -> Result<Self, Vec<String>> {
        let relay = || {
            let mut process = Process::start(RELAY, &[])?;
            let url = process.text("url")?;
            Ok::<_, Vec<String>>((process, url))
        };
        Ok(Self { live: relay()?, discovery: relay()? })
    }

    /// Waits until the announcement and the relay list of a server are found; returns its key in hex.
    fn wait(&self, key: &str) -> Result<String, Vec<String>> {
        let started = Instant::now();
        loop {
            let last = match self.inspect(key, true) {
                Ok(shown) => match (is_full(&shown), shown.get("pubkey").and_then(Value::as_str)) {
                    (true, Some(hex)) => return Ok(hex.to_owned()),
                    (_, _) => vec![format!("nothing announced: {shown}")],
                },
                Err(lines) => lines,
            };
            if started.elapsed() > PATIENCE {
                return Err(last);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn read(&self, reader: &[&str], key: &str) -> Outcome {
        let (program, first) = split(reader)?;
        let read = |relay: &str| {
            collect(program, &[first, &["--relay", relay, "--server", key]].concat(), &[], false)
        };
        let (live, discovery) = (read(&self.live.1)?, read(&self.discovery.1)?);
        Ok(format!("{live} where it lives, {discovery} where it is looked for"))
    }

    /// A client of a peer is told the key and a discovery relay, and nothing else.
    fn called_by(&self, peer: &Peer, key: &str) -> Outcome {
        let (program, first) = split(peer.client)?;
        let args = [
            "--discovery",
            &self.discovery.1,
            "--server",
            key,
            "--wire",
            "persistent",
            "--only",
            "list,call",
        ];
        collect(program, &[first, &args].concat(), &[], false)
    }

    /// `cvm` is told the key and a discovery relay, and nothing else.
    fn found_by_us(&self, key: &str, name: &str) -> Outcome {
        let found = self.cvm(&["discover", name])?;
        let servers = found.get("servers").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if !servers.iter().any(|server| server.get("pubkey").and_then(Value::as_str) == Some(key)) {
            return Err(vec![format!("not discovered: {found}")]);
        }
        let shown = self.inspect(key, false)?;
        if !is_full(&shown) {
            return Err(vec![format!("not inspected: {shown}")]);
        }
        let answer = self.cvm(&["call", key, "add", "a=19", "b=23"])?;
        if answer.pointer("/result/content/0/text").and_then(Value::as_str) != Some("42") {
            return Err(vec![format!("called in vain: {answer}")]);
        }
        Ok("discovered, inspected, called".to_owned())
    }

    fn inspect(&self, key: &str, passive: bool) -> Result<Value, Vec<String>> {
        if passive { self.cvm(&["inspect", key, "--passive"]) } else { self.cvm(&["inspect", key]) }
    }

    /// Runs one command of `cvm` to its end.
    fn cvm(&self, words: &[&str]) -> Result<Value, Vec<String>> {
        let flags = ["--json", "--key", "ephemeral", "--discovery", &self.discovery.1, "--local-relays"];
        let output: Output = command(CVM, &[words, &flags].concat())
            // No memory of other runs, and none of this one.
            .env_remove("HOME")
            .env_remove("XDG_STATE_HOME")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| vec![error.to_string()])?;
        let text = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        serde_json::from_str(&text).map_err(|_| vec![format!("cvm {}: {said}", words.join(" "))])
    }
}

/// Whether an inspection knows the announcement and the relay list.
fn is_full(shown: &Value) -> bool {
    ["announcement", "relayList"].iter().all(|part| shown.get(part).is_some_and(Value::is_object))
}
