//! What is the same for every server that one `cvm serve` puts on Nostr.
use contextvm::Keys;
use contextvm::core::{Printable, ServerIdentity};
use contextvm::server::{EncryptionMode, ErrorKind, Identity, Listener, Server};
use contextvm_bridge::{
    ChildCommand, Error, Gateway, GatewayBuilder, HttpTarget, Reporter, RestartPolicy, RestartWhen, Target,
};
use nostr::key::PublicKey;

use super::file::EntryTarget;
use crate::args::{Global, Isolation, Restart, Serve};
use crate::keys::{self, Chosen, KeyRef};
use crate::problem::{Code, Problem};

/// The answers to who, where and how.
pub(crate) struct Plan {
    pub(crate) options: Serve,
    pub(crate) global: Global,
    pub(crate) chosen: Chosen,
    /// `None` lets everybody call.
    pub(crate) allowed: Option<Vec<PublicKey>>,
}

impl Plan {
    pub(crate) fn new(options: &Serve, global: &Global) -> Result<Self, Problem> {
        let allowed = allowed(options)?;
        let chosen = key(options, global)?;
        if global.relays.is_empty() {
            let problem = Problem::new(Code::MissingArgument, "serve needs a relay to serve on");
            return Err(problem.hint("--relay wss://...   or a local one: cvm relay run"));
        }
        Ok(Self { options: options.clone(), global: global.clone(), chosen, allowed })
    }

    pub(crate) fn encryption(&self) -> EncryptionMode {
        if self.options.require_encryption { EncryptionMode::Required } else { self.global.encryption.into() }
    }

    /// Returns the server that the command line names.
    pub(crate) fn target(&self) -> Result<Target, Problem> {
        if let Some(url) = &self.options.url {
            if !url.contains("://") {
                let shown = Printable::short(&keys::scrub(url), 80).to_string();
                let problem = Problem::new(Code::InvalidValue, format!("{shown} is no URL"));
                return Err(
                    problem.hint(format!("a command comes after two dashes: cvm serve ... -- {shown}"))
                );
            }
            let mut target = HttpTarget::new(url).map_err(|error| wrong(&error))?;
            for pair in &self.options.headers {
                let (name, reference) = pair.split_once('=').ok_or_else(|| {
                    Problem::new(Code::InvalidValue, "--header wants NAME=REF")
                        .hint("--header Authorization=env:TOKEN")
                })?;
                let value = keys::secret_text(reference)?;
                target = target.header(name, &value).map_err(|error| wrong(&error))?;
            }
            return Ok(target.into());
        }
        let mut command = ChildCommand::new(&self.options.command).map_err(|error| wrong(&error))?;
        for pair in &self.options.env {
            let (name, value) = pair.split_once('=').ok_or_else(|| {
                Problem::new(Code::InvalidValue, "--env wants NAME=VALUE")
                    .hint("or pass one of yours on: --inherit-env NAME")
            })?;
            command = command.env(name, value).map_err(|error| wrong(&error))?;
        }
        self.command(command).map(Into::into)
    }

    /// Returns the server that an entry of a file names; none if it is disabled.
    pub(crate) fn entry_target(&self, entry: &EntryTarget) -> Result<Option<Target>, Problem> {
        Ok(Some(match entry {
            EntryTarget::Disabled => return Ok(None),
            EntryTarget::Url { url, headers } => {
                let target = HttpTarget::new(url).map_err(|error| wrong(&error))?;
                let target =
                    headers.iter().try_fold(target, |target, (name, value)| target.header(name, value));
                target.map_err(|error| wrong(&error))?.into()
            }
            EntryTarget::Command { argv, written: _, env, directory } => {
                let command = ChildCommand::new(argv).map_err(|error| wrong(&error))?;
                let command = env.iter().try_fold(command, |command, (name, value)| command.env(name, value));
                let mut command = self.command(command.map_err(|error| wrong(&error))?)?;
                if let Some(directory) = directory {
                    command = command.directory(directory);
                }
                command.into()
            }
        }))
    }

    /// Adds what every child gets.
    fn command(&self, mut command: ChildCommand) -> Result<ChildCommand, Problem> {
        for name in &self.options.inherit_env {
            command = command.inherit(name).map_err(|error| wrong(&error))?;
        }
        Ok(match &self.options.cwd {
            Some(directory) => command.directory(directory),
            None => command,
        })
    }

    /// Returns the key of an entry of a file: made of the chosen key and its name, so that one backup covers them all.
    pub(crate) fn identity(&self, entry: &str) -> Result<Keys, Problem> {
        self.chosen.keys.derive(entry).map_err(|error| Problem::internal(error.to_string()))
    }

    /// Whether all callers share one process, whose life is that of the server.
    pub(crate) fn is_shared(&self, target: &Target) -> bool {
        matches!(target, Target::Child(_)) && self.options.isolation != Isolation::PerClient
    }

    pub(crate) fn gateway(&self, target: Target, reporter: Reporter) -> GatewayBuilder {
        let isolation = match self.options.isolation {
            Isolation::Auto | Isolation::Shared => contextvm_bridge::Isolation::Shared,
            Isolation::PerClient => contextvm_bridge::Isolation::PerCaller,
        };
        Gateway::builder(target)
            .isolation(isolation)
            .idle_expiry(self.options.idle_exit)
            .restart(restart(&self.options))
            .reporter(reporter)
            .request_timeout(self.options.request_timeout)
    }

    /// Starts listening under a key.
    pub(crate) async fn listen(&self, keys: Keys, identity: Identity) -> Result<Listener, Problem> {
        let mut builder = Server::builder(keys)
            .relays(&self.global.relays)
            .identity(identity)
            .encryption(self.encryption())
            .gift_wrap(self.global.gift_wrap.into())
            .inject_client_pubkey(self.options.inject_client_pubkey);
        if let Some(allowed) = &self.allowed {
            builder = builder.allow(allowed.iter().copied());
        }
        if self.chosen.ephemeral {
            builder = builder.fresh_key();
        }
        builder.start().await.map_err(|error| {
            let code = match error.kind() {
                ErrorKind::Config => Code::InvalidValue,
                ErrorKind::Relay => Code::RelayUnreachable,
                ErrorKind::Closed | ErrorKind::Host | _ => Code::Internal,
            };
            Problem::new(code, error.to_string()).hint("use another relay: --relay wss://...")
        })
    }
}

fn wrong(error: &Error) -> Problem {
    if matches!(error, Error::Environment { .. }) {
        Problem::new(Code::InvalidValue, error.to_string()).hint("--env NAME=VALUE")
    } else {
        Problem::new(Code::ConfigInvalid, error.to_string()).hint("check the command after --, or the URL")
    }
}

fn restart(options: &Serve) -> RestartPolicy {
    let when = match options.restart {
        Restart::OnFailure => RestartWhen::Failure,
        Restart::Always => RestartWhen::Always,
        Restart::Never => RestartWhen::Never,
    };
    let (max, window) = options.max_restarts;
    RestartPolicy { when, max, window, ..RestartPolicy::default() }
}

/// Who may call: said on the command line, never assumed.
fn allowed(options: &Serve) -> Result<Option<Vec<PublicKey>>, Problem> {
    if options.open {
        return Ok(None);
    }
    if options.allow.is_empty() {
        return Err(Problem::new(Code::MissingArgument, "serve must be told who may call")
            .fact("--allow npub1...   lets that key call; repeat it for several")
            .fact("--open             lets everybody call who knows the server's key")
            .hint("add --allow npub1..., or --open"));
    }
    let parse = |text: &String| {
        let identity = text.parse::<ServerIdentity>().map(|identity| identity.key);
        identity.map_err(|error| {
            let shown = Printable::short(&keys::scrub(text), 80).to_string();
            let why = error.to_string().replace("server key", "it");
            let problem = Problem::new(Code::InvalidValue, format!("--allow {shown} names no key: {why}"));
            problem.hint("--allow npub1...")
        })
    };
    options.allow.iter().map(parse).collect::<Result<Vec<_>, _>>().map(Some)
}

/// A server needs a key that its callers can know again.
fn key(options: &Serve, global: &Global) -> Result<Chosen, Problem> {
    if options.ephemeral {
        let origin = KeyRef::Ephemeral.to_string();
        return Ok(Chosen { keys: KeyRef::Ephemeral.load()?, origin, ephemeral: true });
    }
    keys::choose(global.key.as_deref())?.ok_or_else(|| {
        Problem::new(Code::MissingArgument, "serve needs a key, so that callers can find the server again")
            .fact("neither --key nor CVM_KEY is given")
            .hint("cvm key new me, then serve with --key me      or for once: --ephemeral")
    })
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
