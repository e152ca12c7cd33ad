//! Hosts of earlier revisions before a newer server.
use super::*;

#[test]
fn an_older_host_reaches_a_newer_server() {
    let mut bench = Bench::new(1);
    bench.newer_server();
    assert_eq!(
        bench.host(
            1,
            r#"{"jsonrpc":"2.0","id":"b","method":"tools/call","params":{"name":"t","arguments":{"n":1.0}}}"#
        ),
        [
            r#"> {"jsonrpc":"2.0","id":"cvm-4","method":"tools/call","params":{"name":"t","arguments":{"n":1.0},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{}},"io.modelcontextprotocol/clientInfo":{"name":"h","version":"1"}}}}"#
        ]
    );
    assert_eq!(
        bench.server(r#"{"jsonrpc":"2.0","id":"cvm-4","result":{"resultType":"complete","content":[]}}"#),
        [r#"1("b")< {"jsonrpc":"2.0","id":"b","result":{"content":[]}}"#]
    );
    assert_eq!(
        bench.host(1, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#),
        [r#"1(1)< {"jsonrpc":"2.0","id":1,"result":{}}"#]
    );
    bench.host(1, r#"{"jsonrpc":"2.0","id":2,"method":"logging/setLevel","params":{"level":"info"}}"#);
    assert!(
        bench.host(1, r#"{"jsonrpc":"2.0","id":3,"method":"tools/list"}"#)[0]
            .contains(r#""io.modelcontextprotocol/logLevel":"info""#)
    );
    assert_eq!(
        bench.server(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"cvm-3"}}}"#),
        [r#"1< {"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{}}}"#]
    );
}

#[test]
fn a_newer_servers_round_of_input_is_asked_of_an_older_host() {
    let mut bench = Bench::new(1);
    bench.newer_server();
    bench.host(1, r#"{"jsonrpc":"2.0","id":"b","method":"tools/call","params":{"name":"t","_meta":{"progressToken":3}}}"#);
    let asked = bench.server(r#"{"jsonrpc":"2.0","id":"cvm-4","result":{"resultType":"input_required","inputRequests":{"k":{"method":"elicitation/create","params":{"message":"who?"}}},"requestState":"opaque"}}"#);
    assert_eq!(
        asked,
        [
            r#"1("b")< {"jsonrpc":"2.0","id":"cvm-5","method":"elicitation/create","params":{"message":"who?"}}"#
        ]
    );
    let next = bench.host(1, r#"{"jsonrpc":"2.0","id":"cvm-5","result":{"action":"accept","content":{}}}"#);
    assert_eq!(next.len(), 1);
    assert!(
        next[0].starts_with(r#"> {"jsonrpc":"2.0","id":"cvm-7","method":"tools/call","params":{"name":"t","_meta":{"progressToken":"cvm-7","#)
            && next[0].ends_with(r#","inputResponses":{"k":{"action":"accept","content":{}}},"requestState":"opaque"}}"#),
        "{next:?}"
    );
    assert_eq!(
        bench.server(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"cvm-7","progress":1}}"#),
        [r#"1("b")< {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":3,"progress":1}}"#]
    );
    assert_eq!(
        bench.server(r#"{"jsonrpc":"2.0","id":"cvm-7","result":{"resultType":"complete","content":[]}}"#),
        [r#"1("b")< {"jsonrpc":"2.0","id":"b","result":{"content":[]}}"#]
    );
}

#[test]
fn a_server_of_neither_era_is_quoted() {
    let mut bench = Bench::new(1);
    bench.host(1, INITIALIZE);
    bench.server(r#"{"jsonrpc":"2.0","id":"cvm-1","error":{"code":-32603,"message":"broken"}}"#);
    assert_eq!(
        bench.server(r#"{"jsonrpc":"2.0","id":"cvm-2","error":{"code":-32601,"message":"what?"}}"#),
        [r#"1("a")< {"jsonrpc":"2.0","id":"a","error":{"code":-32603,"message":"broken"}}"#]
    );
}

#[test]
fn a_host_that_may_not_call_learns_it_at_once() {
    let mut bench = Bench::new(1);
    bench.host(1, INITIALIZE);
    assert_eq!(
        bench.server(r#"{"jsonrpc":"2.0","id":"cvm-1","error":{"code":-32000,"message":"Unauthorized"}}"#),
        [r#"1("a")< {"jsonrpc":"2.0","id":"a","error":{"code":-32000,"message":"Unauthorized"}}"#]
    );
}
