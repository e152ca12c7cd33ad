//! The reading machine: the streams of all calls, within one table of limits.
mod incoming;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use contextvm_core::{Limits, Mono, Now};
use nostr::event::EventId;
use nostr::key::PublicKey;

use self::incoming::{Heard, Incoming, Woken};
use crate::{
    MAX_TOKEN, StreamBody, StreamDrop, StreamError, StreamFrame, StreamFrameType, StreamKey, StreamWake,
    short,
};

/// What an open stream costs beside its chunks and its token: the marks of the last chunks, above all.
const OPEN_COST: usize = 2_560;
/// Most ended streams remembered, so that what is left of them is known as such.
const MOST_ENDED: usize = 256;

/// What [`Readers`] is told.
#[derive(Clone, Debug)]
pub enum ReaderInput<'a> {
    /// A frame came.
    Frame {
        /// Its author.
        peer: PublicKey,
        /// The call that its token names, on which this peer works.
        request: EventId,
        /// What it says.
        frame: StreamFrame<'a>,
    },
    /// The application took so many chunks, the oldest first, also of a stream that has ended.
    Taken {
        /// Of which stream.
        key: StreamKey,
        /// How many.
        chunks: usize,
    },
    /// The final answer of the call came, whatever it says.
    Answered(StreamKey),
    /// The application does not want more of this stream, nor what it has not taken.
    Cancel {
        /// Which stream.
        key: StreamKey,
        /// What the peer is told.
        reason: Option<&'a str>,
    },
    /// A time that [`Readers::poll_timeout`] named has come.
    Wake,
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// The writer closed it, and every chunk was given out.
    Closed {
        /// How many there were.
        chunks: u64,
    },
    /// The call was answered, and the stream was never closed. Nothing is missing of what is known of it.
    Answered {
        /// How many were given out; zero also when there was no stream at all.
        chunks: u64,
    },
    /// It failed; what was given out is the beginning of what was written.
    Failed {
        /// Why.
        error: StreamError,
        /// What the peer said, if it was the one who aborted.
        reason: Option<String>,
    },
}

/// What [`Readers`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum ReaderOutput {
    /// Publish a frame to the peer of a stream.
    Send {
        /// To whom, and about what.
        key: StreamKey,
        /// A ping, a pong or an abort.
        frame_type: StreamFrameType,
        /// The JSON-RPC text.
        content: String,
    },
    /// The next chunk of a stream; it is leased until [`ReaderInput::Taken`].
    Chunk {
        /// Which stream.
        key: StreamKey,
        /// 0, 1, 2 ... without a gap.
        index: u64,
        /// The text.
        data: Box<str>,
    },
    /// A stream has ended: once for each that was opened, and nothing of it follows.
    Ended {
        /// Which stream.
        key: StreamKey,
        /// How.
        end: StreamEnd,
    },
    /// A frame was not acted on.
    Drop(StreamDrop),
}

/// What [`Readers`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamLoad {
    /// Open streams, and ended ones of which not everything was taken.
    pub streams: usize,
    /// Bytes leased for them.
    pub bytes: usize,
}

/// A stream that is over.
#[derive(Debug)]
struct Ended {
    key: StreamKey,
    /// It was cancelled before the peer sent anything: the first frame is answered with an abort.
    owes_abort: bool,
}

/// Reads the streams of the calls that were opened for it (CEP-41).
///
/// Frames may come in any order: chunks up to [`WINDOW`](crate::WINDOW) places early, before their start, or up to
/// `limits.stream_grace` after the close or the final answer. Of one stream at most `limits.stream_buffer` bytes are held, of all
/// `limits.streams_bytes`, what the application has not taken included: an application that is too slow loses the stream. 256 keys
/// of ended streams are remembered besides.
#[derive(Debug)]
pub struct Readers {
    limits: Limits,
    open: BTreeMap<StreamKey, Incoming>,
    /// Streams opened so far.
    opened: u64,
    /// When something is to be done about which stream; its number keeps equal times apart.
    timers: BTreeMap<(Mono, u64), StreamKey>,
    /// Oldest first.
    ended: VecDeque<Ended>,
    leased: usize,
    out: VecDeque<ReaderOutput>,
}

impl Readers {
    /// Makes a reader without streams.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            limits: limits.clone(),
            open: BTreeMap::new(),
            opened: 0,
            timers: BTreeMap::new(),
            ended: VecDeque::new(),
            leased: 0,
            out: VecDeque::new(),
        }
    }

    /// Makes room for the stream of a call that may have one; frames of others are dropped.
    ///
    /// # Errors
    /// Refuses a stream more than the limits allow, one that is open, and a token that no peer would take.
    pub fn open(&mut self, key: StreamKey) -> Result<(), StreamError> {
        if !(1..=MAX_TOKEN).contains(&key.token.len()) {
            return Err(StreamError::Token);
        }
        let of_peer = self.open.keys().filter(|open| open.peer == key.peer).count();
        let is_full = of_peer >= self.limits.streams_per_peer || self.open.len() >= self.limits.streams;
        if is_full || self.open.contains_key(&key) {
            return Err(StreamError::Busy);
        }
        let cost = OPEN_COST + key.token.len();
        if self.leased + cost > self.limits.streams_bytes {
            return Err(StreamError::Memory);
        }
        self.leased += cost;
        self.opened += 1;
        self.open.insert(key, Incoming::new(self.opened));
        Ok(())
    }

    /// Takes one input; drain the outputs afterwards.
    pub fn handle(&mut self, input: ReaderInput<'_>, now: Now) {
        match input {
            ReaderInput::Frame { peer, request, frame } => {
                let StreamFrame { token, progress, body } = frame;
                let key = StreamKey { peer, request, token: token.into_owned() };
                self.on_frame(&key, progress, body, now.mono);
                self.set_timer(&key);
            }
            ReaderInput::Taken { key, chunks } => self.on_taken(&key, chunks),
            ReaderInput::Answered(key) => {
                let Some(open) = self.open.get_mut(&key).filter(|open| !open.is_over()) else { return };
                if let Some(end) = open.answer(&self.limits, now.mono) {
                    self.end(&key, end);
                }
                self.set_timer(&key);
            }
            ReaderInput::Cancel { key, reason } => self.on_cancel(&key, reason),
            ReaderInput::Wake => self.on_wake(now.mono),
        }
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Option<ReaderOutput> {
        self.out.pop_front()
    }

    /// Returns when to come back, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Mono, StreamWake)> {
        let (_, key) = self.timers.first_key_value()?;
        self.open.get(key)?.due(&self.limits)
    }

    /// Returns what it holds.
    #[must_use]
    pub fn load(&self) -> StreamLoad {
        StreamLoad { streams: self.open.len(), bytes: self.leased }
    }

    fn on_frame(&mut self, key: &StreamKey, progress: u64, body: StreamBody<'_>, now: Mono) {
        let Some(open) = self.open.get_mut(key) else { return self.on_unasked(key) };
        if open.is_over() {
            return self.refuse(StreamDrop::Late);
        }
        if let StreamBody::Abort(reason) = body {
            let reason = reason.map(|reason| short(&reason).to_string());
            return self.end(key, StreamEnd::Failed { error: StreamError::Aborted, reason });
        }
        let (before, room) = (open.lease(), self.limits.streams_bytes.saturating_sub(self.leased));
        let heard = open.hear(&key.token, (progress, body), room, &self.limits, now);
        self.leased += open.lease() - before;
        match heard {
            Ok(Heard::Taken) => self.give_out(key, now),
            Ok(Heard::Answer(body)) => self.send(key, body),
            Ok(Heard::Dropped(reason)) => self.refuse(reason),
            Err(error) => self.end(key, StreamEnd::Failed { error, reason: None }),
        }
    }

    /// Gives out what is in order now.
    fn give_out(&mut self, key: &StreamKey, now: Mono) {
        let Some(open) = self.open.get_mut(key) else { return };
        while let Some((index, data)) = open.next_chunk(now) {
            self.out.push_back(ReaderOutput::Chunk { key: key.clone(), index, data });
        }
        if let Some(end) = open.end() {
            self.end(key, end);
        }
    }

    /// A frame of a stream that is not open.
    fn on_unasked(&mut self, key: &StreamKey) {
        let Some(ended) = self.ended.iter_mut().find(|ended| ended.key == *key) else {
            return self.refuse(StreamDrop::Unasked);
        };
        if core::mem::take(&mut ended.owes_abort) {
            self.say(key, 1, StreamBody::Abort(None));
        }
        self.refuse(StreamDrop::Late);
    }

    fn on_taken(&mut self, key: &StreamKey, chunks: usize) {
        let Some(open) = self.open.get_mut(key) else { return };
        let before = open.lease();
        open.take(chunks);
        self.leased -= before - open.lease();
        if open.is_over() && open.is_empty() {
            self.close(key);
        }
    }

    fn on_cancel(&mut self, key: &StreamKey, reason: Option<&str>) {
        let Some(open) = self.open.get(key) else { return };
        let (is_over, is_live, is_answered) = (open.is_over(), open.is_live(), open.is_answered());
        if is_live && !is_over && !is_answered {
            self.send(key, StreamBody::Abort(reason.map(|reason| short(reason).into())));
        }
        self.close(key);
        if !is_over {
            self.remember(key, !is_live && !is_answered);
            let end = StreamEnd::Failed { error: StreamError::Cancelled, reason: None };
            self.out.push_back(ReaderOutput::Ended { key: key.clone(), end });
        }
    }

    fn on_wake(&mut self, now: Mono) {
        let due: Vec<_> = self.timers.range(..=(now, u64::MAX)).map(|(_, key)| key.clone()).collect();
        for key in &due {
            // A pong and a ping may be due together.
            while let Some(woken) =
                self.open.get_mut(key).and_then(|open| open.wake(&key.token, &self.limits, now))
            {
                match woken {
                    Woken::Send(body) => self.send(key, body),
                    Woken::End(end) => self.end(key, end),
                }
            }
            self.set_timer(key);
        }
    }

    /// Ends an open stream, and tells the peer if it does not know.
    fn end(&mut self, key: &StreamKey, end: StreamEnd) {
        let Some(open) = self.open.get_mut(key) else { return };
        let before = open.lease();
        open.stop();
        self.leased -= before - open.lease();
        let (is_empty, is_answered) = (open.is_empty(), open.is_answered());
        if let StreamEnd::Failed { error, .. } = &end
            && *error != StreamError::Aborted
            && !is_answered
        {
            let reason = error.reason();
            self.send(key, StreamBody::Abort(Some(reason)));
        }
        self.remember(key, false);
        if is_empty {
            self.close(key);
        }
        self.out.push_back(ReaderOutput::Ended { key: key.clone(), end });
    }

    /// Removes a stream and gives its lease back.
    fn close(&mut self, key: &StreamKey) {
        if let Some(open) = self.open.remove(key) {
            self.leased -= open.lease() + OPEN_COST + key.token.len();
            if let Some(at) = open.timer {
                self.timers.remove(&(at, open.number));
            }
        }
    }

    /// Notes when something is to be done about a stream that may have changed.
    fn set_timer(&mut self, key: &StreamKey) {
        let Some(open) = self.open.get_mut(key) else { return };
        let due = open.due(&self.limits).map(|(at, _)| at);
        if due == open.timer {
            return;
        }
        let before = open.timer.and_then(|at| self.timers.remove(&(at, open.number)));
        open.timer = due;
        if let Some(at) = due {
            self.timers.insert((at, open.number), before.unwrap_or_else(|| key.clone()));
        }
    }

    fn remember(&mut self, key: &StreamKey, owes_abort: bool) {
        if self.ended.len() >= MOST_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(Ended { key: key.clone(), owes_abort });
    }

    /// Sends a frame about an open stream.
    fn send(&mut self, key: &StreamKey, body: StreamBody<'_>) {
        let Some(open) = self.open.get_mut(key) else { return };
        open.sent += 1;
        let progress = open.sent;
        self.say(key, progress, body);
    }

    fn say(&mut self, key: &StreamKey, progress: u64, body: StreamBody<'_>) {
        let frame_type = body.frame_type();
        let content = StreamFrame { token: key.token.as_str().into(), progress, body }.to_text();
        self.out.push_back(ReaderOutput::Send { key: key.clone(), frame_type, content });
    }

    fn refuse(&mut self, reason: StreamDrop) {
        self.out.push_back(ReaderOutput::Drop(reason));
    }
}
