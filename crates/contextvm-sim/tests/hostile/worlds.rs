//! The hostile in whole worlds: every deed of theirs happens there, and with one honest relay every call is answered.
use contextvm_sim::hostile::{Chances, Deed, Deeds};
use contextvm_sim::knobs::Knobs;
use contextvm_sim::plan::Plan;
use contextvm_sim::world::{Scene, Setup, World};

/// A setup in which one kind of actor does everything that it can.
fn with(actor: &str, scene: Scene) -> Setup {
    Setup { calls: 40, scene, chances: Some(Chances::every(actor, 100)), ..Setup::default() }
}

#[test]
fn with_two_hostile_relays_of_three_every_call_is_answered_by_way_of_the_third() {
    let mut deeds = Deeds::default();
    for seed in 0..12 {
        let outcome = World::new(seed, with("relay", Scene::HostileRelays)).run();
        let tally = outcome.trace.checks.tally();
        assert_eq!(outcome.trace.checks.violations(), [], "seed {seed}");
        assert!(
            tally.issued >= 40 && tally.answered + tally.cancelled == tally.issued,
            "seed {seed}: {tally:?}"
        );
        deeds.merge(&outcome.deeds);
    }
    for deed in Deed::of("relay") {
        assert!(deeds.get(deed) > 0, "{}", deed.name());
    }
}

#[test]
fn hostile_clients_in_a_calm_world_do_what_they_can() {
    let mut deeds = Deeds::default();
    for seed in 0..2 {
        let knobs = Knobs { hostile_clients: 1, hostile_servers: 1, servers: 2, ..Knobs::calm() };
        let mut world = World::with(seed, with("client", Scene::Swarm), knobs, Plan::default());
        // Long enough for three attempts to begin a session with a server that never answers.
        world.pass(300_000_000);
        let outcome = world.finish();
        assert_eq!(outcome.trace.checks.violations(), [], "seed {seed}");
        deeds.merge(&outcome.deeds);
    }
    assert!(deeds.total() > 200, "{deeds:?}");
    for deed in [Deed::ClientFloods, Deed::ClientCalls, Deed::ClientBombs, Deed::ClientOldEvents] {
        assert!(deeds.get(deed) > 0, "{}", deed.name());
    }
}
