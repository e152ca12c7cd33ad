//! `cvm announce`, and what a server says about itself in public.
use clap::{Args, Subcommand, ValueEnum};

use super::review::Sending;
use super::serve::Target;

/// What a server says about itself in public, and where.
#[derive(Args, Clone, Debug)]
pub(crate) struct Publication {
    /// The server's name, told to callers
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// What the server is for, told to callers
    #[arg(long)]
    pub(crate) about: Option<String>,
    /// A picture of it, told to callers
    #[arg(long, value_name = "URL")]
    pub(crate) picture: Option<String>,
    /// Its page, told to callers
    #[arg(long, value_name = "URL")]
    pub(crate) website: Option<String>,
    /// Its name at a domain, as a public profile (kind 0) says it
    #[arg(long, value_name = "NAME@DOMAIN")]
    pub(crate) nip05: Option<String>,
    /// Where it takes tips, as a public profile (kind 0) says it
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) lud16: Option<String>,
    /// A category that its tools are found under; repeat it for several
    #[arg(long = "category", value_name = "WORD", value_delimiter = ',')]
    pub(crate) categories: Vec<String>,
    /// Mark a tool as one of a common schema, its own or the one in a file; repeat it for several
    #[arg(long = "common-schema", value_name = "TOOL[=FILE]")]
    pub(crate) common_schemas: Vec<String>,
    /// Do not publish which relays the server is on (kind 10002)
    #[arg(long)]
    pub(crate) no_relay_list: bool,
    /// Further relays that announcements are published to: `default` for six well-known ones, `none`, or URLs
    #[arg(long, value_name = "WHERE", default_value = "default", value_delimiter = ',')]
    pub(crate) bootstrap: Vec<String>,
    /// Print the events that would be published and their relays; publish nothing and connect to no relay
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `cvm announce`.
#[derive(Args, Debug)]
pub(crate) struct Announce {
    #[command(subcommand)]
    pub(crate) command: AnnounceCommand,
}

/// What to do with announcements.
#[derive(Debug, Subcommand)]
pub(crate) enum AnnounceCommand {
    /// Show what relays have of a server's announcements, its own profile and relay list included
    #[command(before_help = "Examples:\n  cvm announce show weather\n  cvm announce show -k me --json")]
    Show {
        /// Any name of the server; without one, the key of --key
        server: Option<String>,
    },
    /// Publish a server's announcements once, without serving it
    #[command(
        before_help = "Examples:\n  cvm announce publish -k files -r wss://relay.example --name Files -- ./server\n  cvm announce publish -k files -r wss://relay.example --dry-run -- ./server"
    )]
    Publish(Box<AnnouncePublish>),
    /// Ask relays to delete a server's announcements
    #[command(
        before_help = "Examples:\n  cvm announce delete -k files -r wss://relay.example\n  cvm announce delete -k files --also relay-list,profile --reason \"moved\""
    )]
    Delete(AnnounceDelete),
}

/// `cvm announce publish`.
#[derive(Args, Clone, Debug)]
pub(crate) struct AnnouncePublish {
    #[command(flatten)]
    pub(crate) publication: Publication,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// `cvm announce delete`.
#[derive(Args, Debug)]
pub(crate) struct AnnounceDelete {
    /// What else to delete
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    pub(crate) also: Vec<Also>,
    /// Why, for people; it is published
    #[arg(long, default_value = "Service offline")]
    pub(crate) reason: String,
    /// Further relays that are asked: `default` for six well-known ones, `none`, or URLs
    #[arg(long, value_name = "WHERE", default_value = "default", value_delimiter = ',')]
    pub(crate) bootstrap: Vec<String>,
    #[command(flatten)]
    pub(crate) sending: Sending,
}

/// What is not deleted unless it is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Also {
    /// Which relays it is on (kind 10002).
    RelayList,
    /// Its profile (kind 0).
    Profile,
}
