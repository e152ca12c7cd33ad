//! The retry rule: the same outer event first; a new wrap only where a repeat does no harm; never a new signature.
use contextvm_core::{Limits, Protection, WrapKind};
use contextvm_engine::{ClientConfig, ClientInput, ClientOutput, EncryptionMode};

use crate::rig::{Rig, check, config};

const PAY: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay"}}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

/// Counts (same, rewrapped) publications.
fn again(outputs: &[ClientOutput]) -> (usize, usize) {
    let count = |wanted: bool| {
        outputs
            .iter()
            .filter(|output| matches!(output, ClientOutput::Republish { rewrap, .. } if *rewrap == wanted))
            .count()
    };
    (count(false), count(true))
}

fn publishes(outputs: &[ClientOutput]) -> usize {
    outputs.iter().filter(|output| matches!(output, ClientOutput::Publish(_))).count()
}

fn sent(config: ClientConfig, text: &str) -> Rig {
    let mut rig = Rig::new(config);
    rig.send(text);
    rig.handle(ClientInput::Published(contextvm_engine::Ticket(1), contextvm_engine::Outcome::Accepted));
    rig
}

#[test]
fn a_call_that_may_do_harm_is_never_wrapped_again() {
    let mut rig = sent(config(), PAY);
    let outputs = rig.wait(59_000);
    assert_eq!(again(&outputs), (0, 0));
    assert_eq!(publishes(&outputs), 0);
}

#[test]
fn a_call_that_may_do_harm_is_offered_again_as_the_same_event_when_a_relay_comes_back() {
    let mut rig = sent(config(), PAY);
    rig.wait(5_000);
    assert_eq!(again(&rig.handle(ClientInput::RelayUp)), (1, 0));
    assert_eq!(again(&rig.wait(50_000)), (0, 0));
}

#[test]
fn reading_is_wrapped_again_after_two_seconds_and_then_ever_more_slowly() {
    for method in ["ping", "initialize", "tools/list", "resources/read", "prompts/get", "completion/complete"]
    {
        let mut rig = sent(config(), &PING.replace("ping", method));
        assert_eq!(again(&rig.wait(1_400)), (0, 0), "{method}");
        assert_eq!(again(&rig.wait(1_200)), (0, 1), "{method}");
        let (same, rewrapped) = again(&rig.wait(57_000));
        assert_eq!(same, 0, "{method}");
        assert!((3..=6).contains(&rewrapped), "{method}: {rewrapped}");
    }
}

#[test]
fn a_call_that_may_be_repeated_is_wrapped_again_a_moment_after_a_relay_came_back() {
    let mut waiting = sent(config(), PING);
    assert_eq!(again(&waiting.wait(2_600)), (0, 1), "as planned; the next one is planned for seconds later");
    waiting.handle(ClientInput::RelayUp);
    assert_eq!(again(&waiting.wait(740)), (1, 0));
    let again_and_again = again(&waiting.wait(20));
    assert_eq!(again_and_again, (0, 1), "whatever became of the same event, its answer comes now");

    // What was wrapped of late met a server that was back by then.
    let mut late = Rig::new(config());
    late.handle(ClientInput::RelayUp);
    late.wait(600);
    late.send(PING);
    late.handle(ClientInput::Published(contextvm_engine::Ticket(1), contextvm_engine::Outcome::Accepted));
    assert_eq!(again(&late.wait(1_000)), (0, 0));

    // A call that begins before the server is back meets nobody, too.
    let mut early = Rig::new(config());
    early.handle(ClientInput::RelayUp);
    early.wait(200);
    early.send(PING);
    early.handle(ClientInput::Published(contextvm_engine::Ticket(1), contextvm_engine::Outcome::Accepted));
    assert_eq!(again(&early.wait(560)), (0, 1));

    let mut harmful = sent(config(), PAY);
    harmful.wait(1_200);
    harmful.handle(ClientInput::RelayUp);
    assert_eq!(again(&harmful.wait(50_000)), (0, 0));
}

#[test]
fn a_copy_that_a_relay_confirms_and_passes_on_to_nobody_does_not_put_off_the_new_wrap() {
    let mut rig = sent(config(), PING);
    rig.wait(700);
    assert_eq!(again(&rig.handle(ClientInput::RelayUp)), (0, 0));
    assert_eq!(again(&rig.wait(310)), (1, 0), "the same event, once a second has passed since it went out");
    assert_eq!(again(&rig.wait(450)), (0, 1));
}

#[test]
fn a_new_wrap_waits_for_no_relay_that_confirms_late_or_never() {
    let mut rig = Rig::new(config());
    rig.send(PING);
    rig.wait(200);
    assert_eq!(again(&rig.handle(ClientInput::RelayUp)), (0, 0));
    assert_eq!(again(&rig.wait(760)), (0, 1));
    // What nobody took is offered as it is.
    let mut refused = Rig::new(config());
    refused.send(PING);
    let words = contextvm_engine::Outcome::Refused("blocked: no".to_owned());
    refused.handle(ClientInput::Published(contextvm_engine::Ticket(1), words));
    refused.wait(200);
    refused.handle(ClientInput::RelayUp);
    assert_eq!(again(&refused.wait(2_000)).1, 0);
}

#[test]
fn a_new_wrap_waits_for_the_last_of_the_relays_that_come_back_together_and_at_most_two_seconds() {
    let mut rig = sent(config(), PING);
    rig.handle(ClientInput::RelayUp);
    rig.wait(600);
    rig.handle(ClientInput::RelayUp);
    assert_eq!(again(&rig.wait(740)).1, 0, "nobody is back at the second one yet");
    assert_eq!(again(&rig.wait(20)).1, 1);

    let mut restless = sent(config(), PING);
    restless.wait(2_600);
    let mut before = 0;
    for _ in 0..19 {
        before += again(&restless.handle(ClientInput::RelayUp)).1;
        before += again(&restless.wait(100)).1;
    }
    assert_eq!(before, 0);
    restless.handle(ClientInput::RelayUp);
    assert_eq!(again(&restless.wait(110)).1, 1);
}

#[test]
fn a_relay_that_comes_and_goes_for_ever_does_not_make_a_call_be_wrapped_for_ever() {
    let mut rig = sent(config(), PING);
    let mut wraps = 0;
    for _ in 0..50 {
        wraps += again(&rig.handle(ClientInput::RelayUp)).1;
        wraps += again(&rig.wait(1_100)).1;
    }
    assert!((4..=8).contains(&wraps), "{wraps}");
}

#[test]
fn nothing_is_sent_again_once_the_answer_is_there() {
    let mut rig = sent(config(), PING);
    let tags = vec![nostr::event::Tag::event(rig.id_of(1))];
    rig.say(Protection::Wrapped(WrapKind::Ephemeral), tags, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert_eq!(rig.machine.poll_timeout(), None);
    assert_eq!(again(&rig.handle(ClientInput::RelayUp)), (0, 0));
}

#[test]
fn a_server_that_answers_repeats_alike_may_be_asked_again_for_anything() {
    let mut rig = sent(config(), PAY);
    rig.wait(10_000);
    let tags = vec![nostr::event::Tag::parse(["support_repeats"]).unwrap()];
    rig.say(
        Protection::Wrapped(WrapKind::Persistent),
        tags,
        r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#,
    );
    assert_eq!(again(&rig.wait(2_600)), (0, 1), "a call that was open before is included");
}

#[test]
fn what_every_server_would_call_too_old_does_not_go_out_again() {
    let mut rig = sent(config(), r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen"}"#);
    let about = nostr::event::Tag::event(rig.id_of(1));
    let tags = vec![about, nostr::event::Tag::parse(["support_repeats"]).unwrap()];
    let taken = r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged"}"#;
    rig.say(Protection::Wrapped(WrapKind::Persistent), tags, taken);
    assert_ne!(again(&rig.wait(300_000)).1, 0, "its server may have been restarted");
    assert_ne!(again(&rig.handle(ClientInput::RelayUp)), (0, 0));
    rig.wait(310_000);
    assert_eq!(again(&rig.wait(3_000_000)), (0, 0), "it is still open");
    assert_eq!(again(&rig.handle(ClientInput::RelayUp)), (0, 0));
    assert_eq!(again(&rig.wait(10_000)), (0, 0));
}

#[test]
fn a_tool_is_wrapped_again_only_while_its_server_calls_it_harmless() {
    let list = |hints: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":9,"result":{{"tools":[{{"name":"pay","annotations":{hints}}},{{"name":7}},5]}}}}"#
        )
    };
    for (hints, harmless) in [
        (r#"{"readOnlyHint":true}"#, true),
        (r#"{"idempotentHint": true ,"destructiveHint":true}"#, true),
        (r#"{"readOnlyHint":false}"#, false),
        (r#"{"readOnlyHint":"true"}"#, false),
        (r#"{"destructiveHint":false}"#, false),
        ("null", false),
    ] {
        let mut rig = Rig::new(config());
        for answer in [list(r#"{"readOnlyHint":true}"#), list(hints)] {
            rig.send(r#"{"jsonrpc":"2.0","id":9,"method":"tools/list"}"#);
            let ticket = u64::try_from(rig.published.len()).unwrap();
            let tags = vec![nostr::event::Tag::event(rig.id_of(ticket))];
            rig.say(Protection::Wrapped(WrapKind::Persistent), tags, &answer);
        }
        rig.send(PAY);
        rig.handle(ClientInput::Published(contextvm_engine::Ticket(3), contextvm_engine::Outcome::Accepted));
        assert_eq!(again(&rig.wait(2_600)), (0, usize::from(harmless)), "{hints}");
    }
}

#[test]
fn plaintext_is_never_sent_anew_and_again_only_where_that_does_no_harm() {
    let plain = || ClientConfig { encryption: EncryptionMode::Disabled, ..config() };
    let mut reading = sent(plain(), PING);
    assert_eq!(again(&reading.wait(20_000)), (0, 0));
    assert_eq!(again(&reading.handle(ClientInput::RelayUp)), (1, 0));
    // Existing servers run a plaintext event as often as they see it.
    let mut paying = sent(plain(), PAY);
    paying.wait(20_000);
    assert_eq!(again(&paying.handle(ClientInput::RelayUp)), (0, 0));
    assert_eq!(again(&paying.wait(10_000)), (0, 0));
}

#[test]
fn a_storm_of_reconnections_sends_each_call_at_most_once_a_second() {
    let mut rig = sent(config(), PAY);
    rig.wait(1_000);
    let mut total = 0;
    for _ in 0..500 {
        total += again(&rig.handle(ClientInput::RelayUp)).0;
        total += again(&rig.wait(10)).0;
    }
    assert!((5..=6).contains(&total), "{total} in five seconds");
}

#[test]
fn a_relay_that_comes_up_right_after_the_first_attempt_still_gets_the_call() {
    let mut rig = Rig::new(config());
    rig.send(PAY);
    rig.wait(300);
    assert_eq!(again(&rig.handle(ClientInput::RelayUp)), (0, 0));
    assert_eq!(again(&rig.wait(1_000)), (1, 0));
}

#[test]
fn a_relay_that_comes_up_gets_the_call_even_when_another_one_took_it() {
    let mut rig = Rig::new(config());
    rig.send(PAY);
    rig.wait(300);
    rig.handle(ClientInput::RelayUp);
    rig.handle(ClientInput::Published(contextvm_engine::Ticket(1), contextvm_engine::Outcome::Accepted));
    assert_eq!(again(&rig.wait(1_000)), (1, 0));
}

#[test]
fn a_wrap_that_no_relay_confirmed_goes_out_again_as_the_same_event_and_plaintext_does_not() {
    for (encryption, same) in [(EncryptionMode::Optional, 1), (EncryptionMode::Disabled, 0)] {
        let mut rig = Rig::new(ClientConfig { encryption, ..config() });
        rig.send(PAY);
        rig.wait(10_000);
        rig.handle(ClientInput::Published(contextvm_engine::Ticket(1), contextvm_engine::Outcome::Unknown));
        assert_eq!(again(&rig.wait(40_000)), (same, 0));
    }
}

#[test]
fn a_wrap_is_offered_on_when_a_refusal_follows_an_attempt_that_no_relay_confirmed() {
    let mut rig = Rig::new(config());
    rig.send(PAY);
    rig.handle(ClientInput::Published(contextvm_engine::Ticket(1), contextvm_engine::Outcome::Unknown));
    for _ in 0..5 {
        assert_eq!(again(&rig.wait(5_100)), (1, 0));
        let refused = contextvm_engine::Outcome::Refused("rate-limited: slow down".to_owned());
        assert!(rig.handle(ClientInput::Published(contextvm_engine::Ticket(1), refused)).is_empty());
    }
    assert_eq!(rig.machine.pending_calls(), 1);
}

#[test]
fn a_relay_that_came_up_gets_the_call_whatever_the_others_answer_meanwhile() {
    let refused = || contextvm_engine::Outcome::Refused("blocked: no".to_owned());
    let plain = ClientConfig { encryption: EncryptionMode::Disabled, ..config() };
    for (config, outcome) in
        [(plain.clone(), contextvm_engine::Outcome::Unknown), (plain, refused()), (config(), refused())]
    {
        let mut rig = Rig::new(config);
        rig.send(PING);
        // The pause before the next attempt has grown to seconds.
        for _ in 0..3 {
            rig.handle(ClientInput::Published(contextvm_engine::Ticket(1), refused()));
        }
        rig.wait(4_000);
        assert_eq!(again(&rig.handle(ClientInput::RelayUp)), (1, 0));
        rig.wait(100);
        rig.handle(ClientInput::RelayUp);
        rig.handle(ClientInput::Published(contextvm_engine::Ticket(1), outcome));
        assert_eq!(again(&rig.wait(1_000)), (1, 0));
    }
}

#[test]
fn a_refused_plaintext_call_that_was_taken_meanwhile_is_not_repeated() {
    let mut rig = Rig::new(ClientConfig { encryption: EncryptionMode::Disabled, ..config() });
    rig.send(PAY);
    rig.handle(ClientInput::Published(
        contextvm_engine::Ticket(1),
        contextvm_engine::Outcome::Refused("no".to_owned()),
    ));
    rig.handle(ClientInput::RelayUp);
    rig.handle(ClientInput::Published(contextvm_engine::Ticket(1), contextvm_engine::Outcome::Accepted));
    assert_eq!(again(&rig.wait(20_000)), (0, 0));
}

#[test]
fn a_refused_request_is_offered_again_as_the_same_event_until_a_relay_takes_it() {
    let mut rig = Rig::new(config());
    rig.send(PAY);
    for _ in 0..3 {
        let refused = contextvm_engine::Outcome::Refused("rate-limited: slow down".to_owned());
        let outputs = rig.handle(ClientInput::Published(contextvm_engine::Ticket(1), refused));
        assert!(outputs.is_empty());
        assert_eq!(again(&rig.wait(2_600)), (1, 0));
    }
    rig.handle(ClientInput::Published(contextvm_engine::Ticket(1), contextvm_engine::Outcome::Accepted));
    assert_eq!(again(&rig.wait(40_000)), (0, 0));
    // A later refusal of a repeat does not mean that nobody has the request.
    let refused = contextvm_engine::Outcome::Refused("blocked: no".to_owned());
    rig.handle(ClientInput::Published(contextvm_engine::Ticket(1), refused));
    assert_eq!(again(&rig.wait(1_000)), (0, 0));
    assert_eq!(rig.machine.pending_calls(), 1);
}

#[test]
fn a_sign_of_life_makes_repeats_rarer() {
    let mut rig = sent(
        config(),
        r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"u","_meta":{"progressToken":1}}}"#,
    );
    rig.wait(1_000);
    let tags = vec![nostr::event::Tag::event(rig.id_of(1))];
    let note =
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#;
    rig.say(Protection::Wrapped(WrapKind::Persistent), tags, note);
    assert_eq!(again(&rig.wait(5_900)), (0, 0));
    assert_eq!(again(&rig.wait(4_200)), (0, 1));
}

#[test]
fn a_refused_notification_is_offered_again_for_ten_seconds_and_then_forgotten() {
    let mut rig = Rig::new(config());
    rig.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    let mut repeats = 0;
    loop {
        let refused = contextvm_engine::Outcome::Refused("blocked: no".to_owned());
        let outputs = rig.handle(ClientInput::Published(contextvm_engine::Ticket(1), refused));
        if let [ClientOutput::Forget(_)] = outputs.as_slice() {
            break;
        }
        assert!(outputs.is_empty());
        let (same, rewrapped) = again(&rig.wait(5_100));
        assert_eq!((same, rewrapped), (1, 0));
        repeats += 1;
        assert!(repeats < 20);
    }
    assert!(repeats >= 1);
    assert_eq!(rig.machine.poll_timeout(), None);
}

#[test]
fn a_refused_notification_goes_out_at_once_when_a_relay_comes_up() {
    check(
        config(),
        r#"
        > app {"jsonrpc":"2.0","method":"notifications/initialized"}
        publish 1 1059 {"jsonrpc":"2.0","method":"notifications/initialized"}
        > wait 3000
        > refused 1
        > up
        republish 1 same
        > ok 1
        forget 1
        > up
        "#,
    );
}

#[test]
fn notifications_that_nobody_takes_do_not_pile_up() {
    let limits = Limits { outbound_events: 10, ..Limits::default() };
    let mut rig = Rig::new(ClientConfig { limits, ..config() });
    let mut forgotten = 0;
    for _ in 0..100 {
        let outputs = rig.send(r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#);
        forgotten += outputs.iter().filter(|output| matches!(output, ClientOutput::Forget(_))).count();
    }
    assert_eq!(forgotten, 90);
}
