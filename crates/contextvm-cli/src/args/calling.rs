//! The commands that use servers: `cvm use`, `cvm call` and `cvm ls`.
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// `cvm use`.
#[derive(Args, Debug)]
pub(crate) struct Use {
    /// Any name of a server (see `cvm call`), or NAME=SERVER; several with --prefix or --http
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
    #[arg(long, value_name = "BYTES", default_value_t = 24 * 1024 * 1024, requires = "http")]
    pub(crate) max_request: usize,
}

/// `cvm call`.
#[derive(Args, Debug)]
pub(crate) struct Call {
    /// Any name of the server: saved name, npub, nprofile, naddr, hex, nostr: URI, name@domain, domain or schema:HASH
    pub(crate) server: String,
    /// The tool; without it the tools are listed
    pub(crate) tool: Option<String>,
    /// Arguments: k=text, k:=json, k=@file, k:=@file.json, k=@@binary, outer.inner=text
    #[arg(value_name = "ARG")]
    pub(crate) arguments: Vec<String>,
    /// All arguments as one JSON object, @FILE, or - for standard input
    #[arg(long, value_name = "JSON", conflicts_with = "arguments", requires = "tool")]
    pub(crate) args: Option<String>,
    /// Print the MCP result only, as JSON
    #[arg(long, conflicts_with = "json", requires = "tool")]
    pub(crate) raw: bool,
    /// Show what the tool writes while it works, as it comes, then its result unless that says the same (CEP-41);
    /// with --json one line for each piece, and the document last
    #[arg(long, requires = "tool", conflicts_with = "raw")]
    pub(crate) stream: bool,
    /// Write images, audio and other binary content to files in this directory; no file there is overwritten
    #[arg(long, value_name = "DIR", requires = "tool")]
    pub(crate) save: Option<PathBuf>,
}

/// `cvm ls`.
#[derive(Args, Debug)]
pub(crate) struct Ls {
    /// Any name of the server; without one the saved servers are listed
    pub(crate) server: Option<String>,
}
