//! Malformed inputs with their names and the verdict that each must meet.
//!
//! Each case states what the specification wants of it: NIP-01, NIP-11, NIP-44, JSON-RPC, CEP-4, CEP-6, CEP-17, CEP-22, CEP-41, and
//! where they leave it open our own rule that no text may be read in two ways. The verdicts stand in `tables/`, one line per
//! name, so that another verdict is a line in a diff. [`judge`] runs a case through the pure crates.
//!
//! A verdict is one word for the place and one for the reason: `gate ...` before any cryptography, `open ...` before the event
//! is believed, `drop ...` by the machine, `taken` when the application gets it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::too_many_lines,
    reason = "it makes the inputs of tests, mostly tables; a mistake in it is to stop them"
)]

mod documents;
mod events;
mod events_signed;
mod json;
pub mod judge;
mod messages;
mod messages_text;
mod relays;
mod streams;
mod streams_read;
pub mod table;
mod transfers;
mod transfers_declared;
pub mod world;
mod wraps;
mod wraps_inner;

use world::{Role, World};

/// One input, or a few in order.
#[derive(Clone, Debug)]
pub struct Case {
    /// Unique within its family: the group, and what is wrong.
    pub name: String,
    /// What goes in, in order: events, contents of events, relay frames or documents, as the family says.
    pub input: Vec<String>,
    /// The verdict.
    pub want: String,
}

/// What is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Plaintext events (NIP-01), as JSON.
    Events,
    /// Gift wraps (NIP-44, CEP-4, CEP-19), as JSON.
    Wraps,
    /// JSON-RPC messages: the content of one true event each.
    Messages,
    /// Frames of transfers (CEP-22): contents of true events.
    Transfers,
    /// Frames of streams (CEP-41): contents of true events.
    Streams,
    /// What a relay says (NIP-01, NIP-42, NIP-45).
    Relays,
    /// Announcements, lists and relay information (CEP-6, CEP-17, NIP-11): a kind and an event or a document.
    Documents,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Events,
        Self::Wraps,
        Self::Messages,
        Self::Transfers,
        Self::Streams,
        Self::Relays,
        Self::Documents,
    ];

    /// Returns the name of its table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Wraps => "wraps",
            Self::Messages => "messages",
            Self::Transfers => "transfers",
            Self::Streams => "streams",
            Self::Relays => "relays",
            Self::Documents => "documents",
        }
    }

    /// Returns the roles that meet such inputs differently; one stands for both where nothing depends on it.
    #[must_use]
    pub const fn roles(self) -> &'static [Role] {
        match self {
            Self::Events | Self::Wraps | Self::Messages | Self::Transfers | Self::Streams => {
                &[Role::Server, Role::Client]
            }
            Self::Relays | Self::Documents => &[Role::Client],
        }
    }

    /// Makes all cases that a role meets, always the same in the same world.
    #[must_use]
    pub fn cases(self, world: &World, role: Role) -> Vec<Case> {
        let mut cases = Cases { world, role, list: Vec::new() };
        match self {
            Self::Events => {
                events::add(&mut cases);
                events_signed::add(&mut cases);
            }
            Self::Wraps => {
                wraps::add(&mut cases);
                wraps_inner::add(&mut cases);
            }
            Self::Messages => {
                messages::add(&mut cases);
                messages_text::add(&mut cases);
            }
            Self::Transfers => {
                transfers::add(&mut cases);
                transfers_declared::add(&mut cases);
            }
            Self::Streams => {
                streams::add(&mut cases);
                streams_read::add(&mut cases);
            }
            Self::Relays => relays::add(&mut cases),
            Self::Documents => documents::add(&mut cases),
        }
        cases.list
    }
}

/// Cases in the making.
struct Cases<'a> {
    world: &'a World,
    role: Role,
    list: Vec<Case>,
}

impl Cases<'_> {
    fn add(&mut self, name: impl Into<String>, input: impl Into<String>, want: impl Into<String>) {
        self.add_all(name, vec![input.into()], want);
    }

    fn add_all(&mut self, name: impl Into<String>, input: Vec<String>, want: impl Into<String>) {
        self.list.push(Case { name: name.into(), input, want: want.into() });
    }

    /// A notification that nobody has seen before, which either role hands to its application.
    fn note(&self) -> String {
        let number = self.list.len();
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"info","data":"{number}"}}}}"#
        )
    }
}
