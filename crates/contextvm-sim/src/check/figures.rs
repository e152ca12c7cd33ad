//! What is counted: how calls ended, which of them were judged, why the others were not, and how long they took.
use std::collections::BTreeMap;

/// How calls ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Issued by honest clients.
    pub issued: u64,
    /// Planned, and issued by nobody: their client was down, or died before their turn.
    pub not_made: u64,
    /// Executed by honest servers.
    pub executed: u64,
    /// Ended with the application's answer.
    pub answered: u64,
    /// Ended with an endpoint's error.
    pub errors: u64,
    /// Ended without a word of the server.
    pub lost: u64,
    /// Cancelled by their application.
    pub cancelled: u64,
    /// Open when their client died.
    pub orphaned: u64,
}

impl Tally {
    /// Adds the endings of another world.
    pub const fn add(&mut self, other: Self) {
        let Self { issued, not_made, executed, answered, errors, lost, cancelled, orphaned } = other;
        self.issued += issued;
        self.not_made += not_made;
        self.executed += executed;
        self.answered += answered;
        self.errors += errors;
        self.lost += lost;
        self.cancelled += cancelled;
        self.orphaned += orphaned;
    }
}

/// Why a call may end without its answer although nothing is wrong with the endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Excuse {
    /// There was no honest path, or not for long enough.
    Path,
    /// Clocks disagreed, or jumped.
    Clock,
    /// The server's process died.
    Crash,
    /// A client or a session was closed, or the caller is not served.
    Left,
    /// A signer was late, or refused.
    Signer,
    /// A disk failed, or stood still.
    Disk,
    /// A table was full, or the caller had as much open as it may.
    Room,
    /// The application did not answer, or just before the end, or it had no room for the request.
    App,
}

impl Excuse {
    /// Every excuse.
    pub const ALL: [Self; 8] =
        [Self::Path, Self::Clock, Self::Crash, Self::Left, Self::Signer, Self::Disk, Self::Room, Self::App];

    /// Returns a fixed name, for figures.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Clock => "clock",
            Self::Crash => "crash",
            Self::Left => "left",
            Self::Signer => "signer",
            Self::Disk => "disk",
            Self::Room => "room",
            Self::App => "app",
        }
    }
}

/// What C6 looked at. Calls of honest clients to honest servers that were neither cancelled nor left by a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Pairs of a client and a server that had an honest path at some time.
    pub pairs_armed: u64,
    /// Calls whose loss would have been a violation.
    pub judged: u64,
    /// Calls whose loss would have been excused, by the first excuse.
    pub excused: BTreeMap<Excuse, u64>,
    /// Calls that an application could have answered, and those that were.
    pub fair: u64,
    /// Of these, answered.
    pub fair_answered: u64,
    /// How long answered small calls took, by milliseconds, the first two digits of them exact.
    pub latency: BTreeMap<u64, u64>,
}

impl Figures {
    pub(super) fn excuse(&mut self, excuse: Option<Excuse>) {
        match excuse {
            Some(excuse) => *self.excused.entry(excuse).or_default() += 1,
            None => self.judged += 1,
        }
    }

    pub(super) fn took(&mut self, microseconds: u64) {
        *self.latency.entry(rounded(microseconds / 1_000)).or_default() += 1;
    }

    /// Whether so many thousandths of the calls were answered that could be; true where there were none.
    #[must_use]
    pub const fn is_answered(&self, per_mille: u64) -> bool {
        self.fair_answered * 1_000 >= self.fair * per_mille
    }

    /// Returns the milliseconds within which so many thousandths of the answered calls ended.
    #[must_use]
    pub fn latency_ms(&self, per_mille: u64) -> u64 {
        let all: u64 = self.latency.values().sum();
        let mut rest = (all * per_mille).div_ceil(1_000).max(1);
        for (took, count) in &self.latency {
            if *count >= rest {
                return *took;
            }
            rest -= count;
        }
        self.latency.last_key_value().map_or(0, |(took, _)| *took)
    }

    /// Adds the figures of another world.
    pub fn add(&mut self, other: &Self) {
        self.pairs_armed += other.pairs_armed;
        self.judged += other.judged;
        self.fair += other.fair;
        self.fair_answered += other.fair_answered;
        for (excuse, count) in &other.excused {
            *self.excused.entry(*excuse).or_default() += count;
        }
        for (took, count) in &other.latency {
            *self.latency.entry(*took).or_default() += count;
        }
    }
}

/// Rounds up to two digits.
const fn rounded(number: u64) -> u64 {
    let mut unit = 1;
    while number / unit >= 100 {
        unit *= 10;
    }
    number.div_ceil(unit) * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_told_by_their_share() {
        let mut figures = Figures::default();
        (1..=1_000).for_each(|ms| figures.took(ms * 1_000));
        assert_eq!([500, 990, 1_000].map(|share| figures.latency_ms(share)), [500, 990, 1_000]);
        assert_eq!(Figures::default().latency_ms(500), 0);
        assert_eq!([99, 101, 12_345].map(rounded), [99, 110, 13_000]);
    }
}
