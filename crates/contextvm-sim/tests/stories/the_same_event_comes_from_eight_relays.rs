//! Every event comes from every relay, and several times from each (T02).
use contextvm_sim::knobs::Knobs;
use contextvm_sim::world::{Scene, Setup, World};

use crate::world::calls;

#[test]
fn with_one_to_eight_relays_that_repeat_everything_each_call_is_executed_once() {
    for relays in 1..=8 {
        let knobs = Knobs { relays, double: 500, reorder: true, delay: 50_000, ..Knobs::calm() };
        let outcome =
            World::with(relays as u64, Setup { scene: Scene::Calm, ..Setup::default() }, knobs, calls(24, 3))
                .run();
        let tally = outcome.trace.checks.tally();
        assert_eq!(outcome.trace.checks.violations(), [], "{relays} relays");
        assert_eq!((tally.executed, tally.answered), (tally.issued, tally.issued), "{relays} relays");
    }
}

#[test]
fn copies_that_come_an_hour_late_cause_nothing() {
    let knobs = Knobs { double: 500, double_late: 1_000, ..Knobs::calm() };
    let mut world = World::with(1, Setup { scene: Scene::Calm, ..Setup::default() }, knobs, calls(24, 3));
    world.pass(2 * 3_600_000_000);
    let outcome = world.finish();
    let tally = outcome.trace.checks.tally();
    assert_eq!(outcome.trace.checks.violations(), []);
    assert_eq!((tally.executed, tally.answered), (tally.issued, tally.issued));
}
