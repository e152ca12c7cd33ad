//! `cvm relay check`: what is found out about relays, good and bad ones.
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::stage::{Home, Running};

fn relay(home: &Home, flags: &[&str]) -> (Running, String) {
    let mut args = vec!["relay", "run", "--port", "0"];
    args.extend(flags);
    let running = Running::start(home.command(&args));
    let url = running.first.trim().to_owned();
    (running, url)
}

fn check(document: &Value, name: &str) -> Value {
    let lines = document["lines"].as_array().unwrap();
    lines.iter().find(|line| line["check"] == name).unwrap_or_else(|| panic!("{name}: {document}")).clone()
}

#[test]
fn a_good_relay_is_good_for_everything() {
    let home = Home::new();
    let (_relay, url) = relay(&home, &[]);
    let checked = home.run(&["relay", "check", &url, "--json"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    let document = checked.json();
    assert_eq!((&document["schema"], &document["reached"]), (&"cvm.relay.check/1".into(), &true.into()));
    assert_eq!(document["verdict"], json!({ "messages": true, "announcements": true, "reviews": true }));
    for name in ["reachable", "NIP-11", "kind 25910", "kind 21059", "kind 1059", "kind 11316", "kind 1111"] {
        check(&document, name);
    }
    assert_eq!(document["largestEvent"], 131_072);
    assert!(check(&document, "size")["said"].as_str().unwrap().contains("64 KiB ok, 128 KiB ok, 256 KiB"));

    let shown = home.run(&["relay", "check", &url]);
    assert!(
        shown.out.contains("kind 25910  ok   echo ") && shown.out.contains("not stored"),
        "{}",
        shown.out
    );
    assert!(
        shown.out.contains("kind 11316  ok   ") && shown.out.contains("stored, replaced"),
        "{}",
        shown.out
    );
    assert!(shown.out.trim_end().ends_with("good for ContextVM"), "{}", shown.out);
}

#[test]
fn looking_only_publishes_nothing() {
    let home = Home::new();
    let (running, url) = relay(&home, &[]);
    let document = home.run(&["relay", "check", &url, "--passive", "--json"]).json();
    assert_eq!((&document["passive"], &document["kinds"]), (&true.into(), &json!([])));
    let (_, said) = running.end();
    assert!(said.contains("0 events accepted, 0 refused"), "{said}");
}

#[test]
fn a_relay_that_calls_cannot_cross_fails_the_check() {
    let home = Home::new();
    let (_relay, url) = relay(&home, &["--refuse", "blocked: \u{1b}[2Jno"]);
    let checked = home.run(&["relay", "check", &url, "--json", "--timeout", "1s"]);
    assert_eq!((checked.code, checked.error()["code"].as_str()), (9, Some("check_failed")));
    assert_eq!(checked.json()["verdict"]["messages"], false);
    assert!(checked.out.contains("refused: blocked"), "{checked:?}");
    let shown = home.run(&["relay", "check", &url, "--timeout", "1s"]);
    assert!(shown.out.contains("bad for ContextVM") && !shown.out.contains('\u{1b}'), "{shown:?}");

    let (_relay, lossy) = relay(&home, &["--drop", "1"]);
    let lossy = home.run(&["relay", "check", &lossy, "--json", "--timeout", "500ms"]);
    assert_eq!((lossy.code, &lossy.json()["verdict"]["messages"]), (9, &false.into()), "{lossy:?}");
}

#[test]
fn a_relay_that_is_not_there_fails_the_check() {
    let home = Home::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("ws://{}", silent.local_addr().unwrap());
    for url in ["ws://127.0.0.1:9", silent.as_str()] {
        let checked = home.run(&["relay", "check", url, "--json", "--timeout", "500ms"]);
        assert_eq!((checked.code, &checked.json()["reached"]), (9, &false.into()), "{checked:?}");
    }
    let wrong = home.run(&["relay", "check", "https://relay.example", "--json"]);
    assert_eq!((wrong.code, wrong.error()["code"].as_str()), (2, Some("invalid_value")), "{wrong:?}");
}
