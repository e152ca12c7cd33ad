//! The files in which MCP hosts keep their servers.
//!
//! Claude Desktop, Claude Code, Cursor and Windsurf call them `mcpServers`, VS Code calls them `servers`. A file is read where it lies and never copied: its `env` and `headers` often hold secrets.
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use contextvm::core::Printable;
use serde_json::{Map, Value};

use crate::problem::{Code, Problem};

/// Longest file that is read, bytes.
const LONGEST: usize = 4 * 1024 * 1024;
/// Most servers in one file.
const MOST: usize = 64;

/// One server of a file.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// What is to be run, or why that cannot be said.
    pub(crate) target: Result<EntryTarget, String>,
}

/// What an entry stands for. It prints nothing: it may hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum EntryTarget {
    /// A process. `written` is its command line before variables were filled in, which may be shown.
    Command {
        argv: Vec<String>,
        written: Vec<String>,
        env: BTreeMap<String, String>,
        directory: Option<String>,
    },
    /// A server that speaks Streamable HTTP.
    Url { url: String, headers: BTreeMap<String, String> },
    /// Nothing: the file says that it is off.
    Disabled,
}

/// Looks a variable of the environment up.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads all servers of a file, in the order of their names.
pub(crate) fn read(path: &Path, lookup: Lookup<'_>) -> Result<Vec<Entry>, Problem> {
    let shown = Printable(&path.to_string_lossy()).to_string();
    let fail = |why: String| {
        let problem = Problem::new(Code::ConfigInvalid, format!("{shown} could not be read: {why}"));
        problem
            .hint("it is a file like Claude Desktop's: {\"mcpServers\": {\"name\": {\"command\": \"...\"}}}")
    };
    let text = text_of(path).map_err(|error| fail(error.to_string()))?;
    if text.len() > LONGEST {
        return Err(fail(format!("it has more than {LONGEST} bytes")));
    }
    parse(&text, lookup).map_err(fail)
}

fn text_of(path: &Path) -> std::io::Result<String> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    let mut text = String::new();
    let one_more = u64::try_from(LONGEST).unwrap_or(u64::MAX).saturating_add(1);
    std::fs::File::open(path)?.take(one_more).read_to_string(&mut text)?;
    Ok(text)
}

fn parse(text: &str, lookup: Lookup<'_>) -> Result<Vec<Entry>, String> {
    // What hosts understand: comments, and commas at the end.
    let options = jsonc_parser::ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let parsed: Option<Value> =
        jsonc_parser::parse_to_serde_value(text, &options).map_err(|error| error.to_string())?;
    let servers =
        ["mcpServers", "servers"].into_iter().find_map(|key| parsed.as_ref()?.get(key)?.as_object());
    let servers = servers.ok_or("it has neither \"mcpServers\" nor \"servers\"")?;
    if servers.len() > MOST {
        return Err(format!("it names {} servers, at most {MOST} are run", servers.len()));
    }
    let mut entries: Vec<Entry> = servers
        .iter()
        .map(|(name, entry)| Entry { name: name.clone(), target: target(entry, lookup) })
        .collect();
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

fn target(entry: &Value, lookup: Lookup<'_>) -> Result<EntryTarget, String> {
    let entry = entry.as_object().ok_or("it is not an object")?;
    if entry.get("disabled") == Some(&Value::Bool(true)) {
        return Ok(EntryTarget::Disabled);
    }
    let kind = entry.get("type").or_else(|| entry.get("transport")).and_then(Value::as_str);
    match kind {
        None if entry.contains_key("command") => command(entry, lookup),
        None if entry.contains_key("url") => url(entry, lookup),
        None => Err("it has neither \"command\" nor \"url\"".to_owned()),
        Some("stdio" | "local") => command(entry, lookup),
        Some("http" | "streamable-http" | "streamableHttp") => url(entry, lookup),
        Some("sse") => {
            Err("the old transport \"sse\" is not supported; use its Streamable HTTP URL".to_owned())
        }
        Some(kind) => Err(format!("type \"{}\" is not known", Printable::short(kind, 30))),
    }
}

fn command(entry: &Map<String, Value>, lookup: Lookup<'_>) -> Result<EntryTarget, String> {
    if entry.contains_key("envFile") {
        return Err("\"envFile\" is not supported; write its variables into \"env\"".to_owned());
    }
    let program = entry.get("command").ok_or("it has no \"command\"")?;
    let args = entry.get("args").map(|args| args.as_array().ok_or("\"args\" is not a list")).transpose()?;
    let (mut argv, mut written) = (Vec::new(), Vec::new());
    for word in core::iter::once(program).chain(args.into_iter().flatten()) {
        argv.push(expand(word, lookup)?);
        written.push(literal(word)?);
    }
    let directory = entry.get("cwd").map(|directory| expand(directory, lookup)).transpose()?;
    Ok(EntryTarget::Command { argv, written, env: texts(entry, "env", lookup)?, directory })
}

fn url(entry: &Map<String, Value>, lookup: Lookup<'_>) -> Result<EntryTarget, String> {
    let url = expand(entry.get("url").ok_or("it has no \"url\"")?, lookup)?;
    Ok(EntryTarget::Url { url, headers: texts(entry, "headers", lookup)? })
}

/// Reads an object of texts; `null` means that there is none of this name.
fn texts(
    entry: &Map<String, Value>,
    name: &str,
    lookup: Lookup<'_>,
) -> Result<BTreeMap<String, String>, String> {
    let Some(all) = entry.get(name) else { return Ok(BTreeMap::new()) };
    let all = all.as_object().ok_or_else(|| format!("{name:?} is not an object"))?;
    let said = all.iter().filter(|(_, value)| !value.is_null());
    said.map(|(key, value)| Ok((key.clone(), expand(value, lookup)?))).collect()
}

/// Takes numbers and flags as text, too.
fn literal(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err("a text was expected".to_owned()),
    }
}

/// Fills in `${NAME}`, `${NAME:-default}` and `${env:NAME}`.
fn expand(value: &Value, lookup: Lookup<'_>) -> Result<String, String> {
    let text = literal(value)?;
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("${") {
        let (inside, behind) = after.split_once('}').ok_or("a \"${\" is not closed")?;
        out.push_str(before);
        out.push_str(&variable(inside, lookup)?);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

fn variable(inside: &str, lookup: Lookup<'_>) -> Result<String, String> {
    let shown = |name: &str| Printable::short(name, 60).to_string();
    if let Some(name) = inside.strip_prefix("input:") {
        let name = shown(name);
        return Err(format!(
            "it asks for the input \"{name}\"; put it into a variable and write ${{env:NAME}} instead"
        ));
    }
    let inside = inside.strip_prefix("env:").unwrap_or(inside);
    let (name, default) =
        inside.split_once(":-").map_or((inside, None), |(name, default)| (name, Some(default)));
    if name.starts_with("CVM_") || name.starts_with("CVMI_") {
        return Err(format!("the variable \"{}\" is this program's own and may hold a key", shown(name)));
    }
    let found = lookup(name).or_else(|| default.map(ToOwned::to_owned));
    if found.as_deref().is_some_and(crate::keys::is_secret) {
        return Err(format!("the variable \"{}\" holds a secret key", shown(name)));
    }
    found.ok_or_else(|| format!("the variable \"{}\" is not set", shown(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Result<Vec<Entry>, String> {
        parse(text, &|name| (name == "TOKEN").then(|| "t0".to_owned()))
    }

    fn only(text: &str) -> Result<EntryTarget, String> {
        let entry = entries(&format!(r#"{{"mcpServers":{{"a":{text}}}}}"#)).unwrap().remove(0);
        entry.target
    }

    fn command(argv: &[&str], env: &[(&str, &str)], directory: Option<&str>) -> EntryTarget {
        let argv: Vec<String> = argv.iter().map(|arg| (*arg).to_owned()).collect();
        EntryTarget::Command {
            written: argv.clone(),
            argv,
            env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            directory: directory.map(ToOwned::to_owned),
        }
    }

    #[test]
    fn the_shapes_of_all_hosts_are_read() {
        let text = r#"{
            // VS Code allows comments, and commas at the end
            "inputs": [],
            "servers": {
                "b": { "type": "stdio", "command": "npx", "args": ["-y", "x"], "env": { "LOG": "info", "N": 3 }, },
                "a": { "type": "http", "url": "https://h/mcp", "headers": { "Authorization": "Bearer ${TOKEN}" } },
            },
        }"#;
        let read = entries(text).unwrap();
        assert_eq!(read.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(read[1].target == Ok(command(&["npx", "-y", "x"], &[("LOG", "info"), ("N", "3")], None)));
        let headers = [("Authorization".to_owned(), "Bearer t0".to_owned())].into();
        assert!(read[0].target == Ok(EntryTarget::Url { url: "https://h/mcp".into(), headers }));
        assert!(
            only(r#"{"command":"c","cwd":"/d"}"#) == Ok(command(&["c"], &[], Some("/d"))),
            "Claude Desktop"
        );
        assert!(only(r#"{"url":"http://h"}"#).is_ok(), "Cursor");
        assert!(
            only(r#"{"type":"local","command":"c","env":{"UNSET":null}}"#) == Ok(command(&["c"], &[], None))
        );
        assert!(only(r#"{"command":"c","disabled":true}"#) == Ok(EntryTarget::Disabled));
        assert!(entries("\u{feff}{\"mcpServers\":{}}").is_ok(), "written by a Windows editor");
    }

    #[test]
    fn variables_are_filled_in_and_what_is_missing_is_said() {
        let filled = only(r#"{"command":"${TOKEN}/${NO:-x}/${env:TOKEN}/$HOME"}"#);
        let Ok(EntryTarget::Command { argv, written, .. }) = filled else { panic!("no command") };
        assert_eq!(
            (argv, written),
            (vec!["t0/x/t0/$HOME".to_owned()], vec!["${TOKEN}/${NO:-x}/${env:TOKEN}/$HOME".to_owned()])
        );
        for (text, why) in [
            (r#"{"command":"${NO}"}"#, "NO"),
            (r#"{"command":"${CVM_KEY}"}"#, "CVM_KEY"),
            (r#"{"command":"${input:token}"}"#, "input"),
            (r#"{"command":"${TOKEN"}"#, "not closed"),
            (r#"{"command":["a"]}"#, "text was expected"),
            (r#"{"command":"a","args":"b"}"#, "args"),
            (r#"{"type":"sse","url":"http://h"}"#, "sse"),
            (r#"{"type":"carrier","url":"http://h"}"#, "carrier"),
            (r#"{"type":"http","command":"a"}"#, "no \"url\""),
            (r#"{"type":"stdio","url":"http://h"}"#, "no \"command\""),
            (r#"{"command":"a","envFile":".env"}"#, "envFile"),
            ("{}", "neither"),
            ("3", "object"),
        ] {
            let error = only(text).err().unwrap_or_default();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_that_is_no_such_file_is_refused() {
        for text in [
            "",
            "{",
            "[]",
            r#"{"other":{}}"#,
            r#"{"mcpServers":[]}"#,
            r#"{"servers":{} "x":1}"#,
            "{servers:{}}",
        ] {
            assert!(entries(text).is_err(), "{text}");
        }
        let many: Vec<String> = (0..=MOST).map(|at| format!(r#""{at}":{{"command":"c"}}"#)).collect();
        assert!(entries(&format!(r#"{{"servers":{{{}}}}}"#, many.join(","))).is_err());
    }
}
