//! What everything in a world shares: the queue, the net and the trace.
use std::collections::BTreeMap;
use std::rc::Rc;

use contextvm_core::Mono;
use nostr::key::PublicKey;

use crate::cheat::Cheater;
use crate::frame::{Carried, Heard, Said};
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
    /// A hostile peer publishes.
    Publish {
        peer: u16,
        event: Rc<Carried>,
    },
    /// A second has passed.
    Tick,
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
    /// A client answers a request of its server.
    Reply(u64),
    /// A server answers a question about access.
    Decide(u64),
    /// A question of a server to its caller was not answered in time.
    GiveUp(u64),
    /// What was written to the journal up to this number is on disk.
    Stored(u64),
}

/// The shared part of a world.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) queue: Queue<Due>,
    pub(crate) net: Net,
    pub(crate) trace: Trace,
    pub(crate) cheater: Cheater,
    /// Every call that may be made, by its number: what its tool is to do.
    pub(crate) calls: BTreeMap<u64, CallPlan>,
}

impl Kernel {
    /// Returns the time of the world, microseconds.
    pub(crate) const fn now(&self) -> u64 {
        self.queue.now()
    }

    /// Writes into the trace.
    pub(crate) fn emit(&mut self, host: Host, what: What) {
        self.trace.emit(self.queue.now(), host, what);
    }

    /// A peer says something on its connection to a relay.
    pub(crate) fn say(&mut self, peer: u16, relay: u16, said: Said) {
        let now = self.queue.now();
        let is_event = matches!(said, Said::Event(_));
        let Some(way) = self.net.way_up(peer, relay, now, is_event, is_event) else { return };
        for at in &way.copies {
            let (connection, said) = (way.connection, said.clone());
            self.queue.at(*at, Due::ToRelay { peer, relay, connection, said });
        }
        self.queue.at(way.at, Due::ToRelay { peer, relay, connection: way.connection, said });
    }

    /// A relay says something on a peer's connection.
    pub(crate) fn tell(&mut self, relay: u16, peer: u16, heard: Heard) {
        let now = self.queue.now();
        let is_event = matches!(heard, Heard::Event { .. });
        let may_vanish = is_event || matches!(heard, Heard::Ok { .. });
        let Some(way) = self.net.way_down(peer, relay, now, may_vanish, is_event) else { return };
        for at in &way.copies {
            self.queue.at(*at, Due::ToPeer { peer, relay, connection: None, heard: heard.clone() });
        }
        self.queue.at(way.at, Due::ToPeer { peer, relay, connection: Some(way.connection), heard });
    }
}
