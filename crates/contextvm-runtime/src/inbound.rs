//! Inbound half of the loop: gate, then open beside the loop, results in order of arrival.
use std::sync::Arc;
use std::time::Duration;

use contextvm_core::{Limits, Now, Opened, Protection, Refusal};
use contextvm_crypto::{Keys, OpenError};
use contextvm_engine::DropReason;
use contextvm_engine::gate::{Gate, OuterEvent};
use contextvm_relay::Relays;
use nostr::event::{EventId, Signature};
use nostr::key::PublicKey;
use tokio::time::Instant;

use crate::blame::{Blame, Source};
use crate::stats::Counters;
use crate::waste::{Prices, Waste, is_waste};
use crate::work::Work;

/// One admitted event: what became of it, and how long that took.
struct Tried {
    source: Source,
    took: Duration,
    result: Result<Box<Opened>, Box<Unopened>>,
}

/// An event that could not be opened: what the gate needs to let go of it, and who is to blame.
struct Unopened {
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
    waste: Waste,
    prices: Prices,
    blame: Blame,
}

impl Intake {
    pub(crate) fn new(
        gate: Gate,
        keys: Arc<Keys>,
        limits: Arc<Limits>,
        relays: Relays,
        counters: Counters,
        refuses_later: bool,
    ) -> Self {
        let me = keys.public_key();
        let opening = Work::new(limits.open_queue);
        Self {
            gate,
            opening,
            keys,
            me,
            limits,
            relays,
            counters,
            waste: Waste::default(),
            prices: Prices::default(),
            blame: Blame::new(refuses_later),
        }
    }

    /// Whether another event may be taken; otherwise the sockets have to wait.
    pub(crate) fn has_room(&self) -> bool {
        self.opening.len() < self.limits.open_queue.max(1)
            && self.opening.bytes() < self.limits.outbound_bytes.max(1)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.opening.is_running()
    }

    /// Takes one raw event: cheap checks here, cryptography once [`Self::start`] is called.
    pub(crate) fn take(&mut self, (relay, number): (u16, u64), json: &str, stored: bool, now: Now) {
        self.counters.add(|stats| &mut stats.received);
        let source = Source { relay, number, stored, bytes: json.len() };
        let admitted =
            if stored { self.gate.admit_stored(json, relay, now) } else { self.gate.admit(json, relay, now) };
        match admitted {
            Ok(outer) => self.open(source, outer, now.unix),
            Err(reason) => {
                // That several relays pass the same event on is what they are there for.
                if reason != DropReason::Copy {
                    self.charge(source, self.prices.look(source.bytes));
                }
                if reason == DropReason::Id {
                    self.relays.report_invalid(relay, number);
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
        let Tried { source, took, result } = tried;
        match result {
            Ok(opened) => {
                self.gate.opened(opened.outer());
                self.gate.carried(opened.event().id, opened.outer());
                self.counters.add(|stats| &mut stats.opened);
                if opened.protection().is_encrypted() {
                    self.prices.learn(source.bytes, took);
                }
                self.blame.give(opened.event().id, source);
                Some(opened)
            }
            Err(unopened) => {
                let Unopened { id, signature, protection, error } = *unopened;
                self.gate.refused(id, &signature);
                self.charge(source, self.prices.try_open(source.bytes));
                if is_relays_fault(protection, error) {
                    self.relays.report_invalid(source.relay, source.number);
                }
                self.counters.add(|stats| &mut stats.unopened);
                tracing::trace!(%error, "event not opened");
                None
            }
        }
    }

    /// Returns the relays that delivered a request by now: bit n stands for relay n modulo 64.
    pub(crate) fn via(&self, request: &EventId) -> u64 {
        self.gate.via(request)
    }

    /// Learns that the machine refused something: the event of this inner id, or none that it can name.
    pub(crate) fn refused(&mut self, event: Option<EventId>, reason: DropReason) {
        if let Some(source) = self.blame.refused(event).filter(|_| is_waste(reason)) {
            self.charge(source, self.prices.read(source.bytes));
        }
    }

    /// Learns that the machine is done with the event that was opened last, or has put it aside.
    pub(crate) fn settled(&mut self) {
        self.blame.settled();
    }

    fn charge(&mut self, source: Source, cost: Duration) {
        let Source { relay, stored, .. } = source;
        let now = Instant::now();
        let until = if stored {
            self.waste.charge_stored(relay, cost, now)
        } else {
            self.waste.charge(relay, cost, now)
        };
        if let Some(until) = until {
            self.relays.hold(relay, until);
        }
    }

    fn open(&mut self, source: Source, outer: OuterEvent, unix: u64) {
        let (keys, me, limits) = (Arc::clone(&self.keys), self.me, Arc::clone(&self.limits));
        let OuterEvent { event, kind: protection } = outer;
        self.opening.push(event.content.len(), move || {
            let begun = Instant::now();
            let (id, signature) = (event.id, event.sig);
            let result = match protection {
                Protection::Plain => contextvm_crypto::open_plain(event, &me, unix, &limits),
                Protection::Wrapped(_) => contextvm_crypto::open(&event, &keys, unix, &limits),
            };
            let unopened = |error| Box::new(Unopened { id, signature, protection, error });
            let opened = |opened: Opened| Box::new(opened.with_stored(source.stored));
            let result = result.map(opened).map_err(unopened);
            Tried { source, took: begun.elapsed(), result }
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
