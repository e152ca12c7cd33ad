//! Drafts: events whose id is known before a signature exists.
use alloc::string::String;
use nostr::event::{EventId, Kind, Tags};
use nostr::key::PublicKey;
use nostr::types::Timestamp;

use crate::kind;

/// Which gift wrap carries an inner event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WrapKind {
    /// Kind 1059 (CEP-4).
    Persistent,
    /// Kind 21059 (CEP-19).
    Ephemeral,
}

impl WrapKind {
    /// Returns the outer event kind.
    #[must_use]
    pub const fn kind(self) -> u16 {
        match self {
            Self::Persistent => kind::GIFT_WRAP,
            Self::Ephemeral => kind::EPHEMERAL_GIFT_WRAP,
        }
    }

    /// Returns the wrap of an outer event kind, if it is one.
    #[must_use]
    pub const fn from_kind(kind: u16) -> Option<Self> {
        match kind {
            kind::GIFT_WRAP => Some(Self::Persistent),
            kind::EPHEMERAL_GIFT_WRAP => Some(Self::Ephemeral),
            _ => None,
        }
    }
}

/// How an inner event travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protection {
    /// In clear, as kind 25910.
    Plain,
    /// Inside a gift wrap.
    Wrapped(WrapKind),
}

impl Protection {
    /// Whether the content is encrypted.
    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        matches!(self, Self::Wrapped(_))
    }
}

/// An unsigned kind 25910 event with its id already computed (NIP-01).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Hash of the unsigned event: the correlation id of everything that answers it.
    pub id: EventId,
    /// The author, who will sign.
    pub author: PublicKey,
    /// Unix seconds.
    pub created_at: u64,
    /// Tags in wire order, `p` first.
    pub tags: Tags,
    /// Exactly one JSON-RPC message.
    pub content: String,
}

impl Draft {
    /// Hashes the event and keeps it for signing.
    #[must_use]
    pub fn new(author: PublicKey, created_at: u64, tags: Tags, content: String) -> Self {
        let id = EventId::compute(
            &author,
            &Timestamp::from_secs(created_at),
            &Kind::from_u16(kind::MESSAGE),
            &tags,
            &content,
        );
        Self { id, author, created_at, tags, content }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrap_is_known_by_its_kind() {
        for wrap in [WrapKind::Persistent, WrapKind::Ephemeral] {
            assert_eq!(WrapKind::from_kind(wrap.kind()), Some(wrap));
            assert!(Protection::Wrapped(wrap).is_encrypted());
        }
        assert_eq!(WrapKind::from_kind(kind::MESSAGE), None);
        assert!(!Protection::Plain.is_encrypted());
    }
}
