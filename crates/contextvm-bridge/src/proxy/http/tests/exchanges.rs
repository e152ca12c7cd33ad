//! Hosts of 2026-07-28: every request is an exchange of its own.
use std::time::Duration;

use super::client::Call;
use super::stage::{Stage, error, modern_body, progress, request, result, soon};

#[tokio::test]
async fn an_answer_has_the_status_of_its_error() {
    let mut stage = Stage::open().await;
    let table = [
        (result("1", 1), 200),
        (error("1", -32601), 404),
        (error("1", -32020), 400),
        (error("1", -32021), 400),
        (error("1", -32022), 400),
        (error("1", -32602), 200),
        (error("1", -32000), 200),
    ];
    for (text, status) in table {
        let posted = tokio::spawn(stage.modern("1", "tools/list", "").send());
        let mut server = stage.server().await;
        assert_eq!(server.said().await, modern_body("1", "tools/list", ""));
        server.says(Some("1"), &text.replace(":", ":\n")).await;
        let mut answer = posted.await.unwrap();
        assert_eq!((answer.status, answer.header("mcp-session-id")), (status, ""));
        if status == 200 {
            assert_eq!(answer.header("content-type"), "text/event-stream");
            assert_eq!(answer.data().await.unwrap(), text);
            assert!(answer.event().await.is_none());
        } else {
            assert_eq!(answer.header("content-type"), "application/json");
            assert_eq!(answer.text().await, text);
        }
        server.is_over().await;
    }
}

#[tokio::test]
async fn messages_before_the_answer_make_a_stream_that_ends_with_it() {
    let mut stage = Stage::open().await;
    let posted = tokio::spawn(stage.modern("\"a\"", "tools/call", r#""name":"t""#).send());
    let mut server = stage.server().await;
    server.said().await;
    server.says(Some("\"a\""), &progress(1)).await;
    let mut answer = posted.await.unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"));
    assert_eq!((answer.header("cache-control"), answer.header("x-accel-buffering")), ("no-cache", "no"));
    let first = soon(answer.event()).await.unwrap();
    assert_eq!((first.data, first.id, first.retry), (progress(1), None, None));
    // What belongs to no request has no place here.
    server.says(None, r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#).await;
    server.says(Some("\"a\""), &progress(2)).await;
    assert_eq!(soon(answer.data()).await.unwrap(), progress(2));
    server.says(Some("\"a\""), &error("\"a\"", -32601)).await;
    assert_eq!(soon(answer.data()).await.unwrap(), error("\"a\"", -32601));
    assert!(soon(answer.event()).await.is_none());
    server.is_over().await;
}

#[tokio::test]
async fn a_closed_stream_gives_the_request_up() {
    let mut stage = Stage::open().await;
    let posted = tokio::spawn(stage.modern("7", "subscriptions/listen", "").send());
    let mut server = stage.server().await;
    server.said().await;
    server.says(Some("7"), &progress(1)).await;
    let mut answer = posted.await.unwrap();
    assert!(answer.event().await.is_some());
    drop(answer);
    assert_eq!(server.abandoned().await, "7");
    server.is_over().await;
}

#[tokio::test]
async fn a_connection_closed_before_the_first_message_gives_the_request_up() {
    let mut stage = Stage::open().await;
    let posted = tokio::spawn(stage.modern("7", "tools/list", "").send());
    let mut server = stage.server().await;
    server.said().await;
    posted.abort();
    assert_eq!(server.abandoned().await, "7");
    server.is_over().await;
}

#[tokio::test]
async fn two_hosts_with_equal_ids_at_the_same_time_get_their_own_answers() {
    let mut stage = Stage::open().await;
    let mut posted = Vec::new();
    let mut servers = Vec::new();
    for name in ["a", "b", "c"] {
        let call = stage.modern("1", "tools/call", &format!(r#""name":"{name}""#));
        posted.push(tokio::spawn(call.send()));
        let mut server = stage.server().await;
        assert!(server.said().await.contains(&format!(r#""name":"{name}""#)));
        servers.push(server);
    }
    for (n, server) in servers.iter().enumerate().rev() {
        server.says(Some("1"), &progress(n)).await;
        server.says(Some("1"), &result("1", n)).await;
    }
    for (n, posted) in posted.into_iter().enumerate() {
        let mut answer = posted.await.unwrap();
        assert_eq!(answer.data().await.unwrap(), progress(n));
        assert_eq!(answer.data().await.unwrap(), result("1", n));
    }
}

#[tokio::test]
async fn a_long_silence_is_bridged() {
    let mut stage = Stage::with(|options| options.with_keep_alive(Duration::from_millis(30))).await;
    let posted = tokio::spawn(stage.modern("1", "tools/list", "").send());
    let mut server = stage.server().await;
    let mut answer = soon(posted).await.unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"));
    assert_eq!(answer.raw().await.unwrap(), ": keep-alive\n\n");
    server.said().await;
    server.says(Some("1"), &result("1", 1)).await;
    assert_eq!(answer.data().await.unwrap(), result("1", 1));
    assert!(answer.event().await.is_none());
}

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"t","inputSchema":{"type":"object","properties":{"city":{"type":"string","x-mcp-header":"City"}}}}]}}"#;

/// Waits until a call was passed on and answered.
async fn passes(stage: &mut Stage, call: Call) {
    let posted = tokio::spawn(call.send());
    let mut server = stage.server().await;
    server.said().await;
    server.says(Some("1"), &result("1", 1)).await;
    assert_eq!(posted.await.unwrap().status, 200);
}

#[tokio::test]
async fn headers_of_tools_are_asked_for_once_a_list_has_named_them() {
    let mut stage = Stage::open().await;
    let call = stage.modern("1", "tools/call", r#""name":"t","arguments":{"city":"Ås"}"#);
    passes(&mut stage, call.clone()).await;

    // Only the answer to `tools/list` is a list of tools.
    for (method, is_list) in [("x/list", false), ("tools/list", true)] {
        let posted = tokio::spawn(stage.modern("1", method, "").send());
        let server = stage.server().await;
        server.says(Some("1"), LIST).await;
        assert_eq!(posted.await.unwrap().data().await.unwrap(), LIST);
        if !is_list {
            passes(&mut stage, call.clone()).await;
        }
    }

    for value in ["", "Bergen", "=?base64?w4VzX?=", "=?base64?QmVyZ2Vu?="] {
        let refused = call.clone().with("mcp-param-city", value).send().await;
        assert_eq!(refused.status, 400, "{value}");
        assert!(refused.text().await.contains(r#""code":-32020"#));
    }
    passes(&mut stage, call.with("Mcp-Param-City", "=?base64?w4Vz?=")).await;
}

#[tokio::test]
async fn a_list_that_a_session_asked_for_is_learnt_too() {
    let mut stage = Stage::open().await;
    let (host, server) = stage.session().await;
    let (mut answer, _) = host.ask(&request("1", "tools/list")).await;
    server.says(Some("1"), LIST).await;
    assert_eq!(answer.data().await.unwrap(), LIST);
    let call = stage.modern("1", "tools/call", r#""name":"t","arguments":{"city":"x"}"#);
    assert_eq!(call.clone().send().await.status, 400);
    passes(&mut stage, call.with("mcp-param-city", "x")).await;
}

#[tokio::test]
async fn a_notification_is_passed_on_and_an_answer_is_refused() {
    let mut stage = Stage::open().await;
    let text = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
    let post = |text: &str| stage.post(text).with("mcp-protocol-version", "2026-07-28");
    let posted = tokio::spawn(post(text).send());
    let refused = post(&result("1", 1)).send().await;
    let mut server = stage.server().await;
    assert_eq!(server.said().await, text);
    server.is_over().await;
    let accepted = posted.await.unwrap();
    assert_eq!((accepted.status, accepted.header("content-length")), (202, "0"));
    assert_eq!(refused.status, 400);
    assert!(stage.is_silent());
}

#[tokio::test]
async fn a_method_that_was_removed_is_left_to_the_server() {
    let mut stage = Stage::open().await;
    let posted = tokio::spawn(stage.modern("1", "initialize", "").send());
    let mut server = stage.server().await;
    assert_eq!(server.said().await, modern_body("1", "initialize", ""));
    server.says(Some("1"), &error("1", -32601)).await;
    assert_eq!(posted.await.unwrap().status, 404);
}

#[tokio::test]
async fn a_revision_that_is_not_known_is_left_to_the_server() {
    let mut stage = Stage::open().await;
    let body = modern_body("1", "server/discover", "").replace("2026-07-28", "v999.0.0");
    let posted = tokio::spawn(stage.post(&body).with("mcp-protocol-version", "v999.0.0").send());
    let mut server = stage.server().await;
    assert_eq!(server.said().await, body);
    server.says(Some("1"), &error("1", -32022)).await;
    assert_eq!(posted.await.unwrap().status, 400);
}

#[tokio::test]
async fn a_server_side_that_ends_leaves_no_request_without_an_answer() {
    let mut stage = Stage::open().await;
    let posted = tokio::spawn(stage.modern("1", "tools/list", "").send());
    drop(stage.server().await);
    let text = posted.await.unwrap().data().await.unwrap();
    assert!(text.starts_with(r#"{"jsonrpc":"2.0","id":1,"error":"#) && text.contains(r#""reason":"closed""#));
    let discover = request("1", "server/discover");
    assert_eq!(stage.post(&discover).send().await.status, 400);
}
