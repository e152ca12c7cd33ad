//! Draws the knobs of a seed: few faults in most worlds, many in some, and which and how hard is chance.
use crate::knobs::{Knobs, Mix};
use crate::rng::Rng;
use crate::time::SEC;

/// How likely each fault is in a world, per mille; drawn once.
const DENSITIES: [u32; 10] = [80, 80, 80, 150, 150, 150, 250, 250, 400, 600];
/// From this density on a world may be as harsh as chance makes it.
const HARSH: u32 = 400;

/// Chance for the knobs of one seed.
#[derive(Clone, Copy, Debug)]
struct Swarm {
    seed: u64,
    density: u32,
}

impl Swarm {
    fn new(seed: u64) -> Self {
        let density = Rng::of(seed, "density", 0).pick(&DENSITIES, 80);
        Self { seed, density }
    }

    /// Draws a fault that is mostly absent, often rare, and now and then as frequent as it may be.
    fn some(self, name: &str, most: u32) -> u32 {
        let mut rng = Rng::of(self.seed, name, 0);
        let is_on = rng.chance(self.density);
        let part = match rng.below(10) {
            0..5 => 10,
            5..8 => 3,
            _ => 1,
        };
        let drawn = rng.between(1, u64::from((most / part).max(1))) as u32;
        if is_on { drawn } else { 0 }
    }
}

impl Knobs {
    /// Draws the knobs of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let swarm = Swarm::new(seed);
        let some = |name: &str, most: u32| swarm.some(name, most);
        let mut people = Rng::of(seed, "people", 0);
        let mut pace = Rng::of(seed, "pace", 0);
        let forgets_often = Rng::of(seed, "forgets often", 0).chance(50);
        let restarts = if forgets_often { 1_000 } else { 250 };
        let mut knobs = Self {
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
            delay: delay(seed),
            bandwidth: bandwidth(seed),
            reorder: pace.chance(500),
            relay_forgets: some("relay_forgets", restarts),
            relay_restarts: some("relay_restarts", restarts),
            half_open: some("half_open", 100),
            black_hole: some("black_hole", 100),
            refuse: some("refuse", 150),
            partition: some("partition", 30),
            clog: some("clog", 30),
            ok_none: some("ok_none", 200),
            ok_late: some("ok_late", 200),
            ok_false: some("ok_false", 200),
            ok_lie: some("ok_lie", 200),
            closed: some("closed", 200),
            auth: some("auth", 500),
            notice: some("notice", 100),
            size_limit: some("size_limit", 500),
            size_said: pace.pick(&[0, 500, 1_000], 0),
            rate_limit: some("rate_limit", 500),
            keeps_ephemeral: pace.pick(&[0, 500, 1_000], 0),
            strict_age: some("strict_age", 1_000),
            crash: some("crash", 300),
            leaves: some("leaves", 200),
            sleep: some("sleep", 200),
            disk_fails: some("disk_fails", 20),
            journal: pace.pick(&[0, 1_000, 1_000], 0),
            fresh: pace.pick(&[0, 1_000], 0),
            torn: some("torn", 1_000),
            skew: u64::from(some("skew", 900)),
            jump: some("jump", 300),
            app_slow: some("app_slow", 100),
            app_fails: some("app_fails", 100),
            app_silent: some("app_silent", 15),
            app: some("app", 100) as u16,
            signer: some("signer", 50) as u16,
            timeout: pace.pick(&[60, 60, 60, 30, 20, 10], 60),
            small: if pace.chance(400) { pace.any() | 1 } else { 0 },
            denied: some("denied", 300),
            asks: some("asks", 1_000),
            lingers: 0,
            visitors: 0,
            work: Mix::draw(seed),
        };
        knobs.spare(swarm);
        knobs.slow_down(seed);
        knobs
    }

    /// Lets at most one of the faults that make a link deaf be frequent, but in harsh worlds.
    fn spare(&mut self, swarm: Swarm) {
        if swarm.density >= HARSH {
            return;
        }
        let mut family: [(&mut u32, u32); 8] = [
            (&mut self.half_open, 100),
            (&mut self.black_hole, 100),
            (&mut self.refuse, 150),
            (&mut self.relay_forgets, 250),
            (&mut self.relay_restarts, 250),
            (&mut self.partition, 30),
            (&mut self.clog, 30),
            (&mut self.closed, 200),
        ];
        let first = Rng::of(swarm.seed, "spared", 0).index(family.len());
        family.rotate_left(first);
        let mut is_taken = false;
        for (chance, most) in family {
            let much = *chance > most / 3;
            if much && is_taken {
                *chance = most / 3;
            }
            is_taken |= much;
        }
    }

    /// Gives calls the time that slow links need, and some worlds the time in which things are forgotten.
    fn slow_down(&mut self, seed: u64) {
        let loses = self.lose_up + self.lose_down > 150;
        if self.delay >= SEC {
            self.timeout = 60;
            self.work.pause = self.work.pause.max(300_000);
        } else if loses || self.delay >= 200_000 {
            self.timeout = self.timeout.max(30);
        }
        if self.delay > 10_000 {
            self.work.pause = self.work.pause.max(20_000);
        }
        let mut rng = Rng::of(seed, "slow", 0);
        if rng.chance(125) {
            self.work.pause = self.work.pause.clamp(20_000, 100_000) * 40;
        }
        let is_late = self.double_late > 0 || self.hostile_relays > 0;
        if rng.chance(250) && is_late {
            self.lingers = 4_000;
        }
    }
}

/// Draws the mean delay: few worlds are slow, very few very slow.
fn delay(seed: u64) -> u64 {
    let mut rng = Rng::of(seed, "delay", 0);
    match rng.below(30) {
        0 => 5 * SEC,
        1..4 => SEC,
        _ => rng.pick(&[1, 1, 10, 10, 10, 50, 50, 50, 200, 200], 10) * 1_000,
    }
}

/// Draws what a link carries: mostly anything, sometimes 10 or 1 Mbit/s.
fn bandwidth(seed: u64) -> u64 {
    Rng::of(seed, "bandwidth", 0).pick(&[0, 0, 0, 1_250_000, 125_000], 0)
}

impl Mix {
    fn draw(seed: u64) -> Self {
        let some = |name: &str, most: u64| {
            let mut rng = Rng::of(seed, name, 1);
            let is_on = !rng.chance(400);
            let drawn = rng.between(1, most) as u32;
            if is_on { drawn } else { 0 }
        };
        let mut rng = Rng::of(seed, "mix", 0);
        Self {
            harmless: some("harmless", 1_000),
            cancelled: some("cancelled", 100),
            large_requests: some("large_requests", 12),
            large_answers: some("large_answers", 12),
            streams: some("streams", 60),
            stop_reading: some("stop_reading", 500),
            gives_up: some("gives_up", 200),
            server_requests: some("server_requests", 100),
            progress: some("progress", 200),
            notes: some("notes", 100),
            plain: some("plain", 500),
            stateless: some("stateless", 500),
            large: rng.pick(&[70_000, 150_000, 150_000, 600_000], 150_000),
            pause: rng.pick(&[5_000, 20_000, 50_000, 100_000, 100_000, 300_000], 100_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_drawn_in_some_worlds_and_few_worlds_have_most_of_them() {
        let worlds: Vec<Knobs> = (0..4_000).map(Knobs::draw).collect();
        let share = |has: &dyn Fn(&Knobs) -> bool| worlds.iter().filter(|knobs| has(knobs)).count();
        let faults: [&dyn Fn(&Knobs) -> bool; 12] = [
            &|knobs| knobs.lose_up > 0,
            &|knobs| knobs.double_late > 0,
            &|knobs| knobs.half_open > 0,
            &|knobs| knobs.partition > 0,
            &|knobs| knobs.ok_lie > 0,
            &|knobs| knobs.crash > 0,
            &|knobs| knobs.skew > 0,
            &|knobs| knobs.signer > 0,
            &|knobs| knobs.sleep > 0,
            &|knobs| knobs.denied > 0,
            &|knobs| knobs.hostile_relays > 0,
            &|knobs| knobs.bandwidth > 0,
        ];
        for (nth, fault) in faults.iter().enumerate() {
            let often = share(fault);
            assert!((600..2_000).contains(&often), "fault {nth} is in {often} of 4,000 worlds");
        }
        let deaf = |knobs: &Knobs| {
            let often = [knobs.half_open > 33, knobs.black_hole > 33, knobs.refuse > 50, knobs.closed > 66];
            often.into_iter().filter(|often| *often).count()
        };
        let harsh = share(&|knobs| deaf(knobs) > 1);
        assert!((1..200).contains(&harsh), "{harsh} worlds are deaf for more than one reason");
    }

    #[test]
    fn a_world_without_a_fault_is_otherwise_the_same() {
        for seed in 0..100 {
            let knobs = Knobs::draw(seed);
            let omit = crate::omit::Omit { knobs: ["clog".to_owned()].into(), ..Default::default() };
            assert_eq!(Knobs { clog: knobs.clog, ..knobs.clone().without(&omit) }, knobs);
        }
    }
}
