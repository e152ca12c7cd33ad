//! The search for a server's own relay list (kind 10002) on the discovery relays.
use std::time::Duration;

use contextvm_core::kind;
use contextvm_relay::{Query, QueryOutcome, QueryReport, Relays};
use nostr::event::Event;
use nostr::key::PublicKey;
use nostr::types::RelayUrl;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::admission::Admission;
use crate::resolve::PATIENCE;

/// How long the other relays may still answer after the first one has.
const SETTLE: Duration = Duration::from_secs(1);

/// What one discovery relay answered.
#[derive(Debug, Default)]
struct Answer {
    /// It answered in full, so that a list which is not there is not there.
    complete: bool,
    list: Option<Event>,
}

/// All discovery relays, asked at once for at most [`PATIENCE`]. Dropping it ends the asking.
#[derive(Debug)]
pub(crate) struct Search {
    admission: Admission,
    until: Instant,
    asked: JoinSet<Answer>,
    newest: Option<Event>,
}

impl Search {
    /// Begins to ask; only what the server signed will be believed.
    pub(crate) fn start(discovery: &[RelayUrl], server: PublicKey, admission: Admission) -> Self {
        let (kind, author) = (kind::RELAY_LIST, server.to_hex());
        let filter = format!(r#"{{"kinds":[{kind}],"authors":["{author}"],"limit":1}}"#);
        // A relay keeps one list of each author.
        let query = Query::new(filter).with_events(1).with_deadline(PATIENCE);
        let mut search = Self::silent(admission);
        for relay in discovery {
            let (query, relay) = (query.clone(), [relay.clone()]);
            search.asked.spawn(async move {
                query.ask(&relay).await.map_or_else(|_| Answer::default(), |report| answer(&report, server))
            });
        }
        search
    }

    fn silent(admission: Admission) -> Self {
        Self { admission, until: Instant::now() + PATIENCE, asked: JoinSet::new(), newest: None }
    }

    /// Returns the relays of the newest list known after `patience`, or [`SETTLE`] after the first answer in full.
    pub(crate) async fn soon(&mut self, patience: Duration) -> Vec<RelayUrl> {
        self.listen(Instant::now() + patience, |answer| answer.complete).await;
        self.relays()
    }

    /// Returns the relays of a list that comes after all, or [`SETTLE`] later at most.
    async fn late(mut self) -> Vec<RelayUrl> {
        self.listen(self.until, |answer| answer.list.is_some()).await;
        self.relays()
    }

    /// Goes on with the search and adds what it finds to the relays in use, under the rule for strangers' lists.
    pub(crate) async fn add_to(self, relays: Relays) {
        let addresses = self.admission.addresses;
        for url in self.late().await {
            tracing::info!(%url, "the server's relay list came late: relay added");
            if let Err(error) = relays.add(url, addresses) {
                tracing::warn!(%error, "a relay of the server's list cannot be added");
            }
        }
    }

    /// Takes answers until a time, or until [`SETTLE`] after the first one that counts.
    async fn listen(&mut self, mut until: Instant, counts: fn(&Answer) -> bool) {
        while let Ok(Some(answer)) = timeout_at(until, self.asked.join_next()).await {
            // A task that panicked has nothing to say.
            let answer = answer.unwrap_or_default();
            if counts(&answer) {
                until = until.min(Instant::now() + SETTLE);
            }
            self.newest = self.newest.take().into_iter().chain(answer.list).max_by(by_age);
        }
    }

    fn relays(&self) -> Vec<RelayUrl> {
        self.newest.as_ref().map(|list| self.admission.take(listed(list))).unwrap_or_default()
    }
}

fn answer(report: &QueryReport, server: PublicKey) -> Answer {
    let complete = report.per_relay.iter().all(|(_, outcome)| *outcome == QueryOutcome::Complete);
    Answer { complete, list: newest(report.events.iter().map(String::as_str), server) }
}

/// Returns the newest relay list that the server signed.
fn newest<'a>(events: impl Iterator<Item = &'a str>, server: PublicKey) -> Option<Event> {
    let believed = events
        .filter_map(|json| serde_json::from_str::<Event>(json).ok())
        .filter(|event| event.kind.as_u16() == kind::RELAY_LIST && event.pubkey == server)
        .filter(|event| event.verify().is_ok());
    believed.max_by(by_age)
}

/// Orders by stamp; of two with one stamp the lower id wins (NIP-01).
fn by_age(a: &Event, b: &Event) -> std::cmp::Ordering {
    a.created_at.cmp(&b.created_at).then_with(|| b.id.cmp(&a.id))
}

/// Returns the unmarked entries of a relay list if there are any, else the ones to read from, then to write to.
fn listed(event: &Event) -> impl Iterator<Item = &str> {
    let entries = |marker: Option<&'static str>| {
        event.tags.iter().filter(|tag| tag.kind() == "r").filter_map(move |tag| {
            let parts = tag.as_slice();
            let found = parts.get(2).map(String::as_str).filter(|marker| !marker.is_empty());
            (found == marker).then(|| parts.get(1).map(String::as_str)).flatten()
        })
    };
    let marked = entries(None).next().is_none();
    let first = if marked { Some("read") } else { None };
    entries(first).chain(entries(Some("write")).filter(move |_| marked))
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
