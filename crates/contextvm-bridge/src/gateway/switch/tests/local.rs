//! Sessions of the process itself beside those of callers.
use super::*;

fn log() -> &'static str {
    r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#
}

#[test]
fn what_belongs_to_nobody_is_never_for_the_process_and_not_lost_because_of_it() {
    let mut switch = ready();
    switch.local_began(caller(9));
    assert!(switch.knows(&caller(9)));
    assert_eq!(switch.hear_child(log(), now()), []);
    switch.session_began(caller(1), now());
    ask(&mut switch, 9, 90, "tools/list", "{}", false);
    assert_eq!(to_callers(&switch.hear_child(log(), now())), [(caller(1), log())]);
    ask(&mut switch, 1, 10, "tools/call", "{}", true);
    let question = r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#;
    assert_eq!(to_callers(&switch.hear_child(question, now()))[0].0, caller(1), "only it can be meant");
    assert_eq!(
        to_callers(&switch.hear_child(&result_for(90), now())),
        [(caller(9), result_for(90).as_str())]
    );
}

#[test]
fn its_subscription_lasts_as_long_as_its_session() {
    let mut switch = ready();
    switch.local_began(caller(9));
    ask(&mut switch, 9, 90, "subscriptions/listen", "{}", false);
    let late = now() + Limits::default().session_idle * 2;
    assert_eq!(switch.sweep(late), []);
    switch.session_ended(caller(9));
    assert_eq!(reason(to_callers(&switch.sweep(late))[0].1), "lease_expired");
    assert!(!switch.knows(&caller(9)));
}
