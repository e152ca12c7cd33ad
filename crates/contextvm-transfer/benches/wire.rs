//! What a message of 1 MiB costs: events and bytes beside the existing SDKs, and time beside the cryptography alone.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark that prints a table")]
use std::hint::black_box;
use std::time::{Duration, Instant};

use contextvm_core::size::{largest_inner_for, wrapped_event_size};
use contextvm_core::{Draft, Envelope, Limits, Now, WrapKind};
use contextvm_crypto::{Entropy, Keys, open, seal};
use contextvm_transfer::{
    FrameBody, Handshake, Receiver, ReceiverInput, ReceiverOutput, Sender, SenderInput, SenderOutput,
    TransferFrame,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nostr::event::{Event, EventId, Tag, Tags};

const SIZE: usize = 1024 * 1024;
const NOW: u64 = 1_700_000_000;
/// What is sent to relays that say nothing: 65,536 bytes less the message around the event.
const RELAY_LIMIT: usize = 65_280;
/// Most bytes of text in one chunk of both SDKs: an answer, plain and wrapped.
const THEIRS: [usize; 2] = [11_829, 8_021];
const TOKEN: &str = "c1-0123456789abcdef";
/// Pairs of measurements; the median of their ratios is printed.
const ROUNDS: usize = 15;

fn keys(byte: u8) -> Keys {
    Keys::from_secret_bytes([byte; 32]).expect("a small number is a key")
}

/// Answers of exactly 1 MiB: what is said, and what a program says.
fn messages() -> [(&'static str, String); 3] {
    let of = |piece: &str| {
        let mut text = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":""#.to_owned();
        let end = r#""}]}}"#;
        while text.len() + end.len() + piece.len() <= SIZE {
            text.push_str(piece);
        }
        text.extend(std::iter::repeat_n('x', SIZE - end.len() - text.len()));
        text + end
    };
    [
        ("ASCII prose", of("Some words of a document, and then the next line of it.\\n")),
        ("JSON in a string", of(r#"{\"id\":17,\"name\":\"reader\",\"tags\":[\"a\",\"b\"]},\n"#)),
        ("Chinese", of("天地玄黃宇宙洪荒日月盈昃辰宿列張。")),
    ]
}

fn tags() -> Tags {
    let peer = keys(0x11).public_key();
    Tags::from_list(vec![Tag::public_key(peer), Tag::event(EventId::from_byte_array([5; 32]))])
}

fn signed(content: String) -> Event {
    let server = keys(0x22);
    server.sign_draft(&Draft::new(server.public_key(), NOW, tags(), content), [7; 32])
}

/// What a content may take in its event.
fn room(is_wrapped: bool) -> usize {
    let event = if is_wrapped { largest_inner_for(RELAY_LIMIT) } else { RELAY_LIMIT };
    event - signed(String::new()).as_json().len()
}

/// The contents of all frames as we send them.
fn ours(message: &str, is_wrapped: bool) -> Vec<String> {
    let (limits, now) = (Limits::default(), Now::default());
    let sender = Sender::new(TOKEN, message.to_owned(), room(is_wrapped), Handshake::Skip, &limits, now);
    let mut sender = sender.expect("it is cut");
    let mut frames = Vec::new();
    sender.handle(SenderInput::Credit(usize::MAX), now);
    while let Some(SenderOutput::Frame { progress, content, .. }) = sender.poll_output() {
        frames.push(content);
        sender.handle(SenderInput::Published(progress), now);
    }
    frames
}

/// The contents of all frames as both SDKs send them: chunks of so many bytes, whatever they hold.
fn theirs(message: &str, most: usize) -> Vec<String> {
    let own = ours(message, true);
    let (first, last) = (own.first().expect("a start").clone(), own.last().expect("an end").clone());
    let (mut frames, mut rest) = (vec![first], message);
    while !rest.is_empty() {
        let (data, after) = rest.split_at(rest.floor_char_boundary(most));
        let progress = frames.len() as u64 + 1;
        let frame = TransferFrame { token: TOKEN.into(), progress, body: FrameBody::Chunk(data.into()) };
        frames.push(frame.to_text());
        rest = after;
    }
    frames.push(last);
    frames
}

/// Events, and bytes of their JSON as published.
fn on_the_wire(frames: &[String], is_wrapped: bool) -> (usize, usize) {
    let bytes = frames.iter().map(|content| {
        let event = signed(content.clone()).as_json().len();
        let published = if is_wrapped { wrapped_event_size(event) } else { event };
        assert!(published <= RELAY_LIMIT, "{published}");
        published
    });
    (frames.len(), bytes.sum())
}

fn table() {
    println!("an answer of 1 MiB: events and bytes as published, start and end included");
    println!("{:<20} {:<8} {:>18} {:>20} {:>8}", "text", "wire", "ours", "both SDKs", "fewer");
    for (name, message) in messages() {
        for (is_wrapped, most) in [false, true].into_iter().zip(THEIRS) {
            let (events, bytes) = on_the_wire(&ours(&message, is_wrapped), is_wrapped);
            let (their_events, their_bytes) = on_the_wire(&theirs(&message, most), is_wrapped);
            let fewer = their_events as f64 / events as f64;
            let wire = if is_wrapped { "wrapped" } else { "plain" };
            println!(
                "{name:<20} {wire:<8} {events:>6} {bytes:>11} {their_events:>8} {their_bytes:>11} {fewer:>7.1}x"
            );
        }
    }
}

/// Everything that both ends do between a message and the same message, relays and sockets left out.
fn whole(message: String) -> String {
    let (limits, now) = (Limits::default(), Now { unix: NOW, ..Now::default() });
    let (client, server) = (keys(0x11), keys(0x22));
    let mut sender =
        Sender::new(TOKEN, message, room(true), Handshake::Skip, &limits, now).expect("it is cut");
    let mut receiver = Receiver::for_responses(&limits);
    sender.handle(SenderInput::Credit(usize::MAX), now);
    while let Some(SenderOutput::Frame { progress, content, .. }) = sender.poll_output() {
        let event = signed(content);
        let wrap = seal(&event, &client.public_key(), WrapKind::Ephemeral, NOW, &entropy()).expect("it fits");
        let opened = open(&wrap, &client, NOW, &limits).expect("it opens");
        let event = opened.event();
        let message = Envelope::parse(&event.content, &limits).expect("a frame is a message");
        let frame = TransferFrame::read(&message).expect("it is a frame").expect("it is a frame");
        let (peer, event) = (server.public_key(), event.id);
        receiver.handle(ReceiverInput::Frame { peer, request: None, frame, event }, now);
        sender.handle(SenderInput::Published(progress), now);
    }
    let Some(ReceiverOutput::Complete { message, .. }) = receiver.poll_output() else {
        return String::new();
    };
    assert!(Envelope::parse(&message, &limits).is_ok());
    message
}

/// Signing, sealing and opening alone, of the same events.
fn floor(frames: &[String]) {
    let (client, limits) = (keys(0x11), Limits::default());
    for content in frames {
        let event = signed(content.clone());
        let wrap = seal(&event, &client.public_key(), WrapKind::Ephemeral, NOW, &entropy()).expect("it fits");
        black_box(open(&wrap, &client, NOW, &limits).expect("it opens"));
    }
}

fn entropy() -> Entropy {
    Entropy::from_bytes([0x33; Entropy::LEN])
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let started = Instant::now();
    black_box(work());
    started.elapsed()
}

fn ratios() {
    println!(
        "CPU of both ends for an answer of 1 MiB, wrapped: everything, signing + sealing + opening alone"
    );
    for (name, message) in messages() {
        let frames = ours(&message, true);
        let mut pairs: Vec<_> = (0..ROUNDS)
            .map(|_| {
                let message = message.clone();
                (timed(|| whole(message)), timed(|| floor(&frames)))
            })
            .collect();
        let ratio = |pair: &(Duration, Duration)| pair.0.as_secs_f64() / pair.1.as_secs_f64();
        pairs.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
        let pair = pairs.get(ROUNDS / 2).copied().unwrap_or_default();
        println!("{name:<20} {:>8.2?} {:>8.2?} {:>6.2}x", pair.0, pair.1, ratio(&pair));
    }
}

fn wire(criterion: &mut Criterion) {
    table();
    ratios();
    let mut group = criterion.benchmark_group("wire");
    group.sample_size(20);
    group.throughput(Throughput::Bytes(SIZE as u64));
    for (name, message) in messages() {
        assert!(whole(message.clone()) == message);
        let frames = ours(&message, true);
        group.bench_function(format!("whole/{name}"), |bencher| bencher.iter(|| whole(message.clone())));
        group.bench_function(format!("floor/{name}"), |bencher| bencher.iter(|| floor(&frames)));
    }
    group.finish();
}

criterion_group!(benches, wire);
criterion_main!(benches);
