//! A peer's connections to its relays, as `contextvm-relay` keeps them: retry, subscription, authentication, publications.
mod publications;
mod talk;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use contextvm_core::backoff::{Backoff, Reconnect};
use nostr::event::EventId;
use nostr::key::PublicKey;

use crate::frame::{Carried, Filter, Heard, Said};
use crate::kernel::{Due, Kernel};
use crate::rng::Rng;
use crate::time::{MS, SEC};

/// Longest wait for a connection, and the times of `contextvm_relay::Timing`.
const CONNECT: u64 = 10 * SEC;
const PUBLISH: u64 = 3 * SEC;
const RETRY_MOST: u64 = 30 * SEC;
const LIVED: u64 = 5 * SEC;
const REOPEN_FIRST: u64 = SEC;
const REOPEN_MOST: u64 = 60 * SEC;
/// How far a repeated subscription reaches back before the relay was last seen, seconds.
const OVERLAP: u64 = 5;
const PING: u64 = 30 * SEC;
const DEAD: u64 = 45 * SEC;
const AUTH: u64 = 10 * SEC;
/// Publications that wait for one relay.
const WAITING: usize = 1_024;
/// A relay that takes longer to take an event is not waited for.
const SLOW: u64 = SEC;
/// Events over which invalid ones are counted, and how many of them may be invalid.
const INVALID_WINDOW: u64 = 100;
const INVALID_MOST: usize = 5;

/// What a timer of a pool is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Connect again.
    Retry(u16),
    /// An attempt to connect takes too long.
    Connect { relay: u16, connection: u32 },
    /// Is the relay silent?
    Silence { relay: u16, connection: u32 },
    /// Subscribe or authenticate again.
    Reopen { relay: u16, connection: u32 },
    /// Send again after a pause.
    Resume { relay: u16, connection: u32 },
    /// The oldest publication has waited long enough.
    Deadline,
}

/// What became of a publication at one relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Taken,
    Refused(&'static str),
    NotSent,
    NoAnswer,
}

#[derive(Clone, Debug)]
struct Entry {
    fate: Fate,
    last: bool,
    keeps_pace: bool,
    is_first: bool,
    /// The relay was connected when it was expected to answer, or since.
    was_connected: bool,
}

/// Which relays matter to an event, and how much, as in `contextvm_relay::Audience`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Audience {
    pub(crate) first: u64,
    pub(crate) only: bool,
    pub(crate) decides: bool,
}

impl Audience {
    fn is_first(self, relay: u16) -> bool {
        self.first == 0 || self.first & (1 << (relay % 64)) != 0
    }
}

/// One event on its way to all relays.
#[derive(Debug)]
struct Publication {
    event: Rc<Carried>,
    deadline: u64,
    everywhere: bool,
    decides: bool,
    entries: Vec<Entry>,
    is_reported: bool,
}

/// What became of a publication as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Published {
    Accepted,
    Refused(&'static str),
    NotSent,
    Unknown,
}

/// What a pool has to say.
#[derive(Debug)]
pub(crate) enum News {
    /// A relay is connected.
    Up(u16),
    /// An event came.
    Event { relay: u16, event: Rc<Carried>, stored: bool },
    /// A publication ended.
    Published(u64, Published),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subscription {
    Wanted,
    Asked,
    Live { since: u64 },
    Closed { until: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Auth {
    Idle,
    Sent(EventId),
    Accepted,
    Refused,
}

#[derive(Debug)]
struct Sent {
    at: u64,
    numbers: Vec<u64>,
    parked: bool,
}

/// One relay of a peer.
#[derive(Debug)]
struct Line {
    connection: u32,
    open_since: Option<u64>,
    subscription: Subscription,
    reopen: Backoff,
    /// Unix seconds until which everything was seen.
    seen: u64,
    reconnect: Reconnect,
    /// How long this connection has brought new events, without the time since it last began to.
    live: u64,
    heard: u64,
    pinged: bool,
    challenge: Option<Rc<str>>,
    auth: Auth,
    auth_wanted: bool,
    /// When it is to be subscribed or authenticated again, and on which connection.
    reopens: Option<(u64, u32)>,
    last_signature: Option<u64>,
    queue: VecDeque<u64>,
    sent: BTreeMap<EventId, Sent>,
    /// What was sent and not answered, oldest first, and what was.
    order: VecDeque<EventId>,
    paused_until: Option<u64>,
    pause: Backoff,
    lags: bool,
    events: u64,
    /// The value of `events` at each recent report of an invalid one.
    invalid: VecDeque<u64>,
}

/// All relays of a peer.
#[derive(Debug)]
pub(crate) struct Pool {
    peer: u16,
    life: u32,
    key: PublicKey,
    filter: Filter,
    rng: Rng,
    /// Unix seconds of its beginning, before which no subscription reaches but by its lookback.
    start: u64,
    lines: Vec<Line>,
    publications: BTreeMap<u64, Publication>,
    deadlines: VecDeque<(u64, u64)>,
    next: u64,
    pub(crate) news: VecDeque<News>,
}

impl Pool {
    /// Makes the pool of a peer; `filter.since` is how far subscriptions look back, seconds, and `retry` the first delay
    /// before a connection is tried again, microseconds.
    #[expect(clippy::too_many_arguments, reason = "what a peer is, and where and when it begins")]
    pub(crate) fn new(
        peer: u16,
        life: u32,
        key: PublicKey,
        filter: Filter,
        relays: u16,
        rng: Rng,
        unix: u64,
        retry: u64,
    ) -> Self {
        let line = || Line {
            connection: 0,
            open_since: None,
            subscription: Subscription::Wanted,
            reopen: Backoff::new(micros(REOPEN_FIRST), micros(REOPEN_MOST)),
            seen: unix,
            reconnect: Reconnect::new(micros(retry), micros(RETRY_MOST)),
            live: 0,
            heard: 0,
            pinged: false,
            challenge: None,
            auth: Auth::Idle,
            auth_wanted: false,
            reopens: None,
            last_signature: None,
            queue: VecDeque::new(),
            sent: BTreeMap::new(),
            order: VecDeque::new(),
            paused_until: None,
            pause: Backoff::new(micros(REOPEN_FIRST), micros(REOPEN_MOST)),
            lags: false,
            events: 0,
            invalid: VecDeque::new(),
        };
        Self {
            peer,
            life,
            key,
            filter,
            rng,
            start: unix,
            lines: (0..relays).map(|_| line()).collect(),
            publications: BTreeMap::new(),
            deadlines: VecDeque::new(),
            next: 0,
            news: VecDeque::new(),
        }
    }

    /// Begins to connect to all relays.
    pub(crate) fn start(&mut self, kernel: &mut Kernel) {
        for relay in 0..self.lines.len() as u16 {
            self.dial(relay, kernel);
        }
    }

    /// Whether a relay's subscription is live, as far as the peer knows.
    pub(crate) fn is_live(&self, relay: u16) -> bool {
        self.lines.get(usize::from(relay)).is_some_and(|line| {
            line.open_since.is_some() && matches!(line.subscription, Subscription::Live { .. })
        })
    }

    fn timer(&self, at: u64, timer: Timer, kernel: &mut Kernel) {
        kernel.queue.at(at, Due::Pool { peer: self.peer, life: self.life, timer });
    }

    fn dial(&mut self, relay: u16, kernel: &mut Kernel) {
        let connection = kernel.net.dial(self.peer, relay);
        let wait = kernel.net.delay(self.peer, relay, kernel.now());
        if let Some(line) = self.lines.get_mut(usize::from(relay)) {
            line.connection = connection;
        }
        kernel.queue.after(wait, Due::Dial { peer: self.peer, relay, connection });
        self.timer(kernel.now() + CONNECT, Timer::Connect { relay, connection }, kernel);
    }

    /// An attempt to connect ended.
    pub(crate) fn dialled(&mut self, relay: u16, connection: u32, open: bool, kernel: &mut Kernel) {
        let now = kernel.now();
        let Some(line) = self.lines.get_mut(usize::from(relay)) else { return };
        if line.connection != connection || line.open_since.is_some() {
            return;
        }
        if !open {
            line.connection = 0;
            self.retry(relay, kernel);
            return;
        }
        line.open_since = Some(now);
        line.heard = now;
        line.pinged = false;
        line.subscription = Subscription::Wanted;
        line.reopen.reset();
        line.live = 0;
        line.challenge = None;
        line.auth = Auth::Idle;
        line.auth_wanted = false;
        line.paused_until = None;
        self.timer(now + PING, Timer::Silence { relay, connection }, kernel);
        self.news.push_back(News::Up(relay));
        self.talk(relay, kernel);
        self.flush(relay, kernel);
    }

    fn retry(&mut self, relay: u16, kernel: &mut Kernel) {
        let random = draw(&mut self.rng);
        let Some(line) = self.lines.get_mut(usize::from(relay)) else { return };
        let wait = line.reconnect.next(random);
        let at = kernel.now() + wait.as_micros() as u64;
        self.timer(at, Timer::Retry(relay), kernel);
    }

    /// A connection ended.
    pub(crate) fn cut(&mut self, relay: u16, connection: u32, kernel: &mut Kernel) {
        let now = kernel.now();
        let publications = &self.publications;
        let Some(line) = self.lines.get_mut(usize::from(relay)) else { return };
        if line.connection != connection {
            return;
        }
        let Some(since) = line.open_since.take() else { return };
        line.connection = 0;
        let sent = std::mem::take(&mut line.sent);
        line.order.clear();
        let mut again: Vec<u64> = sent.into_values().flat_map(|sent| sent.numbers).collect();
        again.sort_unstable();
        for number in again.into_iter().rev() {
            if publications.get(&number).is_some_and(|publication| publication.deadline > now) {
                line.queue.push_front(number);
            }
        }
        line.paused_until = None;
        let life = now - since;
        line.goes_quiet(now);
        line.reconnect.lived(micros(life), micros(line.live), micros(LIVED));
        self.retry(relay, kernel);
    }

    /// Ends a connection that is taken for dead.
    fn give_up(&mut self, relay: u16, connection: u32, kernel: &mut Kernel) {
        kernel.net.close(self.peer, relay);
        self.cut(relay, connection, kernel);
    }

    /// A relay passed on what no relay should; too much of that ends the connection and delays the next one.
    pub(crate) fn report_invalid(&mut self, relay: u16, kernel: &mut Kernel) {
        let Some(line) = self.lines.get_mut(usize::from(relay)) else { return };
        let events = line.events;
        line.invalid.push_back(events);
        while line.invalid.front().is_some_and(|at| events - at >= INVALID_WINDOW) {
            line.invalid.pop_front();
        }
        if line.invalid.len() > INVALID_MOST {
            line.invalid.clear();
            line.reconnect.punish();
            let connection = line.connection;
            self.give_up(relay, connection, kernel);
        }
    }

    /// A timer has come.
    pub(crate) fn timed(&mut self, timer: Timer, kernel: &mut Kernel) {
        let now = kernel.now();
        match timer {
            Timer::Retry(relay) => {
                if self.line(relay, 0).is_some_and(|line| line.open_since.is_none()) {
                    self.dial(relay, kernel);
                }
            }
            Timer::Connect { relay, connection } => {
                if let Some(line) = self.line(relay, connection)
                    && line.open_since.is_none()
                {
                    line.connection = 0;
                    self.retry(relay, kernel);
                }
            }
            Timer::Silence { relay, connection } => self.silence(relay, connection, kernel),
            Timer::Reopen { relay, connection } => {
                if self.line(relay, connection).is_some() {
                    self.talk(relay, kernel);
                }
            }
            Timer::Resume { relay, connection } => {
                if let Some(line) = self.line(relay, connection) {
                    line.paused_until = None;
                    self.flush(relay, kernel);
                }
            }
            Timer::Deadline => {
                while let Some((deadline, number)) = self.deadlines.front().copied() {
                    if deadline > now {
                        self.timer(deadline, Timer::Deadline, kernel);
                        break;
                    }
                    self.deadlines.pop_front();
                    self.report(number);
                    self.publications.remove(&number);
                }
            }
        }
    }

    fn line(&mut self, relay: u16, connection: u32) -> Option<&mut Line> {
        self.lines.get_mut(usize::from(relay)).filter(|line| line.connection == connection)
    }

    fn silence(&mut self, relay: u16, connection: u32, kernel: &mut Kernel) {
        let now = kernel.now();
        let Some(line) = self.line(relay, connection).filter(|line| line.open_since.is_some()) else {
            return;
        };
        let patience = line.heard + if line.pinged { DEAD } else { PING };
        if patience > now {
            self.timer(patience, Timer::Silence { relay, connection }, kernel);
        } else if line.pinged {
            self.give_up(relay, connection, kernel);
        } else {
            line.pinged = true;
            let next = line.heard + DEAD;
            kernel.say(self.peer, relay, Said::Ping);
            self.timer(next.max(now + MS), Timer::Silence { relay, connection }, kernel);
        }
    }

    /// Takes in what a relay says.
    pub(crate) fn hear(&mut self, relay: u16, heard: Heard, unix: u64, kernel: &mut Kernel) {
        let now = kernel.now();
        let Some(line) = self.lines.get_mut(usize::from(relay)).filter(|line| line.open_since.is_some())
        else {
            return;
        };
        line.heard = now;
        line.pinged = false;
        let live = matches!(line.subscription, Subscription::Live { .. });
        if live {
            line.seen = unix;
        }
        match heard {
            Heard::Event { event, is_ours } => {
                if is_ours {
                    line.events += 1;
                    self.news.push_back(News::Event { relay, event, stored: !live });
                }
            }
            Heard::Ok { id, accepted, text } => self.answered(relay, &id, accepted, text, kernel),
            Heard::Eose => {
                if line.subscription == Subscription::Asked {
                    line.subscription = Subscription::Live { since: now };
                    line.seen = unix;
                    kernel.net.is_changed = true;
                }
            }
            Heard::Closed(text) => self.closed(relay, text, kernel),
            Heard::Auth(challenge) => {
                if line.challenge.as_ref() != Some(&challenge) {
                    line.challenge = Some(challenge);
                    line.auth = Auth::Idle;
                }
                self.talk(relay, kernel);
            }
            Heard::Notice(_) | Heard::Pong | Heard::Rubbish => {}
        }
    }
}

impl Line {
    /// Adds the time for which the subscription brought new events, when it ends.
    fn goes_quiet(&mut self, now: u64) {
        if let Subscription::Live { since } = self.subscription {
            self.live += now - since;
        }
    }
}

const fn micros(time: u64) -> Duration {
    Duration::from_micros(time)
}

fn draw(rng: &mut Rng) -> u32 {
    (rng.any() >> 32) as u32
}
