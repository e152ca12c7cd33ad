//! Refusals: silence on a private server, one fixed error within a budget on an announced one (T25, T26, T38).
use contextvm_core::Limits;
use contextvm_engine::ServerConfig;
use contextvm_engine::server::Access;

use crate::world::{EPHEMERAL, PLAIN, Step, WRAP, World, call, check, public};

fn only_first(announced: bool) -> ServerConfig {
    let access = Access { allowed: Some([public(1)].into()), announced, ..Access::default() };
    ServerConfig { access, ..ServerConfig::default() }
}

#[test]
fn a_private_server_says_nothing_to_strangers() {
    let mut world = World::new(only_first(false));
    for content in
        [&call(1, "initialize"), &call(1, "ping"), r#"{"jsonrpc":"2.0","method":"notifications/x"}"#]
    {
        assert_eq!(world.from(2, WRAP, content), ["drop NotAllowed"]);
    }
    assert!(world.from(1, WRAP, &call(1, "ping"))[0].starts_with("deliver"));
    assert_eq!(world.machine.load().sessions, 1);
    assert_eq!(world.machine.load().stranger_sessions, 0);
}

#[test]
fn an_announced_server_refuses_requests_with_bare_tags_and_makes_no_session() {
    check(
        only_first(true),
        &[
            (
                Step::From(2, PLAIN, r#"{"jsonrpc":"2.0","id":"x","method":"tools/list"}"#),
                &[
                    r#"publish 25910 to c2 [e=$0] {"jsonrpc":"2.0","id":"x","error":{"code":-32000,"message":"Unauthorized"}}"#,
                    "drop NotAllowed",
                ],
            ),
            (Step::Again(0, PLAIN), &["drop NotAllowed"]),
            (
                Step::From(2, EPHEMERAL, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#),
                &[
                    r#"publish 21059 to c2 [e=$1] {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"Unauthorized"}}"#,
                    "drop NotAllowed",
                ],
            ),
            (Step::From(2, PLAIN, r#"{"jsonrpc":"2.0","method":"notifications/x"}"#), &["drop NotAllowed"]),
            (Step::From(2, PLAIN, r#"{"jsonrpc":"2.0","id":9,"result":{}}"#), &["drop NotAllowed"]),
            (
                Step::App(2, r#"{"jsonrpc":"2.0","id":"$1","result":{}}"#),
                &["undeliverable c2 UnknownRequest"],
            ),
        ],
    );
}

#[test]
fn refusals_are_published_within_a_budget_over_all_strangers() {
    let limits = Limits { refusals_per_minute: 5, ..Limits::default() };
    let mut world = World::new(ServerConfig { limits, ..only_first(true) });
    let publishes = |world: &mut World| -> usize {
        let lines: Vec<_> = (2..40).flat_map(|n| world.from(n, PLAIN, &call(1, "ping"))).collect();
        lines.iter().filter(|line| line.starts_with("publish")).count()
    };
    assert_eq!(publishes(&mut world), 5);
    world.pass(59);
    assert_eq!(publishes(&mut world), 0);
    world.pass(1);
    assert_eq!(publishes(&mut world), 5);
}

#[test]
fn a_named_capability_is_open_by_its_exact_name() {
    let mut config = only_first(false);
    config.access.excluded = vec![
        ("tools/call".to_owned(), Some("add".to_owned())),
        ("resources/read".to_owned(), Some("file:///a".to_owned())),
    ];
    let mut world = World::new(config);
    let request = |method: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
    };
    for (method, params, open) in [
        ("tools/call", r#"{"name":"add"}"#, true),
        ("tools/call", r#"{"name":"\u0061dd","arguments":{}}"#, true),
        ("tools/call", r#"{"name":"Add"}"#, false),
        ("tools/call", r#"{"name":"add "}"#, false),
        ("tools/call", r#"{"Name":"add"}"#, false),
        ("tools/call", r#"{"uri":"add"}"#, false),
        ("resources/read", r#"{"uri":"file:///a"}"#, true),
        ("resources/read", r#"{"name":"file:///a","uri":"file:///b"}"#, false),
        ("prompts/get", r#"{"name":"add"}"#, false),
    ] {
        let lines = world.from(2, PLAIN, &request(method, params));
        assert_eq!(lines[0].starts_with("deliver"), open, "{method} {params}: {lines:?}");
    }
    assert_eq!(world.machine.load().sessions, 0, "an open capability establishes nobody");
}
