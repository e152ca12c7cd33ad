//! `cvm announce show`: which relay has what of a server.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contextvm::announce::{RelayList, Signed};
use contextvm::core::{Printable, event, kind};
use contextvm::relay::{Addresses, Query, QueryAnswer, QueryOutcome};
use nostr::event::EventId;
use nostr::key::PublicKey;
use nostr::types::RelayUrl;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::args::Global;
use crate::finding::words::{age, count, millis, now};
use crate::keys::{self, npub};
use crate::names;
use crate::output::{Out, Talk};
use crate::problem::{Code, Problem};
use crate::publication;
use crate::table::Table;

/// The kinds that are public about a server.
const KINDS: [u16; 7] = [
    kind::SERVER_ANNOUNCEMENT,
    kind::TOOLS_LIST,
    kind::RESOURCES_LIST,
    kind::RESOURCE_TEMPLATES_LIST,
    kind::PROMPTS_LIST,
    kind::RELAY_LIST,
    kind::PROFILE,
];
/// How long relays may take to answer.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// Most relays that are taken from the server's name and its own list.
const LISTED: usize = 4;

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    server: String,
    events: Vec<Entry>,
    relays: Vec<Relay>,
}

#[derive(Serialize)]
struct Entry {
    kind: u16,
    what: &'static str,
    id: String,
    #[serde(rename = "createdAt")]
    created_at: u64,
    /// Whether it is the newest of its kind; relays that still have another one are behind.
    newest: bool,
    relays: Vec<String>,
    event: Box<RawValue>,
}

#[derive(Serialize)]
struct Relay {
    url: String,
    answered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    ms: u64,
}

impl From<&QueryAnswer> for Relay {
    fn from(answer: &QueryAnswer) -> Self {
        let reason = match &answer.outcome {
            QueryOutcome::Complete => None,
            QueryOutcome::Failed(why) => Some(why.clone()),
            QueryOutcome::Late | _ => Some("no full answer in time".to_owned()),
        };
        Self { url: answer.url.to_string(), answered: reason.is_none(), reason, ms: millis(answer.took) }
    }
}

/// One event, and who has it.
struct Held {
    event: Signed,
    relays: BTreeSet<String>,
}

/// What relays have of one key.
#[derive(Default)]
pub(super) struct Holdings {
    held: BTreeMap<EventId, Held>,
    answers: Vec<QueryAnswer>,
}

impl Holdings {
    /// Asks relays.
    pub(super) async fn ask(
        &mut self,
        key: &PublicKey,
        relays: &[RelayUrl],
        addresses: Addresses,
        deadline: Duration,
    ) -> Result<(), Problem> {
        if relays.is_empty() {
            return Ok(());
        }
        let kinds = KINDS.map(|kind| kind.to_string()).join(",");
        let filter = format!(r#"{{"kinds":[{kinds}],"authors":["{}"]}}"#, key.to_hex());
        let query =
            Query::new(filter).with_deadline(deadline).with_settle(deadline).with_addresses(addresses);
        let report = query.ask(relays).await.map_err(|error| Problem::internal(error.to_string()))?;
        for (url, json) in report.events() {
            let Ok(signed) = Signed::read(json) else { continue };
            let event = signed.event();
            if event.pubkey == *key && KINDS.contains(&event.kind.as_u16()) {
                let held = self.held.entry(event.id);
                let held = held.or_insert_with(|| Held { event: signed, relays: BTreeSet::new() });
                held.relays.insert(url.to_string());
            }
        }
        self.answers.extend(report.per_relay);
        Ok(())
    }

    /// Returns the events in the order in which they are shown: by kind, the newest first.
    fn sorted(&self) -> Vec<&Held> {
        let place = |held: &Held| KINDS.iter().position(|kind| *kind == held.event.event().kind.as_u16());
        let mut all: Vec<&Held> = self.held.values().collect();
        all.sort_by_key(|held| {
            let event = held.event.event();
            (place(held), core::cmp::Reverse(event.created_at), event.id)
        });
        all
    }

    /// Lists the relays that have anything.
    pub(super) fn holders(&self) -> Vec<RelayUrl> {
        let urls: BTreeSet<&String> = self.held.values().flat_map(|held| &held.relays).collect();
        urls.into_iter().filter_map(|url| RelayUrl::parse(url).ok()).collect()
    }

    /// Returns the relays of the newest relay list.
    pub(super) fn relay_list(&self) -> Vec<String> {
        let list = self.newest(kind::RELAY_LIST).and_then(|list| RelayList::read(list).ok());
        let urls =
            list.map(|list| list.selection().into_iter().map(ToOwned::to_owned).collect::<Vec<String>>());
        urls.unwrap_or_default()
    }

    /// Fails if no relay answered: then nothing is known.
    fn check(&self) -> Result<(), Problem> {
        let answered = self.answers.iter().any(|answer| answer.outcome == QueryOutcome::Complete);
        if answered { Ok(()) } else { Err(nobody(self)) }
    }

    fn newest(&self, wanted: u16) -> Option<&Signed> {
        let found = self.sorted().into_iter().find(|held| held.event.event().kind.as_u16() == wanted);
        found.map(|held| &held.event)
    }
}

pub(super) async fn run(
    server: Option<&str>,
    global: &Global,
    out: &mut Out,
    talk: &Talk,
) -> Result<(), Problem> {
    let mut relays = publication::general_relays(global);
    let mut hints = Vec::new();
    let key = match server {
        Some(server) => {
            let named = names::resolve(server, global, talk).await?;
            relays.extend(named.saved.into_iter().flat_map(|saved| saved.relays));
            hints = named.server.relays;
            named.server.key
        }
        None => own(global)?,
    };
    let deadline = global.timeout.unwrap_or(DEADLINE);
    let mut holdings = Holdings::default();
    let asked = publication::parse(&relays)?;
    holdings.ask(&key, &asked, Addresses::Any, deadline).await?;
    hints.extend(holdings.relay_list());
    let listed = listed(&hints, &asked, global.local_relays);
    let addresses = if global.local_relays { Addresses::Any } else { Addresses::Public };
    holdings.ask(&key, &listed, addresses, deadline).await?;
    holdings.check()?;
    show(&key, &holdings, out, talk)
}

fn own(global: &Global) -> Result<PublicKey, Problem> {
    let chosen = keys::choose(global.key.as_deref())?.ok_or_else(|| {
        let problem = Problem::new(Code::MissingArgument, "neither a server nor a key is named");
        problem.hint("cvm announce show weather      or your own: cvm announce show -k me")
    })?;
    Ok(chosen.keys.public_key())
}

/// Returns the relays that somebody else has named and that were not asked yet.
fn listed(named: &[String], asked: &[RelayUrl], local: bool) -> Vec<RelayUrl> {
    let mut listed: Vec<RelayUrl> = Vec::new();
    for url in named.iter().filter(|url| local || url.starts_with("wss://")) {
        let url = RelayUrl::parse(url).ok().filter(|url| !asked.contains(url) && !listed.contains(url));
        listed.extend(url.filter(|_| listed.len() < LISTED));
    }
    listed
}

fn nobody(holdings: &Holdings) -> Problem {
    let asked = count(holdings.answers.len(), "relay");
    let problem = Problem::new(Code::RelayUnreachable, format!("none of {asked} answered"));
    let problem = holdings.answers.iter().map(Relay::from).fold(problem, |problem, relay| {
        problem.fact(format!("{}   {}", Printable(&relay.url), relay.reason.unwrap_or_default()))
    });
    problem.hint("name other relays: --discovery wss://...")
}

fn show(key: &PublicKey, holdings: &Holdings, out: &mut Out, talk: &Talk) -> Result<(), Problem> {
    let sorted = holdings.sorted();
    let is_newest = |held: &Held| {
        let wanted = held.event.event().kind.as_u16();
        holdings.newest(wanted).is_some_and(|newest| newest.event().id == held.event.event().id)
    };
    if out.json {
        let mut events = Vec::new();
        for held in &sorted {
            let signed = held.event.event();
            let raw = RawValue::from_string(event::print(signed));
            events.push(Entry {
                kind: signed.kind.as_u16(),
                what: publication::what(signed.kind.as_u16()),
                id: signed.id.to_hex(),
                created_at: signed.created_at.as_secs(),
                newest: is_newest(held),
                relays: held.relays.iter().cloned().collect(),
                event: raw.map_err(|error| Problem::internal(error.to_string()))?,
            });
        }
        let relays = holdings.answers.iter().map(Relay::from).collect();
        return out.document(&Document { schema: "cvm.announce.show/1", server: npub(key), events, relays });
    }
    out.line(&npub(key))?;
    let mut table = Table::new(&["KIND", "", "AGE", "ID", "RELAYS"]);
    for held in &sorted {
        let event = held.event.event();
        let (kind, id) = (event.kind.as_u16(), event.id.to_hex());
        let what = publication::what(kind);
        let what = if is_newest(held) { what.to_owned() } else { format!("{what} (outdated)") };
        let short = id.get(..16).unwrap_or_default();
        let relays: Vec<&str> = held.relays.iter().map(String::as_str).collect();
        table.row([
            kind.to_string(),
            what,
            age(event.created_at.as_secs(), now()),
            format!("{short}..."),
            Printable(&relays.join(" ")).to_string(),
        ]);
    }
    if sorted.is_empty() {
        out.line("  nothing is public about it on these relays")?;
    } else {
        out.text(&table.to_text("  "))?;
    }
    for relay in holdings.answers.iter().map(Relay::from) {
        if let Some(reason) = &relay.reason {
            talk.say(&format!("  {}   {reason}", Printable(&relay.url)));
        }
    }
    let answered = holdings.answers.iter().filter(|answer| answer.outcome == QueryOutcome::Complete).count();
    talk.say(&format!("relays {answered}/{} answered", holdings.answers.len()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_of_somebody_else_are_few_secure_and_asked_once() {
        let named: Vec<String> =
            ["ws://a.example", "wss://b.example/", "wss://c.example", "wss://c.example/"]
                .into_iter()
                .map(ToOwned::to_owned)
                .chain((0..9).map(|at| format!("wss://d{at}.example")))
                .collect();
        let asked = [RelayUrl::parse("wss://b.example").unwrap()];
        let urls = |local| listed(&named, &asked, local).iter().map(ToString::to_string).collect::<Vec<_>>();
        let few =
            ["wss://c.example", "wss://d0.example", "wss://d1.example", "wss://d2.example"].map(String::from);
        assert_eq!(urls(false), few);
        assert_eq!(urls(true).first().map(String::as_str), Some("ws://a.example"));
    }
}
