//! Streams that never close, floods of pings and foreign nonces are bounded (T36).
use contextvm_core::Limits;
use contextvm_engine::{ServerConfig, StreamError};
use contextvm_stream::StreamBody;

use crate::frames::{STREAMS, control, long_call, types};
use crate::world::{PLAIN, WRAP, World};

#[test]
fn of_a_thousand_who_read_none_three_quarters_of_all_places_are_open_and_none_stays() {
    let limits = Limits { in_flight: 4_096, ..Limits::default() };
    let mut world = World::new(ServerConfig { limits, ..ServerConfig::default() });
    for n in 1..1_001 {
        world.tagged(n, WRAP, &long_call(5, 300), STREAMS);
        let (taken, _) = world.write(n as usize - 1, "text");
        assert_eq!(taken, if n <= 192 { Ok(4) } else { Err(StreamError::Busy) });
        assert_eq!(world.machine.load().streams, n.min(192) as usize);
    }
    // Nobody answers a ping, however long the application keeps writing.
    for _ in 0..5 {
        world.pass(10);
        for nth in 0..192 {
            let _ = world.write(nth, "more");
        }
    }
    let load = world.machine.load();
    assert_eq!((load.streams, load.in_flight), (0, 1_000), "{load:?}");
    assert_eq!(load.stranger_sessions, 1_000, "no session is lost");
    world.drafts.clear();
    for nth in 0..1_000 {
        world.done(nth);
    }
    assert_eq!(types(&world.drafts), vec!["answer"; 1_000]);
    let aborted = world.drafts.iter().filter(|draft| draft.content.contains("Stream aborted")).count();
    assert_eq!(aborted, 192);
}

#[test]
fn a_stream_whose_caller_answers_lasts_an_hour_and_no_longer() {
    let mut world = World::new(ServerConfig::default());
    world.tagged(1, PLAIN, &long_call(5, 300), STREAMS);
    world.write(0, "text").0.unwrap();
    let mut pings = 0;
    for _ in 0..3_599 {
        world.drafts.clear();
        world.pass(1);
        for content in world.drafts.iter().map(|draft| draft.content.clone()).collect::<Vec<_>>() {
            let nonce = content.split_once(r#""nonce":""#).unwrap().1.split_once('"').unwrap().0;
            pings += 1;
            world.from(1, PLAIN, &control("t", pings, StreamBody::Pong(nonce.into())));
        }
        assert_eq!(world.machine.load().streams, 1);
    }
    assert!((110..=120).contains(&pings), "{pings}");
    let lines = world.pass(1);
    assert!(lines[0].contains("stream took too long"), "{lines:?}");
    assert_eq!(world.machine.load().streams, 0);
}

#[test]
fn a_flood_of_pings_has_one_pong_a_second_and_long_nonces_none() {
    let mut world = World::new(ServerConfig::default());
    world.tagged(1, PLAIN, &long_call(5, 300), STREAMS);
    world.write(0, "text").0.unwrap();
    let seen = world.machine.load().seen_ids;
    world.drafts.clear();
    for second in 0..10 {
        for nth in 0..100 {
            world.from(1, PLAIN, &control("t", nth + 1, StreamBody::Ping(format!("{second}-{nth}").into())));
        }
        world.pass(1);
    }
    let pongs = world.drafts.len();
    assert!((10..=11).contains(&pongs), "{pongs}");
    assert!(types(&world.drafts).iter().all(|name| name == "pong"));
    assert_eq!(world.machine.load().seen_ids, seen, "frames of streams are not remembered");
    world.pass(2);
    world.drafts.clear();
    let lines = world.from(1, PLAIN, &control("t", 1, StreamBody::Ping("n".repeat(65).into())));
    assert_eq!(lines, ["drop TooLarge"]);
    world.pass(2);
    assert!(world.drafts.is_empty());
}

#[test]
fn what_only_a_writer_sends_is_not_taken_from_a_reader() {
    let mut world = World::new(ServerConfig::default());
    world.tagged(1, PLAIN, &long_call(5, 300), STREAMS);
    world.write(0, "text").0.unwrap();
    for body in [
        StreamBody::Start(None),
        StreamBody::Chunk { index: 0, data: "".into() },
        StreamBody::Close(None),
        StreamBody::Pong("t:1".into()),
    ] {
        for nth in 0..50 {
            assert_eq!(world.from(1, PLAIN, &control("t", nth + 1, body.clone())).len(), 1);
        }
    }
    let load = world.machine.load();
    assert_eq!((load.streams, load.transfers_in_bytes, load.seen_ids), (1, 0, 1));
    let broken = control("t", 1, StreamBody::Ping("n".into())).replace("ping", "pang");
    assert_eq!(world.from(1, PLAIN, &broken), ["drop Malformed"]);
}
