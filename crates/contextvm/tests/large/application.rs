//! A server whose tools take, give and stream texts that both ends can make from a seed.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use contextvm::server::{Delivery, Listener, RequestKey, ServerHandle, Session, SessionSender};
use nostr::key::PublicKey;
use serde_json::{Value, json};

/// A text of this many bytes that looks like nothing else of another seed: words, quotes, new lines and Chinese.
pub(crate) fn text(seed: u64, size: usize) -> String {
    const WORDS: [&str; 16] = [
        "relay ",
        "event ",
        "the ",
        "of ",
        "a \"quoted\" ",
        "back\\slash ",
        "line\n",
        "天地玄黃",
        "is ",
        "not ",
        "chunk ",
        "and ",
        "0123456789 ",
        "é ",
        "{\"a\":1} ",
        "stream ",
    ];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::with_capacity(size + 16);
    while text.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        for nibble in 0..16 {
            text.push_str(WORDS[usize::try_from(state >> (4 * nibble) & 15).unwrap()]);
        }
    }
    text.truncate(text.floor_char_boundary(size));
    text
}

/// One line of a stream.
pub(crate) fn line(number: u64) -> String {
    format!("line {number} of \"many\"\n")
}

/// A running application.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) handle: ServerHandle,
    /// Requests that came with another text than was sent.
    broken: Arc<AtomicU64>,
    /// Requests that came.
    came: Arc<AtomicU64>,
}

impl App {
    pub(crate) fn run(mut listener: Listener) -> Self {
        let app = Self { handle: listener.handle(), broken: Arc::default(), came: Arc::default() };
        let shared = app.clone();
        tokio::spawn(async move {
            while let Some(session) = listener.accept().await {
                tokio::spawn(shared.clone().serve(session));
            }
        });
        app
    }

    pub(crate) fn key(&self) -> PublicKey {
        self.handle.public_key()
    }

    /// How many requests came, all of them as they were sent.
    pub(crate) fn came_whole(&self) -> u64 {
        assert_eq!(self.broken.load(Ordering::SeqCst), 0, "no request comes in part");
        self.came.load(Ordering::SeqCst)
    }

    async fn serve(self, mut session: Session) {
        while let Some(inbound) = session.recv().await {
            let Delivery::Request { key, .. } = inbound.delivery else { continue };
            tokio::spawn(self.clone().answer(key, inbound.message, session.sender()));
        }
    }

    async fn answer(self, key: RequestKey, message: String, sender: SessionSender) {
        let message: Value = serde_json::from_str(&message).unwrap();
        let arguments = &message["params"]["arguments"];
        let (seed, size) = (arguments["seed"].as_u64().unwrap_or(0), arguments["size"].as_u64().unwrap_or(0));
        let size = usize::try_from(size).unwrap();
        self.came.fetch_add(1, Ordering::SeqCst);
        let result = match message["params"]["name"].as_str() {
            Some("up") => {
                let is_whole = arguments["text"].as_str() == Some(&text(seed, size));
                self.broken.fetch_add(u64::from(!is_whole), Ordering::SeqCst);
                json!({"whole": is_whole})
            }
            Some("down") => json!({"text": text(seed, size)}),
            Some("stream") => {
                let mut writer = sender.stream(key);
                let mut written = 0;
                while written < seed && writer.write(&line(written)).await.is_ok() {
                    written += 1;
                }
                let closed = writer.close().await;
                json!({"written": written, "closed": closed.is_ok()})
            }
            _ => json!({}),
        };
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
        let _session_is_gone = sender.send(answer.to_string()).await;
    }
}
