//! Sessions of hosts that began with `initialize`: their streams, their number and their end.
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use contextvm_core::object::{compact, member, string};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::stream::{Reader, Stream};
use crate::answer::{FAILED, Failure};
use crate::http::ToolHeaders;
use crate::proxy::conversation::{Gone, Heard, Said, Speaker};

/// Requests of one session that may be open at once.
const OPEN: usize = 256;
/// Streams that have ended and are kept for hosts that lost the connection.
const ENDED: usize = 32;
/// Bytes that are kept of every open stream, however many there are.
const SHARE: usize = 64 * 1024;
/// The stream of what belongs to no request.
const OWN: u64 = 0;

/// What a message for a host is, as far as the front has to know.
#[derive(Deserialize)]
pub(super) struct Shape<'a> {
    #[serde(default)]
    method: Option<IgnoredAny>,
    #[serde(borrow, default)]
    pub(super) result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

impl<'a> Shape<'a> {
    pub(super) fn of(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    pub(super) const fn is_answer(&self) -> bool {
        self.method.is_none() && (self.result.is_some() || self.error.is_some())
    }

    pub(super) fn error_code(&self) -> Option<i64> {
        member(self.error?, "code")?.get().parse().ok()
    }
}

/// Returns the message in one line.
pub(super) fn line(text: String) -> String {
    if text.contains(['\n', '\r']) { compact(&text) } else { text }
}

/// What a request is remembered for.
pub(super) fn lists_tools(method: &str) -> bool {
    method == "tools/list"
}

/// Why a request cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// A request with the same id is open.
    InUse,
    /// Too many are open.
    Busy,
}

/// One session. What is said in it travels in one conversation.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: String,
    /// Cancelled when the session is over.
    pub(super) over: CancellationToken,
    /// The revision that was agreed on.
    pub(super) version: OnceLock<String>,
    backlog: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    speaker: Option<Speaker>,
    streams: BTreeMap<u64, Arc<Stream>>,
    open: BTreeMap<String, Open>,
    ended: VecDeque<u64>,
    next: u64,
    used: Instant,
}

#[derive(Debug)]
struct Open {
    stream: u64,
    lists_tools: bool,
}

impl Session {
    pub(super) fn new(id: String, speaker: Speaker, over: CancellationToken, backlog: usize) -> Arc<Self> {
        let state = Mutex::new(State {
            speaker: Some(speaker),
            streams: BTreeMap::from([(OWN, Stream::resumable())]),
            open: BTreeMap::new(),
            ended: VecDeque::new(),
            next: OWN + 1,
            used: Instant::now(),
        });
        Arc::new(Self { id, over, version: OnceLock::new(), backlog, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the stream of a request. Its number is for the ids of its events.
    pub(super) fn begin(&self, id: &RawValue, method: &str) -> Result<(u64, Arc<Stream>), Refused> {
        let mut state = self.state();
        if state.open.contains_key(id.get()) {
            return Err(Refused::InUse);
        }
        if state.open.len() >= OPEN {
            return Err(Refused::Busy);
        }
        state.forget_ended(0, self.backlog);
        let stream = state.next;
        state.next += 1;
        state.open.insert(id.get().to_owned(), Open { stream, lists_tools: lists_tools(method) });
        let made = Stream::resumable();
        state.streams.insert(stream, Arc::clone(&made));
        Ok((stream, made))
    }

    /// The host will not hear of this request any more: it cancelled it, or it was not passed on.
    pub(super) fn forget(&self, id: &RawValue) {
        let mut state = self.state();
        if let Some(open) = state.open.remove(id.get())
            && let Some(stream) = state.streams.remove(&open.stream)
        {
            stream.end();
        }
    }

    /// Passes a message on.
    pub(super) async fn say(&self, text: String) -> Result<(), Gone> {
        let speaker = self.state().speaker.clone().ok_or(Gone)?;
        speaker.say(Said::Message(text)).await
    }

    /// Puts a message on the stream where it belongs.
    pub(super) fn hear(&self, heard: Heard, tools: &ToolHeaders) {
        let Some(shape) = Shape::of(&heard.text) else { return };
        let is_answer = shape.is_answer();
        let mut state = self.state();
        let about = heard.about.as_deref().map(RawValue::get);
        let known = about.and_then(|id| state.open.get(id));
        if let (Some(Open { lists_tools: true, .. }), Some(result)) = (known, shape.result)
            && is_answer
        {
            tools.learn(result);
        }
        let number = known.map_or(OWN, |open| open.stream);
        if is_answer && number == OWN {
            tracing::debug!("an answer that nobody waits for was left out");
            return;
        }
        let Some(stream) = state.streams.get(&number).cloned() else { return };
        if let (true, Some(id)) = (is_answer, about) {
            state.open.remove(id);
            state.ended.push_back(number);
            state.used = Instant::now();
        }
        let share = (self.backlog / (state.open.len() + 1)).max(SHARE);
        drop(state);
        let lost = stream.push(line(heard.text), is_answer, share);
        if is_answer {
            self.state().forget_ended(1, self.backlog);
        }
        if lost > 0 {
            tracing::debug!(lost, "a host does not read; its oldest messages were left out");
        }
    }

    /// Returns a reader of the stream of what belongs to no request, from where it was last read.
    pub(super) fn read_own(&self) -> Option<(u64, Reader)> {
        let stream = self.state().streams.get(&OWN).cloned()?;
        Some((OWN, stream.read(None)))
    }

    /// Returns a reader of what came on a stream after this event.
    pub(super) fn resume(&self, stream: u64, after: u64) -> Option<(u64, Reader)> {
        let resumed = self.state().streams.get(&stream).cloned()?;
        Some((stream, resumed.read(Some(after))))
    }

    /// Notes that the host is alive.
    pub(super) fn touch(&self) {
        self.state().used = Instant::now();
    }

    /// How long the session has been idle; `None` while a request or a stream is open.
    fn idle(&self) -> Option<Duration> {
        let mut state = self.state();
        let is_read = state.streams.values().any(|stream| stream.has_reader());
        if is_read || !state.open.is_empty() {
            state.used = Instant::now();
            return None;
        }
        Some(state.used.elapsed())
    }

    /// Ends the session. What is open is answered with this failure, if there is one.
    pub(super) fn end(&self, failure: Option<&Failure>) {
        self.over.cancel();
        let mut state = self.state();
        state.speaker = None;
        let open = core::mem::take(&mut state.open);
        let streams = core::mem::take(&mut state.streams);
        drop(state);
        for (id, open) in open {
            if let (Some(failure), Ok(id), Some(stream)) =
                (failure, RawValue::from_string(id), streams.get(&open.stream))
            {
                stream.push(failure.answer(&id), true, self.backlog);
            }
        }
        for stream in streams.values() {
            stream.end();
        }
    }
}

impl State {
    /// Forgets ended streams but the `latest`, oldest first, until few enough and at most `limit` bytes of them are left. Whoever
    /// reads one reads it to its end.
    fn forget_ended(&mut self, latest: usize, limit: usize) {
        let bytes = |stream: &u64| self.streams.get(stream).map_or(0, |stream| stream.bytes());
        let mut kept: usize = self.ended.iter().map(bytes).sum();
        while self.ended.len() > latest
            && (self.ended.len() > ENDED || kept > limit)
            && let Some(oldest) = self.ended.pop_front()
        {
            kept -= self.streams.remove(&oldest).map_or(0, |stream| stream.bytes());
        }
    }
}

/// What an answer to `initialize` agrees on.
pub(super) fn agreed_version(answer: &str) -> Option<String> {
    let result = Shape::of(answer)?.result?;
    Some(string(member(result, "protocolVersion")?)?.into_owned())
}

/// What a session that ends while requests are open answers them with.
pub(super) fn closed() -> Failure {
    Failure::new(FAILED, "closed", "the proxy ended before the server answered")
}

/// All sessions at one endpoint.
#[derive(Debug)]
pub(super) struct Sessions {
    by_id: Mutex<BTreeMap<String, Arc<Session>>>,
    most: usize,
    idle: Duration,
}

impl Sessions {
    pub(super) const fn new(most: usize, idle: Duration) -> Self {
        Self { by_id: Mutex::new(BTreeMap::new()), most, idle }
    }

    fn by_id(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Session>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a session; when there are too many, in the place of the one that has been idle for longest. Says whether there
    /// was room.
    pub(super) fn add(&self, session: Arc<Session>) -> bool {
        let mut by_id = self.by_id();
        if by_id.len() >= self.most {
            let idle = by_id.values().filter_map(|session| Some((session.idle()?, session.id.clone())));
            let Some((_, longest)) = idle.max() else { return false };
            if let Some(session) = by_id.remove(&longest) {
                session.end(None);
            }
        }
        by_id.insert(session.id.clone(), session);
        true
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Session>> {
        let session = self.by_id().get(id).cloned()?;
        session.touch();
        Some(session)
    }

    pub(super) fn remove(&self, id: &str) -> Option<Arc<Session>> {
        self.by_id().remove(id)
    }

    /// Ends the sessions that have been idle for too long.
    pub(super) fn expire(&self) {
        let mut by_id = self.by_id();
        by_id.retain(|_, session| {
            let is_over = session.idle().is_some_and(|idle| idle >= self.idle);
            if is_over {
                session.end(None);
            }
            !is_over
        });
    }
}
