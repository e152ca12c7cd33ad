//! What needs no network: the demo, help, and what is wrong with a command line.
use std::time::{Duration, Instant};

use crate::stage::Home;

#[test]
fn the_demo_works_offline_and_leaves_nothing_behind() {
    let home = Home::new();
    let begun = Instant::now();
    let ran = home.run(&["demo"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(
        ran.out.contains("the answer is 42")
            && ran.out.contains("word by word, 12 before")
            && ran.out.contains("add(a: number, b: number)"),
        "{}",
        ran.out
    );
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    let document = home.run(&["demo", "--json"]).json();
    assert_eq!((&document["schema"], &document["ok"]), (&"cvm.demo/1".into(), &true.into()));
    assert_eq!(document["chunks"], 12);
}

#[test]
fn help_and_version_are_data() {
    let home = Home::new();
    for args in [&["--help"][..], &["serve", "--help"], &["version"], &["--version"], &["key", "new", "-h"]] {
        let ran = home.run(args);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
        assert!(!ran.out.is_empty());
    }
    let document = home.run(&["version", "--json"]).json();
    let version = document["version"].as_str().unwrap();
    assert_eq!(
        (&document["schema"], home.run(&["version"]).out),
        (&"cvm.version/1".into(), format!("cvm {version}\n"))
    );
    assert!(home.run(&["call", "--help"]).out.starts_with("Examples:\n  cvm call "));
}

#[test]
fn usage_errors_exit_2_and_have_three_parts() {
    let home = Home::new();
    for (args, code) in [
        (&["lss"][..], "unknown_flag"),
        (&["ls", "--colour"], "unknown_flag"),
        (&["inspect"], "missing_argument"),
        (&["serve", "--open", "--ephemeral", "-r", "ws://127.0.0.1:9"], "missing_argument"),
        (&["serve", "--open", "-r", "ws://127.0.0.1:9", "--", "sh"], "missing_argument"),
        (&["serve", "--ephemeral", "-r", "ws://127.0.0.1:9", "--", "sh"], "missing_argument"),
        (&["serve", "--ephemeral", "--open", "--", "sh"], "missing_argument"),
        (
            &["serve", "--ephemeral", "--allow", "npub1x", "-r", "ws://127.0.0.1:9", "--", "sh"],
            "invalid_value",
        ),
        (&["ls", "nobody"], "invalid_value"),
        (&["ls", "npub1x", "--timeout", "soon"], "invalid_value"),
        (&["ls", "npub1x", "--timeout", "0s"], "invalid_value"),
        (
            &[
                "serve",
                "--ephemeral",
                "--open",
                "-r",
                "ws://127.0.0.1:9",
                "--cwd",
                "/",
                "http://127.0.0.1:9/",
            ],
            "invalid_value",
        ),
        (&["relay", "run", "--drop", "2"], "invalid_value"),
        (&["call", "npub1x", "t", "-k", "keyring:me"], "invalid_value"),
    ] {
        let plain = home.run(args);
        assert_eq!((plain.code, plain.out.as_str()), (2, ""), "{args:?} {plain:?}");
        assert!(plain.err.starts_with("error: ") && plain.err.contains("\n  try: "), "{}", plain.err);
        let mut with_json = vec!["--json"];
        with_json.extend(args);
        let ran = home.run(&with_json);
        assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
        assert_eq!(ran.error()["code"], code, "{args:?}");
        assert!(ran.error()["hint"].is_string());
    }
}
