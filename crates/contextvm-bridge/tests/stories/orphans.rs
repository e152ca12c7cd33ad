//! A gateway that is killed outright leaves nobody behind.
use std::process::Stdio;

use contextvm_client::Client;
use contextvm_local_relay::LocalRelay;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::stage::{alive, call, example, initialize, keys, until};

/// Runs the gateway as a process of its own, with a child that ignores the end of its input and has a grandchild.
async fn killed(isolation: &str) {
    let relay = LocalRelay::start(Default::default()).await.unwrap();
    let mut gateway = tokio::process::Command::new(example("gateway"))
        .arg(relay.url())
        .arg(isolation)
        .arg(example("misbehaving_server"))
        .arg("stubborn")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let key = BufReader::new(gateway.stdout.take().unwrap()).lines().next_line().await.unwrap().unwrap();
    let server: contextvm_client::ServerIdentity = key.parse().unwrap();
    let (client, _messages) = Client::builder(keys(1), server).relay(relay.url()).connect().await.unwrap();
    initialize(&client).await;
    let child: u32 = call(&client, "pid", "{}").await.unwrap().parse().unwrap();
    let grandchild: u32 = call(&client, "grandchild", "{}").await.unwrap().parse().unwrap();
    assert!(alive(child) && alive(grandchild));
    let guard = guard_of(child);
    assert!(alive(guard));
    gateway.kill().await.unwrap();
    until("the end of the group", || !alive(child) && !alive(grandchild) && !alive(guard)).await;
    relay.shutdown().await;
}

/// The leader of a process group.
fn guard_of(child: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[2].parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_outlives_a_killed_gateway_with_a_shared_child() {
    killed("shared").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_outlives_a_killed_gateway_with_a_child_for_each_caller() {
    killed("per-caller").await;
}
