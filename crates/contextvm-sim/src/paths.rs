//! Which clients and servers can reach each other for certain: what the world promises about a call depends on it.
use crate::peer::Peer;
use crate::time::{HostClock, SEC};
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
            let clocks = match (peers.get(usize::from(*client)), peers.get(usize::from(*server))) {
                (Some(client), Some(server)) => clocks_agree(client, server, now),
                _ => false,
            };
            let good = clocks
                && relays.iter().enumerate().any(|(nth, relay)| {
                    let nth = nth as u16;
                    let joined = |peer: u16| {
                        kernel.net.is_good(peer, nth, now) && is_live(peer, nth) && relay.is_subscribed(peer)
                    };
                    relay.accepts(now) && !relay.swallows(now) && joined(*client) && joined(*server)
                });
            if *said != (good, clocks) {
                *said = (good, clocks);
                let host = |number: u16| peers.get(usize::from(number)).map(|peer| peer.me.host);
                if let (Some(Host::Client(client)), Some(Host::Server(server))) =
                    (host(*client), host(*server))
                {
                    kernel.emit(Host::Client(client), What::Path { client, server, good, clocks });
                }
            }
        }
    }
}

/// Whether clocks let a call through: what is asked now is, as far as clocks go, behind the server's barrier, not ahead of
/// its clock, and not so old that nobody waits for it any more.
fn clocks_agree(client: &Peer, server: &Peer, now: u64) -> bool {
    let behind = server.skew - client.skew;
    // A clock that was set back may stamp what is before the barrier once more.
    let stamp = HostClock { boot: 0, skew: client.skew }.unix(now);
    let settled = now >= server.barrier_at + (behind.unsigned_abs() + 3) * SEC && stamp >= server.barrier + 3;
    let oldest = server.me.limits.request_timeout.as_secs().min(300);
    (-3..oldest as i64).contains(&behind) && settled
}
