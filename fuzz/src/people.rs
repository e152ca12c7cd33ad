//! Who takes part: fixed keys, a fixed clock, and events that really are signed.
use contextvm_core::{Draft, Opened, Protection, WrapKind};
use contextvm_crypto::Keys;
use nostr::event::{Event, Tag, Tags};
use nostr::key::PublicKey;

/// The Unix second at which every run starts.
pub const START: u64 = 1_700_000_000;

/// The ways in which an event travels.
pub const PROTECTIONS: [Protection; 3] =
    [Protection::Plain, Protection::Wrapped(WrapKind::Persistent), Protection::Wrapped(WrapKind::Ephemeral)];

/// The party with this number.
pub fn keys(number: u8) -> Keys {
    Keys::from_secret_bytes([number; 32]).expect("a small number is a key")
}

/// Tags that address somebody, with further ones behind.
pub fn tags(recipient: &PublicKey, more: impl IntoIterator<Item = Tag>) -> Tags {
    let mut tags = vec![Tag::public_key(*recipient)];
    tags.extend(more);
    Tags::from_list(tags)
}

/// A signed message.
pub fn message(author: &Keys, created_at: u64, tags: Tags, content: String) -> Event {
    author.sign_draft(&Draft::new(author.public_key(), created_at, tags, content), [7; 32])
}

/// The event as the driver hands it to a machine, if it passes the checks.
pub fn opened(event: Event, protection: Protection, me: &PublicKey, now: u64) -> Option<Opened> {
    let outer = event.id;
    Opened::check(event, protection, outer, me, now, 600).ok()
}
