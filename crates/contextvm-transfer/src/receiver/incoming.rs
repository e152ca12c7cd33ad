//! One transfer on its way in: its chunks in any order, and what was declared of them.
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;

use contextvm_core::{Limits, Mono};
use nostr::event::EventId;

use super::STRAGGLERS;
use crate::{Start, TransferError, digest};

/// What a chunk costs beside its text: its place in the map.
const CHUNK_COST: usize = 64;

/// A start frame that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Declared {
    /// The number of the start frame.
    progress: u64,
    pub(super) event: EventId,
    bytes: usize,
    chunks: usize,
    digest: [u8; 32],
}

impl Declared {
    pub(super) fn check(
        start: &Start<'_>,
        progress: u64,
        event: EventId,
        limits: &Limits,
    ) -> Result<Self, TransferError> {
        if start.completion_mode.as_deref().is_some_and(|mode| mode != "render") {
            return Err(TransferError::CompletionMode);
        }
        let digest = digest::read(&start.digest).ok_or(TransferError::DigestForm)?;
        if start.total_bytes == 0 || start.total_chunks == 0 {
            return Err(TransferError::Empty);
        }
        let within = |count: u64, limit: usize| usize::try_from(count).ok().filter(|count| *count <= limit);
        let bytes = within(start.total_bytes, limits.transfer_bytes).ok_or(TransferError::TooManyBytes {
            bytes: start.total_bytes,
            limit: limits.transfer_bytes as u64,
        })?;
        let chunks =
            within(start.total_chunks, limits.transfer_chunks).ok_or(TransferError::TooManyChunks {
                chunks: start.total_chunks,
                limit: limits.transfer_chunks as u64,
            })?;
        Ok(Self { progress, event, bytes, chunks, digest })
    }

    /// Whether two start frames declare the same, whatever events they came in.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        *self == Self { event: self.event, ..*other }
    }

    /// The highest number that a chunk may have: one place may have been kept free for an accept.
    const fn last_place(&self) -> u64 {
        self.progress + self.chunks as u64 + 1
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Yes,
    Duplicate,
    Late,
    Early,
}

#[derive(Debug)]
pub(super) struct Incoming {
    since: Mono,
    /// When a frame was last taken.
    last: Mono,
    /// Frames up to this number belong to a transfer that was aborted.
    floor: u64,
    declared: Option<Declared>,
    chunks: BTreeMap<u64, Box<str>>,
    /// Bytes of all chunks.
    bytes: usize,
    end: Option<(u64, EventId)>,
}

impl Incoming {
    pub(super) const fn new(floor: u64, now: Mono) -> Self {
        let chunks = BTreeMap::new();
        Self { since: now, last: now, floor, declared: None, chunks, bytes: 0, end: None }
    }

    pub(super) const fn declared(&self) -> Option<&Declared> {
        self.declared.as_ref()
    }

    /// Returns when its first frame came.
    pub(super) const fn since(&self) -> Mono {
        self.since
    }

    /// Whether nothing but chunks has come: they may be an old transfer's, played back by a relay.
    pub(super) const fn is_ghost(&self) -> bool {
        self.declared.is_none() && self.end.is_none() && self.floor == 0
    }

    /// Returns the highest number seen.
    pub(super) fn highest(&self) -> u64 {
        let start = self.declared.map_or(self.floor, |declared| declared.progress);
        let chunk = self.chunks.last_key_value().map_or(0, |(progress, _)| *progress);
        start.max(chunk).max(self.end.map_or(0, |(progress, _)| progress))
    }

    /// Whether a frame with this number belongs to an earlier transfer.
    pub(super) fn is_late(&self, progress: u64) -> bool {
        progress <= self.declared.map_or(self.floor, |declared| declared.progress)
    }

    /// Returns the bytes of all chunks, and those that were declared.
    pub(super) fn received(&self) -> (u64, u64) {
        (self.bytes as u64, self.declared.map_or(0, |declared| declared.bytes as u64))
    }

    /// Returns the bytes that it holds.
    pub(super) fn lease(&self) -> usize {
        self.bytes + self.chunks.len() * CHUNK_COST
    }

    /// Takes the start frame and judges what came before it.
    pub(super) fn start(&mut self, declared: Declared, now: Mono) -> Result<(), TransferError> {
        self.last = now;
        self.declared = Some(declared);
        self.chunks = self.chunks.split_off(&(declared.progress + 1));
        self.bytes = self.chunks.values().map(|chunk| chunk.len()).sum();
        self.end = self.end.filter(|(progress, _)| *progress > declared.progress);
        self.check_bounds(self.highest_chunk())
    }

    /// Takes a chunk; before the start frame as many of them as one could declare.
    pub(super) fn chunk(
        &mut self,
        progress: u64,
        data: Cow<'_, str>,
        limits: &Limits,
        now: Mono,
    ) -> Result<Taken, TransferError> {
        if self.is_late(progress) {
            return Ok(Taken::Late);
        }
        if let Some(before) = self.chunks.get(&progress) {
            return if **before == *data {
                Ok(Taken::Duplicate)
            } else {
                Err(TransferError::Conflict { progress })
            };
        }
        let is_too_much = self.chunks.len() >= limits.transfer_chunks
            || self.bytes.saturating_add(data.len()) > limits.transfer_bytes;
        if self.declared.is_none() && is_too_much {
            return Ok(Taken::Early);
        }
        self.last = now;
        self.bytes += data.len();
        self.chunks.insert(progress, data.into_owned().into_boxed_str());
        self.check_bounds(progress)?;
        Ok(Taken::Yes)
    }

    pub(super) fn end(&mut self, progress: u64, event: EventId, now: Mono) -> Result<Taken, TransferError> {
        if self.is_late(progress) {
            return Ok(Taken::Late);
        }
        if self.end.is_some() {
            return Ok(Taken::Duplicate);
        }
        self.last = now;
        self.end = Some((progress, event));
        self.check_bounds(self.highest_chunk())?;
        Ok(Taken::Yes)
    }

    fn highest_chunk(&self) -> u64 {
        self.chunks.last_key_value().map_or(0, |(progress, _)| *progress)
    }

    /// Checks what is known so far; `progress` is the chunk to blame.
    fn check_bounds(&self, progress: u64) -> Result<(), TransferError> {
        if let Some((end, _)) = self.end
            && self.highest_chunk() >= end
        {
            return Err(TransferError::End { progress: end });
        }
        let Some(declared) = &self.declared else { return Ok(()) };
        if self.highest_chunk() > declared.last_place() || self.chunks.len() > declared.chunks {
            return Err(TransferError::OutOfBounds { progress });
        }
        if self.bytes > declared.bytes {
            let (declared, received) = (declared.bytes as u64, self.bytes as u64);
            return Err(TransferError::Length { declared, received });
        }
        Ok(())
    }

    /// Puts the message together if nothing is missing; holds it twice while it does.
    pub(super) fn assemble(&mut self) -> Option<Result<(String, EventId), TransferError>> {
        let (declared, (_, event)) = (self.declared?, self.end?);
        if self.chunks.len() < declared.chunks {
            return None;
        }
        Some(self.checked(&declared).map(|message| (message, event)))
    }

    fn checked(&mut self, declared: &Declared) -> Result<String, TransferError> {
        let first = self.chunks.first_key_value().map_or(0, |(progress, _)| *progress);
        let is_contiguous = self.highest_chunk() - first + 1 == declared.chunks as u64;
        if !is_contiguous || first > declared.progress + 2 {
            return Err(TransferError::Gap);
        }
        if self.bytes != declared.bytes {
            let (declared, received) = (declared.bytes as u64, self.bytes as u64);
            return Err(TransferError::Length { declared, received });
        }
        let mut message = String::with_capacity(self.bytes);
        for chunk in self.chunks.values() {
            message.push_str(chunk);
        }
        if digest::of(&message) != declared.digest { Err(TransferError::Digest) } else { Ok(message) }
    }

    /// Returns when it has failed, and as what.
    pub(super) fn deadline(&self, limits: &Limits) -> (Mono, TransferError) {
        let idle = match self.end {
            Some(_) => (self.last.after(STRAGGLERS.min(limits.transfer_idle)), TransferError::Missing),
            None => (self.last.after(limits.transfer_idle), TransferError::Idle),
        };
        let total = self.since.after(limits.transfer_total);
        if total < idle.0 { (total, TransferError::TimedOut) } else { idle }
    }
}
