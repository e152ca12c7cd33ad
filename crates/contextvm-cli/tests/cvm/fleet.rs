//! `cvm serve --from`: all servers of an MCP host's configuration file, each by itself.
use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::stage::{CVM, Home, Running, is_alive, signal, until};
use crate::upstream;

/// Writes a file that only we can read, all at once.
pub(crate) fn write_private(path: &Path, text: &str) {
    let new = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// A running `cvm serve --from`.
struct Fleet<'a> {
    home: &'a Home,
    relay: &'a str,
    running: Running,
    file: PathBuf,
    /// Keys by name.
    servers: BTreeMap<String, String>,
}

impl<'a> Fleet<'a> {
    fn start(home: &'a Home, relay: &'a str, text: &str, args: &[&str]) -> Self {
        let file = home.path().join("mcp.json");
        write_private(&file, text);
        let mut command = home.command(&["serve", "--json", "-k", "me", "--open", "-r", relay, "--from"]);
        command.arg(&file).args(args);
        command.env("BINARY", CVM).env("TOKEN", upstream::SECRET);
        let running = Running::start(command);
        let document = running.document();
        let servers = document["servers"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let servers = servers.map(|server| (text(&server["name"]), text(&server["server"]))).collect();
        Self { home, relay, running, file, servers }
    }

    fn call(&self, name: &str, words: &[&str]) -> String {
        let mut args = vec!["call", &self.servers[name], "-r", self.relay];
        args.extend(words);
        let ran = self.home.run(&args);
        assert_eq!(ran.code, 0, "{name}: {ran:?} {}", self.running.talk.so_far());
        ran.out
    }

    fn units(&self) -> BTreeMap<String, Value> {
        let document = self.home.run(&["ctl", "status", "--json"]).json();
        assert_eq!(document["schema"], "cvm.ctl.status/1");
        let processes = document["processes"].as_array().unwrap();
        let own = processes.iter().find(|process| process["pid"] == self.running.child.id()).unwrap();
        assert_eq!(own["file"], self.file.to_str().unwrap());
        let units = own["units"].as_array().unwrap().iter();
        units.map(|unit| (unit["name"].as_str().unwrap().to_owned(), unit.clone())).collect()
    }

    /// Waits until a unit is in a state.
    fn wait_for(&self, name: &str, state: &str) -> Value {
        until(&format!("{name} {state}"), || {
            let unit = self.units().remove(name)?;
            (unit["state"] == state).then_some(unit)
        })
    }
}

fn sample() -> Value {
    json!({ "command": CVM, "args": ["demo", "--stdio"] })
}

fn file(servers: Value) -> String {
    json!({ "mcpServers": servers }).to_string()
}

/// The same two servers, and one that cannot run, as four hosts write them.
fn shapes(url: &str) -> [(&'static str, String); 4] {
    let desktop = file(json!({ "sample": sample(), "broken": { "command": "/no/such/program" } }));
    let code = file(json!({
        "sample": { "type": "stdio", "command": "${BINARY}", "args": ["demo", "${FLAG:---stdio}"], "env": {} },
        "remote": { "type": "http", "url": url, "headers": { "Authorization": "Bearer ${TOKEN}" } },
        "broken": { "type": "sse", "url": "http://127.0.0.1:9/sse" },
    }));
    let cursor = file(json!({
        "sample": { "command": CVM, "args": ["demo", "--stdio"], "env": { "A": "${env:TOKEN}" } },
        "remote": { "url": url, "headers": { "Authorization": "Bearer ${env:TOKEN}" } },
        "broken": { "command": "sh", "args": ["-c", "echo no >&2; exit 3"] },
    }));
    let vs_code = format!(
        r#"{{
            // What VS Code asks a person for.
            "inputs": [{{ "id": "token", "type": "promptString", "password": true }}],
            "servers": {{
                "sample": {{ "type": "stdio", "command": {CVM:?}, "args": ["demo", "--stdio"], }},
                "remote": {{ "type": "http", "url": {url:?}, "headers": {{ "Authorization": "Bearer ${{env:TOKEN}}" }} }},
                "broken": {{ "type": "http", "url": {url:?}, "headers": {{ "Authorization": "Bearer ${{input:token}}" }} }},
            }},
        }}"#
    );
    [("Claude Desktop", desktop), ("Claude Code", code), ("Cursor", cursor), ("VS Code", vs_code)]
}

#[test]
fn the_files_of_four_hosts_are_served_each_entry_under_its_own_key() {
    let home = Home::new();
    let (_relay, relay) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (host, text) in shapes(&upstream::start()) {
        let fleet = Fleet::start(&home, &relay, &text, &[]);
        fleet.wait_for("sample", "ready");
        assert_eq!(fleet.call("sample", &["add", "a=19", "b=23"]), "42\n", "{host}");
        if fleet.servers.contains_key("remote") {
            fleet.wait_for("remote", "ready");
            assert_eq!(fleet.call("remote", &["hello"]), "hello over http\n", "{host}");
        }
        let expected = if host == "Cursor" { "backoff" } else { "failed" };
        let broken = fleet.wait_for("broken", expected);
        assert!(broken["why"].is_string() && broken.get("pid").is_none(), "{broken}");
        assert_eq!(fleet.call("sample", &["echo", "message=on it goes"]), "on it goes\n");
        // The same name has the same key in every file, and no two names share one.
        for (name, server) in &fleet.servers {
            assert_eq!(seen.entry(name.clone()).or_insert_with(|| server.clone()), server);
        }
        let child = fleet.wait_for("sample", "ready")["pid"].as_u64().unwrap();
        let status = fleet.home.run(&["ctl", "status"]).out;
        let (code, err) = fleet.running.end();
        assert_eq!(code, 0, "{host} {err}");
        assert!(
            !is_alive(child) && !err.contains(upstream::SECRET) && !status.contains(upstream::SECRET),
            "{err}"
        );
    }
    let mut keys: Vec<&String> = seen.values().collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 3);
    let master = home.run(&["key", "show", "me"]).out.trim().to_owned();
    assert!(!seen.values().any(|server| *server == master));
}

#[test]
fn a_changed_file_restarts_only_what_changed() {
    let home = Home::new();
    let (_relay, relay) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let fleet =
        Fleet::start(&home, &relay, &file(json!({ "a": sample(), "b": sample(), "c": sample() })), &[]);
    let pid = |name: &str| fleet.wait_for(name, "ready")["pid"].as_u64().unwrap();
    let (a, b, c) = (pid("a"), pid("b"), pid("c"));

    let mut changed = sample();
    changed["env"] = json!({ "CHANGED": "yes" });
    write_private(&fleet.file, &file(json!({ "a": sample(), "b": changed, "d": sample() })));
    fleet.running.talk.wait_for("d: ready as");
    until("another b", || (pid("b") != b).then_some(()));
    assert_eq!(pid("a"), a);
    assert!(!fleet.units().contains_key("c"));
    until("the end of the old ones", || (!is_alive(b) && !is_alive(c)).then_some(()));
    assert_eq!(fleet.call("a", &["add", "a=1", "b=1"]), "2\n");
    assert_eq!(fleet.call("b", &["add", "a=1", "b=1"]), "2\n");
    let gone = home.run(&["ls", &fleet.servers["c"], "-r", &relay, "--timeout", "700ms", "--json"]);
    assert_eq!(gone.error()["code"], "no_reply", "{gone:?}");

    let before = ["a", "b", "d"].map(pid);
    for broken in ["", "{\"mcpServers\": {", "{\"mcpServers\": [1]}", "[]"] {
        std::fs::write(&fleet.file, broken).unwrap();
        let message = "the changed file is not used";
        let seen = fleet.running.talk.so_far().matches(message).count();
        until(message, || (fleet.running.talk.so_far().matches(message).count() > seen).then_some(()));
    }
    std::fs::remove_file(&fleet.file).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    assert_eq!(["a", "b", "d"].map(pid), before);

    write_private(&fleet.file, &file(json!({ "c": sample() })));
    pid("c");
    until("the end of the others", || (fleet.units().len() == 1).then_some(()));
    assert_eq!(fleet.call("c", &["add", "a=1", "b=1"]), "2\n");
    let (code, err) = fleet.running.end();
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("b: changed in the file") && err.contains("c: removed from the file"), "{err}");
}

#[test]
fn a_unit_that_dies_comes_back_and_disturbs_no_other() {
    let home = Home::new();
    let (_relay, relay) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let servers = json!({
        "a": sample(), "b": sample(), "off": { "command": "x", "disabled": true },
        "done": { "command": "sh", "args": ["-c", crate::serving::SHELL_SERVER] },
    });
    let fleet = Fleet::start(&home, &relay, &file(servers), &[]);
    let (a, b) = (fleet.wait_for("a", "ready"), fleet.wait_for("b", "ready"));
    assert_eq!(fleet.wait_for("off", "stopped")["why"], "it is disabled in the file");
    signal(u32::try_from(a["pid"].as_u64().unwrap()).unwrap(), Signal::KILL);
    assert!(fleet.wait_for("a", "backoff")["why"].as_str().unwrap().contains("signal 9"));
    assert_eq!(fleet.call("b", &["add", "a=1", "b=1"]), "2\n");
    let back = fleet.wait_for("a", "ready");
    assert_eq!((&back["restarts"], back.get("why")), (&1.into(), None));
    assert_eq!(fleet.wait_for("b", "ready")["pid"], b["pid"]);
    assert_eq!(fleet.call("a", &["add", "a=1", "b=1"]), "2\n");
    // A server that ends with code 0 has ended because it wanted to.
    fleet.wait_for("done", "ready");
    let ended = home.run(&["call", &fleet.servers["done"], "leave", "-r", &relay, "--json"]);
    assert!(ended.err.contains("child_exited"), "{ended:?}");
    assert!(fleet.wait_for("done", "stopped").get("pid").is_none());
}

#[test]
fn a_unit_is_degraded_while_no_relay_listens() {
    let home = Home::new();
    let (relay, url) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let fleet = Fleet::start(&home, &url, &file(json!({ "a": sample() })), &[]);
    let pid = fleet.wait_for("a", "ready")["pid"].clone();
    relay.end();
    assert_eq!(fleet.wait_for("a", "degraded")["why"], "no relay listens");
    let port = url.rsplit(':').next().unwrap();
    let _relay = Running::start(home.command(&["relay", "run", "--port", port]));
    let back = fleet.wait_for("a", "ready");
    assert_eq!((&back["pid"], back.get("why")), (&pid, None), "the server itself went on");
    assert_eq!(fleet.call("a", &["add", "a=1", "b=1"]), "2\n");
}

#[test]
fn the_end_of_one_callers_child_is_not_that_of_the_unit() {
    let home = Home::new();
    let (_relay, relay) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let servers = json!({ "a": { "command": "sh", "args": ["-c", crate::serving::SHELL_SERVER] } });
    let fleet = Fleet::start(&home, &relay, &file(servers), &["--isolation", "per-client"]);
    fleet.wait_for("a", "ready");
    let died = home.run(&["call", &fleet.servers["a"], "die", "-r", &relay, "--json"]);
    assert!(died.err.contains("child_exited"), "{died:?}");
    fleet.running.talk.wait_for("a: child exited 7");
    assert_eq!(fleet.units()["a"]["state"], "ready");
}

#[test]
fn only_and_except_choose_entries() {
    let home = Home::new();
    let (_relay, relay) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let text = file(json!({ "a": sample(), "b": sample(), "c": sample() }));
    for (args, names) in
        [(&["--only", "a,c"][..], &["a", "c"][..]), (&["--except", "a", "--except", "c"], &["b"])]
    {
        let fleet = Fleet::start(&home, &relay, &text, args);
        assert_eq!(fleet.servers.keys().collect::<Vec<_>>(), names);
        // Where they are is said before the first of them is up.
        until("its units", || fleet.units().keys().eq(names).then_some(()));
    }
    let serve = |args: &[&str]| {
        let mut command = home.command(&["serve", "--json", "-k", "me", "--open", "-r", &relay]);
        crate::stage::Ran::of(command.args(args).output().unwrap())
    };
    let nothing = serve(&["--from", "mcp.json", "--except", "a,b,c"]);
    assert_eq!((nothing.code, &nothing.error()["code"]), (8, &"config_invalid".into()));
    for choice in ["--only", "--except"] {
        let typo = serve(&["--from", "mcp.json", choice, "a,x"]);
        assert_eq!((typo.code, &typo.error()["code"]), (2, &"invalid_value".into()), "{typo:?}");
    }
    for file in ["nowhere.json", ".", "/dev/null"] {
        let ran = serve(&["--from", file]);
        assert_eq!((ran.code, &ran.error()["code"]), (8, &"config_invalid".into()), "{ran:?}");
    }
}

#[test]
fn the_status_is_for_its_owner_alone() {
    let home = Home::new();
    let (_relay, relay) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    assert_eq!(home.run(&["ctl", "status"]).out, "no cvm serve is running\n");
    let text = file(json!({ "a": sample(), "b": { "command": "/no/such/program" } }));
    let mut fleet = Fleet::start(&home, &relay, &text, &[]);
    fleet.wait_for("a", "ready");
    fleet.wait_for("b", "failed");
    let (serve, _server) = Running::sample(&home, &relay);

    let directory = home.path().join(".local/state/cvm/run");
    let socket = |pid: u32| directory.join(format!("{pid}.sock"));
    let (own, other) = (socket(fleet.running.child.id()), socket(serve.child.id()));
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&own), mode(&other), mode(&directory)), (0o600, 0o600, 0o700));

    let table = home.run(&["ctl", "status"]).out;
    let lines: Vec<&str> = table.lines().collect();
    for (start, words) in [
        ("NAME", &["STATE", "PID", "RESTARTS", "SERVER", "TARGET"][..]),
        ("a ", &["ready", "npub1", "demo --stdio"]),
        ("b ", &["failed"]),
        ("server ", &["ready", "npub1", "demo --stdio"]),
        ("b: ", &["no program \"/no/such/program\""]),
    ] {
        let line =
            lines.iter().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start} {table}"));
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    }
    assert_eq!(home.run(&["ctl", "status", "--json"]).json()["processes"].as_array().unwrap().len(), 2);

    // Whoever ends takes the socket along; whoever is killed leaves one behind that is removed.
    serve.end();
    assert!(!other.exists());
    signal(fleet.running.child.id(), Signal::KILL);
    fleet.running.child.wait().unwrap();
    assert!(own.exists());
    assert_eq!(home.run(&["ctl", "status"]).out, "no cvm serve is running\n");
    assert!(!own.exists());
}
