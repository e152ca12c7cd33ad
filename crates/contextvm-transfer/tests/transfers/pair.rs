//! Both machines with a network between them that loses, doubles and reorders: byte-equal or a clean failure.
use std::collections::VecDeque;

use contextvm_core::{Limits, Mono, Now};
use contextvm_transfer::{
    FrameType, Handshake, Receiver, ReceiverInput, ReceiverLoad, ReceiverOutput, Sender, SenderInput,
    SenderOutput,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::stage::{event, peer, read};

fn limits() -> Limits {
    Limits { transfer_bytes: 100_000, transfers_bytes: 300_000, ..Limits::default() }
}

/// What the network does to a frame, and how long that takes.
#[derive(Clone, Copy, Debug)]
struct Fate {
    copies: u64,
    delay: u64,
}

fn fate() -> impl Strategy<Value = Fate> {
    let copies = prop_oneof![1 => Just(0_u64), 30 => Just(1), 9 => Just(2)];
    (copies, 0..3_000_u64).prop_map(|(copies, delay)| Fate { copies, delay })
}

fn safe_fate() -> impl Strategy<Value = Fate> {
    (1..3_u64, 0..3_000_u64).prop_map(|(copies, delay)| Fate { copies, delay })
}

fn message() -> impl Strategy<Value = String> {
    let part = prop_oneof!["[a-z ]{0,400}", "[\"\\\\]{0,200}", "\\PC{0,200}", "(é|😀|漢){0,200}"];
    vec(part, 1..40).prop_map(|parts| format!("{{{}", parts.concat()))
}

/// A pair, the frames on their way, and the clock.
struct Network {
    sender: Sender,
    receiver: Receiver,
    /// When it arrives, in which order it was sent, and what it is; accepts and aborts go back.
    to_receiver: Vec<(u64, u64, String)>,
    to_sender: VecDeque<FrameType>,
    fates: VecDeque<Fate>,
    now: u64,
    sent: u64,
    finished: Option<SenderOutput>,
    ended: Vec<ReceiverOutput>,
    most: usize,
}

impl Network {
    fn new(message: &str, content: usize, handshake: Handshake, fates: Vec<Fate>) -> Self {
        let limits = limits();
        let sender =
            Sender::new("t", message.to_owned(), content, handshake, &limits, Now::default()).unwrap();
        Self {
            sender,
            receiver: Receiver::for_requests(&limits),
            to_receiver: Vec::new(),
            to_sender: VecDeque::new(),
            fates: fates.into(),
            now: 0,
            sent: 0,
            finished: None,
            ended: Vec::new(),
            most: 0,
        }
    }

    fn clock(&self) -> Now {
        Now { mono: Mono(self.now), unix: 0 }
    }

    fn run(&mut self) {
        self.sender.handle(SenderInput::Credit(usize::MAX), self.clock());
        for _ in 0..100_000 {
            self.send();
            let arrival = self.to_receiver.iter().map(|frame| (frame.0, frame.1)).min();
            let wake = [self.sender.poll_timeout(), self.receiver.poll_timeout()].into_iter().flatten();
            let wake = wake.map(|(at, _)| at.0).min();
            match (arrival, wake) {
                (Some((at, number)), wake) if wake.is_none_or(|wake| at <= wake) => {
                    self.now = self.now.max(at);
                    self.deliver(number);
                }
                (_, Some(wake)) => {
                    self.now = self.now.max(wake);
                    self.sender.handle(SenderInput::Wake, self.clock());
                    self.receiver.handle(ReceiverInput::Wake, self.clock());
                }
                (_, None) => return,
            }
            self.answer();
        }
        panic!("it goes on for ever");
    }

    /// Gives out what there is; relays take it at once, what they do with it is the network's business.
    fn send(&mut self) {
        while let Some(output) = self.sender.poll_output() {
            let SenderOutput::Frame { progress, content, .. } = output else {
                assert_eq!(self.finished.replace(output), None, "a sender ends once");
                continue;
            };
            let fate = self.fates.pop_front().unwrap_or(Fate { copies: 1, delay: 10 });
            self.fates.push_back(fate);
            for copy in 0..fate.copies {
                self.sent += 1;
                self.to_receiver.push((self.now + fate.delay * (copy + 1), self.sent, content.clone()));
            }
            self.sender.handle(SenderInput::Published(progress), self.clock());
        }
    }

    fn deliver(&mut self, number: u64) {
        let at = self.to_receiver.iter().position(|frame| frame.1 == number).unwrap();
        let (_, _, content) = self.to_receiver.swap_remove(at);
        let frame = read(&content);
        let event = event(frame.progress);
        let input = ReceiverInput::Frame { peer: peer(1), request: None, frame, event };
        self.receiver.handle(input, self.clock());
    }

    fn answer(&mut self) {
        while let Some(output) = self.receiver.poll_output() {
            self.most = self.most.max(self.receiver.load().bytes);
            match output {
                ReceiverOutput::Send { frame_type, .. } => self.to_sender.push_back(frame_type),
                ReceiverOutput::Complete { .. } | ReceiverOutput::Failed { .. } => self.ended.push(output),
                ReceiverOutput::Drop(_) => {}
            }
        }
        self.most = self.most.max(self.receiver.load().bytes);
        while let Some(frame_type) = self.to_sender.pop_front() {
            let input =
                if frame_type == FrameType::Accept { SenderInput::Accepted } else { SenderInput::Aborted };
            self.sender.handle(input, self.clock());
        }
    }
}

fn handshake() -> impl Strategy<Value = Handshake> {
    prop_oneof![Just(Handshake::Skip), Just(Handshake::Ask)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn without_loss_every_message_arrives_byte_equal(
        message in message(), content in 500..3_000_usize, handshake in handshake(), fates in vec(safe_fate(), 1..40),
    ) {
        let mut network = Network::new(&message, content, handshake, fates);
        network.run();
        prop_assert_eq!(&network.finished, &Some(SenderOutput::Finished));
        prop_assert!(matches!(
            &network.ended[..], [ReceiverOutput::Complete { message: arrived, .. }] if *arrived == message
        ), "{:?}", network.ended);
        prop_assert_eq!(network.receiver.load(), ReceiverLoad::default());
    }

    #[test]
    fn with_loss_a_message_arrives_byte_equal_or_fails_cleanly(
        message in message(), content in 500..3_000_usize, handshake in handshake(), fates in vec(fate(), 1..40),
    ) {
        let mut network = Network::new(&message, content, handshake, fates);
        network.run();
        prop_assert!(network.finished.is_some());
        prop_assert!(network.ended.len() <= 1, "{:?}", network.ended);
        for output in &network.ended {
            if let ReceiverOutput::Complete { message: arrived, .. } = output {
                prop_assert_eq!(arrived, &message);
            }
        }
        prop_assert_eq!(network.receiver.load(), ReceiverLoad::default());
        prop_assert_eq!(network.receiver.poll_timeout(), None);
    }

    #[test]
    fn memory_follows_what_arrived(
        message in message(), content in 500..3_000_usize, fates in vec(fate(), 1..40),
    ) {
        let mut network = Network::new(&message, content, Handshake::Skip, fates);
        let chunks = network.sender.chunks();
        network.run();
        prop_assert!(network.most <= message.len() + chunks * 64 + 1_024);
    }

    #[test]
    fn whatever_comes_is_bounded_and_ends(
        frames in vec((0..3_u8, 0..3_u8, 0..12_u64, 0..6_u8, "[ab]{0,300}", 0..20_000_u64), 1..120),
    ) {
        use contextvm_transfer::{FrameBody, RESTART};
        let limits = Limits { transfers_per_peer: 2, transfers: 4, transfers_bytes: 4_000, ..limits() };
        let mut receiver = Receiver::for_requests(&limits);
        let mut now = 0;
        for (from, token, progress, what, data, pause) in frames {
            now += pause;
            let body = match what {
                0 | 1 => crate::stage::start(1, &data, progress).body,
                2 | 3 => FrameBody::Chunk(data.into()),
                4 => FrameBody::End,
                _ if progress < 6 => FrameBody::Abort(Some(RESTART.into())),
                _ => FrameBody::Abort(None),
            };
            let frame = crate::stage::frame(["a", "b", "c"][usize::from(token)], progress + 1, body);
            let clock = Now { mono: Mono(now), unix: 0 };
            receiver.handle(ReceiverInput::Frame { peer: peer(from + 1), request: None, frame, event: event(now) }, clock);
            receiver.handle(ReceiverInput::Wake, clock);
            let load = receiver.load();
            prop_assert!(load.transfers <= 4 && load.bytes <= 4_000, "{load:?}");
            prop_assert_eq!(load.transfers == 0, load.bytes == 0);
            while let Some(output) = receiver.poll_output() {
                drop(output);
            }
        }
        while let Some((at, _)) = receiver.poll_timeout() {
            prop_assert!(at.0 > now);
            now = at.0;
            receiver.handle(ReceiverInput::Wake, Now { mono: at, unix: 0 });
        }
        prop_assert_eq!(receiver.load(), ReceiverLoad::default());
    }
}
