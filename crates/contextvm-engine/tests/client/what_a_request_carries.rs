//! Tags and text of what goes out.
use contextvm_engine::ClientConfig;

use crate::rig::{check, config};

#[test]
fn flags_go_with_every_request_until_the_server_answered_one() {
    check(
        config(),
        r#"
        > app {"jsonrpc":"2.0","id":1,"method":"ping"}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":1,"method":"ping"}
        > app {"jsonrpc":"2.0","method":"notifications/x"}
        publish 2 1059 {"jsonrpc":"2.0","method":"notifications/x"}
        > ok 2
        forget 2
        > unknown 1
        > app {"jsonrpc":"2.0","id":2,"method":"tools/list"}
        publish 3 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":2,"method":"tools/list","params":{"_meta":{"progressToken":"c-1"}}}
        > refused 3 no
        > app {"jsonrpc":"2.0","id":3,"method":"resources/list"}
        publish 4 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":3,"method":"resources/list","params":{"_meta":{"progressToken":"c-2"}}}
        # a relay took it, and the server may not have been there
        > ok 4
        > app {"jsonrpc":"2.0","id":9,"method":"ping"}
        publish 5 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":9,"method":"ping"}
        > server 1059 e4 {"jsonrpc":"2.0","id":3,"result":{}}
        forget 4
        deliver {"jsonrpc":"2.0","id":3,"result":{}}
        > app {"jsonrpc":"2.0","id":4,"method":"prompts/list"}
        publish 6 1059 {"jsonrpc":"2.0","id":4,"method":"prompts/list","params":{"_meta":{"progressToken":"c-3"}}}
        # an initialize makes the server forget, so it carries them again
        > app {"jsonrpc":"2.0","id":5,"method":"initialize","params":{}}
        publish 7 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":5,"method":"initialize","params":{}}
        > app {"jsonrpc":"2.0","id":6,"method":"tools/list"}
        publish 8 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":6,"method":"tools/list","params":{"_meta":{"progressToken":"c-4"}}}
        "#,
    );
}

#[test]
fn a_server_that_introduces_itself_anew_is_told_our_flags_again() {
    check(
        config(),
        r#"
        > app {"jsonrpc":"2.0","id":1,"method":"ping"}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":1,"method":"ping"}
        > server 1059 e1 +support_encryption {"jsonrpc":"2.0","id":1,"result":{}}
        learned
        forget 1
        deliver {"jsonrpc":"2.0","id":1,"result":{}}
        > app {"jsonrpc":"2.0","id":2,"method":"ping"}
        publish 2 1059 {"jsonrpc":"2.0","id":2,"method":"ping"}
        # a price is no introduction
        > server 1059 e2 +cap=tool:x {"jsonrpc":"2.0","id":2,"result":{}}
        forget 2
        deliver {"jsonrpc":"2.0","id":2,"result":{}}
        > app {"jsonrpc":"2.0","id":3,"method":"ping"}
        publish 3 1059 {"jsonrpc":"2.0","id":3,"method":"ping"}
        # it was restarted, or gave our place to somebody else
        > server 1059 e3 +support_encryption {"jsonrpc":"2.0","id":3,"result":{}}
        forget 3
        deliver {"jsonrpc":"2.0","id":3,"result":{}}
        > app {"jsonrpc":"2.0","id":4,"method":"ping"}
        publish 4 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":4,"method":"ping"}
        "#,
    );
}

#[test]
fn after_long_silence_our_flags_are_said_again() {
    let script = |first: u64, second: u64, flags: &str| {
        format!(
            r#"
        > app {{"jsonrpc":"2.0","id":1,"method":"ping"}}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {{"jsonrpc":"2.0","id":1,"method":"ping"}}
        > server 1059 e1 {{"jsonrpc":"2.0","id":1,"result":{{}}}}
        forget 1
        deliver {{"jsonrpc":"2.0","id":1,"result":{{}}}}
        > wait {first}
        # an answer to a request without flags is a sign as well, and a note of the server is none
        > app {{"jsonrpc":"2.0","id":2,"method":"ping"}}
        publish 2 1059 {{"jsonrpc":"2.0","id":2,"method":"ping"}}
        > server 1059 e2 {{"jsonrpc":"2.0","id":2,"result":{{}}}}
        forget 2
        deliver {{"jsonrpc":"2.0","id":2,"result":{{}}}}
        > wait {second}
        > server 1059 {{"jsonrpc":"2.0","method":"notifications/a"}}
        deliver {{"jsonrpc":"2.0","method":"notifications/a"}}
        > app {{"jsonrpc":"2.0","id":3,"method":"ping"}}
        publish 3 1059 {flags}{{"jsonrpc":"2.0","id":3,"method":"ping"}}
        "#
        )
    };
    // Half of the half hour for which a server knows a caller.
    let flags = "+support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams ";
    check(config(), &script(899_000, 899_000, ""));
    check(config(), &script(899_000, 900_000, flags));
}

#[test]
fn the_text_goes_out_as_the_application_wrote_it() {
    check(
        config(),
        r#"
        > app { "method":"ping" , "params": { "odd": [1.50, 1e3] }, "jsonrpc":"2.0", "id": "\u0061" }
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams { "method":"ping" , "params": { "odd": [1.50, 1e3] }, "jsonrpc":"2.0", "id": "\u0061" }
        # another spelling of the same id
        > app {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"a"}}
        publish 2 1059 {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"a"}}
        forget 1
        "#,
    );
}

#[test]
fn a_server_that_wraps_ephemerally_or_says_so_gets_ephemeral_wraps() {
    for line in [
        r#"server 21059 {"jsonrpc":"2.0","method":"notifications/a"}"#,
        r#"server plain +support_encryption_ephemeral {"jsonrpc":"2.0","method":"notifications/a"}"#,
    ] {
        check(
            ClientConfig { answer_server_requests: true, ..config() },
            &format!(
                r#"
            > {line}
            learned
            deliver {{"jsonrpc":"2.0","method":"notifications/a"}}
            > app {{"jsonrpc":"2.0","id":1,"method":"ping"}}
            publish 1 21059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams +support_server_requests {{"jsonrpc":"2.0","id":1,"method":"ping"}}
            "#
            ),
        );
    }
}

#[test]
fn a_subscription_stays_open_once_the_server_took_it() {
    check(
        config(),
        r#"
        > app {"jsonrpc":"2.0","id":9,"method":"subscriptions/listen","params":{}}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":9,"method":"subscriptions/listen","params":{"_meta":{"progressToken":"c-1"}}}
        > ok 1
        > wait 50000
        > server 1059 e1 {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":9}}}
        deliver {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":9}}}
        > wait 10000000
        > server 1059 e1 {"jsonrpc":"2.0","id":9,"result":{}}
        forget 1
        deliver {"jsonrpc":"2.0","id":9,"result":{}}
        "#,
    );
}

#[test]
fn a_subscription_ends_when_its_server_says_so_and_no_other_call_does() {
    check(
        config(),
        r#"
        > app {"jsonrpc":"2.0","id":"\u0061","method":"subscriptions/listen","params":{}}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":"\u0061","method":"subscriptions/listen","params":{"_meta":{"progressToken":"c-1"}}}
        > app {"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"x"}}
        publish 2 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"x","_meta":{"progressToken":"c-2"}}}
        > ok 1
        > ok 2
        # the id that it carries names the subscription where no e tag does
        > server 1059 {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"a"}}}
        deliver {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"a"}}}
        > wait 59000
        > server 1059 e2 {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}
        drop UnknownRequest
        > server 1059 e2 {"jsonrpc":"2.0","id":9,"result":{}}
        forget 2
        deliver {"jsonrpc":"2.0","id":9,"result":{}}
        > wait 10000000
        > server 1059 {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"a"}}
        forget 1
        deliver {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"\u0061"}}
        > close
        "#,
    );
    check(
        config(),
        r#"
        > app {"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{}}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"_meta":{"progressToken":"c-1"}}}
        > server 1059 e1 {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}
        forget 1
        deliver {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}
        "#,
    );
}

#[test]
fn members_that_json_rpc_does_not_name_stay_here_because_the_existing_sdks_drop_the_whole_message() {
    let config = ClientConfig { answer_server_requests: true, ..config() };
    check(
        config,
        r#"
        > app {"extra":1,"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","own":1.0},"_meta":{}}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams +support_server_requests {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","own":1.0,"_meta":{"progressToken":"c-1"}}}
        > app {"jsonrpc":"2.0","method":"notifications/x","extra":1}
        publish 2 1059 {"jsonrpc":"2.0","method":"notifications/x"}
        > server 1059 {"jsonrpc":"2.0","id":7,"method":"ping"}
        deliver {"jsonrpc":"2.0","id":7,"method":"ping"}
        > app {"jsonrpc":"2.0","id":7,"result":{"own":1.0},"extra":1}
        publish 3 1059 e:said1 {"jsonrpc":"2.0","id":7,"result":{"own":1.0}}
        "#,
    );
}
