//! One subscription of a host to several servers.
use super::*;

const WISHES: &str = r#""notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourceSubscriptions":["r:1","u:1"]}"#;

fn told(own: &str, method: &str, further: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":"{own}"}}{further}}}}}"#
    )
}

fn agreed(own: &str, notifications: &str) -> String {
    told(own, "subscriptions/acknowledged", &format!(r#","notifications":{notifications}"#))
}

/// The same line with the host's id of the subscription.
fn heard(line: &str, own: &str) -> String {
    format!("(8)< {}", line.replace(&format!(r#""{own}""#), "8"))
}

#[test]
fn a_subscription_is_acknowledged_once_with_what_all_agreed_to() {
    let mut bench = Bench::new(2);
    bench.merger.directory.lists_resources(1, ["r:1".to_owned()].into_iter());
    let asked = bench.host(&modern(8, "subscriptions/listen", WISHES));
    assert!(
        asked[0].starts_with("a> ") && asked[0].contains(r#""resourceSubscriptions":["u:1"]"#),
        "{asked:?}"
    );
    assert!(
        asked[1].starts_with("b> ") && asked[1].contains(r#""resourceSubscriptions":["r:1","u:1"]"#),
        "{asked:?}"
    );
    assert_eq!(bench.server(0, "m-2", &agreed("m-2", r#"{"toolsListChanged":true}"#)), [""; 0]);
    let early = told("m-2", "tools/list_changed", "");
    assert_eq!(bench.server(0, "m-2", &early), [""; 0], "the acknowledgement comes first");
    let acknowledged = bench.server(
        1,
        "m-3",
        &agreed("m-3", r#"{"toolsListChanged":true,"resourceSubscriptions":["r:1"]}"#),
    );
    let both = agreed("m-2", r#"{"toolsListChanged":true,"resourceSubscriptions":["r:1"]}"#);
    assert_eq!(acknowledged, [heard(&both, "m-2"), heard(&early, "m-2")]);
    let update = told("m-3", "resources/updated", r#","uri":"r:1","n":1.0"#);
    assert_eq!(bench.server(1, "m-3", &update), [heard(&update, "m-3")]);
    assert_eq!(bench.server(0, "m-3", &update), [""; 0], "not its subscription");
    assert_eq!(
        bench.host(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":8}}"#),
        [
            r#"a> {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"m-2"}}"#,
            r#"b> {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"m-3"}}"#
        ]
    );
    assert_eq!(bench.server(1, "m-3", &update), [""; 0]);
}

#[test]
fn a_server_that_refuses_has_no_part_and_when_one_ends_all_ends() {
    let mut bench = Bench::new(3);
    bench.host(&modern(8, "subscriptions/listen", r#""notifications":{}"#));
    bench.error(0, "m-2", -32601, "no");
    bench.server(1, "m-3", &agreed("m-3", "{}"));
    assert_eq!(bench.server(2, "m-4", &agreed("m-4", "{}")), [heard(&agreed("m-4", "{}"), "m-4")]);
    let end = r#"{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":"m-3"}}"#;
    assert_eq!(
        bench.result(1, "m-3", end),
        [
            r#"c> abandon "m-4""#.to_owned(),
            format!(r#"(8)< {{"jsonrpc":"2.0","id":8,"result":{}}}"#, end.replace(r#""m-3""#, "8"))
        ]
    );
    assert!(bench.merger.calls.is_empty() && bench.merger.parts.is_empty());
}

#[test]
fn a_subscription_that_all_refuse_is_refused() {
    let mut bench = Bench::new(2);
    bench.host(&modern(8, "subscriptions/listen", r#""notifications":{}"#));
    assert_eq!(bench.error(0, "m-2", -32000, "first"), [""; 0]);
    assert!(bench.error(1, "m-3", -32000, "second")[0].contains("first"));
}

#[test]
fn a_silent_server_does_not_hold_up_the_acknowledgement_nor_much_memory() {
    let mut bench = Bench::new(2);
    bench.host(&modern(8, "subscriptions/listen", r#""notifications":{}"#));
    bench.server(0, "m-2", &agreed("m-2", r#"{"toolsListChanged":true}"#));
    let acknowledged = bench.pass(PATIENCE);
    assert_eq!(acknowledged, [heard(&agreed("m-2", r#"{"toolsListChanged":true}"#), "m-2")]);
    assert_eq!(bench.server(1, "m-3", &agreed("m-3", "{}")), [""; 0], "acknowledged once only");

    let mut bench = Bench::new(2);
    bench.host(&modern(8, "subscriptions/listen", r#""notifications":{}"#));
    let change = told("m-2", "tools/list_changed", "");
    let before: usize = (1..64).map(|_| bench.server(0, "m-2", &change).len()).sum();
    assert_eq!((before, bench.server(0, "m-2", &change).len()), (0, 65));
}
