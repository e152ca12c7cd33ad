//! Servers that speak 2026-07-28 and nothing older, called by commands and hosts of either era.
use crate::stage::{Home, Host, LIST, Running};

/// Finds an example of this crate: they are built together with the tests.
pub(crate) fn example(name: &str) -> String {
    let tests = std::env::current_exe().unwrap();
    let file = tests.parent().and_then(std::path::Path::parent).unwrap().join("examples").join(name);
    assert!(file.is_file(), "{} is missing: cargo build --examples -p contextvm-cli", file.display());
    file.to_str().unwrap().to_owned()
}

/// Uses it in every way, with a child for all callers and with one for each.
fn check(mode: &[&str]) {
    let home = Home::new();
    let (_relay, relay) = Running::relay(&home);
    let program = example("modern_server");
    let command: Vec<&str> = core::iter::once(program.as_str()).chain(mode.iter().copied()).collect();
    for isolation in ["shared", "per-client"] {
        let access = ["--ephemeral", "--open", "--isolation", isolation];
        let (serve, ready) = Running::serve(&home, &relay, &access, &command);
        let said = || format!("{isolation} {}", serve.talk.so_far());
        let server = ready["server"].as_str().unwrap();
        let listed = home.run(&["ls", server, "-r", &relay, "--json"]);
        assert_eq!(listed.code, 0, "{listed:?} {}", said());
        let listed = listed.json();
        let (version, name) = (&listed["protocolVersion"], &listed["serverInfo"]["name"]);
        assert_eq!((version, name), (&"2026-07-28".into(), &"modern".into()));
        let called = home.run(&["call", server, "add", "a=19", "b=23", "-r", &relay]);
        assert_eq!(called.out, "42\n", "{called:?} {}", said());
        let mut host = Host::start(home.command(&["use", server, "-r", &relay]));
        let welcome = host.greet();
        assert_eq!(welcome["result"]["protocolVersion"], "2025-06-18", "{welcome} {}", said());
        assert_eq!(host.ask(LIST)["result"]["tools"][0]["name"], "add", "{}", said());
        assert_eq!(host.goodbye().code, Some(0));
    }
}

#[test]
fn a_server_of_2026_alone_is_listed_called_and_used() {
    check(&[]);
}

#[test]
fn a_server_that_ends_when_it_is_asked_for_an_older_revision_is_used_all_the_same() {
    check(&["ends"]);
}
