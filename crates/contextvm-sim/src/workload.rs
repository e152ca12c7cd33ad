//! The plan of a seed: which calls are made when, and which faults come from outside.
use crate::days;
use crate::knobs::{Knobs, Mix};
use crate::plan::{Acts, CallPlan, Happening, Plan, Planned, Point, Reach};
use crate::rng::Rng;
use crate::time::{MS, SEC};
use crate::trace::{Call, Host};
use crate::world::Scene;

/// When the first call is made: by then everybody is connected if all goes well.
pub(crate) const FIRST: u64 = 2_500 * MS;

/// Draws the plan of a world.
#[must_use]
pub fn draw(seed: u64, scene: Scene, knobs: &Knobs, calls: u64, quiet: &[bool]) -> Plan {
    let mut plan = match scene {
        Scene::Days(days) => days::draw(seed, knobs, u64::from(days), calls),
        Scene::Swarm | Scene::Calm | Scene::HostileRelays => drawn(seed, knobs, calls),
    };
    let ends = plan.ends;
    let rests = matches!(scene, Scene::Days(_));
    Faults { seed, knobs, ends, plan: &mut plan, quiet, rests }.draw();
    plan
}

/// Draws calls and notifications.
fn drawn(seed: u64, knobs: &Knobs, calls: u64) -> Plan {
    let mut plan = Plan::default();
    let mut at = FIRST;
    for number in 0..calls {
        let mut rng = Rng::of(seed, "call", number);
        at += rng.delay(knobs.work.pause);
        plan.planned.push(Planned { at, what: Happening::Call(call(number, knobs, &rng)) });
        if rng.chance(knobs.work.notes) {
            let (clients, servers) = (knobs.clients as u64, knobs.servers as u64);
            let nth = rng.below(clients + servers);
            let host =
                if nth < clients { Host::Client(nth as u16) } else { Host::Server((nth - clients) as u16) };
            plan.planned.push(Planned { at, what: Happening::Note(host) });
        }
    }
    plan.ends = at;
    plan
}

/// Draws one call; every part of it from a source of its own, so that a knob that is left out changes no other part.
fn call(number: u64, knobs: &Knobs, rng: &Rng) -> CallPlan {
    let mix: &Mix = &knobs.work;
    let large = |key: u64, chance: u32| {
        let mut rng = rng.fork(key);
        let (small, large) = (rng.below(400), rng.between(40_000, mix.large.max(40_001)));
        if rng.chance(chance) { large } else { small }
    };
    let happens = |key: u64, chance: u32| rng.fork(key).chance(chance);
    let takes = if happens(4, knobs.app_slow) { 3 * SEC } else { 2 * MS };
    let takes = (!happens(5, knobs.app_silent)).then_some(rng.fork(6).delay(takes));
    let harmless = happens(3, mix.harmless);
    let streams = !harmless && happens(7, mix.streams);
    let fails = happens(8, knobs.app_fails);
    let acts = Acts {
        fails,
        panics: fails && happens(9, 500),
        progress: if !harmless && happens(10, mix.progress) { rng.fork(11).between(1, 4) as u8 } else { 0 },
        asks_back: !harmless && happens(12, mix.server_requests),
        streams: if streams { rng.fork(13).between(1, mix.large) } else { 0 },
        gives_up: streams && happens(14, mix.gives_up),
    };
    CallPlan {
        call: Call(number),
        client: rng.fork(15).below(knobs.clients as u64) as u16,
        harmless,
        asks: large(1, mix.large_requests),
        answers: large(2, mix.large_answers),
        takes,
        acts,
        cancels: happens(16, mix.cancelled).then(|| rng.fork(17).delay(50 * MS)),
        reads: streams && happens(18, 800),
        stops: happens(19, mix.stop_reading).then(|| rng.fork(20).below(4)),
    }
}

/// What is drawn of faults.
struct Faults<'a> {
    seed: u64,
    knobs: &'a Knobs,
    ends: u64,
    plan: &'a mut Plan,
    quiet: &'a [bool],
    /// Nothing happens in the small hours.
    rests: bool,
}

impl Faults<'_> {
    fn draw(&mut self) {
        // Who comes for a day has no faults of its own.
        let residents = self.knobs.clients - self.knobs.visitors.min(self.knobs.clients);
        let clients = (0..residents as u16).map(Host::Client);
        let peers: Vec<Host> = clients.chain((0..self.knobs.servers as u16).map(Host::Server)).collect();
        let quiet = self.quiet.iter().enumerate();
        let relays: Vec<u16> = quiet.filter(|(_, quiet)| !**quiet).map(|(nth, _)| nth as u16).collect();
        self.relays(&peers, &relays);
        self.links(&peers, &relays);
        for (nth, host) in (0..).zip(&peers) {
            self.host(nth, *host);
        }
        self.traps();
    }

    fn relays(&mut self, peers: &[Host], relays: &[u16]) {
        let knobs = self.knobs;
        for relay in relays.iter().copied() {
            let nth = u64::from(relay);
            self.each("forgets", 10, knobs.relay_forgets, nth, |rng| Happening::RelayRestarts {
                relay,
                forgets: true,
                down: rng.delay(SEC),
            });
            self.each("restarts", 10, knobs.relay_restarts, nth, |rng| Happening::RelayRestarts {
                relay,
                forgets: false,
                down: rng.delay(SEC),
            });
            self.each("half_open", 10, knobs.half_open, nth, |rng| Happening::HalfOpen {
                peer: rng.pick(peers, Host::Client(0)),
                relay,
            });
            self.each("black_hole", 10, knobs.black_hole, nth, |rng| Happening::BlackHole {
                relay,
                lasts: rng.delay(4 * SEC),
            });
            self.each("refuse", 10, knobs.refuse, nth, |rng| Happening::Refuses {
                relay,
                lasts: rng.delay(3 * SEC),
            });
            self.each("closed", 10, knobs.closed, nth, |rng| Happening::Closes {
                peer: rng.pick(peers, Host::Client(0)),
                relay,
            });
        }
    }

    fn links(&mut self, peers: &[Host], relays: &[u16]) {
        let knobs = self.knobs;
        let reach = |rng: &mut Rng| {
            let (peer, relay) = (rng.pick(peers, Host::Client(0)), rng.pick(relays, 0));
            match rng.below(10) {
                0..5 => Reach::Link(peer, relay),
                5..7 => Reach::Peer(peer),
                7..9 => Reach::Relay(relay),
                _ => Reach::Some(rng.any()),
            }
        };
        let ways = |rng: &mut Rng| match rng.below(4) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        self.each("partition", 1, knobs.partition, 0, |rng| {
            let (up, down) = ways(rng);
            Happening::Partition { reach: reach(rng), up, down, lasts: rng.delay(3 * SEC) }
        });
        self.each("clog", 1, knobs.clog, 0, |rng| {
            let (up, down) = ways(rng);
            let one_by_one = rng.chance(500);
            Happening::Clog { reach: reach(rng), up, down, lasts: rng.delay(3 * SEC), one_by_one }
        });
    }

    fn host(&mut self, nth: u64, host: Host) {
        let knobs = self.knobs;
        let is_client = matches!(host, Host::Client(_));
        let crash = if is_client { knobs.crash / 3 } else { knobs.crash };
        self.each("crash", 30, crash, nth, |rng| Happening::Crash {
            host,
            torn: rng.chance(knobs.torn),
            down: rng.delay(SEC),
        });
        self.each("leaves", 30, knobs.leaves, nth, |rng| {
            let down = rng.delay(2 * SEC);
            Happening::Leaves { host, down: is_client.then_some(down) }
        });
        self.each("sleep", 30, knobs.sleep, nth, |rng| Happening::Sleeps {
            host,
            lasts: rng.delay(20 * SEC),
        });
        self.each("jump", 30, knobs.jump, nth, |rng| {
            let by = rng.between(1, knobs.skew.max(5)) as i64;
            Happening::Jump { host, by: if rng.chance(500) { by } else { -by } }
        });
    }

    /// Where processes die at all, some die where it matters.
    fn traps(&mut self) {
        if self.knobs.crash == 0 {
            return;
        }
        let mut rng = Rng::of(self.seed, "traps", 0);
        for _ in 0..rng.between(1, 5) {
            let host = Host::Server(rng.below(self.knobs.servers as u64) as u16);
            let point = rng.pick(&Point::ALL, Point::Kept);
            let (nth, torn, down) = (rng.between(1, 8) as u32, rng.chance(self.knobs.torn), rng.delay(SEC));
            let at = rng.below(self.ends);
            self.plan(at, Happening::CrashOn { host, point, nth, torn, down });
        }
    }

    fn plan(&mut self, at: u64, what: Happening) {
        if !(self.rests && days::is_night(at)) {
            self.plan.planned.push(Planned { at, what });
        }
    }

    /// Draws whether something happens in each stretch of so many seconds.
    fn each(
        &mut self,
        part: &str,
        seconds: u64,
        chance: u32,
        index: u64,
        mut what: impl FnMut(&mut Rng) -> Happening,
    ) {
        if chance == 0 {
            return;
        }
        let mut rng = Rng::of(self.seed, part, index);
        let stretch = seconds * SEC;
        for nth in 0..=self.ends / stretch {
            let at = nth * stretch + rng.below(stretch);
            let what = what(&mut rng);
            // Early faults happen in short worlds, too.
            if rng.chance(chance) && at <= self.ends {
                self.plan(at, what);
            }
        }
    }
}
