//! The server endpoint: seen, access, session, route, ledger.
use alloc::{boxed::Box, collections::VecDeque, string::String, sync::Arc, vec::Vec};
use contextvm_core::{Limits, Mono, Now, Opened, PeerTags};
use nostr::event::{Event, EventId, Tag};
use nostr::key::PublicKey;

use crate::size::RelayLimit;
use crate::unique::Unique;
use crate::{DropReason, Outbound, Outcome, Record, ServerConfig, StreamError, Ticket, Wake};

mod access;
mod answers;
mod asked;
mod casts;
mod deciding;
mod floor;
mod frames;
mod inbound;
mod journal;
mod ledger;
mod outbound;
mod post;
mod protect;
mod quiet;
mod refusing;
mod route;
mod seen;
mod session;
mod streams;
mod uploads;
mod waiting;

pub use access::{Access, Question};

use access::Refusals;
use answers::Answers;
use asked::Asked;
use casts::Cast;
use frames::Frames;
use journal::Journal;
use ledger::Ledger;
use post::Post;
use quiet::Quiet;
use route::Routes;
use seen::Seen;
use session::Sessions;
use streams::Streams;
use uploads::Uploads;
use waiting::Waiting;

/// Names one request for ever: who asked, and the inner id of the asking event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKey {
    /// The caller's public key.
    pub caller: PublicKey,
    /// The inner event id.
    pub id: EventId,
}

/// What a delivered message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// A request. Its `id` in the text is the inner event id in hex, and so is its progress token.
    Request {
        /// The key to answer with.
        key: RequestKey,
        /// The method, for logs and adapters.
        method: String,
        /// A stream may be written for it (CEP-41).
        streams: bool,
    },
    /// A notification. A cancellation names the request by its inner event id.
    Notification {
        /// The method.
        method: String,
    },
    /// The caller's answer to a request of ours, with the application's own id restored.
    Response,
}

/// What a [`ServerMachine`] is told.
#[derive(Clone, Debug)]
pub enum ServerInput {
    /// An event came in and was checked.
    Opened(Box<Opened>),
    /// The application sends one JSON-RPC message to one caller: answer, notification or request.
    Send {
        /// To whom.
        to: PublicKey,
        /// The JSON-RPC text, ids as delivered.
        message: String,
    },
    /// As [`ServerInput::Send`]; an answer carries these tags after all others, unless it would be too large with them.
    Answer {
        /// To whom.
        to: PublicKey,
        /// The JSON-RPC text, ids as delivered.
        message: String,
        /// For instance what the listed tools cost.
        tags: Vec<Tag>,
    },
    /// The application sends one notification to every initialised session that may hear it.
    ///
    /// Progress, and what names a live request as its subscription, goes to that request's caller alone.
    Broadcast(String),
    /// A question was answered.
    Verdict {
        /// As asked.
        question: u64,
        /// Yes or no.
        allow: bool,
    },
    /// The largest event that our relays take, as published, bytes.
    RelayLimit(usize),
    /// A publication ended.
    Published(Ticket, Outcome),
    /// The application's side of a session ended: its open requests are answered with an error.
    ///
    /// Not to be said of a session that [`ServerOutput::Restarted`] replaced.
    SessionClosed(PublicKey),
    /// Every record up to this one is on disk and survives a power cut.
    Remembered {
        /// The number of the last one.
        through: u64,
    },
    /// The store has failed: no record up to this one that was not [`ServerInput::Remembered`] can be relied on.
    Unstored {
        /// The number of the last one.
        through: u64,
    },
    /// A time that [`ServerMachine::poll_timeout`] named has come.
    Wake,
}

/// What a [`ServerMachine`] wants done.
#[derive(Clone, Debug)]
#[must_use]
pub enum ServerOutput {
    /// Sign, seal, publish; report the outcome under the ticket.
    Publish(Outbound),
    /// Keep a record; report with [`ServerInput::Remembered`] or [`ServerInput::Unstored`], in the order of the numbers.
    ///
    /// Only asked for with [`ServerConfig::durable`]. Nothing waits for the report about an answer.
    Remember {
        /// To be quoted in the report; the first is 1, each is one more than the one before.
        number: u64,
        /// What to keep.
        record: Record,
    },
    /// Hand a message to the application.
    Deliver {
        /// From whom.
        caller: PublicKey,
        /// Class and correlation.
        delivery: Delivery,
        /// JSON-RPC text, ids and tokens rewritten, `_meta` sanitised and injected.
        message: String,
        /// The signed inner event.
        event: Arc<Event>,
        /// What the caller has said about itself.
        tags: Arc<PeerTags>,
    },
    /// Ask the application.
    Ask {
        /// To be quoted in the verdict.
        id: u64,
        /// What is asked.
        question: Question,
    },
    /// A caller sent `initialize`: whatever session the application kept for it is to be replaced.
    ///
    /// Requests of the replaced session may still be answered for the length of the request timeout.
    Restarted(PublicKey),
    /// A session was forgotten.
    Ended(PublicKey),
    /// The stream of this request takes text again.
    StreamRoom(RequestKey),
    /// The stream of this request is over; said once for each stream that was started.
    StreamEnded {
        /// Whose stream.
        key: RequestKey,
        /// `None`: it was closed, and a relay took every frame of it.
        failure: Option<StreamError>,
    },
    /// An application message could not be sent.
    Undeliverable {
        /// To whom it was meant to go.
        to: PublicKey,
        /// Why not.
        reason: DropReason,
    },
    /// A request of the application was not sent to the caller whom it was to ask, so that nobody is going to answer it.
    Unasked {
        /// Who was to be asked.
        of: PublicKey,
        /// The application's own id as it wrote it, JSON.
        id: String,
        /// Why not.
        reason: DropReason,
        /// What the caller has said about itself.
        tags: Arc<PeerTags>,
    },
    /// An event was not acted on; it may have waited for that since long ago.
    Refused {
        /// Its inner id.
        event: EventId,
        /// Why not.
        reason: DropReason,
    },
    /// Something else was not acted on, or a broadcast could not be sent.
    Drop(DropReason),
}

/// Sizes of everything a [`ServerMachine`] holds, for status pages and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLoad {
    /// Accepted ids remembered.
    pub seen_ids: usize,
    /// Bytes of answers kept for repeats.
    pub ledger_bytes: usize,
    /// Sessions of established callers.
    pub sessions: usize,
    /// Sessions of strangers.
    pub stranger_sessions: usize,
    /// Requests in flight.
    pub in_flight: usize,
    /// Bytes of requests in flight.
    pub in_flight_bytes: usize,
    /// Events waiting for an access decision, or for the second of their stamp.
    pub waiting: usize,
    /// Bytes of these events.
    pub waiting_bytes: usize,
    /// Requests of the application that a client may answer.
    pub asked: usize,
    /// Publications awaited or to be tried again.
    pub publications: usize,
    /// Transfers of callers that are open.
    pub transfers_in: usize,
    /// Bytes held for them.
    pub transfers_in_bytes: usize,
    /// Answers that are transferred, and those kept to be transferred again.
    pub transfers_out: usize,
    /// Bytes of these answers.
    pub transfers_out_bytes: usize,
    /// Streams that are written.
    pub streams: usize,
    /// Bytes that were written to them and not given out yet, 32 for each piece included, by which the last text may be beyond its
    /// limit.
    pub streams_bytes: usize,
    /// Outputs towards the application that wait for the store.
    pub held: usize,
    /// Records that the store has not spoken about.
    pub unremembered: usize,
}

/// The server endpoint: one identity answering any number of callers.
///
/// Every table in it is bounded by [`Limits`]; nothing in it is keyed by a string that a peer chose.
#[derive(Debug)]
pub struct ServerMachine {
    config: ServerConfig,
    /// Limits for what our own application writes: form counts, cost does not.
    own: Limits,
    me: PublicKey,
    /// Our discovery tags, in wire order.
    discovery: Vec<Tag>,
    seen: Seen,
    waiting: Waiting,
    refusals: Refusals,
    /// The same for established callers: what is said to them strangers cannot use up.
    regrets: Refusals,
    sessions: Sessions,
    routes: Routes,
    asked: Asked,
    ledger: Ledger,
    post: Post,
    unique: Unique,
    relay_limit: RelayLimit,
    uploads: Uploads,
    answers: Answers,
    streams: Streams,
    frames: Frames,
    quiet: Quiet,
    casts: VecDeque<Cast>,
    journal: Journal,
    out: VecDeque<ServerOutput>,
}

impl ServerMachine {
    /// Makes an endpoint for one identity. A server draws no random numbers; the seed is there by convention.
    #[must_use]
    pub fn new(config: ServerConfig, me: PublicKey, _seed: [u8; 32]) -> Self {
        let limits = &config.limits;
        Self {
            own: Limits { json_nodes: usize::MAX, ..limits.clone() },
            me,
            discovery: config.discovery_tags(),
            seen: Seen::new(limits),
            waiting: Waiting::new(limits),
            refusals: Refusals::new(limits),
            regrets: Refusals::new(limits),
            sessions: Sessions::new(limits),
            routes: Routes::default(),
            asked: Asked::default(),
            ledger: Ledger::new(limits),
            post: Post::new(limits),
            unique: Unique::default(),
            relay_limit: RelayLimit::new(limits),
            uploads: Uploads::new(limits),
            answers: Answers::new(limits),
            streams: Streams::default(),
            frames: Frames::default(),
            quiet: Quiet::default(),
            casts: VecDeque::new(),
            journal: Journal::new(&config),
            out: VecDeque::new(),
            config,
        }
    }

    /// Takes one input; drain the outputs afterwards.
    pub fn handle(&mut self, input: ServerInput, now: Now) {
        self.expire(now);
        match input {
            ServerInput::Opened(opened) => self.opened(*opened, now),
            ServerInput::Send { to, message } => self.send(to, &message, Vec::new(), now),
            ServerInput::Answer { to, message, tags } => self.send(to, &message, tags, now),
            ServerInput::Broadcast(message) => self.broadcast(message, now),
            ServerInput::Verdict { question, allow } => self.verdict(question, allow, now),
            ServerInput::RelayLimit(bytes) => self.relay_limit.set(bytes),
            ServerInput::Published(ticket, outcome) => self.published(ticket, &outcome, now),
            ServerInput::SessionClosed(caller) => self.session_closed(caller, now),
            ServerInput::Remembered { through } => self.remembered(through, now),
            ServerInput::Unstored { through } => self.unstored(through, now),
            ServerInput::Wake => {}
        }
        self.give_out(now);
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Option<ServerOutput> {
        loop {
            if let Some(output) = self.journal.next_free() {
                return Some(output);
            }
            if let Some(output) = self.out.pop_front() {
                let passed = self.journal.pass(output);
                if passed.is_some() {
                    return passed;
                }
            } else if !self.cast_one() {
                return None;
            }
        }
    }

    /// Returns when to come back, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Mono, Wake)> {
        let wakes = [
            (self.waiting.next_deadline(), Wake::Access),
            (self.waiting.next_due(), Wake::Early),
            (self.routes.next_end(), Wake::Deadline),
            (self.post.next_retry(), Wake::Retry),
            (self.journal.next_due(), Wake::Retry),
            (self.frames.next_wake(), Wake::Retry),
            (self.quiet.next_end(), Wake::Retry),
            (self.uploads.next_deadline(), Wake::Deadline),
            (self.answers.next_end(), Wake::Expiry),
            (self.ledger.next_end(), Wake::Expiry),
            (self.asked.next_end(), Wake::Expiry),
            (self.sessions.next_end(), Wake::Expiry),
        ];
        wakes.into_iter().filter_map(|(at, wake)| Some((at?, wake))).min_by_key(|(at, _)| *at)
    }

    /// Returns how many requests for a list wait for the application: `tools/list` and its like.
    #[must_use]
    pub const fn open_lists(&self) -> usize {
        self.routes.lists()
    }

    /// Returns the method of a request that waits for the application, if it asks for a list.
    #[must_use]
    pub fn list_method(&self, key: &RequestKey) -> Option<&'static str> {
        self.routes.get(key)?.lists
    }

    /// Returns what the machine holds at this moment.
    #[must_use]
    pub fn load(&self) -> ServerLoad {
        let [stranger_sessions, sessions] = self.sessions.count();
        let (waiting, waiting_bytes) = self.waiting.size();
        let (transfers_in, transfers_in_bytes) = self.uploads.size();
        let (transfers_out, transfers_out_bytes) = self.answers.size();
        let (held, unremembered) = self.journal.size();
        ServerLoad {
            seen_ids: self.seen.len(),
            ledger_bytes: self.ledger.bytes(),
            sessions,
            stranger_sessions,
            in_flight: self.routes.len(),
            in_flight_bytes: self.routes.bytes(),
            waiting,
            waiting_bytes,
            asked: self.asked.len(),
            publications: self.post.len(),
            transfers_in,
            transfers_in_bytes,
            transfers_out,
            transfers_out_bytes,
            streams: self.streams.len(),
            streams_bytes: self.streams.bytes(),
            held,
            unremembered,
        }
    }

    /// Does what is due. Each step takes the earliest entry of an ordered table.
    fn expire(&mut self, now: Now) {
        self.seen.forget(now.unix);
        self.journal.forget(now.unix);
        self.ask_when_due(now);
        self.ledger.forget(now.mono);
        self.answers.forget(now.mono);
        self.end_pauses(now);
        self.asked.forget(now.mono);
        while let Some(question) = self.waiting.overdue(now.mono) {
            self.verdict(question, false, now);
        }
        while let Some(held) = self.waiting.due(now.mono) {
            self.release(held, now);
        }
        while let Some(key) = self.routes.overdue(now.mono) {
            self.end_overdue(key, now);
        }
        while let Some(publication) = self.post.due(now.mono) {
            self.try_again(publication, now);
        }
        self.wake_frames(now);
        self.expire_uploads(now);
        while let Some(caller) = self.sessions.expire(now.mono) {
            self.session_ended(caller);
        }
    }

    /// A session was forgotten: so are the questions that its application side had asked.
    fn session_ended(&mut self, caller: PublicKey) {
        self.asked.forget_client(caller);
        self.out.push_back(ServerOutput::Ended(caller));
    }

    fn drop(&mut self, reason: DropReason) {
        self.out.push_back(ServerOutput::Drop(reason));
    }
}
