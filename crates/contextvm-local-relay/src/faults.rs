//! Fault knobs: what the relay does wrong on purpose, and the dice that decide when.
use std::time::Duration;

/// Says when the relay cuts a connection on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseAfter {
    /// After this many EVENT and OK frames were written to the connection.
    Events(u64),
    /// This long after the connection was accepted.
    Time(Duration),
}

/// Describes how the relay misbehaves; the default is an honest relay.
///
/// Probabilities run from 0 (never) to 1 (always). Every decision is drawn from the seed in
/// [`RelayOptions`](crate::RelayOptions) and the number of the connection, so a test that opens its connections
/// in the same order and sends the same frames meets the same faults.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// Time that every frame to a client is held back; order is kept and frames overlap in flight.
    pub latency: Duration,
    /// Largest random addition to `latency`; order is still kept.
    pub jitter: Duration,
    /// Chance that an EVENT frame is not delivered although the event was accepted.
    pub drop: f64,
    /// Chance that an EVENT frame is delivered twice.
    pub duplicate: f64,
    /// Chance that an EVENT frame is overtaken by some of the frames after it.
    pub reorder: f64,
    /// Most frames that may overtake a reordered one.
    pub reorder_window: usize,
    /// Passes ephemeral events only to live subscriptions; `false` also keeps them for five minutes and serves them.
    pub strict_ephemeral: bool,
    /// Cuts each connection after a count of frames or a time.
    pub close_after: Option<CloseAfter>,
    /// Refuses every EVENT with this text (`OK false`).
    pub refuse: Option<String>,
    /// Refuses every REQ with this text (`CLOSED`).
    pub refuse_subscriptions: Option<String>,
    /// Accepts events without ever saying OK.
    pub no_ok: bool,
    /// Serves subscriptions without ever saying EOSE.
    pub no_eose: bool,
    /// Takes everything in and sends no frame at all.
    pub mute: bool,
    /// Stops reading from the sockets, so that senders meet back-pressure.
    pub deaf: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            drop: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_window: 4,
            strict_ephemeral: true,
            close_after: None,
            refuse: None,
            refuse_subscriptions: None,
            no_ok: false,
            no_eose: false,
            mute: false,
            deaf: false,
        }
    }
}

/// A small deterministic source of chance (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Makes the dice of one connection.
    pub(crate) fn new(seed: u64, connection: u64) -> Self {
        let mut dice = Self(seed ^ connection.wrapping_mul(0xA076_1D64_78BD_642F));
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Says yes with the given chance; draws nothing when the answer is certain.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        if probability <= 0.0 {
            return false;
        }
        if probability >= 1.0 {
            return true;
        }
        self.fraction() < probability
    }

    /// Draws a number from 0 (included) to 1 (excluded).
    pub(crate) fn fraction(&mut self) -> f64 {
        let high = u32::try_from(self.next() >> 32).unwrap_or(u32::MAX);
        f64::from(high) / (f64::from(u32::MAX) + 1.0)
    }

    /// Draws a whole number from 1 to `most`, both included.
    pub(crate) fn up_to(&mut self, most: usize) -> usize {
        let most = u64::try_from(most.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % most).unwrap_or(0) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_connection_throw_the_same_dice() {
        let throw = |seed, connection| {
            let mut dice = Dice::new(seed, connection);
            (0..64).map(|_| dice.chance(0.5)).collect::<Vec<_>>()
        };
        assert_eq!(throw(7, 1), throw(7, 1));
        assert_ne!(throw(7, 1), throw(7, 2));
        assert_ne!(throw(7, 1), throw(8, 1));
    }

    #[test]
    fn a_chance_comes_true_about_as_often_as_it_says() {
        let mut dice = Dice::new(1, 1);
        let hits = (0..10_000).filter(|_| dice.chance(0.3)).count();
        assert!((2_700..3_300).contains(&hits), "{hits}");
        assert!((0..100).all(|_| (1..=4).contains(&dice.up_to(4))));
    }
}
