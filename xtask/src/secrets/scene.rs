//! All the ways in which `cvm` is used here, and what is planted so that the search can fail.
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::canary::Canary;
use super::evidence::Evidence;
use crate::shell::command;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The key of the servers, that of the callers, and that of a host.
pub(super) const KEYS: [&str; 3] = ["canary", "caller", "host"];
/// The entry of an MCP host's configuration that is served under a key of its own.
pub(super) const ENTRY: &str = "echo";
const HELLO: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"h","version":"1"}}}
{"jsonrpc":"2.0","method":"notifications/initialized"}
{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo","arguments":{"message":"x"}}}
"#;

/// A home with a key in it.
pub(super) struct Scene {
    pub(super) place: PathBuf,
    /// The only directory in which the secret may be.
    pub(super) keys: PathBuf,
    cvm: PathBuf,
    commands: RefCell<u64>,
}

/// A command that runs until it is killed; what it says is in files.
struct Running {
    child: Child,
    said: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// What came of processes that were aborted where core dumps are allowed.
pub(super) struct Dumps {
    /// Whether this system writes any: a process that holds the secret, and does not prevent it, was found in its dump.
    possible: bool,
    of_cvm: usize,
}

impl Dumps {
    pub(super) fn document(&self) -> Value {
        json!({ "possible": self.possible, "of_cvm": self.of_cvm })
    }

    /// Says what was not shown where the system writes no dumps, or pipes them to somebody.
    pub(super) fn skipped(&self) -> Option<String> {
        (!self.possible)
            .then(|| "core dumps (this system writes none; see /proc/sys/kernel/core_pattern)".to_owned())
    }

    pub(super) fn wrong(&self) -> Option<String> {
        (self.of_cvm > 0).then(|| format!("cvm left {} core dumps", self.of_cvm))
    }
}

impl Scene {
    /// Makes an empty place with a new key in it.
    pub(super) fn make(place: &Path, cvm: &Path) -> Result<Self, Vec<String>> {
        if place.exists() {
            fs::remove_dir_all(place).map_err(failed(place))?;
        }
        for directory in ["home", "said", "dumps"] {
            fs::create_dir_all(place.join(directory)).map_err(failed(place))?;
        }
        let keys = place.join("home/.config/cvm/keys");
        let scene = Self { place: place.to_owned(), keys, cvm: cvm.to_owned(), commands: RefCell::new(0) };
        for key in KEYS {
            scene.to_end(&format!("new-{key}"), &["key", "new", key], "", 0)?;
        }
        Ok(scene)
    }

    /// The files in which the secrets are.
    pub(super) fn secrets(&self) -> Vec<PathBuf> {
        KEYS.iter().map(|key| self.keys.join(key)).collect()
    }

    /// How many commands were run.
    pub(super) fn commands(&self) -> u64 {
        *self.commands.borrow()
    }

    /// Serves, uses, calls and everything else, with the key in a file and in the environment.
    pub(super) fn play(&self, canary: &Canary, evidence: &mut Evidence) -> Result<(), Vec<String>> {
        let relay =
            self.start(&self.cvm(&["relay", "run", "--port", "0", "--json", "-vvv"]), "relay", None)?;
        let url = first(&relay, "url")?;
        let serve = self.start(&self.serving(&url), "serve", None)?;
        let server = first(&serve, "server")?;
        let address = free_address()?;
        let http = ["use", &server, "-k", "host", "-r", &url, "-vvv", "--http", &address];
        let http = self.start(&self.cvm(&http), "use-http", None)?;
        let with = ["-k", "caller", "-r", &url, "--discovery", &url, "--local-relays", "-vvv"];
        let echo = self.cvm.display().to_string();
        let ways: [(&str, &[&str], &str, i32); 17] = [
            ("call", &["call", &server, "echo", "message=x"], "", 0),
            ("call-json", &["call", &server, "echo", "message=x", "--json"], "", 0),
            ("call-wrong", &["call", &server, "no-such-tool"], "", 1),
            ("ls", &["ls", &server, "--json"], "", 0),
            ("use", &["use", &server], HELLO, 0),
            ("inspect", &["inspect", &server, "--json"], "", 0),
            (
                "announce",
                &[
                    "announce",
                    "publish",
                    "--name",
                    "n",
                    "--bootstrap",
                    "none",
                    "--",
                    &echo,
                    "demo",
                    "--stdio",
                ],
                "",
                0,
            ),
            ("announced", &["announce", "show", &server, "--json"], "", 0),
            ("unannounce", &["announce", "delete", "--yes"], "", 0),
            ("review", &["review", "add", &server, "fast", "--yes", "--json"], "", 0),
            ("relay-check", &["relay", "check", &url], "", 0),
            ("discover", &["discover", "--json"], "", 0),
            ("add", &["server", "add", "friend", &server], "", 0),
            ("status", &["ctl", "status", "--json"], "", 0),
            ("demo", &["demo"], "", 0),
            ("show", &["key", "show", "caller", "--json"], "", 0),
            ("unreachable", &["call", &server, "echo", "-r", "ws://127.0.0.1:9", "--timeout", "1s"], "", 1),
        ];
        for (name, args, input, code) in ways {
            let args = if name == "unreachable" {
                [args, &["-k", "caller"]].concat()
            } else {
                [&with[..], args].concat()
            };
            self.to_end(name, &args, input, code)?;
        }
        self.to_end("refused", &["call", &canary.nsec, "echo", "-vvv"], "", 1)?;
        self.to_end("refused-key", &["--key", &canary.nsec, "--json", "demo"], "", 1)?;
        for running in [&relay, &serve, &http] {
            evidence.search_processes(running.child.id(), false, canary);
        }
        end(http)?;
        end(serve)?;
        self.play_host(&url, &with, canary, evidence)?;
        // One identity is served by one process at a time.
        let told = self.start(&self.serving(&url), "serve-told", Some(&canary.nsec))?;
        let server = first(&told, "server")?;
        self.to_end("call-told", &[&["call", &server, "echo", "message=x"], &with[..]].concat(), "", 0)?;
        evidence.search_processes(told.child.id(), true, canary);
        end(told)?;
        end(relay)
    }

    /// Hides the secret in each of its forms and returns how many there were and how many were found.
    pub(super) fn plant(&self, canary: &Canary) -> Result<(usize, usize), Vec<String>> {
        // Below the keys, where the search for real ones does not look.
        let place = self.keys.join("planted");
        fs::create_dir_all(&place).map_err(failed(&place))?;
        let mut planted = 0;
        for (at, (_, form)) in canary.all().enumerate() {
            let around: Vec<u8> = (0..3_000_u32).map(|n| (n % 251).to_le_bytes()[0]).collect();
            let path = place.join(at.to_string());
            let written = File::create(&path).and_then(|mut file| {
                file.write_all(&around)?;
                file.write_all(form)?;
                file.write_all(&around)
            });
            written.map_err(failed(&path))?;
            planted += 1;
        }
        let mut evidence = Evidence::default();
        evidence.search_files(&place, Path::new(""), canary)?;
        let mut places: Vec<&str> = evidence.hits.iter().filter_map(|hit| hit.split(" as ").next()).collect();
        places.dedup();
        let found = places.len();
        // Also one in what the system shows of a process.
        let holder = self.hold("planted", canary)?;
        let mut evidence = Evidence::default();
        evidence.search_processes(holder.child.id(), false, canary);
        Ok((planted + 1, found + usize::from(!evidence.hits.is_empty())))
    }

    /// Aborts a server that has the key, and a program that does nothing against it, where dumps are allowed.
    pub(super) fn dumps(&self, canary: &Canary) -> Result<Dumps, Vec<String>> {
        let relay = self.start(&self.cvm(&["relay", "run", "--port", "0", "--json"]), "relay-dumps", None)?;
        let url = first(&relay, "url")?;
        let serve = self.start(&self.serving(&url), "serve-dumps", None)?;
        first(&serve, "server")?;
        abort(serve)?;
        let dumps = self.place.join("dumps");
        let of_cvm = fs::read_dir(&dumps).map_err(failed(&dumps))?.count();
        let holder = self.hold("holder", canary)?;
        abort(holder)?;
        let mut evidence = Evidence::default();
        evidence.search_files(&dumps, Path::new(""), canary)?;
        let possible = !evidence.hits.is_empty();
        fs::remove_dir_all(&dumps).map_err(failed(&dumps))?;
        Ok(Dumps { possible, of_cvm })
    }

    /// Starts a program that has the secret in its environment and does nothing about it.
    fn hold(&self, name: &str, canary: &Canary) -> Result<Running, Vec<String>> {
        let holder = self.start(&["sleep".to_owned(), "60".to_owned()], name, Some(&canary.nsec))?;
        let begun = Instant::now();
        let of = |what: &str| fs::read_to_string(format!("/proc/{}/{what}", holder.child.id()));
        // Until then it is the shell, which has not raised the bound on dumps yet. A program has its name before it has its
        // environment.
        let is_early = || {
            of("comm").is_ok_and(|comm| comm.trim() != "sleep")
                || of("environ").is_ok_and(|all| all.is_empty())
        };
        while is_early() && begun.elapsed() < PATIENCE {
            sleep(Duration::from_millis(5));
        }
        Ok(holder)
    }

    fn cvm(&self, args: &[&str]) -> Vec<String> {
        let program = self.cvm.display().to_string();
        std::iter::once(program).chain(args.iter().map(|arg| (*arg).to_owned())).collect()
    }

    /// A server whose child leaves its environment in a file.
    fn serving(&self, url: &str) -> Vec<String> {
        let child = format!("env >> ../said/child-environment; exec {} demo --stdio", self.cvm.display());
        self.cvm(&["serve", "-vvv", "--json", "--open", "-k", "canary", "-r", url, "--", "sh", "-c", &child])
    }

    /// Serves an MCP host's configuration in public, under keys that are made of one, and calls what is served.
    fn play_host(
        &self,
        url: &str,
        with: &[&str],
        canary: &Canary,
        evidence: &mut Evidence,
    ) -> Result<(), Vec<String>> {
        let public = self.start(&self.hosting(url)?, "serve-from", None)?;
        let made = first(&public, "servers/0/server")?;
        // Nothing is taken that may have been said before a new store began.
        sleep(Duration::from_millis(1_500));
        self.to_end("call-made", &[with, &["call", &made, "echo", "message=x"]].concat(), "", 0)?;
        evidence.search_processes(public.child.id(), false, canary);
        end(public)
    }

    /// An announced server of each entry of a configuration, under keys made of one.
    fn hosting(&self, url: &str) -> Result<Vec<String>, Vec<String>> {
        let file = self.place.join("said/host.json");
        let entry = json!({ "command": self.cvm.display().to_string(), "args": ["demo", "--stdio"] });
        let config = json!({ "mcpServers": { ENTRY: entry } });
        fs::write(&file, config.to_string()).map_err(failed(&file))?;
        let from = file.display().to_string();
        Ok(self.cvm(&[
            "serve",
            "-vvv",
            "--json",
            "--open",
            "--announce",
            "--bootstrap",
            "none",
            "-k",
            "canary",
            "-r",
            url,
            "--from",
            &from,
        ]))
    }

    /// Prepares a command that may leave core dumps; `secret` goes into its environment instead of a reference to it.
    fn prepare(&self, words: &[String], name: &str, secret: Option<&str>) -> Result<Command, Vec<String>> {
        *self.commands.borrow_mut() += 1;
        // The shell raises the bound on dumps, as an administrator may have done.
        let mut shell = command("sh", &["-c", "ulimit -c unlimited 2>/dev/null; exec \"$@\"", "sh"]);
        let told = |word: &&String| secret.is_none() || !matches!(word.as_str(), "-k" | "canary");
        shell.args(words.iter().filter(told));
        let home = self.place.join("home");
        shell
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &home)
            .env("CVM_LOG", "trace")
            .env("RUST_BACKTRACE", "full");
        if let Some(secret) = secret {
            shell.env("CVM_KEY", secret);
        }
        shell.current_dir(self.place.join("dumps"));
        let open = |kind: &str| {
            let path = self.said(name, kind);
            File::create(&path).map_err(failed(&path))
        };
        shell.stdout(open("out")?).stderr(open("err")?);
        Ok(shell)
    }

    fn said(&self, name: &str, kind: &str) -> PathBuf {
        self.place.join("said").join(format!("{name}.{kind}"))
    }

    fn start(&self, words: &[String], name: &str, secret: Option<&str>) -> Result<Running, Vec<String>> {
        let mut command = self.prepare(words, name, secret)?;
        let child = command.stdin(Stdio::null()).spawn().map_err(|error| vec![format!("{name}: {error}")])?;
        Ok(Running { child, said: self.said(name, "out") })
    }

    /// Runs a command to its end, which must be as good or as bad as expected.
    fn to_end(&self, name: &str, args: &[&str], input: &str, code: i32) -> Result<(), Vec<String>> {
        let mut command = self.prepare(&self.cvm(args), name, None)?;
        let mut child =
            command.stdin(Stdio::piped()).spawn().map_err(|error| vec![format!("{name}: {error}")])?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).map_err(|error| vec![format!("{name}: {error}")])?;
        }
        let status = child.wait().map_err(|error| vec![format!("{name}: {error}")])?;
        if status.success() == (code == 0) {
            return Ok(());
        }
        Err(vec![format!("cvm {name} ended with {status}; see {}", self.said(name, "err").display())])
    }
}

/// Waits for the first line of a command and takes the text at a path of names out of it.
fn first(running: &Running, name: &str) -> Result<String, Vec<String>> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let text = fs::read_to_string(&running.said).unwrap_or_default();
        if let Some((line, _)) = text.split_once('\n') {
            let document: Value =
                serde_json::from_str(line).map_err(|error| vec![format!("{error}: {line}")])?;
            let found = document.pointer(&format!("/{name}")).and_then(Value::as_str).map(str::to_owned);
            return found.ok_or_else(|| vec![format!("no {name} in {line}")]);
        }
        sleep(Duration::from_millis(20));
    }
    Err(vec![format!("nothing was said; see {}", running.said.display())])
}

/// Ends a command as a service manager does.
fn end(running: Running) -> Result<(), Vec<String>> {
    signal(running, "-TERM")
}

fn abort(running: Running) -> Result<(), Vec<String>> {
    signal(running, "-ABRT")
}

fn signal(mut running: Running, signal: &str) -> Result<(), Vec<String>> {
    let id = running.child.id().to_string();
    let sent = command("kill", &[signal, &id]).status().map_err(|error| vec![format!("kill: {error}")])?;
    let ended = running.child.wait().map_err(|error| vec![error.to_string()])?;
    if sent.success() { Ok(()) } else { Err(vec![format!("kill {signal}: {sent}, {ended}")]) }
}

fn free_address() -> Result<String, Vec<String>> {
    let bound = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    bound.map(|address| address.to_string()).map_err(|error| vec![error.to_string()])
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Vec<String> {
    let shown = path.display().to_string();
    move |error| vec![format!("{shown}: {error}")]
}
