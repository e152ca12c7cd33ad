//! Hosts of earlier revisions that listen together to a newer server.
use super::*;

const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// The request of a host about one resource.
fn on(id: &str, method: &str, uri: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"resources/{method}","params":{{"uri":"{uri}"}}}}"#)
}

/// What the subscription `own` brings.
fn news(own: &str, method: &str, uri: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{{"uri":"{uri}","_meta":{{"io.modelcontextprotocol/subscriptionId":"{own}"}}}}}}"#
    )
}

fn failed(own: &str, code: i64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":"{own}","error":{{"code":{code},"message":"m"}}}}"#)
}

/// Says a line short: who hears of what, and which subscription is opened or ended.
fn brief(line: &str) -> String {
    let (to, text) = line.split_once(' ').unwrap();
    let message = Envelope::parse(text, &Limits::default()).unwrap();
    let id = message.id.map_or("", RawValue::get).trim_matches('"');
    match message.method.as_deref() {
        Some("subscriptions/listen") => {
            let filter = rewrite::param(message.params, "notifications").unwrap();
            format!("open {id} {}", filter.get())
        }
        Some("notifications/cancelled") => {
            let ended = rewrite::cancelled_request_id(message.params).unwrap();
            format!("end {}", ended.get().trim_matches('"'))
        }
        Some(method) => format!("{to} {method}"),
        None if message.error.is_some() => format!("{to} refused"),
        None => format!("{to} answered"),
    }
}

/// One line of a script.
enum Step<'a> {
    Says(u64, &'a str),
    Server(&'a str),
    Pass(u64),
    Gone(u64),
    Abandoned(u64, &'a str),
    Again,
}
use Step::{Abandoned, Again, Gone, Pass, Says, Server};

fn play(bench: &mut Bench, script: &[(Step<'_>, &[&str])]) {
    for (at, (step, expected)) in script.iter().enumerate() {
        let lines = match step {
            Says(host, text) => bench.host(*host, text),
            Server(text) => bench.server(text),
            Pass(seconds) => bench.pass(*seconds),
            Gone(host) => {
                bench.board.closed(*host);
                bench.drain()
            }
            Abandoned(host, id) => {
                bench.board.abandon(*host, &crate::answer::raw((*id).to_owned()).unwrap());
                bench.drain()
            }
            Again => {
                bench.board.lost(&Failure::new(FAILED, "closed", "gone"));
                bench.board.reconnected();
                bench.drain()
            }
        };
        let lines: Vec<String> = lines.iter().map(|line| brief(line)).collect();
        assert_eq!(lines, *expected, "step {at}");
    }
}

/// Brings a further host to the newer server that the bench knows already.
fn join(bench: &mut Bench, host: u64) -> Vec<String> {
    bench.host(host, INITIALIZE);
    let own = |bench: &Bench| format!("cvm-{}", bench.board.next);
    bench.server(&failed(&own(bench), -32601));
    let discovered = format!(
        r#"{{"jsonrpc":"2.0","id":"{}","result":{{"supportedVersions":["2026-07-28"],"capabilities":{{"tools":{{"listChanged":true}},"resources":{{"subscribe":true}}}}}}}}"#,
        own(bench)
    );
    assert_eq!(bench.server(&discovered).len(), 1);
    bench.host(host, INITIALIZED)
}

#[test]
fn forty_hosts_need_one_subscription() {
    let mut bench = Bench::new(40);
    bench.newer_server();
    for host in 2..=40 {
        assert_eq!(join(&mut bench, host), [""; 0], "host {host}");
    }
    assert_eq!(bench.server(&news("cvm-3", "tools/list_changed", "")).len(), 40);

    // All want a resource of their own, and one in common.
    let mut open = vec!["cvm-3".to_owned()];
    let mut answered = 0;
    let mut lines = Vec::new();
    for host in 1..=40 {
        for uri in [format!("own:{host}"), "all:".to_owned()] {
            lines.extend(bench.host(host, &on(&uri, "subscribe", &uri)));
        }
    }
    while !lines.is_empty() {
        let mut agree = Vec::new();
        for line in core::mem::take(&mut lines).iter().map(|line| brief(line)) {
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["open", own, _] => agree.push((*own).to_owned()),
                ["end", own] => open.retain(|known| known != own),
                [_, "answered"] => answered += 1,
                other => panic!("{other:?}"),
            }
        }
        open.extend(agree.iter().cloned());
        assert!(open.len() <= 2, "one, and the one that takes its place: {open:?}");
        lines.extend(agree.iter().flat_map(|own| bench.server(&agreed(own))));
    }
    assert_eq!((open.len(), answered), (1, 80));
    for (uri, heard) in [("own:7", 1), ("own:7/part", 1), ("all:", 40), ("other:", 0)] {
        assert_eq!(bench.server(&news(&open[0], "resources/updated", uri)).len(), heard, "{uri}");
    }
    (1..=40).for_each(|host| bench.board.closed(host));
    for line in bench.drain().iter().map(|line| brief(line)) {
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["open", own, _] => open.push((*own).to_owned()),
            ["end", own] => open.retain(|known| known != own),
            other => panic!("{other:?}"),
        }
    }
    assert!(open.is_empty() && bench.board.purposes.is_empty(), "{open:?}");
    assert_eq!(bench.pass(3_600), [""; 0], "nothing is opened for nobody");
}

#[test]
fn a_resource_is_listened_to_when_the_server_agrees() {
    let mut bench = Bench::new(1);
    bench.newer_server();
    let change = |own| news(own, "tools/list_changed", "");
    let update = |uri| news("cvm-5", "resources/updated", uri);
    let heard: &[&str] = &["1< notifications/tools/list_changed"];
    play(
        &mut bench,
        &[
            (
                Says(1, &on("s", "subscribe", "a:b")),
                &[r#"open cvm-5 {"toolsListChanged":true,"resourceSubscriptions":["a:b"]}"#],
            ),
            // Nothing is missed until the new one stands, and nothing is heard twice after that.
            (Server(&change("cvm-3")), heard),
            (Server(&agreed("cvm-5")), &["end cvm-3", r#"1("s")< answered"#]),
            (Server(&change("cvm-3")), &[]),
            (Server(&change("cvm-5")), heard),
            (Server(&update("a:b")), &["1< notifications/resources/updated"]),
            (Server(&update("a:bc")), &[]),
            (Says(1, &on("t", "subscribe", "a:b")), &[r#"1("t")< answered"#]),
            (
                Says(1, &on("u", "unsubscribe", "a:b")),
                &[r#"1("u")< answered"#, r#"open cvm-8 {"toolsListChanged":true}"#],
            ),
            (Server(&update("a:b")), &[]),
            // What comes of it shows that it stands.
            (Server(&change("cvm-8")), &["end cvm-5", heard[0]]),
            (Gone(1), &["end cvm-8"]),
        ],
    );
}

#[test]
fn wishes_that_come_while_one_is_opened_wait_for_it() {
    let mut bench = Bench::new(2);
    bench.newer_server();
    assert_eq!(join(&mut bench, 2), [""; 0]);
    play(
        &mut bench,
        &[
            (
                Says(1, &on("a", "subscribe", "bad:")),
                &[r#"open cvm-7 {"toolsListChanged":true,"resourceSubscriptions":["bad:"]}"#],
            ),
            (Says(2, &on("b", "subscribe", "b:")), &[]),
            (Says(2, &on("c", "subscribe", "c:")), &[]),
            (Says(2, &on("d", "subscribe", "d:")), &[]),
            // Taken back in either way.
            (Says(2, &on("e", "unsubscribe", "c:")), &[r#"2("c")< answered"#, r#"2("e")< answered"#]),
            (Abandoned(2, r#""d""#), &[]),
            // A resource that the server refuses costs the other host nothing, and is not asked for again.
            (
                Server(&failed("cvm-7", -32602)),
                &[
                    r#"1("a")< refused"#,
                    r#"open cvm-12 {"toolsListChanged":true,"resourceSubscriptions":["b:"]}"#,
                ],
            ),
            (
                Server(&news("cvm-3", "tools/list_changed", "")),
                &["1< notifications/tools/list_changed", "2< notifications/tools/list_changed"],
            ),
            (Server(&agreed("cvm-12")), &["end cvm-3", r#"2("b")< answered"#]),
            (Pass(60), &[]),
            (Gone(2), &[r#"open cvm-13 {"toolsListChanged":true}"#]),
            (Gone(1), &["end cvm-12", "end cvm-13"]),
        ],
    );
}

#[test]
fn a_subscription_that_ends_is_opened_again_after_a_pause_that_grows() {
    let mut bench = Bench::new(2);
    bench.newer_server();
    let lists = |own: u32| format!(r#"open cvm-{own} {{"toolsListChanged":true}}"#);
    for (own, pause) in (3..).zip([1, 2, 4, 8, 16, 32, 60, 60]) {
        let script: &[(Step<'_>, &[&str])] = &[
            (Server(&failed(&format!("cvm-{own}"), -32000)), &[]),
            (Says(1, INITIALIZED), &[]),
            (Pass(pause - 1), &[]),
            (Pass(1), &[&lists(own + 1)]),
            (Server(&agreed(&format!("cvm-{}", own + 1))), &[]),
        ];
        play(&mut bench, script);
    }
    let cancelled = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"cvm-11"}}"#;
    play(
        &mut bench,
        &[
            // One that stood for long begins with the shortest pause.
            (Pass(60), &[]),
            (Server(cancelled), &[]),
            (Pass(1), &[&lists(12)]),
            // A host that waits does not wait for that.
            (Server(&failed("cvm-12", -32000)), &[]),
            (
                Says(1, &on("s", "subscribe", "a:b")),
                &[r#"open cvm-14 {"toolsListChanged":true,"resourceSubscriptions":["a:b"]}"#],
            ),
            // A server without subscriptions is left alone.
            (Server(&failed("cvm-14", -32601)), &[r#"1("s")< refused"#]),
            (Pass(500), &[]),
            (Again, &[&lists(15)]),
        ],
    );
}

#[test]
fn the_end_of_an_old_subscription_does_not_hold_up_what_follows_the_new_one() {
    let mut bench = Bench::new(1);
    bench.newer_server();
    play(
        &mut bench,
        &[
            (
                Says(1, &on("s", "subscribe", "a:b")),
                &[r#"open cvm-5 {"toolsListChanged":true,"resourceSubscriptions":["a:b"]}"#],
            ),
            (Server(&failed("cvm-3", -32000)), &[]),
            (Server(&agreed("cvm-5")), &[r#"1("s")< answered"#]),
            (
                Says(1, &on("u", "unsubscribe", "a:b")),
                &[r#"1("u")< answered"#, r#"open cvm-7 {"toolsListChanged":true}"#],
            ),
        ],
    );
}

#[test]
fn a_session_that_begins_again_leaves_nothing_behind() {
    let mut bench = Bench::new(1);
    bench.newer_server();
    let again = INITIALIZE.replace(r#""id":"a""#, r#""id":"z""#);
    play(
        &mut bench,
        &[
            (
                Says(1, &on("s", "subscribe", "a:b")),
                &[r#"open cvm-5 {"toolsListChanged":true,"resourceSubscriptions":["a:b"]}"#],
            ),
            (Says(1, &again), &[r#"1("s")< refused"#, "end cvm-3", "end cvm-5", "> initialize"]),
        ],
    );
}

#[test]
fn what_hosts_may_listen_to_is_bounded() {
    let mut bench = Bench::new(3);
    bench.newer_server();
    assert_eq!(join(&mut bench, 2), [""; 0]);
    assert_eq!(join(&mut bench, 3), [""; 0]);
    let long = "n".repeat(1_000);
    let mut subscribe = |host: u64, id: usize| {
        let uri = format!("{host}:{id}:{long}");
        bench.host(host, &on(&uri, "subscribe", &uri)).iter().any(|line| line.contains("busy"))
    };
    assert!((0..255).all(|id| !subscribe(1, id)));
    assert!(!subscribe(1, 255) && subscribe(1, 256), "of one host");
    assert!(!subscribe(2, 0) && (1..10).any(|id| subscribe(2, id)), "of all together");
    assert!(subscribe(3, 0));
}
