//! Other people on this machine, and strangers' words in our logs.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::stage::{CVM, Home, Running};

/// Runs cvm as somebody would whose shell lets everybody do everything with new files.
fn careless(home: &Home, args: &[&str]) -> Command {
    let mut command = home.command(&[]);
    let (path, directory) = (PathBuf::from("/bin/sh"), home.path().to_owned());
    let mut shell = Command::new(path);
    shell.args(["-c", "umask 000; exec \"$0\" \"$@\"", CVM]).args(args).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(directory).stdin(std::process::Stdio::null());
    shell.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command.env_clear();
    shell
}

/// Everything below a directory.
fn below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            below(&path, found);
        }
        found.push(path);
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode()
}

#[test]
fn nothing_that_is_written_can_be_used_by_others_whatever_the_umask() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    assert!(careless(&home, &["key", "new", "me"]).status().unwrap().success());
    let serve = Running::start(careless(
        &home,
        &["serve", "--json", "-k", "me", "-r", &url, "--open", "--", CVM, "demo", "--stdio"],
    ));
    let server = serve.document()["server"].as_str().unwrap().to_owned();
    let called = careless(&home, &["call", &server, "echo", "message=x", "-r", &url]).output().unwrap();
    assert!(called.status.success(), "{called:?}");
    let saved = careless(&home, &["server", "add", "one", &server, "-r", &url, "--yes"]).output().unwrap();
    let mut found = Vec::new();
    below(home.path(), &mut found);
    // The key, the control socket, and what holds them.
    assert!(found.len() >= 4, "{found:?} {saved:?}");
    let files: Vec<_> = found.iter().filter(|path| !mode(path) & 0o077 != 0o077).collect();
    assert!(files.is_empty(), "others may use {files:?}");
    assert_eq!(serve.end().0, 0);
}

#[test]
fn a_strangers_words_move_no_cursor_at_any_level() {
    let home = Home::new();
    let words =
        "blocked: \u{1b}[2J\u{1b}]0;title\u{7}\u{202e}\u{2028}\u{85}\u{200b}\r\nERROR all keys are lost";
    let relay = Running::start(home.command(&["relay", "run", "--port", "0", "--refuse", words]));
    let url = relay.first.trim().to_owned();
    let (mut shown, mut last) = (false, String::new());
    for level in [&[][..], &["-v"], &["-vv"], &["-vvv"]] {
        let ran = home.run(&[&["relay", "check", &url], level].concat());
        let said = format!("{}{}", ran.out, ran.err);
        let moves = |letter: char| {
            letter.is_control() && letter != '\n'
                || ['\u{202e}', '\u{2028}', '\u{200b}', '\u{85}'].contains(&letter)
        };
        let found: Vec<_> = said.lines().filter(|line| line.contains(moves)).collect();
        assert!(found.is_empty(), "{level:?}: {found:?}");
        assert!(!said.lines().any(|line| line.starts_with("ERROR all keys")), "{level:?}: {said}");
        shown |= said.contains("blocked");
        last = said;
    }
    assert!(shown, "what the relay said was shown somewhere: {last}");
}
