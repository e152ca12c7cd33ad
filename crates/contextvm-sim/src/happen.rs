//! What happens to a world from outside: calls, and faults of relays, links, processes and clocks.
use crate::kernel::{Due, Kernel};
use crate::peer::{Alive, Peer};
use crate::plan::Happening;
use crate::time::MS;
use crate::trace::Host;
use crate::world::World;

impl World {
    pub(crate) fn planned(&mut self, nth: usize) {
        let Some(planned) = self.plan.planned.get(nth) else { return };
        let is_omitted = if let Happening::Call(call) = &planned.what {
            self.omit.call(call.call)
        } else {
            self.omit.event(nth as u64)
        };
        if !is_omitted {
            let what = planned.what.clone();
            self.happens(what);
        }
    }

    pub(crate) fn happens(&mut self, what: Happening) {
        let now = self.kernel.now();
        match what {
            Happening::Call(call) => {
                let client = Host::Client(call.client);
                if let Some(number) = self.numbers.get(&client).copied() {
                    self.woke(number);
                }
                self.alive(client, |alive, kernel| alive.call(call, kernel));
            }
            Happening::Note(host) => self.alive(host, |alive, kernel| alive.note(kernel)),
            Happening::RelayRestarts { relay, forgets, down } => {
                self.relay(relay, |relay, _| {
                    relay.stops(forgets);
                    relay.down_until = relay.down_until.max(now + down);
                });
                self.cut_all(relay);
            }
            Happening::Refuses { relay, lasts } => {
                self.relay(relay, |relay, _| {
                    relay.stops(false);
                    relay.refuses_until = relay.refuses_until.max(now + lasts);
                });
                self.cut_all(relay);
            }
            Happening::BlackHole { relay, lasts } => {
                self.relay(relay, |relay, _| relay.hole_until = relay.hole_until.max(now + lasts));
            }
            Happening::HalfOpen { peer, relay } => {
                if let Some(peer) = self.numbers.get(&peer) {
                    self.kernel.net.half_open(*peer, relay);
                }
            }
            Happening::Partition { which, up, down, lasts } => {
                for (peer, relay) in self.chosen(which) {
                    self.kernel.net.cut(peer, relay, up, down, now + lasts);
                }
            }
            Happening::Clog { which, lasts } => {
                for (peer, relay) in self.chosen(which) {
                    self.kernel.net.clog(peer, relay, now + lasts);
                }
            }
            Happening::Closes { peer, relay } => {
                if let Some(peer) = self.numbers.get(&peer).copied() {
                    self.relay(relay, |relay, out| relay.closes(peer, out));
                }
            }
            Happening::Crash { host, torn, down } => self.crash(host, torn, down),
            Happening::Sleeps { host, lasts } => self.sleeps(host, lasts),
            Happening::Jump { host, by } => {
                if let Some(peer) = self.peer_of(host) {
                    // Without a journal only its clock keeps a server from executing again what it did before a restart.
                    let by =
                        if matches!(host, Host::Server(_)) && !peer.keeps_journal { by.abs() } else { by };
                    peer.skew += by;
                    if let Some(alive) = &mut peer.alive {
                        alive.port.clock.skew += by;
                    }
                }
            }
        }
    }

    fn peer_of(&mut self, host: Host) -> Option<&mut Peer> {
        let number = *self.numbers.get(&host)?;
        self.peers.get_mut(usize::from(number))
    }

    fn alive(&mut self, host: Host, act: impl FnOnce(&mut Alive, &mut Kernel)) {
        let Some(number) = self.numbers.get(&host) else { return };
        let Self { peers, kernel, .. } = self;
        if let Some(alive) = peers.get_mut(usize::from(*number)).and_then(|peer| peer.alive.as_mut()) {
            act(alive, kernel);
        }
    }

    /// Ends every connection of a relay.
    fn cut_all(&mut self, relay: u16) {
        for peer in 0..self.peers.len() as u16 {
            let now = self.kernel.now();
            let reachable = self.kernel.net.is_reachable(peer, relay, now);
            let Some(connection) = self.kernel.net.close(peer, relay) else { continue };
            // Behind a partition nobody hears of it, and finds out by silence.
            if reachable {
                self.kernel.queue.after(MS, Due::Cut { peer, relay, connection });
            }
        }
    }

    fn crash(&mut self, host: Host, torn: bool, down: u64) {
        let Some(number) = self.numbers.get(&host).copied() else { return };
        let Self { peers, kernel, relays, deeds, .. } = self;
        let Some(peer) = peers.get_mut(usize::from(number)) else { return };
        peer.tally(deeds);
        if !peer.crash(torn, kernel) {
            return;
        }
        for (relay, it) in relays.iter_mut().enumerate() {
            if kernel.net.close(number, relay as u16).is_some() {
                it.closed(number);
            }
        }
        kernel.queue.after(down, Due::Start { peer: number, life: peer.life });
    }

    /// Returns the pairs that the bits of a number choose; quiet relays are left alone.
    fn chosen(&self, which: u64) -> Vec<(u16, u16)> {
        let mut bits = which;
        let mut chosen = Vec::new();
        for peer in 0..self.peers.len() as u16 {
            for (relay, quiet) in self.quiet.iter().enumerate() {
                bits = bits.rotate_right(1);
                if bits & 1 == 1 && !quiet {
                    chosen.push((peer, relay as u16));
                }
            }
        }
        chosen
    }
}
