//! The newest relay list of each key as a whole, so that who is shown an older one can use the one he knows.
use std::collections::BTreeMap;

use contextvm_announce::Signed;
use contextvm_core::event;
use nostr::key::PublicKey;

/// Most lists that are remembered; beyond it the one that was kept longest ago is forgotten.
const MOST: usize = 256;
/// Longest list that is remembered, bytes of JSON.
const LONGEST: usize = 16 * 1024;

/// Relay lists by author.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lists {
    by_author: BTreeMap<PublicKey, (u64, Signed)>,
    /// Counts what was kept, so that the longest known can be found.
    turn: u64,
}

impl Lists {
    /// Keeps a list that is not older than the one that is known, and says whether it is a new one.
    pub(crate) fn keep(&mut self, list: &Signed) -> bool {
        let known = self.by_author.get(&list.pubkey).map(|(_, known)| known.stamp());
        if known.is_some_and(|known| known > list.stamp()) || event::print(list).len() > LONGEST {
            return false;
        }
        self.turn += 1;
        self.by_author.insert(list.pubkey, (self.turn, list.clone()));
        if self.by_author.len() > MOST {
            let first = self.by_author.iter().min_by_key(|(_, (turn, _))| *turn).map(|(key, _)| *key);
            first.map(|key| self.by_author.remove(&key));
        }
        known != Some(list.stamp())
    }

    pub(crate) fn get(&self, author: &PublicKey) -> Option<&Signed> {
        self.by_author.get(author).map(|(_, list)| list)
    }

    /// Returns the lists, longest known first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Signed> {
        let mut lists: Vec<_> = self.by_author.values().collect();
        lists.sort_unstable_by_key(|(turn, _)| *turn);
        lists.into_iter().map(|(_, list)| list)
    }
}
