//! The announcing machine: what a server publishes about itself, when, and with which stamp (CEP-6, 15, 17, 23).
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use contextvm_core::{Limits, Mono, Now, kind};
use nostr::event::{EventId, Tag};
use nostr::key::PublicKey;
use serde_json::value::RawValue;

use crate::schema::{CommonSchemas, SchemaNote};
use crate::{DocumentKind, Price, Profile, Unsigned};

mod compose;
mod error;
mod greeting;
mod listing;
mod pages;
mod pause;
mod slot;

pub use compose::caps_for;
pub use error::AnnounceError;

use greeting::Greeting;
use listing::Listing;
use pause::Quiet;
use slot::Slot;

/// The public relays that announcements go to, beside those where a server serves, unless its operator says otherwise;
/// clients look for servers there.
pub const BOOTSTRAP_RELAYS: [&str; 6] = [
    "wss://relay.damus.io",
    "wss://relay.primal.net",
    "wss://nos.lol",
    "wss://relay.snort.social/",
    "wss://nostr.mom/",
    "wss://nostr.oxtr.dev/",
];

/// Silence after a change before anything is asked or published again.
pub const QUIET: Duration = Duration::from_secs(2);
/// Longest time that changes which keep coming put a publication off, the first time.
pub const LATEST: Duration = Duration::from_secs(10);
/// Longest rest between publications of changes that keep coming: it grows from [`QUIET`] on.
pub const REST: Duration = Duration::from_secs(600);
/// Most pages of one list; a longer list is not published.
pub const MOST_PAGES: usize = 64;

/// What a server publishes about itself.
#[derive(Clone, Debug)]
pub struct AnnouncerConfig {
    /// Whether the server and its lists are published (11316-11320). Without it the MCP application is asked nothing.
    pub announce: bool,
    /// The discovery tags of the endpoint, in the order in which it sends them.
    pub discovery: Vec<Tag>,
    /// Prices, announced as `cap` tags.
    pub prices: Vec<Price>,
    /// Which tools follow a common schema (CEP-15).
    pub schemas: CommonSchemas,
    /// The relays of the relay list (10002); `None` publishes none.
    pub relay_list: Option<Vec<String>>,
    /// The profile (0); `None` publishes none.
    pub profile: Option<Profile>,
    /// Largest event that is published, bytes of JSON; 128 KiB.
    pub event_bytes: usize,
}

impl Default for AnnouncerConfig {
    /// Publishes nothing.
    fn default() -> Self {
        Self {
            announce: false,
            discovery: Vec::new(),
            prices: Vec::new(),
            schemas: CommonSchemas::default(),
            relay_list: None,
            profile: None,
            event_bytes: Limits::default().event,
        }
    }
}

/// What the MCP application said to a question.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A result.
    Result(Box<RawValue>),
    /// A JSON-RPC error with this code.
    Error(i64),
    /// Nothing, or nothing that can be read; there will be no other answer.
    Silence,
}

/// What an [`Announcer`] is told.
#[derive(Clone, Debug)]
pub enum AnnouncerInput {
    /// An own event that a relay holds, or the stamp of a deletion of its kind: later ones are stamped higher.
    Known {
        /// Its kind.
        kind: u16,
        /// Its stamp, Unix seconds.
        created_at: u64,
        /// Its id, unless it was deleted.
        id: Option<EventId>,
    },
    /// Begin, or ask everything anew.
    Start,
    /// The session with the MCP application is over: nothing that was asked is answered any more.
    Ended,
    /// The MCP application answered a question.
    Answered {
        /// The number of the question.
        ask: u64,
        /// What it said.
        answer: Answer,
    },
    /// The MCP application sent a notification with this method.
    Heard(String),
    /// Something about the server changed: prices, relays, profile, identity.
    Configure(Box<AnnouncerConfig>),
    /// There are more relays than before: what was published goes out again, unchanged.
    Repeat,
    /// What became of a publication: whether at least one relay has it.
    Published {
        /// The number of the publication.
        ticket: u64,
        /// Whether a relay has it.
        taken: bool,
    },
    /// A time that [`Announcer::poll_timeout`] named has come.
    Wake,
}

/// What an [`Announcer`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum AnnouncerOutput {
    /// Open a session with the MCP application, in place of the one before; all that follows goes there.
    Open,
    /// Send a request to the MCP application, and report the answer under this number.
    Ask {
        /// The number of the question.
        ask: u64,
        /// JSON-RPC method.
        method: &'static str,
        /// JSON text of `params`, an object.
        params: String,
    },
    /// Send a notification without `params` to the MCP application.
    Tell(&'static str),
    /// Sign this event, publish it to every relay, and report what became of it under this number.
    Publish {
        /// The number of the publication. A publication that is repeated has a new number and the same event.
        ticket: u64,
        /// The event.
        event: Unsigned,
    },
    /// Something could not be published. The machine goes on, and tries again where that may help.
    Failed(AnnounceError),
    /// Something about a common tool that the operator should know.
    Noted(SchemaNote),
    /// There is nothing left to ask or to publish for now; what no relay took is tried again later, as are changes that keep
    /// coming.
    Settled,
}

/// Why an [`Announcer`] wants to be called at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AnnounceWake {
    /// The MCP application has had its time to answer.
    Answer,
    /// Changes have ceased for long enough, or have come for too long, and those before them are long enough ago.
    Quiet,
    /// Something that failed is tried again.
    Retry,
}

/// Decides what a server publishes about itself.
///
/// It asks the MCP application who it is and what it offers, in whichever era the application speaks, and publishes one event
/// per kind: again when its words differ, stamped higher than any before, and until a relay takes it. A list that the
/// application no longer has is deleted. Memory: the answers, and two copies of each event.
#[derive(Debug)]
pub struct Announcer {
    me: PublicKey,
    config: AnnouncerConfig,
    greeting: Greeting,
    listings: BTreeMap<DocumentKind, Listing>,
    slots: BTreeMap<u16, Slot>,
    /// The configuration changed and nothing was published since.
    reworded: Quiet,
    /// What was said last about common tools.
    notes: Vec<SchemaNote>,
    started: bool,
    settled: bool,
    number: u64,
    out: VecDeque<AnnouncerOutput>,
}

impl Announcer {
    /// Makes the machine of a server with this key. It does nothing before it is told to start.
    #[must_use]
    pub fn new(me: PublicKey, config: AnnouncerConfig) -> Self {
        let kinds = DocumentKind::ALL.into_iter().map(DocumentKind::kind);
        let slots = kinds.chain([kind::PROFILE, kind::RELAY_LIST]).map(|kind| (kind, Slot::new(kind)));
        Self {
            me,
            config,
            greeting: Greeting::default(),
            listings: DocumentKind::LISTS
                .into_iter()
                .map(|document| (document, Listing::new(document)))
                .collect(),
            slots: slots.collect(),
            reworded: Quiet::default(),
            notes: Vec::new(),
            started: false,
            settled: true,
            number: 0,
            out: VecDeque::new(),
        }
    }

    /// Takes one input; drain the outputs afterwards.
    pub fn handle(&mut self, input: AnnouncerInput, now: Now) {
        match input {
            AnnouncerInput::Known { kind, created_at, id } => {
                if let Some(slot) = self.slots.get_mut(&kind) {
                    slot.known(created_at, id);
                }
            }
            AnnouncerInput::Start => {
                self.started = true;
                self.settled = false;
                if self.config.announce {
                    self.greet(now);
                }
                self.compose();
            }
            AnnouncerInput::Ended => self.on_ended(now),
            AnnouncerInput::Answered { ask, answer } => self.on_answer(ask, answer, now),
            AnnouncerInput::Heard(method) => self.on_heard(&method, now),
            AnnouncerInput::Configure(config) => self.on_configure(*config, now),
            AnnouncerInput::Repeat => self.slots.values_mut().for_each(|slot| slot.repeat(now.mono)),
            AnnouncerInput::Published { ticket, taken } => {
                for slot in self.slots.values_mut() {
                    slot.on_outcome(ticket, taken, now);
                }
            }
            AnnouncerInput::Wake => {}
        }
        if self.started {
            self.advance(now);
        }
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Option<AnnouncerOutput> {
        self.out.pop_front()
    }

    /// Returns when to come back, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Mono, AnnounceWake)> {
        let lists = self.listings.values().filter_map(Listing::timeout);
        let slots = self.slots.values().filter_map(Slot::timeout).map(|at| (at, AnnounceWake::Retry));
        let reworded = self.reworded.at().map(|at| (at, AnnounceWake::Quiet));
        lists.chain(slots).chain(reworded).chain(self.greeting.timeout()).min_by_key(|(at, _why)| *at)
    }

    /// Whether it has started and there is nothing left to ask or to publish for now.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.started && self.settled
    }

    fn on_heard(&mut self, method: &str, now: Now) {
        let changed: &[DocumentKind] = match method {
            "notifications/tools/list_changed" => &[DocumentKind::Tools],
            "notifications/resources/list_changed" => {
                &[DocumentKind::Resources, DocumentKind::ResourceTemplates]
            }
            "notifications/prompts/list_changed" => &[DocumentKind::Prompts],
            _ => &[],
        };
        for document in changed {
            if let Some(listing) = self.listings.get_mut(document) {
                listing.changed(now.mono);
            }
        }
    }

    fn on_configure(&mut self, config: AnnouncerConfig, now: Now) {
        let begins = config.announce && !self.config.announce;
        self.config = config;
        if !self.started {
            return;
        }
        self.reworded.poke(now.mono);
        if begins {
            self.greet(now);
        } else if !self.config.announce {
            self.greeting = Greeting::default();
            self.listings.values_mut().for_each(|listing| *listing = Listing::new(listing.document()));
        }
    }

    /// Does what is due, publishes what is worded otherwise than before, and says once when nothing is left.
    fn advance(&mut self, now: Now) {
        if self.reworded.take_due(now.mono) {
            self.compose();
        }
        self.advance_greeting(now);
        self.advance_lists(now);
        for slot in self.slots.values_mut() {
            let ticket = self.number + 1;
            let Some(event) = slot.next(&self.me, ticket, now) else { continue };
            self.number = ticket;
            if let Some(error) = AnnounceError::ahead(&event, now.unix) {
                self.out.push_back(AnnouncerOutput::Failed(error));
            }
            self.out.push_back(AnnouncerOutput::Publish { ticket, event });
        }
        let is_busy = self.greeting.is_busy()
            || self.reworded.is_pressing()
            || self.listings.values().any(Listing::is_busy)
            || self.slots.values().any(Slot::is_busy);
        if !is_busy && !self.settled {
            self.out.push_back(AnnouncerOutput::Settled);
        }
        self.settled = !is_busy;
    }

    fn ask(&mut self, method: &'static str, params: String) -> u64 {
        self.number += 1;
        self.out.push_back(AnnouncerOutput::Ask { ask: self.number, method, params });
        self.number
    }

    fn fail(&mut self, error: AnnounceError) {
        self.out.push_back(AnnouncerOutput::Failed(error));
    }
}
