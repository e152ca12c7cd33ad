//! In every world in which one side breaks one promise on purpose, the checker of that promise says so.
use contextvm_sim::cheat::Cheat;
use contextvm_sim::replay::Replay;
use contextvm_sim::run::run;
use contextvm_sim::shrink::shrink;
use contextvm_sim::world::{Scene, Setup};

use crate::world::{no_hostile_peers, rich};

/// Seeds per cheat.
const SEEDS: u64 = 2;

#[test]
fn every_cheat_in_a_calm_world_breaks_its_own_promise() {
    for cheat in Cheat::ALL {
        let setup = Setup { calls: 40, scene: Scene::Calm, cheat: Some(cheat), ..Setup::default() };
        let mut caught = 0;
        for seed in 0..SEEDS {
            let outcome = rich(seed, setup.clone());
            let again = (cheat == Cheat::DrawElsewhere).then(|| rich(seed, setup.clone()));
            if !outcome.cheated {
                continue;
            }
            let differs = again.is_some_and(|again| again.trace.hash != outcome.trace.hash);
            let violations = outcome.trace.checks.violations();
            let named = violations.iter().any(|violation| violation.check == cheat.breaks());
            assert!(named || differs, "{cheat:?} in seed {seed} was not noticed: {violations:?}");
            caught += 1;
        }
        assert!(caught > 0, "{cheat:?} had no opportunity");
    }
}

#[test]
fn the_same_worlds_without_a_cheat_break_nothing() {
    for seed in 0..SEEDS {
        let outcome = rich(seed, Setup { calls: 40, scene: Scene::Calm, ..Setup::default() });
        assert_eq!(outcome.trace.checks.violations(), []);
        assert!(outcome.trace.checks.tally().answered > 30, "{:?}", outcome.trace.checks.tally());
    }
}

#[test]
fn cheats_amid_all_faults_are_caught_as_well() {
    let mut caught = 0;
    for (nth, cheat) in Cheat::ALL.into_iter().enumerate() {
        // Whether a call has an honest path at the time is chance here.
        if cheat == Cheat::IgnoreRequest {
            continue;
        }
        let omit = no_hostile_peers();
        let setup = Setup { calls: 40, cheat: Some(cheat), omit, ..Setup::default() };
        for seed in 0..2 {
            let report = run(nth as u64 * 100 + seed, &setup, cheat == Cheat::DrawElsewhere);
            let named = report.violations.iter().any(|violation| violation.check == cheat.breaks());
            assert!(named || !report.cheated, "{cheat:?}, {report:?}");
            caught += u32::from(named);
        }
    }
    assert!(caught >= 13, "{caught}");
}

#[test]
fn a_cheat_is_shrunk_to_a_handful_of_calls_that_a_replay_file_holds() {
    let setup =
        Setup { calls: 60, cheat: Some(Cheat::DeliverTwice), omit: no_hostile_peers(), ..Setup::default() };
    let seed =
        (0..20).find(|seed| !run(*seed, &setup, false).is_good()).expect("one of twenty executes something");
    let shrunk = shrink(seed, &setup, 150).expect("it shows the fault");
    let left = 60 - shrunk.replay.setup.omit.calls.len();
    assert!(left <= 6, "{left} calls are left");
    let mut read = Replay::parse(&shrunk.replay.print()).expect("it was printed").setup;
    read.cheat = setup.cheat;
    assert_eq!(run(seed, &read, false).violations, shrunk.report.violations);
}
