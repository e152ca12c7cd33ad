//! Why something is not published.
use contextvm_core::Fault;

use crate::schema::SchemaError;
use crate::{FUTURE, Unsigned};

/// Why a server could not publish something about itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnounceError {
    /// The MCP application did not answer in time, or nothing that can be read.
    #[error("the mcp server did not answer {method}")]
    NoAnswer {
        /// What it was asked.
        method: &'static str,
    },
    /// The MCP application answered with an error.
    #[error("the mcp server refused {method} with code {code}")]
    Refused {
        /// What it was asked.
        method: &'static str,
        /// The JSON-RPC error code.
        code: i64,
    },
    /// The MCP application answered with something else than the result of the method.
    #[error("the mcp server's answer to {method} has not the form of its result")]
    Unreadable {
        /// What it was asked.
        method: &'static str,
    },
    /// A list has too many pages.
    #[error("the mcp server's answer to {method} has more than {limit} pages")]
    TooManyPages {
        /// What it was asked.
        method: &'static str,
        /// Most pages.
        limit: usize,
    },
    /// An event would be larger than allowed.
    #[error("the event of kind {kind} would have {bytes} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Its kind.
        kind: u16,
        /// Bytes that it would have, at least.
        bytes: usize,
        /// Most bytes.
        limit: usize,
    },
    /// An event would have more tags than readers take.
    #[error("the tags of the event of kind {kind} would be {values} json values, at most {limit} are read")]
    TooManyTags {
        /// Its kind.
        kind: u16,
        /// Values that they would be: the list, its tags and their elements.
        values: usize,
        /// Most values.
        limit: usize,
    },
    /// The tools were published without their schema hashes.
    #[error("the tools have no schema hashes: {0}")]
    Schema(SchemaError),
    /// An earlier event of this kind is stamped in the future, and so is the one that replaces it: readers ignore both until
    /// then, unless both are deleted by their ids and the server is started again.
    #[error(
        "the event of kind {kind} is stamped {seconds} seconds ahead, to replace an earlier one: delete both and start again"
    )]
    Ahead {
        /// Its kind.
        kind: u16,
        /// How far ahead of our clock, seconds.
        seconds: u64,
    },
}

impl AnnounceError {
    /// Says who misbehaved: the MCP application, its configuration or its clock, all of this host.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        Fault::Local
    }

    /// Returns a complaint when an event is stamped further ahead than readers accept.
    pub(super) fn ahead(event: &Unsigned, unix: u64) -> Option<Self> {
        let seconds = event.created_at.saturating_sub(unix);
        (seconds > FUTURE.as_secs()).then_some(Self::Ahead { kind: event.kind, seconds })
    }
}
