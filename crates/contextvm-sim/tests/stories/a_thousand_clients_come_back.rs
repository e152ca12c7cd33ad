//! A relay goes away and comes back, and a thousand clients want it at once (T47).
use contextvm_sim::knobs::{Knobs, Mix};
use contextvm_sim::plan::{Happening, Plan};
use contextvm_sim::time::SEC;
use contextvm_sim::world::{Outcome, Scene, Setup, World};

const CLIENTS: usize = 1_000;

/// Lets the only relay of a thousand clients go away, and returns the world two minutes later.
fn outage(down: u64) -> (Outcome, u64) {
    let work = Mix { stateless: 1_000, ..Mix::small() };
    let knobs = Knobs { clients: CLIENTS, relays: 1, work, ..Knobs::calm() };
    let mut world = World::with(47, Setup { scene: Scene::Calm, ..Setup::default() }, knobs, Plan::default());
    world.pass(20 * SEC);
    world.happen(Happening::RelayRestarts { relay: 0, forgets: true, down });
    let back = 20 + down / SEC;
    world.pass(down + 120 * SEC);
    (world.finish(), back)
}

#[test]
fn after_an_outage_of_twenty_seconds_no_second_sees_more_than_a_tenth_of_them_connect() {
    let (outcome, back) = outage(20 * SEC);
    let after = outcome.dials.iter().filter(|((_, second), _)| *second >= back);
    let (peak, all) = after.fold((0, 0), |(peak, all), (_, dials)| (peak.max(*dials), all + dials));
    assert!(all as usize >= CLIENTS, "{all} came back");
    assert!(peak as usize <= CLIENTS / 10, "{peak} in one second");
    assert_eq!(outcome.trace.checks.violations(), []);
}
