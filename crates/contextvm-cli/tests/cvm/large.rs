//! Messages of 16 MiB: as arguments, as results, and on their way to an MCP host; and what is shown of them meanwhile.
use std::fs::File;
use std::io::Read as _;
use std::process::Stdio;
use std::time::Duration;

use contextvm::Limits;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use crate::stage::{Home, Host, Running};
use crate::streaming::plain_server;

/// The payload that every part of the way must take, bytes.
const LARGE: usize = 16 * 1024 * 1024;
/// How long it may take in a debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// A stdio server in shell whose tool returns what is in a file.
pub(crate) const FILER: &str = r#"
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\("[^"]*"\).*/\1/p')
  case "$line" in
    *'"method":"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}\n' "$id" ;;
    *'"method":"tools/list"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"file","inputSchema":{"type":"object"}}]}}\n' "$id" ;;
    *'"name":"file"'*) printf '{"jsonrpc":"2.0","id":%s,"result":' "$id"; cat result.json; echo '}' ;;
  esac
done
"#;

/// Serves a tool that returns this.
pub(crate) fn filer(home: &Home, url: &str, result: &Value) -> (Running, String) {
    std::fs::write(home.path().join("result.json"), result.to_string()).unwrap();
    let (running, ready) = Running::serve(home, url, &["--ephemeral", "--open"], &["sh", "-c", FILER]);
    let server = ready["server"].as_str().unwrap().to_owned();
    (running, server)
}

/// Text of this many bytes that nothing can shorten, with line breaks, quotes and characters of several bytes.
fn text(bytes: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut text = String::with_capacity(bytes + 8);
    while text.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        match state % 97 {
            0 => text.push('\n'),
            1 => text.push('"'),
            2 => text.push('é'),
            n => text.push(char::from(u8::try_from(n % 58 + 65).unwrap())),
        }
    }
    while text.len() > bytes {
        text.pop();
    }
    text.push_str(&"x".repeat(bytes - text.len()));
    text
}

fn result(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }] })
}

#[test]
fn an_argument_and_a_result_of_16_mib_pass_through_a_call() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (serve, server) = Running::sample(&home, &url);
    let text = text(LARGE);
    std::fs::write(home.path().join("large.txt"), &text).unwrap();
    let ran = home.run(&["call", &server, "echo", "message=@large.txt", "-r", &url]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", serve.talk.so_far());
    assert!(ran.out.strip_suffix('\n') == Some(&text), "{} bytes came back", ran.out.len());
}

/// Calls a tool as an MCP host does, over the standard streams; returns the first text of its result.
fn by_a_host(home: &Home, args: &[&str], params: &Value) -> String {
    let mut host = Host::start(home.command(args));
    host.greet();
    let request = json!({ "jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": params });
    let mut answer = host.ask_for(&request.to_string(), PATIENCE);
    assert_eq!(host.goodbye().code, Some(0));
    let text = answer["result"]["content"][0]["text"].take();
    text.as_str().unwrap_or_else(|| panic!("{}", answer["error"])).to_owned()
}

#[test]
fn a_result_of_16_mib_reaches_an_mcp_host() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let text = text(LARGE);
    let (_serve, server) = filer(&home, &url, &result(&text));
    let came = by_a_host(&home, &["use", &server, "-r", &url], &json!({ "name": "file" }));
    assert!(came == text, "{} bytes came", came.len());
}

#[test]
fn an_argument_of_16_mib_passes_from_an_mcp_host_and_back() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (_serve, server) = Running::sample(&home, &url);
    let text = text(LARGE);
    let params = json!({ "name": "echo", "arguments": { "message": text } });
    let came = by_a_host(&home, &["proxy", &server, "-r", &url], &params);
    assert!(came == text, "{} bytes came back", came.len());
}

#[test]
fn a_server_that_takes_less_fails_the_call_at_once() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let limits = Limits { transfer_bytes: 500_000, ..Limits::default() };
    let (_runtime, server) = plain_server(|server| server.relay(&url).limits(limits));
    std::fs::write(home.path().join("large.txt"), text(600_000)).unwrap();
    let ran = home.run(&["call", &server, "hello", "to=@large.txt", "-r", &url, "--json"]);
    assert_eq!((ran.code, &ran.error()["code"]), (4, &"transfer_failed".into()), "{ran:?}");
}

#[test]
fn what_is_too_large_is_said_before_anything_is_sent() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (_serve, server) = Running::sample(&home, &url);
    std::fs::write(home.path().join("large.txt"), "x".repeat(LARGE + 1)).unwrap();
    let call = |argument: &str| home.run(&["call", &server, "echo", argument, "-r", &url, "--json"]);
    for argument in ["message=@large.txt", "message=@@large.txt"] {
        let ran = call(argument);
        assert_eq!((ran.code, &ran.error()["code"]), (5, &"invalid_arguments".into()), "{ran:?}");
        assert!(ran.err.contains("more than 16777216 bytes"), "{ran:?}");
    }
    std::fs::write(home.path().join("large.json"), "x".repeat(24 * 1024 * 1024 + 1)).unwrap();
    let ran = home.run(&["call", &server, "echo", "--args", "@large.json", "-r", &url]);
    assert!(ran.code == 5 && ran.err.contains("more than 25165824 bytes"), "{ran:?}");
}

/// What a call of the filer writes to a terminal as its standard error; standard output goes elsewhere.
fn at_a_terminal(home: &Home, args: &[&str]) -> (String, String) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let err = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut command = home.command(args);
    command.stderr(Stdio::from(err)).stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    // The last copy of the other end, so that reading ends with the child.
    drop(command);
    let reading = std::thread::spawn(move || {
        let (mut terminal, mut shown) = (File::from(terminal), Vec::new());
        let mut piece = [0; 4_096];
        // A terminal that nobody has open any more fails.
        while let Ok(read @ 1..) = terminal.read(&mut piece) {
            shown.extend_from_slice(&piece[..read]);
        }
        String::from_utf8(shown).unwrap()
    });
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    (String::from_utf8(output.stdout).unwrap(), reading.join().unwrap())
}

#[test]
fn a_bar_is_shown_at_a_terminal_while_a_message_moves_and_taken_away() {
    let home = Home::new();
    let relay = Running::start(home.command(&["relay", "run", "--port", "0", "--latency", "80ms"]));
    let url = relay.first.trim();
    let text = text(4 * 1024 * 1024);
    let (_serve, server) = filer(&home, url, &result(&text));
    let args = ["call", server.as_str(), "file", "-r", url];
    let (out, shown) = at_a_terminal(&home, &args);
    assert!(out.strip_suffix('\n') == Some(&text), "{} bytes came", out.len());
    let lines: Vec<&str> = shown.split('\r').collect();
    assert!(lines.iter().any(|line| line.starts_with("receiving ") && line.contains(" of 4.")), "{shown:?}");
    assert!(
        lines.iter().all(|line| line.len() < 80 && line.is_ascii() && !line.contains('\x1b')),
        "{shown:?}"
    );
    let [.., blank, ""] = lines.as_slice() else { panic!("{shown:?}") };
    assert!(!blank.is_empty() && blank.trim().is_empty(), "{shown:?}");
    for quiet in ["-q", "--json"] {
        let args: Vec<&str> = args.into_iter().chain([quiet]).collect();
        assert_eq!(at_a_terminal(&home, &args).1, "", "{quiet}");
    }
    let ran = home.run(&args);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "nobody looks");
}

#[test]
fn what_moves_at_once_has_no_bar() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (_serve, server) = Running::sample(&home, &url);
    assert_eq!(
        at_a_terminal(&home, &["call", &server, "add", "a=1", "b=2", "-r", &url]),
        ("3\n".into(), String::new())
    );
}
