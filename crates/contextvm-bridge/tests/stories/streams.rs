//! Stories of servers that stream by themselves: frames pass a gateway in both directions.
use std::time::Duration;

use contextvm_bridge::{GatewayBuilder, HttpTarget, Isolation};
use contextvm_client::{Client, Messages};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::http_server::HttpServer;
use crate::stage::{Stage, child, hear, initialize, keys};

async fn serve(isolation: Isolation) -> Stage {
    Stage::serve_with(child(&[]), |gateway: GatewayBuilder| gateway.isolation(isolation), None).await
}

/// Connects a caller that reads streams.
async fn reader(stage: &Stage, number: u8) -> (Client, Messages) {
    let client = Client::builder(keys(number), keys(100).public_key().into()).relay(stage.relay.url());
    client.open_streams(true).request_timeout(Duration::from_secs(20)).connect().await.unwrap()
}

/// A call that is answered once its reader has said this.
fn params(mark: &str, until: &str) -> Box<RawValue> {
    let arguments = format!(r#"{{"mark":"{mark}","until":"{until}"}}"#);
    RawValue::from_string(format!(r#"{{"name":"stream","arguments":{arguments}}}"#)).unwrap()
}

/// Reads a stream to its end and returns what was written, and what the child heard of the reader.
async fn read(client: &Client, mark: &str) -> (String, Value) {
    let mut call = client.call_stream("tools/call", Some(params(mark, "pong"))).await.unwrap();
    let mut written = String::new();
    while let Some(chunk) = call.chunk().await {
        written.push_str(&chunk.unwrap().data);
    }
    let answer: Value = serde_json::from_str(call.answer().await.unwrap().result.get()).unwrap();
    (written, serde_json::from_str(answer["content"][0]["text"].as_str().unwrap()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_streams_by_itself_is_read_through_a_gateway_and_hears_its_reader() {
    for isolation in [Isolation::Shared, Isolation::PerCaller] {
        let stage = serve(isolation).await;
        let (client, _messages) = reader(&stage, 1).await;
        initialize(&client).await;
        let (written, said) = read(&client, "a").await;
        assert_eq!(written, "a0a1a2");
        assert_eq!((&said["frameType"], &said["nonce"]), (&"pong".into(), &"a-nonce".into()));
        client.close().await;
        stage.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_server_that_streams_by_itself_is_read_through_a_gateway_and_hears_its_reader() {
    let server = HttpServer::start().await;
    let target = HttpTarget::new(&server.url).unwrap();
    let stage = Stage::serve_with(target, |gateway| gateway, None).await;
    let (client, _messages) = reader(&stage, 1).await;
    initialize(&client).await;
    let (written, said) = read(&client, "h").await;
    assert_eq!(written, "h0h1h2");
    assert_eq!((&said["frameType"], &said["nonce"]), (&"pong".into(), &"h-nonce".into()));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_streams_unasked_hears_that_its_caller_is_there() {
    let stage = serve(Isolation::Shared).await;
    let (client, mut messages) = stage.client(1).await;
    initialize(&client).await;
    let call = r#"{"jsonrpc":"2.0","id":"s","method":"tools/call","params":{"name":"stream",
        "arguments":{"mark":"a","until":"pong"},"_meta":{"progressToken":"mine"}}}"#;
    client.send(call.to_owned()).await.unwrap();
    let first: Value = serde_json::from_str(&messages.recv().await.unwrap()).unwrap();
    assert_eq!(first["id"], "s", "frames are not shown to who did not ask for them");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_is_heard_by_the_server() {
    for isolation in [Isolation::Shared, Isolation::PerCaller] {
        let stage = serve(isolation).await;
        let (client, _messages) = reader(&stage, 1).await;
        initialize(&client).await;
        let mut call = client.call_stream("tools/call", Some(params("a", "abort"))).await.unwrap();
        assert_eq!(&*call.chunk().await.unwrap().unwrap().data, "a0");
        call.abort(Some("enough"));
        let answer = call.answer().await.unwrap().result;
        assert!(answer.get().contains("enough"), "{answer}");
        stage.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_callers_with_equal_tokens_share_a_child_and_read_their_own_streams() {
    let stage = serve(Isolation::Shared).await;
    let (one, mut ones) = stage.client(1).await;
    let (two, mut twos) = stage.client(2).await;
    initialize(&one).await;
    initialize(&two).await;
    let call = |mark: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":"same","method":"tools/call","params":{{"name":"notes","arguments":{{"mark":"{mark}"}},"_meta":{{"progressToken":"same"}}}}}}"#
        )
    };
    one.send(call("one")).await.unwrap();
    two.send(call("two")).await.unwrap();
    for (messages, mark) in [(&mut ones, "one"), (&mut twos, "two")] {
        for nth in 1..=3 {
            let progress = hear(messages, |message| message["method"] == "notifications/progress").await;
            let params = &progress["params"];
            assert_eq!((&params["progressToken"], &params["message"]), (&"same".into(), &mark.into()));
            assert_eq!(params["progress"], nth);
        }
        hear(messages, |message| message["id"] == "same").await;
    }
    let readers = [reader(&stage, 3).await, reader(&stage, 4).await];
    for (client, _) in &readers {
        initialize(client).await;
    }
    let (three, four) = tokio::join!(read(&readers[0].0, "three"), read(&readers[1].0, "four"));
    assert_eq!((three.0, four.0), ("three0three1three2".to_owned(), "four0four1four2".to_owned()));
    assert_eq!((&three.1["nonce"], &four.1["nonce"]), (&"three-nonce".into(), &"four-nonce".into()));
    stage.end().await;
}
