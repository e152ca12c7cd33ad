//! Equal ids and tokens of many callers, and of one caller, are never mixed up (T15, T12).
use contextvm_core::Limits;
use contextvm_engine::ServerConfig;

use crate::world::{PLAIN, Step, World, check};

#[test]
fn a_hundred_clients_with_the_same_ten_tokens_each_get_their_own_progress() {
    let limits = Limits { in_flight: 4_096, ..Limits::default() };
    let mut world = World::new(ServerConfig { limits, ..ServerConfig::default() });
    for token in 0..10 {
        for n in 1..101 {
            let call = format!(
                r#"{{"jsonrpc":"2.0","id":{token},"method":"tools/call","params":{{"_meta":{{"progressToken":{token}}}}}}}"#
            );
            assert_eq!(world.from(n, PLAIN, &call).len(), 1);
        }
    }
    let events = world.events.clone();
    for (nth, event) in events.iter().enumerate() {
        let (n, token) = (nth % 100 + 1, nth / 100);
        let hex = event.id.to_hex();
        let progress = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"{hex}","progress":1}}}}"#
        );
        let lines = world.app(u32::try_from(n).unwrap(), &progress);
        assert!(lines[0].starts_with(&format!("publish 25910 to c{n} [")), "{lines:?}");
        assert!(lines[0].contains(&format!(r#""progressToken":{token},"#)), "{lines:?}");
    }
    let elsewhere =
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"$0","progress":1}}"#;
    assert_eq!(world.app(2, elsewhere), ["undeliverable c2 UnknownRequest"]);
}

#[test]
fn progress_names_its_request_only_where_the_token_alone_would_be_ambiguous() {
    let mut world = World::new(ServerConfig::default());
    let call = |id: u32, token: u32| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"a","params":{{"_meta":{{"progressToken":{token}}}}}}}"#
        )
    };
    let progress =
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"$0","progress":1}}"#;
    world.from(1, PLAIN, &call(1, 7));
    world.from(2, PLAIN, &call(1, 7));
    assert!(!world.app(1, progress)[0].contains("[e="));
    world.from(1, PLAIN, &call(2, 7));
    assert!(world.app(1, progress)[0].contains("[e=$0"));
}

#[test]
fn two_concurrent_requests_with_the_same_id_and_token_stay_separate_and_keep_their_spelling() {
    check(
        ServerConfig::default(),
        &[
            (
                Step::From(
                    1,
                    PLAIN,
                    r#"{"jsonrpc":"2.0","id":5,"method":"a","params":{"_meta":{"progressToken":5}}}"#,
                ),
                &[
                    r#"deliver c1 {"jsonrpc":"2.0","id":"$0","method":"a","params":{"_meta":{"progressToken":"$0"}}}"#,
                ],
            ),
            (
                Step::From(
                    1,
                    PLAIN,
                    r#"{"jsonrpc":"2.0","id":"5","method":"b","params":{"_meta":{"progressToken":"\u0035"}}}"#,
                ),
                &[
                    r#"deliver c1 {"jsonrpc":"2.0","id":"$1","method":"b","params":{"_meta":{"progressToken":"$1"}}}"#,
                ],
            ),
            (
                Step::App(
                    1,
                    r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"$1","progress":0.50}}"#,
                ),
                &[
                    r#"publish 25910 to c1 [e=$1,support_encryption,support_encryption_ephemeral,support_repeats] {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"\u0035","progress":0.50}}"#,
                ],
            ),
            (
                Step::App(1, r#"{"jsonrpc":"2.0","id":"$1","result":{"n":1.0}}"#),
                &[r#"publish 25910 to c1 [e=$1] {"jsonrpc":"2.0","id":"5","result":{"n":1.0}}"#],
            ),
            (
                Step::App(1, r#"{"jsonrpc":"2.0","id":"$0","error":{"code":-1,"message":"no","data":[1]}}"#),
                &[
                    r#"publish 25910 to c1 [e=$0] {"jsonrpc":"2.0","id":5,"error":{"code":-1,"message":"no","data":[1]}}"#,
                ],
            ),
        ],
    );
}

#[test]
fn ten_thousand_equal_notifications_of_one_second_have_ten_thousand_ids() {
    let mut world = World::new(ServerConfig::default());
    world.from(1, PLAIN, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    for _ in 0..10_000 {
        world.app(1, r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#);
    }
    let ids: std::collections::BTreeSet<_> = world.drafts.iter().map(|draft| draft.id).collect();
    assert_eq!((ids.len(), world.drafts.len()), (10_000, 10_000));
}

#[test]
fn an_answer_to_nothing_and_a_second_answer_are_not_published() {
    check(
        ServerConfig::default(),
        &[
            (
                Step::From(1, PLAIN, r#"{"jsonrpc":"2.0","id":5,"method":"a"}"#),
                &[r#"deliver c1 {"jsonrpc":"2.0","id":"$0","method":"a"}"#],
            ),
            (
                Step::App(2, r#"{"jsonrpc":"2.0","id":"$0","result":{}}"#),
                &["undeliverable nobody UnknownRequest"],
            ),
            (Step::App(1, r#"{"jsonrpc":"2.0","id":5,"result":{}}"#), &["undeliverable c1 UnknownRequest"]),
            (
                Step::App(1, r#"{"jsonrpc":"2.0","id":"$0","result":{}}"#),
                &[
                    r#"publish 25910 to c1 [e=$0,support_encryption,support_encryption_ephemeral,support_repeats] {"jsonrpc":"2.0","id":5,"result":{}}"#,
                ],
            ),
            (
                Step::App(1, r#"{"jsonrpc":"2.0","id":"$0","result":{}}"#),
                &["undeliverable c1 UnknownRequest"],
            ),
        ],
    );
}
