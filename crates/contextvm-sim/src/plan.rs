//! What a world is going to do by itself: calls, and the faults that are planned; each with its time.
use crate::trace::{Call, Host};

/// What one call is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallPlan {
    /// Its number, unique in the world.
    pub call: Call,
    /// The client that makes it.
    pub client: u16,
    /// A method that may be repeated; otherwise a tool that changes something.
    pub harmless: bool,
    /// Bytes of filling in the request.
    pub asks: u64,
    /// Bytes of filling in the answer.
    pub answers: u64,
    /// How long the tool takes, microseconds; `None`: for ever.
    pub takes: Option<u64>,
    /// What the tool does beside answering.
    pub acts: Acts,
    /// The application cancels after this many microseconds.
    pub cancels: Option<u64>,
    /// The application reads the stream.
    pub reads: bool,
}

/// What a tool does beside answering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acts {
    /// It fails with an error of its own.
    pub fails: bool,
    /// It panics: its framework answers for it.
    pub panics: bool,
    /// Progress notifications that it sends.
    pub progress: u8,
    /// It asks its caller something.
    pub asks_back: bool,
    /// Bytes that it streams.
    pub streams: u64,
    /// It gives its stream up half-way.
    pub gives_up: bool,
}

/// Something that happens to the world from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// An application calls.
    Call(CallPlan),
    /// An application sends a notification: a client to its server, a server to all.
    Note(Host),
    /// A relay stops and starts again.
    RelayRestarts {
        /// Which.
        relay: u16,
        /// It forgets what it stored and which ids it has seen.
        forgets: bool,
        /// Microseconds.
        down: u64,
    },
    /// A connection stays open and carries nothing any more.
    HalfOpen {
        /// Whose.
        peer: Host,
        /// To which relay.
        relay: u16,
    },
    /// A relay swallows everything, connections stay.
    BlackHole {
        /// Which.
        relay: u16,
        /// Microseconds.
        lasts: u64,
    },
    /// A relay refuses new connections and ends those it has.
    Refuses {
        /// Which.
        relay: u16,
        /// Microseconds.
        lasts: u64,
    },
    /// Some peers do not reach some relays.
    Partition {
        /// Which pairs, chosen by the bits of a number.
        which: u64,
        /// Frames to relays are lost.
        up: bool,
        /// Frames to peers are lost.
        down: bool,
        /// Microseconds.
        lasts: u64,
    },
    /// Some links hold everything back and let it go together.
    Clog {
        /// Which pairs, chosen by the bits of a number.
        which: u64,
        /// Microseconds.
        lasts: u64,
    },
    /// A relay ends one subscription.
    Closes {
        /// Whose.
        peer: Host,
        /// Which.
        relay: u16,
    },
    /// A process dies and starts again.
    Crash {
        /// Which.
        host: Host,
        /// The last record of its journal is torn.
        torn: bool,
        /// Microseconds.
        down: u64,
    },
    /// A lid is closed: a process stands still, its monotonic clock too, and what is sent to it is lost.
    Sleeps {
        /// Which.
        host: Host,
        /// Microseconds.
        lasts: u64,
    },
    /// A wall clock jumps.
    Jump {
        /// Whose.
        host: Host,
        /// Seconds.
        by: i64,
    },
}

/// A happening and when it is planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Microseconds from the start.
    pub at: u64,
    /// What.
    pub what: Happening,
}

/// Everything that is planned; what is no call is known by its place in this list when it is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In any order.
    pub planned: Vec<Planned>,
    /// When the last of it is begun.
    pub ends: u64,
}
