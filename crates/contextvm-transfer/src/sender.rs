//! The sending machine: one message, given out frame by frame as credit and a window allow.
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use contextvm_core::{Limits, Mono, Now};

use crate::frame::{FrameBody, FrameType, Start, TransferFrame};
use crate::{MAX_TOKEN, RESTART, TransferError, TransferWake, cut, digest};

/// Most frames on their way at once. The existing SDKs give up when a chunk is 22 places early.
pub const WINDOW: usize = 16;

/// How long the peer has to accept; then the chunks go all the same, because some peers never do.
const ACCEPT_TIME: Duration = Duration::from_secs(3);
/// Up to so many chunks the number behind the start stays free for an accept, as CEP-22 says; beyond it a server of the
/// TypeScript SDK would take the gap for a loss.
const MOST_GATED: usize = 21;
/// By how much frames of one size differ at most, bytes.
const SLACK: usize = 64;

/// Whether the peer is asked to accept before the chunks go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Handshake {
    /// The peer is known to understand transfers, or the message is an answer.
    Skip,
    /// Nothing is known of the peer: wait at most three seconds after the start frame.
    Ask,
}

/// What a [`Sender`] is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderInput {
    /// So many more frames may be given out.
    Credit(usize),
    /// A relay took the frame with this number.
    Published(u64),
    /// No relay took the frame with this number, and none will.
    Unpublished(u64),
    /// Relays refused a frame for its size; from now on a content may take this many bytes in its event. Of a frame that is
    /// smaller than one that was taken this is not believed, and it counts as unpublished: begun again after its end, a
    /// transfer would be two requests.
    TooLarge {
        /// The frame.
        progress: u64,
        /// As [`Sender::new`] takes it.
        content_limit: usize,
    },
    /// The peer accepted.
    Accepted,
    /// The peer aborted.
    Aborted,
    /// Our own side gives up.
    Cancel,
    /// A time that [`Sender::poll_timeout`] named has come.
    Wake,
}

/// What a [`Sender`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum SenderOutput {
    /// Publish this content in an event of its own, and report what became of it under its number.
    Frame {
        /// Which frame it is: the tags of a request go on the start frame, its payment tags on the end frame too.
        frame_type: FrameType,
        /// Its number within the transfer.
        progress: u64,
        /// The JSON-RPC text.
        content: String,
    },
    /// Every frame was taken by a relay.
    Finished,
    /// The transfer failed; if anything of it was sent, an abort was given out before this.
    Failed(TransferError),
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// An abort that makes way for a start with smaller chunks.
    Restart,
    Start,
    /// The start is out; the chunks wait for an accept until then.
    Accept(Mono),
    Chunks,
    End,
    Over,
}

/// Sends one message as one transfer.
///
/// The start frame, the first chunk and the end frame travel alone, and the window opens by one for each chunk that was
/// published, up to [`WINDOW`]: a receiver that allows little disorder is not lost. Memory: the message, eight bytes per chunk,
/// and nothing of the frames that were given out.
#[derive(Debug)]
pub struct Sender {
    token: String,
    message: String,
    handshake: Handshake,
    content_limit: usize,
    most_chunks: usize,
    /// Where each chunk ends.
    ends: Vec<usize>,
    /// The number of the first chunk.
    first: u64,
    /// Chunks given out.
    given: usize,
    /// The highest number given out.
    highest: u64,
    /// The numbers of the frames on their way, and what each takes in its event.
    in_flight: BTreeMap<u64, usize>,
    /// What the largest frame took in its event that a relay has taken.
    taken: usize,
    window: usize,
    credit: usize,
    stage: Stage,
    accepted: bool,
    shrunk: bool,
    deadline: Mono,
    out: VecDeque<SenderOutput>,
}

impl Sender {
    /// Measures and cuts a message. The transfer lasts at most `limits.transfer_total` from now.
    ///
    /// `content_limit` is what a content may take inside its event, in bytes after escaping and without its quotes: the
    /// largest event that may be sent, less the same event with an empty content.
    ///
    /// # Errors
    /// Refuses a message or a number of chunks over the limits, a token that no receiver would take, and a content limit into
    /// which no frame fits.
    pub fn new(
        token: &str,
        message: String,
        content_limit: usize,
        handshake: Handshake,
        limits: &Limits,
        now: Now,
    ) -> Result<Self, TransferError> {
        if !(1..=MAX_TOKEN).contains(&token.len()) {
            return Err(TransferError::Token);
        }
        if message.is_empty() {
            return Err(TransferError::Empty);
        }
        if message.len() > limits.transfer_bytes {
            let (bytes, limit) = (message.len() as u64, limits.transfer_bytes as u64);
            return Err(TransferError::TooManyBytes { bytes, limit });
        }
        let mut sender = Self {
            token: token.to_string(),
            message,
            handshake,
            content_limit,
            most_chunks: limits.transfer_chunks,
            ends: Vec::new(),
            first: 0,
            given: 0,
            highest: 0,
            in_flight: BTreeMap::new(),
            taken: 0,
            window: 1,
            credit: 0,
            stage: Stage::Start,
            accepted: handshake == Handshake::Skip,
            shrunk: false,
            deadline: now.mono.after(limits.transfer_total),
            out: VecDeque::new(),
        };
        sender.cut(1)?;
        Ok(sender)
    }

    /// Returns how many chunks the message is cut into.
    #[must_use]
    pub const fn chunks(&self) -> usize {
        self.ends.len()
    }

    /// Returns how many bytes of the message relays have taken, as far as that is known.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        let end_of = |chunks: usize| chunks.checked_sub(1).and_then(|last| self.ends.get(last)).copied();
        let given = end_of(self.given).unwrap_or(0);
        let chunks = self.in_flight.keys().filter_map(|progress| progress.checked_sub(self.first));
        let lengths = chunks.filter_map(|chunk| usize::try_from(chunk).ok()).filter_map(|chunk| {
            let to = self.ends.get(chunk).filter(|_| chunk < self.given)?;
            Some(to - end_of(chunk).unwrap_or(0))
        });
        given.saturating_sub(lengths.sum()) as u64
    }

    /// Whether the next [`SenderInput::Credit`] yields a frame at once.
    #[must_use]
    pub fn wants_credit(&self) -> bool {
        self.credit == 0 && self.may_give()
    }

    /// Returns the message, to send it once more; nothing is left of it after a failure.
    #[must_use]
    pub fn into_message(self) -> String {
        self.message
    }

    /// Takes one input; drain the outputs afterwards.
    pub fn handle(&mut self, input: SenderInput, now: Now) {
        if self.stage == Stage::Over {
            return;
        }
        match input {
            SenderInput::Credit(frames) => self.credit = self.credit.saturating_add(frames),
            SenderInput::Published(progress) => self.on_published(progress, now),
            SenderInput::Unpublished(progress) => {
                if self.in_flight.contains_key(&progress) {
                    self.fail(TransferError::NotPublished);
                }
            }
            SenderInput::TooLarge { progress, content_limit } => {
                // The other frames of the old size are refused as well.
                if let Some(size) = self.in_flight.get(&progress).copied() {
                    self.on_too_large(size, content_limit);
                }
            }
            SenderInput::Accepted => {
                self.accepted = true;
                if matches!(self.stage, Stage::Accept(_)) {
                    self.stage = Stage::Chunks;
                }
            }
            SenderInput::Aborted => self.fail(TransferError::Aborted),
            SenderInput::Cancel => self.fail(TransferError::Cancelled),
            SenderInput::Wake => {
                if now.mono >= self.deadline {
                    self.fail(TransferError::TimedOut);
                } else if matches!(self.stage, Stage::Accept(until) if now.mono >= until) {
                    self.stage = Stage::Chunks;
                }
            }
        }
    }

    /// Returns the next thing to do. A frame is printed when it is asked for, and only if there is credit for it; the abort
    /// of a transfer that failed needs none.
    pub fn poll_output(&mut self) -> Option<SenderOutput> {
        self.out.pop_front().or_else(|| self.next_frame())
    }

    /// Returns when to come back, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Mono, TransferWake)> {
        match self.stage {
            Stage::Over => None,
            Stage::Accept(until) if until < self.deadline => Some((until, TransferWake::Accept)),
            Stage::Accept(_) | Stage::Restart | Stage::Start | Stage::Chunks | Stage::End => {
                Some((self.deadline, TransferWake::Deadline))
            }
        }
    }

    /// Cuts the message for a transfer whose start frame has this number.
    fn cut(&mut self, start: u64) -> Result<(), TransferError> {
        // One number higher than needed costs at most one byte of a chunk.
        let gated = start + 2;
        self.ends = cut::cut(&self.message, &self.token, gated, self.content_limit, self.most_chunks)?;
        let is_gated = self.handshake == Handshake::Ask && self.ends.len() <= MOST_GATED;
        self.first = if is_gated { gated } else { start + 1 };
        (self.given, self.window) = (0, 1);
        Ok(())
    }

    /// Whether the window has room for the frame that comes next.
    fn may_give(&self) -> bool {
        match self.stage {
            Stage::Accept(_) | Stage::Over => false,
            Stage::Restart | Stage::Start | Stage::End => self.in_flight.is_empty(),
            Stage::Chunks => {
                // What overtakes one chunk that is held up counts as well.
                let next = self.first + self.given as u64;
                let is_near = self.in_flight.keys().next().is_none_or(|oldest| next - oldest < WINDOW as u64);
                self.given < self.ends.len() && self.in_flight.len() < self.window && is_near
            }
        }
    }

    fn next_frame(&mut self) -> Option<SenderOutput> {
        if self.credit == 0 || !self.may_give() {
            return None;
        }
        let (progress, body) = match self.stage {
            Stage::Restart => (self.highest + 1, FrameBody::Abort(Some(RESTART.into()))),
            Stage::Start => (self.highest + 1, FrameBody::Start(self.declared())),
            Stage::Chunks => {
                let (progress, from, to) = self.next_chunk()?;
                let data = self.message.get(from..to)?;
                (progress, FrameBody::Chunk(data.into()))
            }
            Stage::End => (self.highest + 1, FrameBody::End),
            Stage::Accept(_) | Stage::Over => return None,
        };
        let frame_type = body.frame_type();
        let content = TransferFrame { token: self.token.as_str().into(), progress, body }.to_text();
        self.given += usize::from(frame_type == FrameType::Chunk);
        self.highest = progress;
        self.credit -= 1;
        self.in_flight.insert(progress, cut::content_len(&content));
        Some(SenderOutput::Frame { frame_type, progress, content })
    }

    fn declared(&self) -> Start<'static> {
        Start {
            completion_mode: Some("render".into()),
            digest: digest::print(&self.message).into(),
            total_bytes: self.message.len() as u64,
            total_chunks: self.ends.len() as u64,
        }
    }

    /// Returns the number of the next chunk, and from where to where it goes.
    fn next_chunk(&self) -> Option<(u64, usize, usize)> {
        let to = *self.ends.get(self.given)?;
        let from = self.given.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0);
        Some((self.first + self.given as u64, from, to))
    }

    fn on_published(&mut self, progress: u64, now: Now) {
        let Some(size) = self.in_flight.remove(&progress) else { return };
        self.taken = self.taken.max(size);
        match self.stage {
            Stage::Restart => self.stage = Stage::Start,
            Stage::Start if self.accepted => self.stage = Stage::Chunks,
            Stage::Start => self.stage = Stage::Accept(now.mono.after(ACCEPT_TIME)),
            Stage::Chunks => {
                self.window = (self.window + 1).min(WINDOW);
                if self.given == self.ends.len() && self.in_flight.is_empty() {
                    self.stage = Stage::End;
                }
            }
            Stage::End => {
                self.stage = Stage::Over;
                self.out.push_back(SenderOutput::Finished);
            }
            Stage::Accept(_) | Stage::Over => {}
        }
    }

    /// Begins again with smaller chunks, once.
    ///
    /// Numbers go on where they were, so that nothing of the first attempt can be taken for the second.
    fn on_too_large(&mut self, size: usize, content_limit: usize) {
        if self.stage == Stage::End || size + SLACK < self.taken {
            self.fail(TransferError::NotPublished);
            return;
        }
        if self.shrunk || content_limit >= self.content_limit {
            self.fail(TransferError::StillTooLarge);
            return;
        }
        self.shrunk = true;
        self.content_limit = content_limit;
        let was_seen = self.highest > 0;
        let start = if was_seen { self.highest + 2 } else { 1 };
        if let Err(error) = self.cut(start) {
            self.fail(error);
            return;
        }
        self.in_flight.clear();
        // Whoever knows transfers has said so by now, or will not.
        self.accepted = self.accepted || was_seen;
        self.stage = if was_seen { Stage::Restart } else { Stage::Start };
    }

    fn fail(&mut self, error: TransferError) {
        if self.highest > 0 && error != TransferError::Aborted {
            let (progress, reason) = (self.highest + 1, error.to_string());
            let body = FrameBody::Abort(Some(reason.into()));
            let content = TransferFrame { token: self.token.as_str().into(), progress, body }.to_text();
            self.out.push_back(SenderOutput::Frame { frame_type: FrameType::Abort, progress, content });
        }
        self.out.push_back(SenderOutput::Failed(error));
        self.stage = Stage::Over;
        self.message = String::new();
    }
}
