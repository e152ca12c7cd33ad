//! One-shot questions: a few relays are asked at once and let go.
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contextvm_core::Limits;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use nostr::types::RelayUrl;
use tokio::time::{Instant, timeout_at};

use crate::auth::AuthSigner;
use crate::dial::{Addresses, Dialer};
use crate::error::RelayError;
use crate::link::printable;
use crate::oneshot::{Line, unique};
use crate::publish::after;

/// Name of the one subscription of a one-shot connection.
const SUBSCRIPTION: &str = "q";
/// Bytes of events after which one relay has said enough.
const BYTES: usize = 4 * 1024 * 1024;

/// A question to be put to a few relays.
#[derive(Clone)]
pub struct Query {
    /// NIP-01 filters as JSON texts; an event that any of them takes is an answer.
    pub filters: Vec<String>,
    /// Longest wait over all; 5 s.
    pub deadline: Duration,
    /// Longest wait for the others after the first relay has answered in full or up to the bound; 1 s.
    pub settle: Duration,
    /// Most events taken from one relay, within 4 MiB; 256.
    pub events: usize,
    /// Bounds; `relay_frame` is used here.
    pub limits: Limits,
    /// Which network addresses may be dialled.
    pub addresses: Addresses,
    /// Answers relays that ask who we are (NIP-42); without it they are told nothing.
    pub signer: Option<Arc<dyn AuthSigner>>,
}

impl Query {
    /// Makes a question with the default bounds.
    #[must_use]
    pub fn new(filter: impl Into<String>) -> Self {
        Self {
            filters: vec![filter.into()],
            deadline: Duration::from_secs(5),
            settle: Duration::from_secs(1),
            events: 256,
            limits: Limits::default(),
            addresses: Addresses::Any,
            signer: None,
        }
    }

    /// Adds one filter to the question.
    #[must_use]
    pub fn with_filter(mut self, filter: impl Into<String>) -> Self {
        self.filters.push(filter.into());
        self
    }

    /// Sets the longest wait.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets the longest wait for the others after the first full answer; as long as the deadline, all are waited for.
    #[must_use]
    pub const fn with_settle(mut self, settle: Duration) -> Self {
        self.settle = settle;
        self
    }

    /// Restricts which network addresses may be dialled.
    #[must_use]
    pub const fn with_addresses(mut self, addresses: Addresses) -> Self {
        self.addresses = addresses;
        self
    }

    /// Sets the most events taken from one relay.
    #[must_use]
    pub const fn with_events(mut self, events: usize) -> Self {
        self.events = events;
        self
    }

    /// Sets who answers a relay's challenge.
    #[must_use]
    pub fn with_signer(mut self, signer: Arc<dyn AuthSigner>) -> Self {
        self.signer = Some(signer);
        self
    }

    /// Asks all relays at once and returns what they said in time.
    ///
    /// # Errors
    /// Returns [`RelayError::Filter`] when a filter is not a JSON object, or there is none. Relays that fail are in the report.
    pub async fn ask(&self, urls: &[RelayUrl]) -> Result<QueryReport, RelayError> {
        if self.filters.is_empty() {
            return Err(RelayError::Filter);
        }
        for filter in &self.filters {
            serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(filter)
                .map_err(|_| RelayError::Filter)?;
        }
        let dialer = Dialer::new(self.limits.relay_frame, self.deadline)?;
        let start = Instant::now();
        let asked: Vec<Asked> = unique(urls).into_iter().map(Asked::new).collect();
        let mut until = after(start, self.deadline);
        let mut running: FuturesUnordered<_> =
            asked.iter().map(|asked| self.ask_one(&dialer, asked, start)).collect();
        let mut first = true;
        while let Ok(Some(enough)) = timeout_at(until, running.next()).await {
            if enough && std::mem::take(&mut first) {
                until = until.min(after(Instant::now(), self.settle));
            }
        }
        drop(running);
        let waited = start.elapsed();
        Ok(QueryReport { per_relay: asked.into_iter().map(|asked| asked.report(waited)).collect() })
    }

    /// Asks one relay; returns whether it has said enough.
    async fn ask_one(&self, dialer: &Dialer, asked: &Asked, start: Instant) -> bool {
        let mut line = match Line::open(dialer, &asked.url, self.addresses, self.signer.clone()).await {
            Ok((line, _)) => line,
            Err(error) => {
                asked.said().end =
                    Some((QueryOutcome::Failed(printable(&error.to_string())), start.elapsed()));
                return false;
            }
        };
        let mut bytes = 0_usize;
        let taking = line.ask(SUBSCRIPTION, &self.filters, |json| {
            let mut said = asked.said();
            bytes = bytes.saturating_add(json.len());
            said.events.push(json);
            said.events.len() < self.events && bytes < BYTES
        });
        let (outcome, enough) = match taking.await {
            Ok(true) => (QueryOutcome::Complete, true),
            Ok(false) => (QueryOutcome::Cut, true),
            Err(reason) => (QueryOutcome::Failed(reason), false),
        };
        asked.said().end = Some((outcome, start.elapsed()));
        line.close().await;
        enough
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query")
            .field("filters", &self.filters)
            .field("deadline", &self.deadline)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// Asks all relays at once with the default bounds.
///
/// # Errors
/// As [`Query::ask`].
pub async fn query(urls: &[RelayUrl], filter: &str, deadline: Duration) -> Result<QueryReport, RelayError> {
    Query::new(filter).with_deadline(deadline).ask(urls).await
}

/// What a one-shot question brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryReport {
    /// Every relay once, in the order in which they were given.
    pub per_relay: Vec<QueryAnswer>,
}

impl QueryReport {
    /// Lists all events with the relays that they came from; the same event may come from several.
    pub fn events(&self) -> impl Iterator<Item = (&RelayUrl, &str)> {
        self.per_relay.iter().flat_map(|answer| answer.events.iter().map(|json| (&answer.url, json.as_str())))
    }

    /// Whether every relay has answered in full: what is not here is not there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.per_relay.iter().all(|answer| answer.outcome == QueryOutcome::Complete)
    }
}

/// What one relay said to a one-shot question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryAnswer {
    /// The relay.
    pub url: RelayUrl,
    /// How it went.
    pub outcome: QueryOutcome,
    /// Time from the question to this outcome, connecting included.
    pub took: Duration,
    /// The events as JSON texts, unchecked.
    pub events: Vec<String>,
}

/// How one relay answered a one-shot question.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueryOutcome {
    /// In full.
    Complete,
    /// Up to the bound on events: there may be more.
    Cut,
    /// Not in full within the time; what came is in the report.
    Late,
    /// Not at all or not in full, for this (printable) reason.
    Failed(String),
}

/// One relay while it is asked; what it has said survives the end of the wait.
struct Asked {
    url: RelayUrl,
    said: Mutex<Said>,
}

#[derive(Default)]
struct Said {
    events: Vec<String>,
    end: Option<(QueryOutcome, Duration)>,
}

impl Asked {
    fn new(url: RelayUrl) -> Self {
        Self { url, said: Mutex::default() }
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(self, waited: Duration) -> QueryAnswer {
        let Said { events, end } = self.said.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (outcome, took) = end.unwrap_or((QueryOutcome::Late, waited));
        QueryAnswer { url: self.url, outcome, took, events }
    }
}
