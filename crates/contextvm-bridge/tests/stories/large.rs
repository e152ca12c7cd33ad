//! Stories of messages that no single event carries, from a host to a backend and back.
use std::net::SocketAddr;
use std::time::Duration;

use contextvm_bridge::{CancellationToken, HttpOptions, Isolation, Proxy};
use contextvm_client::ClientOptions;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::http_server::HttpServer;
use crate::stage::{Notices, Stage, call, child, initialize, keys, reason, request};

/// Text that is different everywhere, so that nothing that moved, was lost or came twice goes unnoticed.
fn text(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 16);
    let mut state: u64 = 7;
    while text.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!("{state:016x}"));
    }
    text.truncate(bytes);
    text
}

/// Echoes a message of so many bytes from a host on streams through proxy, relay and gateway to a child, and back.
async fn echo(bytes: usize, isolation: Isolation) {
    let stage = Stage::serve_with(child(&[]), |gateway| gateway.isolation(isolation), None).await;
    let mut options = ClientOptions::new(keys(1), keys(100).public_key().into());
    options.relays = vec![stage.relay.url()];
    let (mut input, reader) = tokio::io::duplex(64 * 1024);
    let (writer, output) = tokio::io::duplex(64 * 1024);
    let (notices, stop) = (Notices::default(), CancellationToken::new());
    let proxy = Proxy::builder(options).reporter(notices.reporter()).build();
    let running = tokio::spawn(proxy.run(reader, writer, stop.clone()));
    let mut lines = BufReader::new(output).lines();
    let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"h","version":"1"}}}"#;
    let data = text(bytes);
    let request = format!(
        r#"{{"jsonrpc":"2.0","id":"big","method":"tools/call","params":{{"name":"echo","arguments":{{"data":"{data}"}},"_meta":{{"progressToken":"mine"}}}}}}"#
    );
    let saying = tokio::spawn(async move {
        for line in [initialize, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, &request] {
            input.write_all(line.as_bytes()).await.unwrap();
            input.write_all(b"\n").await.unwrap();
        }
        input
    });
    let mut hear = async || -> Value {
        let line = tokio::time::timeout(Duration::from_secs(120), lines.next_line()).await;
        serde_json::from_str(&line.expect("in time").unwrap().unwrap()).unwrap()
    };
    assert_eq!(hear().await["id"], 0);
    // No frame of any transfer is shown to the host.
    let answer = hear().await;
    assert_eq!(answer["id"], "big", "{}", answer["method"]);
    let echoed = answer["result"]["content"][0]["text"].as_str().unwrap();
    assert_eq!(echoed.len(), data.len() + r#"echo:{"data":""}"#.len());
    assert!(echoed == format!(r#"echo:{{"data":"{data}"}}"#), "it came back changed");
    drop(saying.await.unwrap());
    running.await.unwrap().unwrap();
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_megabytes_come_back_as_they_went_through_a_child_of_ones_own() {
    echo(2_000_000, Isolation::PerCaller).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_mebibytes_in_base64_come_back_as_they_went() {
    echo(16 * 1024 * 1024 / 3 * 4, Isolation::Shared).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_no_peer_would_read_is_an_error_and_not_silence() {
    let stage = Stage::serve(child(&[])).await;
    let (client, _messages) = stage.client(1).await;
    initialize(&client).await;
    // Five bytes for each value.
    let failed = call(&client, "values", r#"{"n":300000,"of":1000}"#).await;
    assert_eq!(reason(&failed.unwrap_err()), "child_answer_invalid");
    assert_eq!(call(&client, "echo", "{}").await.unwrap(), "echo:{}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_over_the_limit_costs_the_child_nothing_but_that_line() {
    let stage = Stage::serve(child(&[])).await;
    let (client, _messages) = stage.client(1).await;
    initialize(&client).await;
    let limit = contextvm_core::Limits::default().child_line;
    assert_eq!(call(&client, "long_line", &format!(r#"{{"bytes":{}}}"#, limit + 1)).await.unwrap(), "ok");
    let noise = stage.notices.all().iter().any(|notice| notice.to_string().contains("bytes in one line"));
    assert!(noise);
    stage.end().await;
}

/// Posts a message to a proxy and returns the head and the body of what comes back, which ends with the connection.
async fn post(address: SocketAddr, headers: &[(&str, &str)], message: &str) -> (String, String) {
    let mut head = format!(
        "POST /mcp HTTP/1.0\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         accept: application/json, text/event-stream\r\n",
        message.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let (mut reader, mut writer) = tokio::net::TcpStream::connect(address).await.unwrap().into_split();
    writer.write_all(format!("{head}\r\n{message}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    let reading = tokio::time::timeout(Duration::from_secs(60), reader.read_to_string(&mut answer));
    reading.await.expect("in time").unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.lines().next().unwrap().ends_with("200 OK"), "{answer:.500}");
    (head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_of_both_eras_pass_the_http_front() {
    let stage = Stage::serve(child(&[])).await;
    let mut options = ClientOptions::new(keys(1), keys(100).public_key().into());
    options.relays = vec![stage.relay.url()];
    let stop = CancellationToken::new();
    let proxy = Proxy::builder(options).build();
    let proxy = proxy.bind(HttpOptions::new("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let address = proxy.address();
    let running = tokio::spawn(proxy.run(stop.clone()));
    let data = text(6_000_000);
    let call = |meta: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"echo","arguments":{{"data":"{data}"}}{meta}}}}}"#
        )
    };
    let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"h","version":"1"}}}"#;
    let (head, _) = post(address, &[], initialize).await;
    let session = head.lines().find_map(|line| line.strip_prefix("mcp-session-id: ")).unwrap();
    let older = [("mcp-session-id", session), ("mcp-protocol-version", "2025-06-18")];
    let (_, answer) = post(address, &older, &call("")).await;
    assert!(answer.contains(&data), "{:.200}", answer);

    let newer = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "echo")];
    let info = r#""io.modelcontextprotocol/clientInfo":{"name":"h","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}"#;
    let meta = format!(r#","_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28",{info}}}"#);
    let (_, answer) = post(address, &newer, &call(&meta)).await;
    assert!(answer.contains(&data), "{:.200}", answer);
    stop.cancel();
    running.await.unwrap().unwrap();
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_pass_an_http_server() {
    let server = HttpServer::start().await;
    let target = contextvm_bridge::HttpTarget::new(&server.url).unwrap();
    let stage = Stage::serve_with(target, |gateway| gateway, None).await;
    let (client, _messages) = stage.client(1).await;
    initialize(&client).await;
    let data = text(3_000_000);
    for tool in ["echo", "echo_stream"] {
        let params = format!(r#"{{"name":"{tool}","arguments":{{"data":"{data}"}}}}"#);
        let result = request(&client, "tools/call", &params).await.unwrap();
        assert!(result["content"][0]["text"].as_str().unwrap().contains(&data), "{tool}");
    }
    stage.end().await;
}
