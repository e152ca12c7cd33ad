//! The client endpoint: pending, session, retry.
mod asked;
mod chance;
mod ending;
mod facts;
mod heard;
mod incoming;
mod json;
mod loose;
mod outgoing;
mod pending;
mod retry;
mod session;
mod stateless;
mod timing;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use contextvm_core::{Mono, Now, Opened, PeerTags, Protection};
use nostr::event::{Event, EventId};
use nostr::key::PublicKey;
use serde_json::value::RawValue;

use self::asked::Asked;
use self::chance::Chance;
use self::facts::Facts;
use self::heard::Heard;
use self::loose::LooseEnds;
use self::pending::PendingCalls;
use self::retry::HarmlessTools;
use self::session::Session;
use crate::unique::Unique;
use crate::{ClientConfig, DropReason, Outbound, Outcome, Ticket, Wake};

pub use self::ending::{LOST_CODE, MALFORMED_CODE};

/// What a [`ClientMachine`] is told.
#[derive(Clone, Debug)]
pub enum ClientInput {
    /// An event came in and was checked.
    Opened(Box<Opened>),
    /// The application sends one JSON-RPC message.
    Send(String),
    /// A publication ended.
    Published(Ticket, Outcome),
    /// A relay connection came (back) up and its subscription is live.
    RelayUp,
    /// The client goes away: cancel what is open, end every pending call.
    Close,
    /// A time that [`ClientMachine::poll_timeout`] named has come.
    Wake,
}

/// Why a call ended without an answer of the server. It is also delivered as a JSON-RPC error.
///
/// [`Self::TooLarge`] and [`Self::Malformed`] are also reported, without an error to deliver, for a message that is
/// no call: a notification over the limit, or text in which no id can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Lost {
    /// No answer within the request timeout.
    NoReply,
    /// No relay took the request.
    NotSent,
    /// The client was closed.
    Closed,
    /// Too many calls wait already.
    Busy,
    /// The message is larger than one event may be.
    TooLarge,
    /// The message is not valid JSON-RPC.
    Malformed,
}

/// The two signed inner events of one answered call, and how the answer travelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The id of the event that asked.
    pub request: EventId,
    /// The id of the event that answered.
    pub response: EventId,
    /// Plain or wrapped, as the answer came.
    pub protection: Protection,
}

/// What a [`ClientMachine`] wants done.
#[derive(Clone, Debug)]
#[must_use]
pub enum ClientOutput {
    /// Sign, seal, publish; keep the signed inner event and the outer event under the ticket until [`Self::Forget`].
    Publish(Outbound),
    /// Publish again what the ticket names: the same outer event, or a new wrap around the same signed inner event.
    Republish {
        /// The earlier publication.
        ticket: Ticket,
        /// Make a new gift wrap (ignored for plaintext).
        rewrap: bool,
    },
    /// The ticket is not needed any more.
    Forget(Ticket),
    /// Hand a JSON-RPC message to the application.
    Deliver {
        /// Answer (own id restored), error, notification or server request.
        message: String,
        /// The events behind it, when it is the server's answer to a call.
        exchange: Option<Exchange>,
    },
    /// A call ended without the server's answer; the JSON-RPC error was delivered before this.
    Lost(Lost),
    /// The server said something new about itself.
    Learned,
    /// Something inbound was not acted on.
    Drop(DropReason),
}

/// The client endpoint: one client key talking to one server key.
///
/// Every request given to it ends exactly once: with an answer, with an error that it delivers itself, with the
/// application's own cancellation, or, if it is a subscription, with the server's. Worst-case memory: `limits.pending` calls and `limits.in_flight_bytes` of
/// what they say, `limits.outbound_events` events that nobody answers (held by the driver), two generations of at most
/// 8,192 inner ids, 65,536 ids of its own, 4,096 tool names and six events.
#[derive(Debug)]
pub struct ClientMachine {
    config: ClientConfig,
    me: PublicKey,
    session: Session,
    pending: PendingCalls,
    loose: LooseEnds,
    asked: Asked,
    heard: Heard,
    unique: Unique,
    harmless: HarmlessTools,
    facts: Facts,
    chance: Chance,
    next_ticket: u64,
    closed: bool,
    outputs: VecDeque<ClientOutput>,
}

impl ClientMachine {
    /// Makes an endpoint; the seed only spreads retries.
    #[must_use]
    pub fn new(config: ClientConfig, me: PublicKey, seed: [u8; 32]) -> Self {
        Self {
            heard: Heard::new(&config.limits),
            config,
            me,
            session: Session::default(),
            pending: PendingCalls::default(),
            loose: LooseEnds::default(),
            asked: Asked::default(),
            unique: Unique::default(),
            harmless: HarmlessTools::default(),
            facts: Facts::default(),
            chance: Chance::new(seed),
            next_ticket: 0,
            closed: false,
            outputs: VecDeque::new(),
        }
    }

    /// Takes one input; drain the outputs afterwards.
    pub fn handle(&mut self, input: ClientInput, now: Now) {
        match input {
            ClientInput::Opened(opened) => self.on_opened(*opened, now),
            ClientInput::Send(message) => self.on_send(message, now),
            ClientInput::Published(ticket, outcome) => self.on_published(ticket, &outcome, now),
            ClientInput::RelayUp => self.on_relay_up(now),
            ClientInput::Close => self.on_close(now),
            ClientInput::Wake => self.on_wake(now),
        }
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
        [self.pending.next_due(), loose, asked].into_iter().flatten().min_by_key(|(at, _)| *at)
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
