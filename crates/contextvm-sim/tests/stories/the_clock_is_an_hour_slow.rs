//! Clocks that are wrong: by seconds nobody notices; by more calls end in time, and by an hour nothing is executed (T65).
use contextvm_sim::knobs::Knobs;
use contextvm_sim::plan::{Happening, Plan};
use contextvm_sim::time::SEC;
use contextvm_sim::trace::Host;
use contextvm_sim::world::{Outcome, Scene, Setup, World};

use crate::world::call;

/// Sets one host's clock, once the server is old enough to take what is stamped an hour ago; makes ten calls, and gives
/// them the time to end.
fn with_clock(host: Host, by: i64) -> Outcome {
    let knobs = Knobs { clients: 1, relays: 2, ..Knobs::calm() };
    let mut world = World::with(3, Setup { scene: Scene::Calm, ..Setup::default() }, knobs, Plan::default());
    world.pass(2 * 3_600 * SEC);
    world.happen(Happening::Jump { host, by });
    for nth in 0..10 {
        world.happen(call(nth, 1));
        world.pass(SEC / 2);
    }
    world.pass(400 * SEC);
    world.finish()
}

#[test]
fn seconds_apart_every_call_is_answered() {
    for host in [Host::Client(0), Host::Server(0)] {
        // Who is ahead of a server waits until its second has come there.
        for by in [-20, 20] {
            let outcome = with_clock(host, by);
            let tally = outcome.trace.checks.tally();
            assert_eq!(outcome.trace.checks.violations(), []);
            assert_eq!(tally.answered, tally.issued, "{host:?} {by} s");
        }
    }
}

#[test]
fn minutes_apart_is_too_much_for_some_relays_and_servers_and_every_call_still_ends() {
    for host in [Host::Client(0), Host::Server(0)] {
        for by in [-540, 540] {
            let outcome = with_clock(host, by);
            let tally = outcome.trace.checks.tally();
            assert_eq!(outcome.trace.checks.violations(), []);
            assert_eq!(tally.answered + tally.lost, tally.issued, "{host:?} {by} s");
        }
    }
}

#[test]
fn an_hour_apart_every_call_ends_and_nothing_is_executed() {
    for host in [Host::Client(0), Host::Server(0)] {
        for by in [-3_600, 3_600] {
            let outcome = with_clock(host, by);
            let tally = outcome.trace.checks.tally();
            assert_eq!(outcome.trace.checks.violations(), []);
            // The session began before its clock went wrong.
            assert_eq!((tally.executed, tally.answered), (1, 1), "{host:?} {by} s");
            assert_eq!(tally.lost, tally.issued - 1, "{host:?} {by} s");
        }
    }
}

#[test]
fn a_clock_that_is_set_right_again_lets_calls_through_at_once() {
    let knobs = Knobs { clients: 1, relays: 2, ..Knobs::calm() };
    let mut world = World::with(4, Setup::default(), knobs, Plan::default());
    world.happen(Happening::Jump { host: Host::Client(0), by: -3_600 });
    world.pass(5 * SEC);
    world.happen(Happening::Jump { host: Host::Client(0), by: 3_600 });
    world.pass(240 * SEC);
    for nth in 0..10 {
        world.happen(call(nth, 1));
        world.pass(SEC);
    }
    world.pass(60 * SEC);
    let outcome = world.finish();
    assert_eq!(outcome.trace.checks.violations(), []);
    assert!(outcome.trace.checks.tally().answered >= 10, "{:?}", outcome.trace.checks.tally());
}
