//! Homes, running commands, hosts on the standard streams, and plain HTTP.
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const CVM: &str = env!("CARGO_BIN_EXE_cvm");
pub(crate) const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"h","version":"1"}}}"#;
pub(crate) const LIST: &str = r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#;
/// A server that is nowhere.
pub(crate) const NOBODY: &str = "npub1sn0wdenkukak0d9dfczzeacvhkrgz92ak56egt7vdgzn8pv2wfqqhrjdv9";
/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A home of its own for every test.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(CVM);
        command.args(args).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.path());
        command.current_dir(self.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.out.lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }

    /// The error document, which is the last line of standard error.
    pub(crate) fn error(&self) -> Value {
        let error: Value = serde_json::from_str(self.err.lines().last().unwrap()).unwrap();
        assert_eq!(error["error"]["exit"], self.code, "{self:?}");
        error["error"].clone()
    }
}

/// Standard error of a running command, read as it comes.
pub(crate) struct Talk {
    text: Arc<Mutex<String>>,
    reading: Option<JoinHandle<()>>,
}

impl Talk {
    fn of(child: &mut Child) -> Self {
        let (mut err, text) = (child.stderr.take().unwrap(), Arc::new(Mutex::new(String::new())));
        let sink = Arc::clone(&text);
        let reading = std::thread::spawn(move || {
            let mut piece = [0; 4_096];
            while let Ok(read @ 1..) = err.read(&mut piece) {
                sink.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..read]));
            }
        });
        Self { text, reading: Some(reading) }
    }

    pub(crate) fn so_far(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    pub(crate) fn wait_for(&self, what: &str) {
        until(&format!("{what:?} on standard error"), || self.so_far().contains(what).then_some(()));
    }

    /// Everything; the command has ended.
    fn all(&mut self) -> String {
        self.reading.take().unwrap().join().unwrap();
        self.so_far()
    }
}

/// A long-running command; its first line of output says that it is ready.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) first: String,
    pub(crate) talk: Talk,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut talk = Talk::of(&mut child);
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        if first.is_empty() {
            panic!("it did not start: {}", talk.all());
        }
        Self { child, first, talk }
    }

    pub(crate) fn relay(home: &Home) -> (Self, String) {
        let running = Self::start(home.command(&["relay", "run", "--port", "0"]));
        let url = running.first.trim().to_owned();
        (running, url)
    }

    pub(crate) fn serve(home: &Home, url: &str, access: &[&str], command: &[&str]) -> (Self, Value) {
        let mut args = vec!["serve", "--json", "-r", url];
        args.extend(access);
        args.push("--");
        args.extend(command);
        let running = Self::start(home.command(&args));
        let ready = running.document();
        (running, ready)
    }

    /// A served sample server, and its key.
    pub(crate) fn sample(home: &Home, url: &str) -> (Self, String) {
        let (running, ready) = Self::serve(home, url, &["--ephemeral", "--open"], &[CVM, "demo", "--stdio"]);
        let server = ready["server"].as_str().unwrap().to_owned();
        (running, server)
    }

    pub(crate) fn document(&self) -> Value {
        serde_json::from_str(&self.first).unwrap()
    }

    /// Ends it as a service manager would.
    pub(crate) fn end(mut self) -> (i32, String) {
        signal(self.child.id(), Signal::TERM);
        let status = self.child.wait().unwrap();
        (status.code().unwrap_or(-1), self.talk.all())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// An MCP host that has started `cvm use`.
pub(crate) struct Host {
    pub(crate) child: Child,
    pub(crate) input: Option<ChildStdin>,
    lines: Receiver<String>,
    pub(crate) talk: Talk,
}

/// How a host's `cvm use` ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) after: Duration,
    /// What it still wrote.
    pub(crate) rest: Vec<Value>,
    pub(crate) err: String,
}

impl Host {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let talk = Talk::of(&mut child);
        let (input, out) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let (sender, lines) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, input, lines, talk }
    }

    pub(crate) fn say(&mut self, line: &str) {
        let said = writeln!(self.input.as_mut().unwrap(), "{line}");
        said.unwrap_or_else(|error| panic!("{error}: {}", self.talk.so_far()));
    }

    /// The next line of standard output, which must be a message.
    pub(crate) fn hear(&self) -> Value {
        self.hear_for(PATIENCE)
    }

    fn hear_for(&self, patience: Duration) -> Value {
        let line = self.lines.recv_timeout(patience);
        message(&line.unwrap_or_else(|_| panic!("nothing was heard: {}", self.talk.so_far())))
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, request: &str) -> Value {
        self.ask_for(request, PATIENCE)
    }

    /// Asks for what may take longer.
    pub(crate) fn ask_for(&mut self, request: &str, patience: Duration) -> Value {
        self.say(request);
        let id = message(request)["id"].clone();
        loop {
            let heard = self.hear_for(patience);
            if heard["id"] == id {
                return heard;
            }
        }
    }

    /// Says `initialize` and what follows it; returns the welcome.
    pub(crate) fn greet(&mut self) -> Value {
        let welcome = self.ask(INITIALIZE);
        self.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        welcome
    }

    /// Closes its standard input and waits for the end.
    pub(crate) fn goodbye(mut self) -> Ended {
        let begun = Instant::now();
        drop(self.input.take());
        self.ended(begun)
    }

    pub(crate) fn ended(mut self, begun: Instant) -> Ended {
        let code = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            assert!(begun.elapsed() < PATIENCE, "it did not end: {}", self.talk.so_far());
            std::thread::sleep(Duration::from_millis(2));
        };
        let after = begun.elapsed();
        Ended {
            code,
            after,
            rest: self.lines.iter().map(|line| message(&line)).collect(),
            err: self.talk.all(),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Reads a line that must be one JSON-RPC message and nothing else.
pub(crate) fn message(line: &str) -> Value {
    let message: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    assert_eq!(message["jsonrpc"], "2.0", "{line}");
    assert!(
        message["method"].is_string() || message.get("result").is_some() != message.get("error").is_some()
    );
    message
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

pub(crate) fn is_alive(pid: u64) -> bool {
    // A zombie is not alive.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Waits until there is something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The last message of the body, which is JSON or an event stream.
    pub(crate) fn message(&self) -> Value {
        let mut events = self.body.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
        message(events.rfind(|data| !data.is_empty()).unwrap_or(self.body.trim()))
    }
}

/// Sends one request, byte for byte, and reads to the end of the answer. HTTP/1.0, so that nothing comes in chunks.
pub(crate) fn http(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = format!("{method} {path} HTTP/1.0\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        request.push_str(&format!("Host: {address}\r\n"));
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    // What is too large is refused before it was read to its end.
    let _refused = stream.write_all(request.as_bytes());
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}
