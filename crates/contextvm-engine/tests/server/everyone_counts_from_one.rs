//! Equal ids and tokens of many callers, and of one caller, are never mixed up (T15, T12).
use contextvm_core::Limits;
use contextvm_engine::{Outcome, ServerConfig};
use contextvm_stream::StreamBody;
use contextvm_transfer::{FrameBody, Handshake};

use crate::frames::{STREAMS, assembled, control, cut, frame, long_call, met, types};
use crate::world::{PLAIN, Step, World, check, public};

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
fn twelve_clients_transfer_under_one_token_at_once() {
    let mut world = met(ServerConfig::default(), 1..13);
    let message = |n: u32| long_call(5, 4_000).replace("echo", &format!("echo{n}"));
    let frames: Vec<_> = (1..13).map(|n| cut("t", &message(n), Handshake::Skip)).collect();
    let mut ends = Vec::new();
    for at in 0..frames[0].len() {
        for (n, frames) in (1..).zip(&frames) {
            let lines = world.from(n, PLAIN, &frames[at]);
            assert_eq!(lines.len(), usize::from(at == 0 || at + 1 == frames.len()), "{lines:?}");
            if at + 1 == frames.len() {
                assert!(lines[0].starts_with(&format!("deliver c{n} ")), "{lines:?}");
                assert!(lines[0].contains(&format!(r#""echo{n}""#)));
                ends.push(world.events.len() - 1);
            }
        }
    }
    // Their answers run at once under the same token, too.
    world.pass(1);
    world.outcome = None;
    world.drafts.clear();
    for (n, nth) in (1..).zip(ends) {
        let text = format!("{n}-").repeat(100_000);
        let id = world.events[nth].id.to_hex();
        world.app(n, &format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"text":"{text}"}}}}"#));
    }
    assert_eq!(world.machine.load().transfers_out, 12);
    world.from(3, PLAIN, &frame("t", 9, FrameBody::Abort(None)));
    assert_eq!(world.machine.load().transfers_out, 11);
    while !world.tickets.is_empty() {
        let ticket = world.tickets.remove(0);
        world.outcome_of(ticket, Outcome::Accepted);
    }
    for n in 1..13 {
        let hex = public(n).to_hex();
        let own: Vec<_> =
            world.drafts.iter().filter(|draft| draft.tags[0].as_slice()[1] == hex).cloned().collect();
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":5,"result":{{"text":"{}"}}}}"#,
            format!("{n}-").repeat(100_000)
        );
        assert!(assembled(&own) == (n != 3).then_some(text), "caller {n}");
    }
}

#[test]
fn streams_under_one_token_are_each_their_callers_own() {
    let mut world = World::new(ServerConfig::default());
    for n in 1..21 {
        world.tagged(n, PLAIN, &long_call(5, 300), STREAMS);
        world.write(n as usize - 1, "text").0.unwrap();
    }
    for n in 1..21 {
        world.drafts.clear();
        world.from(n, PLAIN, &control("t", 1, StreamBody::Ping(format!("from {n}").into())));
        assert_eq!(types(&world.drafts), ["pong"]);
        assert_eq!(world.drafts[0].tags[0].as_slice()[1], public(n).to_hex());
        assert!(world.drafts[0].content.contains(&format!("from {n}")));
    }
    let lines = world.from(7, PLAIN, &control("t", 2, StreamBody::Abort(None)));
    assert_eq!(lines.last().unwrap(), "failed $6 Aborted");
    assert_eq!(world.machine.load().streams, 19);
}

#[test]
fn two_streams_of_one_caller_under_one_token_each_end_with_their_own_request() {
    let mut world = World::new(ServerConfig::default());
    for id in 5..7 {
        world.tagged(1, PLAIN, &long_call(id, 300), STREAMS);
        world.write(id as usize - 5, "text").0.unwrap();
    }
    let frames: Vec<_> = world.drafts.iter().map(|draft| draft.tags[1].as_slice()[1].clone()).collect();
    let ids: Vec<_> = world.events.iter().map(|event| event.id.to_hex()).collect();
    assert_eq!(
        frames,
        [ids[0].clone(), ids[0].clone(), ids[1].clone(), ids[1].clone()],
        "`e` tells them apart"
    );
    assert_eq!(world.done(1)[1..2], ["closed $1"]);
    assert_eq!(world.machine.load().streams, 1);
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
fn progress_names_its_request_to_a_client_that_may_have_had_its_token_in_an_earlier_life() {
    let progress =
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"$0","progress":1}}"#;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{"progressToken":7}}}"#;
    for (flag, is_named) in [("support_unordered_streams", true), ("support_open_stream", false)] {
        let mut world = World::new(ServerConfig::default());
        world.tagged(1, PLAIN, call, &[&[flag]]);
        assert_eq!(world.app(1, progress)[0].contains("[e=$0"), is_named, "{flag}");
    }
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
                    r#"publish 25910 to c1 [e=$1,support_encryption,support_encryption_ephemeral,support_oversized_transfer,support_open_stream,support_repeats] {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"\u0035","progress":0.50}}"#,
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
                    r#"publish 25910 to c1 [e=$0,support_encryption,support_encryption_ephemeral,support_oversized_transfer,support_open_stream,support_repeats] {"jsonrpc":"2.0","id":5,"result":{}}"#,
                ],
            ),
            (
                Step::App(1, r#"{"jsonrpc":"2.0","id":"$0","result":{}}"#),
                &["undeliverable c1 UnknownRequest"],
            ),
        ],
    );
}
