//! The commands that look for servers: `cvm discover` and `cvm inspect`.
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::value::span;

/// `cvm discover`.
#[derive(Args, Debug)]
pub(crate) struct Discover {
    /// Text in the name, description, tools or categories; several words must all occur
    #[arg(value_name = "QUERY")]
    pub(crate) query: Vec<String>,
    /// Servers that have a tool of this name; * and ? stand for other characters
    #[arg(long, value_name = "GLOB")]
    pub(crate) tool: Option<String>,
    /// Servers of this category
    #[arg(long)]
    pub(crate) category: Option<String>,
    /// Servers with a tool of this schema hash, or of one that begins so
    #[arg(long, value_name = "HASH")]
    pub(crate) schema: Option<String>,
    /// Servers that announce no price
    #[arg(long, conflicts_with = "max_price")]
    pub(crate) free: bool,
    /// Servers with nothing dearer than this, like 10sats
    #[arg(long, value_name = "PRICE")]
    pub(crate) max_price: Option<String>,
    /// Servers that say they take encrypted messages
    #[arg(long)]
    pub(crate) encrypted: bool,
    /// Servers that answer now; each of them is contacted
    #[arg(long)]
    pub(crate) online: bool,
    /// Servers of this key
    #[arg(long, value_name = "SERVER")]
    pub(crate) author: Option<String>,
    /// Servers that this key trusts: it follows them (NIP-02), or it or somebody it follows wrote a review of them, whatever
    /// the review says; any name of a key, repeat it for several
    #[arg(long, value_name = "NPUB")]
    pub(crate) trusted_by: Vec<String>,
    /// Servers that announced themselves within this time, like 7d
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(crate) since: Option<Duration>,
    /// Most servers shown
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) limit: usize,
    /// What comes first
    #[arg(long, value_name = "WHAT", default_value = "seen")]
    pub(crate) sort: Sort,
}

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// The newest announcement.
    Seen,
    /// By the alphabet.
    Name,
    /// The cheapest.
    Price,
    /// The most reviews, with --trusted-by the most trusted ones; also called rating, but CEP-24 defines no rating.
    #[value(alias = "rating")]
    Reviews,
    /// The quickest answer; needs --online.
    Latency,
}

/// `cvm inspect`.
#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// Any name of the server: saved name, npub, nprofile, naddr, hex, name@domain, domain or schema:HASH
    pub(crate) server: String,
    /// Look at what is published only; do not contact the server
    #[arg(long)]
    pub(crate) passive: bool,
}
