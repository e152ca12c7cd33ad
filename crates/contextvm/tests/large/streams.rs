//! Long streams through disorder: every chunk once and in order.
use std::time::{Duration, Instant};

use contextvm::Limits;
use contextvm::client::EncryptionMode;
use contextvm_local_relay::{Faults, LocalRelay};
use serde_json::{Value, json};

use crate::application::line;
use crate::stage::{Stage, disorder, is_full, loss, relay};

/// Reads a stream of so many lines and checks each.
async fn read(relays: &[LocalRelay], mode: EncryptionMode, lines: u64) {
    let stage = Stage::new(relays, mode, &Limits::default()).await;
    let started = Instant::now();
    let params = json!({"name": "stream", "arguments": {"seed": lines}});
    let params = serde_json::value::to_raw_value(&params).unwrap();
    let mut call = stage.client.call_stream("tools/call", Some(params)).await.unwrap();
    let mut next = 0;
    while let Some(chunk) = call.chunk().await {
        let chunk = chunk.unwrap_or_else(|failure| panic!("after {next} lines: {failure:?}"));
        assert_eq!((chunk.index, &*chunk.data), (next, line(next).as_str()));
        next += 1;
    }
    assert_eq!(next, lines);
    let answer = call.answer().await.unwrap();
    let answer: Value = serde_json::from_str(answer.result.get()).unwrap();
    assert_eq!(answer, json!({"written": lines, "closed": true}));
    println!("{mode:?}, {} relays, {lines} chunks in order: {:.1?}", relays.len(), started.elapsed());
    stage.end().await;
}

fn lines() -> u64 {
    if is_full() { 100_000 } else { 10_000 }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_64_others_overtake_come_in_order() {
    let faults = Faults { reorder: 0.3, reorder_window: 64, duplicate: 0.3, ..Faults::default() };
    read(&[relay(5, faults).await], EncryptionMode::Optional, lines()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_one_relay_of_three_loses_come_in_order() {
    let relays = [relay(1, loss()).await, relay(2, disorder()).await, relay(3, disorder()).await];
    read(&relays, EncryptionMode::Disabled, lines() / 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_a_fast_relay_loses_come_from_a_slow_one() {
    let slow = Faults { latency: Duration::from_millis(50), ..Faults::default() };
    let fast = Faults { drop: 0.01, ..Faults::default() };
    read(&[relay(1, fast).await, relay(2, slow).await], EncryptionMode::Optional, 2_000).await;
}
