//! The application ends a subscription of MCP 2026-07-28, and its caller hears of it under the id that it chose.
use contextvm_engine::ServerConfig;

use crate::world::{PLAIN, Step, World, call, check};

const LISTEN: &str = r#"{"jsonrpc":"2.0","id":"l","method":"subscriptions/listen"}"#;
const DELIVER_0: &str = r#"deliver c1 {"jsonrpc":"2.0","id":"$0","method":"subscriptions/listen"}"#;
const CANCEL_0: &str = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"$0","reason":"over","_meta":{"io.modelcontextprotocol/subscriptionId":"$0"}}}"#;
const CANCELLED: &str = r#"publish 25910 to c1 [e=$0,support_encryption,support_encryption_ephemeral,support_oversized_transfer,support_open_stream,support_repeats] {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"l","reason":"over","_meta":{"io.modelcontextprotocol/subscriptionId":"l"}}}"#;

#[test]
fn the_application_ends_a_subscription_under_the_callers_own_id() {
    check(
        ServerConfig::default(),
        &[
            (Step::From(1, PLAIN, LISTEN), &[DELIVER_0]),
            (Step::App(1, CANCEL_0), &[CANCELLED]),
            // What the application may still answer is of no interest any more.
            (Step::App(1, r#"{"jsonrpc":"2.0","id":"$0","result":{}}"#), &[]),
        ],
    );
}

#[test]
fn a_repeat_of_an_ended_subscription_hears_of_its_end_again() {
    let mut world = World::new(ServerConfig::default());
    world.from(1, PLAIN, LISTEN);
    let ended = world.app(1, CANCEL_0);
    let again = world.again(0, PLAIN);
    assert_eq!(again, ended);
}

#[test]
fn nobody_ends_the_subscription_of_another_caller_or_a_call_that_waits_for_its_answer() {
    let mut world = World::new(ServerConfig::default());
    world.from(1, PLAIN, LISTEN);
    world.from(2, PLAIN, &call(1, "tools/call"));
    assert!(world.app(2, CANCEL_0).iter().all(|line| !line.contains("to c1")));
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"$1"}}"#;
    assert_eq!(world.app(2, cancel), ["undeliverable c2 Unsupported"]);
    assert_eq!(world.machine.load().in_flight, 2);
}

#[test]
fn an_answer_to_a_subscription_names_it_by_the_callers_own_id() {
    let answer = r#"{"jsonrpc":"2.0","id":"$0","result":{"resultType":"complete","_meta":{"x":1.0,"io.modelcontextprotocol/subscriptionId":"$0"}}}"#;
    let heard = r#"publish 25910 to c1 [e=$0,support_encryption,support_encryption_ephemeral,support_oversized_transfer,support_open_stream,support_repeats] {"jsonrpc":"2.0","id":"l","result":{"resultType":"complete","_meta":{"x":1.0,"io.modelcontextprotocol/subscriptionId":"l"}}}"#;
    check(
        ServerConfig::default(),
        &[(Step::From(1, PLAIN, LISTEN), &[DELIVER_0]), (Step::App(1, answer), &[heard])],
    );
}

#[test]
fn a_subscription_that_its_caller_ends_makes_room_for_the_next_at_once() {
    let mut world = World::new(ServerConfig::default());
    for n in 0..100 {
        world.from(1, PLAIN, &format!(r#"{{"jsonrpc":"2.0","id":{n},"method":"subscriptions/listen"}}"#));
        assert_eq!(world.machine.load().in_flight, 1);
        let cancel =
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{n}}}}}"#);
        assert!(world.from(1, PLAIN, &cancel).iter().any(|line| line.starts_with("deliver c1")));
        assert_eq!(world.machine.load().in_flight, 0);
    }
    let late = r#"{"jsonrpc":"2.0","id":"$0","result":{}}"#;
    assert!(world.app(1, late).iter().all(|line| !line.contains("publish")));
}
