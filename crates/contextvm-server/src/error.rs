//! What can go wrong at the server face.

/// Classes of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The options cannot work.
    Config,
    /// The relays cannot be used.
    Relay,
    /// The endpoint or the session is gone.
    Closed,
    /// The host did not give what was needed.
    Host,
    /// The store cannot be used.
    Store,
}

/// Why a server operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No relay was given.
    #[error("no relay is configured")]
    NoRelays,
    /// A relay URL does not parse.
    #[error("relay {0} in the configuration is not a websocket url")]
    RelayUrl(usize),
    /// The endpoint could not be started.
    #[error(transparent)]
    Start(#[from] contextvm_runtime::StartError),
    /// What must survive a restart cannot be kept.
    #[error(transparent)]
    Store(#[from] contextvm_store::StoreError),
    /// The application leaves too many sessions unaccepted.
    #[error("too many sessions wait for the application")]
    Busy,
    /// The server was shut down.
    #[error("the server is shut down")]
    Closed,
}

impl Error {
    /// Returns the class.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NoRelays | Self::RelayUrl(_) => ErrorKind::Config,
            Self::Start(contextvm_runtime::StartError::Relays(_)) => ErrorKind::Relay,
            Self::Start(_) | Self::Busy => ErrorKind::Host,
            Self::Store(_) => ErrorKind::Store,
            Self::Closed => ErrorKind::Closed,
        }
    }

    /// Whether the same call may succeed later without any change.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self.kind(), ErrorKind::Relay) || matches!(self, Self::Busy)
    }
}
