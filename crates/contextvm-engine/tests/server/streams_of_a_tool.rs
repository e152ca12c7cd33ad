//! A stream that the application writes during a request reaches its caller in order, and the answer after it.
use contextvm_core::Limits;
use contextvm_engine::{Outcome, ServerConfig, ServerInput, StreamError};
use contextvm_stream::StreamBody;

use crate::frames::{
    OVERSIZED, STREAMS, TS_STREAMS, assembled, control, long_answer, long_call, tag_names, types,
};
use crate::world::{EPHEMERAL, PLAIN, World, call, keys, public};

const ABORTED: &str = r#"{"jsonrpc":"2.0","id":5,"error":{"code":-32000,"message":"Stream aborted"}}"#;

/// A world in which caller 1 has asked something with event 0 and reads streams.
fn asked(config: ServerConfig, tags: &[&[&str]]) -> World {
    let mut world = World::new(config);
    world.tagged(1, PLAIN, &long_call(5, 300), tags);
    world
}

fn close(world: &mut World) -> (Result<(), StreamError>, Vec<String>) {
    world.stream(0, |machine, key, now| machine.close_stream(key, now))
}

fn settle(world: &mut World) -> Vec<String> {
    let mut lines = Vec::new();
    while !world.tickets.is_empty() {
        let ticket = world.tickets.remove(0);
        lines.extend(world.outcome_of(ticket, Outcome::Accepted));
    }
    lines
}

#[test]
fn its_frames_name_the_request_and_the_answer_follows_the_close() {
    let mut world = asked(ServerConfig::default(), TS_STREAMS);
    world.stream(0, |machine, key, now| machine.start_stream(key, Some("text/plain"), now)).0.unwrap();
    assert_eq!(world.write(0, "Hello").0, Ok(5));
    assert_eq!(world.write(0, "").0, Ok(0));
    let (closed, lines) = close(&mut world);
    assert_eq!(closed, Ok(()));
    assert_eq!(lines.last().unwrap(), "closed $0");
    world.done(0);
    assert_eq!(types(&world.drafts), ["start", "chunk", "close", "answer"]);
    assert_eq!(
        world.drafts[0].content,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":1,"cvm":{"type":"open-stream","frameType":"start","contentType":"text/plain"}}}"#
    );
    let names: Vec<_> = world.drafts.iter().map(tag_names).collect();
    assert!(names[0].len() == 6 && names[0][0] == "e", "who we are is on the start: {names:?}");
    assert!(names[1..].iter().all(|names| *names == ["e"]), "{names:?}");
    assert_eq!(world.machine.load().streams, 0);
    assert_eq!(world.write(0, "more").0, Err(StreamError::Ended));
}

#[test]
fn whoever_reads_none_has_none() {
    let without_token = r#"{"jsonrpc":"2.0","id":5,"method":"a"}"#;
    let off = ServerConfig { open_streams: false, ..ServerConfig::default() };
    let table = [
        (ServerConfig::default(), long_call(5, 9), OVERSIZED),
        (ServerConfig::default(), without_token.to_owned(), STREAMS),
        (off, long_call(5, 9), STREAMS),
    ];
    for (config, content, tags) in table {
        let mut world = World::new(config);
        world.tagged(1, PLAIN, &content, tags);
        assert_eq!(world.write(0, "x").0, Err(StreamError::Unsupported));
        assert_eq!(
            world.stream(0, |machine, key, now| machine.abort_stream(key, None, now)).0,
            Err(StreamError::Unsupported)
        );
        assert_eq!(world.done(0).len(), 1, "nothing is said of a stream");
    }
}

#[test]
fn every_offered_stream_is_said_to_have_ended_once() {
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#;
    let offered = || asked(ServerConfig::default(), STREAMS);
    let ends = |lines: Vec<String>| -> Vec<String> {
        lines.into_iter().filter(|line| line.starts_with("closed") || line.starts_with("failed")).collect()
    };
    for started in [false, true] {
        let begin = |world: &mut World| {
            if started {
                world.write(0, "x").0.unwrap();
            }
        };
        let mut world = offered();
        begin(&mut world);
        assert_eq!(ends(world.done(0)), ["closed $0"]);
        let mut world = offered();
        begin(&mut world);
        let mut lines = world.from(1, PLAIN, cancel);
        assert_eq!(
            lines.iter().filter(|line| line.contains(r#""frameType":"abort""#)).count(),
            usize::from(started)
        );
        lines.extend(world.done(0));
        assert_eq!(ends(lines), ["failed $0 Cancelled"]);
        let mut world = offered();
        begin(&mut world);
        let lines = world.handle(ServerInput::SessionClosed(public(1)));
        assert!(lines.last().unwrap().contains("Session closed"), "{lines:?}");
        assert_eq!(ends(lines), ["failed $0 Cancelled"]);
        let mut world = offered();
        begin(&mut world);
        let mut lines = world.from(1, PLAIN, &call(6, "initialize"));
        lines.extend(world.done(0));
        // What was not begun was not cut off, so the answer is as good as any.
        assert_eq!(lines.last().unwrap().ends_with(ABORTED), started, "{lines:?}");
        assert_eq!(ends(lines), ["failed $0 Cancelled"]);
        assert_eq!(world.machine.load().streams, 0);
    }
}

#[test]
fn frames_overtake_each_other_only_for_readers_that_can_put_them_in_order() {
    for (tags, window) in [(TS_STREAMS, 1), (STREAMS, 16)] {
        let mut world = asked(ServerConfig::default(), tags);
        world.outcome = None;
        for nth in 0..40 {
            world.write(0, &format!("chunk {nth}")).0.unwrap();
            assert!(world.tickets.len() <= window);
        }
        assert_eq!(world.tickets.len(), window);
        close(&mut world).0.unwrap();
        settle(&mut world);
        let progress: Vec<_> = world
            .drafts
            .iter()
            .map(|draft| {
                draft.content.split_once(r#""progress":"#).unwrap().1.split_once(',').unwrap().0.to_owned()
            })
            .collect();
        assert_eq!(progress, (1..43).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}

#[test]
fn an_answer_waits_for_the_end_of_its_stream() {
    for tags in [TS_STREAMS, STREAMS] {
        let mut world = asked(ServerConfig::default(), tags);
        world.outcome = None;
        world.write(0, "a").0.unwrap();
        world.write(0, "b").0.unwrap();
        // The tool returns and has not closed.
        assert!(!types(&world.drafts).contains(&"answer".to_owned()));
        world.done(0);
        assert_eq!(world.done(0), ["undeliverable c1 UnknownRequest"], "one request has one answer");
        assert_eq!(world.write(0, "c").0, Err(StreamError::Ended));
        assert_eq!(world.machine.load().in_flight, 1);
        let lines = settle(&mut world);
        assert_eq!(types(&world.drafts), ["start", "chunk", "chunk", "close", "answer"]);
        assert!(lines.contains(&"closed $0".to_owned()));
        let load = world.machine.load();
        assert_eq!((load.in_flight, load.in_flight_bytes, load.streams), (0, 0, 0));
        assert!(world.again(0, PLAIN)[0].ends_with(r#"{"jsonrpc":"2.0","id":5,"result":{}}"#));
    }
}

#[test]
fn an_answer_that_waited_may_be_a_transfer_and_is_bounded() {
    let mut world = asked(ServerConfig::default(), STREAMS);
    world.outcome = None;
    world.write(0, "a").0.unwrap();
    let answer = long_answer(&world, 0, 300_000);
    world.app(1, &answer);
    assert!(world.machine.load().in_flight_bytes > 300_000);
    settle(&mut world);
    assert_eq!(types(&world.drafts)[..4], ["start", "chunk", "close", "start"]);
    assert_eq!(assembled(&world.drafts[3..]).unwrap().len(), answer.len() - 65);
    let limits = Limits { in_flight_bytes: 100_000, ..Limits::default() };
    let mut world = asked(ServerConfig { limits, ..ServerConfig::default() }, STREAMS);
    world.outcome = None;
    world.write(0, "a").0.unwrap();
    let answer = long_answer(&world, 0, 300_000);
    let before = world.machine.load().in_flight_bytes;
    assert_eq!(world.app(1, &answer).last().unwrap(), "undeliverable c1 Busy");
    assert_eq!(world.machine.load().in_flight_bytes, before, "what says so takes no room");
    let lines = settle(&mut world);
    assert!(lines.last().unwrap().ends_with(r#""error":{"code":-32000,"message":"Busy"}}"#), "{lines:?}");
}

#[test]
fn text_is_taken_as_there_is_room_and_the_application_hears_of_it() {
    let limits = Limits { stream_buffer: 20_000, ..Limits::default() };
    let mut world = asked(ServerConfig { limits, ..ServerConfig::default() }, TS_STREAMS);
    world.outcome = None;
    let text = "\u{e9}".repeat(50_000);
    let (mut at, mut rounds) = (0, 0);
    while at < text.len() {
        let (taken, mut lines) = world.write(0, &text[at..]);
        at += taken.unwrap();
        rounds += 1;
        while at < text.len() && !lines.contains(&"room $0".to_owned()) {
            let ticket = world.tickets.remove(0);
            lines = world.outcome_of(ticket, Outcome::Accepted);
        }
    }
    assert!(rounds > 4, "{rounds}");
    close(&mut world).0.unwrap();
    settle(&mut world);
    let data: String = world
        .drafts
        .iter()
        .filter_map(|draft| Some(draft.content.split_once(r#""data":""#)?.1.split_once('"')?.0.to_owned()))
        .collect();
    assert!(data == text);
}

#[test]
fn all_streams_together_are_bounded() {
    let limits = Limits { streams_bytes: 100_000, streams: 3, ..Limits::default() };
    let mut world = World::new(ServerConfig { limits, ..ServerConfig::default() });
    world.outcome = None;
    for n in 1..5 {
        world.tagged(n, PLAIN, &long_call(5, 300), TS_STREAMS);
    }
    let text = "x".repeat(200_000);
    let taken: Vec<_> = (0..4).map(|nth| world.write(nth, &text).0).collect();
    assert_eq!(taken[3], Err(StreamError::Busy));
    let taken: Vec<_> = taken[..3].iter().map(|taken| taken.unwrap()).collect();
    // What is on its way is not held.
    assert!(taken.iter().sum::<usize>() < 100_000 + 48 * 8_000, "{taken:?}");
    assert_eq!(world.machine.load().streams, 3);
    let (aborted, lines) =
        world.stream(0, |machine, key, now| machine.abort_stream(key, Some("enough"), now));
    assert_eq!(aborted, Ok(()));
    assert!(lines.contains(&"room $1".to_owned()) || lines.contains(&"room $2".to_owned()), "{lines:?}");
    assert!(world.write(3, "x").0.is_ok());
}

#[test]
fn a_text_that_fits_into_a_chunk_is_taken_whole_or_not_at_all_when_all_streams_are_full() {
    let limits = Limits { streams_bytes: 20_000, ..Limits::default() };
    let mut world = World::new(ServerConfig { limits, ..ServerConfig::default() });
    world.outcome = None;
    world.tagged(1, PLAIN, &long_call(5, 300), TS_STREAMS);
    let text = "x".repeat(300);
    let taken: Vec<_> = (0..300).map(|_| world.write(0, &text).0.unwrap()).collect();
    assert!(taken.iter().all(|taken| [0, 300].contains(taken)), "{taken:?}");
    assert_eq!((taken[0], taken[299]), (300, 0));
}

#[test]
fn a_caller_that_aborts_gets_an_error_unless_the_tool_has_its_own() {
    let own = r#"{"jsonrpc":"2.0","id":"$0","error":{"code":7,"message":"own"}}"#;
    let result = r#"{"jsonrpc":"2.0","id":"$0","result":{}}"#;
    for (answer, end) in [(result, ABORTED), (own, r#""error":{"code":7,"message":"own"}}"#)] {
        for is_parked in [false, true] {
            let mut world = asked(ServerConfig::default(), STREAMS);
            world.outcome = None;
            world.write(0, "a").0.unwrap();
            let mut lines = Vec::new();
            if is_parked {
                lines.extend(world.app(1, answer));
            }
            lines.extend(world.from(1, PLAIN, &control("t", 1, StreamBody::Abort(Some("enough".into())))));
            assert!(lines.contains(&"failed $0 Aborted".to_owned()), "{lines:?}");
            if !is_parked {
                lines.extend(world.app(1, answer));
            }
            assert!(lines.last().unwrap().ends_with(end), "{lines:?}");
            settle(&mut world);
            assert_eq!(types(&world.drafts).iter().filter(|name| *name == "answer").count(), 1);
            assert_eq!(world.write(0, "b").0, Err(StreamError::Ended));
        }
    }
}

/// Tokens come again with every restart of a caller; a relay that plays the old abort back ends nothing.
#[test]
fn an_abort_that_a_relay_plays_back_does_not_end_the_next_stream_under_its_token() {
    let mut world = asked(ServerConfig::default(), STREAMS);
    world.write(0, "a").0.unwrap();
    world.from(1, PLAIN, &control("t", 1, StreamBody::Abort(None)));
    world.done(0);
    world.pass(200);
    world.tagged(1, PLAIN, &long_call(5, 300), STREAMS);
    world.write(2, "b").0.unwrap();
    assert_eq!(world.again(1, PLAIN), ["drop Duplicate"]);
    assert_eq!(world.write(2, "c").0, Ok(1));
}

#[test]
fn a_tool_that_aborts_answers_with_an_error() {
    let mut world = asked(ServerConfig::default(), STREAMS);
    world.write(0, "a").0.unwrap();
    let (done, lines) = world.stream(0, |machine, key, now| machine.abort_stream(key, Some("no disk"), now));
    assert_eq!(done, Ok(()));
    assert!(lines[0].contains(r#""frameType":"abort","reason":"no disk""#), "{lines:?}");
    assert_eq!(lines[1..], ["failed $0 Cancelled"]);
    assert!(world.done(0)[0].ends_with(ABORTED));
}

#[test]
fn a_caller_that_is_gone_costs_its_stream_and_not_its_session() {
    let mut world = asked(ServerConfig::default(), STREAMS);
    world.write(0, "a").0.unwrap();
    let lines = world.pass(49);
    assert!(lines[0].contains(r#""frameType":"ping","nonce":"t:1""#) && lines.len() == 1, "{lines:?}");
    let lines = world.pass(1);
    assert!(lines[0].contains(r#""frameType":"abort","reason":"Probe timeout""#), "{lines:?}");
    assert_eq!(lines[1..], ["failed $0 Probe"]);
    assert!(world.done(0)[0].ends_with(ABORTED));
    let load = world.machine.load();
    assert_eq!((load.sessions, load.streams), (1, 0));
    assert!(world.from(1, PLAIN, &call(6, "ping"))[0].starts_with("deliver"));
}

#[test]
fn a_stream_that_no_relay_takes_fails() {
    let mut world = asked(ServerConfig::default(), STREAMS);
    world.outcome = Some(Outcome::Refused("blocked".to_owned()));
    world.write(0, "a").0.unwrap();
    let lines = world.pass(40);
    assert!(lines.contains(&"failed $0 NotPublished".to_owned()), "{lines:?}");
    world.outcome = Some(Outcome::Accepted);
    assert!(world.done(0)[0].ends_with(ABORTED));
}

#[test]
fn frames_are_protected_as_the_request_was_and_fit_into_what_relays_take() {
    let mut world = World::new(ServerConfig::default());
    world.handle(ServerInput::RelayLimit(16_384));
    world.tagged(1, EPHEMERAL, &long_call(5, 300), STREAMS);
    let (_, lines) = world.write(0, &"\"".repeat(20_000));
    assert!(lines.len() > 5 && lines.iter().all(|line| line.starts_with("publish 21059 ")));
    for draft in &world.drafts {
        let inner = keys(0).sign_draft(draft, [3; 32]).as_json().len();
        assert!(contextvm_core::size::wrapped_event_size(inner) <= 16_384, "{inner}");
    }
}

#[test]
fn frames_that_the_application_writes_itself_pass_in_both_directions() {
    let mut world = World::new(ServerConfig::default());
    world.tagged(1, PLAIN, &long_call(5, 300).replace("\"t\"", "7"), STREAMS);
    let frame = |token: &str, frame_type: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1,"cvm":{{"type":"open-stream", "frameType":"{frame_type}","nonce":"n","x":1.0}}}}}}"#
        )
    };
    let lines = world.app(1, &frame("\"$0\"", "start"));
    assert!(lines[0].ends_with(&format!("] {}", frame("7", "start"))), "{lines:?}");
    assert_eq!(
        world.from(1, PLAIN, &frame("7", "pong")),
        [format!("deliver c1 {}", frame("\"$0\"", "pong"))]
    );
    assert_eq!(world.again(1, PLAIN), ["drop Duplicate"]);
    assert_eq!(world.from(2, PLAIN, &frame("7", "ping")), ["drop UnknownRequest"]);
    assert_eq!(world.from(1, PLAIN, &frame("8", "ping")), ["drop UnknownRequest"]);
    // Once we write it ourselves, such frames are ours.
    world.write(0, "x").0.unwrap();
    assert!(world.from(1, PLAIN, &frame("7", "ping"))[0].contains("pong"));
    close(&mut world).0.unwrap();
    assert_eq!(world.from(1, PLAIN, &frame("7", "abort")), ["drop UnknownRequest"]);
}

#[test]
fn who_only_opens_streams_leaves_a_quarter_of_them_to_who_has_read_one() {
    let limits = Limits { streams: 4, ..Limits::default() };
    let mut world = asked(ServerConfig { limits, ..ServerConfig::default() }, TS_STREAMS);
    assert_eq!(world.write(0, "read to its end").0, Ok(15));
    close(&mut world).0.unwrap();
    settle(&mut world);
    for (event, caller) in [(1, 2), (2, 2), (3, 2), (4, 2), (5, 3), (6, 1), (7, 1)] {
        world.tagged(caller, PLAIN, &long_call(6 + event as u32, 300), TS_STREAMS);
        let taken = world.write(event, "x").0;
        let fits = event <= 3 || event == 6;
        assert_eq!(
            taken,
            if fits { Ok(1) } else { Err(StreamError::Busy) },
            "event {event} of caller {caller}"
        );
    }
}
