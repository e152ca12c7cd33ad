//! C7 at rest: when nothing is asked and nothing has happened for a while, nothing is held but what has to be remembered.
use std::collections::BTreeMap;

use contextvm_engine::ServerLoad;
use contextvm_engine::client::ClientLoad;

use super::known::Known;
use super::{Check, Checker, Expect, Verdict};
use crate::trace::{Entry, Host, PortLoad, What};

/// Sessions and ids of the last ping or two, which age takes away.
const FEW: usize = 2;
/// By so much what is due in a world may differ from night to night.
const NOISE: usize = 20;
/// Longest answer that lies in a ledger after a quiet night, bytes, and records that the store then holds.
const LAST_ANSWER: usize = 4_096;
const LAST_RECORDS: usize = 8;

/// The latest sizes of each host, and what was due in the world in each night.
#[derive(Debug, Default)]
pub(super) struct Floors {
    /// How long a request that was cancelled still has a place, microseconds.
    lingers: u64,
    servers: BTreeMap<Host, ServerLoad>,
    clients: BTreeMap<Host, ClientLoad>,
    ports: BTreeMap<Host, PortLoad>,
    stopped: BTreeMap<Host, u64>,
    nights: Vec<usize>,
}

impl Floors {
    pub(super) fn new(expect: &Expect) -> Self {
        let lingers = expect.limits.request_timeout.as_micros() as u64;
        Self { lingers, ..Self::default() }
    }

    fn rests(&self, entry: &Entry, deep: bool, records: usize, known: &Known, verdict: &mut Verdict) {
        let Entry { at, host, .. } = entry;
        let mut wrong = Vec::new();
        let mut most = |name: &'static str, size: usize, most: usize| {
            if size > most {
                wrong.push(format!("{name} is {size} at rest, and may be {most}"));
            }
        };
        let port = self.ports.get(host).copied().unwrap_or_default();
        match host {
            Host::Client(_) => {
                let load = self.clients.get(host).copied().unwrap_or_default();
                let loose = if deep { 0 } else { load.loose };
                most("pending", load.pending, 0);
                most("uploads", load.uploads, 0);
                most("asked", load.asked, 0);
                most("loose", load.loose, loose);
                most("kept", port.kept, loose);
                if deep {
                    most("downloads", load.downloads, 0);
                    most("streams", load.streams, 0);
                }
            }
            Host::Server(_) => {
                let load = self.servers.get(host).copied().unwrap_or_default();
                let since = self.stopped.get(host).copied();
                // No clock of a host goes on while it sleeps.
                let until = since.map(|since| since + self.lingers + known.slept(*host, since));
                if deep || until.is_none_or(|until| until < *at) {
                    // What an application is done with may wait for the end of its stream, and what it has not heard of for the disk.
                    most("in_flight", load.in_flight, if deep { 0 } else { load.streams + load.held });
                }
                if deep {
                    for (name, size) in held(&load) {
                        most(name, size, 0);
                    }
                    most("seen_ids", load.seen_ids, FEW);
                    most("sessions", load.sessions, FEW);
                    most("ledger_bytes", load.ledger_bytes, LAST_ANSWER);
                    most("records", records, LAST_RECORDS);
                }
            }
            Host::Relay(_) => {}
        }
        if deep {
            most("publishing", port.publishing, 0);
            most("opening", port.opening, 0);
            most("sealing", port.sealing, 0);
        }
        for why in wrong {
            verdict.broken(Check::C7, entry, why);
        }
    }
}

/// What a server holds only while something is under way.
const fn held(load: &ServerLoad) -> [(&'static str, usize); 8] {
    [
        ("waiting", load.waiting),
        ("asked", load.asked),
        ("publications", load.publications),
        ("transfers_in", load.transfers_in),
        ("transfers_out", load.transfers_out),
        ("streams", load.streams),
        ("held", load.held),
        ("unremembered", load.unremembered),
    ]
}

impl Checker for Floors {
    fn see(&mut self, entry: &Entry, known: &Known, verdict: &mut Verdict) {
        match &entry.what {
            What::Load(load) => drop(self.servers.insert(entry.host, *load)),
            What::ClientLoad(load) => drop(self.clients.insert(entry.host, *load)),
            What::PortLoad(load) => drop(self.ports.insert(entry.host, *load)),
            What::Stopped { .. } => drop(self.stopped.insert(entry.host, entry.at)),
            What::Rest { deep: true, records, .. } if matches!(entry.host, Host::Relay(_)) => {
                self.nights.push(*records);
            }
            What::Rest { busy: 0, deep, records } if known.is_honest(entry.host) => {
                self.rests(entry, *deep, *records, known, verdict);
            }
            _ => {}
        }
    }

    fn finish(&mut self, at: u64, _known: &Known, verdict: &mut Verdict) {
        let mut nights = self.nights.iter().skip(1);
        let Some(first) = nights.next() else { return };
        if let Some(last) = nights.next_back().filter(|last| **last > first + NOISE) {
            let why = format!("{last} things are due in the last night, and were {first} in the second");
            verdict.broken_at(Check::C7, at, Host::Relay(0), why);
        }
    }
}
