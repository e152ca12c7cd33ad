//! What the tests have in common: peers, clocks, frames, and both machines with their outputs drained.
use std::time::Duration;

use contextvm_core::{Envelope, Limits, Mono, Now};
use contextvm_stream::{
    ReaderInput, ReaderOutput, Readers, StreamBody, StreamDrop, StreamEnd, StreamError, StreamFrame,
    StreamKey, Writer, WriterInput, WriterOutput,
};
use nostr::event::EventId;
use nostr::key::PublicKey;

pub(crate) fn peer(number: u16) -> PublicKey {
    let mut bytes = [7; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    PublicKey::from_byte_array(bytes)
}

pub(crate) fn request(number: u64) -> EventId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    EventId::from_byte_array(bytes)
}

pub(crate) fn at(seconds: u64) -> Now {
    Now { mono: Mono(0).after(Duration::from_secs(seconds)), unix: seconds }
}

/// The stream of the first peer's first request.
pub(crate) fn key(token: &str) -> StreamKey {
    StreamKey { peer: peer(1), request: request(1), token: token.to_owned() }
}

/// Reads a frame out of a content, as an endpoint does.
pub(crate) fn read(content: &str) -> StreamFrame<'_> {
    let message = Envelope::parse(content, &Limits::default()).unwrap();
    StreamFrame::read(&message).unwrap().unwrap()
}

pub(crate) fn frame(progress: u64, body: StreamBody<'static>) -> StreamFrame<'static> {
    StreamFrame { token: "t".into(), progress, body }
}

pub(crate) fn start() -> StreamFrame<'static> {
    frame(1, StreamBody::Start(None))
}

/// The chunk that an undisturbed writer sends at this place.
pub(crate) fn chunk(index: u64, data: &str) -> StreamFrame<'static> {
    frame(index + 2, StreamBody::Chunk { index, data: data.to_owned().into() })
}

pub(crate) fn close(last: Option<u64>) -> StreamFrame<'static> {
    frame(last.map_or(2, |last| last + 3), StreamBody::Close(last))
}

pub(crate) fn ping(progress: u64, nonce: &str) -> StreamFrame<'static> {
    frame(progress, StreamBody::Ping(nonce.to_owned().into()))
}

pub(crate) trait Hears {
    /// Hands a frame of the first stream over.
    fn hear(&mut self, frame: StreamFrame<'_>, now: Now) -> Vec<ReaderOutput>;
    fn tell(&mut self, input: ReaderInput<'_>, now: Now) -> Vec<ReaderOutput>;
}

impl Hears for Readers {
    fn hear(&mut self, frame: StreamFrame<'_>, now: Now) -> Vec<ReaderOutput> {
        self.tell(ReaderInput::Frame { peer: peer(1), request: request(1), frame }, now)
    }

    fn tell(&mut self, input: ReaderInput<'_>, now: Now) -> Vec<ReaderOutput> {
        self.handle(input, now);
        std::iter::from_fn(|| self.poll_output()).collect()
    }
}

/// A reader with the first stream open.
pub(crate) fn reader(limits: &Limits) -> Readers {
    let mut readers = Readers::new(limits);
    readers.open(key("t")).unwrap();
    readers
}

pub(crate) fn given(index: u64, data: &str) -> ReaderOutput {
    ReaderOutput::Chunk { key: key("t"), index, data: data.into() }
}

/// A frame that a reader sends.
pub(crate) fn sent(progress: u64, body: StreamBody<'static>) -> ReaderOutput {
    let frame_type = body.frame_type();
    ReaderOutput::Send { key: key("t"), frame_type, content: frame(progress, body).to_text() }
}

pub(crate) fn ended(end: StreamEnd) -> ReaderOutput {
    ReaderOutput::Ended { key: key("t"), end }
}

/// The end of a stream that failed, with the abort that tells the peer under this number.
pub(crate) fn failed(progress: u64, error: StreamError, reason: &'static str) -> Vec<ReaderOutput> {
    let abort = sent(progress, StreamBody::Abort(Some(reason.into())));
    vec![abort, ended(StreamEnd::Failed { error, reason: None })]
}

pub(crate) fn dropped(reason: StreamDrop) -> Vec<ReaderOutput> {
    vec![ReaderOutput::Drop(reason)]
}

/// A writer that may send what it likes.
pub(crate) fn writer(limits: &Limits) -> Writer {
    let mut writer = Writer::new("t", limits).unwrap();
    writer.handle(WriterInput::Credit(usize::MAX), at(0));
    writer
}

/// Takes every frame and publishes it at once; the second part is what a writer says besides.
pub(crate) fn publish(writer: &mut Writer, now: Now) -> (Vec<String>, Vec<WriterOutput>) {
    let (mut frames, mut rest) = (Vec::new(), Vec::new());
    while let Some(output) = writer.poll_output() {
        match output {
            WriterOutput::Frame { progress, content, .. } => {
                writer.handle(WriterInput::Published(progress), now);
                frames.push(content);
            }
            WriterOutput::Closed | WriterOutput::Failed { .. } | WriterOutput::Drop(_) => rest.push(output),
        }
    }
    (frames, rest)
}

/// xorshift64: the same numbers on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}
