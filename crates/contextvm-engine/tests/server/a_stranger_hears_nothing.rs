//! Broadcasts go to initialised members only, one copy each (T18).
use contextvm_core::{Limits, Mono, Now};
use contextvm_engine::server::Access;
use contextvm_engine::{ServerConfig, ServerInput, ServerOutput};

use crate::world::{
    EPHEMERAL, PLAIN, START, Step, WRAP, World, call, check, event, machine, opened, public, told,
};

const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const NEWS: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
const UPDATED: &str =
    r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///a"}}"#;

#[test]
fn a_caller_that_is_in_by_an_open_capability_alone_hears_no_broadcast() {
    let access = Access {
        allowed: Some([public(1)].into()),
        excluded: vec![("tools/list".to_owned(), None)],
        ..Access::default()
    };
    let mut world = World::new(ServerConfig { access, ..ServerConfig::default() });
    for n in [1, 2] {
        assert_eq!(world.from(n, PLAIN, &call(0, "initialize")).len(), 2);
        world.done(world.events.len() - 1);
        assert_eq!(world.from(n, PLAIN, INITIALIZED).len(), 1);
    }
    assert_eq!(world.broadcast(NEWS), [format!("publish 25910 to c1 [] {NEWS}")]);
}

#[test]
fn one_copy_goes_to_each_initialised_session_at_its_own_floor() {
    let mut world = World::new(ServerConfig::default());
    for (n, protection) in [(1, PLAIN), (2, WRAP), (3, EPHEMERAL), (4, PLAIN)] {
        let event = world.events.len();
        world.from(n, protection, &call(0, "initialize"));
        world.done(event);
        if n < 4 {
            world.from(n, protection, INITIALIZED);
        }
    }
    let mut heard = world.broadcast(NEWS);
    heard.sort();
    assert_eq!(
        heard,
        [
            format!("publish 1059 to c2 [] {NEWS}"),
            format!("publish 21059 to c3 [] {NEWS}"),
            format!("publish 25910 to c1 [] {NEWS}"),
        ]
    );
}

#[test]
fn a_resource_update_goes_to_its_subscribers() {
    const SUBSCRIBE: &str =
        r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"file:///a"}}"#;
    const UNSUBSCRIBE: &str =
        r#"{"jsonrpc":"2.0","id":2,"method":"resources/unsubscribe","params":{"uri":"file:///a"}}"#;
    let mut world = World::new(ServerConfig::default());
    for n in [1, 2, 3] {
        world.from(n, PLAIN, INITIALIZED);
    }
    for n in [1, 2] {
        world.from(n, PLAIN, SUBSCRIBE);
    }
    world.done(3);
    let refused = r#"{"jsonrpc":"2.0","id":"$4","error":{"code":-32002,"message":"no"}}"#;
    world.app(2, refused);
    assert_eq!(world.broadcast(UPDATED), [format!("publish 25910 to c1 [] {UPDATED}")]);
    world.from(1, PLAIN, UNSUBSCRIBE);
    assert!(world.broadcast(UPDATED).is_empty());
}

/// Whoever takes a subscription back hears no updates, whatever the application makes of it.
#[test]
fn a_subscription_that_was_taken_back_is_none() {
    let subscribe = r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"file:///a"}}"#;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    let ends: [fn(&mut World); 3] = [
        |world| drop(world.done(1)),
        |world| {
            world.app(1, r#"{"jsonrpc":"2.0","id":"$1","error":{"code":-32002,"message":"no"}}"#);
        },
        |world| drop(world.pass(61)),
    ];
    for (nth, end) in ends.into_iter().enumerate() {
        let mut world = World::new(ServerConfig::default());
        world.from(1, PLAIN, INITIALIZED);
        world.from(1, PLAIN, subscribe);
        assert_eq!(world.broadcast(UPDATED).len(), 1, "it is subscribed at once");
        world.from(1, PLAIN, cancel);
        end(&mut world);
        assert!(world.broadcast(UPDATED).is_empty(), "{nth}");
    }
}

#[test]
fn a_subscription_that_is_not_kept_is_refused() {
    let subscribe = |id: u32, uri: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"resources/subscribe","params":{{"uri":"{uri}"}}}}"#)
    };
    let mut world = World::new(ServerConfig::default());
    world.from(1, PLAIN, INITIALIZED);
    for n in 0..129 {
        let event = world.events.len();
        let lines = world.from(1, PLAIN, &subscribe(n, &format!("file:///{n}")));
        assert_eq!(lines[0].starts_with("deliver"), n < 128, "{lines:?}");
        if n < 128 {
            world.done(event);
        } else {
            assert!(lines[0].contains(r#""message":"Busy""#), "{lines:?}");
        }
    }
    let again = world.from(1, PLAIN, &subscribe(200, "file:///7"));
    assert!(again[0].starts_with("deliver"), "what is kept already needs no room: {again:?}");
    let refused = world.events.len() - 1;
    world.app(
        1,
        &format!(r#"{{"jsonrpc":"2.0","id":"${refused}","error":{{"code":-32002,"message":"no"}}}}"#),
    );
    let update =
        r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///7"}}"#;
    assert_eq!(world.broadcast(update).len(), 1, "and is not lost when the second request for it fails");
    let long = format!("file:///{}", "x".repeat(3_000));
    world.from(2, PLAIN, INITIALIZED);
    assert_eq!(world.from(2, PLAIN, &subscribe(1, &long)), ["drop Busy"]);
}

#[test]
fn strangers_leave_room_for_the_subscriptions_of_others() {
    let limits = Limits { in_flight: 4_096, in_flight_per_caller: 129, ..Limits::default() };
    let mut machine = machine(ServerConfig { limits, ..ServerConfig::default() });
    let now = Now { mono: Mono(0), unix: START };
    let mut heard = |n: u32, content: &str| {
        let opened = opened(event(n, START, content, &[]), PLAIN, START);
        let id = opened.event().id;
        (id, told(&mut machine, ServerInput::Opened(Box::new(opened)), now))
    };
    let subscribe = |uri: u32| {
        let name = "x".repeat(1_900);
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{{"uri":"{uri}{name}"}}}}"#
        )
    };
    let mut kept = 0;
    for n in 2..12 {
        for uri in 0..128 {
            let (_, outputs) = heard(n, &subscribe(uri));
            kept += usize::from(matches!(outputs[0], ServerOutput::Deliver { .. }));
        }
    }
    assert!((1_000..1_100).contains(&kept), "two mebibytes of two kibibytes each: {kept}");
    let (ping, _) = heard(1, &call(1, "ping"));
    let message = format!(r#"{{"jsonrpc":"2.0","id":"{}","result":{{}}}}"#, ping.to_hex());
    told(&mut machine, ServerInput::Send { to: public(1), message }, now);
    let subscribed = opened(event(1, START, &subscribe(0), &[]), PLAIN, START);
    let outputs = told(&mut machine, ServerInput::Opened(Box::new(subscribed)), now);
    assert!(matches!(outputs[0], ServerOutput::Deliver { .. }), "{outputs:?}");
}

#[test]
fn progress_and_subscriptions_are_never_broadcast() {
    check(
        ServerConfig::default(),
        &[
            (
                Step::From(1, PLAIN, INITIALIZED),
                &[r#"deliver c1 {"jsonrpc":"2.0","method":"notifications/initialized"}"#],
            ),
            (
                Step::From(
                    2,
                    PLAIN,
                    r#"{"jsonrpc":"2.0","id":"l","method":"subscriptions/listen","params":{"_meta":{"progressToken":7}}}"#,
                ),
                &[
                    r#"deliver c2 {"jsonrpc":"2.0","id":"$1","method":"subscriptions/listen","params":{"_meta":{"progressToken":"$1"}}}"#,
                ],
            ),
            (
                Step::Broadcast(
                    r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"$1","progress":1}}"#,
                ),
                &[
                    r#"publish 25910 to c2 [support_encryption,support_encryption_ephemeral,support_oversized_transfer,support_open_stream,support_repeats] {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"progress":1}}"#,
                ],
            ),
            (
                Step::Broadcast(
                    r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"$1"}}}"#,
                ),
                &[
                    r#"publish 25910 to c2 [e=$1] {"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"l"}}}"#,
                ],
            ),
            (
                Step::Broadcast(
                    r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"progress":1}}"#,
                ),
                &["drop UnknownRequest"],
            ),
            (Step::Broadcast(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#), &["drop Unsupported"]),
            (Step::Broadcast("nonsense"), &["drop Malformed"]),
        ],
    );
}
