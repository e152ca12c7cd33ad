//! How fast 10,000 announcements (2,000 servers, five kinds each) are read, verified and merged into one view.
use std::hint::black_box;

use contextvm_announce::{
    Directory, DirectoryLimits, DocumentKind, ListDocument, ServerDocument, Signed, Wanted,
};
use contextvm_core::event;
use contextvm_crypto::Keys;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use nostr::event::Tags;

const SERVERS: u64 = 2_000;
const NOW: u64 = 1_700_000_000;

/// One server's announcement and lists: four tools with schemas, prices, some 2 KiB in all.
fn announcements(n: u64) -> Vec<Signed> {
    let mut secret = [0x11; 32];
    secret.iter_mut().zip((n + 1).to_be_bytes()).for_each(|(place, byte)| *place = byte);
    let Ok(keys) = Keys::from_secret_bytes(secret) else {
        return Vec::new();
    };
    let name = format!("Server {n}");
    let schema = r#""inputSchema":{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}}}"#;
    let tools = ["current", "forecast", "alerts", "history"]
        .map(|tool| format!(r#"{{"name":"{tool}_{n}","description":"Some words about it.",{schema}}}"#));
    let contents = [
        r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"demo","version":"1"}}"#
            .to_owned(),
        format!(r#"{{"tools":[{}]}}"#, tools.join(",")),
        format!(r#"{{"resources":[{{"uri":"file:///{n}","name":"n"}}]}}"#),
        r#"{"resourceTemplates":[]}"#.to_owned(),
        r#"{"prompts":[{"name":"greet"}]}"#.to_owned(),
    ];
    let tags: [&[&str]; 4] = [
        &["name", &name],
        &["about", "Weather of all cities"],
        &["support_encryption"],
        &["cap", "tool:current", "5", "sats"],
    ];
    let tags = tags.iter().map(|tag| tag.iter().map(ToString::to_string));
    let Ok(tags) = Tags::parse(tags) else {
        return Vec::new();
    };
    let events = DocumentKind::ALL.into_iter().zip(contents);
    let events =
        events.map(|(kind, content)| keys.sign_event(kind.kind(), NOW, tags.clone(), content, [7; 32]));
    events.filter_map(|event| Signed::verify(event).ok()).collect()
}

fn merged(events: &[Signed]) -> Directory {
    let mut view = Directory::new(DirectoryLimits::default());
    for event in events {
        let _taken = view.add(event, NOW);
    }
    view
}

fn documents(criterion: &mut Criterion) {
    let events: Vec<Signed> = (0..SERVERS).flat_map(announcements).collect();
    let texts: Vec<String> = events.iter().map(|event| event::print(event)).collect();
    let mut group = criterion.benchmark_group("announcements");
    group.sample_size(10).throughput(Throughput::Elements(events.len() as u64));
    group.bench_function("read and verify", |bencher| {
        bencher.iter(|| texts.iter().filter(|text| Signed::read(black_box(text)).is_ok()).count());
    });
    group.bench_function("read without verifying", |bencher| {
        bencher.iter(|| texts.iter().filter_map(|text| event::read(black_box(text))).count());
    });
    group.bench_function("documents", |bencher| {
        let is_read =
            |event: &&Signed| ServerDocument::read(event).is_ok() || ListDocument::read(event).is_ok();
        bencher.iter(|| black_box(&events).iter().filter(is_read).count());
    });
    group.bench_function("merge", |bencher| {
        bencher.iter_batched(|| (), |()| merged(black_box(&events)), BatchSize::PerIteration);
    });
    let view = merged(&events);
    let wanted = Wanted { text: Some("weather forecast".to_owned()), encrypted: true, ..Wanted::default() };
    group.throughput(Throughput::Elements(SERVERS));
    group.bench_function("search", |bencher| {
        bencher.iter(|| black_box(&view).servers().filter(|server| wanted.matches(server)).count());
    });
    group.finish();
}

criterion_group!(benches, documents);
criterion_main!(benches);
