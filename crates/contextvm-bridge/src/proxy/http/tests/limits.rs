//! What is bounded: sessions, idle time, what waits for slow readers.
use std::time::Duration;

use tokio::time::sleep;

use super::stage::{INITIALIZE, INITIALIZED, Stage, progress, request, result, soon};

#[tokio::test]
async fn a_slow_reader_holds_nobody_up_and_gets_its_answer() {
    let mut stage = Stage::with(|options| options.with_backlog(100_000)).await;
    let (slow, slow_server) = stage.session().await;
    let (quick, quick_server) = stage.session().await;
    let (mut of_slow, primed) = slow.ask(&request("1", "tools/call")).await;
    let large = progress(1).replace("\"progress\":1", &format!("\"message\":\"{}\"", "x".repeat(10_000)));
    // Far more than sockets hold; every send would wait if the front waited for its reader.
    for _ in 0..2_000 {
        slow_server.says(Some("1"), &large).await;
    }
    let (mut of_quick, _) = quick.ask(&request("1", "ping")).await;
    quick_server.says(Some("1"), &result("1", 2)).await;
    assert_eq!(of_quick.data().await.unwrap(), result("1", 2));
    let (mut same, _) = slow.ask(&request("2", "ping")).await;
    slow_server.says(Some("2"), &result("2", 3)).await;
    assert_eq!(same.data().await.unwrap(), result("2", 3));
    slow_server.says(Some("1"), &result("1", 1)).await;
    let mut read = 0;
    while let Some(data) = of_slow.data().await {
        read += 1;
        if data == result("1", 1) {
            break;
        }
        assert_eq!(data, large);
    }
    assert!(of_slow.event().await.is_none());
    assert!(read < 2_000, "{read}");
    let mut resumed = slow.resume(&primed).await;
    let mut kept = 0;
    while let Some(data) = resumed.data().await {
        kept += data.len();
    }
    assert!(kept <= 100_000, "{kept}");
}

#[tokio::test]
async fn an_exchange_whose_reader_is_too_slow_is_given_up() {
    let mut stage = Stage::with(|options| options.with_backlog(100_000)).await;
    let posted = tokio::spawn(stage.modern("1", "subscriptions/listen", "").send());
    let mut server = stage.server().await;
    server.said().await;
    server.says(Some("1"), &progress(1)).await;
    let mut answer = posted.await.unwrap();
    assert_eq!(answer.data().await.unwrap(), progress(1));
    let large = progress(1).replace("\"progress\":1", &format!("\"message\":\"{}\"", "x".repeat(10_000)));
    let flood = async {
        let about = serde_json::value::RawValue::from_string("1".to_owned()).unwrap();
        let heard = crate::proxy::conversation::Heard { text: large.clone(), about: Some(about) };
        while server.0.heard.send(heard.clone()).await.is_ok() {}
    };
    soon(flood).await;
    assert_eq!(server.abandoned().await, "1");
    let mut last = None;
    while let Some(data) = answer.data().await {
        last = Some(data);
    }
    assert_eq!(last.unwrap(), large);
}

#[tokio::test]
async fn a_further_session_takes_the_place_of_an_idle_one_and_never_of_a_busy_one() {
    let mut stage = Stage::with(|options| options.with_sessions(2, Duration::from_secs(600))).await;
    let (listening, _a) = stage.session().await;
    let own = listening.call("GET").send().await;
    assert_eq!(own.status, 200);
    let (asking, _b) = stage.session().await;
    let (answer, _) = asking.ask(&request("1", "tools/call")).await;
    // Nobody reads, but the request is open.
    drop(answer);
    let refused = stage.post(INITIALIZE).send().await;
    assert_eq!((refused.status, refused.header("mcp-session-id")), (503, ""));
    assert!(refused.text().await.contains(r#""reason":"busy""#));
    let mut unused = stage.server().await;
    unused.is_over().await;

    drop(own);
    // The front notices that the connection was closed.
    let third = loop {
        let posted = tokio::spawn(stage.post(INITIALIZE).send());
        let mut server = stage.server().await;
        if server.0.said.recv().await.is_some() {
            break (posted, server);
        }
        assert_eq!(posted.await.unwrap().status, 503);
        sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(listening.call("DELETE").send().await.status, 404);
    assert_eq!(asking.call("DELETE").send().await.status, 204);
    drop(third);
}

#[tokio::test]
async fn of_several_idle_sessions_the_longest_idle_one_makes_room() {
    let mut stage = Stage::with(|options| options.with_sessions(2, Duration::from_secs(600))).await;
    let (first, _a) = stage.session().await;
    let (second, mut ended) = stage.session().await;
    assert_eq!(first.post(INITIALIZED).send().await.status, 202);
    let (_third, _c) = stage.session().await;
    ended.is_over().await;
    assert_eq!(second.call("DELETE").send().await.status, 404);
    assert_eq!(first.call("DELETE").send().await.status, 204);
}

#[tokio::test]
async fn an_idle_session_ends_and_a_busy_one_does_not() {
    let idle = Duration::from_secs(1);
    let mut stage = Stage::with(|options| options.with_sessions(64, idle)).await;
    let (asking, asked) = stage.session().await;
    let (answer, primed) = asking.ask(&request("1", "tools/call")).await;
    drop(answer);
    let (listening, _a) = stage.session().await;
    let _own = listening.call("GET").send().await;
    let (silent, mut silenced) = stage.session().await;
    silenced.is_over().await;
    assert_eq!(silent.post(&request("1", "ping")).send().await.status, 404);
    sleep(idle * 2).await;
    asked.says(Some("1"), &result("1", 1)).await;
    let mut resumed = asking.resume(&primed).await;
    assert_eq!(resumed.data().await.unwrap(), result("1", 1));
    assert_eq!(listening.call("DELETE").send().await.status, 204);
}

#[tokio::test]
async fn too_many_open_requests_are_refused_and_not_queued() {
    let mut stage = Stage::open().await;
    let (host, mut server) = stage.session().await;
    for n in 0..256 {
        let (answer, _) = host.ask(&request(&n.to_string(), "tools/call")).await;
        server.said().await;
        drop(answer);
    }
    let refused = host.post(&request("256", "ping")).send().await;
    assert_eq!(refused.status, 503);
    assert!(refused.text().await.contains(r#""reason":"busy""#));
    server.says(Some("0"), &result("0", 0)).await;
    let (mut answer, _) = loop {
        let answer = host.post(&request("256", "ping")).send().await;
        match answer.status {
            200 => break (answer, ()),
            _ => sleep(Duration::from_millis(10)).await,
        }
    };
    assert_eq!(answer.event().await.unwrap().data, "");
}
