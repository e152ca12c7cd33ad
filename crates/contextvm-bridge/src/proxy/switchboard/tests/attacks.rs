//! Servers and hosts that do what they should not, and what went wrong before.
use super::*;

fn cancel(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#)
}

fn ask(id: &str, method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{}}}}"#)
}

#[test]
fn a_newer_server_that_names_its_revisions_when_it_refuses_initialize_is_reached() {
    let mut bench = Bench::new(1);
    bench.host(1, INITIALIZE);
    let asked = bench.server(r#"{"jsonrpc":"2.0","id":"cvm-1","error":{"code":-32022,"message":"m","data":{"supported":["2026-07-28"]}}}"#);
    assert!(asked.len() == 1 && asked[0].contains("server/discover"), "{asked:?}");
}

#[test]
fn what_is_cancelled_before_it_was_sent_is_not_kept() {
    // While the host's `initialize`, the question of which era it is, and the session of an older server are open.
    let mut opening = Bench::new(1);
    opening.host(1, INITIALIZE);
    let mut probing = Bench::new(1);
    let mut older = Bench::new(1);
    older.host(1, &modern(0, "server/discover", ""));
    older.server(r#"{"jsonrpc":"2.0","id":"cvm-1","error":{"code":-32601,"message":"Method not found"}}"#);
    let old = |id: u32| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#);
    let new = |id: u32| modern(id, "tools/list", "");
    probing.host(1, &new(99));
    type Request<'a> = &'a dyn Fn(u32) -> String;
    for (bench, request) in [(&mut opening, &old as Request<'_>), (&mut probing, &new), (&mut older, &new)] {
        for id in 1..=50 {
            assert_eq!(bench.host(1, &request(id)), [""; 0]);
            bench.host(1, &cancel(&id.to_string()));
        }
        let board = &bench.board;
        let probed = match &board.era {
            Era::Probing { held, .. } => held.len(),
            Era::Unknown | Era::Modern | Era::Legacy => 0,
        };
        let held = board.hosts.values().map(|host| host.held.len()).sum::<usize>() + probed;
        assert!(held + board.down_held() <= 1, "{held}");
    }
}

#[test]
fn what_a_host_says_before_its_initialize_is_answered_comes_after_it() {
    let mut bench = Bench::new(2);
    assert_eq!(bench.host(1, INITIALIZE).len(), 1);
    assert_eq!(bench.host(1, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#), [""; 0]);
    assert_eq!(bench.host(1, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#), [""; 0]);
    assert_eq!(bench.host(1, r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#), [""; 0]);
    assert_eq!(bench.host(1, &cancel("1")), [""; 0], "the server never heard of it");
    assert_eq!(bench.host(2, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).len(), 1, "others go on");
    let next = bench.server(r#"{"jsonrpc":"2.0","id":"cvm-1","result":{}}"#);
    assert_eq!(
        next,
        [
            r#"1("a")< {"jsonrpc":"2.0","id":"a","result":{}}"#,
            r#"> {"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"> {"jsonrpc":"2.0","id":"cvm-3","method":"tools/list"}"#,
        ]
    );
}

#[test]
fn a_host_that_does_not_wait_reaches_a_newer_server_too() {
    let mut bench = Bench::new(1);
    bench.host(1, INITIALIZE);
    bench.host(1, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    bench.host(1, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    bench.server(r#"{"jsonrpc":"2.0","id":"cvm-1","error":{"code":-32601,"message":"m"}}"#);
    let next = bench.server(r#"{"jsonrpc":"2.0","id":"cvm-3","result":{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}}}}"#);
    assert!(next[0].starts_with(r#"1("a")<"#) && next[1].contains("subscriptions/listen"), "{next:?}");
    assert!(
        next[2].contains(r#""id":"cvm-2","method":"tools/list""#) && next[2].contains(MODERN),
        "{next:?}"
    );
}

const MODERN: &str = "2026-07-28";

#[test]
fn a_probe_that_its_host_takes_back_says_nothing_of_the_server() {
    let mut bench = Bench::new(2);
    bench.host(1, &modern(1, "server/discover", ""));
    assert_eq!(bench.host(2, &modern(1, "tools/list", "")), [""; 0]);
    let asked = bench.host(1, &cancel("1"));
    assert!(
        asked[0].contains(r#""id":"cvm-3","method":"server/discover""#),
        "asked again for the other: {asked:?}"
    );
    let sent =
        bench.server(r#"{"jsonrpc":"2.0","id":"cvm-3","result":{"supportedVersions":["2026-07-28"]}}"#);
    assert!(sent.len() == 1 && sent[0].contains("tools/list"), "{sent:?}");
    let mut bench = Bench::new(1);
    bench.host(1, &modern(1, "server/discover", ""));
    bench.host(1, &cancel("1"));
    bench.pass(60);
    let asked = bench.host(1, &modern(2, "tools/list", ""));
    assert!(asked[0].contains("server/discover"), "not taken for an older one: {asked:?}");
}

#[test]
fn an_incomplete_question_of_a_host_is_no_probe() {
    let mut bench = Bench::new(1);
    let asked = bench.host(1, r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#);
    assert!(asked[0].contains(r#""id":"cvm-2""#) && asked[0].contains(MODERN), "{asked:?}");
    let sent =
        bench.server(r#"{"jsonrpc":"2.0","id":"cvm-2","result":{"supportedVersions":["2026-07-28"]}}"#);
    assert_eq!(sent, [r#"> {"jsonrpc":"2.0","id":"cvm-1","method":"server/discover"}"#]);
}

#[test]
fn what_a_probe_brings_late_does_not_undo_what_is_known() {
    let mut bench = Bench::new(1);
    bench.host(1, &modern(1, "tools/list", ""));
    let opened = bench.pass(20);
    assert!(opened.iter().any(|line| line.contains(r#""method":"initialize""#)), "{opened:?}");
    bench.server(r#"{"jsonrpc":"2.0","id":"cvm-3","result":{"capabilities":{}}}"#);
    bench.server(r#"{"jsonrpc":"2.0","id":"cvm-2","error":{"code":-32001,"message":"m","data":{"reason":"no_reply"}}}"#);
    let sent = bench.host(1, &modern(2, "tools/list", ""));
    assert!(sent.len() == 1 && sent[0].contains("tools/list"), "not asked again: {sent:?}");
}

#[test]
fn a_newer_server_that_was_slow_is_recognised_by_its_refusal() {
    let mut bench = Bench::new(1);
    bench.host(1, &modern(1, "tools/list", ""));
    bench.pass(20);
    let sent = bench.server(r#"{"jsonrpc":"2.0","id":"cvm-3","error":{"code":-32022,"message":"m"}}"#);
    assert!(sent.len() == 1 && sent[0].contains(r#""id":"cvm-1","method":"tools/list""#), "{sent:?}");
}

#[test]
fn an_error_of_the_server_with_a_reason_of_its_own_shows_that_it_is_older() {
    let mut bench = Bench::new(1);
    bench.host(1, &modern(1, "tools/list", ""));
    let opened = bench.server(r#"{"jsonrpc":"2.0","id":"cvm-2","error":{"code":-32601,"message":"m","data":{"reason":"unknown method"}}}"#);
    assert!(opened[0].contains(r#""method":"initialize""#), "{opened:?}");
    let mut bench = Bench::new(1);
    bench.host(1, &modern(1, "tools/list", ""));
    let opened = bench.server(r#"{"jsonrpc":"2.0","id":"cvm-2","result":{}}"#);
    assert!(opened[0].contains(r#""method":"initialize""#), "a result without revisions, too: {opened:?}");
}

#[test]
fn a_host_of_the_newer_revision_is_never_sent_a_request() {
    let mut bench = Bench::new(1);
    bench.older_server();
    bench.host(1, &modern(1, "tools/list", ""));
    let refused = bench.server(&ask("1", "roots/list"));
    assert!(refused.len() == 1 && refused[0].contains("which_host"), "{refused:?}");
    let mut bench = Bench::new(1);
    bench.host(1, &modern(0, "server/discover", ""));
    bench.server(r#"{"jsonrpc":"2.0","id":"cvm-1","result":{"supportedVersions":["2026-07-28"]}}"#);
    bench.host(1, &modern(1, "tools/call", r#""name":"t","#));
    let refused = bench.server(&ask("1", "elicitation/create"));
    assert!(refused.len() == 1 && refused[0].contains("which_host"), "{refused:?}");
}

#[test]
fn a_further_question_of_a_round_is_checked_like_the_first() {
    let mut bench = Bench::new(1);
    bench.older_server();
    bench.host(1, &modern(1, "tools/call", r#""name":"t","#));
    assert!(bench.server(&ask("1", "elicitation/create"))[0].contains("input_required"));
    for method in ["sampling/createMessage", "shutdown"] {
        let refused = bench.server(&ask("2", method));
        assert!(refused[0].contains("not_supported"), "{refused:?}");
    }
    let url =
        r#"{"jsonrpc":"2.0","id":3,"method":"elicitation/create","params":{"mode":"url","url":"http://x"}}"#;
    assert!(bench.server(url)[0].contains("-32602"));
}

#[test]
fn a_question_after_a_long_silence_has_its_time() {
    let mut bench = Bench::new(1);
    bench.older_server();
    bench.host(1, &modern(1, "tools/call", r#""name":"t","#));
    bench.pass(400);
    assert!(bench.server(&ask("1", "elicitation/create"))[0].contains("input_required"));
    assert_eq!(bench.pass(299), [""; 0]);
    assert_eq!(bench.pass(1).len(), 2);
}

#[test]
fn the_answer_to_an_earlier_question_is_never_taken_for_that_to_a_later_one() {
    let mut bench = Bench::new(1);
    bench.older_server();
    bench.host(1, &modern(1, "tools/call", r#""name":"t","#));
    let first = bench.server(&ask("1", "elicitation/create"));
    assert!(first[0].contains(r#""ask-4""#), "{first:?}");
    bench.server(&ask("2", "elicitation/create"));
    let both = r#""name":"t","inputResponses":{"ask-4":{"action":"accept"}},"requestState":STATE,"#;
    let both = &both.replace("STATE", &state_of(&first[0]));
    let next = bench.host(1, &modern(2, "tools/call", both));
    assert_eq!(next[0], r#"> {"jsonrpc":"2.0","id":1,"result":{"action":"accept"}}"#);
    assert!(next[1].contains(r#""ask-6""#) && !next[1].contains(r#""ask-4""#), "{next:?}");
}

#[test]
fn an_answer_with_another_spelling_of_the_id_is_an_answer() {
    let mut bench = Bench::new(1);
    bench.host(1, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#);
    bench.server(&ask(r#""q\/1""#, "roots/list"));
    assert_eq!(bench.host(1, r#"{"jsonrpc":"2.0","id":"q/1","result":{}}"#).len(), 1);
    assert_eq!(bench.host(1, r#"{"jsonrpc":"2.0","id":"q/1","result":{}}"#), [""; 0], "once only");
}

#[test]
fn questions_that_nobody_answers_do_not_fill_the_table_for_ever() {
    let mut bench = Bench::new(1);
    bench.host(1, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#);
    bench.server(r#"{"jsonrpc":"2.0","id":"cvm-9","result":{}}"#);
    for id in 0..300 {
        let line = bench.server(&ask(&id.to_string(), "roots/list")).remove(0);
        assert_eq!(line.starts_with("1("), id < 256, "{line}");
    }
    let told = bench.pass(600);
    assert_eq!(told.iter().filter(|line| line.contains("notifications/cancelled")).count(), 256);
    assert!(bench.server(&ask("1", "roots/list"))[0].starts_with("1("));
}

#[test]
fn a_subscription_that_the_server_ends_by_a_cancellation_is_answered() {
    let mut bench = Bench::new(1);
    bench.host(1, &modern(1, "server/discover", ""));
    bench.server(r#"{"jsonrpc":"2.0","id":"cvm-1","result":{"supportedVersions":["2026-07-28"]}}"#);
    bench.host(1, &modern(8, "subscriptions/listen", r#""notifications":{},"#));
    assert_eq!(
        bench.server(&cancel(r#""cvm-2""#)),
        [
            r#"1(8)< {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":8}}"#,
            r#"1(8)< {"jsonrpc":"2.0","id":8,"result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":8}}}"#,
        ]
    );
    let mut bench = Bench::new(1);
    bench.newer_server();
    bench.server(&cancel(r#""cvm-3""#));
    assert!(bench.pass(1)[0].contains("subscriptions/listen"), "opened again for a host that cannot");
}

#[test]
fn progress_grows_whatever_the_proxy_said_before() {
    let mut bench = Bench::new(1);
    bench.host(1, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{"progressToken":"t"}}}"#);
    let progress = |value: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"cvm-1","progress":{value}}}}}"#
        )
    };
    bench.pass(15);
    assert!(bench.server(&progress("0"))[0].contains(r#""progress":0.000002"#));
    assert!(bench.server(&progress("1.0"))[0].contains(r#""progress":1.0"#));
    bench.server(&progress("1e400"));
    bench.server(&progress("1e300"));
    assert!(bench.pass(15).iter().all(|line| !line.contains("inf") && !line.contains("waiting")));
}

#[test]
fn a_host_hears_a_log_message_once_and_only_from_its_level_on() {
    let mut bench = Bench::new(2);
    bench.older_server();
    let call = |id, level: &str| {
        modern(id, "tools/call", r#""name":"t","#)
            .replace(r#""_meta":{"#, &format!(r#""_meta":{{"io.modelcontextprotocol/logLevel":"{level}","#))
    };
    let set = bench.host(1, &call(1, "info"));
    assert!(set[0].contains(r#""method":"logging/setLevel","params":{"level":"info"}"#), "{set:?}");
    bench.host(1, &call(2, "info"));
    assert_eq!(bench.host(2, &call(1, "error")).len(), 1, "the first still wants to hear more");
    assert!(bench.host(2, &call(2, "shout"))[0].contains("-32602"));
    let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"warning","data":1}}"#;
    let heard = bench.server(log);
    assert!(heard.len() == 1 && heard[0].starts_with("1(1)<"), "{heard:?}");
}

#[test]
fn nonsense_of_an_older_host_ends_here() {
    let mut bench = Bench::new(1);
    bench.newer_server();
    for (method, params) in [
        ("logging/setLevel", r#"{"level":7}"#),
        ("resources/subscribe", "{}"),
        ("tasks/get", r#"{"taskId":"t"}"#),
    ] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let refused = bench.host(1, &text);
        assert!(
            refused.len() == 1 && refused[0].starts_with("1(1)<") && refused[0].contains("error"),
            "{refused:?}"
        );
    }
}

#[test]
fn an_older_host_is_asked_only_what_hosts_know() {
    let mut bench = Bench::new(1);
    bench.newer_server();
    bench.host(1, r#"{"jsonrpc":"2.0","id":"b","method":"tools/call","params":{"name":"t"}}"#);
    let refused = bench.server(r#"{"jsonrpc":"2.0","id":"cvm-4","result":{"resultType":"input_required","inputRequests":{"a":{"method":"roots/list"},"k":{"method":"shutdown"}}}}"#);
    assert!(refused.len() == 1 && refused[0].contains("not_supported"), "{refused:?}");
    bench.host(1, r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"t"}}"#);
    let asked = bench.server(r#"{"jsonrpc":"2.0","id":"cvm-5","result":{"resultType":"input_required","inputRequests":{"k":{"method":"roots/list","params":7}}}}"#);
    assert!(asked.len() == 1 && asked[0].ends_with(r#""params":{}}"#), "{asked:?}");
}

#[test]
fn a_server_that_asks_for_ever_is_given_up() {
    let mut bench = Bench::new(1);
    bench.newer_server();
    bench.host(1, r#"{"jsonrpc":"2.0","id":"b","method":"tools/call","params":{"name":"t"}}"#);
    let mut lines = Vec::new();
    for id in 4..100 {
        lines = bench.server(&format!(r#"{{"jsonrpc":"2.0","id":"cvm-{id}","result":{{"resultType":"input_required","requestState":"s"}}}}"#));
        if lines[0].starts_with("1(") {
            break;
        }
    }
    assert!(lines[0].contains("too_many_rounds"), "{lines:?}");
}

#[test]
fn a_task_of_either_revision_is_refused_by_name() {
    let mut bench = Bench::new(1);
    bench.older_server();
    let refused = bench.host(1, &modern(1, "tasks/get", r#""taskId":"t","#));
    assert!(refused[0].contains("-32601") && refused[0].contains("2025-11-25"), "{refused:?}");
    let incomplete = r#"{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    assert!(bench.host(1, incomplete)[0].contains("-32602"), "what a request must say of its host");
}

#[test]
fn an_update_concerns_parts_of_a_resource_and_not_its_namesakes() {
    let mut bench = Bench::new(1);
    bench.older_server();
    bench
        .host(1, &modern(9, "subscriptions/listen", r#""notifications":{"resourceSubscriptions":["a:b"]},"#));
    for (uri, heard) in [("a:b", 1), ("a:b/c", 1), ("a:bc", 0)] {
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":"{uri}"}}}}"#
        );
        assert_eq!(bench.server(&text).len(), heard, "{uri}");
    }
}

#[test]
fn requests_are_bounded_in_bytes() {
    let mut bench = Bench::new(1);
    let name = "n".repeat(12 << 20);
    let call = |id: u32| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{name}"}}}}"#)
    };
    for id in 1..4 {
        assert!(bench.host(1, &call(id))[0].starts_with('>'), "{id}");
    }
    assert!(bench.host(1, &call(4))[0].contains("busy"));
}

#[test]
fn a_host_that_stops_listening_does_not_end_what_another_listens_to() {
    let mut bench = Bench::new(3);
    let on = |id: u32, method: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"resources/{method}","params":{{"uri":"a:b"}}}}"#)
    };
    let update = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a:b"}}"#;
    for host in [1, 2] {
        assert_eq!(bench.host(host, &on(1, "subscribe")).len(), 1);
    }
    bench.host(3, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    let heard = bench.server(update);
    assert!(heard.len() == 2 && heard[0].starts_with("1<") && heard[1].starts_with("2<"), "{heard:?}");
    assert_eq!(bench.host(1, &on(2, "unsubscribe")), [r#"1(2)< {"jsonrpc":"2.0","id":2,"result":{}}"#]);
    assert_eq!(bench.server(update).len(), 1);
    let begun = bench.host(3, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    assert!(begun[1].contains(r#""method":"resources/subscribe","params":{"uri":"a:b"}"#), "{begun:?}");
    bench.board.closed(2);
    let left = bench.drain();
    assert!(left.iter().any(|line| line.contains("resources/unsubscribe")), "{left:?}");
}

#[test]
fn a_question_beside_all_calls_goes_to_the_host_whose_session_began_last() {
    let mut bench = Bench::new(2);
    for host in [1, 2] {
        bench.host(host, INITIALIZE);
        bench.server(&format!(r#"{{"jsonrpc":"2.0","id":"cvm-{host}","result":{{}}}}"#));
        bench.host(host, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    }
    assert_eq!(bench.server(&ask("1", "roots/list")), [format!("2< {}", ask("1", "roots/list"))]);
    bench.board.closed(2);
    bench.drain();
    assert_eq!(
        bench.server(&ask("2", "roots/list")),
        [format!("1< {}", ask("2", "roots/list"))],
        "the only one left"
    );
}
