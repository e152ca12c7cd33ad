//! The newest event of each key and kind: newest wins, ties go to the lowest id, and nothing goes back (T70, T71).
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use core::cmp::Ordering;
use core::fmt::Write;
use core::time::Duration;

use contextvm_core::kind;
use nostr::event::EventId;
use nostr::key::PublicKey;

use crate::{Signed, Withdrawal};

/// How far ahead of our clock an event may be stamped: 15 minutes.
pub const FUTURE: Duration = Duration::from_secs(15 * 60);

/// An event's place among those that replace each other (NIP-01): greater is newer, and at the same second the lowest id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Unix seconds.
    pub created_at: u64,
    /// The event's id.
    pub id: EventId,
}

impl Stamp {
    /// Returns the stamp that lies behind every event of this second and before every event of the next: what a deletion
    /// up to this second leaves.
    #[must_use]
    pub const fn end_of(created_at: u64) -> Self {
        Self { created_at, id: EventId::from_byte_array([0; 32]) }
    }

    /// Returns the next newer stamp, which no event has: what the deletion of this very event leaves.
    #[must_use]
    pub fn deleted(self) -> Self {
        let mut bytes = self.id.to_bytes();
        for byte in bytes.iter_mut().rev() {
            let (less, borrowed) = byte.overflowing_sub(1);
            *byte = less;
            if !borrowed {
                return Self { id: EventId::from_byte_array(bytes), ..self };
            }
        }
        self
    }

    /// Whether it lies more than [`FUTURE`] ahead of `unix`.
    #[must_use]
    pub const fn is_future(&self, unix: u64) -> bool {
        self.created_at > unix.saturating_add(FUTURE.as_secs())
    }
}

impl Ord for Stamp {
    fn cmp(&self, other: &Self) -> Ordering {
        self.created_at.cmp(&other.created_at).then_with(|| other.id.cmp(&self.id))
    }
}

impl PartialOrd for Stamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// How an event compares with the newest that was seen of its key and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Freshness {
    /// It is newer than all that was seen, or the first.
    Newer,
    /// It is the newest that was seen.
    Same,
    /// It is older than this one, or deleted: a relay that serves it is behind or goes back.
    Older(Stamp),
    /// It is stamped more than [`FUTURE`] ahead of our clock.
    Future,
}

/// The newest stamp seen of each key and kind, bounded in number.
///
/// A full memory learns no new key and kind and forgets none: strangers cannot push out what is known. Only keys that the
/// application named with [`prefer`](Self::prefer) still find room, in place of the stranger with the oldest stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newest {
    stamps: BTreeMap<(PublicKey, u16), Stamp>,
    preferred: BTreeSet<PublicKey>,
    capacity: usize,
    unremembered: u64,
}

impl Default for Newest {
    fn default() -> Self {
        Self::new(Self::CAPACITY)
    }
}

impl Newest {
    /// Most stamps remembered unless told otherwise: 32,768, some 4 MiB, or a file of 5 MiB.
    pub const CAPACITY: usize = 32_768;
    /// Most keys that may be preferred: 1,024.
    pub const PREFERRED: usize = 1_024;

    /// Starts an empty memory with room for so many stamps.
    #[must_use]
    pub const fn new(capacity: usize) -> Self {
        Self { stamps: BTreeMap::new(), preferred: BTreeSet::new(), capacity, unremembered: 0 }
    }

    /// Names a key that matters to the application; beyond [`PREFERRED`](Self::PREFERRED) keys it has no effect.
    pub fn prefer(&mut self, key: PublicKey) {
        if self.preferred.len() < Self::PREFERRED {
            self.preferred.insert(key);
        }
    }

    /// Whether the application named the key.
    #[must_use]
    pub fn is_preferred(&self, key: &PublicKey) -> bool {
        self.preferred.contains(key)
    }

    /// Returns the newest stamp of a key and kind; the end of a second ([`Stamp::end_of`]) when that was a deletion, or an id that no event has ([`Stamp::deleted`]).
    #[must_use]
    pub fn get(&self, key: &PublicKey, kind: u16) -> Option<Stamp> {
        self.stamps.get(&(*key, kind)).copied()
    }

    /// Compares an event with what was seen; `unix` is our clock in seconds.
    #[must_use]
    pub fn judge(&self, event: &Signed, unix: u64) -> Freshness {
        self.judge_stamp(&event.pubkey, event.kind.as_u16(), event.stamp(), unix)
    }

    /// Compares an event with what was seen and remembers it if it is newer.
    ///
    /// Of a deletion (kind 5) it remembers which kinds of its author it ends (`a` tags), and the ids (`e` tags) that are the
    /// newest it knows.
    pub fn learn(&mut self, event: &Signed, unix: u64) -> Freshness {
        let (key, stamp) = (event.pubkey, event.stamp());
        let Some(deletion) = Withdrawal::read(event) else {
            return self.learn_stamp(key, event.kind.as_u16(), stamp, unix);
        };
        if stamp.is_future(unix) {
            return Freshness::Future;
        }
        for ended in &deletion.kinds {
            self.learn_stamp(key, *ended, Stamp::end_of(stamp.created_at), unix);
        }
        for (_, newest) in self.stamps.range_mut((key, 0)..=(key, u16::MAX)) {
            if deletion.ids.contains(&newest.id) {
                *newest = newest.deleted();
            }
        }
        Freshness::Newer
    }

    /// Compares a stamp with what was seen of a key and kind.
    #[must_use]
    pub fn judge_stamp(&self, key: &PublicKey, kind: u16, stamp: Stamp, unix: u64) -> Freshness {
        if stamp.is_future(unix) {
            return Freshness::Future;
        }
        match self.get(key, kind) {
            Some(newest) if newest > stamp => Freshness::Older(newest),
            Some(newest) if newest == stamp => Freshness::Same,
            _ => Freshness::Newer,
        }
    }

    /// Compares a stamp with what was seen and remembers it if it is newer.
    pub fn learn_stamp(&mut self, key: PublicKey, kind: u16, stamp: Stamp, unix: u64) -> Freshness {
        let freshness = self.judge_stamp(&key, kind, stamp, unix);
        if freshness == Freshness::Newer {
            if self.has_room(&key, kind) {
                self.stamps.insert((key, kind), stamp);
            } else {
                self.unremembered = self.unremembered.saturating_add(1);
            }
        }
        freshness
    }

    /// Takes everything that another memory knows better.
    pub fn merge(&mut self, other: &Self, unix: u64) {
        for (&(key, kind), &stamp) in &other.stamps {
            self.learn_stamp(key, kind, stamp, unix);
        }
    }

    /// Takes what another memory knows better, as [`merge`](Self::merge) does; but of keys that are neither known here nor preferred
    /// nor vouched for, only until a quarter of the room is taken: who invents keys cannot fill it.
    pub fn merge_vouched(&mut self, other: &Self, unix: u64, vouched: impl Fn(&PublicKey) -> bool) {
        for (&(key, kind), &stamp) in &other.stamps {
            let known = self.stamps.contains_key(&(key, kind)) || self.is_preferred(&key);
            if known || vouched(&key) || self.stamps.len() < self.capacity / 4 {
                self.learn_stamp(key, kind, stamp, unix);
            } else {
                self.unremembered = self.unremembered.saturating_add(1);
            }
        }
    }

    /// Returns how many stamps are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stamps.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stamps.is_empty()
    }

    /// Returns how many stamps found no room.
    #[must_use]
    pub const fn unremembered(&self) -> u64 {
        self.unremembered
    }

    /// Prints one line per stamp: `<key in hex> <kind> <created_at> <id in hex>`, sorted, so that the same memory is the same
    /// text.
    #[must_use]
    pub fn to_lines(&self) -> String {
        let mut out = String::with_capacity(self.stamps.len() * 148);
        for ((key, kind), stamp) in &self.stamps {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{} {kind} {} {}", key.to_hex(), stamp.created_at, stamp.id.to_hex());
        }
        out
    }

    /// Takes what is newer from printed lines and returns how many lines were skipped: not of the form, from the future, or
    /// without room. Empty lines do not count.
    pub fn read_lines(&mut self, lines: &str, unix: u64) -> usize {
        let mut skipped = 0;
        for line in lines.lines().filter(|line| !line.is_empty()) {
            let before = self.unremembered;
            let taken = line_parts(line)
                .map(|(key, kind, stamp)| self.learn_stamp(key, kind, stamp, unix))
                .is_some_and(|freshness| freshness != Freshness::Future && self.unremembered == before);
            skipped += usize::from(!taken);
        }
        skipped
    }

    fn has_room(&mut self, key: &PublicKey, kind: u16) -> bool {
        if self.stamps.len() < self.capacity || self.stamps.contains_key(&(*key, kind)) {
            return true;
        }
        if !self.is_preferred(key) {
            return false;
        }
        let strangers = self.stamps.iter().filter(|((key, _), _)| !self.preferred.contains(key));
        let Some(victim) = strangers.min_by_key(|(_, stamp)| **stamp).map(|(place, _)| *place) else {
            return false;
        };
        self.stamps.remove(&victim).is_some()
    }
}

/// The replaceable kinds that a key publishes about itself as a server, and whom it follows.
pub(crate) const OURS: [u16; 8] = [
    kind::PROFILE,
    kind::FOLLOWS,
    kind::RELAY_LIST,
    kind::SERVER_ANNOUNCEMENT,
    kind::TOOLS_LIST,
    kind::RESOURCES_LIST,
    kind::RESOURCE_TEMPLATES_LIST,
    kind::PROMPTS_LIST,
];

fn line_parts(line: &str) -> Option<(PublicKey, u16, Stamp)> {
    let mut words = line.split(' ');
    let key = contextvm_core::event::read_key(words.next()?)?;
    let kind = words.next()?.parse().ok()?;
    let created_at = words.next()?.parse().ok()?;
    let id = contextvm_core::event::read_id(words.next()?)?;
    words.next().is_none().then_some((key, kind, Stamp { created_at, id }))
}
