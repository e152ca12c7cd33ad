//! The switch alone: who gets what.
use contextvm_crypto::Keys;
use contextvm_server::RequestKey;
use nostr::event::EventId;

use super::*;

mod local;
mod names;
mod streams;

const CHILD_READY: &str = r#"{"jsonrpc":"2.0","id":"cvm-1","result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"n","version":"v"}}}"#;

fn caller(number: u8) -> PublicKey {
    Keys::from_secret_bytes([number; 32]).unwrap().public_key()
}

fn hex(number: u8) -> String {
    format!("{number:02x}").repeat(32)
}

fn now() -> Instant {
    Instant::now()
}

fn fresh() -> Switch {
    Switch::new(Limits::default(), Duration::from_secs(300), Duration::from_secs(60))
}

fn ready() -> Switch {
    let mut switch = fresh();
    switch.child_up(now());
    switch.hear_child(CHILD_READY, now());
    assert!(switch.open().is_some());
    switch
}

/// A caller's request: its id is the hex of `id`.
fn ask(switch: &mut Switch, from: u8, id: u8, method: &str, params: &str, supports: bool) -> Vec<Action> {
    let caller = caller(from);
    let key = RequestKey { caller, id: EventId::from_hex(&hex(id)).unwrap() };
    let delivery = Delivery::Request { key, method: method.to_owned(), streams: false };
    let message = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"{method}","params":{params}}}"#, hex(id));
    switch.hear_caller(
        Letter { caller, delivery: &delivery, message: &message, server_requests: supports },
        now(),
    )
}

fn tell(switch: &mut Switch, from: u8, method: &str, params: &str) -> Vec<Action> {
    let delivery = Delivery::Notification { method: method.to_owned() };
    let message = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#);
    let letter =
        Letter { caller: caller(from), delivery: &delivery, message: &message, server_requests: false };
    switch.hear_caller(letter, now())
}

fn result_for(id: u8) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":"{}","result":{{"ok":{id}}}}}"#, hex(id))
}

fn to_child(actions: &[Action]) -> Vec<&str> {
    let lines = actions.iter().filter_map(|action| match action {
        Action::Child(text) => Some(text.as_str()),
        Action::Caller(..) | Action::Broadcast(_) | Action::Kick | Action::Tell(_) => None,
    });
    lines.collect()
}

fn to_callers(actions: &[Action]) -> Vec<(PublicKey, &str)> {
    let lines = actions.iter().filter_map(|action| match action {
        Action::Caller(caller, text) => Some((*caller, text.as_str())),
        Action::Child(_) | Action::Broadcast(_) | Action::Kick | Action::Tell(_) => None,
    });
    lines.collect()
}

fn reason(text: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    value.pointer("/error/data/reason").unwrap().as_str().unwrap().to_owned()
}

#[test]
fn the_child_is_initialised_once_and_callers_are_answered_for_it() {
    let mut switch = fresh();
    let up = switch.child_up(now());
    assert!(to_child(&up)[0].contains(r#""method":"initialize""#));
    let opened = switch.hear_child(CHILD_READY, now());
    assert_eq!(to_child(&opened), [r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#]);
    let answered = ask(&mut switch, 1, 10, "initialize", r#"{"protocolVersion":"2025-06-18"}"#, false);
    assert!(to_child(&answered).is_empty());
    let [(to, text)] = to_callers(&answered)[..] else { panic!("{answered:?}") };
    assert_eq!(to, caller(1));
    assert!(text.contains(&hex(10)) && text.contains(r#""name":"n""#), "{text}");
    assert!(tell(&mut switch, 1, "notifications/initialized", "{}").is_empty());
}

#[test]
fn an_answer_reaches_its_caller_alone_and_once() {
    let mut switch = ready();
    assert_eq!(to_child(&ask(&mut switch, 1, 10, "tools/call", r#"{"name":"a"}"#, false)).len(), 1);
    ask(&mut switch, 2, 11, "tools/call", r#"{"name":"a"}"#, false);
    let second = switch.hear_child(&result_for(11), now());
    assert_eq!(to_callers(&second), [(caller(2), result_for(11).as_str())]);
    let first = switch.hear_child(&result_for(10), now());
    assert_eq!(to_callers(&first), [(caller(1), result_for(10).as_str())]);
    assert!(to_callers(&switch.hear_child(&result_for(10), now())).is_empty());
    assert!(to_callers(&switch.hear_child(&result_for(99), now())).is_empty());
}

#[test]
fn requests_go_to_the_child_as_one_line_and_otherwise_untouched() {
    let mut switch = ready();
    let params = "{ \"name\" :\n\"a\\nb\" , \"x\": 1.0e5,\r\n \"new\" : [ ] }";
    let actions = ask(&mut switch, 1, 10, "tools/call", params, false);
    let line = to_child(&actions)[0];
    assert!(!line.contains(['\n', '\r']));
    assert!(line.ends_with(r#""params":{"name":"a\nb","x":1.0e5,"new":[]}}"#), "{line}");
}

#[test]
fn two_lines_in_one_message_never_reach_the_child() {
    let mut switch = ready();
    let spaces = ["", " ", "\n", "\r\n", "\t", "\n\n", " \r", "\n{}\n"];
    let mut delivered = 0;
    for (number, count) in
        (0..10_000_u32).zip(std::iter::successors(Some(7_u32), |n| Some(n.wrapping_mul(48_271) % 65_521)))
    {
        let pick = |shift: u32| spaces[usize::try_from(count >> shift).unwrap() % spaces.len()];
        let params = format!("{{{}\"name\"{}:{}\"a\"{}}}{}", pick(0), pick(2), pick(4), pick(6), pick(8));
        let id = u8::try_from(number % 200).unwrap();
        for line in to_child(&ask(&mut switch, 1, id, "tools/call", &params, false)) {
            assert!(line.bytes().all(|byte| !matches!(byte, b'\n' | b'\r' | 0)), "{line:?}");
            delivered += 1;
        }
        switch.hear_child(&result_for(id), now());
    }
    assert!(delivered > 1_000, "{delivered}");
}

#[test]
fn progress_reaches_the_caller_whose_token_it_carries() {
    let mut switch = ready();
    ask(&mut switch, 1, 10, "tools/call", "{}", false);
    ask(&mut switch, 2, 11, "tools/call", "{}", false);
    let progress = |id: u8| {
        let token = hex(id);
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"{token}","progress":1}}}}"#
        )
    };
    assert_eq!(to_callers(&switch.hear_child(&progress(11), now())), [(caller(2), progress(11).as_str())]);
    assert!(switch.hear_child(&progress(12), now()).is_empty());
}

#[test]
fn a_caller_cancels_its_own_requests_only() {
    let mut switch = ready();
    ask(&mut switch, 1, 10, "tools/call", "{}", false);
    let params = format!(r#"{{"requestId":"{}"}}"#, hex(10));
    assert!(tell(&mut switch, 2, "notifications/cancelled", &params).is_empty());
    assert_eq!(to_child(&tell(&mut switch, 1, "notifications/cancelled", &params)).len(), 1);
    assert!(to_callers(&switch.hear_child(&result_for(10), now())).is_empty());
}

#[test]
fn a_dead_child_fails_what_is_open_and_what_comes() {
    let mut switch = ready();
    ask(&mut switch, 1, 10, "tools/call", "{}", false);
    ask(&mut switch, 2, 11, "tools/call", "{}", false);
    let down = switch.child_down("exited 7", Some((Duration::from_secs(10), 1)), now());
    let answers = to_callers(&down);
    assert_eq!(answers.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [caller(1), caller(2)]);
    for (_, text) in &answers {
        assert_eq!(reason(text), "child_exited");
        assert!(text.contains("-32000") && text.contains(r#""retryAfterMs":10000"#), "{text}");
    }
    assert!(down.contains(&Action::Tell(Notice::ChildExited {
        how: "exited 7".into(),
        failed: 2,
        restart: Some((Duration::from_secs(10), 1)),
    })));
    let later = ask(&mut switch, 1, 12, "tools/list", "{}", false);
    assert_eq!(reason(to_callers(&later)[0].1), "child_down");
    // What it said before it died still answers `initialize`.
    let again = ask(&mut switch, 1, 13, "initialize", "{}", false);
    assert!(to_callers(&again)[0].1.contains(r#""name":"n""#));
}

#[test]
fn requests_wait_while_the_child_is_initialised() {
    let mut switch = ready();
    switch.child_down("exited 1", None, now());
    let up = switch.child_up(now());
    assert!(to_child(&ask(&mut switch, 1, 10, "tools/list", "{}", false)).is_empty());
    let id = to_child(&up)[0].split('"').nth(7).unwrap().to_owned();
    let opened = switch.hear_child(&CHILD_READY.replace("cvm-1", &id), now());
    let lines = to_child(&opened);
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains("notifications/initialized") && lines[1].contains("tools/list"));
}

#[test]
fn a_question_of_the_child_goes_to_the_only_caller_at_work() {
    let mut switch = ready();
    let question = r#"{"jsonrpc":"2.0","id":0,"method":"sampling/createMessage","params":{"secret":1}}"#;
    let nobody = switch.hear_child(question, now());
    assert!(to_child(&nobody)[0].contains("no_client"));
    ask(&mut switch, 1, 10, "tools/call", "{}", true);
    let asked = switch.hear_child(question, now());
    let (to, text) = to_callers(&asked)[0];
    assert_eq!(to, caller(1));
    let id = Envelope::parse(text, &Limits::default()).unwrap().id.unwrap().get().to_owned();
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"role":"assistant"}}}}"#);
    let other =
        Letter { caller: caller(2), delivery: &Delivery::Response, message: &answer, server_requests: true };
    assert!(switch.hear_caller(other, now()).is_empty());
    let own =
        Letter { caller: caller(1), delivery: &Delivery::Response, message: &answer, server_requests: true };
    let answered = switch.hear_caller(own, now());
    assert_eq!(to_child(&answered), [r#"{"jsonrpc":"2.0","id":0,"result":{"role":"assistant"}}"#]);
}

#[test]
fn a_question_that_could_concern_two_callers_reaches_none() {
    let mut switch = ready();
    ask(&mut switch, 1, 10, "tools/call", "{}", true);
    ask(&mut switch, 2, 11, "tools/call", "{}", false);
    let asked = switch.hear_child(r#"{"jsonrpc":"2.0","id":5,"method":"roots/list"}"#, now());
    assert!(to_callers(&asked).is_empty());
    assert!(to_child(&asked)[0].contains("several_clients"));
    switch.hear_child(&result_for(10), now());
    let asked = switch.hear_child(r#"{"jsonrpc":"2.0","id":6,"method":"roots/list"}"#, now());
    assert!(to_child(&asked)[0].contains("not_supported"));
}

#[test]
fn a_question_for_a_call_that_was_cancelled_reaches_nobody_else() {
    let question =
        r#"{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{"message":"your password?"}}"#;
    let said = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":"x"}}"#;
    let cancelled = |id| format!(r#"{{"requestId":"{}"}}"#, hex(id));
    let mut switch = ready();
    ask(&mut switch, 1, 10, "tools/call", "{}", true);
    tell(&mut switch, 1, "notifications/cancelled", &cancelled(10));
    ask(&mut switch, 2, 11, "tools/call", "{}", true);
    let asked = switch.hear_child(question, now());
    assert!(to_callers(&asked).is_empty(), "{asked:?}");
    assert_eq!(reason(to_child(&asked)[0]), "several_clients");
    assert!(to_callers(&switch.hear_child(said, now())).is_empty());
    // The child has finished with it after all.
    switch.hear_child(&result_for(10), now());
    assert_eq!(to_callers(&switch.hear_child(question, now())).len(), 1);

    // A child that obeys says nothing of it after a second, and is not waited for; one that was late before is.
    let soon = now() + Duration::from_secs(5);
    for is_deaf in [false, true] {
        let mut switch = ready();
        for id in [10, 11] {
            ask(&mut switch, 1, id, "tools/call", "{}", true);
            tell(&mut switch, 1, "notifications/cancelled", &cancelled(id));
        }
        if is_deaf {
            switch.hear_child(&result_for(10), soon);
        }
        ask(&mut switch, 2, 12, "tools/call", "{}", true);
        let asked = switch.hear_child(question, soon);
        assert_eq!(to_callers(&asked).len(), usize::from(!is_deaf), "{asked:?}");
        switch.sweep(now() + Duration::from_secs(301));
        ask(&mut switch, 2, 13, "tools/call", "{}", true);
        let late = now() + Duration::from_secs(302);
        assert_eq!(to_callers(&switch.hear_child(question, late)).len(), 1, "nobody works so long");
    }
}

#[test]
fn a_question_for_a_call_that_took_too_long_reaches_nobody_else() {
    let question = r#"{"jsonrpc":"2.0","id":7,"method":"roots/list"}"#;
    let mut switch = ready();
    ask(&mut switch, 1, 10, "tools/call", "{}", true);
    let late = now() + Duration::from_secs(301);
    assert_eq!(to_callers(&switch.sweep(late)).len(), 1);
    ask(&mut switch, 2, 11, "tools/call", "{}", true);
    assert!(to_callers(&switch.hear_child(question, late)).is_empty());
}

#[test]
fn more_cancelled_calls_than_are_remembered_make_nobody_sure() {
    let question = r#"{"jsonrpc":"2.0","id":7,"method":"roots/list"}"#;
    let mut switch = ready();
    switch.limits.in_flight = 2;
    for id in 10..13 {
        ask(&mut switch, 1, id, "tools/call", "{}", true);
        tell(&mut switch, 1, "notifications/cancelled", &format!(r#"{{"requestId":"{}"}}"#, hex(id)));
    }
    ask(&mut switch, 1, 20, "tools/call", "{}", true);
    assert!(to_callers(&switch.hear_child(question, now())).is_empty());
    switch.child_down("ended", None, now());
    switch.child_up(now());
    switch.hear_child(&CHILD_READY.replace("cvm-1", "cvm-2"), now());
    ask(&mut switch, 1, 21, "tools/call", "{}", true);
    assert_eq!(to_callers(&switch.hear_child(question, now())).len(), 1, "another child knows nothing of it");
}

#[test]
fn nobody_ends_a_subscription_that_another_one_is_making() {
    let uri = r#"{"uri":"file:///a"}"#;
    for leaves in [false, true] {
        let mut switch = ready();
        switch.session_began(caller(2), now());
        ask(&mut switch, 2, 9, "resources/subscribe", uri, false);
        switch.hear_child(&result_for(9), now());
        ask(&mut switch, 1, 10, "resources/subscribe", uri, false);
        let left = match leaves {
            true => switch.session_ended(caller(2)),
            false => ask(&mut switch, 2, 11, "resources/unsubscribe", uri, false),
        };
        assert!(to_child(&left).is_empty(), "{left:?}");
        switch.hear_child(&result_for(10), now());
        let updated =
            r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///a"}}"#;
        let heard = switch.hear_child(updated, now());
        assert_eq!(to_callers(&heard), [(caller(1), updated)]);
    }
}

#[test]
fn an_open_question_ends_with_the_call_it_belonged_to() {
    let mut switch = ready();
    ask(&mut switch, 1, 10, "tools/call", "{}", true);
    switch.hear_child(r#"{"jsonrpc":"2.0","id":5,"method":"elicitation/create"}"#, now());
    let ended = switch.hear_child(&result_for(10), now());
    assert!(to_child(&ended)[0].contains("call_ended") && to_child(&ended)[0].contains(r#""id":5"#));
    assert_eq!(to_callers(&ended).len(), 1);
}

#[test]
fn the_gateway_answers_the_childs_ping() {
    let mut switch = ready();
    let pong = switch.hear_child(r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#, now());
    assert_eq!(to_child(&pong), [r#"{"jsonrpc":"2.0","id":"p","result":{}}"#]);
}

#[test]
fn what_one_caller_caused_is_not_told_to_another() {
    let mut switch = ready();
    switch.session_began(caller(1), now());
    switch.session_began(caller(2), now());
    let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}"#;
    assert!(switch.hear_child(log, now()).is_empty());
    ask(&mut switch, 2, 11, "tools/call", "{}", false);
    assert_eq!(to_callers(&switch.hear_child(log, now())), [(caller(2), log)]);
    ask(&mut switch, 1, 10, "tools/call", "{}", false);
    assert!(switch.hear_child(log, now()).is_empty());
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    assert_eq!(switch.hear_child(changed, now()), [Action::Broadcast(changed.to_owned())]);
}

#[test]
fn updates_of_a_resource_reach_its_listeners() {
    let mut switch = ready();
    let uri = r#"{"uri":"file:///a"}"#;
    for (from, id) in [(1, 10), (2, 11)] {
        ask(&mut switch, from, id, "resources/subscribe", uri, false);
        switch.hear_child(&result_for(id), now());
    }
    let update = |uri: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":"{uri}"}}}}"#
        )
    };
    assert_eq!(to_callers(&switch.hear_child(&update("file:///a/b"), now())).len(), 2);
    assert!(switch.hear_child(&update("file:///ab"), now()).is_empty());
    let left = ask(&mut switch, 1, 12, "resources/unsubscribe", uri, false);
    assert!(to_child(&left).is_empty(), "another caller still listens");
    assert!(to_callers(&left)[0].1.contains(r#""result":{}"#));
    let updated = switch.hear_child(&update("file:///a"), now());
    assert_eq!(to_callers(&updated).iter().map(|(to, _)| *to).collect::<Vec<_>>(), [caller(2)]);
    assert_eq!(to_child(&ask(&mut switch, 2, 13, "resources/unsubscribe", uri, false)).len(), 1);
}

#[test]
fn subscriptions_survive_the_child_and_end_with_the_session() {
    let mut switch = ready();
    switch.session_began(caller(1), now());
    ask(&mut switch, 1, 10, "resources/subscribe", r#"{"uri":"a:b"}"#, false);
    switch.hear_child(&result_for(10), now());
    switch.child_down("exited 1", None, now());
    let up = switch.child_up(now());
    let id = to_child(&up)[0].split('"').nth(7).unwrap().to_owned();
    let opened = switch.hear_child(&CHILD_READY.replace("cvm-1", &id), now());
    assert!(
        to_child(&opened).iter().any(|line| line.contains("resources/subscribe") && line.contains("a:b"))
    );
    let ended = switch.session_ended(caller(1));
    assert!(to_child(&ended)[0].contains("resources/unsubscribe"));
}

#[test]
fn a_modern_subscription_is_routed_by_its_id_and_lasts_as_long_as_its_caller_is_heard_of() {
    let mut switch = ready();
    switch.session_began(caller(1), now());
    ask(&mut switch, 1, 10, "subscriptions/listen", "{}", false);
    let note = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":"{}"}}}}}}"#,
        hex(10)
    );
    assert_eq!(to_callers(&switch.hear_child(&note, now())), [(caller(1), note.as_str())]);
    let cancel = |id: u8| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":"{}"}}}}"#,
            hex(id)
        )
    };
    ask(&mut switch, 1, 11, "subscriptions/listen", "{}", false);
    ask(&mut switch, 1, 12, "tools/call", "{}", false);
    assert_eq!(to_callers(&switch.hear_child(&cancel(11), now())), [(caller(1), cancel(11).as_str())]);
    assert!(
        switch.hear_child(&cancel(11), now()).is_empty() && switch.hear_child(&cancel(12), now()).is_empty()
    );
    switch.hear_child(&result_for(12), now());
    assert!(switch.sweep(now() + Duration::from_secs(1_700)).is_empty());
    let late = switch.sweep(now() + Duration::from_secs(1_801));
    assert_eq!(reason(to_callers(&late)[0].1), "lease_expired");
    assert!(to_child(&late)[0].contains("notifications/cancelled"));
}

#[test]
fn requests_wait_for_a_restart_that_is_near() {
    let mut switch = ready();
    switch.child_down("exited 7", Some((Duration::from_secs(1), 1)), now());
    assert!(ask(&mut switch, 1, 10, "tools/list", "{}", false).is_empty());
    ask(&mut switch, 1, 11, "tools/call", "{}", false);
    tell(&mut switch, 1, "notifications/cancelled", &format!(r#"{{"requestId":"{}"}}"#, hex(11)));
    let up = switch.child_up(now());
    let id = to_child(&up)[0].split('"').nth(7).unwrap().to_owned();
    let opened = switch.hear_child(&CHILD_READY.replace("cvm-1", &id), now());
    let lines = to_child(&opened);
    assert!(lines[1].contains("tools/list") && lines[2].contains(&hex(11)), "{lines:?}");
    assert!(lines[3].contains("notifications/cancelled"), "{lines:?}");
}

#[test]
fn the_child_says_what_the_most_curious_asked_for_and_others_do_not_hear_it() {
    let mut switch = ready();
    for number in 1..=3 {
        switch.session_began(caller(number), now());
    }
    let level = |level: &str| format!(r#"{{"level":"{level}"}}"#);
    let first = ask(&mut switch, 1, 10, "logging/setLevel", &level("error"), false);
    assert!(to_child(&first)[0].contains(r#""level":"error""#));
    switch.hear_child(&result_for(10), now());
    let lower = ask(&mut switch, 2, 11, "logging/setLevel", &level("debug"), false);
    assert!(to_child(&lower)[0].contains(r#""level":"debug""#));
    switch.hear_child(&result_for(11), now());
    let higher = ask(&mut switch, 1, 12, "logging/setLevel", &level("warning"), false);
    assert!(to_child(&higher).is_empty() && to_callers(&higher)[0].1.contains(r#""result":{}"#));
    let log = |level: &str| {
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"{level}"}}}}"#)
    };
    for (number, hears) in [
        (1, [("debug", false), ("info", false), ("warning", true), ("error", true)]),
        (2, [("debug", true), ("info", true), ("warning", true), ("error", true)]),
        (3, [("debug", false), ("info", true), ("warning", true), ("error", true)]),
    ] {
        ask(&mut switch, number, 20, "tools/call", "{}", false);
        for (level, hears) in hears {
            let heard = switch.hear_child(&log(level), now());
            assert_eq!(!to_callers(&heard).is_empty(), hears, "{number} {level}");
        }
        switch.hear_child(&result_for(20), now());
    }
    let left = switch.session_ended(caller(2));
    assert!(to_child(&left)[0].contains(r#""method":"logging/setLevel","params":{"level":"warning"}"#));
    ask(&mut switch, 1, 13, "logging/setLevel", &level("loud"), false);
    assert!(to_child(&switch.session_ended(caller(1))).is_empty(), "nobody is left who asked");
}

#[test]
fn a_new_session_begins_without_what_the_last_one_asked_for() {
    let mut switch = ready();
    switch.session_began(caller(1), now());
    ask(&mut switch, 1, 10, "resources/subscribe", r#"{"uri":"a:b"}"#, false);
    switch.hear_child(&result_for(10), now());
    ask(&mut switch, 1, 11, "tools/call", "{}", true);
    switch.hear_child(r#"{"jsonrpc":"2.0","id":5,"method":"elicitation/create"}"#, now());
    let begun = switch.session_began(caller(1), now());
    assert!(to_child(&begun)[0].contains("call_ended") && to_child(&begun)[1].contains("unsubscribe"));
    assert!(switch.session_ended(caller(1)).is_empty(), "the end of the session before");
    let update = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a:b"}}"#;
    assert!(switch.hear_child(update, now()).is_empty());
}

#[test]
fn one_caller_leaves_room_for_the_subscriptions_of_others() {
    let mut subscriptions = Subscriptions::default();
    for number in 0..10_000 {
        subscriptions.add(&format!("a:{number}"), caller(1));
    }
    subscriptions.add("b:1", caller(2));
    assert_eq!(subscriptions.listeners("b:1").len(), 1);
    assert!(subscriptions.uris().len() < 200);
}

#[test]
fn a_question_that_nobody_answers_is_answered_in_time() {
    let mut switch = ready();
    ask(&mut switch, 1, 10, "subscriptions/listen", "{}", true);
    ask(&mut switch, 1, 11, "tools/call", "{}", true);
    switch.hear_child(r#"{"jsonrpc":"2.0","id":5,"method":"elicitation/create"}"#, now());
    let late = switch.sweep(now() + Duration::from_secs(301));
    assert!(to_child(&late).iter().any(|line| line.contains("no_reply") && line.contains(r#""id":5"#)));
}

#[test]
fn a_late_request_is_answered_and_cancelled_and_progress_extends_it() {
    let mut switch = ready();
    ask(&mut switch, 1, 10, "tools/call", "{}", false);
    ask(&mut switch, 1, 11, "tools/call", "{}", false);
    let token = hex(11);
    let progress = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"{token}","progress":1}}}}"#
    );
    switch.hear_child(&progress, now() + Duration::from_secs(200));
    let late = switch.sweep(now() + Duration::from_secs(301));
    assert_eq!(to_callers(&late).len(), 1);
    assert_eq!(reason(to_callers(&late)[0].1), "child_timeout");
    assert!(to_child(&late)[0].contains("notifications/cancelled") && to_child(&late)[0].contains(&hex(10)));
}

#[test]
fn a_child_that_never_answers_initialize_is_ended() {
    let (mut switch, begin) = (fresh(), now());
    switch.child_up(begin);
    assert!(switch.sweep(begin + Duration::from_secs(59)).is_empty());
    assert_eq!(switch.sweep(begin + Duration::from_secs(60)), [Action::Kick]);
}

#[test]
fn garbage_is_told_of_once_and_an_invalid_answer_fails_its_call() {
    let mut switch = ready();
    ask(&mut switch, 1, 10, "tools/call", "{}", false);
    assert_eq!(switch.hear_child("Server started on \u{1b}[1mstdio", now()).len(), 1);
    for line in
        ["", "[]", "{", "null", "{\"jsonrpc\":\"2.0\"}", "Debug: 1", "\u{0}", "[{\"jsonrpc\":\"2.0\"}]"]
    {
        assert!(switch.hear_child(line, now()).is_empty(), "{line}");
    }
    let invalid = format!(r#"{{"jsonrpc":"2.0","id":"{}","result":{{"a":1,"a":2}}}}"#, hex(10));
    let actions = switch.hear_child(&invalid, now());
    assert_eq!(reason(to_callers(&actions)[0].1), "child_answer_invalid");
}

#[test]
fn a_line_that_could_not_be_written_is_answered() {
    let mut switch = ready();
    let actions = ask(&mut switch, 1, 10, "tools/call", "{}", false);
    let line = to_child(&actions)[0].to_owned();
    let refused = switch.not_written(&line);
    assert_eq!(reason(to_callers(&refused)[0].1), "child_busy");
    assert!(switch.not_written(&line).is_empty());
}

#[test]
fn the_gateway_answers_everything_when_it_stops() {
    let mut switch = ready();
    ask(&mut switch, 1, 10, "tools/call", "{}", false);
    assert_eq!(reason(to_callers(&switch.stop())[0].1), "shutting_down");
}
