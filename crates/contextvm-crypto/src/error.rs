//! What can go wrong with keys, sealing and opening, and whose fault it is.
use contextvm_core::{Fault, Refusal};

use crate::nip44::Nip44Error;

/// Why a text or some bytes are not a secret key. Never repeats the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Neither an `nsec` with a correct checksum nor 64 hex digits.
    #[error("secret key is neither an nsec nor 64 hex digits")]
    Form,
    /// An `npub` or another public entity was given where a secret key belongs.
    #[error("a public key was given where a secret key is needed")]
    Public,
    /// Zero, or not below the order of the curve.
    #[error("secret key is out of range")]
    Range,
}

impl KeyError {
    /// Returns whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Form | Self::Public | Self::Range => Fault::Local,
        }
    }
}

/// Why an inner event was not put into a gift wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The inner event is larger than every peer can read.
    #[error("inner event of {size} bytes exceeds {limit}")]
    TooLarge {
        /// JSON text of the inner event, bytes.
        size: usize,
        /// The limit, bytes.
        limit: usize,
    },
    /// The recipient's key is not a point of the curve.
    #[error("recipient's public key is not on the curve")]
    Recipient,
    /// The one-time secret is zero or not below the order of the curve; practically only a broken generator does this.
    #[error("entropy does not make a one-time key")]
    Entropy,
}

impl SealError {
    /// Returns whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::TooLarge { .. } | Self::Recipient | Self::Entropy => Fault::Local,
        }
    }
}

/// Why an inbound event was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The event is larger than the limit; nothing was decoded.
    #[error("content of {size} bytes exceeds {limit}")]
    TooLarge {
        /// Content of the event, bytes.
        size: usize,
        /// The limit, bytes.
        limit: usize,
    },
    /// The outer kind is neither 1059 nor 21059.
    #[error("kind {0} is not a gift wrap")]
    NotAWrap(u16),
    /// The content does not decrypt.
    #[error(transparent)]
    Nip44(#[from] Nip44Error),
    /// The plaintext is not a signed event in JSON, or one with too many tags ([`contextvm_core::event::read`]).
    #[error("gift wrap does not contain an event")]
    NotAnEvent,
    /// The event was read, and a check on it failed.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl OpenError {
    /// Returns whose fault it is.
    ///
    /// Always the peer's: whoever made the event. A relay could have damaged a gift wrap as well, which cannot be told
    /// from a peer's mistake without checking the outer signature.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::TooLarge { .. }
            | Self::NotAWrap(_)
            | Self::Nip44(_)
            | Self::NotAnEvent
            | Self::Refused(_) => Fault::Peer,
        }
    }
}
