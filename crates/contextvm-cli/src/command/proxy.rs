//! `cvm use`: servers on Nostr for MCP hosts, over standard streams or HTTP.
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contextvm::client::ClientOptions;
use contextvm::core::Printable;
use contextvm_bridge::{Error, HttpOptions, Notice, Proxy, ProxyBuilder, Reporter, SecretToken};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::args::{Global, Use};
use crate::connect;
use crate::keys;
use crate::names;
use crate::output::{self, Out, Talk};
use crate::problem::{Code, Problem};
use crate::saved::SavedServer;
use crate::saved::check::PinCheck;
use crate::signals;

/// How long a host waits for an answer; it has a deadline of its own, and progress extends ours.
const TIMEOUT: Duration = Duration::from_secs(120);
/// How long another copy of us may take to write the token file.
const WRITTEN: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    endpoints: Vec<Endpoint>,
    #[serde(rename = "tokenFile", skip_serializing_if = "Option::is_none")]
    token_file: Option<String>,
}

#[derive(Serialize)]
struct Endpoint {
    name: String,
    url: String,
}

pub(crate) async fn run(options: &Use, global: &Global, out: &mut Out, talk: Talk) -> Result<(), Problem> {
    if options.http.is_none() {
        check_stdio(options, global)?;
    }
    let reporter = Reporter::new(move |notice| {
        let line = format!("cvm: {notice}");
        if *notice == Notice::Connected { talk.detail(&line) } else { talk.say(&line) }
    });
    let builder = builder(options, global, &talk)
        .await?
        .reporter(reporter)
        .hint("check the relay, or name another one: --relay wss://...");
    match options.http {
        Some(address) => over_http(options, address, builder.build(), out, &talk).await,
        None => over_stdio(builder.build()).await,
    }
}

/// Checks what the standard streams cannot do; before a key is read from them.
fn check_stdio(options: &Use, global: &Global) -> Result<(), Problem> {
    let key =
        Zeroizing::new(global.key.clone().or_else(|| std::env::var("CVM_KEY").ok()).unwrap_or_default());
    if matches!(key.trim(), "stdin" | "-") {
        let problem = Problem::new(
            Code::InvalidValue,
            "standard input carries the MCP host's messages and cannot carry a key",
        );
        return Err(problem.hint("--key me"));
    }
    if options.servers.len() > 1 && !options.prefix {
        return Err(Problem::new(Code::MissingArgument, "several servers behind one stdio need --prefix")
            .fact("their tools are then named server__tool")
            .hint("add --prefix, or give each a path of its own: --http 127.0.0.1:7312"));
    }
    Ok(())
}

async fn over_stdio(proxy: Proxy) -> Result<(), Problem> {
    let host = output::claim_stdout()?;
    let stop = signals::stop_on_signals();
    signals::stop_without_parent(stop.clone());
    match Box::pin(proxy.run(tokio::io::stdin(), host, stop)).await {
        // A host that stopped reading has ended; that is how hosts say goodbye, too.
        Ok(()) | Err(Error::Stream(_)) => Ok(()),
        Err(error) => Err(failed(&error)),
    }
}

async fn over_http(
    options: &Use,
    address: SocketAddr,
    proxy: Proxy,
    out: &mut Out,
    talk: &Talk,
) -> Result<(), Problem> {
    if address.ip().is_unspecified() && !options.every_interface {
        let problem =
            Problem::new(Code::InvalidValue, "that address stands for every address of this machine");
        return Err(problem
            .fact("other machines could reach it")
            .hint("--http 127.0.0.1:7312, or add --every-interface"));
    }
    let stop = signals::stop_on_signals();
    let mut http = HttpOptions::new(address);
    let mut token_file = None;
    if !options.no_token {
        let path = match &options.token_file {
            Some(path) => path.clone(),
            None => keys::state_directory()?.join("http-token"),
        };
        http = http.with_token(token(&path).await?);
        token_file = Some(path.to_string_lossy().into_owned());
    }
    for origin in &options.allow_origin {
        http = http.with_origin(origin);
    }
    for host in &options.allow_host {
        http = http.with_host(host);
    }
    if options.every_interface {
        http = http.with_every_interface();
    }
    let proxy =
        proxy.bind(http.with_body_limit(options.max_request)).await.map_err(|error| failed(&error))?;
    let address = proxy.address();
    let endpoints: Vec<Endpoint> = proxy
        .paths()
        .into_iter()
        .map(|(name, path)| Endpoint { name, url: format!("http://{address}{path}") })
        .collect();
    talk.headline("MCP over Streamable HTTP, for hosts of 2025-11-25 and earlier and of 2026-07-28");
    for endpoint in &endpoints {
        talk.say(&format!("  {}", endpoint.url));
    }
    match &token_file {
        Some(path) => talk.say(&format!("  token     in {}   (Authorization: Bearer ...)", Printable(path))),
        None => talk.say("  token     none: every program of this machine may use it"),
    }
    if out.json {
        out.document(&Document { schema: "cvm.use/1", endpoints, token_file })?;
    }
    Box::pin(proxy.run(stop)).await.map_err(|error| failed(&error))
}

fn failed(error: &Error) -> Problem {
    if matches!(error, Error::Listen(_)) {
        Problem::new(Code::ConfigInvalid, error.to_string()).hint("take another address: --http 127.0.0.1:0")
    } else if matches!(error, Error::ServerName { .. }) {
        Problem::new(Code::InvalidValue, error.to_string()).hint("cvm use weather=npub1... files=npub1...")
    } else {
        Problem::internal(error.to_string())
    }
}

/// Collects the servers, each with its name.
async fn builder(options: &Use, global: &Global, talk: &Talk) -> Result<ProxyBuilder, Problem> {
    let mut builder: Option<ProxyBuilder> = None;
    for text in &options.servers {
        let (name, client, saved) = server(text, options, global, talk).await?;
        let with = match builder {
            Some(builder) => builder.server(name.clone(), client),
            None => Proxy::builder_of(name.clone(), client),
        };
        builder = Some(match saved {
            Some(saved) => with.tool_check(name, Arc::new(PinCheck::new(saved, *talk))),
            None => with,
        });
    }
    let builder = builder.ok_or_else(|| Problem::new(Code::MissingArgument, "no server is named"))?;
    Ok(if options.prefix { builder.merged() } else { builder })
}

/// Reads `SERVER` or `NAME=SERVER`; a saved name is the name, otherwise the beginning of the key serves as one.
async fn server(
    text: &str,
    options: &Use,
    global: &Global,
    talk: &Talk,
) -> Result<(String, ClientOptions, Option<SavedServer>), Problem> {
    let (name, server) = match text.split_once('=') {
        Some((name, server)) => (Some(name.to_owned()), server),
        None => (None, text),
    };
    let named = names::resolve(server, global, talk).await?;
    let (mut client, ephemeral) = connect::options(global, &named, talk, TIMEOUT)?;
    client.config.stateless = options.stateless;
    client.config.answer_server_requests = true;
    if ephemeral {
        talk.detail("no key was given, so the server sees one that nobody knows");
    }
    let name = name.or_else(|| named.saved.as_ref().map(|saved| saved.name.clone()));
    let name = name.unwrap_or_else(|| client.server.key.to_hex().chars().take(8).collect());
    Ok((name, client, named.saved))
}

/// Reads the token that local hosts must show; the first time it is made.
async fn token(path: &Path) -> Result<SecretToken, Problem> {
    let fail = |error: Error| {
        Problem::new(Code::ConfigInvalid, error.to_string()).hint("name another file: --token-file PATH")
    };
    let token = SecretToken::random().map_err(fail)?;
    match keys::write_new(path, token.reveal()) {
        Ok(()) => return Ok(token),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => {
            let shown = Printable(&path.to_string_lossy()).to_string();
            let problem = Problem::new(Code::ConfigInvalid, format!("{shown} could not be written: {error}"));
            return Err(problem.hint("name another place: --token-file PATH"));
        }
    }
    let deadline = Instant::now() + WRITTEN;
    loop {
        let text = keys::secret_file(path, "token")?;
        // Another copy of us has made the file and writes it right now.
        if text.ends_with('\n') || !text.is_empty() && Instant::now() >= deadline {
            return SecretToken::new(text.trim()).map_err(fail);
        }
        if Instant::now() >= deadline {
            let shown = Printable(&path.to_string_lossy()).to_string();
            let problem = Problem::new(Code::ConfigInvalid, format!("the token file {shown} is empty"));
            return Err(problem.hint(format!("rm {shown}; then it is made anew")));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
