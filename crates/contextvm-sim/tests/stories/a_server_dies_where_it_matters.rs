//! A server with a journal dies between two steps: nothing is executed twice, and every call ends.
use contextvm_sim::knobs::Knobs;
use contextvm_sim::plan::{Happening, Planned, Point};
use contextvm_sim::time::{MS, SEC};
use contextvm_sim::trace::Host;
use contextvm_sim::world::{Scene, Setup, World};

use crate::world::calls;

#[test]
fn wherever_it_dies_no_call_is_executed_twice() {
    for (nth, point) in Point::ALL.into_iter().filter(|point| *point != Point::Frame).enumerate() {
        let mut plan = calls(40, 3);
        let host = Host::Server(0);
        let what = Happening::CrashOn { host, point, nth: 3, torn: nth % 2 == 1, down: 500 * MS };
        plan.planned.push(Planned { at: 4 * SEC, what });
        let setup = Setup { scene: Scene::Calm, ..Setup::default() };
        let outcome = World::with(nth as u64, setup, Knobs::calm(), plan).run();
        assert_eq!(outcome.trace.checks.violations(), [], "{point:?}");
        let died = outcome.faults.iter().filter(|(name, _)| name.starts_with("crash_")).count();
        assert_eq!(died, 1, "{point:?}: {:?}", outcome.faults);
        assert!(outcome.trace.checks.tally().answered > 30, "{point:?}");
    }
}
