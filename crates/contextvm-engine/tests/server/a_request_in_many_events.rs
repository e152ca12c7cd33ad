//! A request that comes as a transfer is the request that its end frame stands for, and is executed once.
use contextvm_core::{Limits, Mono, Now};
use contextvm_engine::{DropReason, Outcome, ServerConfig, ServerInput, ServerOutput};
use contextvm_transfer::{FrameBody, Handshake};

use crate::frames::{OVERSIZED, STREAMS, chunk, cut, frame, long_call, met, start, tag_names, types, upload};
use crate::world::{PLAIN, START, WRAP, World, call, event, machine, opened, public, told};

/// What the application is handed for the message, which ended with event `nth`.
fn delivered(nth: usize, message: &str) -> String {
    let message = message.replacen(r#""id":5"#, &format!(r#""id":"${nth}""#), 1);
    format!("deliver c1 {}", message.replacen(r#"Token":"t""#, &format!(r#"Token":"${nth}""#), 1))
}

#[test]
fn it_is_delivered_under_the_id_of_its_end_frame_and_every_start_is_accepted() {
    let message = long_call(5, 9_000);
    for (protection, kind) in [(PLAIN, 25910), (WRAP, 1059)] {
        let mut world = met(ServerConfig::default(), [1]);
        let frames = cut("t", &message, Handshake::Skip);
        assert!(frames.len() > 5, "{}", frames.len());
        for (at, content) in frames.iter().enumerate() {
            let lines = world.tagged(1, protection, content, if at == 0 { OVERSIZED } else { &[] });
            let accept = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":2,"message":"oversized request accepted","cvm":{"type":"oversized-transfer","frameType":"accept"}}}"#;
            let expected = if at == 0 {
                vec![format!("publish {kind} to c1 [] {accept}")]
            } else if at + 1 == frames.len() {
                vec![delivered(frames.len(), &message)]
            } else {
                Vec::new()
            };
            assert_eq!(lines, expected, "frame {at}");
        }
        let load = world.machine.load();
        assert_eq!((load.transfers_in, load.transfers_in_bytes), (0, 0));
        assert_eq!((load.in_flight, load.in_flight_bytes), (1, message.len()));
        world.done(frames.len());
        assert_eq!(world.pass(1).len(), 1);
    }
}

#[test]
fn every_numbering_and_every_order_of_the_existing_clients_is_taken() {
    let message = long_call(5, 5_000);
    let gated = cut("t", &message, Handshake::Ask);
    let direct = cut("t", &message, Handshake::Skip);
    assert!(gated[1].contains(r#""progress":3,"#) && direct[1].contains(r#""progress":2,"#));
    let mut backwards = direct.clone();
    backwards.reverse();
    let mut chunks_first = direct.clone();
    chunks_first[..3].rotate_left(1);
    let mut twice: Vec<_> = direct.iter().flat_map(|frame| [frame.clone(), frame.clone()]).collect();
    twice.rotate_right(2);
    for frames in [gated, direct, backwards, chunks_first, twice] {
        let mut world = met(ServerConfig::default(), [1]);
        let lines: Vec<_> = frames.iter().flat_map(|frame| world.from(1, PLAIN, frame)).collect();
        let end = frames.iter().position(|frame| frame.contains(r#""frameType":"end""#)).unwrap();
        let end = world.events.iter().position(|event| event.content == frames[end]).unwrap();
        let delivers: Vec<_> = lines.iter().filter(|line| line.starts_with("deliver")).collect();
        assert_eq!(delivers, [&delivered(end, &message)]);
    }
}

#[test]
fn a_start_without_its_mode_or_with_an_unknown_one() {
    let mut world = met(ServerConfig::default(), [1]);
    assert!(world.from(1, PLAIN, &start("a", 9, 1))[0].contains("accept"));
    let unknown = start("b", 9, 1).replace(r#""digest""#, r#""completionMode":"stream","digest""#);
    let lines = world.from(1, PLAIN, &unknown);
    assert!(
        lines[0].contains(r#""frameType":"abort","reason":"completion mode is not render""#),
        "{lines:?}"
    );
    assert_eq!(lines[1..], ["drop Malformed"]);
}

#[test]
fn what_fails_is_aborted_and_nothing_of_it_is_delivered() {
    let message = long_call(5, 5_000);
    let frames = cut("t", &message, Handshake::Skip);
    let mut world = met(ServerConfig::default(), [1]);
    let broken: Vec<_> = frames.iter().map(|frame| frame.replace("xé", "éx")).collect();
    let lines = upload(&mut world, 1, &broken);
    assert!(lines[0].contains(r#""frameType":"abort","reason":"sha256 digest does not match""#), "{lines:?}");
    assert_eq!(lines[1..], ["drop Malformed"]);
    // A chunk never comes.
    let mut world = met(ServerConfig::default(), [1]);
    upload(&mut world, 1, &[&frames[..2], &frames[3..]].concat());
    assert_eq!(world.machine.load().transfers_in, 1);
    let lines = world.pass(10);
    assert!(lines[0].contains("chunks are missing after the end"), "{lines:?}");
    assert_eq!(world.machine.load().transfers_in, 0);
    assert_eq!(tag_names(world.drafts.last().unwrap()), [""; 0]);
    // Its sender gives up.
    let mut world = met(ServerConfig::default(), [1]);
    upload(&mut world, 1, &frames[..3]);
    let abort = frame("t", 4, FrameBody::Abort(None));
    assert_eq!(world.from(1, PLAIN, &abort), ["drop UnknownRequest"]);
    assert_eq!(world.machine.load().transfers_in, 0);
    assert_eq!(types(&world.drafts), ["accept"]);
}

#[test]
fn the_end_frame_is_repeated_like_a_request() {
    let message = long_call(5, 5_000);
    let frames = cut("t", &message, Handshake::Skip);
    let mut world = met(ServerConfig::default(), [1]);
    upload(&mut world, 1, &frames);
    let end = frames.len();
    assert_eq!(world.again(end, WRAP), ["drop Duplicate"]);
    world.done(end);
    let answer = world.pass(1);
    assert!(answer[0].contains(&format!("[e=${end}")), "{answer:?}");
    let again = world.again(end, PLAIN);
    assert!(again[0].ends_with(r#"{"jsonrpc":"2.0","id":5,"result":{}}"#), "{again:?}");
}

#[test]
fn a_replay_of_all_frames_executes_nothing_twice() {
    let message = long_call(5, 5_000);
    let frames = cut("t", &message, Handshake::Skip);
    let mut world = met(ServerConfig::default(), [1]);
    upload(&mut world, 1, &frames);
    for wait in [0, 90, 500] {
        world.pass(wait);
        let lines: Vec<_> = (1..=frames.len()).flat_map(|nth| world.again(nth, WRAP)).collect();
        assert!(!lines.iter().any(|line| line.starts_with("deliver")), "{lines:?}");
    }
    // After a restart they are older than the start.
    let all: Vec<_> = world.events.clone();
    let config = ServerConfig { accept_from: START + 10, ..ServerConfig::default() };
    let (mut second, now) = (machine(config), Now { mono: Mono(0), unix: START + 11 });
    for event in all {
        let outputs = told(&mut second, ServerInput::Opened(Box::new(opened(event, PLAIN, START + 11))), now);
        let [ServerOutput::Refused { reason: DropReason::BeforeStart, .. }] = &outputs[..] else {
            panic!("{outputs:?}")
        };
    }
}

#[test]
fn an_end_that_a_relay_had_kept_for_longer_than_a_caller_waits_ends_nothing_that_is_executed() {
    let message = long_call(5, 5_000);
    let frames = cut("t", &message, Handshake::Skip);
    let (end, before) = frames.split_last().unwrap();
    let table = [(true, 61, false), (true, 60, true), (false, 61, true)];
    for (is_stored, age, is_executed) in table {
        for is_first in [false, true] {
            let mut world = met(ServerConfig::default(), [1]);
            let now = if is_first { &before[..1] } else { before };
            upload(&mut world, 1, now);
            let (nth, end) = (world.events.len(), event(1, START - age, end, &[]));
            let mut lines =
                if is_stored { world.kept_by_relay(1, PLAIN, end) } else { world.arrives(1, PLAIN, end) };
            if is_first {
                assert!(lines.is_empty(), "{lines:?}");
                lines = upload(&mut world, 1, &before[1..]);
            }
            let expected = if is_executed { delivered(nth, &message) } else { "drop Stale".to_owned() };
            assert_eq!(lines.last(), Some(&expected), "{is_stored} {age} {is_first}");
            assert_eq!(lines.iter().any(|line| line.starts_with("deliver")), is_executed);
            assert_eq!(world.machine.load().transfers_in, 0);
        }
    }
}

#[test]
fn an_end_frame_that_is_stamped_ahead_waits_for_its_second() {
    let message = long_call(5, 5_000);
    let frames = cut("t", &message, Handshake::Skip);
    let config = ServerConfig { accept_from: START - 9, ..ServerConfig::default() };
    let mut world = met(config, [1]);
    upload(&mut world, 1, &frames[..frames.len() - 1]);
    let end = event(1, world.now.unix + 3, frames.last().unwrap(), &[]);
    assert!(world.arrives(1, PLAIN, end).is_empty());
    assert_eq!(world.again(frames.len(), PLAIN), ["drop Duplicate"]);
    assert!(world.pass(2).is_empty());
    assert_eq!(world.pass(1), [delivered(frames.len(), &message)]);
    assert_eq!(world.again(frames.len(), PLAIN), ["drop Duplicate"]);
}

#[test]
fn a_transfer_that_begins_again_replaces_the_first() {
    let message = long_call(5, 5_000);
    let mut world = met(ServerConfig::default(), [1]);
    world.from(1, PLAIN, &start("t", 90_000, 30));
    world.from(1, PLAIN, &chunk("t", 2, "something else"));
    world.from(1, PLAIN, &frame("t", 40, FrameBody::End));
    let frames = cut("t", &message, Handshake::Skip);
    let lines = upload(&mut world, 1, &frames);
    assert_eq!(lines, [delivered(world.events.len() - 1, &message)]);
}

#[test]
fn a_start_begins_one_transfer_however_often_and_however_late_it_comes() {
    let frames = cut("t", &long_call(5, 5_000), Handshake::Skip);
    let abort = frame("t", 9, FrameBody::Abort(None));
    for rest in [&frames[1..], &[abort]] {
        let mut world = met(ServerConfig::default(), [1]);
        assert!(world.from(1, PLAIN, &frames[0])[0].contains("accept"));
        assert_eq!(world.again(1, PLAIN), ["drop Duplicate"]);
        upload(&mut world, 1, rest);
        for wait in [0, 61, 500] {
            world.pass(wait);
            assert_eq!(world.again(1, WRAP), ["drop Duplicate"], "after {wait} s");
            assert_eq!(world.machine.load().transfers_in, 0);
        }
    }
}

#[test]
fn a_start_that_came_last_is_known_when_it_comes_again() {
    let message = long_call(5, 1_500);
    let frames = cut("t", &message, Handshake::Skip);
    let mut world = met(ServerConfig::default(), [1]);
    upload(&mut world, 1, &frames[1..]);
    let end = world.events.len() - 1;
    assert_eq!(world.from(1, PLAIN, &frames[0]), [delivered(end, &message)]);
    let first = world.events.len() - 1;
    world.pass(61);
    assert_eq!(world.again(first, WRAP), ["drop Duplicate"]);
    assert_eq!(world.machine.load().transfers_in, 0);
}

#[test]
fn what_was_refused_to_a_stranger_is_not_executed_when_it_comes_again() {
    let frames = cut("t", &long_call(5, 5_000), Handshake::Skip);
    let mut world = World::new(ServerConfig::default());
    let lines = world.from(1, PLAIN, &frames[0]);
    upload(&mut world, 1, &frames[1..]);
    assert!(lines[0].contains("transfers need an established session"), "{lines:?}");
    let asked = world.events.len();
    world.from(1, PLAIN, &call(6, "ping"));
    world.done(asked);
    let lines: Vec<_> = (0..asked).flat_map(|nth| world.again(nth, PLAIN)).collect();
    assert!(!lines.iter().any(|line| line.starts_with("deliver")), "{lines:?}");
}

#[test]
fn an_end_that_comes_first_takes_the_place_of_chunks_without_a_start_and_is_kept() {
    let message = long_call(5, 1_500);
    let frames = cut("t", &message, Handshake::Skip);
    let (end, before) = frames.split_last().unwrap();
    let mut world = met(ServerConfig::default(), [1]);
    world.from(1, PLAIN, &chunk("ghost", 2, "x"));
    for token in ["a", "b", "c"] {
        world.from(1, PLAIN, &start(token, 9, 1));
    }
    assert_eq!(world.machine.load().transfers_in, 4, "all places of one caller");
    let nth = world.events.len();
    assert!(world.from(1, PLAIN, end).is_empty());
    assert_eq!(world.machine.load().transfers_in, 4);
    assert_eq!(upload(&mut world, 1, before), [delivered(nth, &message)]);
    assert_eq!(world.machine.load().transfers_in, 3);
}

#[test]
fn a_session_is_in_use_while_something_is_transferred_to_it() {
    let limits = Limits { session_idle: core::time::Duration::from_secs(20), ..Limits::default() };
    let mut world = met(ServerConfig { limits, ..ServerConfig::default() }, [1, 2]);
    let message = long_call(5, 5_000);
    let frames = cut("t", &message, Handshake::Skip);
    upload(&mut world, 1, &frames[..2]);
    assert_eq!(world.pass(50), ["ended c2"]);
    assert_eq!(upload(&mut world, 1, &frames[2..]), [delivered(world.events.len() - 1, &message)]);
    world.pass(50);
    world.done(world.events.len() - 1);
    assert_eq!(world.pass(20), ["ended c1"]);
}

#[test]
fn too_much_at_once_is_busy_and_said_so() {
    let limits = Limits { in_flight_bytes: 6_000, ..Limits::default() };
    let mut world = met(ServerConfig { limits, ..ServerConfig::default() }, [1]);
    let frames = cut("t", &long_call(5, 7_000), Handshake::Skip);
    assert_eq!(upload(&mut world, 1, &frames), ["drop Busy"]);
    let lines = world.pass(1);
    let busy = r#"{"jsonrpc":"2.0","id":5,"error":{"code":-32000,"message":"Busy"}}"#;
    assert!(lines[0].ends_with(busy), "{lines:?}");
    assert_eq!(world.from(1, PLAIN, &call(6, "ping")).len(), 1);
}

#[test]
fn a_message_that_finds_no_room_once_it_is_complete_is_turned_away_and_not_waited_for() {
    let access = contextvm_engine::server::Access {
        allowed: Some([public(1)].into()),
        ask_key: true,
        ..Default::default()
    };
    let limits =
        Limits { in_flight: 2, in_flight_per_caller: 1, refusals_per_minute: 0, ..Limits::default() };
    let mut world = World::new(ServerConfig { access, limits, ..ServerConfig::default() });
    world.from(1, PLAIN, &call(1, "ping"));
    world.verdict(0, true);
    world.done(0);
    let frames = cut("t", &long_call(5, 5_000), Handshake::Skip);
    upload(&mut world, 1, &frames[..frames.len() - 1]);
    assert_eq!(world.from(1, PLAIN, &call(2, "ping")), ["ask 1 key c1"], "the line of this caller is full");
    let lines = world.from(1, PLAIN, frames.last().unwrap());
    let [told, refused] = &lines[..] else { panic!("{lines:?}") };
    assert!(told.contains(r#""frameType":"abort","reason":"the message is refused: busy""#), "{told}");
    assert_eq!(refused, "drop Busy");
    assert_eq!(world.machine.load().transfers_in, 0);
}

#[test]
fn nothing_names_it_before_the_existing_sdks_know_it() {
    let frames = cut("t", &long_call(5, 5_000), Handshake::Skip);
    for (tags, pause) in [(OVERSIZED, 250), (STREAMS, 0)] {
        let mut world = met(ServerConfig::default(), [1]);
        world.outcome = Some(Outcome::Accepted);
        let (last, before) = frames.split_last().unwrap();
        world.tagged(1, PLAIN, &before[0], tags);
        upload(&mut world, 1, &before[1..]);
        world.from(1, PLAIN, last);
        let end = world.events.len() - 1;
        world.drafts.clear();
        let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"$N","progress":1}}"#;
        world.app(1, &progress.replace("$N", &world.events[end].id.to_hex()));
        assert_eq!(world.drafts.len(), 1, "a token is known before");
        world.done(end);
        if pause > 0 {
            assert_eq!(world.drafts.len(), 1);
            assert_eq!(world.machine.poll_timeout().map(|(at, _)| at), Some(Mono(pause)));
            world.now.mono = Mono(pause - 1);
            assert!(world.handle(ServerInput::Wake).is_empty());
            world.now.mono = Mono(pause);
            assert_eq!(world.handle(ServerInput::Wake).len(), 1);
        }
        assert_eq!(types(&world.drafts).len(), 2);
        assert_eq!(tag_names(&world.drafts[1]), ["e"]);
        // Requests in one event are answered at once.
        world.from(1, PLAIN, &call(6, "ping"));
        assert!(world.done(end + 1).last().unwrap().starts_with("publish"));
    }
}

#[test]
fn notifications_are_put_together_too_and_nonsense_is_not_acted_on() {
    let long =
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/x","params":{{"a":"{}"}}}}"#, "x".repeat(5_000));
    let mut world = met(ServerConfig::default(), [1]);
    let lines = upload(&mut world, 1, &cut("t", &long, Handshake::Skip));
    assert_eq!(lines, [format!("deliver c1 {long}")]);
    let lines = upload(&mut world, 1, &cut("u", &"[".repeat(5_000), Handshake::Skip));
    let [told, refused] = &lines[..] else { panic!("{lines:?}") };
    assert!(told.contains(r#""progressToken":"u""#) && told.contains(r#""frameType":"abort""#), "{told}");
    assert_eq!(refused, "drop Budget");
    // A frame inside a transfer is no frame.
    let inner = start("v", 9, 1);
    let lines = upload(&mut world, 1, &cut("w", &inner, Handshake::Skip));
    assert_eq!(lines, ["drop UnknownRequest"]);
    assert_eq!(world.machine.load().transfers_in, 0);
    assert!(world.machine.load().sessions <= 1 && public(1) == world.events[0].pubkey);
}

#[test]
fn an_end_frame_has_a_bounded_size() {
    let mut world = met(ServerConfig::default(), [1]);
    let frames = cut("t", &long_call(5, 5_000), Handshake::Skip);
    upload(&mut world, 1, &frames[..frames.len() - 1]);
    let padded = "x".repeat(20_000);
    let lines = world.tagged(1, PLAIN, frames.last().unwrap(), &[&["pmi", &padded]]);
    assert_eq!(lines, ["drop TooLarge"]);
    let lines = world.tagged(1, PLAIN, frames.last().unwrap(), &[&["pmi", "lightning"]]);
    assert!(lines[0].starts_with("deliver"), "{lines:?}");
}

#[test]
fn a_request_without_a_world_around_it_is_unknown() {
    let mut world = World::new(ServerConfig::default());
    assert_eq!(world.from(1, PLAIN, &frame("t", 9, FrameBody::End)), ["drop NotAllowed"]);
}
