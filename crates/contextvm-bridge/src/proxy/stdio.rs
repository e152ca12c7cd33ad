//! The front for a host that started this process: one JSON-RPC message per line on the standard streams.
use contextvm_core::envelope::{Envelope, is_id};
use contextvm_core::object::{self, compact};
use contextvm_core::{Limits, Printable};
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::conversation::{Conversation, Hearer, Said, Speaker};
use super::exchange::FAREWELL;
use crate::Error;
use crate::answer::{Failure, INVALID_REQUEST};
use crate::line::{Line, LineReader};
use crate::notice::{Notice, Reporter};

/// Answers to nonsense that may wait to be written.
const COMPLAINTS: usize = 16;

/// Moves messages between the streams and the conversation until one of them ends.
///
/// # Errors
/// Fails when the writer breaks.
pub(super) async fn serve(
    conversation: Conversation,
    (reader, writer): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    limits: Limits,
    reporter: Reporter,
) -> Result<(), Error> {
    let (speaker, hearer) = conversation.split();
    let (complaints, complained) = mpsc::channel(COMPLAINTS);
    let lines = LineReader::new(reader, limits.child_line);
    let mut host = Host { lines, limits, reporter, complaints };
    let mut writing = core::pin::pin!(write(writer, hearer, complained));
    tokio::select! {
        () = host.say_all(speaker) => {}
        written = &mut writing => return written,
    }
    // The host may still read; what is left for it is short.
    timeout(FAREWELL, writing).await.unwrap_or(Ok(()))
}

/// The host's side: what it says.
struct Host<R> {
    lines: LineReader<R>,
    limits: Limits,
    reporter: Reporter,
    complaints: mpsc::Sender<String>,
}

impl<R: AsyncRead + Unpin> Host<R> {
    /// Passes on what the host says until it is gone.
    async fn say_all(&mut self, speaker: Speaker) {
        while let Ok(Some(line)) = self.lines.next().await {
            match line {
                Line::Text(text) if text.trim().is_empty() => {}
                Line::Text(text) => match Envelope::parse(&text, &self.limits).err() {
                    None => {
                        if speaker.say(Said::Message(text)).await.is_err() {
                            return;
                        }
                    }
                    Some(error) => self.complain(&text, &error.to_string()),
                },
                Line::TooLong(bytes) => self.tell(format!("{bytes} bytes in one line")),
                Line::NotUtf8(bytes) => self.tell(format!("{bytes} bytes that are not UTF-8")),
            }
        }
    }

    fn tell(&self, what: String) {
        self.reporter.tell(&Notice::HostNoise(what));
    }

    /// Reports a line that is no message; if it was meant as a request, it is answered.
    fn complain(&self, text: &str, why: &str) {
        #[derive(serde::Deserialize)]
        struct Meant<'a> {
            #[serde(borrow)]
            id: &'a RawValue,
            method: String,
        }
        self.tell(format!("{why}: {}", Printable::short(text, 120)));
        if let Ok(meant) = serde_json::from_str::<Meant<'_>>(text)
            && is_id(meant.id)
            // A string that stands for no text must not be said back.
            && (!meant.id.get().starts_with('"') || object::string(meant.id).is_some())
        {
            tracing::debug!(method = %Printable::short(&meant.method, 60), "refused a request of the host");
            let answer = Failure::new(INVALID_REQUEST, "invalid_request", why).answer(meant.id);
            // A host that does not read its answers while it sends nonsense loses some of them.
            let _full = self.complaints.try_send(answer);
        }
    }
}

/// Writes one line per message and flushes each; ends when the server side is gone or the stream breaks.
async fn write(
    mut writer: impl AsyncWrite + Unpin,
    mut hearer: Hearer,
    mut complained: mpsc::Receiver<String>,
) -> Result<(), Error> {
    loop {
        let text = tokio::select! {
            heard = hearer.hear() => match heard {
                Some(heard) => heard.text,
                None => return Ok(()),
            },
            Some(answer) = complained.recv() => answer,
        };
        let mut line = compact(&text);
        if serde_json::from_str::<&RawValue>(&line).is_err() || line.contains(['\n', '\r']) {
            tracing::error!("a message for the host was not one line of json and was left out");
            continue;
        }
        line.push('\n');
        let written = async {
            writer.write_all(line.as_bytes()).await?;
            writer.flush().await
        };
        written.await.map_err(|error| Error::Stream(error.to_string()))?;
    }
}
