//! Keyed hashes in the place of curve arithmetic, and where asked for of all cryptography, for simulation and fuzzing alone.
//!
//! Compiled only under `--cfg contextvm_fake_crypto`, which no feature turns on and under which nothing that reaches a
//! network compiles. Shapes and verdicts are those of the real thing: a signature by another key, an altered event and
//! a wrong recipient fail. It protects nothing: who knows a public key can sign for it. Under `contextvm_fake_hashes`, which
//! the simulator sets as well, ids of events and the ciphers of NIP-44 are such hashes, too.
use nostr::event::{Event, EventId, Kind, Signature, Tags};
use nostr::key::PublicKey;
use nostr::types::Timestamp;

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

/// Hashes bytes of any length under a key: 128 bits of state, two words at a time.
#[derive(Clone, Copy, Debug)]
pub struct Running([u64; 2]);

impl Running {
    /// Begins with a key.
    #[must_use]
    pub fn new(purpose: u64, key: &[u8; 32]) -> Self {
        let mut running = Self([LANES[0] ^ purpose, LANES[1]]);
        running.bytes(key);
        running
    }

    /// Takes bytes, and how many they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let (pairs, rest) = bytes.as_chunks::<16>();
        pairs.iter().for_each(|pair| self.pair(pair));
        let mut last = [0; 16];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        self.pair(&last);
        self.number(bytes.len() as u64);
    }

    /// Takes a number.
    pub const fn number(&mut self, number: u64) {
        let Self([one, two]) = *self;
        *self = Self([fold(one ^ number, LANES[2]), two.rotate_left(23) ^ number]);
    }

    const fn pair(&mut self, pair: &[u8; 16]) {
        let wide = u128::from_le_bytes(*pair);
        let (low, high) = (wide as u64, (wide >> 64) as u64);
        let Self([one, two]) = *self;
        *self = Self([fold(one ^ low, LANES[2] ^ high), fold(two ^ high, LANES[3] ^ low) ^ one]);
    }

    /// Returns the hash.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        let mut seed = [0; 32];
        let Self([one, two]) = self;
        for (to, word) in seed.chunks_exact_mut(8).zip([one, two, !one, !two]) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        hash(4, &[&seed])
    }
}

const fn fold(one: u64, two: u64) -> u64 {
    let wide = (one as u128).wrapping_mul((two | 1) as u128);
    (wide as u64) ^ (wide >> 64) as u64
}

/// The id of an event: unlike that of any other author, stamp, kind, tags or content.
#[must_use]
pub fn id(author: &PublicKey, created_at: Timestamp, kind: Kind, tags: &Tags, content: &str) -> EventId {
    let mut running = Running::new(5, author.as_bytes());
    running.number(created_at.as_secs());
    running.number(u64::from(kind.as_u16()));
    for tag in tags.iter() {
        running.number(tag.as_slice().len() as u64);
        tag.as_slice().iter().for_each(|element| running.bytes(element.as_bytes()));
    }
    running.number(u64::MAX);
    running.bytes(content.as_bytes());
    EventId::from_byte_array(running.finish())
}

/// Encrypts or decrypts in place with a stream that depends on key and nonce.
pub fn cipher(key: &[u8; 32], nonce: &[u8; 32], text: &mut [u8]) {
    let start = hash(6, &[key, nonce]);
    let mut state = start.iter().fold(0_u64, |word, byte| word.rotate_left(7) ^ u64::from(*byte));
    let mut next = || {
        state = state.wrapping_add(LANES[0]);
        fold(state, LANES[1])
    };
    let (words, rest) = text.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_le_bytes(*word) ^ next()).to_le_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(next().to_le_bytes()) {
        *byte ^= key;
    }
}

/// The tag that only a holder of the key can make for a nonce and a ciphertext.
#[must_use]
pub fn mac(key: &[u8; 32], nonce: &[u8; 32], ciphertext: &[u8]) -> [u8; 32] {
    let mut running = Running::new(7, key);
    running.bytes(nonce);
    running.bytes(ciphertext);
    running.finish()
}
