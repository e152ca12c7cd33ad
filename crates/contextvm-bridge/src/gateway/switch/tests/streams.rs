//! Streams that the child writes by itself, and what their readers say to it.
use super::*;

fn frame(id: u8, frame: &str) -> String {
    let token = hex(id);
    format!(
        r#"{{"progressToken":"{token}","progress":1,"cvm":{{"type":"open-stream","frameType":{frame}}}}}"#
    )
}

#[test]
fn what_a_reader_says_reaches_the_child_while_the_call_is_open_and_from_nobody_else() {
    let mut switch = ready();
    ask(&mut switch, 1, 10, "tools/call", "{}", false);
    let pong = frame(10, r#""pong","nonce":"n""#);
    let line = format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{pong}}}"#);
    assert_eq!(to_child(&tell(&mut switch, 1, "notifications/progress", &pong)), [line]);
    assert!(tell(&mut switch, 2, "notifications/progress", &pong).is_empty());
    assert!(tell(&mut switch, 1, "notifications/progress", &frame(11, r#""pong","nonce":"n""#)).is_empty());
    switch.hear_child(&result_for(10), now());
    assert!(tell(&mut switch, 1, "notifications/progress", &pong).is_empty());
}

#[test]
fn a_question_to_a_caller_lets_it_say_nothing_on_the_stream_of_another() {
    let mut switch = ready();
    ask(&mut switch, 1, 10, "tools/call", "{}", true);
    switch.hear_child(r#"{"jsonrpc":"2.0","id":0,"method":"roots/list"}"#, now());
    ask(&mut switch, 2, 11, "tools/call", "{}", true);
    assert_eq!(to_child(&tell(&mut switch, 1, "notifications/progress", r#"{"progressToken":0}"#)).len(), 1);
    let abort = frame(11, r#""abort""#);
    assert!(tell(&mut switch, 1, "notifications/progress", &abort).is_empty());
    assert_eq!(to_child(&tell(&mut switch, 2, "notifications/progress", &abort)).len(), 1);
}

#[test]
fn an_answer_with_more_values_than_any_peer_takes_fails_its_request() {
    let mut switch = ready();
    ask(&mut switch, 1, 10, "tools/call", "{}", false);
    ask(&mut switch, 1, 11, "tools/call", "{}", false);
    let answer = |id: u8, value: &str| {
        let values = [value; 100_000].join(", ");
        format!(r#"{{"jsonrpc":"2.0","id":"{}","result":{{"values":[{values}]}}}}"#, hex(id))
    };
    let passed = switch.hear_child(&answer(10, "1000000"), now());
    assert_eq!(to_callers(&passed)[0].1, compact(&answer(10, "1000000")));
    // With its spaces it would still be within what is taken of so many bytes.
    let failed = switch.hear_child(&answer(11, "100000"), now());
    assert_eq!(reason(to_callers(&failed)[0].1), "child_answer_invalid");
}

#[test]
fn what_waits_for_the_child_is_bounded_in_bytes() {
    let mut switch = fresh();
    switch.child_up(now());
    let params = format!(r#"{{"data":"{}"}}"#, "x".repeat(20_000_000));
    assert!(ask(&mut switch, 1, 10, "tools/call", &params, false).is_empty());
    assert!(ask(&mut switch, 1, 11, "tools/call", &params, false).is_empty());
    let refused = ask(&mut switch, 1, 12, "tools/call", &params, false);
    assert_eq!(reason(to_callers(&refused)[0].1), "child_busy");
    assert_eq!(to_child(&switch.hear_child(CHILD_READY, now())).len(), 3);
}
