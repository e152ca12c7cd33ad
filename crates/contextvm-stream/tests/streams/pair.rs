//! Both machines with a network between them that loses, doubles and reorders: everything in order, or a beginning of it.
use std::collections::{BTreeMap, VecDeque};

use contextvm_core::{Limits, Mono, Now};
use contextvm_stream::{
    ReaderInput, ReaderOutput, Readers, StreamEnd, StreamError, StreamLoad, Writer, WriterInput, WriterOutput,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::stage::{Hears, Random, at, key, peer, publish, read, reader, request};

fn limits() -> Limits {
    Limits { stream_chunk: 50, stream_buffer: 4_000, streams_bytes: 10_000, ..Limits::default() }
}

/// What the network does to a frame, and how long that takes.
#[derive(Clone, Copy, Debug)]
struct Fate {
    copies: u64,
    delay: u64,
}

fn fate() -> impl Strategy<Value = Fate> {
    let copies = prop_oneof![1 => Just(0_u64), 30 => Just(1), 9 => Just(2)];
    (copies, 0..1_500_u64).prop_map(|(copies, delay)| Fate { copies, delay })
}

fn safe_fate() -> impl Strategy<Value = Fate> {
    (1..3_u64, 0..1_500_u64).prop_map(|(copies, delay)| Fate { copies, delay })
}

fn writes() -> impl Strategy<Value = Vec<String>> {
    vec(prop_oneof!["[a-z]{0,9}", "\\PC{0,60}", "(é|😀|漢){0,300}", "[\u{1}-\u{20}]{0,80}"], 0..40)
}

#[derive(Debug)]
enum Happens {
    ToReader(String),
    ToWriter(String),
    Published(u64),
    Taken,
    Answered,
}

/// A pair, what is on its way, an application at each end, and the clock.
struct Network {
    writer: Writer,
    readers: Readers,
    /// When, in which order, and what.
    events: BTreeMap<(u64, u64), Happens>,
    fates: VecDeque<Fate>,
    /// What is still to be written.
    text: VecDeque<String>,
    /// How long the reading application takes for a chunk.
    pause: u64,
    now: u64,
    number: u64,
    read: String,
    next: u64,
    written: Vec<WriterOutput>,
    ended: Vec<StreamEnd>,
    most: usize,
}

impl Network {
    fn new(text: &[String], window: u64, pause: u64, fates: Vec<Fate>) -> Self {
        let limits = limits();
        let mut writer = Writer::new("t", &limits).unwrap().with_window(window);
        writer.handle(WriterInput::Credit(usize::MAX), at(0));
        Self {
            writer,
            readers: reader(&limits),
            events: BTreeMap::new(),
            fates: fates.into(),
            text: text.to_vec().into(),
            pause,
            now: 0,
            number: 0,
            read: String::new(),
            next: 0,
            written: Vec::new(),
            ended: Vec::new(),
            most: 0,
        }
    }

    fn clock(&self) -> Now {
        Now { mono: Mono(self.now), unix: 0 }
    }

    fn later(&mut self, delay: u64, what: Happens) {
        self.number += 1;
        self.events.insert((self.now + delay, self.number), what);
    }

    fn run(&mut self) {
        for _ in 0..100_000 {
            self.write();
            self.listen();
            let wake = [self.writer.poll_timeout(), self.readers.poll_timeout()].into_iter().flatten();
            let wake = wake.map(|(at, _)| at.0).min();
            let first = self.events.first_key_value().map(|(at, _)| at.0);
            match (first, wake) {
                (Some(at), wake) if wake.is_none_or(|wake| at <= wake) => {
                    self.now = at;
                    let (_, what) = self.events.pop_first().unwrap();
                    self.happen(what);
                }
                (_, Some(wake)) => {
                    self.now = self.now.max(wake);
                    self.writer.handle(WriterInput::Wake, self.clock());
                    self.readers.handle(ReaderInput::Wake, self.clock());
                }
                (_, None) => return,
            }
        }
        panic!("it goes on for ever");
    }

    fn write(&mut self) {
        let now = self.clock();
        while let Some(text) = self.text.pop_front() {
            match self.writer.write(&text, now) {
                Ok(taken) if taken == text.len() => {}
                Ok(taken) => {
                    self.text.push_front(text[taken..].to_owned());
                    break;
                }
                Err(_) => self.text.clear(),
            }
        }
        if self.text.is_empty() && self.writer.is_open() {
            self.writer.close(now).unwrap();
        }
        assert!(self.writer.held() <= limits().stream_buffer);
        while let Some(output) = self.writer.poll_output() {
            let (progress, content) = match output {
                WriterOutput::Frame { progress, content, .. } => (progress, content),
                WriterOutput::Closed | WriterOutput::Failed { .. } => {
                    self.written.push(output);
                    self.later(700, Happens::Answered);
                    continue;
                }
                WriterOutput::Drop(_) => continue,
            };
            let fate = self.fate();
            // A relay answers when it passes the frame on.
            self.later(fate.delay, Happens::Published(progress));
            for copy in 0..fate.copies {
                self.later(fate.delay * (copy + 1), Happens::ToReader(content.clone()));
            }
        }
    }

    fn fate(&mut self) -> Fate {
        let fate = self.fates.pop_front().unwrap_or(Fate { copies: 1, delay: 10 });
        self.fates.push_back(fate);
        fate
    }

    fn listen(&mut self) {
        self.most = self.most.max(self.readers.load().bytes);
        while let Some(output) = self.readers.poll_output() {
            match output {
                ReaderOutput::Chunk { index, data, .. } => {
                    assert_eq!(index, self.next);
                    assert!(self.ended.is_empty(), "nothing follows the end");
                    self.next += 1;
                    self.read.push_str(&data);
                    self.later(self.pause, Happens::Taken);
                }
                ReaderOutput::Send { content, .. } => {
                    let fate = self.fate();
                    for copy in 0..fate.copies {
                        self.later(fate.delay * (copy + 1), Happens::ToWriter(content.clone()));
                    }
                }
                ReaderOutput::Ended { end, .. } => self.ended.push(end),
                ReaderOutput::Drop(_) => {}
            }
        }
    }

    fn happen(&mut self, what: Happens) {
        let now = self.clock();
        match what {
            Happens::ToReader(content) => {
                let frame = read(&content);
                self.readers.handle(ReaderInput::Frame { peer: peer(1), request: request(1), frame }, now);
            }
            Happens::ToWriter(content) => self.writer.handle(WriterInput::Frame(read(&content)), now),
            Happens::Published(progress) => self.writer.handle(WriterInput::Published(progress), now),
            Happens::Taken => self.readers.handle(ReaderInput::Taken { key: key("t"), chunks: 1 }, now),
            Happens::Answered => self.readers.handle(ReaderInput::Answered(key("t")), now),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn without_loss_every_stream_arrives_whole(
        text in writes(), window in 1..17_u64, fates in vec(safe_fate(), 1..40),
    ) {
        let mut network = Network::new(&text, window, 0, fates);
        network.run();
        prop_assert_eq!(&network.written, &[WriterOutput::Closed]);
        prop_assert_eq!(&network.ended, &[StreamEnd::Closed { chunks: network.next }]);
        prop_assert_eq!(&network.read, &text.concat());
        prop_assert_eq!(network.readers.load(), StreamLoad::default());
    }

    #[test]
    fn with_loss_and_slow_readers_a_beginning_arrives_and_both_ends_end_once(
        text in writes(), window in 1..17_u64, pause in prop_oneof![Just(0_u64), 0..4_000_u64],
        fates in vec(fate(), 1..40),
    ) {
        let mut network = Network::new(&text, window, pause, fates);
        network.run();
        prop_assert_eq!(network.ended.len(), 1, "{:?}", network.ended);
        prop_assert_eq!(network.written.len(), 1, "{:?}", network.written);
        prop_assert!(text.concat().starts_with(&network.read));
        if matches!(network.ended[0], StreamEnd::Closed { .. }) {
            prop_assert_eq!(&network.read, &text.concat());
        }
        prop_assert!(network.most <= limits().streams_bytes);
        prop_assert_eq!(network.readers.load(), StreamLoad::default());
        prop_assert_eq!((network.readers.poll_timeout(), network.writer.poll_timeout()), (None, None));
    }
}

/// A network that keeps 64 frames and lets any of them go first, so that nothing is more than 63 places early.
fn shuffled(frames: Vec<String>, random: &mut Random) -> Vec<String> {
    let mut out = Vec::with_capacity(frames.len() * 2);
    let mut waiting: VecDeque<Option<String>> = VecDeque::new();
    let mut coming = frames.into_iter();
    loop {
        while waiting.len() < 64
            && let Some(frame) = coming.next()
        {
            waiting.push_back(Some(frame));
        }
        if waiting.is_empty() {
            return out;
        }
        let at = random.below(waiting.len());
        if let Some(frame) = waiting[at].take() {
            out.push(frame);
        }
        while waiting.front().is_some_and(Option::is_none) {
            waiting.pop_front();
        }
        // Three in ten come again, at once or much later.
        if random.below(10) < 3 && !out.is_empty() {
            let back = random.below(out.len().min(200)) + 1;
            out.push(out[out.len() - back].clone());
        }
    }
}

#[test]
fn a_hundred_thousand_chunks_in_exact_order_over_a_window_of_64() {
    let limits = Limits::default();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut writer, mut readers) = (crate::stage::writer(&limits), reader(&limits));
    let mut frames = Vec::new();
    for number in 0..100_000_u64 {
        let text = format!("chunk {number}\n");
        assert_eq!(writer.write(&text, at(0)), Ok(text.len()));
        frames.extend(publish(&mut writer, at(0)).0);
    }
    let start = frames.remove(0);
    let mut next = 0;
    let mut outputs = readers.hear(read(&start), at(0));
    for content in shuffled(frames, &mut random) {
        outputs.extend(readers.hear(read(&content), at(0)));
        for output in outputs.drain(..) {
            match output {
                ReaderOutput::Chunk { index, data, .. } => {
                    assert_eq!((index, &*data), (next, format!("chunk {next}\n").as_str()));
                    next += 1;
                    readers.handle(ReaderInput::Taken { key: key("t"), chunks: 1 }, at(0));
                }
                ReaderOutput::Drop(_) => {}
                ReaderOutput::Send { .. } | ReaderOutput::Ended { .. } => panic!("{output:?}"),
            }
        }
        assert!(readers.load().bytes < 64 * 200 + 4_096);
    }
    assert_eq!(next, 100_000);
    writer.close(at(0)).unwrap();
    let (close, rest) = publish(&mut writer, at(0));
    assert_eq!(rest, [WriterOutput::Closed]);
    let end = readers.hear(read(&close[0]), at(0));
    assert_eq!(end, [crate::stage::ended(StreamEnd::Closed { chunks: 100_000 })]);
    assert_eq!(readers.load(), StreamLoad::default());
}

#[test]
fn a_reader_that_is_too_slow_ends_the_writer_too() {
    let text: Vec<String> = (0..200).map(|number| format!("{number} ").repeat(12)).collect();
    let mut network = Network::new(&text, 16, 60_000, vec![Fate { copies: 1, delay: 20 }]);
    network.run();
    let limit = limits().stream_buffer;
    assert_eq!(network.ended, [StreamEnd::Failed { error: StreamError::TooSlow { limit }, reason: None }]);
    let reason = Some(format!("reader is too slow: {limit} bytes are waiting"));
    assert_eq!(network.written, [WriterOutput::Failed { error: StreamError::Aborted, reason }]);
    assert!(text.concat().starts_with(&network.read) && !network.read.is_empty());
}
