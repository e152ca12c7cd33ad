//! The only way into this crate for a stranger's event: bounded, its id recomputed, its signature verified.
use core::ops::Deref;

use contextvm_core::{Fault, event, kind};
use nostr::event::Event;

use crate::Stamp;

/// Why an event was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignedError {
    /// The event is larger than any that is read.
    #[error("event of {bytes} bytes is longer than {limit}")]
    TooLong {
        /// Length found, bytes.
        bytes: usize,
        /// Largest admitted, bytes.
        limit: usize,
    },
    /// The text is no event, or has too many tags.
    #[error("not a nostr event")]
    NotAnEvent,
    /// The id is not the hash of the event.
    #[error("event id does not match its content")]
    Id,
    /// The BIP-340 signature does not verify.
    #[error("event signature does not verify")]
    Signature,
}

impl SignedError {
    /// Says who misbehaved: the relay that passed it on.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        Fault::Relay
    }
}

/// An event whose size, id and signature were checked, exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed(Event);

impl Signed {
    /// Largest event that is read, bytes of JSON: 128 KiB.
    pub const BYTES: usize = 128 * 1024;
    /// Largest follow list that is read, bytes of JSON: 768 KiB. Popular programs write 70 to 150 bytes per key.
    pub const FOLLOWS_BYTES: usize = 768 * 1024;
    /// Most JSON values in the tags of a follow list: 5,000 tags of four elements.
    pub const FOLLOWS_VALUES: usize = 5_000 * 5 + 1;

    /// Returns the largest event of a kind that is read, bytes of JSON.
    #[must_use]
    pub const fn most_bytes(kind: u16) -> usize {
        if kind == kind::FOLLOWS { Self::FOLLOWS_BYTES } else { Self::BYTES }
    }

    /// Returns the bound on the JSON values in the tags of an event of a kind.
    #[must_use]
    pub const fn most_values(kind: u16) -> usize {
        if kind == kind::FOLLOWS { Self::FOLLOWS_VALUES } else { event::TAG_VALUES }
    }

    /// Reads one event from JSON and checks it; of a follow list only a short one ([`Signed::BYTES`]).
    ///
    /// # Errors
    /// Returns the first check that failed, cheapest first.
    pub fn read(json: &str) -> Result<Self, SignedError> {
        bounded(json.len(), Self::BYTES)?;
        Self::verify(event::read(json).ok_or(SignedError::NotAnEvent)?)
    }

    /// Checks an event that was read elsewhere.
    ///
    /// # Errors
    /// Returns the first check that failed, cheapest first.
    pub fn verify(event: Event) -> Result<Self, SignedError> {
        let elements = event.tags.iter().flat_map(|tag| tag.as_slice());
        let (values, text) = elements.fold((0usize, event.content.len()), |(values, text), element| {
            (values + 1, text.saturating_add(element.len()))
        });
        let kind = event.kind.as_u16();
        bounded(text, Self::most_bytes(kind))?;
        if values + event.tags.len() >= Self::most_values(kind) {
            return Err(SignedError::NotAnEvent);
        }
        if !event.verify_id() {
            return Err(SignedError::Id);
        }
        if !contextvm_core::event::is_signed(&event) {
            return Err(SignedError::Signature);
        }
        Ok(Self(event))
    }

    /// Returns the event.
    #[must_use]
    pub const fn event(&self) -> &Event {
        &self.0
    }

    /// Gives the event away.
    #[must_use]
    pub fn into_event(self) -> Event {
        self.0
    }

    /// Returns the event's place in time among the events that replace each other.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        Stamp { created_at: self.0.created_at.as_secs(), id: self.0.id }
    }
}

impl Deref for Signed {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.0
    }
}

const fn bounded(bytes: usize, limit: usize) -> Result<(), SignedError> {
    if bytes > limit {
        return Err(SignedError::TooLong { bytes, limit });
    }
    Ok(())
}
