//! T09: an answer counts only from the server, for a call that waits, and once.
use crate::rig::{check, config};

#[test]
fn answers_nobody_asked_for() {
    check(
        config(),
        r#"
        > app {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay"}}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay","_meta":{"progressToken":"c-1"}}}
        # somebody else
        > stranger 1059 e1 {"jsonrpc":"2.0","id":1,"result":{"forged":1}}
        drop WrongAuthor
        # no e, an e that is nobody's, an e that is no id
        > server 1059 {"jsonrpc":"2.0","id":1,"result":{"a":1}}
        drop Uncorrelated
        > server 1059 ex {"jsonrpc":"2.0","id":1,"result":{"a":2}}
        drop Uncorrelated
        > server 1059 enonsense {"jsonrpc":"2.0","id":1,"result":{"a":3}}
        drop Uncorrelated
        # only the first e counts
        > server 1059 ex e1 {"jsonrpc":"2.0","id":1,"result":{"a":4}}
        drop Uncorrelated
        # the id inside is not looked at
        > server 1059 e1 {"jsonrpc":"2.0","id":"something else","result":{"a":5}}
        forget 1
        deliver {"jsonrpc":"2.0","id":1,"result":{"a":5}}
        # the same again, and a second one
        > again
        drop Uncorrelated
        > server 1059 e1 {"jsonrpc":"2.0","id":1,"result":{"a":6}}
        drop Uncorrelated
        "#,
    );
}

#[test]
fn an_answer_gets_back_the_id_as_the_application_wrote_it() {
    for id in ["7", "\"7\"", "\"\\u0061\"", "0", "-1", "9007199254740991"] {
        let ask = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
        let mut rig = crate::rig::Rig::new(config());
        rig.send(&ask);
        let answer = r#"{"result":{"x":1.50,"z":[ ]},"jsonrpc":"2.0","id":12345,"odd":true}"#;
        let tags = vec![nostr::event::Tag::event(rig.id_of(1))];
        let outputs = rig.say(contextvm_core::Protection::Plain, tags, answer);
        let shown: Vec<_> = outputs.iter().map(|output| rig.show(output)).collect();
        assert_eq!(shown, ["forget 1".to_owned(), format!("deliver {}", answer.replace("12345", id))]);
    }
}

#[test]
fn an_error_without_an_id_is_an_answer_too() {
    check(
        config(),
        r#"
        > app {"jsonrpc":"2.0","id":"x","method":"ping"}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":"x","method":"ping"}
        > server 1059 e1 {"jsonrpc":"2.0","error":{"code":-32000,"message":"Unauthorized"}}
        forget 1
        deliver {"id":"x","jsonrpc":"2.0","error":{"code":-32000,"message":"Unauthorized"}}
        "#,
    );
}

#[test]
fn an_answer_after_a_cancellation_is_not_delivered() {
    check(
        config(),
        r#"
        > app {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"slow"}}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"slow","_meta":{"progressToken":"c-1"}}}
        > ok 1
        # the wrong type of id names nothing, but the server may know better
        > app {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"1"}}
        publish 2 1059 {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"1"}}
        > app {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"enough"}}
        publish 3 1059 {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"enough"}}
        forget 1
        > server 1059 e1 {"jsonrpc":"2.0","id":1,"result":{}}
        drop Uncorrelated
        > wait 700000
        "#,
    );
}

#[test]
fn what_cannot_be_read_is_dropped_and_ends_nothing() {
    let deep =
        format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"a":{}{}}}}}"#, "[".repeat(200), "]".repeat(200));
    let rig = check(
        config(),
        &format!(
            r#"
        > app {{"jsonrpc":"2.0","id":1,"method":"ping"}}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {{"jsonrpc":"2.0","id":1,"method":"ping"}}
        > server 1059 e1 {{not json
        drop Malformed
        > server 1059 e1 {{"jsonrpc":"1.0","id":1,"result":{{}}}}
        drop Malformed
        > server 1059 e1 {{"jsonrpc":"2.0","id":1,"result":{{}},"result":{{"b":1}}}}
        drop Malformed
        > server 1059 e1 {deep}
        drop Budget
        "#
        ),
    );
    assert_eq!(rig.machine.pending_calls(), 1);
}
