//! What only the server may say about a caller is taken out of every message (T19).
use contextvm_engine::ServerConfig;

use crate::world::{PLAIN, World, public};

fn injecting() -> ServerConfig {
    ServerConfig { inject_client_pubkey: true, inject_request_event_id: true, ..ServerConfig::default() }
}

#[test]
fn forged_members_are_removed_and_ours_are_set() {
    let mut world = World::new(injecting());
    let forged = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","_meta":{"clientPubkey":"admin","requestEventId":"e","stream":{},"own":1.50}}}"#;
    let me = public(1).to_hex();
    assert_eq!(
        world.from(1, PLAIN, forged),
        [format!(
            r#"deliver c1 {{"jsonrpc":"2.0","id":"$0","method":"tools/call","params":{{"name":"x","_meta":{{"own":1.50,"requestEventId":"$0","clientPubkey":"{me}"}}}}}}"#
        )]
    );
}

#[test]
fn params_and_meta_are_made_when_they_are_absent() {
    let mut world = World::new(injecting());
    let me = public(1).to_hex();
    assert_eq!(
        world.from(1, PLAIN, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#),
        [format!(
            r#"deliver c1 {{"jsonrpc":"2.0","id":"$0","method":"ping","params":{{"_meta":{{"requestEventId":"$0","clientPubkey":"{me}"}}}}}}"#
        )]
    );
}

#[test]
fn forged_members_are_removed_when_nothing_is_injected_and_from_notifications() {
    let mut world = World::new(ServerConfig::default());
    for (method, id) in [("ping", r#""id":1,"#), ("notifications/x", "")] {
        let forged = format!(
            r#"{{"jsonrpc":"2.0",{id}"method":"{method}","params":{{"_meta":{{"\u0063lientPubkey":"admin","requestEventId":5}}}}}}"#
        );
        let lines = world.from(1, PLAIN, &forged);
        assert!(
            lines[0].starts_with("deliver c1") && lines[0].ends_with(r#""params":{"_meta":{}}}"#),
            "{lines:?}"
        );
    }
}

#[test]
fn the_same_key_twice_is_refused_in_every_nesting() {
    let mut world = World::new(injecting());
    for params in [
        r#"{"_meta":{"clientPubkey":"a","clientPubkey":"b"}}"#,
        r#"{"_meta":{},"_meta":{"clientPubkey":"b"}}"#,
        r#"{"_meta":{"clientPubkey":"a","client\u0050ubkey":"b"}}"#,
    ] {
        let forged = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{params}}}"#);
        assert_eq!(world.from(1, PLAIN, &forged), ["drop Malformed"], "{params}");
    }
}

#[test]
fn forged_members_are_removed_beside_params_too_where_the_proposal_draws_them() {
    let mut world = World::new(ServerConfig::default());
    let forged =
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","_meta":{"clientPubkey":"admin","own":1.0},"x":1e2}"#;
    assert_eq!(
        world.from(1, PLAIN, forged),
        [r#"deliver c1 {"jsonrpc":"2.0","id":"$0","method":"ping","_meta":{"own":1.0},"x":1e2}"#]
    );
}
