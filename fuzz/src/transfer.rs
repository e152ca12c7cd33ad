//! Targets of oversized transfers: single frames, and a receiver under a list of operations beside a model of it.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use contextvm_core::{Envelope, Limits, Mono, Now};
use contextvm_transfer::{
    FrameBody, Handshake, RESTART, Receiver, ReceiverInput, ReceiverLoad, ReceiverOutput, Sender,
    SenderInput, SenderOutput, Start, TransferFrame, TransferKey,
};
use nostr::event::EventId;
use nostr::key::PublicKey;

use crate::bytes::Bytes;
use crate::operations::{OUTPUTS, WAKES, each};
use crate::seeds::Seed;

/// Frames: what is read prints to a frame that says the same, and a strict peer accepts what is printed.
pub fn transfer_frame(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let limits = Limits::default();
    let Ok(message) = Envelope::parse(text, &limits) else { return };
    let Ok(Some(frame)) = TransferFrame::read(&message) else { return };
    assert!(frame.progress > 0 && !frame.token.is_empty());
    let printed = frame.to_text();
    let again = Envelope::parse(&printed, &limits).expect("a printed frame is a message");
    assert_eq!(again.extra, 0);
    assert_eq!(TransferFrame::read(&again), Ok(Some(frame)));
}

/// What honest peers send, cut small.
const MESSAGES: [&str; 3] = [
    r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"hello \"oversized\" world"}]}}"#,
    "{}",
    "é😀漢",
];

/// The frames of one of them, cut once and for all. A message of more than 700 characters is made of the first by repetition.
fn honest(which: usize, is_gated: bool) -> Vec<TransferFrame<'static>> {
    static FRAMES: OnceLock<Vec<Vec<TransferFrame<'static>>>> = OnceLock::new();
    let frames = FRAMES.get_or_init(|| {
        let cases = (0..=MESSAGES.len()).flat_map(|which| [(which, false), (which, true)]);
        cases.map(|(which, is_gated)| cut(message(which), is_gated)).collect()
    });
    frames[2 * which + usize::from(is_gated)].clone()
}

fn cut(message: String, is_gated: bool) -> Vec<TransferFrame<'static>> {
    let handshake = if is_gated { Handshake::Ask } else { Handshake::Skip };
    let (limits, now) = (Limits::default(), Now::default());
    let mut sender = Sender::new("t", message, 480, handshake, &limits, now).expect("it is small");
    sender.handle(SenderInput::Credit(usize::MAX), now);
    sender.handle(SenderInput::Accepted, now);
    let mut frames = Vec::new();
    while let Some(SenderOutput::Frame { progress, content, .. }) = sender.poll_output() {
        let message = Envelope::parse(&content, &limits).expect("a frame is a message");
        let frame = TransferFrame::read(&message).expect("it is a frame").expect("it is a frame");
        frames.push(owned(frame));
        sender.handle(SenderInput::Published(progress), now);
    }
    frames
}

fn message(which: usize) -> String {
    MESSAGES.get(which).map_or_else(|| MESSAGES[0].repeat(9), |message| (*message).to_owned())
}

fn owned(frame: TransferFrame<'_>) -> TransferFrame<'static> {
    let body = match frame.body {
        FrameBody::Start(start) => FrameBody::Start(Start {
            completion_mode: start.completion_mode.map(|mode| mode.into_owned().into()),
            digest: start.digest.into_owned().into(),
            ..start
        }),
        FrameBody::Chunk(data) => FrameBody::Chunk(data.into_owned().into()),
        FrameBody::Abort(reason) => FrameBody::Abort(reason.map(|reason| reason.into_owned().into())),
        FrameBody::Accept => FrameBody::Accept,
        FrameBody::End => FrameBody::End,
    };
    TransferFrame { token: frame.token.into_owned().into(), progress: frame.progress, body }
}

/// A receiver and what must be true of it.
struct Model {
    receiver: Receiver,
    limits: Limits,
    /// How many transfers leave a place for a peer that was never here.
    for_newcomers: usize,
    now: u64,
    events: u64,
    open: BTreeSet<TransferKey>,
    /// Which messages the start frames under a key have declared.
    declared: BTreeMap<TransferKey, BTreeSet<String>>,
    newcomers: u8,
}

/// A receiver as a list of operations: what it completes was declared and sent, what it holds is bounded, and what it opens
/// ends exactly once.
pub fn transfer_receiver(data: &[u8]) {
    let mut bytes = Bytes(data);
    let limits = Limits {
        transfer_bytes: 2_000,
        transfer_chunks: 20,
        transfers_per_peer: 1 + bytes.below(3),
        transfers: 4,
        transfers_bytes: bytes.pick(&[8_000, 3_000, 500]),
        transfer_waste: bytes.pick(&[1_000_000, 2_000]),
        ..Limits::default()
    };
    let of_requests = bytes.flag();
    let receiver =
        if of_requests { Receiver::for_requests(&limits) } else { Receiver::for_responses(&limits) };
    // A server keeps its last quarter for peers of whom a transfer has come whole.
    let for_newcomers = limits.transfers - if of_requests { limits.transfers / 4 } else { 0 };
    let (open, declared) = (BTreeSet::new(), BTreeMap::new());
    let mut model =
        Model { receiver, limits, for_newcomers, now: 0, events: 0, open, declared, newcomers: 0 };
    each(&mut bytes, |bytes| model.operation(bytes));
    for _ in 0..WAKES {
        let Some((at, _)) = model.receiver.poll_timeout() else { break };
        assert!(at.0 > model.now, "nothing is overdue after a wake");
        model.now = at.0;
        model.tell(ReceiverInput::Wake);
    }
    assert_eq!(model.receiver.load(), ReceiverLoad::default(), "the timers run down");
    assert!(model.open.is_empty(), "what was opened has ended");
}

impl Model {
    fn operation(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.below(7) {
            0 | 1 => {
                let key = key(bytes);
                let (which, is_gated) = (bytes.below(4), bytes.flag());
                let frames = honest(which, is_gated);
                let frame = frames[bytes.below(frames.len())].clone();
                self.hear(&key, frame, which);
            }
            2 => {
                let key = key(bytes);
                let which = bytes.below(4);
                let frame = strange(bytes, which);
                self.hear(&key, frame, which);
            }
            3 => self.newcomer(bytes),
            4 => {
                self.now += u64::from(bytes.short()) * 2;
                self.tell(ReceiverInput::Wake);
            }
            5 => {
                let key = key(bytes);
                self.tell(ReceiverInput::Cancel(key.clone()));
                self.open.remove(&key);
            }
            _ => {
                let peer = key(bytes).peer;
                self.tell(ReceiverInput::Leave(peer));
                self.open.retain(|key| key.peer != peer);
            }
        }
        let load = self.receiver.load();
        assert!(load.transfers <= self.limits.transfers && load.bytes <= self.limits.transfers_bytes);
        assert_eq!(load.transfers, self.open.len(), "the model and the machine count alike");
        assert_eq!(load.bytes == 0, load.transfers == 0, "a lease belongs to a transfer");
        for key in &self.open {
            let of_peer = self.open.iter().filter(|open| open.peer == key.peer).count();
            assert!(of_peer <= self.limits.transfers_per_peer);
        }
    }

    /// A peer that was never here sends one message in any order: if there is room, it arrives.
    fn newcomer(&mut self, bytes: &mut Bytes<'_>) {
        self.newcomers += 1;
        let key =
            TransferKey { peer: peer(100 + self.newcomers % 100), request: None, token: "t".to_owned() };
        let (which, is_gated, turn) = (bytes.below(4), bytes.flag(), bytes.below(8));
        let mut frames = honest(which, is_gated);
        let at = turn % frames.len();
        frames.rotate_left(at);
        if bytes.flag() {
            frames.reverse();
        }
        let load = self.receiver.load();
        let cost = 600 + message(which).len() + 64 * frames.len();
        let has_room =
            load.transfers < self.for_newcomers && load.bytes + cost <= self.limits.transfers_bytes;
        let is_new = self.newcomers < 100;
        let outputs: Vec<_> = frames.into_iter().flat_map(|frame| self.hear(&key, frame, which)).collect();
        if has_room && is_new {
            let arrived = outputs.iter().filter(|output| matches!(output, ReceiverOutput::Complete { .. }));
            assert_eq!(arrived.count(), 1, "{outputs:?}");
        }
    }

    fn hear(
        &mut self,
        key: &TransferKey,
        frame: TransferFrame<'static>,
        which: usize,
    ) -> Vec<ReceiverOutput> {
        if matches!(frame.body, FrameBody::Start(_)) {
            self.declared.entry(key.clone()).or_default().insert(message(which));
        }
        let frame = TransferFrame { token: key.token.clone().into(), ..frame };
        self.events += 1;
        let mut id = [0; 32];
        id[..8].copy_from_slice(&self.events.to_be_bytes());
        let event = EventId::from_byte_array(id);
        let (peer, request) = (key.peer, key.request);
        let outputs = self.tell(ReceiverInput::Frame { peer, request, frame, event });
        if self.receiver.received(key).is_some() {
            self.open.insert(key.clone());
        }
        outputs
    }

    /// Hands an input over and checks what comes of it.
    fn tell(&mut self, input: ReceiverInput<'_>) -> Vec<ReceiverOutput> {
        let about = match &input {
            ReceiverInput::Frame { peer, request, frame, .. } => {
                let token = frame.token.clone().into_owned();
                Some(TransferKey { peer: *peer, request: *request, token })
            }
            ReceiverInput::Cancel(key) => Some(key.clone()),
            ReceiverInput::Leave(_) | ReceiverInput::Wake => None,
        };
        self.receiver.handle(input, Now { mono: Mono(self.now), unix: 0 });
        let outputs: Vec<_> = core::iter::from_fn(|| self.receiver.poll_output()).take(OUTPUTS).collect();
        for output in &outputs {
            let key = match output {
                ReceiverOutput::Complete { key, message, .. } => {
                    assert!(self.declared[key].contains(message), "a message is what was declared");
                    self.open.remove(key);
                    key
                }
                ReceiverOutput::Failed { key, .. } => {
                    let was_open = self.open.remove(key);
                    assert!(was_open || about.is_some(), "time ends only what is open");
                    // Room is made for a new transfer at the cost of chunks of the same peer that nobody declared.
                    if was_open && about.as_ref().is_some_and(|about| about != key && about.peer == key.peer)
                    {
                        continue;
                    }
                    key
                }
                ReceiverOutput::Send { key, content, .. } => {
                    let message = Envelope::parse(content, &self.limits).expect("a frame is a message");
                    let frame = TransferFrame::read(&message).expect("it is a frame").expect("it is a frame");
                    assert_eq!(frame.token, key.token);
                    key
                }
                ReceiverOutput::Drop(_) => continue,
            };
            assert!(about.as_ref().is_none_or(|about| about == key), "a frame touches its own transfer");
        }
        outputs
    }
}

fn peer(number: u8) -> PublicKey {
    PublicKey::from_byte_array([number; 32])
}

/// One of a few, so that they collide.
fn key(bytes: &mut Bytes<'_>) -> TransferKey {
    let peer = peer(1 + bytes.byte() % 3);
    let token = bytes.pick(&["t", "5", "\"\n"]).to_owned();
    let request = bytes.flag().then(|| EventId::from_byte_array([9; 32]));
    TransferKey { peer, request, token }
}

/// A frame that no honest peer sends at this place.
fn strange(bytes: &mut Bytes<'_>, which: usize) -> TransferFrame<'static> {
    let mut frames = honest(which, false);
    let (chunk, start) = (frames.swap_remove(1), frames.swap_remove(0));
    let progress = 1 + bytes.pick(&[0, 1, 2, 3, 4, 5, 9, 20, 21, 22, (1 << 53) - 2]);
    let body = match (bytes.below(7), start.body) {
        // As long as the true one, in its place.
        (6, _) => {
            let FrameBody::Chunk(data) = chunk.body else { unreachable!("the second frame is a chunk") };
            let changed = data.chars().map(|c| if c == '{' { '[' } else { c }).collect::<String>();
            return TransferFrame { body: FrameBody::Chunk(changed.into()), ..chunk };
        }
        (0, FrameBody::Start(start)) => FrameBody::Start(Start {
            completion_mode: bytes.pick(&[None, Some("render"), Some("stream")]).map(Into::into),
            total_bytes: bytes.pick(&[start.total_bytes, 0, 1, 2_000, 2_001, (1 << 53) - 1]),
            total_chunks: bytes.pick(&[start.total_chunks, 0, 1, 2, 20, 21, (1 << 53) - 1]),
            digest: if bytes.flag() { "sha256:00".into() } else { start.digest },
        }),
        (0 | 1, _) => FrameBody::Chunk(bytes.text().into()),
        (2, _) => FrameBody::End,
        (3, _) => FrameBody::Abort(None),
        (4, _) => FrameBody::Abort(Some(RESTART.into())),
        _ => FrameBody::Accept,
    };
    TransferFrame { token: "t".into(), progress, body }
}

/// The hand-made inputs of both targets.
pub fn seeds() -> Vec<Seed> {
    let frame = |progress: u64, cvm: &str| {
        let start = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"#;
        format!(r#"{start}"t","progress":{progress},"cvm":{{"type":"oversized-transfer",{cvm}}}}}}}"#)
            .into_bytes()
    };
    let start = r#""frameType":"start","completionMode":"render","digest":"sha256:00","totalBytes":94,"totalChunks":3"#;
    let number = br#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"cvm":{"type":"oversized-transfer","frameType":"end"},"progressToken":5,"progress":1.0}}"#;
    let frames = [
        ("start", frame(1, start)),
        ("accept", frame(2, r#""frameType":"accept""#)),
        ("chunk", frame(3, r#""frameType":"chunk","data":"{\"a\\\ud83d\ude00""#)),
        ("end", frame(9, r#""frameType":"end","x":[]"#)),
        ("abort", frame(99, r#""frameType":"abort","reason":"no \"space\"""#)),
        ("abort_bare", frame(99, r#""frameType":"abort""#)),
        ("number_token", number.to_vec()),
        ("zero", frame(0, r#""frameType":"end""#)),
        ("unknown", frame(1, r#""frameType":"part""#)),
        ("negative", frame(1, &start.replace("94", "-94"))),
    ];
    // Transfers per peer, bytes, waste, accepts.
    let quiet = [1, 0, 0, 0];
    let whole = |key: [u8; 3], which: u8, gated: u8| -> Vec<u8> {
        (0..8).flat_map(|index| [&[0][..], &key, &[which, gated, index]].concat()).collect()
    };
    // A frame at one of the numbers, made of the message and a choice.
    let odd = |key: [u8; 3], which: u8, progress: u8, rest: &[u8]| {
        [&[2][..], &key, &[which, progress], rest].concat()
    };
    let first = [0, 0, 0];
    let backward: Vec<u8> = whole(first, 3, 0).chunks(7).rev().flatten().copied().collect();
    let lists = [
        ("whole", [&quiet[..], &whole(first, 0, 0)].concat()),
        ("gated", [&[1, 0, 0, 1][..], &whole(first, 3, 1)].concat()),
        ("two_peers", [&quiet[..], &whole(first, 3, 0)[..14], &whole([1, 0, 0], 0, 0)].concat()),
        ("newcomers", [&quiet[..], &[3, 3, 0, 2, 1], &[3, 0, 1, 1, 0], &[3, 2, 0, 0, 1]].concat()),
        ("restart", [&quiet[..], &whole(first, 3, 0)[..21], &odd(first, 3, 3, &[4])].concat()),
        ("conflict", [&quiet[..], &whole(first, 3, 0)[..14], &odd(first, 3, 1, &[1, 2, 7, 7])].concat()),
        ("early_end", [&quiet[..], &odd(first, 0, 4, &[2]), &whole(first, 0, 0)].concat()),
        ("start_last", [&quiet[..], &backward].concat()),
        ("bad_start", [&quiet[..], &odd(first, 0, 0, &[0, 2, 0, 0, 0])].concat()),
        (
            "huge_number",
            [&quiet[..], &odd(first, 0, 10, &[0, 1, 0, 0, 0]), &odd(first, 0, 10, &[2])].concat(),
        ),
        (
            "changed",
            [&quiet[..], &whole(first, 1, 0)[..7], &odd(first, 1, 0, &[6]), &odd(first, 1, 2, &[2])].concat(),
        ),
        ("no_memory", [&[0, 2, 1, 0][..], &whole(first, 3, 0)].concat()),
        ("idle", [&quiet[..], &whole(first, 3, 0)[..14], &[4, 0xff, 0xff]].concat()),
        ("cancelled", [&quiet[..], &whole(first, 3, 0)[..14], &[5, 0, 0, 0], &[6, 0, 0, 0]].concat()),
    ];
    let frames = frames.map(|(name, bytes)| ("transfer_frame", name, bytes));
    let lists = lists.map(|(name, bytes)| ("transfer_receiver", name, bytes));
    frames.into_iter().chain(lists).collect()
}
