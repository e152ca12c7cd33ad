//! Shrinking: leaves calls, planned events, hosts and knobs out of a world for as long as the same promise is broken.
use std::mem::{Discriminant, discriminant};

use crate::check::{Check, Violation};
use crate::hostile;
use crate::knobs::{KNOBS, Knobs};
use crate::omit::Omit;
use crate::plan::{Happening, Plan};
use crate::replay::{Crypto, Replay};
use crate::run::{Report, run};
use crate::trace::Host;
use crate::world::{Scene, Setup, World};

/// The smallest world that was found.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// To be written to a file.
    pub replay: Replay,
    /// What it shows.
    pub report: Report,
    /// How many worlds were run for it.
    pub runs: usize,
}

/// Finds a small world that breaks the same promise in the same way as this one; `None` when this one breaks none. Worlds
/// that only differ from themselves (C14) are run twice each.
///
/// Runs at most `runs` worlds. What is left out first is what is largest: halves of all calls, then quarters and so on,
/// then planned events, hosts and knobs in the same way, until a whole round finds nothing more.
#[must_use]
pub fn shrink(seed: u64, setup: &Setup, runs: usize) -> Option<Shrunk> {
    let (knobs, plan) = World::draw(seed, setup);
    let once = run(seed, setup, false);
    let twice = once.is_good();
    let report = if twice { run(seed, setup, true) } else { once };
    let shape = Shape::of(report.violations.first()?);
    let parts = parts(&plan, &knobs, setup.scene);
    let mut search = Search { seed, setup: setup.clone(), shape, twice, report, runs: 1, most: runs };
    loop {
        let before = search.setup.omit.len();
        for kind in &parts {
            search.narrow(kind);
        }
        if search.setup.omit.len() == before || search.runs >= search.most {
            break;
        }
    }
    let Search { seed, setup, report, runs, .. } = search;
    let shows = report.violations.iter().take(5).map(ToString::to_string).collect();
    let (draws, trace) = (Some(World::draws(seed, &setup)), Some(report.hash));
    let replay = Replay { seed, setup, shows, crypto: Crypto::BUILT, draws, trace };
    Some(Shrunk { replay, report, runs })
}

/// What two violations have in common that show the same fault: the promise, where it was seen, and the words about it
/// without their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    check: Check,
    place: Discriminant<Host>,
    words: String,
}

impl Shape {
    fn of(violation: &Violation) -> Self {
        // Ids are as good as numbers.
        let is_plain = |word: &&str| !word.contains(|c: char| c.is_ascii_digit());
        let words: Vec<&str> = violation.why.split_whitespace().filter(is_plain).collect();
        let place = discriminant(&violation.host);
        Self { check: violation.check, place, words: words.join(" ") }
    }
}

/// One thing that can be left out.
#[derive(Clone, Debug)]
enum Part {
    Call(u64),
    Event(u64),
    Host(Host),
    Knob(String),
}

impl Part {
    fn leave(&self, omit: &mut Omit) {
        match self {
            Self::Call(number) => omit.calls.insert(*number),
            Self::Event(number) => omit.events.insert(*number),
            Self::Host(host) => omit.hosts.insert(*host),
            Self::Knob(name) => omit.knobs.insert(name.clone()),
        };
    }

    fn is_left(&self, omit: &Omit) -> bool {
        match self {
            Self::Call(number) => omit.calls.contains(number),
            Self::Event(number) => omit.events.contains(number),
            Self::Host(host) => omit.hosts.contains(host),
            Self::Knob(name) => omit.knobs.contains(name),
        }
    }
}

/// Everything that may be left out, kind by kind.
fn parts(plan: &Plan, knobs: &Knobs, scene: Scene) -> [Vec<Part>; 4] {
    let (mut calls, mut events) = (Vec::new(), Vec::new());
    for (place, planned) in plan.planned.iter().enumerate() {
        if let Happening::Call(call) = &planned.what {
            calls.push(Part::Call(call.call.0));
        } else {
            events.push(Part::Event(place as u64));
        }
    }
    let number = |count: usize| 0..u16::try_from(count).unwrap_or(u16::MAX);
    let clients = number(knobs.clients + knobs.hostile_clients).map(Host::Client);
    let servers = number(knobs.servers + knobs.hostile_servers).map(Host::Server);
    let relays = number(knobs.relays + knobs.hostile_relays).map(Host::Relay);
    // Where every call is to be answered, its server and the honest relay have to be there.
    let needed =
        |host: &Host| scene == Scene::HostileRelays && matches!(host, Host::Server(_) | Host::Relay(0));
    let hosts = clients.chain(servers).chain(relays).filter(|host| !needed(host)).map(Part::Host);
    [calls, events, hosts.collect(), names()]
}

fn names() -> Vec<Part> {
    let knobs = KNOBS.iter().map(|(name, _)| *name);
    knobs.chain(hostile::ALL.iter().map(|deed| deed.name())).map(|name| Part::Knob(name.to_owned())).collect()
}

struct Search {
    seed: u64,
    setup: Setup,
    shape: Shape,
    twice: bool,
    report: Report,
    runs: usize,
    most: usize,
}

impl Search {
    /// Leaves out as much of one kind as can be, in ever smaller pieces.
    fn narrow(&mut self, kind: &[Part]) {
        let mut size = kind.len();
        while size > 0 {
            let left: Vec<Part> =
                kind.iter().filter(|part| !part.is_left(&self.setup.omit)).cloned().collect();
            for piece in left.chunks(size) {
                if self.runs >= self.most {
                    return;
                }
                self.try_without(piece);
            }
            size /= 2;
        }
    }

    fn try_without(&mut self, piece: &[Part]) {
        let mut setup = self.setup.clone();
        for part in piece {
            part.leave(&mut setup.omit);
        }
        self.runs += 1;
        let report = run(self.seed, &setup, self.twice);
        if report.violations.iter().any(|violation| Shape::of(violation) == self.shape) {
            (self.setup, self.report) = (setup, report);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_words_about_other_numbers_are_the_same_fault() {
        let of = |check, host, why: &str| Shape::of(&Violation { check, at: 3, host, why: why.to_owned() });
        let lost = of(Check::C6, Host::Client(1), "Call(12) was lost on an honest path: Lost(NoReply)");
        assert_eq!(of(Check::C6, Host::Client(3), "Call(1) was lost on an honest path: Lost(NoReply)"), lost);
        assert_ne!(of(Check::C6, Host::Client(3), "Call(1) was lost on an honest path: Lost(NotSent)"), lost);
        assert_ne!(of(Check::C6, Host::Server(3), "Call(1) was lost on an honest path: Lost(NoReply)"), lost);
        assert_ne!(of(Check::C1, Host::Client(3), "Call(1) was lost on an honest path: Lost(NoReply)"), lost);
    }
}
