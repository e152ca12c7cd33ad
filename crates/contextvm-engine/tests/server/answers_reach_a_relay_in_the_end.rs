//! An answer that no relay took is published again until one does or its time is over.
use contextvm_engine::{Outcome, ServerConfig};

use crate::world::{PLAIN, WRAP, World, call};

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
