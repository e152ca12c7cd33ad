//! What may keep a call from its answer although its path is good: full tables, crashes, signers, disks, clocks.
use std::collections::{BTreeMap, BTreeSet};

use contextvm_core::Limits;
use contextvm_engine::ServerLoad;

use super::Excuse;
use crate::trace::Host;

/// When each trouble of each host was last there.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    last: BTreeMap<(Host, Excuse), u64>,
    /// Servers of which a table is full at this moment.
    full: BTreeSet<Host>,
    /// From when until when the disk of a host stood still.
    stalls: BTreeMap<Host, Vec<(u64, u64)>>,
}

impl Troubles {
    pub(super) fn note(&mut self, host: Host, trouble: Excuse, at: u64) {
        self.last.insert((host, trouble), at);
    }

    /// Takes the sizes of a server.
    pub(super) fn load(&mut self, host: Host, load: &ServerLoad, limits: &Limits, at: u64) {
        if is_full(load, limits) {
            self.full.insert(host);
            self.note(host, Excuse::Room, at);
        } else if self.full.remove(&host) {
            self.note(host, Excuse::Room, at);
        }
    }

    /// Takes a time for which the disk of a host stands still.
    pub(super) fn stalled(&mut self, host: Host, at: u64, lasts: u64) {
        self.stalls.entry(host).or_default().push((at, at.saturating_add(lasts)));
    }

    /// Returns for how long the disk of a host stood still between two times, microseconds.
    pub(super) fn stood_still(&self, host: Host, since: u64, until: u64) -> u64 {
        let stalls = self.stalls.get(&host).into_iter().flatten();
        stalls.map(|(from, to)| (*to).min(until).saturating_sub((*from).max(since))).sum()
    }

    /// Whether a host had a trouble at some time since.
    pub(super) fn since(&self, host: Host, trouble: Excuse, since: u64) -> bool {
        (trouble == Excuse::Room && self.full.contains(&host))
            || self.last.get(&(host, trouble)).is_some_and(|last| *last >= since)
    }
}

/// Whether one more call may find no room. A table of bytes counts as full from its half on: one message may be the rest.
/// The last quarter of the requests in flight, and of those that wait, is kept for callers that have none, the last ids for requests that are
/// refused aloud.
const fn is_full(load: &ServerLoad, limits: &Limits) -> bool {
    load.seen_ids >= limits.seen_ids - limits.seen_ids / 64
        || load.sessions >= limits.sessions
        || load.stranger_sessions >= limits.stranger_sessions
        || load.in_flight >= limits.in_flight - limits.in_flight / 4
        || load.in_flight_bytes > limits.in_flight_bytes / 2
        || load.waiting >= limits.in_flight - limits.in_flight / 4
        || load.waiting_bytes > limits.in_flight_bytes / 2
        || load.transfers_in >= limits.transfers
        || load.transfers_in_bytes > limits.transfers_bytes / 2
        || load.transfers_out >= limits.transfers
        || load.transfers_out_bytes > limits.transfers_bytes / 2
        || load.streams >= limits.streams
}
