//! `cvm serve`: a stdio MCP server on Nostr.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use contextvm::core::{Printable, ServerIdentity};
use contextvm::server::{EncryptionMode, ErrorKind, Identity, Listener, Server, ServerHandle};
use contextvm_bridge::{ChildCommand, Error, Gateway, Notice, Reporter, RestartPolicy, RestartWhen};
use nostr::key::PublicKey;
use serde::Serialize;

use crate::args::{Global, Restart, Serve};
use crate::keys::{self, Chosen, KeyRef, npub};
use crate::output::{Out, Talk};
use crate::problem::{Code, Problem};
use crate::signals;

/// How often the relays are looked at.
const WATCH: Duration = Duration::from_millis(500);

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    server: String,
    pid: u32,
    relays: &'a [String],
}

pub(crate) async fn run(options: &Serve, global: &Global, out: &mut Out, talk: Talk) -> Result<(), Problem> {
    let started = Instant::now();
    let stop = signals::stop_on_signals();
    let allowed = allowed(options)?;
    let chosen = key(options, global)?;
    if global.relays.is_empty() {
        let problem = Problem::new(Code::MissingArgument, "serve needs a relay to serve on");
        return Err(problem.hint("--relay wss://...   or a local one: cvm relay run"));
    }
    let command = command(options)?;
    let shown = shown_command(&command);
    let reporter = Reporter::new(move |notice| {
        let usual = matches!(notice, Notice::ChildStarted { .. } | Notice::ChildReady);
        if usual { talk.detail(&notice.to_string()) } else { talk.say(&notice.to_string()) }
    });
    let gateway = Gateway::builder(command)
        .restart(restart(options))
        .reporter(reporter)
        .request_timeout(options.request_timeout)
        .start();
    let gateway = tokio::select! {
        gateway = gateway => gateway.map_err(|error| not_started(&error, &shown))?,
        () = stop.cancelled() => return Ok(()),
    };
    let listener = listen(options, global, &chosen, allowed.clone(), &gateway);
    let listener = tokio::select! {
        listener = listener => listener?,
        () = stop.cancelled() => return Ok(()),
    };
    let handle = listener.handle();
    banner(
        &Facts {
            options,
            global,
            chosen: &chosen,
            allowed: allowed.as_deref(),
            gateway: &gateway,
            shown: &shown,
        },
        &handle,
        &talk,
    );
    talk.say(&format!("ready in {:.1} s", started.elapsed().as_secs_f32()));
    if out.json {
        let (server, pid) = (npub(&handle.public_key()), gateway.pid());
        out.document(&Document { schema: "cvm.serve/1", server, pid, relays: &global.relays })?;
    }
    let watching = tokio::spawn(watch(handle, talk));
    let outcome = Box::pin(gateway.run(listener, stop)).await;
    watching.abort();
    outcome.map_err(|error| {
        let problem = Problem::internal(format!("the server has ended: {error}"));
        problem.fact(format!("command {shown}")).hint("run the command by itself and look at what it says")
    })
}

/// Who may call: said on the command line, never assumed.
fn allowed(options: &Serve) -> Result<Option<Vec<PublicKey>>, Problem> {
    if options.open {
        return Ok(None);
    }
    if options.allow.is_empty() {
        return Err(Problem::new(Code::MissingArgument, "serve must be told who may call")
            .fact("--allow npub1...   lets that key call; repeat it for several")
            .fact("--open             lets everybody call who knows the server's key")
            .hint("add --allow npub1..., or --open"));
    }
    let parse = |text: &String| {
        let identity = text.parse::<ServerIdentity>().map(|identity| identity.key);
        identity.map_err(|error| {
            let shown = Printable::short(&keys::scrub(text), 80).to_string();
            let why = error.to_string().replace("server key", "it");
            let problem = Problem::new(Code::InvalidValue, format!("--allow {shown} names no key: {why}"));
            problem.hint("--allow npub1...")
        })
    };
    options.allow.iter().map(parse).collect::<Result<Vec<_>, _>>().map(Some)
}

/// A server needs a key that its callers can know again.
fn key(options: &Serve, global: &Global) -> Result<Chosen, Problem> {
    if options.ephemeral {
        let origin = KeyRef::Ephemeral.to_string();
        return Ok(Chosen { keys: KeyRef::Ephemeral.load()?, origin, ephemeral: true });
    }
    keys::choose(global.key.as_deref())?.ok_or_else(|| {
        Problem::new(Code::MissingArgument, "serve needs a key, so that callers can find the server again")
            .fact("neither --key nor CVM_KEY is given")
            .hint("cvm key new me, then serve with --key me      or for once: --ephemeral")
    })
}

fn command(options: &Serve) -> Result<ChildCommand, Problem> {
    let wrong = |error: Error| {
        if matches!(error, Error::Environment { .. }) {
            Problem::new(Code::InvalidValue, error.to_string()).hint("--env NAME=VALUE")
        } else {
            Problem::new(Code::ConfigInvalid, error.to_string()).hint("check the command after --")
        }
    };
    let mut command = ChildCommand::new(&options.command).map_err(wrong)?;
    for name in &options.inherit_env {
        command = command.inherit(name).map_err(wrong)?;
    }
    for pair in &options.env {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            Problem::new(Code::InvalidValue, "--env wants NAME=VALUE")
                .hint("or pass one of yours on: --inherit-env NAME")
        })?;
        command = command.env(name, value).map_err(wrong)?;
    }
    Ok(match &options.cwd {
        Some(directory) => command.directory(directory),
        None => command,
    })
}

fn restart(options: &Serve) -> RestartPolicy {
    let when = match options.restart {
        Restart::OnFailure => RestartWhen::Failure,
        Restart::Always => RestartWhen::Always,
        Restart::Never => RestartWhen::Never,
    };
    let (max, window) = options.max_restarts;
    RestartPolicy { when, max, window, ..RestartPolicy::default() }
}

async fn listen(
    options: &Serve,
    global: &Global,
    chosen: &Chosen,
    allowed: Option<Vec<PublicKey>>,
    gateway: &Gateway,
) -> Result<Listener, Problem> {
    let own = gateway.welcome().and_then(|welcome| welcome.name.clone());
    let identity =
        Identity { name: options.name.clone().or(own), about: options.about.clone(), ..Identity::default() };
    let encryption =
        if options.require_encryption { EncryptionMode::Required } else { global.encryption.into() };
    let mut builder = Server::builder(chosen.keys.clone())
        .relays(&global.relays)
        .identity(identity)
        .encryption(encryption)
        .gift_wrap(global.gift_wrap.into())
        .inject_client_pubkey(options.inject_client_pubkey);
    if let Some(allowed) = allowed {
        builder = builder.allow(allowed);
    }
    if chosen.ephemeral {
        builder = builder.fresh_key();
    }
    builder.start().await.map_err(|error| {
        let code = match error.kind() {
            ErrorKind::Config => Code::InvalidValue,
            ErrorKind::Relay => Code::RelayUnreachable,
            ErrorKind::Closed | ErrorKind::Host | _ => Code::Internal,
        };
        Problem::new(code, error.to_string()).hint("use another relay: --relay wss://...")
    })
}

/// What the banner tells.
struct Facts<'a> {
    options: &'a Serve,
    global: &'a Global,
    chosen: &'a Chosen,
    allowed: Option<&'a [PublicKey]>,
    gateway: &'a Gateway,
    shown: &'a str,
}

fn banner(facts: &Facts<'_>, handle: &ServerHandle, talk: &Talk) {
    let server = npub(&handle.public_key());
    let welcome = facts.gateway.welcome();
    let name = welcome.and_then(|welcome| welcome.name.as_deref()).unwrap_or("mcp server");
    let version = welcome.and_then(|welcome| welcome.version.as_deref()).unwrap_or_default();
    let shown = format!("{} {}", Printable::short(name, 60), Printable::short(version, 30));
    talk.headline(&format!("cvm serve  {}", shown.trim()));
    let kept = if facts.chosen.ephemeral {
        "made for this run and then forgotten"
    } else {
        facts.chosen.origin.as_str()
    };
    talk.say(&format!("  key       {server}   ({kept})"));
    talk.say(&format!("  target    stdio  {}   pid {}", facts.shown, facts.gateway.pid()));
    for (at, (url, up)) in handle.status().relays.into_iter().enumerate() {
        let label = if at == 0 { "relays" } else { "      " };
        talk.say(&format!(
            "  {label}    {}  {}",
            Printable(&url),
            if up { "ok" } else { "not connected yet" }
        ));
    }
    let who = match facts.allowed {
        None => "everybody who knows the key".to_owned(),
        Some([_]) => "1 key".to_owned(),
        Some(keys) => format!("{} keys", keys.len()),
    };
    let encryption = match (facts.options.require_encryption, EncryptionMode::from(facts.global.encryption)) {
        (true, _) | (false, EncryptionMode::Required) => "required",
        (false, EncryptionMode::Optional) => "optional",
        (false, EncryptionMode::Disabled) => "off",
    };
    talk.say(&format!("  access    {who}      encryption {encryption}"));
    talk.say("  public    no: nothing is announced");
    let relay = facts.global.relays.first().map_or("", String::as_str);
    talk.say(&format!("  try it    cvm ls {server} -r {}", Printable(relay)));
}

/// Says when a relay comes or goes.
async fn watch(handle: ServerHandle, talk: Talk) {
    let mut known: BTreeMap<String, bool> = handle.status().relays.into_iter().collect();
    loop {
        tokio::time::sleep(WATCH).await;
        for (url, up) in handle.status().relays {
            if known.insert(url.clone(), up) != Some(up) {
                let state = if up { "up" } else { "down; it is tried again" };
                talk.say(&format!("relay {} {state}", Printable(&url)));
            }
        }
    }
}

fn shown_command(command: &ChildCommand) -> String {
    let program = command.program().to_string_lossy();
    let args = command.args().iter().map(|arg| arg.to_string_lossy());
    let words: Vec<String> = std::iter::once(program).chain(args).map(|word| keys::scrub(&word)).collect();
    Printable::short(&words.join(" "), 300).to_string()
}

fn not_started(error: &Error, shown: &str) -> Problem {
    Problem::new(Code::ConfigInvalid, error.to_string())
        .fact(format!("command {shown}"))
        .hint("run the command by itself; a stdio MCP server answers JSON-RPC lines on its standard output")
}
