//! `cvm relay`.
use std::time::Duration;

use clap::{Args, Subcommand};

use super::value::{chance, duration};

/// `cvm relay`.
#[derive(Args, Debug)]
pub(crate) struct Relay {
    #[command(subcommand)]
    pub(crate) command: RelayCommand,
}

/// What to do with relays.
#[derive(Debug, Subcommand)]
pub(crate) enum RelayCommand {
    /// Run an in-memory relay on loopback, with faults if wanted
    #[command(
        before_help = "Examples:\n  cvm relay run --port 10547\n  cvm relay run --latency 80ms --drop 2% --dup 1%"
    )]
    Run(RelayRun),
    /// Measure what a relay is good for
    #[command(
        before_help = "Examples:\n  cvm relay check wss://relay.contextvm.org\n  cvm relay check wss://relay.example --passive --json"
    )]
    Check(RelayCheck),
}

/// `cvm relay check`.
#[derive(Args, Debug)]
pub(crate) struct RelayCheck {
    /// The relay
    pub(crate) url: String,
    /// Publish nothing: look only
    #[arg(long)]
    pub(crate) passive: bool,
}

/// `cvm relay run`.
#[derive(Args, Debug)]
pub(crate) struct RelayRun {
    /// Port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 10_547)]
    pub(crate) port: u16,
    /// Hold back every frame for this long
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration)]
    pub(crate) latency: Duration,
    /// Chance that an event is not delivered, as 0.02 or 2%
    #[arg(long, value_name = "CHANCE", default_value = "0", value_parser = chance)]
    pub(crate) drop: f64,
    /// Chance that an event is delivered twice
    #[arg(long, value_name = "CHANCE", default_value = "0", value_parser = chance)]
    pub(crate) dup: f64,
    /// Chance that an event is overtaken by later ones
    #[arg(long, value_name = "CHANCE", default_value = "0", value_parser = chance)]
    pub(crate) reorder: f64,
    /// Keep ephemeral events for five minutes, as some relays do, instead of passing them to live subscriptions only
    #[arg(long, overrides_with = "strict_ephemeral")]
    pub(crate) lenient_ephemeral: bool,
    /// Pass ephemeral events to live subscriptions only (the default)
    #[arg(long)]
    pub(crate) strict_ephemeral: bool,
    /// Demand NIP-42 authentication
    #[arg(long)]
    pub(crate) auth: bool,
    /// Largest event taken, bytes
    #[arg(long, value_name = "BYTES", default_value_t = 131_072)]
    pub(crate) max_event: usize,
    /// Cut each connection after this many events, or after this time (10s)
    #[arg(long, value_name = "N|TIME")]
    pub(crate) close_after: Option<String>,
    /// Refuse events of this kind; repeat it for several
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub(crate) refuse_kind: Vec<u16>,
    /// Refuse every event with this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) refuse: Option<String>,
}
