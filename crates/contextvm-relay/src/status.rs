//! What humans are told about each relay.
use std::time::Duration;

use nostr::types::RelayUrl;

use crate::error::DialError;

/// How far a relay has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelayState {
    /// Being dialled, for the first time or after a delay.
    Connecting,
    /// Connected; the subscription is not alive (yet, or because the relay closed it).
    Connected,
    /// Connected, and new events are coming.
    Live,
    /// Shut down or removed.
    Stopped,
}

/// One relay at one moment. All texts are printable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayStatus {
    /// The number by which [`Incoming`](crate::Incoming) names it.
    pub relay: u16,
    /// Its address.
    pub url: RelayUrl,
    /// How far it has come.
    pub state: RelayState,
    /// Why the last attempt to connect failed; none once connected.
    pub unreachable: Option<DialError>,
    /// The last thing that went wrong, with the connection or on it.
    pub last_error: Option<String>,
    /// The last notice that the relay sent.
    pub last_notice: Option<String>,
    /// Time from the last answered publication to its answer.
    pub rtt: Option<Duration>,
    /// How many seconds our clock is ahead of the relay's (behind, if negative), if the relay said what time it is.
    pub clock_ahead: Option<i64>,
    /// Publications waiting to be sent.
    pub queued: usize,
    /// What was counted since the relay was added.
    pub counts: RelayCounts,
}

/// What was counted on one relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayCounts {
    /// Connections made.
    pub connections: u64,
    /// Attempts to connect that failed.
    pub failures: u64,
    /// Events taken in.
    pub events: u64,
    /// Events pushed out by newer ones while the relay was on hold; see [`Relays::hold`](crate::Relays::hold).
    pub dropped: u64,
    /// Events on subscriptions that are not ours.
    pub unknown_subscriptions: u64,
    /// Answers to events that nobody waits for.
    pub unknown_answers: u64,
    /// Frames that are no relay message.
    pub malformed: u64,
    /// Events reported as invalid by [`Relays::report_invalid`](crate::Relays::report_invalid).
    pub invalid: u64,
    /// Events sent.
    pub sent: u64,
    /// Events that the relay took or had.
    pub accepted: u64,
    /// Events that the relay refused.
    pub refused: u64,
}
