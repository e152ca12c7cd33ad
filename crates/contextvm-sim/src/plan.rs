//! What a world is going to do by itself: calls, and the faults that are planned; each with its time.
use std::collections::BTreeMap;

use crate::trace::{Call, Host};

/// A message of fewer bytes goes in one event.
const SMALL: u64 = 2_000;

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
    /// It has enough of it after so many chunks.
    pub stops: Option<u64>,
}

impl CallPlan {
    /// Whether the call is small and nothing lengthens it: no progress, no stream, no question back.
    #[must_use]
    pub const fn is_simple(&self) -> bool {
        let Acts { progress, asks_back, streams, .. } = self.acts;
        progress == 0 && !asks_back && streams == 0 && self.asks < SMALL && self.answers < SMALL
    }
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
        /// Which.
        reach: Reach,
        /// Frames to relays are lost.
        up: bool,
        /// Frames to peers are lost.
        down: bool,
        /// Microseconds.
        lasts: u64,
    },
    /// Some links hold everything back and let it go together.
    Clog {
        /// Which.
        reach: Reach,
        /// Frames to relays are held back.
        up: bool,
        /// Frames to peers are held back.
        down: bool,
        /// Microseconds; of the link that is let go last.
        lasts: u64,
        /// One link is let go after the other.
        one_by_one: bool,
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
    /// A process dies the next time that it comes to a point for the so many-th time.
    CrashOn {
        /// Which.
        host: Host,
        /// Where.
        point: Point,
        /// 1: the next time.
        nth: u32,
        /// The last record of its journal is torn.
        torn: bool,
        /// Microseconds.
        down: u64,
    },
    /// A client closes itself, and its process ends; a server closes the session of one caller.
    Leaves {
        /// Which.
        host: Host,
        /// Microseconds until a client comes back; `None`: never.
        down: Option<u64>,
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

impl Happening {
    /// Returns the knob that it comes from: it does not happen where that one is left out.
    #[must_use]
    pub const fn knob(&self) -> Option<&'static str> {
        match self {
            Self::Call(_) => None,
            Self::Note(_) => Some("notes"),
            Self::RelayRestarts { forgets: true, .. } => Some("relay_forgets"),
            Self::RelayRestarts { forgets: false, .. } => Some("relay_restarts"),
            Self::HalfOpen { .. } => Some("half_open"),
            Self::BlackHole { .. } => Some("black_hole"),
            Self::Refuses { .. } => Some("refuse"),
            Self::Partition { .. } => Some("partition"),
            Self::Clog { .. } => Some("clog"),
            Self::Closes { .. } => Some("closed"),
            Self::Crash { .. } | Self::CrashOn { .. } => Some("crash"),
            Self::Leaves { .. } => Some("leaves"),
            Self::Sleeps { .. } => Some("sleep"),
            Self::Jump { .. } => Some("jump"),
        }
    }
}

/// Moments of a server at which much depends on what is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// A record was handed to the journal.
    Written,
    /// A batch is on the disk, and the machine does not know.
    Kept,
    /// A request is about to reach its application.
    Delivers,
    /// An answer was published, and is not on the disk.
    Answers,
    /// A frame of a transfer or a stream was published, and others are to follow.
    Frame,
}

impl Point {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Written, Self::Kept, Self::Delivers, Self::Answers, Self::Frame];
}

/// Which links something happens to; quiet relays are left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// One.
    Link(Host, u16),
    /// All of a peer.
    Peer(Host),
    /// All of a relay.
    Relay(u16),
    /// Those that the bits of a number choose.
    Some(u64),
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

impl Plan {
    /// Takes the calls of another plan of the same seed, each in the place of its own.
    pub fn take_calls(&mut self, other: Self) {
        let calls = other.planned.into_iter().filter_map(|planned| {
            if let Happening::Call(call) = planned.what { Some((call.call, call)) } else { None }
        });
        let mut calls: BTreeMap<Call, CallPlan> = calls.collect();
        for planned in &mut self.planned {
            if let Happening::Call(call) = &mut planned.what
                && let Some(other) = calls.remove(&call.call)
            {
                *call = other;
            }
        }
    }
}
