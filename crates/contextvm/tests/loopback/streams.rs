//! Streams (CEP-41) from a typed tool to a client: order, back-pressure, both sides giving up, and calls that nobody reads.
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contextvm::client::{
    CallError, Client, ClientBuilder, EncryptionMode, StreamError, StreamFailure, StreamedCall,
};
use contextvm::server::{Delivery, RequestKey, ServerBuilder, ServerHandle, serve_rmcp, stream_writer};
use contextvm_local_relay::{Faults, LocalRelay};
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{ServerCapabilities, ServerConfig};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler, schemars, tool, tool_handler, tool_router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::*;

const PROTECTIONS: [EncryptionMode; 2] = [EncryptionMode::Disabled, EncryptionMode::Required];

/// What the tools have noticed.
#[derive(Default)]
struct Noticed {
    /// Chunks whose write has returned.
    written: AtomicU64,
    /// How streams ended for their tools.
    ends: Mutex<Vec<Option<StreamError>>>,
}

impl Noticed {
    fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }

    fn ends(&self) -> Vec<Option<StreamError>> {
        self.ends.lock().unwrap().clone()
    }

    fn end(&self, end: Option<StreamError>) {
        self.ends.lock().unwrap().push(end);
    }
}

#[derive(Clone)]
struct Tools(Arc<Noticed>);

#[derive(Deserialize, schemars::JsonSchema)]
struct Count {
    value: u64,
}

#[tool_router]
impl Tools {
    #[tool(description = "streams lines, closes, answers")]
    async fn count(
        &self,
        context: RequestContext<RoleServer>,
        Parameters(lines): Parameters<Count>,
    ) -> String {
        let Some(mut stream) = stream_writer(&context) else { return "no writer".into() };
        stream.start(Some("text/plain")).await.unwrap();
        for line in 0..lines.value {
            stream.write(&format!("{line}\n")).await.unwrap();
            self.0.written.fetch_add(1, Ordering::SeqCst);
        }
        assert!(stream.is_open());
        stream.close().await.unwrap();
        assert!(!stream.is_open());
        assert_eq!(stream.write("late").await, Err(StreamError::Ended));
        self.0.end(stream.ended().await);
        "counted".into()
    }

    #[tool(description = "streams and answers without closing")]
    async fn unclosed(&self, context: RequestContext<RoleServer>) -> String {
        let mut stream = stream_writer(&context).unwrap();
        stream.write("one").await.unwrap();
        stream.write("two").await.unwrap();
        let ended = stream.ended();
        drop(stream);
        let noticed = Arc::clone(&self.0);
        tokio::spawn(async move { noticed.end(ended.await) });
        "unclosed".into()
    }

    #[tool(description = "has a writer and does not use it")]
    async fn silent(&self, context: RequestContext<RoleServer>) -> String {
        let stream = stream_writer(&context);
        let Some(stream) = stream else { return "no writer".into() };
        let (ended, noticed) = (stream.ended(), Arc::clone(&self.0));
        tokio::spawn(async move { noticed.end(ended.await) });
        "silent".into()
    }

    #[tool(description = "streams blocks of 8,000 bytes until it is stopped")]
    async fn flood(&self, context: RequestContext<RoleServer>) -> String {
        let mut stream = stream_writer(&context).unwrap();
        let block = "x".repeat(8_000);
        let error = loop {
            match stream.write(&block).await {
                Ok(()) => self.0.written.fetch_add(1, Ordering::SeqCst),
                Err(error) => break error,
            };
        };
        self.0.end(Some(error));
        error.to_string()
    }

    #[tool(description = "streams a line and waits for the end")]
    async fn wait(&self, context: RequestContext<RoleServer>) -> String {
        let mut stream = stream_writer(&context).unwrap();
        stream.write("waiting").await.unwrap();
        let end = stream.ended().await;
        assert!(!stream.is_open());
        assert_eq!(stream.write("more").await.err(), end);
        self.0.end(end);
        "ended".into()
    }

    #[tool(description = "gives its stream up")]
    async fn give_up(&self, context: RequestContext<RoleServer>) -> String {
        let mut stream = stream_writer(&context).unwrap();
        stream.write("one").await.unwrap();
        stream.abort(Some("the disk is full")).await.unwrap();
        "half".into()
    }
}

#[tool_handler]
impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

async fn serve(builder: ServerBuilder) -> (ServerHandle, Arc<Noticed>) {
    let listener = builder.start().await.unwrap();
    let (handle, noticed) = (listener.handle(), Arc::new(Noticed::default()));
    let shared = Arc::clone(&noticed);
    tokio::spawn(serve_rmcp(listener, move |_| Tools(Arc::clone(&shared))));
    (handle, noticed)
}

async fn connect(builder: ClientBuilder) -> Client {
    let (client, messages) = builder.stateless().connect().await.unwrap();
    forget(messages);
    client
}

async fn reader(relay: &LocalRelay, server: &ServerHandle, encryption: EncryptionMode) -> Client {
    connect(client(relay, server.public_key()).encryption(encryption).open_streams(true)).await
}

async fn stream(client: &Client, tool: &str, value: u64) -> StreamedCall {
    let params = json!({"name": tool, "arguments": {"value": value}});
    let params = serde_json::value::to_raw_value(&params).unwrap();
    soon(client.call_stream("tools/call", Some(params))).await.unwrap()
}

/// Reads all chunks, and checks that none is missing.
async fn read(call: &mut StreamedCall) -> (String, Option<StreamFailure>) {
    let (mut text, mut index) = (String::new(), 0);
    while let Some(chunk) = soon(call.chunk()).await {
        match chunk {
            Ok(chunk) => {
                assert_eq!(chunk.index, index);
                index += 1;
                text.push_str(&chunk.data);
            }
            Err(failure) => {
                assert!(soon(call.chunk()).await.is_none(), "one end");
                return (text, Some(failure));
            }
        }
    }
    assert!(soon(call.chunk()).await.is_none(), "one end");
    (text, None)
}

async fn answer(call: StreamedCall) -> Result<String, CallError> {
    let answered = soon(call.answer()).await?;
    let result: Value = serde_json::from_str(answered.result.get()).unwrap();
    Ok(result["content"][0]["text"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_streams_to_its_caller_in_order_and_the_answer_follows() {
    for encryption in PROTECTIONS {
        let relay = relay().await;
        let (server, noticed) = serve(server(&relay)).await;
        let client = reader(&relay, &server, encryption).await;
        let mut call = stream(&client, "count", 100).await;
        let (text, failure) = read(&mut call).await;
        let expected: String = (0..100).map(|line| format!("{line}\n")).collect();
        assert_eq!((text, failure), (expected, None));
        assert_eq!(answer(call).await.unwrap(), "counted");
        assert_eq!(noticed.ends(), [None], "closed and published");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_streams_of_one_client_do_not_mix() {
    let relay = relay().await;
    let (server, _noticed) = serve(server(&relay)).await;
    let client = reader(&relay, &server, EncryptionMode::Optional).await;
    let mut calls = Vec::new();
    for lines in 10..15 {
        calls.push((lines, stream(&client, "count", lines).await));
    }
    for (lines, mut call) in calls.into_iter().rev() {
        let (text, failure) = read(&mut call).await;
        assert_eq!((text.lines().count() as u64, failure), (lines, None));
        assert_eq!(answer(call).await.unwrap(), "counted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_the_answer_if_not_before() {
    let relay = relay().await;
    let (server, noticed) = serve(server(&relay)).await;
    let client = reader(&relay, &server, EncryptionMode::Optional).await;
    let mut call = stream(&client, "unclosed", 0).await;
    assert_eq!(read(&mut call).await, ("onetwo".into(), None));
    assert_eq!(answer(call).await.unwrap(), "unclosed");
    let mut call = stream(&client, "silent", 0).await;
    assert_eq!(read(&mut call).await, (String::new(), None));
    assert_eq!(answer(call).await.unwrap(), "silent");
    until(|| noticed.ends().len() == 2).await;
    assert_eq!(noticed.ends(), [None, None], "the tools hear of it");
    let mut call = stream(&client, "no such tool", 0).await;
    assert_eq!(read(&mut call).await, (String::new(), None));
    assert!(matches!(answer(call).await, Err(CallError::Server { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_can_be_waited_for_without_reading() {
    let relay = relay().await;
    let (server, noticed) = serve(server(&relay)).await;
    let client = reader(&relay, &server, EncryptionMode::Optional).await;
    let call = stream(&client, "count", 1_000).await;
    assert_eq!(answer(call).await.unwrap(), "counted");
    assert_eq!((noticed.written(), noticed.ends()), (1_000, vec![None]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_nobody_asked_to_read_is_taken_and_forgotten() {
    let relay = relay().await;
    let (server, noticed) = serve(server(&relay)).await;
    let client = reader(&relay, &server, EncryptionMode::Optional).await;
    let result = call(&client, "count", json!(1_000)).await.unwrap();
    assert_eq!(result["content"][0]["text"], "counted");
    assert_eq!(noticed.written(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_streams_is_written_none() {
    let relay = relay().await;
    let (server, _noticed) = serve(server(&relay)).await;
    let deaf = caller(&relay, server.public_key()).await;
    assert_eq!(call(&deaf, "count", json!(3)).await.unwrap()["content"][0]["text"], "no writer");
    let mut call = stream(&deaf, "count", 3).await;
    assert_eq!(read(&mut call).await, (String::new(), None));
    assert_eq!(answer(call).await.unwrap(), "no writer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_streams_gives_no_writer() {
    let relay = relay().await;
    let (server, _noticed) = serve(server(&relay).open_streams(false)).await;
    let client = reader(&relay, &server, EncryptionMode::Optional).await;
    let mut call = stream(&client, "silent", 0).await;
    assert_eq!(read(&mut call).await, (String::new(), None));
    assert_eq!(answer(call).await.unwrap(), "no writer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_waits_while_no_relay_takes_what_it_wrote() {
    let relay = relay().await;
    let (server, noticed) = serve(server(&relay)).await;
    let client = reader(&relay, &server, EncryptionMode::Optional).await;
    let mut call = stream(&client, "flood", 0).await;
    assert!(soon(call.chunk()).await.unwrap().is_ok());
    relay.set_faults(Faults { refuse: Some("rate-limited: slow down".into()), ..Faults::default() });
    // Who reads is not at fault.
    let reading = tokio::spawn(async move {
        let mut bytes = 0;
        while let Some(Ok(chunk)) = call.chunk().await {
            bytes += chunk.data.len();
            if bytes > 4_000_000 {
                return call;
            }
        }
        panic!("the stream ended after {bytes} bytes");
    });
    let mut before = u64::MAX;
    while noticed.written() != before {
        before = noticed.written();
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert!(!reading.is_finished());
    assert!(noticed.ends().is_empty(), "it waits");
    relay.set_faults(Faults::default());
    let mut call = soon(reading).await.unwrap();
    assert!(noticed.written() > before);
    call.abort(None);
    until(|| noticed.ends() == [Some(StreamError::Aborted)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_too_slow_loses_the_stream_and_its_writer_is_told() {
    let relay = relay().await;
    let (server, noticed) = serve(server(&relay)).await;
    let client = reader(&relay, &server, EncryptionMode::Optional).await;
    let mut call = stream(&client, "flood", 0).await;
    until(|| noticed.ends() == [Some(StreamError::Aborted)]).await;
    let (text, failure) = read(&mut call).await;
    let failure = failure.expect("an end that says so");
    assert!(matches!(failure.error, StreamError::TooSlow { .. }), "{failure:?}");
    assert!(!text.is_empty() && text.bytes().all(|byte| byte == b'x'), "what was in time is kept");
    assert!(matches!(answer(call).await, Err(CallError::Server { code: -32000, .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_hears_that_its_caller_gave_up() {
    let relay = relay().await;
    let (server, noticed) = serve(server(&relay)).await;
    let client = reader(&relay, &server, EncryptionMode::Optional).await;
    let mut call = stream(&client, "wait", 0).await;
    assert_eq!(&*soon(call.chunk()).await.unwrap().unwrap().data, "waiting");
    call.abort(Some("seen enough"));
    let (text, failure) = read(&mut call).await;
    assert_eq!((text.as_str(), failure.unwrap().error), ("", StreamError::Cancelled));
    let error = answer(call).await.unwrap_err();
    assert!(matches!(error, CallError::Server { code: -32000, .. }), "{error:?}");
    assert_eq!(noticed.ends(), [Some(StreamError::Aborted)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_dropped_ends_for_its_tool() {
    let relay = relay().await;
    let (server, noticed) = serve(server(&relay)).await;
    let client = reader(&relay, &server, EncryptionMode::Optional).await;
    for tool in ["wait", "flood"] {
        let before = noticed.ends().len();
        let mut call = stream(&client, tool, 0).await;
        assert!(soon(call.chunk()).await.unwrap().is_ok());
        drop(call);
        until(|| noticed.ends().len() == before + 1).await;
    }
    let ended = [Some(StreamError::Aborted), Some(StreamError::Cancelled)];
    assert!(noticed.ends().iter().all(|end| ended.contains(end)), "{:?}", noticed.ends());
    assert_eq!(answer(stream(&client, "count", 1).await).await.unwrap(), "counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_gives_up_fails_its_stream_and_its_call() {
    let relay = relay().await;
    let (server, _noticed) = serve(server(&relay)).await;
    let client = reader(&relay, &server, EncryptionMode::Optional).await;
    let mut call = stream(&client, "give_up", 0).await;
    let (text, failure) = read(&mut call).await;
    assert!("one".starts_with(&text), "{text}");
    let failure = failure.unwrap();
    assert_eq!(failure.error, StreamError::Aborted);
    assert_eq!(failure.reason.as_deref(), Some("the disk is full"));
    assert!(matches!(answer(call).await, Err(CallError::Server { code: -32000, .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_or_server_that_goes_away_ends_every_stream() {
    let relay = relay().await;
    let (server, noticed) = serve(server(&relay)).await;
    let client = reader(&relay, &server, EncryptionMode::Optional).await;
    let mut call = stream(&client, "wait", 0).await;
    assert!(soon(call.chunk()).await.unwrap().is_ok());
    soon(client.close()).await;
    let (_, failure) = read(&mut call).await;
    assert_eq!(failure.unwrap().error, StreamError::Cancelled);
    assert!(matches!(answer(call).await, Err(CallError::Lost { .. } | CallError::Closed)));
    until(|| noticed.ends().len() == 1).await;

    let client = reader(&relay, &server, EncryptionMode::Optional).await;
    let mut call = stream(&client, "wait", 0).await;
    assert!(soon(call.chunk()).await.unwrap().is_ok());
    soon(server.shutdown()).await;
    until(|| noticed.ends().len() == 2).await;
    assert_eq!(noticed.ends()[1], Some(StreamError::Cancelled));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_application_writes_streams_to_those_who_read_them() {
    let relay = relay().await;
    let mut listener = server(&relay).start().await.unwrap();
    let handle = listener.handle();
    tokio::spawn(async move {
        let mut sessions = Vec::new();
        while let Some(mut session) = listener.accept().await {
            let inbound = session.recv().await.unwrap();
            let Delivery::Request { key, streams, .. } = inbound.delivery else { panic!("{inbound:?}") };
            let sender = session.sender();
            let mut writer = sender.stream(key);
            assert_eq!(writer.is_open(), streams);
            let written = writer.write("raw").await;
            assert_eq!(written.is_ok(), streams);
            let caller = contextvm::new_keys().unwrap().public_key();
            assert!(!sender.stream(RequestKey { caller, ..key }).is_open(), "nobody else's");
            let answer = json!({"jsonrpc": "2.0", "id": key.id.to_hex(), "result": {"streams": streams}});
            sender.send(answer.to_string()).await.unwrap();
            assert_eq!(writer.ended().await, None);
            assert!(!sender.stream(key).is_open(), "it is answered");
            sessions.push(session);
        }
    });
    for reads in [true, false] {
        let client = connect(client(&relay, handle.public_key()).open_streams(reads)).await;
        let mut call = stream(&client, "any", 0).await;
        let text = if reads { "raw" } else { "" };
        assert_eq!(read(&mut call).await, (text.into(), None));
        let answered = soon(call.answer()).await.unwrap();
        assert_eq!(answered.result.get(), format!(r#"{{"streams":{reads}}}"#));
    }
}
