//! `cvm server`: servers under names of one's own, and whether their tools are still those that were agreed to.
use contextvm::announce::ToolsDiff;
use contextvm::core::Printable;
use serde::Serialize;

use crate::args::{Global, Server, ServerCommand, Trust};
use crate::connect::Session;
use crate::finding::words::{count, short_npub};
use crate::keys::npub;
use crate::names::{self, Named};
use crate::output::{Out, Talk, confirm, someone_is_there};
use crate::problem::{Code, Problem};
use crate::saved::pins::{self, Standing};
use crate::saved::{self, SavedServer};
use crate::table::Table;

/// What became of one saved server.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    #[serde(flatten)]
    entry: Entry<'a>,
    /// How many tools were pinned by this command, or could not be, because nobody was reached.
    #[serde(rename = "pinnedTools", skip_serializing_if = "Option::is_none")]
    pinned: Option<usize>,
    /// The hash of the whole list.
    #[serde(skip_serializing_if = "Option::is_none")]
    list: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<pins::Change<'a>>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    server: String,
    relays: &'a [String],
    /// The hash of the list of tools that was agreed to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pins: Option<String>,
}

#[derive(Serialize)]
struct List<'a> {
    schema: &'static str,
    servers: Vec<Entry<'a>>,
}

impl<'a> Entry<'a> {
    fn of(saved: &'a SavedServer) -> Self {
        // Pins that cannot be read are met where they count.
        let pins = pins::load(&saved.server.key).ok().flatten().map(|pins| pins.list_hash().to_string());
        Self { name: &saved.name, server: npub(&saved.server.key), relays: &saved.relays, pins }
    }
}

pub(crate) async fn run(
    options: &Server,
    global: &Global,
    out: &mut Out,
    talk: &Talk,
) -> Result<(), Problem> {
    match &options.command {
        ServerCommand::Add { name, server, no_connect } => {
            let named = names::resolve(server, global, talk).await?;
            Box::pin(add(name, named, !no_connect, (global, out, talk))).await
        }
        ServerCommand::Rm { name } => {
            let removed = saved::remove(name)?;
            report("cvm.server.rm/1", &removed, out)?;
            talk.say(&format!("{name} is forgotten"));
            Ok(())
        }
        ServerCommand::Ls => list(out, talk),
        ServerCommand::Rename { name, new } => {
            saved::rename(name, new)?;
            report("cvm.server.rename/1", &saved::get(new)?, out)
        }
        ServerCommand::Trust(options) => {
            Box::pin(trust(&saved::get(&options.name)?, options, (global, out, talk))).await
        }
    }
}

/// Writes what is known of one server.
fn report(schema: &'static str, saved: &SavedServer, out: &mut Out) -> Result<(), Problem> {
    if out.json {
        return out.document(&Document {
            schema,
            entry: Entry::of(saved),
            pinned: None,
            list: None,
            changes: None,
        });
    }
    out.line(&format!("{}  {}", saved.name, npub(&saved.server.key)))
}

/// Saves a server; its tools are pinned now if it answers.
async fn add(
    name: &str,
    named: Named,
    connect: bool,
    (global, out, talk): (&Global, &mut Out, &Talk),
) -> Result<(), Problem> {
    let saved = saved::add(name, &named.server, named.relays(global))?;
    let pinned = if connect {
        match Box::pin(pin(&saved, global, talk)).await {
            Ok(pinned) => Some(pinned),
            Err(problem) if problem.is(Code::CheckFailed) => {
                // It is not usable under this name, so it does not get it.
                saved::remove(name)?;
                return Err(match saved::find_key(&saved.server.key)? {
                    Some(other) => problem
                        .fact(format!("it is saved as {} already, and was pinned then", other.name))
                        .hint(format!("look at them, then: cvm server trust {}", other.name)),
                    None => problem,
                });
            }
            Err(problem) => {
                talk.say(&format!("{name} could not be asked for its tools: {}", problem.message()));
                None
            }
        }
    } else {
        None
    };
    if out.json {
        let entry = Entry::of(&saved);
        out.document(&Document { schema: "cvm.server.add/1", entry, pinned, list: None, changes: None })?;
    } else {
        out.line(&format!("{name}  {}", npub(&saved.server.key)))?;
    }
    match pinned {
        Some(pinned) => talk.say(&format!("{} pinned     next: cvm ls {name}", count(pinned, "tool"))),
        None => talk.say("its tools are pinned when they are listed for the first time"),
    }
    Ok(())
}

/// Pins the tools of a server that was just saved; another name may have pinned them before.
async fn pin(saved: &SavedServer, global: &Global, talk: &Talk) -> Result<usize, Problem> {
    let session = Box::pin(Session::open_named(global, saved.clone().into(), talk)).await?;
    let tools = pins::list(&session).await;
    session.close().await;
    let tools = tools?;
    if let Standing::Changed(diff) = pins::look(saved, &tools)? {
        return Err(changed(saved, &diff));
    }
    Ok(tools.len())
}

/// Says that tools are not those that were agreed to.
pub(crate) fn changed(saved: &SavedServer, diff: &ToolsDiff) -> Problem {
    let message =
        format!("the tools of {} are not those that were agreed to: {}", saved.shown(), pins::summary(diff));
    let problem = Problem::new(Code::CheckFailed, message).data("server", npub(&saved.server.key));
    let problem = pins::lines(diff).into_iter().fold(problem, Problem::fact);
    problem.hint(format!("look at them, then: cvm server trust {}", saved.name))
}

fn list(out: &mut Out, talk: &Talk) -> Result<(), Problem> {
    let all = saved::all()?;
    if out.json {
        let servers = all.iter().map(Entry::of).collect();
        return out.document(&List { schema: "cvm.server.ls/1", servers });
    }
    if all.is_empty() {
        talk.say("no server is saved     next: cvm server add weather npub1...");
        return Ok(());
    }
    let mut table = Table::new(&["NAME", "SERVER", "TOOLS", "RELAYS"]);
    for saved in &all {
        let tools = match pins::load(&saved.server.key) {
            Ok(Some(pins)) => format!("{} pinned", pins.tools().count()),
            Ok(None) => "-".to_owned(),
            Err(_) => "pins are damaged".to_owned(),
        };
        let relays = saved.relays.join(" ");
        table.row([
            saved.name.clone(),
            short_npub(&saved.server.key),
            tools,
            Printable::short(&relays, 120).to_string(),
        ]);
    }
    out.text(&table.to_text(""))
}

/// Shows what has changed, and agrees to it.
async fn trust(
    saved: &SavedServer,
    options: &Trust,
    (global, out, talk): (&Global, &mut Out, &Talk),
) -> Result<(), Problem> {
    let session = Box::pin(Session::open_named(global, saved.clone().into(), talk)).await?;
    let tools = pins::list(&session).await;
    session.close().await;
    let tools = tools?;
    let now = pins::pins_of(saved, &tools)?;
    let before = match pins::load(&saved.server.key) {
        Ok(before) => before,
        Err(problem) => {
            talk.say(&format!("{}; all tools count as new", problem.message()));
            None
        }
    };
    let diff = before.unwrap_or_default().diff(&now);
    let list = now.list_hash().to_string();
    if options.expect.as_ref().is_some_and(|expected| *expected != list) {
        let problem = Problem::new(Code::CheckFailed, "the tools are not the ones that were expected");
        return Err(problem
            .fact(format!("the list is {list} now"))
            .hint(format!("look at them: cvm server trust {} --dry-run", saved.name)));
    }
    // Whoever names the list has seen it.
    let asks = !options.dry_run && !options.yes && options.expect.is_none() && !diff.is_empty();
    let head = format!("{}  {}", saved.name, npub(&saved.server.key));
    let lines = pins::lines_of(&diff, &tools).into_iter().chain([format!("list {list}")]);
    for line in std::iter::once(head).chain(lines.map(|line| format!("  {line}"))) {
        match out.json {
            // Nobody is asked about something unseen.
            true if asks => Talk::insist(&line),
            true => {}
            false => out.line(&line)?,
        }
    }
    if asks && !someone_is_there() {
        let problem = Problem::new(Code::MissingArgument, "nobody is here to be asked about these tools");
        return Err(problem.fact(pins::summary(&diff)).hint(format!(
            "read them, then agree to them: cvm server trust {} --expect {list}",
            saved.name
        )));
    }
    let agreed = !options.dry_run && (!asks || confirm("agree to these tools? [y/N] ")?);
    if agreed {
        pins::store(&saved.server.key, &now)?;
    }
    if out.json {
        let (entry, changes) = (Entry::of(saved), Some(pins::changes(&diff)));
        let pinned = agreed.then_some(tools.len());
        let list = Some(list);
        return out.document(&Document { schema: "cvm.server.trust/1", entry, pinned, list, changes });
    }
    let what = if diff.is_empty() { "nothing has changed".to_owned() } else { pins::summary(&diff) };
    let done = if agreed {
        format!("{} pinned", count(tools.len(), "tool"))
    } else {
        "nothing was pinned".to_owned()
    };
    talk.say(&format!("{what}; {done}"));
    Ok(())
}
