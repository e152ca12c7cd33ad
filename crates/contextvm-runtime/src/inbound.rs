//! Inbound half of the loop: gate, then open beside the loop, results in order of arrival.
use std::sync::Arc;

use contextvm_core::{Limits, Now, Opened, Protection, Refusal, WrapKind};
use contextvm_crypto::{Keys, OpenError};
use contextvm_engine::DropReason;
use contextvm_engine::gate::{Gate, OuterEvent};
use contextvm_relay::Relays;
use nostr::event::Event;
use nostr::key::PublicKey;

use crate::stats::Counters;
use crate::work::Work;

/// What became of one admitted event; a refused one comes back so that the gate can let go of it.
type Tried = Result<Box<Opened>, (u16, Box<Event>, OpenError)>;

/// Events on their way from the relays to the machine.
pub(crate) struct Intake {
    gate: Gate,
    opening: Work<Tried>,
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
        let opening = Work::new(limits.open_queue);
        Self { gate, opening, keys, me, limits, relays, counters }
    }

    /// Whether another event may be taken; otherwise the sockets have to wait.
    pub(crate) fn has_room(&self) -> bool {
        self.opening.len() < self.limits.open_queue.max(1)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.opening.is_running()
    }

    /// Takes one raw event: cheap checks here, cryptography once [`Self::start`] is called.
    pub(crate) fn take(&mut self, relay: u16, json: &str, now: Now) {
        self.counters.add(|stats| &mut stats.received);
        match self.gate.admit(json, relay, now) {
            Ok(outer) => self.open(relay, outer, now.unix),
            Err(reason) => {
                if reason == DropReason::Id {
                    self.relays.report_invalid(relay);
                }
                self.counters.drop(reason);
            }
        }
    }

    /// Begins to open what was taken.
    pub(crate) fn start(&mut self) {
        self.opening.start();
    }

    /// Waits for the oldest event being opened; `None` when there is none or when it was not to be believed.
    pub(crate) async fn next(&mut self) -> Option<Box<Opened>> {
        let Some(tried) = self.opening.next().await? else {
            // A bug of ours in `open` costs one event and not the loop; the gate lets go of it by itself.
            tracing::error!("opening an event ended in a panic");
            self.counters.add(|stats| &mut stats.unopened);
            return None;
        };
        match tried {
            Ok(opened) => {
                self.gate.opened(opened.outer());
                self.counters.add(|stats| &mut stats.opened);
                Some(opened)
            }
            Err((relay, event, error)) => {
                self.gate.refused(&event);
                if is_relays_fault(&event, error) {
                    self.relays.report_invalid(relay);
                }
                self.counters.add(|stats| &mut stats.unopened);
                tracing::trace!(%error, "event not opened");
                None
            }
        }
    }

    fn open(&mut self, relay: u16, outer: OuterEvent, unix: u64) {
        let (keys, me, limits) = (Arc::clone(&self.keys), self.me, Arc::clone(&self.limits));
        let OuterEvent { event, kind } = outer;
        self.opening.push(event.content.len(), move || {
            let result = match kind {
                Protection::Plain => contextvm_crypto::open_plain(event.clone(), &me, unix, &limits),
                Protection::Wrapped(_) => contextvm_crypto::open(&event, &keys, unix, &limits),
            };
            result.map(Box::new).map_err(|error| (relay, Box::new(event), error))
        });
    }
}

/// Whether only the relay can be to blame: every relay checks signatures, but anybody can make a gift wrap of rubbish
/// whose own signature is true.
fn is_relays_fault(event: &Event, error: OpenError) -> bool {
    WrapKind::from_kind(event.kind.as_u16()).is_none() && error == OpenError::Refused(Refusal::Signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_every_relay_checks_is_a_relays_fault() {
        let keys = crate::new_keys().expect("keys");
        let event = |kind| keys.sign_event(kind, 0, nostr::event::Tags::new(), String::new(), [0; 32]);
        let (forged, stale) = (Refusal::Signature, Refusal::Age { created_at: 0, now: 1, window: 0 });
        assert!(is_relays_fault(&event(25_910), forged.into()));
        assert!(!is_relays_fault(&event(25_910), stale.into()));
        assert!(!is_relays_fault(&event(21_059), forged.into()), "the inner signature, which no relay sees");
        assert!(!is_relays_fault(&event(1_059), OpenError::NotAnEvent));
    }
}
