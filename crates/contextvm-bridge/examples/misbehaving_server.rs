//! A tiny stdio MCP server for the tests of this crate: honest by itself, and as bad as a tool call tells it to be.
#![expect(clippy::indexing_slicing, reason = "indexing json gives null where there is nothing")]

use std::io::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

fn main() {
    let mode = std::env::args().nth(1).unwrap_or_default();
    match mode.as_str() {
        "mute" => std::thread::sleep(Duration::from_secs(600)),
        "crash" => std::process::exit(3),
        "garbage" => {
            write(b"\xef\xbb\xbfServer listening\n\xff\xfe\n[]\n{\"half\":\n\n");
        }
        _ => {}
    }
    while let Some(line) = read() {
        log(&line);
        match serde_json::from_str::<Value>(&line) {
            Ok(message) => answer(&message),
            Err(error) => say(&format!("bad line: {error}")),
        }
    }
    if mode == "stubborn" {
        std::thread::sleep(Duration::from_secs(600));
    }
}

/// Reads the next line; the lock is free in between, so that a tool can read, too.
fn read() -> Option<String> {
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line).ok().filter(|read| *read > 0);
    read.map(|_| line.trim_end().to_owned())
}

/// Appends what was read to the file named by SEEN, so that tests can look.
fn log(line: &str) {
    if let Ok(path) = std::env::var("SEEN")
        && let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path)
    {
        let _unwritten = writeln!(file, "{line}");
    }
}

fn write(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _closed = out.write_all(bytes).and_then(|()| out.flush());
}

fn say(text: &str) {
    let _closed = writeln!(std::io::stderr().lock(), "{text}");
}

fn send(message: &Value) {
    write(format!("{message}\n").as_bytes());
}

fn answer(message: &Value) {
    if message["method"] == "notifications/progress" {
        return said(&message["params"]);
    }
    let Some(id) = message.get("id").filter(|_| message.get("method").is_some()) else { return };
    let method = message.get("method").and_then(Value::as_str).unwrap_or_default();
    let params = message.get("params").cloned().unwrap_or_default();
    let result = match method {
        "initialize" => json!({
            "protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}},
            "serverInfo": {"name": "test-child", "version": "1"}}),
        "resources/subscribe" | "resources/unsubscribe" | "logging/setLevel" => json!({}),
        "tools/list" => json!({"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}),
        "tools/call" => match tool(id, &params) {
            Some(result) => result,
            None => return,
        },
        _ => {
            send(
                &json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "no such method"}}),
            );
            return;
        }
    };
    send(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
}

fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

/// Does what the tool's name says; `None` means that there is no answer.
fn tool(id: &Value, params: &Value) -> Option<Value> {
    let arguments = &params["arguments"];
    match params["name"].as_str().unwrap_or_default() {
        "pid" => Some(text(&std::process::id().to_string())),
        "env" => {
            let all: std::collections::BTreeMap<String, String> = std::env::vars().collect();
            Some(text(&json!(all).to_string()))
        }
        "die" => std::process::exit(7),
        "die_mid_line" => {
            write(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"res").as_bytes());
            std::process::exit(9)
        }
        "hang" => None,
        "twice" => {
            send(&json!({"jsonrpc": "2.0", "id": id, "result": text("first")}));
            Some(text("second"))
        }
        "stranger" => {
            send(&json!({"jsonrpc": "2.0", "id": "0".repeat(64), "result": {}}));
            send(&json!({"jsonrpc": "2.0", "id": 7, "result": {}}));
            Some(text("ok"))
        }
        "long_line" => {
            write(&vec![b'x'; usize::try_from(arguments["bytes"].as_u64().unwrap_or(0)).unwrap_or(0)]);
            write(b"\n");
            Some(text("ok"))
        }
        "stderr" => {
            for number in 0..arguments["lines"].as_u64().unwrap_or(0) {
                say(&format!("line {number} \u{1b}[31m\u{202e}\u{2028}"));
            }
            Some(text("ok"))
        }
        "grandchild" => grandchild(),
        "daemon" => daemon(),
        "slow" => {
            std::thread::sleep(Duration::from_millis(arguments["ms"].as_u64().unwrap_or(0)));
            Some(text(&std::process::id().to_string()))
        }
        "ask" => Some(text(&ask()?)),
        "notes" => notes(params),
        "stream" => {
            stream(id, params);
            None
        }
        "values" => {
            let count = usize::try_from(arguments["n"].as_u64().unwrap_or(0)).unwrap_or(0);
            Some(json!({"content": [], "values": vec![&arguments["of"]; count]}))
        }
        "changed" => {
            send(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
            Some(text("ok"))
        }
        "progress" => {
            let token = &params["_meta"]["progressToken"];
            send(
                &json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}}),
            );
            Some(text("ok"))
        }
        name => Some(text(&format!("{name}:{arguments}"))),
    }
}

/// Streams whose reader has not said what their calls wait for: the id of the call, its token, and what it waits for.
static STREAMS: Mutex<Vec<(Value, Value, Value)>> = Mutex::new(Vec::new());

fn frame(token: &Value, progress: usize, mut cvm: Value) {
    cvm["type"] = json!("open-stream");
    let params = json!({"progressToken": token, "progress": progress, "cvm": cvm});
    send(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}));
}

/// Writes on the caller's stream, as servers do that stream by themselves; the call is answered once the reader has said
/// what it waits for: a pong, or an abort.
fn stream(id: &Value, params: &Value) {
    let (arguments, token) = (&params["arguments"], &params["_meta"]["progressToken"]);
    let mark = arguments["mark"].as_str().unwrap_or_default();
    frame(token, 1, json!({"frameType": "start", "contentType": "text/plain"}));
    for index in 0..3 {
        let chunk = json!({"frameType": "chunk", "chunkIndex": index, "data": format!("{mark}{index}")});
        frame(token, index + 2, chunk);
    }
    frame(token, 5, json!({"frameType": "ping", "nonce": format!("{mark}-nonce")}));
    if let Ok(mut streams) = STREAMS.lock() {
        streams.push((id.clone(), token.clone(), arguments["until"].clone()));
    }
}

/// Takes what the reader of a stream says.
fn said(params: &Value) {
    let (token, said) = (&params["progressToken"], &params["cvm"]);
    let Ok(mut streams) = STREAMS.lock() else { return };
    let awaited = streams.iter().position(|(_, own, until)| own == token && *until == said["frameType"]);
    let Some(at) = awaited else { return };
    let (id, _, until) = streams.remove(at);
    if until == "pong" {
        frame(token, 6, json!({"frameType": "close", "lastChunkIndex": 2}));
    }
    send(&json!({"jsonrpc": "2.0", "id": id, "result": text(&said.to_string())}));
}

/// Asks the client and returns what it answers.
fn ask() -> Option<String> {
    send(&json!({"jsonrpc": "2.0", "id": 0, "method": "roots/list"}));
    let mut line = String::new();
    while !line.contains("\"roots\"") && !line.contains("\"error\"") {
        line.clear();
        std::io::stdin().read_line(&mut line).ok().filter(|read| *read > 0)?;
    }
    Some(line)
}

/// Starts a process that leaves the group and keeps the pipes.
fn daemon() -> Option<Value> {
    let script = "setsid sleep 3 2>/dev/null &";
    let status = std::process::Command::new("/bin/sh").args(["-c", script]).status().ok()?;
    Some(text(&status.to_string()))
}

/// Says a lot while it works: progress, a log message, an update of a resource, each with what the caller named.
fn notes(params: &Value) -> Option<Value> {
    let (mark, token) = (&params["arguments"]["mark"], &params["_meta"]["progressToken"]);
    for nth in 1..=3 {
        let progress = json!({"progressToken": token, "progress": nth, "message": mark});
        send(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}));
    }
    let log = json!({"level": "info", "data": mark});
    send(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": log}));
    let update = json!({"uri": format!("test://{}", mark.as_str().unwrap_or_default())});
    send(&json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": update}));
    Some(text(mark.as_str().unwrap_or_default()))
}

/// Starts a process that would outlive this one, and names it.
fn grandchild() -> Option<Value> {
    let sleeper = std::process::Command::new("/bin/sleep").arg("600").spawn().ok()?;
    Some(text(&sleeper.id().to_string()))
}
