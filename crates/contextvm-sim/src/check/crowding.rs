//! What of a server's tables is kept from callers who take much of it, as far as that can be told from outside.
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use contextvm_core::Limits;
use contextvm_engine::ServerLoad;

use crate::trace::Host;

/// What one caller and one server had to do with each other.
#[derive(Debug, Default)]
struct Dealings {
    /// When what the caller said of late was signed.
    said: VecDeque<u64>,
    /// When the server's application last answered it, unless the server has forgotten the caller since.
    answered: Option<u64>,
    /// When it did so first, since the server has forgotten the caller.
    known_since: Option<u64>,
    was_forgotten: bool,
}

/// What every caller said to every server of late, and which servers have little room.
#[derive(Debug, Default)]
pub(super) struct Crowding {
    dealings: BTreeMap<(Host, Host), Dealings>,
    /// How many messages wait at a server, how many ids it remembers, how many requests it works on, and how many transfers
    /// come in.
    loads: BTreeMap<Host, (usize, usize, usize, usize)>,
    /// Servers that died: relays may play back to them what was transferred before.
    died: BTreeSet<Host>,
}

impl Crowding {
    /// A caller signed something for a server.
    pub(super) fn said(&mut self, caller: Host, server: Host, at: u64, limits: &Limits) {
        let said = &mut self.dealings.entry((server, caller)).or_default().said;
        // How long an id is remembered, and how old an event may be that counts in that time.
        let counts = limits.age_window.saturating_mul(2).saturating_add(limits.age_skew);
        let since = at.saturating_sub(counts.saturating_mul(1_000_000));
        while said.pop_front_if(|first| *first < since).is_some() {}
        said.push_back(at);
    }

    /// Returns when a caller first signed something for a server since some time.
    pub(super) fn said_since(&self, caller: Host, server: Host, at: u64) -> Option<u64> {
        let said = &self.dealings.get(&(server, caller))?.said;
        said.get(said.partition_point(|said| *said < at)).copied()
    }

    /// A server's application answered a caller.
    pub(super) fn answered(&mut self, caller: Host, server: Host, at: u64) {
        let dealings = self.dealings.entry((server, caller)).or_default();
        dealings.answered = Some(at);
        dealings.known_since.get_or_insert(at);
    }

    /// A server has forgotten a caller, or all of them.
    pub(super) fn forgotten(&mut self, server: Host, caller: Option<Host>) {
        if caller.is_none() {
            self.died.insert(server);
        }
        let theirs = self
            .dealings
            .iter_mut()
            .filter(|((of, who), _)| *of == server && caller.is_none_or(|caller| caller == *who));
        theirs.for_each(|(_, dealings)| {
            dealings.was_forgotten |= dealings.known_since.is_some();
            (dealings.answered, dealings.known_since) = (None, None);
        });
    }

    /// Whether a server that knew a caller had forgotten it, and had not answered it again before some time.
    pub(super) fn was_forgotten(&self, caller: Host, server: Host, at: u64) -> bool {
        self.dealings.get(&(server, caller)).is_some_and(|dealings| {
            dealings.was_forgotten && dealings.known_since.is_none_or(|since| since > at)
        })
    }

    /// Whether all transfers that one caller may have at a server may be such as it had not ended when the server died.
    pub(super) fn has_old_transfers(&self, server: Host, limits: &Limits) -> bool {
        self.played_back(server) >= limits.transfers_per_peer
    }

    /// Returns how many transfers a server has that may be such.
    fn played_back(&self, server: Host) -> usize {
        let transfers = self.loads.get(&server).map_or(0, |(_, _, _, transfers)| *transfers);
        if self.died.contains(&server) { transfers } else { 0 }
    }

    /// Takes the sizes of a server and lists the callers for whom there may be no room.
    pub(super) fn load(&mut self, server: Host, load: &ServerLoad, at: u64, limits: &Limits) -> Vec<Host> {
        self.loads.insert(server, (load.waiting, load.seen_ids, load.in_flight, load.transfers_in));
        if !lines_are_long(load.waiting, limits)
            && !ids_are_scarce(load.seen_ids, limits)
            && !is_half_full(load.in_flight, limits)
            && self.played_back(server) == 0
        {
            return Vec::new();
        }
        let callers = self.dealings.keys().filter(|(of, _)| *of == server).map(|(_, caller)| *caller);
        callers.filter(|caller| self.is_kept_out(*caller, server, at, limits)).collect()
    }

    /// Whether a server may have no room for what a caller says, although it may have some for others.
    pub(super) fn is_kept_out(&self, caller: Host, server: Host, at: u64, limits: &Limits) -> bool {
        let Some((waiting, ids, in_flight, _)) = self.loads.get(&server).copied() else { return false };
        let Some(Dealings { said, answered, .. }) = self.dealings.get(&(server, caller)) else {
            return false;
        };
        let within = |time: u64, micros: u128| u128::from(at.saturating_sub(time)) <= micros;
        let of_late = |time: &&u64| within(**time, limits.request_timeout.as_micros());
        let lately = said.iter().rev().take_while(of_late).count();
        let has_line = lines_are_long(waiting, limits) && lately >= limits.in_flight_per_caller;
        // A transfer has one of its caller's places, whoever brought it.
        let played_back = self.played_back(server);
        let has_none_left = played_back > 0 && played_back + lately > limits.in_flight_per_caller;
        let is_known = answered.is_some_and(|time| within(time, limits.session_idle.as_micros()));
        let is_modest = is_known && said.len() < limits.seen_ids.div_ceil(16);
        has_line
            || has_none_left
            || (ids_are_scarce(ids, limits) && !is_modest)
            || (is_half_full(in_flight, limits) && !is_known)
    }
}

/// Whether so much waits for access or for its second that the line of one caller may be full.
const fn lines_are_long(waiting: usize, limits: &Limits) -> bool {
    waiting >= limits.in_flight_per_caller
}

/// Whether only the last quarter of the ids is left, which is kept for known callers who have not taken much lately.
const fn ids_are_scarce(ids: usize, limits: &Limits) -> bool {
    ids >= limits.seen_ids - limits.seen_ids / 4
}

/// Whether the half of the requests in flight that a server has for callers it does not know is taken.
const fn is_half_full(in_flight: usize, limits: &Limits) -> bool {
    in_flight >= limits.in_flight.div_ceil(2)
}
