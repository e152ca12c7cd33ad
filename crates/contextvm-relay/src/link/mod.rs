//! One relay: its task, its queues and everything known about it.
mod backlog;
mod damage;
mod outbox;
mod session;
pub(crate) mod talk;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contextvm_core::printable::Printable;
use nostr::types::RelayUrl;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::auth::AuthSigner;
use crate::backoff::{Backoff, Reconnect};
use crate::config::{Filter, RelaysConfig, Timing};
use crate::connect::{Attempt, Connector};
use crate::dial::Addresses;
use crate::error::DialError;
use crate::publish::Publication;
use crate::relays::Incoming;
use crate::status::{RelayCounts, RelayState, RelayStatus};
use backlog::Backlog;
use damage::Damage;
use outbox::Outbox;

/// Longest text of a relay that is kept, characters.
const TEXT: usize = 200;
/// The relay's own words are logged at most this often, whatever it says.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// What all links of one set share.
pub(crate) struct Shared {
    pub(crate) filters: Vec<Filter>,
    pub(crate) signer: Option<Arc<dyn AuthSigner>>,
    pub(crate) timing: Timing,
    /// How many links are live.
    pub(crate) live: watch::Sender<usize>,
    /// The subscription id, drawn once.
    pub(crate) subscription: String,
    /// Unix seconds at the start; no subscription reaches back further than this less its lookback.
    pub(crate) start: u64,
    /// The largest message that is looked at, bytes.
    pub(crate) largest: usize,
}

/// One relay. Its one task owns the socket; everybody else reaches it through the locks in here, held briefly.
pub(crate) struct Link {
    pub(crate) relay: u16,
    pub(crate) url: RelayUrl,
    addresses: Addresses,
    shared: Arc<Shared>,
    outbox: Outbox,
    backlog: Backlog,
    reconnect: Arc<Mutex<Reconnect>>,
    facts: Mutex<Facts>,
    /// Wakes the writer: something is to be sent.
    wake: Notify,
    /// Ends the connection, with the reason in [`Facts::cut`].
    cut: Notify,
    stop: watch::Sender<bool>,
}

/// What is remembered from one connection to the next.
struct Facts {
    state: RelayState,
    unreachable: Option<DialError>,
    last_error: Option<String>,
    last_notice: Option<String>,
    rtt: Option<Duration>,
    clock_ahead: Option<i64>,
    counts: RelayCounts,
    /// Unix seconds until which everything was seen.
    seen: u64,
    /// It sent something larger than is read, which it may have kept.
    oversized: bool,
    last_signature: Option<Instant>,
    damage: Damage,
    cut: Option<String>,
    /// When words of the relay were logged last.
    logged: Option<Instant>,
}

impl Link {
    pub(crate) fn new(
        relay: u16,
        url: RelayUrl,
        addresses: Addresses,
        shared: Arc<Shared>,
        inbox: mpsc::Sender<Incoming>,
        config: &RelaysConfig,
    ) -> Self {
        let (limits, timing) = (&config.limits, &config.timing);
        let pause = Backoff::new(timing.reopen_first, timing.reopen_most);
        let facts = Facts {
            state: RelayState::Connecting,
            unreachable: None,
            last_error: None,
            last_notice: None,
            rtt: None,
            clock_ahead: None,
            counts: RelayCounts::default(),
            seen: shared.start,
            oversized: false,
            last_signature: None,
            damage: Damage::default(),
            cut: None,
            logged: None,
        };
        Self {
            relay,
            url,
            addresses,
            outbox: Outbox::new(relay, limits.outbound_events, limits.outbound_bytes, pause),
            backlog: Backlog::new(inbox, limits.open_queue, limits.outbound_bytes),
            reconnect: Arc::new(Mutex::new(Reconnect::new(timing.retry_first, timing.retry_most))),
            facts: Mutex::new(facts),
            wake: Notify::new(),
            cut: Notify::new(),
            stop: watch::Sender::new(false),
            shared,
        }
    }

    /// Runs until the link is stopped; this is the link's one task.
    pub(crate) async fn run(self: Arc<Self>, connector: Arc<dyn Connector>) {
        tokio::select! {
            () = self.serve(connector.as_ref()) => {}
            () = self.backlog.deliver() => {}
        }
        self.facts().state = RelayState::Stopped;
        self.outbox.abandon();
        connector.detach(self.relay, &self.url).await;
    }

    /// Serves one connection after another until the link is stopped.
    async fn serve(&self, connector: &dyn Connector) {
        let mut stop = self.stop.subscribe();
        let reconnect = Arc::clone(&self.reconnect);
        let mut attempts =
            match connector.attach(self.relay, self.url.clone(), self.addresses, reconnect).await {
                Ok(attempts) => Some(attempts),
                Err(error) => {
                    self.failed(&error);
                    None
                }
            };
        loop {
            let attempt = async {
                match &mut attempts {
                    Some(attempts) => attempts.recv().await,
                    None => std::future::pending().await,
                }
            };
            let attempt = tokio::select! {
                attempt = attempt => attempt,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match attempt {
                None => attempts = None,
                Some(Attempt::Failed(error)) => {
                    self.failed(&error.to_string());
                    let mut facts = self.facts();
                    facts.counts.failures += 1;
                    facts.unreachable = Some(error);
                }
                Some(Attempt::Connected(connection)) => self.talk(*connection).await,
            }
        }
    }

    /// Holds one connection from its first frame to its last.
    async fn talk(&self, connection: crate::connect::Connection) {
        {
            let mut facts = self.facts();
            facts.state = RelayState::Connected;
            facts.unreachable = None;
            facts.clock_ahead = connection.reached.clock_ahead.or(facts.clock_ahead);
            facts.counts.connections += 1;
        }
        tracing::info!(relay = %self.url, "connected");
        self.deliver(Incoming::Up { relay: self.relay, url: self.url.clone() });
        let reason = session::run(self, connection).await;
        self.outbox.disconnected(Instant::now());
        tracing::info!(relay = %self.url, %reason, "disconnected");
        self.failed(&reason);
        self.deliver(Incoming::Down { relay: self.relay, url: self.url.clone(), reason });
    }

    /// Queues a publication for this relay.
    pub(crate) fn publish(&self, publication: &Arc<Publication>) {
        let now = Instant::now();
        publication.expect(self.relay, self.url.clone(), self.is_connected(), self.outbox.lags(now));
        self.outbox.push(publication, now);
        self.wake.notify_one();
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.facts().state, RelayState::Connected | RelayState::Live)
    }

    /// Counts an event of this relay as invalid; too many end the connection and delay the next one.
    pub(crate) fn report_invalid(&self, number: u64) {
        let mut facts = self.facts();
        facts.counts.invalid += 1;
        let delivered = facts.counts.events;
        if facts.damage.note(number, delivered) {
            facts.cut = Some("too many invalid events".to_owned());
            drop(facts);
            locked(&self.reconnect).punish();
            self.cut.notify_one();
        }
    }

    /// Takes nothing more of this relay before an instant.
    pub(crate) fn hold(&self, until: Instant) {
        self.backlog.hold(until);
    }

    /// Passes an event or a state of the connection on to the inbox.
    fn deliver(&self, item: Incoming) {
        let dropped = self.backlog.push(item);
        if dropped > 0 {
            self.facts().counts.dropped += u64::try_from(dropped).unwrap_or(u64::MAX);
        }
    }

    /// Asks the task to close the connection and end.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Returns its address and the rule for dialling it.
    pub(crate) fn place(&self) -> (RelayUrl, Addresses) {
        (self.url.clone(), self.addresses)
    }

    pub(crate) fn status(&self) -> RelayStatus {
        let facts = self.facts();
        RelayStatus {
            relay: self.relay,
            url: self.url.clone(),
            state: facts.state,
            unreachable: facts.unreachable.clone(),
            last_error: facts.last_error.clone(),
            last_notice: facts.last_notice.clone(),
            rtt: facts.rtt,
            clock_ahead: facts.clock_ahead,
            queued: self.outbox.len(),
            counts: facts.counts,
        }
    }

    fn failed(&self, reason: &str) {
        tracing::debug!(relay = %self.url, reason, "not connected");
        let mut facts = self.facts();
        facts.state = RelayState::Connecting;
        facts.last_error = Some(printable(reason));
    }

    /// Whether the relay's words may be logged now.
    fn may_log(&self, now: Instant) -> bool {
        let mut facts = self.facts();
        let may = facts.logged.is_none_or(|last| now.saturating_duration_since(last) >= LOG_EVERY);
        if may {
            facts.logged = Some(now);
        }
        may
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        locked(&self.facts)
    }
}

/// Makes a relay's words fit to be shown and kept.
pub(crate) fn printable(text: &str) -> String {
    Printable::short(text, TEXT).to_string()
}

/// Reads the wall clock, Unix seconds.
pub(crate) fn unix() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
