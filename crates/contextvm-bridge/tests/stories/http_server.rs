//! A Streamable HTTP server of both eras that does what a tool call tells it to.
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use axum::routing::any;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// What the server knows.
#[derive(Default)]
struct Memory {
    next: u64,
    sessions: BTreeMap<String, Session>,
    /// Streams that can be resumed: what follows after the event with this id.
    rest: BTreeMap<String, Vec<Value>>,
    seen: Vec<(HeaderMap, Value)>,
    deleted: usize,
    closed: BTreeSet<String>,
}

#[derive(Default)]
struct Session {
    stream: Option<mpsc::Sender<Value>>,
    asked: Option<mpsc::Sender<Value>>,
    subscribed: BTreeSet<String>,
}

/// A running server.
#[derive(Clone)]
pub(crate) struct HttpServer {
    pub(crate) url: String,
    memory: Arc<Mutex<Memory>>,
}

impl HttpServer {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let server = Self { url, memory: Arc::default() };
        let app = Router::new().route("/mcp", any(handle)).layer(DefaultBodyLimit::disable());
        let app = app.with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        server
    }

    pub(crate) fn sessions(&self) -> usize {
        self.memory.lock().unwrap().sessions.len()
    }

    pub(crate) fn deleted(&self) -> usize {
        self.memory.lock().unwrap().deleted
    }

    /// Forgets all sessions, as a restart would.
    pub(crate) fn forget(&self) {
        self.memory.lock().unwrap().sessions.clear();
    }

    /// How often a method came.
    pub(crate) fn count(&self, method: &str) -> usize {
        self.memory.lock().unwrap().seen.iter().filter(|(_, body)| body["method"] == method).count()
    }

    pub(crate) fn was_closed(&self, what: &str) -> bool {
        self.memory.lock().unwrap().closed.contains(what)
    }

    /// The headers that came with the last request of a method.
    pub(crate) fn headers(&self, method: &str) -> HeaderMap {
        let memory = self.memory.lock().unwrap();
        memory.seen.iter().rev().find(|(_, body)| body["method"] == method).unwrap().0.clone()
    }
}

fn empty(status: StatusCode) -> Response {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

fn json_body(status: StatusCode, body: &Value) -> Response {
    let builder = Response::builder().status(status).header("content-type", "application/json");
    builder.body(Body::from(body.to_string())).unwrap()
}

fn result(id: &Value, result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

fn error(id: &Value, code: i64) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": "no"}})
}

fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

fn event(id: Option<&str>, data: &Value) -> String {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("{id}event: message\r\ndata: {data}\r\n\r\n")
}

/// Notes that a stream was closed by the other side, or ended.
struct Closed(HttpServer, String);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.memory.lock().unwrap().closed.insert(self.1.clone());
    }
}

fn stream_body(chunks: mpsc::Receiver<String>, closed: Option<Closed>) -> Response {
    let body = stream::unfold((chunks, closed), |(mut chunks, closed)| async move {
        let chunk = chunks.recv().await?;
        Some((Ok::<_, Infallible>(chunk), (chunks, closed)))
    });
    let builder = Response::builder().header("content-type", "text/event-stream; charset=utf-8");
    builder.body(Body::from_stream(body)).unwrap()
}

fn events(values: impl IntoIterator<Item = String>) -> Response {
    let values: Vec<String> = values.into_iter().collect();
    let (sender, chunks) = mpsc::channel(values.len().max(1));
    for value in values {
        sender.try_send(value).unwrap();
    }
    stream_body(chunks, None)
}

async fn handle(
    State(server): State<HttpServer>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let session = header("mcp-session-id");
    let known = |session: &String| server.memory.lock().unwrap().sessions.contains_key(session);
    if method == Method::GET {
        return listen(&server, session, header("last-event-id"));
    }
    if method == Method::DELETE {
        let mut memory = server.memory.lock().unwrap();
        memory.deleted += 1;
        session.map(|session| memory.sessions.remove(&session));
        return empty(StatusCode::OK);
    }
    let message: Value = serde_json::from_slice(&body).unwrap();
    server.memory.lock().unwrap().seen.push((headers.clone(), message.clone()));
    let version = message.pointer("/params/_meta/io.modelcontextprotocol~1protocolVersion");
    if version.is_some() {
        return modern(&server, &headers, &message);
    }
    if message["method"] == "initialize" {
        let mut memory = server.memory.lock().unwrap();
        memory.next += 1;
        let id = format!("s{}", memory.next);
        memory.sessions.insert(id.clone(), Session::default());
        let info = json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "http", "version": id}, "asked": message["params"]});
        let mut response = json_body(StatusCode::OK, &result(&message["id"], info));
        response.headers_mut().insert("mcp-session-id", id.parse().unwrap());
        return response;
    }
    let Some(session) = session else { return empty(StatusCode::BAD_REQUEST) };
    if !known(&session) || header("mcp-protocol-version").as_deref() != Some("2025-11-25") {
        return empty(StatusCode::NOT_FOUND);
    }
    legacy(&server, &session, &message).await
}

fn listen(server: &HttpServer, session: Option<String>, last: Option<String>) -> Response {
    let mut memory = server.memory.lock().unwrap();
    if let Some(last) = last {
        let Some(rest) = memory.rest.remove(&last) else { return empty(StatusCode::NOT_FOUND) };
        return events(rest.iter().map(|value| event(None, value)));
    }
    let Some(session) = session.and_then(|session| memory.sessions.get_mut(&session)) else {
        return empty(StatusCode::NOT_FOUND);
    };
    let (sender, mut values) = mpsc::channel(16);
    session.stream = Some(sender);
    let (chunks, body) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Some(value) = values.recv().await {
            if chunks.send(event(None, &value)).await.is_err() {
                return;
            }
        }
    });
    stream_body(body, None)
}

async fn legacy(server: &HttpServer, session: &str, message: &Value) -> Response {
    let id = &message["id"];
    let uri = message["params"]["uri"].as_str().unwrap_or_default().to_owned();
    if message.get("method").is_none() {
        let asked = server.memory.lock().unwrap().sessions[session].asked.clone();
        asked.unwrap().send(message.clone()).await.unwrap();
        return empty(StatusCode::ACCEPTED);
    }
    if id.is_null() {
        let reader = server.memory.lock().unwrap().sessions[session].asked.clone();
        if let Some(reader) = reader.filter(|_| message["method"] == "notifications/progress") {
            let _gone = reader.send(message.clone()).await;
        }
        return empty(StatusCode::ACCEPTED);
    }
    match message["method"].as_str().unwrap() {
        "tools/call" => tool(server, session, message).await,
        "resources/subscribe" => {
            let mut memory = server.memory.lock().unwrap();
            memory.sessions.get_mut(session).unwrap().subscribed.insert(uri);
            json_body(StatusCode::OK, &result(id, json!({})))
        }
        _ => json_body(StatusCode::OK, &error(id, -32601)),
    }
}

async fn tool(server: &HttpServer, session: &str, message: &Value) -> Response {
    let (id, params) = (&message["id"], &message["params"]);
    let arguments = &params["arguments"];
    let ok = |value: &str| json_body(StatusCode::OK, &result(id, text(value)));
    match params["name"].as_str().unwrap() {
        "session" => ok(session),
        "hang" => {
            tokio::time::sleep(Duration::from_secs(600)).await;
            empty(StatusCode::OK)
        }
        "status" => empty(StatusCode::SERVICE_UNAVAILABLE),
        "redirect" => {
            let builder = Response::builder().status(StatusCode::TEMPORARY_REDIRECT);
            builder.header("location", "http://127.0.0.1:1/").body(Body::empty()).unwrap()
        }
        "invalid" => json_body(StatusCode::OK, &json!({"hello": 1})),
        "huge" => json_body(StatusCode::OK, &result(id, text(&"x".repeat(25 * 1024 * 1024)))),
        "nameless" => {
            let error =
                json!({"jsonrpc": "2.0", "id": null, "error": {"code": -7, "message": "own", "data": 1}});
            json_body(StatusCode::BAD_REQUEST, &error)
        }
        "broken" => events([event(None, &json!({"jsonrpc": "2.0", "method": "notifications/x"}))]),
        "cut" => {
            // Closed after the first event, as a server does that wants to be polled; the rest waits.
            let key = format!("{session}-{}", id.as_str().unwrap());
            let mut memory = server.memory.lock().unwrap();
            memory.rest.insert(key.clone(), vec![result(id, text("resumed"))]);
            events([format!("id: {key}\nretry: 60\ndata: \n\n")])
        }
        "notes" => {
            let mark = &arguments["mark"];
            let token = &params["_meta"]["progressToken"];
            let progress = (1..=3).map(|nth| {
                let params = json!({"progressToken": token, "progress": nth, "message": mark});
                json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
            });
            let log = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": mark}});
            let answer = result(id, text(mark.as_str().unwrap()));
            events(progress.chain([log, answer]).map(|value| event(None, &value)))
        }
        "echo_stream" => events([event(None, &result(id, text(&arguments.to_string())))]),
        "stream" => written(server, session, message),
        "ask" => ask(server, session, id),
        "touch" => {
            let uri = arguments["uri"].as_str().unwrap();
            let note = json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}});
            let streams: Vec<_> = {
                let memory = server.memory.lock().unwrap();
                let wanting = memory.sessions.values().filter(|session| session.subscribed.contains(uri));
                wanting.filter_map(|session| session.stream.clone()).collect()
            };
            for stream in &streams {
                let _gone = stream.send(note.clone()).await;
            }
            ok(&streams.len().to_string())
        }
        _ => ok(&arguments.to_string()),
    }
}

/// Writes on the caller's stream by itself, and answers with what the reader says.
fn written(server: &HttpServer, session: &str, message: &Value) -> Response {
    let (asked, mut said) = mpsc::channel(1);
    server.memory.lock().unwrap().sessions.get_mut(session).unwrap().asked = Some(asked);
    let (chunks, body) = mpsc::channel(8);
    let (id, token) = (message["id"].clone(), message["params"]["_meta"]["progressToken"].clone());
    let mark = message["params"]["arguments"]["mark"].as_str().unwrap_or_default().to_owned();
    let frame = move |progress: u64, mut cvm: Value| {
        cvm["type"] = json!("open-stream");
        let params = json!({"progressToken": token, "progress": progress, "cvm": cvm});
        event(None, &json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}))
    };
    chunks.try_send(frame(1, json!({"frameType": "start"}))).unwrap();
    for index in 0..3_u64 {
        let chunk = json!({"frameType": "chunk", "chunkIndex": index, "data": format!("{mark}{index}")});
        chunks.try_send(frame(index + 2, chunk)).unwrap();
    }
    chunks.try_send(frame(5, json!({"frameType": "ping", "nonce": format!("{mark}-nonce")}))).unwrap();
    tokio::spawn(async move {
        let said = said.recv().await.unwrap();
        let answer = result(&id, text(&said["params"]["cvm"].to_string()));
        for event in [frame(6, json!({"frameType": "close", "lastChunkIndex": 2})), event(None, &answer)] {
            let _gone = chunks.send(event).await;
        }
    });
    stream_body(body, None)
}

/// Asks the client for its roots while the call waits, and answers with what came.
fn ask(server: &HttpServer, session: &str, id: &Value) -> Response {
    let (asked, mut answers) = mpsc::channel(1);
    server.memory.lock().unwrap().sessions.get_mut(session).unwrap().asked = Some(asked);
    let (chunks, body) = mpsc::channel(4);
    let question = json!({"jsonrpc": "2.0", "id": 0, "method": "roots/list"});
    chunks.try_send(event(None, &question)).unwrap();
    let id = id.clone();
    tokio::spawn(async move {
        let answer = answers.recv().await.unwrap();
        assert_eq!(answer["id"], 0);
        let _gone = chunks.send(event(None, &result(&id, text(&answer.to_string())))).await;
    });
    stream_body(body, None)
}

fn modern(server: &HttpServer, headers: &HeaderMap, message: &Value) -> Response {
    let (id, method, params) = (&message["id"], message["method"].as_str().unwrap(), &message["params"]);
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if header("mcp-method") != Some(method)
        || header("mcp-protocol-version") != Some("2026-07-28")
        || headers.contains_key("mcp-session-id")
    {
        return json_body(StatusCode::BAD_REQUEST, &error(id, -32020));
    }
    match method {
        "server/discover" => {
            let found =
                json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {}});
            json_body(StatusCode::OK, &result(id, found))
        }
        "tools/list" => {
            let schema =
                json!({"type": "object", "properties": {"city": {"type": "string", "x-mcp-header": "City"}}});
            let tools = json!([{"name": "weather", "inputSchema": schema}]);
            json_body(StatusCode::OK, &result(id, json!({"resultType": "complete", "tools": tools})))
        }
        "tools/call" if header("mcp-name") != params["name"].as_str() => {
            json_body(StatusCode::BAD_REQUEST, &error(id, -32020))
        }
        "tools/call" if params["name"] == "weather" => match header("mcp-param-city") {
            Some(city) => json_body(StatusCode::OK, &result(id, text(city))),
            None => json_body(StatusCode::BAD_REQUEST, &error(id, -32020)),
        },
        "tools/call" => {
            let (chunks, body) = mpsc::channel(4);
            let name = params["name"].as_str().unwrap().to_owned();
            // It never answers: only the end of the connection ends it.
            let closed = Closed(server.clone(), name);
            tokio::spawn(async move {
                while chunks.send(": here\n\n".to_owned()).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
            stream_body(body, Some(closed))
        }
        "subscriptions/listen" => {
            let note = |method: &str| {
                let meta = json!({"io.modelcontextprotocol/subscriptionId": id});
                json!({"jsonrpc": "2.0", "method": method, "params": {"_meta": meta}})
            };
            let (chunks, body) = mpsc::channel(4);
            chunks.try_send(event(None, &note("notifications/subscriptions/acknowledged"))).unwrap();
            chunks.try_send(event(None, &note("notifications/tools/list_changed"))).unwrap();
            let closed = Closed(server.clone(), "listen".to_owned());
            tokio::spawn(async move { chunks.closed().await });
            stream_body(body, Some(closed))
        }
        _ => json_body(StatusCode::NOT_FOUND, &error(id, -32601)),
    }
}
