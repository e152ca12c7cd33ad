//! How fast 1,000 and 100,000 chunks go through a writer and a reader, printed and parsed on the way.
use std::hint::black_box;

use contextvm_core::{Envelope, Limits, Now};
use contextvm_stream::{
    ReaderInput, ReaderOutput, Readers, StreamEnd, StreamFrame, StreamKey, Writer, WriterInput, WriterOutput,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nostr::event::EventId;
use nostr::key::PublicKey;

const CHUNKS: [u64; 2] = [1_000, 100_000];
/// A line of a log, with the escapes that one has.
const TEXT: &str = "2026-01-01T00:00:00Z info \"reader\": 17 rows of 4,096 bytes, 3 of them new\n";

/// Sends so many chunks through a pair, over a network that keeps the order; returns how many came out.
fn through(chunks: u64, limits: &Limits) -> Option<u64> {
    let (peer, request) = (PublicKey::from_byte_array([7; 32]), EventId::from_byte_array([1; 32]));
    let key = StreamKey { peer, request, token: "token".to_owned() };
    let (mut readers, mut writer) = (Readers::new(limits), Writer::new("token", limits).ok()?);
    let now = Now::default();
    readers.open(key.clone()).ok()?;
    writer.handle(WriterInput::Credit(usize::MAX), now);
    let mut written = 0;
    loop {
        if written < chunks {
            written += u64::from(writer.write(black_box(TEXT), now).ok()? > 0);
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

fn stream(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("stream");
    group.sample_size(10);
    for chunks in CHUNKS {
        assert_eq!(through(chunks, &limits), Some(chunks));
        group.throughput(Throughput::Elements(chunks));
        group.bench_with_input(BenchmarkId::new("pair", chunks), &chunks, |bencher, chunks| {
            bencher.iter(|| through(*chunks, &limits));
        });
    }
    group.finish();
}

criterion_group!(benches, stream);
criterion_main!(benches);
