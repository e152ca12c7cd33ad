//! The writing machine: text of one call, given out chunk by chunk as credit and a window allow.
use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::{String, ToString};

use contextvm_core::{Limits, Mono, Now};

use crate::keepalive::Keepalive;
use crate::{
    MAX_TOKEN, StreamBody, StreamDrop, StreamError, StreamFrame, StreamFrameType, StreamWake, short,
};

/// Most frames on their way at once, unless less is asked for: what they may be out of order at the reader.
const FRAMES: u64 = 16;
/// What a chunk costs beside its text: its place in the queue.
const CHUNK_COST: usize = 32;

/// What a [`Writer`] is told, besides what its application does.
#[derive(Clone, Debug)]
pub enum WriterInput<'a> {
    /// So many more frames may be given out.
    Credit(usize),
    /// A relay took the frame with this number.
    Published(u64),
    /// No relay took the frame with this number, and none will.
    Unpublished(u64),
    /// A frame came from the client whose call this is.
    Frame(StreamFrame<'a>),
    /// A time that [`Writer::poll_timeout`] named has come.
    Wake,
}

/// What a [`Writer`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum WriterOutput {
    /// Publish this content in an event of its own, and report what became of it under its number.
    Frame {
        /// Which frame it is. Pings, pongs and aborts are given out without credit.
        frame_type: StreamFrameType,
        /// Its number within the stream.
        progress: u64,
        /// The JSON-RPC text.
        content: String,
    },
    /// Every frame was taken by a relay. The final answer may go.
    Closed,
    /// The stream failed; an abort was given out before this. The final answer should be an error.
    Failed {
        /// Why.
        error: StreamError,
        /// What the client said, if it was the one who aborted.
        reason: Option<String>,
    },
    /// A frame of the client was not acted on.
    Drop(StreamDrop),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing was written.
    New,
    Open,
    /// The close follows what is queued.
    Closing,
    /// The close is out; a relay has until then to take it.
    Closed(Mono),
    Over,
}

/// Writes one stream.
///
/// What was written and not given out is held: at most `limits.stream_buffer` bytes. The client is asked whether it is there
/// when it was silent for `limits.stream_idle`, however much is written, as the TypeScript SDK does. A stream lasts at most
/// `limits.stream_total`.
#[derive(Debug)]
pub struct Writer {
    limits: Limits,
    token: String,
    content_type: Option<String>,
    window: u64,
    stage: Stage,
    has_started: bool,
    queue: VecDeque<Box<str>>,
    queued: usize,
    /// Chunks given out.
    chunks: u64,
    /// The highest number given out.
    highest: u64,
    in_flight: BTreeSet<u64>,
    /// Pings and pongs that wait for their turn, because the reader cannot bear that one frame overtakes another.
    control: VecDeque<StreamBody<'static>>,
    /// The last of them that was given out.
    last_control: u64,
    credit: usize,
    keepalive: Keepalive,
    deadline: Mono,
    now: Mono,
    out: VecDeque<WriterOutput>,
}

impl Writer {
    /// Makes the writer of a call with this progress token. It sends nothing until it is used.
    ///
    /// # Errors
    /// Refuses a token that is empty or too long.
    pub fn new(token: &str, limits: &Limits) -> Result<Self, StreamError> {
        if !(1..=MAX_TOKEN).contains(&token.len()) {
            return Err(StreamError::Token);
        }
        Ok(Self {
            limits: limits.clone(),
            token: token.to_string(),
            content_type: None,
            window: FRAMES,
            stage: Stage::New,
            has_started: false,
            queue: VecDeque::new(),
            queued: 0,
            chunks: 0,
            highest: 0,
            in_flight: BTreeSet::new(),
            control: VecDeque::new(),
            last_control: 0,
            credit: 0,
            keepalive: Keepalive::new(Mono(0)),
            deadline: Mono(0),
            now: Mono(0),
            out: VecDeque::new(),
        })
    }

    /// Puts a content type into the start frame.
    #[must_use]
    pub fn with_content_type(mut self, content_type: &str) -> Self {
        self.content_type = Some(content_type.to_string());
        self
    }

    /// Allows so many frames on their way at once instead of 16, from one up, the oldest of them included.
    ///
    /// One at a time suits the existing SDKs, whose readers fail a stream when a frame overtakes another.
    #[must_use]
    pub const fn with_window(mut self, frames: u64) -> Self {
        self.window = if frames == 0 { 1 } else { frames };
        self
    }

    /// Sends the start frame, if that was not done.
    ///
    /// # Errors
    /// Refuses when the stream was closed or has ended.
    pub fn start(&mut self, now: Now) -> Result<(), StreamError> {
        self.now = now.mono;
        match self.stage {
            Stage::New => {
                self.stage = Stage::Open;
                self.keepalive = Keepalive::new(now.mono);
                self.deadline = now.mono.after(self.limits.stream_total);
                Ok(())
            }
            Stage::Open => Ok(()),
            Stage::Closing | Stage::Closed(_) | Stage::Over => Err(StreamError::Ended),
        }
    }

    /// Takes as much of a text as there is room for, in whole chunks, and returns how many bytes that is. The rest is for
    /// later: when [`room`](Self::room) is not zero any more.
    ///
    /// # Errors
    /// Refuses when the stream was closed or has ended.
    pub fn write(&mut self, text: &str, now: Now) -> Result<usize, StreamError> {
        self.start(now)?;
        let mut rest = text;
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(chunk_end(rest, self.limits.stream_chunk));
            let cost = chunk.len() + CHUNK_COST;
            if self.queued > 0 && self.queued + cost > self.limits.stream_buffer {
                break;
            }
            self.queued += cost;
            self.queue.push_back(chunk.into());
            rest = after;
        }
        Ok(text.len() - rest.len())
    }

    /// Sends the close frame when everything before it was published; a stream that was not started is started for it.
    ///
    /// # Errors
    /// Refuses when the stream was closed or has ended.
    pub fn close(&mut self, now: Now) -> Result<(), StreamError> {
        self.start(now)?;
        self.stage = Stage::Closing;
        Ok(())
    }

    /// Gives the stream up: what was not given out is lost, and the client is told.
    ///
    /// # Errors
    /// Refuses when the close frame was sent or the stream has ended.
    pub fn abort(&mut self, reason: Option<&str>, now: Now) -> Result<(), StreamError> {
        self.now = now.mono;
        if matches!(self.stage, Stage::Closed(_) | Stage::Over) {
            return Err(StreamError::Ended);
        }
        self.tell(StreamBody::Abort(reason.map(|reason| short(reason).into())));
        self.end(WriterOutput::Failed { error: StreamError::Cancelled, reason: None });
        Ok(())
    }

    /// Returns how many bytes may be written now: zero when the buffer is full, or when nothing is taken any more.
    #[must_use]
    pub fn room(&self) -> usize {
        let has_room = match self.stage {
            Stage::New | Stage::Open => self.limits.stream_buffer.saturating_sub(self.queued + CHUNK_COST),
            Stage::Closing | Stage::Closed(_) | Stage::Over => 0,
        };
        // Less than a chunk is no room: a text would be cut where it need not be.
        if has_room >= self.limits.stream_chunk || self.queued == 0 { has_room } else { 0 }
    }

    /// Whether text is still taken.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.stage, Stage::New | Stage::Open)
    }

    /// Whether anything of the stream was asked for, so that the final answer has to wait for its end.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Open | Stage::Closing | Stage::Closed(_))
    }

    /// Returns how many bytes wait to be given out.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.queued
    }

    /// Takes one input; drain the outputs afterwards.
    pub fn handle(&mut self, input: WriterInput<'_>, now: Now) {
        self.now = now.mono;
        if self.stage == Stage::Over {
            if matches!(input, WriterInput::Frame(_)) {
                self.refuse(StreamDrop::Late);
            }
            return;
        }
        match input {
            WriterInput::Credit(frames) => self.credit = self.credit.saturating_add(frames),
            WriterInput::Published(progress) => {
                if self.in_flight.remove(&progress) && matches!(self.stage, Stage::Closed(_)) {
                    self.end(WriterOutput::Closed);
                }
            }
            WriterInput::Unpublished(progress) => {
                if self.in_flight.remove(&progress) && progress != self.last_control {
                    self.fail(StreamError::NotPublished);
                }
            }
            WriterInput::Frame(frame) => self.on_frame(frame),
            WriterInput::Wake => self.on_wake(),
        }
    }

    /// Returns the next thing to do. A frame of the text is printed when it is asked for, and only if there is credit for it.
    pub fn poll_output(&mut self) -> Option<WriterOutput> {
        self.out.pop_front().or_else(|| self.next_frame())
    }

    /// Returns when to come back, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Mono, StreamWake)> {
        match self.stage {
            Stage::New | Stage::Over => None,
            Stage::Closed(until) => Some((until, StreamWake::Deadline)),
            Stage::Open | Stage::Closing => {
                let keepalive = self.keepalive.due(&self.limits);
                let total = (self.deadline, StreamWake::Deadline);
                Some(if total.0 <= keepalive.0 { total } else { keepalive })
            }
        }
    }

    fn next_frame(&mut self) -> Option<WriterOutput> {
        let is_running = matches!(self.stage, Stage::Open | Stage::Closing);
        // Counted from the oldest, so that nothing overtakes a frame that is held up by more places than that.
        let spread = self.in_flight.first().map_or(0, |oldest| self.highest + 1 - oldest);
        if !is_running || spread >= self.window {
            return None;
        }
        if let Some(body) = self.control.pop_front() {
            let output = self.frame(body);
            self.last_control = self.highest;
            self.in_flight.insert(self.highest);
            return Some(output);
        }
        if self.credit == 0 {
            return None;
        }
        let output = if !self.has_started {
            self.has_started = true;
            self.keepalive.hear(self.now);
            let content_type = self.content_type.take();
            self.frame(StreamBody::Start(content_type.map(Into::into)))
        } else if let Some(text) = self.queue.pop_front() {
            self.queued -= text.len() + CHUNK_COST;
            let index = self.chunks;
            self.chunks += 1;
            self.frame(StreamBody::Chunk { index, data: text.into_string().into() })
        } else if self.stage == Stage::Closing && self.in_flight.is_empty() {
            // Longer than any endpoint tries to publish a frame.
            let until = self.now.after(self.limits.stream_idle).after(self.limits.stream_probe);
            self.stage = Stage::Closed(until);
            self.frame(StreamBody::Close(self.chunks.checked_sub(1)))
        } else {
            return None;
        };
        self.credit -= 1;
        self.in_flight.insert(self.highest);
        Some(output)
    }

    fn on_frame(&mut self, frame: StreamFrame<'_>) {
        if frame.token != self.token {
            return self.refuse(StreamDrop::Unasked);
        }
        let is_live = self.has_started && !matches!(self.stage, Stage::Closed(_));
        let taken = match frame.body {
            StreamBody::Abort(reason) => return self.on_abort(reason.as_deref()),
            StreamBody::Ping(_) | StreamBody::Pong(_) if !is_live => {
                Err(if self.has_started { StreamDrop::Late } else { StreamDrop::Early })
            }
            StreamBody::Ping(nonce) => self.keepalive.ping(&nonce, self.now).map(|()| {
                self.ask(StreamBody::Pong(nonce.into_owned().into()));
            }),
            StreamBody::Pong(nonce) => self.keepalive.pong(&self.token, &nonce, self.now),
            StreamBody::Start(_) | StreamBody::Accept | StreamBody::Chunk { .. } | StreamBody::Close(_) => {
                Err(StreamDrop::Misplaced)
            }
        };
        if let Err(reason) = taken {
            self.refuse(reason);
        }
    }

    /// Ends the stream as the client wants it, and says so with an abort of our own, once.
    fn on_abort(&mut self, reason: Option<&str>) {
        if !matches!(self.stage, Stage::Closed(_)) {
            self.tell(StreamBody::Abort(None));
        }
        let reason = reason.map(|reason| short(reason).to_string());
        self.end(WriterOutput::Failed { error: StreamError::Aborted, reason });
    }

    fn on_wake(&mut self) {
        match self.stage {
            Stage::New | Stage::Over => {}
            Stage::Closed(until) if self.now >= until => self.fail(StreamError::NotPublished),
            Stage::Closed(_) => {}
            Stage::Open | Stage::Closing if self.now >= self.deadline => self.fail(StreamError::TimedOut),
            // A client cannot answer for a stream that it has not heard of.
            Stage::Open | Stage::Closing if !self.has_started => self.keepalive.hear(self.now),
            // A pong and a ping may be due together.
            Stage::Open | Stage::Closing => loop {
                match self.keepalive.wake(&self.token, &self.limits, self.now) {
                    Ok(Some(body)) => self.ask(body),
                    Ok(None) => return,
                    Err(error) => return self.fail(error),
                }
            },
        }
    }

    fn fail(&mut self, error: StreamError) {
        self.tell(StreamBody::Abort(Some(error.reason())));
        self.end(WriterOutput::Failed { error, reason: None });
    }

    fn end(&mut self, output: WriterOutput) {
        self.stage = Stage::Over;
        self.queue = VecDeque::new();
        self.queued = 0;
        self.in_flight.clear();
        self.control.clear();
        self.out.push_back(output);
    }

    /// Gives a ping or a pong out, before everything that is queued and without credit.
    fn ask(&mut self, body: StreamBody<'static>) {
        if self.window > 1 {
            return self.tell(body);
        }
        // Of pongs that wait only the newest is of use.
        self.control.retain(|waiting| waiting.frame_type() != body.frame_type());
        self.control.push_back(body);
    }

    /// Gives a frame out at once.
    fn tell(&mut self, body: StreamBody<'_>) {
        let output = self.frame(body);
        self.out.push_back(output);
    }

    fn frame(&mut self, body: StreamBody<'_>) -> WriterOutput {
        self.highest += 1;
        let (frame_type, progress) = (body.frame_type(), self.highest);
        let content = StreamFrame { token: self.token.as_str().into(), progress, body }.to_text();
        WriterOutput::Frame { frame_type, progress, content }
    }

    fn refuse(&mut self, reason: StreamDrop) {
        self.out.push_back(WriterOutput::Drop(reason));
    }
}

/// Returns where a chunk of so many bytes ends, at least one character behind the beginning.
///
/// A control character without a short escape counts twice: its seven bytes in the content of an event would otherwise make a
/// chunk larger than relays take.
fn chunk_end(text: &str, limit: usize) -> usize {
    let mut size = 0;
    for (at, c) in text.char_indices() {
        let is_short = matches!(c, '\u{8}' | '\t' | '\n' | '\u{c}' | '\r');
        size += c.len_utf8() + usize::from(c < ' ' && !is_short);
        if size > limit && at > 0 {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_end_between_characters() {
        for (text, limit, end) in [
            ("abcdef", 3, 3),
            ("abc", 3, 3),
            ("ab", 3, 2),
            ("aéé", 3, 3),
            ("aé", 2, 1),
            ("😀😀", 3, 4),
            ("😀", 1, 4),
            ("\u{1}\u{1}\n\u{1}", 4, 2),
            ("\n\n\n\n\n", 4, 4),
        ] {
            assert_eq!(chunk_end(text, limit), end, "{text:?} {limit}");
        }
    }
}
