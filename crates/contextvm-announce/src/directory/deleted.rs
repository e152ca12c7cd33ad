//! Deletions (NIP-09): an author's own events, also those that another relay serves later.
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use nostr::event::EventId;
use nostr::key::PublicKey;

use super::{Added, Directory, Refused};
use crate::newest::OURS;
use crate::{Signed, Withdrawal};

/// Events that their authors named in deletions.
#[derive(Clone, Debug, Default)]
pub(super) struct Deleted {
    ids: BTreeSet<(PublicKey, EventId)>,
}

impl Deleted {
    pub(super) fn contains(&self, author: &PublicKey, id: &EventId) -> bool {
        self.ids.contains(&(*author, *id))
    }

    /// Remembers events of one author, at most so many over all and a 64th of them of each author; says whether it took all.
    fn remember(&mut self, author: PublicKey, ids: impl Iterator<Item = EventId>, most: usize) -> bool {
        let [first, last] = [0, 255].map(|byte| EventId::from_byte_array([byte; 32]));
        let mut own = self.ids.range((author, first)..=(author, last)).count();
        let most_own = (most / 64).max(8);
        for id in ids {
            if self.contains(&author, &id) {
                continue;
            }
            if self.ids.len() >= most || own >= most_own {
                return false;
            }
            own += usize::from(self.ids.insert((author, id)));
        }
        true
    }
}

impl Directory {
    /// Takes a deletion: what it names and is its author's leaves the view and does not come back.
    ///
    /// Where there is no room to remember all that it names, what it names still leaves: nobody can keep others from deleting.
    pub(super) fn delete(&mut self, event: &Signed, unix: u64) -> Result<Added, Refused> {
        let Some(deletion) = Withdrawal::read(event) else { return Err(Refused::Kind(event.kind.as_u16())) };
        let (author, stamp) = (event.pubkey, event.stamp());
        if stamp.is_future(unix) {
            return Err(Refused::Future);
        }
        self.newest.learn(event, unix);
        let mut gone = Vec::new();
        if let Some(entry) = self.servers.get(&author) {
            let held = OURS.into_iter().filter_map(|kind| Some((kind, entry.announced(kind)?)));
            gone.extend(held.filter(|(kind, held)| deletion.ends(*kind, *held)));
        }
        for (kind, _) in &gone {
            self.change(author, |entry| entry.forget(*kind));
        }
        let reviews = deletion.ids.iter().filter(|id| self.unreview(&author, id)).count();
        // What was here comes first: the other ids may be nobody's.
        let gone_ids = gone.iter().map(|(_, held)| held.id);
        let most = self.room(&author).deletions;
        if !self.deleted.remember(author, gone_ids.chain(deletion.ids.iter().copied()), most) {
            self.counts.full = self.counts.full.saturating_add(1);
        }
        Ok(Added::Deletion(gone.len() + reviews))
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
