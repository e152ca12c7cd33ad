//! `cvm discover`: found, filtered, told honestly.
use serde_json::Value;

use crate::published::{Published, now, tool};
use crate::stage::{CVM, Home, Ran, Running};

/// Nobody listens there.
const DEAD: &str = "ws://127.0.0.1:9";

/// Three servers on one relay.
fn three(url: &str) -> [Published; 3] {
    let weather = Published::new()
        .server("Demo weather", &[&["about", "Forecasts for towns"], &["support_encryption"]])
        .tools(&[&tool("get_current"), &tool("get_forecast")], &[&["t", "weather"]])
        .relay_list(&[url])
        .to(url);
    let mut shop = Published::new();
    shop.at = now() - 90_000;
    let shop = shop
        .server("Shop", &[])
        .tools(&[&tool("render")], &[&["cap", "tool:render", "5-25", "sats"], &["t", "pictures"]])
        .to(url);
    let mut old = Published::new();
    old.at = now() - 30 * 86_400;
    let old = old.server("Attic", &[&["support_encryption"]]).to(url);
    let _reviewer = Published::new().review(&shop.hex(), "Fast and correct").to(url);
    [weather, shop, old]
}

fn discover(home: &Home, url: &str, words: &[&str]) -> Ran {
    let mut args = vec!["discover", "--discovery", url];
    args.extend(words);
    home.run(&args)
}

fn names(ran: &Ran) -> Vec<String> {
    let servers = ran.json()["servers"].as_array().unwrap().clone();
    servers.iter().map(|server| server["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn servers_are_found_and_filtered() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let [weather, shop, old] = three(&url);
    let all = discover(&home, &url, &[]);
    assert_eq!(all.code, 0, "{all:?}");
    let lines: Vec<&str> = all.out.lines().collect();
    assert!(lines[0].starts_with("NAME          SERVER"), "{}", all.out);
    for (line, server, cells) in [
        (lines[1], &weather, &["Demo weather", "2", "free", "yes", "2 h"][..]),
        (lines[2], &shop, &["Shop", "1", "5-25 sats", "no", "1", "1 d"]),
        (lines[3], &old, &["Attic", "-", "free", "yes", "30 d"]),
    ] {
        assert!(line.contains(&server.npub()) && cells.iter().all(|cell| line.contains(cell)), "{line}");
    }
    assert!(
        all.err.contains("3 of 3 servers match") && all.err.contains("relays 1/1 answered in "),
        "{}",
        all.err
    );
    assert!(all.err.contains(&format!("next: cvm inspect {}", weather.npub())), "{}", all.err);
    let author = shop.npub();
    for (words, expected) in [
        (&["forecasts", "TOWNS"][..], &["Demo weather"][..]),
        (&["forecasts pictures"], &[]),
        (&["--tool", "get_*"], &["Demo weather"]),
        (&["--tool", "get"], &[]),
        (&["--category", "pictures"], &["Shop"]),
        (&["--free"], &["Demo weather", "Attic"]),
        (&["--max-price", "25sats"], &["Demo weather", "Shop", "Attic"]),
        (&["--max-price", "24sats"], &["Demo weather", "Attic"]),
        (&["--max-price", "24usd"], &["Demo weather", "Attic"]),
        (&["--encrypted"], &["Demo weather", "Attic"]),
        (&["--author", &author], &["Shop"]),
        (&["--since", "7d"], &["Demo weather", "Shop"]),
        (&["--limit", "1"], &["Demo weather"]),
        (&["--sort", "name"], &["Attic", "Demo weather", "Shop"]),
        (&["--sort", "price", "--limit", "2"], &["Demo weather", "Attic"]),
        (&["--sort", "reviews"], &["Shop", "Demo weather", "Attic"]),
        (&["--sort", "rating"], &["Shop", "Demo weather", "Attic"]),
    ] {
        let mut words = words.to_vec();
        words.push("--json");
        assert_eq!(names(&discover(&home, &url, &words)), expected, "{words:?}");
    }
    for wrong in
        [&["--max-price", "cheap"][..], &["--schema", "xyz"], &["--sort", "latency"], &["--since", "soon"]]
    {
        assert_eq!(discover(&home, &url, wrong).code, 2, "{wrong:?}");
    }
}

#[test]
fn the_document_of_a_search_is_stable() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let [weather, ..] = three(&url);
    let document = discover(&home, &url, &["weather", "--json"]).json();
    let said = |path: &str| document.pointer(path).cloned().unwrap_or(Value::Null);
    for (path, value) in [
        ("/schema", Value::from("cvm.discover/1")),
        ("/matched", 1.into()),
        ("/known", 3.into()),
        ("/complete", true.into()),
        ("/servers/0/server", weather.npub().into()),
        ("/servers/0/pubkey", weather.hex().into()),
        ("/servers/0/about", "Forecasts for towns".into()),
        ("/servers/0/tools", serde_json::json!(["get_current", "get_forecast"])),
        ("/servers/0/price", "free".into()),
        ("/servers/0/encryption", true.into()),
        ("/servers/0/reviews", 0.into()),
        ("/servers/0/relays", serde_json::json!([url])),
        ("/servers/0/online", Value::Null),
        ("/relays/0/url", url.clone().into()),
        ("/relays/0/answered", true.into()),
        ("/relays/0/complete", true.into()),
    ] {
        assert_eq!(said(path), value, "{path} of {document}");
    }
}

#[test]
fn a_relay_that_is_dead_is_named_and_the_others_count() {
    let home = Home::new();
    let (_one, first) = Running::relay(&home);
    let (_two, second) = Running::relay(&home);
    let _published = Published::new().server("Here", &[]).to(&first);
    let _published = Published::new().server("There", &[]).to(&second);
    let ran = discover(&home, &format!("{first},{DEAD},{second}"), &["--timeout", "3s"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("Here") && ran.out.contains("There"), "{}", ran.out);
    assert!(ran.err.contains("relays 2/3 answered"), "{}", ran.err);
    let why = ran.err.lines().find(|line| line.contains(DEAD)).unwrap_or_default();
    assert!(why.contains("ms") && why.len() > DEAD.len() + 20, "{}", ran.err);
    assert!(ran.err.contains("there may be more servers"), "{}", ran.err);
    let document = discover(&home, &format!("{first},{DEAD}"), &["--timeout", "3s", "--json"]).json();
    assert_eq!(document["complete"], false);
    assert!(document["relays"][1]["reason"].is_string(), "{document}");
}

#[test]
fn all_relays_dead_is_never_none_found() {
    let home = Home::new();
    for json in [false, true] {
        let mut words = vec!["--timeout", "2s"];
        words.extend(json.then_some("--json"));
        let ran = discover(&home, &format!("{DEAD},ws://127.0.0.1:11"), &words);
        assert_eq!((ran.code, ran.out.as_str()), (4, ""), "{ran:?}");
        assert!(ran.err.contains(DEAD) && ran.err.contains("ws://127.0.0.1:11"), "{}", ran.err);
        if json {
            assert_eq!(ran.error()["code"], "relay_unreachable");
        } else {
            assert!(ran.err.starts_with("error: none of 2 relays answered"), "{}", ran.err);
        }
    }
    let nowhere = discover(&home, "none", &["--json"]);
    assert_eq!((nowhere.code, &nowhere.error()["code"]), (4, &"relay_unreachable".into()));
}

#[test]
fn nothing_found_is_an_empty_table_and_a_hint() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let ran = discover(&home, &url, &[]);
    assert_eq!((ran.code, ran.out.lines().count()), (0, 1), "{ran:?}");
    assert!(ran.out.starts_with("NAME") && ran.err.contains("try: "), "{ran:?}");
    assert_eq!(discover(&home, &url, &["--json"]).json()["servers"], serde_json::json!([]));
    let _published = Published::new().server("Here", &[]).to(&url);
    let ran = discover(&home, &url, &["elsewhere"]);
    assert!(ran.err.contains("0 of 1 server match") && ran.err.contains("without filters"), "{ran:?}");
}

#[test]
fn names_of_strangers_are_harmless_and_lookalikes_are_flagged() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let evil = "Evil\u{1b}[2J\u{1b}]0;x\u{7}\u{202e}\u{200b}\nNAME  npub1aaa".to_owned() + &"x".repeat(500);
    let hostile = Published::new().server(&evil, &[&["about", "\u{1b}[31m"]]).to(&url);
    let real = Published::new().server("Weather", &[]).to(&url);
    let fake = Published::new().server("Wеathеr", &[]).to(&url);
    assert_eq!(home.run(&["server", "add", "--no-connect", "weather", &real.npub()]).code, 0);
    let ran = discover(&home, &url, &["--color", "always", "-v"]);
    let said = format!("{}{}", ran.out, ran.err);
    let harmless = |c: char| c == '\n' || !c.is_control() && !"\u{202e}\u{200b}".contains(c);
    assert!(said.chars().all(harmless), "{said:?}");
    assert_eq!(ran.out.lines().count(), 4, "{}", ran.out);
    let line = ran.out.lines().find(|line| line.contains(&hostile.npub())).unwrap();
    assert!(line.chars().count() < 220, "{line}");
    let line = ran.out.lines().find(|line| line.contains(&fake.npub())).unwrap();
    assert!(line.contains("(!)"), "{line}");
    let line = ran.out.lines().find(|line| line.contains(&real.npub())).unwrap();
    assert!(!line.contains("(!)"), "{line}");
    let flag = ran.err.lines().find(|line| line.starts_with("(!)")).unwrap();
    assert!(flag.contains("your saved server") && flag.contains(&real.npub()), "{flag}");
    let document = discover(&home, &url, &["--json"]).json();
    let servers = document["servers"].as_array().unwrap();
    let fake = servers.iter().find(|server| server["server"] == fake.npub().as_str()).unwrap();
    assert_eq!(fake["looksLike"]["server"], real.npub().as_str());
}

#[test]
fn online_means_that_it_answered_now() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let (_serve, _) = Running::serve(&home, &url, &["-k", "me", "--open"], &[CVM, "demo", "--stdio"]);
    let here = Published::named(&home, "me").server("Here", &[]).relay_list(&[&url]).to(&url);
    let _gone = Published::new().server("Gone", &[]).to(&url);
    let words = ["--online", "--local-relays", "--timeout", "4s", "--sort", "latency", "--json"];
    let ran = discover(&home, &url, &words);
    assert_eq!(names(&ran), ["Here"], "{ran:?}");
    let server = &ran.json()["servers"][0];
    assert_eq!(server["server"], here.npub().as_str());
    assert!(server["online"] == true && server["ms"].as_u64().unwrap() < 4_000, "{server}");
    let table = discover(&home, &url, &["--online", "--local-relays", "--timeout", "4s"]);
    assert!(table.out.contains(" ms") && table.err.contains("1 of 2 servers matches"), "{table:?}");
}

#[test]
fn a_server_that_announces_itself_is_found_inspected_and_called_by_name_only() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let words = ["-k", "me", "--open", "--announce", "--bootstrap", "none", "--name", "Demo weather"];
    let (serve, ready) = Running::serve(&home, &url, &words, &[CVM, "demo", "--stdio"]);
    let server = ready["server"].as_str().unwrap();
    serve.talk.wait_for("announced: tools");
    let run = |words: &[&str]| {
        let mut command = home.command(words);
        command.env("CVM_DISCOVERY", &url).env("CVM_LOCAL_RELAYS", "1");
        Ran::of(command.output().unwrap())
    };
    let found = run(&["find", "demo", "weather", "--json"]);
    assert_eq!(found.json()["servers"][0]["server"], server, "{found:?}");
    assert_eq!(found.json()["servers"][0]["tools"], serde_json::json!(["add", "echo", "tell", "weather"]));
    let page = run(&["inspect", server]);
    assert!(page.out.contains("it lists the tools that it announced"), "{page:?}");
    assert_eq!(run(&["call", server, "add", "a=1", "b=2"]).out, "3\n");
}

#[test]
fn what_was_seen_is_remembered_and_nobody_goes_back_behind_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    let (_fresh, fresh) = Running::relay(&home);
    let (_stale, stale) = Running::relay(&home);
    let old = Published::new().server("Yesterday", &[]).to(&stale);
    let mut new = Published { keys: old.keys.clone(), events: Vec::new(), at: old.at };
    new.at += 60;
    let _new = new.server("Today", &[]).to(&fresh);
    assert_eq!(names(&discover(&home, &stale, &["--json"])), ["Yesterday"]);
    assert_eq!(names(&discover(&home, &fresh, &["--json"])), ["Today"]);
    let back = discover(&home, &stale, &["--json"]);
    assert_eq!(names(&back), Vec::<String>::new(), "{back:?}");
    assert_eq!(back.json()["relays"][0]["refused"], 1, "{back:?}");
    assert!(discover(&home, &stale, &["-v"]).err.contains("older than what was seen before"));
    let file = home.path().join(".local/state/cvm/newest");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let mut homeless = home.command(&["discover", "--discovery", &stale, "-v"]);
    let ran = Ran::of(homeless.env_remove("HOME").output().unwrap());
    assert!(ran.code == 0 && ran.out.contains("Yesterday") && ran.err.contains("no HOME"), "{ran:?}");
}

#[test]
fn a_claimed_schema_is_recomputed() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    // The hash of a tool `a` that takes an object.
    let hash = "60d4353e9a5499b483d09f13d9e28060e70f34edf787bb7040ba30bd390f85af";
    let tags: [&[&str]; 2] = [&["i", hash, "a"], &["k", "io.contextvm/common-schema"]];
    let honest = r#"{"name":"a","inputSchema":{"type":"object"},"description":"Honest"}"#;
    let _honest = Published::new().server("Honest", &[]).tools(&[honest], &tags).to(&url);
    let liar = r#"{"name":"a","inputSchema":{"type":"object","required":["secret"]}}"#;
    let liar = Published::new().server("Liar", &[]).tools(&[liar], &tags).to(&url);
    for schema in [hash, &hash[..8], &format!("schema:{hash}")] {
        let ran = discover(&home, &url, &["--schema", schema, "--json"]);
        assert_eq!(names(&ran), ["Honest"], "{ran:?}");
        assert!(ran.err.contains(&liar.npub()), "{ran:?}");
    }
}

/// Three servers and three people: one follows a server and a friend, who has reviewed another server.
fn people(url: &str) -> ([Published; 3], [Published; 3]) {
    let [weather, shop, old] = three(url);
    let friend = Published::new().review(&weather.hex(), "Never again").to(url);
    let person = Published::new().follows(&[&old.hex(), &friend.hex()]).to(url);
    let loner = Published::new().review(&shop.hex(), "Mine").review(&shop.hex(), "Mine again").to(url);
    // The word of a server about itself is nobody's.
    let _vain = Published { keys: old.keys.clone(), events: Vec::new(), at: now() }
        .review(&old.hex(), "Best")
        .to(url);
    ([weather, shop, old], [person, friend, loner])
}

#[test]
fn servers_are_trusted_by_follows_and_by_the_reviews_of_those_who_are_followed() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let ([weather, _shop, old], [person, friend, loner]) = people(&url);
    home.run(&["server", "add", "--no-connect", "alice", &person.npub()]);
    let profile =
        nostr::nips::nip19::Nip19Profile::new(person.keys.public_key(), Vec::<nostr::types::RelayUrl>::new());
    let profile = nostr::nips::nip19::ToBech32::to_bech32(&profile).unwrap();
    for name in [&person.npub(), &person.hex(), &profile, "alice"] {
        let ran = discover(&home, &url, &["--trusted-by", name, "--json"]);
        assert_eq!(names(&ran), ["Demo weather", "Attic"], "{name}: {ran:?}");
        assert!(ran.err.contains("follows 2 keys"), "{ran:?}");
        let document = ran.json();
        let trust: Vec<&Value> = [0, 1].map(|at| &document["servers"][at]["trust"]).into();
        let expected = [(false, 1), (true, 0)]
            .map(|(follows, reviews)| serde_json::json!({ "follows": follows, "reviews": reviews }));
        assert_eq!(trust, expected.iter().collect::<Vec<_>>(), "{document}");
        assert_eq!(document["trustedBy"][0]["key"], person.npub().as_str());
        assert_eq!(document["trustedBy"][0]["follows"], 2);
    }
    // Others have more to say about the first one, and the table tells whose words count.
    let _crowd = Published::new().review(&weather.hex(), "a").review(&weather.hex(), "b").to(&url);
    let ran = discover(
        &home,
        &url,
        &["--trusted-by", &person.npub(), "--trusted-by", &loner.npub(), "--sort", "rating"],
    );
    let lines: Vec<&str> = ran.out.lines().collect();
    for (line, cells) in [
        (lines[1], ["Shop", "3 (2 trusted)"]),
        (lines[2], ["Demo weather", "3 (1 trusted)"]),
        (lines[3], ["Attic", "  1  "]),
    ] {
        assert!(cells.iter().all(|cell| line.contains(cell)), "{}", ran.out);
    }
    let plain = discover(&home, &url, &["--json"]).json();
    assert!(plain["trustedBy"].is_null() && plain["servers"][0]["trust"].is_null(), "{plain}");
    // A newer list takes the place of the first; the key itself is trusted by itself.
    let mut later = Published { keys: person.keys.clone(), events: Vec::new(), at: now() };
    later = later.follows(&[&weather.hex()]).to(&url);
    assert_eq!(names(&discover(&home, &url, &["--trusted-by", &later.npub(), "--json"])), ["Demo weather"]);
    assert_eq!(names(&discover(&home, &url, &["--trusted-by", &old.npub(), "--json"])), ["Attic"]);
    assert_eq!(names(&discover(&home, &url, &["--trusted-by", &friend.npub(), "--json"])), ["Demo weather"]);
}

#[test]
fn who_follows_nobody_is_said_to_and_has_his_own_reviews() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (_servers, [_person, _friend, loner]) = people(&url);
    let ran = discover(&home, &url, &["--trusted-by", &loner.npub(), "--json"]);
    assert_eq!((ran.code, names(&ran)), (0, vec!["Shop".to_owned()]), "{ran:?}");
    let said = "no follow list (kind 3) of npub1";
    assert!(ran.err.contains(said) && ran.err.contains("it is taken to follow nobody"), "{ran:?}");
    assert_eq!(ran.json()["trustedBy"][0]["follows"], Value::Null);
    let nobody = discover(&home, &url, &["--trusted-by", crate::stage::NOBODY]);
    assert!(nobody.code == 0 && nobody.out.lines().count() == 1 && nobody.err.contains(said), "{nobody:?}");
    // A relay that was silent may have the list.
    let partial =
        discover(&home, &format!("{url},{DEAD}"), &["--trusted-by", &loner.npub(), "--timeout", "3s"]);
    assert!(partial.code == 0 && partial.err.contains("relays 1/2 answered: it is taken"), "{partial:?}");
    let silent = discover(&home, DEAD, &["--trusted-by", &loner.npub(), "--timeout", "2s"]);
    assert_eq!(silent.code, 4, "{silent:?}");
    assert_eq!(discover(&home, &url, &["--trusted-by", "nobody"]).code, 2);
}
