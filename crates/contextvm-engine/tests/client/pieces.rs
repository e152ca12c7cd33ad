//! Messages in pieces: the far end of a transfer or a stream, with the real machines or by hand.
use contextvm_core::{Envelope, Limits, Protection, WrapKind};
use contextvm_engine::{ClientOutput, Outbound};
use contextvm_stream::{StreamBody, StreamFrame};
use contextvm_transfer::{
    Handshake, Receiver, ReceiverInput, ReceiverOutput, Sender, SenderInput, SenderOutput, TransferFrame,
};
use nostr::event::{EventId, Tag};

use crate::rig::{Rig, client_key};

pub(crate) const WRAP: Protection = Protection::Wrapped(WrapKind::Ephemeral);

/// A request with so much text, and a token if one is given.
pub(crate) fn request(id: &str, token: Option<&str>, bytes: usize) -> String {
    let meta = token.map_or_else(String::new, |token| format!(r#","_meta":{{"progressToken":{token}}}"#));
    // Quotes grow twice on their way into an event.
    let text = "say \\\"hello\\\" to ünïcode \u{1f600}; ".repeat(bytes / 34 + 1);
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"work","text":"{text}"{meta}}}}}"#
    )
}

/// An answer with so much text, under an id that is not the application's.
pub(crate) fn answer(bytes: usize) -> String {
    let text = "line of text\\n".repeat(bytes / 14 + 1);
    format!(r#"{{"jsonrpc":"2.0","id":"theirs","result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#)
}

/// Cuts a message into the frames of a transfer, as a sender of ours does.
pub(crate) fn cut(token: &str, message: &str, room: usize) -> Vec<String> {
    let (limits, now) = (Limits::default(), contextvm_core::Now::default());
    let mut sender = Sender::new(token, message.to_owned(), room, Handshake::Skip, &limits, now).unwrap();
    sender.handle(SenderInput::Credit(usize::MAX), now);
    let mut frames = Vec::new();
    while let Some(output) = sender.poll_output() {
        if let SenderOutput::Frame { progress, content, .. } = output {
            frames.push(content);
            sender.handle(SenderInput::Published(progress), now);
        }
    }
    frames
}

/// One frame of a stream.
pub(crate) fn stream_frame(token: &str, progress: u64, body: StreamBody<'_>) -> String {
    StreamFrame { token: token.into(), progress, body }.to_text()
}

pub(crate) fn chunk(token: &str, index: u64, data: &str) -> String {
    stream_frame(token, index + 2, StreamBody::Chunk { index, data: data.into() })
}

/// The progress token in a request.
pub(crate) fn token_of(outbound: &Outbound) -> String {
    let envelope = Envelope::parse(&outbound.draft.content, &Limits::default()).unwrap();
    let token = envelope.progress_token().unwrap();
    contextvm_core::rewrite::plain_text(token).into_owned()
}

/// What was published among some outputs.
pub(crate) fn published(outputs: &[ClientOutput]) -> Vec<Outbound> {
    let each = outputs.iter().filter_map(|output| match output {
        ClientOutput::Publish(outbound) => Some(outbound.clone()),
        _ => None,
    });
    each.collect()
}

/// The messages that reached the application.
pub(crate) fn delivered(outputs: &[ClientOutput]) -> Vec<&str> {
    let each = outputs.iter().filter_map(|output| match output {
        ClientOutput::Deliver { message, .. } => Some(message.as_str()),
        _ => None,
    });
    each.collect()
}

/// The cause in the only error that was delivered.
pub(crate) fn cause(outputs: &[ClientOutput]) -> String {
    let [error] = delivered(outputs)[..] else { panic!("{outputs:?}") };
    let error: serde_json::Value = serde_json::from_str(error).unwrap();
    assert_eq!(error["error"]["data"]["reason"], "transfer", "{error}");
    error["error"]["data"]["cause"].as_str().unwrap().to_owned()
}

/// What frames of a transfer say, for comparing: type and number.
pub(crate) fn shapes(outbounds: &[Outbound]) -> Vec<(&'static str, u64)> {
    let each = outbounds.iter().filter_map(|outbound| {
        let envelope = Envelope::parse(&outbound.draft.content, &Limits::default()).unwrap();
        let frame = TransferFrame::read(&envelope).unwrap()?;
        Some((frame.body.frame_type().name(), frame.progress))
    });
    each.collect()
}

/// The receiver of a server.
pub(crate) struct Server {
    receiver: Receiver,
    /// Messages that arrived, with the events that stand for them.
    pub(crate) got: Vec<(String, EventId)>,
    /// Aborts that it sent.
    pub(crate) aborts: usize,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self { receiver: Receiver::for_requests(&Limits::default()), got: Vec::new(), aborts: 0 }
    }

    /// Takes what was published; what it says in return comes out at the client.
    pub(crate) fn hear(&mut self, rig: &mut Rig, outbound: &Outbound) -> Vec<ClientOutput> {
        let envelope = Envelope::parse(&outbound.draft.content, &Limits::default()).unwrap();
        if envelope.method.as_deref() == Some("ping") {
            return answer_ping(rig, outbound, vec![]);
        }
        let Some(frame) = TransferFrame::read(&envelope).unwrap() else { return Vec::new() };
        let (peer, event) = (client_key(), outbound.draft.id);
        self.receiver.handle(ReceiverInput::Frame { peer, request: None, frame, event }, rig.now);
        let mut outputs = Vec::new();
        while let Some(output) = self.receiver.poll_output() {
            match output {
                ReceiverOutput::Send { content, .. } => outputs.extend(rig.say(WRAP, vec![], &content)),
                ReceiverOutput::Complete { message, end, .. } => self.got.push((message, end)),
                ReceiverOutput::Failed { .. } => self.aborts += 1,
                ReceiverOutput::Drop(_) => {}
            }
        }
        outputs
    }
}

/// The server's discovery: it takes transfers, and streams if told so.
pub(crate) fn meet(rig: &mut Rig) {
    let flags = ["support_oversized_transfer", "support_repeats"].map(|flag| Tag::parse([flag]).unwrap());
    rig.say(WRAP, flags.to_vec(), r#"{"jsonrpc":"2.0","method":"notifications/x"}"#);
}

/// The server answers a ping that the application did not send.
pub(crate) fn answer_ping(rig: &mut Rig, ping: &Outbound, flags: Vec<Tag>) -> Vec<ClientOutput> {
    assert!(ping.draft.content.contains(r#""method":"ping""#), "{ping:?}");
    let tags = [vec![Tag::event(ping.draft.id)], flags].concat();
    let outputs = rig.say(WRAP, tags, r#"{"jsonrpc":"2.0","id":"x","result":{}}"#);
    assert!(delivered(&outputs).iter().all(|text| !text.contains("result")), "it is nobody's");
    outputs
}

/// Asks; the request is one event that a relay took.
pub(crate) fn ask(rig: &mut Rig, text: &str) -> Outbound {
    let outputs = rig.send(text);
    let outputs = rig.take_all(outputs);
    let [asked] = published(&outputs).try_into().unwrap();
    asked
}

/// The server sends frames that name the request; returns what each did.
pub(crate) fn say_all(rig: &mut Rig, request: EventId, frames: &[String]) -> Vec<ClientOutput> {
    let said = |frame: &String| rig.say(WRAP, vec![Tag::event(request)], frame);
    frames.iter().flat_map(said).collect()
}
