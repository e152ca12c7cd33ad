//! What callers, the application, relays and the clock do: one operation after the other, as the bytes say.
use std::sync::OnceLock;

use contextvm_core::{Limits, Now, Opened};
use contextvm_engine::{Outcome, ServerInput, Ticket};
use contextvm_stream::{StreamBody, StreamFrame};
use contextvm_transfer::{FrameBody, Handshake, Sender, SenderInput, SenderOutput, TransferFrame};
use nostr::event::{EventId, Tag};
use nostr::key::PublicKey;

use super::Run;
use crate::bytes::Bytes;
use crate::operations::{self, request_id};
use crate::people::{PROTECTIONS, message, opened, tags};

/// What a caller that reads transfers and streams says.
const FLAGS: [&str; 3] = ["support_oversized_transfer", "support_open_stream", "support_unordered_streams"];

/// Messages that are transferred, each under a token of its own.
const WHOLE: [&str; 4] = [
    r#"{"jsonrpc":"2.0","id":0,"method":"tools/call","params":{"name":"add","_meta":{"progressToken":"w0"}}}"#,
    r#"{"jsonrpc":"2.0","id":"a","method":"tools/list","params":{"_meta":{"progressToken":"w1"},"x":"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\""}}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":0}}"#,
    r#"[not json]"#,
];

/// The frames of one of them, cut once and for all.
fn whole(nth: usize) -> Vec<String> {
    static FRAMES: OnceLock<[Vec<String>; WHOLE.len()]> = OnceLock::new();
    FRAMES.get_or_init(|| std::array::from_fn(|nth| cut(&format!("w{nth}"), WHOLE[nth])))[nth].clone()
}

fn cut(token: &str, message: &str) -> Vec<String> {
    let now = Now::default();
    let sender = Sender::new(token, message.to_owned(), 512, Handshake::Skip, &Limits::default(), now);
    let mut sender = sender.expect("it is short");
    sender.handle(SenderInput::Credit(1_000), now);
    let mut frames = Vec::new();
    while let Some(SenderOutput::Frame { progress, content, .. }) = sender.poll_output() {
        frames.push(content);
        sender.handle(SenderInput::Published(progress), now);
    }
    frames
}

impl Run {
    pub(super) fn operation(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.below(23) {
            0..=2 => self.caller_asks(bytes),
            3 => self.caller_notifies(bytes),
            4 => self.caller_answers(bytes),
            5 => {
                let content = bytes.text();
                self.hear(bytes, content, None);
            }
            6 => self.repeat(bytes),
            7 | 8 => self.application_answers(bytes),
            9 => self.application_notifies(bytes),
            10 => self.application_asks(bytes),
            11 => self.application_decides(bytes),
            12 => self.publication_ends(bytes),
            13 => self.time_passes(bytes),
            14 => {
                let caller = self.caller(bytes);
                self.input(ServerInput::SessionClosed(caller));
            }
            16 | 17 => self.caller_transfers(bytes),
            18 => self.caller_controls(bytes),
            19 => self.application_streams(bytes),
            20 | 21 => self.store_speaks(bytes),
            22 => self.restarts(bytes),
            _ => {
                let (to, message) = (self.caller(bytes), bytes.text());
                self.input(ServerInput::Send { to, message });
            }
        }
    }

    fn caller(&self, bytes: &mut Bytes<'_>) -> PublicKey {
        self.callers[bytes.below(3)].public_key()
    }

    fn caller_asks(&mut self, bytes: &mut Bytes<'_>) {
        let id = request_id(bytes);
        let method = bytes.pick(&[
            "tools/call",
            "initialize",
            "tools/list",
            "resources/subscribe",
            "resources/unsubscribe",
            "x",
            "subscriptions/listen",
        ]);
        let params = match bytes.below(5) {
            0 => String::new(),
            1 => r#","params":{"name":"add","uri":"a:b"}"#.to_owned(),
            2 => format!(
                r#","params":{{"_meta":{{"progressToken":{},"clientPubkey":"me"}}}}"#,
                request_id(bytes)
            ),
            3 => format!(r#","params":{{"uri":"{}"}}"#, bytes.byte()),
            _ => format!(r#","params":{{"name":"{}"}}"#, "x".repeat(usize::from(bytes.short()) / 4)),
        };
        self.hear(bytes, format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"{params}}}"#), None);
    }

    fn caller_notifies(&mut self, bytes: &mut Bytes<'_>) {
        let id = request_id(bytes);
        let content = match bytes.below(4) {
            0 => r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned(),
            1 => {
                self.stops = true;
                format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
                )
            }
            2 => format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{id},"progress":1}}}}"#
            ),
            _ => r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#.to_owned(),
        };
        self.hear(bytes, content, None);
    }

    /// One transfer, whole or with some frames missing, twice or in another order.
    fn caller_transfers(&mut self, bytes: &mut Bytes<'_>) {
        let nth = bytes.below(WHOLE.len());
        self.stops |= WHOLE[nth].contains("cancelled");
        let mut frames = whole(nth);
        match bytes.below(4) {
            0 | 1 => {}
            2 => frames.reverse(),
            _ => {
                let at = bytes.below(frames.len());
                frames.remove(at);
                let body = if bytes.flag() { FrameBody::End } else { FrameBody::Abort(None) };
                self.stops = true;
                let progress = u64::from(bytes.byte()) + 1;
                frames.push(TransferFrame { token: format!("w{nth}").into(), progress, body }.to_text());
            }
        }
        let (author, early) = (bytes.below(3), bytes.byte() % 8 == 7);
        for content in frames {
            let stamp = self.now.unix + u64::from(early);
            let flags = FLAGS.iter().map(|flag| Tag::custom(*flag, [""; 0]));
            let event = message(&self.callers[author], stamp, tags(&self.me, flags), content);
            let protection = PROTECTIONS[1];
            self.whole.insert(event.id, WHOLE[nth]);
            if let Some(opened) = opened(event, protection, &self.me, self.now.unix) {
                self.heard.push(opened.clone());
                self.take(opened);
            }
        }
    }

    fn caller_controls(&mut self, bytes: &mut Bytes<'_>) {
        let token = bytes.pick(&["0", "1", "a", "w0", "w1"]);
        let progress = u64::from(bytes.byte()) + 1;
        let stream = |body| StreamFrame { token: token.into(), progress, body }.to_text();
        let content = match bytes.below(5) {
            0 => stream(StreamBody::Ping("n".into())),
            1 => stream(StreamBody::Pong(format!("{token}:1").into())),
            2 => stream(StreamBody::Abort(None)),
            3 => stream(StreamBody::Chunk { index: 0, data: "".into() }),
            _ => {
                self.stops = true;
                TransferFrame { token: token.into(), progress, body: FrameBody::Abort(None) }.to_text()
            }
        };
        self.hear(bytes, content, None);
    }

    fn application_streams(&mut self, bytes: &mut Bytes<'_>) {
        let Some(key) = picked(&self.requests, bytes) else {
            return;
        };
        let now = self.now;
        match bytes.below(4) {
            0 => drop(self.machine.start_stream(&key, Some("text/plain"), now)),
            1 => {
                let text = "text ".repeat(usize::from(bytes.byte()) * 10);
                let taken = self.machine.write_stream(&key, &text, now);
                assert!(
                    taken.is_ok() <= self.offered.contains(&key),
                    "only who reads streams is written one"
                );
                assert!(taken.is_ok() <= !self.ended.contains(&key), "nothing is taken after the end");
            }
            2 => drop(self.machine.close_stream(&key, now)),
            _ => drop(self.machine.abort_stream(&key, Some("why"), now)),
        }
        self.drain();
    }

    fn caller_answers(&mut self, bytes: &mut Bytes<'_>) {
        let question = picked(&self.asked, bytes);
        let id = request_id(bytes);
        let content = if bytes.flag() {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)
        } else {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":1,"message":"no"}}}}"#)
        };
        self.hear(bytes, content, question);
    }

    fn hear(&mut self, bytes: &mut Bytes<'_>, content: String, answered: Option<EventId>) {
        let author = &self.callers[bytes.below(3)];
        let flag = match bytes.below(7) {
            0 => Some(Tag::custom("support_server_requests", [""; 0])),
            1 => Some(Tag::custom("support_encryption_ephemeral", [""; 0])),
            2 => Some(Tag::custom("name", [content.clone()])),
            5 => Some(Tag::custom(FLAGS[0], [""; 0])),
            6 => Some(Tag::custom(FLAGS[1], [""; 0])),
            _ => None,
        };
        let more = answered.map(Tag::event).into_iter().chain(flag);
        let stamp = match u64::from(bytes.byte() % 16) {
            // Ahead of our clock: it waits for its second.
            late @ 13..=15 => self.now.unix + late - 12,
            age => self.now.unix - age * 40,
        };
        let event = message(author, stamp, tags(&self.me, more), content);
        let protection = bytes.pick(&PROTECTIONS);
        if let Some(opened) = opened(event, protection, &self.me, self.now.unix) {
            self.heard.push(opened.clone());
            self.take(opened);
        }
    }

    /// The same inner event once more, perhaps in another wrap or in none.
    fn repeat(&mut self, bytes: &mut Bytes<'_>) {
        if self.heard.is_empty() {
            return;
        }
        let event = self.heard[bytes.below(self.heard.len())].event().clone();
        if let Some(again) = opened(event, bytes.pick(&PROTECTIONS), &self.me, self.now.unix) {
            self.take(again);
        }
    }

    fn take(&mut self, opened: Opened) {
        self.events.insert(opened.event().id, opened.event().clone());
        self.input(ServerInput::Opened(Box::new(opened)));
    }

    fn application_answers(&mut self, bytes: &mut Bytes<'_>) {
        let Some(key) = picked(&self.requests, bytes) else {
            return;
        };
        let id = key.id.to_hex();
        let kind = bytes.below(6);
        let message = match kind {
            0 | 1 => format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"n":{}}}}}"#, bytes.byte()),
            2 => format!(r#"{{"jsonrpc":"2.0","id":"{id}","error":{{"code":-1,"message":"no"}}}}"#),
            3 => format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"x":"{}"}}}}"#, "x".repeat(35_000)),
            4 => format!(r#"{{"id":"{id}","result":[1]}}"#),
            _ => format!(r#"{{"jsonrpc":"2.0","id":"{}","result":{{}}}}"#, "ab".repeat(32)),
        };
        // Now and then to the wrong caller.
        let to = if bytes.below(5) == 4 { self.caller(bytes) } else { key.caller };
        if kind == 3 && to == key.caller {
            self.large.insert(key);
        }
        self.input(ServerInput::Send { to, message });
    }

    fn application_notifies(&mut self, bytes: &mut Bytes<'_>) {
        let key = picked(&self.requests, bytes);
        let id = key.map_or_else(|| "ab".repeat(32), |key| key.id.to_hex());
        let message = match bytes.below(5) {
            0 => format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"{id}","progress":1}}}}"#
            ),
            1 => format!(
                r#"{{"jsonrpc":"2.0","method":"x","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":"{id}"}}}}}}"#
            ),
            2 => r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a:b"}}"#
                .to_owned(),
            3 => r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#.to_owned(),
            _ => format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":"{id}"}}}}"#
            ),
        };
        if bytes.flag() {
            self.input(ServerInput::Broadcast(message));
        } else {
            let to = if bytes.flag() { key.map(|key| key.caller) } else { None };
            let to = to.unwrap_or_else(|| self.caller(bytes));
            self.input(ServerInput::Send { to, message });
        }
    }

    fn application_asks(&mut self, bytes: &mut Bytes<'_>) {
        let (to, id) = (self.caller(bytes), request_id(bytes));
        let message = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"ping","params":{{"_meta":{{"progressToken":{id}}}}}}}"#
        );
        self.input(ServerInput::Send { to, message });
    }

    fn application_decides(&mut self, bytes: &mut Bytes<'_>) {
        let question = picked(&self.questions, bytes).unwrap_or_else(|| u64::from(bytes.byte()));
        self.input(ServerInput::Verdict { question, allow: bytes.flag() });
    }

    fn publication_ends(&mut self, bytes: &mut Bytes<'_>) {
        let ticket = picked(&self.tickets, bytes).unwrap_or_else(|| Ticket(u64::from(bytes.byte())));
        let mut outcome = operations::outcome(bytes);
        if self.refuses_size && matches!(outcome, Outcome::Refused(_)) {
            outcome = Outcome::Refused("invalid: event too large".to_owned());
        }
        self.input(ServerInput::Published(ticket, outcome));
    }

    fn time_passes(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.below(4) {
            0 => self.wake(),
            unit => {
                let ms = u64::from(bytes.byte()) * [1, 100, 2_000][unit - 1];
                self.pass(self.now.mono.0 + ms);
            }
        }
    }
}

fn picked<T: Copy>(among: &[T], bytes: &mut Bytes<'_>) -> Option<T> {
    let at = usize::from(bytes.byte());
    among.get(at.checked_rem(among.len())?).copied()
}
