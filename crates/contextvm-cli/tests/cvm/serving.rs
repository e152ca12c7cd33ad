//! One server on Nostr: listed, called, guarded, started again.
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::stage::{CVM, Home, Ran, Running};

/// A stdio server in shell that dies, hangs and leaks on demand.
pub(crate) const SHELL_SERVER: &str = r#"
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\("[^"]*"\).*/\1/p')
  case "$line" in
    *'"method":"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}\n' "$id" ;;
    *'"method":"tools/list"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"die","inputSchema":{"type":"object"}},{"name":"leave","inputSchema":{"type":"object"}},{"name":"fail","inputSchema":{}}]}}\n' "$id" ;;
    *'"name":"die"'*) exit 7 ;;
    *'"name":"leave"'*) exit 0 ;;
    *'"name":"fail"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"isError":true,"content":[{"type":"text","text":"it broke"}]}}\n' "$id" ;;
  esac
done
"#;

#[test]
fn a_served_process_is_listed_and_called() {
    let home = Home::new();
    let (relay, url) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let (serve, ready) = Running::serve(&home, &url, &["-k", "me", "--open"], &[CVM, "demo", "--stdio"]);
    let server = ready["server"].as_str().unwrap();
    assert_eq!(server, home.run(&["key", "show", "me"]).out.trim());

    let listed = home.run(&["ls", server, "-r", &url]);
    assert_eq!(listed.code, 0, "{listed:?}");
    assert!(
        listed.out.contains("cvm-demo") && listed.out.contains("  echo(message: string)\n"),
        "{}",
        listed.out
    );
    assert_eq!(home.run(&["ls", server, "-r", &url, "--json"]).json()["tools"].as_array().unwrap().len(), 4);

    let call = |words: &[&str]| {
        let mut args = vec!["call", server];
        args.extend(words);
        let mut command = home.command(&args);
        command.env("CVM_RELAY", &url);
        Ran::of(command.output().unwrap())
    };
    assert_eq!(call(&["add", "a=19", "b=23"]).out, "42\n");
    assert_eq!(call(&["echo", "message=42"]).out, "42\n");
    assert_eq!(call(&["echo", "--args", r#"{"message":"x y"}"#]).out, "x y\n");
    let table = call(&["weather", "city=Lisbon", "unit=celsius"]);
    assert_eq!(table.out, "city         Lisbon\nsky          clear\ntemperature  10.0\n");
    let document = call(&["echo", "message=hi", "--json"]).json();
    assert_eq!(
        (&document["schema"], &document["ok"], &document["tool"]),
        (&"cvm.call/1".into(), &true.into(), &"echo".into())
    );
    assert_eq!(document["result"]["content"][0]["text"], "hi");
    assert_eq!(document["wire"]["encrypted"], true);
    for event in ["request", "response"] {
        assert_eq!(document["wire"][event].as_str().map(str::len), Some(64));
    }
    assert!(call(&["echo", "message=hi", "--raw"]).out.starts_with(r#"{"content":[{"#));
    std::fs::write(home.path().join("note.txt"), "from a file").unwrap();
    assert_eq!(call(&["echo", "message=@note.txt"]).out, "from a file\n");

    for (words, code, fact) in [
        (&["ecco", "message=x"][..], "not_found", "did you mean: echo"),
        (&["echo", "mesage=x"], "invalid_arguments", "did you mean: message"),
        (&["echo"], "invalid_arguments", "string"),
        (&["add", "a=x", "b=1"], "invalid_arguments", "wants a number"),
        (&["weather", "city=x", "unit=kelvin"], "invalid_arguments", "celsius"),
    ] {
        let mut words = words.to_vec();
        words.push("--json");
        let ran = call(&words);
        assert_eq!(ran.code, 5, "{ran:?}");
        assert_eq!(ran.error()["code"], code);
        assert!(ran.err.contains(fact), "{}", ran.err);
    }
    let (code, err) = serve.end();
    assert_eq!(code, 0, "{err}");
    for word in
        ["cvm serve  cvm-demo", "key       npub1", "pid ", "access    everybody", "public    no", "ready in "]
    {
        assert!(err.contains(word), "{word} is not in {err}");
    }
    let silent = home.run(&["call", server, "echo", "message=x", "-r", &url, "--timeout", "700ms", "--json"]);
    assert_eq!((silent.code, &silent.error()["code"]), (4, &"no_reply".into()));
    assert_eq!(relay.end().0, 0);
    let unreachable = home.run(&["ls", server, "-r", &url, "--timeout", "300ms", "--json"]);
    assert_eq!((unreachable.code, &unreachable.error()["code"]), (4, &"relay_unreachable".into()));
}

#[test]
fn only_listed_keys_may_call() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let friend = home.run(&["key", "new", "friend"]).out.trim().to_owned();
    home.run(&["key", "new", "stranger"]);
    let (serve, ready) =
        Running::serve(&home, &url, &["--ephemeral", "--allow", &friend], &[CVM, "demo", "--stdio"]);
    let server = ready["server"].as_str().unwrap();
    let call = |key: &str| {
        home.run(&["call", server, "add", "a=1", "b=2", "-r", &url, "-k", key, "--timeout", "1s"])
    };
    assert_eq!(call("friend").out, "3\n");
    let refused = call("stranger");
    assert!(matches!(refused.code, 3 | 4), "{refused:?}");
    assert_eq!(refused.out, "");
    assert!(serve.end().1.contains("1 key"));
}

#[test]
fn a_child_that_dies_fails_its_call_at_once_and_comes_back() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (serve, ready) = Running::serve(&home, &url, &["--ephemeral", "--open"], &["sh", "-c", SHELL_SERVER]);
    let server = ready["server"].as_str().unwrap();
    let call = |tool: &str| home.run(&["call", server, tool, "-r", &url, "--json"]);
    let failed = call("fail");
    assert_eq!((failed.code, &failed.error()["code"]), (5, &"tool_error".into()));
    assert!(failed.err.contains("it broke"));
    let document: Value = serde_json::from_str(&failed.out).unwrap();
    assert_eq!(document["ok"], false);
    let begun = Instant::now();
    let died = call("die");
    assert_eq!(died.code, 5, "{died:?}");
    assert!(died.err.contains("child_exited") && begun.elapsed() < Duration::from_secs(5), "{died:?}");
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(call("fail").code, 5);
    let (code, err) = serve.end();
    assert_eq!(code, 0);
    assert!(
        err.contains("child exited 7, restart 1 in ") && err.contains("1 requests answered with an error"),
        "{err}"
    );
}

#[test]
fn serve_says_at_once_what_is_wrong_with_the_command() {
    let home = Home::new();
    let serve = |command: &[&str]| {
        let mut args = vec!["serve", "--ephemeral", "--open", "-r", "ws://127.0.0.1:9", "--json", "--"];
        args.extend(command);
        home.run(&args)
    };
    for (command, words) in [
        (&["no-such-program"][..], "no program"),
        (&["sh", "-c", "exit 3"], "exited 3"),
        (&["/etc/passwd"], "not an executable"),
    ] {
        let ran = serve(command);
        assert_eq!((ran.code, &ran.error()["code"]), (8, &"config_invalid".into()), "{ran:?}");
        assert!(ran.err.contains(words), "{ran:?}");
    }
    let forgotten = home.run(&["serve", "--ephemeral", "--open", "-r", "ws://127.0.0.1:9", "--json", "npx"]);
    assert_eq!((forgotten.code, &forgotten.error()["code"]), (2, &"invalid_value".into()));
    assert!(forgotten.err.contains("-- npx"), "{forgotten:?}");
}
