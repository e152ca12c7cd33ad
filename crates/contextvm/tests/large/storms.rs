//! Transfers through loss, repetition and disorder: byte-equal or failed, and none in part.
use std::time::{Duration, Instant};

use contextvm::Limits;
use contextvm::client::EncryptionMode;
use contextvm_local_relay::Faults;

use crate::stage::{MIB, Stage, Tally, disorder, is_full, loss, relay, storm};

const MODES: [EncryptionMode; 2] = [EncryptionMode::Optional, EncryptionMode::Disabled];

/// Moves texts and prints what became of them.
async fn report(what: &str, stage: &Stage, count: u64, size: usize) -> [Tally; 2] {
    let started = Instant::now();
    let tallies = stage.move_all(count, size).await;
    for (tally, way) in tallies.iter().zip(["up", "down"]) {
        println!("{what}, {} x {} KiB {way}: {tally:?}, {:.1?}", tally.all(), size / 1024, started.elapsed());
        assert_eq!(tally.all(), count);
    }
    tallies
}

#[tokio::test(flavor = "multi_thread")]
async fn with_two_honest_relays_of_three_nearly_everything_arrives() {
    let sizes: &[(u64, usize)] = if is_full() { &[(50, MIB), (2, 16 * MIB)] } else { &[(6, MIB)] };
    for mode in MODES {
        for (count, size) in sizes {
            let relays = storm(7).await;
            let stage = Stage::new(&relays, mode, &Limits::default()).await;
            for tally in report(&format!("{mode:?}"), &stage, *count, *size).await {
                assert!(tally.arrived * 10 >= count * 9, "{tally:?}");
            }
            stage.end().await;
        }
    }
}

/// The fast relay says that it took a frame and loses it; everything else overtakes what the slow one brings.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_fast_relay_loses_a_slow_one_brings() {
    let slow = Faults { latency: Duration::from_millis(100), ..Faults::default() };
    let relays = [relay(1, Faults { drop: 0.5, ..Faults::default() }).await, relay(2, slow).await];
    let stage = Stage::new(&relays, EncryptionMode::Optional, &Limits::default()).await;
    for tally in report("fast loses, slow brings", &stage, 4, 2 * MIB).await {
        assert_eq!(tally.arrived, 4, "{tally:?}");
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_relay_that_loses_leaves_clean_failures_and_nothing_behind() {
    let limits = Limits {
        transfer_idle: Duration::from_secs(3),
        transfer_total: Duration::from_secs(20),
        request_timeout: Duration::from_secs(10),
        transfer_waste: usize::MAX,
        ..Limits::default()
    };
    let relays = [relay(3, disorder()).await];
    let stage = Stage::new(&relays, EncryptionMode::Optional, &limits).await;
    relays[0].set_faults(loss());
    let count = if is_full() { 20 } else { 4 };
    report("one relay that loses", &stage, count, MIB).await;
    relays[0].set_faults(disorder());
    for tally in report("after it", &stage, 2, MIB).await {
        assert_eq!(tally.arrived, 2, "{tally:?}");
    }
    stage.end().await;
}
