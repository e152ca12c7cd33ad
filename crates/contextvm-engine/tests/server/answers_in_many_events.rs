//! An answer that relays would not take whole goes in pieces, arrives equal, and is given again like any other.
use contextvm_core::size::wrapped_event_size;
use contextvm_core::{Draft, Limits, Protection};
use contextvm_engine::{Outcome, ServerConfig, ServerInput};
use contextvm_transfer::FrameBody;
use nostr::event::Tag;

use crate::frames::{OVERSIZED, assembled, frame, long_answer, long_call, tag_names, types};
use crate::world::{PLAIN, WRAP, World, call, keys, public};

/// A world in which caller 1 has asked something with event 0 and understands transfers.
fn asked(config: ServerConfig, protection: Protection) -> World {
    let mut world = World::new(config);
    world.tagged(1, protection, &long_call(5, 300), OVERSIZED);
    world
}

/// What the caller is to read.
fn expected(world: &World, bytes: usize) -> String {
    long_answer(world, 0, bytes).replacen(&format!("\"{}\"", world.events[0].id.to_hex()), "5", 1)
}

fn published_size(draft: &Draft, protection: Protection) -> usize {
    let event = keys(0).sign_draft(draft, [3; 32]).as_json().len();
    if protection == PLAIN { event } else { wrapped_event_size(event) }
}

/// Reports the outcomes of everything that is on its way, until nothing is, as a relay would that judges drafts.
fn settle(world: &mut World, judge: impl Fn(&Draft) -> Outcome) -> Vec<String> {
    let mut lines = Vec::new();
    let mut seen = world.drafts.len() - world.tickets.len();
    while let Some(draft) = world.drafts.get(seen).cloned() {
        let ticket = world.tickets.remove(0);
        seen += 1;
        lines.extend(world.outcome_of(ticket, judge(&draft)));
    }
    lines
}

#[test]
fn it_goes_whole_as_long_as_relays_take_it() {
    // Bytes of content that relays take in one event, and limits that they state.
    let table = [
        (PLAIN, 64_500, None),
        (WRAP, 40_400, None),
        (PLAIN, 129_500, Some(400_000)),
        (PLAIN, 15_700, Some(1)),
    ];
    for (protection, most, limit) in table {
        for (bytes, whole) in [(most - 200, true), (most + 900, false), (1_000_000, false)] {
            let mut world = asked(ServerConfig::default(), protection);
            world.handle(ServerInput::RelayLimit(limit.unwrap_or(65_280)));
            // A break takes three bytes in an event: what is measured is what is escaped.
            let answer = long_answer(&world, 0, bytes * 3 / 4);
            world.app(1, &answer);
            let wanted = expected(&world, bytes * 3 / 4);
            if whole {
                assert_eq!(types(&world.drafts), ["answer"], "{protection:?} {bytes}");
                assert_eq!(world.drafts[0].content, wanted);
            } else {
                assert_eq!(types(&world.drafts)[0], "start", "{protection:?} {bytes}");
                assert_eq!(assembled(&world.drafts), Some(wanted));
            }
            let largest = world.drafts.iter().map(|draft| published_size(draft, protection)).max().unwrap();
            let limit = limit.map_or(65_280, |limit: usize| limit.clamp(16 * 1_024, 128 * 1_024));
            assert!(largest <= limit, "{largest} {limit}");
            // Whatever fits is used: three quarters of the limit is the coarsest that sealing pads to.
            assert!(whole || largest > limit * 3 / 4, "{largest} {limit}");
        }
    }
}

#[test]
fn without_the_flag_or_a_token_it_goes_whole_or_not_at_all() {
    let without_token = r#"{"jsonrpc":"2.0","id":5,"method":"a"}"#;
    let empty_token = r#"{"jsonrpc":"2.0","id":5,"method":"a","params":{"_meta":{"progressToken":""}}}"#;
    for (content, tags) in
        [(long_call(5, 99), &[][..]), (without_token.into(), OVERSIZED), (empty_token.into(), OVERSIZED)]
    {
        for (bytes, is_sent) in [(90_000, true), (140_000, false)] {
            let mut world = World::new(ServerConfig::default());
            world.tagged(1, PLAIN, &content, tags);
            let answer = long_answer(&world, 0, bytes);
            let lines = world.app(1, &answer);
            assert_eq!(types(&world.drafts), ["answer"]);
            let why = r#"{"jsonrpc":"2.0","id":5,"error":{"code":-32603,"message":"Answer is larger than one event may be"}}"#;
            assert_eq!(lines[0].ends_with(why), !is_sent, "{bytes}");
            assert_eq!(lines[1..].len(), usize::from(!is_sent));
        }
    }
}

#[test]
fn what_is_too_large_for_a_transfer_is_an_error() {
    let limits = Limits { transfer_bytes: 200_000, ..Limits::default() };
    let mut world = asked(ServerConfig { limits, ..ServerConfig::default() }, PLAIN);
    let answer = long_answer(&world, 0, 201_000);
    let tags = vec![Tag::custom("cap", ["tool:a"])];
    let lines = world.handle(ServerInput::Answer { to: public(1), message: answer, tags });
    assert!(lines[0].contains(r#""error":{"code":-32603"#), "{lines:?}");
    assert_eq!(lines[1..], ["undeliverable c1 TooLarge"]);
    assert_eq!(world.machine.load().transfers_out, 0);
}

#[test]
fn who_we_are_is_on_the_start_and_what_is_said_of_it_on_the_end() {
    let mut world = asked(ServerConfig::default(), PLAIN);
    let message = long_answer(&world, 0, 200_000);
    let tags = vec![Tag::custom("cap", ["tool:a", "1", "sats"])];
    world.handle(ServerInput::Answer { to: public(1), message, tags });
    let e = world.events[0].id.to_hex();
    assert!(world.drafts.iter().all(|draft| draft.tags[1].as_slice() == ["e".to_owned(), e.clone()]));
    let names: Vec<_> = world.drafts.iter().map(tag_names).collect();
    assert_eq!(
        names[0],
        [
            "e",
            "support_encryption",
            "support_encryption_ephemeral",
            "support_oversized_transfer",
            "support_open_stream",
            "support_repeats"
        ]
    );
    let (last, chunks) = names[1..].split_last().unwrap();
    assert!(chunks.len() > 3 && chunks.iter().all(|names| *names == ["e"]));
    assert_eq!(*last, ["e", "cap"]);
    // The caller was told.
    world.from(1, PLAIN, &call(6, "ping"));
    assert!(world.done(1)[0].contains("[e=$1] "));
}

#[test]
fn a_repeat_while_it_runs_is_ignored_and_afterwards_fills_the_gaps() {
    let mut world = asked(ServerConfig::default(), PLAIN);
    world.outcome = None;
    let answer = long_answer(&world, 0, 400_000);
    world.app(1, &answer);
    assert_eq!(world.again(0, PLAIN), ["drop Duplicate"]);
    settle(&mut world, |_| Outcome::Accepted);
    assert_eq!(types(&world.drafts).last().unwrap(), "end");
    let first = core::mem::take(&mut world.drafts);
    let load = world.machine.load();
    assert!(
        load.transfers_out == 1 && load.transfers_out_bytes > 400_000 && load.ledger_bytes == 0,
        "{load:?}"
    );
    world.outcome = Some(Outcome::Accepted);
    for lost in [1, 3] {
        world.again(0, WRAP);
        assert_eq!(types(&world.drafts), types(&first));
        assert!(
            world.drafts.iter().all(|draft| first.iter().all(|other| other.id != draft.id)),
            "relays know ids"
        );
        // What was lost the first time is filled by the second, of which only that arrives.
        let mut arrived = first.clone();
        arrived[lost] = world.drafts[lost].clone();
        assert_eq!(assembled(&arrived), Some(expected(&world, 400_000)));
        assert_eq!(assembled(&core::mem::take(&mut world.drafts)), Some(expected(&world, 400_000)));
    }
    assert_eq!(world.again(0, PLAIN), ["drop Duplicate"], "nobody makes us send it for ever");
    world.pass(1);
    world.again(0, PLAIN);
    assert_eq!(types(&world.drafts), types(&first));
    world.pass(700);
    assert_eq!(world.machine.load().transfers_out_bytes, 0);
    assert_eq!(world.again(0, PLAIN).len(), 1);
}

#[test]
fn what_lingers_makes_room_and_what_runs_does_not() {
    let limits = Limits { transfers_bytes: 1_000_000, ..Limits::default() };
    let mut world = World::new(ServerConfig { limits, ..ServerConfig::default() });
    world.outcome = None;
    for n in 1..7 {
        world.tagged(n, PLAIN, &long_call(n, 300), OVERSIZED);
    }
    let answer = |world: &World, nth| long_answer(world, nth, 400_000);
    for nth in 0..2_usize {
        let answer = answer(&world, nth);
        world.app(u32::try_from(nth).unwrap() + 1, &answer);
    }
    let third = answer(&world, 2);
    let lines = world.app(3, &third);
    assert!(lines[0].ends_with(r#""error":{"code":-32000,"message":"Busy"}}"#), "{lines:?}");
    assert_eq!(lines[1], "undeliverable c3 Busy");
    settle(&mut world, |_| Outcome::Accepted);
    assert_eq!(world.machine.load().transfers_out, 2);
    for (nth, n) in [(3, 4), (4, 5)] {
        let answer = answer(&world, nth);
        world.app(n, &answer);
        let load = world.machine.load();
        assert!(load.transfers_out == 2 && load.transfers_out_bytes <= 1_000_000, "{load:?}");
    }
    let again = world.again(0, PLAIN);
    assert!(again[0].contains("its answer is not kept"), "it made room: {again:?}");
}

#[test]
fn one_caller_does_not_take_all_the_room() {
    let limits = Limits { transfers_bytes: 1_000_000, ..Limits::default() };
    let mut world = World::new(ServerConfig { limits, ..ServerConfig::default() });
    world.outcome = None;
    for n in 0..4 {
        world.tagged(1, PLAIN, &long_call(n, 300), OVERSIZED);
    }
    for nth in 0..4 {
        let answer = long_answer(&world, nth, 200_000);
        let busy = world.app(1, &answer).iter().any(|line| line == "undeliverable c1 Busy");
        assert_eq!(busy, nth == 3);
    }
}

#[test]
fn frames_are_on_their_way_in_turns_and_few_at_once() {
    let mut world = World::new(ServerConfig::default());
    world.outcome = None;
    for n in 1..11 {
        world.tagged(n, PLAIN, &long_call(n, 300), OVERSIZED);
    }
    for n in 1..11 {
        let answer = long_answer(&world, n as usize - 1, 2_000_000);
        world.app(n, &answer);
    }
    assert_eq!(types(&world.drafts), vec!["start"; 10]);
    let mut sent = [0_u32; 10];
    for step in 0..300 {
        assert!(world.tickets.len() <= 48, "{}", world.tickets.len());
        let draft = &world.drafts[step];
        let to = draft.tags[0].as_slice()[1].clone();
        let n = (1..11).find(|n| public(*n).to_hex() == to).unwrap();
        sent[n as usize - 1] += 1;
        let (low, high) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
        assert!(high - low < 16, "nobody is ahead by more than a window: {sent:?}");
        let ticket = world.tickets.remove(0);
        world.outcome_of(ticket, Outcome::Accepted);
    }
    assert_eq!(world.tickets.len(), 48);
}

#[test]
fn relays_that_refuse_the_size_get_smaller_frames_from_then_on() {
    for protection in [PLAIN, WRAP] {
        let mut world = asked(ServerConfig::default(), protection);
        world.outcome = None;
        let takes = |draft: &Draft| published_size(draft, protection) <= 40_000;
        let judge = |draft: &Draft| match takes(draft) {
            true => Outcome::Accepted,
            false => Outcome::Refused("invalid: event is too large".to_owned()),
        };
        let answer = long_answer(&world, 0, 300_000);
        world.app(1, &answer);
        settle(&mut world, judge);
        let names = types(&world.drafts);
        assert_eq!(names.iter().filter(|name| *name == "abort").count(), 1, "{names:?}");
        assert!(world.drafts.iter().any(|draft| draft.content.contains("restart with smaller chunks")));
        let arrived: Vec<_> = world.drafts.drain(..).filter(takes).collect();
        assert_eq!(assembled(&arrived), Some(expected(&world, 300_000)));
        world.tagged(1, protection, &long_call(6, 300), OVERSIZED);
        let answer = long_answer(&world, 1, 300_000);
        world.app(1, &answer);
        settle(&mut world, judge);
        assert!(!types(&world.drafts).contains(&"abort".to_owned()), "it is remembered");
        assert!(assembled(&world.drafts).is_some());
    }
}

#[test]
fn relays_that_refuse_the_size_of_a_whole_answer_get_the_next_one_in_pieces() {
    let bytes = 37_500;
    let mut world = World::new(ServerConfig::default());
    world.outcome = None;
    let judge = |draft: &Draft| match published_size(draft, PLAIN) <= 40_000 {
        true => Outcome::Accepted,
        false => Outcome::Refused("invalid: event too large".to_owned()),
    };
    world.from(1, PLAIN, &call(1, "big"));
    let answer = long_answer(&world, 0, bytes);
    world.app(1, &answer);
    assert!((49_000..52_000).contains(&published_size(&world.drafts[0], PLAIN)));
    for _ in 0..60 {
        settle(&mut world, judge);
        world.pass(1);
    }
    let (last, tries) = world.drafts.split_last().unwrap();
    assert!(tries.len() == 6 && tries.iter().all(|draft| draft == &world.drafts[0]), "{}", tries.len());
    let error =
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"Answer is larger than relays take"}}"#;
    assert_eq!(last.content, error);
    assert_eq!(world.machine.load().publications, 0);
    assert!(world.again(0, PLAIN)[0].ends_with(error), "one request has one answer");
    settle(&mut world, judge);
    for (tags, first) in [(&[][..], "answer"), (OVERSIZED, "start")] {
        world.drafts.clear();
        let nth = world.events.len();
        world.tagged(2, PLAIN, &long_call(5, 300 + nth * 3), tags);
        let answer = long_answer(&world, nth, bytes);
        world.app(2, &answer);
        assert_eq!(types(&world.drafts)[0], first);
        settle(&mut world, |_| Outcome::Accepted);
    }
    assert!(world.drafts.iter().all(|draft| judge(draft) == Outcome::Accepted));
}

#[test]
fn a_frame_of_which_nothing_is_heard_is_published_once_more() {
    let mut world = asked(ServerConfig::default(), PLAIN);
    world.outcome = Some(Outcome::Unknown);
    let answer = long_answer(&world, 0, 300_000);
    world.app(1, &answer);
    assert_eq!(assembled(&world.drafts), Some(expected(&world, 300_000)));
    let ids: Vec<_> = world.drafts.iter().map(|draft| draft.id).collect();
    for id in &ids {
        assert_eq!(ids.iter().filter(|other| *other == id).count(), 2, "the same event twice");
    }
    assert_eq!(world.machine.load().transfers_out, 1);
}

#[test]
fn an_answer_that_no_relay_takes_becomes_an_error_that_may_get_out() {
    let mut world = asked(ServerConfig::default(), PLAIN);
    world.outcome = Some(Outcome::Refused("blocked: not now".to_owned()));
    let answer = long_answer(&world, 0, 300_000);
    world.app(1, &answer);
    let lines = world.pass(40);
    assert!(lines.contains(&"undeliverable c1 Unpublished".to_owned()), "{lines:?}");
    let abort =
        world.drafts.iter().position(|draft| draft.content.contains("no relay took a frame")).unwrap();
    let error = r#"{"jsonrpc":"2.0","id":5,"error":{"code":-32603,"message":"Answer could not be sent"}}"#;
    assert_eq!(world.drafts[abort + 1].content, error);
    assert_eq!(world.machine.load().transfers_out, 0);
    world.outcome = Some(Outcome::Accepted);
    assert!(world.pass(20).iter().any(|line| line.ends_with(error)));
    assert!(world.again(0, PLAIN)[0].ends_with(error), "one request has one answer");
}

#[test]
fn the_caller_stops_it_by_an_abort_or_by_taking_the_request_back() {
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#;
    for content in [frame("t", 9, FrameBody::Abort(Some("enough".into()))), cancel.to_owned()] {
        let mut world = asked(ServerConfig::default(), PLAIN);
        world.outcome = None;
        let answer = long_answer(&world, 0, 300_000);
        world.app(1, &answer);
        let ticket = world.tickets.remove(0);
        world.outcome_of(ticket, Outcome::Accepted);
        let before = world.drafts.len();
        world.from(1, PLAIN, &content);
        settle(&mut world, |_| Outcome::Accepted);
        assert_eq!(world.drafts.len(), before);
        assert_eq!(world.machine.load().transfers_out, 0);
        assert!(world.again(0, PLAIN)[0].contains("its answer is not kept"));
        assert_eq!(world.pass(3_600).last().unwrap(), "ended c1", "its session is not held by it");
    }
}

#[test]
fn an_abort_that_a_relay_plays_back_does_not_end_the_next_answer_under_its_token() {
    let mut world = asked(ServerConfig::default(), PLAIN);
    world.outcome = None;
    let answer = long_answer(&world, 0, 300_000);
    world.app(1, &answer);
    world.from(1, PLAIN, &frame("t", 9, FrameBody::Abort(None)));
    assert_eq!(world.machine.load().transfers_out, 0);
    world.pass(200);
    world.tagged(1, PLAIN, &long_call(5, 300), OVERSIZED);
    let answer = long_answer(&world, 2, 300_000);
    world.app(1, &answer);
    assert_eq!(world.again(1, PLAIN), ["drop Duplicate"]);
    assert_eq!(world.machine.load().transfers_out, 1);
}

#[test]
fn a_transfer_ends_after_five_minutes_whatever_relays_do() {
    let mut world = asked(ServerConfig::default(), PLAIN);
    world.outcome = None;
    let answer = long_answer(&world, 0, 300_000);
    world.app(1, &answer);
    let lines = world.pass(300);
    assert!(lines.iter().any(|line| line == "undeliverable c1 Unpublished"), "{lines:?}");
    assert_eq!(world.machine.load().transfers_out, 0);
}
