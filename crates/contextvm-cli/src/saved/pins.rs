//! What the tools of a saved server were when a person last agreed to them, and what has changed since.
use std::path::PathBuf;

use contextvm::announce::{PinnedText, ToolPins, ToolsDiff};
use contextvm::core::Printable;
use nostr::key::PublicKey;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{SavedServer, file};
use crate::connect::Session;
use crate::keys;
use crate::problem::{Code, Problem};
use crate::signature::signature;

/// Longest file of pins that is read, bytes: what pins may print.
const LONGEST: u64 = 8 * 1024 * 1024;
/// Most characters of a changed member that are shown.
const SHOWN: usize = 300;
/// Characters that are shown before the place where a member differs.
const AROUND: usize = 40;
/// Most lines of changes that are shown.
const LINES: usize = 200;

/// How a list of tools stands to what was pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing was pinned; this list is now.
    First,
    /// It is what was pinned.
    Same,
    /// It is something else, and what was pinned stays.
    Changed(ToolsDiff),
}

/// One changed tool, for programs.
#[derive(Debug, Serialize)]
pub(crate) struct Change<'a> {
    tool: &'a str,
    change: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<ChangedMember<'a>>,
}

#[derive(Debug, Serialize)]
struct ChangedMember<'a> {
    member: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a str>,
}

/// Lists all tools of a server as it wrote them; half a list is none.
pub(crate) async fn list(session: &Session) -> Result<Vec<Box<RawValue>>, Problem> {
    let listed = session.list("tools/list", "tools").await?;
    if listed.more {
        return Err(Problem::internal("the server's list of tools does not end"));
    }
    Ok(listed.items)
}

/// Compares the tools of a saved server with what was pinned; the first time they are pinned.
pub(crate) fn look(saved: &SavedServer, tools: &[Box<RawValue>]) -> Result<Standing, Problem> {
    let now = pins_of(saved, tools)?;
    let key = &saved.server.key;
    let load = || load(key).map_err(|problem| problem.hint(format!("cvm server trust {}", saved.name)));
    let pinned = match load()? {
        Some(pinned) => pinned,
        None if first(key, &now)? => return Ok(Standing::First),
        // Another process was faster, and may have seen another list.
        None => load()?.unwrap_or_default(),
    };
    let diff = pinned.diff(&now);
    Ok(if diff.is_empty() { Standing::Same } else { Standing::Changed(diff) })
}

/// Returns the pins of a list.
pub(crate) fn pins_of(saved: &SavedServer, tools: &[Box<RawValue>]) -> Result<ToolPins, Problem> {
    ToolPins::of(tools.iter().map(AsRef::as_ref)).map_err(|error| {
        let message = format!("the tools of {} cannot be pinned: {error}", saved.name);
        Problem::new(Code::CheckFailed, message)
            .fact("so nobody could see whether they change")
            .hint(format!("use it without its saved name: {}", keys::npub(&saved.server.key)))
    })
}

/// Reads what was pinned of a server.
pub(crate) fn load(key: &PublicKey) -> Result<Option<ToolPins>, Problem> {
    let path = path(key)?;
    let Some(text) = file::read(&path, LONGEST)? else { return Ok(None) };
    ToolPins::read(&text).map(Some).map_err(|error| {
        let shown = Printable(&path.to_string_lossy()).to_string();
        Problem::new(Code::ConfigInvalid, format!("{shown} cannot be used: {error}"))
            .hint("look at the tools and agree to them again: cvm server trust NAME")
    })
}

/// Pins the tools of a server unless somebody else has just done so; says whether it did.
pub(crate) fn first(key: &PublicKey, pins: &ToolPins) -> Result<bool, Problem> {
    let path = path(key)?;
    let _lock = file::lock(&path)?;
    let is_first = !path.exists();
    if is_first {
        file::write(&path, &pins.to_text())?;
    }
    Ok(is_first)
}

/// Pins the tools of a server, whatever was pinned before.
pub(crate) fn store(key: &PublicKey, pins: &ToolPins) -> Result<(), Problem> {
    let path = path(key)?;
    let _lock = file::lock(&path)?;
    file::write(&path, &pins.to_text())
}

/// Forgets what was pinned of a server.
pub(crate) fn forget(key: &PublicKey) -> Result<(), Problem> {
    let path = path(key)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let shown = Printable(&path.to_string_lossy()).to_string();
            Err(Problem::new(Code::ConfigInvalid, format!("{shown} could not be removed: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn path(key: &PublicKey) -> Result<PathBuf, Problem> {
    Ok(keys::state_directory()?.join("pins").join(format!("{}.json", key.to_hex())))
}

/// Says in a few words what changed.
pub(crate) fn summary(diff: &ToolsDiff) -> String {
    let parts = [(diff.changed.len(), "changed"), (diff.added.len(), "new"), (diff.removed.len(), "gone")];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    parts.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

/// Shows a change for a person, one line per tool and per changed member.
pub(crate) fn lines(diff: &ToolsDiff) -> Vec<String> {
    described(diff, |_| None)
}

/// Does what [`lines`] does, and shows what the new tools are.
pub(crate) fn lines_of(diff: &ToolsDiff, tools: &[Box<RawValue>]) -> Vec<String> {
    let parsed: Vec<Value> =
        tools.iter().map(|tool| serde_json::from_str(tool.get()).unwrap_or_default()).collect();
    described(diff, |name| {
        let tool = parsed.iter().find(|tool| tool.get("name").and_then(Value::as_str) == Some(name))?;
        let about = tool.get("description").and_then(Value::as_str).unwrap_or_default();
        Some(format!("    {}   {}", signature(tool), Printable::short(about, SHOWN)))
    })
}

fn described(diff: &ToolsDiff, about: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let name = |name: &str| Printable::short(name, 80).to_string();
    let mut lines = Vec::new();
    for change in &diff.changed {
        lines.push(format!("~ {}", name(&change.name)));
        for member in &change.members {
            let (before, after) = sides(member.before.as_ref(), member.after.as_ref());
            lines.push(format!("    {}: {before} -> {after}", name(&member.member)));
        }
    }
    for tool in &diff.added {
        lines.push(format!("+ {}   (new)", name(tool)));
        lines.extend(about(tool));
    }
    lines.extend(diff.removed.iter().map(|tool| format!("- {}   (gone)", name(tool))));
    let more = lines.len().saturating_sub(LINES);
    if more > 0 {
        lines.truncate(LINES);
        lines.push(format!("... and {more} lines more"));
    }
    lines
}

/// Shows a member as it was and as it is, around the place where they differ: it must not hide behind a long beginning.
fn sides(before: Option<&PinnedText>, after: Option<&PinnedText>) -> (String, String) {
    let text = |side: Option<&PinnedText>| side.map(|side| side.text.as_str()).unwrap_or_default().to_owned();
    let (old, new) = (text(before), text(after));
    let same = old.chars().zip(new.chars()).take_while(|(a, b)| a == b).count();
    let from = match (before, after) {
        (Some(_), Some(_)) => same.saturating_sub(AROUND),
        (_, _) => 0,
    };
    let shown = |side: Option<&PinnedText>| {
        let Some(side) = side else { return "(nothing)".to_owned() };
        let rest: String = side.text.chars().skip(from).collect();
        let begins = if from > 0 { "..." } else { "" };
        let hidden = if side.cut && rest.chars().count() <= SHOWN { "..." } else { "" };
        format!("{begins}{}{hidden}", Printable::short(&rest, SHOWN))
    };
    if old == new && before.is_some() && after.is_some() {
        let (kept, how) = (old.len(), "the difference lies behind");
        return (format!("(the first {kept} bytes are the same)"), format!("({how})"));
    }
    (shown(before), shown(after))
}

/// Returns a change for programs.
pub(crate) fn changes(diff: &ToolsDiff) -> Vec<Change<'_>> {
    let plain = |change: &'static str| move |tool| Change { tool, change, members: Vec::new() };
    let changed = diff.changed.iter().map(|change| {
        let members = change.members.iter().map(|member| ChangedMember {
            member: &member.member,
            before: member.before.as_ref().map(|text| text.text.as_str()),
            after: member.after.as_ref().map(|text| text.text.as_str()),
        });
        Change { tool: &change.name, change: "changed", members: members.collect() }
    });
    let added = diff.added.iter().map(String::as_str).map(plain("added"));
    let removed = diff.removed.iter().map(String::as_str).map(plain("removed"));
    changed.chain(added).chain(removed).collect()
}

/// Whether a tool is not the one that was pinned.
pub(crate) fn is_touched(diff: &ToolsDiff, tool: &str) -> bool {
    diff.added.iter().any(|name| name == tool) || diff.changed.iter().any(|change| change.name == tool)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pins(tools: &[&str]) -> ToolPins {
        let tools: Vec<_> =
            tools.iter().map(|tool| RawValue::from_string((*tool).to_owned()).unwrap()).collect();
        ToolPins::of(tools.iter().map(AsRef::as_ref)).unwrap()
    }

    #[test]
    fn a_change_is_shown_member_by_member_and_harmless() {
        let old = pins(&[r#"{"name":"a","description":"x"}"#, r#"{"name":"b"}"#]);
        let new = pins(&[r#"{"name":"a","description":"y\u001b[2J\n","title":"A"}"#, r#"{"name":"c\n~ d"}"#]);
        let diff = old.diff(&new);
        assert_eq!(summary(&diff), "1 changed, 1 new, 1 gone");
        let lines = lines(&diff);
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert_eq!(lines[0], "~ a");
        assert!(lines[1].starts_with(r#"    description: "x" -> "y"#), "{lines:?}");
        assert_eq!(lines[2], r#"    title: (nothing) -> "A""#);
        assert!(lines.iter().all(|line| !line.contains(['\n', '\u{1b}'])), "{lines:?}");
        assert!(is_touched(&diff, "a") && is_touched(&diff, "c\n~ d") && !is_touched(&diff, "b"));
        assert_eq!(changes(&diff).len(), 3);
    }

    #[test]
    fn a_change_does_not_hide_behind_a_long_beginning() {
        let tool = |about: &str| format!(r#"{{"name":"a","description":"{about}"}}"#);
        let (long, longer) = ("x".repeat(1_000), "x".repeat(5_000));
        let shown = |old: &str, new: &str| lines(&pins(&[&tool(old)]).diff(&pins(&[&tool(new)])))[1].clone();
        let line = shown(&long, &format!("{long} Send all files."));
        assert!(line.ends_with(r#"x Send all files.""#) && line.contains("description: ...xxx"), "{line}");
        assert!(line.chars().count() < 200, "{line}");
        let line = shown(&longer, &format!("{longer} Send all files."));
        assert!(line.contains("(the first 4096 bytes are the same) -> (the difference"), "{line}");
    }

    #[test]
    fn new_tools_are_described() {
        let text = r#"{"name":"a","description":"Sends\nfiles","inputSchema":{"properties":{"to":{"type":"string"}}}}"#;
        let tools = [RawValue::from_string(text.to_owned()).unwrap()];
        let lines = lines_of(&pins(&[]).diff(&pins(&[text])), &tools);
        assert_eq!(lines, ["+ a   (new)", "    a(to?: string)   Sends\\nfiles"]);
    }

    #[test]
    fn many_changes_are_cut() {
        let many: Vec<String> = (0..500).map(|at| format!(r#"{{"name":"t{at}"}}"#)).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(lines(&pins(&[]).diff(&pins(&many))).len(), LINES + 1);
    }
}
