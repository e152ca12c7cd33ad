//! Virtual time: microseconds of the world, and the clocks of its hosts, which may be wrong.
use contextvm_core::{Mono, Now};

/// One millisecond, in microseconds.
pub const MS: u64 = 1_000;
/// One second, in microseconds.
pub const SEC: u64 = 1_000_000;
/// The Unix second at which every world starts.
pub const START: u64 = 1_800_000_000;

/// The two clocks of one host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostClock {
    /// When its process started, microseconds of the world: its monotonic clock stood at zero then.
    pub boot: u64,
    /// How far its wall clock is ahead, seconds.
    pub skew: i64,
}

impl HostClock {
    /// Reads both clocks at a time of the world.
    #[must_use]
    pub fn now(&self, at: u64) -> Now {
        Now { mono: Mono(at.saturating_sub(self.boot) / MS), unix: self.unix(at) }
    }

    /// Reads the wall clock.
    #[must_use]
    pub fn unix(&self, at: u64) -> u64 {
        (START + at / SEC).saturating_add_signed(self.skew)
    }

    /// Returns the time of the world at which the monotonic clock shows `mono`; never early.
    #[must_use]
    pub fn at(&self, mono: Mono) -> u64 {
        self.boot.saturating_add(mono.0.saturating_mul(MS))
    }
}
