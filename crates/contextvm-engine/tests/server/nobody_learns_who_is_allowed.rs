//! Refusals: silence on a private server, a fixed error within a budget on an announced one (T25, T26, T38; `PROBES`).
use std::time::Instant;

use contextvm_core::{Limits, Mono, Now};
use contextvm_engine::server::Access;
use contextvm_engine::{DropReason, ServerConfig, ServerInput, ServerOutput};
use nostr::key::PublicKey;

use crate::world::{
    EPHEMERAL, PLAIN, START, Step, WRAP, World, call, check, count, event, machine, opened, public, told,
};

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
fn one_stranger_leaves_refusals_for_the_others() {
    let mut world = World::new(only_first(true));
    let mut answered = |n: u32| {
        let lines: Vec<_> = (0..60).flat_map(|id| world.from(n, PLAIN, &call(id, "ping"))).collect();
        lines.iter().filter(|line| line.starts_with("publish")).count()
    };
    assert_eq!((answered(2), answered(3)), (6, 6));
}

/// Means and common standard deviation of two samples, without the slowest hundredth of both together.
fn compared(samples: [&mut Vec<f64>; 2]) -> (f64, f64, f64) {
    let mut all: Vec<f64> = samples.iter().flat_map(|sample| sample.iter().copied()).collect();
    all.sort_by(f64::total_cmp);
    all.truncate(all.len() - all.len() / 100);
    let slowest = *all.last().unwrap();
    let mean = |sample: &[f64]| sample.iter().sum::<f64>() / sample.len() as f64;
    let middle = mean(&all);
    let sigma = (all.iter().map(|time| (time - middle).powi(2)).sum::<f64>() / all.len() as f64).sqrt();
    let [one, two] = samples.map(|sample| {
        sample.retain(|time| *time <= slowest);
        mean(sample)
    });
    (one, two, sigma)
}

#[test]
fn the_time_of_a_refusal_does_not_tell_how_near_an_allowed_key_is() {
    // Two lists of the same order: one has a key that differs from the stranger's in its last bit only.
    let mut machines = [31, 4].map(|byte| {
        let mut other = public(2).to_bytes();
        other[byte] ^= 1;
        let allowed = (10..74).map(public).chain([PublicKey::from_byte_array(other)]).collect();
        let access = Access { allowed: Some(allowed), ..Access::default() };
        machine(ServerConfig { access, ..ServerConfig::default() })
    });
    let probe = event(2, START, &call(1, "ping"), &[]);
    let now = Now { mono: Mono(0), unix: START };
    let mut order = 1_u64;
    // A busy machine can fake a difference once, but not three times in a row.
    let is_alike = (0..3).any(|_| {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..count("PROBES", 100_000) {
            order = order.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let which = usize::from(order >> 63 == 1);
            let probe = probe.clone();
            // What a stranger could measure begins with the signature.
            let start = Instant::now();
            let probe = ServerInput::Opened(Box::new(opened(probe, PLAIN, START)));
            let outputs = told(&mut machines[which], probe, now);
            times[which].push(start.elapsed().as_nanos() as f64);
            assert!(matches!(outputs[..], [ServerOutput::Refused { reason: DropReason::NotAllowed, .. }]));
        }
        let [one, two] = &mut times;
        let (one, two, sigma) = compared([one, two]);
        println!("near {one:.1} ns, far {two:.1} ns, sigma {sigma:.1} ns");
        (one - two).abs() < 0.05 * sigma
    });
    assert!(is_alike);
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
