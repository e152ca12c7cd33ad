//! Why something inbound was not acted on.
use contextvm_stream::StreamDrop;
use contextvm_transfer::TransferDrop;

/// A counted refusal. No text and no data of a peer is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// This event was accepted before, or is being looked at.
    Duplicate,
    /// The first copy by this relay of an event that another one passed on.
    Copy,
    /// Older than the replay barrier.
    BeforeStart,
    /// So old that its id may have been forgotten, or stamped too far ahead to wait for.
    Stale,
    /// The window of accepted ids is full.
    SeenFull,
    /// Protection or wrap kind not admitted by policy.
    Policy,
    /// A plaintext event from a peer that was spoken to encrypted.
    BelowFloor,
    /// The text is not one event, or its content is not one JSON-RPC message.
    Malformed,
    /// The content is over a JSON budget.
    Budget,
    /// More bytes than one event may have.
    TooLarge,
    /// An event kind that nobody subscribed to.
    Kind,
    /// Not addressed to this key alone.
    Audience,
    /// The event's id is not the hash of the event.
    Id,
    /// The caller may not do this.
    NotAllowed,
    /// Too much work in flight.
    Busy,
    /// Too many callers wait for the application's word about them.
    Undecided,
    /// The author is not the server this client talks to.
    WrongAuthor,
    /// A response, or a correlated notification, that nobody waits for.
    Uncorrelated,
    /// A request towards a client that did not offer to answer.
    Unsupported,
    /// A cancellation, progress or answer that matches no request of that peer.
    UnknownRequest,
    /// No relay took the frames of an answer.
    Unpublished,
    /// The store failed, so it was not executed.
    Unstored,
}

impl DropReason {
    /// Every reason, for tables of counters.
    pub const ALL: [Self; 22] = [
        Self::Duplicate,
        Self::Copy,
        Self::BeforeStart,
        Self::Stale,
        Self::SeenFull,
        Self::Policy,
        Self::BelowFloor,
        Self::Malformed,
        Self::Budget,
        Self::TooLarge,
        Self::Kind,
        Self::Audience,
        Self::Id,
        Self::NotAllowed,
        Self::Busy,
        Self::Undecided,
        Self::WrongAuthor,
        Self::Uncorrelated,
        Self::Unsupported,
        Self::UnknownRequest,
        Self::Unpublished,
        Self::Unstored,
    ];

    /// Returns a fixed name, for counters and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Copy => "copy",
            Self::BeforeStart => "before_start",
            Self::Stale => "stale",
            Self::SeenFull => "seen_full",
            Self::Policy => "policy",
            Self::BelowFloor => "below_floor",
            Self::Malformed => "malformed",
            Self::Budget => "budget",
            Self::TooLarge => "too_large",
            Self::Kind => "kind",
            Self::Audience => "audience",
            Self::Id => "id",
            Self::NotAllowed => "not_allowed",
            Self::Busy => "busy",
            Self::Undecided => "undecided",
            Self::WrongAuthor => "wrong_author",
            Self::Uncorrelated => "uncorrelated",
            Self::Unsupported => "unsupported",
            Self::UnknownRequest => "unknown_request",
            Self::Unpublished => "unpublished",
            Self::Unstored => "unstored",
        }
    }
}

impl From<TransferDrop> for DropReason {
    fn from(reason: TransferDrop) -> Self {
        match reason {
            TransferDrop::Duplicate => Self::Duplicate,
            TransferDrop::Early | TransferDrop::Busy | TransferDrop::Wasteful => Self::Busy,
            TransferDrop::Misplaced => Self::UnknownRequest,
            // What is left of a transfer that is over, or was begun anew.
            TransferDrop::Late | TransferDrop::Replaced | _ => Self::Uncorrelated,
        }
    }
}

impl From<StreamDrop> for DropReason {
    fn from(reason: StreamDrop) -> Self {
        match reason {
            StreamDrop::Duplicate => Self::Duplicate,
            StreamDrop::Misplaced | StreamDrop::UnknownPong => Self::UnknownRequest,
            StreamDrop::LongNonce => Self::TooLarge,
            StreamDrop::PingFlood => Self::Busy,
            StreamDrop::Late | StreamDrop::Early | StreamDrop::Unasked | _ => Self::Uncorrelated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn every_reason_is_listed_once_under_its_own_name() {
        let names: BTreeSet<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), DropReason::ALL.len());
    }
}
