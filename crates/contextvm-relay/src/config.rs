//! What a set of relay connections is made of: addresses, filters, limits and times.
use std::sync::Arc;
use std::time::Duration;

use contextvm_core::Limits;
use nostr::types::RelayUrl;

use crate::auth::AuthSigner;
use crate::dial::Addresses;
use crate::error::RelayError;

/// Everything that [`Relays::connect`](crate::Relays::connect) needs to know.
#[derive(Clone)]
pub struct RelaysConfig {
    /// The relays; repeated addresses count once.
    pub urls: Vec<RelayUrl>,
    /// The filters of the one subscription held on every relay; none means that nothing is subscribed.
    pub filters: Vec<Filter>,
    /// Bounds on frames and queues: `relay_frame`, `outbound_*` and `open_queue` are used here.
    pub limits: Limits,
    /// Answers relays that ask who we are (NIP-42); without it they are told nothing.
    pub signer: Option<Arc<dyn AuthSigner>>,
    /// Which network addresses `urls` may lead to; relays added later come with their own rule.
    pub addresses: Addresses,
    /// Delays and deadlines.
    pub timing: Timing,
    /// Events waiting in the [`Inbox`](crate::Inbox), over all relays; default 64 (16 MiB at 256 KiB each).
    pub inbox: usize,
}

impl RelaysConfig {
    /// Starts from safe defaults and these relays.
    #[must_use]
    pub fn new(urls: impl IntoIterator<Item = RelayUrl>) -> Self {
        Self {
            urls: urls.into_iter().collect(),
            filters: Vec::new(),
            limits: Limits::default(),
            signer: None,
            addresses: Addresses::Any,
            timing: Timing::default(),
            inbox: 64,
        }
    }

    /// Adds one filter to the subscription.
    #[must_use]
    pub fn with_filter(mut self, filter: Filter) -> Self {
        self.filters.push(filter);
        self
    }

    /// Replaces the limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets who answers a relay's challenge.
    #[must_use]
    pub fn with_signer(mut self, signer: Arc<dyn AuthSigner>) -> Self {
        self.signer = Some(signer);
        self
    }

    /// Replaces the delays and deadlines.
    #[must_use]
    pub fn with_timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Restricts which network addresses `urls` may lead to.
    #[must_use]
    pub fn with_addresses(mut self, addresses: Addresses) -> Self {
        self.addresses = addresses;
        self
    }
}

/// One filter of a subscription, without `since`, which is inserted at each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    members: serde_json::Map<String, serde_json::Value>,
    lookback: Duration,
}

impl Filter {
    /// Takes a NIP-01 filter as JSON text; a `since` in it is dropped.
    ///
    /// The first request asks for events since `lookback` before the start, later ones since `lookback` before the
    /// relay was last seen.
    ///
    /// # Errors
    /// Returns [`RelayError::Filter`] when the text is not a JSON object.
    pub fn new(json: &str, lookback: Duration) -> Result<Self, RelayError> {
        let mut members: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(json).map_err(|_| RelayError::Filter)?;
        members.remove("since");
        Ok(Self { members, lookback })
    }

    /// Writes the filter for a subscription that has seen everything up to `seen`, Unix seconds.
    pub(crate) fn since(&self, seen: u64) -> String {
        self.from(seen.saturating_sub(self.lookback.as_secs()))
    }

    /// Writes the filter for what is stamped from then on, Unix seconds.
    pub(crate) fn from(&self, unix: u64) -> String {
        let mut members = self.members.clone();
        members.insert("since".to_owned(), unix.into());
        serde_json::Value::Object(members).to_string()
    }
}

/// Delays and deadlines of relay connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Time for name lookup, TCP, TLS and the upgrade together; 10 s.
    pub connect: Duration,
    /// How long a publication waits for a relay's answer; 3 s.
    pub publish: Duration,
    /// Longest delay before a connection is tried again, until 1.5 s was waited; then it grows with the square of the time
    /// waited; 0.5 s. A server may take less, so that it is back before its callers, who are many.
    pub retry_first: Duration,
    /// Longest delay before a connection is tried again; 30 s.
    pub retry_most: Duration,
    /// A connection that lasted this long makes the delays start afresh; 5 s.
    pub lived: Duration,
    /// First delay before a subscription closed by the relay is opened again; doubles each time; 1 s.
    pub reopen_first: Duration,
    /// Longest such delay; 60 s.
    pub reopen_most: Duration,
    /// How far a repeated subscription reaches back before the relay was last seen; 5 s.
    pub overlap: Duration,
    /// Silence after which a ping is sent; 30 s.
    pub ping: Duration,
    /// Silence, or a write that makes no progress, after which the connection is dead; 45 s.
    pub dead: Duration,
    /// Least time between two signatures for one relay's challenges on one connection; 10 s.
    pub auth: Duration,
    /// How long a relay may say nothing to a subscription or an authentication before it is asked again; 15 s. Some relays drop
    /// what comes too fast, and say so in a notice that names nothing.
    pub answer: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            publish: Duration::from_secs(3),
            retry_first: Duration::from_millis(500),
            retry_most: Duration::from_secs(30),
            lived: Duration::from_secs(5),
            reopen_first: Duration::from_secs(1),
            reopen_most: Duration::from_secs(60),
            overlap: Duration::from_secs(5),
            ping: Duration::from_secs(30),
            dead: Duration::from_secs(45),
            auth: Duration::from_secs(10),
            answer: Duration::from_secs(15),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_reaches_back_by_the_lookback_and_replaces_a_given_one() {
        let filter = Filter::new(r#"{"kinds":[1059],"since":7}"#, Duration::from_secs(100)).unwrap();
        assert_eq!(filter.since(1_000), r#"{"kinds":[1059],"since":900}"#);
        assert_eq!(filter.since(50), r#"{"kinds":[1059],"since":0}"#);
    }

    #[test]
    fn a_filter_that_is_no_object_is_refused() {
        for text in ["[]", "1", "", "{", "{} {}"] {
            assert_eq!(Filter::new(text, Duration::ZERO), Err(RelayError::Filter), "{text}");
        }
    }
}
