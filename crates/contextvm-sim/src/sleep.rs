//! Hosts whose lid is closed: nothing runs, nothing arrives, and the monotonic clock stands still.
use crate::kernel::Due;
use crate::trace::{Host, What};
use crate::world::World;

impl World {
    /// Closes the lid of a host.
    pub(crate) fn sleeps(&mut self, host: Host, lasts: u64) {
        let Some(number) = self.numbers.get(&host).copied() else { return };
        let now = self.kernel.now();
        let Some(alive) = self.peers.get_mut(usize::from(number)).and_then(|peer| peer.alive.as_mut()) else {
            return;
        };
        alive.port.clock.boot += lasts;
        self.kernel.emit(host, What::Slept { lasts });
        self.asleep.insert(number, (now, now + lasts));
        // Its relays give it up meanwhile, and it does not hear of that.
        for relay in 0..self.relays.len() as u16 {
            self.kernel.net.half_open(number, relay);
        }
    }

    /// Whether the lid of a host is closed.
    pub(crate) fn is_asleep(&self, host: Host) -> bool {
        let number = self.numbers.get(&host);
        let asleep = number.and_then(|number| self.asleep.get(number));
        asleep.is_some_and(|(_, until)| self.kernel.now() < *until)
    }

    /// Returns what is due at a peer, unless the peer sleeps: its timers wait, everything else is lost.
    pub(crate) fn awake(&mut self, peer: u16, due: Due) -> Option<Due> {
        let Some((since, until)) = self.asleep.get(&peer).copied() else { return Some(due) };
        if self.kernel.now() >= until {
            if matches!(due, Due::Pool { .. }) {
                self.woke(peer);
            }
            return Some(due);
        }
        if !matches!(due, Due::ToPeer { .. } | Due::Dialled { .. } | Due::Cut { .. }) {
            self.kernel.queue.after(until - since, due);
        }
        None
    }

    /// A connection that looks after itself, or is to be written to, notices that its host has slept, and ends itself.
    pub(crate) fn woke(&mut self, peer: u16) {
        if self.asleep.get(&peer).is_none_or(|(_, until)| self.kernel.now() < *until) {
            return;
        }
        self.asleep.remove(&peer);
        for relay in 0..self.relays.len() as u16 {
            if let Some(connection) = self.kernel.net.close(peer, relay) {
                self.kernel.queue.after(0, Due::Cut { peer, relay, connection });
            }
        }
    }
}
