//! `cvm serve --announce` and `cvm announce`: what is public, where, and only when it was asked for.
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use contextvm::announce::Signed;
use contextvm::relay::query;
use nostr::types::RelayUrl;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::fleet::write_private;
use crate::stage::{CVM, Home, Host, Running, signal, until};

const DEMO: [&str; 3] = [CVM, "demo", "--stdio"];

/// A relay that keeps everything, also what is ephemeral.
fn recording_relay(home: &Home) -> (Running, String) {
    let running = Running::start(home.command(&["relay", "run", "--port", "0", "--lenient-ephemeral"]));
    let url = running.first.trim().to_owned();
    (running, url)
}

/// Everything that a relay has.
fn stored(url: &str) -> Vec<Value> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let urls = [RelayUrl::parse(url).unwrap()];
    let asked = query(&urls, r#"{"limit":1000}"#, Duration::from_secs(5));
    let report = runtime.block_on(asked).unwrap();
    assert!(report.is_complete());
    report.events().map(|(_, json)| serde_json::from_str(json).unwrap()).collect()
}

fn kinds(url: &str) -> BTreeSet<u64> {
    stored(url).iter().filter_map(|event| event["kind"].as_u64()).collect()
}

/// The one event of a kind.
fn only(url: &str, kind: u64) -> Value {
    let mut events: Vec<Value> = stored(url).into_iter().filter(|event| event["kind"] == kind).collect();
    assert_eq!(events.len(), 1, "kind {kind}: {events:?}");
    events.remove(0)
}

fn serve(home: &Home, url: &str, flags: &[&str]) -> (Running, Value) {
    let mut args = vec!["-k", "me", "--open"];
    args.extend(flags);
    Running::serve(home, url, &args, &DEMO)
}

#[test]
fn without_announce_nothing_public_leaves_the_machine() {
    let home = Home::new();
    let (_relay, url) = recording_relay(&home);
    let (_elsewhere, elsewhere) = recording_relay(&home);
    home.run(&["key", "new", "me"]);
    let (running, ready) =
        serve(&home, &url, &["--name", "Files", "--about", "b", "--bootstrap", &elsewhere]);
    let server = ready["server"].as_str().unwrap();
    assert_eq!(home.run(&["call", server, "echo", "message=hi", "-r", &url]).out, "hi\n");
    std::thread::sleep(Duration::from_secs(1));
    let (code, said) = running.end();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("public    no (add --announce to be found)"), "{said}");
    let seen = kinds(&url);
    assert!(!seen.is_empty() && seen.is_subset(&[1_059, 21_059, 25_910].into()), "{seen:?}");
    assert_eq!(stored(&elsewhere), Vec::<Value>::new());
}

#[test]
fn what_is_public_only_needs_announce() {
    let home = Home::new();
    for flag in [&["--nip05", "a@b.example"][..], &["--lud16", "a@b.example"], &["--category", "files"]] {
        let mut args = vec!["serve", "--json", "--ephemeral", "--open", "-r", "ws://127.0.0.1:9"];
        args.extend(flag);
        args.extend(["--", "true"]);
        let ran = home.run(&args);
        assert_eq!((ran.code, ran.error()["hint"].as_str()), (2, Some("add --announce")), "{ran:?}");
    }
    let args = ["serve", "--json", "--ephemeral", "--open", "-r", "ws://127.0.0.1:9", "--unannounce-on-exit"];
    assert_eq!(home.run(&args).code, 2);
}

#[test]
fn an_announced_server_is_public_on_its_relays_and_taken_back_at_the_end() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (_elsewhere, elsewhere) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let flags = [
        "--announce",
        "--name",
        "Files",
        "--about",
        "Read-only files",
        "--website",
        "https://files.example",
        "--nip05",
        "files@files.example",
        "--common-schema",
        "echo",
        "--category",
        "files",
        "--bootstrap",
        &elsewhere,
        "--unannounce-on-exit",
    ];
    let (running, ready) = serve(&home, &url, &flags);
    assert_eq!(ready["announced"], json!([url, elsewhere]));
    running.talk.wait_for("announced: tools on 2 of 2 relays");
    running.talk.wait_for("announced: profile on 2 of 2 relays");
    let said = running.talk.so_far();
    assert!(
        said.contains("public    yes: server and lists, relay list, profile go to ws://127.0.0.1"),
        "{said}"
    );
    for relay in [&url, &elsewhere] {
        let announced = only(relay, 11_316);
        let tags = announced["tags"].to_string();
        for tag in [
            r#"["name","Files"]"#,
            r#"["about","Read-only files"]"#,
            r#"["website","https://files.example"]"#,
        ] {
            assert!(tags.contains(tag), "{tags}");
        }
        let tools = only(relay, 11_317);
        let tags = tools["tags"].to_string();
        assert!(tags.contains(r#""echo"],["k","io.contextvm/common-schema"],["t","files"]"#), "{tags}");
        assert!(only(relay, 0)["content"].as_str().unwrap().contains("files@files.example"));
        assert_eq!(only(relay, 10_002)["tags"], json!([["r", url]]));
    }
    let server = ready["server"].as_str().unwrap();
    let shown = home.run(&["announce", "show", server, "--discovery", &elsewhere, "--json"]).json();
    assert_eq!(shown["schema"], "cvm.announce.show/1");
    let kinds: Vec<u64> =
        shown["events"].as_array().unwrap().iter().filter_map(|event| event["kind"].as_u64()).collect();
    assert_eq!(kinds, [11_316, 11_317, 10_002, 0]);
    let by_key = home.run(&["announce", "show", "-k", "me", "-r", &url]);
    assert!(by_key.out.contains("server announcement") && by_key.out.contains(server), "{by_key:?}");

    let (code, said) = running.end();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("deleted: server announcement on 2 of 2 relays"), "{said}");
    for relay in [&url, &elsewhere] {
        let left: BTreeSet<u64> = self::kinds(relay).into_iter().filter(|kind| *kind != 1_059).collect();
        assert_eq!(left, [5].into(), "everything is gone");
    }
}

#[test]
fn a_dry_run_prints_what_would_be_published_and_connects_to_no_relay() {
    let home = Home::new();
    home.run(&["key", "new", "me"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let mut args =
        vec!["serve", "--json", "-k", "me", "-r", &url, "--announce", "--dry-run", "--name", "Files"];
    args.push("--");
    args.extend(DEMO);
    let ran = home.run(&args);
    assert_eq!(ran.code, 0, "{ran:?}");
    let document = ran.json();
    assert_eq!(document["schema"], "cvm.events/1");
    let documents = document["events"].as_array().unwrap();
    let mut kinds: Vec<u64> = documents.iter().filter_map(|document| document["kind"].as_u64()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [0, 10_002, 11_316, 11_317]);
    let me = home.run(&["key", "show", "me", "--json"]).json();
    for document in documents {
        assert_eq!(document["relays"], json!([url]));
        let signed = Signed::read(&document["event"].to_string()).unwrap();
        assert_eq!(signed.event().pubkey.to_hex(), me["hex"].as_str().unwrap());
    }
    assert!(listener.accept().is_err(), "nobody has connected");

    let publish =
        ["announce", "publish", "--json", "-k", "me", "-r", &url, "--dry-run", "--category", "files", "--"];
    let again = home.run(&[&publish[..], &DEMO].concat());
    assert_eq!(
        (again.code, again.json()["events"].as_array().map(Vec::len)),
        (0, Some(3)),
        "without a name there is no profile: {again:?}"
    );
    assert!(again.out.contains(r#""kind":11317,"tags":[["t","files"]]"#), "{again:?}");
    assert!(listener.accept().is_err(), "nobody has connected");
    let private = home.run(&["serve", "-k", "me", "-r", &url, "--dry-run", "--", CVM, "demo", "--stdio"]);
    assert_eq!((private.code, private.out.as_str()), (0, ""), "{private:?}");
    assert!(private.err.contains("nothing would be published"), "{private:?}");
}

#[test]
fn announcements_are_published_and_deleted_without_serving() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let publish = |about: &str| {
        let flags = ["announce", "publish", "--json", "-k", "me", "-r", &url, "--about", about, "--"];
        home.run(&[&flags[..], &DEMO].concat())
    };
    let published = publish("one");
    assert_eq!(published.code, 0, "{published:?}");
    let document = published.json();
    assert_eq!(document["schema"], "cvm.announce.publish/1");
    assert_eq!(document["events"][0]["relays"], json!([{ "relay": url, "accepted": true }]));
    let first = only(&url, 11_316);
    assert_eq!(publish("two").code, 0);
    let second = only(&url, 11_316);
    assert!(second["created_at"].as_u64() > first["created_at"].as_u64(), "the later one counts");
    assert!(second["tags"].to_string().contains("two"));

    let delete = |flags: &[&str]| {
        home.run(&[&["announce", "delete", "--json", "-k", "me", "-r", &url][..], flags].concat())
    };
    let unasked = delete(&[]);
    assert_eq!(
        (unasked.code, unasked.error()["code"].as_str()),
        (2, Some("missing_argument")),
        "{unasked:?}"
    );
    let dry = delete(&["--dry-run"]);
    assert_eq!((dry.code, dry.json()["events"].as_array().map(Vec::len)), (0, Some(2)), "{dry:?}");
    let request = dry.json()["events"][0].clone();
    let tags = request["event"]["tags"].to_string();
    assert!(tags.contains(r#"["k","11316"]"#) && tags.contains(second["id"].as_str().unwrap()), "{tags}");
    assert!(stored(&url).iter().all(|event| event["kind"] != 5));

    let deleted = delete(&["--yes", "--reason", "moved"]);
    assert_eq!(
        (deleted.code, &deleted.json()["schema"]),
        (0, &"cvm.announce.delete/1".into()),
        "{deleted:?}"
    );
    for request in stored(&url).iter().filter(|event| event["kind"] == 5) {
        let signature = request["sig"].as_str().unwrap();
        assert!(deleted.err.contains(signature), "what is sent was shown: {request} {deleted:?}");
    }
    let left = kinds(&url);
    assert!(left.contains(&10_002) && left.contains(&0) && !left.contains(&11_316), "{left:?}");
    let deleted = delete(&["--yes", "--also", "relay-list,profile"]);
    assert_eq!((deleted.code, kinds(&url)), (0, [5].into()), "{deleted:?}");
    assert_eq!(delete(&["--yes"]).json()["deleted"], json!([]), "nothing is left");
}

#[test]
fn copies_are_deleted_wherever_they_are_found() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (_elsewhere, elsewhere) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let flags = ["announce", "publish", "-k", "me", "-r", &url, "--bootstrap", &elsewhere, "--"];
    assert_eq!(home.run(&[&flags[..], &DEMO].concat()).code, 0);
    assert_eq!(kinds(&url), kinds(&elsewhere));
    // No relay of the server is named: its relay list tells, and where it was found is known.
    let deleted = home.run(&[
        "announce",
        "delete",
        "-k",
        "me",
        "--yes",
        "--discovery",
        &elsewhere,
        "--bootstrap",
        "none",
    ]);
    assert_eq!(deleted.code, 0, "{deleted:?}");
    for relay in [&url, &elsewhere] {
        assert_eq!(kinds(relay), [5, 10_002].into(), "{deleted:?}");
    }
    let found = home.run(&["discover", "--discovery", &elsewhere, "--json"]).json();
    assert_eq!(found["servers"], json!([]), "{found}");
}

#[test]
fn no_relay_at_all_is_not_a_success() {
    let home = Home::new();
    home.run(&["key", "new", "me"]);
    let dead = "ws://127.0.0.1:9";
    let flags = ["announce", "publish", "--json", "-k", "me", "-r", dead, "--timeout", "500ms", "--"];
    let published = home.run(&[&flags[..], &DEMO].concat());
    assert_eq!((published.code, published.error()["code"].as_str()), (4, Some("no_relay_accepted")));
    for args in [
        &["announce", "show", "-k", "me", "-r", dead][..],
        &["announce", "delete", "-k", "me", "-r", dead, "--yes"],
    ] {
        let ran = home.run(&[args, &["--json", "--timeout", "500ms"]].concat());
        assert_eq!((ran.code, ran.error()["code"].as_str()), (4, Some("relay_unreachable")), "{ran:?}");
    }
}

#[test]
fn every_server_of_a_file_announces_itself_under_its_own_key() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let file = home.path().join("mcp.json");
    let entry = json!({ "command": CVM, "args": ["demo", "--stdio"] });
    write_private(&file, &json!({ "mcpServers": { "one": entry, "two": entry } }).to_string());
    let from = file.to_str().unwrap();
    let dry =
        home.run(&["serve", "--json", "-k", "me", "-r", &url, "--announce", "--dry-run", "--from", from]);
    assert_eq!(dry.code, 0, "{dry:?}");
    let document = dry.json();
    let events = document["events"].as_array().unwrap();
    let units: BTreeSet<&str> = events.iter().filter_map(|document| document["unit"].as_str()).collect();
    assert_eq!(units, ["one", "two"].into());
    assert_eq!(stored(&url), Vec::<Value>::new());

    let command =
        home.command(&["serve", "--json", "-k", "me", "--open", "-r", &url, "--announce", "--from", from]);
    let running = Running::start(command);
    let authors = || {
        let announced = stored(&url).into_iter().filter(|event| event["kind"] == 11_316);
        announced.map(|event| event["pubkey"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    until("both announcements", || (authors().len() == 2).then_some(()));
    let me = home.run(&["key", "show", "me", "--json"]).json();
    assert!(!authors().contains(me["hex"].as_str().unwrap()), "nobody announces the master key");
    running.talk.wait_for("one: announced: tools on 1 of 1 relay");
}

#[test]
fn a_server_of_a_file_that_stays_down_is_taken_back() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let (file, die) = (home.path().join("mcp.json"), home.path().join("die"));
    let script = format!(
        "exec 3<&0; {CVM} demo --stdio <&3 & while [ ! -e {} ]; do sleep 0.1; done; kill $!; exit 1",
        die.to_string_lossy()
    );
    let entry = json!({ "command": "/bin/sh", "args": ["-c", script] });
    write_private(&file, &json!({ "mcpServers": { "one": entry } }).to_string());
    let from = file.to_str().unwrap();
    let access = ["serve", "--json", "-k", "me", "--open", "-r", &url, "--from", from, "--restart", "never"];
    let running =
        Running::start(home.command(&[&access[..], &["--announce", "--unannounce-on-exit"]].concat()));
    running.talk.wait_for("one: announced: server announcement on 1 of 1 relay");
    running.talk.wait_for("one: announced: tools on 1 of 1 relay");
    std::fs::write(die, "").unwrap();
    running.talk.wait_for("one: deleted: server announcement on 1 of 1 relay");
    assert_eq!(kinds(&url).into_iter().filter(|kind| *kind > 9_999).collect::<Vec<_>>(), [0; 0]);
    assert_eq!(running.end().0, 0);
}

/// A server that greets and then says nothing is not waited for without end, and that is said once.
#[test]
fn a_list_that_does_not_come_is_said_once() {
    let home = Home::new();
    home.run(&["key", "new", "me"]);
    let greeting = r#"{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}"#;
    let refusal = r#"{"jsonrpc":"2.0","id":%s,"error":{"code":-32603,"message":"no"}}"#;
    let script = format!(
        r#"while read -r line; do id=$(printf '%s' "$line" | sed -n 's/.*"id":\("[^"]*"\).*/\1/p')
        case "$line" in *'"method":"initialize"'*) printf '{greeting}\n' "$id" ;; *tools/list*) printf '{refusal}\n' "$id" ;; esac; done"#
    );
    let args =
        ["announce", "publish", "-k", "me", "-r", "ws://127.0.0.1:9", "--dry-run", "--", "sh", "-c", &script];
    let ran = home.run(&args);
    assert_eq!((ran.code, ran.err.matches("announced").count()), (0, 1), "{ran:?}");
}

/// Who stops it must not read from the exit code that everything was published.
#[test]
fn a_publication_that_is_stopped_is_no_success() {
    let home = Home::new();
    home.run(&["key", "new", "me"]);
    let relay = ["-k", "me", "-r", "ws://127.0.0.1:9"];
    for command in [&["announce", "publish"][..], &["serve", "--announce", "--dry-run"]] {
        let script = ["--", "sh", "-c", "echo begun >&2; sleep 60"];
        let host = Host::start(home.command(&[command, &relay, &script].concat()));
        host.talk.wait_for("begun");
        signal(host.child.id(), Signal::INT);
        let ended = host.ended(Instant::now());
        assert_eq!((ended.code, ended.rest.len()), (Some(130), 0), "{ended:?}");
    }
}
