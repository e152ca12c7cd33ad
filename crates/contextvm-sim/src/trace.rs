//! What happened in one simulated life: entries that the hosts write, a running hash over them, and the checks they feed.
use std::collections::BTreeMap;
use std::sync::Arc;

use contextvm_engine::client::{ClientLoad, Lost};
use contextvm_engine::{DropReason, ServerLoad};
use nostr::event::EventId;
use nostr::key::PublicKey;

use crate::check::Checks;
use crate::hash::Running;

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
        /// It is small, and nothing lengthens it: no progress, no stream, no question back.
        simple: bool,
    },
    /// An endpoint's draft was signed. Hostile hosts write this too, for whatever they sign.
    Signed {
        /// The inner event.
        id: EventId,
        /// Whom it is for.
        to: PublicKey,
        /// Whether it leaves in a gift wrap.
        encrypted: bool,
        /// The Unix second that its author stamped on it.
        stamp: u64,
        /// The event that it answers, where its author says so.
        about: Option<EventId>,
        /// The result or error in it, if it is the whole answer of an endpoint.
        answer: Option<Digest>,
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
        /// The Unix second, as the host's own clock has it.
        unix: u64,
    },
    /// A request found the application's channel full: the host refuses it, and nobody executes it.
    Unread {
        /// Who asked, as the endpoint said.
        caller: PublicKey,
        /// The inner event that asked.
        id: Option<EventId>,
        /// What was asked.
        args: Digest,
        /// How long that is.
        bytes: u64,
        /// The Unix second, as the host's own clock has it.
        unix: u64,
    },
    /// A caller's cancellation reached the application, which stopped at once.
    Stopped {
        /// Whose request it was.
        caller: PublicKey,
        /// What had been asked.
        args: Digest,
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
    /// An application sent a notification (no cancellation, no frame), to one peer or to all. Progress counts, too: what it
    /// says is the number of its call and how far that is.
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
    /// connected to and that loses nothing, while both processes run and their clocks agree.
    Path {
        /// The client's number.
        client: u16,
        /// The server's number.
        server: u16,
        /// From now on.
        good: bool,
        /// Whether the clocks agree.
        clocks: bool,
    },
    /// An application will not serve this key: nothing of it may ever be executed.
    Denied {
        /// Whom.
        caller: PublicKey,
    },
    /// A client closed itself, or a server closed a session.
    Left {
        /// Whose session; `None`: the client's own.
        caller: Option<PublicKey>,
    },
    /// A tool gave its stream up before the end of it.
    GaveUp {
        /// Who reads it.
        caller: PublicKey,
        /// What was asked.
        args: Digest,
    },
    /// The application has read enough of a stream.
    HadEnough {
        /// Whose stream.
        call: Call,
    },
    /// A signer was late, or refused.
    SignerFailed,
    /// A host slept, and its machine's clock with it.
    Slept {
        /// Microseconds.
        lasts: u64,
    },
    /// The disk of a server stands still from now on.
    Stalled {
        /// Microseconds.
        lasts: u64,
    },
    /// A wall clock jumped.
    Jumped {
        /// Seconds.
        by: i64,
    },
    /// Calls of the plan that no application made: their client was down, or died before their turn.
    NotMade {
        /// How many.
        calls: u64,
    },
    /// The sizes of a server's tables after a step.
    Load(ServerLoad),
    /// The sizes of a client's tables.
    ClientLoad(ClientLoad),
    /// The sizes of a driver's tables.
    PortLoad(PortLoad),
    /// Nothing has happened for so long that tables should be empty now; their sizes were written just before this.
    Rest {
        /// Requests that the application works on, or calls that it has not seen end.
        busy: usize,
        /// A long silence, at night: also what is forgotten by age is gone.
        deep: bool,
        /// Records in the journal of a server.
        records: usize,
    },
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

/// Sizes of everything a driver holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortLoad {
    /// Signed events that are kept under their ticket.
    pub kept: usize,
    /// Publications that have no outcome yet.
    pub publishing: usize,
    /// Events that wait to be opened.
    pub opening: usize,
    /// Events that wait to be signed or sealed.
    pub sealing: usize,
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
    dropped: BTreeMap<&'static str, u64>,
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

    /// Takes the reason for which something inbound was not acted on, and which part of the host said so.
    pub fn dropped(&mut self, at: u64, host: Host, reason: DropReason) {
        self.hash.all(30, &[at, reason as u64]);
        *self.dropped.entry(reason.name()).or_default() += 1;
        self.checks.dropped(at, host, reason);
    }

    /// Takes the text of a reason for which an event that had passed the gate could not be opened.
    pub fn unopened(&mut self, at: u64, host: Host, why: &str) {
        self.hash.mix(31);
        self.hash.bytes(why.as_bytes());
        *self.dropped.entry("unopened").or_default() += 1;
        self.checks.unopened(at, host, why);
    }

    /// Something was brought to a host, or (a timer of its connections) the host had asked to be woken.
    pub fn stirred(&mut self, at: u64, host: Host, by_timer: bool) {
        self.checks.stirred(at, host, by_timer);
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
        let Self { hash, entries, kept, mut checks, dropped } = self;
        checks.finish(at);
        Finished { hash: hash.value(), entries, kept: kept.unwrap_or_default(), checks, dropped }
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
    /// How often something was not acted on, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
}
