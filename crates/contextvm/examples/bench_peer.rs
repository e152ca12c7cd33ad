//! One process of `cargo xtask bench`: a server, a load driver, or the cost of the cryptography alone.
#![expect(clippy::print_stdout, reason = "a program of `cargo xtask`: JSON lines on standard output")]
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use contextvm::client::{Client, EncryptionMode, GiftWrapMode};
use contextvm::core::{Draft, Limits, WrapKind};
use contextvm::crypto::{Entropy, Keys, open, open_plain, seal};
use contextvm::server::{Delivery, Inbound, Server, Session};
use serde_json::value::{RawValue, to_raw_value};

/// About what one event of a transfer carries, bytes.
const PIECE: usize = 39_000;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["server", relay, mode] => serve(relay, encryption(mode)).await,
        ["load", relay, server, mode, in_flight, calls, size, seconds] => {
            let (tool, size) = size.split_once(':').unwrap_or(("echo", size));
            let plan = Plan {
                in_flight: in_flight.parse()?,
                calls: calls.parse()?,
                params: call(tool, size.parse()?)?,
                longest: Duration::from_secs(seconds.parse()?),
            };
            load(relay, server, encryption(mode), plan).await
        }
        ["floor", size] => floor(size.parse()?),
        _ => Err(
            "usage: bench_peer server RELAY MODE | load RELAY SERVER MODE IN_FLIGHT CALLS [take:|give:]SIZE SECONDS | floor SIZE"
                .into(),
        ),
    }
}

fn encryption(mode: &str) -> EncryptionMode {
    if mode == "plain" { EncryptionMode::Disabled } else { EncryptionMode::Optional }
}

/// Answers every call with its own text, or with as little or as much as it asks for, on the raw path.
async fn serve(relay: &str, mode: EncryptionMode) -> Result<(), Failure> {
    let limits = Limits { in_flight_per_caller: 512, ..Limits::default() };
    let mut builder = Server::builder(contextvm::new_keys()?).relay(relay).fresh_key();
    // What remembering costs: the same server with a store in this directory.
    if let Some(directory) = std::env::var_os("BENCH_STORE") {
        builder = builder.store(std::path::Path::new(&directory).join(std::process::id().to_string()));
    }
    let mut listener = builder.encryption(mode).limits(limits).start().await?;
    println!("{{\"pubkey\":\"{}\"}}", listener.handle().public_key().to_hex());
    while let Some(session) = listener.accept().await {
        tokio::spawn(answer(session));
    }
    Ok(())
}

async fn answer(mut session: Session) {
    let sender = session.sender();
    while let Some(Inbound { delivery, message, .. }) = session.recv().await {
        if let Delivery::Request { key, .. } = delivery
            && sender.send(reply(&message, &key.id.to_hex())).await.is_err()
        {
            return;
        }
    }
}

fn reply(message: &str, id: &str) -> String {
    let after = |name: &str| message.split_once(name).map_or("", |(_, rest)| rest);
    let given =
        "x".repeat(after("\"size\":").split('}').next().and_then(|size| size.parse().ok()).unwrap_or(0));
    let text = if message.contains("\"name\":\"echo\"") {
        after("\"message\":\"").split('"').next().unwrap_or("")
    } else {
        &given
    };
    format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#)
}

/// How much load.
struct Plan {
    in_flight: usize,
    calls: usize,
    params: Box<RawValue>,
    longest: Duration,
}

/// Keeps `in_flight` calls open until `calls` were answered or the time is over, and prints what it saw.
async fn load(relay: &str, server: &str, mode: EncryptionMode, plan: Plan) -> Result<(), Failure> {
    let builder = Client::builder(contextvm::new_keys()?, server.parse()?).relay(relay);
    let builder = builder.encryption(mode).gift_wrap(GiftWrapMode::Ephemeral);
    let (client, mut messages) = builder.connect().await?;
    tokio::spawn(async move { while messages.recv().await.is_some() {} });
    client.request("initialize", Some(to_raw_value(&hello())?)).await?;
    client.notify("notifications/initialized", None).await?;
    let params = plan.params;
    for _ in 0..if plan.calls < 50 { 2 } else { 50 } {
        client.request("tools/call", Some(params.clone())).await?;
    }
    println!("{{\"warm\":true}}");
    let started = Instant::now();
    let left = Arc::new(AtomicUsize::new(plan.calls));
    let until = started + plan.longest;
    let lanes = (0..plan.in_flight)
        .map(|_| tokio::spawn(lane(client.clone(), params.clone(), Arc::clone(&left), until)));
    let mut times = Vec::new();
    for lane in lanes.collect::<Vec<_>>() {
        times.extend(lane.await??);
    }
    let per_second = times.len() as f64 / started.elapsed().as_secs_f64();
    times.sort();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default().as_micros();
    let (p50, p99) = (at(50), at(99));
    println!(
        "{{\"calls\":{},\"per_second\":{per_second:.0},\"p50_us\":{p50},\"p99_us\":{p99}}}",
        times.len()
    );
    // The measuring side still reads this process's figures; it closes the input when it is done.
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    client.close().await;
    Ok(())
}

/// Calls one after another while any are left and there is time.
async fn lane(
    client: Client,
    params: Box<RawValue>,
    left: Arc<AtomicUsize>,
    until: Instant,
) -> Result<Vec<Duration>, Failure> {
    let mut times = Vec::new();
    let take = |left: usize| left.checked_sub(1);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
        let sent = Instant::now();
        if sent >= until {
            break;
        }
        client.request("tools/call", Some(params.clone())).await?;
        times.push(sent.elapsed());
    }
    Ok(times)
}

fn hello() -> serde_json::Value {
    serde_json::json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": { "name": "bench", "version": "1" },
    })
}

fn call(tool: &str, size: usize) -> Result<Box<RawValue>, Failure> {
    let arguments = match tool {
        "give" => serde_json::json!({ "size": size }),
        _ => serde_json::json!({ "message": "x".repeat(size) }),
    };
    Ok(to_raw_value(&serde_json::json!({ "name": tool, "arguments": arguments }))?)
}

/// What a server cannot avoid per call: open one request, sign and seal one answer, each in as many events as it needs.
fn floor(size: usize) -> Result<(), Failure> {
    let (client, server) = (contextvm::new_keys()?, contextvm::new_keys()?);
    let pieces = u32::try_from(size.div_ceil(PIECE))?;
    let (limits, now, rounds) = (Limits::default(), 1_700_000_000, 2_000 / pieces);
    let size = size / usize::try_from(pieces)?;
    let content = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{}}}"#, call("echo", size)?);
    let tags = [nostr::event::Tag::public_key(server.public_key())];
    let draft = Draft::new(client.public_key(), now, tags.into_iter().collect(), content);
    let inner = client.sign_draft(&draft, [7; 32]);
    let wrap = seal(&inner, &server.public_key(), WrapKind::Ephemeral, now, &entropy()?)?;
    let started = Instant::now();
    for _ in 0..rounds {
        std::hint::black_box(open(&wrap, &server, now, &limits)?);
        let answer = sign(&server, &draft);
        std::hint::black_box(seal(&answer, &client.public_key(), WrapKind::Ephemeral, now, &entropy()?)?);
    }
    let encrypted = started.elapsed() / rounds * pieces;
    let started = Instant::now();
    for _ in 0..rounds {
        std::hint::black_box(open_plain(inner.clone(), &server.public_key(), now, &limits)?);
        std::hint::black_box(sign(&server, &draft));
    }
    let plain = started.elapsed() / rounds * pieces;
    println!("{{\"encrypted_us\":{},\"plain_us\":{}}}", encrypted.as_micros(), plain.as_micros());
    Ok(())
}

/// Hashes and signs an answer, as a server must for each.
fn sign(server: &Keys, like: &Draft) -> nostr::event::Event {
    let draft = Draft::new(server.public_key(), like.created_at, like.tags.clone(), like.content.clone());
    server.sign_draft(&draft, [9; 32])
}

fn entropy() -> Result<Entropy, Failure> {
    Ok(Entropy::gather(getrandom::fill)?)
}
