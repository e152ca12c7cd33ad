//! What a server must not forget across a restart, as records for a store.
use alloc::string::String;

use contextvm_core::{Draft, Protection};

use crate::RequestKey;

/// One thing to keep. Records of one server are kept, and given to [`ServerMachine::restore`](crate::ServerMachine::restore),
/// in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An event is acted on, and never again. May be forgotten once its stamp is older than the age window and the skew.
    Accepted {
        /// Who signed it, and its inner id.
        key: RequestKey,
        /// Its `created_at`, Unix seconds.
        stamp: u64,
        /// How it travelled.
        protection: Protection,
        /// What it was.
        origin: Origin,
    },
    /// A request was answered. May be forgotten `ledger_ttl` after the draft's stamp, and beyond `ledger_bytes` the oldest first.
    Answered {
        /// The request.
        key: RequestKey,
        /// The answer as it was signed.
        draft: Draft,
        /// How it travelled.
        protection: Protection,
    },
}

/// What an accepted event was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A notification or an answer: nobody waits for anything.
    Note,
    /// A request in one event.
    Request,
    /// The end frame of a transferred request. It does not hold the caller's own JSON-RPC id, which is kept here as it
    /// was written, 128 bytes at most.
    Transfer(String),
}
