//! Tags: their names, and what a peer says about itself in them (CEP-35).
use alloc::{string::String, vec::Vec};
use nostr::event::{EventId, Tag, Tags};
use nostr::key::PublicKey;

use crate::event;

/// The recipient; always the first tag.
pub const RECIPIENT: &str = "p";
/// The inner event that is answered; directly after the recipient.
pub const ANSWERED: &str = "e";
/// Identity: the server's name.
pub const NAME: &str = "name";
/// Identity: what the server is for.
pub const ABOUT: &str = "about";
/// Identity: the server's web site.
pub const WEBSITE: &str = "website";
/// Identity: the server's picture.
pub const PICTURE: &str = "picture";

/// Flag: the sender understands gift wraps (CEP-4).
pub const SUPPORT_ENCRYPTION: &str = "support_encryption";
/// Flag: the sender understands ephemeral gift wraps (CEP-19).
pub const SUPPORT_ENCRYPTION_EPHEMERAL: &str = "support_encryption_ephemeral";
/// Flag: the sender understands oversized transfers (CEP-22).
pub const SUPPORT_OVERSIZED_TRANSFER: &str = "support_oversized_transfer";
/// Flag: the sender understands open streams (CEP-41).
pub const SUPPORT_OPEN_STREAM: &str = "support_open_stream";
/// Flag of ours: the client answers requests that a server sends (docs/EXTENSIONS.md).
pub const SUPPORT_SERVER_REQUESTS: &str = "support_server_requests";
/// Flag of ours: the server executes an inner id at most once and answers repeats alike (docs/EXTENSIONS.md).
pub const SUPPORT_REPEATS: &str = "support_repeats";
/// Flag of ours: the client puts the frames of a stream in order itself (docs/EXTENSIONS.md).
pub const SUPPORT_UNORDERED_STREAMS: &str = "support_unordered_streams";

/// What one peer has said about itself, merged over all its events.
///
/// Flags are OR-latched, identity is first-wins, unknown tags are kept as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerTags {
    /// Understands gift wraps (CEP-4).
    pub encryption: bool,
    /// Understands ephemeral gift wraps (CEP-19).
    pub ephemeral: bool,
    /// Understands oversized transfers (CEP-22).
    pub oversized: bool,
    /// Understands open streams (CEP-41).
    pub open_stream: bool,
    /// Answers requests from the server (docs/EXTENSIONS.md).
    pub server_requests: bool,
    /// Keeps promises P2 and P3, so that a request may be sent again (docs/EXTENSIONS.md).
    pub repeats: bool,
    /// Reads streams whose frames come in any order (docs/EXTENSIONS.md).
    pub unordered_streams: bool,
    /// `name`, first seen.
    pub name: Option<String>,
    /// `about`, first seen.
    pub about: Option<String>,
    /// `website`, first seen.
    pub website: Option<String>,
    /// `picture`, first seen.
    pub picture: Option<String>,
    /// Every discovery tag of the first event that had any, in wire order, unknown ones included; those that go beyond
    /// [`PeerTags::RAW_BYTES`] are left out.
    pub raw: Vec<Tag>,
}

impl PeerTags {
    /// Most bytes of one peer's tags that are kept, of the identity and of the raw list alike.
    pub const RAW_BYTES: usize = 16 * 1024;

    /// Learns from the tags of one event and says whether anything was new.
    ///
    /// A flag counts whatever follows its name. Texts of the identity that are too long are not taken.
    pub fn learn(&mut self, tags: &Tags) -> bool {
        let mut new = false;
        for tag in tags.iter().filter(|tag| is_discovery(tag)) {
            let value = tag.content().filter(|value| value.len() <= Self::RAW_BYTES / 4);
            new |= match tag.kind() {
                SUPPORT_ENCRYPTION => latch(&mut self.encryption),
                SUPPORT_ENCRYPTION_EPHEMERAL => latch(&mut self.ephemeral),
                SUPPORT_OVERSIZED_TRANSFER => latch(&mut self.oversized),
                SUPPORT_OPEN_STREAM => latch(&mut self.open_stream),
                SUPPORT_SERVER_REQUESTS => latch(&mut self.server_requests),
                SUPPORT_REPEATS => latch(&mut self.repeats),
                SUPPORT_UNORDERED_STREAMS => latch(&mut self.unordered_streams),
                NAME => keep_first(&mut self.name, value),
                ABOUT => keep_first(&mut self.about, value),
                WEBSITE => keep_first(&mut self.website, value),
                PICTURE => keep_first(&mut self.picture, value),
                _ => false,
            };
        }
        if self.raw.is_empty() {
            self.raw = first_bytes(tags.iter().filter(|tag| is_discovery(tag)), Self::RAW_BYTES);
            new |= !self.raw.is_empty();
        }
        new
    }

    /// Returns the first raw tag of this name.
    #[must_use]
    pub fn raw_tag(&self, name: &str) -> Option<&Tag> {
        self.raw.iter().find(|tag| tag.kind() == name)
    }
}

/// Whether a tag says something about its sender: every tag but `p` and `e`.
#[must_use]
pub fn is_discovery(tag: &Tag) -> bool {
    !matches!(tag.kind(), RECIPIENT | ANSWERED)
}

/// Whether somebody says in an event what it understands, as it does to whom it does not know.
#[must_use]
pub fn introduces(tags: &Tags) -> bool {
    const FLAGS: [&str; 3] = [SUPPORT_ENCRYPTION, SUPPORT_OVERSIZED_TRANSFER, SUPPORT_OPEN_STREAM];
    tags.iter().any(|tag| FLAGS.contains(&tag.kind()))
}

/// Makes the `p` tag.
#[must_use]
pub fn recipient(key: &PublicKey) -> Tag {
    Tag::custom(RECIPIENT, [key.to_hex()])
}

/// Makes the `e` tag.
#[must_use]
pub fn answered(inner: &EventId) -> Tag {
    Tag::custom(ANSWERED, [inner.to_hex()])
}

/// Makes a flag: a name and nothing else, because other implementations ignore a flag with a value.
#[must_use]
pub fn flag(name: &str) -> Tag {
    Tag::custom(name, core::iter::empty::<String>())
}

/// Makes a tag of a name and one value.
#[must_use]
pub fn valued(name: &str, value: &str) -> Tag {
    Tag::custom(name, [value])
}

/// Returns the inner event that is answered: element 1 of the first `e` tag, whatever follows it.
#[must_use]
pub fn answered_id(tags: &Tags) -> Option<EventId> {
    let tag = tags.iter().find(|tag| tag.kind() == ANSWERED)?;
    event::read_id(tag.content()?)
}

/// Whether there is an `e` tag, well-formed or not.
#[must_use]
pub fn is_correlated(tags: &Tags) -> bool {
    tags.iter().any(|tag| tag.kind() == ANSWERED)
}

const fn latch(flag: &mut bool) -> bool {
    !core::mem::replace(flag, true)
}

fn keep_first(place: &mut Option<String>, value: Option<&str>) -> bool {
    let new = place.is_none() && value.is_some();
    if new {
        *place = value.map(String::from);
    }
    new
}

/// Clones the tags that fit into a budget.
fn first_bytes<'a>(tags: impl Iterator<Item = &'a Tag>, budget: usize) -> Vec<Tag> {
    let mut left = budget;
    let fitting = tags.filter_map(|tag| {
        // A string costs its text and its header.
        let cost: usize = tag.as_slice().iter().map(|element| element.len() + size_of::<String>()).sum();
        left = left.checked_sub(cost + size_of::<Tag>())?;
        Some(tag.clone())
    });
    fitting.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn tags(list: &[&[&str]]) -> Tags {
        Tags::parse(list.iter().map(|tag| tag.iter().map(ToString::to_string))).unwrap()
    }

    #[test]
    fn flags_are_latched_by_name_whatever_follows() {
        let mut peer = PeerTags::default();
        assert!(peer.learn(&tags(&[&["p", "k"], &["support_encryption", "true"], &["support_repeats"]])));
        assert!(peer.encryption && peer.repeats && !peer.ephemeral);
        assert!(peer.learn(&tags(&[
            &["support_encryption_ephemeral"],
            &["support_oversized_transfer"],
            &["support_open_stream", ""],
            &["support_server_requests"],
        ])));
        assert!(
            peer.encryption && peer.ephemeral && peer.oversized && peer.open_stream && peer.server_requests
        );
        assert!(!peer.learn(&tags(&[&["p", "k"], &["support_encryption"]])));
    }

    #[test]
    fn the_first_identity_wins_and_the_rest_is_filled_in() {
        let mut peer = PeerTags::default();
        assert!(peer.learn(&tags(&[&["name", "first"], &["name", "twice"], &["about"]])));
        assert!(peer.learn(&tags(&[
            &["name", "later"],
            &["about", "a"],
            &["website", "w"],
            &["picture", "p"]
        ])));
        assert_eq!(peer.name.as_deref(), Some("first"));
        assert_eq!(peer.about.as_deref(), Some("a"));
        assert_eq!(peer.website.as_deref(), Some("w"));
        assert_eq!(peer.picture.as_deref(), Some("p"));
    }

    #[test]
    fn raw_tags_are_those_of_the_first_event_that_has_any() {
        let mut peer = PeerTags::default();
        assert!(!peer.learn(&tags(&[&["p", "k"], &["e", "i"]])));
        assert!(peer.learn(&tags(&[
            &["p", "k"],
            &["x", "1", "2"],
            &["name", "n"],
            &["cap", "tool:a", "1", "sats"]
        ])));
        assert!(!peer.learn(&tags(&[&["y", "1"]])));
        assert_eq!(
            peer.raw,
            tags(&[&["x", "1", "2"], &["name", "n"], &["cap", "tool:a", "1", "sats"]]).to_vec()
        );
        assert_eq!(peer.raw_tag("x").and_then(Tag::content), Some("1"));
        assert_eq!(peer.raw_tag("y"), None);
    }

    #[test]
    fn tags_beyond_the_budget_are_left_out() {
        let long = "x".repeat(PeerTags::RAW_BYTES + 1);
        let mut peer = PeerTags::default();
        assert!(peer.learn(&tags(&[&["about", &long], &["name", "n"]])));
        assert_eq!(peer.about, None);
        assert_eq!(peer.raw, tags(&[&["name", "n"]]).to_vec());
    }

    #[test]
    fn builders_make_what_readers_read() {
        let key = PublicKey::from_byte_array([7; 32]);
        let id = EventId::from_byte_array([9; 32]);
        let made =
            Tags::from_list(alloc::vec![recipient(&key), answered(&id), flag("f"), valued("name", "n")]);
        assert_eq!(made, tags(&[&["p", &key.to_hex()], &["e", &id.to_hex()], &["f"], &["name", "n"]]));
        assert_eq!(answered_id(&made), Some(id));
        assert!(is_correlated(&made));
    }

    #[test]
    fn the_first_e_tag_counts_even_when_it_is_malformed() {
        let id = "09".repeat(32);
        let hinted = tags(&[&["p", "k"], &["e", &id, "wss://hint"], &["e", "zz"]]);
        assert_eq!(answered_id(&hinted).map(|id| id.to_hex()), Some(id.clone()));
        let (large, long) = ("0A".repeat(32), alloc::format!("{id}00"));
        for bad in [
            tags(&[&["e", "zz"], &["e", &id]]),
            tags(&[&["e"]]),
            tags(&[&["e", &large]]),
            tags(&[&["e", &long]]),
        ] {
            assert_eq!(answered_id(&bad), None);
            assert!(is_correlated(&bad));
        }
        assert!(!is_correlated(&tags(&[&["p", "k"]])));
    }
}
