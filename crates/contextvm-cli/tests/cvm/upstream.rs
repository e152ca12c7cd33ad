//! `cvm serve URL`: a server that speaks Streamable HTTP, and the secrets that it wants to see.
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::stage::{Home, Running};

/// What the server wants to see.
pub(crate) const SECRET: &str = "canary-7f3a9c";

/// Starts an MCP server over HTTP that lives as long as the test; returns its URL.
pub(crate) fn start() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mcp?version=1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer(stream));
        }
    });
    url
}

/// Answers one request; `None` once the other side has gone.
fn answer(mut stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).ok()? > 2 {
        head.push_str(&core::mem::take(&mut line));
    }
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let allowed = header("authorization") == Some(format!("Bearer {SECRET}"));
    let result = match request["method"].as_str() {
        Some("initialize") => json!({
            "protocolVersion": "2025-06-18", "capabilities": { "tools": {} },
            "serverInfo": { "name": "upstream", "version": "1" },
        }),
        Some("tools/list") => json!({ "tools": [{ "name": "hello", "inputSchema": { "type": "object" } }] }),
        Some("tools/call") => json!({ "content": [{ "type": "text", "text": "hello over http" }] }),
        Some(_) | None => Value::Null,
    };
    let (status, body) = if !allowed {
        ("401 Unauthorized", String::new())
    } else if head.starts_with("GET") {
        ("405 Method Not Allowed", String::new())
    } else if request["id"].is_null() {
        ("202 Accepted", String::new())
    } else {
        ("200 OK", json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }).to_string())
    };
    let length = body.len();
    let head = "Mcp-Session-Id: s1\r\nContent-Type: application/json\r\nConnection: close";
    write!(stream, "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}").ok()
}

fn serve(home: &Home, relay: &str, upstream: &str, header: &str) -> (Running, String) {
    let mut command =
        home.command(&["serve", "--json", "-vvv", "--ephemeral", "--open", "-r", relay, upstream]);
    command.args(["--header", header]).env("UPSTREAM", format!("Bearer {SECRET}")).env("CVM_LOG", "trace");
    let running = Running::start(command);
    let server = running.document()["server"].as_str().unwrap().to_owned();
    (running, server)
}

#[test]
fn a_secret_header_reaches_the_server_and_nobody_else() {
    let home = Home::new();
    let (_relay, relay) = Running::relay(&home);
    let upstream = start();
    let file = home.path().join("secret");
    crate::fleet::write_private(&file, &format!("Bearer {SECRET}\n"));
    for header in ["Authorization=env:UPSTREAM".to_owned(), format!("authorization=file:{}", file.display())]
    {
        let (serve, server) = serve(&home, &relay, &upstream, &header);
        let called = home.run(&["call", &server, "hello", "-r", &relay]);
        assert_eq!(called.out, "hello over http\n", "{called:?}");
        let status = home.run(&["ctl", "status"]);
        assert!(status.out.contains("http   http://127.0.0.1:"), "{status:?}");
        let document = home.run(&["ctl", "status", "--json"]);
        let argv = std::fs::read_to_string(format!("/proc/{}/cmdline", serve.child.id())).unwrap();
        let first = serve.first.clone();
        let (code, err) = serve.end();
        assert_eq!(code, 0, "{err}");
        assert!(err.contains("target    http   http://127.0.0.1:"), "{err}");
        for shown in [called.err, status.out, status.err, document.out, document.err, argv, first, err] {
            assert!(!shown.contains(SECRET), "{shown}");
        }
    }
}

#[test]
fn a_server_that_refuses_is_reported_to_the_caller() {
    let home = Home::new();
    let (_relay, relay) = Running::relay(&home);
    let file = home.path().join("secret");
    crate::fleet::write_private(&file, "Bearer wrong");
    let (_serve, server) = serve(&home, &relay, &start(), &format!("Authorization=file:{}", file.display()));
    let called = home.run(&["call", &server, "hello", "-r", &relay, "--json"]);
    assert!(called.err.contains("upstream_status") && called.err.contains("401"), "{called:?}");
    assert!(!called.err.contains("Bearer"), "{called:?}");
}

#[test]
fn a_secret_on_the_command_line_is_refused_and_not_repeated() {
    let home = Home::new();
    for header in
        [format!("Authorization=Bearer {SECRET}"), format!("Authorization={SECRET}"), SECRET.to_owned()]
    {
        let args =
            ["serve", "--json", "--ephemeral", "--open", "-r", "ws://127.0.0.1:9", "http://127.0.0.1:9/mcp"];
        let ran = crate::stage::Ran::of(home.command(&args).args(["--header", &header]).output().unwrap());
        assert!(ran.code == 2 && !ran.err.contains(SECRET), "{ran:?}");
        assert!(ran.error()["hint"].is_string());
    }
    let mut command = home.command(&["serve", "--ephemeral", "--open", "-r", "ws://127.0.0.1:9"]);
    command
        .args(["http://mcp.example.com/mcp", "--header", "Authorization=env:UPSTREAM"])
        .env("UPSTREAM", SECRET);
    let ran = crate::stage::Ran::of(command.output().unwrap());
    assert!(ran.code == 8 && ran.err.contains("unencrypted") && !ran.err.contains(SECRET), "{ran:?}");
}
