//! What a face puts around a machine so that the driver can run it.
use contextvm_core::{Mono, Now, Opened};
use contextvm_engine::{DropReason, Outbound, Outcome, Record, Ticket};
use nostr::event::EventId;

/// What the driver tells an endpoint.
#[derive(Debug)]
pub enum Input<E> {
    /// An event came in and was checked.
    Opened(Box<Opened>),
    /// A publication ended.
    Published(Ticket, Outcome),
    /// A relay connection came (back) up.
    RelayUp,
    /// Our clock is so many seconds ahead of those of the relays, by what they say; behind, if negative.
    ClockAhead(i64),
    /// The largest event that the relays take, bytes as published, is another one now.
    RelayLimit(usize),
    /// All records up to this one are on disk.
    Remembered(u64),
    /// The store has failed; records up to this one cannot be relied on unless they were [`Input::Remembered`].
    Unstored(u64),
    /// The application's side of the endpoint has something.
    App(E),
    /// A time that [`Endpoint::poll_timeout`] named has come.
    Wake,
}

/// What an endpoint wants the driver to do.
#[derive(Debug)]
#[must_use]
pub enum Effect {
    /// Sign, seal and publish.
    Publish(Outbound),
    /// Publish again what a ticket names.
    Republish {
        /// The earlier publication.
        ticket: Ticket,
        /// Make a new gift wrap around the same signed inner event.
        rewrap: bool,
    },
    /// The ticket is not needed any more.
    Forget(Ticket),
    /// Have a record on disk, and say so; the numbers go up by one.
    Remember {
        /// To be quoted in [`Input::Remembered`].
        number: u64,
        /// What to keep.
        record: Record,
    },
    /// Count a refusal.
    Drop {
        /// The inner id of what was refused, where that is one event.
        event: Option<EventId>,
        /// Why.
        reason: DropReason,
    },
    /// Stop taking events in, let what is under way finish in bounded time, and end.
    Stop,
}

/// A machine together with its application side.
pub trait Endpoint: Send + 'static {
    /// What the application side says.
    type Event: Send + 'static;

    /// Whether signed events are kept under their ticket until [`Effect::Forget`].
    const KEEPS: bool;

    /// Whether [`Effect::Drop`] names its event, which may have been given to the endpoint long before. Otherwise it is about
    /// the event that the endpoint was given last, if it was given one just now.
    const DROPS_LATER: bool;

    /// Waits for the application side. Must be cancel-safe even after one poll, and must wait for ever once nothing can
    /// come.
    fn next(&mut self) -> impl Future<Output = Self::Event> + Send;

    /// Takes one input; the driver then drains [`Self::poll`].
    fn handle(&mut self, input: Input<Self::Event>, now: Now);

    /// Returns the next thing to do.
    fn poll(&mut self) -> Option<Effect>;

    /// Returns when to come back.
    fn poll_timeout(&self) -> Option<Mono>;

    /// Returns until when nothing more of what relays deliver is given to it, unless it says otherwise before: its application
    /// is behind.
    fn holds_until(&mut self) -> Option<Mono> {
        None
    }

    /// Whether the application still owes something that is worth waiting for at shutdown.
    fn owes(&self) -> bool;
}
