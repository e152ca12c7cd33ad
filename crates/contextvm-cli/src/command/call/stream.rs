//! A call whose tool writes while it works: each piece is shown as it comes.
use std::sync::Arc;
use std::time::Duration;

use contextvm::client::{Answered, CallError, StreamChunk, StreamFailure, StreamedCall};
use contextvm::core::Printable;
use contextvm::engine::StreamError;
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::bar;
use crate::connect::Session;
use crate::output::{Out, Pieces, Talk};
use crate::problem::{Code, Problem};

/// Bytes that may wait for whoever reads our output, and that are remembered to see whether the result repeats them.
const HELD: usize = 24 * 1024 * 1024;
/// What a piece costs beside its text, bytes.
const PIECE: usize = 64;
/// How long the answer to a stream that failed is waited for; it may say why.
const REASON: Duration = Duration::from_secs(1);

/// One piece, as a line.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    index: u64,
    data: &'a str,
}

/// Calls, shows what comes, and returns it with the answer; `None` when it was too much to remember.
pub(super) async fn call(
    session: &Session,
    params: String,
    out: &mut Out,
    talk: &Talk,
) -> Result<(Answered, Option<String>), Problem> {
    if !session.client.server_tags().open_stream {
        talk.say("note: the server does not say that its tools can write while they work (CEP-41)");
    }
    let mut call = session.call_reading("tools/call", Some(params)).await?;
    let (mut heard, mut talk) = (Heard::default(), *talk);
    let (mut pieces, mut printer) = (Pieces::default(), Printer::start(*out));
    let failure = loop {
        match bar::beside(&talk, session.client.transfers(), call.chunk()).await {
            Some(Ok(chunk)) => {
                heard.take(&chunk.data);
                printer.print(shown(&chunk, &mut pieces, out)?).await?;
                if !out.is_file() {
                    talk = talk.without_bars();
                }
            }
            Some(Err(failure)) => break Some(failure),
            None => break None,
        }
    };
    printer.finish().await?;
    if !out.is_file() {
        out.end_line()?;
    }
    if let Some(failure) = failure {
        return Err(failed(&failure, call, heard.chunks).await);
    }
    let answered = bar::beside(&talk, session.client.transfers(), call.answer()).await;
    Ok((session.understood("tools/call", answered)?, heard.text()))
}

/// What to write for one piece: a document, or its text, which a terminal must not obey.
fn shown(chunk: &StreamChunk, pieces: &mut Pieces, out: &mut Out) -> Result<String, Problem> {
    if out.json {
        let document = Document { schema: "cvm.chunk/1", index: chunk.index, data: &chunk.data };
        let line = serde_json::to_string(&document).map_err(|error| Problem::internal(error.to_string()))?;
        return Ok(line + "\n");
    }
    let text = if out.is_file() { chunk.data.to_string() } else { pieces.next(&chunk.data) };
    out.wrote(&text);
    Ok(text)
}

/// Says why the stream failed; what has come of it has been shown.
async fn failed(failure: &StreamFailure, call: StreamedCall, chunks: u64) -> Problem {
    let stopped = [StreamError::Probe, StreamError::TimedOut, StreamError::Gap];
    let (code, message) = if failure.error == StreamError::Aborted {
        (Code::ToolError, "the tool gave up while it was writing")
    } else if stopped.contains(&failure.error) {
        (Code::Timeout, "the tool has stopped writing")
    } else {
        (Code::TransferFailed, "what the tool wrote did not arrive whole")
    };
    let problem = Problem::new(code, message).fact(format!("{chunks} pieces came; {}", failure.error));
    let problem = match &failure.reason {
        Some(reason) => problem.fact(format!("it said: {}", Printable::short(reason, 300))),
        None => problem,
    };
    match tokio::time::timeout(REASON, call.answer()).await {
        Ok(Err(CallError::Server { code, message, .. })) => {
            problem.fact(format!("the server said: {} ({code})", Printable::short(&message, 400)))
        }
        Ok(_) | Err(_) => problem,
    }
}

/// What the tool has written so far.
#[derive(Debug, Default)]
struct Heard {
    chunks: u64,
    text: String,
    is_cut: bool,
}

impl Heard {
    fn take(&mut self, piece: &str) {
        self.chunks = self.chunks.saturating_add(1);
        self.is_cut |= self.text.len() + piece.len() > HELD;
        if !self.is_cut {
            self.text.push_str(piece);
        }
    }

    /// Returns the text; no result is as long as one that was cut.
    fn text(self) -> Option<String> {
        (!self.is_cut).then_some(self.text)
    }
}

/// Writes to standard output from a thread, so that whoever reads slowly does not fail the stream.
struct Printer {
    queue: mpsc::Sender<String>,
    room: Arc<Semaphore>,
    writing: JoinHandle<Result<(), Problem>>,
}

impl Printer {
    fn start(mut out: Out) -> Self {
        let (queue, mut pieces) = mpsc::channel::<String>(HELD / PIECE);
        let room = Arc::new(Semaphore::new(HELD));
        let freed = Arc::clone(&room);
        let writing = tokio::task::spawn_blocking(move || {
            let written = core::iter::from_fn(|| pieces.blocking_recv())
                .try_for_each(|piece| out.text(&piece).map(|()| freed.add_permits(cost(&piece))));
            // Nobody waits for room that will not come.
            freed.close();
            written
        });
        Self { queue, room, writing }
    }

    /// Hands a piece on; waits only while far too much is waiting already.
    async fn print(&mut self, piece: String) -> Result<(), Problem> {
        let bytes = u32::try_from(cost(&piece)).unwrap_or(u32::MAX);
        if let Ok(room) = self.room.acquire_many(bytes).await {
            room.forget();
            if self.queue.send(piece).await.is_ok() {
                return Ok(());
            }
        }
        joined((&mut self.writing).await)
    }

    /// Waits until everything is written.
    async fn finish(self) -> Result<(), Problem> {
        let Self { queue, writing, .. } = self;
        drop(queue);
        joined(writing.await)
    }
}

/// What a piece takes of the room, bytes.
fn cost(piece: &str) -> usize {
    piece.len().saturating_add(PIECE).min(HELD)
}

fn joined(written: Result<Result<(), Problem>, tokio::task::JoinError>) -> Result<(), Problem> {
    written
        .unwrap_or_else(|error| Err(Problem::internal(format!("the output could not be written: {error}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_any_result_is_not_remembered() {
        let mut heard = Heard::default();
        heard.take("ab");
        heard.take("c");
        assert_eq!(heard.text, "abc");
        heard.take(&"x".repeat(HELD));
        heard.take("d");
        assert_eq!((heard.chunks, heard.text()), (4, None));
    }
}
