//! Every way in which a call ends without the server, with the error that the application gets.
use contextvm_core::Limits;
use contextvm_engine::{ClientConfig, ClientInput, ClientOutput, EncryptionMode};

use crate::rig::{Rig, check, config};

#[test]
fn no_reply_in_time() {
    check(
        config(),
        r#"
        > app {"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"pay"}}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"pay","_meta":{"progressToken":"c-1"}}}
        > ok 1
        > wait 59999
        > wait 1
        deliver {"jsonrpc":"2.0","id":"a","error":{"code":-32001,"message":"no reply from the server within 60000 ms","data":{"reason":"no_reply","waitedMs":60000,"retryable":false}}}
        lost NoReply
        forget 1
        publish 2 1059 {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"a","reason":"timed out"}}
        > server 1059 e1 {"jsonrpc":"2.0","id":"a","result":{}}
        drop Uncorrelated
        > ok 2
        forget 2
        > wait 100000
        "#,
    );
}

#[test]
fn a_clock_that_is_wrong_by_more_than_a_minute_is_named_with_its_seconds() {
    for (off, words, member) in [
        ("60", "", ""),
        ("-60", "", ""),
        ("3600", "; the clock of this host is 3600 s ahead of the relays'", r#","clockAheadSeconds":3600"#),
        ("-7200", "; the clock of this host is 7200 s behind the relays'", r#","clockAheadSeconds":-7200"#),
    ] {
        let script = r#"
        > app {"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}
        publish 1 plain +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}
        > clock OFF
        > wait 60000
        deliver {"jsonrpc":"2.0","id":0,"error":{"code":-32001,"message":"no reply from the server within 60000 msWORDS","data":{"reason":"no_reply","waitedMs":60000MEMBER,"retryable":true}}}
        lost NoReply
        forget 1
        "#;
        let script = script.replace("OFF", off).replace("WORDS", words).replace("MEMBER", member);
        check(ClientConfig { encryption: EncryptionMode::Disabled, ..config() }, &script);
    }
    let mut rig = Rig::new(config());
    rig.send(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    rig.handle(ClientInput::ClockAhead(-90));
    rig.wait(9_900);
    let refused = contextvm_engine::Outcome::Refused("invalid: ephemeral event expired".to_owned());
    let outputs = rig.handle(ClientInput::Published(contextvm_engine::Ticket(1), refused));
    let said = outputs.first().map(|output| rig.show(output)).unwrap_or_default();
    assert!(
        said.contains("ephemeral event expired; the clock of this host is 90 s behind the relays'"),
        "{said}"
    );
}

#[test]
fn initialize_is_not_cancelled_when_it_times_out_or_when_asked_to() {
    check(
        ClientConfig { encryption: EncryptionMode::Disabled, ..config() },
        r#"
        > app {"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}
        publish 1 plain +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}
        > unknown 1
        > app {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":0}}
        > wait 60000
        deliver {"jsonrpc":"2.0","id":0,"error":{"code":-32001,"message":"no reply from the server within 60000 ms","data":{"reason":"no_reply","waitedMs":60000,"retryable":true}}}
        lost NoReply
        forget 1
        "#,
    );
}

#[test]
fn no_relay_took_it() {
    let mut rig = Rig::new(config());
    rig.send(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay"}}"#);
    let outputs = loop {
        let text = "blocked: \u{1b}[31mno\u{202e}".to_owned();
        let refused = contextvm_engine::Outcome::Refused(text);
        let outputs = rig.handle(ClientInput::Published(contextvm_engine::Ticket(1), refused));
        if !outputs.is_empty() {
            break outputs;
        }
        rig.wait(5_100);
        assert!(rig.now.mono.0 < 20_000);
    };
    let [ClientOutput::Deliver { message: text, .. }, ClientOutput::Lost(lost), ClientOutput::Forget(_)] =
        outputs.as_slice()
    else {
        panic!("{outputs:?}")
    };
    assert_eq!(*lost, contextvm_engine::client::Lost::NotSent);
    let answer: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(answer["id"], 1);
    assert_eq!(answer["error"]["code"], -32001);
    assert_eq!(answer["error"]["data"]["reason"], "not_sent");
    assert_eq!(answer["error"]["data"]["retryable"], true);
    let relay = answer["error"]["data"]["relay"].as_str().unwrap();
    assert!(relay.starts_with("blocked: "), "{relay}");
    assert!(!text.contains(['\u{1b}', '\u{202e}']) && !relay.contains(['\u{1b}', '\u{202e}']));
    assert_eq!(rig.machine.pending_calls(), 0);
}

#[test]
fn the_client_was_closed() {
    check(
        config(),
        r#"
        > app {"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}
        > app {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay"}}
        publish 2 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay","_meta":{"progressToken":"c-1"}}}
        > refused 2 blocked: no
        > close
        deliver {"jsonrpc":"2.0","id":0,"error":{"code":-32001,"message":"the client was closed before the server replied","data":{"reason":"closed","retryable":true}}}
        lost Closed
        forget 1
        deliver {"jsonrpc":"2.0","id":1,"error":{"code":-32001,"message":"the client was closed before the server replied","data":{"reason":"closed","retryable":true}}}
        lost Closed
        forget 2
        # a closed client ends new calls at once and does nothing else
        > app {"jsonrpc":"2.0","id":2,"method":"ping"}
        deliver {"jsonrpc":"2.0","id":2,"error":{"code":-32001,"message":"the client was closed before the server replied","data":{"reason":"closed","retryable":true}}}
        lost Closed
        > app {"jsonrpc":"2.0","method":"notifications/initialized"}
        > up
        > close
        > server 1059 {"jsonrpc":"2.0","method":"notifications/x"}
        drop Uncorrelated
        > wait 100000
        "#,
    );
}

#[test]
fn closing_cancels_what_the_server_may_have() {
    check(
        config(),
        r#"
        > app {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay"}}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay","_meta":{"progressToken":"c-1"}}}
        > ok 1
        > close
        deliver {"jsonrpc":"2.0","id":1,"error":{"code":-32001,"message":"the client was closed before the server replied","data":{"reason":"closed","retryable":false}}}
        lost Closed
        forget 1
        publish 2 1059 {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"the client was closed"}}
        > refused 2 no
        forget 2
        "#,
    );
}

#[test]
fn too_many_calls_wait() {
    let limits = Limits { pending: 1, ..Limits::default() };
    check(
        ClientConfig { limits, ..config() },
        r#"
        > app {"jsonrpc":"2.0","id":1,"method":"ping"}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":1,"method":"ping"}
        > app {"jsonrpc":"2.0","id":2,"method":"ping"}
        deliver {"jsonrpc":"2.0","id":2,"error":{"code":-32001,"message":"too many calls are waiting already: the limit is 1 calls","data":{"reason":"busy","limit":1,"retryable":true}}}
        lost Busy
        > server 1059 e1 {"jsonrpc":"2.0","id":1,"result":{}}
        forget 1
        deliver {"jsonrpc":"2.0","id":1,"result":{}}
        > app {"jsonrpc":"2.0","id":2,"method":"ping"}
        publish 2 1059 {"jsonrpc":"2.0","id":2,"method":"ping"}
        "#,
    );
}

#[test]
fn too_many_bytes_wait() {
    let limits = Limits { in_flight_bytes: 1_000, ..Limits::default() };
    let mut rig = Rig::new(ClientConfig { limits, ..config() });
    let ask = |id: u8| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
    rig.send(&ask(1));
    rig.send(&ask(2));
    let outputs = rig.send(&ask(3));
    let [ClientOutput::Deliver { message: answer, .. }, ClientOutput::Lost(lost)] = outputs.as_slice() else {
        panic!("{outputs:?}")
    };
    assert_eq!(*lost, contextvm_engine::client::Lost::Busy);
    assert!(answer.contains("1000 bytes"), "{answer}");
    rig.send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#);
    assert!(matches!(rig.send(&ask(3)).as_slice(), [ClientOutput::Publish(_)]));
}

#[test]
fn a_request_is_too_large_for_one_event() {
    // The text alone fits; the quotes in it do not once they are escaped.
    let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\"\"\"\"\"\"\"\""}}"#;
    let limits = Limits { inner_event: text.len() + 400, ..Limits::default() };
    let mut rig = Rig::new(ClientConfig { limits, ..config() });
    let outputs = rig.send(text);
    let [ClientOutput::Deliver { message: answer, .. }, ClientOutput::Lost(lost)] = outputs.as_slice() else {
        panic!("{outputs:?}")
    };
    assert_eq!(*lost, contextvm_engine::client::Lost::TooLarge);
    let answer: serde_json::Value = serde_json::from_str(answer).unwrap();
    let data = &answer["error"]["data"];
    assert_eq!((&data["reason"], &data["limit"]), (&"too_large".into(), &(text.len() + 400).into()));
    assert!(data["size"].as_u64() > data["limit"].as_u64());
    assert_eq!(rig.machine.pending_calls(), 0);
    assert_eq!(rig.machine.poll_timeout(), None);
}

/// A request of 200,000 bytes.
fn big() -> String {
    let text = "y".repeat(200_000);
    format!(r#"{{"jsonrpc":"2.0","id":"big","method":"ping","params":{{"x":"{text}"}}}}"#)
}

fn assert_too_large(outputs: &[ClientOutput], limit: usize) {
    let [ClientOutput::Deliver { message: answer, .. }, ClientOutput::Lost(lost)] = outputs else {
        panic!("{outputs:?}")
    };
    assert_eq!(*lost, contextvm_engine::client::Lost::TooLarge);
    let answer: serde_json::Value = serde_json::from_str(answer).unwrap();
    assert_eq!((&answer["id"], &answer["error"]["data"]["limit"]), (&"big".into(), &limit.into()));
}

#[test]
fn what_is_larger_than_any_transfer_is_refused_before_it_is_read() {
    for encryption in [EncryptionMode::Optional, EncryptionMode::Disabled] {
        let limits = Limits { transfer_bytes: 190_000, ..Limits::default() };
        let mut rig = Rig::new(ClientConfig { encryption, limits, ..config() });
        assert_too_large(&rig.send(&big()), 190_000);
    }
}

#[test]
fn a_server_that_says_nothing_of_transfers_gets_what_fits_into_one_event() {
    for (encryption, limit) in [(EncryptionMode::Optional, 65_407), (EncryptionMode::Disabled, 131_072)] {
        let mut rig = Rig::new(ClientConfig { encryption, ..config() });
        let flag = nostr::event::Tag::parse(["support_encryption"]).unwrap();
        let text = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
        rig.say(contextvm_core::Protection::Plain, vec![flag], text);
        assert_too_large(&rig.send(&big()), limit);
        // More than relays usually take, but some take it.
        let fits = big().replace(&"y".repeat(140_000), "");
        assert!(matches!(rig.send(&fits).as_slice(), [ClientOutput::Publish(_)]));
    }
}

#[test]
fn a_notification_that_is_too_large_is_reported_without_an_answer() {
    let big = format!(r#"{{"jsonrpc":"2.0","method":"x","params":{{"x":"{}"}}}}"#, "\\\"".repeat(25_000));
    let mut rig = Rig::new(config());
    let outputs = rig.send(&big);
    assert!(matches!(outputs.as_slice(), [ClientOutput::Lost(contextvm_engine::client::Lost::TooLarge)]));
}

#[test]
fn a_message_that_is_no_json_rpc_gets_an_error_where_it_has_an_id() {
    check(
        config(),
        r#"
        > app {"jsonrpc":"1.0","id":7,"method":"ping"}
        deliver {"jsonrpc":"2.0","id":7,"error":{"code":-32600,"message":"not a JSON-RPC message: jsonrpc is not \"2.0\"","data":{"reason":"malformed","retryable":false}}}
        lost Malformed
        > app {"jsonrpc":"2.0","id":7,"method":"ping","params":[1]}
        deliver {"jsonrpc":"2.0","id":7,"error":{"code":-32600,"message":"not a JSON-RPC message: params is not an object","data":{"reason":"malformed","retryable":false}}}
        lost Malformed
        > app {"jsonrpc":"2.0","id":null,"method":"ping"}
        lost Malformed
        > app {"jsonrpc":"2.0","id":{"a":1},"method":"ping"}
        lost Malformed
        > app {not json
        lost Malformed
        > app [{"jsonrpc":"2.0","id":7,"method":"ping"}]
        lost Malformed
        # an answer is not answered
        > app {"jsonrpc":"2.0","id":7,"result":[]}
        lost Malformed
        "#,
    );
}
