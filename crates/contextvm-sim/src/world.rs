//! The world: everything in it, and the loop that lets one thing happen after the other.
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::build;
use crate::cheat::{Cheat, Cheater};
use crate::check::{Checks, Expect};
use crate::days;
use crate::frame::Said;
use crate::guest::Guests;
use crate::hostile::{Chances, Deeds, HostileRelay};
use crate::kernel::{Due, Kernel};
use crate::knobs::Knobs;
use crate::net::Net;
use crate::omit::Omit;
use crate::peer::{End, Peer};
use crate::plan::{Happening, Plan};
use crate::queue::Queue;
use crate::relay::{Relay, Sayings};
pub use crate::scene::Scene;
use crate::time::{MS, SEC};
use crate::trace::{Digest, Finished, Host, Trace, What};
use crate::workload;

/// Most things that may happen at one instant before the world is taken for stuck.
const STUCK: u64 = 200_000;
/// How long a world goes on after its plan while calls are open.
const PATIENCE: u64 = 3_000 * SEC;
/// How long it goes on in any case.
const CALM: u64 = 5 * SEC;
/// How long hostile relays and peers go on after the plan.
const HOSTILE: u64 = 60 * SEC;
/// How long they do where what is late matters: until the last ids may have been forgotten.
const REPLAYED: u64 = 720 * SEC;
/// Time between two ticks when little happens any more.
const SLOW_TICK: u64 = 10 * SEC;

/// What a world is made from beside its seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// How many calls are planned; 300.
    pub calls: u64,
    /// What kind of world it is.
    pub scene: Scene,
    /// What is left out.
    pub omit: Omit,
    /// Whether the trace keeps its entries.
    pub keep: bool,
    /// What all that are hostile or fail may do; `None`: drawn for each.
    pub chances: Option<Chances>,
    /// What one honest side does wrong on purpose, to see it noticed.
    pub cheat: Option<Cheat>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            calls: 300,
            scene: Scene::default(),
            omit: Omit::default(),
            keep: false,
            chances: None,
            cheat: None,
        }
    }
}

/// What came of a world.
#[derive(Debug)]
pub struct Outcome {
    /// The trace with the verdict of the checks.
    pub trace: Finished,
    /// Microseconds of virtual time that passed.
    pub lasted: u64,
    /// Things that happened.
    pub steps: u64,
    /// What was planned, for whoever leaves parts of it out.
    pub plan: Plan,
    /// The knobs.
    pub knobs: Knobs,
    /// What the hostile and the failing did.
    pub deeds: Deeds,
    /// Whether the cheat of the setup had its opportunity.
    pub cheated: bool,
    /// How often each fault happened.
    pub faults: BTreeMap<&'static str, u64>,
    /// How many peers began to connect to each relay in each second.
    pub dials: BTreeMap<(u16, u64), u32>,
}

/// One seed, alive.
#[derive(Debug)]
pub struct World {
    pub(crate) omit: Omit,
    pub(crate) knobs: Knobs,
    pub(crate) plan: Plan,
    pub(crate) kernel: Kernel,
    pub(crate) relays: Vec<Relay>,
    pub(crate) quiet: Vec<bool>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) numbers: BTreeMap<Host, u16>,
    /// Pairs of a client and its server, with what was last said of their path.
    pub(crate) paths: Vec<(u16, u16, (bool, bool))>,
    pub(crate) steps: u64,
    pub(crate) last: (u64, u64),
    pub(crate) deeds: Deeds,
    pub(crate) guests: Guests,
    scene: Scene,
    /// Time between two ticks, microseconds.
    tick: u64,
    dials: BTreeMap<(u16, u64), u32>,
    /// Peers that sleep, since and until when.
    pub(crate) asleep: BTreeMap<u16, (u64, u64)>,
}

impl World {
    /// Draws a world.
    #[must_use]
    pub fn new(seed: u64, setup: Setup) -> Self {
        let (knobs, plan) = Self::draw(seed, &setup);
        Self::with(seed, setup, knobs, plan)
    }

    /// Draws the knobs and the plan of a world, without what is left out.
    ///
    /// Events are those of the whole seed, and keep their places in the plan whichever knobs are left out; those of an
    /// omitted knob do not happen.
    #[must_use]
    pub fn draw(seed: u64, setup: &Setup) -> (Knobs, Plan) {
        let all = setup.scene.knobs(seed);
        let plan = |knobs: &Knobs| {
            let quiet = build::quiet(seed, setup.scene, knobs);
            workload::draw(seed, setup.scene, knobs, setup.calls, &quiet)
        };
        let mut whole = plan(&all);
        if setup.omit.knobs.is_empty() {
            return (all, whole);
        }
        let knobs = all.without(&setup.omit);
        whole.take_calls(plan(&knobs));
        (knobs, whole)
    }

    /// Returns a hash over what is drawn for a world: another one means that the code draws something else by now.
    #[must_use]
    pub fn draws(seed: u64, setup: &Setup) -> u64 {
        Digest::of(format!("{:?}", Self::draw(seed, setup)).as_bytes()).0
    }

    /// Makes a world with these knobs and this plan.
    #[must_use]
    pub fn with(seed: u64, setup: Setup, knobs: Knobs, plan: Plan) -> Self {
        let quiet = build::quiet(seed, setup.scene, &knobs);
        Self::build(seed, setup, knobs, plan, quiet)
    }

    fn build(seed: u64, setup: Setup, knobs: Knobs, plan: Plan, quiet: Vec<bool>) -> Self {
        let relays = build::relays(seed, &setup, &knobs, &quiet);
        let peers = build::peers(seed, &setup, &knobs, &relays);
        let net = Net::new(seed, &knobs, peers.len() as u16, &quiet);
        let limits = build::limits(setup.scene, &knobs);
        let complete = setup.scene == Scene::HostileRelays;
        let honest = knobs.hostile_relays + knobs.hostile_clients + knobs.hostile_servers == 0;
        // Up and down and back, each a half more than the mean, and what is asked of a disk or a signer beside that.
        let prompt = complete.then_some(6 * knobs.delay.min(50 * MS) + SEC);
        let expect = Expect { limits, complete, prompt, honest };
        let mut trace = Trace::new(Checks::new(&expect));
        if setup.keep {
            trace = trace.keeping();
        }
        let calls = plan.planned.iter().filter_map(|planned| {
            if let Happening::Call(call) = &planned.what { Some((call.call.0, call.clone())) } else { None }
        });
        let mut kernel = Kernel {
            queue: Queue::default(),
            net,
            trace,
            cheater: Cheater::new(setup.cheat),
            faults: BTreeMap::new(),
            calls: calls.collect(),
        };
        for (nth, planned) in plan.planned.iter().enumerate() {
            kernel.queue.at(planned.at, Due::Planned(nth));
        }
        let numbers = peers.iter().map(|peer| (peer.me.host, peer.me.peer)).collect();
        let paths = build::paths(&peers);
        let (steps, last, deeds) = (0, (0, 0), Deeds::default());
        let honest: Vec<_> = build::servers(&peers);
        let guests = Guests::new(seed, &knobs, setup.chances.as_ref(), &honest, &setup.omit);
        let scene = setup.scene;
        let tick = if matches!(scene, Scene::Days(_)) { 60 * SEC } else { SEC };
        let (omit, dials, asleep) = (setup.omit, BTreeMap::new(), BTreeMap::new());
        let mut world = Self {
            omit,
            knobs,
            plan,
            kernel,
            relays,
            quiet,
            peers,
            numbers,
            paths,
            steps,
            last,
            deeds,
            guests,
            scene,
            tick,
            dials,
            asleep,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let Self { peers, kernel, omit, guests, .. } = self;
        for peer in peers.iter_mut().filter(|peer| !omit.host(peer.me.host)) {
            let encrypted = build::is_encrypted(&peer.config);
            let key = peer.me.keys.public_key();
            kernel.emit(peer.me.host, What::Joined { key, honest: true, encrypted });
        }
        guests.join(kernel);
        for peer in peers.iter_mut().filter(|peer| !omit.host(peer.me.host)) {
            if peer.comes == 0 {
                peer.start(kernel);
            } else {
                kernel.queue.at(peer.comes, Due::Start { peer: peer.me.peer, life: 0 });
            }
        }
        kernel.queue.after(SEC, Due::Tick);
    }

    /// Makes something happen now.
    pub fn happen(&mut self, what: Happening) {
        if let Happening::Call(call) = &what {
            self.kernel.calls.insert(call.call.0, call.clone());
        }
        self.happens(what);
        self.watch_paths();
    }

    /// Lets so many microseconds pass.
    pub fn pass(&mut self, microseconds: u64) {
        let until = self.kernel.now().saturating_add(microseconds);
        while self.kernel.queue.next_at().is_some_and(|at| at <= until) && self.step() {}
        self.kernel.queue.pass(until);
    }

    /// Carries the plan out until everything has calmed down.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        // Looking through all calls costs more than a step.
        while !(self.steps.is_multiple_of(64) && self.is_over()) && self.step() {}
        if self.kernel.now() < self.plan.ends + PATIENCE.max(self.knobs.lingers * SEC) {
            self.rest(false);
        }
        self.finish()
    }

    /// Ends the world where it stands.
    #[must_use]
    pub fn finish(self) -> Outcome {
        let Self { knobs, plan, kernel, steps, mut deeds, peers, relays, guests, dials, .. } = self;
        deeds.merge(&guests.deeds());
        peers.iter().for_each(|peer| peer.tally(&mut deeds));
        relays
            .iter()
            .filter_map(|relay| relay.mind.as_ref())
            .for_each(|mind| deeds.merge(&mind.mood().deeds));
        let Kernel { queue, net, mut trace, cheater, mut faults, .. } = kernel;
        let of_relays =
            relays.iter().flat_map(|relay| relay.faults.iter().map(|(name, times)| (*name, *times)));
        for (name, times) in net.faults.named().into_iter().chain(of_relays).filter(|(_, times)| *times > 0) {
            *faults.entry(name).or_default() += times;
        }
        let cheated = cheater.done() > 0;
        let lasted = queue.now();
        trace.note(&[steps, net.faults.lost_up + net.faults.lost_down, net.faults.doubled]);
        Outcome { trace: trace.finish(lasted), lasted, steps, plan, knobs, deeds, cheated, faults, dials }
    }

    fn is_over(&self) -> bool {
        let now = self.kernel.now();
        let open = || {
            self.peers.iter().filter_map(|peer| peer.alive.as_ref()).any(|alive| match &alive.end {
                End::Client(client) => client.open_calls() > 0,
                End::Server(_) | End::Waits => false,
            })
        };
        let lingers = self.knobs.lingers * SEC;
        now >= self.plan.ends + PATIENCE.max(lingers) || (now >= self.plan.ends + CALM + lingers && !open())
    }

    /// Lets the next thing happen; returns whether there was one.
    fn step(&mut self) -> bool {
        let Some(due) = self.kernel.queue.take() else { return false };
        self.steps += 1;
        let now = self.kernel.now();
        // Also what no application has seen yet is part of the trace.
        let course = due.course();
        self.kernel.trace.note(&[now, course]);
        self.last = if self.last.0 == now { (now, self.last.1 + 1) } else { (now, 0) };
        if self.last.1 > STUCK {
            self.kernel.emit(Host::Relay(u16::MAX), What::Error("time stands still"));
            return false;
        }
        self.take(due);
        if self.kernel.net.is_changed {
            self.watch_paths();
        }
        true
    }

    /// Lets everybody hostile do what they do by themselves.
    fn idle(&mut self) {
        let now = self.kernel.now();
        for relay in 0..self.relays.len() as u16 {
            self.relay(relay, |relay, out| relay.idle(now, out));
            let mind = self.relays.get_mut(usize::from(relay)).and_then(|relay| relay.mind.as_mut());
            for issue in mind.map(HostileRelay::take_issues).unwrap_or_default() {
                self.guests.vouch(&issue, &mut self.kernel);
            }
        }
        self.guests.tick(&mut self.kernel);
    }

    fn take(&mut self, due: Due) {
        match due {
            Due::Planned(nth) => self.planned(nth),
            Due::Tick => {
                // What is hostile by itself rests once the plan is done, or a world of slow calls would never end.
                let now = self.kernel.now();
                let lasts = if self.knobs.lingers > 0 { REPLAYED } else { HOSTILE };
                let sleeps = matches!(self.scene, Scene::Days(_)) && days::is_night(now);
                if (self.plan.planned.is_empty() || now < self.plan.ends + lasts) && !sleeps {
                    self.idle();
                }
                if matches!(self.scene, Scene::Days(_)) && Self::is_floor(self.kernel.now(), self.tick) {
                    self.rest(true);
                } else {
                    self.measure();
                }
                self.kernel.net.is_changed = true;
                let is_late = now > self.plan.ends + HOSTILE && !self.plan.planned.is_empty();
                self.kernel
                    .queue
                    .after(if is_late { SLOW_TICK.max(self.tick) } else { self.tick }, Due::Tick);
            }
            Due::Falls { peer, life, torn, down } => {
                let host = self.peers.get(usize::from(peer)).filter(|peer| peer.life == life);
                if let Some(host) = host.map(|peer| peer.me.host) {
                    self.crash(host, torn, down);
                }
            }
            Due::Dial { peer, relay, connection } => self.dial(peer, relay, connection),
            Due::ToRelay { peer, relay, connection, said } => {
                let now = self.kernel.now();
                if !self.kernel.net.is_current(peer, relay, connection) {
                    return;
                }
                if let Said::Event(event) = &said {
                    self.guests.hear(event, &mut self.kernel);
                }
                self.relay(relay, |it, out| {
                    if !it.swallows(now) {
                        it.hear(peer, said, now, out);
                    }
                });
            }
            Due::RelaySays { relay, peer, heard } => self.kernel.tell(relay, peer, heard),
            Due::Publish { peer, event } => {
                let now = self.kernel.now();
                for relay in 0..self.relays.len() as u16 {
                    let said = Said::Event(Rc::clone(&event));
                    self.relay(relay, |relay, out| {
                        if relay.accepts(now) && !relay.swallows(now) {
                            relay.guest(peer);
                            relay.hear(peer, said, now, out);
                        }
                    });
                }
            }
            Due::Dialled { peer, .. }
            | Due::Cut { peer, .. }
            | Due::ToPeer { peer, .. }
            | Due::Pool { peer, .. }
            | Due::Opened { peer, .. }
            | Due::Sealed { peer, .. }
            | Due::Wake { peer, .. }
            | Due::Limit { peer, .. }
            | Due::App { peer, .. }
            | Due::Start { peer, .. } => self.peer(peer, due),
        }
    }

    /// Something happens at a peer.
    #[expect(clippy::wildcard_enum_match_arm, reason = "what is no peer's was taken out before")]
    fn peer(&mut self, number: u16, due: Due) {
        let Some(due) = self.awake(number, due) else { return };
        let Self { peers, kernel, .. } = self;
        let Some(peer) = peers.get_mut(usize::from(number)) else { return };
        if let Due::Start { life, .. } = due {
            if peer.life == life && peer.is_to_start() {
                if life > 0 && !peer.has_barrier {
                    let journal = peer.journal.is_some();
                    kernel.emit(peer.me.host, What::Restarted { journal });
                }
                peer.start(kernel);
            }
            return;
        }
        let life = match due {
            Due::Pool { life, .. }
            | Due::Opened { life, .. }
            | Due::Sealed { life, .. }
            | Due::Wake { life, .. }
            | Due::Limit { life, .. }
            | Due::App { life, .. } => life,
            _ => peer.life,
        };
        let host = peer.me.host;
        let Some(alive) = peer.alive(life) else { return };
        if !matches!(due, Due::Wake { .. }) {
            kernel.stirred(host, matches!(due, Due::Pool { .. }));
        }
        match due {
            Due::Dialled { relay, connection, open, .. } => {
                alive.port.dialled(relay, connection, open, kernel);
            }
            Due::Cut { relay, connection, .. } => alive.port.cut(relay, connection, kernel),
            Due::ToPeer { relay, connection, heard, .. } => {
                if connection.is_some_and(|old| !kernel.net.is_current(number, relay, old)) {
                    return;
                }
                alive.port.hear(relay, heard, kernel);
            }
            Due::Pool { timer, .. } => alive.port.timed(timer, kernel),
            Due::Opened { .. } => alive.port.opened(kernel),
            Due::Sealed { .. } => alive.port.sealed(kernel),
            Due::Limit { relay, .. } => alive.port.limit(relay),
            Due::Wake { mono, .. } => return alive.wake(mono, kernel),
            Due::App { act, .. } => return alive.act(act, kernel),
            _ => {}
        }
        alive.feed(kernel);
    }

    /// Lets a relay do something and passes on what it says.
    pub(crate) fn relay(&mut self, number: u16, act: impl FnOnce(&mut Relay, &mut Sayings)) {
        let Self { relays, kernel, .. } = self;
        let Some(relay) = relays.get_mut(usize::from(number)) else { return };
        let mut out = Vec::new();
        act(relay, &mut out);
        for (wait, peer, heard) in out {
            if wait == 0 {
                kernel.tell(number, peer, heard);
            } else {
                kernel.queue.after(wait, Due::RelaySays { relay: number, peer, heard });
            }
        }
    }

    fn dial(&mut self, peer: u16, number: u16, connection: u32) {
        let now = self.kernel.now();
        *self.dials.entry((number, now / SEC)).or_default() += 1;
        if !self.kernel.net.is_current(peer, number, connection)
            || !self.kernel.net.is_reachable(peer, number, now)
        {
            return;
        }
        let Some(relay) = self.relays.get(usize::from(number)) else { return };
        let open = relay.accepts(now);
        let wait = self.kernel.net.delay(peer, number, now);
        self.kernel.queue.after(wait, Due::Dialled { peer, relay: number, connection, open });
        if open {
            self.kernel.net.open(peer, number);
            self.relay(number, |relay, out| relay.opened(peer, out));
        }
    }
}
