//! The knobs of a world: which faults there are and how often. A seed draws them first, many of them as zero.
use crate::omit::Omit;
use crate::rng::Rng;

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
    /// Each frame draws its own delay (reorder); otherwise a link keeps one pace.
    pub reorder: bool,
    /// Relay restarts that forget, per mille and ten seconds (0 to 1,000).
    pub relay_forgets: u32,
    /// Relay restarts that remember, same unit.
    pub relay_restarts: u32,
    /// Connections that become half-open, same unit.
    pub half_open: u32,
    /// Relays that swallow everything for a while, same unit.
    pub black_hole: u32,
    /// Relays that refuse connections for a while, same unit.
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
    /// Subscriptions ended by relays, per mille and ten seconds.
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
    /// Crashes of clients and servers, per mille, host and thirty seconds (0 to 1,000).
    pub crash: u32,
    /// Servers that have a journal, per mille.
    pub journal: u32,
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
            journal: 1_000,
            disk_fails: 0,
            torn: 0,
            skew: 0,
            jump: 0,
            app_slow: 0,
            app_fails: 0,
            app_silent: 0,
            app: 0,
            signer: 0,
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
            skew: 120,
            jump: 1,
            app_slow: 50,
            work: Mix {
                cancelled: 20,
                large_answers: 5,
                streams: 20,
                progress: 50,
                notes: 50,
                ..Mix::small()
            },
            ..Self::calm()
        }
    }

    /// Draws the knobs of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let rng = |name: &str| Rng::of(seed, name, 0);
        // Half of the knobs stay at zero; the others are anywhere in their range, often low.
        let some = |name: &str, most: u32| {
            let mut rng = rng(name);
            if rng.chance(500) {
                return 0;
            }
            let most = if rng.chance(500) { most / 10 } else { most };
            rng.between(1, u64::from(most.max(1))) as u32
        };
        let mut people = rng("people");
        let mut pace = rng("pace");
        Self {
            clients: people.between(1, 8) as usize,
            servers: people.between(1, 3) as usize,
            relays: people.between(1, 5) as usize,
            hostile_relays: some("hostile_relays", 20).div_ceil(10) as usize,
            hostile_clients: some("hostile_clients", 20).div_ceil(10) as usize,
            hostile_servers: some("hostile_servers", 20).div_ceil(10) as usize,
            lose_up: some("lose_up", 300),
            lose_down: some("lose_down", 300),
            double: some("double", 500),
            double_late: some("double_late", 100),
            delay: pace.pick(&[1_000, 10_000, 10_000, 50_000, 50_000, 200_000, 1_000_000, 5_000_000], 10_000),
            reorder: pace.chance(500),
            relay_forgets: some("relay_forgets", 1_000),
            relay_restarts: some("relay_restarts", 1_000),
            half_open: some("half_open", 1_000),
            black_hole: some("black_hole", 300),
            refuse: some("refuse", 300),
            partition: some("partition", 30),
            clog: some("clog", 30),
            ok_none: some("ok_none", 200),
            ok_late: some("ok_late", 200),
            ok_false: some("ok_false", 200),
            ok_lie: some("ok_lie", 200),
            closed: some("closed", 1_000),
            auth: some("auth", 500),
            notice: some("notice", 100),
            size_limit: some("size_limit", 500),
            size_said: pace.pick(&[0, 500, 1_000], 0),
            rate_limit: some("rate_limit", 500),
            keeps_ephemeral: pace.pick(&[0, 500, 1_000], 0),
            strict_age: some("strict_age", 1_000),
            crash: some("crash", 1_000),
            disk_fails: some("disk_fails", 20),
            journal: pace.pick(&[0, 1_000, 1_000], 0),
            torn: some("torn", 1_000),
            skew: u64::from(some("skew", 900)),
            jump: some("jump", 300),
            app_slow: some("app_slow", 100),
            app_fails: some("app_fails", 100),
            app_silent: some("app_silent", 20),
            app: some("app", 100) as u16,
            signer: some("signer", 50) as u16,
            work: Mix::draw(seed),
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
    lose_up = "lose_up", lose_down = "lose_down", double = "double", double_late = "double_late", delay = "delay",
    reorder = "reorder", relay_forgets = "relay_forgets", relay_restarts = "relay_restarts", half_open = "half_open",
    black_hole = "black_hole", refuse = "refuse", partition = "partition", clog = "clog", ok_none = "ok_none",
    ok_late = "ok_late", ok_false = "ok_false", ok_lie = "ok_lie", closed = "closed", auth = "auth", notice = "notice",
    size_limit = "size_limit", size_said = "size_said", rate_limit = "rate_limit", keeps_ephemeral = "keeps_ephemeral",
    strict_age = "strict_age", crash = "crash", journal = "journal", disk_fails = "disk_fails", torn = "torn", skew = "skew", jump = "jump", app_slow = "app_slow",
    app_fails = "app_fails", app_silent = "app_silent", app = "app", signer = "signer",
    work.harmless = "harmless", work.cancelled = "cancelled", work.large_requests = "large_requests",
    work.large_answers = "large_answers", work.streams = "streams", work.server_requests = "server_requests",
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
            server_requests: 0,
            progress: 0,
            notes: 0,
            pause: 100_000,
            plain: 0,
            stateless: 0,
        }
    }

    fn draw(seed: u64) -> Self {
        let mut rng = Rng::of(seed, "mix", 0);
        let mut some = |most: u64| if rng.chance(400) { 0 } else { rng.between(1, most) as u32 };
        Self {
            harmless: some(1_000),
            cancelled: some(100),
            large_requests: some(12),
            large_answers: some(12),
            streams: some(60),
            server_requests: some(100),
            progress: some(200),
            notes: some(100),
            plain: some(500),
            stateless: some(500),
            large: rng.pick(&[70_000, 150_000, 150_000, 600_000], 150_000),
            pause: rng.pick(&[5_000, 20_000, 100_000, 100_000, 300_000], 100_000),
        }
    }
}
