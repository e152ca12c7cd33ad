//! Hosts of 2026-07-28 before an older server.
use super::*;

#[test]
fn a_server_that_does_not_know_the_question_is_an_older_one() {
    let mut bench = Bench::new(1);
    bench.older_server();
    assert_eq!(
        bench.host(1, &modern(1, "tools/call", r#""name":"t","arguments":{"n":1.0},"#)),
        [
            r#"> {"jsonrpc":"2.0","id":"cvm-3","method":"tools/call","params":{"name":"t","arguments":{"n":1.0},"_meta":{}}}"#
        ]
    );
    assert_eq!(
        bench.server(r#"{"jsonrpc":"2.0","id":"cvm-3","result":{"content":[],"x":1e2}}"#),
        [r#"1(1)< {"jsonrpc":"2.0","id":1,"result":{"content":[],"x":1e2,"resultType":"complete"}}"#]
    );
    bench.host(1, &modern(2, "resources/read", r#""uri":"a:b","#));
    assert_eq!(
        bench.server(
            r#"{"jsonrpc":"2.0","id":"cvm-4","error":{"code":-32002,"message":"m","data":{"uri":"a:b"}}}"#
        ),
        [r#"1(2)< {"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":"m","data":{"uri":"a:b"}}}"#]
    );
    bench.host(1, &modern(3, "tools/list", ""));
    let listed = bench.server(r#"{"jsonrpc":"2.0","id":"cvm-5","result":{"tools":[]}}"#);
    assert!(listed[0].contains(r#""ttlMs":0,"cacheScope":"private""#), "{listed:?}");
}

#[test]
fn what_the_newer_revision_does_not_have_is_refused_by_its_name() {
    let mut bench = Bench::new(1);
    bench.older_server();
    for method in ["ping", "resources/subscribe", "logging/setLevel"] {
        let refused = bench.host(1, &modern(1, method, ""));
        assert!(refused[0].contains("-32601") && refused[0].contains("2026-07-28"), "{refused:?}");
    }
    let other = modern(1, "tools/list", "").replace("2026-07-28", "1900-01-01");
    let refused = bench.host(1, &other);
    assert!(
        refused[0].contains("-32022")
            && refused[0].contains(r#""supported":["2026-07-28"],"requested":"1900-01-01""#),
        "{refused:?}"
    );
    bench.host(1, &modern(2, "tools/call", r#""name":"t","#));
    let refused = bench.server(
        r#"{"jsonrpc":"2.0","id":"cvm-7","error":{"code":-32042,"message":"m","data":{"elicitations":[]}}}"#,
    );
    assert!(
        refused[0].contains(r#""code":-32000"#)
            && refused[0].contains("2026-07-28")
            && refused[0].contains(r#""original":{"code":-32042"#),
        "{refused:?}"
    );
}

#[test]
fn an_older_servers_question_becomes_a_round_of_input() {
    let mut bench = Bench::new(1);
    bench.older_server();
    bench.host(1, &modern(1, "tools/call", r#""name":"t","#));
    let asked = bench
        .server(r#"{"jsonrpc":"2.0","id":55,"method":"elicitation/create","params":{"message":"who?"}}"#);
    let state = state_of(&asked[0]);
    let round = r#"1(1)< {"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{"ask-4":{"method":"elicitation/create","params":{"message":"who?"}}},"requestState":STATE}}"#;
    assert_eq!(asked, [round.replace("STATE", &state)]);
    assert!(state.len() == 38, "not to be guessed: {state}");
    let unknown = bench.host(1, &modern(2, "tools/call", r#""name":"t","requestState":"else","#));
    assert!(unknown[0].contains("unknown_request_state"), "{unknown:?}");
    let again = bench.host(1, &modern(2, "tools/call", &format!(r#""name":"t","requestState":{state},"#)));
    assert!(again[0].contains("input_required"), "what is missing is asked again: {again:?}");
    let next = r#""name":"t","inputResponses":{"ask-4":{"action":"accept","content":{"n":"x"}}},"requestState":STATE,"#;
    let next = next.replace("STATE", &state_of(&again[0]));
    assert_eq!(
        bench.host(1, &modern(3, "tools/call", &next)),
        [r#"> {"jsonrpc":"2.0","id":55,"result":{"action":"accept","content":{"n":"x"}}}"#]
    );
    assert_eq!(
        bench.server(r#"{"jsonrpc":"2.0","id":"cvm-3","result":{"content":[]}}"#),
        [r#"1(3)< {"jsonrpc":"2.0","id":3,"result":{"content":[],"resultType":"complete"}}"#],
        "the first call is answered in the name of the latest request"
    );
    assert!(bench.board.down_candidates().is_empty() && bench.board.calls.len() == 0);
}

#[test]
fn a_host_is_asked_only_what_it_offers_and_a_round_that_nobody_continues_ends() {
    let mut bench = Bench::new(1);
    bench.older_server();
    bench.host(1, &modern(1, "tools/call", r#""name":"t","#));
    let refused = bench.server(r#"{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{}}"#);
    assert!(refused[0].contains("the host does not offer sampling"), "{refused:?}");
    bench.server(r#"{"jsonrpc":"2.0","id":2,"method":"elicitation/create","params":{}}"#);
    assert_eq!(bench.pass(299), [""; 0]);
    let ended = bench.pass(1);
    assert!(
        ended[0].contains(r#""id":2,"error""#) && ended[1].contains(r#""requestId":"cvm-3""#),
        "{ended:?}"
    );
}

#[test]
fn a_subscription_before_an_older_server_hears_what_it_asked_for() {
    let mut bench = Bench::new(1);
    bench.older_server();
    let listening = bench.host(1, &modern(9, "subscriptions/listen", r#""notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourceSubscriptions":["a:b"]},"#));
    assert_eq!(
        listening,
        [
            r#"1(9)< {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":9},"notifications":{"toolsListChanged":true,"resourceSubscriptions":["a:b"]}}}"#,
            r#"> {"jsonrpc":"2.0","id":"cvm-4","method":"resources/subscribe","params":{"uri":"a:b"}}"#,
        ]
    );
    assert_eq!(
        bench.server(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#),
        [
            r#"1(9)< {"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":9}}}"#
        ]
    );
    assert_eq!(bench.server(r#"{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}"#), [""; 0]);
    assert_eq!(
        bench
            .server(r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a:b"}}"#)
            .len(),
        1
    );
    assert_eq!(
        bench.host(1, r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}"#),
        [r#"> {"jsonrpc":"2.0","id":"cvm-5","method":"resources/unsubscribe","params":{"uri":"a:b"}}"#]
    );
}
