//! Growing delays with full jitter, and where their randomness comes from.
pub(crate) use contextvm_core::backoff::{Backoff, Reconnect};

/// Draws a uniform number; without randomness every caller waits longest, which is safe.
pub(crate) fn draw() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX)
}
