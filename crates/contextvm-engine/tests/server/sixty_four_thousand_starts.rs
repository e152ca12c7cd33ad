//! What is declared costs nothing, and what is begun is bounded per caller and for all (T34, T35).
use contextvm_core::Limits;
use contextvm_engine::ServerConfig;
use contextvm_transfer::{FrameBody, Handshake};

use crate::frames::{chunk, cut, frame, long_call, met, start, types, upload};
use crate::world::{PLAIN, call, count};

#[test]
fn slots_and_bytes_are_bounded_and_strangers_have_none() {
    let starts = count("STARTS", 6_400);
    let mut world = met(ServerConfig::default(), 1..40);
    for nth in 0..starts {
        // Every fourth of somebody who was never answered.
        let n = if nth % 4 == 0 { 1_000 + nth % 97 } else { 1 + nth % 39 };
        world.from(n, PLAIN, &start(&format!("t{nth}"), 24 * 1024 * 1024, 9_999));
        world.drafts.clear();
        let load = world.machine.load();
        assert!(load.transfers_in <= 48, "{load:?}");
        assert!(load.transfers_in_bytes <= 64 * 1_024, "nothing is kept for what is declared: {load:?}");
        assert_eq!(load.stranger_sessions, 0);
    }
    let load = world.machine.load();
    // A quarter of the places is for callers whose transfers come whole.
    assert_eq!((load.transfers_in, load.sessions), (48, 39));
    // They stand still and are gone; so are the sessions that they held, later.
    world.pass(61);
    assert_eq!(world.machine.load().transfers_in, 0);
    world.pass(3_600);
    assert_eq!(world.machine.load().sessions, 0);
}

#[test]
fn one_caller_has_four() {
    let mut world = met(ServerConfig::default(), [1, 2]);
    for nth in 0..9 {
        world.from(1, PLAIN, &start(&format!("t{nth}"), 9, 1));
    }
    assert_eq!(types(&world.drafts)[..4], ["accept", "accept", "accept", "accept"]);
    assert!(types(&world.drafts)[4..].iter().all(|name| name == "abort"));
    assert_eq!(world.machine.load().transfers_in, 4);
    assert!(world.from(2, PLAIN, &start("t0", 9, 1))[0].contains("accept"));
}

#[test]
fn bytes_are_leased_as_they_come_and_given_back() {
    let limits = Limits { transfers_bytes: 64 * 1_024, ..Limits::default() };
    let mut world = met(ServerConfig { limits, ..ServerConfig::default() }, 1..20);
    for n in 1..20 {
        world.from(n, PLAIN, &start("t", 100_000, 20));
        for nth in 2..12 {
            world.from(n, PLAIN, &chunk("t", nth, &"x".repeat(1_000)));
            assert!(world.machine.load().transfers_in_bytes <= 64 * 1_024);
        }
    }
    assert!(world.machine.load().transfers_in >= 5);
    world.pass(61);
    let load = world.machine.load();
    assert_eq!((load.transfers_in, load.transfers_in_bytes), (0, 0));
}

#[test]
fn a_transfer_that_crawls_ends_after_five_minutes() {
    let mut world = met(ServerConfig::default(), [1]);
    world.from(1, PLAIN, &start("t", 100_000, 100));
    let mut lines = Vec::new();
    for nth in 0..6 {
        world.from(1, PLAIN, &chunk("t", nth + 2, "x"));
        assert_eq!(world.machine.load().transfers_in, 1);
        lines = world.pass(50);
    }
    assert!(lines[0].contains(r#""reason":"transfer took too long""#), "{lines:?}");
    assert_eq!(world.machine.load().transfers_in, 0);
}

#[test]
fn a_digest_that_is_wrong_in_the_end_is_charged_to_its_caller() {
    let limits = Limits { transfer_waste: 20_000, ..Limits::default() };
    let mut world = met(ServerConfig { limits, ..ServerConfig::default() }, [1, 2]);
    let data = "x".repeat(5_000);
    let mut failed = 0;
    let lines = loop {
        let token = format!("t{failed}");
        let lines = world.from(1, PLAIN, &start(&token, 10_000, 2));
        if !lines[0].contains("accept") {
            break lines;
        }
        world.from(1, PLAIN, &chunk(&token, 2, &data));
        world.from(1, PLAIN, &chunk(&token, 3, &data));
        let lines = world.from(1, PLAIN, &frame(&token, 4, FrameBody::End));
        assert!(lines[0].contains("sha256 digest does not match"), "{lines:?}");
        failed += 1;
    };
    assert_eq!(failed, 2);
    assert!(lines[0].contains("too many failed transfers lately"), "{lines:?}");
    // Others are not charged, and neither are its requests in one event.
    assert!(world.from(2, PLAIN, &start("t", 9, 1))[0].contains("accept"));
    assert!(world.from(1, PLAIN, &call(7, "ping"))[0].starts_with("deliver"));
    world.pass(601);
    let lines = upload(&mut world, 1, &cut("t", &long_call(5, 5_000), Handshake::Skip));
    assert!(lines[0].starts_with("deliver c1"), "{lines:?}");
}
