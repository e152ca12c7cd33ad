//! A cancellation finds only its author's requests, and nobody hears the late answer (T17).
use contextvm_engine::ServerConfig;

use crate::world::{PLAIN, Step, World, call, check};

const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call"}"#;
const CANCEL: &str =
    r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7,"reason":"x"}}"#;
const CANCEL_TEXT: &str =
    r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"7"}}"#;
const ANSWER_0: &str = r#"{"jsonrpc":"2.0","id":"$0","result":{}}"#;
const DELIVER_0: &str = r#"deliver c1 {"jsonrpc":"2.0","id":"$0","method":"tools/call"}"#;

#[test]
fn only_the_caller_cancels_and_its_answer_is_swallowed() {
    check(
        ServerConfig::default(),
        &[
            (Step::From(1, PLAIN, CALL), &[DELIVER_0]),
            (Step::From(2, PLAIN, CANCEL), &["drop UnknownRequest"]),
            (Step::From(1, PLAIN, CANCEL_TEXT), &["drop UnknownRequest"]),
            (
                Step::From(1, PLAIN, CANCEL),
                &[
                    r#"deliver c1 {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"$0","reason":"x"}}"#,
                ],
            ),
            (
                Step::App(
                    1,
                    r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"$0","progress":1}}"#,
                ),
                &[],
            ),
            (Step::App(1, ANSWER_0), &[]),
            (Step::App(1, ANSWER_0), &["undeliverable c1 UnknownRequest"]),
            (
                Step::Again(0, PLAIN),
                &[
                    r#"publish 25910 to c1 [e=$0,support_encryption,support_encryption_ephemeral,support_oversized_transfer,support_open_stream,support_repeats] {"jsonrpc":"2.0","id":7,"error":{"code":-32000,"message":"Executed or interrupted; its answer is not kept"}}"#,
                ],
            ),
        ],
    );
}

#[test]
fn an_answer_that_comes_long_after_the_cancellation_is_swallowed_too() {
    check(
        ServerConfig::default(),
        &[
            (Step::From(1, PLAIN, CALL), &[DELIVER_0]),
            (
                Step::From(1, PLAIN, CANCEL),
                &[
                    r#"deliver c1 {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"$0","reason":"x"}}"#,
                ],
            ),
            (Step::Pass(120), &[]),
            (Step::App(1, ANSWER_0), &[]),
        ],
    );
}

#[test]
fn a_cancelled_request_counts_until_its_handler_or_its_time_ends() {
    let mut world = World::new(ServerConfig::default());
    for n in 0..32 {
        world.from(1, PLAIN, &call(n, "slow"));
    }
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}}"#;
    world.from(1, PLAIN, cancel);
    assert_eq!(world.from(1, PLAIN, &call(99, "slow")), ["drop Busy"]);
    world.pass(60);
    assert_eq!(world.machine.load().in_flight, 31);
    assert!(world.from(1, PLAIN, &call(100, "slow"))[0].starts_with("deliver"));
}

#[test]
fn a_new_session_gives_what_was_cancelled_before_no_more_time() {
    let mut world = World::new(ServerConfig::default());
    world.from(1, PLAIN, &call(3, "slow"));
    world.from(1, PLAIN, r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}}"#);
    world.pass(50);
    world.from(1, PLAIN, &call(4, "initialize"));
    assert_eq!(world.machine.load().in_flight, 2);
    world.pass(10);
    assert_eq!(world.machine.load().in_flight, 1, "its time was over a minute after its cancellation");
}
