//! Why announcing cannot begin, or a deletion cannot be made.
use contextvm_relay::RelayError;
use contextvm_runtime::StartError;

use crate::Error;

/// Why nothing public can be published.
///
/// What cannot be published later on is in the status, as [`AnnounceError`](contextvm_announce::AnnounceError).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnouncingError {
    /// There is no relay to publish to: the server is offline and none was named.
    #[error("there is no relay to announce on")]
    NoRelays,
    /// A relay does not parse; counted from zero, advertised ones first.
    #[error("relay {0} to announce on is not a websocket url")]
    RelayUrl(usize),
    /// The relays cannot be reached from this host.
    #[error(transparent)]
    Relays(#[from] RelayError),
    /// The host gives no randomness.
    #[error(transparent)]
    Host(#[from] StartError),
    /// The server was shut down, or does not accept sessions.
    #[error(transparent)]
    Server(#[from] Error),
}
