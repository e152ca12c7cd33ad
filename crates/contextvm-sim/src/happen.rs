//! What happens to a world from outside: calls, and faults of relays, links, processes and clocks.
use crate::kernel::{Due, Kernel};
use crate::peer::{Alive, Peer};
use crate::plan::{CallPlan, Happening, Reach};
use crate::server::Trap;
use crate::time::MS;
use crate::trace::{Host, What};
use crate::world::World;

impl World {
    pub(crate) fn planned(&mut self, nth: usize) {
        let Some(planned) = self.plan.planned.get(nth) else { return };
        let is_omitted = if let Happening::Call(call) = &planned.what {
            self.omit.call(call.call)
        } else {
            self.omit.event(nth as u64) || planned.what.knob().is_some_and(|knob| self.omit.knob(knob))
        };
        if !is_omitted {
            let what = planned.what.clone();
            self.happens(what);
        }
    }

    pub(crate) fn happens(&mut self, what: Happening) {
        let now = self.kernel.now();
        if let Some(fault) = what.knob().filter(|_| self.is_effective(&what)) {
            self.kernel.happened(fault);
        }
        match what {
            Happening::Call(call) => self.calls(call),
            Happening::Note(host) => {
                if !self.is_asleep(host) {
                    self.alive(host, |alive, kernel| alive.note(kernel));
                }
            }
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
            Happening::Partition { reach, up, down, lasts } => {
                for (peer, relay) in self.chosen(reach) {
                    self.kernel.net.cut(peer, relay, up, down, now + lasts);
                }
            }
            Happening::Clog { reach, up, down, lasts, one_by_one } => {
                let chosen = self.chosen(reach);
                let links = chosen.len().max(1) as u64;
                for (nth, (peer, relay)) in (1..).zip(chosen) {
                    let lasts = if one_by_one { lasts / links * nth } else { lasts };
                    self.kernel.net.clog(peer, relay, up, down, now + lasts);
                }
            }
            Happening::Closes { peer, relay } => {
                if let Some(peer) = self.numbers.get(&peer).copied() {
                    self.relay(relay, |relay, out| relay.closes(peer, out));
                }
            }
            Happening::Crash { host, torn, down } => self.crash(host, torn, Some(down)),
            Happening::CrashOn { host, point, nth, torn, down } => {
                self.alive(host, |alive, _| alive.trap(Trap { point, nth, torn, down }));
            }
            Happening::Leaves { host, down } => {
                if !self.is_asleep(host) {
                    self.alive(host, |alive, kernel| alive.leave(down, kernel));
                }
            }
            Happening::Sleeps { host, lasts } => {
                if !self.is_asleep(host) {
                    self.sleeps(host, lasts);
                }
            }
            Happening::Jump { host, by } => self.jumps(host, by),
        }
    }

    fn calls(&mut self, call: CallPlan) {
        let client = Host::Client(call.client);
        if let Some(number) = self.numbers.get(&client).copied() {
            self.woke(number);
        }
        let mut is_made = false;
        if !self.is_asleep(client) {
            self.alive(client, |alive, kernel| is_made = alive.call(call, kernel));
        }
        if !is_made {
            self.kernel.emit(client, What::NotMade { calls: 1 });
        }
    }

    fn jumps(&mut self, host: Host, by: i64) {
        let Some(peer) = self.peer_of(host) else { return };
        // Without a journal only its clock keeps a server from executing again what it did before a restart.
        let by = if matches!(host, Host::Server(_)) && !peer.keeps_journal { by.abs() } else { by };
        peer.skew += by;
        if let Some(alive) = &mut peer.alive {
            alive.port.clock.skew += by;
        }
        self.kernel.emit(host, What::Jumped { by });
    }

    /// Whether a planned fault does anything, as far as that is known before; what happens later counts itself.
    fn is_effective(&self, what: &Happening) -> bool {
        let is_up = |host: &Host| {
            let peer = self.numbers.get(host).and_then(|number| self.peers.get(usize::from(*number)));
            peer.is_some_and(|peer| peer.alive.is_some())
        };
        match what {
            Happening::Crash { host, .. } | Happening::Sleeps { host, .. } => {
                is_up(host) && !self.is_asleep(*host)
            }
            Happening::Partition { reach, .. } | Happening::Clog { reach, .. } => {
                !self.chosen(*reach).is_empty()
            }
            Happening::HalfOpen { peer, relay } => {
                self.numbers.get(peer).is_some_and(|peer| self.kernel.net.is_open(*peer, *relay))
            }
            Happening::Closes { peer, relay } => {
                let relay = self.relays.get(usize::from(*relay));
                let peer = self.numbers.get(peer);
                relay.zip(peer).is_some_and(|(relay, peer)| relay.is_subscribed(*peer))
            }
            Happening::CrashOn { .. } | Happening::Leaves { .. } | Happening::Call(_) => false,
            Happening::Note(_)
            | Happening::RelayRestarts { .. }
            | Happening::BlackHole { .. }
            | Happening::Refuses { .. }
            | Happening::Jump { .. } => true,
        }
    }

    fn peer_of(&mut self, host: Host) -> Option<&mut Peer> {
        let number = *self.numbers.get(&host)?;
        self.peers.get_mut(usize::from(number))
    }

    /// Lets a host do something; returns whether it runs.
    fn alive(&mut self, host: Host, act: impl FnOnce(&mut Alive, &mut Kernel)) -> bool {
        let Some(number) = self.numbers.get(&host) else { return false };
        let Self { peers, kernel, .. } = self;
        let alive = peers.get_mut(usize::from(*number)).and_then(|peer| peer.alive.as_mut());
        alive.is_some_and(|alive| {
            act(alive, kernel);
            true
        })
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

    /// A process dies; it starts again after so many microseconds, or never.
    pub(crate) fn crash(&mut self, host: Host, torn: bool, down: Option<u64>) {
        let Some(number) = self.numbers.get(&host).copied() else { return };
        let Self { peers, kernel, relays, deeds, .. } = self;
        let Some(peer) = peers.get_mut(usize::from(number)) else { return };
        peer.tally(deeds);
        if !peer.crash(torn, kernel) {
            return;
        }
        if torn {
            kernel.happened("torn");
        }
        for (relay, it) in relays.iter_mut().enumerate() {
            if kernel.net.close(number, relay as u16).is_some() {
                it.closed(number);
            }
        }
        if let Some(down) = down {
            kernel.queue.after(down, Due::Start { peer: number, life: peer.life });
        }
    }

    /// Returns the pairs that something reaches; quiet relays are left alone.
    fn chosen(&self, reach: Reach) -> Vec<(u16, u16)> {
        let number = |host: Host| self.numbers.get(&host).copied();
        let mut bits = if let Reach::Some(bits) = reach { bits } else { 0 };
        let mut chosen = Vec::new();
        for peer in 0..self.peers.len() as u16 {
            for (relay, quiet) in self.quiet.iter().enumerate() {
                let relay = relay as u16;
                bits = bits.rotate_right(1);
                let is_in = match reach {
                    Reach::Link(host, of) => number(host) == Some(peer) && of == relay,
                    Reach::Peer(host) => number(host) == Some(peer),
                    Reach::Relay(of) => of == relay,
                    // Two bits together: a quarter of all.
                    Reach::Some(_) => bits & 0b1000_0001 == 0b1000_0001,
                };
                if is_in && !quiet {
                    chosen.push((peer, relay));
                }
            }
        }
        chosen
    }
}
