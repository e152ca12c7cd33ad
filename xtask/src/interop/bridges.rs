//! Existing servers behind `cvm serve`, driven by existing clients: every step comes out as it does without Nostr in between.
use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Instant;

use serde_json::Value;

use super::{CVM, Known, Report, absolute, known, split};
use crate::process::Process;
use crate::shell::{command, root};
use crate::tunnel::{Nostr, Tunnel};

/// Where both ends of the tunnels log, and where the filesystem server works.
const LOG: &str = "target/interop/log";
const FILES: &str = "target/interop/files";
/// The interpreter that has the official Python SDK.
pub(super) const PYTHON: &str = "target/interop/python/bin/python";
const RMCP: &str = "target/conformance/server/debug/contextvm-conformance-server";

/// A server that was made without us in mind.
struct Served {
    name: &'static str,
    /// What is played against it, in interop/scripts.
    script: &'static str,
    /// Options of `cvm serve`.
    options: &'static [&'static str],
    start: Start,
    needs: &'static [Needs],
}

/// How a server is started.
enum Start {
    /// It speaks over its standard streams.
    Child(&'static [&'static str]),
    /// As `Child`, with a directory as its last word.
    ChildOfDirectory(&'static [&'static str]),
    /// It prints the URL where it speaks Streamable HTTP.
    Http(&'static str),
}

/// What a machine may lack.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Needs {
    Node,
    Python,
}

const SERVERS: [Served; 5] = [
    Served {
        name: "server-everything",
        script: "everything",
        options: &["--isolation", "per-client"],
        start: Start::Child(&[
            "node",
            "interop/ts/node_modules/@modelcontextprotocol/server-everything/dist/index.js",
            "stdio",
        ]),
        needs: &[Needs::Node],
    },
    Served {
        name: "server-filesystem",
        script: "filesystem",
        options: &["--isolation", "per-client"],
        start: Start::ChildOfDirectory(&[
            "node",
            "interop/ts/node_modules/@modelcontextprotocol/server-filesystem/dist/index.js",
        ]),
        needs: &[Needs::Node],
    },
    Served {
        name: "Python server",
        script: "python",
        options: &[],
        start: Start::Child(&[PYTHON, "interop/python/server.py"]),
        needs: &[Needs::Python],
    },
    Served {
        name: "rmcp server",
        script: "rmcp",
        options: &[],
        start: Start::Child(&[RMCP, "stdio"]),
        needs: &[],
    },
    Served {
        name: "rmcp server over HTTP",
        script: "rmcp",
        options: &[],
        start: Start::Http(RMCP),
        needs: &[],
    },
];

/// A client that was made without us in mind.
struct Host {
    name: &'static str,
    program: &'static [&'static str],
    /// Whether servers may ask it for its roots at any time: neither 2026-07-28 nor the ContextVM SDK has that.
    has_roots: bool,
    ways: &'static [Way],
    needs: Needs,
}

/// How a client reaches a server.
#[derive(Clone, Copy)]
enum Way {
    /// `cvm use` as its child.
    Stdio,
    /// `cvm use --http`.
    Http,
    /// By itself.
    Nostr,
}

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::Stdio => "cvm use",
            Self::Http => "cvm use --http",
            Self::Nostr => "Nostr",
        }
    }
}

const HOSTS: [Host; 4] = [
    Host {
        name: "TypeScript client",
        program: &["node", "interop/ts/host.mjs"],
        has_roots: true,
        ways: &[Way::Stdio, Way::Http],
        needs: Needs::Node,
    },
    Host {
        name: "@contextvm/sdk client",
        program: &["node", "interop/ts/host.mjs", "--no-answers"],
        has_roots: false,
        ways: &[Way::Nostr],
        needs: Needs::Node,
    },
    Host {
        name: "Python client of 2025-11-25",
        program: &[PYTHON, "interop/python/host.py", "--mode", "legacy"],
        has_roots: true,
        ways: &[Way::Stdio, Way::Http],
        needs: Needs::Python,
    },
    Host {
        name: "Python client of 2026-07-28",
        program: &[PYTHON, "interop/python/host.py", "--mode", "auto"],
        has_roots: false,
        ways: &[Way::Stdio, Way::Http],
        needs: Needs::Python,
    },
];

/// What became of one step.
struct Step {
    name: String,
    ok: bool,
    detail: Value,
}

/// What became of a script.
type Played = Result<Vec<Step>, Vec<String>>;
/// What became of one cell.
type Outcome = (String, Result<String, Vec<String>>);

/// Whether any cell of these servers is wanted.
pub(super) fn wanted(wanted: impl Fn(&str) -> bool) -> bool {
    cells().any(|(served, host, way)| wanted(&name(served, host, way)))
}

fn cells() -> impl Iterator<Item = (&'static Served, &'static Host, Way)> {
    let pairs = SERVERS.iter().flat_map(|served| HOSTS.iter().map(move |host| (served, host)));
    pairs.flat_map(|(served, host)| host.ways.iter().map(move |way| (served, host, *way)))
}

fn name(served: &Served, host: &Host, way: Way) -> String {
    format!("{}, {} through {}", served.name, host.name, way.name())
}

/// Plays every wanted cell that this machine has the programs for, all servers at the same time.
pub(super) fn play(relay: &str, has: &[Needs], wanted: impl Fn(&str) -> bool + Sync, report: &mut Report) {
    let (relay, has, wanted) = (&relay, &has, &wanted);
    let outcomes: Vec<Outcome> = thread::scope(|scope| {
        let play = |served| move || play_server(served, relay, has, wanted);
        let threads: Vec<_> = SERVERS.iter().map(|served| scope.spawn(play(served))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|_| panicked())).collect()
    });
    for (name, outcome) in outcomes {
        report.add(&name, outcome);
    }
}

fn panicked() -> Vec<Outcome> {
    vec![("existing servers".to_owned(), Err(vec!["a cell panicked".to_owned()]))]
}

/// Plays the cells of one server.
fn play_server(
    served: &'static Served,
    relay: &str,
    has: &[Needs],
    wanted: impl Fn(&str) -> bool,
) -> Vec<Outcome> {
    let can = |needs: &Needs| has.contains(needs);
    let ours = cells().filter(|(of, host, way)| {
        of.name == served.name && can(&host.needs) && wanted(&name(served, host, *way))
    });
    let ours: Vec<_> = ours.filter(|_| served.needs.iter().all(can)).collect();
    if ours.is_empty() {
        return Vec::new();
    }
    let place = match Place::new(served, relay) {
        Ok(place) => place,
        Err(lines) => return vec![(served.name.to_owned(), Err(lines))],
    };
    let mut outcomes = Vec::new();
    let mut direct: Option<(&str, Played)> = None;
    for (_, host, way) in ours {
        if direct.as_ref().is_none_or(|(name, _)| *name != host.name) {
            direct = Some((host.name, place.direct(host)));
        }
        let Some((_, baseline)) = &direct else { continue };
        let started = Instant::now();
        let outcome = match baseline {
            Err(lines) => Err(lines.iter().map(|line| format!("directly: {line}")).collect()),
            Ok(baseline) => place.through(host, way).and_then(|steps| {
                let (known, client) = (known()?, format!("{} through {}", host.name, way.name()));
                let concerned = |known: &&Known| known.concerns([served.name, &client], false);
                let known: Vec<&Known> = known.iter().filter(concerned).collect();
                compare(baseline, &steps, |step| {
                    known.iter().find(|known| known.step == step).map(|known| known.reason.as_str())
                })
            }),
        };
        let seconds = started.elapsed().as_secs_f32();
        outcomes.push((name(served, host, way), outcome.map(|steps| format!("{seconds:.1} s  {steps}"))));
    }
    outcomes
}

/// One server, with and without Nostr before it.
struct Place<'a> {
    served: &'static Served,
    relay: &'a str,
    /// What a client appends to its own words to reach the server directly.
    target: Vec<String>,
    tunnel: Tunnel,
    /// The directory that the server was given, and the one that clients name as their root.
    directories: [String; 2],
    _http: Option<Process>,
}

impl<'a> Place<'a> {
    fn new(served: &'static Served, relay: &'a str) -> Result<Self, Vec<String>> {
        let directories = ["given", "root"].map(|end| absolute(&format!("{FILES}/{}/{end}", served.script)));
        for directory in &directories {
            let made = fs::create_dir_all(directory);
            made.map_err(|error| vec![format!("{directory}: {error}")])?;
        }
        let child = |words: &[&str]| -> Vec<String> {
            let absolute = words.iter().map(|word| match root().join(word) {
                path if word.contains('/') && path.exists() => path.display().to_string(),
                _ => (*word).to_owned(),
            });
            std::iter::once("--".to_owned()).chain(absolute).collect()
        };
        let mut http = None;
        let (target, upstream) = match &served.start {
            Start::Child(words) => (child(words), child(words)),
            Start::ChildOfDirectory(words) => {
                let words = [words, [directories[0].as_str()].as_slice()].concat();
                (child(&words), child(&words))
            }
            Start::Http(program) => {
                let url = http.insert(Process::start(program, &[])?).text("url")?;
                (vec!["--url".to_owned(), url.clone()], vec![url])
            }
        };
        let upstream: Vec<&str> =
            served.options.iter().copied().chain(upstream.iter().map(String::as_str)).collect();
        let log = served.name.replace(' ', "-");
        let tunnel = Nostr::at(CVM, relay, LOG).tunnel(&upstream, &log)?;
        Ok(Self { served, relay, target, tunnel, directories, _http: http })
    }

    fn direct(&self, host: &Host) -> Played {
        let steps = self.play(host, &self.target.iter().map(String::as_str).collect::<Vec<_>>())?;
        let failed = steps.iter().filter(|step| !step.ok);
        let failed: Vec<String> =
            failed.map(|step| format!("{} {}", step.name, brief(&step.detail))).collect();
        if failed.is_empty() { Ok(steps) } else { Err(failed) }
    }

    fn through(&self, host: &Host, way: Way) -> Played {
        let (cvm, key) = (absolute(CVM), self.tunnel.key.as_str());
        match way {
            Way::Stdio => {
                self.play(host, &["--", &cvm, "use", key, "--key", "ephemeral", "--relay", self.relay])
            }
            Way::Http => self.play(host, &["--url", &self.tunnel.url]),
            Way::Nostr => self.play(host, &["--relay", self.relay, "--server", key]),
        }
    }

    fn play(&self, host: &Host, target: &[&str]) -> Played {
        let (program, first) = split(host.program)?;
        let script = format!("interop/scripts/{}.json", self.served.script);
        let [given, root] = &self.directories;
        let root = if host.has_roots { root } else { given };
        let args = [first, &["--script", &script, "--root", root], target].concat();
        let output = command(program, &args)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .map_err(|error| vec![format!("{program}: {error}")])?;
        let text = String::from_utf8_lossy(&output.stdout);
        let lines = text.lines().map(serde_json::from_str::<Value>);
        let mut steps: Vec<Step> = lines.filter_map(|line| line.ok().as_ref().and_then(step)).collect();
        match steps.pop_if(|step| step.name == "done") {
            Some(_) if steps.len() > 3 => Ok(steps),
            _ => Err(vec![format!("ended early: {}; {}", output.status, text.lines().last().unwrap_or(""))]),
        }
    }
}

fn step(line: &Value) -> Option<Step> {
    let name = line.get("step")?.as_str()?.to_owned();
    Some(Step { name, ok: line.get("ok")?.as_bool()?, detail: line.get("detail")?.clone() })
}

/// Finds every step that does not come out through Nostr as it does directly, for no reason that is known.
fn compare<'k>(
    direct: &[Step],
    through: &[Step],
    known: impl Fn(&str) -> Option<&'k str>,
) -> Result<String, Vec<String>> {
    let mut faults = Vec::new();
    let mut excused = String::new();
    for expected in direct {
        let fault = match through.iter().find(|step| step.name == expected.name) {
            None => format!("{} was not reached", expected.name),
            Some(step) if step.ok && step.detail == expected.detail => continue,
            Some(step) => {
                if let Some(reason) = known(&step.name) {
                    excused.push_str(&format!("\n        {} differs: {reason}", step.name));
                    continue;
                }
                if step.ok {
                    let (path, here, there) = difference(&expected.detail, &step.detail, String::new());
                    format!("{}{path} is {here} directly and {there} through Nostr", step.name)
                } else {
                    format!("{} fails: {}", step.name, brief(&step.detail))
                }
            }
        };
        faults.push(fault);
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let all = if excused.is_empty() { ", all as directly" } else { "" };
    Ok(format!("{} steps{all}{excused}", direct.len()))
}

/// Finds where two values differ first.
fn difference(here: &Value, there: &Value, path: String) -> (String, String, String) {
    let names: Vec<String> = match (here, there) {
        (Value::Object(here), Value::Object(there)) => here.keys().chain(there.keys()).cloned().collect(),
        (Value::Array(here), Value::Array(there)) => {
            (0..here.len().max(there.len())).map(|at| at.to_string()).collect()
        }
        _ => return (path, brief(here), brief(there)),
    };
    let part = |value: &Value, name: &str| {
        let by_number = || name.parse::<usize>().ok().and_then(|at| value.get(at).cloned());
        value.get(name).cloned().or_else(by_number)
    };
    for name in names {
        let path = format!("{path}/{name}");
        match (part(here, &name), part(there, &name)) {
            (here, there) if here == there => {}
            (Some(here), Some(there)) => return difference(&here, &there, path),
            (here, there) => {
                let told = |value: Option<Value>| value.as_ref().map_or("absent".to_owned(), brief);
                return (path, told(here), told(there));
            }
        }
    }
    (path, brief(here), brief(there))
}

fn brief(value: &Value) -> String {
    value.to_string().chars().take(600).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_difference_is_found_and_absent_steps_are_faults() {
        let step = |name: &str, detail| Step { name: name.to_owned(), ok: true, detail };
        let direct = [step("a", json!({"x": [1, {"y": 2}]})), step("b", json!({})), step("c", json!(1))];
        let through = [step("a", json!({"x": [1, {"y": 3}]})), step("c", json!(1))];
        let faults = compare(&direct, &through, |_| None).unwrap_err();
        assert_eq!(faults, ["a/x/1/y is 2 directly and 3 through Nostr", "b was not reached"]);
        assert_eq!(compare(&direct, &through, |_| Some("so it is")).unwrap_err(), ["b was not reached"]);
        assert!(compare(&direct, &direct, |_| None).is_ok());
    }

    #[test]
    fn a_member_that_only_one_side_has_is_a_difference() {
        let (path, here, there) = difference(&json!({}), &json!({"_meta": 1}), String::new());
        assert_eq!((path.as_str(), here.as_str(), there.as_str()), ("/_meta", "absent", "1"));
    }
}
