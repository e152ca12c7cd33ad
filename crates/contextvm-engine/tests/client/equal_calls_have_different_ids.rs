//! T12: an id never repeats, so that no call is taken for a copy of another.
use std::collections::BTreeSet;

use contextvm_core::Limits;
use contextvm_engine::{ClientConfig, ClientOutput};

use crate::rig::{Rig, START, config};

#[test]
fn ten_thousand_equal_calls_in_one_tick_have_ten_thousand_ids() {
    let limits = Limits { pending: 10_000, ..Limits::default() };
    let mut rig = Rig::new(ClientConfig { limits, ..config() });
    let ask = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for _ in 0..10_000 {
        let outputs = rig.send(ask);
        assert!(matches!(outputs.as_slice(), [ClientOutput::Publish(_)]));
    }
    let ids: BTreeSet<_> = rig.published.iter().map(|outbound| outbound.draft.id).collect();
    assert_eq!(ids.len(), 10_000);
    assert_eq!(rig.machine.pending_calls(), 10_000);
    for outbound in &rig.published {
        assert!(outbound.draft.created_at - START <= 60, "stays far inside the age window");
        assert_eq!(outbound.draft.content.trim_end(), ask, "says the same");
    }
}

#[test]
fn each_of_two_calls_with_one_id_gets_its_own_answer() {
    crate::rig::check(
        config(),
        r#"
        > app {"jsonrpc":"2.0","id":1,"method":"ping"}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":1,"method":"ping"}
        > app {"jsonrpc":"2.0","id":1,"method":"ping"}
        publish 2 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":1,"method":"ping"}
        > server 1059 e2 {"jsonrpc":"2.0","id":1,"result":{"n":2}}
        forget 2
        deliver {"jsonrpc":"2.0","id":1,"result":{"n":2}}
        > server 1059 e1 {"jsonrpc":"2.0","id":1,"result":{"n":1}}
        forget 1
        deliver {"jsonrpc":"2.0","id":1,"result":{"n":1}}
        "#,
    );
}
