//! One view of each server: announcements, relay lists, profiles, reviews and what a live session heard, merged.
mod deleted;
mod entry;
mod place;
mod wanted;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use contextvm_core::{Fault, kind};
use nostr::event::{Event, EventId, Tags};
use nostr::key::PublicKey;

pub use self::entry::{Origin, Part, ServerEntry, Sources};
use self::place::Read;
pub use self::wanted::{MostPrice, Wanted};
use crate::document::{DocumentError, DocumentKind};
use crate::newest::{Freshness, Newest, Stamp};
use crate::profile::ProfileError;
use crate::{Review, Signed};

/// Bounds of a [`Directory`]. Strangers may fill three quarters of `servers`, `bytes` and `deletions`, the servers that the
/// application named ([`Directory::prefer`]) everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryLimits {
    /// Servers: 10,000.
    pub servers: usize,
    /// Bytes over all, roughly as they lie in memory: 16 MiB.
    pub bytes: usize,
    /// Bytes of one server, its reviews not counted: 512 KiB.
    pub server_bytes: usize,
    /// Reviews of one server, replies counted: 500.
    pub reviews: usize,
    /// Bytes of the reviews of one server: 256 KiB.
    pub review_bytes: usize,
    /// Events named by deletions that are remembered, lest another relay brings them back: 16,384, a 64th of them of one
    /// author.
    pub deletions: usize,
}

impl Default for DirectoryLimits {
    fn default() -> Self {
        Self {
            servers: 10_000,
            bytes: 16 * 1024 * 1024,
            server_bytes: 512 * 1024,
            reviews: 500,
            review_bytes: 256 * 1024,
            deletions: 16_384,
        }
    }
}

/// What became of an event that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Added {
    /// It is part of the view now.
    New,
    /// It was there already.
    Known,
    /// It is a deletion, and so many parts of the view are gone.
    Deletion(usize),
}

/// Which bound was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bound {
    /// Number of servers.
    Servers,
    /// Bytes over all.
    Bytes,
    /// Bytes of one server.
    ServerBytes,
    /// Number or bytes of one server's reviews.
    Reviews,
}

/// Why an event is not part of the view. Nothing else changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The kind is none that the view is made of.
    #[error("kind {0} says nothing about a server")]
    Kind(u16),
    /// A newer one is known.
    #[error("older than the one of {}", .0.created_at)]
    Older(Stamp),
    /// It is stamped more than 15 minutes ahead.
    #[error("stamped in the future")]
    Future,
    /// Its author deleted it.
    #[error("deleted by its author")]
    Deleted,
    /// It is no document.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// It is no profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// It is no review of a server.
    #[error("no review of a server")]
    Review,
    /// There is no room; what is there stays.
    #[error("no room: {0:?}")]
    Full(Bound),
}

impl Refused {
    /// Says who misbehaved.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Kind(_) | Self::Older(_) | Self::Deleted => Fault::Relay,
            Self::Future | Self::Document(_) | Self::Profile(_) | Self::Review => Fault::Peer,
            Self::Full(_) => Fault::Local,
        }
    }
}

/// How often events were refused, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusedCounts {
    /// Older than what is known.
    pub older: u64,
    /// Stamped in the future.
    pub future: u64,
    /// Deleted by their authors.
    pub deleted: u64,
    /// Of another kind or form.
    pub broken: u64,
    /// Without room: the view is not complete, or holds what a deletion named that could not be remembered.
    pub full: u64,
}

/// What a live session heard from its server in one event, or in the pages of one list put together.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// The server, whose signature the session checked.
    pub server: PublicKey,
    /// When the (last) event was signed and its id.
    pub stamp: Stamp,
    /// Tags of the event.
    pub tags: &'a Tags,
    /// The result it answered with, and what that is; `None` when it is none of the five documents.
    pub result: Option<(DocumentKind, &'a str)>,
}

impl<'a> Heard<'a> {
    /// Takes the tags of an event that a session opened, and nothing of its content.
    #[must_use]
    pub fn of(event: &'a Event) -> Self {
        let stamp = Stamp { created_at: event.created_at.as_secs(), id: event.id };
        Self { server: event.pubkey, stamp, tags: &event.tags, result: None }
    }

    /// Adds the result, if its members say that it is one of the five documents.
    #[must_use]
    pub fn with_result(self, result: &'a str) -> Self {
        let kind = contextvm_core::scan::check(result, &contextvm_core::Limits::default())
            .ok()
            .and_then(|_| DocumentKind::of_result(result));
        Self { result: kind.map(|kind| (kind, result)), ..self }
    }
}

/// Everything known about servers, one [`ServerEntry`] each.
///
/// The order in which events arrive does not matter, as long as no bound is reached. At a bound the newcomer is refused and
/// counted: nothing that is there gives way to a stranger.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    limits: DirectoryLimits,
    newest: Newest,
    deleted: deleted::Deleted,
    // Boxed, because the nodes of a tree are half empty.
    servers: BTreeMap<PublicKey, Box<ServerEntry>>,
    reviewed: BTreeMap<EventId, PublicKey>,
    bytes: usize,
    counts: RefusedCounts,
}

impl Directory {
    /// Starts an empty view.
    #[must_use]
    pub fn new(limits: DirectoryLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Starts an empty view that refuses whatever is older than what is remembered.
    #[must_use]
    pub fn with_newest(mut self, newest: Newest) -> Self {
        self.newest = newest;
        self
    }

    /// Returns the newest stamps: those it was given and those it learned.
    #[must_use]
    pub const fn newest(&self) -> &Newest {
        &self.newest
    }

    /// Names a server that matters to the application: it finds room that strangers do not.
    pub fn prefer(&mut self, server: PublicKey) {
        self.newest.prefer(server);
    }

    /// Adds an announcement, a list, a relay list, a profile, a review or a deletion; `unix` is our clock in seconds.
    ///
    /// # Errors
    /// Refuses, and counts, what is older, in the future, deleted, broken or without room.
    pub fn add(&mut self, event: &Signed, unix: u64) -> Result<Added, Refused> {
        let kind = event.kind.as_u16();
        let added = match kind {
            kind::DELETION => self.delete(event, unix),
            kind::COMMENT => self.review(event, unix),
            kind::PROFILE | kind::RELAY_LIST => self.announce(event, unix),
            _ if DocumentKind::from_kind(kind).is_some() => self.announce(event, unix),
            _ => Err(Refused::Kind(kind)),
        };
        added.inspect_err(|refused| self.counts.count(refused))
    }

    /// Adds what a live session heard. Of each part the newer one is shown, announced or heard directly.
    ///
    /// # Errors
    /// Refuses, and counts, what is older than what was heard before, in the future, broken or without room. Of a document
    /// without room the tags are taken if they fit.
    pub fn hear(&mut self, heard: &Heard<'_>, unix: u64) -> Result<Added, Refused> {
        self.take_heard(heard, unix).inspect_err(|refused| self.counts.count(refused))
    }

    /// Lists the servers: every key that announced, answered or listed something, by key.
    pub fn servers(&self) -> impl Iterator<Item = &ServerEntry> {
        self.servers.values().map(AsRef::as_ref).filter(|entry| entry.is_server())
    }

    /// Returns everything known about one key, also when it never said that it is a server.
    #[must_use]
    pub fn server(&self, key: &PublicKey) -> Option<&ServerEntry> {
        self.servers.get(key).map(AsRef::as_ref)
    }

    /// Returns how often events were refused.
    #[must_use]
    pub const fn refused(&self) -> RefusedCounts {
        self.counts
    }

    /// Returns roughly how many bytes the view takes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn announce(&mut self, event: &Signed, unix: u64) -> Result<Added, Refused> {
        let (key, kind, stamp) = (event.pubkey, event.kind.as_u16(), event.stamp());
        let held = self.servers.get(&key).and_then(|entry| entry.announced(kind));
        match (self.newest.judge(event, unix), held) {
            (Freshness::Future, _) => return Err(Refused::Future),
            (Freshness::Older(newest), _) => return Err(Refused::Older(newest)),
            (_, Some(held)) if held == stamp => return Ok(Added::Known),
            (_, Some(held)) if held > stamp => return Err(Refused::Older(held)),
            _ => {}
        }
        let read = Read::of(event)?;
        if self.deleted.contains(&key, &event.id) {
            self.newest.learn_stamp(key, kind, stamp.deleted(), unix);
            if held.is_some() {
                self.change(key, |entry| entry.forget(kind));
            }
            return Err(Refused::Deleted);
        }
        self.place(key, read, stamp, Origin::Announced)?;
        self.newest.learn(event, unix);
        Ok(Added::New)
    }

    fn take_heard(&mut self, heard: &Heard<'_>, unix: u64) -> Result<Added, Refused> {
        let (key, stamp) = (heard.server, heard.stamp);
        if stamp.is_future(unix) {
            return Err(Refused::Future);
        }
        let Some((kind, result)) = heard.result else {
            return self.place(key, Read::Peer(heard.tags), stamp, Origin::Direct).map(|()| Added::New);
        };
        let held = self.servers.get(&key).and_then(|entry| entry.heard(kind));
        match held {
            Some(held) if held == stamp => return Ok(Added::Known),
            Some(held) if held > stamp => return Err(Refused::Older(held)),
            _ => {}
        }
        let read = Read::document(kind, result, heard.tags)?;
        self.place(key, Read::Peer(heard.tags), stamp, Origin::Direct)?;
        self.place(key, read, stamp, Origin::Direct).map(|()| Added::New)
    }

    /// Puts one part into the entry of a key, if there is room for what it adds.
    fn place(&mut self, key: PublicKey, read: Read<'_>, stamp: Stamp, origin: Origin) -> Result<(), Refused> {
        let room = self.room(&key);
        let known = self.servers.get(&key);
        if known.is_none() && self.servers.len() >= room.servers {
            return Err(Refused::Full(Bound::Servers));
        }
        let before = known.map_or(0, |entry| entry.bytes());
        let after = known.map_or(ServerEntry::EMPTY_BYTES, |entry| before - entry.replaced(&read, origin));
        let after = after + read.bytes();
        if after > self.limits.server_bytes {
            return Err(Refused::Full(Bound::ServerBytes));
        }
        if after > before && self.bytes - before + after > room.bytes {
            return Err(Refused::Full(Bound::Bytes));
        }
        self.change(key, |entry| entry.put(read, stamp, origin));
        Ok(())
    }

    /// Changes an entry and keeps the account of bytes.
    fn change<T>(&mut self, key: PublicKey, change: impl FnOnce(&mut ServerEntry) -> T) -> T {
        let entry = self.servers.entry(key).or_insert_with(|| {
            let entry = Box::new(ServerEntry::new(key));
            self.bytes += entry.all_bytes();
            entry
        });
        let before = entry.all_bytes();
        let result = change(entry);
        self.bytes = (self.bytes + entry.all_bytes()).saturating_sub(before);
        result
    }

    /// Returns the bounds that hold for the sake of a key.
    fn room(&self, key: &PublicKey) -> DirectoryLimits {
        let all = self.limits;
        if self.newest.is_preferred(key) {
            return all;
        }
        let [servers, bytes, deletions] = [all.servers, all.bytes, all.deletions].map(|most| most / 4 * 3);
        DirectoryLimits { servers, bytes, deletions, ..all }
    }

    fn review(&mut self, event: &Signed, unix: u64) -> Result<Added, Refused> {
        if event.stamp().is_future(unix) {
            return Err(Refused::Future);
        }
        if self.deleted.contains(&event.pubkey, &event.id) {
            return Err(Refused::Deleted);
        }
        if self.reviewed.contains_key(&event.id) {
            return Ok(Added::Known);
        }
        let review = Review::read(event).map_err(|_| Refused::Review)?;
        let server = review.server;
        let room = self.room(&server);
        let cost = place::review_bytes(&review);
        let (count, held) = match self.servers.get(&server) {
            Some(entry) => (entry.reviews().len(), entry.all_bytes() - entry.bytes()),
            None if self.servers.len() >= room.servers => return Err(Refused::Full(Bound::Servers)),
            None => (0, 0),
        };
        if count >= self.limits.reviews || held + cost > self.limits.review_bytes {
            return Err(Refused::Full(Bound::Reviews));
        }
        if self.bytes + cost + ServerEntry::EMPTY_BYTES > room.bytes {
            return Err(Refused::Full(Bound::Bytes));
        }
        self.reviewed.insert(review.id, server);
        self.change(server, |entry| entry.add_review(review));
        Ok(Added::New)
    }
}

impl RefusedCounts {
    const fn count(&mut self, refused: &Refused) {
        let count = match refused {
            Refused::Older(_) => &mut self.older,
            Refused::Future => &mut self.future,
            Refused::Deleted => &mut self.deleted,
            Refused::Full(_) => &mut self.full,
            Refused::Kind(_) | Refused::Document(_) | Refused::Profile(_) | Refused::Review => {
                &mut self.broken
            }
        };
        *count = count.saturating_add(1);
    }
}
