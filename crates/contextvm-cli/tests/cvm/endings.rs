//! How `cvm use` and `cvm serve` end, and that nobody outlives them.
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::stage::{CVM, Ended, Home, Host, INITIALIZE, LIST, NOBODY, Running, is_alive, signal, until};

/// How long the end may take when nothing is open.
const PROMPT: Duration = Duration::from_millis(100);

/// Ends some hosts, one after another; on a busy machine one of them must be as fast as promised, and none slow.
fn all_end(what: &str, end: impl Fn() -> Ended) {
    let ended: Vec<Ended> = (0..4).map(|_| end()).collect();
    for one in &ended {
        assert_eq!(one.code, Some(0), "{what}: {one:?}");
        assert!(one.after < Duration::from_secs(2), "{what}: {one:?}");
    }
    let fastest = ended.iter().map(|one| one.after).min().unwrap();
    assert!(fastest < PROMPT, "{what}: {fastest:?}");
}

#[test]
fn the_end_of_its_input_ends_it_within_100_ms() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (_serve, server) = Running::sample(&home, &url);
    // Takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("ws://{}", silent.local_addr().unwrap());

    all_end("connected", || {
        let mut host = Host::start(home.command(&["use", &server, "-r", &url]));
        host.greet();
        assert!(host.ask(LIST)["result"]["tools"].is_array());
        host.goodbye()
    });
    all_end("no relay is there", || {
        let mut host =
            Host::start(home.command(&["use", NOBODY, "-r", "ws://127.0.0.1:9", "--timeout", "100ms"]));
        assert_eq!(host.ask(INITIALIZE)["error"]["data"]["reason"], "relay_unreachable");
        host.goodbye()
    });
    all_end("connecting", || {
        let host = Host::start(home.command(&["use", NOBODY, "-r", &silent, "-v"]));
        std::thread::sleep(Duration::from_millis(300));
        host.goodbye()
    });
    all_end("just started", || Host::start(home.command(&["use", NOBODY, "-r", &silent])).goodbye());
}

#[test]
fn a_request_that_waits_for_the_connection_is_answered_before_the_end() {
    let home = Home::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", silent.local_addr().unwrap());
    let mut host = Host::start(home.command(&["use", NOBODY, "-r", &url]));
    host.say(INITIALIZE);
    std::thread::sleep(Duration::from_millis(200));
    let ended = host.goodbye();
    assert_eq!((ended.code, ended.rest.len()), (Some(0), 1), "{ended:?}");
    assert_eq!(ended.rest[0]["error"]["data"]["reason"], "closed");
}

#[test]
fn signals_end_it() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (_serve, server) = Running::sample(&home, &url);
    for kind in [Signal::TERM, Signal::INT, Signal::HUP] {
        all_end(&format!("{kind:?}"), || {
            let mut host = Host::start(home.command(&["use", &server, "-r", &url]));
            host.greet();
            let begun = Instant::now();
            signal(host.child.id(), kind);
            host.ended(begun)
        });
    }
}

#[test]
fn a_host_that_does_not_read_any_more_ends_it() {
    let home = Home::new();
    let mut command = home.command(&["use", NOBODY, "-r", "ws://127.0.0.1:9", "--timeout", "100ms"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    drop(child.stdout.take());
    std::io::Write::write_all(&mut input, format!("{INITIALIZE}\n").as_bytes()).unwrap();
    let status = until("the end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    drop(input);
}

#[test]
fn a_key_cannot_come_the_way_of_the_messages() {
    let home = Home::new();
    for (args, variable) in [(&["-k", "stdin"][..], ""), (&["-k", "-"], ""), (&[], "stdin")] {
        let mut command = home.command(&["use", NOBODY, "-r", "ws://127.0.0.1:9", "--json"]);
        command.args(args).env("CVM_KEY", variable);
        let host = Host::start(command);
        // Its input is open all the time.
        let ended = host.ended(Instant::now());
        assert!(ended.code == Some(2) && ended.err.contains("cannot carry a key"), "{ended:?}");
    }
}

#[test]
fn it_ends_when_its_parent_is_killed_even_if_its_input_stays_open() {
    let home = Home::new();
    // The shell's own input, which this test holds open, becomes that of `cvm`.
    let script = format!("exec 3<&0; {CVM} use {NOBODY} -r ws://127.0.0.1:9 <&3 & echo $!; wait");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &script]).env_clear().env("HOME", home.path());
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pid: u64 = line.trim().parse().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(is_alive(pid));
    shell.kill().unwrap();
    shell.wait().unwrap();
    until("its end", || (!is_alive(pid)).then_some(()));
    drop(shell.stdin.take());
}

/// A child that hears neither the end of its input nor signals, and has a child of its own.
const STUBBORN: &str = r#"
trap '' TERM HUP INT
sleep 600 &
printf '%s' "$!" >grandchild.new && mv grandchild.new grandchild
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\("[^"]*"\).*/\1/p')
  case "$line" in
    *'"method":"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"sh","version":"1"}}}\n' "$id" ;;
  esac
done
while :; do sleep 600; done
"#;

#[test]
fn nobody_outlives_a_serve_however_it_ends() {
    for kind in [Signal::KILL, Signal::TERM] {
        let home = Home::new();
        let (_relay, url) = Running::relay(&home);
        let access = ["--ephemeral", "--open"];
        let (mut serve, ready) = Running::serve(&home, &url, &access, &["sh", "-c", STUBBORN]);
        let child = ready["pid"].as_u64().unwrap();
        let grandchild = std::fs::read_to_string(home.path().join("grandchild")).unwrap().parse().unwrap();
        assert!(is_alive(child) && is_alive(grandchild));
        signal(serve.child.id(), kind);
        let status = serve.child.wait().unwrap();
        assert_eq!(status.code(), (kind == Signal::TERM).then_some(0));
        until("the end of the group", || (!is_alive(child) && !is_alive(grandchild)).then_some(()));
    }
}
