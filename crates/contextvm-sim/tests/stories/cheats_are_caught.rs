//! In every world in which one side breaks one promise on purpose, the checker of that promise says so.
use contextvm_sim::cheat::Cheat;
use contextvm_sim::check::Check;
use contextvm_sim::replay::Replay;
use contextvm_sim::run::run;
use contextvm_sim::shrink::shrink;
use contextvm_sim::world::{Scene, Setup, World};

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
        // Whether a call has an honest path at the time, or its client lives long enough, is chance here.
        if matches!(cheat, Cheat::IgnoreRequest | Cheat::SayBusy | Cheat::AnswerLate | Cheat::Leak) {
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
fn of_calls_that_are_ignored_or_turned_away_amid_all_faults_many_are_noticed() {
    for cheat in [Cheat::IgnoreRequest, Cheat::SayBusy] {
        let setup = Setup { calls: 40, cheat: Some(cheat), omit: no_hostile_peers(), ..Setup::default() };
        let reports = (0..20).map(|seed| run(seed, &setup, false)).filter(|report| report.cheated);
        let (mut cheated, mut caught) = (0, 0);
        for report in reports {
            cheated += 1;
            caught += u32::from(report.violations.iter().any(|violation| violation.check == cheat.breaks()));
        }
        // The others had no honest path, no room, a crash or a clock to be blamed.
        assert!(cheated >= 10 && caught * 5 >= cheated, "{cheat:?}: {caught} of {cheated}");
    }
}

#[test]
fn a_world_that_differs_from_itself_is_shrunk_as_well() {
    let cheat = Some(Cheat::DrawElsewhere);
    let setup = Setup { calls: 20, scene: Scene::Calm, cheat, ..Setup::default() };
    let shrunk = shrink(1, &setup, 40).expect("its second trace is another one");
    assert!(shrunk.report.violations.iter().all(|violation| violation.check == Check::C14));
    assert!(shrunk.replay.setup.omit.calls.len() >= 10, "{:?}", shrunk.replay.setup.omit);
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
    let read = Replay::parse(&shrunk.replay.print()).expect("it was printed");
    let again = run(seed, &read.setup, false);
    assert_eq!(again.violations, shrunk.report.violations);
    assert_eq!((read.trace, read.draws), (Some(again.hash), Some(World::draws(seed, &read.setup))));
}
