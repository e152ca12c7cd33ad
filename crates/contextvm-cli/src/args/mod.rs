//! The command line.
mod announce;
mod calling;
mod discover;
mod global;
mod local;
mod relay;
mod review;
mod serve;
mod server;
mod value;

use clap::{Parser, Subcommand};

pub(crate) use announce::{Also, Announce, AnnounceCommand, AnnounceDelete, AnnouncePublish, Publication};
pub(crate) use calling::{Call, Ls, Use};
pub(crate) use discover::{Discover, Inspect, Sort};
pub(crate) use global::{Color, Encryption, GiftWrap, Global};
pub(crate) use local::{Ctl, CtlCommand, Demo, Key, KeyCommand};
pub(crate) use relay::{Relay, RelayCheck, RelayCommand, RelayRun};
pub(crate) use review::{Review, ReviewCommand, Sending};
pub(crate) use serve::{Isolation, Restart, Serve, Target};
pub(crate) use server::{Server, ServerCommand, Trust};
pub(crate) use value::duration;

/// MCP servers over Nostr: no domain, no open port, encrypted.
#[derive(Debug, Parser)]
#[command(
    name = "cvm",
    version,
    max_term_width = 110,
    before_help = "Examples:\n  cvm demo\n  cvm call npub1... echo message=hello",
    after_help = "Exit codes: 0 done, 1 unexpected, 2 usage, 3 refused, 4 nobody reachable, 5 tool error or not found,\n6 payment needed, 7 deadline passed, 8 unsafe or invalid configuration or key file, 9 a check failed,\n130 interrupted, 143 terminated before it was done."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show an encrypted tool call from end to end, without any network
    #[command(
        before_help = "Examples:\n  cvm demo\n  cvm serve -k me -r ws://127.0.0.1:10547 --open -- cvm demo --stdio"
    )]
    Demo(Demo),
    /// Run a relay for development, or check one
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
        before_help = "Examples:\n  cvm call npub1... get_current city=Lisbon days:=3\n  cvm call npub1... import --args @input.json --json\n  cvm call npub1... tell topic=relays --stream\n  cvm call npub1... snapshot --save pictures/"
    )]
    Call(Call),
    /// List a server's tools as signatures, or all saved servers
    #[command(visible_alias = "list", before_help = "Examples:\n  cvm ls\n  cvm ls weather@example.com")]
    Ls(Ls),
    /// Find servers that announce themselves
    #[command(
        visible_alias = "search",
        visible_alias = "find",
        before_help = "Examples:\n  cvm discover weather --online --max-price 10sats\n  cvm discover --tool 'get_*' --since 7d --sort name"
    )]
    Discover(Discover),
    /// Show all that is known about a server, and how much of it was checked
    #[command(
        before_help = "Examples:\n  cvm inspect npub1...\n  cvm inspect weather@example.com --passive --json"
    )]
    Inspect(Inspect),
    /// Save servers under names of yours, and see when their tools change
    Server(Server),
    /// See, publish and delete what is public about a server
    Announce(Announce),
    /// Read and write reviews of servers
    Review(Review),
    /// Ask running `cvm serve` processes
    Ctl(Ctl),
    /// Make and show keys
    Key(Key),
    /// Print the version
    Version,
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
