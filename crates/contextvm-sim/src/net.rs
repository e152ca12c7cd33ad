//! The net between peers and relays: it loses, doubles, delays and reorders frames, and cuts connections.
use std::collections::BTreeMap;

use crate::knobs::Knobs;
use crate::rng::Rng;
use crate::time::{MS, SEC};

/// The pair of a peer and a relay.
type Pair = (u16, u16);

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
    /// Nothing arrives before this.
    clogged_until: u64,
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

/// All links of a world.
#[derive(Debug)]
pub struct Net {
    links: BTreeMap<Pair, Link>,
    reorder: bool,
    double: u32,
    double_late: u32,
    /// Frames lost and doubled.
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    /// Something changed that paths depend on.
    pub(crate) is_changed: bool,
}

impl Net {
    /// Makes the net of a world; links to quiet relays lose, double and reorder nothing.
    #[must_use]
    pub fn new(seed: u64, knobs: &Knobs, peers: u16, quiet: &[bool]) -> Self {
        let mut links = BTreeMap::new();
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
                };
                let (up, down) = (lane("up", knobs.lose_up), lane("down", knobs.lose_down));
                let link = Link {
                    up,
                    down,
                    connection: 0,
                    is_open: false,
                    half_open: false,
                    clogged_until: 0,
                    quiet: *quiet,
                };
                links.insert((peer, relay as u16), link);
            }
        }
        let Knobs { reorder, double, double_late, .. } = *knobs;
        Self { links, reorder, double, double_late, lost: 0, doubled: 0, is_changed: true }
    }

    /// Begins a new connection; whatever the old one carried is void.
    pub(crate) fn dial(&mut self, peer: u16, relay: u16) -> u32 {
        self.is_changed = true;
        let Some(link) = self.links.get_mut(&(peer, relay)) else { return 0 };
        link.connection += 1;
        link.is_open = false;
        link.half_open = false;
        link.connection
    }

    /// A relay took the connection.
    pub(crate) fn open(&mut self, peer: u16, relay: u16) {
        self.is_changed = true;
        if let Some(link) = self.links.get_mut(&(peer, relay)) {
            link.is_open = true;
        }
    }

    /// Either side ends a connection; returns its number if there was one.
    pub(crate) fn close(&mut self, peer: u16, relay: u16) -> Option<u32> {
        self.is_changed = true;
        let link = self.links.get_mut(&(peer, relay))?;
        std::mem::take(&mut link.is_open).then_some(link.connection)
    }

    /// Whether this is the connection of now.
    pub(crate) fn is_current(&self, peer: u16, relay: u16, connection: u32) -> bool {
        self.links.get(&(peer, relay)).is_some_and(|link| link.connection == connection)
    }

    /// Whether there is a connection on which frames get through.
    pub(crate) fn is_good(&self, peer: u16, relay: u16, now: u64) -> bool {
        self.links.get(&(peer, relay)).is_some_and(|link| {
            let cut = link.up.cut_until.max(link.down.cut_until).max(link.clogged_until) > now;
            link.is_open && link.quiet && !link.half_open && !cut
        })
    }

    /// Whether an attempt to connect can succeed: nothing is cut.
    pub(crate) fn is_reachable(&self, peer: u16, relay: u16, now: u64) -> bool {
        self.links
            .get(&(peer, relay))
            .is_some_and(|link| link.up.cut_until <= now && link.down.cut_until <= now)
    }

    /// Cuts one or both directions for a while.
    pub(crate) fn cut(&mut self, peer: u16, relay: u16, up: bool, down: bool, until: u64) {
        self.is_changed = true;
        if let Some(link) = self.links.get_mut(&(peer, relay)) {
            link.up.cut_until = link.up.cut_until.max(if up { until } else { 0 });
            link.down.cut_until = link.down.cut_until.max(if down { until } else { 0 });
        }
    }

    /// Holds everything back for a while.
    pub(crate) fn clog(&mut self, peer: u16, relay: u16, until: u64) {
        self.is_changed = true;
        if let Some(link) = self.links.get_mut(&(peer, relay)) {
            link.clogged_until = link.clogged_until.max(until);
        }
    }

    /// Lets the connection of now carry nothing any more.
    pub(crate) fn half_open(&mut self, peer: u16, relay: u16) {
        self.is_changed = true;
        if let Some(link) = self.links.get_mut(&(peer, relay)) {
            link.half_open = link.is_open;
        }
    }

    /// Draws how long something takes on a pair.
    pub(crate) fn delay(&mut self, peer: u16, relay: u16) -> u64 {
        self.links.get_mut(&(peer, relay)).map_or(0, |link| link.up.rng.delay(link.up.delay).min(5 * SEC))
    }

    pub(crate) fn way_up(
        &mut self,
        peer: u16,
        relay: u16,
        now: u64,
        lose: bool,
        double: bool,
    ) -> Option<Way> {
        self.way(peer, relay, now, lose, double, |link| &mut link.up)
    }

    pub(crate) fn way_down(
        &mut self,
        peer: u16,
        relay: u16,
        now: u64,
        lose: bool,
        double: bool,
    ) -> Option<Way> {
        self.way(peer, relay, now, lose, double, |link| &mut link.down)
    }

    fn way(
        &mut self,
        peer: u16,
        relay: u16,
        now: u64,
        may_vanish: bool,
        may_double: bool,
        lane: impl Fn(&mut Link) -> &mut Lane,
    ) -> Option<Way> {
        let link = self.links.get_mut(&(peer, relay)).filter(|link| link.is_open)?;
        let (connection, clogged_until, quiet) = (link.connection, link.clogged_until, link.quiet);
        let vanishes = link.half_open;
        let lane = lane(link);
        if vanishes || lane.cut_until > now || (may_vanish && lane.rng.chance(lane.lose)) {
            self.lost += 1;
            return None;
        }
        let mut at = now + if quiet { lane.delay } else { lane.rng.delay(lane.delay) };
        at = at.max(clogged_until);
        if !(self.reorder && may_double) || quiet {
            at = at.max(lane.last);
            lane.last = at;
        }
        let mut copies = Vec::new();
        if may_double && !quiet && lane.rng.chance(self.double) {
            for _ in 0..lane.rng.between(1, 7) {
                let late = if lane.rng.chance(self.double_late) { 3_600 * SEC } else { 3 * SEC };
                copies.push(at + lane.rng.below(late));
            }
            self.doubled += copies.len() as u64;
        }
        Some(Way { connection, at, copies })
    }
}
