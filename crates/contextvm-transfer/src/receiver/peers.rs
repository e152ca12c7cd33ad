//! What failed transfers have cost, peer by peer, so that failing is not free, and whose have come whole.
use alloc::collections::{BTreeMap, VecDeque};
use core::time::Duration;

use contextvm_core::{Mono, Now};
use nostr::key::PublicKey;

/// How long a cost is remembered.
const MEMORY: Duration = Duration::from_secs(600);
/// Most peers remembered; the one that cost least makes room.
const MOST_PEERS: usize = 1_024;
/// Most aborts that one peer is sent while its costs are remembered.
const ABORTS: u32 = 64;

#[derive(Clone, Copy, Debug)]
struct Account {
    bytes: usize,
    aborts: u32,
    until: Mono,
}

#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<PublicKey, Account>);

impl Peers {
    /// Adds the bytes of a failed transfer.
    pub(super) fn charge(&mut self, peer: PublicKey, bytes: usize, now: Now) {
        let account = self.account(peer, now);
        account.bytes = account.bytes.saturating_add(bytes);
    }

    /// Whether a peer is still told why its transfers fail; counts it as told.
    pub(super) fn is_told(&mut self, peer: PublicKey, now: Now) -> bool {
        let account = self.account(peer, now);
        account.aborts = account.aborts.saturating_add(1);
        account.aborts <= ABORTS
    }

    /// Returns what the failed transfers of a peer have cost lately.
    pub(super) fn cost(&self, peer: PublicKey, now: Now) -> usize {
        self.0.get(&peer).filter(|account| account.until > now.mono).map_or(0, |account| account.bytes)
    }

    fn account(&mut self, peer: PublicKey, now: Now) -> &mut Account {
        if !self.0.contains_key(&peer) && self.0.len() >= MOST_PEERS {
            self.0.retain(|_, account| account.until > now.mono);
            let cheapest = self.0.iter().min_by_key(|(_, account)| account.bytes).map(|(peer, _)| *peer);
            if let Some(cheapest) = cheapest.filter(|_| self.0.len() >= MOST_PEERS) {
                self.0.remove(&cheapest);
            }
        }
        let fresh = Account { bytes: 0, aborts: 0, until: now.mono.after(MEMORY) };
        let account = self.0.entry(peer).or_insert(fresh);
        if account.until <= now.mono {
            *account = fresh;
        }
        account
    }
}

/// Peers of whom a transfer has come whole; the one whose last is longest ago makes room.
#[derive(Debug, Default)]
pub(super) struct Proven(VecDeque<PublicKey>);

impl Proven {
    pub(super) fn contains(&self, peer: &PublicKey) -> bool {
        self.0.contains(peer)
    }

    pub(super) fn add(&mut self, peer: PublicKey) {
        self.0.retain(|other| *other != peer);
        if self.0.len() >= MOST_PEERS {
            self.0.pop_front();
        }
        self.0.push_back(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { mono: Mono(seconds * 1_000), unix: 0 }
    }

    fn peer(number: usize) -> PublicKey {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        PublicKey::from_byte_array(bytes)
    }

    #[test]
    fn a_cost_is_forgotten_ten_minutes_after_the_first() {
        let mut peers = Peers::default();
        peers.charge(peer(1), 5, at(0));
        peers.charge(peer(1), 6, at(599));
        assert_eq!(peers.cost(peer(1), at(599)), 11);
        assert_eq!(peers.cost(peer(2), at(599)), 0);
        assert_eq!(peers.cost(peer(1), at(600)), 0);
        peers.charge(peer(1), 3, at(700));
        assert_eq!(peers.cost(peer(1), at(701)), 3);
    }

    #[test]
    fn aborts_are_few_and_come_again_later() {
        let mut peers = Peers::default();
        for _ in 0..ABORTS {
            assert!(peers.is_told(peer(1), at(0)));
        }
        assert!(!peers.is_told(peer(1), at(0)));
        assert!(peers.is_told(peer(2), at(0)));
        assert!(peers.is_told(peer(1), at(600)));
    }

    #[test]
    fn whose_transfer_came_whole_longest_ago_makes_room() {
        let mut proven = Proven::default();
        for number in (0..MOST_PEERS).chain([0, MOST_PEERS]) {
            proven.add(peer(number));
        }
        assert_eq!(proven.0.len(), MOST_PEERS);
        assert!([0, 2, MOST_PEERS].iter().all(|number| proven.contains(&peer(*number))));
        assert!(!proven.contains(&peer(1)));
    }

    #[test]
    fn the_cheapest_peer_makes_room() {
        let mut peers = Peers::default();
        for number in 0..=MOST_PEERS {
            peers.charge(peer(number), MOST_PEERS + 1 - number, at(0));
        }
        assert_eq!(peers.0.len(), MOST_PEERS);
        assert_eq!(peers.cost(peer(0), at(1)), MOST_PEERS + 1);
        assert_eq!(peers.cost(peer(MOST_PEERS - 1), at(1)), 0);
    }
}
