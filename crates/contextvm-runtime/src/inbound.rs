//! Inbound half of the loop: gate, then open beside the loop, results in order of arrival.
use std::sync::Arc;

use contextvm_core::{Limits, Now, Opened, Protection, Refusal};
use contextvm_crypto::{Keys, OpenError};
use contextvm_engine::DropReason;
use contextvm_engine::gate::{Gate, OuterEvent};
use contextvm_relay::Relays;
use nostr::event::{EventId, Signature};
use nostr::key::PublicKey;

use crate::stats::Counters;
use crate::work::Work;

/// What became of one admitted event.
type Tried = Result<Box<Opened>, Box<Unopened>>;

/// An event that could not be opened: what the gate needs to let go of it, and who is to blame.
struct Unopened {
    relay: u16,
    id: EventId,
    signature: Signature,
    protection: Protection,
    error: OpenError,
}

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
    pub(crate) fn take(&mut self, relay: u16, json: &str, stored: bool, now: Now) {
        self.counters.add(|stats| &mut stats.received);
        let admitted =
            if stored { self.gate.admit_stored(json, relay, now) } else { self.gate.admit(json, relay, now) };
        match admitted {
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
            Err(unopened) => {
                let Unopened { relay, id, signature, protection, error } = *unopened;
                self.gate.refused(id, &signature);
                if is_relays_fault(protection, error) {
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
        let OuterEvent { event, kind: protection } = outer;
        self.opening.push(event.content.len(), move || {
            let (id, signature) = (event.id, event.sig);
            let result = match protection {
                Protection::Plain => contextvm_crypto::open_plain(event, &me, unix, &limits),
                Protection::Wrapped(_) => contextvm_crypto::open(&event, &keys, unix, &limits),
            };
            let unopened = |error| Box::new(Unopened { relay, id, signature, protection, error });
            result.map(Box::new).map_err(unopened)
        });
    }
}

/// Whether only the relay can be to blame: every relay checks signatures, but anybody can make a gift wrap of rubbish
/// whose own signature is true.
fn is_relays_fault(protection: Protection, error: OpenError) -> bool {
    !protection.is_encrypted() && error == OpenError::Refused(Refusal::Signature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use contextvm_core::WrapKind;

    #[test]
    fn only_what_every_relay_checks_is_a_relays_fault() {
        let (forged, stale) = (Refusal::Signature, Refusal::Age { created_at: 0, now: 1, window: 0 });
        let wrapped = Protection::Wrapped(WrapKind::Persistent);
        assert!(is_relays_fault(Protection::Plain, forged.into()));
        assert!(!is_relays_fault(Protection::Plain, stale.into()));
        assert!(!is_relays_fault(wrapped, forged.into()), "the inner signature, which no relay sees");
        assert!(!is_relays_fault(wrapped, OpenError::NotAnEvent));
    }
}
