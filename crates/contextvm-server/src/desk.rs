//! The server machine with its application side: sessions out, commands in, access decisions on tasks.
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use contextvm_core::{Limits, Mono, Now, PeerTags};
use contextvm_engine::server::{Delivery, Question, RequestKey};
use contextvm_engine::{DropReason, ServerInput, ServerMachine, ServerOutput};
use contextvm_runtime::{Counters, Effect, Endpoint, Input};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use nostr::key::PublicKey;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use crate::access::AccessCallback;
use crate::listing::Listing;
use crate::session::{Inbound, Letter, Room, Session, Wire};
use crate::stream::{Ask, Reply, Streams};
use crate::writing::Writing;

/// Notifications that may wait in one session beyond its requests.
const NOTIFICATIONS: usize = 256;
/// How far a clock may be behind the barrier unnamed, seconds, and how often it is named.
const AHEAD: u64 = 60;
const NAME_EVERY: Duration = Duration::from_secs(60);

/// What the application side tells the desk.
#[derive(Debug)]
pub(crate) enum Command {
    Send {
        to: PublicKey,
        message: String,
        /// Its share of the room; given back when this is taken.
        _share: OwnedSemaphorePermit,
    },
    Broadcast(String),
    Stream {
        key: RequestKey,
        ask: Ask,
        reply: Reply,
    },
    Shutdown,
}

/// What [`Desk::next`] yields.
#[derive(Debug)]
pub(crate) enum Event {
    Command(Command),
    /// The application dropped the session with this number.
    Left(PublicKey, u64),
    Verdict {
        question: u64,
        allow: bool,
    },
}

/// Where a caller's messages go.
struct Seat {
    number: u64,
    inbound: mpsc::Sender<Letter>,
}

/// The ways between the desk and the application.
pub(crate) struct Ways {
    /// Sessions go out here.
    pub(crate) accept: mpsc::Sender<Session>,
    /// For the sessions to come; weak, so that the handles alone keep the server alive.
    pub(crate) commands: mpsc::WeakSender<Command>,
    /// Commands come in here.
    pub(crate) inbox: mpsc::Receiver<Command>,
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The server machine with its application side.
pub(crate) struct Desk {
    machine: ServerMachine,
    limits: Limits,
    callback: Option<Arc<dyn AccessCallback>>,
    ways: Ways,
    counters: Counters,
    listing: Listing,
    writing: Writing,
    seats: BTreeMap<PublicKey, Seat>,
    /// Bytes of messages that no session has read yet, over all of them.
    unread: Arc<AtomicUsize>,
    /// Room for messages to callers that wait for the loop.
    room: Room,
    leaving: FuturesUnordered<Boxed<(PublicKey, u64)>>,
    verdicts: FuturesUnordered<Boxed<(u64, bool)>>,
    next_number: u64,
    now: Now,
    /// Nothing stamped before this Unix second is taken.
    barrier: u64,
    /// When a clock behind the barrier was named last.
    clock_named: Option<Mono>,
    inbox_gone: bool,
    stopping: bool,
    stop_due: bool,
}

impl Desk {
    pub(crate) fn new(
        machine: ServerMachine,
        limits: Limits,
        callback: Option<Arc<dyn AccessCallback>>,
        ways: Ways,
        counters: Counters,
        listing: Listing,
    ) -> Self {
        Self {
            machine,
            room: Room::new(limits.transfers_bytes),
            limits,
            callback,
            ways,
            counters,
            listing,
            writing: Writing::new(Arc::<Streams>::default()),
            seats: BTreeMap::new(),
            unread: Arc::default(),
            leaving: FuturesUnordered::new(),
            verdicts: FuturesUnordered::new(),
            next_number: 0,
            now: Now::default(),
            barrier: 0,
            clock_named: None,
            inbox_gone: false,
            stopping: false,
            stop_due: false,
        }
    }

    /// Sets the Unix second before which nothing is taken, to name a clock that is set back behind it.
    pub(crate) const fn with_barrier(mut self, barrier: u64) -> Self {
        self.barrier = barrier;
        self
    }

    /// A server whose clock was ahead at its start and is right again hears nobody until it was started anew.
    fn check_clock(&mut self) {
        let (ahead, mono) = (self.barrier.saturating_sub(self.now.unix), self.now.mono);
        if ahead > AHEAD && self.clock_named.is_none_or(|at| mono >= at.after(NAME_EVERY)) {
            self.clock_named = Some(mono);
            tracing::error!(
                seconds = ahead,
                "the clock was set back behind the start; nothing is taken until then: start the server again"
            );
        }
    }
}

impl Endpoint for Desk {
    type Event = Event;
    const KEEPS: bool = false;
    const DROPS_LATER: bool = true;

    async fn next(&mut self) -> Event {
        loop {
            tokio::select! {
                command = self.ways.inbox.recv(), if !self.inbox_gone => {
                    self.inbox_gone = command.is_none();
                    return Event::Command(command.unwrap_or(Command::Shutdown));
                }
                () = self.ways.accept.closed(), if !self.stopping => return Event::Command(Command::Shutdown),
                Some((caller, number)) = self.leaving.next(), if !self.leaving.is_empty() => {
                    return Event::Left(caller, number);
                }
                Some((question, allow)) = self.verdicts.next(), if !self.verdicts.is_empty() => {
                    return Event::Verdict { question, allow };
                }
                else => core::future::pending::<()>().await,
            }
        }
    }

    fn handle(&mut self, input: Input<Event>, now: Now) {
        self.now = now;
        match input {
            Input::Opened(opened) => {
                self.check_clock();
                self.tell(ServerInput::Opened(opened));
            }
            Input::Published(ticket, outcome) => self.tell(ServerInput::Published(ticket, outcome)),
            Input::Wake => {
                self.check_clock();
                self.tell(ServerInput::Wake);
            }
            Input::RelayLimit(bytes) => self.tell(ServerInput::RelayLimit(bytes)),
            Input::Remembered(through) => self.tell(ServerInput::Remembered { through }),
            Input::Unstored(through) => self.tell(ServerInput::Unstored { through }),
            Input::RelayUp | Input::ClockAhead(_) => {}
            Input::App(event) => self.take(event),
        }
    }

    fn poll(&mut self) -> Option<Effect> {
        while let Some(output) = self.machine.poll_output() {
            if let Some(effect) = self.act(output) {
                return Some(effect);
            }
        }
        core::mem::take(&mut self.stop_due).then_some(Effect::Stop)
    }

    fn poll_timeout(&self) -> Option<Mono> {
        self.machine.poll_timeout().map(|(mono, _why)| mono)
    }

    fn owes(&self) -> bool {
        let load = self.machine.load();
        load.publications > 0 || load.held > 0 || (load.in_flight > 0 && !self.seats.is_empty())
    }
}

impl Desk {
    fn tell(&mut self, input: ServerInput) {
        self.machine.handle(input, self.now);
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Command(Command::Send { to, message, .. }) => {
                let input = self.listing.input(&self.machine, to, message);
                self.tell(input);
            }
            Event::Command(Command::Broadcast(message)) => self.tell(ServerInput::Broadcast(message)),
            Event::Command(Command::Stream { key, ask, reply }) => {
                self.writing.ask(&mut self.machine, key, (ask, reply), self.now);
            }
            Event::Command(Command::Shutdown) => {
                self.machine.store_all(self.now);
                self.stopping = true;
                self.stop_due = true;
            }
            Event::Left(caller, number) => {
                if self.seats.get(&caller).is_some_and(|seat| seat.number == number) {
                    self.seats.remove(&caller);
                    self.tell(ServerInput::SessionClosed(caller));
                }
            }
            Event::Verdict { question, allow } => self.tell(ServerInput::Verdict { question, allow }),
        }
    }

    fn act(&mut self, output: ServerOutput) -> Option<Effect> {
        match output {
            ServerOutput::Publish(outbound) => return Some(Effect::Publish(outbound)),
            ServerOutput::Deliver { caller, delivery, message, event, tags } => {
                self.deliver(caller, Box::new(Inbound { delivery, message, event: Some(event), tags }));
            }
            ServerOutput::Remember { number, record } => return Some(Effect::Remember { number, record }),
            ServerOutput::Ask { id, question } => self.ask(id, question),
            ServerOutput::Restarted(caller) | ServerOutput::Ended(caller) => {
                // The session reads what still waits for it, and then its end.
                self.seats.remove(&caller);
            }
            ServerOutput::StreamRoom(key) => self.writing.room(&mut self.machine, &key, self.now),
            ServerOutput::StreamEnded { key, failure } => self.writing.end(&key, failure),
            ServerOutput::Unasked { of, id, reason, tags } => {
                self.unasked(of, &id, reason, tags);
                return Some(Effect::Drop { event: None, reason });
            }
            ServerOutput::Refused { event, reason } => {
                return Some(Effect::Drop { event: Some(event), reason });
            }
            ServerOutput::Undeliverable { to: _, reason } | ServerOutput::Drop(reason) => {
                return Some(Effect::Drop { event: None, reason });
            }
        }
        None
    }

    /// Hands a message to its caller's session without ever waiting for the application.
    fn deliver(&mut self, caller: PublicKey, inbound: Box<Inbound>) {
        if let Delivery::Request { key, streams: true, .. } = &inbound.delivery {
            self.writing.open(*key);
        }
        let in_flight = self.limits.in_flight_per_caller;
        // Requests that were cancelled unread are not in flight any more, and still wait.
        let most = self.limits.in_flight_bytes.saturating_mul(2);
        let letter = Letter::counted(inbound, &self.unread);
        let refused = match self.seat(caller) {
            Some(seat) if letter.fits(most) => seat.offer(letter, in_flight),
            _ => Err(Unread::Full(letter.open())),
        };
        match refused {
            Ok(()) => {}
            Err(Unread::Full(inbound)) => self.refuse(caller, &inbound),
            Err(Unread::Gone) => {
                self.seats.remove(&caller);
                self.tell(ServerInput::SessionClosed(caller));
            }
        }
    }

    /// Answers a request of the application itself, because its caller was not asked.
    fn unasked(&mut self, caller: PublicKey, id: &str, reason: DropReason, tags: Arc<PeerTags>) {
        if self.seats.contains_key(&caller)
            && let Some(message) = crate::answer::unasked(id, reason)
        {
            let inbound = Inbound { delivery: Delivery::Response, message, event: None, tags };
            self.deliver(caller, Box::new(inbound));
        }
    }

    /// Finds or makes the seat of a caller; `None` when the application accepts no more sessions.
    fn seat(&mut self, caller: PublicKey) -> Option<&Seat> {
        if !self.seats.contains_key(&caller) {
            let commands = self.ways.commands.upgrade()?;
            let place = self.ways.accept.try_reserve().ok()?;
            self.next_number = self.next_number.saturating_add(1);
            let number = self.next_number;
            let (inbound, messages) = mpsc::channel(seat_bound(self.limits.in_flight_per_caller));
            let (alive, left) = oneshot::channel();
            let wire = Wire { commands, streams: self.writing.streams(), room: self.room.clone() };
            place.send(Session::new(caller, messages, wire, alive));
            self.leaving.push(Box::pin(async move {
                let _dropped = left.await;
                (caller, number)
            }));
            self.seats.insert(caller, Seat { number, inbound });
        }
        self.seats.get(&caller)
    }

    /// Counts a message that the application did not take, and answers it if it is a request.
    fn refuse(&mut self, caller: PublicKey, inbound: &Inbound) {
        self.counters.unread();
        if let Delivery::Request { key, .. } = &inbound.delivery
            && let Some(message) = crate::answer::busy(key)
        {
            self.tell(ServerInput::Send { to: caller, message });
        }
    }

    /// Puts a question to the application on its own task; a panic or a late answer means no.
    fn ask(&mut self, id: u64, question: Question) {
        let Some(callback) = self.callback.clone() else {
            self.verdicts.push(Box::pin(core::future::ready((id, false))));
            return;
        };
        let timeout = self.limits.access_timeout;
        let asked = AbortOnDropHandle::new(tokio::spawn(async move {
            match question {
                Question::Key(key) => callback.key_allowed(key).await,
                Question::Capability { method, name } => {
                    callback.capability_open(&method, name.as_deref()).await
                }
            }
        }));
        self.verdicts.push(Box::pin(async move {
            let allow = matches!(tokio::time::timeout(timeout, asked).await, Ok(Ok(true)));
            (id, allow)
        }));
    }
}

/// Why a session did not take a message.
enum Unread {
    Full(Box<Inbound>),
    Gone,
}

impl Seat {
    /// Queues a message; notifications leave the places that requests may need.
    fn offer(&self, letter: Letter, in_flight: usize) -> Result<(), Unread> {
        let optional = matches!(letter.inbound().delivery, Delivery::Notification { .. });
        if optional && !self.inbound.is_closed() && self.inbound.capacity() <= reserve(in_flight) {
            return Err(Unread::Full(letter.open()));
        }
        self.inbound.try_send(letter).map_err(|error| match error {
            mpsc::error::TrySendError::Full(letter) => Unread::Full(letter.open()),
            mpsc::error::TrySendError::Closed(_) => Unread::Gone,
        })
    }
}

/// Places in a session's queue that only requests and answers may take.
fn reserve(in_flight: usize) -> usize {
    in_flight.saturating_mul(2)
}

/// Messages that may wait in one session.
pub(crate) fn seat_bound(in_flight: usize) -> usize {
    reserve(in_flight).saturating_add(NOTIFICATIONS)
}
