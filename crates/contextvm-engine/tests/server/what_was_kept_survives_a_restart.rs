//! What an earlier run accepted is never executed again: its answer is given again, or the caller is told of the restart.
use contextvm_core::{Limits, tags};
use contextvm_engine::{Origin, Record, RequestKey, ServerConfig, ServerInput};
use contextvm_transfer::{FrameBody, Handshake};
use nostr::event::EventId;

use crate::frames::{OVERSIZED, cut, frame, long_call};
use crate::world::{EPHEMERAL, PLAIN, START, WRAP, World, call, event, public};

const LOST: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"Executed or interrupted; its answer is not kept"}}"#;

fn durable() -> ServerConfig {
    ServerConfig { durable: true, accept_from: START, ..ServerConfig::default() }
}

/// A world in which caller 1 has asked event 0, and the store has everything.
fn asked(protection: contextvm_core::Protection) -> World {
    let mut world = World::new(durable());
    world.from(1, protection, &call(1, "ping"));
    assert_eq!(world.remembered(1).len(), 1);
    world
}

fn restart(world: &mut World) {
    let records = world.records.clone();
    world.restart(durable(), records);
}

#[test]
fn a_kept_answer_is_given_again_byte_for_byte() {
    for protection in [PLAIN, WRAP, EPHEMERAL] {
        let mut world = asked(protection);
        world.done(0);
        let first = world.drafts[0].clone();
        restart(&mut world);
        for _ in 0..2 {
            world.pass(1);
            let lines = world.again(0, protection);
            assert_eq!(lines.len(), 1, "{lines:?}");
            let draft = world.drafts.last().unwrap();
            assert_eq!((&draft.content, &draft.tags), (&first.content, &first.tags));
            assert_eq!(draft.id == first.id, protection.is_encrypted(), "relays pass a plain id on once");
        }
        assert!(world.records.is_empty(), "it is there already");
    }
}

#[test]
fn an_answer_without_its_acceptance_forbids_to_execute_whether_it_is_kept_or_not() {
    let mut world = asked(PLAIN);
    world.done(0);
    let answered = |record: &Record| matches!(record, Record::Answered { .. });
    let records: Vec<Record> = world.records.iter().filter(|record| answered(record)).cloned().collect();
    assert_eq!(records.len(), 1);
    world.restart(durable(), records.clone());
    assert_eq!(world.again(0, PLAIN).len(), 1, "the answer");
    let no_room = Limits { ledger_bytes: 10, ..Limits::default() };
    world.restart(ServerConfig { limits: no_room, ..durable() }, records);
    assert_eq!(world.again(0, PLAIN), [format!("publish 25910 to c1 [e=$0] {LOST}")]);
}

#[test]
fn what_was_not_answered_gets_a_named_error_once_and_then_as_a_kept_answer() {
    let mut world = asked(PLAIN);
    restart(&mut world);
    let first = world.again(0, PLAIN);
    assert_eq!(first, ["remember 1 answer to $0".to_owned(), format!("publish 25910 to c1 [e=$0] {LOST}")]);
    let again = world.again(0, PLAIN);
    assert_eq!(again, [format!("publish 25910 to c1 [e=$0] {LOST}")]);
    let (id, error) = (world.key(0), world.records.clone());
    let records = [Record::Accepted { key: id, stamp: START, protection: PLAIN, origin: Origin::Request }];
    world.restart(durable(), error.into_iter().chain(records).collect());
    assert_eq!(world.again(0, PLAIN), [format!("publish 25910 to c1 [e=$0] {LOST}")], "in any order");
}

#[test]
fn notifications_and_answers_are_swallowed_as_ever() {
    let mut world = World::new(durable());
    world.from(1, PLAIN, r#"{"jsonrpc":"2.0","method":"notifications/n"}"#);
    restart(&mut world);
    assert_eq!(world.again(0, PLAIN), ["drop Duplicate"]);
    assert_eq!(world.from(1, PLAIN, r#"{"jsonrpc":"2.0","method":"notifications/n","params":{}}"#).len(), 1);
}

#[test]
fn who_asked_in_a_wrap_is_not_told_in_clear() {
    let mut world = asked(WRAP);
    restart(&mut world);
    assert!(world.again(0, PLAIN)[1].starts_with("publish 1059 to c1"));
}

#[test]
fn the_end_frame_of_a_transferred_request_stands_for_it() {
    let message = long_call(5, 9_000);
    let mut world = World::new(durable());
    world.tagged(1, PLAIN, &call(0, "initialize"), OVERSIZED);
    world.remembered(1);
    world.done(0);
    let frames = cut("t", &message, Handshake::Skip);
    for (at, content) in frames.iter().enumerate() {
        world.tagged(1, PLAIN, content, if at == 0 { OVERSIZED } else { &[] });
    }
    let end = world.events.len() - 1;
    let origin = |record: &Record| match record {
        Record::Accepted { origin, .. } => Some(origin.clone()),
        Record::Answered { .. } => None,
    };
    let transfer = Origin::Transfer("5".to_owned());
    let last: Vec<_> = world.records.iter().rev().take(2).filter_map(origin).collect();
    assert_eq!(last, [transfer, Origin::Note], "the end frame, and before it the start");
    assert_eq!(world.remembered(4).len(), 1, "delivered");
    restart(&mut world);
    let lines = world.again(end, PLAIN);
    assert!(
        lines[1].contains(r#""id":5,"error":{"code":-32000,"message":"Executed or interrupted"#),
        "{lines:?}"
    );
    let frames: Vec<_> = (1..=end).flat_map(|nth| world.again(nth, PLAIN)).collect();
    assert!(!frames.iter().any(|line| line.starts_with("deliver")), "{frames:?}");
    // Nor under another end frame, with which a caller ends another transfer of the same token.
    world.from(1, PLAIN, &call(0, "initialize"));
    world.remembered(9);
    world.done(world.events.len() - 1);
    (1..end).for_each(|nth| drop(world.again(nth, PLAIN)));
    let lines = world.from(1, PLAIN, &frame("t", 90, FrameBody::End));
    assert!(!lines.iter().any(|line| line.starts_with("deliver")), "{lines:?}");
}

#[test]
fn an_id_that_is_too_long_to_keep_is_not_kept_where_there_is_no_room_either() {
    let limits = Limits { in_flight: 2, in_flight_per_caller: 1, ..Limits::default() };
    let access = contextvm_engine::server::Access {
        allowed: Some([public(1)].into()),
        ask_key: true,
        ..Default::default()
    };
    let mut world = World::new(ServerConfig { access, limits, ..durable() });
    world.tagged(1, PLAIN, &call(0, "initialize"), OVERSIZED);
    world.verdict(0, true);
    world.remembered(1);
    world.done(0);
    let message = long_call(5, 9_000).replace(r#""id":5"#, &format!(r#""id":"{}""#, "i".repeat(5_000)));
    let frames = cut("t", &message, Handshake::Skip);
    let (last, before) = frames.split_last().unwrap();
    for (at, content) in before.iter().enumerate() {
        world.tagged(1, PLAIN, content, if at == 0 { OVERSIZED } else { &[] });
    }
    world.from(1, PLAIN, &call(2, "ping"));
    assert!(world.from(1, PLAIN, last).contains(&"drop Busy".to_owned()));
    for record in &world.records {
        let Record::Accepted { origin: Origin::Transfer(id), .. } = record else { continue };
        assert!(id.len() <= 128, "{} bytes", id.len());
    }
}

#[test]
fn a_transferred_request_whose_id_is_too_long_to_keep_is_turned_away() {
    let id = "i".repeat(200);
    let message = long_call(5, 9_000).replace(r#""id":5"#, &format!(r#""id":"{id}""#));
    let mut world = World::new(durable());
    world.tagged(1, PLAIN, &call(0, "initialize"), OVERSIZED);
    world.remembered(1);
    world.done(0);
    for (at, content) in cut("t", &message, Handshake::Skip).iter().enumerate() {
        world.tagged(1, PLAIN, content, if at == 0 { OVERSIZED } else { &[] });
    }
    let abort = &world.drafts.last().unwrap().content;
    assert!(abort.contains("abort") && abort.contains("malformed"), "{abort}");
    assert_eq!((world.machine.load().in_flight, world.records.len()), (0, 3), "its start is remembered");
    // In one event it may have any length.
    assert_eq!(world.from(1, PLAIN, &call(6, "a").replace('6', &format!("\"{id}\""))).len(), 1);
}

#[test]
fn more_ids_than_there_is_room_for_are_all_taken_and_new_work_is_refused_until_they_are_old() {
    let limits = Limits { seen_ids: 8, ..Limits::default() };
    let config = ServerConfig { limits, ..durable() };
    let mut world = World::new(config.clone());
    for n in 0..6 {
        world.from(1, PLAIN, &call(n, "a"));
    }
    let more = (0..20_u8).map(|n| {
        let key = RequestKey { caller: public(2), id: EventId::from_byte_array([n; 32]) };
        Record::Accepted { key, stamp: START, protection: PLAIN, origin: Origin::Note }
    });
    let records = world.records.clone().into_iter().chain(more).collect();
    world.restart(config, records);
    assert_eq!(world.machine.load().seen_ids, 26);
    for nth in 0..6 {
        assert!(world.again(nth, PLAIN)[1].contains("interrupted"));
    }
    assert_eq!(world.from(1, PLAIN, &call(7, "a")), ["drop SeenFull"]);
    world.pass(661);
    assert_eq!(world.from(1, PLAIN, &call(8, "a")).len(), 1);
    assert_eq!(world.machine.load().seen_ids, 1);
}

#[test]
fn records_that_are_too_old_are_left_out_and_their_stamps_are_refused() {
    let mut world = asked(PLAIN);
    world.done(0);
    let records = world.records.clone();
    world.now.unix += 700;
    world.restart(durable(), records);
    let load = world.machine.load();
    assert_eq!((load.seen_ids, load.ledger_bytes), (0, 0));
    world.now.unix -= 650;
    assert_eq!(world.again(0, PLAIN), ["drop Stale"], "the clock went back");
}

#[test]
fn a_restored_answer_lives_as_long_as_it_would_have() {
    let mut world = asked(WRAP);
    world.done(0);
    let records = world.records.clone();
    world.now.unix += 400;
    world.restart(durable(), records);
    assert!(world.machine.load().ledger_bytes > 0);
    world.pass(250);
    assert!(world.machine.load().ledger_bytes > 0);
    world.pass(11);
    assert_eq!(world.machine.load().ledger_bytes, 0);
}

#[test]
fn what_was_sent_while_the_server_was_away_is_taken() {
    let mut world = asked(PLAIN);
    world.now.unix += 30;
    restart(&mut world);
    let meanwhile = event(1, world.now.unix - 10, &call(2, "ping"), &[]);
    let lines = world.arrives(1, PLAIN, meanwhile);
    assert_eq!(lines, ["remember 1 $1"]);
    assert_eq!(world.remembered(1).len(), 1);
}

#[test]
fn who_was_asked_by_the_application_before_is_not_heard_after() {
    let mut world = World::new(durable());
    world.tagged(1, PLAIN, &call(0, "initialize"), &[&["support_server_requests"]]);
    world.remembered(1);
    world.done(0);
    let lines = world.app(1, r#"{"jsonrpc":"2.0","id":"q","method":"roots/list"}"#);
    assert!(lines[0].starts_with("publish"), "{lines:?}");
    let question = world.drafts.last().unwrap().id.to_hex();
    restart(&mut world);
    let answer = r#"{"jsonrpc":"2.0","id":"q","result":{}}"#;
    assert_eq!(world.tagged(1, PLAIN, answer, &[&["e", &question]]), ["drop Uncorrelated"]);
    assert_eq!(tags::answered_id(&world.events.last().unwrap().tags).map(|id| id.to_hex()), Some(question));
}

#[test]
fn a_failed_store_and_a_restart_execute_nothing_either() {
    let mut world = World::new(durable());
    world.from(1, PLAIN, &call(1, "ping"));
    let lines = world.handle(ServerInput::Unstored { through: 1 });
    assert_eq!(lines[..2], ["remember 2 $0", "remember 3 answer to $0"], "the id comes first");
    assert!(world.disk.is_empty());
    world.remembered(3);
    assert_eq!(world.disk.len(), 2);
    let disk = world.disk.clone();
    for left_out in [None, Some(0), Some(1)] {
        let mut records = disk.clone();
        left_out.map(|nth| records.remove(nth));
        world.restart(durable(), records);
        let lines = world.again(0, PLAIN);
        let answer = lines.last().unwrap();
        assert!(answer.contains("Not executed") || answer.contains("its answer is not kept"), "{lines:?}");
        assert!(!lines.iter().any(|line| line.starts_with("remember 1 $0")), "{lines:?}");
    }
}

#[test]
fn what_a_relay_kept_for_longer_than_a_caller_waits_is_neither_executed_nor_answered_again() {
    let mut world = World::new(durable());
    for n in 0..3 {
        world.from(1, WRAP, &call(n, "ping"));
    }
    world.remembered(3);
    world.done(0);
    world.remembered(4);
    let disk = world.disk.clone();
    for (seconds, is_young) in [(60, true), (61, false)] {
        world.now.unix = START + seconds;
        let missed = event(1, START, &call(9, "ping"), &[]);
        world.restart(durable(), disk.clone());
        let stored: Vec<_> = world.events[..3].to_vec();
        for (nth, event) in stored.into_iter().enumerate() {
            let lines = world.kept_by_relay(1, WRAP, event.clone());
            if is_young {
                let says = if nth == 0 { "result" } else { "its answer is not kept" };
                assert!(lines.last().unwrap().contains(says), "{lines:?}");
            } else {
                assert_eq!(lines, ["drop Duplicate"], "{seconds}");
                assert!(
                    world.arrives(1, WRAP, event)[0].starts_with("publish") == (nth == 0),
                    "who asks now"
                );
            }
        }
        let lines = world.kept_by_relay(1, WRAP, missed.clone());
        assert_eq!(lines == ["drop Stale"], !is_young, "{lines:?}");
        if !is_young {
            assert!(world.arrives(1, WRAP, missed)[0].starts_with("remember"), "it is asked for now");
            let note = event(1, START, r#"{"jsonrpc":"2.0","method":"notifications/n"}"#, &[]);
            assert!(
                world.kept_by_relay(1, WRAP, note)[0].starts_with("remember"),
                "nobody waits for it anyway"
            );
        }
    }
}

#[test]
fn an_old_request_without_a_kept_answer_is_told_so_a_few_times_a_minute() {
    let mut world = World::new(durable());
    for n in 0..20 {
        world.from(1, PLAIN, &call(n, "ping"));
    }
    world.remembered(20);
    let disk = world.disk.clone();
    world.now.unix += 61;
    world.restart(durable(), disk);
    let told = (0..20).filter(|nth| world.again(*nth, PLAIN)[0].starts_with("remember")).count();
    assert_eq!(told, 6, "a tenth of what all strangers have");
    assert!(world.drafts.iter().all(|draft| draft.content.contains("its answer is not kept")));
}

#[test]
fn a_cancellation_of_an_earlier_run_cancels_nothing_of_this_one() {
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    let mut world = asked(PLAIN);
    assert!(world.from(1, PLAIN, cancel)[0].starts_with("deliver"));
    restart(&mut world);
    world.pass(1);
    let again = event(1, world.now.unix, &call(1, "ping"), &[]);
    world.arrives(1, PLAIN, again);
    assert_eq!(world.remembered(1).len(), 1);
    assert_eq!(world.again(1, PLAIN), ["drop BeforeStart"]);
    assert!(world.done(2)[1].contains("result"), "its client counts from one again");
}
