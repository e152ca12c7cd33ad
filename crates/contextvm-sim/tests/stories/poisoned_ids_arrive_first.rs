//! Relays that send forged copies under true ids, before and instead of the true ones (T10).
use contextvm_sim::hostile::{Chances, Deed};
use contextvm_sim::knobs::Knobs;
use contextvm_sim::plan::Plan;
use contextvm_sim::world::{Scene, Setup, World};

use crate::world::calls;

fn poisoned(seed: u64, knobs: Knobs, plan: Plan) {
    let chances = Some(Chances::default().with(Deed::RelayPoisons, 1_000));
    let setup = Setup { scene: Scene::HostileRelays, chances, ..Setup::default() };
    let outcome = World::with(seed, setup, knobs, plan).run();
    assert_eq!(outcome.trace.checks.violations(), [], "seed {seed}");
    assert_eq!(outcome.trace.checks.tally().lost, 0);
    assert!(outcome.deeds.get(Deed::RelayPoisons) > 10, "{:?}", outcome.deeds);
}

#[test]
fn with_one_poisoning_relay_of_three_every_call_is_answered() {
    for seed in 0..5 {
        poisoned(seed, Knobs { relays: 2, hostile_relays: 1, ..Knobs::calm() }, calls(30, 3));
    }
}

#[test]
fn with_two_poisoning_relays_of_three_every_call_is_answered() {
    for seed in 0..5 {
        poisoned(seed, Knobs { relays: 1, hostile_relays: 2, ..Knobs::calm() }, calls(30, 3));
    }
}

#[test]
fn poison_in_another_order_of_arrival_changes_nothing() {
    for seed in 0..5 {
        let knobs = Knobs { relays: 1, hostile_relays: 2, reorder: true, delay: 200_000, ..Knobs::calm() };
        poisoned(seed, knobs, calls(30, 3));
    }
}
