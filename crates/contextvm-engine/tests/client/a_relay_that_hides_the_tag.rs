//! T14: a client that encrypts does so whatever it hears, or does not hear, about the server.
use crate::rig::{check, config};

#[test]
fn a_relay_that_hides_the_tag() {
    check(
        config(),
        r#"
        > app {"jsonrpc":"2.0","id":1,"method":"ping"}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":1,"method":"ping"}
        > ok 1
        > server plain e1 {"jsonrpc":"2.0","id":1,"result":{}}
        forget 1
        deliver {"jsonrpc":"2.0","id":1,"result":{}}
        > app {"jsonrpc":"2.0","id":2,"method":"ping"}
        publish 2 1059 {"jsonrpc":"2.0","id":2,"method":"ping"}
        > app {"jsonrpc":"2.0","method":"notifications/initialized"}
        publish 3 1059 {"jsonrpc":"2.0","method":"notifications/initialized"}
        "#,
    );
}
