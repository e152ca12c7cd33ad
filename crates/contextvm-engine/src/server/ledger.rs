//! Ledger: the answers that were given, kept so that a repeated request gets the same one.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;

use contextvm_core::{Draft, Limits, Mono, Protection};

use super::RequestKey;

/// What a kept answer costs beside its text.
const OVERHEAD: usize = 512;

/// One answer as it went out.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) draft: Draft,
    pub(super) protection: Protection,
    /// When it was published last.
    pub(super) sent: Mono,
    /// How often it was given again.
    pub(super) again: u32,
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
        let until = now.after(self.ttl);
        self.bytes = self.bytes.saturating_add(bytes);
        self.by_end.insert((until, key));
        self.kept.insert(key, Kept { draft, protection, sent: now, again: 0, until, bytes });
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
