//! Flags of every command.
use std::time::Duration;

use clap::{Args, ValueEnum};
use contextvm::server::{EncryptionMode, GiftWrapMode};

use super::value::wait;

/// Flags of every command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// Which key to use: a name, file:PATH, env:NAME, stdin or ephemeral; also CVM_KEY. Never the key itself
    #[arg(short, long, global = true, value_name = "REF")]
    pub(crate) key: Option<String>,
    /// Relay to use; repeat it or separate several with commas
    #[arg(
        short,
        long = "relay",
        global = true,
        value_name = "URL",
        env = "CVM_RELAY",
        value_delimiter = ','
    )]
    pub(crate) relays: Vec<String>,
    /// Relay to look for servers, names and relay lists on; repeat it or separate several with commas; `none` for nowhere
    /// [default: those of --relay, else six well-known ones]
    #[arg(long, global = true, value_name = "URL", env = "CVM_DISCOVERY", value_delimiter = ',')]
    pub(crate) discovery: Vec<String>,
    /// Take ws:// and addresses of this machine and its network from relay lists and names, for development
    #[arg(long, global = true, env = "CVM_LOCAL_RELAYS", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) local_relays: bool,
    /// How long to wait for an answer; 30s, with `use` 2m
    #[arg(long, global = true, value_name = "TIME", env = "CVM_TIMEOUT", value_parser = wait)]
    pub(crate) timeout: Option<Duration>,
    /// Print one JSON document instead of text; errors, too
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say less (twice: nothing but errors)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) quiet: u8,
    /// Say more (repeat for even more)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", env = "CVM_COLOR", default_value = "auto")]
    pub(crate) color: Color,
    /// Whether messages are encrypted
    #[arg(long, global = true, value_name = "MODE", env = "CVM_ENCRYPTION", default_value = "optional")]
    pub(crate) encryption: Encryption,
    /// Which gift wraps carry encrypted messages
    #[arg(long, global = true, value_name = "MODE", env = "CVM_GIFT_WRAP", default_value = "optional")]
    pub(crate) gift_wrap: GiftWrap,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Whether messages are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Encryption {
    /// Sent encrypted; a server answers in the form of the request.
    Optional,
    /// Nothing else is sent or taken.
    Required,
    /// Sent in the clear.
    Disabled,
}

impl From<Encryption> for EncryptionMode {
    fn from(mode: Encryption) -> Self {
        match mode {
            Encryption::Optional => Self::Optional,
            Encryption::Required => Self::Required,
            Encryption::Disabled => Self::Disabled,
        }
    }
}

/// Which gift wraps carry encrypted messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GiftWrap {
    /// Ephemeral ones to peers that understand them.
    Optional,
    /// Ephemeral ones only (kind 21059).
    Ephemeral,
    /// Persistent ones only (kind 1059).
    Persistent,
}

impl From<GiftWrap> for GiftWrapMode {
    fn from(mode: GiftWrap) -> Self {
        match mode {
            GiftWrap::Optional => Self::Optional,
            GiftWrap::Ephemeral => Self::Ephemeral,
            GiftWrap::Persistent => Self::Persistent,
        }
    }
}
