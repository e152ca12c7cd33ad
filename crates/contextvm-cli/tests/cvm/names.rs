//! Servers by every kind of name, in every command.
use contextvm::core::ServerIdentity;
use nostr::event::Kind;
use nostr::nips::nip01::Coordinate;
use nostr::nips::nip19::{Nip19Coordinate, ToBech32 as _};

use crate::published::{Published, domain, tool};
use crate::stage::{CVM, Home, Ran, Running};

/// A served sample whose relay list is on a discovery relay of its own.
struct Scene {
    home: Home,
    _relays: [Running; 2],
    _serve: Running,
    server: Published,
    /// Where the server listens.
    url: String,
    /// Where its list lies.
    discovery: String,
}

impl Scene {
    fn new() -> Self {
        let home = Home::new();
        let (relay, url) = Running::relay(&home);
        let (lists, discovery) = Running::relay(&home);
        home.run(&["key", "new", "me"]);
        let (serve, _) = Running::serve(&home, &url, &["-k", "me", "--open"], &[CVM, "demo", "--stdio"]);
        let server = Published::named(&home, "me").relay_list(&[&url]).to(&discovery);
        Self { home, _relays: [relay, lists], _serve: serve, server, url, discovery }
    }

    /// Calls by a name only: no relay is given.
    fn call(&self, name: &str) -> Ran {
        self.run(&["call", name, "add", "a=1", "b=2", "--local-relays"])
    }

    fn run(&self, words: &[&str]) -> Ran {
        let mut command = self.home.command(words);
        command.env("CVM_DISCOVERY", &self.discovery).env("CVM_TIMEOUT", "5s");
        Ran::of(command.output().unwrap())
    }
}

#[test]
fn a_key_alone_leads_to_its_server() {
    let scene = Scene::new();
    let (npub, hex) = (scene.server.npub(), scene.server.hex());
    let key = scene.server.keys.public_key();
    let hints = vec![scene.url.clone()];
    let nprofile = ServerIdentity { relays: hints, ..ServerIdentity::from(key) }.to_string();
    let naddr = Nip19Coordinate::new(Coordinate::new(Kind::from_u16(11_316), key), []).to_bech32().unwrap();
    for name in [&npub, &hex, &nprofile, &naddr, &format!("nostr:{npub}"), &format!("nostr:{naddr}")] {
        assert_eq!(scene.call(name).out, "3\n", "{name}");
    }
    let listed = scene.run(&["ls", &npub, "--local-relays"]);
    assert!(listed.out.contains("echo(message: string)"), "{listed:?}");
    // Without the flag nobody's list leads into our own network.
    let refused = scene.run(&["call", &npub, "add", "a=1", "b=2", "--json"]);
    assert!(refused.code == 4 && refused.err.contains("--local-relays"), "{refused:?}");
    let nowhere = scene.run(&["call", &npub, "add", "a=1", "b=2", "--discovery", "none", "--json"]);
    assert_eq!((nowhere.code, &nowhere.error()["code"]), (4, &"relay_unreachable".into()));
}

#[test]
fn a_domain_vouches_for_a_key() {
    let scene = Scene::new();
    let (hex, other) = (scene.server.hex(), Published::new().hex());
    let document = format!(
        r#"{{"names":{{"_":"{hex}","weather":"{hex}","other":"{other}","odd":"xyz"}},"relays":{{"{hex}":["{}"]}}}}"#,
        scene.url
    );
    let host = domain(document);
    for name in [format!("weather@{host}"), host.clone(), format!("_@{host}")] {
        assert_eq!(scene.call(&name).out, "3\n", "{name}");
    }
    for (name, code, class) in [
        (format!("nobody@{host}"), 5, "not_found"),
        (format!("odd@{host}"), 5, "not_found"),
        ("weather@127.0.0.1:9".to_owned(), 4, "name_unreachable"),
    ] {
        let ran = scene.run(&["call", &name, "add", "--local-relays", "--json"]);
        assert_eq!((ran.code, &ran.error()["code"]), (code, &class.into()), "{ran:?}");
        assert!(ran.err.contains("nostr.json"), "{ran:?}");
    }
    // A name must not lead into our own network unless that was allowed.
    let guarded = scene.run(&["call", &format!("weather@{host}"), "add", "--json"]);
    assert_eq!((guarded.code, &guarded.error()["code"]), (4, &"name_unreachable".into()), "{guarded:?}");
}

#[test]
fn a_saved_name_stands_for_its_server_and_slips_are_understood() {
    let scene = Scene::new();
    assert_eq!(scene.run(&["server", "add", "--no-connect", "weather", &scene.server.npub()]).code, 0);
    assert_eq!(scene.call("weather").out, "3\n");
    let slip = scene.call("waether");
    assert!(slip.code == 2 && slip.err.contains("did you mean: weather"), "{slip:?}");
    assert!(slip.err.contains("no saved server") && slip.err.contains("name@domain"), "{slip:?}");
    let unknown = scene.call("somebody");
    assert!(unknown.code == 2 && unknown.err.contains("cvm discover somebody"), "{unknown:?}");
    let saved = scene.run(&["ls", "--local-relays"]);
    assert!(saved.code == 0 && saved.out.contains("weather") && saved.out.contains(" ms"), "{saved:?}");
    let document = scene.run(&["ls", "--local-relays", "--json"]).json();
    assert_eq!(
        (&document["schema"], &document["servers"][0]["online"]),
        (&"cvm.ls-saved/1".into(), &true.into())
    );
    let empty = Home::new().run(&["ls"]);
    assert!(empty.code == 0 && empty.err.contains("cvm server add"), "{empty:?}");
}

#[test]
fn a_schema_names_its_only_provider() {
    let scene = Scene::new();
    let hash = "60d4353e9a5499b483d09f13d9e28060e70f34edf787bb7040ba30bd390f85af";
    let tool_a = format!(
        r#"{{"name":"a","inputSchema":{{"type":"object"}},"_meta":{{"io.contextvm/common-schema":{{"schemaHash":"{hash}"}}}}}}"#
    );
    let tags: [&[&str]; 2] = [&["i", hash, "a"], &["k", "io.contextvm/common-schema"]];
    let none = scene.call(&format!("schema:{hash}"));
    assert!(none.code == 5 && none.err.contains("no announced server"), "{none:?}");
    let _announced =
        Published::named(&scene.home, "me").server("Me", &[]).tools(&[&tool_a], &tags).to(&scene.discovery);
    for schema in [hash, &hash[..6]] {
        let called = scene.call(&format!("schema:{schema}"));
        assert!(called.out == "3\n" && called.err.contains(&scene.server.npub()), "{called:?}");
    }
    let second =
        Published::new().server("Other", &[]).tools(&[&tool_a, &tool("b")], &tags).to(&scene.discovery);
    let choose = scene.call(&format!("schema:{hash}"));
    assert!(choose.code == 2 && choose.err.contains(&second.npub()), "{choose:?}");
    assert!(choose.err.contains(&format!("cvm discover --schema {hash}")), "{choose:?}");
    // A saved one is preferred over strangers.
    scene.run(&["server", "add", "--no-connect", "mine", &scene.server.npub()]);
    assert_eq!(scene.call(&format!("schema:{hash}")).out, "3\n");
}

#[test]
fn a_host_uses_a_server_by_name() {
    let scene = Scene::new();
    let mut command = scene.home.command(&["use", &scene.server.npub(), "--local-relays"]);
    command.env("CVM_DISCOVERY", &scene.discovery);
    let mut host = crate::stage::Host::start(command);
    assert_eq!(host.greet()["result"]["serverInfo"]["name"], "cvm-demo");
    assert_eq!(host.ask(crate::stage::LIST)["result"]["tools"].as_array().unwrap().len(), 4);
    assert_eq!(host.goodbye().code, Some(0));
}
