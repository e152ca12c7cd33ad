//! What the lists of operations have in common: how they are read, and the small choices that they are made of.
use contextvm_core::{Mono, Now};
use contextvm_engine::{EncryptionMode, GiftWrapMode, Outcome};

use crate::bytes::Bytes;
use crate::people::START;

/// Most operations of one run.
const OPERATIONS: usize = 200;
/// Most outputs of one input.
pub const OUTPUTS: usize = 4_096;
/// Most wakes until the timers of one run have run down.
pub const WAKES: usize = 10_000;

/// What the smallest relay takes that an endpoint listens to, bytes.
pub const SMALLEST_RELAY: usize = 16 * 1024;

/// Carries operations out until the input is used up.
pub fn each(bytes: &mut Bytes<'_>, mut operation: impl FnMut(&mut Bytes<'_>)) {
    for _ in 0..OPERATIONS {
        if bytes.is_empty() {
            break;
        }
        operation(bytes);
    }
}

/// Both clocks so many milliseconds after the start.
pub fn moment(ms: u64) -> Now {
    Now { mono: Mono(ms), unix: START + ms / 1_000 }
}

pub fn encryption(bytes: &mut Bytes<'_>) -> EncryptionMode {
    bytes.pick(&[EncryptionMode::Optional, EncryptionMode::Required, EncryptionMode::Disabled])
}

pub fn gift_wrap(bytes: &mut Bytes<'_>) -> GiftWrapMode {
    bytes.pick(&[GiftWrapMode::Optional, GiftWrapMode::Ephemeral, GiftWrapMode::Persistent])
}

/// What became of a publication.
pub fn outcome(bytes: &mut Bytes<'_>) -> Outcome {
    match bytes.below(3) {
        0 => Outcome::Accepted,
        1 => Outcome::Unknown,
        _ => Outcome::Refused("blocked: \u{202e}no\n".to_owned()),
    }
}

/// A JSON-RPC id, from so few that they collide.
pub fn request_id(bytes: &mut Bytes<'_>) -> &'static str {
    bytes.pick(&["0", "1", "2", "\"a\"", "\"1\"", "\"\"", "-7", "9007199254740991", "\"\\u0061\""])
}
