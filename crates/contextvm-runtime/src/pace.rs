//! How many pieces of large messages are on their way at once: as many as the relays take in about a second.
//!
//! What is small never waits behind more than that, and no piece is so late that it would be sent twice.
use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Pieces on their way at first, at least and at most.
const FIRST: usize = 16;
const LEAST: usize = 2;
const MOST: usize = 48;
/// A piece that took longer to be answered was one too many.
const SLOW: Duration = Duration::from_secs(1);
/// One that took less makes way for another one more.
const QUICK: Duration = Duration::from_millis(500);
/// Pieces that may wait; then nothing more is made.
const WAITING: usize = 64;

/// Pieces that wait, and the number of those that do not.
#[derive(Debug)]
pub(crate) struct Pace<T> {
    waiting: VecDeque<T>,
    out: usize,
    most: usize,
    /// What was sent before this was sent into the old window.
    since: Option<Instant>,
}

impl<T> Default for Pace<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), out: 0, most: FIRST, since: None }
    }
}

impl<T> Pace<T> {
    /// Takes a piece; [`Self::next`] says when it goes.
    pub(crate) fn push(&mut self, piece: T) {
        self.waiting.push_back(piece);
    }

    /// Returns the next piece that goes now.
    pub(crate) fn next(&mut self) -> Option<T> {
        if self.out >= self.most {
            return None;
        }
        let piece = self.waiting.pop_front()?;
        self.out += 1;
        Some(piece)
    }

    /// Takes note that a piece that went at `sent` was answered, or never will be.
    pub(crate) fn ended(&mut self, sent: Instant, now: Instant) {
        self.out = self.out.saturating_sub(1);
        let took = now.saturating_duration_since(sent);
        if took >= SLOW {
            // All that were on their way together were late for one reason.
            if self.since.is_none_or(|since| sent >= since) {
                self.most = (self.most / 2).max(LEAST);
                self.since = Some(now);
            }
        } else if took < QUICK {
            self.most = (self.most + 1).min(MOST);
        }
    }

    /// Whether another piece may be made.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends as much as may be sent and returns how many went.
    fn go(pace: &mut Pace<u32>) -> usize {
        core::iter::from_fn(|| pace.next()).count()
    }

    fn full() -> Pace<u32> {
        let mut pace = Pace::default();
        (0..1_000).for_each(|piece| pace.push(piece));
        pace
    }

    #[test]
    fn a_window_that_is_late_is_halved_once_and_never_below_the_least() {
        let mut pace = full();
        let mut now = Instant::now();
        assert_eq!(go(&mut pace), FIRST);
        for expected in [FIRST / 2, FIRST / 4, LEAST, LEAST] {
            let (sent, out) = (now, pace.out);
            now += SLOW;
            (0..out).for_each(|_| pace.ended(sent, now));
            assert_eq!(go(&mut pace), expected);
        }
    }

    #[test]
    fn quick_answers_open_the_window_up_to_the_most() {
        let mut pace = full();
        let now = Instant::now();
        let mut sent = go(&mut pace);
        for _ in 0..MOST {
            pace.ended(now, now + QUICK / 2);
            sent += go(&mut pace);
        }
        assert_eq!(sent, MOST * 2, "as many as were answered, and a full window");
        pace.ended(now, now + QUICK);
        assert_eq!(go(&mut pace), 1, "neither slow nor quick changes nothing");
    }

    #[test]
    fn pieces_go_in_order_and_are_bounded() {
        let mut pace = Pace::default();
        (0..50).for_each(|piece| pace.push(piece));
        assert!(pace.has_room());
        assert!(core::iter::from_fn(|| pace.next()).eq(0..16));
        (50..100).for_each(|piece| pace.push(piece));
        assert!(!pace.has_room() && !pace.is_empty());
    }
}
