//! Requests that a server sends to its client (docs/EXTENSIONS.md).
use contextvm_core::Limits;
use contextvm_engine::ClientConfig;

use crate::rig::{check, config};

fn answering() -> ClientConfig {
    ClientConfig { answer_server_requests: true, ..config() }
}

#[test]
fn a_client_that_did_not_offer_to_answer_is_not_asked() {
    check(
        config(),
        r#"
        > server 1059 {"jsonrpc":"2.0","id":1,"method":"roots/list"}
        drop Unsupported
        "#,
    );
}

#[test]
fn an_answer_names_the_event_that_asked() {
    check(
        answering(),
        r#"
        > app {"jsonrpc":"2.0","id":1,"method":"ping"}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams +support_server_requests {"jsonrpc":"2.0","id":1,"method":"ping"}
        > server 1059 {"jsonrpc":"2.0","id":1,"method":"roots/list"}
        deliver {"jsonrpc":"2.0","id":1,"method":"roots/list"}
        > again
        drop Duplicate
        > app {"jsonrpc":"2.0","id":1,"result":{"roots":[]}}
        publish 2 1059 e:said1 {"jsonrpc":"2.0","id":1,"result":{"roots":[]}}
        > app {"jsonrpc":"2.0","id":1,"result":{"roots":[]}}
        drop Uncorrelated
        > app {"jsonrpc":"2.0","id":2,"error":{"code":-1,"message":"no"}}
        drop Uncorrelated
        > ok 2
        forget 2
        "#,
    );
}

#[test]
fn two_requests_with_one_id_get_their_own_answers() {
    let rig = check(
        answering(),
        r#"
        > server 1059 {"jsonrpc":"2.0","id":1,"method":"roots/list"}
        deliver {"jsonrpc":"2.0","id":1,"method":"roots/list"}
        "#,
    );
    let mut rig = rig;
    let wrap = contextvm_core::Protection::Wrapped(contextvm_core::WrapKind::Persistent);
    let outputs =
        rig.say(wrap, vec![], r#"{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{}}"#);
    let [contextvm_engine::ClientOutput::Deliver { message: text, .. }] = outputs.as_slice() else {
        panic!("{outputs:?}")
    };
    let shown: serde_json::Value = serde_json::from_str(text).unwrap();
    let id = shown["id"].as_str().unwrap();
    assert_eq!(id.len(), 64);
    let outputs = rig.send(&format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"second":true}}}}"#));
    let shown: Vec<_> = outputs.iter().map(|output| rig.show(output)).collect();
    assert_eq!(shown, [r#"publish 1 1059 e:said2 {"jsonrpc":"2.0","id":1,"result":{"second":true}}"#]);
    let outputs = rig.send(r#"{"jsonrpc":"2.0","id":1,"result":{"first":true}}"#);
    let shown: Vec<_> = outputs.iter().map(|output| rig.show(output)).collect();
    assert_eq!(shown, [r#"publish 2 1059 e:said1 {"jsonrpc":"2.0","id":1,"result":{"first":true}}"#]);
}

#[test]
fn a_request_that_the_server_takes_back_is_not_answered() {
    check(
        answering(),
        r#"
        > server 1059 {"jsonrpc":"2.0","id":"q","method":"roots/list"}
        deliver {"jsonrpc":"2.0","id":"q","method":"roots/list"}
        > server 1059 {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"q"}}
        deliver {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"q"}}
        > app {"jsonrpc":"2.0","id":"q","result":{"roots":[]}}
        drop Uncorrelated
        "#,
    );
}

#[test]
fn open_requests_are_bounded_and_given_up_in_the_end() {
    let limits = Limits { in_flight_per_caller: 1, ..Limits::default() };
    check(
        ClientConfig { limits, ..answering() },
        r#"
        > server 1059 {"jsonrpc":"2.0","id":1,"method":"roots/list"}
        deliver {"jsonrpc":"2.0","id":1,"method":"roots/list"}
        > server 1059 {"jsonrpc":"2.0","id":2,"method":"roots/list"}
        drop Busy
        > wait 600000
        > server 1059 {"jsonrpc":"2.0","id":3,"method":"roots/list"}
        deliver {"jsonrpc":"2.0","id":3,"method":"roots/list"}
        "#,
    );
}

#[test]
fn an_answer_that_is_too_large_becomes_an_error_so_that_the_server_does_not_wait() {
    let mut rig = crate::rig::Rig::new(answering());
    let wrap = contextvm_core::Protection::Wrapped(contextvm_core::WrapKind::Persistent);
    rig.say(wrap, vec![], r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#);
    let big = "\\\"".repeat(25_000);
    let outputs = rig.send(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"x":"{big}"}}}}"#));
    let shown: Vec<_> = outputs.iter().map(|output| rig.show(output)).collect();
    assert_eq!(
        shown,
        [
            "lost TooLarge",
            r#"publish 1 1059 e:said1 {"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"the answer is too large to send"}}"#
        ]
    );
}

#[test]
fn a_call_waits_while_a_person_is_asked_and_goes_on_afterwards() {
    check(
        answering(),
        r#"
        > app {"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"pay"}}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams +support_server_requests {"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"pay","_meta":{"progressToken":"c-1"}}}
        > ok 1
        > server 1059 {"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{}}
        deliver {"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{}}
        > wait 60000
        > wait 60000
        > wait 50000
        > app {"jsonrpc":"2.0","id":1,"result":{"action":"accept"}}
        publish 2 1059 e:said1 {"jsonrpc":"2.0","id":1,"result":{"action":"accept"}}
        > ok 2
        forget 2
        > wait 59999
        > server 1059 e1 {"jsonrpc":"2.0","id":"a","result":{}}
        forget 1
        deliver {"jsonrpc":"2.0","id":"a","result":{}}
        "#,
    );
}
