//! `cvm serve`.
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::announce::Publication;
use super::value::{duration, max_restarts, wait};

/// `cvm serve`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Serve {
    /// Let this key call (npub or hex); repeat it for several
    #[arg(long, value_name = "KEY", value_delimiter = ',', conflicts_with = "open")]
    pub(crate) allow: Vec<String>,
    /// Let everybody call
    #[arg(long, visible_alias = "allow-all")]
    pub(crate) open: bool,
    /// Use a key that is made for this run and then forgotten
    #[arg(long, conflicts_with = "key")]
    pub(crate) ephemeral: bool,
    /// Remember nothing across restarts, and remove what earlier runs have kept: what was sent before the start is refused
    #[arg(long)]
    pub(crate) in_memory: bool,
    /// Take encrypted messages only
    #[arg(long)]
    pub(crate) require_encryption: bool,
    /// Tell the child who calls: puts the caller's key into params._meta.clientPubkey
    #[arg(long)]
    pub(crate) inject_client_pubkey: bool,
    /// When a child that ended is started again
    #[arg(long, value_name = "WHEN", default_value = "on-failure")]
    pub(crate) restart: Restart,
    /// Most restarts, and within which time
    #[arg(long, value_name = "N/TIME", default_value = "10/10m", value_parser = max_restarts)]
    pub(crate) max_restarts: (usize, Duration),
    /// Whether callers share the child, or each has its own; an HTTP server has a session for each in any case
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(crate) isolation: Isolation,
    /// How long a caller's own child or session is kept without a request
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub(crate) idle_exit: Duration,
    /// Serve every server of an MCP host's configuration file, each under a key of its own made of --key and its name
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "command", "name", "about", "picture", "website", "nip05", "lud16", "env", "cwd"])]
    pub(crate) from: Option<PathBuf>,
    /// Serve only these of the file
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "from")]
    pub(crate) only: Vec<String>,
    /// Serve all but these of the file
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "from")]
    pub(crate) except: Vec<String>,
    /// Announce the server in public, so that it is found
    #[arg(long, visible_alias = "public", conflicts_with = "ephemeral")]
    pub(crate) announce: bool,
    /// Ask relays to delete the announcements when the server ends
    #[arg(long, requires = "announce")]
    pub(crate) unannounce_on_exit: bool,
    #[command(flatten)]
    pub(crate) publication: Publication,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// The MCP server that is put on Nostr.
#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    /// Set a variable of the child
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// Pass a variable of this process on to the child
    #[arg(long, value_name = "NAME")]
    pub(crate) inherit_env: Vec<String>,
    /// Directory that the child starts in
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// How long the child may take over a request without any progress
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = wait)]
    pub(crate) request_timeout: Duration,
    /// Send a header to an HTTP server; REF is env:NAME or file:PATH, never the value itself
    #[arg(long = "header", value_name = "NAME=REF", requires = "url")]
    pub(crate) headers: Vec<String>,
    /// The server's URL, if it speaks Streamable HTTP
    #[arg(value_name = "URL", conflicts_with_all = ["command", "env", "inherit_env", "cwd"])]
    pub(crate) url: Option<String>,
    /// The server's command line, executed without a shell
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// Whether callers share a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Isolation {
    /// Shared for commands, one session per caller for HTTP servers.
    Auto,
    /// One child for all callers.
    Shared,
    /// A child for each caller.
    PerClient,
}

/// When a child that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Restart {
    /// After every ending but exit code 0.
    OnFailure,
    /// After every ending.
    Always,
    /// Never.
    Never,
}
