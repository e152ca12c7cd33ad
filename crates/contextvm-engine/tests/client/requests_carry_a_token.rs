//! Progress tokens: the application's own where it can be used, else a private one that it never sees.
use contextvm_core::Protection;
use contextvm_engine::{ClientConfig, ClientOutput, DropReason};
use nostr::event::Tag;

use crate::pieces::{WRAP, ask, delivered, meet, published, request, token_of};
use crate::rig::{Rig, check, config};

fn progress(token: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1}}}}"#
    )
}

#[test]
fn progress_under_a_private_token_is_a_sign_of_life_and_nothing_else() {
    let mut rig = Rig::new(config());
    meet(&mut rig);
    let asked = ask(&mut rig, &request("1", None, 10));
    let token = format!("\"{}\"", token_of(&asked));
    for tags in [vec![], vec![Tag::event(asked.draft.id)]] {
        assert!(rig.wait(50_000).iter().all(|output| !matches!(output, ClientOutput::Lost(_))));
        assert!(rig.say(WRAP, tags, &progress(&token)).is_empty());
    }
    rig.say(WRAP, vec![Tag::event(asked.draft.id)], r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    // When the call is over, it is news of nothing.
    let outputs = rig.say(WRAP, vec![], &progress(&token));
    assert!(matches!(outputs[..], [ClientOutput::Drop(DropReason::Uncorrelated)]));
}

#[test]
fn a_token_that_cannot_go_out_comes_back_as_it_was() {
    let mut rig = Rig::new(config());
    for own in ["0", "\"\"", "-3", &format!("\"{}\"", "x".repeat(51))] {
        let asked = ask(&mut rig, &request("1", Some(own), 10));
        let token = token_of(&asked);
        assert!(token.len() <= 50 && token.starts_with('c'));
        let outputs = rig.say(WRAP, vec![], &progress(&format!("\"{token}\"")));
        assert_eq!(delivered(&outputs), [progress(own)]);
    }
}

#[test]
fn two_calls_with_one_token_hear_of_their_own_progress() {
    let mut rig = Rig::new(config());
    let one = ask(&mut rig, &request("1", Some("5"), 10));
    let two = ask(&mut rig, &request("2", Some("\"5\""), 10));
    assert_eq!(token_of(&one), "5");
    assert_ne!(token_of(&two), "5");
    assert_eq!(delivered(&rig.say(WRAP, vec![], &progress("\"5\""))), [progress("5")]);
    let other = format!("\"{}\"", token_of(&two));
    assert_eq!(delivered(&rig.say(WRAP, vec![], &progress(&other))), [progress("\"5\"")]);
}

#[test]
fn only_the_token_is_added_to_what_the_application_wrote() {
    for (text, wanted) in [
        (
            r#"{"id":1, "jsonrpc":"2.0","method":"tools/list" }"#,
            r#"{"id":1, "jsonrpc":"2.0","method":"tools/list" ,"params":{"_meta":{"progressToken":"TOKEN"}}}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","params":{ "a" : 1.0 },"method":"tools/list","id":1}"#,
            r#"{"jsonrpc":"2.0","params":{ "a" : 1.0 ,"_meta":{"progressToken":"TOKEN"}},"method":"tools/list","id":1}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","params":{"_meta":{"x":-0},"a":1},"method":"tools/list","id":1}"#,
            r#"{"jsonrpc":"2.0","params":{"_meta":{"x":-0,"progressToken":"TOKEN"},"a":1},"method":"tools/list","id":1}"#,
        ),
    ] {
        let mut rig = Rig::new(config());
        let asked = ask(&mut rig, text);
        assert_eq!(asked.draft.content.replace(&token_of(&asked), "TOKEN"), wanted);
    }
}

#[test]
fn what_needs_no_token_gets_none() {
    check(
        config(),
        r#"
        > app {"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}
        > app {"jsonrpc":"2.0","id":2,"method":"ping"}
        publish 2 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":2,"method":"ping"}
        "#,
    );
}

#[test]
fn a_server_that_may_hang_over_a_token_gets_one_only_where_it_is_of_use() {
    let mut rig = Rig::new(ClientConfig { open_streams: true, ..config() });
    let flags = ["support_oversized_transfer", "support_open_stream"].map(|flag| Tag::parse([flag]).unwrap());
    rig.say(Protection::Plain, flags.to_vec(), r#"{"jsonrpc":"2.0","method":"notifications/x"}"#);
    let text = request("1", None, 10);
    assert_eq!(published(&rig.send(&text))[0].draft.content, text);
    // A transfer, a stream, and what the application wants.
    let outputs = rig.send(&request("2", None, 100_000));
    assert!(published(&outputs)[0].draft.content.contains(r#""frameType":"start""#));
    let outputs = rig.handle(contextvm_engine::ClientInput::SendReading(request("3", None, 10)));
    assert!(published(&outputs)[0].draft.content.contains("progressToken"));
    assert_eq!(token_of(&published(&rig.send(&request("4", Some("9"), 10)))[0]), "9");
}

#[test]
fn request_tags_are_on_every_request_and_on_nothing_else() {
    let pmi = Tag::parse(["pmi", "bitcoin-lightning-bolt11"]).unwrap();
    check(
        ClientConfig { request_tags: vec![pmi], ..config() },
        r#"
        > app {"jsonrpc":"2.0","id":1,"method":"ping"}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams +pmi=bitcoin-lightning-bolt11 {"jsonrpc":"2.0","id":1,"method":"ping"}
        > server 1059 e1 {"jsonrpc":"2.0","id":1,"result":{}}
        forget 1
        deliver {"jsonrpc":"2.0","id":1,"result":{}}
        > app {"jsonrpc":"2.0","id":2,"method":"ping"}
        publish 2 1059 +pmi=bitcoin-lightning-bolt11 {"jsonrpc":"2.0","id":2,"method":"ping"}
        > app {"jsonrpc":"2.0","method":"notifications/x"}
        publish 3 1059 {"jsonrpc":"2.0","method":"notifications/x"}
        "#,
    );
}
