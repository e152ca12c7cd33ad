//! How fast messages of 1 MiB and 16 MiB are cut into frames and put together again.
use std::hint::black_box;

use contextvm_core::{Envelope, Limits, Now};
use contextvm_transfer::{
    Handshake, Receiver, ReceiverInput, ReceiverOutput, Sender, SenderInput, SenderOutput, TransferFrame,
};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nostr::event::EventId;
use nostr::key::PublicKey;

const SIZES: [usize; 2] = [1024 * 1024, 16 * 1024 * 1024];
/// What is left for the content of an event of 40,960 bytes, the largest whose gift wrap a relay with a limit of 65,536 takes.
const CONTENT: usize = 40_960 - 460;

/// A result of exactly this many bytes: prose in a JSON string, with as many escapes as prose has.
fn message(size: usize) -> String {
    let mut text = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":""#.to_owned();
    let end = r#""}]}}"#;
    while text.len() + end.len() + 64 < size {
        text.push_str("Some words of a \\\"document\\\", and the next line.\\n");
    }
    text.extend(std::iter::repeat_n('x', size - end.len() - text.len()));
    text + end
}

fn sender(message: String, limits: &Limits) -> Option<Sender> {
    Sender::new("token", message, CONTENT, Handshake::Skip, limits, Now::default()).ok()
}

/// Every frame, as a relay that takes everything at once would see it.
fn frames(mut sender: Sender) -> Vec<String> {
    let now = Now::default();
    let mut frames = Vec::new();
    sender.handle(SenderInput::Credit(usize::MAX), now);
    while let Some(SenderOutput::Frame { progress, content, .. }) = sender.poll_output() {
        frames.push(content);
        sender.handle(SenderInput::Published(progress), now);
    }
    frames
}

fn assemble(frames: &[String], limits: &Limits) -> Option<String> {
    let mut receiver = Receiver::for_responses(limits);
    let (peer, event) = (PublicKey::from_byte_array([7; 32]), EventId::from_byte_array([1; 32]));
    for content in frames {
        let message = Envelope::parse(content, limits).ok()?;
        let frame = TransferFrame::read(&message).ok()??;
        receiver.handle(ReceiverInput::Frame { peer, request: None, frame, event }, Now::default());
    }
    let Some(ReceiverOutput::Complete { message, .. }) = receiver.poll_output() else { return None };
    Some(message)
}

fn transfer(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("transfer");
    group.sample_size(20);
    for size in SIZES {
        let text = message(size);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_with_input(BenchmarkId::new("measure", size), &text, |bencher, text| {
            bencher.iter_batched(|| text.clone(), |text| sender(text, &limits), BatchSize::LargeInput);
        });
        group.bench_with_input(BenchmarkId::new("cut", size), &text, |bencher, text| {
            bencher.iter_batched(
                || text.clone(),
                |text| sender(text, &limits).map(frames),
                BatchSize::LargeInput,
            );
        });
        let Some(frames) = sender(text.clone(), &limits).map(frames) else { continue };
        assert_eq!(assemble(&frames, &limits), Some(text));
        group.bench_with_input(BenchmarkId::new("reassemble", size), &frames, |bencher, frames| {
            bencher.iter(|| assemble(black_box(frames), &limits));
        });
    }
    group.finish();
}

criterion_group!(benches, transfer);
criterion_main!(benches);
