//! The only relay is killed while a transfer runs, and started again, at once or later.
use std::net::SocketAddr;
use std::time::Duration;

use contextvm::Limits;
use contextvm::client::{CallError, EncryptionMode};
use contextvm_local_relay::{Faults, LocalRelay, RelayOptions};

use crate::stage::{MIB, Stage, Tally, is_full, relay};

/// Kills the relay once this share of a transfer has moved, in percent, and starts it again after a time.
async fn interrupted((share, outage): (u64, Duration), seed: u64, is_up: bool) -> Result<(), CallError> {
    let limits = Limits {
        transfer_idle: Duration::from_secs(4),
        transfer_total: Duration::from_secs(60),
        request_timeout: Duration::from_secs(20),
        ..Limits::default()
    };
    let mut relays = vec![relay(seed, Faults::default()).await];
    let stage = Stage::new(&relays, EncryptionMode::Optional, &limits).await;
    let mut moved = stage.client.transfers();
    let begun = moved.wait_for(|moved| {
        moved.as_ref().is_some_and(|moved| moved.total > 0 && moved.bytes * 100 >= moved.total * share)
    });
    let restart = async {
        drop(begun.await.unwrap());
        let relay = relays.remove(0);
        let (addr, options) = (SocketAddr::from(([127, 0, 0, 1], relay.port())), relay.options().clone());
        relay.shutdown().await;
        tokio::time::sleep(outage).await;
        relays.push(LocalRelay::start(RelayOptions { addr, ..options }).await.unwrap());
    };
    let size = 4 * MIB;
    let call = async { if is_up { stage.up(seed, size).await } else { stage.down(seed, size).await } };
    let ((), outcome) = tokio::join!(restart, call);
    stage.app.came_whole();
    // Whatever became of it, nothing is left of it: others arrive as soon as both ends are back at the relay.
    for is_up in [true, false] {
        let mut next = None;
        for _ in 0..10 {
            let again = if is_up { stage.up(seed + 1, MIB).await } else { stage.down(seed + 1, MIB).await };
            if next.insert(again).is_ok() {
                break;
            }
        }
        assert!(matches!(next, Some(Ok(()))), "after {outcome:?}: {next:?}");
    }
    stage.end().await;
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_restarts_in_the_middle_leaves_all_or_nothing() {
    let shares: &[u64] = if is_full() { &[1, 20, 40, 60, 80, 95] } else { &[40] };
    let outages = [Duration::ZERO, Duration::from_secs(2)];
    let cases: Vec<_> = shares.iter().flat_map(|share| outages.map(|outage| (*share, outage))).collect();
    for is_up in [true, false] {
        let mut tally = Tally::default();
        for (seed, case) in (10..).zip(&cases) {
            tally.note(interrupted(*case, seed, is_up).await);
        }
        println!("restarted in the middle, {} of 4 MiB, up {is_up}: {tally:?}", tally.all());
    }
}
