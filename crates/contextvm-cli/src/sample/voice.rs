//! How the sample server speaks while a call runs: through a writer, or with frames of its own.
use contextvm::server::StreamWriter;
use contextvm::server::rmcp::stream_writer;
use rmcp::model::{CustomNotification, ProgressToken, ServerNotification};
use rmcp::service::RequestContext;
use rmcp::{Peer, RoleServer};
use serde_json::{Value, json};

/// What carries the words.
pub(super) enum Voice {
    /// The server that it lives in.
    Writer(StreamWriter),
    /// Frames as CEP-41 wants them; a gateway passes them on.
    Frames(Frames),
    /// Nobody listens before the end.
    Silent,
}

/// A stream by hand: start, chunks, close. Whoever asks whether it is there within its few seconds gets no answer.
pub(super) struct Frames {
    peer: Peer<RoleServer>,
    token: ProgressToken,
    frames: u64,
    chunks: u64,
}

impl Voice {
    /// Finds the voice for a call; `alone` is a server that has nobody to frame its words.
    pub(super) fn of(context: &RequestContext<RoleServer>, alone: bool) -> Self {
        if let Some(writer) = stream_writer(context) {
            return Self::Writer(writer);
        }
        match context.meta.get_progress_token() {
            Some(token) if alone => {
                Self::Frames(Frames { peer: context.peer.clone(), token, frames: 0, chunks: 0 })
            }
            Some(_) | None => Self::Silent,
        }
    }

    pub(super) const fn is_heard(&self) -> bool {
        !matches!(self, Self::Silent)
    }

    /// Says a piece of the whole.
    pub(super) async fn say(&mut self, text: &str) -> Result<(), String> {
        match self {
            Self::Writer(writer) => writer.write(text).await.map_err(|error| error.to_string()),
            Self::Frames(frames) => frames.chunk(text).await,
            Self::Silent => Ok(()),
        }
    }

    /// Says that there is no more.
    pub(super) async fn end(&mut self) -> Result<(), String> {
        match self {
            Self::Writer(writer) => writer.close().await.map_err(|error| error.to_string()),
            Self::Frames(frames) => frames.close().await,
            Self::Silent => Ok(()),
        }
    }
}

impl Frames {
    async fn chunk(&mut self, text: &str) -> Result<(), String> {
        if self.frames == 0 {
            self.send(json!({ "type": "open-stream", "frameType": "start" })).await?;
        }
        let index = self.chunks;
        self.chunks += 1;
        let chunk = json!({ "type": "open-stream", "frameType": "chunk", "chunkIndex": index, "data": text });
        self.send(chunk).await
    }

    async fn close(&mut self) -> Result<(), String> {
        let Some(last) = self.chunks.checked_sub(1) else { return Ok(()) };
        self.send(json!({ "type": "open-stream", "frameType": "close", "lastChunkIndex": last })).await
    }

    async fn send(&mut self, cvm: Value) -> Result<(), String> {
        self.frames += 1;
        let params = json!({ "progressToken": self.token, "progress": self.frames, "cvm": cvm });
        let frame = CustomNotification::new("notifications/progress", Some(params));
        let sent = self.peer.send_notification(ServerNotification::CustomNotification(frame)).await;
        sent.map_err(|error| error.to_string())
    }
}
