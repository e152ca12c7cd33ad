//! Strangers reach no application and end nobody's session, so they cost no child process (T39).
use contextvm_engine::ServerConfig;
use contextvm_engine::server::Access;

use crate::world::{PLAIN, WRAP, World, call, public};

#[test]
fn a_thousand_strangers_no_children() {
    let access = Access { allowed: Some((1..17).map(public).collect()), ..Access::default() };
    let mut world = World::new(ServerConfig { access, ..ServerConfig::default() });
    for n in 1..17 {
        assert_eq!(world.from(n, WRAP, &call(0, "initialize")).len(), 2);
    }
    for n in 17..1_017 {
        let protection = if n % 2 == 0 { PLAIN } else { WRAP };
        for content in [
            &call(0, "initialize"),
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"fork"}}"#,
        ] {
            assert_eq!(world.from(n, protection, content), ["drop NotAllowed"]);
        }
    }
    let load = world.machine.load();
    assert_eq!((load.sessions, load.stranger_sessions, load.in_flight), (16, 0, 16));
    for n in 0..16 {
        assert!(world.done(n)[0].starts_with("publish"), "those who are allowed were not disturbed");
    }
}
