//! The largest event that all relays of an endpoint take, as they say it themselves (NIP-11).
use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use contextvm_relay::Relays;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::driver::sleep_until;

/// How long a relay has been up before it is asked: who only makes a small call asks nothing.
const PAUSE: Duration = Duration::from_secs(2);
/// Longest wait for one document.
const DEADLINE: Duration = Duration::from_secs(5);
/// Documents that are fetched at once.
const MOST: usize = 4;
/// Largest message, bytes, of a relay that says nothing about it.
const USUAL: usize = 65_536;
/// What the message around an event takes at most, bytes.
const AROUND_EVENT: usize = 256;

/// A relay on its way to an answer; `None` when it says nothing about its largest message.
type Asking = Pin<Box<dyn Future<Output = (u16, Option<usize>)> + Send>>;

/// Asks every relay once, in the background, and knows what they take together.
pub(crate) struct RelayLimit {
    relays: Relays,
    /// Relays that will be asked.
    due: BTreeMap<u16, Instant>,
    asking: FuturesUnordered<Asking>,
    /// The largest message of each relay that was asked, bytes.
    said: BTreeMap<u16, Option<usize>>,
    /// Something large is published, so that it matters now.
    urgent: bool,
    /// What the relays take together may have changed.
    stale: bool,
    told: usize,
}

impl RelayLimit {
    /// Starts with what relays take that say nothing, which every machine starts with too.
    pub(crate) fn new(relays: Relays) -> Self {
        Self {
            relays,
            due: BTreeMap::new(),
            asking: FuturesUnordered::new(),
            said: BTreeMap::new(),
            urgent: false,
            stale: false,
            told: USUAL - AROUND_EVENT,
        }
    }

    /// Takes note of a relay that is connected.
    pub(crate) fn up(&mut self, relay: u16) {
        self.stale = true;
        if !self.said.contains_key(&relay) {
            let pause = if self.urgent { Duration::ZERO } else { PAUSE };
            self.due.entry(relay).or_insert_with(|| Instant::now() + pause);
        }
    }

    /// Takes note that a relay was lost, maybe for ever.
    pub(crate) const fn down(&mut self) {
        self.stale = true;
    }

    /// Takes note of a content of so many bytes that is published.
    pub(crate) fn publishing(&mut self, bytes: usize) {
        if bytes > USUAL / 2 && !self.urgent {
            self.urgent = true;
            self.due.values_mut().for_each(|due| *due = Instant::now());
        }
    }

    /// Waits until the largest event, bytes as published, is another one than before. Cancel-safe.
    pub(crate) async fn next(&mut self) -> usize {
        loop {
            self.ask();
            if std::mem::take(&mut self.stale) {
                let least = self.least();
                if least != self.told {
                    tracing::debug!(bytes = least, "largest event that all relays take");
                    self.told = least;
                    return least;
                }
            }
            let due = self.due.values().min().copied().filter(|_| self.asking.len() < MOST);
            tokio::select! {
                Some((relay, bytes)) = self.asking.next(), if !self.asking.is_empty() => {
                    self.said.insert(relay, bytes);
                    self.stale = true;
                }
                () = sleep_until(due) => {}
            }
        }
    }

    /// Begins to ask as many relays as are due and may be asked at once.
    fn ask(&mut self) {
        if self.due.is_empty() {
            return;
        }
        let now = Instant::now();
        while self.asking.len() < MOST
            && let Some(relay) = self.due.iter().find(|(_, due)| **due <= now).map(|(relay, _)| *relay)
        {
            self.due.remove(&relay);
            self.said.insert(relay, None);
            if let Some(info) = self.relays.info(relay, DEADLINE) {
                self.asking.push(Box::pin(async move {
                    let info = info.await.inspect_err(|error| {
                        tracing::debug!(relay, %error, "the relay does not say what it takes");
                    });
                    let said = info.ok().and_then(|info| info.limitation.max_message_length);
                    (relay, said.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)))
                }));
            }
        }
    }

    fn least(&mut self) -> usize {
        let relays: Vec<u16> = self.relays.statuses().iter().map(|status| status.relay).collect();
        self.said.retain(|relay, _| relays.contains(relay));
        let messages = relays.iter().map(|relay| self.said.get(relay).copied().flatten().unwrap_or(USUAL));
        messages.min().unwrap_or(USUAL).saturating_sub(AROUND_EVENT)
    }
}
