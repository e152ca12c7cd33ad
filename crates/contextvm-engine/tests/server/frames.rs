//! What clients write and read of transfers and streams.
use contextvm_core::{Draft, Envelope, Limits, Now};
use contextvm_engine::ServerConfig;
use contextvm_stream::{StreamBody, StreamFrame};
use contextvm_transfer::{
    FrameBody, Handshake, Receiver, ReceiverInput, ReceiverOutput, Sender, SenderInput, SenderOutput, Start,
    TransferFrame,
};

use crate::world::{PLAIN, World, call, public};

pub(crate) const OVERSIZED: &[&[&str]] = &[&["support_oversized_transfer"]];
pub(crate) const STREAMS: &[&[&str]] =
    &[&["support_oversized_transfer"], &["support_open_stream"], &["support_unordered_streams"]];
/// What the existing TypeScript SDK says.
pub(crate) const TS_STREAMS: &[&[&str]] = &[&["support_oversized_transfer"], &["support_open_stream"]];

/// A world in which these callers have had a request answered.
pub(crate) fn met(config: ServerConfig, callers: impl IntoIterator<Item = u32>) -> World {
    let mut world = World::new(config);
    for n in callers {
        let nth = world.events.len();
        world.tagged(n, PLAIN, &call(0, "initialize"), OVERSIZED);
        world.done(nth);
    }
    world.drafts.clear();
    world
}

/// A request of about so many bytes.
pub(crate) fn long_call(id: u32, bytes: usize) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"{}"}},"_meta":{{"progressToken":"t"}}}}}}"#,
        "x\u{e9}".repeat(bytes / 3)
    )
}

/// The frames of one transfer.
pub(crate) fn cut(token: &str, message: &str, handshake: Handshake) -> Vec<String> {
    let (limits, mut now) = (Limits::default(), Now::default());
    let mut sender = Sender::new(token, message.to_owned(), 2_000, handshake, &limits, now).unwrap();
    sender.handle(SenderInput::Credit(100_000), now);
    let mut frames = Vec::new();
    loop {
        match sender.poll_output() {
            Some(SenderOutput::Frame { progress, content, .. }) => {
                frames.push(content);
                sender.handle(SenderInput::Published(progress), now);
            }
            Some(SenderOutput::Finished) => return frames,
            Some(SenderOutput::Failed(error)) => panic!("{error}"),
            None => {
                now.mono.0 += 3_000;
                sender.handle(SenderInput::Wake, now);
            }
        }
    }
}

pub(crate) fn frame(token: &str, progress: u64, body: FrameBody<'_>) -> String {
    TransferFrame { token: token.into(), progress, body }.to_text()
}

/// A start frame that declares this; its digest is that of nothing we know.
pub(crate) fn start(token: &str, bytes: u64, chunks: u64) -> String {
    let declared = Start {
        completion_mode: None,
        digest: format!("sha256:{}", "0".repeat(64)).into(),
        total_bytes: bytes,
        total_chunks: chunks,
    };
    frame(token, 1, FrameBody::Start(declared))
}

pub(crate) fn chunk(token: &str, progress: u64, data: &str) -> String {
    frame(token, progress, FrameBody::Chunk(data.into()))
}

pub(crate) fn control(token: &str, progress: u64, body: StreamBody<'_>) -> String {
    StreamFrame { token: token.into(), progress, body }.to_text()
}

/// Lets the frames of a transfer arrive, and returns what the last one did.
pub(crate) fn upload(world: &mut World, n: u32, frames: &[String]) -> Vec<String> {
    let mut last = Vec::new();
    for frame in frames {
        last = world.from(n, PLAIN, frame);
    }
    last
}

/// What a client puts together from the frames of one answer.
pub(crate) fn assembled(drafts: &[Draft]) -> Option<String> {
    let (limits, now) = (Limits::default(), Now::default());
    let mut receiver = Receiver::for_responses(&limits);
    for draft in drafts {
        let message = Envelope::parse(&draft.content, &limits).unwrap();
        let Some(frame) = TransferFrame::read(&message).unwrap() else { continue };
        let event = draft.id;
        receiver.handle(ReceiverInput::Frame { peer: public(0), request: None, frame, event }, now);
        while let Some(output) = receiver.poll_output() {
            if let ReceiverOutput::Complete { message, .. } = output {
                return Some(message);
            }
        }
    }
    None
}

/// The frame types of what was published, with `answer` for everything that is no frame.
pub(crate) fn types(drafts: &[Draft]) -> Vec<String> {
    let name = |draft: &Draft| {
        let (_, rest) = draft.content.split_once(r#""frameType":""#)?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    drafts.iter().map(|draft| name(draft).unwrap_or_else(|| "answer".to_owned())).collect()
}

/// The names of a draft's tags, `p` left out.
pub(crate) fn tag_names(draft: &Draft) -> Vec<&str> {
    draft.tags.iter().skip(1).map(|tag| tag.as_slice()[0].as_str()).collect()
}

/// A result of about so many bytes, for event `nth`.
pub(crate) fn long_answer(world: &World, nth: usize, bytes: usize) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":"{}","result":{{"text":"{}"}}}}"#,
        world.events[nth].id.to_hex(),
        "y\\n".repeat(bytes / 3)
    )
}
