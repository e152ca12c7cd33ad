//! Scripts of what a host and a server say while tools are checked.
use std::sync::{Mutex, PoisonError};

use super::*;

/// Knows `good` tools; refuses every other one.
#[derive(Debug, Default)]
struct Known {
    learned: Mutex<Option<Vec<String>>>,
}

fn names(tools: &[&RawValue]) -> Vec<String> {
    let name = |tool: &&RawValue| {
        let name = contextvm_core::object::member(tool, "name").and_then(contextvm_core::object::string);
        name.unwrap_or_default().into_owned()
    };
    tools.iter().map(name).collect()
}

impl ToolCheck for Known {
    fn learn(&self, tools: &[&RawValue]) {
        *self.learned.lock().unwrap_or_else(PoisonError::into_inner) = Some(names(tools));
    }

    fn forget(&self) {
        *self.learned.lock().unwrap() = None;
    }

    fn judge_shown(&self, tools: &[&RawValue]) -> Judgement {
        let learned = self.learned.lock().unwrap();
        match names(tools).into_iter().find(|name| !name.starts_with("good")) {
            _ if learned.is_none() => Judgement::Unknown,
            None => Judgement::Fine,
            Some(bad) => refused(&bad),
        }
    }

    fn judge_call(&self, tool: &str) -> Judgement {
        match self.learned.lock().unwrap().as_ref() {
            None => Judgement::Unknown,
            Some(_) if tool.starts_with("good") => Judgement::Fine,
            Some(_) => refused(tool),
        }
    }
}

fn refused(tool: &str) -> Judgement {
    let (message, hint) = ("tools changed".to_owned(), "look at them".to_owned());
    Judgement::Refused(ToolsRefused { message, tools: vec![tool.to_owned()], hint })
}

struct Bench(Checker);

impl Bench {
    fn new() -> Self {
        Self(Checker::new(Arc::new(Known::default()), Limits::default()))
    }

    fn drain(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(act) = self.0.poll() {
            lines.push(match act {
                Act::Server(Said::Message(text)) => format!("> {text}"),
                Act::Server(Said::Abandon(id)) => format!("> abandon {}", id.get()),
                Act::Host(Heard { text, about }) => {
                    format!("({})< {text}", about.as_deref().map_or("", RawValue::get))
                }
            });
        }
        lines
    }

    fn host(&mut self, text: &str) -> Vec<String> {
        self.0.host_said(text.to_owned());
        self.drain()
    }

    fn server(&mut self, about: &str, text: &str) -> Vec<String> {
        let about = (!about.is_empty()).then(|| RawValue::from_string(about.to_owned()).unwrap());
        self.0.server_said(Heard { text: text.to_owned(), about });
        self.drain()
    }

    fn result(&mut self, id: &str, result: &str) -> Vec<String> {
        self.server(id, &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))
    }
}

fn request(id: u32, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}}}}}"#)
}

const OWN: &str = r#""cvm-tools-1""#;
const CHANGED: &str = r#""error":{"code":-32000,"message":"tools changed","data":{"reason":"tools_changed","tools":["evil"],"hint":"look at them"}}"#;

#[test]
fn a_whole_list_is_learned_and_judged_as_it_passes() {
    let mut bench = Bench::new();
    let list = request(1, "tools/list", "");
    assert_eq!(bench.host(&list), [format!("> {list}")]);
    let good = r#"{"tools":[{"name":"good", "n":1.0}]}"#;
    assert_eq!(
        bench.result("1", good),
        [format!(r#"(1)< {{"jsonrpc":"2.0","id":1,"result":{good}}}"#)],
        "byte for byte"
    );
    let call = request(2, "tools/call", r#""name":"good""#);
    assert_eq!(bench.host(&call), [format!("> {call}")], "known by now");
    assert_eq!(
        bench.host(&request(3, "tools/call", r#""name":"evil""#)),
        [format!(r#"(3)< {{"jsonrpc":"2.0","id":3,{CHANGED}}}"#)]
    );
    bench.host(&request(4, "tools/list", ""));
    assert_eq!(
        bench.result("4", r#"{"tools":[{"name":"good"},{"name":"evil"}]}"#),
        [format!(r#"(4)< {{"jsonrpc":"2.0","id":4,{CHANGED}}}"#)]
    );
}

#[test]
fn a_call_waits_for_the_whole_list_and_is_judged_by_it() {
    let mut bench = Bench::new();
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","progressToken":1,"x":2}"#;
    let errand_meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
    let good = request(1, "tools/call", &format!(r#""name":"good",{meta}"#));
    assert_eq!(
        bench.host(&good),
        [format!(r#"> {{"jsonrpc":"2.0","id":{OWN},"method":"tools/list","params":{{{errand_meta}}}}}"#)]
    );
    assert_eq!(bench.host(&request(2, "tools/call", r#""name":"evil""#)), [""; 0], "one errand is enough");
    assert_eq!(bench.host(&request(3, "tools/call", r#""name":"good""#)), [""; 0]);
    assert_eq!(
        bench.host(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}}"#),
        [""; 0],
        "the server never heard of it"
    );
    assert_eq!(
        bench.result(OWN, r#"{"tools":[{"name":"good"}],"nextCursor":"p2"}"#),
        [format!(
            r#"> {{"jsonrpc":"2.0","id":{OWN},"method":"tools/list","params":{{"cursor":"p2",{errand_meta}}}}}"#
        )]
    );
    assert_eq!(
        bench.result(OWN, r#"{"tools":[{"name":"evil"}]}"#),
        [format!("> {good}"), format!(r#"(2)< {{"jsonrpc":"2.0","id":2,{CHANGED}}}"#)]
    );
}

#[test]
fn a_page_waits_for_the_whole_list_too() {
    let mut bench = Bench::new();
    bench.host(&request(1, "tools/list", ""));
    let page = r#"{"tools":[{"name":"good"}],"nextCursor":"p2"}"#;
    assert_eq!(
        bench.result("1", page),
        [format!(r#"> {{"jsonrpc":"2.0","id":{OWN},"method":"tools/list","params":{{}}}}"#)]
    );
    assert_eq!(
        bench.result(OWN, r#"{"tools":[{"name":"good"}]}"#),
        [format!(r#"(1)< {{"jsonrpc":"2.0","id":1,"result":{page}}}"#)]
    );
    bench.host(&request(2, "tools/list", r#""cursor":"p2""#));
    assert!(bench.result("2", r#"{"tools":[{"name":"evil"}]}"#)[0].contains("tools_changed"));
}

#[test]
fn a_list_that_does_not_come_is_the_answer_to_the_call() {
    let mut bench = Bench::new();
    bench.host(&request(1, "tools/call", r#""name":"good""#));
    let error = r#""error":{"code":-32001,"message":"m","data":{"reason":"no_reply"}}"#;
    assert_eq!(
        bench.server(OWN, &format!(r#"{{"jsonrpc":"2.0","id":{OWN},{error}}}"#)),
        [format!(r#"(1)< {{"jsonrpc":"2.0","id":1,{error}}}"#)]
    );
    bench.host(&request(2, "tools/call", r#""name":"good""#));
    bench.0.end();
    assert!(bench.drain()[0].contains(r#""reason":"closed""#));
}

#[test]
fn a_changed_list_is_asked_for_again() {
    let mut bench = Bench::new();
    bench.host(&request(1, "tools/list", ""));
    bench.result("1", r#"{"tools":[]}"#);
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    assert_eq!(bench.server("", changed), [format!("()< {changed}")]);
    assert!(bench.host(&request(2, "tools/call", r#""name":"good""#))[0].contains(OWN));
}

/// What came before the change and what came after it are no list together.
#[test]
fn a_list_that_changes_while_it_is_read_is_read_again() {
    let mut bench = Bench::new();
    bench.host(&request(1, "tools/call", r#""name":"good""#));
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    bench.server("", changed);
    let again = bench.result(OWN, r#"{"tools":[{"name":"good"}]}"#);
    assert!(again.len() == 1 && again[0].contains(r#""method":"tools/list","params":{}"#), "{again:?}");
    assert!(bench.result(OWN, r#"{"tools":[{"name":"good"}]}"#)[0].contains("tools/call"));
    bench.server("", changed);
    bench.host(&request(2, "tools/call", r#""name":"good""#));
    let own = r#""cvm-tools-2""#;
    let answered = (0..1_000).find_map(|_| {
        bench.server("", changed);
        bench.result(own, r#"{"tools":[]}"#).into_iter().find(|line| line.contains("tools_unchecked"))
    });
    assert!(answered.is_some(), "one that changes all the time has an end");
}

#[test]
fn a_page_that_is_no_list_of_tools_lets_nothing_through() {
    for result in ["{}", r#"{"tools":"none"}"#, r#"{"tools":{},"nextCursor":"p2"}"#] {
        let mut bench = Bench::new();
        bench.host(&request(1, "tools/call", r#""name":"good""#));
        let answered = bench.result(OWN, result);
        assert!(answered.len() == 1 && answered[0].contains("tools_unchecked"), "{answered:?}");
    }
}

/// A translation puts what came into another message; what is then a little deeper than messages may be is an answer all the same.
#[test]
fn an_answer_that_a_translation_made_deeper_reaches_the_host() {
    let mut bench = Bench::new();
    bench.host(&request(1, "ping", "{}"));
    let depth = Limits::default().json_depth;
    let deep = format!("{}{}", r#"{"a":"#.repeat(depth), "1").to_owned() + &"}".repeat(depth);
    assert_eq!(bench.result("1", &deep).len(), 1);
}

#[test]
fn an_endless_list_has_an_end() {
    let mut bench = Bench::new();
    bench.host(&request(1, "tools/call", r#""name":"good""#));
    let answered = (0..1_000).find_map(|_| {
        let lines = bench.result(OWN, r#"{"tools":[],"nextCursor":"more"}"#);
        lines.into_iter().find(|line| line.contains("tools_unchecked"))
    });
    assert!(answered.unwrap().starts_with("(1)< "));
    let text = request(2, "tools/call", &format!(r#""name":"good","x":"{}""#, "x".repeat(100_000)));
    let refused = (0..200).find_map(|_| bench.host(&text).into_iter().find(|line| line.contains("busy")));
    assert!(refused.is_some(), "what waits is bounded");
}

/// A running check between a host and a server side, with the one conversation that there will be.
struct Between {
    running: tokio::task::JoinHandle<()>,
    speaker: Speaker,
    hearer: Hearer,
    there: Counterpart,
    stop: CancellationToken,
}

impl Between {
    async fn begin() -> Self {
        let (server, mut at_server) = Conversations::new();
        let (checked, opened) = Conversations::new();
        let (check, stop): (Arc<dyn ToolCheck>, _) = (Arc::new(Known::default()), CancellationToken::new());
        let running = tokio::spawn(run(server, check, opened, Limits::default(), stop.clone()));
        let (speaker, hearer) = checked.open().await.unwrap().split();
        let there = at_server.recv().await.unwrap();
        Self { running, speaker, hearer, there, stop }
    }
}

#[tokio::test]
async fn words_pass_in_both_directions_until_the_host_is_gone() {
    let Between { running, speaker, mut hearer, mut there, .. } = Between::begin().await;
    let ping = request(1, "ping", "");
    speaker.say(Said::Message(ping.clone())).await.unwrap();
    let Some(Said::Message(text)) = there.said.recv().await else { panic!("nothing was said") };
    assert_eq!(text, ping);
    drop(speaker);
    assert!(there.said.recv().await.is_none(), "the server side hears of the end");
    let about = RawValue::from_string("1".to_owned()).ok();
    there
        .heard
        .send(Heard { text: r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.to_owned(), about })
        .await
        .unwrap();
    assert!(hearer.hear().await.unwrap().text.contains("result"), "and may still answer");
    drop(there);
    assert!(hearer.hear().await.is_none());
    running.await.unwrap();
}

/// A server side whose way to us is full stops listening to us; hearing it is what goes on then.
#[tokio::test]
async fn a_server_that_is_not_listening_is_heard_all_the_same() {
    let Between { running, speaker, mut hearer, mut there, .. } = Between::begin().await;
    let ping = request(1, "ping", "");
    // The queues of both seams and of the room between them.
    while timeout(FAREWELL, speaker.say(Said::Message(ping.clone()))).await.is_ok() {}
    let news = r#"{"jsonrpc":"2.0","method":"notifications/message"}"#;
    for _ in 0..300 {
        let said = there.heard.send(Heard { text: news.to_owned(), about: None });
        timeout(FAREWELL, said).await.expect("it is heard").unwrap();
        assert_eq!(timeout(FAREWELL, hearer.hear()).await.unwrap().unwrap().text, news);
    }
    there.said.close();
    drop(there);
    drop((speaker, hearer));
    running.await.unwrap();
}

#[tokio::test]
async fn last_words_of_the_server_side_reach_the_host() {
    let Between { running, speaker, mut hearer, mut there, stop } = Between::begin().await;
    speaker.say(Said::Message(request(1, "ping", ""))).await.unwrap();
    assert!(there.said.recv().await.is_some());
    stop.cancel();
    tokio::task::yield_now().await;
    let about = RawValue::from_string("1".to_owned()).ok();
    let closed = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"closed"}}"#;
    there.heard.send(Heard { text: closed.to_owned(), about }).await.unwrap();
    drop(there);
    assert_eq!(hearer.hear().await.unwrap().text, closed);
    assert!(hearer.hear().await.is_none());
    running.await.unwrap();
}
