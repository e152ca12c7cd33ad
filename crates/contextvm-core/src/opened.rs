//! The one proof that an inbound event may be believed.
use nostr::event::{Event, EventId};
use nostr::key::PublicKey;

use crate::{Protection, event, kind};

/// Why an event was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The inner kind is not 25910.
    #[error("inner kind {0} is not 25910")]
    Kind(u16),
    /// There is not exactly one `p` tag, or it names somebody else.
    #[error("event is not addressed to this key alone")]
    Audience,
    /// `created_at` lies outside the admissible window.
    #[error("created_at {created_at} is more than {window} s away from {now}")]
    Age {
        /// The event's stamp, Unix seconds.
        created_at: u64,
        /// Our clock, Unix seconds.
        now: u64,
        /// The window, seconds.
        window: u64,
    },
    /// The id is not the hash of the event.
    #[error("event id does not match its content")]
    Id,
    /// The BIP-340 signature does not verify.
    #[error("event signature does not verify")]
    Signature,
}

/// An event whose kind, audience, age, id and signature were checked, exactly once.
///
/// [`Opened::check`] is the only constructor, so holding one is the proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    event: Event,
    protection: Protection,
    outer: EventId,
    stored: bool,
}

impl Opened {
    /// Checks an inner event; `outer` is the id of the event that carried it (its own id when plain).
    ///
    /// # Errors
    /// Returns the first check that failed, cheapest first.
    pub fn check(
        event: Event,
        protection: Protection,
        outer: EventId,
        me: &PublicKey,
        now: u64,
        window: u64,
    ) -> Result<Self, Refusal> {
        let kind = event.kind.as_u16();
        if kind != kind::MESSAGE {
            return Err(Refusal::Kind(kind));
        }
        if !addressed_to(&event, me) {
            return Err(Refusal::Audience);
        }
        let created_at = event.created_at.as_secs();
        if created_at.abs_diff(now) > window {
            return Err(Refusal::Age { created_at, now, window });
        }
        if !event::is_id_true(&event) {
            return Err(Refusal::Id);
        }
        if !event::is_signed(&event) {
            return Err(Refusal::Signature);
        }
        Ok(Self { event, protection, outer, stored: false })
    }

    /// Returns the checked inner event.
    #[must_use]
    pub const fn event(&self) -> &Event {
        &self.event
    }

    /// Returns how it travelled.
    #[must_use]
    pub const fn protection(&self) -> Protection {
        self.protection
    }

    /// Returns the id of the event that carried it.
    #[must_use]
    pub const fn outer(&self) -> EventId {
        self.outer
    }

    /// Says whether a relay had kept it and sent it because we subscribed, and did not pass it on just now.
    #[must_use]
    pub const fn with_stored(mut self, stored: bool) -> Self {
        self.stored = stored;
        self
    }

    /// Whether a relay had kept it: its author may have given up long ago. `false` unless said otherwise.
    #[must_use]
    pub const fn is_stored(&self) -> bool {
        self.stored
    }

    /// Gives the event away.
    #[must_use]
    pub fn into_event(self) -> Event {
        self.event
    }
}

/// Whether exactly one `p` tag exists and names `me` in lowercase hex.
#[must_use]
pub fn addressed_to(event: &Event, me: &PublicKey) -> bool {
    let mut audience = event.tags.iter().filter(|tag| tag.kind() == "p");
    let (Some(only), None) = (audience.next(), audience.next()) else {
        return false;
    };
    only.content().is_some_and(|hex| hex.as_bytes() == me.to_hex_byte_array())
}
