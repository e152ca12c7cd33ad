//! Keyed hashes in the place of curve arithmetic, for simulation and fuzzing alone.
//!
//! Compiled only under `--cfg contextvm_fake_crypto`, which no feature turns on and under which nothing that reaches a
//! network compiles. Shapes and verdicts are those of the real thing: a signature by another key, an altered event and
//! a wrong recipient fail. It protects nothing: who knows a public key can sign for it.
use nostr::event::{Event, EventId, Signature};
use nostr::key::PublicKey;

const LANES: [u64; 4] =
    [0x9E37_79B9_7F4A_7C15, 0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB, 0xD6E8_FEB8_6659_FD93];

/// Hashes parts of fixed length under the name of a purpose.
#[must_use]
pub fn hash(purpose: u64, parts: &[&[u8; 32]]) -> [u8; 32] {
    let mut lanes = LANES.map(|lane| lane ^ purpose);
    for part in parts {
        for (nth, word) in part.chunks_exact(8).enumerate() {
            let word = word.iter().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
            for (lane, factor) in lanes.iter_mut().zip(LANES) {
                let mixed = (*lane ^ word.rotate_left(8 * (nth as u32))).wrapping_mul(factor);
                *lane = mixed ^ mixed >> 29;
            }
        }
    }
    let mut out = [0; 32];
    for (bytes, lane) in out.chunks_exact_mut(8).zip(lanes) {
        bytes.copy_from_slice(&(lane ^ lane >> 32).to_be_bytes());
    }
    out
}

/// Signs an id for an author; other `aux` bytes give another signature that is as true.
#[must_use]
pub fn sign(author: &PublicKey, id: &EventId, aux: &[u8; 32]) -> Signature {
    let mut signature = [0; 64];
    let tag = hash(1, &[author.as_bytes(), id.as_bytes(), aux]);
    let (first, second) = signature.split_at_mut(32);
    first.copy_from_slice(aux);
    second.copy_from_slice(&tag);
    Signature::from_byte_array(signature)
}

/// Whether an event carries what [`sign`] gives for its author and id.
#[must_use]
pub fn is_signed(event: &Event) -> bool {
    let mut aux = [0; 32];
    for (to, from) in aux.iter_mut().zip(event.sig.as_bytes()) {
        *to = *from;
    }
    sign(&event.pubkey, &event.id, &aux) == event.sig
}
