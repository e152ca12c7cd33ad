//! Inbound half of the loop: gate, then open on tasks, results in order of arrival.
use std::sync::Arc;

use contextvm_core::{Limits, Now, Opened, Protection};
use contextvm_crypto::{Keys, OpenError};
use contextvm_engine::gate::{Gate, OuterEvent};
use contextvm_relay::Relays;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use nostr::event::Event;
use nostr::key::PublicKey;
use tokio::task::JoinHandle;

use crate::stats::Counters;

/// What became of one admitted event; a refused one comes back so that the gate can let go of it.
type Tried = Result<Opened, (u16, Box<Event>, OpenError)>;

/// Events on their way from the relays to the machine.
pub(crate) struct Intake {
    gate: Gate,
    opening: FuturesOrdered<JoinHandle<Tried>>,
    keys: Arc<Keys>,
    me: PublicKey,
    limits: Arc<Limits>,
    relays: Relays,
    counters: Counters,
}

impl Intake {
    pub(crate) fn new(
        gate: Gate,
        keys: Arc<Keys>,
        limits: Arc<Limits>,
        relays: Relays,
        counters: Counters,
    ) -> Self {
        let me = keys.public_key();
        Self { gate, opening: FuturesOrdered::new(), keys, me, limits, relays, counters }
    }

    /// Whether another event may be taken; otherwise the sockets have to wait.
    pub(crate) fn has_room(&self) -> bool {
        self.opening.len() < self.limits.open_queue
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.opening.is_empty()
    }

    /// Takes one raw event: cheap checks here, cryptography on a task.
    pub(crate) fn take(&mut self, relay: u16, json: &str, now: Now) {
        self.counters.add(|stats| &mut stats.received);
        match self.gate.admit(json, relay, now) {
            Ok(outer) => self.opening.push_back(self.spawn(relay, outer, now.unix)),
            Err(reason) => self.counters.drop(reason),
        }
    }

    /// Waits for the oldest event being opened; `None` when there is none or when it was not to be believed.
    pub(crate) async fn next(&mut self) -> Option<Box<Opened>> {
        let Ok(tried) = self.opening.next().await? else {
            // A bug of ours in `open` costs one event and not the loop; the gate lets go of it by itself.
            tracing::error!("opening an event ended in a panic");
            self.counters.add(|stats| &mut stats.unopened);
            return None;
        };
        match tried {
            Ok(opened) => {
                self.gate.opened(opened.outer());
                self.counters.add(|stats| &mut stats.opened);
                Some(Box::new(opened))
            }
            Err((relay, event, error)) => {
                self.gate.refused(&event);
                self.relays.report_invalid(relay);
                self.counters.add(|stats| &mut stats.unopened);
                tracing::trace!(%error, "event not opened");
                None
            }
        }
    }

    fn spawn(&self, relay: u16, outer: OuterEvent, unix: u64) -> JoinHandle<Tried> {
        let (keys, me, limits) = (Arc::clone(&self.keys), self.me, Arc::clone(&self.limits));
        let OuterEvent { event, kind } = outer;
        tokio::spawn(async move {
            let result = match kind {
                Protection::Plain => contextvm_crypto::open_plain(event.clone(), &me, unix, &limits),
                Protection::Wrapped(_) => contextvm_crypto::open(&event, &keys, unix, &limits),
            };
            result.map_err(|error| (relay, Box::new(event), error))
        })
    }
}
