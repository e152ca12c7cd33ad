//! No id on the wire means anything special (T20).
use contextvm_engine::ServerConfig;

use crate::world::{PLAIN, World};

#[test]
fn ids_that_other_implementations_reserve_are_ordinary() {
    let mut world = World::new(ServerConfig::default());
    for (nth, id) in
        [r#""announcement""#, r#""emulated""#, r#""""#, "0", "-1", "9007199254740991"].iter().enumerate()
    {
        let request = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
        assert_eq!(
            world.from(1, PLAIN, &request),
            [format!(r#"deliver c1 {{"jsonrpc":"2.0","id":"${nth}","method":"ping"}}"#)]
        );
        let answer = world.done(nth);
        assert!(
            answer[0].ends_with(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)),
            "{answer:?}"
        );
    }
}

#[test]
fn an_id_that_looks_like_ours_is_the_callers_own() {
    let mut world = World::new(ServerConfig::default());
    world.from(1, PLAIN, r#"{"jsonrpc":"2.0","id":1,"method":"a"}"#);
    let first = world.events[0].id.to_hex();
    world.from(2, PLAIN, &format!(r#"{{"jsonrpc":"2.0","id":"{first}","method":"b"}}"#));
    let cancel = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":"{first}"}}}}"#
    );
    assert_eq!(
        world.from(2, PLAIN, &cancel),
        [r#"deliver c2 {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"$1"}}"#,]
    );
    assert!(world.done(0)[0].starts_with("publish 25910 to c1 [e=$0"));
    assert!(world.done(1).is_empty());
}
