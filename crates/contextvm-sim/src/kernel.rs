//! What everything in a world shares: the queue, the net and the trace.
use std::collections::BTreeMap;
use std::rc::Rc;

use contextvm_core::Mono;
use contextvm_engine::DropReason;
use nostr::key::PublicKey;

use crate::cheat::Cheater;
use crate::frame::{Carried, Heard, Said};
use crate::hash::short;
use crate::net::Net;
use crate::plan::CallPlan;
use crate::pool::Timer;
use crate::queue::Queue;
use crate::trace::{Host, Trace, What};

/// Something that is due. What belongs to one life of a process or one connection names it, and is void afterwards.
#[derive(Debug)]
pub(crate) enum Due {
    /// A plan's next thing: its place in the plan.
    Planned(usize),
    /// A peer's attempt to connect reaches a relay.
    Dial {
        peer: u16,
        relay: u16,
        connection: u32,
    },
    /// The outcome of an attempt reaches the peer.
    Dialled {
        peer: u16,
        relay: u16,
        connection: u32,
        open: bool,
    },
    /// The end of a connection reaches the peer.
    Cut {
        peer: u16,
        relay: u16,
        connection: u32,
    },
    /// A frame reaches a relay.
    ToRelay {
        peer: u16,
        relay: u16,
        connection: u32,
        said: Said,
    },
    /// A frame reaches a peer; without a connection it comes on whatever connection there is.
    ToPeer {
        peer: u16,
        relay: u16,
        connection: Option<u32>,
        heard: Heard,
    },
    /// A relay says something after it has thought about it.
    RelaySays {
        relay: u16,
        peer: u16,
        heard: Heard,
    },
    /// A timer of a peer's connections.
    Pool {
        peer: u16,
        life: u32,
        timer: Timer,
    },
    /// The oldest event being opened, or made, is ready.
    Opened {
        peer: u16,
        life: u32,
    },
    Sealed {
        peer: u16,
        life: u32,
    },
    /// A machine wants to be woken.
    Wake {
        peer: u16,
        life: u32,
        mono: Mono,
    },
    /// A relay says what it takes (NIP-11).
    Limit {
        peer: u16,
        life: u32,
        relay: u16,
    },
    /// An application does something.
    App {
        peer: u16,
        life: u32,
        act: Act,
    },
    /// A process starts again.
    Start {
        peer: u16,
        life: u32,
    },
    /// A process ends; it starts again after so many microseconds, or never.
    Falls {
        peer: u16,
        life: u32,
        torn: bool,
        down: Option<u64>,
    },
    /// A hostile peer publishes.
    Publish {
        peer: u16,
        event: Rc<Carried>,
    },
    /// A second has passed.
    Tick,
}

impl Due {
    /// Returns a number for what it is, to whom it happens and by whom, and the short id of the event that is carried.
    pub(crate) fn course(&self) -> u64 {
        let of = |kind: u64, peer: u16, relay: u16| kind << 40 | u64::from(peer) << 16 | u64::from(relay);
        match self {
            Self::Planned(nth) => 1 << 40 | *nth as u64,
            Self::Dial { peer, relay, .. } => of(2, *peer, *relay),
            Self::Dialled { peer, relay, .. } => of(3, *peer, *relay),
            Self::Cut { peer, relay, .. } => of(4, *peer, *relay),
            Self::ToRelay { peer, relay, said, .. } => {
                let id = if let Said::Event(event) = said { short(event.id.as_bytes()) } else { 0 };
                of(5, *peer, *relay) ^ id
            }
            Self::ToPeer { peer, relay, heard, .. } => {
                let id = if let Heard::Event { event, .. } = heard { short(event.id.as_bytes()) } else { 0 };
                of(6, *peer, *relay) ^ id
            }
            Self::RelaySays { relay, peer, .. } => of(7, *peer, *relay),
            Self::Pool { peer, .. } => of(8, *peer, 0),
            Self::Opened { peer, .. } => of(9, *peer, 0),
            Self::Sealed { peer, .. } => of(10, *peer, 0),
            Self::Wake { peer, .. } => of(11, *peer, 0),
            Self::Limit { peer, relay, .. } => of(12, *peer, *relay),
            Self::App { peer, .. } => of(13, *peer, 0),
            Self::Start { peer, .. } => of(14, *peer, 0),
            Self::Publish { peer, event } => of(15, *peer, 0) ^ short(event.id.as_bytes()),
            Self::Tick => 16 << 40,
            Self::Falls { peer, .. } => of(17, *peer, 0),
        }
    }
}

/// What an application does later.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// A client's application begins: `initialize`.
    Begin,
    /// The session has begun.
    Begun,
    /// The oldest call that waited is made.
    Issue,
    /// A tool goes on: with the request of this number in its server's list.
    Run(u64),
    /// The tool of that request writes to its stream.
    Stream(u64),
    /// The tool of that request asks its caller.
    AskBack(u64),
    /// A server's application answers what was not asked.
    Strange(PublicKey),
    /// A server's application tells a caller something.
    Chatter(PublicKey),
    /// A client cancels a call.
    Cancel(u64),
    /// A client takes a chunk of a call's stream.
    Take(u64),
    /// A client is handed an answer that its endpoint kept back on purpose.
    Late(String),
    /// A client answers a request of its server.
    Reply(u64),
    /// A server answers a question about access.
    Decide { question: u64, allow: bool },
    /// A question of a server to its caller was not answered in time.
    GiveUp(u64),
    /// The next batch of a journal is due.
    Write,
    /// The batch that was written to the journal is on disk, or is not.
    Stored,
}

/// The shared part of a world.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) queue: Queue<Due>,
    pub(crate) net: Net,
    pub(crate) trace: Trace,
    pub(crate) cheater: Cheater,
    /// How often each fault happened, by its name.
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// Every call that may be made, by its number: what its tool is to do.
    pub(crate) calls: BTreeMap<u64, CallPlan>,
}

impl Kernel {
    /// Returns the time of the world, microseconds.
    pub(crate) const fn now(&self) -> u64 {
        self.queue.now()
    }

    /// Counts a fault that happens.
    pub(crate) fn happened(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// Writes into the trace.
    pub(crate) fn emit(&mut self, host: Host, what: What) {
        self.trace.emit(self.queue.now(), host, what);
    }

    /// Writes down that a host did not act on something inbound.
    pub(crate) fn dropped(&mut self, host: Host, reason: DropReason) {
        self.trace.dropped(self.queue.now(), host, reason);
    }

    /// Writes down that a host could not open an event that its gate had let through.
    pub(crate) fn unopened(&mut self, host: Host, why: &'static str) {
        self.trace.unopened(self.queue.now(), host, why);
    }

    /// Something was brought to a host, or a timer of its connections was due.
    pub(crate) fn stirred(&mut self, host: Host, by_timer: bool) {
        self.trace.stirred(self.queue.now(), host, by_timer);
    }

    /// A peer says something on its connection to a relay.
    pub(crate) fn say(&mut self, peer: u16, relay: u16, said: Said) {
        let now = self.queue.now();
        let Some(way) = self.net.way_up(peer, relay, now, said.freight()) else { return };
        for at in &way.copies {
            let (connection, said) = (way.connection, said.clone());
            self.queue.at(*at, Due::ToRelay { peer, relay, connection, said });
        }
        self.queue.at(way.at, Due::ToRelay { peer, relay, connection: way.connection, said });
    }

    /// A relay says something on a peer's connection.
    pub(crate) fn tell(&mut self, relay: u16, peer: u16, heard: Heard) {
        let now = self.queue.now();
        let Some(way) = self.net.way_down(peer, relay, now, heard.freight()) else { return };
        for at in &way.copies {
            self.queue.at(*at, Due::ToPeer { peer, relay, connection: None, heard: heard.clone() });
        }
        self.queue.at(way.at, Due::ToPeer { peer, relay, connection: Some(way.connection), heard });
    }
}
