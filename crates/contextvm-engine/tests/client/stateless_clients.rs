//! CEP-35: a stateless client answers `initialize` itself.
use contextvm_engine::{ClientConfig, ClientOutput};

use crate::rig::{Rig, check, config};

fn stateless() -> ClientConfig {
    ClientConfig { stateless: true, ..config() }
}

#[test]
fn initialize_is_answered_here_and_the_first_real_request_carries_the_flags() {
    let mut rig = Rig::new(stateless());
    let outputs = rig.send(
        r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{}}}"#,
    );
    let [ClientOutput::Deliver { message: answer, exchange: None }] = outputs.as_slice() else {
        panic!("{outputs:?}")
    };
    assert_eq!(
        answer,
        concat!(
            r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18","#,
            r#""serverInfo":{"name":"Emulated-Stateless-Server","version":"1.0.0"},"#,
            r#""capabilities":{"tools":{"listChanged":true},"prompts":{"listChanged":true},"#,
            r#""resources":{"subscribe":true,"listChanged":true}}}}"#
        )
    );
    assert!(rig.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).is_empty());
    let outputs = rig.send(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    assert_eq!(
        rig.show(&outputs[0]),
        r#"publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"progressToken":"c-1"}}}"#
    );
}

#[test]
fn everything_but_the_two_messages_of_initialize_goes_out() {
    check(
        stateless(),
        r#"
        > app {"jsonrpc":"2.0","method":"notifications/roots/list_changed"}
        publish 1 1059 {"jsonrpc":"2.0","method":"notifications/roots/list_changed"}
        > app {"jsonrpc":"2.0","id":4,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}
        publish 2 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":4,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","progressToken":"c-1"}}}
        "#,
    );
}
