//! How parts find their place in an entry, and what they take there.
use alloc::boxed::Box;
use alloc::string::String;
use core::mem;

use contextvm_core::kind;
use nostr::event::{EventId, Tags};
use nostr::key::PublicKey;

use super::Refused;
use super::entry::{Origin, Part, ServerEntry, Sources};
use crate::document::{DocumentKind, ListDocument, ServerDocument, tag_bytes};
use crate::newest::Stamp;
use crate::profile::Profile;
use crate::relay_list::RelayList;
use crate::{Review, Signed};

/// One part, read.
pub(super) enum Read<'a> {
    Server(ServerDocument),
    List(ListDocument),
    RelayList(RelayList),
    Profile(Profile),
    Peer(&'a Tags),
}

impl Read<'_> {
    pub(super) fn of(event: &Signed) -> Result<Self, Refused> {
        let kind = event.kind.as_u16();
        match DocumentKind::from_kind(kind) {
            Some(document) => Self::document(document, &event.content, &event.tags),
            None if kind == kind::PROFILE => Ok(Self::Profile(Profile::read(event)?)),
            None => RelayList::read(event).map(Self::RelayList).map_err(|_| Refused::Kind(kind)),
        }
    }

    pub(super) fn document(kind: DocumentKind, result: &str, tags: &Tags) -> Result<Self, Refused> {
        Ok(match kind {
            DocumentKind::Server => Self::Server(ServerDocument::from_result(result, tags)?),
            DocumentKind::Tools
            | DocumentKind::Resources
            | DocumentKind::ResourceTemplates
            | DocumentKind::Prompts => Self::List(ListDocument::from_result(kind, result, tags)?),
        })
    }

    /// Roughly what it will take in memory, bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Server(document) => document.bytes(),
            Self::List(document) => document.bytes(),
            Self::RelayList(list) => relay_list_bytes(list),
            Self::Profile(profile) => profile_bytes(profile),
            // The raw tags are kept, and of the identity a copy.
            Self::Peer(tags) => 2 * tags.iter().map(tag_bytes).sum::<usize>(),
        }
    }
}

impl ServerEntry {
    /// Bytes without the reviews.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes with the reviews.
    pub(super) const fn all_bytes(&self) -> usize {
        self.bytes + self.review_bytes
    }

    /// Returns the stamp of what the key announced with this event kind.
    pub(super) fn announced(&self, kind: u16) -> Option<Stamp> {
        match kind {
            kind::PROFILE => self.profile.as_ref().map(Part::stamp),
            kind::RELAY_LIST => self.relay_list.as_ref().map(Part::stamp),
            _ => self.document_stamp(DocumentKind::from_kind(kind)?, Origin::Announced),
        }
    }

    /// Returns the stamp of a document that was heard directly.
    pub(super) fn heard(&self, kind: DocumentKind) -> Option<Stamp> {
        self.document_stamp(kind, Origin::Direct)
    }

    fn document_stamp(&self, kind: DocumentKind, origin: Origin) -> Option<Stamp> {
        match self.list_sources(kind) {
            Some(list) => list.at(origin).map(Part::stamp),
            None => self.server.at(origin).map(Part::stamp),
        }
    }

    /// Returns the bytes of what this part takes the place of.
    pub(super) fn replaced(&self, read: &Read<'_>, origin: Origin) -> usize {
        match read {
            Read::Server(_) => self.server.at(origin).map_or(0, |part| part.document.bytes()),
            Read::List(list) => {
                let held = self.list_sources(list.kind).and_then(|list| list.at(origin));
                held.map_or(0, |part| part.document.bytes())
            }
            Read::RelayList(_) => self.relay_list.as_ref().map_or(0, |part| relay_list_bytes(&part.document)),
            Read::Profile(_) => self.profile.as_ref().map_or(0, |part| profile_bytes(&part.document)),
            Read::Peer(_) => 0,
        }
    }

    /// Puts a part into its place.
    pub(super) fn put(&mut self, read: Read<'_>, stamp: Stamp, origin: Origin) {
        let replaced = self.replaced(&read, origin);
        let taken = match &read {
            Read::Peer(_) => 0,
            Read::Server(_) | Read::List(_) | Read::RelayList(_) | Read::Profile(_) => read.bytes(),
        };
        self.bytes = (self.bytes + taken).saturating_sub(replaced);
        match read {
            Read::Server(document) => {
                *self.server.place(origin) = Some(Box::new(Part::new(document, stamp, origin)));
            }
            Read::List(document) => {
                if let Some(list) = self.list_place(document.kind) {
                    *list.place(origin) = Some(Box::new(Part::new(document, stamp, origin)));
                }
            }
            Read::RelayList(list) => self.relay_list = Some(Part::new(list, stamp, origin)),
            Read::Profile(profile) => self.profile = Some(Part::new(profile, stamp, origin)),
            Read::Peer(tags) => {
                let before = peer_bytes(self);
                self.peer.learn(tags);
                self.peer.raw.shrink_to_fit();
                self.bytes = (self.bytes + peer_bytes(self)).saturating_sub(before);
            }
        }
        if origin == Origin::Direct {
            self.heard = self.heard.max(Some(stamp));
        }
    }

    /// Removes what the key announced with this event kind.
    pub(super) fn forget(&mut self, kind: u16) {
        let gone = match (kind, DocumentKind::from_kind(kind)) {
            (kind::PROFILE, _) => self.profile.take().map(|part| profile_bytes(&part.document)),
            (kind::RELAY_LIST, _) => self.relay_list.take().map(|part| relay_list_bytes(&part.document)),
            (_, Some(document)) => match self.list_place(document) {
                Some(list) => list.announced.take().map(|part| part.document.bytes()),
                None => self.server.announced.take().map(|part| part.document.bytes()),
            },
            (_, None) => None,
        };
        self.bytes = self.bytes.saturating_sub(gone.unwrap_or_default());
    }

    pub(super) fn add_review(&mut self, review: Review) {
        self.review_bytes += review_bytes(&review);
        self.reviews.push(review);
    }

    /// Removes a review if its author is this one, and says whether it did.
    pub(super) fn remove_review(&mut self, author: &PublicKey, id: &EventId) -> bool {
        let place = self.reviews.iter().position(|review| review.id == *id && review.author == *author);
        let Some(place) = place else {
            return false;
        };
        let gone = self.reviews.swap_remove(place);
        self.review_bytes = self.review_bytes.saturating_sub(review_bytes(&gone));
        true
    }

    const fn list_place(&mut self, kind: DocumentKind) -> Option<&mut Sources<ListDocument>> {
        let [tools, resources, templates, prompts] = &mut self.lists;
        match kind {
            DocumentKind::Server => None,
            DocumentKind::Tools => Some(tools),
            DocumentKind::Resources => Some(resources),
            DocumentKind::ResourceTemplates => Some(templates),
            DocumentKind::Prompts => Some(prompts),
        }
    }
}

/// Roughly what a review takes, its place in the index included.
pub(super) fn review_bytes(review: &Review) -> usize {
    2 * mem::size_of::<Review>() + review.content.len() + review.relay.as_ref().map_or(0, String::len)
}

fn relay_list_bytes(list: &RelayList) -> usize {
    list.entries.iter().map(|entry| mem::size_of_val(entry) + entry.url.len() + 16).sum()
}

fn profile_bytes(profile: &Profile) -> usize {
    // The members are copies of texts in the content.
    2 * profile.raw.len()
}

fn peer_bytes(entry: &ServerEntry) -> usize {
    let peer = &entry.peer;
    let identity = [&peer.name, &peer.about, &peer.website, &peer.picture];
    let texts: usize = identity.into_iter().flatten().map(String::len).sum();
    texts + peer.raw.iter().map(tag_bytes).sum::<usize>()
}
