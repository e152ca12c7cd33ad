//! Reconnecting leaves nothing behind: neither tasks nor file descriptors.

use std::time::Duration;

use crate::support::{PATIENCE, Relay, config, soon};
use contextvm_relay::Relays;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map(Iterator::count).unwrap_or_default()
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Waits until a figure is no larger than it was; sockets close a little after their owners.
async fn settles(what: &str, most: usize, figure: fn() -> usize) {
    let settled = async {
        while figure() > most {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, settled).await.is_ok(), "{what}: {} instead of {most}", figure());
}

#[tokio::test]
async fn two_hundred_reconnects_leave_tasks_and_descriptors_flat() {
    let relay = Relay::start().await;
    let before = (tasks(), descriptors());
    let (relays, mut inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    tokio::spawn(async move { while inbox.recv().await.is_some() {} });
    let (peer, _) = relay.accept_live().await;
    assert!(relays.ready(PATIENCE).await);
    let connected = (tasks(), descriptors());
    drop(peer);
    for _ in 0..200 {
        drop(relay.accept_live().await);
    }
    let (_peer, _) = relay.accept_live().await;
    assert!(relays.ready(PATIENCE).await);
    assert!(relays.statuses()[0].counts.connections >= 202);
    settles("tasks", connected.0, tasks).await;
    settles("descriptors", connected.1, descriptors).await;
    drop(_peer);
    soon(relays.shutdown()).await;
    drop(relays);
    settles("tasks after shutdown", before.0, tasks).await;
    settles("descriptors after shutdown", before.1, descriptors).await;
}

#[tokio::test]
async fn dropping_the_last_handle_closes_everything() {
    let relay = Relay::start().await;
    let before = tasks();
    let (relays, inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    let clone = relays.clone();
    let (mut peer, _) = relay.accept_live().await;
    drop(relays);
    assert!(clone.ready(PATIENCE).await);
    drop((clone, inbox));
    while peer.hear().await.is_some() {}
    settles("tasks", before, tasks).await;
}
