//! What of an entry goes into the hash of a trace: all of it.
use contextvm_engine::ServerLoad;
use contextvm_engine::client::ClientLoad;
use nostr::event::EventId;

use crate::hash::{Running, short};
use crate::trace::{Ending, Entry, Host, PortLoad, What};

impl Entry {
    /// Hashes the whole entry.
    pub(crate) fn mix(&self, hash: &mut Running) {
        hash.mix(self.at);
        hash.mix(match self.host {
            Host::Client(number) => 1 << 16 | u64::from(number),
            Host::Server(number) => 2 << 16 | u64::from(number),
            Host::Relay(number) => 3 << 16 | u64::from(number),
        });
        self.what.mix(hash);
    }
}

impl What {
    fn mix(&self, hash: &mut Running) {
        match self {
            Self::Joined { key, honest, encrypted } => {
                hash.all(1, &[short(key.as_bytes()), u64::from(*honest), u64::from(*encrypted)])
            }
            Self::Crashed => hash.mix(2),
            Self::Restarted { journal } => hash.all(3, &[u64::from(*journal)]),
            Self::Issued { call, to, args, bytes, reads, simple } => {
                let flags = u64::from(*reads) << 1 | u64::from(*simple);
                hash.all(4, &[call.0, short(to.as_bytes()), args.0, *bytes, flags]);
            }
            Self::Signed { id, to, encrypted, stamp, about, answer } => {
                let answer = answer.map_or(0, |answer| answer.0);
                let (id, to) = (short(id.as_bytes()), short(to.as_bytes()));
                hash.all(5, &[id, to, u64::from(*encrypted), *stamp, event(*about), answer]);
            }
            Self::Executed { caller, id, args, bytes, unix }
            | Self::Unread { caller, id, args, bytes, unix } => {
                let kind = if matches!(self, Self::Unread { .. }) { 35 } else { 6 };
                hash.all(kind, &[short(caller.as_bytes()), event(*id), args.0, *bytes, *unix]);
            }
            Self::Stopped { caller, args } => hash.all(20, &[short(caller.as_bytes()), args.0]),
            Self::Returned { caller, args, result, bytes } => {
                hash.all(7, &[short(caller.as_bytes()), args.0, result.0, *bytes])
            }
            Self::Ended { call, ending } => {
                hash.all(8, &[call.0]);
                ending.mix(hash);
            }
            Self::Told { to, said } => hash.all(9, &[to.map_or(0, |to| short(to.as_bytes())), said.0]),
            Self::Heard { from, said } => hash.all(10, &[short(from.as_bytes()), said.0]),
            Self::Wrote { caller, args, data } => {
                hash.all(11, &[short(caller.as_bytes()), args.0]);
                hash.bytes(data.as_bytes());
            }
            Self::Closed { caller, args } => hash.all(12, &[short(caller.as_bytes()), args.0]),
            Self::Chunk { call, index, data } => {
                hash.all(13, &[call.0, *index]);
                hash.bytes(data.as_bytes());
            }
            Self::StreamEnded { call, complete } => hash.all(14, &[call.0, u64::from(*complete)]),
            Self::Path { client, server, good, clocks } => {
                let flags = u64::from(*good) << 1 | u64::from(*clocks);
                hash.all(15, &[u64::from(*client), u64::from(*server), flags])
            }
            Self::SignerFailed => hash.mix(21),
            Self::Denied { caller } => hash.all(28, &[short(caller.as_bytes())]),
            Self::Left { caller } => hash.all(29, &[caller.map_or(0, |key| short(key.as_bytes()))]),
            Self::GaveUp { caller, args } => hash.all(33, &[short(caller.as_bytes()), args.0]),
            Self::HadEnough { call } => hash.all(32, &[call.0]),
            Self::Slept { lasts } => hash.all(22, &[*lasts]),
            Self::Stalled { lasts } => hash.all(34, &[*lasts]),
            Self::Jumped { by } => hash.all(23, &[by.cast_unsigned()]),
            Self::NotMade { calls } => hash.all(24, &[*calls]),
            Self::Load(load) => hash.all(16, &server_sizes(load).map(|size| size as u64)),
            Self::ClientLoad(load) => hash.all(25, &client_sizes(load).map(|size| size as u64)),
            Self::PortLoad(load) => {
                let PortLoad { kept, publishing, opening, sealing } = *load;
                hash.all(26, &[kept, publishing, opening, sealing].map(|size| size as u64));
            }
            Self::Rest { busy, deep, records } => {
                hash.all(27, &[*busy as u64, u64::from(*deep), *records as u64]);
            }
            Self::Timer { due } => hash.all(17, &[*due]),
            Self::Woke => hash.mix(18),
            Self::Error(text) => {
                hash.mix(19);
                hash.bytes(text.as_bytes());
            }
        }
    }
}

impl Ending {
    fn mix(self, hash: &mut Running) {
        match self {
            Self::Answer { result, bytes } => hash.all(1, &[result.0, bytes]),
            Self::Error(code) => hash.all(2, &[code.cast_unsigned()]),
            Self::Lost(lost) => hash.all(3, &[lost as u64]),
            Self::Cancelled => hash.mix(4),
        }
    }
}

fn event(id: Option<EventId>) -> u64 {
    id.map_or(0, |id| short(id.as_bytes()))
}

/// Every size of a server.
const fn server_sizes(load: &ServerLoad) -> [usize; 18] {
    [
        load.seen_ids,
        load.ledger_bytes,
        load.sessions,
        load.stranger_sessions,
        load.in_flight,
        load.in_flight_bytes,
        load.waiting,
        load.waiting_bytes,
        load.asked,
        load.publications,
        load.transfers_in,
        load.transfers_in_bytes,
        load.transfers_out,
        load.transfers_out_bytes,
        load.streams,
        load.streams_bytes,
        load.held,
        load.unremembered,
    ]
}

/// Every size of a client.
const fn client_sizes(load: &ClientLoad) -> [usize; 9] {
    [
        load.pending,
        load.pending_bytes,
        load.uploads,
        load.downloads,
        load.downloads_bytes,
        load.streams,
        load.streams_bytes,
        load.loose,
        load.asked,
    ]
}
