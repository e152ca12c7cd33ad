//! The MCP servers that are put on Nostr: made of the command line or of an entry of a file, and shown without secrets.
use contextvm::core::Printable;
use contextvm_bridge::{ChildCommand, Error, HttpTarget, Target};

use super::file::EntryTarget;
use crate::args;
use crate::keys;
use crate::problem::{Code, Problem};

/// Returns the server that the command line names.
pub(crate) fn named(options: &args::Target) -> Result<Target, Problem> {
    if let Some(url) = &options.url {
        if !url.contains("://") {
            let shown = Printable::short(&keys::scrub(url), 80).to_string();
            let problem = Problem::new(Code::InvalidValue, format!("{shown} is no URL"));
            return Err(problem.hint(format!("a command comes after two dashes: cvm serve ... -- {shown}")));
        }
        let mut target = HttpTarget::new(url).map_err(|error| wrong(&error))?;
        for pair in &options.headers {
            let (name, reference) = pair.split_once('=').ok_or_else(|| {
                Problem::new(Code::InvalidValue, "--header wants NAME=REF")
                    .hint("--header Authorization=env:TOKEN")
            })?;
            let value = keys::secret_text(reference)?;
            target = target.header(name, &value).map_err(|error| wrong(&error))?;
        }
        return Ok(target.into());
    }
    if options.command.is_empty() {
        return Err(Problem::new(Code::MissingArgument, "no server is named")
            .hint("name its command after two dashes, or its URL: cvm serve ... -- ./server"));
    }
    let mut command = ChildCommand::new(&options.command).map_err(|error| wrong(&error))?;
    for pair in &options.env {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            Problem::new(Code::InvalidValue, "--env wants NAME=VALUE")
                .hint("or pass one of yours on: --inherit-env NAME")
        })?;
        command = command.env(name, value).map_err(|error| wrong(&error))?;
    }
    with_environment(command, options).map(Into::into)
}

/// Returns the server that an entry of a file names; none if it is disabled.
pub(crate) fn of_entry(entry: &EntryTarget, options: &args::Target) -> Result<Option<Target>, Problem> {
    Ok(Some(match entry {
        EntryTarget::Disabled => return Ok(None),
        EntryTarget::Url { url, headers } => {
            let target = HttpTarget::new(url).map_err(|error| wrong(&error))?;
            let target = headers.iter().try_fold(target, |target, (name, value)| target.header(name, value));
            target.map_err(|error| wrong(&error))?.into()
        }
        EntryTarget::Command { argv, written: _, env, directory } => {
            let command = ChildCommand::new(argv).map_err(|error| wrong(&error))?;
            let command = env.iter().try_fold(command, |command, (name, value)| command.env(name, value));
            let mut command = with_environment(command.map_err(|error| wrong(&error))?, options)?;
            if let Some(directory) = directory {
                command = command.directory(directory);
            }
            command.into()
        }
    }))
}

/// Adds what every child gets.
fn with_environment(mut command: ChildCommand, options: &args::Target) -> Result<ChildCommand, Problem> {
    for name in &options.inherit_env {
        if std::env::var(name).is_ok_and(|value| keys::is_secret(&value)) {
            let shown = Printable::short(name, 60).to_string();
            let problem =
                Problem::new(Code::ConfigInvalid, format!("the variable {shown} holds a secret key"));
            return Err(problem.fact("no MCP server gets one"));
        }
        command = command.inherit(name).map_err(|error| wrong(&error))?;
    }
    Ok(match &options.cwd {
        Some(directory) => command.directory(directory),
        None => command,
    })
}

fn wrong(error: &Error) -> Problem {
    if matches!(error, Error::Environment { .. }) {
        Problem::new(Code::InvalidValue, error.to_string()).hint("--env NAME=VALUE")
    } else {
        Problem::new(Code::ConfigInvalid, error.to_string()).hint("check the command after --, or the URL")
    }
}

/// Says that a server could not be started.
pub(crate) fn not_started(error: &Error, shown: &str) -> Problem {
    Problem::new(Code::ConfigInvalid, error.to_string())
        .fact(shown.to_owned())
        .hint("run the command by itself; a stdio MCP server answers JSON-RPC lines on its standard output")
}

/// Shows what is put on Nostr, without its secrets.
pub(crate) fn shown(target: &Target) -> String {
    match target {
        Target::Child(command) => {
            let program = command.program().to_string_lossy();
            shown_command(
                core::iter::once(program).chain(command.args().iter().map(|arg| arg.to_string_lossy())),
            )
        }
        Target::Http(target) => format!("http   {}", Printable::short(&target.origin(), 300)),
        _ => "another kind of server".to_owned(),
    }
}

/// Shows a command line.
pub(crate) fn shown_command<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| keys::scrub(word.as_ref())).collect();
    format!("stdio  {}", Printable::short(&words.join(" "), 300))
}
