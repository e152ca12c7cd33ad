//! An inner id is executed at most once, whichever way and however often it comes (T02-T05; `OTHERS=1000000` for T03).
use contextvm_core::{Limits, Mono, Now};
use contextvm_engine::{DropReason, ServerConfig, ServerInput, ServerOutput};

use crate::world::{
    EPHEMERAL, PLAIN, START, Step, WRAP, World, call, check, count, event, machine, opened, told,
};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
const PING_0: &str = r#"deliver c1 {"jsonrpc":"2.0","id":"$0","method":"ping"}"#;

#[test]
fn the_same_event_from_eight_relays_is_delivered_once() {
    let mut world = World::new(ServerConfig::default());
    assert_eq!(world.from(1, PLAIN, PING), [PING_0]);
    for _ in 1..8 {
        assert_eq!(world.again(0, PLAIN), ["drop Duplicate"]);
    }
}

#[test]
fn five_wraps_around_one_inner_event_are_one_request() {
    let mut world = World::new(ServerConfig::default());
    assert_eq!(world.from(1, WRAP, PING), [PING_0]);
    for wrap in [WRAP, EPHEMERAL, WRAP, EPHEMERAL] {
        assert_eq!(world.again(0, wrap), ["drop Duplicate"]);
    }
}

#[test]
fn a_plaintext_request_that_a_stranger_wraps_is_a_duplicate() {
    check(
        ServerConfig::default(),
        &[
            (Step::From(1, PLAIN, PING), &[PING_0]),
            (Step::Again(0, WRAP), &["drop Duplicate"]),
            (
                Step::App(1, r#"{"jsonrpc":"2.0","id":"$0","result":{}}"#),
                &[
                    r#"publish 25910 to c1 [e=$0,support_encryption,support_encryption_ephemeral,support_oversized_transfer,support_open_stream,support_repeats] {"jsonrpc":"2.0","id":1,"result":{}}"#,
                ],
            ),
            (
                Step::Again(0, WRAP),
                &[
                    r#"publish 25910 to c1 [e=$0,support_encryption,support_encryption_ephemeral,support_oversized_transfer,support_open_stream,support_repeats] {"jsonrpc":"2.0","id":1,"result":{}}"#,
                ],
            ),
        ],
    );
}

#[test]
fn an_answered_request_gets_the_same_answer_again_a_few_times_at_once_and_then_ever_more_rarely_while_it_is_kept()
 {
    let mut world = World::new(ServerConfig {
        limits: Limits { ledger_ttl: core::time::Duration::from_secs(300), ..Limits::default() },
        ..ServerConfig::default()
    });
    world.from(1, PLAIN, PING);
    let answer = world.done(0);
    assert_eq!(answer.len(), 1);
    for _ in 0..4 {
        assert_eq!(world.again(0, PLAIN), answer, "a client that restarts signs the same event again");
    }
    assert_eq!(world.again(0, PLAIN), ["drop Duplicate"], "within the same second");
    world.pass(1);
    assert_eq!(world.again(0, PLAIN), answer);
    assert_eq!(world.again(0, PLAIN), ["drop Duplicate"]);
    assert_ne!(world.drafts[0].id, world.drafts[1].id, "relays pass on an id only once");
    assert_eq!(world.drafts[0].content, world.drafts[1].content);
    for seconds in [2, 4, 8, 16] {
        world.pass(seconds - 1);
        assert_eq!(world.again(0, PLAIN), ["drop Duplicate"], "{seconds}");
        world.pass(1);
        assert_eq!(world.again(0, PLAIN), answer, "{seconds}");
    }
    world.pass(300);
    let again = world.again(0, PLAIN);
    assert!(again.len() == 1 && again[0].contains("its answer is not kept"), "{again:?}");
    for _ in 0..4 {
        assert_eq!(world.again(0, PLAIN), again, "kept as an answer");
    }
    assert_eq!(world.again(0, PLAIN), ["drop Duplicate"]);
}

#[test]
fn an_encrypted_answer_is_repeated_as_the_same_inner_event() {
    let mut world = World::new(ServerConfig::default());
    world.from(1, WRAP, PING);
    let answer = world.done(0);
    world.pass(5);
    assert_eq!(world.again(0, WRAP), answer);
    assert_eq!(world.drafts[0], world.drafts[1]);
}

#[test]
fn replay_after_two_hundred_others() {
    let limits = Limits { age_window: 10, age_skew: 2, in_flight_per_caller: 1, ..Limits::default() };
    let mut world = World::new(ServerConfig { limits, ..ServerConfig::default() });
    world.from(1, PLAIN, PING);
    world.done(0);
    for n in 0..200 {
        let request = call(n + 2, "ping");
        assert!(world.from(1, PLAIN, &request)[0].starts_with("deliver"));
        world.done(world.events.len() - 1);
    }
    for _ in 0..4 {
        assert!(world.again(0, PLAIN)[0].starts_with("publish"));
    }
    for _ in 0..1_000 {
        assert_eq!(world.again(0, PLAIN), ["drop Duplicate"]);
    }
    world.pass(10);
    let again = world.again(0, PLAIN);
    assert!(again[0].starts_with("publish"), "still the same answer: {again:?}");
    world.pass(1);
    assert!(world.again(0, PLAIN)[0].starts_with("refused Age"), "from now on it is too old");
}

#[test]
fn replay_after_a_million() {
    let mut machine = machine(ServerConfig::default());
    let now = Now { mono: Mono(0), unix: START };
    let first = event(1, START - 500, PING, &[]);
    let replay = |protection| ServerInput::Opened(Box::new(opened(first.clone(), protection, START)));
    assert!(matches!(told(&mut machine, replay(PLAIN), now)[..], [ServerOutput::Deliver { .. }]));
    for n in 0..count("OTHERS", 10_000) {
        let content = format!(r#"{{"jsonrpc":"2.0","method":"notifications/x","params":{{"n":{n}}}}}"#);
        let other = opened(event(2 + n % 64, START, &content, &[]), PLAIN, START);
        let outputs = told(&mut machine, ServerInput::Opened(Box::new(other)), now);
        assert!(
            matches!(
                outputs[..],
                [ServerOutput::Deliver { .. } | ServerOutput::Refused { reason: DropReason::SeenFull, .. }]
            ),
            "{outputs:?}"
        );
    }
    let protections = [PLAIN, WRAP, EPHEMERAL];
    for n in 0..1_000 {
        let outputs = told(&mut machine, replay(protections[n % 3]), now);
        assert!(
            matches!(outputs[..], [ServerOutput::Refused { reason: DropReason::Duplicate, .. }]),
            "{outputs:?}"
        );
    }
}

#[test]
fn a_full_window_refuses_new_work_and_forgets_nothing() {
    let limits = Limits { seen_ids: 32, age_window: 10, age_skew: 2, ..Limits::default() };
    let mut world = World::new(ServerConfig { limits, ..ServerConfig::default() });
    for n in 0..23 {
        world.from(1, PLAIN, &call(n, "ping"));
        world.done(world.events.len() - 1);
    }
    world.from(3, PLAIN, PING);
    world.done(23);
    assert_eq!(world.from(2, PLAIN, PING), ["drop SeenFull"], "strangers leave room for those who are known");
    let busy = world.from(1, PLAIN, &call(99, "ping"));
    assert!(
        busy[0].contains("Busy") && busy[1] == "drop SeenFull",
        "and so does who took most of it: {busy:?}"
    );
    assert!(world.from(3, PLAIN, &call(8, "ping"))[0].starts_with("deliver"));
    let busy = world.from(3, PLAIN, &call(9, "ping"));
    assert!(busy[0].contains("Busy") && busy[1] == "drop SeenFull", "{busy:?}");
    let refused = world.events.len() - 1;
    assert!(world.again(0, PLAIN)[0].starts_with("publish"), "remembered, and its answer too");
    world.pass(13);
    for n in [1, 2] {
        let again = world.from(n, PLAIN, PING);
        assert!(again[0].starts_with("deliver"), "room again once the first ones are too old: {again:?}");
    }
    world.pass(0);
    assert!(
        !world.again(refused, PLAIN)[0].starts_with("deliver"),
        "what was refused aloud is never executed"
    );
}

#[test]
fn a_full_server_says_so_to_those_it_knows_a_few_times_a_minute() {
    let limits = Limits { seen_ids: 128, refusals_per_minute: 20, ..Limits::default() };
    let mut world = World::new(ServerConfig { limits, ..ServerConfig::default() });
    for n in 0..126 {
        world.from(n % 32 + 1, PLAIN, &call(n, "ping"));
        world.done(world.events.len() - 1);
    }
    assert_eq!(world.machine.load().seen_ids, 126, "the last two places are left");
    assert_eq!(world.from(99, PLAIN, PING), ["drop SeenFull"], "a stranger");
    for n in [1, 2] {
        let lines = world.from(n, PLAIN, &call(500, "ping"));
        assert!(lines.len() == 2 && lines[0].contains("Busy") && lines[1] == "drop SeenFull", "{lines:?}");
    }
    assert_eq!(world.from(3, PLAIN, &call(500, "ping")), ["drop SeenFull"], "no id fits any more");
    assert_eq!(world.machine.load().seen_ids, 128);
    world.pass(661);
    for nth in [127, 128] {
        assert!(world.again(nth, PLAIN)[0].starts_with("refused Age"));
    }
}

#[test]
fn strangers_push_no_answer_out_that_a_known_caller_was_given() {
    let limits = Limits { sessions: 1, ledger_bytes: 64 * 1024, ..Limits::default() };
    let mut world = World::new(ServerConfig { limits, ..ServerConfig::default() });
    world.from(1, PLAIN, PING);
    let answer = world.done(0);
    for n in 2..400 {
        let request = event(n, START, PING, &[]);
        let nth = world.events.len();
        world.now.mono.0 += 1;
        world.arrives(n, PLAIN, request);
        world.done(nth);
    }
    assert!(world.machine.load().ledger_bytes <= 33 * 1024, "half of it is not for strangers");
    assert_eq!(world.again(0, PLAIN), answer);
    assert!(world.again(398, PLAIN)[0].contains("result"), "the newest of theirs is there");
    let lines = world.again(1, PLAIN);
    assert!(lines[0].contains("its answer is not kept"), "and the oldest is not: {lines:?}");
}

#[test]
fn a_refused_event_takes_no_room_in_the_window() {
    let access = contextvm_engine::server::Access { allowed: Some([].into()), ..Default::default() };
    let mut world = World::new(ServerConfig { access, ..ServerConfig::default() });
    for n in 0..50 {
        assert_eq!(world.from(1, PLAIN, &call(n, "ping")), ["drop NotAllowed"]);
    }
    assert_eq!(world.machine.load().seen_ids, 0);
    assert_eq!(world.machine.load().stranger_sessions, 0);
}

#[test]
fn an_event_whose_id_may_have_been_forgotten_is_stale_even_when_the_clock_goes_back() {
    let limits = Limits { age_window: 10, age_skew: 2, ..Limits::default() };
    let mut world = World::new(ServerConfig { limits, ..ServerConfig::default() });
    world.from(1, PLAIN, PING);
    world.done(0);
    world.pass(13);
    assert!(world.handle(ServerInput::Wake).is_empty());
    assert_eq!(world.machine.load().seen_ids, 0);
    world.now.unix = START;
    assert_eq!(world.again(0, PLAIN), ["drop Stale"]);
}

#[test]
fn content_that_is_no_message_is_met_with_silence() {
    let mut world = World::new(ServerConfig::default());
    for content in
        ["", "hello", "[]", r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, r#"{"jsonrpc":"1.0"}"#]
    {
        assert_eq!(world.from(1, PLAIN, content), ["drop Malformed"], "{content}");
    }
    let deep = format!(
        r#"{{"jsonrpc":"2.0","method":"x","params":{{"a":{}{}}}}}"#,
        "[".repeat(100),
        "]".repeat(100)
    );
    assert_eq!(world.from(1, PLAIN, &deep), ["drop Budget"]);
    assert_eq!(world.machine.load().stranger_sessions, 0);
}
