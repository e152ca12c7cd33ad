//! What a hostile peer publishes, and what it may therefore cause.
use nostr::event::{Event, EventId};
use nostr::key::PublicKey;

/// One publication of a hostile peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// Microseconds from now.
    pub after: u64,
    /// The outer event, finished.
    pub event: Event,
    /// What a server may execute because of it; `None`: nothing that was not issued elsewhere.
    pub issue: Option<Issue>,
}

/// A request or notification that really was signed by its author for its server: the only kind of thing a server may execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Who signed it.
    pub author: PublicKey,
    /// For whom.
    pub server: PublicKey,
    /// Under which inner id it is executed; for a transfer that of its last frame.
    pub id: EventId,
    /// The JSON-RPC text.
    pub content: String,
}
