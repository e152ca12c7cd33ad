//! Scripts of what hosts and a server say, and of what each then hears.
use super::*;

/// A switchboard with its clock, and everything it did in readable lines.
struct Bench {
    board: Switchboard,
    now: Instant,
}

impl Bench {
    fn new(hosts: u64) -> Self {
        let mut board = Switchboard::new(Limits::default(), 0xabc);
        (1..=hosts).for_each(|host| board.opened(host));
        Self { board, now: Instant::now() }
    }

    fn drain(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(act) = self.board.poll() {
            lines.push(match act {
                Act::Server(text) => format!("> {text}"),
                Act::Host(host, Heard { text, about: None }) => format!("{host}< {text}"),
                Act::Host(host, Heard { text, about: Some(id) }) => format!("{host}({})< {text}", id.get()),
            });
        }
        lines
    }

    fn host(&mut self, host: u64, text: &str) -> Vec<String> {
        self.board.hear_host(host, text, self.now);
        self.drain()
    }

    fn server(&mut self, text: &str) -> Vec<String> {
        self.board.hear_server(text, self.now);
        self.drain()
    }

    fn pass(&mut self, seconds: u64) -> Vec<String> {
        self.now += Duration::from_secs(seconds);
        self.board.sweep(self.now, &|_waited| Failure::new(FAILED, "no_reply", "silent"));
        self.drain()
    }

    /// Brings the bench to a server that needs `initialize` and has answered it for a host of 2026-07-28.
    fn older_server(&mut self) {
        let asked = self.host(1, &modern(0, "server/discover", ""));
        assert_eq!(asked.len(), 1, "{asked:?}");
        let opened = self
            .server(r#"{"jsonrpc":"2.0","id":"cvm-1","error":{"code":-32601,"message":"Method not found"}}"#);
        assert!(opened[0].contains(r#""method":"initialize""#), "{opened:?}");
        let welcomed = self.server(r#"{"jsonrpc":"2.0","id":"cvm-2","result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true},"logging":{}},"serverInfo":{"name":"old","version":"1"},"instructions":"i"}}"#);
        assert_eq!(
            welcomed,
            [
                r#"> {"jsonrpc":"2.0","method":"notifications/initialized"}"#,
                r#"1(0)< {"jsonrpc":"2.0","id":0,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true},"logging":{}},"instructions":"i","ttlMs":0,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"old","version":"1"}}}}"#,
            ]
        );
    }

    /// Brings the bench to a server that refuses `initialize` and has shown itself to a host of an earlier revision.
    fn newer_server(&mut self) {
        let asked = self.host(1, INITIALIZE);
        assert_eq!(asked.len(), 1, "{asked:?}");
        let asked = self.server(
            r#"{"jsonrpc":"2.0","id":"cvm-1","error":{"code":-32601,"message":"no initialize here"}}"#,
        );
        assert!(asked[0].contains(r#""method":"server/discover""#), "{asked:?}");
        let welcomed = self.server(r#"{"jsonrpc":"2.0","id":"cvm-2","result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"new","version":"2"}},"ttlMs":0,"cacheScope":"public"}}"#);
        assert_eq!(
            welcomed,
            [
                r#"1("a")< {"jsonrpc":"2.0","id":"a","result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true}},"serverInfo":{"name":"new","version":"2"}}}"#
            ]
        );
        let listening = self.host(1, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        assert_eq!(listening.len(), 1);
        assert!(
            listening[0].contains(
                r#""method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true}"#
            ),
            "{listening:?}"
        );
    }
}

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":"a","method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{"elicitation":{}},"clientInfo":{"name":"h","version":"1"}}}"#;
const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}}"#;

/// A request of 2026-07-28; `params` are further members.
fn modern(id: u32, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}{META}}}}}"#)
}

#[test]
fn hosts_that_count_from_one_never_meet() {
    let mut bench = Bench::new(2);
    let call = |text: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{text}","_meta":{{"progressToken":1,"x":9007199254740993.50}}}},"further":true}}"#
        )
    };
    assert_eq!(
        bench.host(1, &call("a")),
        [
            r#"> {"jsonrpc":"2.0","id":"cvm-1","method":"tools/call","params":{"name":"a","_meta":{"progressToken":"cvm-1","x":9007199254740993.50}},"further":true}"#
        ]
    );
    bench.host(2, &call("b"));
    assert_eq!(
        bench.server(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"cvm-2","progress":0.50}}"#),
        [r#"2(1)< {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":0.50}}"#]
    );
    assert_eq!(
        bench.server(r#"{"jsonrpc":"2.0","id":"cvm-2","result":{"n":1.0}}"#),
        [r#"2(1)< {"jsonrpc":"2.0","id":1,"result":{"n":1.0}}"#]
    );
    assert_eq!(
        bench.server(r#"{"jsonrpc":"2.0","id":"cvm-1","error":{"code":5,"message":"m"}}"#),
        [r#"1(1)< {"jsonrpc":"2.0","id":1,"error":{"code":5,"message":"m"}}"#]
    );
    assert_eq!(bench.server(r#"{"jsonrpc":"2.0","id":"cvm-1","result":{}}"#), [""; 0], "answered once only");
}

#[test]
fn an_id_in_use_is_refused_and_may_be_used_again_later() {
    let mut bench = Bench::new(1);
    let ping = r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#;
    bench.host(1, ping);
    let refused = bench.host(1, ping);
    assert!(refused[0].contains("id_in_use"), "{refused:?}");
    bench.server(r#"{"jsonrpc":"2.0","id":"cvm-1","result":{}}"#);
    assert_eq!(bench.host(1, ping).len(), 1);
}

#[test]
fn a_cancelled_call_is_cancelled_under_the_servers_id_and_its_answer_is_not_wanted() {
    let mut bench = Bench::new(1);
    bench.host(1, r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"}}"#);
    assert_eq!(
        bench.host(
            1,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7,"reason":"r"}}"#
        ),
        [
            r#"> {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"cvm-1","reason":"r"}}"#
        ]
    );
    assert_eq!(bench.server(r#"{"jsonrpc":"2.0","id":"cvm-1","result":{}}"#), [""; 0]);
}

#[test]
fn a_host_that_is_gone_leaves_nothing_open() {
    let mut bench = Bench::new(1);
    bench.host(1, r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"}}"#);
    bench.server(r#"{"jsonrpc":"2.0","id":"s","method":"roots/list"}"#);
    bench.board.closed(1);
    let left = bench.drain();
    assert!(
        left[0].contains(r#""requestId":"cvm-1""#) && left[1].contains(r#""id":"s","error""#),
        "{left:?}"
    );
}

#[test]
fn a_question_of_the_server_goes_to_the_one_host_it_can_concern() {
    let mut bench = Bench::new(2);
    bench.host(1, INITIALIZE);
    bench.host(2, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#);
    bench.server(r#"{"jsonrpc":"2.0","id":"cvm-1","result":{}}"#);
    let asked = bench.server(r#"{"jsonrpc":"2.0","id":"q","method":"roots/list"}"#);
    assert_eq!(asked, [r#"2(1)< {"jsonrpc":"2.0","id":"q","method":"roots/list"}"#]);
    assert_eq!(bench.host(1, r#"{"jsonrpc":"2.0","id":"q","result":{}}"#), [""; 0], "not asked");
    let answer = r#"{"jsonrpc":"2.0","id":"q","result":{"roots":[]}}"#;
    assert_eq!(bench.host(2, answer), [format!("> {answer}")]);
    bench.host(1, r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"t"}}"#);
    let refused = bench.server(r#"{"jsonrpc":"2.0","id":"r","method":"roots/list"}"#);
    assert!(refused[0].starts_with(r#"> {"jsonrpc":"2.0","id":"r","error""#), "{refused:?}");
}

#[test]
fn a_quiet_call_with_a_token_gets_progress_and_one_without_gets_none() {
    let mut bench = Bench::new(1);
    bench.host(1, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{"progressToken":"t"}}}"#);
    bench.host(1, r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"b"}}"#);
    assert_eq!(bench.pass(14), [""; 0]);
    let crumb = bench.pass(1);
    assert_eq!(crumb.len(), 1);
    assert!(crumb[0].starts_with(r#"1(1)< {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":0.000001"#), "{crumb:?}");
    bench.server(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"cvm-1","progress":5}}"#);
    assert_eq!(bench.pass(14), [""; 0]);
    assert!(bench.pass(1)[0].contains(r#""progress":5.000001"#));
}

#[test]
fn the_first_modern_request_waits_until_the_server_has_shown_its_era() {
    let mut bench = Bench::new(1);
    let asked = bench.host(1, &modern(1, "tools/list", ""));
    assert!(asked.len() == 1 && asked[0].contains(r#""id":"cvm-2","method":"server/discover""#), "{asked:?}");
    let sent =
        bench.server(r#"{"jsonrpc":"2.0","id":"cvm-2","result":{"supportedVersions":["2026-07-28"]}}"#);
    assert_eq!(sent, [format!("> {}", modern(1, "tools/list", "").replace(r#""id":1"#, r#""id":"cvm-1""#))]);
    assert_eq!(bench.host(1, &modern(2, "tools/list", "")).len(), 1, "known from now on");
}

#[test]
fn a_failure_on_the_way_shows_nothing_about_the_server() {
    let mut bench = Bench::new(1);
    bench.host(1, &modern(1, "tools/list", ""));
    let failed = bench.server(r#"{"jsonrpc":"2.0","id":"cvm-2","error":{"code":-32001,"message":"m","data":{"reason":"no_reply"}}}"#);
    assert_eq!(
        failed,
        [
            r#"1(1)< {"jsonrpc":"2.0","id":1,"error":{"code":-32001,"message":"m","data":{"reason":"no_reply"}}}"#
        ]
    );
    assert!(bench.host(1, &modern(2, "tools/list", ""))[0].contains("server/discover"), "asked again");
}

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
    assert_eq!(
        asked,
        [
            r#"1(1)< {"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{"ask-1":{"method":"elicitation/create","params":{"message":"who?"}}},"requestState":"cvm-0000000000000abc-4"}}"#
        ]
    );
    let unknown = bench.host(1, &modern(2, "tools/call", r#""name":"t","requestState":"else","#));
    assert!(unknown[0].contains("unknown_request_state"), "{unknown:?}");
    let again =
        bench.host(1, &modern(2, "tools/call", r#""name":"t","requestState":"cvm-0000000000000abc-4","#));
    assert!(again[0].contains("input_required"), "what is missing is asked again: {again:?}");
    let next = r#""name":"t","inputResponses":{"ask-1":{"action":"accept","content":{"n":"x"}}},"requestState":"cvm-0000000000000abc-7","#;
    assert_eq!(
        bench.host(1, &modern(3, "tools/call", next)),
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
fn an_older_hosts_resource_subscription_is_answered_when_the_server_agrees() {
    let mut bench = Bench::new(1);
    bench.newer_server();
    let asked =
        bench.host(1, r#"{"jsonrpc":"2.0","id":"s","method":"resources/subscribe","params":{"uri":"a:b"}}"#);
    assert!(asked[0].contains(r#""requestId":"cvm-3""#), "{asked:?}");
    assert!(asked[1].contains(r#""id":"cvm-5","method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["a:b"]}"#), "{asked:?}");
    assert_eq!(
        bench.server(r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"cvm-5"},"notifications":{}}}"#),
        [r#"1("s")< {"jsonrpc":"2.0","id":"s","result":{}}"#]
    );
    assert_eq!(
        bench.server(r#"{"jsonrpc":"2.0","id":"cvm-5","error":{"code":-32001,"message":"m"}}"#),
        [""; 0]
    );
    assert!(bench.pass(1)[0].contains("subscriptions/listen"), "a subscription that ended is opened again");
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

#[test]
fn the_end_of_a_subscription_names_it_in_the_hosts_words() {
    let mut bench = Bench::new(1);
    bench.host(1, &modern(1, "server/discover", ""));
    bench.server(r#"{"jsonrpc":"2.0","id":"cvm-1","result":{"supportedVersions":["2026-07-28"]}}"#);
    bench.host(1, &modern(8, "subscriptions/listen", r#""notifications":{},"#));
    assert_eq!(
        bench.server(r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"cvm-2"},"notifications":{}}}"#),
        [r#"1(8)< {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":8},"notifications":{}}}"#]
    );
    assert_eq!(
        bench.server(r#"{"jsonrpc":"2.0","id":"cvm-2","result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":"cvm-2"}}}"#),
        [r#"1(8)< {"jsonrpc":"2.0","id":8,"result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":8}}}"#]
    );
}

#[test]
fn a_lost_connection_answers_every_open_call_and_forgets_the_rest() {
    let mut bench = Bench::new(2);
    bench.newer_server();
    bench.host(1, r#"{"jsonrpc":"2.0","id":"b","method":"tools/call","params":{"name":"t"}}"#);
    bench.host(2, &modern(1, "tools/list", ""));
    bench.board.lost(&Failure::new(FAILED, "closed", "gone"));
    let told = bench.drain();
    assert!(told.len() == 2 && told[0].starts_with(r#"1("b")<"#) && told[1].starts_with("2(1)<"), "{told:?}");
    assert!(told.iter().all(|line| line.contains(r#""reason":"closed""#)), "{told:?}");
    bench.board.reconnected();
    let again = bench.drain();
    assert!(again.len() == 1 && again[0].contains("subscriptions/listen"), "{again:?}");
}

#[test]
fn a_server_that_never_says_anything_is_given_up_before_the_host_gives_up_and_one_that_spoke_is_not() {
    let mut bench = Bench::new(1);
    bench.host(1, INITIALIZE);
    assert_eq!(bench.pass(44), [""; 0]);
    let given_up = bench.pass(1);
    assert!(given_up.len() == 2 && given_up[0].contains(r#""reason":"no_reply""#), "{given_up:?}");
    assert!(given_up[1].contains(r#""requestId":"cvm-1""#), "{given_up:?}");
    bench.host(1, INITIALIZE);
    bench.server(r#"{"jsonrpc":"2.0","id":"cvm-2","result":{}}"#);
    bench.host(1, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"slow"}}"#);
    assert_eq!(bench.pass(100), [""; 0]);
}

#[test]
fn a_subscription_that_nobody_speaks_beside_is_kept_alive() {
    let mut bench = Bench::new(1);
    bench.host(1, &modern(1, "server/discover", ""));
    bench.server(r#"{"jsonrpc":"2.0","id":"cvm-1","result":{"supportedVersions":["2026-07-28"]}}"#);
    bench.host(1, &modern(2, "subscriptions/listen", r#""notifications":{},"#));
    assert_eq!(bench.pass(599), [""; 0]);
    let said = bench.pass(1);
    assert!(said.len() == 1 && said[0].contains(r#""method":"server/discover""#), "{said:?}");
    assert_eq!(bench.pass(599), [""; 0]);
    assert_eq!(bench.pass(1).len(), 1);
}
