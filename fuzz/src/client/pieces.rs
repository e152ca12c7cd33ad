//! What comes in pieces: frames of transfers and of streams, and what the application does with them.
use contextvm_core::{Limits, Now};
use contextvm_engine::ClientInput;
use contextvm_stream::{StreamBody, StreamFrame};
use contextvm_transfer::{FrameBody, Handshake, Sender, SenderInput, SenderOutput, TransferFrame};
use nostr::event::{EventId, Tag};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Run;
use crate::bytes::Bytes;
use crate::operations::request_id;

impl Run {
    /// The token in something that was published, and the id of its event.
    fn token(&self, bytes: &mut Bytes<'_>) -> Option<(EventId, String)> {
        let at = usize::from(bytes.short()).checked_rem(self.asked.len())?;
        let id = self.asked[at];
        let message: Value = serde_json::from_str(&self.drafts[&id].content).ok()?;
        let params = &message["params"];
        let tokens = [&params["progressToken"], &params["_meta"]["progressToken"]];
        let token = tokens.into_iter().find(|token| !token.is_null())?;
        let text = token.as_str().map_or_else(|| token.to_string(), str::to_owned);
        (!text.is_empty()).then_some((id, text))
    }

    /// Frames of an answer in pieces: some, all, or one that aborts it.
    pub(super) fn server_sends_pieces(&mut self, bytes: &mut Bytes<'_>) {
        let Some((id, token)) = self.token(bytes) else { return };
        let text = "z".repeat(usize::from(bytes.byte()) * 40);
        let message = format!(r#"{{"jsonrpc":"2.0","id":9,"result":{{"z":"{text}"}}}}"#);
        let mut frames = pieces(&token, message, &self.limits, self.now);
        if bytes.below(8) == 7 {
            let reason = bytes.pick(&["no", "transfers need an established session"]);
            let abort = FrameBody::Abort(Some(reason.into()));
            frames = vec![TransferFrame { token: token.as_str().into(), progress: 9, body: abort }.to_text()];
        }
        let (from, to) = (bytes.below(frames.len()), bytes.below(frames.len() + 1));
        let named = bytes.flag();
        let some: Vec<String> = if from < to { frames[from..to].to_vec() } else { frames };
        for frame in some {
            let more = if named { vec![Tag::event(id)] } else { Vec::new() };
            self.hear(bytes, more, frame);
        }
    }

    pub(super) fn server_streams(&mut self, bytes: &mut Bytes<'_>) {
        let Some((id, token)) = self.token(bytes) else { return };
        let index = u64::from(bytes.byte() % 8);
        let (progress, body) = match bytes.below(8) {
            0 | 1 => (1, StreamBody::Start(None)),
            2..5 => (index + 2, StreamBody::Chunk { index, data: "text".into() }),
            5 => (index + 2, StreamBody::Close(index.checked_sub(1))),
            6 => (20, StreamBody::Ping("n".into())),
            _ => (20, StreamBody::Abort(Some(bytes.text().into()))),
        };
        let content = StreamFrame { token: token.as_str().into(), progress, body }.to_text();
        let more = if bytes.flag() { vec![Tag::event(id)] } else { Vec::new() };
        self.hear(bytes, more, content);
    }

    pub(super) fn application_reads(&mut self, bytes: &mut Bytes<'_>) {
        let id = RawValue::from_string(request_id(bytes).to_owned()).expect("an id is json");
        let chunks = bytes.below(5);
        let input = match bytes.below(4) {
            0 => ClientInput::StopReading { id, reason: Some("no".to_owned()) },
            1 => ClientInput::RelayLimit(usize::from(bytes.short()) * 2),
            _ => ClientInput::Taken { id, chunks },
        };
        let _ = self.input(input);
    }
}

/// Cuts a message as a sender does whom relays take everything from.
fn pieces(token: &str, message: String, limits: &Limits, now: Now) -> Vec<String> {
    let Ok(mut sender) = Sender::new(token, message, 2_000, Handshake::Skip, limits, now) else {
        return vec![String::new()];
    };
    sender.handle(SenderInput::Credit(usize::MAX), now);
    let mut frames = Vec::new();
    while let Some(SenderOutput::Frame { progress, content, .. }) = sender.poll_output() {
        frames.push(content);
        sender.handle(SenderInput::Published(progress), now);
    }
    frames
}
