//! An honest caller: so many encrypted calls a second, at fixed times, whatever became of the earlier ones.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contextvm::client::{Client, EncryptionMode, GiftWrapMode};
use serde_json::json;
use serde_json::value::to_raw_value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::{Failure, SERVER, commands, keys, public_key};

/// What became of one call: how long it took from the time when it was due, or nothing.
type Seen = Option<Duration>;

/// Calls until standard input ends; a line of it is answered with what was seen since the last one, once the calls
/// begun before it have ended.
pub(crate) async fn run(relay: &str, number: u8, per_second: u32, is_long: bool) -> Result<(), Failure> {
    let server = public_key(SERVER)?.to_hex().parse()?;
    let builder = Client::builder(keys(number)?, server).relay(relay);
    let builder =
        builder.open_streams(true).encryption(EncryptionMode::Required).gift_wrap(GiftWrapMode::Ephemeral);
    let (client, mut messages) = builder.connect().await?;
    tokio::spawn(async move { while messages.recv().await.is_some() {} });
    let hello = json!({
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "honest", "version": "1" }
    });
    client.request("initialize", Some(to_raw_value(&hello)?)).await?;
    client.notify("notifications/initialized", None).await?;
    println!("{}", json!({ "ready": true }));
    let mut said = commands();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second.max(1));
    let (mut seen, mut sawn) = mpsc::channel(4_096);
    let mut next = u64::from(number) << 32;
    let long = Arc::new(Long::default());
    if is_long {
        drop(tokio::spawn(keep(client.clone(), Arc::clone(&long))));
        drop(tokio::spawn(stream(client.clone(), Arc::clone(&long))));
        drop(tokio::spawn(upload(client.clone(), Arc::clone(&long))));
    }
    loop {
        tokio::select! {
            due = ticks.tick() => {
                next += 1;
                drop(tokio::spawn(call(client.clone(), next, due, seen.clone())));
            }
            line = said.recv() => {
                let windows = std::mem::replace(&mut seen, mpsc::channel(1).0);
                drop(windows);
                let mut window = Vec::new();
                while let Some(one) = sawn.recv().await {
                    window.push(one);
                }
                println!("{}", figures(window, &long));
                if line.is_none() {
                    break;
                }
                (seen, sawn) = mpsc::channel(4_096);
                ticks.reset();
            }
        }
    }
    client.close().await;
    Ok(())
}

async fn call(client: Client, number: u64, due: Instant, seen: mpsc::Sender<Seen>) {
    let params = json!({ "name": "echo", "arguments": { "number": number, "text": "x".repeat(600) } });
    let answered = match to_raw_value(&params) {
        Ok(params) => client.request("tools/call", Some(params)).await.is_ok_and(|answer| {
            // An answer that is not to this question would be as bad as none.
            answer.get().contains(&format!("\"{number}\""))
        }),
        Err(_) => false,
    };
    // The window may be over: then nobody asks any more.
    let _unasked = seen.send(answered.then(|| due.elapsed())).await;
}

/// What became of streams and large requests, one after another, and of one stream that was there before the attack.
#[derive(Default)]
struct Long {
    kept_chunks: AtomicU64,
    kept_broken: AtomicU64,
    streams: AtomicU64,
    streams_lost: AtomicU64,
    uploads: AtomicU64,
    uploads_lost: AtomicU64,
}

/// Reads one stream that does not end, and counts its end.
async fn keep(client: Client, long: Arc<Long>) {
    read_stream(&client, 1_000_000, &long.kept_chunks).await;
    long.kept_broken.fetch_add(1, Ordering::Relaxed);
}

/// Reads streams of a hundred chunks, one after another.
async fn stream(client: Client, long: Arc<Long>) {
    loop {
        let whole = read_stream(&client, 100, &AtomicU64::new(0)).await;
        let count = if whole { &long.streams } else { &long.streams_lost };
        count.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Reads a stream to its end; returns whether all of it came in order.
async fn read_stream(client: &Client, chunks: u64, read: &AtomicU64) -> bool {
    let params = json!({ "name": "stream", "arguments": { "chunks": chunks, "bytes": 500, "pause": 20 } });
    let Ok(params) = to_raw_value(&params) else { return false };
    let Ok(mut call) = client.call_stream("tools/call", Some(params)).await else { return false };
    let mut next = 0;
    while let Some(Ok(chunk)) = call.chunk().await {
        if chunk.index != next || chunk.data.len() != 500 {
            return false;
        }
        next += 1;
        read.fetch_add(1, Ordering::Relaxed);
    }
    next == chunks && call.answer().await.is_ok()
}

/// Sends requests of 300 KB, one after another.
async fn upload(client: Client, long: Arc<Long>) {
    for number in 1_u64.. {
        let number = (200 << 32) + number;
        let params =
            json!({ "name": "echo", "arguments": { "number": number, "text": "x".repeat(300_000) } });
        let Ok(params) = to_raw_value(&params) else { return };
        let answer = client.request("tools/call", Some(params)).await;
        let whole = answer.is_ok_and(|answer| answer.get().contains(&format!("\"{number}\"")));
        let count = if whole { &long.uploads } else { &long.uploads_lost };
        count.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn figures(window: Vec<Seen>, long: &Long) -> serde_json::Value {
    let calls = window.len();
    let mut times: Vec<_> = window.into_iter().flatten().collect();
    times.sort();
    let at = |permille: usize| {
        let last = times.len().saturating_sub(1);
        let time = times.get((times.len() * permille / 1_000).min(last)).copied().unwrap_or_default();
        (time.as_secs_f64() * 10_000.0).round() / 10.0
    };
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    json!({
        "calls": calls, "answered": times.len(),
        "p50_ms": at(500), "p99_ms": at(990), "max_ms": at(1_000),
        "kept_chunks": read(&long.kept_chunks), "kept_broken": read(&long.kept_broken),
        "streams": read(&long.streams), "streams_lost": read(&long.streams_lost),
        "uploads": read(&long.uploads), "uploads_lost": read(&long.uploads_lost),
    })
}
