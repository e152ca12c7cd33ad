//! `cvm announce publish`: announcements of a server that is started only to be asked.
use contextvm::server::{Announcing, Server, ServerHandle, ServerOptions};
use contextvm_bridge::Gateway;
use serde::Serialize;

use crate::args::{AnnouncePublish, Global};
use crate::fleet::look::beside;
use crate::fleet::{self, target};
use crate::keys::{self, Chosen, npub};
use crate::output::{Out, Talk};
use crate::problem::{Code, Problem};
use crate::publication::{self, Told, announcing, options};
use crate::signals;

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    server: String,
    events: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    kind: u16,
    what: &'static str,
    id: String,
    relays: Vec<Told>,
}

pub(super) async fn run(
    options: &AnnouncePublish,
    global: &Global,
    out: &mut Out,
    talk: Talk,
) -> Result<(), Problem> {
    let chosen = key(global)?;
    if global.relays.is_empty() {
        let problem =
            Problem::new(Code::MissingArgument, "an announcement says on which relays the server is");
        return Err(problem.hint("--relay wss://..."));
    }
    let publication = &options.publication;
    let announce = announcing::announce_options(publication, global, Some(&global.relays))?;
    let target = target::named(&options.target)?;
    let shown = target::shown(&target);
    let stop = signals::stop_on_signals();
    let gateway = Gateway::builder(target)
        .request_timeout(options.target.request_timeout)
        .reporter(fleet::reporter(None, String::new(), talk));
    let listener = |own| Ok(Server::offline(server_options(options, global, chosen, own)?));
    let work = async |handle: ServerHandle| {
        if publication.dry_run {
            let (outgoing, remarks) = announcing::preview(&handle, announce).await?;
            publication::show(&outgoing, out)?;
            remarks.iter().for_each(|remark| talk.say(remark));
            return Ok(());
        }
        let announcing = announcing::begin(&handle, announce)?;
        publish(announcing, &npub(&handle.public_key()), (out, talk)).await
    };
    Box::pin(beside(gateway, &shown, listener, &stop, work)).await
}

fn key(global: &Global) -> Result<Chosen, Problem> {
    keys::choose(global.key.as_deref())?.ok_or_else(|| {
        Problem::new(Code::MissingArgument, "announcements need the server's key")
            .fact("neither --key nor CVM_KEY is given")
            .hint("cvm key new me, then: --key me")
    })
}

fn server_options(
    options: &AnnouncePublish,
    global: &Global,
    chosen: Chosen,
    own: Option<String>,
) -> Result<ServerOptions, Problem> {
    options::check(&options.publication, true)?;
    Ok(Server::builder(chosen.keys)
        .identity(options::identity(&options.publication, own))
        .common_schemas(options::schemas(&options.publication)?)
        .encryption(global.encryption.into())
        .gift_wrap(global.gift_wrap.into())
        .build())
}

/// Waits until everything is published that can be, and says what became of it.
async fn publish(
    mut announcing: Announcing,
    server: &str,
    (out, talk): (&mut Out, Talk),
) -> Result<(), Problem> {
    let status = announcing.settled().await.map_err(|error| Problem::internal(error.to_string()))?;
    announcing::Teller::default().lines(&status).iter().for_each(|line| talk.say(line));
    let events = status.events.iter().map(|announced| {
        let relays = announced.per_relay.iter().map(Told::from);
        Entry {
            kind: announced.about,
            what: publication::what(announced.about),
            id: announced.event.id.to_hex(),
            relays: relays.collect(),
        }
    });
    let events: Vec<Entry> = events.collect();
    let taken = status.events.iter().filter(|announced| announced.is_taken()).count();
    let all = events.len();
    if out.json {
        out.document(&Document { schema: "cvm.announce.publish/1", server: server.to_owned(), events })?;
    } else {
        out.line(server)?;
    }
    if taken == all && all > 0 {
        return Ok(());
    }
    let message = format!("{taken} of {all} events were taken by a relay");
    let failures = status.failures.iter().map(announcing::unannounced);
    let problem = failures.fold(Problem::new(Code::NoRelayAccepted, message), Problem::fact);
    Err(problem.hint("look at the relays: cvm relay check wss://..."))
}
