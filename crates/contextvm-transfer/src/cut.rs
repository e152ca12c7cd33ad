//! Where a message is cut: in closed form, from what each byte costs once it is escaped twice.
//!
//! A chunk is a JSON string inside the content of an event, and the content is a JSON string inside the event: a quote of the
//! message becomes four bytes there.
use alloc::vec::Vec;

use contextvm_core::envelope::MAX_SAFE_INTEGER;

use crate::TransferError;
use crate::digest;
use crate::frame::{FrameBody, Start, TransferFrame};

/// Bytes measured at once.
const BLOCK: usize = 64;
/// The most that one character costs: a control character without a short escape.
const LARGEST: usize = 7;
/// Digits of the largest `progress`.
const DIGITS: usize = 16;

/// Returns where each chunk ends so that every frame of the transfer takes at most `limit` bytes in its event.
///
/// `first` is the number of the first chunk. Chunks are as long as they can be; they end between characters.
pub(crate) fn cut(
    message: &str,
    token: &str,
    first: u64,
    limit: usize,
    most_chunks: usize,
) -> Result<Vec<usize>, TransferError> {
    let empty = TransferFrame { token: token.into(), progress: 1, body: FrameBody::Chunk("".into()) };
    let around = content_len(&empty.to_text()) - digits(1);
    let needed = start_len(token).max(around + DIGITS + LARGEST);
    if limit < needed {
        return Err(TransferError::ContentLimit { limit, needed });
    }
    let (mut ends, mut at) = (Vec::new(), 0);
    let mut progress = first;
    while let Some(rest) = message.get(at..).filter(|rest| !rest.is_empty()) {
        if ends.len() == most_chunks {
            let chunks = most_chunks as u64 + 1;
            return Err(TransferError::TooManyChunks { chunks, limit: most_chunks as u64 });
        }
        at += fitting(rest, limit - around - digits(progress));
        ends.push(at);
        progress += 1;
    }
    Ok(ends)
}

/// Returns what the largest start frame for a token takes in its event.
fn start_len(token: &str) -> usize {
    let body = FrameBody::Start(Start {
        completion_mode: Some("render".into()),
        digest: digest::print("").into(),
        total_bytes: MAX_SAFE_INTEGER,
        total_chunks: MAX_SAFE_INTEGER,
    });
    let start = TransferFrame { token: token.into(), progress: MAX_SAFE_INTEGER, body };
    content_len(&start.to_text())
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// Returns what a content takes inside its event, quotes not counted.
pub(crate) fn content_len(content: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | 0x08 | 0x09 | 0x0a | 0x0c | 0x0d => 2,
        0x00..=0x1f => 6,
        _ => 1,
    };
    content.bytes().map(escaped).sum()
}

/// Returns how many bytes of a text, in whole characters, cost at most `room`.
fn fitting(text: &str, room: usize) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut left) = (0, room);
    while let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>()) {
        let cost = usize::from(block.iter().map(|byte| cost(*byte)).sum::<u16>());
        if cost > left {
            break;
        }
        left -= cost;
        at += BLOCK;
    }
    for byte in bytes.iter().skip(at) {
        let cost = usize::from(cost(*byte));
        if cost > left {
            break;
        }
        left -= cost;
        at += 1;
    }
    text.floor_char_boundary(at)
}

/// Returns what a byte of the message costs in the event, without branches so that blocks are measured at once.
const fn cost(byte: u8) -> u16 {
    let quoted = (byte == b'"') | (byte == b'\\');
    let short = (byte == 0x08) | (byte == 0x09) | (byte == 0x0a) | (byte == 0x0c) | (byte == 0x0d);
    let long = (byte < 0x20) & !short;
    1 + 3 * quoted as u16 + 2 * short as u16 + 6 * long as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use contextvm_core::object::quote;
    use proptest::prelude::*;

    /// What a chunk of this text takes in its event, by printing it.
    fn printed(text: &str, progress: u64) -> usize {
        let frame = TransferFrame { token: "t\"".into(), progress, body: FrameBody::Chunk(text.into()) };
        quote(&frame.to_text()).len() - 2
    }

    #[test]
    fn every_byte_costs_what_it_takes_when_it_is_escaped_twice() {
        for byte in 0..0x80_u8 {
            let text = String::from(char::from(byte));
            let inner = quote(&text);
            let outer = quote(&inner[1..inner.len() - 1]);
            assert_eq!(usize::from(cost(byte)), outer.len() - 2, "{byte}");
        }
        assert_eq!(cost(0xc3), 1);
    }

    #[test]
    fn a_limit_below_the_smallest_frame_is_refused() {
        let Err(TransferError::ContentLimit { limit: 10, needed }) = cut("abc", "t", 2, 10, 9) else {
            panic!("it was cut");
        };
        assert!(cut("abc", "t", 2, needed - 1, 9).is_err());
        assert_eq!(cut("abc", "t", 2, needed, 9), Ok(alloc::vec![3]));
    }

    #[test]
    fn more_chunks_than_allowed_are_refused() {
        let message = "x".repeat(10_000);
        let ends = cut(&message, "t", 2, 1_000, 100).unwrap();
        assert_eq!(cut(&message, "t", 2, 1_000, ends.len()).as_ref(), Ok(&ends));
        let limit = ends.len() as u64 - 1;
        let error = TransferError::TooManyChunks { chunks: limit + 1, limit };
        assert_eq!(cut(&message, "t", 2, 1_000, ends.len() - 1), Err(error));
    }

    proptest! {
        #[test]
        fn chunks_fit_and_are_as_long_as_they_can_be(
            parts in proptest::collection::vec(prop_oneof![
                "[a-z ]{0,200}", "[\"\\\\]{0,80}", "\\PC{0,60}", "[\u{0}-\u{1f}]{0,60}", "(é|😀|漢){0,60}",
            ], 0..12),
            spare in 0..600_usize,
            first in prop_oneof![2..4_u64, 8..12_u64, 98..101_u64],
        ) {
            let message = parts.concat();
            let limit = 400 + spare;
            let ends = cut(&message, "t\"", first, limit, usize::MAX);
            let ends = match ends {
                Ok(ends) => ends,
                Err(error) => {
                    prop_assert!(matches!(error, TransferError::ContentLimit { .. }), "{error}");
                    prop_assert!(spare < 200);
                    return Ok(());
                }
            };
            let (mut from, mut progress) = (0, first);
            for end in &ends {
                let chunk = &message[from..*end];
                prop_assert!(!chunk.is_empty());
                prop_assert!(printed(chunk, progress) <= limit);
                if let Some(next) = message[*end..].chars().next() {
                    let longer = &message[from..*end + next.len_utf8()];
                    prop_assert!(printed(longer, progress) > limit);
                }
                (from, progress) = (*end, progress + 1);
            }
            prop_assert_eq!(from, message.len());
        }
    }
}
