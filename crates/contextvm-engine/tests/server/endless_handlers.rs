//! Work in flight is bounded per caller, over all, and in bytes (T37).
use contextvm_core::Limits;
use contextvm_engine::ServerConfig;

use crate::world::{PLAIN, START, World, call, event};

#[test]
fn the_thirty_third_call_of_a_known_caller_is_answered_busy() {
    let mut world = World::new(ServerConfig::default());
    world.from(1, PLAIN, &call(0, "ping"));
    world.done(0);
    for n in 1..33 {
        assert!(world.from(1, PLAIN, &call(n, "slow"))[0].starts_with("deliver"));
    }
    let busy =
        r#"publish 25910 to c1 [e=$33] {"jsonrpc":"2.0","id":33,"error":{"code":-32000,"message":"Busy"}}"#;
    assert_eq!(world.from(1, PLAIN, &call(33, "slow")), [busy, "drop Busy"]);
    world.done(1);
    assert!(world.from(1, PLAIN, &call(34, "slow"))[0].starts_with("deliver"));
    assert_eq!(world.again(33, PLAIN), [busy], "what was refused aloud is never executed");
}

#[test]
fn what_is_stamped_ahead_and_finds_no_room_is_refused_aloud_only_where_that_is_remembered() {
    for durable in [false, true] {
        let config = ServerConfig { durable, accept_from: START - 9, ..ServerConfig::default() };
        let mut world = World::new(config);
        world.from(1, PLAIN, &call(0, "ping"));
        world.remembered(1);
        world.done(0);
        for n in 1..33 {
            assert!(world.arrives(1, PLAIN, event(1, START + 5, &call(n, "slow"), &[])).is_empty());
        }
        let lines = world.arrives(1, PLAIN, event(1, START + 5, &call(33, "slow"), &[]));
        let [said @ .., refused] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(refused, "drop Busy");
        if durable {
            assert_eq!(said[..2], ["remember 3 $33", "remember 4 answer to $33"]);
            assert!(said[2].ends_with(r#""id":33,"error":{"code":-32000,"message":"Busy"}}"#), "{said:?}");
        } else {
            assert!(said.is_empty(), "{said:?}");
            assert_eq!(world.pass(5).len(), 32);
            world.done(1);
            assert!(world.again(33, PLAIN)[0].starts_with("deliver"), "nothing was said of it");
        }
    }
}

#[test]
fn strangers_meet_silence_and_leave_half_of_the_room() {
    let limits = Limits { in_flight: 8, ..Limits::default() };
    let mut world = World::new(ServerConfig { limits, ..ServerConfig::default() });
    world.from(1, PLAIN, &call(0, "ping"));
    world.done(0);
    for n in 2..6 {
        assert!(world.from(n, PLAIN, &call(0, "slow"))[0].starts_with("deliver"));
    }
    assert_eq!(world.from(6, PLAIN, &call(0, "slow")), ["drop Busy"]);
    for n in 1..3 {
        assert!(world.from(1, PLAIN, &call(n, "slow"))[0].starts_with("deliver"));
    }
    assert_eq!(world.from(1, PLAIN, &call(9, "slow")).len(), 2, "busy, aloud");
    assert_eq!(world.machine.load().in_flight, 6);
}

#[test]
fn callers_who_have_much_in_flight_leave_the_last_quarter_to_those_who_have_little() {
    let mut world = World::new(ServerConfig::default());
    for n in 0..40 {
        world.from(n + 1, PLAIN, &call(0, "ping"));
        world.done(n as usize);
    }
    let mut taken = 0;
    for caller in 1..40 {
        for id in 1..=10 {
            let lines = world.from(caller, PLAIN, &call(id, "slow"));
            taken += usize::from(lines[0].starts_with("deliver"));
        }
    }
    assert_eq!(taken, 380 + 8, "39 callers with ten calls each: the last one got no more than eight");
    let first = world.from(40, PLAIN, &call(1, "slow"));
    assert!(first[0].starts_with("deliver"), "{first:?}");
    for id in 2..=8 {
        assert!(world.from(40, PLAIN, &call(id, "slow"))[0].starts_with("deliver"), "{id}");
    }
    assert!(world.from(40, PLAIN, &call(9, "slow"))[0].contains("Busy"));
}

#[test]
fn bytes_in_flight_are_bounded() {
    let limits = Limits { in_flight_bytes: 4_000, ..Limits::default() };
    let mut world = World::new(ServerConfig { limits, ..ServerConfig::default() });
    let long = |id: u32| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"x","params":{{"a":"{}"}}}}"#, "x".repeat(900))
    };
    for id in 0..2 {
        assert!(world.from(1, PLAIN, &long(id))[0].starts_with("deliver"));
    }
    assert_eq!(world.from(1, PLAIN, &long(2)), ["drop Busy"]);
    world.done(0);
    for id in 3..5 {
        assert!(world.from(1, PLAIN, &long(id))[0].starts_with("deliver"), "{id}");
    }
    assert_eq!(
        world.from(1, PLAIN, &long(7)).len(),
        2,
        "busy, aloud: three quarters are enough for one caller"
    );
    assert!(world.machine.load().in_flight_bytes <= 3_000);
}
