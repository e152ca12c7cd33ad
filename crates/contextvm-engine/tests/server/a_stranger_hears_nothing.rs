//! Broadcasts go to initialised members only, one copy each (T18).
use contextvm_engine::ServerConfig;
use contextvm_engine::server::Access;

use crate::world::{EPHEMERAL, PLAIN, Step, WRAP, World, call, check, public};

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
                    r#"publish 25910 to c2 [support_encryption,support_encryption_ephemeral,support_repeats] {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"progress":1}}"#,
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
