//! Looking for servers: where to look, what is remembered, and how it is told.
pub(crate) mod ping;
pub(crate) mod price;
pub(crate) mod told;
pub(crate) mod trust;
pub(crate) mod words;

use std::sync::OnceLock;

use contextvm::announce::RelayList;
use contextvm::client::discover::{DiscoverError, Discovery};
use contextvm::client::memory::Memory;
use contextvm::client::names::SchemaName;
use contextvm::client::providers::Providers;
use contextvm::client::resolve::DISCOVERY_RELAYS;
use contextvm::core::Printable;

use nostr::key::PublicKey;

use crate::args::Global;
use crate::keys;
use crate::output::Talk;
use crate::problem::{Code, Problem};
use crate::saved;

/// The memory of this process: one, so that the file is read once.
static MEMORY: OnceLock<Memory> = OnceLock::new();

/// Returns what `--discovery` says, if it was given; empty means nowhere.
pub(crate) fn relays(global: &Global) -> Option<Vec<String>> {
    let mut named = global.discovery.iter().map(|url| url.trim()).filter(|url| !url.is_empty()).peekable();
    named.peek()?;
    Some(named.filter(|url| *url != "none").map(ToOwned::to_owned).collect())
}

/// Returns where to look for servers and relay lists: where `--discovery` says, else on the relays of `--relay`, else on
/// the six defaults; empty means nowhere.
pub(crate) fn places(global: &Global) -> Vec<String> {
    relays(global).unwrap_or_else(|| match global.relays.as_slice() {
        [] => DISCOVERY_RELAYS.map(ToOwned::to_owned).to_vec(),
        named => named.to_vec(),
    })
}

/// Returns the newest events ever seen, which nobody can go back behind; kept in a file of ours.
pub(crate) fn memory(talk: &Talk) -> Memory {
    let open = || match keys::state_directory() {
        Ok(directory) => Memory::open(directory.join("newest")),
        Err(_) => {
            talk.detail("no HOME: what is seen now is forgotten at the end");
            Memory::volatile()
        }
    };
    let memory = MEMORY.get_or_init(|| {
        let memory = open();
        // Strangers must not crowd out what is remembered of these; a file that cannot be read is told where it is used.
        saved::all().unwrap_or_default().iter().for_each(|saved| memory.prefer(saved.server.key));
        memory
    });
    warn(memory, talk);
    memory.clone()
}

/// Whether the server's own relay list, as it was last seen, names relays and none that may be used without
/// `--local-relays`.
pub(crate) fn lists_only_local(server: &PublicKey) -> bool {
    let list = MEMORY.get().and_then(|memory| memory.relay_list(server));
    let list = list.and_then(|list| RelayList::read(&list).ok());
    list.is_some_and(|list| {
        let selected = list.selection();
        !selected.is_empty() && !selected.iter().any(|url| url.starts_with("wss://"))
    })
}

/// Says what went wrong with the memory's file since the last time.
pub(crate) fn warn(memory: &Memory, talk: &Talk) {
    for warning in memory.warnings() {
        talk.say(&format!("note: {}", Printable(&warning.to_string())));
    }
}

/// Prepares to look for servers at the usual places.
pub(crate) fn discovery(global: &Global, talk: &Talk) -> Result<Discovery, Problem> {
    discovery_on(&places(global), global, talk)
}

/// Prepares to look for servers on these relays.
pub(crate) fn discovery_on(relays: &[String], global: &Global, talk: &Talk) -> Result<Discovery, Problem> {
    let discovery = Discovery::new(relays).map_err(|error| failed(&error))?;
    let discovery = discovery.with_memory(memory(talk)).with_local_relays(global.local_relays);
    Ok(match global.timeout {
        Some(deadline) => discovery.with_deadline(deadline),
        None => discovery,
    })
}

/// Says why a search told nothing.
pub(crate) fn failed(error: &DiscoverError) -> Problem {
    match error {
        DiscoverError::NoRelays => Problem::new(Code::RelayUnreachable, "there is nowhere to look")
            .fact("--discovery is none, and no relay came with the name")
            .hint("name a relay to look on: --discovery wss://..."),
        DiscoverError::NoneAnswered(answers) => {
            let message = format!("none of {} answered", words::count(answers.len(), "relay"));
            let problem = Problem::new(Code::RelayUnreachable, message);
            let problem = answers.iter().fold(problem, |problem, answer| problem.fact(told::relay(answer)));
            let first = answers.first().map_or("wss://...".to_owned(), |answer| answer.url.to_string());
            problem.hint(format!(
                "cvm relay check {}, or look elsewhere: --discovery wss://...",
                Printable(&first)
            ))
        }
        DiscoverError::RelayUrl(_) | _ => {
            Problem::new(Code::InvalidValue, error.to_string()).hint("--discovery wss://...")
        }
    }
}

/// Looks for servers that have a tool of this schema.
pub(crate) async fn providers(
    schema: &SchemaName,
    global: &Global,
    talk: &Talk,
) -> Result<Providers, Problem> {
    let providers = discovery(global, talk)?.providers(schema).await.map_err(|error| failed(&error))?;
    told::silence(&providers.found, talk);
    for other in &providers.mismatched {
        let (tool, key) = (Printable::short(&other.tool, 60), words::short_npub(&other.server));
        talk.say(&format!("note: {tool} of {key} claims this schema and has another; it is left out"));
    }
    Ok(providers)
}
