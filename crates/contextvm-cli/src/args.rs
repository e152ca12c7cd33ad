//! The command line.
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use contextvm::server::{EncryptionMode, GiftWrapMode};

/// MCP servers over Nostr: no domain, no open port, encrypted.
#[derive(Debug, Parser)]
#[command(
    name = "cvm",
    version,
    max_term_width = 110,
    before_help = "Examples:\n  cvm demo\n  cvm call npub1... echo message=hello",
    after_help = "Exit codes: 0 done, 1 unexpected, 2 usage, 3 refused, 4 nobody reachable, 5 tool error or not found,\n6 payment needed, 7 deadline passed, 8 unsafe or invalid configuration or key file."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Args, Clone, Debug)]
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
    /// How long to wait for an answer; 30s, with `use` 2m
    #[arg(long, global = true, value_name = "TIME", env = "CVM_TIMEOUT", value_parser = duration)]
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

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show an encrypted tool call from end to end, without any network
    #[command(
        before_help = "Examples:\n  cvm demo\n  cvm serve -k me -r ws://127.0.0.1:10547 --open -- cvm demo --stdio"
    )]
    Demo(Demo),
    /// Run a relay for development
    Relay(Relay),
    /// Put MCP servers on Nostr: a command, a URL, or all of an MCP host's configuration
    #[command(
        visible_alias = "gateway",
        before_help = "Examples:\n  cvm serve -k files -r wss://relay.example --allow npub1... -- npx -y @modelcontextprotocol/server-filesystem /srv/data\n  cvm serve -k me -r wss://relay.example --open https://mcp.internal/mcp\n  cvm serve -k me -r wss://relay.example --allow npub1... --from ~/.config/Claude/claude_desktop_config.json"
    )]
    Serve(Box<Serve>),
    /// Use servers on Nostr from any MCP host, over stdio or Streamable HTTP
    #[command(
        visible_alias = "proxy",
        visible_alias = "connect",
        before_help = "Examples:\n  cvm use npub1... -k me\n  cvm use weather=npub1... files=nprofile1... --http 127.0.0.1:7312"
    )]
    Use(Use),
    /// Call a tool
    #[command(
        before_help = "Examples:\n  cvm call npub1... get_current city=Lisbon days:=3\n  cvm call npub1... import --args @input.json --json"
    )]
    Call(Call),
    /// List a server's tools as signatures
    #[command(visible_alias = "list", before_help = "Examples:\n  cvm ls npub1...\n  cvm ls npub1... --json")]
    Ls(Ls),
    /// Ask running `cvm serve` processes
    Ctl(Ctl),
    /// Make and show keys
    Key(Key),
    /// Print the version
    Version,
}

/// `cvm demo`.
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Run the sample server on stdin and stdout instead, as something to serve
    #[arg(long)]
    pub(crate) stdio: bool,
}

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
    /// Refuse every event with this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) refuse: Option<String>,
}

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
    /// Take encrypted messages only
    #[arg(long)]
    pub(crate) require_encryption: bool,
    /// The server's name, told to callers
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// What the server is for, told to callers
    #[arg(long)]
    pub(crate) about: Option<String>,
    /// Tell the child who calls: puts the caller's key into params._meta.clientPubkey
    #[arg(long)]
    pub(crate) inject_client_pubkey: bool,
    /// Set a variable of the child
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// Pass a variable of this process on to the child
    #[arg(long, value_name = "NAME")]
    pub(crate) inherit_env: Vec<String>,
    /// Directory that the child starts in
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// When a child that ended is started again
    #[arg(long, value_name = "WHEN", default_value = "on-failure")]
    pub(crate) restart: Restart,
    /// Most restarts, and within which time
    #[arg(long, value_name = "N/TIME", default_value = "10/10m", value_parser = max_restarts)]
    pub(crate) max_restarts: (usize, Duration),
    /// How long the child may take over a request without any progress
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub(crate) request_timeout: Duration,
    /// Whether callers share the child, or each has its own; an HTTP server has a session for each in any case
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(crate) isolation: Isolation,
    /// How long a caller's own child or session is kept without a request
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub(crate) idle_exit: Duration,
    /// Send a header to an HTTP server; REF is env:NAME or file:PATH, never the value itself
    #[arg(long = "header", value_name = "NAME=REF", requires = "url")]
    pub(crate) headers: Vec<String>,
    /// Serve every server of an MCP host's configuration file, each under a key of its own made of --key and its name
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "command", "name", "about", "env", "cwd"])]
    pub(crate) from: Option<PathBuf>,
    /// Serve only these of the file
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "from")]
    pub(crate) only: Vec<String>,
    /// Serve all but these of the file
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "from")]
    pub(crate) except: Vec<String>,
    /// The server's URL, if it speaks Streamable HTTP
    #[arg(value_name = "URL", conflicts_with = "command", required_unless_present_any = ["command", "from"])]
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

/// `cvm use`.
#[derive(Args, Debug)]
pub(crate) struct Use {
    /// npub, nprofile, hex or nostr: URI of a server, or NAME=SERVER; several with --prefix or --http
    #[arg(required = true, value_name = "SERVER")]
    pub(crate) servers: Vec<String>,
    /// Answer initialize locally and let the server treat every request by itself (CEP-35)
    #[arg(long)]
    pub(crate) stateless: bool,
    /// Show several servers as one, with tools named server__tool
    #[arg(long)]
    pub(crate) prefix: bool,
    /// Serve Streamable HTTP at this address instead of standard streams, for hosts of either MCP era
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<SocketAddr>,
    /// File with the token that local hosts must show; made if it is not there [default: http-token in the state directory]
    #[arg(long, value_name = "FILE", requires = "http")]
    pub(crate) token_file: Option<PathBuf>,
    /// Let every program of this machine in
    #[arg(long, requires = "http", conflicts_with = "token_file")]
    pub(crate) no_token: bool,
    /// Let pages of this origin in
    #[arg(long, value_name = "ORIGIN", requires = "http")]
    pub(crate) allow_origin: Vec<String>,
    /// Answer to this host name, too
    #[arg(long, value_name = "HOST", requires = "http")]
    pub(crate) allow_host: Vec<String>,
    /// Allow an address that stands for all addresses of this machine
    #[arg(long, requires = "http")]
    pub(crate) every_interface: bool,
    /// Largest message taken from a host over HTTP, bytes
    #[arg(long, value_name = "BYTES", default_value_t = 4 * 1024 * 1024, requires = "http")]
    pub(crate) max_request: usize,
}

/// `cvm call`.
#[derive(Args, Debug)]
pub(crate) struct Call {
    /// npub, nprofile, hex or nostr: URI of the server
    pub(crate) server: String,
    /// The tool; without it the tools are listed
    pub(crate) tool: Option<String>,
    /// Arguments: k=text, k:=json, k=@file, k:=@file.json, k=@@binary, outer.inner=text
    #[arg(value_name = "ARG")]
    pub(crate) arguments: Vec<String>,
    /// All arguments as one JSON object, @FILE, or - for standard input
    #[arg(long, value_name = "JSON", conflicts_with = "arguments")]
    pub(crate) args: Option<String>,
    /// Print the MCP result only, as JSON
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
}

/// `cvm ls`.
#[derive(Args, Debug)]
pub(crate) struct Ls {
    /// npub, nprofile, hex or nostr: URI of the server
    pub(crate) server: String,
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

/// Reads `30s`, `250ms`, `5m`, `1h`, or plain seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let number: f64 = number.parse().map_err(|_| "expected a time like 30s, 250ms or 5m".to_owned())?;
    let seconds = match unit {
        "ms" => number / 1_000.0,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3_600.0,
        _ => return Err("expected ms, s, m or h after the number".to_owned()),
    };
    if seconds > 30.0 * 86_400.0 {
        return Err("longer than 30 days".to_owned());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| "not a time".to_owned())
}

/// Reads `0.02` or `2%`.
fn chance(text: &str) -> Result<f64, String> {
    let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let number: f64 = number.parse().map_err(|_| "expected a chance like 0.02 or 2%".to_owned())?;
    let chance = number / scale;
    if (0.0..=1.0).contains(&chance) { Ok(chance) } else { Err("a chance runs from 0 to 1".to_owned()) }
}

/// Reads `10/10m`.
fn max_restarts(text: &str) -> Result<(usize, Duration), String> {
    let (count, window) =
        text.split_once('/').ok_or_else(|| "expected a count and a time like 10/10m".to_owned())?;
    let count = count.parse().map_err(|_| "expected a count before the slash".to_owned())?;
    Ok((count, duration(window)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_are_read_in_all_units() {
        for (text, millis) in [
            ("30s", 30_000),
            ("250ms", 250),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("2", 2_000),
            ("1.5s", 1_500),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1s", "1d", "1e3s", "99999999h", "1 s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn chances_are_read_with_and_without_percent() {
        assert_eq!(chance("2%"), Ok(0.02));
        assert_eq!(chance("0.5"), Ok(0.5));
        assert!(
            chance("2").is_err() && chance("-1%").is_err() && chance("NaN").is_err() && chance("x").is_err()
        );
    }

    #[test]
    fn restarts_are_a_count_and_a_time() {
        assert_eq!(max_restarts("10/10m"), Ok((10, Duration::from_secs(600))));
        assert!(max_restarts("10").is_err() && max_restarts("x/1m").is_err());
    }

    #[test]
    fn every_command_begins_its_help_with_examples() {
        fn check(command: &clap::Command) {
            if command.get_subcommands().next().is_none()
                && !["version", "help"].contains(&command.get_name())
            {
                let before = command.get_before_help().map(ToString::to_string).unwrap_or_default();
                assert!(before.starts_with("Examples:\n  cvm "), "{}", command.get_name());
                assert!(before.lines().count() >= 3, "{}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
