//! Hosts that begin with `initialize`: how a session begins, lives and ends.
use super::stage::{INITIALIZE, INITIALIZED, Stage, error, progress, request, result, soon};

const CHANGED: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
const SAMPLE: &str = r#"{"jsonrpc":"2.0","id":"s1","method":"sampling/createMessage","params":{}}"#;

#[tokio::test]
async fn a_session_lives_from_initialize_to_delete() {
    let mut stage = Stage::open().await;
    let (host, mut server) = stage.session().await;
    assert!(host.id.len() == 32 && host.id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let accepted = host.post(INITIALIZED).send().await;
    assert_eq!((accepted.status, accepted.text().await), (202, String::new()));
    assert_eq!(server.said().await, INITIALIZED);

    let mut own = host.call("GET").send().await;
    assert_eq!((own.status, own.header("content-type")), (200, "text/event-stream"));
    assert_eq!(own.event().await.unwrap().id.as_deref(), Some("0-0"));
    server.says(None, CHANGED).await;
    let event = own.event().await.unwrap();
    assert_eq!((event.data.as_str(), event.id.as_deref()), (CHANGED, Some("0-1")));

    let (mut answer, primed) = host.ask(&request("1", "tools/call")).await;
    assert_eq!(server.said().await, request("1", "tools/call"));
    server.says(Some("1"), SAMPLE).await;
    assert_eq!(answer.data().await.unwrap(), SAMPLE);
    let sampled = r#"{"jsonrpc":"2.0","id":"s1","result":{}}"#;
    assert_eq!(host.post(sampled).send().await.status, 202);
    assert_eq!(server.said().await, sampled);
    server.says(Some("1"), &result("1", 1)).await;
    let last = answer.event().await.unwrap();
    assert_eq!((last.data, last.id.unwrap()), (result("1", 1), primed.replace("-0", "-2")));
    assert!(answer.event().await.is_none());

    assert_eq!(host.call("DELETE").send().await.status, 204);
    assert!(soon(own.event()).await.is_none());
    server.is_over().await;
    for method in ["GET", "DELETE"] {
        assert_eq!(host.call(method).send().await.status, 404);
    }
    assert_eq!(host.post(&request("2", "ping")).send().await.status, 404);
    assert_eq!(host.post(INITIALIZED).send().await.status, 404);
    assert_eq!(host.post(INITIALIZE).send().await.status, 404);
}

#[tokio::test]
async fn a_refused_initialize_opens_no_session() {
    let mut stage = Stage::open().await;
    let posted = tokio::spawn(stage.post(INITIALIZE).send());
    let mut server = stage.server().await;
    server.said().await;
    server.says(Some("0"), &error("0", -32602)).await;
    let answer = posted.await.unwrap();
    assert_eq!((answer.status, answer.header("mcp-session-id")), (200, ""));
    assert_eq!(answer.text().await, error("0", -32602));
    server.is_over().await;
}

#[tokio::test]
async fn a_host_that_leaves_before_its_session_is_open_leaves_nothing_behind() {
    let mut stage = Stage::open().await;
    let posted = tokio::spawn(stage.post(INITIALIZE).send());
    let mut server = stage.server().await;
    server.said().await;
    posted.abort();
    server.is_over().await;
}

#[tokio::test]
async fn a_message_of_no_session_is_refused() {
    let mut stage = Stage::open().await;
    for body in [&request("1", "tools/list"), INITIALIZED, &result("1", 1)] {
        assert_eq!(stage.post(body).send().await.status, 400);
        assert_eq!(stage.post(body).with("mcp-session-id", "0123").send().await.status, 404);
    }
    let get = stage.call("GET").with("accept", "text/event-stream");
    assert_eq!(get.send().await.status, 400);
    assert_eq!(stage.call("DELETE").send().await.status, 400);
    assert!(stage.is_silent());
}

#[tokio::test]
async fn a_session_refuses_what_does_not_belong_to_it() {
    let mut stage = Stage::open().await;
    let (host, mut server) = stage.session().await;
    let ping = request("1", "ping");
    assert_eq!(host.post(&ping).with("mcp-protocol-version", "1999-01-01").send().await.status, 400);
    assert_eq!(host.call("GET").with("mcp-protocol-version", "1999-01-01").send().await.status, 400);
    assert_eq!(host.call("DELETE").with("mcp-protocol-version", "1999-01-01").send().await.status, 400);
    assert_eq!(host.call("GET").with("accept", "application/json").send().await.status, 406);
    assert_eq!(host.post(&ping).and("mcp-session-id", &host.id).send().await.status, 400);
    let again = host.post(INITIALIZE).send().await;
    assert_eq!(again.status, 400);
    assert!(again.text().await.starts_with(r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32600"#));
    let (_answer, _) = host.ask(&ping).await;
    assert_eq!(server.said().await, ping);
    assert_eq!(host.post(&ping).send().await.status, 400);
    // The version that was agreed on is known without the header.
    let mut unnamed = host.post(&request("2", "ping")).with("mcp-protocol-version", "").send().await;
    assert_eq!(unnamed.event().await.unwrap().data, "");
}

#[tokio::test]
async fn hosts_of_older_revisions_get_no_event_without_data() {
    let mut stage = Stage::open().await;
    let old = INITIALIZE.replace("2025-11-25", "2025-06-18");
    let posted = tokio::spawn(stage.post(&old).send());
    let server = stage.server().await;
    let welcome = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18"}}"#;
    server.says(Some("0"), welcome).await;
    let mut answer = posted.await.unwrap();
    assert_eq!(answer.event().await.unwrap().data, welcome);
    let id = answer.header("mcp-session-id").to_owned();
    let posted = tokio::spawn(stage.post(&request("1", "ping")).with("mcp-session-id", &id).send());
    let mut answer = posted.await.unwrap();
    server.says(Some("1"), &result("1", 1)).await;
    assert_eq!(answer.event().await.unwrap().data, result("1", 1));
}

#[tokio::test]
async fn two_hosts_with_equal_ids_at_the_same_time_keep_their_own_streams() {
    let mut stage = Stage::open().await;
    let (one, mut one_server) = stage.session().await;
    let (other, mut other_server) = stage.session().await;
    assert_ne!(one.id, other.id);
    let (mut of_one, _) = one.ask(&request("1", "tools/call")).await;
    let (mut of_other, _) = other.ask(&request("1", "tools/call")).await;
    one_server.said().await;
    other_server.said().await;
    other_server.says(Some("1"), &progress(2)).await;
    one_server.says(Some("1"), &progress(1)).await;
    other_server.says(Some("1"), &result("1", 2)).await;
    one_server.says(Some("1"), &result("1", 1)).await;
    for (answer, n) in [(&mut of_one, 1), (&mut of_other, 2)] {
        assert_eq!(answer.data().await.unwrap(), progress(n));
        assert_eq!(answer.data().await.unwrap(), result("1", n));
        assert!(answer.event().await.is_none());
    }
    // A session can only be used by its own name.
    assert_eq!(one.call("DELETE").send().await.status, 204);
    let (_answer, _) = other.ask(&request("2", "ping")).await;
}

#[tokio::test]
async fn several_streams_of_one_session_do_not_mix() {
    let mut stage = Stage::open().await;
    let (host, server) = stage.session().await;
    let mut answers = Vec::new();
    for id in ["1", "\"1\"", "2"] {
        answers.push(host.ask(&request(id, "tools/call")).await.0);
    }
    for (n, id) in ["1", "\"1\"", "2"].iter().enumerate().rev() {
        server.says(Some(id), &progress(n)).await;
        server.says(Some(id), &result(id, n)).await;
    }
    for ((n, id), mut answer) in ["1", "\"1\"", "2"].iter().enumerate().zip(answers) {
        assert_eq!(answer.data().await.unwrap(), progress(n));
        assert_eq!(answer.data().await.unwrap(), result(id, n));
        assert!(answer.event().await.is_none());
    }
}

#[tokio::test]
async fn a_cancelled_request_frees_its_connection_and_its_id() {
    let mut stage = Stage::open().await;
    let (host, mut server) = stage.session().await;
    let (mut answer, primed) = host.ask(&request("1", "tools/call")).await;
    server.said().await;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    assert_eq!(host.post(cancel).send().await.status, 202);
    assert_eq!(server.said().await, cancel);
    assert!(soon(answer.event()).await.is_none());
    assert_eq!(host.resume(&primed).await.status, 405);
    // An answer that comes all the same is nobody's.
    let mut own = host.call("GET").send().await;
    server.says(Some("1"), &result("1", 1)).await;
    server.says(None, CHANGED).await;
    assert_eq!(own.data().await.unwrap(), CHANGED);
    let (mut answer, _) = host.ask(&request("1", "ping")).await;
    server.says(Some("1"), &result("1", 2)).await;
    assert_eq!(answer.data().await.unwrap(), result("1", 2));
}

#[tokio::test]
async fn a_server_side_that_ends_answers_what_is_open_and_ends_the_session() {
    let mut stage = Stage::open().await;
    let (host, server) = stage.session().await;
    let (mut answer, _) = host.ask(&request("1", "tools/call")).await;
    drop(server);
    let text = answer.data().await.unwrap();
    assert!(text.starts_with(r#"{"jsonrpc":"2.0","id":1,"error":"#) && text.contains(r#""reason":"closed""#));
    assert!(answer.event().await.is_none());
    assert_eq!(host.post(&request("2", "ping")).send().await.status, 404);
}

#[tokio::test]
async fn stopping_answers_what_is_open_and_ends_every_connection() {
    let mut stage = Stage::open().await;
    let (host, _server) = stage.session().await;
    let mut own = host.call("GET").send().await;
    let (mut answer, _) = host.ask(&request("1", "tools/call")).await;
    let posted = tokio::spawn(stage.modern("7", "tools/list", "").send());
    let _modern = stage.server().await;
    stage.stop.cancel();
    assert!(answer.data().await.unwrap().contains(r#""reason":"closed""#));
    assert!(posted.await.unwrap().text().await.contains(r#""reason":"closed""#));
    assert!(own.event().await.unwrap().data.is_empty());
    assert!(soon(own.event()).await.is_none());
    soon(stage.serving).await.unwrap();
}
