//! What is the same for every server that one `cvm serve` puts on Nostr.

use contextvm::Keys;
use contextvm::core::{Printable, ServerIdentity};
use contextvm::server::{AnnounceOptions, EncryptionMode, Error, ErrorKind, Listener, Server, ServerOptions};
use contextvm_bridge::{Gateway, GatewayBuilder, Reporter, RestartPolicy, RestartWhen, Target};
use nostr::key::PublicKey;

use super::file::EntryTarget;
use super::{store, target};
use crate::args::{Global, Isolation, Restart, Serve};
use crate::keys::{self, Chosen, KeyRef};
use crate::problem::{Code, Problem};
use crate::publication::{announcing, options};

/// The answers to who, where and how.
pub(crate) struct Plan {
    pub(crate) options: Serve,
    pub(crate) global: Global,
    pub(crate) chosen: Chosen,
    /// `None` lets everybody call.
    pub(crate) allowed: Option<Vec<PublicKey>>,
}

impl Plan {
    pub(crate) fn new(serve: &Serve, global: &Global) -> Result<Self, Problem> {
        options::check(&serve.publication, serve.announce)?;
        // Nobody calls a server that is only looked at.
        let allowed = if serve.publication.dry_run { Some(Vec::new()) } else { allowed(serve)? };
        let chosen = key(serve, global)?;
        if global.relays.is_empty() {
            let problem = Problem::new(Code::MissingArgument, "serve needs a relay to serve on");
            return Err(problem.hint("--relay wss://...   or a local one: cvm relay run"));
        }
        let plan = Self { options: serve.clone(), global: global.clone(), chosen, allowed };
        // What is wrong for every server is said once and before any of them is started.
        plan.announce_options()?;
        options::schemas(&serve.publication)?;
        Ok(plan)
    }

    pub(crate) fn encryption(&self) -> EncryptionMode {
        if self.options.require_encryption { EncryptionMode::Required } else { self.global.encryption.into() }
    }

    /// Returns the server that the command line names.
    pub(crate) fn target(&self) -> Result<Target, Problem> {
        target::named(&self.options.target)
    }

    /// Returns the server that an entry of a file names; none if it is disabled.
    pub(crate) fn entry_target(&self, entry: &EntryTarget) -> Result<Option<Target>, Problem> {
        target::of_entry(entry, &self.options.target)
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
            .request_timeout(self.options.target.request_timeout)
    }

    /// Starts listening under a key.
    pub(crate) async fn listen(&self, keys: Keys, own: Option<String>) -> Result<Listener, Problem> {
        let place = store::path(&keys.public_key());
        let mut options = self.server_options(keys, own)?;
        if self.options.in_memory && !self.chosen.ephemeral {
            // Where there is no place for a store, none was made.
            options.discarded_store = place.ok();
        } else if !self.chosen.ephemeral {
            options.store = Some(place?);
        }
        Server::start(options).await.map_err(|error| {
            if let Error::Store(error) = &error {
                return store::refused(error);
            }
            let code = match error.kind() {
                ErrorKind::Config => Code::InvalidValue,
                ErrorKind::Relay => Code::RelayUnreachable,
                ErrorKind::Closed | ErrorKind::Host | _ => Code::Internal,
            };
            Problem::new(code, error.to_string()).hint("use another relay: --relay wss://...")
        })
    }

    /// Makes a listener that is on no relay: for a look at what would be published.
    pub(crate) fn offline(&self, keys: Keys, own: Option<String>) -> Result<Listener, Problem> {
        Ok(Server::offline(self.server_options(keys, own)?))
    }

    /// Returns what is published about a server; `None` if nothing is.
    pub(crate) fn announce_options(&self) -> Result<Option<AnnounceOptions>, Problem> {
        if !self.options.announce {
            return Ok(None);
        }
        // An offline server has no relays to tell of.
        let relays = self.options.publication.dry_run.then_some(self.global.relays.as_slice());
        announcing::announce_options(&self.options.publication, &self.global, relays).map(Some)
    }

    /// Returns everything that a server is told; `own` is how the MCP server calls itself.
    fn server_options(&self, keys: Keys, own: Option<String>) -> Result<ServerOptions, Problem> {
        let publication = &self.options.publication;
        let mut builder = Server::builder(keys)
            .relays(&self.global.relays)
            .identity(options::identity(publication, own))
            .common_schemas(options::schemas(publication)?)
            .encryption(self.encryption())
            .gift_wrap(self.global.gift_wrap.into())
            .inject_client_pubkey(self.options.inject_client_pubkey);
        if let Some(allowed) = &self.allowed {
            builder = builder.allow(allowed.iter().copied());
        }
        if self.chosen.ephemeral {
            builder = builder.fresh_key();
        }
        let mut options = builder.build();
        // Whoever finds it by its announcement is told why it refuses.
        options.config.access.announced = self.options.announce;
        Ok(options)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser as _;

    const HEX: &str = "3bf0c63fcb93463407af97a5e5ee64fa883d107ef9e558472c4eb9aaaefa459d";
    const NPUB: &str = "npub180cvv07tjdrrgpa0j7j7tmnyl2yr6yr7l8j4s3evf6u64th6gkwsyjh6w6";

    /// What a command line lets in; `None` when it is refused.
    fn lets_in(words: &[&str]) -> Option<Option<Vec<PublicKey>>> {
        let command = ["cvm", "serve", "--ephemeral"].iter().chain(words).chain(&["--", "sh"]);
        let Ok(Cli { command: Command::Serve(serve), .. }) = Cli::try_parse_from(command) else {
            return None;
        };
        allowed(&serve).ok()
    }

    #[test]
    fn a_key_is_the_same_key_however_it_is_written_and_what_is_none_lets_nobody_in() {
        let key = PublicKey::from_hex(HEX).unwrap();
        for written in [HEX, &HEX.to_uppercase(), NPUB, &NPUB.to_uppercase()] {
            let is_in = lets_in(&["--allow", written]);
            assert!(is_in.is_none() || is_in == Some(Some(vec![key])), "{written}: {is_in:?}");
        }
        for written in [HEX, NPUB] {
            assert_eq!(lets_in(&["--allow", written]), Some(Some(vec![key])));
        }
        assert_eq!(lets_in(&["--allow", &format!("{HEX},{NPUB}")]), Some(Some(vec![key, key])));
        let short = HEX.get(1..).unwrap();
        for wrong in ["", ",", "*", "all", "npub1x", short, &format!("{HEX},"), &format!("{HEX} {NPUB}")] {
            assert_eq!(lets_in(&["--allow", wrong]), None, "{wrong}");
        }
        assert_eq!(lets_in(&[]), None, "nobody is let in by silence");
        assert_eq!(lets_in(&["--open"]), Some(None));
        assert_eq!(lets_in(&["--open", "--allow", HEX]), None);
    }
}
