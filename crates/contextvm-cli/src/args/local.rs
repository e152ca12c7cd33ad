//! The commands of this machine: `cvm demo`, `cvm ctl` and `cvm key`.
use clap::{Args, Subcommand};

/// `cvm demo`.
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Run the sample server on stdin and stdout instead, as something to serve
    #[arg(long)]
    pub(crate) stdio: bool,
}

/// `cvm ctl`.
#[derive(Args, Debug)]
pub(crate) struct Ctl {
    #[command(subcommand)]
    pub(crate) command: CtlCommand,
}

/// What to ask running processes.
#[derive(Debug, Subcommand)]
pub(crate) enum CtlCommand {
    /// Show what every running `cvm serve` of yours is doing
    #[command(before_help = "Examples:\n  cvm ctl status\n  cvm ctl status --json")]
    Status,
}

/// `cvm key`.
#[derive(Args, Debug)]
pub(crate) struct Key {
    #[command(subcommand)]
    pub(crate) command: KeyCommand,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key and keep it in a file that only you can read; prints the npub
    #[command(before_help = "Examples:\n  cvm key new me\n  cvm key new ./server.key")]
    New {
        /// A name, or a path with a slash in it
        name: String,
    },
    /// Print the npub of a key
    #[command(before_help = "Examples:\n  cvm key show me\n  cvm key show env:NOSTR_SECRET_KEY --json")]
    Show {
        /// A name, a path, or another reference as for --key
        name: String,
    },
}
