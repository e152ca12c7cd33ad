//! Spread for retry delays, from the seed given at birth (SplitMix64).

/// A reproducible stream of numbers. Not for secrets.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        let folded = seed.chunks_exact(8).fold(0_u64, |sum, part| {
            let word = <[u8; 8]>::try_from(part).map_or(0, u64::from_le_bytes);
            sum.rotate_left(17) ^ word
        });
        Self(folded)
    }

    /// Returns a delay between three and five quarters of `millis`.
    pub(super) fn spread(&mut self, millis: u64) -> u64 {
        let half = millis / 2;
        millis - millis / 4 + self.next().checked_rem(half).unwrap_or(0)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_stay_within_a_quarter_and_do_differ() {
        let mut chance = Chance::new([7; 32]);
        let mut seen = alloc::collections::BTreeSet::new();
        for _ in 0..1_000 {
            let delay = chance.spread(2_000);
            assert!((1_500..2_500).contains(&delay));
            seen.insert(delay);
        }
        assert!(seen.len() > 500);
        assert_eq!(chance.spread(0), 0);
    }

    #[test]
    fn one_seed_gives_one_sequence() {
        let mut a = Chance::new([3; 32]);
        let mut b = Chance::new([3; 32]);
        assert!((0..100).all(|_| a.spread(9_999) == b.spread(9_999)));
    }
}
