//! What happened in one simulated life: entries that the hosts write, a running hash over them, and the checks they feed.
use std::sync::Arc;

use contextvm_engine::ServerLoad;
use contextvm_engine::client::Lost;
use nostr::event::EventId;
use nostr::key::PublicKey;

use crate::check::Checks;
use crate::hash::{Running, short};

/// One process or relay of a simulated world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A client, honest or hostile.
    Client(u16),
    /// A server, honest or hostile.
    Server(u16),
    /// A relay, honest or hostile.
    Relay(u16),
}

/// One request that an application gave away, numbered over the whole world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call(pub u64);

/// A hash of some bytes, to compare what was given with what came out.
///
/// Of a request it is taken over what its application wrote and no endpoint may touch (the `arguments` of a tool call, which
/// hold the number of the call, so that no two requests of a world are equal); of an answer over its `result` or `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub u64);

impl Digest {
    /// Hashes some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hash = Running::default();
        hash.bytes(bytes);
        Self(hash.value())
    }
}

/// How a call ended, as its application saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With the `result` of the other side's application, or with the `error` that it wrote itself.
    Answer {
        /// What came.
        result: Digest,
        /// How long it is.
        bytes: u64,
    },
    /// With a JSON-RPC error that an endpoint wrote: busy, interrupted, session restarted and the like.
    Error(i64),
    /// Without a word of the server: no reply, not sent, closed, busy, transfer failed.
    Lost(Lost),
    /// By the application's own cancellation.
    Cancelled,
}

/// What a host did or saw. All texts of peers are digests; the data of streams is kept to be compared piece by piece.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A host came into the world with this key. Relays have none and do not join.
    Joined {
        /// Its identity.
        key: PublicKey,
        /// Whether it keeps to the protocol: only honest hosts' promises are checked.
        honest: bool,
        /// It never speaks plaintext (its whole life long, restarts included).
        encrypted: bool,
    },
    /// A process died, with everything that it did not store. Its open calls are nobody's any more.
    Crashed,
    /// A process started again under the same key.
    Restarted {
        /// With the journal of the life before it.
        journal: bool,
    },
    /// An application gave a request to its endpoint.
    Issued {
        /// Which.
        call: Call,
        /// Whom it is for.
        to: PublicKey,
        /// What it asks.
        args: Digest,
        /// How long that is.
        bytes: u64,
        /// The application reads the stream of this call.
        reads: bool,
    },
    /// An endpoint's draft was signed. Hostile hosts write this too, for whatever they sign.
    Signed {
        /// The inner event.
        id: EventId,
        /// Whom it is for.
        to: PublicKey,
        /// Whether it leaves in a gift wrap.
        encrypted: bool,
    },
    /// A request reached an application.
    Executed {
        /// Who asked, as the endpoint said.
        caller: PublicKey,
        /// The inner event that asked, where the endpoint says so (a client's does not).
        id: Option<EventId>,
        /// What was asked.
        args: Digest,
        /// How long that is.
        bytes: u64,
    },
    /// An application answered a request that it had executed.
    Returned {
        /// To whom.
        caller: PublicKey,
        /// What had been asked.
        args: Digest,
        /// The answer.
        result: Digest,
        /// How long that is.
        bytes: u64,
    },
    /// A call came to its end at the application that had issued it.
    Ended {
        /// Which.
        call: Call,
        /// How.
        ending: Ending,
    },
    /// An application sent a notification of its own (no cancellation, progress or frame), to one peer or to all.
    Told {
        /// Whom it is for.
        to: Option<PublicKey>,
        /// What it says.
        said: Digest,
    },
    /// A notification reached an application.
    Heard {
        /// From whom, as the endpoint said.
        from: PublicKey,
        /// What it says.
        said: Digest,
    },
    /// An application wrote to the stream of a request, and the endpoint took it.
    Wrote {
        /// Who asked.
        caller: PublicKey,
        /// What had been asked.
        args: Digest,
        /// What was written, the part that was taken.
        data: Arc<str>,
    },
    /// An application closed the stream of a request: all is written.
    Closed {
        /// Who asked.
        caller: PublicKey,
        /// What had been asked.
        args: Digest,
    },
    /// A chunk of a stream reached the application that reads it.
    Chunk {
        /// Whose stream.
        call: Call,
        /// 0, 1, 2 ...
        index: u64,
        /// The text.
        data: Arc<str>,
    },
    /// A stream ended at the application that reads it.
    StreamEnded {
        /// Whose stream.
        call: Call,
        /// It was closed by its writer, and nothing is missing.
        complete: bool,
    },
    /// Whether a client and a server had, from this moment on, an honest relay in common that is up, that both are
    /// connected to and that loses nothing, while both processes run.
    Path {
        /// The client's number.
        client: u16,
        /// The server's number.
        server: u16,
        /// From now on.
        good: bool,
    },
    /// The sizes of a server's tables after a step.
    Load(ServerLoad),
    /// A machine asked to be woken at this time (microseconds of the world's clock), where that changed.
    Timer {
        /// When.
        due: u64,
    },
    /// A machine was woken because it had asked for it.
    Woke,
    /// Something happened that the drivers log as an error.
    Error(&'static str),
}

/// Who did or saw what, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Microseconds since the world began.
    pub at: u64,
    /// Who.
    pub host: Host,
    /// What.
    pub what: What,
}

/// The record of one world: hashed and checked entry by entry, and kept only where asked for.
#[derive(Debug, Default)]
pub struct Trace {
    hash: Running,
    entries: u64,
    kept: Option<Vec<Entry>>,
    checks: Checks,
}

impl Trace {
    /// Makes a trace that feeds these checks.
    #[must_use]
    pub fn new(checks: Checks) -> Self {
        Self { checks, ..Self::default() }
    }

    /// Keeps every entry, for people and for tests.
    #[must_use]
    pub fn keeping(mut self) -> Self {
        self.kept = Some(Vec::new());
        self
    }

    /// Takes one entry.
    pub fn emit(&mut self, at: u64, host: Host, what: What) {
        let entry = Entry { at, host, what };
        self.entries += 1;
        entry.mix(&mut self.hash);
        self.checks.see(&entry);
        if let Some(kept) = &mut self.kept {
            kept.push(entry);
        }
    }

    /// Takes numbers that belong to the course of the world and to no check: what a relay passed on, what a link lost.
    pub fn note(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.hash.mix(*number);
        }
    }

    /// Returns the hash over everything so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash.value()
    }

    /// Returns how many entries there were.
    #[must_use]
    pub const fn entries(&self) -> u64 {
        self.entries
    }

    /// Returns the entries, where they are kept.
    #[must_use]
    pub fn kept(&self) -> &[Entry] {
        self.kept.as_deref().unwrap_or_default()
    }

    /// Returns the checks.
    #[must_use]
    pub const fn checks(&self) -> &Checks {
        &self.checks
    }

    /// Ends the world: the checks look at what should have happened by now, and give their verdict.
    #[must_use]
    pub fn finish(self, at: u64) -> Finished {
        let Self { hash, entries, kept, mut checks } = self;
        checks.finish(at);
        Finished { hash: hash.value(), entries, kept: kept.unwrap_or_default(), checks }
    }
}

/// A trace whose world is over.
#[derive(Debug)]
pub struct Finished {
    /// The hash over everything.
    pub hash: u64,
    /// How many entries there were.
    pub entries: u64,
    /// The entries, where they were kept.
    pub kept: Vec<Entry>,
    /// The checks with their verdict.
    pub checks: Checks,
}

impl Entry {
    /// Hashes the whole entry.
    fn mix(&self, hash: &mut Running) {
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
            Self::Issued { call, to, args, bytes, reads } => {
                hash.all(4, &[call.0, short(to.as_bytes()), args.0, *bytes, u64::from(*reads)]);
            }
            Self::Signed { id, to, encrypted } => {
                hash.all(5, &[short(id.as_bytes()), short(to.as_bytes()), u64::from(*encrypted)])
            }
            Self::Executed { caller, id, args, bytes } => {
                let id = id.map_or(0, |id| short(id.as_bytes()));
                hash.all(6, &[short(caller.as_bytes()), id, args.0, *bytes]);
            }
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
            Self::Path { client, server, good } => {
                hash.all(15, &[u64::from(*client), u64::from(*server), u64::from(*good)])
            }
            Self::Load(load) => hash.all(
                16,
                &[load.seen_ids, load.in_flight, load.publications, load.ledger_bytes]
                    .map(|size| size as u64),
            ),
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
