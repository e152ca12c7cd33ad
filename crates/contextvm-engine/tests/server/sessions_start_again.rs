//! `initialize` begins a session anew; the application may end one; idle ones are forgotten.
use contextvm_engine::ServerConfig;

use crate::world::{PLAIN, Step, World, call, check};

#[test]
fn requests_of_a_replaced_session_can_be_answered_for_a_minute_and_then_end_in_an_error() {
    let mut world = World::new(ServerConfig::default());
    world.from(1, PLAIN, &call(1, "slow"));
    world.from(1, PLAIN, &call(2, "slow"));
    assert_eq!(world.from(1, PLAIN, &call(3, "initialize"))[0], "restarted c1");
    assert_eq!(world.done(0).len(), 1);
    assert!(world.done(2)[0].contains("e=$2"));
    let ended = world.pass(60);
    assert_eq!(
        ended,
        [
            r#"publish 25910 to c1 [e=$1] {"jsonrpc":"2.0","id":2,"error":{"code":-32000,"message":"Session restarted"}}"#,
        ]
    );
    assert!(world.done(1).is_empty(), "the late answer is swallowed");
}

#[test]
fn a_closed_session_answers_what_is_open() {
    check(
        ServerConfig::default(),
        &[
            (
                Step::From(1, PLAIN, r#"{"jsonrpc":"2.0","id":1,"method":"slow"}"#),
                &[r#"deliver c1 {"jsonrpc":"2.0","id":"$0","method":"slow"}"#],
            ),
            (
                Step::Closed(1),
                &[
                    r#"publish 25910 to c1 [e=$0,support_encryption,support_encryption_ephemeral,support_oversized_transfer,support_open_stream,support_repeats] {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"Session closed"}}"#,
                ],
            ),
            (Step::Closed(1), &[]),
            (Step::App(1, r#"{"jsonrpc":"2.0","id":"$0","result":{}}"#), &[]),
            (Step::Pass(29 * 60), &[]),
            (Step::Pass(60), &["ended c1"]),
        ],
    );
}

#[test]
fn subscriptions_and_initialisation_do_not_survive_a_new_initialize() {
    let mut world = World::new(ServerConfig::default());
    world.from(1, PLAIN, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    let news = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    assert_eq!(world.broadcast(news).len(), 1);
    world.from(1, PLAIN, &call(1, "initialize"));
    assert!(world.broadcast(news).is_empty());
}
