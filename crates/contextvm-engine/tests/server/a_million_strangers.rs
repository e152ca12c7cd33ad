//! Strangers only ever evict each other (T33; `STRANGERS=1000000` makes a million of them, in some minutes).
use contextvm_core::{Limits, Mono, Now};
use contextvm_engine::server::Access;
use contextvm_engine::{ServerConfig, ServerInput, ServerOutput};

use crate::world::{PLAIN, START, World, call, count, event, machine, opened, public, told};

fn small() -> Limits {
    Limits { stranger_sessions: 8, sessions: 4, ..Limits::default() }
}

const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const NEWS: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;

#[test]
fn an_established_caller_outlives_a_million_strangers() {
    let limits = Limits { seen_ids: 1_024, age_window: 4, age_skew: 0, ..Limits::default() };
    let mut machine = machine(ServerConfig { limits, ..ServerConfig::default() });
    let mut now = Now { mono: Mono(0), unix: START };
    let first = opened(event(1, START, &call(1, "ping"), &[]), PLAIN, START);
    let answer = format!(r#"{{"jsonrpc":"2.0","id":"{}","result":{{}}}}"#, first.event().id.to_hex());
    told(&mut machine, ServerInput::Opened(Box::new(first)), now);
    told(&mut machine, ServerInput::Send { to: public(1), message: answer }, now);
    told(&mut machine, ServerInput::Opened(Box::new(opened(event(1, START, NOTE, &[]), PLAIN, START))), now);
    let mut ended = 0;
    for n in 0..count("STRANGERS", 20_000) {
        // A hundred a second, and the established caller shows up every twenty minutes.
        now = Now { mono: Mono(u64::from(n) * 10), unix: START + u64::from(n) / 100 };
        if n % 120_000 == 119_999 {
            let ping = opened(event(1, now.unix, NOTE, &[]), PLAIN, now.unix);
            told(&mut machine, ServerInput::Opened(Box::new(ping)), now);
        }
        let note = opened(event(n + 2, now.unix, NOTE, &[]), PLAIN, now.unix);
        for output in told(&mut machine, ServerInput::Opened(Box::new(note)), now) {
            if let ServerOutput::Ended(caller) = output {
                assert_ne!(caller, public(1));
                ended += 1;
            } else {
                assert!(matches!(output, ServerOutput::Deliver { .. }), "{output:?}");
            }
        }
        assert!(machine.load().stranger_sessions <= 1_024);
    }
    assert_eq!(machine.load().sessions, 1);
    assert!(ended > 18_900);
    let heard = told(&mut machine, ServerInput::Broadcast(NEWS.to_owned()), now);
    let first =
        |output: &ServerOutput| matches!(output, ServerOutput::Publish(sent) if sent.recipient == public(1));
    assert_eq!(heard.iter().filter(|output| first(output)).count(), 1);
    assert_eq!(heard.len(), 1_025);
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
fn long_tags_and_tags_of_many_elements_are_not_remembered() {
    let mut machine = machine(ServerConfig::default());
    let now = Now { mono: Mono(0), unix: START };
    let (long, many) = ("x".repeat(10_000), [""; 40]);
    let tags: [&[&str]; 4] = [&["name", &long], &many, &["support_server_requests"], &["pmi", "a"]];
    let mut tags = tags.to_vec();
    tags.extend([&["unknown", "b"][..]; 100]);
    let note = opened(event(1, START, NOTE, &tags), PLAIN, START);
    let outputs = told(&mut machine, ServerInput::Opened(Box::new(note)), now);
    let [ServerOutput::Deliver { tags, .. }] = outputs.as_slice() else { panic!("{outputs:?}") };
    assert!(tags.server_requests, "the short tag beside them counts");
    assert_eq!((&tags.name, tags.raw[1].as_slice()[0].as_str()), (&None, "pmi"));
    assert!((5..12).contains(&tags.raw.len()), "{}", tags.raw.len());
}
