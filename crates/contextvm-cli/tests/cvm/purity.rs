//! Standard output of `cvm use` carries JSON-RPC messages and nothing else, whatever happens.
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::stage::{Home, Host, INITIALIZE, LIST, NOBODY, Running, until};

/// From silent to deafening: flags, and what `CVM_LOG` says.
const LEVELS: [(&str, &str); 8] = [
    ("-qq", ""),
    ("-q", ""),
    ("--json", ""),
    ("-v", ""),
    ("-vv", ""),
    ("-vvv", ""),
    ("--color=always", "trace"),
    ("-qq", "trace"),
];

/// Starts a host at every level at once.
fn at_every_level(home: &Home, args: &[&str]) -> Vec<(String, Host)> {
    let start = |(flag, log): &(&str, &str)| {
        let mut command = home.command(args);
        command.arg(flag);
        if !log.is_empty() {
            command.env("CVM_LOG", log);
        }
        (format!("{flag} {log}"), Host::start(command))
    };
    LEVELS.iter().map(start).collect()
}

/// Lines that are no messages, and one that is a request all the same.
const NOISE: &str = "noise\n\n[]\n{\"half\":\n\u{1b}[2J{\"jsonrpc\":\"1.0\",\"id\":7,\"method\":\"x\"}";

#[test]
fn standard_output_is_pure_at_every_level() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (_serve, server) = Running::sample(&home, &url);
    for (level, mut host) in at_every_level(&home, &["use", &server, "-r", &url]) {
        assert_eq!(host.greet()["result"]["serverInfo"]["name"], "cvm-demo", "{level}");
        host.say(NOISE);
        assert!(
            host.ask(LIST)["result"]["tools"].as_array().is_some_and(|tools| tools.len() == 4),
            "{level}"
        );
        let echo = r#"{"jsonrpc":"2.0","id":"e","method":"tools/call","params":{"name":"echo","arguments":{"message":"a\nb\r\u0000\u2028c"}}}"#;
        assert_eq!(host.ask(echo)["result"]["content"][0]["text"], "a\nb\r\0\u{2028}c", "{level}");
        let ended = host.goodbye();
        assert_eq!(ended.code, Some(0), "{level} {ended:?}");
        if level == "-qq " {
            assert_eq!(ended.err, "");
        } else if level.ends_with("trace") {
            assert!(ended.err.contains(" INFO "), "{level} {}", ended.err);
        }
    }
}

#[test]
fn standard_output_is_pure_and_every_request_answered_when_the_relay_is_dead() {
    let home = Home::new();
    let args = ["use", NOBODY, "-r", "ws://127.0.0.1:9", "--timeout", "500ms"];
    for (level, mut host) in at_every_level(&home, &args) {
        host.say(&format!("{INITIALIZE}\n{NOISE}\n{LIST}"));
        let mut ids = [host.hear(), host.hear()];
        ids.sort_by_key(|answer| answer["id"].as_u64());
        for (answer, id) in ids.iter().zip([1, 2]) {
            let data = &answer["error"]["data"];
            assert_eq!(
                (&answer["id"], &data["reason"]),
                (&id.into(), &"relay_unreachable".into()),
                "{level}"
            );
            assert_eq!(data["relays"][0]["url"], "ws://127.0.0.1:9");
            assert!(
                data["hint"].is_string() && data["waitedMs"].is_u64() && data["server"] == NOBODY,
                "{answer}"
            );
        }
        let ended = host.goodbye();
        assert_eq!(ended.code, Some(0), "{level} {ended:?}");
    }
}

/// A library that is loaded into the unchanged binary. Once a file is there, it prints to standard output from outside of
/// our code, or lets one look at the clock on the main thread fail, at which Rust's standard library panics.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *out) {
    static int panicked, printed;
    int is_main = syscall(SYS_gettid) == getpid();
    if (is_main && !panicked && access(getenv("SHIM_PANIC"), F_OK) == 0) {
        panicked = 1;
        errno = EINVAL;
        return -1;
    }
    if (is_main && !printed && access(getenv("SHIM_PRINT"), F_OK) == 0) {
        printed = write(1, "a library prints this\n", 22) > 0;
    }
    return syscall(SYS_clock_gettime, clock, out);
}
"#;

fn shim(directory: &Path) -> PathBuf {
    let (source, library) = (directory.join("shim.c"), directory.join("shim.so"));
    std::fs::write(&source, SHIM).unwrap();
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    library
}

#[test]
fn neither_a_print_of_a_library_nor_a_panic_reaches_standard_output() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (_serve, server) = Running::sample(&home, &url);
    let (print, panic) = (home.path().join("print"), home.path().join("panic"));
    let mut command = home.command(&["use", &server, "-r", &url]);
    command.env("LD_PRELOAD", shim(home.path())).env("SHIM_PRINT", &print).env("SHIM_PANIC", &panic);
    let mut host = Host::start(command);
    host.greet();
    std::fs::write(&print, "").unwrap();
    assert!(host.ask(LIST)["result"]["tools"].is_array());
    host.talk.wait_for("a library prints this");
    assert!(host.ask(LIST)["result"]["tools"].is_array());

    let begun = Instant::now();
    std::fs::write(&panic, "").unwrap();
    host.talk.wait_for("panicked at");
    // Its input is still open, and yet it ends, so that the host knows.
    let ended = host.ended(begun);
    assert_eq!((ended.code, ended.rest.len()), (Some(1), 0), "{ended:?}");
    assert!(ended.err.contains("error: this is a bug of cvm"), "{ended:?}");
}

#[test]
fn copies_with_one_key_are_all_answered_at_once() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (_serve, server) = Running::sample(&home, &url);
    home.run(&["key", "new", "me"]);
    let start = |_| Host::start(home.command(&["use", &server, "-r", &url, "-k", "me"]));
    let mut hosts: Vec<Host> = (0..4).map(start).collect();
    let call = |id: usize, text: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"message":"{text}"}}}}}}"#
        )
    };
    for host in &mut hosts {
        host.say(INITIALIZE);
    }
    for host in &mut hosts {
        assert_eq!(host.hear()["result"]["serverInfo"]["name"], "cvm-demo");
        host.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    }
    for round in 0..5 {
        for (at, host) in hosts.iter_mut().enumerate() {
            host.say(&call(round, &format!("{at} {round}")));
        }
        for (at, host) in hosts.iter_mut().enumerate() {
            let answer = host.hear();
            assert_eq!(answer["id"], round, "{answer}");
            assert_eq!(answer["result"]["content"][0]["text"], format!("{at} {round}"), "{answer}");
        }
    }
    // The end of one is no business of the others.
    let first = hosts.remove(0).goodbye();
    assert_eq!((first.code, first.rest.len()), (Some(0), 0), "{first:?}");
    for host in &mut hosts {
        assert_eq!(host.ask(&call(9, "still there"))["result"]["content"][0]["text"], "still there");
    }
}

#[test]
fn a_host_whose_relay_comes_late_is_answered() {
    let home = Home::new();
    // A port that is free, and stays so long enough.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("ws://127.0.0.1:{free}");
    home.run(&["key", "new", "me"]);
    let server = home.run(&["key", "show", "me"]).out.trim().to_owned();
    let mut host = Host::start(home.command(&["use", &server, "-r", &url, "--timeout", "2s"]));
    assert_eq!(host.ask(INITIALIZE)["error"]["data"]["reason"], "relay_unreachable");
    let _relay = Running::start(home.command(&["relay", "run", "--port", &free.to_string()]));
    let (_serve, _) =
        Running::serve(&home, &url, &["-k", "me", "--open"], &[crate::stage::CVM, "demo", "--stdio"]);
    until("an answer", || host.ask(INITIALIZE).get("result").cloned());
}
