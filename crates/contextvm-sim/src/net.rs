//! The net between peers and relays: it loses, doubles, delays and reorders frames, and cuts connections.
use crate::knobs::Knobs;
use crate::rng::Rng;
use crate::time::{MS, SEC};

/// What one direction of a pair does to frames.
#[derive(Debug)]
struct Lane {
    rng: Rng,
    lose: u32,
    delay: u64,
    /// When the last frame arrives whose order is kept.
    last: u64,
    /// Everything is lost before this.
    cut_until: u64,
    /// Nothing arrives before this.
    clogged_until: u64,
    /// What was sent before this is still being sent.
    busy_until: u64,
}

/// One pair of a peer and a relay.
#[derive(Debug)]
struct Link {
    up: Lane,
    down: Lane,
    /// Counts connections; frames of an older one do not arrive.
    connection: u32,
    is_open: bool,
    /// It carries nothing any more, and nobody was told.
    half_open: bool,
    /// Whether faults leave it alone.
    quiet: bool,
}

/// When a frame arrives.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) connection: u32,
    pub(crate) at: u64,
    /// Further copies.
    pub(crate) copies: Vec<u64>,
}

/// How many frames the net harmed, and how.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) lost_up: u64,
    pub(crate) lost_down: u64,
    pub(crate) doubled: u64,
    pub(crate) late: u64,
    /// They waited for those before them, or took more than a tenth of a second by themselves.
    pub(crate) slowed: u64,
}

impl Faults {
    /// Returns each by the name of its knob.
    pub(crate) const fn named(self) -> [(&'static str, u64); 5] {
        let Self { lost_up, lost_down, doubled, late, slowed } = self;
        [
            ("lose_up", lost_up),
            ("lose_down", lost_down),
            ("double", doubled),
            ("double_late", late),
            ("bandwidth", slowed),
        ]
    }
}

/// What of a frame matters to the net.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Freight {
    /// What its fate depends on beside the time, so that it is the same with and without other frames.
    pub(crate) key: u64,
    /// How long it is.
    pub(crate) bytes: u64,
    pub(crate) may_vanish: bool,
    pub(crate) may_double: bool,
}

impl Freight {
    /// A frame that is no event, and so short that its length does not matter.
    pub(crate) const fn small(key: u64, may_vanish: bool) -> Self {
        Self { key, bytes: 0, may_vanish, may_double: false }
    }
}

/// All links of a world.
#[derive(Debug)]
pub struct Net {
    /// Peer by peer, and for each of them relay by relay.
    links: Vec<Link>,
    relays: usize,
    /// Bytes per second and direction; zero: any.
    bandwidth: u64,
    reorder: bool,
    double: u32,
    double_late: u32,
    pub(crate) faults: Faults,
    /// Something changed that paths depend on.
    pub(crate) is_changed: bool,
}

impl Net {
    /// Makes the net of a world; links to quiet relays lose, double and reorder nothing.
    #[must_use]
    pub fn new(seed: u64, knobs: &Knobs, peers: u16, quiet: &[bool]) -> Self {
        let mut links = Vec::new();
        for peer in 0..peers {
            for (relay, quiet) in quiet.iter().enumerate() {
                let index = u64::from(peer) << 16 | relay as u64;
                let mut pace = Rng::of(seed, "pace of a link", index);
                let mean = if *quiet { knobs.delay.min(50 * MS) } else { knobs.delay };
                let delay = pace.between(mean / 2, mean * 3 / 2).max(100);
                let lane = |part: &str, lose: u32| Lane {
                    rng: Rng::of(seed, part, index),
                    lose: if *quiet { 0 } else { lose },
                    delay,
                    last: 0,
                    cut_until: 0,
                    clogged_until: 0,
                    busy_until: 0,
                };
                let (up, down) = (lane("up", knobs.lose_up), lane("down", knobs.lose_down));
                let link = Link { up, down, connection: 0, is_open: false, half_open: false, quiet: *quiet };
                links.push(link);
            }
        }
        let Knobs { reorder, double, double_late, bandwidth, .. } = *knobs;
        let (relays, faults) = (quiet.len(), Faults::default());
        Self { links, relays, bandwidth, reorder, double, double_late, faults, is_changed: true }
    }

    fn link(&self, peer: u16, relay: u16) -> Option<&Link> {
        let place = usize::from(peer) * self.relays + usize::from(relay);
        self.links.get(place).filter(|_| usize::from(relay) < self.relays)
    }

    fn link_mut(&mut self, peer: u16, relay: u16) -> Option<&mut Link> {
        let place = usize::from(peer) * self.relays + usize::from(relay);
        self.links.get_mut(place).filter(|_| usize::from(relay) < self.relays)
    }

    /// Begins a new connection; whatever the old one carried is void.
    pub(crate) fn dial(&mut self, peer: u16, relay: u16) -> u32 {
        self.is_changed = true;
        let Some(link) = self.link_mut(peer, relay) else { return 0 };
        link.connection += 1;
        link.is_open = false;
        link.half_open = false;
        link.connection
    }

    /// A relay took the connection.
    pub(crate) fn open(&mut self, peer: u16, relay: u16) {
        self.is_changed = true;
        if let Some(link) = self.link_mut(peer, relay) {
            link.is_open = true;
        }
    }

    /// Either side ends a connection; returns its number if there was one.
    pub(crate) fn close(&mut self, peer: u16, relay: u16) -> Option<u32> {
        self.is_changed = true;
        let link = self.link_mut(peer, relay)?;
        std::mem::take(&mut link.is_open).then_some(link.connection)
    }

    /// Whether this is the connection of now.
    pub(crate) fn is_current(&self, peer: u16, relay: u16, connection: u32) -> bool {
        self.link(peer, relay).is_some_and(|link| link.connection == connection)
    }

    /// Whether there is a connection on which frames get through.
    pub(crate) fn is_good(&self, peer: u16, relay: u16, now: u64) -> bool {
        self.link(peer, relay).is_some_and(|link| {
            let until = |lane: &Lane| lane.cut_until.max(lane.clogged_until);
            let cut = until(&link.up).max(until(&link.down)) > now;
            link.is_open && link.quiet && !link.half_open && !cut
        })
    }

    /// Whether an attempt to connect can succeed: nothing is cut.
    pub(crate) fn is_reachable(&self, peer: u16, relay: u16, now: u64) -> bool {
        self.link(peer, relay).is_some_and(|link| link.up.cut_until <= now && link.down.cut_until <= now)
    }

    /// Cuts one or both directions for a while.
    pub(crate) fn cut(&mut self, peer: u16, relay: u16, up: bool, down: bool, until: u64) {
        self.is_changed = true;
        if let Some(link) = self.link_mut(peer, relay) {
            link.up.cut_until = link.up.cut_until.max(if up { until } else { 0 });
            link.down.cut_until = link.down.cut_until.max(if down { until } else { 0 });
        }
    }

    /// Holds everything of one or both directions back for a while.
    pub(crate) fn clog(&mut self, peer: u16, relay: u16, up: bool, down: bool, until: u64) {
        self.is_changed = true;
        if let Some(link) = self.link_mut(peer, relay) {
            link.up.clogged_until = link.up.clogged_until.max(if up { until } else { 0 });
            link.down.clogged_until = link.down.clogged_until.max(if down { until } else { 0 });
        }
    }

    /// Whether there is a connection, dead or alive.
    pub(crate) fn is_open(&self, peer: u16, relay: u16) -> bool {
        self.link(peer, relay).is_some_and(|link| link.is_open && !link.half_open)
    }

    /// Lets the connection of now carry nothing any more.
    pub(crate) fn half_open(&mut self, peer: u16, relay: u16) {
        self.is_changed = true;
        if let Some(link) = self.link_mut(peer, relay) {
            link.half_open = link.is_open;
        }
    }

    /// Draws how long something takes on a pair.
    pub(crate) fn delay(&self, peer: u16, relay: u16, now: u64) -> u64 {
        self.link(peer, relay).map_or(0, |link| link.up.rng.fork(now).delay(link.up.delay).min(5 * SEC))
    }

    /// A frame goes from a peer to a relay.
    pub(crate) fn way_up(&mut self, peer: u16, relay: u16, now: u64, freight: Freight) -> Option<Way> {
        let law =
            Law { reorder: self.reorder, double: self.double, late: self.double_late, rate: self.bandwidth };
        let mut faults = self.faults;
        let link = self.link_mut(peer, relay).filter(|link| link.is_open)?;
        let way = link.up.way(now, freight, link.half_open, link.quiet, law, &mut faults);
        faults.lost_up += u64::from(way.is_none());
        let connection = link.connection;
        self.faults = faults;
        way.map(|(at, copies)| Way { connection, at, copies })
    }

    /// A frame goes from a relay to a peer.
    pub(crate) fn way_down(&mut self, peer: u16, relay: u16, now: u64, freight: Freight) -> Option<Way> {
        let law =
            Law { reorder: self.reorder, double: self.double, late: self.double_late, rate: self.bandwidth };
        let mut faults = self.faults;
        let link = self.link_mut(peer, relay).filter(|link| link.is_open)?;
        let way = link.down.way(now, freight, link.half_open, link.quiet, law, &mut faults);
        faults.lost_down += u64::from(way.is_none());
        let connection = link.connection;
        self.faults = faults;
        way.map(|(at, copies)| Way { connection, at, copies })
    }
}

/// What holds for all links.
#[derive(Clone, Copy, Debug)]
struct Law {
    reorder: bool,
    double: u32,
    late: u32,
    rate: u64,
}

impl Lane {
    /// Returns when a frame arrives, and when copies of it do; `None`: it is lost.
    fn way(
        &mut self,
        now: u64,
        freight: Freight,
        vanishes: bool,
        quiet: bool,
        law: Law,
        faults: &mut Faults,
    ) -> Option<(u64, Vec<u64>)> {
        let mut rng = self.rng.fork(freight.key ^ now);
        if vanishes || self.cut_until > now || (freight.may_vanish && rng.chance(self.lose)) {
            return None;
        }
        let mut at = self.sent(now, freight.bytes, quiet, law.rate, faults);
        at += if quiet { self.delay } else { rng.delay(self.delay) };
        at = at.max(self.clogged_until);
        if !(law.reorder && freight.may_double) || quiet {
            at = at.max(self.last);
            self.last = at;
        }
        let mut copies = Vec::new();
        if freight.may_double && !quiet && rng.chance(law.double) {
            for _ in 0..rng.between(1, 7) {
                let is_late = rng.chance(law.late);
                faults.late += u64::from(is_late);
                copies.push(at + rng.below(if is_late { 3_600 * SEC } else { 3 * SEC }));
            }
            faults.doubled += copies.len() as u64;
        }
        Some((at, copies))
    }

    /// Returns when the last byte of a frame has left.
    fn sent(&mut self, now: u64, bytes: u64, quiet: bool, rate: u64, faults: &mut Faults) -> u64 {
        if quiet || rate == 0 {
            return now;
        }
        let takes = bytes.saturating_mul(SEC) / rate;
        faults.slowed += u64::from(self.busy_until > now || takes > 100 * MS);
        self.busy_until = self.busy_until.max(now) + takes;
        self.busy_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(knobs: &Knobs) -> Net {
        let mut net = Net::new(1, knobs, 2, &[false, true]);
        for (peer, relay) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            net.dial(peer, relay);
            net.open(peer, relay);
        }
        net
    }

    fn event(key: u64, bytes: u64) -> Freight {
        Freight { key, bytes, may_vanish: true, may_double: true }
    }

    #[test]
    fn a_link_carries_so_many_bytes_a_second_in_each_direction() {
        let mut net = net(&Knobs { bandwidth: 1_000, delay: 1_000, ..Knobs::calm() });
        let mut at = |bytes| net.way_up(0, 0, 0, event(bytes, bytes)).map(|way| way.at / SEC);
        assert_eq!([at(5_000), at(5_000), at(0)], [Some(5), Some(10), Some(10)]);
        assert_eq!(net.way_down(0, 0, 0, event(1, 1_000)).map(|way| way.at / SEC), Some(1));
        assert_eq!(
            net.way_up(0, 1, 0, event(1, 9_000)).map(|way| way.at / SEC),
            Some(0),
            "nothing slows a quiet link"
        );
        assert_eq!(net.faults.slowed, 4);
    }

    #[test]
    fn what_becomes_of_a_frame_does_not_depend_on_others() {
        let knobs = Knobs { lose_up: 300, double: 500, double_late: 100, reorder: true, ..Knobs::calm() };
        let (mut with, mut without) = (net(&knobs), net(&knobs));
        let fate = |net: &mut Net, key| net.way_up(1, 0, 7, event(key, 9)).map(|way| (way.at, way.copies));
        let fates: Vec<_> = (0..100).map(|key| fate(&mut with, key)).collect();
        assert!(
            fates.iter().any(Option::is_none) && fates.iter().flatten().any(|(_, copies)| !copies.is_empty())
        );
        for key in (1..100).step_by(2) {
            assert_eq!(fate(&mut without, key), fates[key as usize]);
        }
    }

    #[test]
    fn there_is_no_link_beyond_the_last_relay() {
        let mut net = net(&Knobs::calm());
        assert!(net.way_up(0, 2, 0, event(1, 1)).is_none() && net.way_up(2, 0, 0, event(1, 1)).is_none());
        assert_eq!(net.dial(0, 2), 0);
    }
}
