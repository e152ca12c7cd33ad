//! Deletions (NIP-09): an author's own events, also those that another relay serves later.
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use nostr::event::EventId;
use nostr::key::PublicKey;

use super::{Added, Bound, Directory, Refused};
use crate::newest::{Stamp, deleted_ids, deleted_kinds};
use crate::{DocumentKind, Signed};

/// Events that their authors named in deletions.
#[derive(Clone, Debug, Default)]
pub(super) struct Deleted {
    ids: BTreeSet<(PublicKey, EventId)>,
}

impl Deleted {
    pub(super) fn contains(&self, author: &PublicKey, id: &EventId) -> bool {
        self.ids.contains(&(*author, *id))
    }
}

impl Directory {
    /// Takes a deletion: what it names and is its author's leaves the view and does not come back.
    pub(super) fn delete(&mut self, event: &Signed, unix: u64) -> Result<Added, Refused> {
        let (author, stamp) = (event.pubkey, event.stamp());
        if stamp.is_future(unix) {
            return Err(Refused::Future);
        }
        let ids: BTreeSet<EventId> = deleted_ids(event).collect();
        let new: Vec<_> = ids.iter().filter(|id| !self.deleted.contains(&author, id)).collect();
        if self.deleted.ids.len() + new.len() > self.limits.deletions {
            return Err(Refused::Full(Bound::Deletions));
        }
        self.deleted.ids.extend(new.into_iter().map(|id| (author, *id)));
        self.newest.learn(event, unix);
        let kinds: BTreeSet<u16> = deleted_kinds(event).collect();
        let mut gone = 0;
        if self.servers.contains_key(&author) {
            gone += self.change(author, |entry| {
                let ended = |kind: u16, held: Stamp| {
                    ids.contains(&held.id)
                        || (kinds.contains(&kind) && held < Stamp::end_of(stamp.created_at))
                };
                let places = DocumentKind::ALL.map(DocumentKind::kind);
                let others = [contextvm_core::kind::PROFILE, contextvm_core::kind::RELAY_LIST];
                let ended = places
                    .into_iter()
                    .chain(others)
                    .filter(|kind| entry.announced(*kind).is_some_and(|held| ended(*kind, held)));
                let ended: Vec<u16> = ended.collect();
                ended.iter().for_each(|kind| entry.forget(*kind));
                ended.len()
            });
        }
        for id in &ids {
            gone += usize::from(self.unreview(&author, id));
        }
        Ok(Added::Deletion(gone))
    }

    fn unreview(&mut self, author: &PublicKey, id: &EventId) -> bool {
        let Some(server) = self.reviewed.get(id).copied() else {
            return false;
        };
        let removed = self.change(server, |entry| entry.remove_review(author, id));
        if removed {
            self.reviewed.remove(id);
        }
        removed
    }
}
