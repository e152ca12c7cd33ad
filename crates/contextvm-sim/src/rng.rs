//! Chance: every part of a world draws from a source of its own, so that leaving one out changes nothing for the others.
use contextvm_crypto::Entropy;

/// A seeded source of chance. No floating point that could differ between machines.
#[derive(Clone, Debug)]
pub struct Rng(fastrand::Rng);

impl Rng {
    /// Makes the source of one part of a world: the same three arguments always give the same numbers.
    #[must_use]
    pub fn of(seed: u64, part: &str, index: u64) -> Self {
        let named = part.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        let mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ named.rotate_left(17);
        Self(fastrand::Rng::with_seed(mixed ^ index.wrapping_mul(0xD6E8_FEB8_6659_FD93)))
    }

    /// Makes the source that belongs to one key of this part, and draws nothing from this one: whatever is keyed by what it
    /// belongs to (an event, a call) is the same with and without its neighbours.
    #[must_use]
    pub fn fork(&self, key: u64) -> Self {
        let own = self.0.clone().u64(..);
        Self(fastrand::Rng::with_seed(own ^ key.wrapping_mul(0xA076_1D64_78BD_642F).rotate_left(31)))
    }

    /// Draws any number.
    pub fn any(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// Draws a number below `end`; zero when `end` is zero.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.0.u64(..end) }
    }

    /// Draws an index below `end`; zero when `end` is zero.
    pub fn index(&mut self, end: usize) -> usize {
        self.below(end as u64) as usize
    }

    /// Draws a number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        if low >= high { low } else { self.0.u64(low..=high) }
    }

    /// Whether something happens that happens `per_mille` times in a thousand. It draws in any case, so that a chance which
    /// is set to zero changes no later draw.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.0.u32(..1_000) < per_mille
    }

    /// Draws one of several; the first when there is nothing to draw.
    pub fn pick<T: Copy>(&mut self, from: &[T], otherwise: T) -> T {
        from.get(self.index(from.len())).copied().unwrap_or(otherwise)
    }

    /// Draws a time around `mean` with a long tail, at most 60 s or the mean; all in microseconds.
    pub fn delay(&mut self, mean: u64) -> u64 {
        let factor = match self.below(100) {
            0 => 16,
            1..5 => 4,
            _ => 1,
        };
        let delay = (mean / 2).saturating_add(self.below(mean.max(1)));
        delay.saturating_mul(factor).min(mean.max(60_000_000))
    }

    /// Draws 32 bytes.
    pub fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.fill(&mut bytes);
        bytes
    }

    /// Draws what one gift wrap uses up.
    pub fn entropy(&mut self) -> Entropy {
        let mut bytes = [0; Entropy::LEN];
        self.0.fill(&mut bytes);
        Entropy::from_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chance_of_nothing_shifts_no_later_draw() {
        let (mut with, mut without) = (Rng::of(1, "a part", 2), Rng::of(1, "a part", 2));
        assert!(with.chance(1_000) && !without.chance(0));
        assert_eq!(with.any(), without.any());
    }

    #[test]
    fn what_is_keyed_is_the_same_whatever_was_drawn_for_others() {
        let part = Rng::of(1, "a part", 2);
        let first = part.fork(7).any();
        let _ = part.fork(8).any();
        assert_eq!(part.fork(7).any(), first);
        assert_ne!(part.fork(8).any(), first);
        assert_ne!(Rng::of(1, "a part", 3).fork(7).any(), first);
    }
}
