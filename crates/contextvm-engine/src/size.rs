//! The exact size of a signed event before it is signed, and what fits into what relays take.
use contextvm_core::size::{SEAL_LIMIT, largest_inner_for, wrapped_event_size};
use contextvm_core::{Draft, Limits, Protection};

/// What relays take that say nothing about it, bytes of a whole message.
const USUAL: usize = 65_536;
/// What the message around an event takes at most: verb and subscription.
const AROUND_EVENT: usize = 256;
/// No relay makes us send in smaller pieces than this, bytes.
pub(crate) const LEAST: usize = 16 * 1024;

/// The largest event, as published, that the relays of an endpoint take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RelayLimit {
    bytes: usize,
    most: usize,
}

impl RelayLimit {
    /// Starts with what most relays take.
    pub(crate) fn new(limits: &Limits) -> Self {
        let mut limit = Self { bytes: 0, most: limits.event };
        limit.set(USUAL - AROUND_EVENT);
        limit
    }

    /// Learns what the relays say.
    pub(crate) fn set(&mut self, bytes: usize) {
        self.bytes = bytes.max(LEAST).min(self.most);
    }

    /// Learns from a refusal: half of it, as long as that is not too little.
    pub(crate) fn shrink(&mut self) {
        self.set(self.bytes / 2);
    }

    /// Whether an event with this content might be taken: a look that costs nothing.
    pub(crate) const fn may_take(self, content: &str) -> bool {
        content.len() < self.bytes
    }

    /// Whether the event can go as it is.
    pub(crate) fn takes(self, draft: &Draft, protection: Protection) -> bool {
        self.takes_len(event_len(draft), protection)
    }

    /// Whether an event of so many bytes of JSON can go as it is.
    pub(crate) const fn takes_len(self, event: usize, protection: Protection) -> bool {
        // What is larger than that is never sealed, however much relays take.
        let is_sealable = !protection.is_encrypted() || event <= SEAL_LIMIT;
        is_sealable && published_len(event, protection) <= self.bytes
    }

    /// Returns what a content may take in an event that is otherwise like this one, in bytes after escaping.
    pub(crate) fn content_room(self, empty: &Draft, protection: Protection) -> usize {
        let event = if protection.is_encrypted() { largest_inner_for(self.bytes) } else { self.bytes };
        event.saturating_sub(event_len(empty))
    }
}

/// Whether a relay refused an event because of its size.
pub(crate) fn is_about_size(refusal: &str) -> bool {
    let text = refusal.to_ascii_lowercase();
    // Some say how much there may be in a minute.
    if ["rate-limited:", "auth-required:", "pow:", "restricted:"]
        .iter()
        .any(|prefix| text.starts_with(prefix))
    {
        return false;
    }
    ["too large", "too big", "too long", "size", "length", "bytes"].iter().any(|word| text.contains(word))
}

const fn published_len(event: usize, protection: Protection) -> usize {
    if protection.is_encrypted() { wrapped_event_size(event) } else { event }
}

const FRAME: usize =
    r#"{"id":"","pubkey":"","created_at":,"kind":25910,"tags":[],"content":"","sig":""}"#.len();
const HEX_FIELDS: usize = 64 + 64 + 128;

/// Returns the length of the event's JSON text once it is signed.
pub(crate) fn event_len(draft: &Draft) -> usize {
    let stamp = usize::try_from(draft.created_at.checked_ilog10().unwrap_or(0)).unwrap_or(0) + 1;
    let tags: usize = draft.tags.iter().map(|tag| list_len(tag.as_slice())).sum();
    let commas = draft.tags.iter().count().saturating_sub(1);
    FRAME + HEX_FIELDS + stamp + tags + commas + escaped_len(&draft.content)
}

fn list_len(items: &[alloc::string::String]) -> usize {
    let texts: usize = items.iter().map(|item| escaped_len(item) + 2).sum();
    texts + items.len().saturating_sub(1) + 2
}

/// Returns how long a text becomes inside a JSON string, without its quotes.
pub(crate) fn escaped_len(text: &str) -> usize {
    // Two simple counts go faster over a text than one that tells all cases apart.
    let is_escaped = |byte: &&u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    let escaped = text.as_bytes().iter().filter(is_escaped).count();
    if escaped == 0 {
        return text.len();
    }
    let is_long = |byte: &&u8| matches!(byte, 0..=0x1f) && !matches!(byte, 0x08 | 0x09 | 0x0a | 0x0c | 0x0d);
    let long = text.as_bytes().iter().filter(is_long).count();
    text.len() + escaped + 4 * long
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use contextvm_core::WrapKind;
    use contextvm_core::size::SEAL_LIMIT;
    use nostr::event::{Event, Kind, Tag, Tags};
    use nostr::key::PublicKey;
    use nostr::types::Timestamp;

    #[test]
    fn a_limit_stays_within_reason_whatever_relays_say() {
        let limits = Limits::default();
        let mut limit = RelayLimit::new(&limits);
        assert_eq!(limit.bytes, 65_280);
        for (said, held) in [(0, LEAST), (40_000, 40_000), (usize::MAX, limits.event)] {
            limit.set(said);
            assert_eq!(limit.bytes, held);
        }
        for _ in 0..10 {
            limit.shrink();
        }
        assert_eq!(limit.bytes, LEAST);
    }

    #[test]
    fn a_content_that_fills_its_room_is_taken_and_one_byte_more_is_not() {
        let author =
            PublicKey::parse("466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f27").unwrap();
        let draft = |length| Draft::new(author, 1_700_000_000, Tags::new(), "x".repeat(length));
        for said in [16_384, 40_000, 55_122, 65_280, 70_000, 131_072] {
            let mut limit = RelayLimit::new(&Limits::default());
            limit.set(said);
            for protection in [
                Protection::Plain,
                Protection::Wrapped(WrapKind::Persistent),
                Protection::Wrapped(WrapKind::Ephemeral),
            ] {
                let room = limit.content_room(&draft(0), protection);
                assert!(limit.takes(&draft(room), protection), "{said} {protection:?}");
                let is_sealed_at_most = protection.is_encrypted() && event_len(&draft(room)) == SEAL_LIMIT;
                assert!(
                    is_sealed_at_most || !limit.takes(&draft(room + 1), protection),
                    "{said} {protection:?}"
                );
            }
        }
    }

    #[test]
    fn the_size_is_that_of_the_printed_event() {
        let author =
            PublicKey::parse("466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f27").unwrap();
        let texts = ["", "{\"a\":\"\\n\"}", "\u{1}\u{8}\t\n\r\u{c}\u{1f}\u{7f}é\u{2028}😀/"];
        for (text, stamp) in texts.into_iter().zip([0, 9, 1_700_000_000]) {
            for tags in [
                Tags::new(),
                Tags::from_list(alloc::vec![
                    Tag::parse(["p", "x\"y"]).unwrap(),
                    Tag::parse(["flag"]).unwrap(),
                ]),
            ] {
                let draft = Draft::new(author, stamp, tags, String::from(text));
                let event = Event::new(
                    draft.id,
                    draft.author,
                    Timestamp::from_secs(draft.created_at),
                    Kind::from_u16(25910),
                    draft.tags.clone(),
                    draft.content.clone(),
                    nostr::event::Signature::from_slice(&[1; 64]).unwrap(),
                );
                assert_eq!(event_len(&draft), event.as_json().len());
            }
        }
    }
}
