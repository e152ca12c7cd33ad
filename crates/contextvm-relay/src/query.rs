//! One-shot fetches: a few relays are asked one question and let go.
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contextvm_core::Limits;
use contextvm_core::frame::{self, RelayFrame};
use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt as _, StreamExt as _};
use nostr::types::RelayUrl;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use crate::dial::{Addresses, Dialer, Socket};
use crate::error::RelayError;
use crate::link::printable;

/// Name of the one subscription of a one-shot connection.
const SUBSCRIPTION: &str = "q";
/// Bytes of events after which one relay has said enough.
const BYTES: usize = 4 * 1024 * 1024;

/// A question to be put to a few relays.
#[derive(Clone, Debug)]
pub struct Query {
    /// A NIP-01 filter as JSON text.
    pub filter: String,
    /// Longest wait over all; 5 s.
    pub deadline: Duration,
    /// Longest wait for the others after the first relay has answered in full; 1 s.
    pub settle: Duration,
    /// Most events taken from one relay, within 4 MiB; 256.
    pub events: usize,
    /// Bounds; `relay_frame` is used here.
    pub limits: Limits,
    /// Which network addresses may be dialled.
    pub addresses: Addresses,
}

impl Query {
    /// Makes a question with the default bounds.
    #[must_use]
    pub fn new(filter: impl Into<String>) -> Self {
        Self {
            filter: filter.into(),
            deadline: Duration::from_secs(5),
            settle: Duration::from_secs(1),
            events: 256,
            limits: Limits::default(),
            addresses: Addresses::Any,
        }
    }

    /// Sets the longest wait.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
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

    /// Asks all relays at once and returns what they said in time.
    ///
    /// # Errors
    /// Returns [`RelayError::Filter`] when the filter is not a JSON object. Relays that fail are in the report.
    pub async fn ask(&self, urls: &[RelayUrl]) -> Result<QueryReport, RelayError> {
        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&self.filter)
            .map_err(|_| RelayError::Filter)?;
        let dialer = Dialer::new(self.limits.relay_frame, self.deadline)?;
        let mut asked: Vec<Asked> = Vec::new();
        for url in urls {
            if !asked.iter().any(|asked| asked.url == *url) {
                asked.push(Asked {
                    url: url.clone(),
                    events: Mutex::default(),
                    outcome: Mutex::new(QueryOutcome::Late),
                });
            }
        }
        let mut until = Instant::now() + self.deadline;
        let mut running: FuturesUnordered<_> =
            asked.iter().map(|asked| self.ask_one(&dialer, asked)).collect();
        let mut first = true;
        while let Ok(Some(complete)) = timeout_at(until, running.next()).await {
            if complete && std::mem::take(&mut first) {
                until = until.min(Instant::now() + self.settle);
            }
        }
        drop(running);
        let mut report = QueryReport { events: Vec::new(), per_relay: Vec::new() };
        for Asked { url, events, outcome } in asked {
            report.events.append(&mut events.into_inner().unwrap_or_else(PoisonError::into_inner));
            report.per_relay.push((url, outcome.into_inner().unwrap_or_else(PoisonError::into_inner)));
        }
        Ok(report)
    }

    /// Asks one relay; returns whether it answered in full.
    async fn ask_one(&self, dialer: &Dialer, asked: &Asked) -> bool {
        let outcome = match dialer.dial(&asked.url, self.addresses).await {
            Ok(socket) => self.converse(socket, asked).await,
            Err(error) => QueryOutcome::Failed(printable(&error.to_string())),
        };
        let complete = outcome == QueryOutcome::Complete;
        *locked(&asked.outcome) = outcome;
        complete
    }

    async fn converse(&self, mut socket: Socket, asked: &Asked) -> QueryOutcome {
        let request = Message::text(frame::req(SUBSCRIPTION, &[&self.filter]));
        if let Err(error) = socket.send(request).await {
            return QueryOutcome::Failed(printable(&error.to_string()));
        }
        let mut bytes = 0_usize;
        let outcome = loop {
            let text = match socket.next().await {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(_))) | None => {
                    return QueryOutcome::Failed("closed by the relay".to_owned());
                }
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                    continue;
                }
                Some(Err(error)) => return QueryOutcome::Failed(printable(&error.to_string())),
            };
            match RelayFrame::parse(&text) {
                Ok(RelayFrame::Event { subscription, event }) if subscription == SUBSCRIPTION => {
                    let mut events = locked(&asked.events);
                    bytes = bytes.saturating_add(event.get().len());
                    events.push(event.get().to_owned());
                    if events.len() >= self.events || bytes >= BYTES {
                        break QueryOutcome::Complete;
                    }
                }
                Ok(RelayFrame::EndOfStored { subscription }) if subscription == SUBSCRIPTION => {
                    break QueryOutcome::Complete;
                }
                Ok(RelayFrame::Closed { subscription, message }) if subscription == SUBSCRIPTION => {
                    return QueryOutcome::Failed(printable(&message));
                }
                // Anything else is not about our question.
                Ok(
                    RelayFrame::Event { .. }
                    | RelayFrame::EndOfStored { .. }
                    | RelayFrame::Closed { .. }
                    | RelayFrame::Ok { .. }
                    | RelayFrame::Notice { .. }
                    | RelayFrame::Auth { .. }
                    | RelayFrame::Count { .. },
                )
                | Err(_) => {}
            }
        };
        // Only courtesy: the socket is dropped right after.
        let _ = tokio::time::timeout(Duration::from_millis(100), socket.close(None)).await;
        outcome
    }
}

/// Asks all relays at once with the default bounds.
///
/// # Errors
/// As [`Query::ask`].
pub async fn query(urls: &[RelayUrl], filter: &str, deadline: Duration) -> Result<QueryReport, RelayError> {
    Query::new(filter).with_deadline(deadline).ask(urls).await
}

/// What a one-shot fetch brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryReport {
    /// The events as JSON text, unchecked, relay by relay; the same event may come from several.
    pub events: Vec<String>,
    /// Every relay and how it went.
    pub per_relay: Vec<(RelayUrl, QueryOutcome)>,
}

/// How one relay answered a one-shot fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueryOutcome {
    /// In full, or up to the bound on events.
    Complete,
    /// Not in full within the time; what came is in the report.
    Late,
    /// Not at all or not in full, for this (printable) reason.
    Failed(String),
}

struct Asked {
    url: RelayUrl,
    events: Mutex<Vec<String>>,
    outcome: Mutex<QueryOutcome>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
