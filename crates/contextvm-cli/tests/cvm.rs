//! The real binary, as people, scripts and MCP hosts run it.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const CVM: &str = env!("CARGO_BIN_EXE_cvm");

/// A home of its own for every test.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(CVM);
        command.args(args).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.path());
        command.current_dir(self.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }
}

/// What a run left.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    fn json(&self) -> Value {
        assert_eq!(self.out.lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }

    /// The error document, which is the last line of standard error.
    fn error(&self) -> Value {
        let error: Value = serde_json::from_str(self.err.lines().last().unwrap()).unwrap();
        assert_eq!(error["error"]["exit"], self.code, "{self:?}");
        error["error"].clone()
    }
}

/// A long-running command; its first line of output says that it is ready.
struct Running {
    child: Child,
    first: String,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        if first.is_empty() {
            let mut err = String::new();
            child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
            panic!("it did not start: {err}");
        }
        Self { child, first }
    }

    fn relay(home: &Home) -> (Self, String) {
        let running = Self::start(home.command(&["relay", "run", "--port", "0"]));
        let url = running.first.trim().to_owned();
        (running, url)
    }

    fn serve(home: &Home, url: &str, access: &[&str], command: &[&str]) -> (Self, Value) {
        let mut args = vec!["serve", "--json", "-r", url];
        args.extend(access);
        args.push("--");
        args.extend(command);
        let running = Self::start(home.command(&args));
        let ready = serde_json::from_str(&running.first).unwrap();
        (running, ready)
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Ends it as a service manager would.
    fn end(mut self) -> (i32, String) {
        self.signal(rustix::process::Signal::TERM);
        let status = self.child.wait().unwrap();
        let mut err = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        (status.code().unwrap_or(-1), err)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A stdio server in shell that dies, hangs and leaks on demand.
const SHELL_SERVER: &str = r#"
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\("[^"]*"\).*/\1/p')
  case "$line" in
    *'"method":"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}\n' "$id" ;;
    *'"method":"tools/list"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"die","inputSchema":{"type":"object"}},{"name":"fail","inputSchema":{}}]}}\n' "$id" ;;
    *'"name":"die"'*) exit 7 ;;
    *'"name":"fail"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"isError":true,"content":[{"type":"text","text":"it broke"}]}}\n' "$id" ;;
  esac
done
"#;

#[test]
fn the_demo_works_offline_and_leaves_nothing_behind() {
    let home = Home::new();
    let begun = Instant::now();
    let ran = home.run(&["demo"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(
        ran.out.contains("the answer is 42") && ran.out.contains("add(a: number, b: number)"),
        "{}",
        ran.out
    );
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    let document = home.run(&["demo", "--json"]).json();
    assert_eq!((&document["schema"], &document["ok"]), (&"cvm.demo/1".into(), &true.into()));
}

#[test]
fn help_and_version_are_data() {
    let home = Home::new();
    for args in [&["--help"][..], &["serve", "--help"], &["version"], &["--version"], &["key", "new", "-h"]] {
        let ran = home.run(args);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
        assert!(!ran.out.is_empty());
    }
    assert!(home.run(&["call", "--help"]).out.starts_with("Examples:\n  cvm call "));
}

#[test]
fn usage_errors_exit_2_and_have_three_parts() {
    let home = Home::new();
    for (args, code) in [
        (&["lss"][..], "unknown_flag"),
        (&["ls", "--colour"], "unknown_flag"),
        (&["ls"], "missing_argument"),
        (&["serve", "--open", "--ephemeral", "-r", "ws://127.0.0.1:9"], "missing_argument"),
        (&["serve", "--open", "-r", "ws://127.0.0.1:9", "--", "sh"], "missing_argument"),
        (&["serve", "--ephemeral", "-r", "ws://127.0.0.1:9", "--", "sh"], "missing_argument"),
        (&["serve", "--ephemeral", "--open", "--", "sh"], "missing_argument"),
        (
            &["serve", "--ephemeral", "--allow", "npub1x", "-r", "ws://127.0.0.1:9", "--", "sh"],
            "invalid_value",
        ),
        (&["ls", "nobody"], "invalid_value"),
        (&["ls", "npub1x", "--timeout", "soon"], "invalid_value"),
        (&["relay", "run", "--drop", "2"], "invalid_value"),
        (&["call", "npub1x", "t", "-k", "keyring:me"], "invalid_value"),
    ] {
        let plain = home.run(args);
        assert_eq!((plain.code, plain.out.as_str()), (2, ""), "{args:?} {plain:?}");
        assert!(plain.err.starts_with("error: ") && plain.err.contains("\n  try: "), "{}", plain.err);
        let mut with_json = vec!["--json"];
        with_json.extend(args);
        let ran = home.run(&with_json);
        assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
        assert_eq!(ran.error()["code"], code, "{args:?}");
        assert!(ran.error()["hint"].is_string());
    }
}

#[test]
fn a_secret_on_the_command_line_is_refused_and_never_repeated() {
    let home = Home::new();
    let nsec = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5";
    let hex = "67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa";
    for args in [
        &["--key", nsec, "demo"][..],
        &["-k", hex, "ls", "npub1sn0wdenkukak0d9dfczzeacvhkrgz92ak56egt7vdgzn8pv2wfqqhrjdv9"],
        &["ls", nsec],
        &["key", "show", nsec],
        &["key", "new", hex],
        &["key", "show", "x", hex],
        &[nsec],
        &["--bogus", nsec],
        &[&format!("--key={nsec}"), "demo"],
        &["serve", "--ephemeral", "--allow", nsec, "-r", "ws://127.0.0.1:9", "--", "sh"],
    ] {
        for json in [false, true] {
            let mut command = home.command(args);
            if json {
                command.arg("--json");
            }
            let ran = Ran::of(command.output().unwrap());
            // `demo` needs no key and ignores the reference; it still refuses the secret.
            assert_eq!(ran.code, 2, "{args:?} {ran:?}");
            let shown = format!("{}{}", ran.out, ran.err);
            assert!(!shown.contains(&nsec[5..20]) && !shown.contains(&hex[..16]), "{args:?} {shown}");
        }
    }
}

#[test]
fn a_new_key_is_in_a_file_that_only_we_can_read() {
    let home = Home::new();
    let ran = home.run(&["key", "new", "me"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let npub = ran.out.trim();
    assert!(npub.starts_with("npub1") && npub.len() == 63);
    let file = home.path().join(".config/cvm/keys/me");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    let secret = std::fs::read_to_string(&file).unwrap();
    assert!(secret.starts_with("nsec1"));
    assert_eq!(home.run(&["key", "show", "me"]).out.trim(), npub);
    assert_eq!(home.run(&["key", "show", "me", "--json"]).json()["npub"], npub);
    let again = home.run(&["key", "new", "me"]);
    assert_eq!(again.code, 8);
    assert!(again.err.contains("exists"), "{}", again.err);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), secret);
    assert_eq!(home.run(&["key", "new", "./dir/k"]).code, 0);
    assert_eq!(mode(&home.path().join("dir/k")), 0o600);
}

#[test]
fn a_key_file_that_others_may_read_is_refused() {
    let home = Home::new();
    home.run(&["key", "new", "./k"]);
    let file = home.path().join("k");
    for mode in [0o640, 0o604, 0o660, 0o610] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let ran = home.run(&["key", "show", "./k", "--json"]);
        assert_eq!(ran.code, 8, "{mode:o}");
        assert_eq!(ran.error()["code"], "insecure_permissions");
        assert!(ran.error()["hint"].as_str().unwrap().starts_with("chmod 600 "));
    }
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(home.run(&["key", "show", "./k"]).code, 0);
    std::fs::write(&file, "nonsense").unwrap();
    assert_eq!(home.run(&["key", "show", "./k"]).code, 3);
    assert_eq!(home.run(&["key", "show", "missing"]).code, 8);
}

#[test]
fn a_served_process_is_listed_and_called() {
    let home = Home::new();
    let (relay, url) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let (serve, ready) = Running::serve(&home, &url, &["-k", "me", "--open"], &[CVM, "demo", "--stdio"]);
    let server = ready["server"].as_str().unwrap();
    assert_eq!(server, home.run(&["key", "show", "me"]).out.trim());

    let listed = home.run(&["ls", server, "-r", &url]);
    assert_eq!(listed.code, 0, "{listed:?}");
    assert!(
        listed.out.contains("cvm-demo") && listed.out.contains("  echo(message: string)\n"),
        "{}",
        listed.out
    );
    assert_eq!(home.run(&["ls", server, "-r", &url, "--json"]).json()["tools"].as_array().unwrap().len(), 3);

    let call = |words: &[&str]| {
        let mut args = vec!["call", server];
        args.extend(words);
        let mut command = home.command(&args);
        command.env("CVM_RELAY", &url);
        Ran::of(command.output().unwrap())
    };
    assert_eq!(call(&["add", "a=19", "b=23"]).out, "42\n");
    assert_eq!(call(&["echo", "message=42"]).out, "42\n");
    assert_eq!(call(&["echo", "--args", r#"{"message":"x y"}"#]).out, "x y\n");
    let table = call(&["weather", "city=Lisbon", "unit=celsius"]);
    assert_eq!(table.out, "city         Lisbon\nsky          clear\ntemperature  10.0\n");
    let document = call(&["echo", "message=hi", "--json"]).json();
    assert_eq!(
        (&document["schema"], &document["ok"], &document["tool"]),
        (&"cvm.call/1".into(), &true.into(), &"echo".into())
    );
    assert_eq!(document["result"]["content"][0]["text"], "hi");
    assert_eq!(document["wire"]["encrypted"], true);
    assert!(call(&["echo", "message=hi", "--raw"]).out.starts_with(r#"{"content":[{"#));
    std::fs::write(home.path().join("note.txt"), "from a file").unwrap();
    assert_eq!(call(&["echo", "message=@note.txt"]).out, "from a file\n");

    for (words, code, fact) in [
        (&["ecco", "message=x"][..], "not_found", "did you mean: echo"),
        (&["echo", "mesage=x"], "invalid_arguments", "did you mean: message"),
        (&["echo"], "invalid_arguments", "string"),
        (&["add", "a=x", "b=1"], "invalid_arguments", "wants a number"),
        (&["weather", "city=x", "unit=kelvin"], "invalid_arguments", "celsius"),
    ] {
        let mut words = words.to_vec();
        words.push("--json");
        let ran = call(&words);
        assert_eq!(ran.code, 5, "{ran:?}");
        assert_eq!(ran.error()["code"], code);
        assert!(ran.err.contains(fact), "{}", ran.err);
    }
    let (code, err) = serve.end();
    assert_eq!(code, 0, "{err}");
    for word in
        ["cvm serve  cvm-demo", "key       npub1", "pid ", "access    everybody", "public    no", "ready in "]
    {
        assert!(err.contains(word), "{word} is not in {err}");
    }
    let silent = home.run(&["call", server, "echo", "message=x", "-r", &url, "--timeout", "700ms", "--json"]);
    assert_eq!((silent.code, &silent.error()["code"]), (4, &"no_reply".into()));
    assert_eq!(relay.end().0, 0);
    let unreachable = home.run(&["ls", server, "-r", &url, "--timeout", "300ms", "--json"]);
    assert_eq!((unreachable.code, &unreachable.error()["code"]), (4, &"relay_unreachable".into()));
}

#[test]
fn only_listed_keys_may_call() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let friend = home.run(&["key", "new", "friend"]).out.trim().to_owned();
    home.run(&["key", "new", "stranger"]);
    let (serve, ready) =
        Running::serve(&home, &url, &["--ephemeral", "--allow", &friend], &[CVM, "demo", "--stdio"]);
    let server = ready["server"].as_str().unwrap();
    let call = |key: &str| {
        home.run(&["call", server, "add", "a=1", "b=2", "-r", &url, "-k", key, "--timeout", "1s"])
    };
    assert_eq!(call("friend").out, "3\n");
    let refused = call("stranger");
    assert!(matches!(refused.code, 3 | 4), "{refused:?}");
    assert_eq!(refused.out, "");
    assert!(serve.end().1.contains("1 key"));
}

#[test]
fn a_child_that_dies_fails_its_call_at_once_and_comes_back() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (serve, ready) = Running::serve(&home, &url, &["--ephemeral", "--open"], &["sh", "-c", SHELL_SERVER]);
    let server = ready["server"].as_str().unwrap();
    let call = |tool: &str| home.run(&["call", server, tool, "-r", &url, "--json"]);
    let failed = call("fail");
    assert_eq!((failed.code, &failed.error()["code"]), (5, &"tool_error".into()));
    assert!(failed.err.contains("it broke"));
    let document: Value = serde_json::from_str(&failed.out).unwrap();
    assert_eq!(document["ok"], false);
    let begun = Instant::now();
    let died = call("die");
    assert_eq!(died.code, 5, "{died:?}");
    assert!(died.err.contains("child_exited") && begun.elapsed() < Duration::from_secs(5), "{died:?}");
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(call("fail").code, 5);
    let (code, err) = serve.end();
    assert_eq!(code, 0);
    assert!(
        err.contains("child exited 7, restart 1 in ") && err.contains("1 requests answered with an error"),
        "{err}"
    );
}

#[test]
fn serve_says_at_once_what_is_wrong_with_the_command() {
    let home = Home::new();
    let serve = |command: &[&str]| {
        let mut args = vec!["serve", "--ephemeral", "--open", "-r", "ws://127.0.0.1:9", "--json", "--"];
        args.extend(command);
        home.run(&args)
    };
    for (command, words) in [
        (&["no-such-program"][..], "no program"),
        (&["sh", "-c", "exit 3"], "exited 3"),
        (&["/etc/passwd"], "not an executable"),
    ] {
        let ran = serve(command);
        assert_eq!((ran.code, &ran.error()["code"]), (8, &"config_invalid".into()), "{ran:?}");
        assert!(ran.err.contains(words), "{ran:?}");
    }
}

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"h","version":"1"}}}"#;
const LIST: &str = r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#;

#[test]
fn a_host_gets_nothing_but_messages_even_when_the_relay_is_dead() {
    let home = Home::new();
    let server = "npub1sn0wdenkukak0d9dfczzeacvhkrgz92ak56egt7vdgzn8pv2wfqqhrjdv9";
    let mut command = home.command(&["use", server, "-r", "ws://127.0.0.1:9", "--timeout", "500ms", "-vv"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(format!("{INITIALIZE}\nnoise\n{LIST}\n").as_bytes()).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for id in [1, 2] {
        let answer: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!((&answer["id"], &answer["jsonrpc"]), (&id.into(), &"2.0".into()));
        assert_eq!(answer["error"]["data"]["reason"], "relay_unreachable");
        assert!(answer["error"]["data"]["hint"].is_string());
    }
    let begun = Instant::now();
    drop(input);
    assert!(lines.next().is_none());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn a_host_uses_a_server_and_says_goodbye() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (_serve, ready) = Running::serve(&home, &url, &["--ephemeral", "--open"], &[CVM, "demo", "--stdio"]);
    let server = ready["server"].as_str().unwrap();
    for ending in ["eof", "term", "int", "hup"] {
        let mut command = home.command(&["use", server, "-r", &url]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(format!("{INITIALIZE}\n").as_bytes()).unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let welcome: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(welcome["result"]["serverInfo"]["name"], "cvm-demo");
        input.write_all(format!("{LIST}\n").as_bytes()).unwrap();
        assert!(lines.next().unwrap().unwrap().contains("echo"));
        let begun = Instant::now();
        let running = Running { child, first: String::new() };
        match ending {
            "eof" => drop(input),
            "term" => running.signal(rustix::process::Signal::TERM),
            "int" => running.signal(rustix::process::Signal::INT),
            _ => running.signal(rustix::process::Signal::HUP),
        }
        let mut running = running;
        assert_eq!(running.child.wait().unwrap().code(), Some(0), "{ending}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{ending} {:?}", begun.elapsed());
        assert!(lines.next().is_none(), "{ending}");
    }
}

#[test]
fn a_key_leaves_no_trace() {
    let home = Home::new();
    home.run(&["key", "new", "canary"]);
    let nsec =
        std::fs::read_to_string(home.path().join(".config/cvm/keys/canary")).unwrap().trim().to_owned();
    let (_relay, url) = Running::relay(&home);
    let seen = home.path().join("environment");
    let script = format!("env > {}; exec {CVM} demo --stdio", seen.display());
    let mut command =
        home.command(&["serve", "-vvv", "--json", "--open", "-r", &url, "--", "sh", "-c", &script]);
    command.env("CVM_KEY", &nsec).env("OTHER_SECRET", "hunter2");
    let serve = Running::start(command);
    let ready: Value = serde_json::from_str(&serve.first).unwrap();
    let server = ready["server"].as_str().unwrap();
    let call = home.run(&["call", server, "echo", "message=x", "-r", &url, "-k", "canary", "-vvv"]);
    assert_eq!(call.out, "x\n", "{call:?}");
    let child = ready["pid"].as_u64().unwrap();
    let proc = |what: &str| std::fs::read(format!("/proc/{child}/{what}")).unwrap_or_default();
    let own = std::fs::read(format!("/proc/{}/cmdline", serve.child.id())).unwrap_or_default();
    let bounds = std::fs::read_to_string(format!("/proc/{}/limits", serve.child.id())).unwrap();
    let core = bounds.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert!(core.split_whitespace().filter(|word| *word == "0").count() == 2, "{core}");
    let mut traces =
        vec![proc("cmdline"), proc("environ"), own, call.err.into_bytes(), serve.first.clone().into_bytes()];
    traces.push(std::fs::read(&seen).unwrap());
    traces.push(serve.end().1.into_bytes());
    let secret = bech32_bytes(&nsec);
    let reversed: Vec<u8> = secret.iter().rev().copied().collect();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let canaries = [
        nsec.into_bytes(),
        hex(&secret).into_bytes(),
        hex(&secret).to_uppercase().into_bytes(),
        hex(&reversed).into_bytes(),
        secret,
        reversed,
        b"hunter2".to_vec(),
    ];
    for trace in &traces {
        for canary in &canaries {
            let found = trace.windows(canary.len()).any(|window| window == canary.as_slice());
            assert!(!found, "{}", String::from_utf8_lossy(trace));
        }
    }
    assert!(traces.iter().all(|trace| !trace.is_empty()));
}

/// The 32 bytes of an `nsec`.
fn bech32_bytes(text: &str) -> Vec<u8> {
    const DIGITS: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    let digits =
        text["nsec1".len()..text.len() - 6].chars().map(|c| u32::try_from(DIGITS.find(c).unwrap()).unwrap());
    let (mut out, mut bits, mut word) = (Vec::new(), 0, 0_u32);
    for digit in digits {
        word = (word << 5 | digit) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(word >> bits & 0xff).unwrap());
        }
    }
    assert_eq!(out.len(), 32);
    out
}
