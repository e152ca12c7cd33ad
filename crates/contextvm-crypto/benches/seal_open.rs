//! What sealing and opening cost, by size, and what their parts cost.
#![expect(clippy::expect_used, reason = "a benchmark may stop")]
use std::hint::black_box;

use contextvm_core::{Draft, Limits, WrapKind};
use contextvm_crypto::{Entropy, Keys, nip44, open, seal};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nostr::event::{Event, Tag, Tags};

const NOW: u64 = 1_700_000_000;

fn keys(byte: u8) -> Keys {
    Keys::from_secret_bytes([byte; 32]).expect("a small number is a key")
}

fn draft(content: usize) -> Draft {
    let tags = Tags::from_list(vec![Tag::public_key(keys(0x11).public_key())]);
    Draft::new(keys(0x22).public_key(), NOW, tags, "x".repeat(content))
}

fn message(content: usize) -> Event {
    keys(0x22).sign_draft(&draft(content), [7; 32])
}

fn seal_and_open(c: &mut Criterion) {
    let (me, limits) = (keys(0x11), Limits::default());
    let entropy = Entropy::from_bytes([0x33; Entropy::LEN]);
    let mut group = c.benchmark_group("seal_open");
    for (name, size) in [("64B", 64), ("4KiB", 4_096), ("32KiB", 32_768)] {
        let inner = message(size);
        let wrap = seal(&inner, &me.public_key(), WrapKind::Ephemeral, NOW, &entropy).expect("it fits");
        group.throughput(Throughput::Bytes(u64::try_from(size).expect("it is small")));
        group.bench_function(format!("seal/{name}"), |b| {
            b.iter(|| seal(black_box(&inner), &me.public_key(), WrapKind::Ephemeral, NOW, &entropy));
        });
        group.bench_function(format!("open/{name}"), |b| {
            b.iter(|| open(black_box(&wrap), &me, NOW, &limits));
        });
    }
    group.finish();
}

fn primitives(c: &mut Criterion) {
    let (client, server) = (keys(0x22), keys(0x11));
    let (draft, event) = (draft(64), message(64));
    c.bench_function("sign_draft/64B", |b| b.iter(|| client.sign_draft(black_box(&draft), [7; 32])));
    c.bench_function("verify/id/64B", |b| b.iter(|| black_box(&event).verify_id()));
    c.bench_function("verify/signature", |b| b.iter(|| black_box(&event).verify_signature()));
    c.bench_function("conversation_key", |b| {
        b.iter(|| nip44::conversation_key(black_box(&server), &client.public_key()));
    });
    let mut forged =
        seal(&event, &server.public_key(), WrapKind::Ephemeral, NOW, &Entropy::from_bytes([0x33; 96]))
            .expect("it fits");
    forged.pubkey = client.public_key();
    c.bench_function("open/wrong_mac", |b| {
        b.iter(|| open(black_box(&forged), &server, NOW, &Limits::default()))
    });
}

criterion_group!(benches, seal_and_open, primitives);
criterion_main!(benches);
