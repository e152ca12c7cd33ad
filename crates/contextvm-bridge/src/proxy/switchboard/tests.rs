//! Scripts of what hosts and a server say, and of what each then hears.
use super::*;

mod attacks;
mod down;
mod listening;
mod scripts;
mod up;

/// A switchboard with its clock, and everything it did in readable lines.
struct Bench {
    board: Switchboard,
    now: Instant,
}

impl Bench {
    fn new(hosts: u64) -> Self {
        let mut board = Switchboard::new(Limits::default());
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
        assert_eq!(self.server(&agreed("cvm-3")), [""; 0]);
    }
}

/// What a server of 2026-07-28 says when a subscription begins.
fn agreed(own: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":"{own}"}},"notifications":{{}}}}}}"#
    )
}

/// The `requestState` of a round of input, as JSON.
fn state_of(line: &str) -> String {
    let (_, state) = line.split_once(r#""requestState":"#).unwrap();
    state.trim_end_matches('}').to_owned()
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
