//! `cvm review`.
use clap::{Args, Subcommand};

/// `cvm review`.
#[derive(Args, Debug)]
pub(crate) struct Review {
    #[command(subcommand)]
    pub(crate) command: ReviewCommand,
}

/// What to do with reviews.
#[derive(Debug, Subcommand)]
pub(crate) enum ReviewCommand {
    /// List what others wrote about a server, with the answers
    #[command(
        visible_alias = "list",
        before_help = "Examples:\n  cvm review ls weather\n  cvm review ls npub1... --json"
    )]
    Ls {
        /// Any name of the server
        server: String,
        /// Mark reviews by those whom this key follows (NIP-02) [default: the key of --key]; repeat it for several
        #[arg(long, value_name = "NPUB")]
        trusted_by: Vec<String>,
        /// Most reviews and answers that are shown
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Write publicly about a server
    #[command(
        before_help = "Examples:\n  cvm review add weather \"Fast and correct\" -k me\n  cvm review add weather \"Fast and correct\" -k me --dry-run"
    )]
    Add {
        /// Any name of the server
        server: String,
        /// What to say: plain text
        text: String,
        #[command(flatten)]
        sending: Sending,
    },
    /// Answer a review, or an answer, publicly
    #[command(
        before_help = "Examples:\n  cvm review reply 5c83da77... \"Thank you\" -k me\n  cvm review reply note1... \"Thank you\" -k me --dry-run"
    )]
    Reply {
        /// The review's id: 64 hex digits, note1... or nevent1...
        id: String,
        /// What to say: plain text
        text: String,
        #[command(flatten)]
        sending: Sending,
    },
}

/// How something is published that is shown first.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Sending {
    /// Publish without asking
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Show the event and the relays, and publish nothing
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
}
