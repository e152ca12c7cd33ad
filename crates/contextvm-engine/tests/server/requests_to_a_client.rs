//! Requests of the application go to callers that offered to answer, and come back by their event (T09, T23).
use contextvm_core::Limits;
use contextvm_engine::{ServerConfig, ServerInput};

use crate::world::{PLAIN, World, call, public};

const ASK: &str = r#"{"jsonrpc":"2.0","id":"app-1","method":"elicitation/create","params":{"_meta":{"progressToken":"p"}}}"#;
const OFFER: &[&[&str]] = &[&["support_server_requests"]];

#[test]
fn a_caller_that_did_not_offer_is_not_asked_and_the_application_hears_so() {
    let mut world = World::new(ServerConfig::default());
    assert_eq!(world.app(1, ASK), [r#"unasked nobody "app-1" Unsupported"#]);
    world.from(1, PLAIN, &call(1, "ping"));
    assert_eq!(world.app(1, ASK), [r#"unasked c1 "app-1" Unsupported"#]);
}

#[test]
fn an_answer_is_matched_by_its_event_and_gets_the_own_id_back_once() {
    let mut world = World::new(ServerConfig::default());
    world.tagged(1, PLAIN, &call(1, "ping"), OFFER);
    world.tagged(2, PLAIN, &call(1, "ping"), OFFER);
    world.done(0);
    assert_eq!(world.app(1, ASK), [format!("publish 25910 to c1 [] {ASK}")]);
    let asked = world.drafts.last().unwrap().id.to_hex();
    let answer = r#"{"jsonrpc":"2.0","id":"whatever","result":{"action":"accept"}}"#;
    assert_eq!(world.from(1, PLAIN, answer), ["drop Uncorrelated"], "no e");
    assert_eq!(world.tagged(2, PLAIN, answer, &[&["e", &asked]]), ["drop Uncorrelated"], "somebody else");
    let progress =
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":1}}"#;
    assert_eq!(world.from(1, PLAIN, progress), [format!("deliver c1 {progress}")]);
    assert_eq!(world.from(2, PLAIN, progress), ["drop UnknownRequest"]);
    assert_eq!(
        world.tagged(1, PLAIN, answer, &[&["e", &asked]]),
        [r#"deliver c1 {"jsonrpc":"2.0","id":"app-1","result":{"action":"accept"}}"#,]
    );
    assert_eq!(world.again(6, PLAIN), ["drop Duplicate"]);
    let second = r#"{"jsonrpc":"2.0","id":"whatever","result":{"action":"decline"}}"#;
    assert_eq!(world.tagged(1, PLAIN, second, &[&["e", &asked]]), ["drop Uncorrelated"]);
}

#[test]
fn an_error_is_an_answer_too_and_questions_are_bounded() {
    let mut world = World::new(ServerConfig::default());
    world.tagged(1, PLAIN, &call(1, "ping"), OFFER);
    for n in 0..32 {
        assert_eq!(world.app(1, &call(n, "roots/list")).len(), 1);
    }
    assert_eq!(world.app(1, &call(32, "roots/list")), ["unasked c1 32 Busy"]);
    let asked = world.drafts[4].id.to_hex();
    let error = r#"{"jsonrpc":"2.0","error":{"code":-1,"message":"no"}}"#;
    let lines = world.tagged(1, PLAIN, error, &[&["e", &asked]]);
    assert_eq!(lines.len(), 1);
    let delivered: serde_json::Value =
        serde_json::from_str(lines[0].strip_prefix("deliver c1 ").unwrap()).unwrap();
    assert_eq!(delivered["id"], 4);
    world.pass(30 * 60);
    assert_eq!(world.machine.load().asked, 0, "nobody waits for ever");
}

#[test]
fn callers_that_answer_nothing_leave_room_for_questions_to_others_and_not_for_long() {
    let limits = Limits { in_flight: 64, in_flight_per_caller: 8, ..Limits::default() };
    let mut world = World::new(ServerConfig { limits, ..ServerConfig::default() });
    for n in 1..10 {
        world.tagged(n, PLAIN, &call(1, "ping"), OFFER);
    }
    let ask = |world: &mut World, n: u32| {
        (0..8).filter(|id| world.app(n, &call(*id, "roots/list"))[0].starts_with("publish")).count()
    };
    let strangers: usize = (1..10).map(|n| ask(&mut world, n)).sum();
    assert_eq!(strangers, 32, "half of all");
    for nth in 0..9 {
        world.done(nth);
    }
    let established: usize = (1..9).map(|n| ask(&mut world, n)).sum();
    assert_eq!(
        (established, ask(&mut world, 9)),
        (16 + 2, 1),
        "three quarters, and one each of those who have none"
    );
    world.pass(601);
    assert_eq!(world.machine.load().asked, 0);
    assert_eq!(world.machine.load().sessions, 9, "their sessions go on");
}

#[test]
fn nobody_hears_the_answer_to_a_question_of_a_session_that_is_gone() {
    let answer = r#"{"jsonrpc":"2.0","id":"app-1","result":{"action":"accept"}}"#;
    let ends: [fn(&mut World); 4] = [
        |world| drop(world.from(1, PLAIN, &call(2, "initialize"))),
        |world| drop(world.handle(ServerInput::SessionClosed(public(1)))),
        |world| drop(world.pass(30 * 60 + 1)),
        |world| {
            let cancel =
                r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"app\u002d1"}}"#;
            assert!(world.app(1, cancel)[0].starts_with("publish"));
        },
    ];
    for (nth, end) in ends.into_iter().enumerate() {
        let mut world = World::new(ServerConfig::default());
        world.tagged(1, PLAIN, &call(1, "ping"), OFFER);
        world.done(0);
        world.app(1, ASK);
        let asked = world.drafts.last().unwrap().id.to_hex();
        assert_eq!(world.machine.load().asked, 1);
        end(&mut world);
        assert_eq!(world.machine.load().asked, 0, "{nth}");
        assert_eq!(world.tagged(1, PLAIN, answer, &[&["e", &asked]]), ["drop Uncorrelated"], "{nth}");
    }
}
