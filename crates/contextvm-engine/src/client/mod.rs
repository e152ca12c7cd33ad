//! The client endpoint: pending, session, retry.
mod api;
mod asked;
mod chance;
mod downloads;
mod ending;
mod facts;
mod frames;
mod greeting;
mod heard;
mod incoming;
mod json;
mod leaving;
mod load;
mod loose;
mod outgoing;
mod pending;
mod probe;
mod retry;
mod session;
mod stateless;
mod streams;
mod timing;
mod tokens;
mod uploads;

use alloc::collections::VecDeque;
use contextvm_core::{Mono, Now, PeerTags};
use nostr::event::Event;
use nostr::key::PublicKey;
use serde_json::value::RawValue;

use self::asked::Asked;
use self::chance::Chance;
use self::downloads::Downloads;
use self::facts::Facts;
use self::greeting::Greeting;
use self::heard::Heard;
use self::loose::LooseEnds;
use self::pending::PendingCalls;
use self::probe::Probe;
use self::retry::HarmlessTools;
use self::session::Session;
use self::streams::Streams;
use self::tokens::Tokens;
use self::uploads::Uploads;
use crate::size::RelayLimit;
use crate::unique::Unique;
use crate::{ClientConfig, Wake};

pub use self::api::{ClientInput, ClientOutput, Direction, Exchange, Lost, StreamNews, Transferred};
pub use self::ending::{LOST_CODE, MALFORMED_CODE};
pub use self::load::ClientLoad;

/// The client endpoint: one client key talking to one server key.
///
/// Every request given to it ends exactly once: with an answer, with an error that it delivers itself, with the
/// application's own cancellation, or, if it is a subscription, with the server's. Every stream that it reads ends exactly once
/// as well. Requests that are larger than what relays take go out as transfers, answers may come as such, and the streams
/// that nobody reads are drained.
///
/// Worst-case memory: `limits.pending` calls and `limits.in_flight_bytes` of what they say, 48 frames of transfers on their
/// way, `limits.transfers_bytes` of answers that come in and one more while it is put together, `limits.streams_bytes` of
/// streams, `limits.outbound_events` events that nobody answers (held by the driver), two generations of at most 8,192 inner
/// ids, 65,536 ids of its own, 4,096 tool names and six events.
#[derive(Debug)]
pub struct ClientMachine {
    config: ClientConfig,
    me: PublicKey,
    session: Session,
    pending: PendingCalls,
    tokens: Tokens,
    probe: Probe,
    relay: RelayLimit,
    uploads: Uploads,
    greeting: Greeting,
    downloads: Downloads,
    streams: Streams,
    loose: LooseEnds,
    asked: Asked,
    heard: Heard,
    unique: Unique,
    harmless: HarmlessTools,
    facts: Facts,
    chance: Chance,
    next_ticket: u64,
    /// Relays came up: the first one then, and at the latter time calls that wait are wrapped again.
    settling: Option<(Mono, Mono)>,
    /// Seconds by which our clock is ahead of the relays'.
    clock_ahead: i64,
    closed: bool,
    outputs: VecDeque<ClientOutput>,
}

impl ClientMachine {
    /// Makes an endpoint; the seed spreads retries, and makes progress tokens unlike those of other clients.
    #[must_use]
    pub fn new(config: ClientConfig, me: PublicKey, seed: [u8; 32]) -> Self {
        Self {
            heard: Heard::new(&config.limits),
            relay: RelayLimit::new(&config.limits),
            downloads: Downloads::new(&config.limits),
            streams: Streams::new(&config.limits),
            config,
            me,
            session: Session::default(),
            pending: PendingCalls::default(),
            tokens: Tokens::new(seed),
            probe: Probe::default(),
            uploads: Uploads::default(),
            greeting: Greeting::default(),
            loose: LooseEnds::default(),
            asked: Asked::default(),
            unique: Unique::default(),
            harmless: HarmlessTools::default(),
            facts: Facts::default(),
            chance: Chance::new(seed),
            next_ticket: 0,
            settling: None,
            clock_ahead: 0,
            closed: false,
            outputs: VecDeque::new(),
        }
    }

    /// Takes one input; drain the outputs afterwards.
    pub fn handle(&mut self, input: ClientInput, now: Now) {
        match input {
            ClientInput::Opened(opened) => self.on_opened(*opened, now),
            ClientInput::Send(message) => self.on_send(message, false, now),
            ClientInput::SendReading(message) => self.on_send(message, true, now),
            ClientInput::Taken { id, chunks } => self.on_taken(&id, chunks, now),
            ClientInput::StopReading { id, reason } => self.on_stop_reading(&id, reason.as_deref(), now),
            ClientInput::RelayLimit(bytes) => self.relay.set(bytes),
            ClientInput::Published(ticket, outcome) => self.on_published(ticket, &outcome, now),
            ClientInput::RelayUp => self.on_relay_up(now),
            ClientInput::ClockAhead(seconds) => self.clock_ahead = seconds,
            ClientInput::Close => self.on_close(now),
            ClientInput::Wake => self.on_wake(now),
        }
        self.pump_uploads(now);
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Option<ClientOutput> {
        self.outputs.pop_front()
    }

    /// Returns when to come back, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Mono, Wake)> {
        let loose = self.loose.next_due().map(|at| (at, Wake::Retry));
        let asked = self.asked.next_due().map(|at| (at, Wake::Expiry));
        let uploads = self.uploads.next_due().map(|at| (at, Wake::Retry));
        let downloads = self.downloads.next_due().map(|at| (at, Wake::Deadline));
        let streams = self.streams.next_due().map(|at| (at, Wake::Deadline));
        let greeting = self.greeting.next_due().map(|at| (at, Wake::Retry));
        let settled = self.settling.map(|(_, at)| (at, Wake::Retry));
        let all = [self.pending.next_due(), settled, loose, asked, greeting, uploads, downloads, streams];
        all.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Returns what the server has said about itself.
    #[must_use]
    pub const fn server_tags(&self) -> &PeerTags {
        &self.session.tags
    }

    /// Returns how many calls wait for an answer.
    #[must_use]
    pub fn pending_calls(&self) -> usize {
        self.pending.len()
    }

    /// Returns the event that answered `initialize` or `server/discover`, else the first one with discovery tags.
    #[must_use]
    pub fn initialize_event(&self) -> Option<&Event> {
        let answer = self.facts.initialize.as_ref().map(|(event, _)| event);
        answer.or(self.facts.first_tagged.as_ref())
    }

    /// Returns the result of the latest `initialize` or `server/discover`, in the server's own text.
    #[must_use]
    pub fn initialize_result(&self) -> Option<&RawValue> {
        self.facts.initialize.as_ref().map(|(_, result)| &**result)
    }

    /// Returns the latest event that answered `tools/list`; its `cap` tags are prices.
    #[must_use]
    pub const fn tools_list_event(&self) -> Option<&Event> {
        self.facts.tools.as_ref()
    }

    /// Returns the latest event that answered `resources/list`.
    #[must_use]
    pub const fn resources_list_event(&self) -> Option<&Event> {
        self.facts.resources.as_ref()
    }

    /// Returns the latest event that answered `resources/templates/list`.
    #[must_use]
    pub const fn resource_templates_list_event(&self) -> Option<&Event> {
        self.facts.templates.as_ref()
    }

    /// Returns the latest event that answered `prompts/list`.
    #[must_use]
    pub const fn prompts_list_event(&self) -> Option<&Event> {
        self.facts.prompts.as_ref()
    }

    /// Whether the server was seen to understand gift wraps: it said so, or it sent one.
    #[must_use]
    pub const fn server_supports_encryption(&self) -> bool {
        self.session.tags.encryption || self.session.floor
    }

    /// Whether the server was seen to understand ephemeral gift wraps: it said so, or it sent one.
    #[must_use]
    pub const fn server_supports_ephemeral_encryption(&self) -> bool {
        self.session.knows_ephemeral()
    }
}
