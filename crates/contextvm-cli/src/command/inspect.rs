//! `cvm inspect`: all that is known about a server, and how much of it was checked.
mod ceps;
mod document;
mod live;
mod relays;
mod schemas;
mod shown;

use contextvm::ServerIdentity;
use contextvm::announce::{Directory, DocumentKind, Lookalikes, ServerEntry};
use contextvm::client::discover::{DiscoverError, Found, RelayAnswer};
use contextvm::client::nip05::{self, NameOptions, Verification};
use contextvm::core::Printable;
use nostr::key::PublicKey;
use nostr::types::RelayUrl;

use self::ceps::{Cep, Facts};
use self::live::Live;
use self::relays::Listed;
use self::schemas::Schema;
use crate::args::{Global, Inspect};
use crate::finding::{self, told, words};
use crate::keys::npub;
use crate::names::{self, Named};
use crate::output::{Out, Talk};
use crate::problem::{Code, Problem};
use crate::saved::{self, SavedServer};

/// Everything that is shown; a part that is missing says why.
struct Report {
    key: PublicKey,
    saved: Option<SavedServer>,
    /// A name that this one could be taken for.
    alike: Option<String>,
    directory: Directory,
    search: Search,
    /// The NIP-05 name of the profile and what its domain says.
    nip05: Option<(String, Verification)>,
    relays: Vec<Listed>,
    live: Result<Live, Problem>,
    schemas: Vec<Schema>,
    ceps: Vec<Cep>,
}

/// How the search for what is published went.
struct Search {
    answers: Vec<RelayAnswer>,
    summary: String,
    /// Why nothing can be said about what is published.
    failed: Option<String>,
}

pub(crate) async fn run(
    options: &Inspect,
    global: &Global,
    out: &mut Out,
    talk: &Talk,
) -> Result<(), Problem> {
    let mut named = Box::pin(names::resolve(&options.server, global, talk)).await?;
    if named.saved.is_none() {
        named.saved = saved::find_key(&named.server.key)?;
    }
    let searched = finding::discovery(global, talk)?.server(&named.server).await;
    finding::warn(&finding::memory(talk), talk);
    let report = Box::pin(report(named, searched, options, global, talk)).await?;
    if out.json { out.document(&document::of(&report)) } else { out.text(&shown::page(&report)) }
}

async fn report(
    named: Named,
    searched: Result<Found, DiscoverError>,
    options: &Inspect,
    global: &Global,
    talk: &Talk,
) -> Result<Report, Problem> {
    let (key, saved, by_hand) = (named.server.key, named.saved.clone(), !named.relays(global).is_empty());
    let (mut directory, search, problem) = parts(searched);
    let claim = directory.server(&key).and_then(ServerEntry::profile);
    let claim = claim.and_then(|part| part.document.nip05.clone());
    let domain = check_name(&key, claim, global);
    let listed = relays::listed(directory.server(&key), &search.answers, global);
    let (nip05, relays, live) = if options.passive {
        let (nip05, relays) = tokio::join!(domain, listed);
        (nip05, relays, Err(Problem::new(Code::NoReply, "not contacted (--passive)")))
    } else {
        let reached = Named { server: with_list(&named.server, &directory), ..named };
        let mut heard = directory.clone();
        let live = Box::pin(live::ask(reached, global, &mut heard, talk));
        let (nip05, relays, live) = tokio::join!(domain, listed, live);
        directory = heard;
        let silent = live.is_err() && directory.server(&key).is_none();
        match live {
            Err(live) if silent => return Err(problem.unwrap_or(live)),
            live => (nip05, relays, live),
        }
    };
    let entry = directory.server(&key);
    if entry.is_none() {
        return Err(problem.unwrap_or_else(|| nothing(&key, &search)));
    }
    let schemas = entry.and_then(ServerEntry::tools).map(schemas::check).unwrap_or_default();
    let ceps = {
        let live = live.as_ref().ok();
        let nip05 = nip05.as_ref().map(|(_, verification)| verification);
        let over_list = !by_hand && live.is_some_and(|live| uses(live, &relays));
        let asked: Vec<bool> =
            relays.iter().filter_map(|relay| relay.answer.as_ref()).map(RelayAnswer::has_answered).collect();
        let listed = (!asked.is_empty()).then(|| asked.contains(&true));
        ceps::table(&Facts { entry, live, nip05, schemas: &schemas, listed, over_list })
    };
    let alike = entry.map(alike).transpose()?.flatten();
    Ok(Report { key, saved, alike, directory, search, nip05, relays, live, schemas, ceps })
}

/// Takes a search apart; one that failed is a problem only if nothing else is known.
fn parts(searched: Result<Found, DiscoverError>) -> (Directory, Search, Option<Problem>) {
    match searched {
        Ok(found) => {
            let summary = told::summary(&found);
            let search = Search { answers: found.per_relay, summary, failed: None };
            (found.directory, search, None)
        }
        Err(error) => {
            let problem = finding::failed(&error);
            let answers = match error {
                DiscoverError::NoneAnswered(answers) => answers,
                DiscoverError::NoRelays | DiscoverError::RelayUrl(_) | _ => Vec::new(),
            };
            let summary = format!("relays 0/{} answered", answers.len());
            let search = Search { answers, summary, failed: Some(problem.message().to_owned()) };
            (Directory::default(), search, Some(problem))
        }
    }
}

fn nothing(key: &PublicKey, search: &Search) -> Problem {
    let problem = Problem::new(Code::NotFound, format!("nothing is published about {}", npub(key)));
    problem
        .fact(search.summary.clone())
        .hint("look on other relays: --discovery wss://..., or without --passive")
}

/// Asks the domain of the profile's NIP-05 name whose key it is.
async fn check_name(
    key: &PublicKey,
    claim: Option<String>,
    global: &Global,
) -> Option<(String, Verification)> {
    let claim = claim.filter(|claim| !claim.trim().is_empty())?;
    let options = NameOptions::default().with_dangerous_local(global.local_relays);
    let verification = nip05::verify(key, &claim, &options).await;
    Some((claim, verification))
}

/// Adds the relays of the server's list to those that came with its name, so that they are not looked up again.
fn with_list(server: &ServerIdentity, directory: &Directory) -> ServerIdentity {
    let mut server = server.clone();
    let list = directory.server(&server.key).and_then(ServerEntry::relay_list);
    let list = list.map(|part| part.document.selection()).unwrap_or_default();
    server.relays.extend(list.into_iter().map(ToOwned::to_owned));
    server
}

/// Whether a session went over a relay of the list.
fn uses(live: &Live, relays: &[Listed]) -> bool {
    let parsed = |url: &str| RelayUrl::parse(url).ok();
    live.relays.iter().any(|used| {
        let used = parsed(used);
        used.is_some() && relays.iter().any(|listed| parsed(&listed.url) == used)
    })
}

/// Says whose saved name this server's name could be taken for.
fn alike(entry: &ServerEntry) -> Result<Option<String>, Problem> {
    let saved = saved::all()?;
    let mut known = Lookalikes::default();
    saved.iter().for_each(|saved| known.know(saved.server.key, &saved.name));
    if saved.iter().any(|saved| saved.server.key == *entry.key()) {
        return Ok(None);
    }
    let alike = known.of(entry.key(), &entry.name());
    Ok(alike.map(|alike| format!("{} {}", Printable(alike.name), words::short_npub(alike.key))))
}

/// Returns the categories that it announced; no session tells them.
fn categories(entry: &ServerEntry) -> &[String] {
    let tools = entry.list_sources(DocumentKind::Tools).and_then(|tools| tools.announced.as_ref());
    tools.map(|part| part.document.categories.as_slice()).unwrap_or_default()
}

impl Report {
    fn entry(&self) -> Option<&ServerEntry> {
        self.directory.server(&self.key)
    }

    /// Says why a part of what is published is not there.
    fn absent(&self, what: &str) -> String {
        match &self.search.failed {
            Some(why) => format!("unknown: {why}"),
            None => format!("{what} was found   ({})", self.search.summary),
        }
    }

    /// Says why a list is not there.
    fn missing(&self, kind: DocumentKind) -> Option<&str> {
        let live = self.live.as_ref().ok()?;
        live.missing.iter().find(|(missing, _)| *missing == kind).map(|(_, why)| why.as_str())
    }
}
