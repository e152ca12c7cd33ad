//! Ledger: the answers that were given, kept so that a repeated request gets the same one.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;

use contextvm_core::{Draft, Limits, Mono, Now, Protection};

use super::RequestKey;

/// What a kept answer costs beside its text.
const OVERHEAD: usize = 512;

/// One answer is repeated so many times at once: a client that restarts within a second signs the very same
/// `initialize` again.
const FREE_REPEATS: u32 = 2;
/// The pause before the next repeat; it doubles each time, so that nobody makes us publish one answer for ever.
const REPEAT: core::time::Duration = core::time::Duration::from_secs(1);

/// How often an answer was given again, and when last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    sent: Mono,
    again: u32,
}

impl Pace {
    pub(super) const fn new(now: Mono) -> Self {
        Self { sent: now, again: 0 }
    }

    /// Whether the answer may be given again; if so, it is counted.
    pub(super) fn take(&mut self, now: Mono) -> bool {
        if let Some(times) = self.again.checked_sub(FREE_REPEATS)
            && now.since(self.sent) < REPEAT * (1 << times.min(16))
        {
            return false;
        }
        *self = Self { sent: now, again: self.again.saturating_add(1) };
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
}

/// Answers by request key, bounded in bytes and in time; the oldest go first when room is needed.
#[derive(Debug)]
pub(super) struct Ledger {
    kept: BTreeMap<RequestKey, Kept>,
    by_end: BTreeSet<(Mono, RequestKey)>,
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
            bytes: 0,
            most_bytes: limits.ledger_bytes,
            largest: limits.ledger_answer,
            ttl: limits.ledger_ttl,
        }
    }

    /// Keeps an answer if it is not too large, and says whether it did.
    pub(super) fn keep(&mut self, key: RequestKey, draft: Draft, protection: Protection, now: Mono) -> bool {
        self.keep_for(self.ttl, key, draft, protection, now)
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
        !left.is_zero() && self.keep_for(left, key, draft, protection, now.mono)
    }

    fn keep_for(
        &mut self,
        left: core::time::Duration,
        key: RequestKey,
        draft: Draft,
        protection: Protection,
        now: Mono,
    ) -> bool {
        // Two tags are in the overhead.
        let tags = draft.tags.iter().skip(2).flat_map(|tag| tag.as_slice());
        let tags: usize = tags.map(|text| text.len().saturating_add(size_of::<String>())).sum();
        let bytes = draft.content.len().saturating_add(tags).saturating_add(OVERHEAD);
        if draft.content.len() > self.largest || bytes > self.most_bytes {
            return false;
        }
        self.remove(&key);
        while self.bytes.saturating_add(bytes) > self.most_bytes {
            let Some((_, oldest)) = self.by_end.first().copied() else { break };
            self.remove(&oldest);
        }
        let until = now.after(left);
        self.bytes = self.bytes.saturating_add(bytes);
        self.by_end.insert((until, key));
        self.kept.insert(key, Kept { draft, protection, pace: Pace::new(now), until, bytes });
        true
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

    pub(super) fn next_end(&self) -> Option<Mono> {
        self.by_end.first().map(|(until, _)| *until)
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    fn remove(&mut self, key: &RequestKey) {
        if let Some(old) = self.kept.remove(key) {
            self.by_end.remove(&(old.until, *key));
            self.bytes = self.bytes.saturating_sub(old.bytes);
        }
    }
}
