//! T11: a notification that names a call is delivered and does not end it.
use crate::rig::{check, config};

#[test]
fn a_note_before_the_answer() {
    check(
        config(),
        r#"
        > app {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"work","_meta":{"progressToken":5}}}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"work","_meta":{"progressToken":5}}}
        > server 1059 e1 {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}
        deliver {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}
        > server 1059 e1 {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":5,"progress":1}}
        deliver {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":5,"progress":1}}
        > server 1059 e1 {"jsonrpc":"2.0","id":1,"result":{}}
        forget 1
        deliver {"jsonrpc":"2.0","id":1,"result":{}}
        # now that the call is over, nothing is heard about it any more
        > server 1059 e1 {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":5,"progress":2}}
        drop Uncorrelated
        "#,
    );
}

#[test]
fn notifications_are_heard_once_however_often_they_arrive() {
    check(
        config(),
        r#"
        > server plain {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}
        deliver {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}
        > again
        drop Duplicate
        > wait 599000
        > server plain ex {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}
        drop Uncorrelated
        > server plain {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}
        deliver {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}
        "#,
    );
}

#[test]
fn a_progress_token_comes_back_in_the_type_that_the_application_gave_it() {
    check(
        config(),
        r#"
        > app {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{"progressToken":5}}}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{"progressToken":5}}}
        > server 1059 e1 {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"5","progress":0.10}}
        deliver {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":5,"progress":0.10}}
        # without an e tag the token finds the call
        > server 1059 {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"5","progress":0.2}}
        deliver {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":5,"progress":0.2}}
        # a token of another call is not taken
        > server 1059 e1 {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"6","progress":0.3}}
        drop UnknownRequest
        > server 1059 e1 {"jsonrpc":"2.0","method":"notifications/progress"}
        drop UnknownRequest
        "#,
    );
}

#[test]
fn progress_gives_a_call_more_time_but_not_for_ever() {
    let mut rig = check(
        config(),
        r#"
        > app {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{"progressToken":"t"}}}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{"progressToken":"t"}}}
        > ok 1
        > wait 59000
        > server 1059 e1 {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":1}}
        deliver {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":1}}
        > wait 59000
        "#,
    );
    let mut lived = rig.now.mono.0;
    for n in 2..100 {
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"t","progress":{n}}}}}"#
        );
        let tags = vec![nostr::event::Tag::event(rig.id_of(1))];
        rig.say(contextvm_core::Protection::Wrapped(contextvm_core::WrapKind::Persistent), tags, &text);
        rig.wait(30_000);
        if rig.machine.pending_calls() == 0 {
            break;
        }
        lived = rig.now.mono.0;
    }
    assert!((570_000..600_000).contains(&lived), "{lived}");
}
