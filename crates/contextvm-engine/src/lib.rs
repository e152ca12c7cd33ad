//! The ContextVM endpoints as machines: they decide, they never touch a socket, a clock or a key.
#![no_std]
extern crate alloc;

pub mod client;
pub mod config;
pub mod drop;
mod flight;
pub mod gate;
pub mod record;
pub mod server;
mod size;
mod unique;

pub use client::{ClientInput, ClientMachine, ClientOutput, Direction, StreamNews, Transferred};
pub use config::{ClientConfig, EncryptionMode, GiftWrapMode, Identity, ServerConfig};
pub use contextvm_stream::{StreamEnd, StreamError};
pub use contextvm_transfer::TransferError;
pub use drop::DropReason;
pub use gate::{Gate, OuterEvent};
pub use record::{Origin, Record};
pub use server::{RequestKey, ServerInput, ServerLoad, ServerMachine, ServerOutput};

use contextvm_core::{Draft, Protection};
use nostr::event::EventId;
use nostr::key::PublicKey;

/// Names one publication between a machine and its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// An event that the driver must sign, seal as told, and publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// To be quoted in the outcome.
    pub ticket: Ticket,
    /// What to sign.
    pub draft: Draft,
    /// Whom to encrypt for.
    pub recipient: PublicKey,
    /// How it travels.
    pub protection: Protection,
    /// One of many frames of a transfer or a stream, which may be overtaken: nothing that is published later depends on it
    /// before its outcome is known.
    pub is_frame: bool,
    /// The request, by its inner event id, that this belongs to. The relays that delivered it are those at which its
    /// caller listens, and [`gate::Gate::via`] knows them: at any other this must not displace what is asked for there.
    ///
    /// Except for frames, nothing but the word of one of them counts as taken while one of them is connected.
    pub about: Option<EventId>,
    /// Which relays get it.
    pub reach: Reach,
}

/// Which relays get an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reach {
    /// All of them.
    #[default]
    All,
    /// Those that delivered the request that it belongs to; all, if these are not known or none of them is connected.
    /// What a stranger makes us say goes nowhere else, and has half of a relay's queue at most.
    Asked,
}

/// Why a machine wants to be called at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wake {
    /// A request reached its deadline.
    Deadline,
    /// A request or an answer is due to be sent again.
    Retry,
    /// An access decision is overdue.
    Access,
    /// The second of an event that was stamped ahead of our clock may have come.
    Early,
    /// A kept answer, an id or an idle session may be forgotten.
    Expiry,
}

/// What became of one publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A relay said `OK true` or `duplicate:`.
    Accepted,
    /// No relay answered in time; the event may or may not have been passed on.
    Unknown,
    /// Every relay refused, or none could be reached. The text is the first relay's, printable.
    Refused(alloc::string::String),
}
