//! The exact size of a signed event before it is signed.
use contextvm_core::Draft;

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

fn escaped_len(text: &str) -> usize {
    text.bytes().map(escaped_byte).sum()
}

const fn escaped_byte(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | 0x08 | 0x09 | 0x0a | 0x0c | 0x0d => 2,
        0x00..=0x1f => 6,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use nostr::event::{Event, Kind, Tag, Tags};
    use nostr::key::PublicKey;
    use nostr::types::Timestamp;

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
