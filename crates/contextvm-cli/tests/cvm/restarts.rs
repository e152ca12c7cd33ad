//! A served process is killed under calls, and started again: nothing is executed twice, and nothing is forgotten.
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::stage::{CVM, Home, Ran, Running, until};

/// A stdio server in shell that writes down every execution before it answers.
const COUNTING_SERVER: &str = r#"
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\("[^"]*"\).*/\1/p')
  case "$line" in
    *'"method":"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}\n' "$id" ;;
    *'"method":"tools/list"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"mark","inputSchema":{"type":"object","properties":{"n":{"type":"string"}}}}]}}\n' "$id" ;;
    *'"name":"mark"'*)
      n=$(printf '%s' "$line" | sed -n 's/.*"n":"\([^"]*\)".*/\1/p')
      printf '%s\n' "$n" >> "$MARKS"
      printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"%s"}]}}\n' "$id" "$n" ;;
  esac
done
"#;

fn marks(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(ToOwned::to_owned).collect()
}

fn serve(home: &Home, url: &str, marks: &Path, more: &[&str]) -> (Running, String) {
    let env = format!("MARKS={}", marks.display());
    let mut access = vec!["-k", "me", "--open", "--env", &env];
    access.extend(more);
    let (serve, ready) = Running::serve(home, url, &access, &["sh", "-c", COUNTING_SERVER]);
    (serve, ready["server"].as_str().unwrap().to_owned())
}

/// One call in a wrap that the relay keeps, so that it hands it over again whenever the server comes back.
fn call(home: &Home, server: &str, url: &str, n: String, patience: &str) -> JoinHandle<(String, Ran)> {
    let args = ["call", server, "mark", &format!("n={n}"), "-r", url, "--gift-wrap", "persistent"];
    let mut command = home.command(&args);
    command.args(["--timeout", patience]);
    std::thread::spawn(move || (n, Ran::of(command.output().unwrap())))
}

fn stored(home: &Home) -> PathBuf {
    let directory = home.path().join(".local/state/cvm/served");
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.extension().is_none()).last().unwrap()
}

#[test]
fn killed_under_calls_it_executes_nothing_twice() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let path = home.path().join("marks");
    let mut calls = Vec::new();
    let mut server = String::new();
    for round in 0..4 {
        let before = marks(&path).len();
        let serving;
        (serving, server) = serve(&home, &url, &path, &[]);
        calls.extend((0..6).map(|n| call(&home, &server, &url, format!("{round}-{n}"), "4s")));
        until("an execution", || (marks(&path).len() > before).then_some(()));
        // Dropped, it is killed with SIGKILL, while others are on their way in, at work, or on their way out.
        drop(serving);
    }
    let (serving, _) = serve(&home, &url, &path, &[]);
    let ended: Vec<_> = calls.into_iter().map(|call| call.join().unwrap()).collect();
    let (last, ran) = call(&home, &server, &url, "last".to_owned(), "10s").join().unwrap();
    assert_eq!((ran.code, ran.out.trim()), (0, last.as_str()), "{ran:?}");
    let (code, err) = serving.end();
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("remembers /"), "{err}");

    let marks = marks(&path);
    let once: BTreeSet<_> = marks.iter().collect();
    assert_eq!(once.len(), marks.len(), "executed twice: {marks:?}");
    assert!(marks.len() > 4, "{marks:?}");
    for (n, ran) in ended.iter().filter(|(_, ran)| ran.code == 0) {
        assert!(once.contains(n), "{n} was answered: {ran:?}");
    }
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let store = stored(&home);
    assert_eq!((mode(&store), mode(store.parent().unwrap())), (0o600, 0o700));
}

#[test]
fn what_is_sent_while_it_is_away_is_answered_when_it_is_back() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let path = home.path().join("marks");
    let (serving, server) = serve(&home, &url, &path, &[]);
    drop(serving);
    let waiting = call(&home, &server, &url, "meanwhile".to_owned(), "20s");
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    let (_serving, _) = serve(&home, &url, &path, &[]);
    let (_, ran) = waiting.join().unwrap();
    assert_eq!((ran.code, ran.out.trim()), (0, "meanwhile"), "{ran:?}");
    assert_eq!(marks(&path), ["meanwhile"]);
}

#[test]
fn one_identity_is_served_once_with_a_store_or_without() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let path = home.path().join("marks");
    let (serving, server) = serve(&home, &url, &path, &[]);
    let ran = home.run(&["serve", "-k", "me", "--open", "-r", &url, "--json", "--", CVM, "demo", "--stdio"]);
    assert_eq!((ran.code == 0, &ran.error()["code"]), (false, &"config_invalid".into()), "{ran:?}");
    assert!(
        ran.err.contains("in use by another process") && ran.err.contains("cvm ctl status"),
        "{}",
        ran.err
    );
    let status = home.run(&["ctl", "status", "--json"]);
    assert!(status.out.contains("/served/"), "{status:?}");
    let status = home.run(&["ctl", "status"]);
    assert!(status.out.contains("remembers in /"), "{status:?}");
    drop(serving);

    let store = stored(&home);
    let whole = std::fs::read(&store).unwrap();
    std::fs::write(&store, &whole[..whole.len() / 2]).unwrap();
    let ran = home.run(&["serve", "-k", "me", "--open", "-r", &url, "--json", "--", CVM, "demo", "--stdio"]);
    assert!(
        ran.code != 0 && ran.err.contains("damaged") && ran.err.contains("move the file away"),
        "{ran:?}"
    );
    assert_eq!(std::fs::read(&store).unwrap().len(), whole.len() / 2, "nothing was begun anew");
    let (serving, again) = serve(&home, &url, &path, &["--in-memory"]);
    assert_eq!(again, server);
    let aside = PathBuf::from(format!("{}.damaged", store.display()));
    assert!(!store.exists() && aside.exists(), "what cannot be read is put aside");
    let ran = home.run(&["serve", "-k", "me", "--open", "-r", &url, "--json", "--", CVM, "demo", "--stdio"]);
    assert!(ran.code != 0 && ran.err.contains("in use by another process"), "in memory, too: {ran:?}");
    let status = home.run(&["ctl", "status"]);
    assert!(status.out.contains("remembers until its process ends"), "{status:?}");
    let (code, err) = serving.end();
    assert!(code == 0 && err.contains("remembers until this process ends"), "{err}");
}

/// What a disk leaves that has not written what it was told to sync.
#[test]
fn a_store_that_loses_what_it_acknowledged_is_found_out() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    home.run(&["key", "new", "me"]);
    let path = home.path().join("marks");
    let mut old = Vec::new();
    for round in 0..2 {
        let (serving, server) = serve(&home, &url, &path, &[]);
        if round == 1 {
            old = std::fs::read(stored(&home)).unwrap();
        }
        let (n, ran) = call(&home, &server, &url, format!("round {round}"), "10s").join().unwrap();
        assert_eq!((ran.code, ran.out.trim()), (0, &*n), "{ran:?}");
        drop(serving);
    }
    assert_eq!(marks(&path), ["round 0", "round 1"]);
    std::fs::write(stored(&home), old).unwrap();
    let (_serving, _) = serve(&home, &url, &path, &[]);
    until("a second execution", || (marks(&path) == ["round 0", "round 1", "round 1"]).then_some(()));
}
