//! Which log messages each caller of a shared child asked for.
use std::collections::BTreeMap;

use contextvm_core::envelope::Envelope;
use nostr::key::PublicKey;

use crate::revision::{LOG_LEVELS, log_level};

/// A level of log messages; the lower, the more is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Level(usize);

impl Level {
    const INFO: Self = Self(1);

    /// Reads `params.level` of a request or of a log message.
    pub(super) fn of(message: &Envelope<'_>) -> Option<Self> {
        message.param("level").and_then(log_level).map(Self)
    }

    pub(super) fn name(self) -> &'static str {
        LOG_LEVELS.get(self.0).copied().unwrap_or_default()
    }
}

/// Levels by caller. The child is set to the lowest, and nobody hears what it did not ask for.
#[derive(Debug, Default)]
pub(super) struct Levels(BTreeMap<PublicKey, Level>);

impl Levels {
    pub(super) fn set(&mut self, caller: PublicKey, level: Level) {
        self.0.insert(caller, level);
    }

    pub(super) fn leave(&mut self, caller: &PublicKey) {
        self.0.remove(caller);
    }

    /// What the child is to be set to; `None` leaves it at its own choice.
    pub(super) fn lowest(&self) -> Option<Level> {
        self.0.values().min().copied()
    }

    /// Whether a caller hears a message. One that asked for no level hears what the child says by itself, and from
    /// `info` on while others have asked for more.
    pub(super) fn hears(&self, caller: &PublicKey, said: Option<Level>) -> bool {
        let wanted = match self.0.get(caller) {
            Some(own) => *own,
            None if self.0.is_empty() => return true,
            None => Level::INFO,
        };
        said.is_none_or(|said| said >= wanted)
    }
}
