//! What was the newest that was ever seen of a key, kept over restarts: nobody can go back behind it (rollback).
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contextvm_announce::{Freshness, Newest, Signed, Stamp};
use contextvm_core::{Fault, kind};
use nostr::key::PublicKey;

use crate::recall::Lists;
use crate::store;

/// Most (key, kind) pairs that are remembered; beyond it only those of preferred keys are, in place of the oldest stranger's.
pub const MOST_REMEMBERED: usize = 50_000;

/// What went wrong with the file of a [`Memory`]; the memory goes on without it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The file cannot be read.
    #[error("the file {} cannot be read: {kind}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        kind: std::io::ErrorKind,
    },
    /// The file holds something else than what was written to it; it was renamed, and what was still legible was kept.
    #[error("the file {} was damaged; it is now {}, and {kept} entries of it were kept", path.display(), aside.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Its new name.
        aside: PathBuf,
        /// Entries that were legible.
        kept: usize,
    },
    /// Another process holds the file for too long.
    #[error("the file {} is held by another process", path.display())]
    Held {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error("the file {} cannot be written: {kind}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        kind: std::io::ErrorKind,
    },
}

impl MemoryError {
    /// Says who misbehaved: this host.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        Fault::Local
    }
}

/// The newest event seen of each (key, kind), and the newest relay list of each key as a whole; clones share it.
///
/// With a file it is kept over restarts, and several processes may share the file: what they know is merged whenever one
/// of them saves. Worst case: 50,000 stamps of about 120 bytes, and 256 relay lists of at most 16 KiB.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    path: Option<PathBuf>,
    held: Mutex<Held>,
    warnings: Mutex<Vec<MemoryError>>,
}

/// Everything that is remembered.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) newest: Newest,
    pub(crate) lists: Lists,
    /// Whether something was learned since it was last saved.
    changed: bool,
}

impl Default for Held {
    fn default() -> Self {
        Self { newest: Newest::new(MOST_REMEMBERED), lists: Lists::default(), changed: false }
    }
}

impl Memory {
    /// Makes a memory that lasts as long as the process.
    #[must_use]
    pub fn volatile() -> Self {
        Self::default()
    }

    /// Reads a memory from a file, which need not exist yet. Reads at most 16 MiB; blocks meanwhile, and with a damaged file
    /// until no other process writes, for up to 2 s.
    ///
    /// A file that cannot be used is no error: the memory knows what was legible, and [`Memory::warnings`] tells. A damaged
    /// one is renamed, never overwritten.
    #[must_use]
    pub fn open(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let (held, wrong) = store::load(&path);
        let warnings = Mutex::new(wrong.into_iter().collect());
        Self { inner: Arc::new(Inner { path: Some(path), held: Mutex::new(held), warnings }) }
    }

    /// Returns the file, if there is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.inner.path.as_deref()
    }

    /// Takes what went wrong with the file since the last time, at most 16 entries.
    #[must_use]
    pub fn warnings(&self) -> Vec<MemoryError> {
        std::mem::take(&mut *locked(&self.inner.warnings))
    }

    /// Names a key that matters here: its relay list is remembered as a whole, and strangers cannot take its room.
    pub fn prefer(&self, key: PublicKey) {
        self.held().newest.prefer(key);
    }

    /// Says how an event compares with the newest one seen, at a time in Unix seconds.
    #[must_use]
    pub fn judge(&self, event: &Signed, now: u64) -> Freshness {
        match replaced(event) {
            true => self.held().newest.judge(event, now),
            false => lasting(event, now),
        }
    }

    /// Does what [`Memory::judge`] does, and remembers the event if it is newer.
    ///
    /// Of kinds that replace nothing, as reviews, only the time is judged.
    pub fn learn(&self, event: &Signed, now: u64) -> Freshness {
        if !replaced(event) {
            return lasting(event, now);
        }
        let mut held = self.held();
        let freshness = held.newest.learn(event, now);
        let listed = event.kind.as_u16() == kind::RELAY_LIST
            && held.newest.is_preferred(&event.pubkey)
            && matches!(freshness, Freshness::Newer | Freshness::Same)
            && held.lists.keep(event);
        held.changed |= listed || matches!(freshness, Freshness::Newer);
        freshness
    }

    /// Returns the newest relay list (kind 10002) ever seen of a preferred key, unless it was deleted since.
    #[must_use]
    pub fn relay_list(&self, key: &PublicKey) -> Option<Signed> {
        let held = self.held();
        let newest = held.newest.get(key, kind::RELAY_LIST);
        held.lists.get(key).filter(|list| Some(list.stamp()) == newest).cloned()
    }

    /// Learns relay lists of a key and returns the newest one that was found or is remembered.
    pub(crate) fn best_list<'a>(
        &self,
        key: &PublicKey,
        found: impl Iterator<Item = &'a Signed>,
        now: u64,
    ) -> Option<Signed> {
        let current = |list: &&Signed| matches!(self.learn(list, now), Freshness::Newer | Freshness::Same);
        // Where there is no room to remember a list, the one at hand still counts.
        let found = found.filter(|list| list.pubkey == *key).filter(current).max_by_key(|list| list.stamp());
        found.cloned().into_iter().chain(self.relay_list(key)).max_by_key(Signed::stamp)
    }

    /// Takes over what a directory has learned.
    pub(crate) fn absorb(&self, newest: &Newest, vouched: &BTreeSet<PublicKey>) {
        let mut held = self.held();
        let before = held.newest.clone();
        held.newest.merge_vouched(newest, u64::MAX, |key| vouched.contains(key));
        held.changed |= held.newest != before;
    }

    /// Copies the stamps.
    pub(crate) fn snapshot(&self) -> Newest {
        self.held().newest.clone()
    }

    /// Returns the stamp of the newest event seen of a key and kind.
    #[must_use]
    pub fn newest(&self, key: &PublicKey, kind: u16) -> Option<Stamp> {
        self.held().newest.get(key, kind)
    }

    /// Merges what was learned into the file; without a file, or when nothing was learned, it does nothing.
    ///
    /// # Errors
    /// Fails when the file cannot be held or written; what was learned stays and is written by the next one that works.
    pub async fn save(&self) -> Result<(), MemoryError> {
        if self.inner.path.is_none() || !self.held().changed {
            return Ok(());
        }
        let inner = Arc::clone(&self.inner);
        let saved = tokio::task::spawn_blocking(move || inner.save()).await;
        // A task that panicked has said so itself.
        saved.unwrap_or(Ok(()))
    }

    /// Saves, and keeps a failure for [`Memory::warnings`].
    pub(crate) async fn try_save(&self) {
        if let Err(error) = self.save().await {
            tracing::warn!(%error, "what was seen is not remembered");
            self.inner.warn(error);
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        locked(&self.inner.held)
    }
}

impl Inner {
    fn save(&self) -> Result<(), MemoryError> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut mine = {
            let mut held = locked(&self.held);
            held.changed = false;
            held.clone()
        };
        let saved = store::merge(path, &mut mine);
        let mut held = locked(&self.held);
        held.absorb(&mine);
        match saved {
            Ok(None) => {}
            Ok(Some(damage)) => self.warn(damage),
            Err(error) => {
                held.changed = true;
                return Err(error);
            }
        }
        Ok(())
    }

    fn warn(&self, warning: MemoryError) {
        let mut warnings = locked(&self.warnings);
        if warnings.len() < 16 {
            warnings.push(warning);
        }
    }
}

impl Held {
    /// Takes over what others know.
    pub(crate) fn absorb(&mut self, others: &Self) {
        // What was not from the future when it was learned is not from the future now, whatever our clock does.
        self.newest.merge(&others.newest, u64::MAX);
        for list in others.lists.iter() {
            self.remember(list);
        }
    }

    /// Keeps a list that was remembered before, and prefers its author again.
    pub(crate) fn remember(&mut self, list: &Signed) {
        self.newest.prefer(list.pubkey);
        self.lists.keep(list);
    }
}

/// Whether an event of this kind takes the place of an earlier one of its author, or ends it.
fn replaced(event: &Signed) -> bool {
    event.kind.is_replaceable() || event.kind.as_u16() == kind::DELETION
}

const fn lasting(event: &Signed, now: u64) -> Freshness {
    if event.stamp().is_future(now) { Freshness::Future } else { Freshness::Newer }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
