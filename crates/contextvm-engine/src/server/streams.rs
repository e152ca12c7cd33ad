//! Streams that the application writes during its requests (CEP-41), and answers that wait for their end.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use contextvm_core::envelope::Envelope;
use contextvm_core::{Limits, Now, Protection, object};
use contextvm_stream::{StreamFrame, StreamFrameType, Writer, WriterInput, WriterOutput};
use nostr::event::{EventId, Tag};
use nostr::key::PublicKey;

use super::frames::{Owner, Telling, frame_tags};
use super::inbound::REFUSED;
use super::outbound::error_text;
use super::route::{Route, StreamUse};
use super::{RequestKey, ServerMachine, ServerOutput};
use crate::{DropReason, StreamError};

/// What a chunk takes in its event beside its text, the token counted apart.
const AROUND_CHUNK: usize = 512;
/// What one byte of text takes at most in its event: a quote is escaped twice.
const ESCAPED: usize = 4;

/// One stream that is written.
#[derive(Debug)]
struct Stream {
    writer: Writer,
    /// The client's own progress token in its text form.
    token: String,
    protection: Protection,
    telling: Telling,
    /// It may give out one more frame.
    credited: bool,
    held: usize,
    /// The final answer, as the application wrote it, with what is said about it.
    parked: Option<(String, Vec<Tag>)>,
    nth: u64,
}

/// Streams by request, at most one for each.
#[derive(Debug, Default)]
pub(super) struct Streams {
    map: BTreeMap<RequestKey, Stream>,
    /// Those whose application waits for room.
    starved: BTreeSet<RequestKey>,
    /// Bytes that were written and not given out yet.
    held: usize,
    next: u64,
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// Returns how many bytes were written and not given out yet.
    pub(super) const fn bytes(&self) -> usize {
        self.held
    }

    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    pub(super) fn is_open(&self, key: &RequestKey) -> bool {
        self.map.contains_key(key)
    }

    pub(super) fn telling(&self, key: &RequestKey) -> Telling {
        self.map.get(key)?.telling
    }

    fn account(&mut self, key: &RequestKey) {
        if let Some(stream) = self.map.get_mut(key) {
            let before = core::mem::replace(&mut stream.held, stream.writer.held());
            self.held = self.held.saturating_sub(before).saturating_add(stream.held);
        }
    }

    fn remove(&mut self, key: &RequestKey) -> Option<Stream> {
        let stream = self.map.remove(key)?;
        self.held = self.held.saturating_sub(stream.held);
        self.starved.remove(key);
        Some(stream)
    }

    /// Lists the streams to one caller.
    fn of(&self, caller: &PublicKey) -> impl Iterator<Item = (&RequestKey, &Stream)> {
        let first = RequestKey { caller: *caller, id: EventId::from_byte_array([0; 32]) };
        let last = RequestKey { caller: *caller, id: EventId::from_byte_array([u8::MAX; 32]) };
        self.map.range(first..=last)
    }

    /// Returns the newest stream to this caller under this token.
    fn find(&self, caller: PublicKey, token: &str) -> Option<RequestKey> {
        let same = self.of(&caller).filter(|(_, stream)| stream.token == token);
        same.max_by_key(|(_, stream)| stream.nth).map(|(key, _)| *key)
    }
}

impl ServerMachine {
    /// Begins the stream of a request; it can be written from then on.
    ///
    /// # Errors
    /// Refuses when the caller reads no streams, the request is not open or has had its stream, or too many are written.
    pub fn start_stream(
        &mut self,
        key: &RequestKey,
        content_type: Option<&str>,
        now: Now,
    ) -> Result<(), StreamError> {
        self.open_stream(key, content_type, now)?;
        self.write_with(key, now, |writer| writer.start(now))
    }

    /// Takes as much of a text as there is room for and returns how many bytes that is; the rest is for after
    /// [`ServerOutput::StreamRoom`]. A stream that was not started is started.
    ///
    /// # Errors
    /// As [`Self::start_stream`], and refuses when the stream was closed or has ended.
    pub fn write_stream(&mut self, key: &RequestKey, text: &str, now: Now) -> Result<usize, StreamError> {
        self.open_stream(key, None, now)?;
        let limits = &self.config.limits;
        let left = limits.streams_bytes.saturating_sub(self.streams.held);
        // Less than a chunk is no room: a text would be cut where it need not be.
        let is_cut = left < limits.stream_chunk.min(limits.streams_bytes).min(text.len());
        let left = if is_cut { 0 } else { left };
        let part = text.get(..text.floor_char_boundary(left)).unwrap_or_default();
        let taken = self.write_with(key, now, |writer| writer.write(part, now))?;
        if taken < text.len() && self.streams.map.contains_key(key) {
            self.streams.starved.insert(*key);
            self.tell_room();
        }
        Ok(taken)
    }

    /// Closes the stream of a request behind everything that was written.
    ///
    /// # Errors
    /// As [`Self::write_stream`].
    pub fn close_stream(&mut self, key: &RequestKey, now: Now) -> Result<(), StreamError> {
        self.open_stream(key, None, now)?;
        self.write_with(key, now, |writer| writer.close(now))
    }

    /// Gives the stream of a request up: what was not sent is lost, and the caller is told. Its final answer should be an
    /// error, and is made one if it is not.
    ///
    /// # Errors
    /// As [`Self::start_stream`], and refuses when the close frame was sent or the stream has ended.
    pub fn abort_stream(
        &mut self,
        key: &RequestKey,
        reason: Option<&str>,
        now: Now,
    ) -> Result<(), StreamError> {
        self.open_stream(key, None, now)?;
        self.write_with(key, now, |writer| writer.abort(reason, now))
    }

    /// Says whether a request may have a stream: the caller reads them and gave a token.
    pub(super) fn takes_stream(&self, caller: &PublicKey, route: &Route) -> bool {
        self.config.open_streams
            && self.sessions.get(caller).is_some_and(|session| session.tags.open_stream)
            && route.token_text().is_some()
    }

    /// Ends what is left of the stream of a request that nobody waits for any more.
    pub(super) fn stop_stream(&mut self, key: &RequestKey, now: Now) {
        let Some(route) = self.routes.get(key) else { return };
        match route.stream {
            StreamUse::Offered => {
                // Nothing was streamed, so nothing of the answer is missing.
                self.routes.set_stream(key, StreamUse::Closed);
                let failure = Some(StreamError::Cancelled);
                self.out.push_back(ServerOutput::StreamEnded { key: *key, failure });
            }
            StreamUse::Open => {
                let stream = self.streams.map.get_mut(key);
                if stream.is_some_and(|stream| stream.writer.abort(None, now).is_ok()) {
                    self.drain_stream(key, now);
                } else {
                    // The close frame is out, so nothing is missing.
                    self.stream_ended(key, None, now);
                }
            }
            StreamUse::No | StreamUse::Closed | StreamUse::Failed => {}
        }
    }

    /// Lets the final answer wait for the end of the stream that runs.
    pub(super) fn park(
        &mut self,
        key: &RequestKey,
        message: &Envelope<'_>,
        further: Vec<Tag>,
        now: Now,
    ) -> Result<(), DropReason> {
        let stream = self.streams.map.get_mut(key).ok_or(DropReason::UnknownRequest)?;
        if stream.parked.is_some() {
            return Err(DropReason::UnknownRequest);
        }
        let text = message.text();
        let has_room = self.routes.bytes().saturating_add(text.len()) <= self.config.limits.in_flight_bytes;
        // The short error needs no room: there are as many as there are streams.
        let (text, parked) = if has_room {
            self.routes.add_bytes(key, text.len());
            (text.to_string(), Ok(()))
        } else {
            (error_text(&object::quote(&key.id.to_hex()), REFUSED, "Busy"), Err(DropReason::Busy))
        };
        stream.parked = Some((text, further));
        // A stream that was closed already stays closed.
        let _ = stream.writer.close(now);
        self.frames.call(Owner::Stream(*key));
        self.drain_stream(key, now);
        parked
    }

    /// Gives a frame of a caller to the stream that it is about; says whether there is one.
    pub(super) fn hear_control(&mut self, caller: PublicKey, frame: StreamFrame<'_>, now: Now) -> bool {
        let Some(key) = self.streams.find(caller, &frame.token) else { return false };
        self.tell_writer(&key, WriterInput::Frame(frame), now);
        true
    }

    /// Lets a stream give out one frame; says whether it did.
    pub(super) fn stream_turn(&mut self, key: &RequestKey, now: Now) -> bool {
        let Some(stream) = self.streams.map.get_mut(key) else { return false };
        if !core::mem::replace(&mut stream.credited, true) {
            stream.writer.handle(WriterInput::Credit(1), now);
        }
        self.drain_stream(key, now)
    }

    pub(super) fn wake_stream(&mut self, key: &RequestKey, now: Now) {
        self.tell_writer(key, WriterInput::Wake, now);
    }

    pub(super) fn stream_landed(&mut self, key: &RequestKey, progress: u64, is_taken: bool, now: Now) {
        let input =
            if is_taken { WriterInput::Published(progress) } else { WriterInput::Unpublished(progress) };
        self.tell_writer(key, input, now);
    }

    /// Tells the application where there is room for text again.
    pub(super) fn tell_room(&mut self) {
        let limits = &self.config.limits;
        let left = limits.streams_bytes.saturating_sub(self.streams.held);
        if self.streams.starved.is_empty() || left < limits.stream_chunk.min(limits.streams_bytes) {
            return;
        }
        let streams = &self.streams.map;
        let has_room = |key: &RequestKey| streams.get(key).is_none_or(|stream| stream.writer.room() > 0);
        for key in self.streams.starved.extract_if(.., |key| has_room(key)) {
            self.out.push_back(ServerOutput::StreamRoom(key));
        }
    }

    fn tell_writer(&mut self, key: &RequestKey, input: WriterInput<'_>, now: Now) {
        if let Some(stream) = self.streams.map.get_mut(key) {
            stream.writer.handle(input, now);
            self.drain_stream(key, now);
        }
    }

    fn write_with<T>(
        &mut self,
        key: &RequestKey,
        now: Now,
        act: impl FnOnce(&mut Writer) -> Result<T, StreamError>,
    ) -> Result<T, StreamError> {
        let stream = self.streams.map.get_mut(key).ok_or(StreamError::Ended)?;
        let done = act(&mut stream.writer);
        self.streams.account(key);
        self.frames.call(Owner::Stream(*key));
        self.drain_stream(key, now);
        self.give_out(now);
        done
    }

    /// Makes sure that a request has a stream.
    fn open_stream(
        &mut self,
        key: &RequestKey,
        content_type: Option<&str>,
        now: Now,
    ) -> Result<(), StreamError> {
        let route = self.routes.get(key).ok_or(StreamError::Ended)?;
        match route.stream {
            StreamUse::Open => return Ok(()),
            StreamUse::Offered => {}
            StreamUse::No => return Err(StreamError::Unsupported),
            StreamUse::Closed | StreamUse::Failed => return Err(StreamError::Ended),
        }
        if !self.has_room_for_stream(&key.caller) {
            return Err(StreamError::Busy);
        }
        let token = route.token_text().ok_or(StreamError::Token)?;
        let protection = self.mirrored(&key.caller, route.protection);
        let is_unordered =
            self.sessions.get(&key.caller).is_some_and(|session| session.tags.unordered_streams);
        let mut writer = Writer::new(&token, &self.limits_of_stream(key, &token, protection, now))?;
        if !is_unordered {
            writer = writer.with_window(1);
        }
        if let Some(content_type) = content_type {
            writer = writer.with_content_type(content_type);
        }
        self.streams.next = self.streams.next.wrapping_add(1);
        let stream = Stream {
            writer,
            token,
            protection,
            telling: None,
            credited: false,
            held: 0,
            parked: None,
            nth: self.streams.next,
        };
        self.streams.map.insert(*key, stream);
        self.routes.set_stream(key, StreamUse::Open);
        Ok(())
    }

    /// Whether a caller may be written one more stream. The last quarter of the places is for callers who have one open at
    /// most and have read one to its end, so that those who only open streams leave room for those who read them.
    fn has_room_for_stream(&self, caller: &PublicKey) -> bool {
        let most = self.config.limits.streams;
        if self.streams.len() < most - most / 4 {
            return true;
        }
        let has_read = self.sessions.get(caller).is_some_and(|session| session.has_read);
        self.streams.len() < most && has_read && self.streams.of(caller).nth(1).is_none()
    }

    /// Chunks must fit into what relays take, whatever is in them.
    fn limits_of_stream(&self, key: &RequestKey, token: &str, protection: Protection, now: Now) -> Limits {
        let room = self.content_room(*key, protection, now);
        let chunk = room.saturating_sub(AROUND_CHUNK + ESCAPED * token.len()) / ESCAPED;
        let limits = &self.config.limits;
        Limits { stream_chunk: limits.stream_chunk.min(chunk).max(1), ..limits.clone() }
    }

    /// Does what a writer wants; says whether it gave out a frame for its credit.
    fn drain_stream(&mut self, key: &RequestKey, now: Now) -> bool {
        let mut gave = false;
        while let Some(stream) = self.streams.map.get_mut(key)
            && let Some(output) = stream.writer.poll_output()
        {
            match output {
                WriterOutput::Frame { frame_type, progress, content } => {
                    let is_free = matches!(
                        frame_type,
                        StreamFrameType::Ping | StreamFrameType::Pong | StreamFrameType::Abort
                    );
                    stream.credited &= is_free;
                    gave |= !is_free;
                    self.send_frame_of_stream(key, frame_type, progress, content, now);
                }
                WriterOutput::Closed => self.stream_ended(key, None, now),
                WriterOutput::Failed { error, reason: _ } => self.stream_ended(key, Some(error), now),
                WriterOutput::Drop(reason) => self.drop(reason.into()),
            }
        }
        self.streams.account(key);
        if let Some(stream) = self.streams.map.get(key) {
            let wake = stream.writer.poll_timeout().map(|(at, _)| at);
            self.frames.wake_at(Owner::Stream(*key), wake);
        }
        gave
    }

    fn send_frame_of_stream(
        &mut self,
        key: &RequestKey,
        frame_type: StreamFrameType,
        progress: u64,
        content: String,
        now: Now,
    ) {
        let Some(stream) = self.streams.map.get(key) else { return };
        let protection = stream.protection;
        let draft = match frame_type {
            StreamFrameType::Start => {
                let (draft, told) = self.draft(key.caller, Some(key.id), Vec::new(), content, now);
                if let Some(stream) = self.streams.map.get_mut(key) {
                    stream.telling = told.map(|epoch| (progress, epoch));
                }
                draft
            }
            // Nobody looks after it any more.
            StreamFrameType::Abort => {
                return self.publish_once((key.caller, Some(key.id)), Some(key.id), protection, content, now);
            }
            StreamFrameType::Accept
            | StreamFrameType::Chunk
            | StreamFrameType::Ping
            | StreamFrameType::Pong
            | StreamFrameType::Close => {
                let tags = frame_tags(key.caller, Some(key.id), Vec::new());
                self.unique.draft(self.me, now.unix, tags, content)
            }
        };
        self.publish_frame((Owner::Stream(*key), progress), draft, protection, now);
    }

    fn stream_ended(&mut self, key: &RequestKey, failure: Option<StreamError>, now: Now) {
        let Some(stream) = self.streams.remove(key) else { return };
        self.frames.forget(Owner::Stream(*key));
        let end = if failure.is_some() { StreamUse::Failed } else { StreamUse::Closed };
        if let Some(session) = self.sessions.get_mut(&key.caller) {
            session.has_read |= failure.is_none();
        }
        self.routes.set_stream(key, end);
        self.out.push_back(ServerOutput::StreamEnded { key: *key, failure });
        if let Some((text, further)) = stream.parked {
            self.send(key.caller, &text, further, now);
        }
    }
}
