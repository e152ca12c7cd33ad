//! Inner ids of notifications and requests that were acted on already.
use alloc::collections::BTreeSet;
use contextvm_core::{Limits, Mono};
use core::time::Duration;
use nostr::event::EventId;

/// Ids per generation; two generations are kept.
const MOST: usize = 8_192;

/// A set of ids in two generations: at least one whole age window is remembered, unless the peer floods it.
///
/// Answers are not in it (they end a pending call, which happens once), so a flood can at worst make an old
/// notification be heard again.
#[derive(Debug)]
pub(super) struct Heard {
    young: BTreeSet<EventId>,
    old: BTreeSet<EventId>,
    turned: Mono,
    span: Duration,
    most: usize,
}

impl Heard {
    pub(super) fn new(limits: &Limits) -> Self {
        let window = limits.age_window.saturating_mul(2).saturating_add(limits.age_skew);
        Self {
            young: BTreeSet::new(),
            old: BTreeSet::new(),
            turned: Mono::default(),
            span: Duration::from_secs(window),
            most: limits.seen_ids.clamp(1, MOST),
        }
    }

    /// Remembers an id; `false` when it is known.
    pub(super) fn first_time(&mut self, id: EventId, now: Mono) -> bool {
        if now.since(self.turned) > self.span || self.young.len() >= self.most {
            self.old = core::mem::take(&mut self.young);
            self.turned = now;
        }
        !self.old.contains(&id) && self.young.insert(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u16) -> EventId {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        EventId::from_slice(&bytes).unwrap()
    }

    #[test]
    fn an_id_is_new_once_within_the_age_window() {
        let mut heard = Heard::new(&Limits::default());
        assert!(heard.first_time(id(1), Mono(0)));
        for minutes in 1..20 {
            assert!(!heard.first_time(id(1), Mono(minutes * 60_000)));
        }
    }

    #[test]
    fn memory_is_bounded_and_the_newest_ids_are_kept() {
        let limits = Limits { seen_ids: 10, ..Limits::default() };
        let mut heard = Heard::new(&limits);
        for n in 0..1_000 {
            assert!(heard.first_time(id(n), Mono(0)));
            assert!(heard.young.len() + heard.old.len() <= 20);
            assert!(!heard.first_time(id(n), Mono(0)));
        }
    }
}
