//! Saved servers: names that a person gave to keys, in a file, and what was pinned of their tools.
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use contextvm::ServerIdentity;
use contextvm::core::Printable;
use nostr::types::RelayUrl;
use serde::{Deserialize, Serialize};

use crate::finding::words::short_npub;
use crate::keys::{self, npub};
use crate::problem::{Code, Problem};

pub(crate) mod check;
pub(crate) mod file;
pub(crate) mod pins;

/// Longest file of saved servers that is read, bytes.
const LONGEST: u64 = 1024 * 1024;
/// Most servers that are saved.
const MOST: usize = 1_000;
/// Most relays that are saved of one server.
const RELAYS: usize = 16;
/// The version of the file's form.
const VERSION: u8 = 1;

/// A server with the name that a person gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SavedServer {
    pub(crate) name: String,
    /// Its key, and the relays that its name brought: hints of somebody else.
    pub(crate) server: ServerIdentity,
    /// Relays that a person named for it; believed like those of `--relay`.
    pub(crate) relays: Vec<String>,
}

impl SavedServer {
    /// Shows the name with the key beside it.
    pub(crate) fn shown(&self) -> String {
        format!("{} ({})", self.name, short_npub(&self.server.key))
    }
}

/// The file as it is written.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u8,
    #[serde(default)]
    servers: BTreeMap<String, Entry>,
}

/// One server as it is written.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    relays: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    hints: Vec<String>,
}

/// Finds the server saved under a name.
///
/// # Errors
/// Fails when the file is there and cannot be used.
pub(crate) fn find(name: &str) -> Result<Option<SavedServer>, Problem> {
    // What cannot be a saved name costs no look at the file.
    if check_name(name).is_err() {
        return Ok(None);
    }
    Ok(all()?.into_iter().find(|saved| saved.name == name))
}

/// Finds the first name that a key is saved under.
pub(crate) fn find_key(key: &nostr::key::PublicKey) -> Result<Option<SavedServer>, Problem> {
    Ok(all()?.into_iter().find(|saved| saved.server.key == *key))
}

/// Lists all saved servers by name.
///
/// # Errors
/// Fails when the file is there and cannot be used.
pub(crate) fn all() -> Result<Vec<SavedServer>, Problem> {
    // Without a home there is no file, and nobody asked for one.
    path().map_or_else(|_| Ok(Vec::new()), |path| read(&path))
}

/// Saves a server under a name that is not taken.
pub(crate) fn add(name: &str, server: &ServerIdentity, relays: &[String]) -> Result<SavedServer, Problem> {
    check_name(name)?;
    let saved = SavedServer { name: name.to_owned(), server: server.clone(), relays: relays.to_vec() };
    if let Some(wrong) = relays.iter().find(|url| RelayUrl::parse(url).is_err()) {
        let shown = Printable::short(wrong, 80).to_string();
        return Err(
            Problem::new(Code::InvalidValue, format!("{shown} is no relay")).hint("--relay wss://...")
        );
    }
    if relays.len() > RELAYS {
        let problem = Problem::new(Code::InvalidValue, format!("more than {RELAYS} relays of one server"));
        return Err(problem.hint("name fewer: --relay wss://..."));
    }
    change(|servers| {
        if servers.iter().any(|saved| saved.name == name) {
            let problem = Problem::new(Code::InvalidValue, format!("a server is saved as {name} already"));
            return Err(problem.hint(format!("take another name, or: cvm server rm {name}")));
        }
        if servers.len() >= MOST {
            let problem = Problem::new(Code::ConfigInvalid, format!("{MOST} servers are saved already"));
            return Err(problem.hint("cvm server rm NAME"));
        }
        servers.push(saved.clone());
        Ok(())
    })?;
    Ok(saved)
}

/// Forgets a server, and what was pinned of it unless another name stands for it, too.
pub(crate) fn remove(name: &str) -> Result<SavedServer, Problem> {
    let (mut removed, mut is_last) = (None, false);
    // Until the pins are gone nobody can save the key anew and rely on them.
    let _lock = change(|servers| {
        let at = position(servers, name)?;
        let gone = servers.remove(at);
        is_last = servers.iter().all(|saved| saved.server.key != gone.server.key);
        removed = Some(gone);
        Ok(())
    })?;
    let removed = removed.ok_or_else(|| unknown(name))?;
    if is_last {
        pins::forget(&removed.server.key)?;
    }
    Ok(removed)
}

/// Gives a saved server another name.
pub(crate) fn rename(name: &str, new: &str) -> Result<(), Problem> {
    check_name(new)?;
    change(|servers| {
        if servers.iter().any(|saved| saved.name == new) {
            return Err(Problem::new(Code::InvalidValue, format!("a server is saved as {new} already"))
                .hint("take another name"));
        }
        let at = position(servers, name)?;
        if let Some(saved) = servers.get_mut(at) {
            new.clone_into(&mut saved.name);
        }
        Ok(())
    })
    .map(drop)
}

/// Finds the server saved under a name, which must be there.
pub(crate) fn get(name: &str) -> Result<SavedServer, Problem> {
    find(name)?.ok_or_else(|| unknown(name))
}

fn position(servers: &[SavedServer], name: &str) -> Result<usize, Problem> {
    servers.iter().position(|saved| saved.name == name).ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> Problem {
    let shown = Printable::short(&keys::scrub(name), 60).to_string();
    Problem::new(Code::NotFound, format!("no server is saved as {shown}")).hint("cvm server ls")
}

/// Checks a name: it must not be taken for a key, a domain or a flag, and must do as part of a path.
fn check_name(name: &str) -> Result<(), Problem> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let lower = name.to_ascii_lowercase();
    let is_key =
        ["npub1", "nprofile1", "naddr1", "nsec1", "ncryptsec1"].iter().any(|start| lower.starts_with(start));
    if (1..=32).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('-') && !is_key {
        return Ok(());
    }
    let problem = Problem::new(
        Code::InvalidValue,
        "the name of a saved server has 1 to 32 letters, digits, dashes or underscores, and is no key",
    );
    Err(problem.hint("cvm server add weather npub1..."))
}

/// Where the file lies.
fn path() -> Result<PathBuf, Problem> {
    file::config_directory().map(|directory| directory.join("servers.toml"))
}

fn read(path: &std::path::Path) -> Result<Vec<SavedServer>, Problem> {
    let Some(text) = file::read(path, LONGEST)? else { return Ok(Vec::new()) };
    parse(&text).map_err(|why| {
        let shown = Printable(&path.to_string_lossy()).to_string();
        let lines = why.trim_end().lines().map(|line| Printable(line).to_string());
        let problem = Problem::new(Code::ConfigInvalid, format!("{shown} is not understood"));
        lines.fold(problem, Problem::fact).hint(format!("correct that line of {shown}"))
    })
}

fn parse(text: &str) -> Result<Vec<SavedServer>, String> {
    let written: Written = toml::from_str(text).map_err(|error| error.to_string())?;
    if written.version != VERSION {
        return Err(format!("version {} is not known; this program knows {VERSION}", written.version));
    }
    if written.servers.len() > MOST {
        return Err(format!("it holds more than {MOST} servers"));
    }
    let entries = written.servers.into_iter().map(|(name, entry)| {
        let fail = |why: String| format!("{}, servers.{name}: {why}", line_of(text, &name));
        check_name(&name).map_err(|problem| fail(problem.message().to_owned()))?;
        let mut server: ServerIdentity =
            entry.id.parse().map_err(|error| fail(format!("id is not understood: {error}")))?;
        if entry.relays.len().max(entry.hints.len()) > RELAYS {
            return Err(fail(format!("it has more than {RELAYS} relays")));
        }
        for url in entry.relays.iter().chain(&entry.hints) {
            RelayUrl::parse(url).map_err(|error| fail(format!("{url} is no relay: {error}")))?;
        }
        server.relays = entry.hints;
        Ok(SavedServer { name, server, relays: entry.relays })
    });
    entries.collect()
}

/// Says in which line the entry of a name begins.
fn line_of(text: &str, name: &str) -> String {
    let begins = |line: &str| line.trim_start().starts_with('[') && line.contains(name);
    match text.lines().position(begins) {
        Some(at) => format!("line {}", at + 1),
        None => "somewhere".to_owned(),
    }
}

fn print(servers: &[SavedServer]) -> Result<String, Problem> {
    let entry = |saved: &SavedServer| Entry {
        id: npub(&saved.server.key),
        relays: saved.relays.clone(),
        hints: saved.server.relays.iter().take(RELAYS).cloned().collect(),
    };
    let entries = servers.iter().map(|saved| (saved.name.clone(), entry(saved))).collect();
    let text = toml::to_string(&Written { version: VERSION, servers: entries });
    let text = text.map_err(|error| Problem::internal(error.to_string()))?;
    Ok(format!("# Saved servers; `cvm server` writes this file anew and keeps no comments.\n{text}"))
}

/// Changes the saved servers; two processes that do so at once do it one after the other. The next one waits until the
/// lock that is returned is dropped.
fn change(change: impl FnOnce(&mut Vec<SavedServer>) -> Result<(), Problem>) -> Result<File, Problem> {
    let path = path()?;
    let lock = file::lock(&path)?;
    let mut servers = read(&path)?;
    change(&mut servers)?;
    file::write(&path, &print(&servers)?)?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "npub1sn0wdenkukak0d9dfczzeacvhkrgz92ak56egt7vdgzn8pv2wfqqhrjdv9";

    #[test]
    fn what_is_written_is_read_again() {
        let mut server: ServerIdentity = KEY.parse().unwrap();
        server.relays.push("wss://relay.example".to_owned());
        let relays = vec!["ws://127.0.0.1:1".to_owned()];
        let servers = vec![SavedServer { name: "weather".to_owned(), server, relays }];
        let text = print(&servers).unwrap();
        assert!(text.contains("[servers.weather]\nid = \"npub1"), "{text}");
        assert_eq!(parse(&text).unwrap(), servers);
        assert_eq!(parse("version = 1").unwrap(), []);
    }

    #[test]
    fn a_wrong_file_is_refused_with_the_line() {
        let good = format!("version = 1\n\n[servers.a]\nid = \"{KEY}\"\n");
        assert!(parse(&good).is_ok());
        for (text, line, why) in [
            (format!("{good}ids = 3\n"), "line 5", "unknown field `ids`"),
            (good.replace("version = 1", "version = 1\nkeys = 1"), "line 2", "unknown field `keys`"),
            (good.replace("npub1", "npub2"), "line 3", "id is not understood"),
            (format!("{good}relays = [\"nonsense\"]\n"), "line 3", "no relay"),
            (good.replace("servers.a", "servers.npub1x"), "line 3", "is no key"),
            (good.replace("servers.a", "servers.\"a b\""), "line 3", "letters"),
            (good.replace("version = 1", "version = 2"), "version 2", "is not known"),
            ("id =".to_owned(), "line 1", ""),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(line) && error.contains(why), "{text}\n{error}");
        }
    }

    #[test]
    fn names_cannot_be_taken_for_something_else() {
        for name in ["weather", "a", "MeteoPT_2", "x-y"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        let long = "x".repeat(33);
        for name in ["", "-k", "npub1x", "NPUB1x", "a.b", "a@b", "schema:x", "a=b", "é", "a b", &long] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
