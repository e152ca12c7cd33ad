//! An answer that no relay took is published again until one does or its time is over.
use contextvm_core::Limits;
use contextvm_engine::server::Access;
use contextvm_engine::{Outcome, Reach, ServerConfig};

use crate::world::{PLAIN, WRAP, World, call, public};

#[test]
fn a_refused_answer_is_tried_after_one_two_four_eight_seconds_and_given_up_within_a_minute() {
    let mut world = World::new(ServerConfig::default());
    world.outcome = Some(Outcome::Refused("blocked: no".to_owned()));
    world.from(1, WRAP, &call(1, "ping"));
    let answer = world.done(0);
    let mut tries = Vec::new();
    for second in 1..120 {
        if !world.pass(1).is_empty() {
            tries.push(second);
        }
    }
    assert_eq!(tries, [1, 3, 7, 15, 31]);
    assert!(world.drafts.iter().all(|draft| *draft == world.drafts[0]));
    assert_eq!(world.machine.load().publications, 0);
    world.outcome = Some(Outcome::Accepted);
    assert_eq!(world.again(0, WRAP), answer, "a caller that asks again still gets it");
}

#[test]
fn a_small_answer_that_is_said_to_be_too_large_is_tried_again_like_any_other() {
    let mut world = World::new(ServerConfig::default());
    world.outcome = Some(Outcome::Refused("invalid: event too large".to_owned()));
    world.from(1, PLAIN, &call(1, "ping"));
    world.done(0);
    world.pass(120);
    assert_eq!(world.drafts.len(), 6);
    assert!(world.drafts.iter().all(|draft| *draft == world.drafts[0]));
    assert_eq!(world.machine.load().publications, 0);
}

#[test]
fn an_accepted_answer_is_not_published_again() {
    let mut world = World::new(ServerConfig::default());
    world.outcome = None;
    world.from(1, PLAIN, &call(1, "ping"));
    world.done(0);
    let ticket = world.tickets[0];
    assert!(world.outcome_of(ticket, Outcome::Unknown).is_empty());
    assert_eq!(world.pass(1).len(), 1);
    let again = world.tickets[1];
    assert_ne!(ticket, again);
    assert!(world.outcome_of(again, Outcome::Accepted).is_empty());
    assert!(
        world.outcome_of(ticket, Outcome::Refused(String::new())).is_empty(),
        "an old ticket means nothing"
    );
    assert!(world.pass(120).is_empty());
}

#[test]
fn an_answer_larger_than_one_event_becomes_an_error_and_ends_the_call() {
    let mut world = World::new(ServerConfig::default());
    world.from(1, WRAP, &call(1, "big"));
    let text = "x".repeat(70_000);
    let lines = world.app(1, &format!(r#"{{"jsonrpc":"2.0","id":"$0","result":{{"text":"{text}"}}}}"#));
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("publish 1059 to c1 [e=$0,"), "{}", lines[0]);
    assert!(lines[0].ends_with(
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"Answer is larger than one event may be"}}"#
    ));
    assert_eq!(lines[1], "undeliverable c1 TooLarge");
    let lines = world.app(1, &format!(r#"{{"jsonrpc":"2.0","method":"x","params":{{"text":"{text}"}}}}"#));
    assert_eq!(lines, ["undeliverable c1 TooLarge"]);
}

#[test]
fn an_answer_that_is_not_json_rpc_becomes_an_error_and_ends_the_call() {
    let mut world = World::new(ServerConfig::default());
    world.from(1, PLAIN, &call(1, "odd"));
    let lines = world.app(1, r#"{"jsonrpc":"2.0","id":"$0","result":[1]}"#);
    assert!(
        lines[0].ends_with(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"Internal error"}}"#)
    );
    assert_eq!(lines[1], "undeliverable c1 Malformed");
    assert_eq!(world.app(1, "nonsense"), ["undeliverable c1 Malformed"]);
    assert_eq!(world.machine.load().in_flight, 0);
}

#[test]
fn a_repeat_that_reaches_nobody_is_published_again_too_and_by_one_attempt_at_a_time() {
    let mut world = World::new(ServerConfig::default());
    world.from(1, WRAP, &call(1, "ping"));
    world.done(0);
    world.outcome = Some(Outcome::Unknown);
    assert_eq!(world.again(0, WRAP).len(), 1, "asked again, and answered");
    assert_eq!(world.again(0, WRAP).len(), 1, "and again");
    let tries: Vec<usize> = (0..4).map(|_| world.pass(1).len()).collect();
    assert_eq!(tries, [1, 0, 1, 0], "one second later, two seconds later, for one of the two");
    world.outcome = Some(Outcome::Accepted);
    assert_eq!(world.pass(4).len(), 1);
    assert!(world.pass(120).is_empty());
    assert_eq!(world.machine.load().publications, 0);
}

#[test]
fn a_first_answer_goes_where_it_was_asked_and_later_ones_go_everywhere() {
    let mut world = World::new(ServerConfig::default());
    for nth in 0..2 {
        world.from(1, WRAP, &call(nth, "ping"));
        world.done(nth as usize);
    }
    assert_eq!(world.ways, [(Reach::Asked, Some(0)), (Reach::All, Some(1))]);
    world.outcome = Some(Outcome::Unknown);
    world.from(2, WRAP, &call(1, "ping"));
    world.done(2);
    world.pass(10);
    assert!(world.ways.len() > 4, "it was tried again");
    assert!(world.ways[2..].iter().all(|way| *way == (Reach::Asked, Some(2))), "{:?}", world.ways);
}

#[test]
fn a_relay_that_never_says_that_it_took_an_answer_has_it_published_everywhere_once() {
    let mut world = World::new(ServerConfig::default());
    world.from(1, WRAP, &call(1, "ping"));
    world.done(0);
    world.outcome = Some(Outcome::Unknown);
    world.from(1, WRAP, &call(2, "ping"));
    world.done(1);
    world.pass(60);
    assert_eq!(world.ways[..2], [(Reach::Asked, Some(0)), (Reach::All, Some(1))]);
    assert_eq!(world.ways[2..], [(Reach::Asked, Some(1)); 5]);
}

#[test]
fn who_is_on_the_list_is_answered_everywhere_and_a_refusal_goes_where_it_was_asked() {
    let access = Access { allowed: Some([public(1)].into()), announced: true, ..Access::default() };
    let mut world = World::new(ServerConfig { access, ..ServerConfig::default() });
    world.from(1, WRAP, &call(1, "ping"));
    world.done(0);
    world.from(2, WRAP, &call(1, "ping"));
    assert_eq!(world.ways, [(Reach::All, Some(0)), (Reach::Asked, Some(1))]);
}

#[test]
fn a_stranger_who_asks_again_is_answered_everywhere_unless_many_do() {
    let limits = Limits { sessions: 0, ..Limits::default() };
    let mut world = World::new(ServerConfig { limits, ..ServerConfig::default() });
    for nth in 0..100 {
        world.from(1, WRAP, &call(nth, "ping"));
        world.done(nth as usize);
    }
    assert!(world.ways.iter().all(|(reach, _)| *reach == Reach::Asked));
    for _ in 0..2 {
        let before = world.ways.len();
        world.pass(1);
        for nth in 0..100 {
            assert_eq!(world.again(nth, WRAP).len(), 1);
        }
        let spread = world.ways[before..].iter().filter(|(reach, _)| *reach == Reach::All).count();
        assert_eq!(spread, 32, "in each second");
    }
}

#[test]
fn what_is_said_during_a_call_belongs_to_it_and_what_is_said_unasked_belongs_to_nothing() {
    let mut world = World::new(ServerConfig::default());
    world.from(1, WRAP, &call(1, "ping"));
    world.done(0);
    let asked = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"_meta":{"progressToken":7}}}"#;
    world.from(1, WRAP, asked);
    world.app(
        1,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"$1","progress":1}}"#,
    );
    world.app(1, r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#);
    assert_eq!(world.ways[1..], [(Reach::All, Some(1)), (Reach::All, None)]);
}
