//! What can go wrong at the client face.
use contextvm_engine::client::Lost;
use serde_json::value::RawValue;

/// Classes of [`Error`] and [`CallError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The options cannot work.
    Config,
    /// The relays cannot be used.
    Relay,
    /// The server did not answer in time.
    Timeout,
    /// The server answered with an error.
    Server,
    /// The call itself is not one that can be sent.
    Call,
    /// The client is closed.
    Closed,
    /// The host did not give what was needed.
    Host,
}

/// Why a client operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither options, hints, relay list nor fallback named a relay.
    #[error("no relay of the server is known")]
    NoRelays,
    /// A configured relay URL does not parse.
    #[error("relay {0} in the configuration is not a websocket url")]
    RelayUrl(usize),
    /// No relay could be reached in time.
    #[error("no relay could be reached in time")]
    NotReady,
    /// The endpoint could not be started.
    #[error(transparent)]
    Start(#[from] contextvm_runtime::StartError),
    /// A typed message cannot be printed as JSON.
    #[error("the message cannot be printed as json")]
    Unprintable,
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

impl Error {
    /// Returns the class.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::RelayUrl(_) => ErrorKind::Config,
            Self::NoRelays | Self::NotReady | Self::Start(contextvm_runtime::StartError::Relays(_)) => {
                ErrorKind::Relay
            }
            Self::Start(_) => ErrorKind::Host,
            Self::Unprintable => ErrorKind::Call,
            Self::Closed => ErrorKind::Closed,
        }
    }

    /// Whether the same call may succeed later without any change.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::NoRelays | Self::NotReady)
    }
}

/// Why a call gave no result.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The server answered with a JSON-RPC error.
    #[error("the server answered with error {code}")]
    Server {
        /// JSON-RPC error code.
        code: i64,
        /// The server's words; print them through [`contextvm_core::printable`].
        message: String,
        /// Further data, as sent.
        data: Option<Box<RawValue>>,
    },
    /// The call ended without the server's answer.
    #[error("the call ended without an answer: {}", lost_text(*.why))]
    Lost {
        /// Why.
        why: Lost,
        /// The same with its numbers and causes, or empty; print it through [`contextvm_core::printable`].
        detail: String,
        /// Whether a new call with the same content does no harm: this one was certainly not executed, or the server
        /// may execute it twice (lists, reads, tools that it marks as read-only or idempotent).
        retryable: bool,
    },
    /// The answer is not one that this library understands.
    #[error("the answer is not a json-rpc response")]
    Answer,
    /// The server ended the subscription (MCP 2026-07-28).
    #[error("the server ended the subscription")]
    Ended,
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

impl CallError {
    /// Returns the class.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Server { .. } | Self::Answer | Self::Ended => ErrorKind::Server,
            Self::Lost { why: Lost::NoReply, .. } => ErrorKind::Timeout,
            Self::Lost { why: Lost::NotSent | Lost::Transfer, .. } => ErrorKind::Relay,
            Self::Lost { why: Lost::Closed, .. } | Self::Closed => ErrorKind::Closed,
            Self::Lost { .. } => ErrorKind::Call,
        }
    }

    /// Whether the same call may succeed later without any change and without harm.
    ///
    /// A call without an answer may have been executed: it is retryable only if executing it twice does no harm.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Lost { retryable: true, .. } | Self::Ended)
    }
}

fn lost_text(lost: Lost) -> &'static str {
    match lost {
        Lost::NoReply => "the server did not answer in time",
        Lost::NotSent => "no relay took the request",
        Lost::Closed => "the client was closed",
        Lost::Busy => "too many calls wait already",
        Lost::TooLarge => "the message is larger than one event may be",
        Lost::Malformed => "the message is not valid json-rpc",
        Lost::Transfer => "the transfer of the request or of its answer failed",
        _ => "the request was lost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_go_better_later_is_worth_another_attempt() {
        use contextvm_relay::RelayError;
        use contextvm_runtime::StartError;
        for (error, kind, again) in [
            (Error::NoRelays, ErrorKind::Relay, true),
            (Error::NotReady, ErrorKind::Relay, true),
            (Error::RelayUrl(0), ErrorKind::Config, false),
            (Error::Start(StartError::NoEntropy), ErrorKind::Host, false),
            (Error::Start(StartError::Relays(RelayError::TooMany)), ErrorKind::Relay, false),
            (Error::Unprintable, ErrorKind::Call, false),
            (Error::Closed, ErrorKind::Closed, false),
        ] {
            assert_eq!((error.kind(), error.is_retryable()), (kind, again), "{error}");
        }
    }
}
