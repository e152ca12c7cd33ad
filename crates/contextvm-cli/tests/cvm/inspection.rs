//! `cvm inspect`: what is known of a server, what was checked, and why the rest is not there.
use std::io::copy;
use std::net::{TcpListener, TcpStream};
use std::thread::{sleep, spawn};
use std::time::Duration;

use serde_json::{Value, json};

use crate::published::{Published, domain, now};
use crate::stage::{CVM, Home, Ran, Running};

/// Nobody listens there.
const DEAD: &str = "ws://127.0.0.1:9";
/// The hash of a tool `a` that takes an object.
const HASH: &str = "60d4353e9a5499b483d09f13d9e28060e70f34edf787bb7040ba30bd390f85af";

fn inspect(home: &Home, server: &str, discovery: &str, words: &[&str]) -> Ran {
    let mut args = vec!["inspect", server, "--discovery", discovery, "--local-relays", "--timeout", "4s"];
    args.extend(words);
    home.run(&args)
}

/// Finds one row of the table of CEPs.
fn cep(document: &Value, number: u64) -> (String, String, String) {
    let ceps = document["ceps"].as_array().unwrap();
    let cep = ceps.iter().find(|cep| cep["cep"] == number).unwrap();
    let mark = |name: &str| cep[name].as_str().unwrap().to_owned();
    (mark("claimed"), mark("seen"), mark("verified"))
}

fn marks(claimed: &str, seen: &str, verified: &str) -> (String, String, String) {
    (claimed.to_owned(), seen.to_owned(), verified.to_owned())
}

/// The tools of the sample server as it lists them.
fn sample_tools(home: &Home, server: &str, url: &str) -> Vec<String> {
    let listed = home.run(&["ls", server, "-r", url, "--json"]).json();
    listed["tools"].as_array().unwrap().iter().map(ToString::to_string).collect()
}

/// A served sample that has announced itself, with a reviewer and a domain that vouches for it.
fn demo(home: &Home) -> ([Running; 2], String, Published) {
    let (relay, url) = Running::relay(home);
    home.run(&["key", "new", "me"]);
    let words = ["-k", "me", "--open", "--name", "Demo server"];
    let (serve, _) = Running::serve(home, &url, &words, &[CVM, "demo", "--stdio"]);
    let server = Published::named(home, "me");
    let host = domain(format!(r#"{{"names":{{"demo":"{}"}}}}"#, server.hex()));
    let tools = sample_tools(home, &server.npub(), &url);
    let tools: Vec<&str> = tools.iter().map(String::as_str).collect();
    let flags: [&[&str]; 3] =
        [&["support_encryption"], &["support_encryption_ephemeral"], &["cap", "tool:add", "5", "sats"]];
    let profile = format!(r#"{{"name":"Demo","about":"All of it","nip05":"demo@{host}"}}"#);
    let server = server
        .server("Demo server", &flags)
        .tools(&tools, &[])
        .relay_list(&[&url, DEAD])
        .sign(0, &[], &profile)
        .to(&url);
    let _reviewer = Published::new().review(&server.hex(), "Fast and correct").to(&url);
    ([relay, serve], url, server)
}

#[test]
fn a_server_that_answers_is_checked_against_what_it_announced() {
    let home = Home::new();
    let (_running, url, server) = demo(&home);
    let document = inspect(&home, &server.npub(), &url, &["--json"]).json();
    let said = |path: &str| document.pointer(path).cloned().unwrap_or(Value::Null);
    for (path, value) in [
        ("/schema", json!("cvm.inspect/1")),
        ("/server", json!(server.npub())),
        ("/name", json!("Demo server")),
        ("/profile/about", json!("All of it")),
        ("/nip05/status", json!("verified")),
        ("/announcement/id", json!(server.events[0].id.to_hex())),
        ("/announcement/version", json!("1.2.3")),
        ("/lists/0/list", json!("tools")),
        ("/lists/0/origin", json!("direct")),
        ("/relayList/relays/0/url", json!(url)),
        ("/relayList/relays/0/answered", json!(true)),
        ("/relayList/relays/1/answered", json!(false)),
        ("/live/answered", json!(true)),
        ("/live/encrypted", json!(true)),
        ("/capabilities", json!(["tools"])),
        ("/reviews/reviews", json!(1)),
        ("/reviews/latest/content", json!("Fast and correct")),
        ("/prices/0/capability", json!("tool:add")),
    ] {
        assert_eq!(said(path), value, "{path} of {document}");
    }
    for path in ["/relayList/relays/0/ms", "/relayList/relays/0/connectMs", "/live/ms"] {
        assert!(said(path).is_u64(), "{path} of {document}");
    }
    assert!(said("/relayList/relays/1/ms").is_null() && said("/relayList/relays/1/connectMs").is_null());
    for (number, expected) in [
        (4, marks("yes", "yes", "yes")),
        (6, marks("unknown", "yes", "yes")),
        (8, marks("yes", "no", "unknown")),
        (15, marks("no", "no", "unknown")),
        (17, marks("unknown", "yes", "yes")),
        (19, marks("yes", "yes", "yes")),
        (23, marks("unknown", "yes", "yes")),
        (24, marks("unknown", "yes", "yes")),
    ] {
        assert_eq!(cep(&document, number), expected, "CEP-{number} of {document}");
    }
}

#[test]
fn the_page_of_a_server_has_every_section() {
    let home = Home::new();
    let (_running, url, server) = demo(&home);
    let page = inspect(&home, &server.npub(), &url, &[]);
    assert_eq!(page.code, 0, "{page:?}");
    for words in [
        "Demo server  npub1",
        "verified",
        "announcement\n",
        "it lists the tools that it announced",
        "answered in a gift wrap of kind",
        "tool:add  5 sats  announced, not heard",
        "Fast and correct",
        "4   heard in the session",
    ] {
        assert!(page.out.contains(words), "{words} is not in {}", page.out);
    }
    for number in ["4 ", "6 ", "8 ", "15 ", "17 ", "19 ", "22 ", "23 ", "24 ", "35 ", "41 "] {
        assert!(page.out.contains(&format!("\n  {number}")), "CEP-{number} is not in {}", page.out);
    }
}

#[test]
fn a_server_that_is_silent_is_shown_by_what_is_published() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let other = Published::new();
    let host = domain(format!(r#"{{"names":{{"demo":"{}"}}}}"#, other.hex()));
    let honest = format!(
        r#"{{"name":"a","inputSchema":{{"type":"object"}},"_meta":{{"io.contextvm/common-schema":{{"schemaHash":"{HASH}"}}}}}}"#
    );
    let liar = honest.replace(r#""name":"a""#, r#""name":"b""#);
    let server = Published::new()
        .server("Silent", &[])
        .tools(&[&honest, &liar], &[&["i", HASH, "a"], &["i", HASH, "b"]])
        .sign(0, &[], &format!(r#"{{"name":"Silent","nip05":"demo@{host}"}}"#))
        .to(&url);
    for words in [&["--passive", "--json"][..], &["--json"]] {
        let ran = inspect(&home, &server.npub(), &url, words);
        let document = ran.json();
        assert_eq!(document["live"]["answered"], false, "{document}");
        assert!(document["live"]["reason"].is_string());
        assert_eq!(document["nip05"]["status"], "mismatch");
        assert_eq!(document["relayList"], Value::Null);
        let verdicts: Vec<&Value> =
            document["schemas"].as_array().unwrap().iter().map(|schema| &schema["verdict"]).collect();
        assert_eq!(verdicts, ["match", "mismatch"], "{document}");
        assert_eq!(cep(&document, 15), marks("yes", "yes", "no"));
        assert_eq!(cep(&document, 35), marks("unknown", "unknown", "unknown"));
    }
    let page = inspect(&home, &server.npub(), &url, &["--passive"]).out;
    for words in [
        "not contacted (--passive)",
        "no list was found",
        "mismatch: the domain names npub1",
        "none was found",
    ] {
        assert!(page.contains(words), "{words} is not in {page}");
    }
}

#[test]
fn passive_means_that_nothing_is_sent_to_the_server() {
    let home = Home::new();
    let (relay, url) = Running::relay(&home);
    let server = Published::new().server("Quiet", &[]).relay_list(&[&url]).to(&url);
    assert_eq!(inspect(&home, &server.npub(), &url, &["--passive"]).code, 0);
    let (code, err) = relay.end();
    assert!(code == 0 && err.contains("2 events accepted"), "{err}");
}

#[test]
fn nothing_known_and_nobody_reachable_are_told_apart() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let server = Published::new();
    let passive = inspect(&home, &server.npub(), &url, &["--passive", "--json"]);
    assert_eq!((passive.code, &passive.error()["code"]), (5, &"not_found".into()));
    let silent = inspect(&home, &server.npub(), &url, &["--json"]);
    assert_eq!((silent.code, &silent.error()["code"]), (4, &"no_reply".into()), "{silent:?}");
    let dead = inspect(&home, &server.npub(), DEAD, &["--json"]);
    assert_eq!((dead.code, &dead.error()["code"]), (4, &"relay_unreachable".into()), "{dead:?}");
    // A relay that is dead beside one that is not is named on the page.
    let known = Published::new().server("Known", &[]).to(&url);
    let partial = inspect(&home, &known.npub(), &format!("{DEAD},{url}"), &["--passive"]);
    assert!(partial.code == 0 && partial.out.contains("relays 1/2 answered"), "{partial:?}");
    assert!(partial.out.lines().any(|line| line.contains(DEAD)), "{partial:?}");
}

#[test]
fn what_a_stranger_wrote_is_harmless_on_the_page() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let evil = "\u{1b}[2J\u{202e}\u{200b}evil\r\n";
    let escaped = r#"\u001b[2J\u202e\u200bevil\r\n"#;
    let tool = format!(r#"{{"name":"{escaped}","inputSchema":{{"type":"object"}}}}"#);
    let server = Published::new()
        .server(evil, &[&["about", evil], &["cap", &format!("tool:{evil}"), evil, evil], &["pmi", evil]])
        .tools(&[&tool], &[&["t", evil], &["i", HASH, evil]])
        .relay_list(&[evil, "http://x", &url])
        .sign(0, &[], &format!(r#"{{"name":"{escaped}","about":"{escaped}","website":"{escaped}","nip05":"{escaped}","lud16":"{escaped}"}}"#))
        .to(&url);
    let mut reviewer = Published::new();
    reviewer.at = now() - 60;
    let _reviewer = reviewer.review(&server.hex(), evil).to(&url);
    let ran = inspect(&home, &server.npub(), &url, &["--passive", "-v"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let said = format!("{}{}", ran.out, ran.err);
    let harmless = |c: char| c == '\n' || !c.is_control() && !"\u{202e}\u{200b}".contains(c);
    assert!(said.chars().all(harmless), "{said:?}");
    assert!(said.contains("not asked"), "{said}");
}

#[test]
fn a_saved_server_whose_tools_changed_shows_what_changed() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let (serve, _) = Running::serve(&home, &url, &["-k", "me", "--open"], &[CVM, "demo", "--stdio"]);
    let server = Published::named(&home, "me").server("Demo", &[]).relay_list(&[&url]).to(&url);
    assert_eq!(home.run(&["server", "add", "demo", &server.npub(), "-r", &url]).code, 0);
    let same = inspect(&home, "demo", &url, &["--json"]).json();
    assert_eq!((&same["savedAs"], same["live"]["changes"].is_null()), (&"demo".into(), true), "{same}");
    assert_eq!(serve.end().0, 0);
    let (_serve, _) =
        Running::serve(&home, &url, &["-k", "me", "--open"], &["sh", "-c", crate::serving::SHELL_SERVER]);
    let changed = inspect(&home, "demo", &url, &["--json"]).json();
    assert_eq!(changed["live"]["tools"], "changed", "{changed}");
    let page = inspect(&home, "demo", &url, &[]).out;
    assert!(page.contains("cvm server trust demo") && page.contains("+ die   (new)"), "{page}");
}

#[test]
fn a_server_of_2026_alone_is_inspected_too() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let program = crate::eras::example("modern_server");
    let words = ["-k", "me", "--open", "--announce", "--bootstrap", "none"];
    let (serve, ready) = Running::serve(&home, &url, &words, &[&program]);
    serve.talk.wait_for("announced: tools");
    let document = inspect(&home, ready["server"].as_str().unwrap(), &url, &["--json", "-r", &url]).json();
    assert_eq!(document["live"]["protocolVersion"], "2026-07-28", "{document}");
    assert_eq!(cep(&document, 6), marks("unknown", "yes", "yes"), "{document}");
    assert!(document["live"]["ms"].is_u64(), "{document}");
}

/// A way to a relay that takes this long to open, and is quick then.
fn slow_door(url: &str, wait: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let door = format!("ws://{}", listener.local_addr().unwrap());
    let relay = url.trim_start_matches("ws://").to_owned();
    spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let relay = relay.clone();
            spawn(move || {
                sleep(wait);
                let far = TcpStream::connect(relay).unwrap();
                let (mut near_in, mut far_out) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let (mut far_in, mut near_out) = (far, near);
                spawn(move || copy(&mut near_in, &mut far_out));
                let _gone = copy(&mut far_in, &mut near_out);
            });
        }
    });
    door
}

#[test]
fn the_round_trip_to_a_relay_is_measured_after_connecting() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let door = slow_door(&url, Duration::from_millis(500));
    let server = Published::new().server("Far", &[]).relay_list(&[&door, &door, DEAD, &url]).to(&url);
    let document = inspect(&home, &server.npub(), &url, &["--passive", "--json"]).json();
    let relays = &document["relayList"]["relays"];
    for relay in [&relays[0], &relays[1]] {
        let times = [&relay["ms"], &relay["connectMs"]].map(|ms| ms.as_u64().unwrap());
        assert!(times[1] >= 500 && times[0] < times[1], "{document}");
    }
    assert_eq!(
        (&relays[2]["answered"], &relays[2]["connectMs"]),
        (&json!(false), &Value::Null),
        "{document}"
    );
    assert!(relays[3]["connectMs"].as_u64().unwrap() < 500, "{document}");
    let page = inspect(&home, &server.npub(), &url, &["--passive"]).out;
    let line = page.lines().find(|line| line.contains(&door)).unwrap();
    let (took, connected) = line.split_once("ok ").unwrap().1.split_once(" ms, connected in ").unwrap();
    assert!(took.parse::<u64>().is_ok() && connected.ends_with(" ms"), "{line}");
    // Without leave to go there it is neither asked nor measured.
    let strict = home.run(&["inspect", &server.npub(), "--discovery", &url, "--passive", "--json"]).json();
    let relay = &strict["relayList"]["relays"][0];
    assert_eq!(
        (&relay["asked"], &relay["ms"], &relay["connectMs"]),
        (&json!(false), &Value::Null, &Value::Null)
    );
}

/// A stdio server in shell with a list of tools that does not fit one event.
const VERBOSE: &str = r#"
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\("[^"]*"\).*/\1/p')
  case "$line" in
    *'"method":"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}\n' "$id" ;;
    *'"method":"tools/list"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"t","inputSchema":{"type":"object"},"description":"' "$id"; cat description; echo '"}]}}' ;;
    *'"method":"ping"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id" ;;
  esac
done
"#;

#[test]
fn a_list_that_came_as_a_transfer_verifies_transfers() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    std::fs::write(home.path().join("description"), "x".repeat(300_000)).unwrap();
    let (_serve, ready) = Running::serve(&home, &url, &["--ephemeral", "--open"], &["sh", "-c", VERBOSE]);
    let document = inspect(&home, ready["server"].as_str().unwrap(), &url, &["--json", "-r", &url]).json();
    assert_eq!(cep(&document, 22), marks("yes", "yes", "yes"), "{document}");
}
