//! Events of any kind before they are signed.
use alloc::string::String;

use nostr::event::{EventId, Kind, Tags};
use nostr::key::PublicKey;
use nostr::types::Timestamp;

/// An event that lacks an author and a signature: what this crate drafts and a face signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned {
    /// Event kind.
    pub kind: u16,
    /// Unix seconds.
    pub created_at: u64,
    /// Tags in wire order.
    pub tags: Tags,
    /// Content as it will be signed.
    pub content: String,
}

impl Unsigned {
    /// Returns the id that the event has when this author signs it (NIP-01).
    #[must_use]
    pub fn id(&self, author: &PublicKey) -> EventId {
        let (stamp, kind) = (Timestamp::from_secs(self.created_at), Kind::from_u16(self.kind));
        EventId::compute(author, &stamp, &kind, &self.tags, &self.content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use contextvm_crypto::Keys;

    #[test]
    fn the_id_is_that_of_the_signed_event() {
        let keys = Keys::from_secret_bytes([0x11; 32]).unwrap();
        let tags = Tags::parse([["name", "a \"b\""]]).unwrap();
        let unsigned = Unsigned { kind: 11316, created_at: 1_700_000_000, tags, content: "{}\n".to_string() };
        let Unsigned { kind, created_at, tags, content } = unsigned.clone();
        let signed = keys.sign_event(kind, created_at, tags, content, [7; 32]);
        assert_eq!(unsigned.id(&keys.public_key()), signed.id);
    }
}
