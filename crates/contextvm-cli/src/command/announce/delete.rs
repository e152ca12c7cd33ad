//! `cvm announce delete`: what was public is asked to be deleted.
use std::sync::Arc;

use contextvm::core::Printable;
use contextvm::relay::{Addresses, QueryOutcome};
use contextvm::server::announce::{AnnounceTargets, AnnouncingError, DeleteOptions, DeleteReport, delete};
use serde::Serialize;

use super::show::{DEADLINE, Holdings};
use crate::args::{Also, AnnounceDelete, Global};
use crate::finding::words::count;
use crate::keys::{self, Chosen, npub};
use crate::output::{Out, Talk};
use crate::problem::{Code, Problem};
use crate::publication::{self, Outgoing, Told, announcing, options};

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    server: String,
    deleted: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    kind: u16,
    what: &'static str,
    ids: Vec<String>,
    request: String,
    relays: Vec<Told>,
}

pub(super) async fn run(
    options: &AnnounceDelete,
    global: &Global,
    out: &mut Out,
    talk: &Talk,
) -> Result<(), Problem> {
    let chosen = keys::choose(global.key.as_deref())?.ok_or_else(|| {
        Problem::new(Code::MissingArgument, "only the server's own key can delete its announcements")
            .hint("cvm announce delete -k files")
    })?;
    let keys = Arc::new(chosen.keys.clone());
    let targets = Box::pin(targets(options, global, &chosen)).await?;
    let mut wanted = DeleteOptions {
        reason: options.reason.clone(),
        relay_list: options.also.contains(&Also::RelayList),
        profile: options.also.contains(&Also::Profile),
        dry_run: true,
        ..DeleteOptions::default()
    };
    if let Some(timeout) = global.timeout {
        wanted.deadline = timeout;
    }
    let deadline = wanted.deadline;
    let looked = Box::pin(delete(&keys, &targets, wanted)).await;
    let looked = looked.map_err(|error| announcing::failed(&error))?;
    check(&looked)?;
    let relays: Vec<String> = targets.all().iter().map(ToString::to_string).collect();
    let requests = looked.deleted.iter().map(|deleted| deleted.request.clone());
    let outgoing: Vec<Outgoing> = requests.map(|event| Outgoing::new(event, relays.clone())).collect();
    if outgoing.is_empty() {
        return report(&chosen, &looked, (out, talk));
    }
    if !publication::ask(&outgoing, options.sending, (out, talk))? {
        return Ok(());
    }
    // What goes out is what was shown, to the last byte.
    let deleted = Box::pin(looked.send(&keys, &targets, deadline)).await;
    let deleted = deleted.map_err(|error| announcing::failed(&error))?;
    report(&chosen, &deleted, (out, talk))
}

/// Finds out where the announcements are or may be: on the relays that are named, on those of the key's own relay list, on
/// the bootstrap relays, and wherever else a copy was found.
async fn targets(
    options: &AnnounceDelete,
    global: &Global,
    chosen: &Chosen,
) -> Result<AnnounceTargets, Problem> {
    let (key, deadline) = (chosen.keys.public_key(), global.timeout.unwrap_or(DEADLINE));
    let bootstrap = options::bootstrap(&options.bootstrap)?;
    let mut relays = global.relays.clone();
    let asked: Vec<String> = publication::general_relays(global).into_iter().chain(relays.clone()).collect();
    let mut holdings = Holdings::default();
    holdings.ask(&key, &publication::parse(&asked)?, Addresses::Any, deadline).await?;
    // The key itself has named them.
    relays.extend(holdings.relay_list());
    let mut targets = match AnnounceTargets::new(&relays, bootstrap.as_deref()) {
        Ok(targets) => targets,
        // Copies may still be found.
        Err(AnnouncingError::NoRelays) => AnnounceTargets { advertised: Vec::new(), bootstrap: Vec::new() },
        Err(error) => return Err(announcing::failed(&error)),
    };
    let copies =
        holdings.holders().into_iter().filter(|url| !targets.all().contains(url)).collect::<Vec<_>>();
    targets.bootstrap.extend(copies);
    if targets.all().is_empty() {
        // Nobody said anything, or nobody has anything: those who were asked are asked again, and told so.
        targets.bootstrap = publication::parse(&asked)?;
    }
    Ok(targets)
}

/// Fails if no relay said what it holds: then nothing is known.
fn check(report: &DeleteReport) -> Result<(), Problem> {
    if report.asked.iter().any(|(_, outcome)| *outcome == QueryOutcome::Complete) {
        return Ok(());
    }
    let message = format!("none of {} answered", count(report.asked.len(), "relay"));
    let problem = Problem::new(Code::RelayUnreachable, message);
    let problem = report.asked.iter().fold(problem, |problem, (url, outcome)| {
        let why = match outcome {
            QueryOutcome::Failed(why) => why.as_str(),
            QueryOutcome::Complete | QueryOutcome::Late | _ => "no full answer in time",
        };
        problem.fact(format!("{}   {why}", Printable(url.as_str())))
    });
    Err(problem.hint("name other relays: --relay wss://..."))
}

fn report(chosen: &Chosen, deleted: &DeleteReport, (out, talk): (&mut Out, &Talk)) -> Result<(), Problem> {
    let entries = deleted.deleted.iter().map(|deleted| Entry {
        kind: deleted.kind,
        what: publication::what(deleted.kind),
        ids: deleted.ids.iter().map(|id| id.to_hex()).collect(),
        request: deleted.request.id.to_hex(),
        relays: deleted.per_relay.iter().map(Told::from).collect(),
    });
    let entries: Vec<Entry> = entries.collect();
    let server = npub(&chosen.keys.public_key());
    announcing::deletion_lines(deleted).iter().for_each(|line| talk.say(line));
    for told in entries.iter().flat_map(|entry| &entry.relays).filter(|told| !told.accepted) {
        let why = told.reason.as_deref().unwrap_or_default();
        talk.say(&format!("  {}   {why}", Printable(&told.relay)));
    }
    let refused = deleted.deleted.iter().any(|deleted| !deleted.is_taken());
    if out.json {
        out.document(&Document { schema: "cvm.announce.delete/1", server, deleted: entries })?;
    } else {
        out.line(&server)?;
    }
    if refused {
        let problem = Problem::new(Code::NoRelayAccepted, "no relay took a deletion");
        return Err(problem.hint("look at the relays: cvm relay check wss://..."));
    }
    Ok(())
}
