//! `cvm server`.
use clap::{Args, Subcommand};

/// `cvm server`.
#[derive(Args, Debug)]
pub(crate) struct Server {
    #[command(subcommand)]
    pub(crate) command: ServerCommand,
}

/// What to do with saved servers.
#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Save a server under a name of yours, and pin its tools if it can be reached
    #[command(
        before_help = "Examples:\n  cvm server add weather npub1... -r wss://relay.example\n  cvm server add weather weather@example.com"
    )]
    Add {
        /// 1 to 32 letters, digits, dashes or underscores
        name: String,
        /// Any name of the server; the relays of --relay are saved with it
        server: String,
        /// Do not connect; its tools are pinned when they are listed for the first time
        #[arg(long)]
        no_connect: bool,
    },
    /// Forget a saved server, and what was pinned of its tools
    #[command(
        visible_alias = "remove",
        before_help = "Examples:\n  cvm server rm weather\n  cvm server rm weather --json"
    )]
    Rm {
        /// Its saved name
        name: String,
    },
    /// List saved servers
    #[command(visible_alias = "list", before_help = "Examples:\n  cvm server ls\n  cvm server ls --json")]
    Ls,
    /// Give a saved server another name
    #[command(
        before_help = "Examples:\n  cvm server rename weather meteo\n  cvm server rename weather meteo --json"
    )]
    Rename {
        /// Its saved name
        name: String,
        /// The new one
        new: String,
    },
    /// Show how the tools of a saved server have changed, and agree to them
    #[command(before_help = "Examples:\n  cvm server trust weather\n  cvm server trust weather --dry-run")]
    Trust(Trust),
}

/// `cvm server trust`.
#[derive(Args, Debug)]
pub(crate) struct Trust {
    /// Its saved name
    pub(crate) name: String,
    /// Show the change and pin nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Agree only to this list, as --dry-run showed it
    #[arg(long, value_name = "HASH")]
    pub(crate) expect: Option<String>,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}
