//! T13: once the server was heard encrypted, plaintext in its name is not believed.
use contextvm_engine::{ClientConfig, EncryptionMode, GiftWrapMode};

use crate::rig::{check, config};

#[test]
fn old_plaintext_does_not_lower_the_floor() {
    check(
        config(),
        r#"
        > server plain {"jsonrpc":"2.0","method":"notifications/early"}
        deliver {"jsonrpc":"2.0","method":"notifications/early"}
        > app {"jsonrpc":"2.0","id":1,"method":"ping"}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":1,"method":"ping"}
        > server 1059 {"jsonrpc":"2.0","method":"notifications/wrapped"}
        deliver {"jsonrpc":"2.0","method":"notifications/wrapped"}
        > server plain e1 {"jsonrpc":"2.0","id":1,"result":{"replayed":true}}
        drop BelowFloor
        > server plain +name=Mallory {"jsonrpc":"2.0","method":"notifications/late"}
        drop BelowFloor
        > app {"jsonrpc":"2.0","id":2,"method":"ping"}
        publish 2 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":2,"method":"ping"}
        "#,
    );
}

#[test]
fn a_client_that_requires_encryption_never_believes_plaintext() {
    check(
        ClientConfig { encryption: EncryptionMode::Required, ..config() },
        r#"
        > server plain +support_repeats {"jsonrpc":"2.0","method":"notifications/early"}
        drop Policy
        "#,
    );
}

#[test]
fn a_client_that_sends_plaintext_still_reads_wraps_and_plaintext() {
    check(
        ClientConfig { encryption: EncryptionMode::Disabled, ..config() },
        r#"
        > app {"jsonrpc":"2.0","id":1,"method":"ping"}
        publish 1 plain +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":1,"method":"ping"}
        > server 21059 {"jsonrpc":"2.0","method":"notifications/a"}
        learned
        deliver {"jsonrpc":"2.0","method":"notifications/a"}
        > server plain {"jsonrpc":"2.0","method":"notifications/b"}
        deliver {"jsonrpc":"2.0","method":"notifications/b"}
        > app {"jsonrpc":"2.0","id":2,"method":"ping"}
        publish 2 plain +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":2,"method":"ping"}
        "#,
    );
}

#[test]
fn a_fixed_wrap_kind_is_the_only_one_sent_and_taken() {
    for (gift_wrap, own, other, flags) in [
        (GiftWrapMode::Persistent, "1059", "21059", "+support_encryption"),
        (GiftWrapMode::Ephemeral, "21059", "1059", "+support_encryption +support_encryption_ephemeral"),
    ] {
        check(
            ClientConfig { gift_wrap, ..config() },
            &format!(
                r#"
            > app {{"jsonrpc":"2.0","id":1,"method":"ping"}}
            publish 1 {own} {flags} +support_oversized_transfer +support_unordered_streams {{"jsonrpc":"2.0","id":1,"method":"ping"}}
            > server {other} e1 {{"jsonrpc":"2.0","id":1,"result":{{}}}}
            drop Policy
            > server {own} +support_encryption_ephemeral e1 {{"jsonrpc":"2.0","id":1,"result":{{}}}}
            learned
            forget 1
            deliver {{"jsonrpc":"2.0","id":1,"result":{{}}}}
            > app {{"jsonrpc":"2.0","id":2,"method":"resources/read"}}
            publish 2 {own} {{"jsonrpc":"2.0","id":2,"method":"resources/read","params":{{"_meta":{{"progressToken":"c-1"}}}}}}
            "#
            ),
        );
    }
}
