//! A process sleeps for eight hours, its monotonic clock with it, and goes on as if nothing had been (T66).
use contextvm_sim::knobs::Knobs;
use contextvm_sim::plan::{CallPlan, Happening, Plan};
use contextvm_sim::time::SEC;
use contextvm_sim::trace::{Call, Ending, Host, What};
use contextvm_sim::world::{Outcome, Scene, Setup, World};

use crate::world::{call, plain_call};

const NIGHT: u64 = 8 * 3_600 * SEC;

/// Lets one host sleep between two calls of the only client, the second `after` it woke.
fn night(host: Host, seed: u64, after: u64) -> Outcome {
    two_calls(seed, Some(Happening::Sleeps { host, lasts: NIGHT }), after, call(2, 1))
}

/// A call, a night with or without something happening in it, and another call.
fn two_calls(seed: u64, happening: Option<Happening>, after: u64, second: Happening) -> Outcome {
    let knobs = Knobs { clients: 1, relays: 2, ..Knobs::calm() };
    let mut world = World::with(
        seed,
        Setup { keep: true, scene: Scene::Calm, ..Setup::default() },
        knobs,
        Plan::default(),
    );
    world.pass(5 * SEC);
    world.happen(call(1, 1));
    world.pass(5 * SEC);
    happening.into_iter().for_each(|happening| world.happen(happening));
    world.pass(NIGHT + after);
    world.happen(second);
    world.pass(120 * SEC);
    world.finish()
}

/// How long the second call took, if it was answered.
fn took(outcome: &Outcome) -> Option<u64> {
    let at = |wanted: &dyn Fn(&What) -> bool| {
        outcome.trace.kept.iter().find(|entry| wanted(&entry.what)).map(|entry| entry.at)
    };
    let issued = at(&|what| matches!(what, What::Issued { call: Call(2), .. }))?;
    let answer = |what: &What| matches!(what, What::Ended { call: Call(2), ending: Ending::Answer { .. } });
    Some(at(&answer)? - issued)
}

#[test]
fn a_call_right_after_waking_finds_new_connections_and_is_answered() {
    for seed in 0..5 {
        let outcome = night(Host::Client(0), seed, 1);
        assert_eq!(outcome.trace.checks.violations(), []);
        let took = took(&outcome).expect("it is answered");
        assert!(took < 8 * SEC, "and not after {took} us, when the silence of dead connections is noticed");
    }
}

#[test]
fn a_minute_after_waking_nothing_is_left_of_the_night() {
    for host in [Host::Client(0), Host::Server(0)] {
        for seed in 0..3 {
            let outcome = night(host, seed, 60 * SEC);
            assert_eq!(outcome.trace.checks.violations(), []);
            assert!(took(&outcome).expect("it is answered") < 5 * SEC, "{host:?}");
        }
    }
}

#[test]
fn the_first_answer_after_a_long_silence_may_be_large() {
    let asleep = Happening::Sleeps { host: Host::Client(0), lasts: NIGHT };
    for happening in [None, Some(asleep)] {
        for seed in 0..3 {
            // The server has forgotten by then what this client takes.
            let second = CallPlan { answers: 90_000, ..plain_call(2, 0) };
            let outcome = two_calls(seed, happening.clone(), 60 * SEC, Happening::Call(second));
            assert_eq!(outcome.trace.checks.violations(), []);
            assert!(took(&outcome).is_some(), "{happening:?}");
        }
    }
}
