//! `cvm review`: read, written and answered, and never in public without being asked for.
use serde_json::{Value, json};

use crate::published::Published;
use crate::stage::{Home, NOBODY, Running};

fn review<'a>(command: &[&'a str], url: &'a str) -> Vec<&'a str> {
    [&["review"][..], command, &["--discovery", url]].concat()
}

#[test]
fn reviews_are_written_answered_and_read_as_threads() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    home.run(&["key", "new", "you"]);
    let server = Published::new().server("Weather", &[]).to(&url);
    let npub = server.npub();

    let sent = home.run(&review(&["add", &npub, "Fast and correct", "-k", "me", "--yes", "--json"], &url));
    assert_eq!(sent.code, 0, "{sent:?}");
    let sent = sent.json();
    assert_eq!((&sent["schema"], &sent["server"]), (&"cvm.review/1".into(), &npub.as_str().into()));
    assert_eq!(sent["relays"], json!([{ "relay": url, "accepted": true }]));
    let id = sent["id"].as_str().unwrap();
    let answered = home.run(&review(&["reply", id, "Thank\u{1b}[2J you", "-k", "you", "--yes"], &url));
    assert_eq!(answered.code, 0, "{answered:?}");
    assert!(answered.err.contains("in answer to npub1") && answered.err.contains("Fast and correct"));

    let listed = home.run(&review(&["ls", &npub, "--json"], &url)).json();
    assert_eq!(listed["schema"], "cvm.review.ls/1");
    let shape = |at: usize| {
        let entry = &listed["reviews"][at];
        (entry["depth"].clone(), entry["standing"].clone(), entry["text"].clone())
    };
    assert_eq!(shape(0), (0.into(), "review".into(), "Fast and correct".into()));
    assert_eq!(shape(1), (1.into(), "reply".into(), "Thank\u{1b}[2J you".into()));
    let shown = home.run(&review(&["ls", &npub], &url));
    assert!(shown.out.contains("npub1") && !shown.out.contains('\u{1b}'), "{shown:?}");
    assert!(shown.err.contains("2 reviews") && shown.err.contains("relays 1/1 answered"), "{shown:?}");
}

#[test]
fn nothing_is_published_without_a_yes() {
    let home = Home::new();
    let (running, url) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let unasked = home.run(&review(&["add", NOBODY, "hello", "-k", "me", "--json"], &url));
    assert_eq!(
        (unasked.code, unasked.error()["code"].as_str()),
        (2, Some("missing_argument")),
        "{unasked:?}"
    );
    assert!(unasked.err.contains("kind 1111") && unasked.err.contains("hello"), "it is shown first");
    let silent = home.run(&review(&["add", NOBODY, "hello", "-k", "me", "-qq"], &url));
    assert!(silent.code == 2 && silent.err.contains("kind 1111"), "nobody is asked blindly: {silent:?}");
    let dry = home.run(&review(&["add", NOBODY, "hello", "-k", "me", "--dry-run", "--json"], &url));
    let document: Value = dry.json()["events"][0].clone();
    assert_eq!((dry.code, &document["kind"], &document["relays"]), (0, &1_111.into(), &json!([url])));
    assert_eq!(document["event"]["content"], "hello");
    for (words, code) in [
        (&["add", NOBODY, "hello", "--yes"][..], "missing_argument"),
        (&["add", NOBODY, " ", "-k", "me", "--yes"], "invalid_value"),
        (&["reply", "nonsense", "x", "-k", "me", "--yes"], "invalid_value"),
        (&["reply", &"a".repeat(64), "x", "-k", "me", "--yes"], "not_found"),
    ] {
        let ran = home.run(&review(&[words, &["--json"]].concat(), &url));
        assert_eq!(ran.error()["code"].as_str(), Some(code), "{words:?} {ran:?}");
    }
    let (_, said) = running.end();
    assert!(said.contains("0 events accepted"), "{said}");
}

#[test]
fn relays_that_take_no_reviews_are_named() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let running = Running::start(home.command(&["relay", "run", "--port", "0", "--refuse-kind", "1111"]));
    let refusing = running.first.trim();
    let both = format!("{url},{refusing}");
    let sent = home.run(&review(&["add", NOBODY, "hello", "-k", "me", "--yes", "--json"], &both));
    assert_eq!(sent.code, 0, "{sent:?}");
    let relays = sent.json()["relays"].clone();
    assert_eq!((&relays[0]["accepted"], &relays[1]["accepted"]), (&true.into(), &false.into()));
    assert!(sent.err.contains("takes no reviews (kind 1111)"), "{sent:?}");
    let said = home.run(&review(&["add", NOBODY, "hello", "-k", "me", "--yes", "-q"], refusing));
    assert_eq!(said.err.matches("refused").count(), 1, "it is said once: {said:?}");
    let said = home.run(&review(&["add", NOBODY, "hello", "-k", "me", "--yes"], refusing));
    let lines = said.err.lines().filter(|line| line.contains("refused"));
    assert_eq!(lines.count(), 1, "it is said once: {said:?}");
    let only = home.run(&review(&["add", NOBODY, "hello", "-k", "me", "--yes", "--json"], refusing));
    assert_eq!((only.code, only.error()["code"].as_str()), (4, Some("no_relay_accepted")), "{only:?}");
}

/// What a stranger writes cannot look like the answer of somebody else, nor push everything else off the screen.
#[test]
fn a_review_cannot_pass_for_another_one() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let forged = format!("Bad.\n\n{NOBODY}   2 h ago\n  | Sorry, it is a fraud\n{}", "x\n".repeat(500));
    let sent = home.run(&review(&["add", NOBODY, &forged, "-k", "me", "--yes"], &url));
    assert_eq!(sent.code, 0, "{sent:?}");
    let shown = home.run(&review(&["ls", NOBODY], &url));
    for forged in shown.out.lines().filter(|line| line.contains("2 h ago") || line.contains("Sorry")) {
        assert!(forged.starts_with("  | "), "{shown:?}");
    }
    assert!(shown.out.contains("2 h ago") && shown.out.lines().count() < 60, "{shown:?}");
}

#[test]
fn reviews_by_people_who_are_followed_are_marked() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let server = Published::new().server("Weather", &[]).to(&url);
    let friend = Published::new().review(&server.hex(), "Fine").to(&url);
    let stranger = Published::new().review(&server.hex(), "Hm").to(&url);
    let _me = Published::named(&home, "me").follows(&[&friend.hex()]).to(&url);
    let other = Published::new().follows(&[&stranger.hex()]).to(&url);
    let list = |words: &[&str]| home.run(&review(&[&["ls", &server.npub()], words].concat(), &url));
    let followed = |document: &Value, author: &Published| {
        let reviews = document["reviews"].as_array().unwrap();
        reviews.iter().find(|review| review["author"] == author.npub().as_str()).unwrap()["followed"].clone()
    };
    for (words, expected) in [
        (&["-k", "me", "--json"][..], [json!(true), json!(false)]),
        (&["--trusted-by", &other.npub(), "--json"], [json!(false), json!(true)]),
        (&["-k", "me", "--trusted-by", &other.npub(), "--json"], [json!(false), json!(true)]),
        (&["--json"], [Value::Null, Value::Null]),
        (&["-k", "ephemeral", "--json"], [Value::Null, Value::Null]),
    ] {
        let ran = list(words);
        let document = ran.json();
        assert_eq!([followed(&document, &friend), followed(&document, &stranger)], expected, "{ran:?}");
        assert_eq!(ran.err.contains("follows 1 key"), !expected[0].is_null(), "{ran:?}");
    }
    let shown = list(&["-k", "me"]).out;
    let line =
        |author: &Published| shown.lines().find(|line| line.contains(&author.npub())).unwrap().to_owned();
    assert!(line(&friend).ends_with("   followed") && !line(&stranger).contains("followed"), "{shown}");
}
