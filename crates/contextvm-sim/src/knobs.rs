//! The knobs of a world: which faults there are and how often. A seed draws them first, many of them as zero.
use crate::omit::Omit;

/// Everything that a seed draws before anything happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knobs {
    /// Honest clients, 1 to 8.
    pub clients: usize,
    /// Honest servers, 1 to 3.
    pub servers: usize,
    /// Honest relays, 1 to 5.
    pub relays: usize,
    /// Hostile relays, 0 to 2.
    pub hostile_relays: usize,
    /// Hostile clients, 0 to 2.
    pub hostile_clients: usize,
    /// Hostile servers, 0 to 2.
    pub hostile_servers: usize,
    /// Events and OKs lost from peers to relays, per mille (0 to 300).
    pub lose_up: u32,
    /// Lost from relays to peers, per mille (0 to 300).
    pub lose_down: u32,
    /// Events doubled, per mille (0 to 500), up to 8 copies.
    pub double: u32,
    /// Doubles that come up to an hour later, per mille of the doubles.
    pub double_late: u32,
    /// Mean delay of a frame, microseconds (1 ms to 5 s), tail to 60 s.
    pub delay: u64,
    /// What a link carries each way, bytes per second; 0: anything at once.
    pub bandwidth: u64,
    /// Each frame draws its own delay (reorder); otherwise a link keeps one pace.
    pub reorder: bool,
    /// Relay restarts that forget, per mille and ten seconds (0 to 250, rarely 1,000).
    pub relay_forgets: u32,
    /// Relay restarts that remember, same unit.
    pub relay_restarts: u32,
    /// Connections that become half-open, same unit (0 to 100).
    pub half_open: u32,
    /// Relays that swallow everything for a while, same unit (0 to 100).
    pub black_hole: u32,
    /// Relays that refuse connections for a while, same unit (0 to 150).
    pub refuse: u32,
    /// Partitions of some peers from some relays, per mille and second (0 to 30).
    pub partition: u32,
    /// Clogs: frames held back and let go together, per mille and second (0 to 30).
    pub clog: u32,
    /// OKs that never come, per mille (0 to 200).
    pub ok_none: u32,
    /// OKs that come seconds late, per mille.
    pub ok_late: u32,
    /// OKs that say no with one of the prefixes, per mille; the event is not passed on.
    pub ok_false: u32,
    /// OKs that say no of what is passed on, or yes of what is not, per mille.
    pub ok_lie: u32,
    /// Subscriptions ended by relays, per mille and ten seconds (0 to 200).
    pub closed: u32,
    /// Relays that want authentication, per mille of the relays.
    pub auth: u32,
    /// Notices and unneeded challenges, per mille of the events.
    pub notice: u32,
    /// Relays with a limit of their own on sizes (16 to 128 KiB), per mille of the relays.
    pub size_limit: u32,
    /// Relays that say how much they take (NIP-11), per mille of these.
    pub size_said: u32,
    /// Relays with a limit on events per second, per mille of the relays.
    pub rate_limit: u32,
    /// Relays that keep ephemeral events for five minutes, per mille of the relays.
    pub keeps_ephemeral: u32,
    /// Relays that refuse old ephemeral events, per mille of the relays.
    pub strict_age: u32,
    /// Crashes of servers, per mille, host and thirty seconds (0 to 300); a third of that for clients.
    ///
    /// In a world that has them some come at a moment that matters: between a step of the machine and the next.
    pub crash: u32,
    /// Clients that close themselves and sessions that servers close, per mille, host and thirty seconds (0 to 200).
    pub leaves: u32,
    /// Lids that are closed for a while, same unit.
    pub sleep: u32,
    /// Servers that have a journal, per mille.
    pub journal: u32,
    /// Servers without a journal that have never used their key before, per mille: they need no replay barrier.
    pub fresh: u32,
    /// Syncs of a journal that fail, per mille.
    pub disk_fails: u32,
    /// Crashes that tear the last record, per mille.
    pub torn: u32,
    /// Clocks that are wrong, up to so many seconds (0 to 900).
    pub skew: u64,
    /// Jumps of a clock, per mille, host and thirty seconds.
    pub jump: u32,
    /// Requests whose handler is slow, per mille (0 to 100).
    pub app_slow: u32,
    /// Requests whose handler fails or panics, per mille (0 to 100).
    pub app_fails: u32,
    /// Requests whose handler never answers, per mille.
    pub app_silent: u32,
    /// Most per mille of the requests for each misdeed of an application (0 to 100).
    pub app: u16,
    /// Most per mille of the events for each misdeed of a signer (0 to 50).
    pub signer: u16,
    /// How long a client waits for an answer, seconds (10 to 60).
    pub timeout: u64,
    /// Limits that are small: some of them, and how small, is drawn from this; 0: those of every day.
    pub small: u64,
    /// Clients that may not call their server, per mille of the clients (0 to 300).
    pub denied: u32,
    /// Servers that ask their application about each key, per mille of the servers.
    pub asks: u32,
    /// How long the world goes on after its plan, seconds, so that what is late still comes.
    pub lingers: u64,
    /// Clients that come one after the other, each with a key of its own, for a part of the time.
    pub visitors: usize,
    /// The mix of work.
    pub work: Mix,
}

/// What the calls of a world are made of, per mille of the calls unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Harmless methods that a client may repeat by itself.
    pub harmless: u32,
    /// Calls that their application cancels.
    pub cancelled: u32,
    /// Calls with a large request.
    pub large_requests: u32,
    /// Calls with a large answer.
    pub large_answers: u32,
    /// Most bytes of a large message.
    pub large: u64,
    /// Calls whose tool streams.
    pub streams: u32,
    /// Streams whose reader has enough after some chunks, per mille of the streams.
    pub stop_reading: u32,
    /// Streams that their tool gives up half-way, per mille of the streams; the call ends with an error then.
    pub gives_up: u32,
    /// Calls during which the server asks its caller.
    pub server_requests: u32,
    /// Calls with progress notifications.
    pub progress: u32,
    /// Notifications of clients and broadcasts of servers beside the calls.
    pub notes: u32,
    /// Mean time between two calls of the whole world, microseconds.
    pub pause: u64,
    /// Clients that speak plaintext, per mille of the clients.
    pub plain: u32,
    /// Clients that call without `initialize`, per mille of the clients.
    pub stateless: u32,
}

impl Knobs {
    /// Returns a world in which nothing goes wrong.
    #[must_use]
    pub fn calm() -> Self {
        Self {
            clients: 3,
            servers: 1,
            relays: 3,
            hostile_relays: 0,
            hostile_clients: 0,
            hostile_servers: 0,
            lose_up: 0,
            lose_down: 0,
            double: 0,
            double_late: 0,
            delay: 10_000,
            bandwidth: 0,
            reorder: false,
            relay_forgets: 0,
            relay_restarts: 0,
            half_open: 0,
            black_hole: 0,
            refuse: 0,
            partition: 0,
            clog: 0,
            ok_none: 0,
            ok_late: 0,
            ok_false: 0,
            ok_lie: 0,
            closed: 0,
            auth: 0,
            notice: 0,
            size_limit: 0,
            size_said: 1_000,
            rate_limit: 0,
            keeps_ephemeral: 0,
            strict_age: 0,
            crash: 0,
            leaves: 0,
            sleep: 0,
            journal: 1_000,
            fresh: 0,
            disk_fails: 0,
            torn: 0,
            skew: 0,
            jump: 0,
            app_slow: 0,
            app_fails: 0,
            app_silent: 0,
            app: 0,
            signer: 0,
            timeout: 60,
            small: 0,
            denied: 0,
            asks: 0,
            lingers: 0,
            visitors: 0,
            work: Mix::small(),
        }
    }

    /// Returns a world that goes on for days: one server, light traffic, and now and then every fault of an ordinary month.
    #[must_use]
    pub fn days() -> Self {
        Self {
            lose_up: 20,
            lose_down: 20,
            double: 50,
            double_late: 10,
            relay_forgets: 1,
            relay_restarts: 1,
            half_open: 1,
            refuse: 1,
            closed: 1,
            keeps_ephemeral: 500,
            crash: 1,
            // Its clock steps once a day, and back on the next: nobody's clock drifts away.
            skew: 20,
            hostile_clients: 1,
            work: Mix { streams: 1, ..Mix::small() },
            ..Self::calm()
        }
    }

    /// Sets what is left out by name to its harmless value.
    #[must_use]
    pub fn without(mut self, omit: &Omit) -> Self {
        let calm = Self::calm();
        for (name, set) in KNOBS {
            if omit.knob(name) {
                set(&mut self, &calm);
            }
        }
        self
    }
}

macro_rules! knobs {
    ($($($part:ident).+ = $name:literal),* $(,)?) => {
        /// Every knob by name, and how it is set to its harmless value.
        pub const KNOBS: &[(&str, fn(&mut Knobs, &Knobs))] =
            &[$(($name, |knobs, calm| knobs.$($part).+ = calm.$($part).+.clone())),*];
    };
}

knobs! {
    hostile_relays = "hostile_relays", hostile_clients = "hostile_clients", hostile_servers = "hostile_servers",
    lose_up = "lose_up", lose_down = "lose_down", double = "double", double_late = "double_late", delay = "delay", bandwidth = "bandwidth",
    reorder = "reorder", relay_forgets = "relay_forgets", relay_restarts = "relay_restarts", half_open = "half_open",
    black_hole = "black_hole", refuse = "refuse", partition = "partition", clog = "clog", ok_none = "ok_none",
    ok_late = "ok_late", ok_false = "ok_false", ok_lie = "ok_lie", closed = "closed", auth = "auth", notice = "notice",
    size_limit = "size_limit", size_said = "size_said", rate_limit = "rate_limit", keeps_ephemeral = "keeps_ephemeral",
    strict_age = "strict_age", crash = "crash", leaves = "leaves", sleep = "sleep", journal = "journal", disk_fails = "disk_fails", torn = "torn", skew = "skew", jump = "jump", app_slow = "app_slow",
    app_fails = "app_fails", app_silent = "app_silent", app = "app", signer = "signer",
    timeout = "timeout", small = "small", denied = "denied", asks = "asks", lingers = "lingers", visitors = "visitors",
    work.harmless = "harmless", work.cancelled = "cancelled", work.large_requests = "large_requests",
    work.large_answers = "large_answers", work.streams = "streams", work.stop_reading = "stop_reading", work.gives_up = "gives_up", work.server_requests = "server_requests",
    work.progress = "progress", work.notes = "notes", work.plain = "plain", work.stateless = "stateless",
}

impl Mix {
    /// Returns small encrypted calls and nothing else.
    #[must_use]
    pub const fn small() -> Self {
        Self {
            harmless: 300,
            cancelled: 0,
            large_requests: 0,
            large_answers: 0,
            large: 300_000,
            streams: 0,
            stop_reading: 0,
            gives_up: 0,
            server_requests: 0,
            progress: 0,
            notes: 0,
            pause: 100_000,
            plain: 0,
            stateless: 0,
        }
    }
}
