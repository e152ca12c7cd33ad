//! Randomness as an argument: what one gift wrap uses up.
use core::fmt;

use zeroize::Zeroizing;

/// Ninety-six random bytes for one gift wrap: its one-time key, its nonce and its signing aux data.
///
/// Wiped when dropped, neither `Clone` nor printable. Use each value for exactly one [`seal`](crate::seal()): two wraps
/// from one value share their one-time key, and an observer sees that one sender made both.
pub struct Entropy(Zeroizing<[u8; Entropy::LEN]>);

impl Entropy {
    /// How many bytes one gift wrap uses up.
    pub const LEN: usize = 96;

    /// Takes bytes that came from a cryptographic random number generator.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Lets a random number generator write in place, so that no copy stays behind.
    ///
    /// # Errors
    /// Returns the error of `fill`.
    pub fn gather<E>(fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut bytes = Zeroizing::new([0; Self::LEN]);
        fill(bytes.as_mut_slice())?;
        Ok(Self(bytes))
    }

    /// Returns the secret key of the one-time signer.
    pub(crate) fn one_time_secret(&self) -> Zeroizing<[u8; 32]> {
        self.part::<0>()
    }

    /// Returns the NIP-44 nonce.
    pub(crate) fn nonce(&self) -> Zeroizing<[u8; 32]> {
        self.part::<1>()
    }

    /// Returns the BIP-340 aux data of the outer signature.
    pub(crate) fn aux(&self) -> Zeroizing<[u8; 32]> {
        self.part::<2>()
    }

    fn part<const N: usize>(&self) -> Zeroizing<[u8; 32]> {
        let mut out = Zeroizing::new([0; 32]);
        for (to, from) in out.iter_mut().zip(self.0.iter().skip(N * 32)) {
            *to = *from;
        }
        out
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy(..)")
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn the_three_parts_are_disjoint() {
        let mut bytes = [1; Entropy::LEN];
        bytes[32..64].fill(2);
        bytes[64..].fill(3);
        let entropy = Entropy::from_bytes(bytes);
        assert_eq!(*entropy.one_time_secret(), [1; 32]);
        assert_eq!(*entropy.nonce(), [2; 32]);
        assert_eq!(*entropy.aux(), [3; 32]);
    }

    #[test]
    fn a_failing_generator_yields_no_entropy() {
        assert_eq!(Entropy::gather(|_| Err("no randomness")).unwrap_err(), "no randomness");
        assert!(Entropy::gather(getrandom::fill).is_ok());
    }

    #[test]
    fn debug_prints_no_byte() {
        assert_eq!(format!("{:?}", Entropy::from_bytes([0xab; Entropy::LEN])), "Entropy(..)");
    }
}
