//! Which clients and servers can reach each other for certain: what the world promises about a call depends on it.
use contextvm_core::Limits;

use crate::peer::Peer;
use crate::time::SEC;
use crate::trace::{Host, What};
use crate::world::World;

impl World {
    /// Says which clients and servers have a good relay in common, where that changed.
    pub(crate) fn watch_paths(&mut self) {
        let Self { kernel, relays, peers, paths, .. } = self;
        kernel.net.is_changed = false;
        let now = kernel.now();
        let is_live = |number: u16, relay: u16| {
            let alive = peers.get(usize::from(number)).and_then(|peer| peer.alive.as_ref());
            alive.is_some_and(|alive| alive.port.pool.is_live(relay))
        };
        for (client, server, said) in paths.iter_mut() {
            let fair = match (peers.get(usize::from(*client)), peers.get(usize::from(*server))) {
                (Some(client), Some(server)) => is_fair(client, server, now),
                _ => false,
            };
            let good = fair
                && relays.iter().enumerate().any(|(nth, relay)| {
                    let nth = nth as u16;
                    let joined = |peer: u16| {
                        kernel.net.is_good(peer, nth, now) && is_live(peer, nth) && relay.is_subscribed(peer)
                    };
                    relay.accepts(now) && !relay.swallows(now) && joined(*client) && joined(*server)
                });
            if good != *said {
                *said = good;
                let host = |number: u16| peers.get(usize::from(number)).map(|peer| peer.me.host);
                if let (Some(Host::Client(client)), Some(Host::Server(server))) =
                    (host(*client), host(*server))
                {
                    kernel.emit(Host::Client(client), What::Path { client, server, good });
                }
            }
        }
    }
}

/// Whether nothing but relays and links stands between a client and its server: signers sign, clocks agree, and what is
/// asked now is, as far as clocks go, behind the server's barrier and not ahead of its clock.
fn is_fair(client: &Peer, server: &Peer, now: u64) -> bool {
    // A server that has no room drops what comes, sometimes without a word.
    let (limits, usual) = (&server.me.limits, Limits::default());
    let has_room = limits.seen_ids >= usual.seen_ids
        && limits.sessions >= usual.sessions
        && limits.in_flight >= usual.in_flight
        && limits.in_flight_per_caller >= usual.in_flight_per_caller
        && limits.transfers >= usual.transfers
        && limits.transfers_per_peer >= usual.transfers_per_peer;
    let signs = client.me.signer.is_empty() && server.me.signer.is_empty();
    let behind = server.skew - client.skew;
    let settled = now >= server.barrier_at + (behind.unsigned_abs() + 3) * SEC;
    has_room && signs && (-3..300).contains(&behind) && settled
}
