//! Ledger: the answers that were given, kept so that a repeated request gets the same one.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;

use contextvm_core::{Draft, Limits, Mono, Now, Protection};
use nostr::event::EventId;
use nostr::key::PublicKey;

use super::RequestKey;

/// What a kept answer costs beside its text.
const OVERHEAD: usize = 512;
/// Answers are forgotten at most so often, milliseconds.
const FORGETS_EVERY: u64 = 1_000;

/// One answer is repeated so many times at once: a client that restarts within a second signs the very same
/// `initialize` again, and one whose relay comes back asks twice, perhaps after two outages.
const FREE_REPEATS: u32 = 4;
/// The pause before the next repeat; it doubles each time, so that nobody makes us publish one answer for ever.
const REPEAT: core::time::Duration = core::time::Duration::from_secs(1);

/// The same for one that goes in many events.
const FREE_TRANSFERS: u32 = 2;

/// How often an answer was given again, and when last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    sent: Mono,
    again: u32,
    free: u32,
}

impl Pace {
    pub(super) const fn new(now: Mono) -> Self {
        Self { sent: now, again: 0, free: FREE_REPEATS }
    }

    /// The pace of an answer that is transferred.
    pub(super) const fn of_transfer(now: Mono) -> Self {
        Self { sent: now, again: 0, free: FREE_TRANSFERS }
    }

    /// Whether the answer may be given again; if so, it is counted.
    pub(super) fn take(&mut self, now: Mono) -> bool {
        if let Some(times) = self.again.checked_sub(self.free)
            && now.since(self.sent) < REPEAT * (1 << times.min(16))
        {
            return false;
        }
        *self = Self { sent: now, again: self.again.saturating_add(1), ..*self };
        true
    }

    /// Notes that the answer was published for another reason.
    pub(super) const fn sent(&mut self, now: Mono) {
        self.sent = now;
    }
}

/// One answer as it went out.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) draft: Draft,
    pub(super) protection: Protection,
    pub(super) pace: Pace,
    until: Mono,
    bytes: usize,
    /// Its caller was established when it was given.
    is_known: bool,
}

/// Returns what keeping an answer costs, bytes.
pub(super) fn weight(draft: &Draft) -> usize {
    // Two tags are in the overhead.
    let tags = draft.tags.iter().skip(2).flat_map(|tag| tag.as_slice());
    let tags: usize = tags.map(|text| text.len().saturating_add(size_of::<String>())).sum();
    draft.content.len().saturating_add(tags).saturating_add(OVERHEAD)
}

/// Answers by request key, bounded in bytes and in time.
///
/// When room is needed, strangers' answers go first, the oldest before the others, then the oldest of the established caller
/// that has most. Strangers together have half, and push out nobody's answer but each other's. Among them the newest counts:
/// a flood would otherwise keep everybody out who comes later.
#[derive(Debug)]
pub(super) struct Ledger {
    kept: BTreeMap<RequestKey, Kept>,
    by_end: BTreeSet<(Mono, RequestKey)>,
    /// The same for strangers alone.
    of_strangers: BTreeSet<(Mono, RequestKey)>,
    strangers_bytes: usize,
    /// The same for established callers, and how many bytes each of them has.
    of_known: BTreeSet<(PublicKey, Mono, EventId)>,
    shares: BTreeMap<PublicKey, usize>,
    by_share: BTreeSet<(usize, PublicKey)>,
    bytes: usize,
    most_bytes: usize,
    largest: usize,
    ttl: core::time::Duration,
}

impl Ledger {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            kept: BTreeMap::new(),
            by_end: BTreeSet::new(),
            of_strangers: BTreeSet::new(),
            strangers_bytes: 0,
            of_known: BTreeSet::new(),
            shares: BTreeMap::new(),
            by_share: BTreeSet::new(),
            bytes: 0,
            most_bytes: limits.ledger_bytes,
            largest: limits.ledger_answer,
            ttl: limits.ledger_ttl,
        }
    }

    /// Keeps an answer if it is not too large, and says whether it did.
    pub(super) fn keep(
        &mut self,
        key: RequestKey,
        draft: Draft,
        protection: Protection,
        is_known: bool,
        now: Mono,
    ) -> bool {
        self.insert(key, draft, protection, is_known, (now, now.after(self.ttl)))
    }

    /// Keeps an answer of an earlier run for what is left of its time, and says whether it did.
    pub(super) fn restore(
        &mut self,
        key: RequestKey,
        draft: Draft,
        protection: Protection,
        now: Now,
    ) -> bool {
        let age = core::time::Duration::from_secs(now.unix.saturating_sub(draft.created_at));
        let left = self.ttl.saturating_sub(age);
        !left.is_zero() && self.insert(key, draft, protection, true, (now.mono, now.mono.after(left)))
    }

    fn insert(
        &mut self,
        key: RequestKey,
        draft: Draft,
        protection: Protection,
        is_known: bool,
        (now, until): (Mono, Mono),
    ) -> bool {
        let bytes = weight(&draft);
        let most = if is_known { self.most_bytes } else { self.most_bytes / 2 };
        if draft.content.len() > self.largest || bytes > most {
            return false;
        }
        self.remove(&key);
        if !self.make_room(bytes, is_known) {
            return false;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.by_end.insert((until, key));
        if is_known {
            self.of_known.insert((key.caller, until, key.id));
            self.set_share(key.caller, |share| share.saturating_add(bytes));
        } else {
            self.of_strangers.insert((until, key));
            self.strangers_bytes = self.strangers_bytes.saturating_add(bytes);
        }
        self.kept.insert(key, Kept { draft, protection, pace: Pace::new(now), until, bytes, is_known });
        true
    }

    fn make_room(&mut self, bytes: usize, is_known: bool) -> bool {
        while self.bytes.saturating_add(bytes) > self.most_bytes
            || (!is_known && self.strangers_bytes.saturating_add(bytes) > self.most_bytes / 2)
        {
            let stranger = self.of_strangers.first().map(|(_, key)| *key);
            let known = || self.oldest_of_richest().filter(|_| is_known);
            let Some(key) = stranger.or_else(known) else { return false };
            self.remove(&key);
        }
        true
    }

    fn oldest_of_richest(&self) -> Option<RequestKey> {
        let (_, richest) = *self.by_share.last()?;
        let from = (richest, Mono(0), EventId::from_byte_array([0; 32]));
        self.of_known.range(from..).next().map(|(caller, _, id)| RequestKey { caller: *caller, id: *id })
    }

    fn set_share(&mut self, caller: PublicKey, change: impl FnOnce(usize) -> usize) {
        let old = self.shares.remove(&caller).unwrap_or(0);
        self.by_share.remove(&(old, caller));
        let new = change(old);
        if new > 0 {
            self.shares.insert(caller, new);
            self.by_share.insert((new, caller));
        }
    }

    pub(super) fn holds(&self, key: &RequestKey) -> bool {
        self.kept.contains_key(key)
    }

    pub(super) fn get_mut(&mut self, key: &RequestKey) -> Option<&mut Kept> {
        self.kept.get_mut(key)
    }

    /// Forgets what is over its time.
    pub(super) fn forget(&mut self, now: Mono) {
        while let Some((until, key)) = self.by_end.first().copied() {
            if until > now {
                break;
            }
            self.remove(&key);
        }
    }

    /// Returns when to forget next: in whole seconds, so that what was answered in one second needs one wake.
    pub(super) fn next_end(&self) -> Option<Mono> {
        let (until, _) = self.by_end.first()?;
        Some(until.0.checked_next_multiple_of(FORGETS_EVERY).map_or(*until, Mono))
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    fn remove(&mut self, key: &RequestKey) {
        let Some(old) = self.kept.remove(key) else { return };
        self.by_end.remove(&(old.until, *key));
        self.bytes = self.bytes.saturating_sub(old.bytes);
        if old.is_known {
            self.of_known.remove(&(key.caller, old.until, key.id));
            self.set_share(key.caller, |share| share.saturating_sub(old.bytes));
        } else {
            self.of_strangers.remove(&(old.until, *key));
            self.strangers_bytes = self.strangers_bytes.saturating_sub(old.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use nostr::event::Tags;

    use super::*;

    const ANSWER: usize = 1_000;

    fn key(caller: u16, n: u16) -> RequestKey {
        let spread = |n: u16| core::array::from_fn(|at| n.to_be_bytes()[at % 2]);
        RequestKey {
            caller: PublicKey::from_byte_array(spread(caller)),
            id: EventId::from_byte_array(spread(n)),
        }
    }

    /// A ledger with room for eight answers.
    fn ledger() -> Ledger {
        Ledger::new(&Limits { ledger_bytes: 8 * ANSWER, ..Limits::default() })
    }

    fn keep(ledger: &mut Ledger, caller: u16, n: u16, is_known: bool, now: u64) -> bool {
        let key = key(caller, n);
        let draft = Draft::new(key.caller, 1, Tags::new(), "x".repeat(ANSWER - OVERHEAD));
        let kept = ledger.keep(key, draft, Protection::Plain, is_known, Mono(now));
        assert!(ledger.bytes() <= 8 * ANSWER && ledger.bytes() == ledger.kept.len() * ANSWER);
        assert_eq!(ledger.of_strangers.len() * ANSWER, ledger.strangers_bytes);
        assert_eq!(ledger.of_known.len() * ANSWER, ledger.shares.values().sum::<usize>());
        kept
    }

    #[test]
    fn strangers_push_out_no_answer_of_an_established_caller_and_have_half() {
        let mut ledger = ledger();
        assert!((0..4).all(|n| keep(&mut ledger, 1, n, true, 0)));
        assert!((0..1_000).all(|n| keep(&mut ledger, 2 + n, n, false, 1 + u64::from(n))));
        assert!((0..4).all(|n| ledger.holds(&key(1, n))));
        assert!((996..1_000).all(|n| ledger.holds(&key(2 + n, n))), "the newest of them");
        assert_eq!(ledger.kept.len(), 8);
        assert!((4..8).all(|n| keep(&mut ledger, 1, n, true, 2_000)), "they make room at once");
        assert_eq!(ledger.of_strangers.len(), 0);
        assert!(!keep(&mut ledger, 2, 0, false, 2_001));
        assert_eq!(ledger.of_known.len(), 8);
    }

    #[test]
    fn who_has_most_makes_room_for_the_others() {
        let mut ledger = ledger();
        assert!(keep(&mut ledger, 1, 0, true, 0));
        assert!((0..100).all(|n| keep(&mut ledger, 2, n, true, 1 + u64::from(n))));
        assert!(ledger.holds(&key(1, 0)), "the oldest of all, and the only one of its caller");
        assert!((93..100).all(|n| ledger.holds(&key(2, n))));
        assert!((3..6).all(|caller| keep(&mut ledger, caller, 0, true, 200)));
        assert!((1..6).all(|caller| ledger.shares.contains_key(&key(caller, 0).caller)));
        assert_eq!(ledger.kept.len(), 8);
    }

    #[test]
    fn everything_is_forgotten_in_time() {
        let mut ledger = ledger();
        keep(&mut ledger, 1, 0, true, 0);
        keep(&mut ledger, 2, 0, false, 0);
        keep(&mut ledger, 1, 0, false, 5);
        assert_eq!(ledger.kept.len(), 2, "the newer answer takes the place of the older one");
        ledger.forget(Mono(u64::MAX));
        assert_eq!((ledger.bytes, ledger.strangers_bytes, ledger.next_end()), (0, 0, None));
        assert!(ledger.shares.is_empty() && ledger.by_share.is_empty() && ledger.of_known.is_empty());
    }

    #[test]
    fn what_was_answered_in_one_second_is_forgotten_in_one_wake() {
        let mut ledger = ledger();
        assert!((0..8).all(|n| keep(&mut ledger, 1, n, true, 100 + 100 * u64::from(n))));
        let first = ledger.kept[&key(1, 0)].until;
        let wake = ledger.next_end().unwrap();
        assert!(first <= wake && wake.since(first) < core::time::Duration::from_secs(1));
        ledger.forget(wake);
        assert_eq!((ledger.kept.len(), ledger.next_end()), (0, None));
    }
}
