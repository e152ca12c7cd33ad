//! The gate: what an outer event must pass before any cryptography is spent on it.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use contextvm_core::{Limits, Mono, Now, Protection, WrapKind, kind};
use nostr::event::{Event, EventId};
use nostr::key::PublicKey;

use crate::{ClientConfig, DropReason, EncryptionMode, GiftWrapMode, ServerConfig};

/// Ids remembered in each of the two generations of successfully opened events (about 3 MiB in all).
const GENERATION: usize = 32_768;
/// An event that is still being opened after this many milliseconds is taken for lost by its driver.
const LOST_AFTER: u64 = 30_000;
/// A plaintext event may come again after this many milliseconds: its sender asks for the same answer once more.
const REPEAT_AFTER: u64 = 1_000;

/// One copy of an event: the same id may come with a true and with a forged signature.
type Twin = (EventId, [u8; 64]);

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
    in_work: BTreeMap<Twin, Mono>,
    in_order: BTreeSet<(Mono, Twin)>,
    most_in_work: usize,
    opened: [BTreeMap<EventId, Mono>; 2],
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
        }
    }

    /// Looks at the JSON text of an outer event; what passes must end in [`Self::opened`] or [`Self::refused`].
    ///
    /// # Errors
    /// Returns the first check that failed, cheapest first.
    pub fn admit(&mut self, raw: &str, _relay: u16, now: Now) -> Result<OuterEvent, DropReason> {
        if raw.len() > self.largest {
            return Err(DropReason::TooLarge);
        }
        let event = serde_json::from_str::<Event>(raw).map_err(|_| DropReason::Malformed)?;
        let protection = self.protection(&event)?;
        if !addressed_to(&event, &self.me) {
            return Err(DropReason::Audience);
        }
        if protection == Protection::Plain {
            self.check_plain(&event, now)?;
        }
        if self.was_opened(&event.id, protection, now.mono) {
            return Err(DropReason::Duplicate);
        }
        self.forget_lost(now.mono);
        let copy = (event.id, *event.sig.as_bytes());
        if self.in_work.contains_key(&copy) {
            return Err(DropReason::Duplicate);
        }
        if self.in_work.len() >= self.most_in_work {
            return Err(DropReason::Busy);
        }
        if !event.verify_id() {
            return Err(DropReason::Id);
        }
        self.in_work.insert(copy, now.mono);
        self.in_order.insert((now.mono, copy));
        Ok(OuterEvent { event, kind: protection })
    }

    /// Remembers that an admitted event was opened successfully; copies of it are dropped from now on.
    pub fn opened(&mut self, id: EventId) {
        let copies: Vec<Twin> =
            self.in_work.range((id, [0; 64])..=(id, [u8::MAX; 64])).map(|(copy, _)| *copy).collect();
        let mut at = Mono::default();
        for copy in copies {
            at = at.max(self.finish(copy).unwrap_or_default());
        }
        let [young, old] = &mut self.opened;
        if young.len() >= GENERATION {
            *old = core::mem::take(young);
        }
        young.insert(id, at);
    }

    /// Forgets an admitted event that could not be opened; another copy of it may be the true one.
    pub fn refused(&mut self, event: &Event) {
        let _ = self.finish((event.id, *event.sig.as_bytes()));
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

    fn was_opened(&self, id: &EventId, protection: Protection, now: Mono) -> bool {
        let [young, old] = &self.opened;
        let Some(at) = young.get(id).or_else(|| old.get(id)) else {
            return false;
        };
        let too_soon = now.0.saturating_sub(at.0) < REPEAT_AFTER;
        protection.is_encrypted() || self.author.is_some() || too_soon
    }

    fn finish(&mut self, copy: Twin) -> Option<Mono> {
        let at = self.in_work.remove(&copy)?;
        self.in_order.remove(&(at, copy));
        Some(at)
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

/// Whether exactly one `p` tag exists and names `me` in lowercase hex.
fn addressed_to(event: &Event, me: &PublicKey) -> bool {
    let mut audience = event.tags.iter().filter(|tag| tag.kind() == "p");
    let (Some(only), None) = (audience.next(), audience.next()) else {
        return false;
    };
    only.content().is_some_and(|hex| hex.as_bytes() == me.to_hex_byte_array())
}
