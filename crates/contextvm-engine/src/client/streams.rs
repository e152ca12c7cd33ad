//! The streams of calls: read by the application, or drained because nobody reads them.
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;

use contextvm_core::{Limits, Mono, Now};
use contextvm_stream::{
    ReaderInput, ReaderOutput, Readers, StreamBody, StreamEnd, StreamError, StreamFrame, StreamKey,
};
use nostr::event::EventId;
use serde_json::value::RawValue;

use super::{ClientMachine, ClientOutput, StreamNews, json};
use crate::{DropReason, Ticket};

/// Why a stream is aborted for which there is no room.
const NO_ROOM: &str = "too many streams at once";

/// The stream of one call.
#[derive(Debug)]
struct Stream {
    key: StreamKey,
    /// The application's id of the call.
    id: Box<RawValue>,
    id_form: String,
    ticket: Ticket,
    /// The application reads it.
    is_read: bool,
    /// Chunks that the application has and did not take.
    untaken: usize,
    /// It has ended.
    is_over: bool,
    /// There was no room for it, and the server does not know.
    owes_abort: bool,
    /// Its call is over.
    is_left: bool,
}

/// All streams, by the event that asked. Those of calls that are over stay until they are over and taken.
#[derive(Debug)]
pub(super) struct Streams {
    readers: Readers,
    open: BTreeMap<EventId, Stream>,
}

impl Streams {
    pub(super) fn new(limits: &Limits) -> Self {
        // There is one peer, and it streams nothing but what was asked for.
        let limits = Limits { streams_per_peer: limits.streams, ..limits.clone() };
        Self { readers: Readers::new(&limits), open: BTreeMap::new() }
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Returns how many bytes are held for them.
    pub(super) fn bytes(&self) -> usize {
        self.readers.load().bytes
    }

    pub(super) fn next_due(&self) -> Option<Mono> {
        if self.open.is_empty() { None } else { self.readers.poll_timeout().map(|(at, _)| at) }
    }

    /// Whether frames of the call's stream may still come.
    pub(super) fn is_live(&self, call: &EventId) -> bool {
        self.open.get(call).is_some_and(|stream| !stream.is_over)
    }

    /// Finds the newest stream that is read for a call with this id of the application.
    fn by_id(&self, id: &RawValue) -> Option<EventId> {
        let form = json::id_form(id);
        let found = self.open.iter().filter(|(_, stream)| stream.is_read && stream.id_form == form);
        found.max_by_key(|(_, stream)| stream.ticket).map(|(call, _)| *call)
    }
}

impl ClientMachine {
    /// Makes room for the stream of a call whose request has its event.
    pub(super) fn open_stream(&mut self, call: &EventId, is_read: bool) {
        let Some(pending) = self.pending.get(call) else { return };
        let token = pending.wire.text.clone();
        let key = StreamKey { peer: self.config.server, request: *call, token };
        let refused = self.streams.readers.open(key.clone()).err();
        let stream = Stream {
            key,
            id: pending.id.clone(),
            id_form: pending.id_form.clone(),
            ticket: pending.ticket,
            is_read,
            untaken: 0,
            is_over: refused.is_some(),
            owes_abort: refused.is_some(),
            is_left: false,
        };
        if let Some(error) = refused.filter(|_| is_read) {
            self.tell_end(&stream.id, StreamEnd::Failed { error, reason: None });
        }
        self.streams.open.insert(*call, stream);
    }

    /// Takes a frame of a stream. One that nobody asked for is read as well, and thrown away.
    pub(super) fn on_stream_frame(&mut self, call: &EventId, frame: StreamFrame<'_>, now: Now) {
        if self.pending.get(call).is_some_and(|pending| pending.uploading) {
            return self.drop_because(DropReason::Uncorrelated);
        }
        if !self.streams.open.contains_key(call) {
            if matches!(frame.body, StreamBody::Abort(_)) {
                return self.drop_because(DropReason::Uncorrelated);
            }
            self.open_stream(call, false);
        }
        let Some(stream) = self.streams.open.get_mut(call) else {
            return self.drop_because(DropReason::Uncorrelated);
        };
        let is_refused = core::mem::take(&mut stream.owes_abort);
        if stream.is_read && !stream.is_over {
            let most = self.config.limits.stream_total;
            self.pending.change(call, |pending| pending.may_last(most));
        }
        if is_refused && !matches!(frame.body, StreamBody::Abort(_)) {
            let (token, body) = (frame.token.clone(), StreamBody::Abort(Some(NO_ROOM.into())));
            self.publish_control(StreamFrame { token, progress: 1, body }.to_text(), now);
        }
        let input = ReaderInput::Frame { peer: self.config.server, request: *call, frame };
        self.streams.readers.handle(input, now);
        self.drain_readers(now);
    }

    pub(super) fn on_taken(&mut self, id: &RawValue, chunks: usize, now: Now) {
        let Some(call) = self.streams.by_id(id) else { return };
        let Some(stream) = self.streams.open.get_mut(&call) else { return };
        stream.untaken = stream.untaken.saturating_sub(chunks);
        let key = stream.key.clone();
        self.streams.readers.handle(ReaderInput::Taken { key, chunks }, now);
        self.drain_readers(now);
        self.forget_stream(&call);
    }

    pub(super) fn on_stop_reading(&mut self, id: &RawValue, reason: Option<&str>, now: Now) {
        if let Some(call) = self.streams.by_id(id) {
            return self.stop_stream(&call, reason, now);
        }
        // Its request may still be on its way.
        let Some(call) = self.pending.by_id(&json::id_form(id)) else { return };
        let was_read = self.pending.change(&call, |pending| core::mem::take(&mut pending.reading));
        if was_read == Some(true) {
            self.tell_end(id, cancelled());
        }
    }

    /// Lets go of the stream of a call that is over: what is missing may come for a while after an answer.
    pub(super) fn leave_stream(&mut self, call: &EventId, is_answered: bool, now: Now) {
        let Some(stream) = self.streams.open.get_mut(call) else { return };
        stream.is_left = true;
        if is_answered {
            let key = stream.key.clone();
            self.streams.readers.handle(ReaderInput::Answered(key), now);
            self.drain_readers(now);
            self.forget_stream(call);
        } else if stream.is_over {
            self.forget_stream(call);
        } else {
            self.stop_stream(call, None, now);
        }
    }

    pub(super) fn wake_streams(&mut self, now: Now) {
        if self.streams.next_due().is_some_and(|at| at <= now.mono) {
            self.streams.readers.handle(ReaderInput::Wake, now);
            self.drain_readers(now);
        }
    }

    /// Ends what is left of the streams of calls that are over.
    pub(super) fn close_streams(&mut self, now: Now) {
        while let Some(call) = self.streams.open.keys().next().copied() {
            self.stop_stream(&call, None, now);
            self.streams.open.remove(&call);
        }
    }

    /// Says that a stream of the application has ended.
    pub(super) fn tell_end(&mut self, id: &RawValue, end: StreamEnd) {
        self.outputs.push_back(ClientOutput::Stream { id: id.to_owned(), news: StreamNews::Ended(end) });
    }

    /// Gives up a stream and what of it was not taken.
    fn stop_stream(&mut self, call: &EventId, reason: Option<&str>, now: Now) {
        let Some(stream) = self.streams.open.get_mut(call) else { return };
        stream.untaken = 0;
        let key = stream.key.clone();
        self.streams.readers.handle(ReaderInput::Cancel { key, reason }, now);
        self.drain_readers(now);
        self.forget_stream(call);
    }

    fn drain_readers(&mut self, now: Now) {
        while let Some(output) = self.streams.readers.poll_output() {
            match output {
                ReaderOutput::Send { content, .. } => self.publish_control(content, now),
                ReaderOutput::Chunk { key, index, data } => self.on_chunk(key, index, data, now),
                ReaderOutput::Ended { key, end } => self.on_stream_ended(&key.request, end),
                ReaderOutput::Drop(reason) => self.drop_because(reason.into()),
            }
        }
    }

    fn on_chunk(&mut self, key: StreamKey, index: u64, data: Box<str>, now: Now) {
        match self.streams.open.get_mut(&key.request) {
            Some(stream) if stream.is_read => {
                stream.untaken += 1;
                let news = StreamNews::Chunk { index, data };
                self.outputs.push_back(ClientOutput::Stream { id: stream.id.clone(), news });
            }
            Some(_) | None => self.streams.readers.handle(ReaderInput::Taken { key, chunks: 1 }, now),
        }
    }

    fn on_stream_ended(&mut self, call: &EventId, end: StreamEnd) {
        let Some(stream) = self.streams.open.get_mut(call) else { return };
        // A server of ours closes what it has begun before it answers.
        let is_cut = self.session.tags.repeats && matches!(end, StreamEnd::Answered { chunks: 1.. });
        let cut = StreamEnd::Failed { error: StreamError::Missing, reason: None };
        let end = if is_cut { cut } else { end };
        stream.is_over = true;
        let id = stream.is_read.then(|| stream.id.clone());
        if stream.is_left {
            self.tokens.free(&stream.key.token);
        }
        if let Some(id) = id {
            self.tell_end(&id, end);
        }
        self.forget_stream(call);
    }

    /// Forgets a stream of which nothing can come and nothing is to be taken.
    fn forget_stream(&mut self, call: &EventId) {
        let is_done = |stream: &Stream| stream.is_left && stream.is_over && stream.untaken == 0;
        if self.streams.open.get(call).is_some_and(is_done) {
            self.streams.open.remove(call);
        }
    }
}

/// The end of a stream whose call did not come to an answer, or that is not wanted.
pub(super) const fn cancelled() -> StreamEnd {
    StreamEnd::Failed { error: StreamError::Cancelled, reason: None }
}
