//! How fast chunks go through a writer and a reader, printed and parsed on the way, and what other open streams cost.
use std::hint::black_box;

use contextvm_core::{Envelope, Limits, Now};
use contextvm_stream::{
    ReaderInput, ReaderOutput, Readers, StreamBody, StreamEnd, StreamFrame, StreamKey, Writer, WriterInput,
    WriterOutput,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nostr::event::EventId;
use nostr::key::PublicKey;

const CHUNKS: [u64; 2] = [1_000, 100_000];
/// A line of a log, with the escapes that one has.
const TEXT: &str = "2026-01-01T00:00:00Z info \"reader\": 17 rows of 4,096 bytes, 3 of them new\n";

/// Streams that are open beside the one that is measured.
const NEIGHBOURS: [u16; 2] = [0, 255];

/// Sends a text so many times through a pair, over a network that keeps the order; returns how many chunks came out.
fn through(text: &str, chunks: u64, limits: &Limits) -> Option<u64> {
    let (peer, request) = (PublicKey::from_byte_array([7; 32]), EventId::from_byte_array([1; 32]));
    let key = StreamKey { peer, request, token: "token".to_owned() };
    let (mut readers, mut writer) = (Readers::new(limits), Writer::new("token", limits).ok()?);
    let now = Now::default();
    readers.open(key.clone()).ok()?;
    writer.handle(WriterInput::Credit(usize::MAX), now);
    let mut written = 0;
    loop {
        if written < chunks {
            written += u64::from(writer.write(black_box(text), now).ok()? > 0);
        } else if writer.is_open() {
            writer.close(now).ok()?;
        }
        while let Some(WriterOutput::Frame { progress, content, .. }) = writer.poll_output() {
            let message = Envelope::parse(&content, limits).ok()?;
            let frame = StreamFrame::read(&message).ok()??;
            readers.handle(ReaderInput::Frame { peer, request, frame }, now);
            writer.handle(WriterInput::Published(progress), now);
        }
        while let Some(output) = readers.poll_output() {
            match output {
                ReaderOutput::Chunk { .. } => {
                    readers.handle(ReaderInput::Taken { key: key.clone(), chunks: 1 }, now);
                }
                ReaderOutput::Ended { end: StreamEnd::Closed { chunks }, .. } => return Some(chunks),
                ReaderOutput::Ended { .. } | ReaderOutput::Send { .. } | ReaderOutput::Drop(_) => {
                    return None;
                }
            }
        }
    }
}

/// Readers of some streams that have begun, and the key of the last.
fn open(neighbours: u16, limits: &Limits) -> Option<(Readers, StreamKey)> {
    let mut readers = Readers::new(limits);
    let mut last = None;
    for number in 0..=neighbours {
        let mut peer = [7; 32];
        peer[..2].copy_from_slice(&number.to_be_bytes());
        let (peer, request) = (PublicKey::from_byte_array(peer), EventId::from_byte_array([1; 32]));
        let key = StreamKey { peer, request, token: "token".to_owned() };
        readers.open(key.clone()).ok()?;
        let frame = StreamFrame { token: "token".into(), progress: 1, body: StreamBody::Start(None) };
        readers.handle(ReaderInput::Frame { peer, request, frame }, Now::default());
        last = Some(key);
    }
    Some((readers, last?))
}

/// Hears one chunk, as an endpoint does: hands it out, has it taken, and asks when to come back.
fn hear(readers: &mut Readers, key: &StreamKey, index: u64) -> bool {
    let (peer, request) = (key.peer, key.request);
    let body = StreamBody::Chunk { index, data: TEXT.into() };
    let frame = StreamFrame { token: "token".into(), progress: index + 2, body };
    readers.handle(ReaderInput::Frame { peer, request, frame }, Now::default());
    let is_given = matches!(readers.poll_output(), Some(ReaderOutput::Chunk { .. }));
    readers.handle(ReaderInput::Taken { key: key.clone(), chunks: 1 }, Now::default());
    is_given && readers.poll_timeout().is_some()
}

fn stream(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("stream");
    group.sample_size(10);
    for chunks in CHUNKS {
        assert_eq!(through(TEXT, chunks, &limits), Some(chunks));
        group.throughput(Throughput::Elements(chunks));
        group.bench_with_input(BenchmarkId::new("pair", chunks), &chunks, |bencher, chunks| {
            bencher.iter(|| through(TEXT, *chunks, &limits));
        });
    }
    let full = TEXT.repeat(limits.stream_chunk / TEXT.len());
    let chunks = 1024 * 1024 / full.len() as u64;
    group.throughput(Throughput::Bytes(chunks * full.len() as u64));
    group.bench_function("pair, 1 MiB in full chunks", |bencher| {
        bencher.iter(|| through(&full, chunks, &limits));
    });
    for neighbours in NEIGHBOURS {
        let Some((mut readers, key)) = open(neighbours, &limits) else { continue };
        let mut index = 0;
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("hear beside", neighbours), |bencher| {
            bencher.iter(|| {
                assert!(hear(&mut readers, &key, index));
                index += 1;
            });
        });
    }
    group.finish();
}

criterion_group!(benches, stream);
criterion_main!(benches);
