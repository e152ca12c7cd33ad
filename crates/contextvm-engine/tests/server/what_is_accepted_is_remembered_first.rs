//! With a store the application hears of nothing before its id is on disk, in the order in which it came.
use contextvm_core::Limits;
use contextvm_engine::server::Access;
use contextvm_engine::{Record, ServerConfig, ServerInput, ServerOutput};
use contextvm_stream::StreamBody;

use crate::frames::{STREAMS, control, long_call};
use crate::world::{PLAIN, WRAP, World, call, public};

const CANCEL: &str = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#;

fn durable() -> ServerConfig {
    ServerConfig { durable: true, ..ServerConfig::default() }
}

fn delivered(nth: usize, method: &str) -> String {
    format!(r#"deliver c1 {{"jsonrpc":"2.0","id":"${nth}","method":"{method}"}}"#)
}

fn error(message: &str) -> String {
    format!(
        r#"publish 25910 to c1 [e=$0,support_encryption,support_encryption_ephemeral,support_oversized_transfer,support_open_stream,support_repeats] {{"jsonrpc":"2.0","id":1,"error":{{"code":-32000,"message":"{message}"}}}}"#
    )
}

#[test]
fn a_request_waits_for_its_own_record_and_its_answer_waits_for_nothing() {
    let mut world = World::new(durable());
    assert_eq!(world.from(1, WRAP, &call(1, "ping")), ["remember 1 $0"]);
    assert_eq!(world.again(0, WRAP), ["drop Duplicate"]);
    assert_eq!((world.machine.load().held, world.machine.load().unremembered), (1, 1));
    assert!(world.remembered(0).is_empty());
    assert_eq!(world.remembered(1), [delivered(0, "ping")]);
    assert!(world.remembered(1).is_empty(), "once");
    let lines = world.done(0);
    assert_eq!((lines.len(), lines[0].as_str()), (2, "remember 2 answer to $0"));
    assert!(lines[1].starts_with("publish 1059 to c1"), "{lines:?}");
    assert_eq!((world.machine.load().held, world.machine.load().unremembered), (0, 1));
}

#[test]
fn without_a_store_nothing_waits_and_nothing_is_remembered() {
    let mut world = World::new(ServerConfig::default());
    assert_eq!(world.from(1, PLAIN, &call(1, "ping")), [delivered(0, "ping")]);
    assert!(world.done(0)[0].starts_with("publish"));
    assert!(world.records.is_empty());
}

#[test]
fn everything_towards_the_application_keeps_its_order() {
    let mut world = World::new(durable());
    world.from(1, PLAIN, &call(1, "a"));
    world.from(1, PLAIN, NOTE);
    assert_eq!(world.from(1, PLAIN, &call(2, "initialize")), ["remember 3 $2"]);
    assert_eq!(world.from(1, PLAIN, &call(3, "b")), ["remember 4 $3"]);
    assert_eq!(world.machine.load().held, 4);
    let note = format!("deliver c1 {NOTE}");
    assert_eq!(world.remembered(2), [delivered(0, "a"), note]);
    assert_eq!(world.from(1, PLAIN, &call(4, "c")), ["remember 5 $4"]);
    let rest = world.remembered(5);
    let restarted = "restarted c1".to_owned();
    assert_eq!(rest, [restarted, delivered(2, "initialize"), delivered(3, "b"), delivered(4, "c")]);
    assert_eq!(world.from(1, PLAIN, &call(5, "d")), ["remember 6 $5"], "the next one waits again");
}

#[test]
fn what_concerns_no_application_does_not_wait() {
    let access = Access { ask_key: true, ..Access::default() };
    let mut world = World::new(ServerConfig { access, ..durable() });
    assert_eq!(world.from(1, PLAIN, &call(1, "a")), ["ask 0 key c1"]);
    assert_eq!(world.verdict(0, true), ["remember 1 $0"]);
    assert_eq!(world.from(2, PLAIN, &call(1, "a")), ["ask 1 key c2"]);
    assert_eq!(world.again(0, PLAIN), ["drop Duplicate"]);
    let note = r#"{"jsonrpc":"2.0","method":"notifications/message"}"#;
    assert_eq!(world.app(1, note).len(), 1, "the application may write to a caller");
    assert_eq!(world.remembered(1), [delivered(0, "a")]);
}

#[test]
fn what_was_cancelled_meanwhile_is_not_executed() {
    let mut world = World::new(durable());
    let with_token = r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{"progressToken":1}}}"#;
    assert_eq!(world.tagged(1, PLAIN, with_token, STREAMS), ["remember 1 $0"]);
    assert!(world.from(1, PLAIN, CANCEL).is_empty(), "the application hears of neither");
    let load = world.machine.load();
    assert_eq!((load.in_flight, load.held), (0, 1), "the end of a stream that was never offered");
    assert!(world.remembered(1).is_empty());
    assert_eq!(world.machine.load().held, 0);
    assert!(world.done(0)[0].starts_with("undeliverable"));
}

#[test]
fn what_means_nothing_after_a_restart_needs_no_record() {
    let mut world = World::new(durable());
    world.tagged(1, PLAIN, &call(1, "initialize"), &[&["support_server_requests"]]);
    world.remembered(1);
    world.from(1, PLAIN, &call(2, "slow"));
    world.remembered(2);
    let question =
        r#"{"jsonrpc":"2.0","id":"q","method":"roots/list","params":{"_meta":{"progressToken":9}}}"#;
    world.app(1, question);
    let asked = world.drafts.last().unwrap().id.to_hex();
    let progress =
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":9,"progress":1}}"#;
    assert_eq!(world.from(1, PLAIN, progress), [format!("deliver c1 {progress}")]);
    let cancel = CANCEL.replace(":1}", ":2}");
    assert!(world.from(1, PLAIN, &cancel)[0].starts_with("deliver c1"));
    let answer = r#"{"jsonrpc":"2.0","id":"q","result":{}}"#;
    assert_eq!(world.tagged(1, PLAIN, answer, &[&["e", &asked]]), [format!("deliver c1 {answer}")]);
    assert_eq!(world.records.len(), 2, "the requests");
    for nth in 2..5 {
        assert_eq!(world.again(nth, PLAIN), ["drop Duplicate"], "{nth}");
    }
    // Behind something that waits it waits, too, and comes through if that fails.
    world.app(1, &question.replace('q', "r"));
    let asked = world.drafts.last().unwrap().id.to_hex();
    assert_eq!(world.from(1, PLAIN, &call(3, "a")), ["remember 3 $5"]);
    let answer = answer.replace('q', "r");
    assert!(world.tagged(1, PLAIN, &answer, &[&["e", &asked]]).is_empty());
    let lines = world.handle(ServerInput::Unstored { through: 3 });
    assert_eq!(lines.iter().filter(|line| line.starts_with("deliver")).count(), 1, "{lines:?}");
    assert!(lines.contains(&format!("deliver c1 {answer}")), "{lines:?}");
}

#[test]
fn a_session_begins_even_where_that_cannot_be_stored() {
    let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let news = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    for is_stored in [true, false] {
        let mut world = World::new(durable());
        assert_eq!(world.from(1, PLAIN, initialized), ["remember 1 $0"]);
        assert!(world.broadcast(news).is_empty(), "the application has not heard of it");
        let lines =
            if is_stored { world.remembered(1) } else { world.handle(ServerInput::Unstored { through: 1 }) };
        assert!(lines.contains(&format!("deliver c1 {initialized}")), "{lines:?}");
        assert_eq!(world.broadcast(news).len(), 1);
        assert_eq!(world.again(0, PLAIN), ["drop Duplicate"]);
    }
}

#[test]
fn what_a_stalled_store_holds_for_longer_than_a_caller_waits_is_never_executed() {
    let mut world = World::new(durable());
    world.from(1, PLAIN, &call(1, "a"));
    world.from(1, PLAIN, NOTE);
    assert!(world.pass(30).is_empty());
    world.from(1, PLAIN, &call(2, "initialize"));
    assert!(world.pass(29).is_empty());
    let lines = world.pass(1);
    assert_eq!(lines, ["remember 4 answer to $0".to_owned(), error("Not executed: storage is too slow")]);
    let load = world.machine.load();
    assert_eq!((load.in_flight, load.held), (1, 2));
    let rest = [format!("deliver c1 {NOTE}"), "restarted c1".to_owned(), delivered(2, "initialize")];
    assert_eq!(world.remembered(3), rest, "the other one came in time");
    assert!(world.again(0, PLAIN)[0].contains("too slow"));
    assert!(world.pass(120).is_empty(), "what the application has may take its time");
}

#[test]
fn what_was_asked_before_a_new_session_ends_a_minute_after_that_was_heard_of() {
    let mut world = World::new(durable());
    world.from(1, PLAIN, &call(1, "a"));
    world.from(1, PLAIN, &call(2, "initialize"));
    world.from(1, PLAIN, &call(3, "b"));
    assert_eq!(world.remembered(3).len(), 4);
    let lines = world.pass(60);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].contains(r#""id":1,"error":{"code":-32000,"message":"Session restarted""#), "{lines:?}");
    assert_eq!(world.machine.load().in_flight, 2, "not what was asked after it");
}

#[test]
fn the_end_of_a_session_waits_behind_what_the_session_is_to_hear() {
    let limits = Limits { session_idle: core::time::Duration::from_secs(10), ..Limits::default() };
    let mut world = World::new(ServerConfig { limits, ..durable() });
    assert_eq!(world.from(1, PLAIN, NOTE), ["remember 1 $0"]);
    assert!(world.pass(20).is_empty());
    assert_eq!(world.machine.load().stranger_sessions, 0);
    assert_eq!(world.remembered(1), [format!("deliver c1 {NOTE}"), "ended c1".to_owned()]);
}

#[test]
fn what_cannot_be_stored_is_answered_with_an_error_and_never_executed() {
    let mut world = World::new(durable());
    world.from(1, PLAIN, &call(1, "a"));
    world.from(1, PLAIN, NOTE);
    world.from(1, PLAIN, &call(2, "b"));
    let lines = world.handle(ServerInput::Unstored { through: 2 });
    let expected = [
        "remember 4 $0".to_owned(),
        "remember 5 $1".to_owned(),
        "remember 6 answer to $0".to_owned(),
        error("Not executed: storage failed"),
        "drop Unstored".to_owned(),
        "drop Unstored".to_owned(),
    ];
    assert_eq!(lines, expected);
    assert_eq!(world.machine.load().in_flight, 1, "the other one still waits");
    assert_eq!(world.remembered(6), [delivered(2, "b")]);
    let again = world.again(0, PLAIN);
    assert!(again.len() == 1 && again[0].contains("Not executed: storage failed"), "{again:?}");
    assert_eq!(world.again(1, PLAIN), ["drop Duplicate"]);
}

#[test]
fn a_session_is_not_replaced_by_one_that_cannot_be_stored() {
    let mut world = World::new(durable());
    let news = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    world.from(1, PLAIN, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    world.from(1, PLAIN, &call(0, "slow"));
    world.remembered(2);
    let subscribe = r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"a:b"}}"#;
    world.tagged(1, PLAIN, subscribe, STREAMS);
    world.from(1, PLAIN, &call(2, "initialize"));
    let lines = world.handle(ServerInput::Unstored { through: 4 });
    assert!(
        !lines.iter().any(|line| line.starts_with("deliver") || line.starts_with("restarted")),
        "{lines:?}"
    );
    assert_eq!(world.broadcast(news).len(), 1, "the old session goes on");
    assert!(world.pass(120).iter().all(|line| !line.contains("restarted")));
    assert!(world.done(1)[1].contains("result"));
    let update = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a:b"}}"#;
    assert!(world.broadcast(update).is_empty(), "nobody is subscribed");
    assert_eq!(world.from(1, PLAIN, &call(3, "c")).len(), 1);
    let last = world.records.len() as u64;
    assert_eq!(world.remembered(last), [delivered(4, "c")], "the store may come back");
}

#[test]
fn a_closed_session_ends_what_the_application_has_heard_of_and_not_what_begins_the_next_one() {
    let mut world = World::new(durable());
    world.from(1, PLAIN, &call(1, "a"));
    world.remembered(1);
    world.from(1, PLAIN, &call(2, "initialize"));
    let lines = world.handle(ServerInput::SessionClosed(public(1)));
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].contains(r#""id":1,"error":{"code":-32000,"message":"Session closed""#), "{lines:?}");
    assert_eq!(world.remembered(3), ["restarted c1".to_owned(), delivered(1, "initialize")]);
}

#[test]
fn what_was_let_out_and_not_fetched_before_its_session_closed_is_not_executed() {
    let mut world = World::new(durable());
    world.from(1, PLAIN, &call(1, "a"));
    world.tagged(1, PLAIN, &long_call(2, 300), STREAMS);
    world.machine.handle(ServerInput::Remembered { through: 2 }, world.now);
    let first = world.machine.poll_output();
    let Some(ServerOutput::Deliver { event, .. }) = first else { panic!("{first:?}") };
    assert_eq!(event.id, world.events[0].id);
    let lines = world.handle(ServerInput::SessionClosed(public(1)));
    assert!(
        lines.iter().all(|line| line.starts_with("publish") || line.starts_with("remember")),
        "{lines:?}"
    );
    for id in [1, 2] {
        let error =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32000,"message":"Session closed"}}}}"#);
        assert_eq!(lines.iter().filter(|line| line.ends_with(&error)).count(), 1, "{lines:?}");
    }
    assert_eq!(world.machine.load().in_flight, 0);
}

#[test]
fn what_could_not_be_stored_is_tried_again_at_once_then_ever_more_rarely_and_as_soon_as_the_store_works() {
    let mut world = World::new(durable());
    world.from(1, PLAIN, NOTE);
    let through = |world: &World| ServerInput::Unstored { through: world.records.len() as u64 };
    let failed = through(&world);
    assert_eq!(world.handle(failed), ["remember 2 $0", "drop Unstored"]);
    for (pause, number) in [(1, 3), (2, 4), (4, 5), (8, 6), (16, 7), (30, 8), (30, 9)] {
        let failed = through(&world);
        assert!(world.handle(failed).is_empty());
        assert!(world.pass(pause - 1).is_empty());
        assert_eq!(world.pass(1), [format!("remember {number} $0")], "after {pause} s");
    }
    let failed = through(&world);
    assert!(world.handle(failed).is_empty());
    world.from(1, PLAIN, &call(1, "a"));
    assert_eq!(world.remembered(10), [delivered(1, "a"), "remember 11 $0".to_owned()]);
    assert!(
        world
            .disk
            .iter()
            .any(|record| matches!(record, Record::Accepted { key, .. } if *key == world.key(1)))
    );
    world.remembered(11);
    assert!(
        world
            .disk
            .iter()
            .any(|record| matches!(record, Record::Accepted { key, .. } if *key == world.key(0)))
    );
    assert_eq!(world.machine.poll_timeout(), None, "nothing is owed any more");
    // What is too old to come again is let go.
    world.from(1, PLAIN, NOTE.replace("roots", "tools").as_str());
    for _ in 0..2 {
        let failed = through(&world);
        world.handle(failed);
    }
    world.now.unix += 700;
    assert!(world.pass(2).iter().all(|line| !line.starts_with("remember")));
}

#[test]
fn before_the_end_everything_is_given_to_the_store_once_more_without_a_pause() {
    let mut world = World::new(durable());
    world.from(1, PLAIN, NOTE);
    for through in [1, 2] {
        world.handle(ServerInput::Unstored { through });
    }
    assert!(world.handle(ServerInput::Wake).is_empty(), "it pauses");
    world.machine.store_all(world.now);
    assert_eq!(world.handle(ServerInput::Wake), ["remember 3 $0"]);
    assert!(matches!(&world.records[2], Record::Accepted { key, .. } if *key == world.key(0)));
    assert!(world.pass(60).is_empty(), "once");
    world.remembered(3);
    world.machine.store_all(world.now);
    assert!(world.handle(ServerInput::Wake).is_empty(), "nothing is owed any more");
}

#[test]
fn a_store_that_is_far_behind_makes_nothing_grow() {
    let mut world = World::new(durable());
    let text = "x".repeat(60_000);
    let note = |n: u32| {
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/n","params":{{"n":{n},"text":"{text}"}}}}"#)
    };
    let mut taken = 0;
    let refused = loop {
        let lines = world.from(1, PLAIN, &note(taken));
        if lines == ["drop Busy"] {
            break taken;
        }
        taken += 1;
    };
    // Each is held as the event that came, and as the message that is told.
    assert!((60..80).contains(&refused), "{refused}");
    assert_eq!(world.again(refused as usize, PLAIN), ["drop Busy"], "it was not accepted");
    assert_eq!(world.from(1, PLAIN, &call(1, "a")), ["drop Busy"]);
    assert_eq!(world.remembered(u64::from(refused)).len(), refused as usize);
    assert_eq!(world.again(refused as usize, PLAIN).len(), 1);
    assert_eq!(world.machine.load().held, 1);
}

/// Lets these come behind a call that a store does not speak about, and returns how many are held when it is too much.
fn held_of(tags: &[&[&str]], content: impl Fn(u64) -> String) -> u64 {
    let mut world = World::new(durable());
    assert_eq!(world.tagged(1, PLAIN, &long_call(5, 300), STREAMS), ["remember 1 $0"]);
    let mut held = 1;
    while world.tagged(1, PLAIN, &content(held), tags) != ["drop Busy"] {
        held += 1;
        assert_eq!(world.machine.load().held as u64, held);
        assert!(held < 1_000, "without end");
    }
    let last = world.records.len() as u64;
    assert_eq!(world.remembered(last).len() as u64, held);
    assert_eq!(world.machine.load().held, 0);
    assert_eq!(world.again(held as usize, PLAIN).len(), 1, "there is room again, and it was not accepted");
    held
}

#[test]
fn what_needs_no_record_and_what_is_small_beside_its_tags_does_not_grow_either() {
    let text = "x".repeat(60_000);
    let chunks =
        held_of(&[], |n| control("t", n, StreamBody::Chunk { index: n, data: text.as_str().into() }));
    assert!((60..80).contains(&chunks), "{chunks}");
    let notes = held_of(&[&["large", &text]], |n| {
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/n","params":{{"n":{n}}}}}"#)
    });
    assert!((120..150).contains(&notes), "{notes}");
}

#[test]
fn answers_are_given_though_nobody_keeps_them() {
    let mut world = World::new(durable());
    for n in 0..100 {
        world.from(1 + n % 8, PLAIN, &call(n, "a"));
    }
    world.remembered(100);
    let long = "x".repeat(120_000);
    for nth in 0..100 {
        let id = world.events[nth].id.to_hex();
        let message = format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"text":"{long}"}}}}"#);
        let to = world.events[nth].pubkey;
        world.handle(ServerInput::Send { to, message });
    }
    let kept = world.records.iter().filter(|record| matches!(record, Record::Answered { .. })).count();
    assert_eq!(world.drafts.len(), 100);
    assert!(world.drafts.iter().all(|draft| draft.content.contains("result")));
    assert!((50..90).contains(&kept), "{kept}");
    assert_eq!(world.machine.load().unremembered, kept);
}
