//! Scripts of what a host and servers say, and of what each then hears.
use contextvm_core::object::quote;
use serde_json::Value;

use super::gather::PATIENCE;
use super::merger::RETRY;
use super::*;

mod lists;
mod sessions;
mod subscriptions;

/// A conversation with the servers `a`, `b` and so on, and everything it did in readable lines.
struct Bench {
    merger: Merger,
    now: Instant,
}

impl Bench {
    fn new(servers: usize) -> Self {
        let names = ["a", "b", "c"].into_iter().take(servers).map(str::to_owned).collect();
        let now = Instant::now();
        Self { merger: Merger::new(Arc::new(Directory::new(names)), Limits::default(), now), now }
    }

    /// Another conversation with the same servers.
    fn another(&self) -> Self {
        let merger = Merger::new(Arc::clone(&self.merger.directory), Limits::default(), self.now);
        Self { merger, now: self.now }
    }

    fn drain(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(act) = self.merger.poll() {
            lines.push(match act {
                Act::Server(server, Said::Message(text)) => format!("{}> {text}", letter(server)),
                Act::Server(server, Said::Abandon(id)) => format!("{}> abandon {}", letter(server), id.get()),
                Act::Host(Heard { text, about: None }) => format!("< {text}"),
                Act::Host(Heard { text, about: Some(id) }) => format!("({})< {text}", id.get()),
            });
        }
        lines
    }

    fn host(&mut self, text: &str) -> Vec<String> {
        self.merger.hear_host(text, self.now);
        self.drain()
    }

    /// Something that a server says, about the request that it knows by an id (or about none).
    fn server(&mut self, server: usize, about: &str, text: &str) -> Vec<String> {
        let about = (!about.is_empty()).then(|| crate::answer::raw(quote(about)).unwrap());
        let heard = Heard { text: text.to_owned(), about };
        self.merger.hear_server(server, &heard, self.now);
        self.drain()
    }

    fn result(&mut self, server: usize, own: &str, result: &str) -> Vec<String> {
        self.server(server, own, &format!(r#"{{"jsonrpc":"2.0","id":"{own}","result":{result}}}"#))
    }

    fn error(&mut self, server: usize, own: &str, code: i64, message: &str) -> Vec<String> {
        let error =
            format!(r#"{{"jsonrpc":"2.0","id":"{own}","error":{{"code":{code},"message":"{message}"}}}}"#);
        self.server(server, own, &error)
    }

    fn pass(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        self.merger.sweep(self.now);
        self.drain()
    }

    /// A host of an earlier revision opens its session with these capabilities of the servers.
    fn open(&mut self, capabilities: &[&str]) {
        let asked = self.host(INITIALIZE);
        assert_eq!(asked.len(), capabilities.len(), "{asked:?}");
        for (server, capabilities) in capabilities.iter().enumerate() {
            let own = own_id(&asked[server]);
            self.result(
                server,
                &own,
                &format!(r#"{{"protocolVersion":"2025-06-18","capabilities":{capabilities}}}"#),
            );
        }
        self.host(INITIALIZED);
        assert!(self.merger.calls.is_empty());
    }
}

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"h","version":"1"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

fn letter(server: usize) -> char {
    ['a', 'b', 'c'][server]
}

/// The id under which a server was asked in a line.
fn own_id(line: &str) -> String {
    let message: Value = serde_json::from_str(&line[3..]).unwrap();
    message["id"].as_str().unwrap().to_owned()
}

/// The message in a line.
fn json(line: &str) -> Value {
    serde_json::from_str(line.split_once("< ").unwrap().1).unwrap()
}

fn request(id: u32, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}}}}}"#)
}

/// A request of 2026-07-28; `params` are further members.
fn modern(id: u32, method: &str, params: &str) -> String {
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
    request(id, method, &if params.is_empty() { meta.to_owned() } else { format!("{params},{meta}") })
}

#[test]
fn a_call_goes_to_the_server_in_its_name_and_loses_nothing() {
    let mut bench = Bench::new(2);
    assert_eq!(
        bench.host(r#"{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"arguments":{"n":1.50,"name":"b__t"},"name":"b__t","_meta":{"progressToken":7}},"further":9007199254740993}"#),
        [r#"b> {"jsonrpc":"2.0","id":"m-2","method":"tools/call","params":{"arguments":{"n":1.50,"name":"b__t"},"name":"t","_meta":{"progressToken":7}},"further":9007199254740993}"#]
    );
    let progress =
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"progress":0.50}}"#;
    assert_eq!(bench.server(1, "m-2", progress), [format!(r#"("x")< {progress}"#)]);
    assert_eq!(bench.server(0, "m-2", progress), [""; 0], "not asked");
    assert_eq!(bench.result(0, "m-2", "{}"), [""; 0], "not asked");
    assert_eq!(
        bench.result(1, "m-2", r#"{"n":1.0}"#),
        [r#"("x")< {"jsonrpc":"2.0","id":"x","result":{"n":1.0}}"#]
    );
    assert_eq!(bench.result(1, "m-2", "{}"), [""; 0], "answered once only");
    assert_eq!(
        bench.host(&request(1, "prompts/get", r#""name":"a__p""#)),
        [format!("a> {}", request(0, "prompts/get", r#""name":"p""#).replace(":0,", r#":"m-4","#))]
    );
    assert_eq!(
        bench.error(0, "m-4", 5, "m"),
        [r#"(1)< {"jsonrpc":"2.0","id":1,"error":{"code":5,"message":"m"}}"#]
    );
}

#[test]
fn what_cannot_be_routed_is_refused_with_the_reason() {
    let mut bench = Bench::new(2);
    bench.open(&[r#"{"tools":{},"x":{}}"#, r#"{"tools":{},"extensions":{"org.example/y":{}}}"#]);
    let table = [
        (request(1, "tools/call", r#""name":"t""#), -32602, "unknown_name"),
        (
            request(1, "completion/complete", r#""ref":{"type":"ref/prompt","name":"t"}"#),
            -32602,
            "unknown_name",
        ),
        (request(1, "z/do", ""), -32601, "which_server"),
        (request(1, "resources/read", r#""uri":"r:1""#), -32601, "which_server"),
        (request(1, "resources/list", ""), -32601, "which_server"),
        (request(1, "tools/list", r#""cursor":"c""#), -32602, "unknown_cursor"),
    ];
    for (asked, code, reason) in table {
        let refused = bench.host(&asked);
        let error = &json(&refused[0])["error"];
        assert_eq!(
            (&error["code"], &error["data"]["reason"]),
            (&code.into(), &reason.into()),
            "{asked}: {refused:?}"
        );
        assert_eq!(refused.len(), 1);
    }
    assert!(bench.host(&request(1, "x/do", r#""a":1.0"#))[0].starts_with("a> "));
    assert!(bench.host(&request(2, "y/do", ""))[0].starts_with("b> "));
    assert!(json(&bench.host(&request(2, "y/do", ""))[0])["error"]["data"]["reason"] == "id_in_use");
    assert_eq!(bench.host(&request(3, "ping", "")), [r#"(3)< {"jsonrpc":"2.0","id":3,"result":{}}"#]);
}

#[test]
fn a_listed_resource_is_read_where_it_is_and_another_where_it_is_known() {
    let mut bench = Bench::new(3);
    bench.merger.directory.lists_resources(1, ["r:1".to_owned()].into_iter());
    bench.merger.directory.lists_templates(2, ["t:{x}".to_owned()].into_iter());
    assert!(bench.host(&request(1, "resources/read", r#""uri":"r:1""#))[0].starts_with("b> "));
    assert!(
        bench.error(1, "m-2", -32002, "gone")[0].contains("gone"),
        "others are not asked for what one lists"
    );

    let asked = bench.host(&request(2, "resources/read", r#""uri":"t:1""#));
    assert_eq!(
        asked,
        [r#"c> {"jsonrpc":"2.0","id":"m-4","method":"resources/read","params":{"uri":"t:1"}}"#]
    );
    assert!(bench.error(2, "m-4", -32602, "no")[0].starts_with("a> "));
    assert!(bench.error(0, "m-5", 77, "pay first")[0].starts_with("b> "));
    let refused = bench.error(1, "m-6", -32002, "no");
    assert_eq!(refused, [r#"(2)< {"jsonrpc":"2.0","id":2,"error":{"code":77,"message":"pay first"}}"#]);

    bench.host(&request(3, "resources/read", r#""uri":"u:1""#));
    bench.error(0, "m-8", -32002, "no");
    assert!(bench.result(1, "m-9", r#"{"contents":[]}"#)[0].starts_with("(3)< "));
    let again = bench.another().host(&modern(1, "resources/read", r#""uri":"u:1""#));
    assert!(again[0].starts_with("b> "), "learnt for all conversations: {again:?}");
}

#[test]
fn who_was_subscribed_to_is_unsubscribed_from() {
    let mut bench = Bench::new(2);
    bench.host(&request(1, "resources/subscribe", r#""uri":"r:1""#));
    bench.error(0, "m-2", -32601, "no");
    assert_eq!(bench.result(1, "m-3", "{}"), [r#"(1)< {"jsonrpc":"2.0","id":1,"result":{}}"#]);
    let update = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"r:1"}}"#;
    assert_eq!(bench.server(1, "", update), [format!("< {update}")]);
    for first in ["b> ", "a> "] {
        let asked = bench.host(&request(2, "resources/unsubscribe", r#""uri":"r:1""#));
        assert!(asked[0].starts_with(first), "{asked:?}");
        bench.result(usize::from(first == "b> "), &own_id(&asked[0]), "{}");
    }
}

#[test]
fn a_completion_goes_to_the_server_of_its_prompt_or_resource() {
    let mut bench = Bench::new(2);
    bench.merger.directory.lists_templates(1, ["t:{x}".to_owned()].into_iter());
    assert_eq!(
        bench.host(&request(
            1,
            "completion/complete",
            r#""ref":{"type":"ref/prompt","name":"b__p","t":1.0},"argument":{}"#
        )),
        [
            r#"b> {"jsonrpc":"2.0","id":"m-2","method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p","t":1.0},"argument":{}}}"#
        ]
    );
    let asked =
        bench.host(&request(2, "completion/complete", r#""ref":{"type":"ref/resource","uri":"t:{x}"}"#));
    assert!(asked[0].starts_with("b> "), "{asked:?}");
}

#[test]
fn questions_of_two_servers_with_one_id_are_answered_apart() {
    let mut bench = Bench::new(2);
    bench.host(&request(9, "tools/call", r#""name":"b__t""#));
    let ask = r#"{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{"_meta":{"progressToken":1}}}"#;
    assert_eq!(
        bench.server(0, "", ask),
        [
            r#"< {"jsonrpc":"2.0","id":"m-3","method":"sampling/createMessage","params":{"_meta":{"progressToken":"m-3"}}}"#
        ]
    );
    assert!(bench.server(1, "m-2", ask)[0].starts_with(r#"(9)< {"jsonrpc":"2.0","id":"m-4""#));
    assert_eq!(
        bench.host(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"m-4","progress":1}}"#),
        [r#"b> {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#]
    );
    assert_eq!(
        bench.host(r#"{"jsonrpc":"2.0","id":"m-4","result":{"x":1.0}}"#),
        [r#"b> {"jsonrpc":"2.0","id":1,"result":{"x":1.0}}"#]
    );
    assert_eq!(bench.host(r#"{"jsonrpc":"2.0","id":"m-4","result":{}}"#), [""; 0], "answered once only");
    assert_eq!(
        bench.server(
            0,
            "",
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#
        ),
        [r#"< {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"m-3"}}"#]
    );
    assert_eq!(bench.host(r#"{"jsonrpc":"2.0","id":"m-3","result":{}}"#), [""; 0], "taken back");
}

#[test]
fn a_call_is_cancelled_where_it_is_open() {
    let mut bench = Bench::new(2);
    bench.host(&request(1, "tools/call", r#""name":"b__t""#));
    assert_eq!(
        bench.host(
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"r"}}"#
        ),
        [
            r#"b> {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"m-2","reason":"r"}}"#
        ]
    );
    assert_eq!(bench.result(1, "m-2", "{}"), [""; 0]);
    bench.host(&request(1, "tools/list", ""));
    bench.merger.abandon(serde_json::from_str("1").unwrap());
    assert_eq!(bench.drain(), [r#"a> abandon "m-4""#, r#"b> abandon "m-5""#]);
    assert!(bench.merger.calls.is_empty() && bench.merger.parts.is_empty());
}

#[test]
fn a_task_is_asked_for_where_it_runs() {
    let mut bench = Bench::new(2);
    bench.open(&[r#"{"tasks":{}}"#, r#"{"tasks":{}}"#]);
    let asked = bench.host(&request(1, "tools/call", r#""name":"b__t","task":{}"#));
    bench.result(1, &own_id(&asked[0]), r#"{"task":{"taskId":"T"}}"#);
    assert!(bench.host(&request(2, "tasks/get", r#""taskId":"T""#))[0].starts_with("b> "));
    assert!(bench.host(&request(3, "tasks/get", r#""taskId":"U""#))[0].contains("which_server"));
}

#[test]
fn the_end_of_a_server_or_of_the_conversation_answers_what_is_open() {
    let mut bench = Bench::new(2);
    bench.host(&request(1, "tools/call", r#""name":"a__t""#));
    bench.host(&request(2, "tools/call", r#""name":"b__t""#));
    bench.merger.gone(0);
    let failed = bench.drain();
    assert!(
        failed.len() == 1 && failed[0].starts_with("(1)< ") && failed[0].contains("left_out"),
        "{failed:?}"
    );
    assert!(bench.host(&request(3, "tools/call", r#""name":"a__t""#))[0].contains("left_out"));
    bench.merger.end();
    let failed = bench.drain();
    assert!(
        failed.len() == 1 && failed[0].starts_with("(2)< ") && failed[0].contains(r#""closed""#),
        "{failed:?}"
    );
}

#[test]
fn what_lies_with_a_server_that_is_left_out_is_refused_in_its_name() {
    let mut bench = Bench::new(2);
    bench.merger.directory.lists_resources(1, ["r:1".to_owned()].into_iter());
    bench.merger.gone(1);
    let shortened = bench.merger.directory.exposed(1, &"t".repeat(100));
    let table = [
        request(1, "resources/read", r#""uri":"r:1""#),
        request(1, "tools/call", &format!(r#""name":"{shortened}""#)),
        request(1, "tools/call", r#""name":"b__other_0123456789""#),
    ];
    for asked in table {
        let refused = bench.host(&asked);
        assert!(refused.len() == 1 && refused[0].contains(r#""left_out","server":"b""#), "{refused:?}");
    }
}

#[tokio::test]
async fn a_conversation_outlives_a_server_and_ends_with_its_host() {
    let stop = CancellationToken::new();
    let (host, opened) = Conversations::new();
    let sides = ["a", "b"].map(|name| (name.to_owned(), Conversations::new()));
    let (mut servers, mut ends) = (Vec::new(), Vec::new());
    for (name, (conversations, end)) in sides {
        servers.push((name, conversations));
        ends.push(end);
    }
    let running = tokio::spawn(run(servers, opened, Limits::default(), stop));
    let (speaker, mut hearer) = host.open().await.unwrap().split();
    let first = ends[0].recv().await.unwrap();
    let mut second = ends[1].recv().await.unwrap();
    for (id, name) in [(1, "a__t"), (2, "b__t")] {
        let text = request(id, "tools/call", &format!(r#""name":"{name}""#));
        speaker.say(Said::Message(text)).await.unwrap();
    }
    assert!(matches!(second.said.recv().await, Some(Said::Message(text)) if text.contains(r#""name":"t""#)));
    drop(first);
    let lost = hearer.hear().await.unwrap();
    assert!(lost.text.contains("left_out") && lost.about.unwrap().get() == "1");
    drop(host);
    drop(speaker);
    let last = hearer.hear().await.unwrap();
    assert!(last.text.contains(r#""closed""#) && last.about.unwrap().get() == "2");
    assert!(hearer.hear().await.is_none());
    assert!(second.said.recv().await.is_none(), "the server learns that nobody waits any more");
    timeout(Duration::from_secs(5), running).await.unwrap().unwrap();
}

#[test]
fn too_many_open_requests_are_refused() {
    let mut bench = Bench::new(1);
    bench.merger.limits.pending = 2;
    for id in 1..=2 {
        assert!(bench.host(&request(id, "tools/call", r#""name":"a__t""#))[0].starts_with("a> "));
    }
    assert!(bench.host(&request(3, "tools/call", r#""name":"a__t""#))[0].contains(r#""busy""#));
    let ask = |id: u32| request(id, "roots/list", "");
    assert!(
        bench.server(0, "", &ask(1))[0].starts_with("< ")
            && bench.server(0, "", &ask(2))[0].starts_with("< ")
    );
    assert!(bench.server(0, "", &ask(3))[0].starts_with(r#"a> {"jsonrpc":"2.0","id":3,"error""#));
}
