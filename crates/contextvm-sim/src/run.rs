//! One seed from its number to its verdict.
use std::panic::{AssertUnwindSafe, catch_unwind};

use std::collections::BTreeMap;

use crate::check::{Check, Figures, Tally, Violation};
use crate::knobs::Knobs;
use crate::plan::Plan;
use crate::trace::Host;
use crate::world::{Setup, World};

/// What came of one seed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Which.
    pub seed: u64,
    /// What was broken, the first of it.
    pub violations: Vec<Violation>,
    /// How calls ended.
    pub tally: Tally,
    /// What was judged, and why the rest was not.
    pub figures: Figures,
    /// How often something was not acted on, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// How often each fault and each misdeed happened.
    pub faults: BTreeMap<&'static str, u64>,
    /// The hash over the trace.
    pub hash: u64,
    /// Microseconds of virtual time.
    pub lasted: u64,
    /// Things that happened.
    pub steps: u64,
    /// Whether the cheat of the setup had its opportunity.
    pub cheated: bool,
}

impl Report {
    /// Whether every promise was kept.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.violations.is_empty()
    }
}

/// Runs a seed, `twice` to see whether it leaves the same trace again (C14). A panic counts as broken (C13).
#[must_use]
pub fn run(seed: u64, setup: &Setup, twice: bool) -> Report {
    let (knobs, plan) = World::draw(seed, setup);
    drawn(seed, setup, twice, &knobs, &plan)
}

/// Runs a seed of which is known what is drawn.
pub(crate) fn drawn(seed: u64, setup: &Setup, twice: bool, knobs: &Knobs, plan: &Plan) -> Report {
    let mut report = once(seed, setup, knobs, plan);
    if twice {
        let again = once(seed, setup, knobs, plan);
        if again.hash != report.hash || again.steps != report.steps {
            let why = format!("the traces are {:016x} and {:016x}", report.hash, again.hash);
            report.violations.push(fault(Check::C14, report.lasted, why));
        }
    }
    report
}

fn once(seed: u64, setup: &Setup, knobs: &Knobs, plan: &Plan) -> Report {
    let life = || World::with(seed, setup.clone(), knobs.clone(), plan.clone()).run();
    match catch_unwind(AssertUnwindSafe(life)) {
        Ok(outcome) => Report {
            seed,
            violations: outcome.trace.checks.violations().to_vec(),
            tally: outcome.trace.checks.tally(),
            figures: outcome.trace.checks.figures().clone(),
            dropped: outcome.trace.dropped,
            faults: {
                let deeds = outcome.deeds.iter().map(|(deed, times)| (deed.name(), times));
                outcome.faults.into_iter().chain(deeds).filter(|(_, times)| *times > 0).collect()
            },
            hash: outcome.trace.hash,
            lasted: outcome.lasted,
            steps: outcome.steps,
            cheated: outcome.cheated,
        },
        Err(panic) => {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("something");
            let violations = vec![fault(Check::C13, 0, format!("a panic: {words}"))];
            Report { seed, violations, ..Report::default() }
        }
    }
}

/// What concerns the whole world is told of its first relay.
const fn fault(check: Check, at: u64, why: String) -> Violation {
    Violation { check, at, host: Host::Relay(0), why }
}
