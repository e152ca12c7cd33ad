//! The desk's side of streams: what writers want, and what waits for room.
use std::collections::BTreeMap;
use std::sync::Arc;

use contextvm_core::Now;
use contextvm_engine::{RequestKey, ServerMachine, StreamError};

use crate::stream::{Ask, Reply, Streams};

/// Text that the machine has not taken all of.
#[derive(Debug)]
struct Waiting {
    text: String,
    /// How much of it was taken, bytes.
    taken: usize,
    reply: Reply,
}

/// Writes that wait for room: one of each stream.
#[derive(Debug)]
pub(crate) struct Writing {
    streams: Arc<Streams>,
    waiting: BTreeMap<RequestKey, Waiting>,
}

impl Writing {
    pub(crate) const fn new(streams: Arc<Streams>) -> Self {
        Self { streams, waiting: BTreeMap::new() }
    }

    pub(crate) fn streams(&self) -> Arc<Streams> {
        Arc::clone(&self.streams)
    }

    /// A request may have a stream.
    pub(crate) fn open(&self, key: RequestKey) {
        self.streams.open(key);
    }

    /// Does what a writer wants, or keeps it until there is room.
    pub(crate) fn ask(
        &mut self,
        machine: &mut ServerMachine,
        key: RequestKey,
        (ask, reply): (Ask, Reply),
        now: Now,
    ) {
        let done = match ask {
            Ask::Abort(reason) => {
                self.waiting.remove(&key);
                machine.abort_stream(&key, reason.as_deref(), now)
            }
            _ if self.waiting.contains_key(&key) => Err(StreamError::Busy),
            Ask::Start(content_type) => machine.start_stream(&key, content_type.as_deref(), now),
            Ask::Write(text) => {
                self.waiting.insert(key, Waiting { text, taken: 0, reply });
                return self.room(machine, &key, now);
            }
            Ask::Close => machine.close_stream(&key, now),
        };
        // Whoever asked may have gone.
        let _gone = reply.send(done);
    }

    /// Goes on with what waits for room.
    pub(crate) fn room(&mut self, machine: &mut ServerMachine, key: &RequestKey, now: Now) {
        let Some(waiting) = self.waiting.get_mut(key) else { return };
        let rest = waiting.text.get(waiting.taken..).unwrap_or_default();
        let done = match machine.write_stream(key, rest, now) {
            Ok(taken) if taken < rest.len() => {
                waiting.taken += taken;
                return;
            }
            Ok(_all) => Ok(()),
            Err(error) => Err(error),
        };
        self.reply(key, done);
    }

    /// A stream is over, or will never be.
    pub(crate) fn end(&mut self, key: &RequestKey, failure: Option<StreamError>) {
        self.streams.end(key, failure);
        self.reply(key, Err(failure.unwrap_or(StreamError::Ended)));
    }

    fn reply(&mut self, key: &RequestKey, done: Result<(), StreamError>) {
        if let Some(waiting) = self.waiting.remove(key) {
            let _gone = waiting.reply.send(done);
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.streams.end_all();
    }
}
