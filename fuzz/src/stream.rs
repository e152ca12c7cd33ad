//! Targets of open streams: single frames, and pairs of machines under a list of operations beside a model of them.
use std::collections::{BTreeMap, VecDeque};

use contextvm_core::{Envelope, Limits, Mono, Now};
use contextvm_stream::{
    MAX_NONCE, ReaderInput, ReaderOutput, Readers, StreamBody, StreamEnd, StreamFrame, StreamFrameType,
    StreamKey, StreamLoad, Writer, WriterInput, WriterOutput,
};
use nostr::event::EventId;
use nostr::key::PublicKey;

use crate::bytes::Bytes;
use crate::operations::{OUTPUTS, WAKES, each};
use crate::seeds::Seed;

/// Frames: what is read prints to a frame that says the same, and a strict peer accepts what is printed.
pub fn stream_frame(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let limits = Limits::default();
    let Ok(message) = Envelope::parse(text, &limits) else { return };
    let Ok(Some(frame)) = StreamFrame::read(&message) else { return };
    assert!(frame.progress > 0 && !frame.token.is_empty());
    let printed = frame.to_text();
    let again = Envelope::parse(&printed, &limits).expect("a printed frame is a message");
    assert_eq!(again.extra, 0);
    assert_eq!(StreamFrame::read(&again), Ok(Some(frame)));
}

/// Most frames that the network of one stream keeps.
const ON_THE_WAY: usize = 300;
/// Streams of one run: two of one peer, with one token, and one of another.
const STREAMS: usize = 3;

/// A stream with its writer, the frames on their way, and what must come out of it.
struct Pair {
    key: StreamKey,
    writer: Writer,
    to_reader: VecDeque<String>,
    to_writer: VecDeque<String>,
    /// Frames that were given out: their numbers, and whether they have a place in the order.
    in_flight: VecDeque<(u64, bool)>,
    /// How far frames of this writer may overtake each other.
    window: u64,
    /// What the writer took, chunk by chunk as it was given out.
    text: String,
    sent: String,
    read: String,
    chunks: u64,
    untaken: usize,
    is_open: bool,
    writer_ends: usize,
    /// Frames came that this writer never sent.
    is_forged: bool,
    pongs: u64,
    last_pong: Option<u64>,
}

struct Model {
    limits: Limits,
    readers: Readers,
    pairs: Vec<Pair>,
    now: u64,
}

/// Writers and a reader of their streams as a list of operations: what comes out is the beginning of what was written, all of
/// it when it was closed; each end ends once; nothing exceeds its limit; and the timers run down.
pub fn stream_pair(data: &[u8]) {
    let mut bytes = Bytes(data);
    let limits = Limits {
        stream_chunk: bytes.pick(&[8, 1, 40]),
        stream_buffer: bytes.pick(&[2_000, 200, 100]),
        streams_per_peer: 1 + bytes.below(2),
        streams: 2 + bytes.below(2),
        streams_bytes: bytes.pick(&[20_000, 8_000, 6_000]),
        ..Limits::default()
    };
    let window = bytes.pick(&[16, 1, 100]);
    let pairs = (0..STREAMS).map(|number| Pair::new(number, window, &limits)).collect();
    let mut model = Model { readers: Readers::new(&limits), limits, pairs, now: 0 };
    each(&mut bytes, |bytes| model.operation(bytes));
    for number in 0..STREAMS {
        let key = model.pairs[number].key.clone();
        model.tell(ReaderInput::Answered(key));
    }
    for _ in 0..WAKES {
        let writers = model.pairs.iter().map(|pair| pair.writer.poll_timeout());
        let wakes = writers.chain([model.readers.poll_timeout()]).flatten();
        let Some(at) = wakes.map(|(at, _)| at.0).min() else { break };
        assert!(at > model.now, "nothing is overdue after a wake");
        model.now = at;
        model.wake();
    }
    for pair in &mut model.pairs {
        assert!(!pair.is_open, "what was opened has ended");
        assert_eq!(pair.writer.poll_timeout(), None, "the timers run down");
        assert!(!pair.writer.is_running());
    }
    for number in 0..STREAMS {
        let (key, chunks) = (model.pairs[number].key.clone(), model.pairs[number].untaken);
        model.tell(ReaderInput::Taken { key, chunks });
    }
    assert_eq!(model.readers.load(), StreamLoad::default());
}

impl Pair {
    fn new(number: usize, window: u64, limits: &Limits) -> Self {
        let peer = PublicKey::from_byte_array([7 + u8::from(number == 2); 32]);
        let request = EventId::from_byte_array([u8::from(number == 1); 32]);
        let key = StreamKey { peer, request, token: "t".to_owned() };
        Self {
            writer: Writer::new(&key.token, limits).expect("a token").with_window(window),
            key,
            to_reader: VecDeque::new(),
            to_writer: VecDeque::new(),
            in_flight: VecDeque::new(),
            window,
            text: String::new(),
            sent: String::new(),
            read: String::new(),
            chunks: 0,
            untaken: 0,
            is_open: false,
            writer_ends: 0,
            is_forged: false,
            pongs: 0,
            last_pong: None,
        }
    }

    /// An abort may overtake anything, and pings and pongs where that is harmless.
    const fn is_ordered(&self, frame_type: StreamFrameType) -> bool {
        match frame_type {
            StreamFrameType::Abort => false,
            StreamFrameType::Ping | StreamFrameType::Pong => self.window == 1,
            _ => true,
        }
    }

    /// Takes what the writer gives out.
    fn drain(&mut self, now: u64) {
        for _ in 0..OUTPUTS {
            let Some(output) = self.writer.poll_output() else { break };
            match output {
                WriterOutput::Frame { frame_type, progress, content } => {
                    let body = read(&content).body;
                    assert_eq!(body.frame_type(), frame_type);
                    if let StreamBody::Chunk { data, .. } = &body {
                        self.sent.push_str(data);
                        assert!(self.text.starts_with(&self.sent), "chunks are what was written");
                    }
                    if let StreamBody::Pong(nonce) | StreamBody::Ping(nonce) = &body {
                        assert!(nonce.len() <= MAX_NONCE);
                    }
                    if frame_type == StreamFrameType::Pong {
                        // One that had to wait for its turn may be followed by one that had not.
                        self.pongs += 1;
                        assert!(self.pongs <= 1 + now / 1_000, "one pong a second");
                        let is_late = self.last_pong.is_none_or(|last| now >= last + 1_000);
                        assert!(is_late || self.window == 1, "a second between two pongs");
                        self.last_pong = Some(now);
                    }
                    let is_ordered = self.is_ordered(frame_type);
                    let mut before = self.in_flight.iter().filter(|(_, is_ordered)| *is_ordered);
                    let is_near = before.all(|(before, _)| progress < before + self.window);
                    assert!(is_near || !is_ordered, "nothing overtakes by more than the window");
                    self.in_flight.push_back((progress, is_ordered));
                    if self.to_reader.len() < ON_THE_WAY {
                        self.to_reader.push_back(content);
                    }
                }
                WriterOutput::Closed => {
                    assert_eq!(self.sent, self.text, "what was closed was sent");
                    self.writer_ends += 1;
                }
                WriterOutput::Failed { .. } => self.writer_ends += 1,
                WriterOutput::Drop(_) => {}
            }
        }
        assert!(self.writer_ends <= 1, "a writer ends once");
    }
}

impl Model {
    fn operation(&mut self, bytes: &mut Bytes<'_>) {
        let number = bytes.below(STREAMS);
        let clock = self.clock();
        let pair = &mut self.pairs[number];
        match bytes.below(14) {
            0 => self.open(number),
            1 | 2 => {
                let text = bytes.text();
                let is_open = pair.writer.is_open();
                match pair.writer.write(&text, clock) {
                    Ok(taken) => pair.text.push_str(&text[..taken]),
                    Err(_) => assert!(!is_open, "an open writer takes text"),
                }
            }
            3 => drop(pair.writer.close(clock)),
            4 => drop(pair.writer.abort(bytes.flag().then_some("no"), clock)),
            5 => pair.writer.handle(WriterInput::Credit(bytes.below(30)), clock),
            6 => {
                let (at, is_lost) = (bytes.below(pair.in_flight.len().max(1)), bytes.byte() > 240);
                if let Some((progress, _)) = pair.in_flight.remove(at) {
                    pair.writer.handle(
                        if is_lost {
                            WriterInput::Unpublished(progress)
                        } else {
                            WriterInput::Published(progress)
                        },
                        clock,
                    );
                }
            }
            7 | 8 => {
                // In order, out of order, twice, or never.
                let at = if bytes.flag() { bytes.below(pair.to_reader.len().max(1)) } else { 0 };
                let fate = bytes.below(8);
                if let Some(content) = pair.to_reader.remove(at) {
                    for _ in 0..[1, 1, 1, 1, 1, 2, 2, 0][fate] {
                        self.hear(number, &content);
                    }
                }
            }
            9 => {
                if let Some(content) = pair.to_writer.pop_front() {
                    pair.writer.handle(WriterInput::Frame(read(&content)), clock);
                }
            }
            10 => {
                let chunks = bytes.below(5).min(pair.untaken);
                pair.untaken -= chunks;
                let key = pair.key.clone();
                self.tell(ReaderInput::Taken { key, chunks });
            }
            11 => {
                self.now += u64::from(bytes.short());
                self.wake();
            }
            12 => {
                let key = pair.key.clone();
                if bytes.flag() {
                    self.tell(ReaderInput::Answered(key));
                } else {
                    pair.untaken = 0;
                    self.tell(ReaderInput::Cancel { key, reason: Some("enough") });
                }
            }
            _ => self.strange(number, bytes),
        }
        let now = self.now;
        self.pairs[number].drain(now);
        assert!(self.pairs[number].writer.held() <= self.limits.stream_buffer);
    }

    fn clock(&self) -> Now {
        Now { mono: Mono(self.now), unix: 0 }
    }

    fn open(&mut self, number: usize) {
        let key = self.pairs[number].key.clone();
        let pair = &mut self.pairs[number];
        // A call has one stream: what is over is not opened again.
        if pair.chunks == 0 && pair.read.is_empty() && !pair.is_forged && pair.sent.is_empty() {
            pair.is_open |= self.readers.open(key).is_ok();
        }
    }

    /// A frame that no honest peer sends at this place, to either end.
    fn strange(&mut self, number: usize, bytes: &mut Bytes<'_>) {
        let token = bytes.pick(&["t", "t", "t", "u"]);
        let progress = 1 + bytes.pick(&[0, 1, 2, 3, 4, 9, (1 << 53) - 2]);
        let index = bytes.pick(&[0, 1, 2, 3, 63, 64, 65, (1 << 53) - 1]);
        let body = match bytes.below(7) {
            0 => StreamBody::Start(None),
            1 => StreamBody::Accept,
            2 => StreamBody::Chunk { index, data: bytes.text().into() },
            3 => StreamBody::Ping(bytes.text().into()),
            4 => StreamBody::Pong(format!("t:{}", bytes.below(3)).into()),
            5 => StreamBody::Close(bytes.flag().then_some(index)),
            _ => StreamBody::Abort(bytes.flag().then(|| bytes.text().into())),
        };
        let frame = StreamFrame { token: token.into(), progress, body };
        if bytes.flag() {
            let clock = self.clock();
            self.pairs[number].writer.handle(WriterInput::Frame(frame), clock);
        } else {
            self.pairs[number].is_forged = true;
            self.hear(number, &frame.to_text());
        }
    }

    fn hear(&mut self, number: usize, content: &str) {
        let StreamKey { peer, request, .. } = self.pairs[number].key;
        self.tell(ReaderInput::Frame { peer, request, frame: read(content) });
    }

    fn wake(&mut self) {
        let (clock, now) = (self.clock(), self.now);
        for pair in &mut self.pairs {
            pair.writer.handle(WriterInput::Wake, clock);
            pair.drain(now);
        }
        self.tell(ReaderInput::Wake);
    }

    /// Hands an input to the reader and checks what comes of it.
    fn tell(&mut self, input: ReaderInput<'_>) {
        self.readers.handle(input, self.clock());
        for _ in 0..OUTPUTS {
            let Some(output) = self.readers.poll_output() else { break };
            let mut pairs = self.pairs.iter_mut();
            match output {
                ReaderOutput::Chunk { key, index, data } => {
                    let pair = pairs.find(|pair| pair.key == key).expect("it was opened");
                    assert!(pair.is_open, "nothing follows the end");
                    assert_eq!(index, pair.chunks, "chunks come in order");
                    pair.chunks += 1;
                    pair.untaken += 1;
                    pair.read.push_str(&data);
                    assert!(pair.is_forged || pair.sent.starts_with(&pair.read), "nothing else comes out");
                }
                ReaderOutput::Send { key, frame_type, content } => {
                    let pair = pairs.find(|pair| pair.key == key).expect("it was opened");
                    let frame = read(&content);
                    assert_eq!(
                        (frame.token.as_ref(), frame.body.frame_type()),
                        (key.token.as_str(), frame_type)
                    );
                    if pair.to_writer.len() < ON_THE_WAY {
                        pair.to_writer.push_back(content);
                    }
                }
                ReaderOutput::Ended { key, end } => {
                    let pair = pairs.find(|pair| pair.key == key).expect("it was opened");
                    assert!(pair.is_open, "a stream ends once");
                    pair.is_open = false;
                    if let StreamEnd::Closed { chunks } = end {
                        assert_eq!(chunks, pair.chunks);
                        assert!(pair.is_forged || pair.read == pair.text, "what was closed came whole");
                    }
                }
                ReaderOutput::Drop(_) => {}
            }
        }
        let load = self.readers.load();
        assert!(load.streams <= self.limits.streams && load.bytes <= self.limits.streams_bytes, "{load:?}");
        let mut of_peer = BTreeMap::<_, usize>::new();
        for pair in self.pairs.iter().filter(|pair| pair.is_open) {
            *of_peer.entry(pair.key.peer).or_default() += 1;
        }
        assert!(of_peer.values().all(|open| *open <= self.limits.streams_per_peer));
    }
}

fn read(content: &str) -> StreamFrame<'_> {
    let message = Envelope::parse(content, &Limits::default()).expect("a frame is a message");
    StreamFrame::read(&message).expect("it is a frame").expect("it is a frame")
}

const PONG_THAT_WAITED: [u8; 40] = [
    0, 0, 1, 1, 0, 1, 0, 5, 138, 0, 1, 0, 0, 13, 0, 5, 0, 3, 1, 7, 1, 0, 11, 11, 1, 0, 132, 138, 138, 138,
    13, 0, 5, 0, 3, 1, 7, 1, 0, 132,
];

/// The hand-made inputs of both targets.
pub fn seeds() -> Vec<Seed> {
    let frame = |progress: u64, cvm: &str| {
        let start = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"#;
        format!(r#"{start}"t","progress":{progress},"cvm":{{"type":"open-stream",{cvm}}}}}}}"#).into_bytes()
    };
    let frames = [
        ("start", frame(1, r#""frameType":"start""#)),
        ("content_type", frame(1, r#""frameType":"start","contentType":"text/plain""#)),
        ("accept", frame(2, r#""frameType":"accept""#)),
        ("chunk", frame(2, r#""frameType":"chunk","chunkIndex":0,"data":"{\"a\\\ud83d\ude00""#)),
        ("ping", frame(3, r#""frameType":"ping","nonce":"t:1""#)),
        ("pong", frame(1, r#""frameType":"pong","nonce":"\u0074:1""#)),
        ("close", frame(9, r#""frameType":"close","lastChunkIndex":1.0,"x":[]"#)),
        ("close_bare", frame(9, r#""frameType":"close","lastChunkIndex":null"#)),
        ("abort", frame(99, r#""frameType":"abort","reason":"no \"space\"""#)),
        ("zero", frame(0, r#""frameType":"accept""#)),
        ("negative", frame(2, r#""frameType":"chunk","chunkIndex":-1,"data":"""#)),
        ("unknown", frame(1, r#""frameType":"end""#)),
    ];
    // Chunk size, buffer, streams per peer, streams, bytes, window.
    let usual = [0, 0, 1, 1, 0, 0];
    let (open, close, credit) = ([0, 0], [0, 3], [0, 5, 29]);
    let write = |text: &str| [&[0, 1, u8::try_from(text.len()).unwrap_or(0)], text.as_bytes()].concat();
    let published = [0, 6, 0, 0].repeat(12);
    let delivered = [0, 7, 0, 0].repeat(12);
    let shuffled = [0, 7, 1, 2, 5].repeat(12);
    let written = [&usual[..], &open, &credit, &write("twenty bytes of text"), &write("é")].concat();
    let closed = [&written[..], &close, &published, &[0, 5, 1]].concat();
    let hour = [0, 11, 0xff, 0xff].repeat(60);
    let lists = [
        ("whole", [&closed[..], &delivered, &published, &[0, 10, 4]].concat()),
        ("shuffled", [&closed[..], &shuffled, &delivered, &published].concat()),
        ("lost", [&closed[..], &[0, 7, 0, 7], &delivered, &hour[..8]].concat()),
        ("answered", [&written[..], &delivered, &[0, 12, 1], &hour[..4]].concat()),
        ("cancelled", [&written[..], &delivered, &[0, 12, 0, 0, 9]].concat()),
        ("aborted", [&written[..], &delivered, &[0, 4, 1], &delivered].concat()),
        ("unpublished", [&written[..], &[0, 6, 0, 255], &delivered].concat()),
        ("idle", [&written[..], &delivered, &hour].concat()),
        ("pings", [&written[..], &delivered, &[0, 13, 0, 5, 0, 3, 1, 7, 1].repeat(5), &hour[..4]].concat()),
        ("pinged", [&written[..], &delivered, &[0, 13, 0, 5, 0, 3, 1, 7, 0].repeat(5), &hour[..4]].concat()),
        ("conflict", [&written[..], &delivered, &[0, 13, 0, 6, 0, 2, 1, 7, 0]].concat()),
        ("full", [&[0, 1, 1, 1, 0, 0][..], &open, &credit, &write(&"x".repeat(250)), &delivered].concat()),
        (
            "one_at_a_time",
            [&[0, 0, 1, 1, 0, 1][..], &open, &credit, &write("twenty bytes of text"), &close]
                .into_iter()
                .chain([&[0, 13, 0, 3, 1, 7, 1][..], &hour[..8], &published, &delivered])
                .flatten()
                .copied()
                .collect(),
        ),
        // Under a window of one a pong waited for a frame in flight, and the next one did not.
        ("pong_that_waited", PONG_THAT_WAITED.to_vec()),
        ("no_credit", [&usual[..], &open, &write("text"), &close, &hour].concat()),
        (
            "three",
            [&usual[..], &open, &[1, 0, 2, 0], &[1, 5, 9, 1, 1, 1, 9, 1, 3], &[1, 7, 0, 0].repeat(3)]
                .concat(),
        ),
    ];
    let frames = frames.map(|(name, bytes)| ("stream_frame", name, bytes));
    let lists = lists.map(|(name, bytes)| ("stream_pair", name, bytes));
    frames.into_iter().chain(lists).collect()
}
