//! Servers with streams that are not of ours: tokens wait until a private ping with one was answered.
use contextvm_core::Limits;
use contextvm_engine::{ClientConfig, ClientInput, ClientOutput, DropReason, Outbound, Outcome};
use nostr::event::Tag;

use crate::pieces::{WRAP, answer_ping, ask, delivered, published, request, token_of};
use crate::rig::{Rig, check, config, short_tokens};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#;
const RESULT: &str = r#"{"jsonrpc":"2.0","id":"x","result":{}}"#;

/// A server that has said these words about itself.
fn met(config: ClientConfig, flags: &[&str]) -> Rig {
    let mut rig = Rig::new(config);
    let tags = flags.iter().map(|flag| Tag::parse([*flag]).unwrap()).collect();
    rig.say(WRAP, tags, r#"{"jsonrpc":"2.0","method":"notifications/x"}"#);
    rig
}

fn risky() -> Rig {
    met(config(), &["support_oversized_transfer", "support_open_stream"])
}

/// Sends a short request, which goes out without a token and with the ping beside it.
fn ask_and_probe(rig: &mut Rig) -> (Outbound, Outbound) {
    let text = request("1", None, 10);
    let outputs = rig.send(&text);
    let [asked, ping] = published(&outputs).try_into().unwrap();
    assert_eq!(asked.draft.content, text);
    assert!(token_of(&ping).starts_with('c'));
    rig.take_all(outputs);
    (asked, ping)
}

fn is_marked(asked: &Outbound) -> bool {
    asked.draft.content.contains("progressToken")
}

#[test]
fn the_ping_goes_out_once_beside_the_first_request_that_is_withheld_its_token() {
    check(
        config(),
        r#"
        > server 21059 +support_open_stream {"jsonrpc":"2.0","method":"notifications/x"}
        learned
        deliver {"jsonrpc":"2.0","method":"notifications/x"}
        > app {"jsonrpc":"2.0","id":1,"method":"ping"}
        publish 1 21059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":1,"method":"ping"}
        > server 21059 e1 {"jsonrpc":"2.0","id":1,"result":{}}
        forget 1
        deliver {"jsonrpc":"2.0","id":1,"result":{}}
        > app {"jsonrpc":"2.0","id":2,"method":"tools/list","params":{"_meta":{"progressToken":7}}}
        publish 2 21059 {"jsonrpc":"2.0","id":2,"method":"tools/list","params":{"_meta":{"progressToken":7}}}
        > app {"jsonrpc":"2.0","id":3,"method":"tools/list"}
        publish 3 21059 {"jsonrpc":"2.0","id":3,"method":"tools/list"}
        publish 4 21059 {"jsonrpc":"2.0","id":"c-1","method":"ping","params":{"_meta":{"progressToken":"c-1"}}}
        > ok 4
        forget 4
        > app {"jsonrpc":"2.0","id":4,"method":"tools/list"}
        publish 5 21059 {"jsonrpc":"2.0","id":4,"method":"tools/list"}
        > server 21059 e4 {"jsonrpc":"2.0","id":"c-1","result":{}}
        > server 21059 e4 {"jsonrpc":"2.0","id":"c-1","result":{}}
        > app {"jsonrpc":"2.0","id":5,"method":"tools/list"}
        publish 6 21059 {"jsonrpc":"2.0","id":5,"method":"tools/list","params":{"_meta":{"progressToken":"c-2"}}}
        > app {"jsonrpc":"2.0","id":6,"method":"ping"}
        publish 7 21059 {"jsonrpc":"2.0","id":6,"method":"ping"}
        > server 21059 e3 {"jsonrpc":"2.0","id":3,"result":{}}
        forget 3
        deliver {"jsonrpc":"2.0","id":3,"result":{}}
        "#,
    );
}

#[test]
fn an_error_is_an_answer_too() {
    let mut rig = risky();
    let (_, ping) = ask_and_probe(&mut rig);
    let error = r#"{"jsonrpc":"2.0","id":"x","error":{"code":-32601,"message":"Method not found"}}"#;
    assert!(rig.say(WRAP, vec![Tag::event(ping.draft.id)], error).is_empty());
    assert!(is_marked(&ask(&mut rig, &request("2", None, 10))));
}

#[test]
fn a_server_that_is_silent_gets_no_token_and_no_second_ping() {
    let mut rig = risky();
    let (first, ping) = ask_and_probe(&mut rig);
    assert!(delivered(&rig.say(WRAP, vec![Tag::event(first.draft.id)], RESULT))[0].contains(r#""id":1"#));
    assert_eq!((rig.machine.pending_calls(), rig.machine.poll_timeout()), (0, None), "it wakes nobody");
    assert!(rig.wait(60_000).is_empty());
    for id in ["2", "3"] {
        let asked = ask(&mut rig, &request(id, None, 10));
        assert!(!is_marked(&asked));
        assert_eq!(delivered(&rig.say(WRAP, vec![Tag::event(asked.draft.id)], RESULT)).len(), 1);
    }
    // What the server says when it gives up what hung is no answer of a server that does not hang.
    answer_ping(&mut rig, &ping, vec![]);
    assert!(!is_marked(&ask(&mut rig, &request("4", None, 10))));
}

#[test]
fn no_relay_has_to_take_the_ping() {
    for outcome in [Outcome::Refused("blocked: no".to_owned()), Outcome::Unknown] {
        let mut rig = risky();
        let outputs = rig.send(&request("1", None, 10));
        let [asked, ping] = published(&outputs).try_into().unwrap();
        rig.handle(ClientInput::Published(asked.ticket, Outcome::Accepted));
        let outputs = rig.handle(ClientInput::Published(ping.ticket, outcome));
        assert!(matches!(outputs[..], [ClientOutput::Forget(ticket)] if ticket == ping.ticket));
        assert!(rig.handle(ClientInput::RelayUp).is_empty());
        rig.say(WRAP, vec![Tag::event(asked.draft.id)], RESULT);
        assert!(rig.wait(60_000).is_empty());
    }
}

#[test]
fn the_ping_is_no_call() {
    let limits = Limits { pending: 1, outbound_events: 1, ..Limits::default() };
    let mut rig = met(ClientConfig { limits, ..config() }, &["support_open_stream"]);
    let note = r#"{"jsonrpc":"2.0","method":"notifications/y"}"#;
    let [noted] = published(&rig.send(note)).try_into().unwrap();
    let outputs = rig.send(&request("1", None, 10));
    assert_eq!(published(&outputs).len(), 2);
    assert_eq!(outputs.len(), 2, "what waits to be sent stays");
    assert_eq!(rig.machine.pending_calls(), 1);
    let outputs = rig.handle(ClientInput::Published(noted.ticket, Outcome::Accepted));
    assert!(matches!(outputs[..], [ClientOutput::Forget(ticket)] if ticket == noted.ticket));
    // A request that is refused here has no ping beside it.
    let mut rig = met(
        ClientConfig { limits: Limits { pending: 0, ..Limits::default() }, ..config() },
        &["support_open_stream"],
    );
    assert!(published(&rig.send(&request("1", None, 10))).is_empty());
}

#[test]
fn the_ping_is_let_go_when_the_client_is_closed() {
    let mut rig = risky();
    let [asked, ping] = published(&rig.send(&request("1", None, 10))).try_into().unwrap();
    let outputs = rig.handle(ClientInput::Close);
    let forgets = |ticket| {
        outputs
            .iter()
            .filter(|output| matches!(output, ClientOutput::Forget(gone) if *gone == ticket))
            .count()
    };
    assert_eq!((forgets(asked.ticket), forgets(ping.ticket)), (1, 1));
    let said = published(&outputs);
    assert!(said.iter().all(|said| !said.draft.content.contains(&token_of(&ping))), "it is not cancelled");
    assert_eq!(rig.machine.poll_timeout(), None);
    let late = rig.handle(ClientInput::Published(ping.ticket, Outcome::Accepted));
    assert!(late.is_empty(), "{late:?}");
    let outputs = rig.say(WRAP, vec![Tag::event(ping.draft.id)], RESULT);
    assert!(matches!(outputs[..], [ClientOutput::Drop(DropReason::Uncorrelated)]));
}

#[test]
fn servers_that_answer_tokens_are_not_asked() {
    for flags in [
        &["support_oversized_transfer"][..],
        &["support_oversized_transfer", "support_open_stream", "support_repeats"],
        &[],
    ] {
        let mut rig = met(config(), flags);
        assert!(is_marked(&ask(&mut rig, &request("1", None, 10))), "{flags:?}");
    }
}

#[test]
fn a_new_session_is_asked_anew() {
    let mut rig = risky();
    let (_, first) = ask_and_probe(&mut rig);
    answer_ping(&mut rig, &first, vec![]);
    assert!(is_marked(&ask(&mut rig, &request("2", None, 10))));
    let outputs = rig.send(INITIALIZE);
    let [initialize] = published(&outputs).try_into().unwrap();
    assert_eq!(initialize.draft.content, INITIALIZE);
    rig.take_all(outputs);
    rig.say(WRAP, vec![Tag::event(initialize.draft.id)], RESULT);
    let (_, second) = ask_and_probe(&mut rig);
    assert_eq!(short_tokens(&second.draft.content).matches("\"c-3\"").count(), 2);
    // The old answer says nothing of the new session.
    rig.say(WRAP, vec![Tag::event(first.draft.id)], RESULT);
    assert!(!is_marked(&ask(&mut rig, &request("3", None, 10))));
    // One that is still on its way is let go.
    answer_ping(&mut rig, &second, vec![]);
    assert!(is_marked(&ask(&mut rig, &request("4", None, 10))));
    rig.send(INITIALIZE);
    let [_, third] = published(&rig.send(&request("5", None, 10))).try_into().unwrap();
    let outputs = rig.send(INITIALIZE);
    assert!(
        matches!(outputs[..], [ClientOutput::Forget(ticket), ClientOutput::Publish(_)] if ticket == third.ticket)
    );
}
