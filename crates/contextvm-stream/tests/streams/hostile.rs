//! Peers that want memory, time or answers without end.
use contextvm_core::{Limits, Mono, Now};
use contextvm_stream::{
    MAX_NONCE, ReaderInput, ReaderOutput, Readers, StreamBody, StreamDrop, StreamEnd, StreamError,
    StreamFrame, StreamFrameType, StreamKey, StreamLoad, StreamWake,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::stage::{
    Hears, at, chunk, dropped, failed, frame, given, key, peer, ping, reader, request, start,
};

#[test]
fn a_thousand_open_streams() {
    let mut readers = Readers::new(&Limits::default());
    let mut open = 0;
    for number in 0..1_000_u16 {
        let key = StreamKey { peer: peer(number / 10), ..key(&number.to_string()) };
        let result = readers.open(key.clone());
        open += usize::from(result.is_ok());
        if number < 10 {
            assert_eq!(result.is_ok(), number < 8, "eight of one peer");
        }
        let frame = StreamFrame { token: key.token.into(), ..start() };
        readers.handle(ReaderInput::Frame { peer: key.peer, request: key.request, frame }, at(0));
    }
    assert_eq!((open, readers.load().streams), (256, 256));
    assert!(readers.load().bytes < 1024 * 1024);
    // All of them are silent: each is asked once and ends, and nothing is left.
    let mut ends = 0;
    while let Some((mono, _)) = readers.poll_timeout() {
        readers.handle(ReaderInput::Wake, Now { mono, unix: 0 });
    }
    while let Some(output) = readers.poll_output() {
        ends += usize::from(matches!(output, ReaderOutput::Ended { .. }));
    }
    assert_eq!((ends, readers.load()), (256, StreamLoad::default()));
}

#[test]
fn a_ping_flood_gets_one_pong_a_second_and_none_is_longer_than_its_ping_may_be() {
    let mut readers = reader(&Limits::default());
    readers.hear(start(), at(0));
    let mut pongs = Vec::new();
    for number in 0..10_000_u64 {
        let now = Now { mono: Mono(number), unix: 0 };
        let nonce = if number % 2 == 0 { "n".repeat(1_000) } else { number.to_string() };
        let mut outputs = readers.hear(ping(number + 2, &nonce), now);
        if readers.poll_timeout().is_some_and(|(at, _)| at <= now.mono) {
            outputs.extend(readers.tell(ReaderInput::Wake, now));
        }
        for output in outputs {
            match output {
                ReaderOutput::Send { frame_type, content, .. } => {
                    assert_eq!(frame_type, StreamFrameType::Pong);
                    assert!(content.len() < 200 + MAX_NONCE);
                    pongs.push(number);
                }
                ReaderOutput::Drop(reason) => {
                    assert!(matches!(reason, StreamDrop::PingFlood | StreamDrop::LongNonce));
                }
                ReaderOutput::Chunk { .. } | ReaderOutput::Ended { .. } => panic!("{output:?}"),
            }
        }
    }
    assert!((9..=10).contains(&pongs.len()), "{pongs:?}");
    assert!(pongs.windows(2).all(|pair| pair[1] - pair[0] >= 1_000), "{pongs:?}");
}

#[test]
fn empty_chunks_are_few() {
    let mut readers = reader(&Limits::default());
    readers.hear(start(), at(0));
    for index in 0..64 {
        assert_eq!(readers.hear(chunk(index, ""), at(0)), [given(index, "")]);
        readers.handle(ReaderInput::Taken { key: key("t"), chunks: 1 }, at(0));
    }
    // One with text makes up for one without.
    assert_eq!(readers.hear(chunk(64, "a"), at(0)), [given(64, "a")]);
    assert_eq!(readers.hear(chunk(65, ""), at(0)), [given(65, "")]);
    let error = StreamError::EmptyChunks;
    assert_eq!(readers.hear(chunk(66, ""), at(0)), failed(1, error, "too many empty chunks"));
}

#[test]
fn a_stream_that_never_closes_ends_after_an_hour() {
    let mut readers = reader(&Limits::default());
    readers.hear(start(), at(0));
    for index in 0..359 {
        let now = at(10 * (index + 1));
        assert_eq!(readers.tell(ReaderInput::Wake, now), []);
        assert_eq!(readers.hear(chunk(index, "a"), now), [given(index, "a")]);
        readers.handle(ReaderInput::Taken { key: key("t"), chunks: 1 }, now);
    }
    assert_eq!(readers.poll_timeout(), Some((at(3_600).mono, StreamWake::Deadline)));
    let error = StreamError::TimedOut;
    assert_eq!(readers.tell(ReaderInput::Wake, at(3_600)), failed(1, error, "stream took too long"));
}

#[test]
fn a_slow_application_loses_the_stream_and_not_the_memory() {
    let limits = Limits { stream_buffer: 1_000, ..Limits::default() };
    let mut readers = reader(&limits);
    readers.hear(start(), at(0));
    let text = "a".repeat(186);
    for index in 0..4 {
        assert_eq!(readers.hear(chunk(index, &text), at(0)), [given(index, &text)]);
    }
    let error = StreamError::TooSlow { limit: 1_000 };
    let reason = error.to_string().leak();
    assert_eq!(readers.hear(chunk(4, &text), at(0)), failed(1, error, reason));
    // What it was given stays on its account until it has taken it.
    let held = readers.load();
    assert!(held.streams == 1 && held.bytes >= 1_000, "{held:?}");
    assert_eq!(readers.hear(ping(9, "n"), at(1)), dropped(StreamDrop::Late));
    assert_eq!(readers.poll_timeout(), None);
    for chunks in [1, 3] {
        assert_eq!(readers.tell(ReaderInput::Taken { key: key("t"), chunks }, at(2)), []);
    }
    assert_eq!(readers.load(), StreamLoad::default());
}

#[test]
fn chunks_behind_a_gap_do_not_fill_the_memory() {
    let limits = Limits { stream_buffer: 1_000, ..Limits::default() };
    let mut readers = reader(&limits);
    readers.hear(start(), at(0));
    let text = "a".repeat(436);
    for index in 1..3 {
        assert_eq!(readers.hear(chunk(index, &text), at(0)), []);
    }
    let error = StreamError::Buffer { limit: 1_000 };
    assert_eq!(readers.hear(chunk(3, ""), at(0)), failed(1, error, error.to_string().leak()));
    assert_eq!(readers.load(), StreamLoad::default());
}

#[test]
fn the_memory_of_all_streams_has_an_end() {
    let limits = Limits { stream_buffer: 4_000, streams_bytes: 10_000, ..Limits::default() };
    let mut readers = Readers::new(&limits);
    let keys = [0, 1, 2].map(|number| StreamKey { peer: peer(number), ..key("t") });
    for key in &keys {
        readers.open(key.clone()).unwrap();
    }
    let mut hear = |key: &StreamKey, frame| {
        readers.tell(ReaderInput::Frame { peer: key.peer, request: key.request, frame }, at(0))
    };
    let text = "a".repeat(1_500);
    for key in &keys {
        hear(key, start());
    }
    assert_eq!(hear(&keys[0], chunk(0, &text)).len(), 1);
    let outputs = hear(&keys[1], chunk(0, &text));
    let end = StreamEnd::Failed { error: StreamError::Memory, reason: None };
    assert_eq!(outputs[1], ReaderOutput::Ended { key: keys[1].clone(), end });
    // Its room is there for the others.
    assert_eq!(hear(&keys[2], chunk(0, &text)).len(), 1);
    assert!(readers.load().bytes <= 10_000);
}

/// Anything that may change when a stream wants to be woken.
fn input(what: u8, value: u64, key: &StreamKey) -> ReaderInput<'static> {
    let (peer, request) = (key.peer, key.request);
    let body = match what {
        0 | 1 => StreamBody::Start(None),
        2..=4 => StreamBody::Chunk { index: value % 12, data: "ab".into() },
        5 => StreamBody::Close(Some(value)),
        6 => StreamBody::Ping("n".into()),
        7 => StreamBody::Pong(format!("t:{}", value % 3).into()),
        8 => StreamBody::Abort(None),
        9 => return ReaderInput::Answered(key.clone()),
        10 => return ReaderInput::Cancel { key: key.clone(), reason: None },
        11 => return ReaderInput::Taken { key: key.clone(), chunks: 2 },
        _ => return ReaderInput::Wake,
    };
    ReaderInput::Frame { peer, request, frame: frame(value % 12 + 2, body) }
}

proptest! {
    /// Streams do not know of each other: together they ask for the time that the first of them would ask for alone.
    #[test]
    fn the_next_time_is_the_earliest_of_all(
        inputs in vec((0..4_u16, 0..14_u8, 0..16_u64, 0..12_000_u64), 1..120),
    ) {
        let limits = Limits::default();
        let keys: Vec<_> = (0..4).map(|number| StreamKey { peer: peer(number), ..key("t") }).collect();
        let (mut all, mut now) = (Readers::new(&limits), 0);
        let mut alone: Vec<_> = keys.iter().map(|_| Readers::new(&limits)).collect();
        for (key, alone) in keys.iter().zip(&mut alone) {
            all.open(key.clone()).unwrap();
            alone.open(key.clone()).unwrap();
        }
        for (number, what, value, pause) in inputs {
            now += pause;
            let (number, clock) = (usize::from(number), Now { mono: Mono(now), unix: 0 });
            let mut outputs = 0;
            for (nth, alone) in alone.iter_mut().enumerate() {
                if nth == number || what > 11 {
                    outputs += alone.tell(input(what, value, &keys[number]), clock).len();
                }
            }
            prop_assert_eq!(all.tell(input(what, value, &keys[number]), clock).len(), outputs);
            let first = alone.iter().filter_map(Readers::poll_timeout).map(|(at, _)| at).min();
            prop_assert_eq!(all.poll_timeout().map(|(at, _)| at), first);
        }
    }

    #[test]
    fn whatever_comes_is_bounded_and_ends(
        frames in vec((0..3_u16, 0..2_u64, 0..80_u64, 0..9_u8, "[ab]{0,300}", 0..9_000_u64), 1..150),
    ) {
        let limits = Limits {
            streams_per_peer: 2, streams: 4, stream_buffer: 2_000, streams_bytes: 12_000, ..Limits::default()
        };
        let mut readers = Readers::new(&limits);
        let (mut now, mut opened, mut ended) = (0, 0, 0);
        for (from, number, value, what, data, pause) in frames {
            now += pause;
            let key = StreamKey { peer: peer(from), request: request(number), token: "t".to_owned() };
            let clock = Now { mono: Mono(now), unix: 0 };
            let body = match what {
                0 => StreamBody::Start(None),
                1..=4 => StreamBody::Chunk { index: value % 10 + u64::from(what) / 4 * value, data: data.into() },
                5 => StreamBody::Close((value > 20).then_some(value)),
                6 => StreamBody::Ping(data.into()),
                7 => StreamBody::Pong(format!("t:{}", value % 3).into()),
                _ => StreamBody::Abort(None),
            };
            opened += usize::from(readers.open(key.clone()).is_ok());
            let frame = frame(value % 10 + 2, body);
            readers.handle(ReaderInput::Frame { peer: key.peer, request: key.request, frame }, clock);
            readers.handle(ReaderInput::Taken { key, chunks: usize::from(what) / 4 }, clock);
            readers.handle(ReaderInput::Wake, clock);
            let load = readers.load();
            prop_assert!(load.streams <= 4 && load.bytes <= 12_000, "{:?}", load);
            while let Some(output) = readers.poll_output() {
                ended += usize::from(matches!(output, ReaderOutput::Ended { .. }));
            }
        }
        for number in 0..6 {
            let key = StreamKey { peer: peer(number % 3), request: request(u64::from(number / 3)), token: "t".to_owned() };
            readers.handle(ReaderInput::Answered(key.clone()), Now { mono: Mono(now), unix: 0 });
            readers.handle(ReaderInput::Taken { key, chunks: 1_000 }, Now { mono: Mono(now), unix: 0 });
        }
        while let Some((mono, _)) = readers.poll_timeout() {
            prop_assert!(mono.0 > now);
            now = mono.0;
            readers.handle(ReaderInput::Wake, Now { mono, unix: 0 });
        }
        while let Some(output) = readers.poll_output() {
            ended += usize::from(matches!(output, ReaderOutput::Ended { .. }));
        }
        prop_assert_eq!((opened, readers.load()), (ended, StreamLoad::default()));
    }
}
