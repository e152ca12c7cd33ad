//! The gate: what an outer event must pass before any cryptography is spent on it.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use contextvm_core::opened::addressed_to;
use contextvm_core::{Limits, Mono, Now, Protection, WrapKind, event, kind};
use nostr::event::{Event, EventId, Signature};
use nostr::key::PublicKey;

use crate::{ClientConfig, DropReason, EncryptionMode, GiftWrapMode, ServerConfig};

/// Ids remembered in each of the two generations of successfully opened events (about 6 MiB in all).
const GENERATION: usize = 32_768;
/// Inner events of which it is remembered which relays delivered them, in each of two generations (about 2 MiB in all).
const CARRIED: usize = 16_384;
/// An event that is still being opened after this many milliseconds is taken for lost by its driver.
const LOST_AFTER: u64 = 30_000;
/// An event that a relay passes on again after this many milliseconds was published again: its sender asks for the
/// same answer once more.
const REPEAT_AFTER: u64 = 500;
/// The same from a relay that has not passed it on before; until then it is taken for a slow copy of the first.
const REPEAT_AFTER_ELSEWHERE: u64 = 3_000;

/// One copy of an event: the same id may come with a true and with a forged signature.
type Twin = (EventId, [u8; 64]);

/// When an event came in, through which relays (bit n: relay n modulo 64), and what it carried, once that is known.
#[derive(Clone, Copy, Debug, Default)]
struct Arrival {
    at: Mono,
    relays: u64,
    inner: Option<EventId>,
}

impl Arrival {
    /// Takes note of one more copy: one of each relay is what relays are there for.
    const fn copied(&mut self, bit: u64) -> DropReason {
        let is_first = self.relays & bit == 0;
        self.relays |= bit;
        if is_first { DropReason::Copy } else { DropReason::Duplicate }
    }
}

/// An event that passed the gate. Its signature was not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OuterEvent {
    /// The event as parsed; its id is the hash of the rest.
    pub event: Event,
    /// Plain, or the gift wrap it is.
    pub kind: Protection,
}

/// Cheap checks on raw outer events: size, kind, audience, age, id and repetition.
///
/// An id is remembered only after the event was opened successfully, so a forged copy that comes first
/// cannot make the true one look like a repetition. Copies in work are told apart by id *and* signature.
#[derive(Debug)]
pub struct Gate {
    me: PublicKey,
    /// The only author of plaintext events that is listened to.
    author: Option<PublicKey>,
    plain: bool,
    persistent: bool,
    ephemeral: bool,
    largest: usize,
    window: u64,
    in_work: BTreeMap<Twin, Arrival>,
    in_order: BTreeSet<(Mono, Twin)>,
    most_in_work: usize,
    opened: [BTreeMap<EventId, Arrival>; 2],
    /// The relays that delivered an inner event, in whatever carried it.
    carried: [BTreeMap<EventId, u64>; 2],
}

impl Gate {
    /// Makes the gate of a server.
    #[must_use]
    pub fn for_server(me: PublicKey, config: &ServerConfig) -> Self {
        let plain = config.encryption != EncryptionMode::Required;
        let wrapped = config.encryption != EncryptionMode::Disabled;
        Self::new(me, None, (plain, wrapped), config.gift_wrap, &config.limits)
    }

    /// Makes the gate of a client. A client that sends plaintext still opens wraps.
    #[must_use]
    pub fn for_client(me: PublicKey, config: &ClientConfig) -> Self {
        let plain = config.encryption != EncryptionMode::Required;
        Self::new(me, Some(config.server), (plain, true), config.gift_wrap, &config.limits)
    }

    fn new(
        me: PublicKey,
        author: Option<PublicKey>,
        (plain, wrapped): (bool, bool),
        gift_wrap: GiftWrapMode,
        limits: &Limits,
    ) -> Self {
        Self {
            me,
            author,
            plain,
            persistent: wrapped && gift_wrap != GiftWrapMode::Ephemeral,
            ephemeral: wrapped && gift_wrap != GiftWrapMode::Persistent,
            largest: limits.event,
            window: limits.age_window,
            in_work: BTreeMap::new(),
            in_order: BTreeSet::new(),
            // Every relay has its own queue of `open_queue`; sixteen relays fit.
            most_in_work: limits.open_queue.saturating_mul(16),
            opened: [BTreeMap::new(), BTreeMap::new()],
            carried: [BTreeMap::new(), BTreeMap::new()],
        }
    }

    /// Looks at the JSON text of an outer event; what passes must end in [`Self::opened`] or [`Self::refused`].
    ///
    /// # Errors
    /// Returns the first check that failed, cheapest first.
    pub fn admit(&mut self, raw: &str, relay: u16, now: Now) -> Result<OuterEvent, DropReason> {
        self.admit_as(raw, relay, false, now)
    }

    /// The same for an event that a relay kept and sends because we subscribed: nobody published it again, so a copy of
    /// what was opened asks for nothing.
    ///
    /// # Errors
    /// As [`Self::admit`].
    pub fn admit_stored(&mut self, raw: &str, relay: u16, now: Now) -> Result<OuterEvent, DropReason> {
        self.admit_as(raw, relay, true, now)
    }

    fn admit_as(&mut self, raw: &str, relay: u16, stored: bool, now: Now) -> Result<OuterEvent, DropReason> {
        if raw.len() > self.largest {
            return Err(DropReason::TooLarge);
        }
        let event = event::read(raw).ok_or(DropReason::Malformed)?;
        let kind = self.check(&event, relay, stored, now)?;
        Ok(OuterEvent { event, kind })
    }

    /// The same for an event that was read elsewhere from a text of so many `bytes`; it is not taken away.
    ///
    /// # Errors
    /// As [`Self::admit`], except that there is nothing to be read.
    pub fn admit_read(
        &mut self,
        event: &Event,
        bytes: usize,
        relay: u16,
        stored: bool,
        now: Now,
    ) -> Result<Protection, DropReason> {
        if bytes > self.largest {
            return Err(DropReason::TooLarge);
        }
        self.check(event, relay, stored, now)
    }

    fn check(&mut self, event: &Event, relay: u16, stored: bool, now: Now) -> Result<Protection, DropReason> {
        let protection = self.protection(event)?;
        if !addressed_to(event, &self.me) {
            return Err(DropReason::Audience);
        }
        if protection == Protection::Plain {
            self.check_plain(event, now)?;
        }
        let bit = 1_u64 << (relay % 64);
        if let Some(reason) = self.copied(&event.id, bit, stored, now.mono) {
            return Err(reason);
        }
        self.forget_lost(now.mono);
        let copy = (event.id, *event.sig.as_bytes());
        if let Some(arrival) = self.in_work.get_mut(&copy) {
            return Err(arrival.copied(bit));
        }
        if self.in_work.len() >= self.most_in_work {
            return Err(DropReason::Busy);
        }
        if !event::is_id_true(event) {
            return Err(DropReason::Id);
        }
        self.in_work.insert(copy, Arrival { at: now.mono, relays: bit, inner: None });
        self.in_order.insert((now.mono, copy));
        Ok(protection)
    }

    /// Remembers that an admitted event was opened successfully; copies of it are dropped from now on.
    pub fn opened(&mut self, id: EventId) {
        let copies: Vec<Twin> =
            self.in_work.range((id, [0; 64])..=(id, [u8::MAX; 64])).map(|(copy, _)| *copy).collect();
        let mut arrival = Arrival::default();
        for copy in copies {
            let Arrival { at, relays, .. } = self.finish(copy).unwrap_or_default();
            arrival.at = arrival.at.max(at);
            arrival.relays |= relays;
        }
        let [young, old] = &mut self.opened;
        if young.len() >= GENERATION {
            *old = core::mem::take(young);
        }
        young.insert(id, arrival);
    }

    /// Remembers what an opened event carried; a client's gate does not, as nobody is answered there.
    ///
    /// A relay may alter a wrap so that it still opens: every one of them counts, or it would hide the relays that pass on
    /// the true one.
    pub fn carried(&mut self, inner: EventId, outer: EventId) {
        if self.author.is_some() {
            return;
        }
        let mut relays = self.via(&inner);
        if let Some(arrival) = remembered(&mut self.opened, &outer) {
            arrival.inner = Some(inner);
            relays |= arrival.relays;
        }
        let [young, old] = &mut self.carried;
        if young.len() >= CARRIED {
            *old = core::mem::take(young);
        }
        young.insert(inner, relays);
    }

    /// Returns the relays that delivered an inner event by now, in whatever carried it: bit n stands for relay n modulo 64.
    ///
    /// None are known of an event that came long ago, behind many others.
    #[must_use]
    pub fn via(&self, inner: &EventId) -> u64 {
        let [young, old] = &self.carried;
        young.get(inner).or_else(|| old.get(inner)).copied().unwrap_or(0)
    }

    /// Forgets an admitted event that could not be opened; another copy of it may be the true one.
    pub fn refused(&mut self, id: EventId, signature: &Signature) {
        let _ = self.finish((id, *signature.as_bytes()));
    }

    fn protection(&self, event: &Event) -> Result<Protection, DropReason> {
        let number = event.kind.as_u16();
        if number == kind::MESSAGE {
            return if self.plain { Ok(Protection::Plain) } else { Err(DropReason::Policy) };
        }
        let wrap = WrapKind::from_kind(number).ok_or(DropReason::Kind)?;
        let admitted = match wrap {
            WrapKind::Persistent => self.persistent,
            WrapKind::Ephemeral => self.ephemeral,
        };
        if admitted { Ok(Protection::Wrapped(wrap)) } else { Err(DropReason::Policy) }
    }

    fn check_plain(&self, event: &Event, now: Now) -> Result<(), DropReason> {
        if self.author.is_some_and(|author| author != event.pubkey) {
            return Err(DropReason::WrongAuthor);
        }
        if event.created_at.as_secs().abs_diff(now.unix) > self.window {
            return Err(DropReason::Stale);
        }
        Ok(())
    }

    /// Says what an event is if it is one more copy of what was opened, rather than a repetition that wants an answer.
    fn copied(&mut self, id: &EventId, bit: u64, stored: bool, now: Mono) -> Option<DropReason> {
        let arrival = remembered(&mut self.opened, id)?;
        let patience = if arrival.relays & bit == 0 { REPEAT_AFTER_ELSEWHERE } else { REPEAT_AFTER };
        let reason = arrival.copied(bit);
        if let Some(relays) = arrival.inner.as_ref().and_then(|inner| remembered(&mut self.carried, inner)) {
            *relays |= bit;
        }
        // A client answers nothing, so to it every repetition is a copy.
        let is_copy = self.author.is_some() || stored || now.0.saturating_sub(arrival.at.0) < patience;
        is_copy.then_some(reason)
    }

    fn finish(&mut self, copy: Twin) -> Option<Arrival> {
        let arrival = self.in_work.remove(&copy)?;
        self.in_order.remove(&(arrival.at, copy));
        Some(arrival)
    }

    fn forget_lost(&mut self, now: Mono) {
        while let Some((at, copy)) = self.in_order.first().copied() {
            if now.0.saturating_sub(at.0) < LOST_AFTER {
                break;
            }
            self.in_order.pop_first();
            self.in_work.remove(&copy);
        }
    }
}

/// Finds what is remembered under an id in the younger generation, or in the older one.
fn remembered<'a, T>(generations: &'a mut [BTreeMap<EventId, T>; 2], id: &EventId) -> Option<&'a mut T> {
    let [young, old] = generations;
    young.get_mut(id).or_else(|| old.get_mut(id))
}
