//! Keys and events for the unit tests.
use contextvm_crypto::Keys;
use nostr::event::{Event, Tag, Tags};

/// Makes a fixed key pair.
pub(crate) fn keys(number: u8) -> Keys {
    Keys::from_secret_bytes([number; 32]).unwrap()
}

/// Makes a signed event.
pub(crate) fn event(keys: &Keys, kind: u16, at: u64, tags: &[&[&str]], content: &str) -> Event {
    let tags = tags.iter().map(|tag| Tag::parse(tag.iter().copied()).unwrap()).collect();
    keys.sign_event(kind, at, Tags::from_list(tags), content.to_owned(), [7; 32])
}
