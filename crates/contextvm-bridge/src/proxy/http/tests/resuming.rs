//! Streams that broke are gone on with, and nothing on them is lost or said twice.
use super::stage::{Stage, progress, request, result, soon};

const CHANGED: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;

#[tokio::test]
async fn a_call_whose_stream_was_cut_goes_on_and_is_resumed() {
    let mut stage = Stage::open().await;
    let (host, mut server) = stage.session().await;
    let (mut answer, _) = host.ask(&request("1", "tools/call")).await;
    server.said().await;
    server.says(Some("1"), &progress(1)).await;
    let last = answer.event().await.unwrap();
    assert_eq!(last.data, progress(1));
    drop(answer);
    // Another call's stream must not show up in the resumed one.
    let (mut other, _) = host.ask(&request("2", "tools/call")).await;
    server.said().await;
    server.says(Some("1"), &progress(2)).await;
    server.says(Some("2"), &result("2", 2)).await;
    server.says(None, CHANGED).await;
    assert_eq!(other.data().await.unwrap(), result("2", 2));

    let last = last.id.unwrap();
    let mut resumed = host.resume(&last).await;
    assert_eq!((resumed.status, resumed.header("content-type")), (200, "text/event-stream"));
    assert_eq!(resumed.event().await.unwrap().id.unwrap(), last);
    assert_eq!(resumed.data().await.unwrap(), progress(2));
    server.says(Some("1"), &result("1", 1)).await;
    assert_eq!(resumed.data().await.unwrap(), result("1", 1));
    assert!(resumed.event().await.is_none());

    // The answer may have been lost on the way once more.
    let mut again = host.resume(&last).await;
    assert_eq!(again.data().await.unwrap(), progress(2));
    assert_eq!(again.data().await.unwrap(), result("1", 1));
    assert!(again.event().await.is_none());
}

#[tokio::test]
async fn a_call_is_resumed_from_its_first_event_alone() {
    let mut stage = Stage::open().await;
    let (host, mut server) = stage.session().await;
    let (answer, primed) = host.ask(&request("1", "tools/call")).await;
    server.said().await;
    drop(answer);
    server.says(Some("1"), &progress(1)).await;
    server.says(Some("1"), &result("1", 1)).await;
    let mut resumed = host.resume(&primed).await;
    assert_eq!(resumed.data().await.unwrap(), progress(1));
    assert_eq!(resumed.data().await.unwrap(), result("1", 1));
    assert!(resumed.event().await.is_none());
}

#[tokio::test]
async fn what_nobody_read_waits_for_the_next_reader() {
    let mut stage = Stage::open().await;
    let (host, server) = stage.session().await;
    server.says(None, CHANGED).await;
    let mut first = host.call("GET").send().await;
    assert_eq!(first.data().await.unwrap(), CHANGED);
    let mut second = host.call("GET").send().await;
    assert!(soon(first.event()).await.is_none());
    server.says(None, &progress(1)).await;
    let event = loop {
        let event = second.event().await.unwrap();
        if !event.data.is_empty() {
            break event;
        }
    };
    assert_eq!((event.data, event.id.as_deref()), (progress(1), Some("0-2")));
    drop(second);
    server.says(None, &progress(2)).await;
    let mut resumed = host.resume("0-1").await;
    assert_eq!(resumed.data().await.unwrap(), progress(1));
    assert_eq!(resumed.data().await.unwrap(), progress(2));
}

#[tokio::test]
async fn an_event_that_is_not_known_is_not_resumed_from() {
    let mut stage = Stage::open().await;
    let (host, _server) = stage.session().await;
    let (other, _other_server) = stage.session().await;
    let (_answer, primed) = host.ask(&request("1", "tools/call")).await;
    for (event, status) in [("x", 400), ("7-0", 405), ("9999999999-1", 405)] {
        assert_eq!(host.resume(event).await.status, status, "{event}");
    }
    assert_eq!(other.resume(&primed).await.status, 405);
}

#[tokio::test]
async fn ended_streams_are_kept_for_a_while_and_not_for_ever() {
    let mut stage = Stage::with(|options| options.with_backlog(10_000)).await;
    let (host, server) = stage.session().await;
    let mut primed = Vec::new();
    for n in 0..40 {
        let id = n.to_string();
        let (mut answer, first) = host.ask(&request(&id, "ping")).await;
        server.says(Some(&id), &result(&id, n)).await;
        assert_eq!(answer.data().await.unwrap(), result(&id, n));
        primed.push(first);
    }
    assert_eq!(host.resume(&primed[0]).await.status, 405);
    assert_eq!(host.resume(&primed[39]).await.data().await.unwrap(), result("39", 39));
    let large = format!(r#"{{"jsonrpc":"2.0","id":"l","result":{{"x":"{}"}}}}"#, "x".repeat(20_000));
    let (mut answer, first) = host.ask(&request("\"l\"", "ping")).await;
    server.says(Some("\"l\""), &large).await;
    assert_eq!(answer.data().await.unwrap(), large);
    assert_eq!(host.resume(&first).await.data().await.unwrap(), large);
    let (_answer, _) = host.ask(&request("\"next\"", "ping")).await;
    assert_eq!(host.resume(&first).await.status, 405);
}

#[tokio::test]
async fn many_large_answers_at_once_are_not_all_kept_until_the_next_request() {
    let mut stage = Stage::with(|options| options.with_backlog(10_000)).await;
    let (host, server) = stage.session().await;
    let (one, first) = host.ask(&request("1", "ping")).await;
    let (other, second) = host.ask(&request("2", "ping")).await;
    drop((one, other));
    let large =
        |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"x":"{}"}}}}"#, "x".repeat(20_000));
    server.says(Some("1"), &large("1")).await;
    server.says(Some("2"), &large("2")).await;
    assert_eq!(host.resume(&second).await.data().await.unwrap(), large("2"));
    assert_eq!(host.resume(&first).await.status, 405);
}
