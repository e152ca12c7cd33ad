//! Time as plain values: machines are told what time it is and never ask.
use core::time::Duration;

/// Milliseconds since the driver started. Never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// Returns this instant moved forward, saturating at the end of time.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Returns the time that passed since `earlier`, or zero when `earlier` lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// One reading of both clocks, made by the driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic milliseconds; deadlines live here.
    pub mono: Mono,
    /// Wall clock in whole Unix seconds; event stamps and the age rule live here.
    pub unix: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_saturates_at_both_ends() {
        assert_eq!(Mono(5).after(Duration::from_millis(7)), Mono(12));
        assert_eq!(Mono(5).after(Duration::MAX), Mono(u64::MAX));
        assert_eq!(Mono(12).since(Mono(5)), Duration::from_millis(7));
        assert_eq!(Mono(5).since(Mono(12)), Duration::ZERO);
    }
}
