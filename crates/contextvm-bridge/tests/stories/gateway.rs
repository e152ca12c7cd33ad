//! Stories of a served child: honest ones first, then children that behave badly.
use std::time::Duration;

use crate::stage::{Stage, alive, call, child, initialize, keys, kill, reason, request, until};
use contextvm_bridge::{ChildCommand, Error, Gateway, Isolation, Notice, RestartPolicy};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn two_callers_share_one_child_and_hear_only_their_own() {
    let stage = Stage::serve(child(&[])).await;
    let (one, _one) = stage.client(1).await;
    let (two, _two) = stage.client(2).await;
    let welcome = initialize(&one).await;
    assert_eq!(welcome["serverInfo"]["name"], "test-child");
    assert_eq!(initialize(&two).await["protocolVersion"], "2025-06-18");
    let calls = (0..20).map(|number| {
        let (client, name) = if number % 2 == 0 { (&one, "one") } else { (&two, "two") };
        async move {
            let answer = call(client, name, &format!(r#"{{"n":{number}}}"#)).await.unwrap();
            assert_eq!(answer, format!(r#"{name}:{{"n":{number}}}"#));
        }
    });
    futures_util::future::join_all(calls).await;
    assert_eq!(call(&one, "pid", "{}").await.unwrap(), call(&two, "pid", "{}").await.unwrap());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_child_hears_initialize_once() {
    let directory = tempfile::tempdir().unwrap();
    let seen = directory.path().join("seen");
    let stage = Stage::serve(child(&[]).env("SEEN", &seen).unwrap()).await;
    for number in 1..4 {
        let (client, _messages) = stage.client(number).await;
        initialize(&client).await;
        request(&client, "tools/list", "{}").await.unwrap();
    }
    let seen = std::fs::read_to_string(&seen).unwrap();
    assert_eq!(seen.matches(r#""method":"initialize""#).count(), 1);
    assert_eq!(seen.matches("notifications/initialized").count(), 1);
    assert_eq!(seen.matches("tools/list").count(), 3);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_finds_its_caller() {
    let stage = Stage::serve(child(&[])).await;
    let (client, mut messages) = stage.client(1).await;
    let (_other, mut others) = stage.client(2).await;
    initialize(&client).await;
    let message = r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"progress","_meta":{"progressToken":"mine"}}}"#;
    client.send(message.to_owned()).await.unwrap();
    let progress = tokio::time::timeout(Duration::from_secs(5), messages.recv()).await.unwrap().unwrap();
    assert!(progress.contains(r#""progressToken":"mine""#), "{progress}");
    let answer = tokio::time::timeout(Duration::from_secs(5), messages.recv()).await.unwrap().unwrap();
    assert!(answer.contains(r#""id":"a""#), "{answer}");
    assert!(tokio::time::timeout(Duration::from_millis(100), others.recv()).await.is_err());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_flight_fails_at_once_when_the_child_dies_and_the_child_comes_back() {
    let stage = Stage::serve(child(&[])).await;
    let (client, _messages) = stage.client(1).await;
    initialize(&client).await;
    let hanging = call(&client, "hang", "{}");
    let dying = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        call(&client, "die", "{}").await
    };
    let begun = std::time::Instant::now();
    let (hung, died) = tokio::join!(hanging, dying);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(reason(&hung.unwrap_err()), "child_exited");
    assert_eq!(reason(&died.unwrap_err()), "child_exited");
    // The next call waits for the restart.
    assert_eq!(call(&client, "echo", "{}").await.unwrap(), "echo:{}");
    assert_ne!(call(&client, "pid", "{}").await.unwrap(), stage.pid.to_string());
    assert!(stage.notices.all().iter().any(|notice| matches!(
        notice,
        Notice::ChildExited { how, failed: 2, restart: Some((_, 1)) } if how == "exited 7"
    )));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_child_fails_its_calls_in_less_than_200_ms() {
    for shared in [true, false] {
        let isolation = if shared { Isolation::Shared } else { Isolation::PerCaller };
        let stage = Stage::serve_with(child(&[]), |gateway| gateway.isolation(isolation), None).await;
        let (client, _messages) = stage.client(1).await;
        initialize(&client).await;
        let pid: u32 = call(&client, "pid", "{}").await.unwrap().parse().unwrap();
        // A grandchild that left the group keeps the child's pipes open.
        call(&client, "daemon", "{}").await.unwrap();
        let hanging = call(&client, "hang", "{}");
        let killing = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            kill(pid);
            std::time::Instant::now()
        };
        let (hung, killed) = tokio::join!(async { (hanging.await, std::time::Instant::now()) }, killing);
        assert_eq!(reason(&hung.0.unwrap_err()), "child_exited");
        let took = hung.1.duration_since(killed);
        assert!(took < Duration::from_millis(200), "{took:?}");
        assert!(call(&client, "pid", "{}").await.is_ok());
        stage.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn children_behaving_badly() {
    let stage = Stage::serve(child(&["garbage"])).await;
    let (client, _messages) = stage.client(1).await;
    initialize(&client).await;
    assert_eq!(call(&client, "twice", "{}").await.unwrap(), "first");
    assert_eq!(call(&client, "stranger", "{}").await.unwrap(), "ok");
    assert_eq!(call(&client, "long_line", r#"{"bytes":30000000}"#).await.unwrap(), "ok");
    assert_eq!(call(&client, "stderr", r#"{"lines":5000}"#).await.unwrap(), "ok");
    assert_eq!(reason(&call(&client, "die_mid_line", "{}").await.unwrap_err()), "child_exited");
    let notices = stage.notices.all();
    let noise = notices.iter().filter(|notice| matches!(notice, Notice::ChildNoise { .. })).count();
    assert_eq!(noise, 1, "the first is told, the others are counted");
    let said = notices.iter().filter_map(|notice| {
        let Notice::ChildSaid(line) = notice else { return None };
        Some(line.as_str())
    });
    let said: Vec<&str> = said.collect();
    assert!(!said.is_empty() && said.len() < 5_000);
    for line in said {
        assert!(!line.chars().any(|c| c.is_control() || matches!(c, '\u{202e}' | '\u{2028}')), "{line:?}");
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_gets_listed_variables_only() {
    let command = child(&[]).env("EXTRA", "1").unwrap();
    let stage = Stage::serve(command).await;
    let (client, _messages) = stage.client(1).await;
    initialize(&client).await;
    let env: Value = serde_json::from_str(&call(&client, "env", "{}").await.unwrap()).unwrap();
    let names: Vec<&str> = env.as_object().unwrap().keys().map(String::as_str).collect();
    let listed = ["PATH", "HOME", "LANG", "TERM", "TMPDIR", "PYTHONUNBUFFERED", "EXTRA"];
    assert!(names.iter().all(|name| listed.contains(name)), "{names:?}");
    assert!(names.contains(&"EXTRA") && names.contains(&"PATH") && env["PYTHONUNBUFFERED"] == "1");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_are_never_read_by_a_shell() {
    let marker = tempfile::tempdir().unwrap();
    let file = marker.path().join("x");
    let trick = format!("; touch {0} $(touch {0}) `touch {0}` && touch {0}", file.display());
    let stage = Stage::serve(child(&[&trick])).await;
    let (client, _messages) = stage.client(1).await;
    initialize(&client).await;
    assert!(call(&client, "pid", "{}").await.is_ok());
    assert!(!file.exists());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_group_outlives_the_gateway() {
    let stage = Stage::serve(child(&["stubborn"])).await;
    let (client, _messages) = stage.client(1).await;
    initialize(&client).await;
    let grandchild: u32 = call(&client, "grandchild", "{}").await.unwrap().parse().unwrap();
    let pid = stage.pid;
    assert!(alive(pid) && alive(grandchild));
    stage.end().await;
    until("the end of the group", || !alive(pid) && !alive(grandchild)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_group_outlives_a_crash_of_its_leader() {
    let stage = Stage::serve(child(&[])).await;
    let (client, _messages) = stage.client(1).await;
    initialize(&client).await;
    let grandchild: u32 = call(&client, "grandchild", "{}").await.unwrap().parse().unwrap();
    assert!(alive(grandchild));
    assert_eq!(reason(&call(&client, "die", "{}").await.unwrap_err()), "child_exited");
    until("the end of the grandchild", || !alive(grandchild)).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_crashes_at_start_is_an_error_at_once() {
    let error = Gateway::builder(child(&["crash"])).start().await.unwrap_err();
    assert_eq!(error, Error::EndedEarly("it exited 3".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_stays_silent_is_an_error_in_time() {
    let gateway = Gateway::builder(child(&["mute"])).opening_timeout(Duration::from_millis(300)).start();
    assert_eq!(gateway.await.unwrap_err(), Error::Silent(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_no_program_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "\u{0}not a program").unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let path = file.into_temp_path();
    let error = Gateway::builder(ChildCommand::new([path.as_os_str()]).unwrap()).start().await.unwrap_err();
    assert!(matches!(error, Error::Spawn(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_ends_when_its_child_may_not_be_started_again() {
    let policy = RestartPolicy { max: 1, first: Duration::from_millis(10), ..RestartPolicy::default() };
    let stage = Stage::serve_with(child(&[]), |gateway| gateway.restart(policy), None).await;
    let (client, _messages) = stage.client(1).await;
    initialize(&client).await;
    assert_eq!(reason(&call(&client, "die", "{}").await.unwrap_err()), "child_exited");
    let notices = stage.notices.clone();
    until("the restart", || {
        notices.all().iter().filter(|notice| **notice == Notice::ChildReady).count() == 2
    })
    .await;
    assert_eq!(reason(&call(&client, "die", "{}").await.unwrap_err()), "child_exited");
    let ended = tokio::time::timeout(Duration::from_secs(10), stage.running).await.unwrap().unwrap();
    assert_eq!(ended, Err(Error::GaveUp("it exited 7".into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_call_ends_by_the_gateways_deadline() {
    let tune =
        |gateway: contextvm_bridge::GatewayBuilder| gateway.request_timeout(Duration::from_millis(500));
    let stage = Stage::serve_with(child(&[]), tune, None).await;
    let (client, _messages) = stage.client(1).await;
    initialize(&client).await;
    assert_eq!(reason(&call(&client, "hang", "{}").await.unwrap_err()), "child_timeout");
    assert!(call(&client, "echo", "{}").await.is_ok());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_never_reach_the_child() {
    let directory = tempfile::tempdir().unwrap();
    let seen = directory.path().join("seen");
    let command = child(&[]).env("SEEN", &seen).unwrap();
    let stage = Stage::serve_with(command, |gateway| gateway, Some(vec![keys(1).public_key()])).await;
    let strangers = (2..22).map(|number| {
        let stage = &stage;
        async move {
            let server = keys(100).public_key().into();
            let client = contextvm_client::Client::builder(keys(number), server).relay(stage.relay.url());
            let (client, _messages) =
                client.request_timeout(Duration::from_millis(700)).connect().await.unwrap();
            assert!(call(&client, "stranger_danger", "{}").await.is_err());
        }
    });
    futures_util::future::join_all(strangers).await;
    let (friend, _messages) = stage.client(1).await;
    initialize(&friend).await;
    assert_eq!(call(&friend, "pid", "{}").await.unwrap(), stage.pid.to_string());
    assert!(!std::fs::read_to_string(&seen).unwrap().contains("stranger_danger"));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_closes_its_output_is_ended() {
    let command = ChildCommand::new(["/bin/sh", "-c", "exec >&-; sleep 600"]).unwrap();
    let error = Gateway::builder(command).start().await.unwrap_err();
    assert_eq!(error, Error::EndedEarly("it closed its output".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_child_sees_the_name_that_was_checked() {
    let stage = Stage::serve(child(&[])).await;
    let (client, mut messages) = stage.client(1).await;
    initialize(&client).await;
    for (spelled, name) in [
        (r"\u0065cho", "echo"),
        ("echo ", "echo "),
        ("Echo", "Echo"),
        ("\u{435}cho", "\u{435}cho"),
        (r"\ud83d\ude00", "\u{1f600}"),
        ("e\u{301}", "e\u{301}"),
        (r"a\/b\n", "a/b\n"),
    ] {
        let text = format!(
            r#"{{"params":{{"n\u0061me":"{spelled}","arguments":{{}}}},"method":"tools\/call","id":1,"jsonrpc":"2.0"}}"#
        );
        client.send(text).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(5), messages.recv()).await.unwrap().unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["result"]["content"][0]["text"], format!("{name}:{{}}"), "{answer}");
    }
    stage.end().await;
}
