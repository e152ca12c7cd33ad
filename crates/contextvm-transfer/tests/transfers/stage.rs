//! What the tests have in common: peers, clocks, frames, and both machines with their outputs drained.
use std::time::Duration;

use contextvm_core::{Envelope, Limits, Mono, Now};
use contextvm_transfer::{
    FrameBody, FrameType, Receiver, ReceiverInput, ReceiverOutput, Sender, SenderInput, SenderOutput, Start,
    TransferError, TransferFrame, TransferKey,
};
use nostr::event::EventId;
use nostr::key::PublicKey;

pub(crate) fn peer(number: u8) -> PublicKey {
    PublicKey::from_byte_array([number; 32])
}

pub(crate) fn event(number: u64) -> EventId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    EventId::from_byte_array(bytes)
}

pub(crate) fn at(seconds: u64) -> Now {
    Now { mono: Mono(0).after(Duration::from_secs(seconds)), unix: seconds }
}

pub(crate) fn key(number: u8, token: &str) -> TransferKey {
    TransferKey { peer: peer(number), request: None, token: token.to_owned() }
}

/// Reads a frame out of a content, as an endpoint does.
pub(crate) fn read(content: &str) -> TransferFrame<'_> {
    let message = Envelope::parse(content, &Limits::default()).unwrap();
    TransferFrame::read(&message).unwrap().unwrap()
}

pub(crate) fn frame(token: &str, progress: u64, body: FrameBody<'static>) -> TransferFrame<'static> {
    TransferFrame { token: token.to_owned().into(), progress, body }
}

pub(crate) fn chunk(progress: u64, data: &str) -> TransferFrame<'static> {
    frame("t", progress, FrameBody::Chunk(data.to_owned().into()))
}

pub(crate) fn end(progress: u64) -> TransferFrame<'static> {
    frame("t", progress, FrameBody::End)
}

/// The start frame of a transfer of this message.
pub(crate) fn start(progress: u64, message: &str, chunks: u64) -> TransferFrame<'static> {
    let digest = bitcoin_hashes::sha256::Hash::hash(message.as_bytes()).to_byte_array();
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    frame(
        "t",
        progress,
        FrameBody::Start(Start {
            completion_mode: Some("render".into()),
            digest: format!("sha256:{digest}").into(),
            total_bytes: message.len() as u64,
            total_chunks: chunks,
        }),
    )
}

pub(crate) trait Hears {
    /// Hands a frame of the first peer over, at second zero, in an event that has the frame's number.
    fn hear(&mut self, frame: TransferFrame<'_>) -> Vec<ReceiverOutput>;
    fn hear_from(&mut self, number: u8, frame: TransferFrame<'_>, now: Now) -> Vec<ReceiverOutput>;
    /// Hands a frame of the first peer over in another event than the last one with its number.
    fn hear_again(&mut self, event: u64, frame: TransferFrame<'_>, now: Now) -> Vec<ReceiverOutput>;
    fn tell(&mut self, input: ReceiverInput<'_>, now: Now) -> Vec<ReceiverOutput>;
}

impl Hears for Receiver {
    fn hear(&mut self, frame: TransferFrame<'_>) -> Vec<ReceiverOutput> {
        self.hear_from(1, frame, at(0))
    }

    fn hear_from(&mut self, number: u8, frame: TransferFrame<'_>, now: Now) -> Vec<ReceiverOutput> {
        let event = event(frame.progress);
        self.tell(ReceiverInput::Frame { peer: peer(number), request: None, frame, event }, now)
    }

    fn hear_again(&mut self, event: u64, frame: TransferFrame<'_>, now: Now) -> Vec<ReceiverOutput> {
        let event = self::event(1_000 + event);
        self.tell(ReceiverInput::Frame { peer: peer(1), request: None, frame, event }, now)
    }

    fn tell(&mut self, input: ReceiverInput<'_>, now: Now) -> Vec<ReceiverOutput> {
        self.handle(input, now);
        std::iter::from_fn(|| self.poll_output()).collect()
    }
}

/// What is left of outputs when the frames that they send are left out.
pub(crate) fn silent(outputs: Vec<ReceiverOutput>) -> Vec<ReceiverOutput> {
    outputs.into_iter().filter(|output| !matches!(output, ReceiverOutput::Send { .. })).collect()
}

/// The failure of the first peer's transfer.
pub(crate) fn failed(error: TransferError) -> Vec<ReceiverOutput> {
    vec![ReceiverOutput::Failed { key: key(1, "t"), error }]
}

pub(crate) fn complete(message: &str, end: u64) -> Vec<ReceiverOutput> {
    vec![ReceiverOutput::Complete { key: key(1, "t"), message: message.to_owned(), end: event(end) }]
}

/// A frame that was given out: its type, its number, its text.
pub(crate) type Given = (FrameType, u64, String);

/// Takes every frame that a sender gives out now; the second part is what it says besides.
pub(crate) fn drain(sender: &mut Sender) -> (Vec<Given>, Vec<SenderOutput>) {
    let (mut frames, mut rest) = (Vec::new(), Vec::new());
    while let Some(output) = sender.poll_output() {
        match output {
            SenderOutput::Frame { frame_type, progress, content } => {
                frames.push((frame_type, progress, content))
            }
            SenderOutput::Finished | SenderOutput::Failed(_) => rest.push(output),
        }
    }
    (frames, rest)
}

/// Publishes everything at once, as one relay that always answers does.
pub(crate) fn all_frames(sender: &mut Sender, now: Now) -> (Vec<Given>, Vec<SenderOutput>) {
    let (mut frames, mut rest) = (Vec::new(), Vec::new());
    sender.handle(SenderInput::Credit(usize::MAX), now);
    loop {
        let (given, said) = drain(sender);
        rest.extend(said);
        if given.is_empty() {
            return (frames, rest);
        }
        for frame in given {
            sender.handle(SenderInput::Published(frame.1), now);
            frames.push(frame);
        }
    }
}
