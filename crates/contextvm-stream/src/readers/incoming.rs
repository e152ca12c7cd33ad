//! One stream on its way in: its chunks in any order within a window, and when it is over.
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};

use contextvm_core::{Limits, Mono};

use crate::keepalive::Keepalive;
use crate::{StreamBody, StreamDrop, StreamEnd, StreamError, StreamWake, WINDOW};

/// What a chunk costs beside its text, until the application has taken it.
const CHUNK_COST: usize = 64;
/// How many chunks that were given out are known again; older ones are only late.
const MARKS: usize = 64;
/// How many chunks without text may come before one with text makes up for one of them.
const EMPTY_CHUNKS: u32 = 64;

/// What is remembered of a chunk, to know it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    progress: u64,
    length: usize,
    hash: u64,
}

impl Mark {
    fn of(progress: u64, data: &str) -> Self {
        // FNV-1a over words: whoever makes two chunks alike harms only the stream that he writes.
        let step = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x0100_0000_01b3);
        let (words, rest) = data.as_bytes().as_chunks();
        let hash = words.iter().map(|word| u64::from_le_bytes(*word)).fold(0xcbf2_9ce4_8422_2325, step);
        let hash = rest.iter().map(|byte| u64::from(*byte)).fold(hash, step);
        Self { progress, length: data.len(), hash }
    }
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Taken,
    /// The frame is to be answered.
    Answer(StreamBody<'static>),
    Dropped(StreamDrop),
}

/// What a time that has come brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    Send(StreamBody<'static>),
    End(StreamEnd),
}

/// The times of a stream whose first frame has come.
#[derive(Debug)]
struct Live {
    since: Mono,
    keepalive: Keepalive,
}

#[derive(Debug, Default)]
pub(super) struct Incoming {
    live: Option<Live>,
    /// The number of the start frame.
    start: Option<u64>,
    /// The number of the close frame, and the index behind the last chunk as far as it is said.
    close: Option<(u64, Option<u64>)>,
    is_answered: bool,
    /// It has ended; what was given out is still to be taken.
    is_over: bool,
    /// The index of the next chunk to be given out.
    next: u64,
    waiting: BTreeMap<u64, (Mark, Box<str>)>,
    /// Marks of the last chunks that were given out.
    given: VecDeque<Mark>,
    /// What each chunk costs that was given out and not taken.
    untaken: VecDeque<usize>,
    /// Cost of what is waiting and of what is not taken.
    lease: usize,
    empty: u32,
    /// Since when an earlier chunk than those that wait is missing.
    gap: Option<Mono>,
    /// By when the start frame has to come, if something else came first.
    start_by: Option<Mono>,
    /// By when everything has to be here, after the close or the final answer.
    end_by: Option<Mono>,
    /// Frames sent to the peer.
    pub(super) sent: u64,
    /// Which of all streams it is.
    pub(super) number: u64,
    /// For when it is in the table of timers.
    pub(super) timer: Option<Mono>,
}

impl Incoming {
    pub(super) fn new(number: u64) -> Self {
        Self { number, ..Self::default() }
    }

    pub(super) const fn lease(&self) -> usize {
        self.lease
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether the peer has sent anything.
    pub(super) const fn is_live(&self) -> bool {
        self.live.is_some()
    }

    pub(super) const fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// Whether nothing of it is left for the application.
    pub(super) fn is_empty(&self) -> bool {
        self.untaken.is_empty()
    }

    /// Takes a frame other than an abort; `room` is what it may add to the lease.
    pub(super) fn hear(
        &mut self,
        token: &str,
        (progress, body): (u64, StreamBody<'_>),
        room: usize,
        limits: &Limits,
        now: Mono,
    ) -> Result<Heard, StreamError> {
        let is_probe = matches!(body, StreamBody::Ping(_) | StreamBody::Pong(_));
        if is_probe && self.start.is_none() {
            return Ok(Heard::Dropped(StreamDrop::Early));
        }
        if matches!(body, StreamBody::Accept | StreamBody::Abort(_)) {
            return Ok(Heard::Dropped(StreamDrop::Misplaced));
        }
        if self.live.is_none() {
            self.live = Some(Live { since: now, keepalive: Keepalive::new(now) });
        }
        let heard = match body {
            StreamBody::Start(_) => self.on_start(progress)?,
            StreamBody::Chunk { index, data } => self.on_chunk((progress, index), data, room, limits, now)?,
            StreamBody::Close(last) => self.on_close(progress, last, limits, now)?,
            StreamBody::Ping(nonce) => self.on_ping(&nonce, now),
            StreamBody::Pong(nonce) => self.on_pong(token, &nonce, now),
            StreamBody::Accept | StreamBody::Abort(_) => Heard::Dropped(StreamDrop::Misplaced),
        };
        if heard == Heard::Taken {
            if let Some(live) = &mut self.live {
                live.keepalive.hear(now);
            }
            if self.start.is_none() && self.start_by.is_none() {
                self.start_by = Some(now.after(limits.stream_grace));
            }
        }
        Ok(heard)
    }

    fn on_start(&mut self, progress: u64) -> Result<Heard, StreamError> {
        match self.start {
            Some(start) if start == progress => return Ok(Heard::Dropped(StreamDrop::Duplicate)),
            Some(_) => return Err(StreamError::StartedTwice),
            None => self.start = Some(progress),
        }
        self.start_by = None;
        Ok(Heard::Taken)
    }

    fn on_chunk(
        &mut self,
        (progress, index): (u64, u64),
        data: Cow<'_, str>,
        room: usize,
        limits: &Limits,
        now: Mono,
    ) -> Result<Heard, StreamError> {
        let mark = Mark::of(progress, &data);
        if let Some(back) = self.next.checked_sub(index).filter(|back| *back > 0) {
            let place = usize::try_from(back).ok().and_then(|back| self.given.len().checked_sub(back));
            return match place.and_then(|place| self.given.get(place)) {
                Some(given) if *given != mark => Err(StreamError::Conflict { index }),
                Some(_) => Ok(Heard::Dropped(StreamDrop::Duplicate)),
                None => Ok(Heard::Dropped(StreamDrop::Late)),
            };
        }
        match self.waiting.get(&index) {
            Some((waiting, _)) if *waiting != mark => return Err(StreamError::Conflict { index }),
            Some(_) => return Ok(Heard::Dropped(StreamDrop::Duplicate)),
            None => {}
        }
        if index - self.next >= WINDOW {
            return Err(StreamError::TooFarAhead { index, window: WINDOW });
        }
        if matches!(self.close, Some((_, Some(count))) if index >= count) {
            return Err(StreamError::BehindLast { index });
        }
        self.empty = if data.is_empty() { self.empty + 1 } else { self.empty.saturating_sub(1) };
        if self.empty > EMPTY_CHUNKS {
            return Err(StreamError::EmptyChunks);
        }
        let cost = data.len() + CHUNK_COST;
        if self.lease + cost > limits.stream_buffer {
            let limit = limits.stream_buffer;
            let is_slow = !self.untaken.is_empty();
            return Err(if is_slow { StreamError::TooSlow { limit } } else { StreamError::Buffer { limit } });
        }
        if cost > room {
            return Err(StreamError::Memory);
        }
        self.lease += cost;
        self.waiting.insert(index, (mark, data.into_owned().into_boxed_str()));
        self.gap = self.gap.or(Some(now));
        Ok(Heard::Taken)
    }

    fn on_close(
        &mut self,
        progress: u64,
        last: Option<u64>,
        limits: &Limits,
        now: Mono,
    ) -> Result<Heard, StreamError> {
        let count = last.map(|last| last.saturating_add(1));
        match self.close {
            Some(close) if close == (progress, count) => return Ok(Heard::Dropped(StreamDrop::Duplicate)),
            Some(_) => return Err(StreamError::BehindLast { index: last.unwrap_or_default() }),
            None => {}
        }
        let behind = self.waiting.last_key_value().map_or(self.next, |(index, _)| index + 1);
        if count.is_some_and(|count| behind > count) {
            return Err(StreamError::BehindLast { index: behind - 1 });
        }
        self.close = Some((progress, count));
        self.end_by = self.end_by.or(Some(now.after(limits.stream_grace)));
        Ok(Heard::Taken)
    }

    fn on_ping(&mut self, nonce: &str, now: Mono) -> Heard {
        let Some(live) = &mut self.live else { return Heard::Dropped(StreamDrop::Early) };
        match live.keepalive.ping(nonce, now) {
            Ok(()) => Heard::Answer(StreamBody::Pong(Cow::Owned(nonce.into()))),
            Err(reason) => Heard::Dropped(reason),
        }
    }

    fn on_pong(&mut self, token: &str, nonce: &str, now: Mono) -> Heard {
        let Some(live) = &mut self.live else { return Heard::Dropped(StreamDrop::Early) };
        match live.keepalive.pong(token, nonce, now) {
            Ok(()) => Heard::Taken,
            Err(reason) => Heard::Dropped(reason),
        }
    }

    /// Gives the next chunk out, if it is there and the stream has begun.
    pub(super) fn next_chunk(&mut self, now: Mono) -> Option<(u64, Box<str>)> {
        self.start?;
        let Some((mark, data)) = self.waiting.remove(&self.next) else {
            if self.waiting.is_empty() {
                self.gap = None;
            }
            return None;
        };
        let index = self.next;
        self.next += 1;
        self.gap = Some(now);
        if self.given.len() >= MARKS {
            self.given.pop_front();
        }
        self.given.push_back(mark);
        self.untaken.push_back(data.len() + CHUNK_COST);
        Some((index, data))
    }

    /// Whether the close frame and everything before it came.
    pub(super) fn end(&self) -> Option<StreamEnd> {
        let (_, count) = self.close?;
        let is_complete =
            self.start.is_some() && self.waiting.is_empty() && count.is_none_or(|count| count == self.next);
        is_complete.then_some(StreamEnd::Closed { chunks: self.next })
    }

    /// Notes that the application has taken so many chunks.
    pub(super) fn take(&mut self, chunks: usize) {
        for cost in self.untaken.drain(..chunks.min(self.untaken.len())) {
            self.lease -= cost;
        }
    }

    /// Notes that the final answer came; returns the end when there is nothing to wait for.
    pub(super) fn answer(&mut self, limits: &Limits, now: Mono) -> Option<StreamEnd> {
        self.is_answered = true;
        self.end_by = self.end_by.or(Some(now.after(limits.stream_grace)));
        (!self.is_live()).then_some(StreamEnd::Answered { chunks: 0 })
    }

    /// Lets go of everything but the account of what was given out.
    pub(super) fn stop(&mut self) {
        self.is_over = true;
        self.waiting.clear();
        self.given = VecDeque::new();
        self.lease = self.untaken.iter().sum();
    }

    /// Returns when there is something to do, and what.
    pub(super) fn due(&self, limits: &Limits) -> Option<(Mono, StreamWake)> {
        let live = self.live.as_ref().filter(|_| !self.is_over)?;
        let grace = |at| (at, StreamWake::Grace);
        let times = [
            Some((live.since.after(limits.stream_total), StreamWake::Deadline)),
            self.gap.map(|gap| (gap.after(limits.stream_idle), StreamWake::Deadline)),
            self.start_by.map(grace),
            self.end_by.map(grace),
            self.end_by.is_none().then(|| live.keepalive.due(limits)),
        ];
        times.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Does what is due.
    pub(super) fn wake(&mut self, token: &str, limits: &Limits, now: Mono) -> Option<Woken> {
        let (at, why) = self.due(limits)?;
        if at > now {
            return None;
        }
        let since = self.live.as_ref().map_or(now, |live| live.since);
        let error = match why {
            StreamWake::Deadline if since.after(limits.stream_total) <= now => StreamError::TimedOut,
            StreamWake::Deadline => StreamError::Gap,
            StreamWake::Grace if self.start.is_none() => StreamError::NoStart,
            StreamWake::Grace if self.waiting.is_empty() && self.close.is_none() => {
                return Some(Woken::End(StreamEnd::Answered { chunks: self.next }));
            }
            StreamWake::Grace => StreamError::Missing,
            StreamWake::Idle | StreamWake::Probe | StreamWake::Pong => {
                match self.live.as_mut()?.keepalive.wake(token, limits, now) {
                    Ok(body) => return body.map(Woken::Send),
                    Err(error) => error,
                }
            }
        };
        Some(Woken::End(StreamEnd::Failed { error, reason: None }))
    }
}
