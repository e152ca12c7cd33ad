//! The lane alone: what passes, what waits, what is answered.
use contextvm_crypto::Keys;
use contextvm_server::RequestKey;
use nostr::event::EventId;

use super::*;

fn hex(number: u8) -> String {
    format!("{number:02x}").repeat(32)
}

fn now() -> Instant {
    Instant::now()
}

fn lane() -> Lane {
    let options = Options {
        child: crate::child::ChildOptions::default(),
        limits: Limits::default(),
        opening_timeout: Duration::from_secs(60),
        request_timeout: Duration::from_secs(300),
        idle: Duration::from_secs(600),
        backends: 64,
    };
    Lane::new(1, false, "child", &options, now())
}

fn ask(lane: &mut Lane, id: u8, method: &str, params: &str) -> Vec<Action> {
    let caller = Keys::from_secret_bytes([1; 32]).unwrap().public_key();
    let key = RequestKey { caller, id: EventId::from_hex(&hex(id)).unwrap() };
    let delivery = Delivery::Request { key, method: method.to_owned(), streams: false };
    let text = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"{method}","params":{params}}}"#, hex(id));
    lane.hear_caller(&delivery, &text, now())
}

fn tell(lane: &mut Lane, method: &str, params: &str) -> Vec<Action> {
    let delivery = Delivery::Notification { method: method.to_owned() };
    let text = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#);
    lane.hear_caller(&delivery, &text, now())
}

fn result(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{}}}}"#)
}

fn hear(lane: &mut Lane, text: &str) -> Vec<Action> {
    lane.hear_backend(text, true, now())
}

fn to_backend(actions: &[Action]) -> Vec<&str> {
    let lines = actions.iter().filter_map(|action| match action {
        Action::Backend(line) => Some(line.as_str()),
        Action::Caller(_) | Action::Kick | Action::Release | Action::Tell(_) => None,
    });
    lines.collect()
}

fn to_caller(actions: &[Action]) -> Vec<&str> {
    let lines = actions.iter().filter_map(|action| match action {
        Action::Caller(line) => Some(line.as_str()),
        Action::Backend(_) | Action::Kick | Action::Release | Action::Tell(_) => None,
    });
    lines.collect()
}

/// Opens the lane with the caller's own `initialize`.
fn opened() -> Lane {
    let mut lane = lane();
    ask(&mut lane, 1, "initialize", r#"{"protocolVersion":"2025-06-18","mine":1.0}"#);
    hear(&mut lane, &result(&hex(1)));
    tell(&mut lane, "notifications/initialized", "{}");
    lane
}

#[test]
fn the_callers_own_initialize_passes_unchanged_and_holds_up_what_follows() {
    let mut lane = lane();
    let first = ask(&mut lane, 1, "initialize", r#"{"mine":1.0}"#);
    assert!(to_backend(&first)[0].ends_with(r#""method":"initialize","params":{"mine":1.0}}"#));
    assert!(ask(&mut lane, 2, "tools/list", "{}").is_empty());
    assert!(tell(&mut lane, "notifications/initialized", "{}").is_empty());
    let answered = hear(&mut lane, &result(&hex(1)));
    assert_eq!(to_caller(&answered), [result(&hex(1))]);
    let held = to_backend(&answered);
    assert!(held.len() == 2 && held[0].contains("tools/list") && held[1].contains("initialized"), "{held:?}");
}

#[test]
fn a_stateless_caller_gets_its_session_opened() {
    let mut lane = lane();
    let first = ask(&mut lane, 1, "tools/list", "{}");
    assert!(
        matches!(to_backend(&first)[..], [line] if line.contains(r#""id":"cvm-1-1","method":"initialize""#))
    );
    assert!(tell(&mut lane, "notifications/initialized", "{}").is_empty(), "the gateway says so itself");
    let answered = hear(&mut lane, &result("cvm-1-1"));
    assert!(to_caller(&answered).is_empty());
    let lines = to_backend(&answered);
    assert!(lines.len() == 2 && lines[0].contains("initialized") && lines[1].contains("tools/list"));
}

#[test]
fn a_session_that_could_not_be_opened_is_tried_again_with_the_next_request() {
    let mut lane = lane();
    ask(&mut lane, 1, "tools/list", "{}");
    let refused =
        hear(&mut lane, r#"{"jsonrpc":"2.0","id":"cvm-1-1","error":{"code":-32000,"message":"no"}}"#);
    assert!(matches!(to_backend(&refused)[..], [line] if line.contains("tools/list")), "{refused:?}");
    let again = ask(&mut lane, 2, "tools/list", "{}");
    assert!(matches!(to_backend(&again)[..], [line] if line.contains("initialize")), "{again:?}");
}

#[test]
fn a_modern_message_needs_no_session() {
    let mut lane = lane();
    let meta = r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#;
    let lines = ask(&mut lane, 1, "server/discover", meta);
    assert!(matches!(to_backend(&lines)[..], [line] if line.contains("server/discover")));
}

#[test]
fn what_needs_no_backend_starts_none() {
    let mut lane = lane();
    for method in ["notifications/initialized", "notifications/cancelled", "notifications/roots/list_changed"]
    {
        assert!(tell(&mut lane, method, r#"{"requestId":"x"}"#).is_empty(), "{method}");
    }
    let response = result("cvm-1-1");
    assert!(lane.hear_caller(&Delivery::Response, &response, now()).is_empty());
}

#[test]
fn another_backend_is_initialised_as_the_caller_did_and_told_what_the_first_knew() {
    let mut lane = opened();
    for (id, method, params) in
        [(2, "resources/subscribe", r#"{"uri":"a:b"}"#), (3, "logging/setLevel", r#"{"level":"debug"}"#)]
    {
        ask(&mut lane, id, method, params);
        hear(&mut lane, &result(&hex(id)));
    }
    assert!(lane.is_subscribed() && lane.is_idle());
    lane.closed(&Failure::new(FAILED, "x", "x"));
    let again = ask(&mut lane, 4, "tools/list", "{}");
    let [line] = to_backend(&again)[..] else { panic!("{again:?}") };
    assert!(line.contains(r#""params":{"protocolVersion":"2025-06-18","mine":1.0}"#), "{line}");
    let id = line.split('"').nth(7).unwrap().to_owned();
    let lines = hear(&mut lane, &result(&id));
    let lines = to_backend(&lines);
    let expected = ["notifications/initialized", "logging/setLevel", "resources/subscribe", "tools/list"];
    assert!(
        lines.iter().zip(expected).all(|(line, part)| line.contains(part)) && lines.len() == 4,
        "{lines:?}"
    );
}

#[test]
fn questions_reach_the_caller_under_ids_of_the_gateway() {
    let mut lane = opened();
    let question = r#"{"jsonrpc":"2.0","id":0,"method":"roots/list"}"#;
    let refused = lane.hear_backend(question, false, now());
    assert!(to_backend(&refused)[0].contains("not_supported"));
    let asked = hear(&mut lane, question);
    let id = Envelope::parse(to_caller(&asked)[0], &Limits::default()).unwrap().id.unwrap().get().to_owned();
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"roots":[]}}}}"#);
    let answered = lane.hear_caller(&Delivery::Response, &answer, now());
    assert_eq!(to_backend(&answered), [r#"{"jsonrpc":"2.0","id":0,"result":{"roots":[]}}"#]);
    assert!(lane.hear_caller(&Delivery::Response, &answer, now()).is_empty(), "it is answered once");
    let ping = hear(&mut lane, r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#);
    assert_eq!(to_backend(&ping), [r#"{"jsonrpc":"2.0","id":7,"result":{}}"#]);
}

#[test]
fn what_speaks_of_unknown_requests_belongs_to_another_session() {
    let mut lane = opened();
    ask(&mut lane, 2, "tools/call", "{}");
    let note = |method: &str| Delivery::Notification { method: method.to_owned() };
    let text = |id: u8| {
        let id = hex(id);
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":"{id}"}}}}"#)
    };
    assert!(lane.is_foreign(&note("notifications/cancelled"), &text(3)));
    assert!(!lane.is_foreign(&note("notifications/cancelled"), &text(2)));
    assert!(!lane.is_foreign(&note("notifications/other"), &text(3)));
    let pong = |id: u8| text(id).replace("requestId", "progressToken");
    assert!(lane.is_foreign(&note("notifications/progress"), &pong(3)));
    assert!(!lane.is_foreign(&note("notifications/progress"), &pong(2)));
}

#[test]
fn what_the_reader_of_a_stream_says_reaches_the_backend_while_the_call_is_open() {
    let mut lane = opened();
    ask(&mut lane, 2, "tools/call", "{}");
    let pong = |id: u8| {
        let token = hex(id);
        format!(
            r#"{{"progressToken":"{token}","progress":1,"cvm":{{"type":"open-stream","frameType":"pong"}}}}"#
        )
    };
    assert!(to_backend(&tell(&mut lane, "notifications/progress", &pong(2)))[0].contains(&pong(2)));
    assert!(tell(&mut lane, "notifications/progress", &pong(3)).is_empty());
    hear(&mut lane, &result(&hex(2)));
    assert!(tell(&mut lane, "notifications/progress", &pong(2)).is_empty());
}

#[test]
fn what_waits_for_the_backend_is_bounded_in_bytes() {
    let mut lane = lane();
    let params = format!(r#"{{"data":"{}"}}"#, "x".repeat(20_000_000));
    assert_eq!(to_backend(&ask(&mut lane, 1, "tools/call", &params)).len(), 1, "its `initialize`");
    assert!(ask(&mut lane, 2, "tools/call", &params).is_empty());
    assert!(to_caller(&ask(&mut lane, 3, "tools/call", &params))[0].contains("child_busy"));
}

#[test]
fn an_unanswered_question_is_answered_for_the_caller() {
    let mut lane = opened();
    hear(&mut lane, r#"{"jsonrpc":"2.0","id":0,"method":"roots/list"}"#);
    let late = lane.sweep(now() + Duration::from_secs(301));
    assert!(matches!(to_backend(&late)[..], [line] if line.contains("no_reply")));
}

#[test]
fn late_requests_are_answered_and_cancelled_and_progress_extends_them() {
    let mut lane = opened();
    ask(&mut lane, 2, "tools/call", "{}");
    ask(&mut lane, 3, "tools/call", "{}");
    let progress = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"{}","progress":1}}}}"#,
        hex(3)
    );
    lane.hear_backend(&progress, true, now() + Duration::from_secs(200));
    let late = lane.sweep(now() + Duration::from_secs(301));
    assert!(
        matches!(to_caller(&late)[..], [line] if line.contains(&hex(2)) && line.contains("child_timeout"))
    );
    assert!(matches!(to_backend(&late)[..], [line] if line.contains("notifications/cancelled")));
}

#[test]
fn a_subscription_lasts_as_long_as_its_caller_is_heard_of() {
    let mut lane = lane();
    let meta = r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#;
    ask(&mut lane, 1, "subscriptions/listen", meta);
    assert!(lane.sweep(now() + Duration::from_secs(1_700)).is_empty());
    let late = lane.sweep(now() + Duration::from_secs(1_801));
    assert!(to_caller(&late)[0].contains("lease_expired") && to_backend(&late)[0].contains("cancelled"));
}

#[test]
fn the_server_ends_subscriptions_and_takes_back_questions_and_nothing_else() {
    let mut lane = opened();
    ask(&mut lane, 2, "subscriptions/listen", "{}");
    ask(&mut lane, 3, "tools/call", "{}");
    hear(&mut lane, r#"{"jsonrpc":"2.0","id":0,"method":"roots/list"}"#);
    let cancel = |id: &str| {
        let meta = format!(r#"{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"_meta":{meta}}}}}"#
        )
    };
    let listen = cancel(&quote(&hex(2)));
    assert_eq!(to_caller(&hear(&mut lane, &listen)), [listen.as_str()]);
    assert!(hear(&mut lane, &listen).is_empty());
    assert!(to_caller(&hear(&mut lane, &cancel("0")))[0].contains(r#""requestId":"cvm-1-1""#));
    assert!(hear(&mut lane, &cancel(&quote(&hex(3)))).is_empty());
    hear(&mut lane, &result(&hex(3)));
    assert!(lane.is_idle());
}

#[test]
fn a_replaced_session_ends_what_is_open_and_says_nothing_else() {
    let mut lane = opened();
    ask(&mut lane, 2, "tools/call", "{}");
    let question = r#"{"jsonrpc":"2.0","id":0,"method":"roots/list"}"#;
    hear(&mut lane, question);
    for answered in [lane.replaced(), hear(&mut lane, question)] {
        assert!(matches!(to_backend(&answered)[..], [line] if line.contains("session_replaced")));
    }
    assert!(hear(&mut lane, r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#).is_empty());
    assert!(!lane.is_idle());
    assert_eq!(to_caller(&hear(&mut lane, &result(&hex(2)))), [result(&hex(2))]);
    assert!(lane.is_idle());
}

#[test]
fn a_dead_backend_fails_what_is_open() {
    let mut lane = opened();
    ask(&mut lane, 2, "tools/call", "{}");
    let failed = lane.closed(&Failure::new(FAILED, "child_exited", "x"));
    assert!(
        matches!(to_caller(&failed)[..], [line] if line.contains("child_exited") && line.contains(&hex(2)))
    );
    assert!(lane.is_idle());
}

#[test]
fn an_invalid_answer_fails_its_request_and_garbage_is_told_of_once() {
    let mut lane = opened();
    ask(&mut lane, 2, "tools/call", "{}");
    assert!(matches!(hear(&mut lane, "hello")[..], [Action::Tell(_)]));
    let invalid = format!(r#"{{"jsonrpc":"2.0","id":"{}","result":{{"a":1,"a":2}}}}"#, hex(2));
    assert!(to_caller(&hear(&mut lane, &invalid))[0].contains("child_answer_invalid"));
}

#[test]
fn a_backend_that_never_answers_initialize_is_ended() {
    let mut lane = lane();
    ask(&mut lane, 1, "tools/list", "{}");
    assert_eq!(lane.sweep(now() + Duration::from_secs(61)), [Action::Kick]);
}

#[test]
fn what_the_process_itself_listens_to_does_not_keep_a_backend_and_does_not_end_by_silence() {
    for is_local in [true, false] {
        let mut lane = lane();
        lane.is_local = is_local;
        let meta = r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#;
        ask(&mut lane, 1, "subscriptions/listen", meta);
        assert_eq!(lane.may_rest(), is_local);
        let late = lane.sweep(now() + Limits::default().session_idle * 2);
        assert_eq!(late.is_empty(), is_local);
        let mut lane = self::lane();
        lane.is_local = is_local;
        ask(&mut lane, 2, "tools/list", meta);
        assert_eq!((lane.may_rest(), lane.gives_way()), (false, is_local));
    }
}
