//! Who listens to which resource of the shared child.
use std::collections::{BTreeMap, BTreeSet};

use nostr::key::PublicKey;

use crate::revision::covers;

/// Most resources listened to at once; the oldest listeners stay, later ones hear nothing.
const RESOURCES: usize = 4_096;
/// Most resources that one caller listens to, so that it leaves room for others.
const RESOURCES_OF_ONE: usize = 128;
/// Longest name of a resource that is kept, bytes.
const NAME: usize = 2_048;

/// Callers by resource.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(BTreeMap<String, BTreeSet<PublicKey>>);

impl Subscriptions {
    pub(super) fn add(&mut self, uri: &str, caller: PublicKey) {
        let own = self.0.values().filter(|callers| callers.contains(&caller)).count();
        let has_room = self.0.len() < RESOURCES || self.0.contains_key(uri);
        if has_room && own < RESOURCES_OF_ONE && uri.len() <= NAME {
            self.0.entry(uri.to_owned()).or_default().insert(caller);
        }
    }

    /// Removes one listener and says whether others are left.
    pub(super) fn remove(&mut self, uri: &str, caller: &PublicKey) -> bool {
        let Some(callers) = self.0.get_mut(uri) else { return false };
        callers.remove(caller);
        if callers.is_empty() {
            self.0.remove(uri);
            return false;
        }
        true
    }

    /// Removes a caller everywhere and returns the resources that nobody listens to any more.
    pub(super) fn leave(&mut self, caller: &PublicKey) -> Vec<String> {
        let of_caller = self.0.iter().filter(|(_, callers)| callers.contains(caller));
        let mut uris: Vec<String> = of_caller.map(|(uri, _)| uri.clone()).collect();
        uris.retain(|uri| !self.remove(uri, caller));
        uris
    }

    /// Who hears of a change: an update may name a part of what was subscribed to.
    pub(super) fn listeners(&self, uri: &str) -> BTreeSet<PublicKey> {
        let covering = self.0.iter().filter(|(subscribed, _)| covers(subscribed, uri));
        covering.flat_map(|(_, callers)| callers.iter().copied()).collect()
    }

    pub(super) fn uris(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}
