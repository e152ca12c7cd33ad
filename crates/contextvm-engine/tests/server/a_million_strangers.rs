//! Strangers only ever evict each other (T33, reduced to what a test may sign).
use contextvm_core::Limits;
use contextvm_engine::ServerConfig;
use contextvm_engine::server::Access;

use crate::world::{PLAIN, World, call, public};

fn small() -> Limits {
    Limits { stranger_sessions: 8, sessions: 4, ..Limits::default() }
}

const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const NEWS: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;

#[test]
fn an_established_caller_outlives_three_hundred_strangers() {
    let mut world = World::new(ServerConfig { limits: small(), ..ServerConfig::default() });
    world.from(1, PLAIN, &call(1, "ping"));
    world.done(0);
    world.from(1, PLAIN, NOTE);
    for n in 2..302 {
        world.from(n, PLAIN, NOTE);
        let load = world.machine.load();
        assert!(load.stranger_sessions <= 8 && load.sessions <= 4, "{load:?}");
    }
    let heard = world.broadcast(NEWS);
    assert!(heard.iter().any(|line| line.starts_with("publish 25910 to c1 ")), "{heard:?}");
    assert_eq!(heard.len(), 9);
}

#[test]
fn strangers_who_get_answers_fill_the_table_once_and_evict_nobody_from_it() {
    let mut world = World::new(ServerConfig { limits: small(), ..ServerConfig::default() });
    for n in 1..40 {
        let event = world.events.len();
        world.from(n, PLAIN, &call(1, "ping"));
        let lines = world.done(event);
        assert!(!lines.iter().any(|line| line == "ended c1"), "{lines:?}");
    }
    assert_eq!(world.machine.load().sessions, 4);
    assert_eq!(world.machine.load().stranger_sessions, 8);
}

#[test]
fn a_listed_caller_gets_a_session_even_when_the_table_is_full_of_idle_ones() {
    let access = Access { allowed: Some((1..20).map(public).collect()), ..Access::default() };
    let mut world = World::new(ServerConfig { limits: small(), access, ..ServerConfig::default() });
    for n in 1..5 {
        world.from(n, PLAIN, NOTE);
        world.pass(1);
    }
    let lines = world.from(5, PLAIN, NOTE);
    assert_eq!(lines[0], "ended c1", "the one that was idle longest goes");
    assert!(lines[1].starts_with("deliver c5"));
}

#[test]
fn a_session_with_a_request_in_flight_is_not_evicted_and_not_forgotten() {
    let mut world = World::new(ServerConfig { limits: small(), ..ServerConfig::default() });
    world.from(1, PLAIN, &call(1, "slow"));
    for n in 2..50 {
        world.from(n, PLAIN, NOTE);
    }
    let later = world.pass(24 * 3_600);
    assert!(!later.contains(&"ended c1".to_owned()));
    assert_eq!(world.machine.load().stranger_sessions, 1);
    assert!(world.done(0)[0].starts_with("publish 25910 to c1"));
    assert_eq!(world.pass(30 * 60), ["ended c1"]);
    assert_eq!(world.machine.load().sessions, 0);
}

#[test]
fn long_tags_are_not_remembered() {
    let mut world = World::new(ServerConfig::default());
    let long = "x".repeat(10_000);
    let tags: Vec<Vec<&str>> = vec![vec!["name", &long], vec!["support_server_requests"]];
    let tags: Vec<&[&str]> = tags.iter().map(Vec::as_slice).collect();
    world.tagged(1, PLAIN, NOTE, &tags);
    let asked = world.app(1, &call(1, "roots/list"));
    assert!(asked[0].starts_with("publish"), "the short tag beside it counts: {asked:?}");
}
