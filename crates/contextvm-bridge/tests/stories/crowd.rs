//! Stories of many callers, many calls and many sessions.
use std::collections::BTreeSet;
use std::time::Duration;

use contextvm_bridge::{CancellationToken, Gateway, HttpTarget, Isolation};
use contextvm_client::{Client, Messages};
use contextvm_core::Limits;
use contextvm_local_relay::{Faults, LocalRelay, RelayOptions};
use contextvm_server::Server;
use serde_json::{Value, json};

use crate::http_server::HttpServer;
use crate::stage::{Stage, alive, call, child, initialize, keys, until};

/// One caller makes ten calls with the tokens 0 to 9 at once and hears what belongs to them, all of it and nothing else.
async fn ten_calls(caller: usize, client: &Client, messages: &mut Messages) {
    for token in 0..10 {
        let mark = format!("{caller}-{token}");
        let params = json!({"name": "notes", "arguments": {"mark": mark}, "_meta": {"progressToken": token}});
        let text = json!({"jsonrpc": "2.0", "id": token, "method": "tools/call", "params": params});
        client.send(text.to_string()).await.unwrap();
    }
    let (mut answers, mut progress) = (BTreeSet::new(), BTreeSet::new());
    while answers.len() < 10 {
        let message = tokio::time::timeout(Duration::from_secs(60), messages.recv()).await.unwrap().unwrap();
        let message: Value = serde_json::from_str(&message).unwrap();
        let params = &message["params"];
        match message["method"].as_str() {
            Some("notifications/progress") => {
                let token = params["progressToken"].as_u64().unwrap();
                assert_eq!(params["message"], format!("{caller}-{token}"), "{message}");
                progress.insert((token, params["progress"].as_u64().unwrap()));
            }
            Some("notifications/message") => {
                assert!(params["data"].as_str().unwrap().starts_with(&format!("{caller}-")), "{message}");
            }
            Some(_) => panic!("nobody asked for {message}"),
            None => {
                let id = message["id"].as_u64().unwrap();
                assert_eq!(message["result"]["content"][0]["text"], format!("{caller}-{id}"), "{message}");
                assert!(answers.insert(id), "answered twice: {message}");
            }
        }
    }
    // Progress that is overtaken by its answer is dropped.
    assert!(progress.len() > 10, "{progress:?}");
}

async fn crowd(stage: Stage) {
    let callers = (0..100_u8).map(|caller| {
        let stage = &stage;
        async move {
            let (client, mut messages) = stage.client(caller.wrapping_add(101)).await;
            ten_calls(usize::from(caller), &client, &mut messages).await;
        }
    });
    futures_util::future::join_all(callers).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_callers_never_meet_over_a_shared_child() {
    crowd(Stage::serve(child(&[])).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_callers_never_meet_over_an_http_server() {
    let server = HttpServer::start().await;
    let target = HttpTarget::new(&server.url).unwrap();
    crowd(Stage::serve_with(target, |gateway| gateway.most_backends(100), None).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_calls_over_two_relays_that_repeat_everything_run_a_thousand_times() {
    let directory = tempfile::tempdir().unwrap();
    let seen = directory.path().join("seen");
    let faults = Faults { duplicate: 0.5, reorder: 0.2, ..Faults::default() };
    let options = || RelayOptions { faults: faults.clone(), ..RelayOptions::default() };
    let relays = [LocalRelay::start(options()).await.unwrap(), LocalRelay::start(options()).await.unwrap()];
    let urls = relays.each_ref().map(LocalRelay::url);
    let command = child(&[]).env("SEEN", &seen).unwrap();
    let gateway = Gateway::builder(command).start().await.unwrap();
    let listener = Server::builder(keys(100)).relays(&urls).fresh_key().start().await.unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(gateway.run(listener, stop.clone()));
    let callers = (1..=10_u8).map(|caller| {
        let urls = &urls;
        async move {
            let builder = Client::builder(keys(caller), keys(100).public_key().into()).relays(urls);
            let (client, _messages) = builder.connect().await.unwrap();
            for batch in 0..10 {
                let client = &client;
                let calls = (0..10).map(|call_of_batch| async move {
                    let arguments = format!(r#"{{"n":"{caller}.{batch}.{call_of_batch}"}}"#);
                    assert!(call(client, "once", &arguments).await.unwrap().contains("once"));
                });
                futures_util::future::join_all(calls).await;
            }
        }
    });
    futures_util::future::join_all(callers).await;
    let seen = std::fs::read_to_string(&seen).unwrap();
    let calls: Vec<Value> = seen
        .lines()
        .filter(|line| line.contains("\"once\""))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let distinct: BTreeSet<&str> =
        calls.iter().map(|call| call["params"]["arguments"]["n"].as_str().unwrap()).collect();
    assert_eq!((calls.len(), distinct.len()), (1_000, 1_000));
    stop.cancel();
    running.await.unwrap().unwrap();
    for relay in relays {
        assert!(relay.stats().duplicated > 100, "{:?}", relay.stats());
        relay.shutdown().await;
    }
}

/// Kilobytes of memory that this process has.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Ended processes that this one has not waited for.
fn zombies() -> usize {
    let own = std::process::id().to_string();
    let stats = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    let are_ours = stats.filter(|stat| {
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.next() == Some("Z") && fields.next() == Some(&own)
    });
    are_ours.count()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_short_sessions_leave_nothing_behind() {
    let rounds = if cfg!(debug_assertions) { 60 } else { 1_000 };
    // What every endpoint and relay remembers for a while is bounded; here it is bounded early.
    let limits = Limits {
        ledger_bytes: 512 * 1024,
        ledger_ttl: Duration::from_secs(2),
        age_window: 2,
        age_skew: 1,
        ..Limits::default()
    };
    let options = RelayOptions { max_seen: 1_000, ..RelayOptions::default() };
    let relay = LocalRelay::start(options).await.unwrap();
    let gateway = Gateway::builder(child(&[])).isolation(Isolation::PerCaller).start().await.unwrap();
    let server = Server::builder(keys(100)).relay(relay.url()).limits(limits.clone()).fresh_key();
    let stop = CancellationToken::new();
    let running = tokio::spawn(gateway.run(server.start().await.unwrap(), stop.clone()));
    let mut clients = Vec::new();
    for number in 1..=10 {
        let client = Client::builder(keys(number), keys(100).public_key().into()).relay(relay.url());
        clients.push(client.limits(limits.clone()).connect().await.unwrap());
    }
    let (mut memories, mut all) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let sessions = clients.iter().map(|(client, _messages)| async move {
            initialize(client).await;
            call(client, "pid", "{}").await.unwrap()
        });
        let pids = futures_util::future::join_all(sessions).await;
        all.extend(pids.iter().map(|pid| pid.parse::<u32>().unwrap()));
        if round % (rounds / 10) == rounds / 10 - 1 {
            memories.push(memory());
        }
    }
    // The first tenth fills caches that are bounded.
    let growth = memories.last().unwrap().saturating_sub(*memories.get(memories.len() / 2).unwrap());
    assert!(growth < 4 * 1024, "{memories:?} kB");
    until("the end of the children before the last", || {
        all.iter().filter(|pid| alive(**pid)).count() == clients.len()
    })
    .await;
    stop.cancel();
    running.await.unwrap().unwrap();
    relay.shutdown().await;
    assert!(!all.into_iter().any(alive));
    until("the end of the zombies", || zombies() == 0).await;
}
