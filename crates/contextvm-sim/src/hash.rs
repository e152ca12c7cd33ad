//! A hash that costs next to nothing, for traces and for comparing texts.
/// A running hash: cheap, the same on every machine, no protection against anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Running(u64);

/// An odd number whose bits look like chance (the golden ratio).
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Default for Running {
    fn default() -> Self {
        Self(STEP)
    }
}

impl Running {
    /// Takes a number.
    pub(crate) const fn mix(&mut self, number: u64) {
        let wide = ((self.0 ^ number) as u128).wrapping_mul(0xA076_1D64_78BD_642F_E703_7ED1_A0B4_28DB_u128);
        let [low, high] = [wide as u64, (wide >> 64) as u64];
        self.0 = (low ^ high).wrapping_add(STEP).rotate_left(29) ^ number.wrapping_mul(STEP);
    }

    /// Takes the number of a kind, and what belongs to it.
    pub(crate) fn all(&mut self, kind: u64, numbers: &[u64]) {
        self.mix(kind);
        for number in numbers {
            self.mix(*number);
        }
    }

    /// Takes bytes and how many there are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        self.mix(u64::from_le_bytes(last));
        self.mix(bytes.len() as u64);
    }

    /// Returns the hash so far.
    pub(crate) const fn value(self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

/// The first eight bytes of a key or an id, which are as good as chance.
pub(crate) fn short(bytes: &[u8; 32]) -> u64 {
    bytes.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}
