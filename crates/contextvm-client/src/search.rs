//! The search for a server's own relay list (kind 10002) on the discovery relays.
use std::time::Duration;

use contextvm_announce::{RelayList, Signed};
use contextvm_core::kind;
use contextvm_relay::{Query, QueryReport, Relays};
use contextvm_runtime::clock::unix_now;
use nostr::key::PublicKey;
use nostr::types::RelayUrl;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::admission::Admission;
use crate::memory::Memory;
use crate::resolve::PATIENCE;

/// How long the other relays may still answer after the first one has.
const SETTLE: Duration = Duration::from_secs(1);

/// What one discovery relay answered.
#[derive(Debug, Default)]
struct Answer {
    /// It answered in full, so that a list which is not there is not there.
    complete: bool,
    list: Option<Signed>,
}

/// All discovery relays, asked at once for at most [`PATIENCE`]. Dropping it ends the asking.
#[derive(Debug)]
pub(crate) struct Search {
    server: PublicKey,
    admission: Admission,
    memory: Memory,
    until: Instant,
    asked: JoinSet<Answer>,
    found: Vec<Signed>,
    /// The relays that were given last.
    given: Vec<RelayUrl>,
}

impl Search {
    /// Begins to ask; only what the server signed will be believed, and nothing older than what is remembered.
    pub(crate) fn start(
        discovery: &[RelayUrl],
        server: PublicKey,
        admission: Admission,
        memory: Memory,
    ) -> Self {
        let (kind, author) = (kind::RELAY_LIST, server.to_hex());
        let filter = format!(r#"{{"kinds":[{kind}],"authors":["{author}"],"limit":1}}"#);
        // A relay keeps one list of each author.
        let query = Query::new(filter).with_events(1).with_deadline(PATIENCE);
        let mut search = Self::silent(server, admission, memory);
        for relay in discovery {
            let (query, relay) = (query.clone(), [relay.clone()]);
            search.asked.spawn(async move {
                query.ask(&relay).await.map_or_else(|_| Answer::default(), |report| answer(&report, server))
            });
        }
        search
    }

    fn silent(server: PublicKey, admission: Admission, memory: Memory) -> Self {
        memory.prefer(server);
        Self {
            server,
            admission,
            memory,
            until: Instant::now() + PATIENCE,
            asked: JoinSet::new(),
            found: Vec::new(),
            given: Vec::new(),
        }
    }

    /// Returns the relays of the newest list known after `patience`, or [`SETTLE`] after the first answer in full.
    pub(crate) async fn soon(&mut self, patience: Duration) -> Vec<RelayUrl> {
        let mut until = Instant::now() + patience;
        while let Some(answer) = self.next(until).await {
            if answer.complete {
                until = until.min(Instant::now() + SETTLE);
            }
        }
        self.relays().await
    }

    /// Whether no relay is left that may still answer.
    pub(crate) fn is_over(&self) -> bool {
        self.asked.is_empty()
    }

    /// Returns relays that were not given before, once a newer list names some; `None` when the search is over.
    async fn late(&mut self) -> Option<Vec<RelayUrl>> {
        loop {
            if self.next(self.until).await?.list.is_none() {
                continue;
            }
            let before = self.given.clone();
            let urls: Vec<_> = self.relays().await.into_iter().filter(|url| !before.contains(url)).collect();
            if !urls.is_empty() {
                return Some(urls);
            }
        }
    }

    /// Goes on with the search and adds what it finds to the relays in use, under the rule for strangers' lists: who answers first
    /// with an old list does not keep the newer one of another relay out.
    pub(crate) async fn add_to(mut self, relays: Relays) {
        let addresses = self.admission.addresses;
        while let Some(urls) = self.late().await {
            for url in urls {
                tracing::info!(%url, "the server's relay list came late: relay added");
                if let Err(error) = relays.add(url, addresses) {
                    tracing::warn!(%error, "a relay of the server's list cannot be added");
                }
            }
        }
    }

    /// Takes one more answer, if it comes in time.
    async fn next(&mut self, until: Instant) -> Option<Answer> {
        let answer = timeout_at(until, self.asked.join_next()).await.ok()??;
        // A task that panicked has nothing to say.
        let answer = answer.unwrap_or_default();
        self.found.extend(answer.list.clone());
        Some(answer)
    }

    /// Returns the relays of the newest list ever seen, whoever serves an older one now.
    async fn relays(&mut self) -> Vec<RelayUrl> {
        let newest = self.memory.best_list(&self.server, self.found.iter(), unix_now());
        self.memory.try_save().await;
        let list = newest.and_then(|list| RelayList::read(&list).ok());
        self.given = list.map(|list| self.admission.take(list.selection().into_iter())).unwrap_or_default();
        self.given.clone()
    }
}

fn answer(report: &QueryReport, server: PublicKey) -> Answer {
    let lists = report.events().filter_map(|(_, json)| Signed::read(json).ok());
    let own = lists.filter(|list| list.kind.as_u16() == kind::RELAY_LIST && list.pubkey == server);
    let list = own.max_by_key(Signed::stamp);
    Answer { complete: list.is_some() || report.is_complete(), list }
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
