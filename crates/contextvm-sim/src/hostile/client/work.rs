//! What a hostile client does in its own name: calls, floods, frames and transfers.
use contextvm_core::{Limits, Now, object, tags};
use contextvm_stream::{StreamBody, StreamFrame};
use contextvm_transfer::{FrameBody, Handshake, Sender, SenderInput, SenderOutput, Start, TransferFrame};
use nostr::event::EventId;

use super::{FLAGS, HostileClient, Round, SECOND};
use crate::hostile::act::{Act, Issue};
use crate::hostile::deed::Deed;
use crate::hostile::texts;

impl HostileClient {
    pub(super) fn calls(&mut self, round: &mut Round) {
        if self.mood.does(Deed::ClientInitialises) {
            let id = texts::common(&mut self.mood.rng);
            let flags = FLAGS.map(tags::flag);
            self.say(round, flags, texts::initialize(id));
            let ready = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
            self.say(round, [], ready.to_owned());
        }
        if self.mood.does(Deed::ClientCalls) {
            for _ in 0..self.mood.rng.u8(1..5) {
                let text = self.call();
                self.say(round, [], text);
            }
        }
        if self.mood.does(Deed::ClientRepeats) {
            self.repeat(round);
        }
        if self.mood.does(Deed::ClientClaims) {
            let text = self.call();
            let someone = self.messages.back().map_or(round.to, |event| event.pubkey).to_hex();
            let claim = format!(
                r#""params":{{"_meta":{{"clientPubkey":"{someone}","requestEventId":"{someone}","stream":{{}}}},"#
            );
            self.say(round, [], text.replacen("\"params\":{", &claim, 1));
        }
        if self.mood.does(Deed::ClientSubscribes) {
            for _ in 0..self.mood.rng.u8(1..20) {
                let nth = self.mood.rng.u32(..);
                self.say(
                    round,
                    [],
                    format!(
                        r#"{{"jsonrpc":"2.0","id":{nth},"method":"resources/subscribe","params":{{"uri":"x://{nth}"}}}}"#
                    ),
                );
            }
        }
    }

    /// The last request again: as it is, in other envelopes, in clear.
    fn repeat(&mut self, round: &mut Round) {
        let Some((to, inner)) = self.last.clone() else { return };
        for _ in 0..self.mood.rng.u8(2..8) {
            let protection = self.forge.protection();
            let outer = self.forge.protect(&inner, &to, protection, round.unix);
            let after = self.mood.rng.u64(..20 * SECOND);
            round.acts.extend(outer.map(|event| Act { after, event, issue: None }));
        }
    }

    pub(super) fn floods(&mut self, round: &mut Round) {
        if self.mood.does(Deed::ClientFloods) {
            for _ in 0..self.mood.rng.u8(5..60) {
                let event = self.forge.rubbish(&round.to, round.unix);
                round.acts.push(Act { after: 0, event, issue: None });
            }
        }
        if self.mood.does(Deed::ClientStrangers) {
            for _ in 0..self.mood.rng.u8(1..12) {
                let stranger = self.forge.keys();
                let text = self.call();
                let inner = self.forge.message(&stranger, &round.to, round.unix, [], text);
                self.send(round, inner, true);
            }
        }
    }

    pub(super) fn frames(&mut self, round: &mut Round) {
        if self.mood.does(Deed::ClientBadFrames) {
            for _ in 0..self.mood.rng.u8(1..12) {
                let token = texts::common(&mut self.mood.rng).trim_matches('"');
                let text = if self.mood.rng.bool() {
                    texts::bad_transfer(&mut self.mood.rng, token)
                } else {
                    texts::bad_stream(&mut self.mood.rng, token)
                };
                self.say(round, [], text);
            }
        }
        if self.mood.does(Deed::ClientSharedTokens) {
            let token = self.foreign_token();
            let bodies = [
                FrameBody::Chunk("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"mine\"}".into()),
                FrameBody::End,
                FrameBody::Abort(None),
            ];
            for (progress, body) in (2..).zip(bodies) {
                let frame = TransferFrame { token: token.as_str().into(), progress, body };
                self.say(round, [], frame.to_text());
            }
            let body = StreamBody::Abort(None);
            self.say(round, [], StreamFrame { token: token.as_str().into(), progress: 1, body }.to_text());
            let progress = self.mood.rng.u64(..9);
            self.say(round, [], texts::progress(&object::quote(&token), progress));
        }
        if self.mood.does(Deed::ClientPings) {
            let token = self.foreign_token();
            for progress in 1..self.mood.rng.u64(2..40) {
                let nonce = format!("{token}:{progress}");
                let body = if progress % 3 == 0 {
                    StreamBody::Pong(nonce.into())
                } else {
                    StreamBody::Ping(nonce.into())
                };
                let frame = StreamFrame { token: token.as_str().into(), progress, body };
                self.say(round, [], frame.to_text());
            }
        }
    }

    pub(super) fn transfers(&mut self, round: &mut Round) {
        if self.mood.does(Deed::ClientStarts) {
            for _ in 0..self.mood.rng.u8(1..20) {
                let token = format!("s{}", self.mood.rng.u32(..));
                let start = Start {
                    completion_mode: Some("render".into()),
                    digest: format!("sha256:{}", "0".repeat(64)).into(),
                    total_bytes: 1 << self.mood.rng.u8(10..28),
                    total_chunks: self.mood.rng.u64(1..10_000),
                };
                let body = FrameBody::Start(start);
                self.say(round, [], TransferFrame { token: token.into(), progress: 1, body }.to_text());
            }
        }
        if self.mood.does(Deed::ClientTransfers) {
            self.transfer(round, false, 100);
        }
        if self.mood.does(Deed::ClientWrongDigests) {
            self.transfer(round, true, 100);
        }
        if self.mood.does(Deed::ClientHalfTransfers) {
            let percent = self.mood.rng.u8(10..95);
            self.transfer(round, false, percent);
        }
    }

    /// Transfers a call, or some of it, or with the digest of another one.
    fn transfer(&mut self, round: &mut Round, wrong: bool, percent: u8) {
        let token = format!("t{}", self.mood.rng.u32(..));
        let id = texts::common(&mut self.mood.rng);
        let word = "w".repeat(self.mood.rng.usize(1_000..30_000));
        let quoted = object::quote(&token);
        let text = texts::call(id, Some(&quoted), &word);
        let frames = cut(&token, &text);
        let most = frames.len() * usize::from(percent) / 100;
        let mut last = None;
        for frame in frames.into_iter().take(most) {
            let frame = if wrong { frame.replacen("sha256:", "sha256:00", 1) } else { frame };
            let frame = if wrong { frame.replacen("www", "vvv", 1) } else { frame };
            last = self.say(round, [], frame);
        }
        if !wrong
            && percent == 100
            && let Some(id) = last
        {
            self.issue(round, id, text);
        }
    }

    /// The last frame of a transfer stands for the whole.
    fn issue(&self, round: &mut Round, id: EventId, content: String) {
        let issue = Issue { author: self.keys.public_key(), server: round.to, id, content };
        if let Some(act) = round.acts.last_mut() {
            act.issue = Some(issue);
        }
    }
}

/// The frames of a whole transfer.
pub(in crate::hostile) fn cut(token: &str, text: &str) -> Vec<String> {
    let (limits, now) = (Limits::default(), Now::default());
    let sender = Sender::new(token, text.to_owned(), 4_000, Handshake::Skip, &limits, now);
    let Ok(mut sender) = sender else { return Vec::new() };
    let mut frames = Vec::new();
    sender.handle(SenderInput::Credit(1_000), now);
    while let Some(output) = sender.poll_output() {
        let SenderOutput::Frame { progress, content, .. } = output else { break };
        frames.push(content);
        sender.handle(SenderInput::Published(progress), now);
    }
    frames
}
