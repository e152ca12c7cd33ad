//! The plan of a seed: which calls are made when, and which faults come from outside.
use crate::knobs::{Knobs, Mix};
use crate::plan::{Acts, CallPlan, Happening, Plan, Planned};
use crate::rng::Rng;
use crate::time::{MS, SEC};
use crate::trace::{Call, Host};

/// When the first call is made: by then everybody is connected if all goes well.
const FIRST: u64 = 2_500 * MS;

/// Draws the plan of a world.
#[must_use]
pub fn draw(seed: u64, knobs: &Knobs, calls: u64, quiet: &[bool]) -> Plan {
    let mut plan = Plan::default();
    let mut at = FIRST;
    for number in 0..calls {
        let mut rng = Rng::of(seed, "call", number);
        at += rng.delay(knobs.work.pause);
        plan.planned.push(Planned { at, what: Happening::Call(call(number, knobs, &mut rng)) });
        if rng.chance(knobs.work.notes) {
            let (clients, servers) = (knobs.clients as u64, knobs.servers as u64);
            let nth = rng.below(clients + servers);
            let host =
                if nth < clients { Host::Client(nth as u16) } else { Host::Server((nth - clients) as u16) };
            plan.planned.push(Planned { at, what: Happening::Note(host) });
        }
    }
    plan.ends = at;
    let mut faults = Faults { seed, knobs, ends: at, plan: &mut plan, quiet };
    faults.draw();
    plan
}

fn call(number: u64, knobs: &Knobs, rng: &mut Rng) -> CallPlan {
    let mix: &Mix = &knobs.work;
    let large = |rng: &mut Rng, chance: u32| {
        if rng.chance(chance) { rng.between(40_000, mix.large.max(40_001)) } else { rng.below(400) }
    };
    let asks = large(rng, mix.large_requests);
    let answers = large(rng, mix.large_answers);
    let harmless = rng.chance(mix.harmless);
    let takes = if rng.chance(knobs.app_slow) { rng.delay(3 * SEC) } else { rng.delay(2 * MS) };
    let takes = (!rng.chance(knobs.app_silent)).then_some(takes);
    let streams = !harmless && rng.chance(mix.streams);
    let fails = rng.chance(knobs.app_fails);
    let acts = Acts {
        fails,
        panics: fails && rng.chance(500),
        progress: if !harmless && rng.chance(mix.progress) { rng.between(1, 4) as u8 } else { 0 },
        asks_back: !harmless && rng.chance(mix.server_requests),
        streams: if streams { rng.between(1, mix.large) } else { 0 },
        gives_up: streams && rng.chance(100),
    };
    let cancels = rng.chance(mix.cancelled).then(|| rng.delay(50 * MS));
    CallPlan {
        call: Call(number),
        client: rng.below(knobs.clients as u64) as u16,
        harmless,
        asks,
        answers,
        takes,
        acts,
        cancels,
        reads: streams && rng.chance(800),
    }
}

/// What is drawn of faults.
struct Faults<'a> {
    seed: u64,
    knobs: &'a Knobs,
    ends: u64,
    plan: &'a mut Plan,
    quiet: &'a [bool],
}

impl Faults<'_> {
    fn draw(&mut self) {
        let knobs = self.knobs.clone();
        let relays: Vec<u16> =
            self.quiet.iter().enumerate().filter(|(_, quiet)| !**quiet).map(|(nth, _)| nth as u16).collect();
        let clients = (0..knobs.clients as u16).map(Host::Client);
        let peers: Vec<Host> = clients.chain((0..knobs.servers as u16).map(Host::Server)).collect();
        for relay in relays {
            self.each("forgets", 10, knobs.relay_forgets, u64::from(relay), |rng| Happening::RelayRestarts {
                relay,
                forgets: true,
                down: rng.delay(2 * SEC),
            });
            self.each("restarts", 10, knobs.relay_restarts, u64::from(relay), |rng| {
                Happening::RelayRestarts { relay, forgets: false, down: rng.delay(2 * SEC) }
            });
            self.each("half_open", 10, knobs.half_open, u64::from(relay), |rng| Happening::HalfOpen {
                peer: rng.pick(&peers, Host::Client(0)),
                relay,
            });
            self.each("black_hole", 10, knobs.black_hole, u64::from(relay), |rng| Happening::BlackHole {
                relay,
                lasts: rng.delay(10 * SEC),
            });
            self.each("refuse", 10, knobs.refuse, u64::from(relay), |rng| Happening::Refuses {
                relay,
                lasts: rng.delay(5 * SEC),
            });
            self.each("closed", 10, knobs.closed, u64::from(relay), |rng| Happening::Closes {
                peer: rng.pick(&peers, Host::Client(0)),
                relay,
            });
        }
        self.each("partition", 1, knobs.partition, 0, |rng| Happening::Partition {
            which: rng.any(),
            up: rng.chance(700),
            down: rng.chance(700),
            lasts: rng.delay(5 * SEC),
        });
        self.each("clog", 1, knobs.clog, 0, |rng| Happening::Clog {
            which: rng.any(),
            lasts: rng.delay(2 * SEC),
        });
        for (nth, host) in peers.iter().enumerate() {
            let host = *host;
            self.each("crash", 30, knobs.crash, nth as u64, |rng| Happening::Crash {
                host,
                torn: rng.chance(knobs.torn),
                down: rng.delay(SEC),
            });
            self.each("jump", 30, knobs.jump, nth as u64, |rng| {
                let by = rng.between(1, knobs.skew.max(1)) as i64;
                Happening::Jump { host, by: if rng.chance(500) { by } else { -by } }
            });
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
                self.plan.planned.push(Planned { at, what });
            }
        }
    }
}
