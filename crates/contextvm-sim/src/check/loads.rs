//! C7: the tables of servers, clients and their drivers stay within their limits, and in a long life they do not grow.
use std::collections::BTreeMap;

use contextvm_core::Limits;
use contextvm_engine::ServerLoad;
use contextvm_engine::client::ClientLoad;

use super::known::Known;
use super::{Check, Checker, Expect, Verdict};
use crate::trace::{Entry, Host, PortLoad, What};

/// Lives are compared by days, microseconds.
const DAY: u64 = 86_400_000_000;
/// Fewer days say nothing about growth.
const FEWEST_DAYS: usize = 6;
/// By so much the mean of daily peaks may differ by chance: entries, or pages of bytes.
const NOISE: usize = 16;

/// Publications that a server waits for or tries again at most: two tables of this size.
const PUBLICATIONS: usize = 2 * 8_192;
/// What the pieces of one text cost beside it, bytes.
const PIECES: usize = 4_096;
/// Records that a store may be behind by: so many of the smallest are the bytes from which on nothing new is accepted.
const UNREMEMBERED: usize = 2 * 32_768;

/// The largest sizes of each day.
#[derive(Debug, Default)]
pub(super) struct Loads {
    limits: Limits,
    days: BTreeMap<Host, BTreeMap<u64, Vec<usize>>>,
}

impl Loads {
    pub(super) fn new(expect: &Expect) -> Self {
        Self { limits: expect.limits.clone(), days: BTreeMap::new() }
    }

    /// Every size of a server beside its limit and its name.
    const fn sizes(&self, load: &ServerLoad) -> [(&'static str, usize, usize); 18] {
        let limits = &self.limits;
        [
            ("seen_ids", load.seen_ids, limits.seen_ids),
            ("ledger_bytes", load.ledger_bytes, limits.ledger_bytes),
            ("sessions", load.sessions, limits.sessions),
            ("stranger_sessions", load.stranger_sessions, limits.stranger_sessions),
            ("in_flight", load.in_flight, limits.in_flight),
            ("in_flight_bytes", load.in_flight_bytes, limits.in_flight_bytes),
            ("waiting", load.waiting, limits.in_flight),
            ("waiting_bytes", load.waiting_bytes, limits.in_flight_bytes),
            ("asked", load.asked, limits.in_flight),
            ("publications", load.publications, PUBLICATIONS),
            ("transfers_in", load.transfers_in, limits.transfers),
            ("transfers_in_bytes", load.transfers_in_bytes, limits.transfers_bytes),
            ("transfers_out", load.transfers_out, limits.transfers),
            ("transfers_out_bytes", load.transfers_out_bytes, limits.transfers_bytes),
            ("streams", load.streams, limits.streams),
            ("streams_bytes", load.streams_bytes, limits.streams_bytes + PIECES),
            ("held", load.held, UNREMEMBERED),
            ("unremembered", load.unremembered, UNREMEMBERED),
        ]
    }

    /// Every size of a client.
    const fn client(&self, load: &ClientLoad) -> [(&'static str, usize, usize); 9] {
        let limits = &self.limits;
        [
            ("pending", load.pending, limits.pending),
            ("pending_bytes", load.pending_bytes, limits.in_flight_bytes),
            ("uploads", load.uploads, limits.pending),
            ("downloads", load.downloads, limits.transfers),
            ("downloads_bytes", load.downloads_bytes, limits.transfers_bytes),
            // Those of calls that are over are there until they are taken.
            ("streams", load.streams, limits.pending + limits.streams),
            ("streams_bytes", load.streams_bytes, limits.streams_bytes),
            ("loose", load.loose, limits.outbound_events),
            ("asked", load.asked, limits.in_flight),
        ]
    }

    /// Every size of a driver.
    const fn port(&self, load: &PortLoad) -> [(&'static str, usize, usize); 4] {
        let limits = &self.limits;
        [
            ("kept", load.kept, limits.pending + limits.outbound_events),
            ("publishing", load.publishing, PUBLICATIONS),
            ("opening", load.opening, PUBLICATIONS),
            ("sealing", load.sealing, PUBLICATIONS),
        ]
    }
}

impl Checker for Loads {
    fn see(&mut self, entry: &Entry, known: &Known, verdict: &mut Verdict) {
        if !known.is_honest(entry.host) {
            return;
        }
        let load = match &entry.what {
            What::Load(load) => load,
            What::ClientLoad(load) => return within(entry, &self.client(load), verdict),
            What::PortLoad(load) => return within(entry, &self.port(load), verdict),
            _ => return,
        };
        let sizes = self.sizes(load);
        within(entry, &sizes, verdict);

        let today = self.days.entry(entry.host).or_default().entry(entry.at / DAY).or_default();
        today.resize(sizes.len(), 0);
        for (most, (_, size, _)) in today.iter_mut().zip(sizes) {
            *most = size.max(*most);
        }
    }

    fn finish(&mut self, at: u64, _known: &Known, verdict: &mut Verdict) {
        let names = self.sizes(&ServerLoad::default()).map(|(name, _, _)| name);
        for (host, days) in &self.days {
            if days.len() < FEWEST_DAYS {
                continue;
            }
            // The first day fills what is filled by nature; the third after it is compared with the last.
            let third = days.len() / 3;
            let mean = |skip: usize, nth: usize| {
                let days = days.values().skip(skip).take(third);
                days.filter_map(|day| day.get(nth)).sum::<usize>() / third.max(1)
            };
            for (nth, name) in names.iter().enumerate() {
                let (early, late) = (mean(1, nth), mean(days.len() - third, nth));
                let noise = if name.ends_with("bytes") { NOISE * 4_096 } else { NOISE };
                if late > early + early / 2 + noise {
                    let why = format!("{name} grew from {early} to {late} in {} days", days.len());
                    verdict.broken_at(Check::C7, at, *host, why);
                }
            }
        }
    }
}

fn within(entry: &Entry, sizes: &[(&'static str, usize, usize)], verdict: &mut Verdict) {
    for (name, size, most) in sizes {
        if size > most {
            verdict.broken(Check::C7, entry, format!("{name} is {size}, and may be {most}"));
        }
    }
}
