//! Relays that alter gift wraps so that they open all the same: what carried a request says nothing about who else has it.
use contextvm_sim::hostile::{Chances, Deed};
use contextvm_sim::knobs::{Knobs, Mix};
use contextvm_sim::world::{Scene, Setup, World};

use crate::world::calls;

#[test]
fn the_first_answer_reaches_the_honest_relay_whose_copy_came_behind_an_altered_one() {
    let chances = Chances::default().with(Deed::RelayAltersStamp, 800).with(Deed::RelayWithholds, 300);
    for seed in 0..40 {
        let setup = Setup { scene: Scene::HostileRelays, chances: Some(chances.clone()), ..Setup::default() };
        let knobs = Knobs {
            relays: 1,
            clients: 8,
            work: Mix { stateless: 1_000, ..Mix::small() },
            hostile_relays: 2,
            reorder: true,
            delay: 20_000,
            ..Knobs::calm()
        };
        // Each client calls once and without `initialize`, so that every answer is its first.
        let outcome = World::with(seed, setup, knobs, calls(8, 8)).run();
        assert_eq!(outcome.trace.checks.violations(), [], "seed {seed}");
        assert_eq!(outcome.trace.checks.tally().lost, 0);
        assert!(outcome.deeds.get(Deed::RelayAltersStamp) > 0, "{:?}", outcome.deeds);
    }
}
